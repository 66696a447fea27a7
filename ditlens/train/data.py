"""The training set: rendered images as bytes, and their latents.

On a CPU, rendering and encoding an image costs about as much as a training step, so both are done once and cached
on disk. On a GPU both are cheap: a larger set is made in seconds and kept in the GPU's memory. Image k depends on k
only, so an interrupted or older set is the beginning of a longer one and is extended.
"""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ditlens.files import append_whole, writing_whole
from ditlens.train.loop import Budget
from ditlens.worlds.portraits.attributes import Attributes, concatenate, sample
from ditlens.worlds.portraits.render import render

SIZE = 128
"""Height and width of the images."""
COUNT = {"cpu": 30_000, "cuda": 150_000}
"""Images in the training set; the larger one takes 7 GB of memory."""
PART = 500
"""Images that are drawn at once, from one seed."""
DATA_SEED = 1000
"""Seed of the first part; held-out sets use smaller seeds."""


def part_attributes(part: int) -> Attributes:
    """Attributes of the `PART` images of one part; they depend on the number of the part only."""
    return sample(PART, torch.Generator().manual_seed(DATA_SEED + part))


def parts(budget: Budget) -> int:
    """Number of parts of the training set on this kind of device."""
    return budget.choose(COUNT) // PART


def attributes(budget: Budget) -> Attributes:
    """Attributes of the whole training set."""
    return concatenate([part_attributes(part) for part in range(parts(budget))])


def draw(part: int, device: torch.device) -> torch.Tensor:
    """The images of one part as bytes, (PART, 3, 128, 128)."""
    return (render(part_attributes(part), SIZE, device) * 255).round().to(torch.uint8)


@functools.lru_cache(maxsize=1)
def images_on(device: torch.device, count: int) -> torch.Tensor:
    """The images of `count` parts as bytes in the memory of a device, shared by the stages of one run.

    If a GPU has less free memory than twice their size, the CPU's memory keeps them.
    """
    size = (count * PART, 3, SIZE, SIZE)
    roomy = device.type != "cuda" or torch.cuda.mem_get_info(device)[0] > 2 * math.prod(size)
    images = torch.empty(size, dtype=torch.uint8, device=device if roomy else "cpu")
    for part in range(count):
        images[part * PART : (part + 1) * PART] = draw(part, device)
    return images


def renders(budget: Budget) -> np.memmap | torch.Tensor:
    """The images as bytes, (count, 3, 128, 128).

    On a CPU a memory-mapped file, to which the missing parts are added; a part that an interrupted run left
    unfinished is drawn again. On a GPU a tensor, in its memory if that is large enough.
    """
    count = parts(budget)
    if budget.gpu:
        return images_on(budget.device, count)
    path, part_bytes = budget.folder / "images.u8", PART * 3 * SIZE * SIZE
    done = path.stat().st_size // part_bytes if path.is_file() else 0
    if done < count:
        append_whole(path, b"")
        os.truncate(path, done * part_bytes)
        for part in tqdm(range(done, count), "renders", unit="part", disable=None):
            append_whole(path, draw(part, budget.device).cpu().numpy().tobytes())
    return np.memmap(path, np.uint8, "r", shape=(count * PART, 3, SIZE, SIZE))


def batch_of(images: np.memmap | torch.Tensor, index: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Images `index` as floats in [0, 1], (batch, 3, 128, 128)."""
    if isinstance(images, torch.Tensor):
        return images[index.to(images.device)].to(device).float() / 255
    return torch.from_numpy(images[index.numpy()]).to(device).float() / 255


@torch.no_grad()
def encode(vae: Any, images: torch.Tensor) -> torch.Tensor:
    """Scaled latents of images (batch, 3, 128, 128) with values in [0, 1], in half precision on the CPU."""
    images = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
    z = vae.encode(images).latent_dist.mode().float()
    return ((z - vae.config.shift_factor) * vae.config.scaling_factor).half().cpu()


@torch.no_grad()
def latents(vae, budget: Budget) -> torch.Tensor:
    """Scaled latents of the training set, (count, 8, 16, 16) in half precision; cached per autoencoder."""
    path, count = budget.folder / "latents.pt", parts(budget) * PART
    # Of the encoder only, as the decoder may be trained further; in half precision, as weights are stored.
    key = torch.stack([p.half().double().sum().cpu() for p in vae.encoder.parameters()]).sum().item()
    saved: dict[str, Any] = torch.load(path, weights_only=True) if path.is_file() else {}
    encoded = [saved["latents"][:count]] if saved.get("key") == key else []
    first = sum(map(len, encoded))
    if first == count:
        return encoded[0]
    images, size = renders(budget), 250 if budget.gpu else 50
    for start in tqdm(range(first, count, size), "latents", unit="batch", disable=None):
        encoded.append(
            encode(vae, batch_of(images, torch.arange(start, min(start + size, count)), budget.device))
        )
    result = torch.cat(encoded)
    with writing_whole(path) as partial, partial.open("wb") as file:
        torch.save({"key": key, "latents": result}, file)
    return result
