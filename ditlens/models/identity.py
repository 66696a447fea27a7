"""Identity of a model: one short hash of all that decides its hidden states.

A sum of floating-point numbers depends on their order, and so on threads and devices. Here the bytes of the weights
are read as whole numbers, eight bytes each, and summed modulo 2**64: the same result everywhere, on the device that
holds the weights. Every number is weighted by its position, so that weights which change places count as others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch

from ditlens.models.model import Model

SLICE = 2**22
"""Bytes that are hashed at a time."""


def fingerprint(model: Model) -> str:
    """Identity of the transformer, the text encoders and the scheduler's settings.

    Equal for the same weights in the same number format, on every device, with every number of threads and however
    they are offloaded. The weights in memory count: with a LoRA, or changed in place, it is another model.

    Args:
        model: The model.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(scheduler_settings(model.pipe.scheduler).encode())
    for part, module in sorted(model.pipe.components.items()):
        if module is None or not (part == "transformer" or part.startswith("text_encoder")):
            continue
        for name, tensor in weights(module):
            line = f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype} {byte_hash(tensor)}\n"
            digest.update(line.encode())
    return digest.hexdigest()[:16]


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
