"""Identity of a model: one short hash of all that decides its hidden states.

A sum of floating-point numbers depends on their order, and so on threads and devices. Here the bytes of the weights
are read as whole numbers, eight bytes each, and summed modulo 2**64: the same result everywhere, on the device that
holds the weights. Every number is weighted by its position, so that weights which change places count as others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch

from ditlens.models.model import Model

SLICE = 2**22
"""Bytes that are hashed at a time."""
USUAL = ("JointAttnProcessor2_0", "FluxAttnProcessor")
"""Attention processors that diffusers gives the transformers of SD3 and FLUX."""


def fingerprint(model: Model) -> str:
    """Identity of the transformer, the text encoders and the scheduler's settings.

    Equal for the same weights in the same number format, on every device, with every number of threads and however
    they are offloaded. The weights in memory count: with a LoRA, or changed in place, it is another model. So do
    the adapters that act, with their scales, and an attention that is not PyTorch's own; see `setup`.

    Args:
        model: The model.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(scheduler_settings(model.pipe.scheduler).encode())
    for part, module in networks(model):
        for name, tensor in weights(module):
            line = f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype} {byte_hash(tensor)}\n"
            digest.update(line.encode())
        for unusual in (acting_adapters(module), unusual_attention(module)):
            if unusual:
                digest.update(f"{part} {json.dumps(unusual, sort_keys=True)}\n".encode())
    digest.update("".join(autocasts()).encode())
    return digest.hexdigest()[:16]


def setup(model: Model) -> dict[str, Any]:
    """What beside the weights decides what the networks compute, in words, ready for JSON.

    It stands in the recipe of an edit, in the manifest of a study and in a benchmark's ``bench.json``.

    Returns:
        "dtype": number formats of the weights, and of `torch.autocast` where it is on; "adapters": of each network
        the adapters that act (LoRA ...), with their scales, several where layers differ; "attention": of each
        network the attention backends and processors other than PyTorch's and diffusers' own; "backend": what
        computes, where that is not PyTorch.

    >>> from ditlens.models.identity import setup
    >>> setup(model)
    {'dtype': 'float32', 'adapters': {}, 'attention': {}}
    """
    parts = dict(networks(model))
    formats = {
        str(value.dtype).removeprefix("torch.") for part in parts.values() for value in part.parameters()
    }
    scales = {part: _scales(acting_adapters(module)) for part, module in parts.items()}
    attention = {part: unusual_attention(module) for part, module in parts.items()}
    backend = getattr(model, "backend", "torch")
    return {
        "dtype": ", ".join([*sorted(formats), *autocasts()]),
        "adapters": {part: found for part, found in scales.items() if found},
        "attention": {part: found for part, found in attention.items() if found},
        **({"backend": backend} if backend != "torch" else {}),
    }


def autocasts() -> list[str]:
    """Number formats to which `torch.autocast` casts now; mostly none."""
    on = [device for device in ("cpu", "cuda", "mps") if torch.is_autocast_enabled(device)]
    return [f"autocast {str(torch.get_autocast_dtype(name)).removeprefix('torch.')} ({name})" for name in on]


def networks(model: Model) -> list[tuple[str, torch.nn.Module]]:
    """The networks that decide hidden states: transformer and text encoders, by name."""
    return [
        (part, module)
        for part, module in sorted(model.pipe.components.items())
        if module is not None and (part == "transformer" or part.startswith("text_encoder"))
    ]


def acting_adapters(module: torch.nn.Module) -> dict[str, dict[str, float]]:
    """Scales of the adapters that act in a network now, by layer, as the layers of PEFT hold them.

    Disabled ones do not act. Where adapters are merged into the weights, these do, whichever is active.
    """
    found = {}
    for name, layer in module.named_modules():
        active, off = getattr(layer, "active_adapter", None), getattr(layer, "disable_adapters", None)
        if not isinstance(active, str | list | tuple) or off is True:  # of a whole model both are methods
            continue
        scales = getattr(layer, "scaling", None)
        acting = getattr(layer, "merged_adapters", None) or ([active] if isinstance(active, str) else active)
        found[name] = {
            each: float(1.0 if scales is None else scales[each])
            for each in acting
            if scales is None or each in scales
        }
    return {name: scales for name, scales in found.items() if scales}


def _scales(layers: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """Scales by adapter, each once."""
    found: dict[str, set[float]] = {}
    for scales in layers.values():
        for name, scale in scales.items():
            found.setdefault(name, set()).add(scale)
    return {name: sorted(scales) for name, scales in found.items()}


def unusual_attention(module: torch.nn.Module) -> list[str]:
    """Attention backends and processors of a network that compute otherwise than it was made to; mostly none."""
    found = {str(getattr(getattr(module, "config", None), "_attn_implementation", None))}
    found -= {"None", "sdpa", "eager"}
    for layer in module.modules():
        processor = getattr(layer, "processor", None)
        if processor is None:
            continue
        found |= {type(processor).__name__} - {*USUAL}
        if hasattr(processor, "_attention_backend"):
            backend = processor._attention_backend or _active_backend()
            found |= {str(getattr(backend, "value", backend))} - {"native"}
    return sorted(found)


def _active_backend() -> Any:
    """The backend of processors that name none: ``DIFFUSERS_ATTN_BACKEND``, or what was set last."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    return _AttentionBackendRegistry.get_active_backend()[0]


def scheduler_settings(scheduler: Any) -> str:
    """Class and settings of a scheduler; what begins with ``_`` is diffusers' own book-keeping."""
    settings = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    return json.dumps([type(scheduler).__name__, settings], sort_keys=True, default=str)


def weights(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and values of everything that a network saves, by name."""
    for name, tensor in sorted(module.state_dict().items()):
        yield name, offloaded(module, name) if tensor.is_meta else tensor


def offloaded(module: torch.nn.Module, name: str) -> torch.Tensor:
    """Values of a weight that is only a shape in the network: in sequential offloading accelerate keeps them."""
    owner, _, last = name.rpartition(".")
    hook: Any = module.get_submodule(owner)._hf_hook
    kept = (getattr(each, "weights_map", None) for each in getattr(hook, "hooks", [hook]))
    return next(found for found in kept if found is not None)[last]


def byte_hash(tensor: torch.Tensor) -> int:
    """An exact hash of a tensor's bytes, from 0 to 2**64 - 1."""
    data = tensor.detach().flatten().view(torch.uint8)
    if data.device.type != "cuda":  # Apple's GPUs are not relied on for whole numbers of 64 bits
        data = data.cpu()
    total = 0
    for start in range(0, len(data), SLICE):
        part = data[start : start + SLICE]
        padded = part.new_zeros(-(-len(part) // 8) * 8)
        padded[: len(part)] = part
        words = padded.view(torch.int64)
        total = (total * 31 + int((words * position_weights(data.device)[: len(words)]).sum())) % 2**64
    return total


@lru_cache(maxsize=1)
def position_weights(device: torch.device) -> torch.Tensor:
    """Odd numbers without a pattern, one for each place in a slice; products wrap around at 2**64."""
    place = torch.arange(1, SLICE // 8 + 1, dtype=torch.int64, device=device) * 0x1E3779B97F4A7C15
    return ((place ^ (place >> 29)) * 0x3F58476D1CE4E5B9) | 1
