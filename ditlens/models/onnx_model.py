"""The fast backend: the same model, computed by onnxruntime instead of PyTorch. It has no place for hooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ditlens.arguments import LATENTS, PIXELS, TEXTS, takes
from ditlens.description import one_reader_at_a_time
from ditlens.errors import ModelError, SettingError
from ditlens.files import checksum, user_cache
from ditlens.models.embedding import TextEmbedding
from ditlens.models.graphs import (
    MANIFEST,
    check,
    identity,
    need,
    read_manifest,
    session,
    token_ids,
    write_graphs,
)
from ditlens.models.model import Model, on_the_usual_device
from ditlens.tables import progress_bar


class OnnxModel(Model):
    """A `Model` whose networks run in onnxruntime: the same images, in about half the time.

    `ditlens.load` makes one with ``backend="onnx"``. The networks of its pipeline stay where they are, and are not
    used: captures, interventions and probes of hidden states need the usual backend, and say so.

    Args:
        model: The model as PyTorch runs it: a small SD3 pipeline, in float32 on the CPU.
        graphs: A folder that `ditlens.models.graphs.write_graphs` wrote. By default one in the user's cache,
            written now if it is not there (half a minute).

    Raises:
        MissingDependencyError: If onnxruntime, or for the export onnx or onnxscript, is not installed.
        ModelError: If the model cannot be exported, or the graphs are of another model or damaged.
    """

    backend = "onnx"

    def __init__(self, model: Model, graphs: Path | None = None) -> None:
        need("onnxruntime")
        super().__init__(model.pipe, model.name, model.folder, world=model.world)
        self.defaults, self.profile = model.defaults, model.profile
        check(model)
        known = identity(model)
        self.graphs = cached_graphs(model, known) if graphs is None else graphs
        said = read_manifest(self.graphs)
        if said.get("identity") != known:
            raise ModelError(
                f"The graphs in {self.graphs} are of the model {said.get('model')!r} with other weights than "
                f"{model.name!r} has. Write its own: ditlens export onnx --out DIR."
            )
        check_files(self.graphs, said)
        self.sessions = {path.stem: session(path) for path in self.graphs.glob("*.onnx")}
        self.no_hooks = (
            f"{self.name!r} was loaded with backend='onnx', which runs whole graphs: there is nothing to hook "
            f"into. Load it as usual: ditlens.load({self.name!r})."
        )

    def __repr__(self) -> str:
        return super().__repr__().replace(", cpu)", ", onnxruntime on the CPU)")

    def run(self, part: str, output: str, **inputs: torch.Tensor) -> torch.Tensor:
        """One output of a graph, float32 on the CPU.

        Raises:
            SettingError: If an input has another size than the graph's.
        """
        wanted = {each.name: tuple(each.shape[1:]) for each in self.sessions[part].get_inputs()}
        for name, value in inputs.items():
            if tuple(value.shape[1:]) != wanted[name]:
                sizes = ", ".join(map(str, wanted[name]))
                raise SettingError(
                    f"The graphs of {self.name!r} are for images of {self.side} x {self.side}, with {name} "
                    f"(batch, {sizes}); got {tuple(value.shape)}. For other sizes load it as usual: "
                    f"ditlens.load({self.name!r})."
                )
        given = {name: value.detach().cpu().float().contiguous().numpy() for name, value in inputs.items()}
        (found,) = self.sessions[part].run([output], given)
        return torch.from_numpy(found)

    @takes(prompts=TEXTS)
    @one_reader_at_a_time
    @on_the_usual_device
    def encode_text(self, prompts: str | Sequence[str]) -> TextEmbedding:
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = dict(zip(("ids_1", "ids_2"), (each.numpy() for each in token_ids(self, prompts)), strict=True))
        tokens, pooled = map(torch.from_numpy, self.sessions["text"].run(["tokens", "pooled"], ids))
        mask = self.real_rows(self.pipe.tokenizer, prompts, tokens.shape[1])
        return TextEmbedding(tokens, pooled, mask, tuple(prompts), ("cond",) * len(prompts))

    @takes(pixels=PIXELS)
    @on_the_usual_device
    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.run("encoder", "latents", pixels=pixels)

    @takes(latents=LATENTS)
    @on_the_usual_device
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.run("decoder", "pixels", latents=latents)

    @on_the_usual_device
    def __call__(self, latents: torch.Tensor, sigma: float, text: TextEmbedding) -> torch.Tensor:
        text = text.expand(len(latents))
        timestep = torch.full((len(latents),), float(sigma) * 1000)
        return self.run(
            "transformer", "velocity", latents=latents, tokens=text.tokens, pooled=text.pooled, timestep=timestep
        )


def cached_graphs(model: Model, known: str) -> Path:
    """The folder in the user's cache with the graphs of a model, exported now if they are not there or damaged."""
    folder = user_cache("onnx") / known
    try:
        check_files(folder, read_manifest(folder))
    except ModelError:
        with progress_bar("export to ONNX, this once, networks") as show:
            write_graphs(model, folder, show)
    return folder


def check_files(folder: Path, said: dict[str, Any]) -> None:
    """Refuse graphs that are not as they were written.

    Raises:
        ModelError: With the file, and what to type.
    """
    for name, known in said.get("files", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != known["bytes"] or checksum(path) != known["sha256"]:
            raise ModelError(
                f"{path} is missing or damaged: delete {folder}, and it is written again, or write it elsewhere "
                "with: ditlens export onnx --out DIR."
            )
    if not said.get("files"):
        raise ModelError(
            f"{folder / MANIFEST} lists no graphs. Write them again: ditlens export onnx --out DIR."
        )
