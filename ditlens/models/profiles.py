"""Fit a model to the memory that is free: number format and offloading, with the reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ditlens.errors import ModelError, SettingError
from ditlens.files import read_json
from ditlens.tables import human

Placement = Literal["full", "offload", "sequential"]
PROFILES = ("auto", "full", "offload", "sequential")
MARGIN = 1.15
"""Weights need this much of their size: buffers, fragmentation."""
WORKING = {"cuda": 3e9, "cpu": 2e9, "mps": 2e9}
"""Bytes for activations and the autoencoder at native size; nothing for small models."""
SMALL = 1e9
"""Bytes of weights below which a model is loaded whole, without looking at the memory."""


@dataclass(frozen=True)
class Profile:
    """How a model is loaded.

    Attributes:
        dtype: Number format of the weights.
        placement: ``"full"``: all on the device; ``"offload"``: one part at a time; ``"sequential"``: one layer at
            a time, slow.
        reason: Why, in a sentence with the numbers.
    """

    dtype: torch.dtype
    placement: Placement
    reason: str


def part_sizes(folder: Path) -> dict[str, tuple[float, float]]:
    """Bytes of the weight files of each part of a pipeline's folder, and bytes of one number in them."""
    parts, halves = parts_of(folder), variant_of(folder) == "fp16"
    sizes: dict[str, tuple[float, float]] = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        if (".fp16" in path.name) != halves or path.parent.name not in parts:
            continue
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), 10**8)))
        except (OSError, ValueError):
            continue  # damaged: loading will say so
        kinds = [entry["dtype"] for name, entry in header.items() if name != "__metadata__"]
        width = 4.0 if "F32" in kinds else 1.0 if any(k.startswith("F8") for k in kinds) else 2.0
        before = sizes.get(path.parent.name, (0.0, width))[0]
        sizes[path.parent.name] = (before + path.stat().st_size, width)
    return sizes


def variant_of(folder: Path) -> str | None:
    """The only variant of the weights in a folder, such as "fp16"; None where there are plain ones."""
    names = [path.name.split(".") for path in folder.glob("transformer/*.safetensors")]
    variants = {parts[1].partition("-")[0] if len(parts) == 3 else None for parts in names}
    return variants.pop() if len(variants) == 1 else None


def parts_of(folder: Path) -> set[str]:
    """Names of the parts that ``model_index.json`` lists; those that it lists as null are absent."""
    try:
        index = read_json(folder / "model_index.json", "the index of a pipeline", ModelError)
    except ModelError:
        return set()  # damaged: loading will say so
    return {name for name, value in index.items() if isinstance(value, list) and value[0] is not None}


def cached_sizes(repository: str) -> dict[str, tuple[float, float]]:
    """`part_sizes` of a hub id whose files are in the local Hugging Face cache; empty if some are not."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(repository, "model_index.json")
    if not isinstance(index, str):
        return {}
    folder = Path(index).parent
    sizes = part_sizes(folder)
    heavy = {name for name in parts_of(folder) if name.startswith(("transformer", "text_encoder", "vae"))}
    return sizes if heavy <= set(sizes) and has_all_pieces(folder) else {}


def has_all_pieces(folder: Path) -> bool:
    """Whether weights that are cut into files ``...-00001-of-00002.safetensors`` are there in full."""
    pieces = [path for path in folder.glob("*/*-of-*.safetensors") if path.parent.name in parts_of(folder)]
    counts = Counter((path.parent, re.sub(r"-\d+-of-", "-of-", path.stem)) for path in pieces)
    return all(count == int(stem.rpartition("-of-")[2].split(".")[0]) for (_, stem), count in counts.items())


def free_memory(device: torch.device) -> tuple[float, float]:
    """Free bytes of the device and of the machine."""
    import psutil

    machine = float(psutil.virtual_memory().available)
    return (float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else machine), machine


def choose(
    sizes: dict[str, tuple[float, float]],
    device: torch.device,
    free: float,
    machine: float,
    dtype: torch.dtype | None = None,
    profile: str = "auto",
) -> Profile:
    """Choose number format and placement.

    Args:
        sizes: Bytes of each part and of one number in its files, from `part_sizes`; empty if unknown.
        device: Where to compute.
        free: Free bytes of the device.
        machine: Free bytes of the machine.
        dtype: The user's number format, if there is one.
        profile: One of `PROFILES`; all but "auto" are done as asked.

    Raises:
        SettingError: If the profile is unknown, or nothing fits.
    """
    if profile not in PROFILES:
        raise SettingError(f"profile={profile!r}: choose {', '.join(PROFILES)}.")
    small = sum(size for size, _ in sizes.values()) < SMALL if sizes else False
    chosen = dtype or (torch.float32 if device.type == "cpu" or small else torch.bfloat16)
    if profile != "auto":
        return Profile(chosen, profile, "as asked")  # type: ignore[arg-type]
    if not sizes or small:
        unknown = (
            "its size is not known before it is fetched; if it does not fit, load it with profile='offload' "
            "(one part at a time) or profile='sequential' (one layer at a time, slow)"
        )
        return Profile(chosen, "full", "the model is small" if small else unknown)
    needs = {name: size / width * chosen.itemsize * MARGIN for name, (size, width) in sizes.items()}
    total, largest, work = sum(needs.values()), max(needs.values()), WORKING.get(device.type, 2e9)
    if device.type != "cuda":
        return _on_cpu(total, work, machine, chosen, dtype is None)
    if total + work <= free:
        return Profile(chosen, "full", f"{human(total)} of weights fit into {human(free)} of the GPU")
    if total > machine:
        raise SettingError(
            f"The weights ({human(total)}) fit neither into the GPU ({human(free)} free) nor into the machine's "
            f"memory ({human(machine)} free), from where they could be moved in turn. Load a smaller model."
        )
    part, gpu = f"largest part, {human(largest)}", f"{human(free)} of the GPU"
    if largest + work <= free:
        reason = f"{human(total)} of weights do not fit into {gpu}; its {part}, does"
        return Profile(chosen, "offload", reason)
    return Profile(chosen, "sequential", f"the {part}, exceeds {gpu}; slow")


def _on_cpu(total: float, work: float, free: float, dtype: torch.dtype, may_halve: bool) -> Profile:
    """The number format in which weights and work fit into the machine's memory."""
    if total + work <= free:
        return Profile(dtype, "full", f"{human(total)} of weights fit into {human(free)} of free memory")
    half = total / dtype.itemsize * 2
    if may_halve and half + work <= free:
        reason = f"only in half precision: {human(half)} of {human(free)}; slow"
        return Profile(torch.bfloat16, "full", reason)
    raise SettingError(
        f"This model needs {human(half + work)} of memory even in half precision; {human(free)} are free. "
        "Close other programs, use a machine with a GPU, or load 'portraits'."
    )
