"""The fast backend: the same model, computed by onnxruntime instead of PyTorch. It has no place for hooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ditlens.arguments import LATENTS, PIXELS, TEXTS, takes
from ditlens.description import one_reader_at_a_time
from ditlens.errors import ModelError, SettingError
from ditlens.files import checksum, user_cache, user_path
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

PARTS = ("text", "transformer", "encoder", "decoder")
"""Graphs that a model needs; a world's oracle is beside them."""


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

    def __init__(self, model: Model, graphs: str | Path | None = None) -> None:
        need("onnxruntime")
        super().__init__(model.pipe, model.name, model.folder, world=model.world)
        self.defaults, self.profile = model.defaults, model.profile
        check(model)
        self.identity = identity(model)
        self.graphs = cached_graphs(model, self.identity) if graphs is None else user_path(graphs)
        self.open()
        self.no_hooks = (
            f"{self.name!r} was loaded with backend='onnx', which runs whole graphs: there is nothing to hook "
            f"into. Load it as usual: ditlens.load({self.name!r})."
        )

    def __repr__(self) -> str:
        return super().__repr__().replace(", cpu)", ", onnxruntime on the CPU)")

    def open(self) -> None:
        """Open the graphs in the folder, which must be those of the weights as they are now."""
        files = check_graphs(self.graphs, self.name, self.identity)
        self.versions = weight_versions(self)
        self.sessions = {path.stem: session(path) for path in files if path.suffix == ".onnx"}

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle keeps: all but the sessions, which the copy opens again."""
        self.check_weights()
        return {name: value for name, value in vars(self).items() if name != "sessions"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.open()

    def check_weights(self) -> None:
        """Refuse to go on with graphs of weights that are no longer the model's.

        Raises:
            ModelError: If they were changed since the graphs were opened.
        """
        if weight_versions(self) != self.versions:
            raise ModelError(
                f"The weights of {self.name!r} have changed since its graphs were made, and the graphs do not "
                f"follow. To change weights, load it as usual: ditlens.load({self.name!r})."
            )

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
        self.check_weights()
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = dict(zip(("ids_1", "ids_2"), (each.numpy() for each in token_ids(self, prompts)), strict=True))
        tokens, pooled = map(torch.from_numpy, self.sessions["text"].run(["tokens", "pooled"], ids))
        mask = self.real_rows(self.pipe.tokenizer, prompts, tokens.shape[1])
        return TextEmbedding(tokens, pooled, mask, tuple(prompts), ("cond",) * len(prompts))

    @takes(pixels=PIXELS)
    @on_the_usual_device
    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        self.check_weights()
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
            "transformer",
            "velocity",
            latents=latents,
            tokens=text.tokens,
            pooled=text.pooled,
            timestep=timestep,
        )


def weight_versions(model: Model) -> list[tuple[Any, ...]]:
    """What shows, without reading them, that weights were changed: in place, in their format, or by a LoRA."""
    pipe = model.pipe
    return [
        (
            sum(0 if weight.is_inference() else weight._version for weight in network.parameters()),
            network.dtype,
            bool(getattr(network, "peft_config", None)),
        )
        for network in (pipe.transformer, pipe.text_encoder, pipe.text_encoder_2, pipe.vae)
    ]


def cached_graphs(model: Model, known: str) -> Path:
    """The folder in the user's cache with the graphs of a model, exported now if they are not there or damaged."""
    folder = user_cache("onnx") / known
    try:
        check_graphs(folder, model.name, known)
    except ModelError:
        with progress_bar("export to ONNX, this once, networks") as show:
            write_graphs(model, folder, show)
    return folder


def check_graphs(folder: Path, name: str, known: str) -> list[Path]:
    """The files of a folder of graphs, each as it was written.

    Args:
        folder: What `write_graphs` wrote.
        name: Name of the model.
        known: Its `identity`.

    Raises:
        ModelError: If a file is missing or damaged, or the graphs are of other weights.
    """
    problem = ""
    try:
        said = read_manifest(folder)
        files = said["files"]
        if said["identity"] != known:
            problem = f"they are of the model {said['model']!r}, with other weights than {name!r} has"
        elif missing := {f"{part}.onnx" for part in PARTS} - set(files):
            problem = f"{MANIFEST} does not list {', '.join(sorted(missing))}"
        elif wrong := [file for file, about in files.items() if not is_whole(folder / file, about)]:
            problem = f"{wrong[0]} is missing or damaged"
    except (ModelError, LookupError, TypeError, AttributeError):  # no manifest, or none that we wrote
        problem = f"{MANIFEST} is missing or damaged"
    if problem:
        raise ModelError(
            f"The graphs in {folder} cannot be used: {problem}. Write them into a new folder, ditlens export onnx "
            "--out DIR, and open that: ditlens.models.onnx_model.OnnxModel(model, 'DIR')."
        )
    return [folder / file for file in files]


def is_whole(path: Path, about: dict[str, Any]) -> bool:
    """Whether a file is as it was written."""
    size, known = about["bytes"], about["sha256"]
    return path.is_file() and path.stat().st_size == size and checksum(path) == known
