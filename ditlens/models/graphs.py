"""The networks of a small SD3 pipeline as ONNX graphs, for onnxruntime here and in a browser.

Five files, each with its weights beside it (``transformer.onnx``, ``transformer.bin``):

    text          ids_1, ids_2 (batch, rows)             -> tokens (batch, rows, width), pooled (batch, width)
    transformer   latents, tokens, pooled, timestep      -> velocity, attention (batch, blocks, rows, rows)
    encoder       pixels (batch, 3, side, side) in [0, 1] -> latents, shifted and scaled
    decoder       latents                                -> pixels in [0, 1]
    oracle        pixels                                 -> readings: continuous attributes, then logits

`attention` is the joint softmax, averaged over heads; it costs nothing where nobody asks for it. Weights are stored
in half precision where that is exact, as it is for the shipped model; the graphs compute in single precision.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ditlens import flow
from ditlens.errors import MissingDependencyError, ModelError
from ditlens.files import checksum, read_json, write_json, write_parts, write_whole, writing_folder
from ditlens.models.identity import byte_hash, fingerprint, weights
from ditlens.models.model import Model

FORMAT = 1
"""Goes up where graphs are written in another way, so that older ones in a cache are not used."""
MANIFEST = "graphs.json"
"""Of which model the graphs are, how large the files, and how far the outputs are from PyTorch's."""
OPSET = 20
TOLERANCE = 1e-3
"""Largest difference from PyTorch with which graphs are kept; the shipped model's are below 1e-4."""


@dataclass(frozen=True)
class Part:
    """A network to export.

    Attributes:
        module: It, in the form of the graph.
        inputs: An example of each input, by name, a batch of two.
        outputs: Names of the outputs.
    """

    module: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]


# --- the networks -------------------------------------------------------------------------------------------


class AttentionMeans(TorchFunctionMode):
    """Writes the softmax out while it is on, and keeps its mean over heads, (batch, queries, keys) each."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        probabilities = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        self.means.append(probabilities.mean(1))
        return probabilities @ value


class Transformer(nn.Module):
    """The velocity, and what each block attends to."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, latents: torch.Tensor, tokens: torch.Tensor, pooled: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with AttentionMeans() as seen:
            (velocity,) = self.network(
                hidden_states=latents, encoder_hidden_states=tokens, pooled_projections=pooled, timestep=timestep,
                return_dict=False,
            )  # fmt: skip
        return velocity, torch.stack(seen.means, 1)


class Text(nn.Module):
    """What the pipeline makes of the tokens of both CLIP encoders: side by side, the last layer but one."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([pipe.text_encoder, pipe.text_encoder_2])

    def forward(self, ids_1: torch.Tensor, ids_2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        written = [
            encoder(ids, output_hidden_states=True)
            for encoder, ids in zip(self.encoders, (ids_1, ids_2), strict=True)
        ]
        tokens = torch.cat([each.hidden_states[-2] for each in written], -1)
        return tokens, torch.cat([each.text_embeds for each in written], -1)


class Encoder(nn.Module):
    """Latents of images, as `Model.encode_image` gives them."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        config = self.vae.config
        mean = self.vae.encode(pixels * 2 - 1).latent_dist.mean
        return (mean - config.shift_factor) * config.scaling_factor


class Decoder(nn.Module):
    """Images of latents, as `Model.decode` gives them."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        config = self.vae.config
        z = latents / config.scaling_factor + config.shift_factor
        return (self.vae.decode(z).sample / 2 + 0.5).clamp(0, 1)


class Readings(nn.Module):
    """All that the world's oracle reads of images, in one tensor."""

    def __init__(self, oracle: nn.Module) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        values, logits = self.oracle(pixels)
        return torch.cat([values, *logits], 1)


def parts_of(model: Model) -> dict[str, Part]:
    """The networks of a model, each with example inputs.

    Raises:
        ModelError: If the model is not of the family that is exported.
    """
    check(model)
    text = model.encode_text(["a big smile", "an old person, red hair"])
    pixels = torch.rand(2, 3, model.side, model.side, generator=flow.generator_of(0))
    latents = model.noise([0, 1])
    ids = dict(zip(("ids_1", "ids_2"), token_ids(model, ["a big smile", "red hair"]), strict=True))
    moving = {
        "latents": latents, "tokens": text.tokens, "pooled": text.pooled, "timestep": torch.tensor([500.0, 250.0]),
    }  # fmt: skip
    parts = {
        "text": Part(Text(model.pipe), ids, ("tokens", "pooled")),
        "transformer": Part(Transformer(model.transformer), moving, ("velocity", "attention")),
        "encoder": Part(Encoder(model.vae), {"pixels": pixels}, ("latents",)),
        "decoder": Part(Decoder(model.vae), {"latents": latents}, ("pixels",)),
    }
    oracle = None if model.world is None else model.world.networks.get("oracle")
    if oracle is not None:
        parts["oracle"] = Part(Readings(oracle), {"pixels": pixels}, ("readings",))
    return parts


def check(model: Model) -> None:
    """Refuse a model whose graphs would not compute what it computes.

    Raises:
        ModelError: If it is of another family, has a third text encoder, or is not in single precision on the CPU.
    """
    pipe, reason = model.pipe, ""
    if type(model).pipeline != "StableDiffusion3Pipeline":
        reason = f"its pipeline is a {type(pipe).__name__}"
    elif pipe.text_encoder_3 is not None or pipe.text_encoder is None or pipe.text_encoder_2 is None:
        reason = "its texts are not those of two CLIP encoders"
    elif getattr(model.transformer, "peft_config", None):
        reason = "a LoRA changes its transformer"
    elif model.dtype != torch.float32 or model.device.type != "cpu":
        reason = f"its weights are {str(model.dtype).removeprefix('torch.')} on {model.device}"
    if reason:
        raise ModelError(
            f"{model.name!r} cannot be exported to ONNX: {reason}. What can: a small SD3 pipeline with two CLIP "
            'encoders, such as ditlens.load("portraits", device="cpu").'
        )


def identity(model: Model) -> str:
    """One short hash of everything that the graphs hold, and of how they are written."""
    digest = hashlib.sha256(f"{FORMAT} {OPSET} {fingerprint(model)}".encode())
    networks = {"vae": model.vae, **({} if model.world is None else model.world.networks)}
    for part in ("vae", "oracle"):
        for name, tensor in weights(networks[part]) if part in networks else ():
            digest.update(f"{part}.{name} {tuple(tensor.shape)} {byte_hash(tensor)}".encode())
    return digest.hexdigest()[:16]


def token_ids(model: Model, texts: list[str]) -> list[torch.Tensor]:
    """Token ids of texts for both CLIP encoders, (batch, rows) each, cut and padded as the pipeline does."""
    pipe = model.pipe
    rows = pipe.tokenizer_max_length
    return [
        tokenizer(
            texts, padding="max_length", max_length=rows, truncation=True, return_tensors="pt"
        ).input_ids
        for tokenizer in (pipe.tokenizer, pipe.tokenizer_2)
    ]


# --- writing ------------------------------------------------------------------------------------------------


def write_graphs(
    model: Model, folder: Path, on_part: Callable[[int, int], object] | None = None
) -> dict[str, Any]:
    """Export the networks of a model into a new folder, and compare them with PyTorch.

    Args:
        model: A small SD3 pipeline, in float32 on the CPU.
        folder: Written whole or not at all.
        on_part: Called with the number of networks done, and of all.

    Returns:
        What is written as ``graphs.json``: "model", "identity", "files" with their bytes and checksums, and
        "parity", the largest absolute difference of each output from PyTorch's.

    Raises:
        MissingDependencyError: If onnx, onnxscript or onnxruntime is not installed.
        ModelError: If the model cannot be exported, or a graph computes something else.
    """
    need("onnx", "onnxscript", "onnxruntime")
    parts = parts_of(model)
    parity: dict[str, float] = {}
    tell = on_part or (lambda *_: None)
    with writing_folder(folder) as place:
        for done, (name, part) in enumerate(parts.items()):
            tell(done, len(parts))
            save(export(part), place / f"{name}.onnx")
            for output, difference in differences(part, place / f"{name}.onnx").items():
                parity[f"{name}.{output}"] = difference
        tell(len(parts), len(parts))
        if max(parity.values()) > TOLERANCE:
            raise ModelError(
                f"The exported graphs do not compute what PyTorch computes: {parity}. None was kept."
            )
        files = {
            file.name: {"bytes": file.stat().st_size, "sha256": checksum(file)}
            for file in sorted(place.iterdir())
        }
        said = {
            "model": model.name, "identity": identity(model), "opset": OPSET, "files": files, "parity": parity,
        }  # fmt: skip
        write_json(place / MANIFEST, said)
    return said


def need(*packages: str) -> None:
    """Refuse at once what a package that is missing or broken would stop later.

    Raises:
        MissingDependencyError: With what to type.
    """
    for package in packages:
        try:
            import_module(package)
        except (ImportError, AttributeError, OSError) as error:  # not there, or broken, or of another version
            raise MissingDependencyError(
                f"ONNX graphs need {package}: importing it gives {error!r}. Type: pip install 'ditlens[fast]', or "
                "in a clone: make install EXTRAS=all,fast"
            ) from error


def export(part: Part) -> Any:
    """The graph of a network, an onnx ``ModelProto``; any batch size."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    examples = tuple(part.inputs.values())
    with warnings.catch_warnings(), quiet(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            part.module.eval(), examples, dynamo=True, opset_version=OPSET, verbose=False, optimize=False,
            input_names=list(part.inputs), output_names=list(part.outputs),
            dynamic_shapes=tuple({0: batch} for _ in examples),
        )  # fmt: skip
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks about packages that are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def save(proto: Any, path: Path) -> None:
    """Write a graph, and its weights beside it in one file: halved where that is exact."""
    from onnx import TensorProto, helper, numpy_helper

    graph, weights, offset, casts = proto.graph, path.with_suffix(".bin"), 0, []
    parts: list[bytes] = []
    del graph.value_info[:]
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 16:
            continue
        name, dims, kind, halved = (
            tensor.name,
            list(tensor.dims),
            TensorProto.FLOAT,
            values.astype(np.float16),
        )
        if np.array_equal(halved.astype(np.float32), values):
            values, kind = halved, TensorProto.FLOAT16
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
            name = f"{name}.half"
        parts.append(np.ascontiguousarray(values).tobytes())
        tensor.Clear()
        tensor.name, tensor.data_type, tensor.data_location = name, kind, TensorProto.EXTERNAL
        tensor.dims.extend(dims)
        where = {"location": weights.name, "offset": offset, "length": len(parts[-1])}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        offset += len(parts[-1])
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:  # where in the code it comes from
        del node.metadata_props[:]
        node.doc_string = ""
    write_parts(weights, parts)
    write_whole(path, proto.SerializeToString())


# --- reading ------------------------------------------------------------------------------------------------


def session(path: Path, threads: int | None = None) -> Any:
    """An onnxruntime session of a graph, on the CPU.

    Args:
        path: The graph.
        threads: Threads of a call; those of PyTorch by default.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or torch.get_num_threads()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def differences(part: Part, path: Path) -> dict[str, float]:
    """The largest absolute difference of each output from PyTorch's, for batches of two and of one."""
    running, found = session(path), dict.fromkeys(part.outputs, 0.0)
    for rows in (slice(0, 2), slice(0, 1)):
        inputs = {name: value[rows] for name, value in part.inputs.items()}
        with torch.no_grad():
            wanted = part.module(*inputs.values())
        got = running.run(list(part.outputs), {name: value.numpy() for name, value in inputs.items()})
        for name, ours, theirs in zip(part.outputs, got, outputs(wanted), strict=True):
            found[name] = max(found[name], float(np.abs(ours - theirs.numpy()).max()))
    return found


def outputs(value: Any) -> Iterator[torch.Tensor]:
    """The outputs of a module, one or several."""
    yield from ((value,) if isinstance(value, torch.Tensor) else value)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `write_graphs` wrote.

    Raises:
        ModelError: If it is missing or damaged.
    """
    return read_json(folder / MANIFEST, "list of ONNX graphs", ModelError)
