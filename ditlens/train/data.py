"""The training set: renders, kept on disk as bytes, and their latents.

On a CPU drawing and encoding a picture costs about as much as a training step, so both are done once and read
many times. On a GPU both are cheap; the same functions then make a larger set in seconds and keep its pictures in
the GPU's memory. Picture k depends on k only: a set that is cut short, by a kill or by an older recipe, is the
beginning of a longer one and grows.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import time

import numpy as np
import torch

from ditlens.files import write_whole, writing_whole
from ditlens.train.loop import Budget
from ditlens.worlds.portraits.attributes import Attributes, concatenate, sample
from ditlens.worlds.portraits.render import render

SIZE = 128
"""Height and width of the pictures."""
COUNT = {"cpu": 30_000, "cuda": 150_000}
"""Pictures in the training set; the larger one takes 7 GB of memory."""
PART = 500
DATA_SEED = 1000
"""Held-out sets use seeds below this one."""


def part_attributes(part: int) -> Attributes:
    """Attributes of the `PART` pictures of one part; depends on the part's number only."""
    return sample(PART, torch.Generator().manual_seed(DATA_SEED + part))


def parts(budget: Budget) -> int:
    """Number of parts of the training set on this kind of device."""
    return COUNT.get(budget.device.type, COUNT["cpu"]) // PART


def attributes(budget: Budget) -> Attributes:
    """Attributes of the whole training set."""
    return concatenate([part_attributes(part) for part in range(parts(budget))])


def draw(part: int, device: torch.device) -> torch.Tensor:
    """The pictures of one part as bytes, (PART, 3, 128, 128)."""
    attributes = {n: v.to(device) for n, v in part_attributes(part).items()}
    return (render(attributes, SIZE) * 255).round().to(torch.uint8)


@functools.lru_cache(maxsize=1)
def pictures_on(device: torch.device, count: int) -> torch.Tensor:
    """The pictures of `count` parts as bytes in the memory of a device; the stages of one run share them.

    A GPU with less than twice as much free memory draws them, and the CPU's memory keeps them.
    """
    size = (count * PART, 3, SIZE, SIZE)
    roomy = device.type != "cuda" or torch.cuda.mem_get_info(device)[0] > 2 * math.prod(size)
    pictures = torch.empty(size, dtype=torch.uint8, device=device if roomy else "cpu")
    for part in range(count):
        pictures[part * PART : (part + 1) * PART] = draw(part, device)
    return pictures


def renders(budget: Budget) -> np.memmap | torch.Tensor:
    """The pictures as bytes (count, 3, 128, 128).

    For a CPU a memory-mapped array, drawn where it is not yet; a sidecar file counts the parts that are whole, so
    that an interrupted run resumes there. For a GPU a tensor, in its memory if that is large enough.
    """
    count = parts(budget)
    if budget.device.type == "cuda":
        return pictures_on(budget.device, count)
    path, done_path = budget.folder / "renders.u8", budget.folder / "renders.done"
    budget.folder.mkdir(parents=True, exist_ok=True)
    part_bytes = PART * 3 * SIZE * SIZE
    done = int(done_path.read_text()) if path.is_file() and done_path.is_file() else 0
    done = min(done, path.stat().st_size // part_bytes) if done else 0
    path.touch()
    if path.stat().st_size < count * part_bytes:
        os.truncate(path, count * part_bytes)
    shape = (path.stat().st_size // part_bytes * PART, 3, SIZE, SIZE)
    pictures = np.memmap(path, np.uint8, "r+", shape=shape)
    for part in range(done, count):
        pictures[part * PART : (part + 1) * PART] = draw(part, budget.device).cpu().numpy()
        pictures.flush()
        write_whole(done_path, str(part + 1))
        if part % 8 == 7:
            print(f"renders: {part + 1}/{count} parts", file=sys.stderr, flush=True)  # noqa: T201
    return np.memmap(path, np.uint8, "r", shape=(count * PART, *shape[1:]))


def batch_of(pictures: np.memmap | torch.Tensor, index: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Pictures `index` as floats in [0, 1], (batch, 3, 128, 128)."""
    if isinstance(pictures, torch.Tensor):
        return pictures[index.to(pictures.device)].to(device).float() / 255
    return torch.from_numpy(pictures[index.numpy()]).to(device).float() / 255


@torch.no_grad()
def latents(vae, budget: Budget) -> torch.Tensor:
    """Scaled latents of the training set, (count, 8, 16, 16) in half precision; cached per autoencoder."""
    path, count = budget.folder / "latents.pt", parts(budget) * PART
    # The decoder may learn on; half precision, because the folder's weights are.
    key = torch.stack([p.half().double().sum().cpu() for p in vae.encoder.parameters()]).sum().item()
    encoded: list[torch.Tensor] = []
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        if saved["key"] == key:
            encoded = [saved["latents"][:count]]
    first = sum(map(len, encoded))
    if first == count:
        return encoded[0]
    pictures, started = renders(budget), time.monotonic()
    size = 250 if budget.device.type == "cuda" else 50
    for start in range(first, count, size):
        image = batch_of(pictures, torch.arange(start, min(start + size, count)), budget.device)
        image = (image * 2 - 1).contiguous(memory_format=torch.channels_last)
        z = vae.encode(image).latent_dist.mode().float()
        encoded.append(((z - vae.config.shift_factor) * vae.config.scaling_factor).half().cpu())
        if start % 5000 == 0:
            rate = (start - first + size) / (time.monotonic() - started)
            print(f"latents: {start}/{count}  {rate:.0f}/s", file=sys.stderr, flush=True)  # noqa: T201
    result = torch.cat(encoded)
    with writing_whole(path) as partial:
        torch.save({"key": key, "latents": result}, partial)
    return result
