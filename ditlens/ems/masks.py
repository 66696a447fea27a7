"""Where an edit may act: a mask that was given, or one made from where the two texts pull apart.

A mask of latents has one number in [0, 1] per latent cell, (1, 1, h, w): 1 may change, 0 is kept bit for bit, what
is between is mixed in that share.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ditlens import flow, images
from ditlens.errors import SettingError
from ditlens.files import user_path
from ditlens.flow import Latents, Mask, Text, VelocityField

MASKS = ("none", "difference", "exact")
"""Masks that are made here, by name; anything else is a mask that is given."""
HIGH = 0.8
"""Noise level of `difference_mask`; docs/decisions/0003-ems.md has what other levels give."""
DRAWS = 4
"""Noises that `difference_mask` averages over."""
EDGE = (0.05, 0.2)
"""Where `difference_mask` begins and where it is whole, as shares of the largest difference."""
TOGETHER = 4
"""Texts that `difference_mask` evaluates in one call: many small changes must not need much memory."""
LEAST = 0.03
"""Share of the largest change below which a change of the text is taken for other words of the same."""


def read_mask(mask: Any) -> torch.Tensor:
    """Read a mask: (1, 1, height, width), values in [0, 1].

    Args:
        mask: A file, a PIL image (white may change; an alpha channel is ignored), an array or a tensor of shape
            (height, width) or (1, 1, height, width), bool, or numbers in [0, 1], or bytes in [0, 255].

    Raises:
        SettingError: If it has another shape, other values, or is 0 everywhere.
        ImageError: If the file cannot be read.
    """
    name = _name(mask)
    if isinstance(mask, str) and not Path(mask).suffix and not user_path(mask).exists():
        raise SettingError(f"mask={mask!r} is neither a file nor one of {', '.join(MASKS)}, auto.")
    if isinstance(mask, str | os.PathLike | Image.Image) or hasattr(mask, "read"):
        mask = np.array(images.open_image(mask, alpha=False).convert("L"))
    try:
        values = mask if isinstance(mask, torch.Tensor) else torch.as_tensor(np.asarray(mask), device="cpu")
    except TypeError:
        raise SettingError(
            f"A mask is a file, an image or an array of numbers; got {type(mask).__name__}."
        ) from None
    if values.dtype == torch.uint8 and values.numel() and int(values.max()) == 1:
        raise SettingError(
            f"{name} holds 0 and 1 as bytes, which count from 0 to 255. Pass mask.astype(bool), or 255 * mask."
        )
    values = values.float() / (255 if values.dtype == torch.uint8 else 1)
    if values.ndim < 2 or values.numel() != values.shape[-1] * values.shape[-2]:
        raise SettingError(
            f"A mask is one image, (height, width); got the shape {tuple(values.shape)}. "
            "Take one channel of it, e.g. mask[..., 0]."
        )
    values = values.reshape(1, 1, *values.shape[-2:])
    check_values(values)
    if not bool((values > 0).any()):
        raise SettingError(
            f"{name} is 0 everywhere: nothing could change. White (1) is where the edit may act."
        )
    return values


def check_values(mask: torch.Tensor) -> None:
    """Refuse a mask with values outside [0, 1].

    Raises:
        SettingError: If it has any.
    """
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise SettingError("A mask holds numbers from 0 (keep) to 1 (may change); divide an image by 255.")


def _name(mask: Any) -> str:
    """What an error calls a mask."""
    return f"The mask {mask}" if isinstance(mask, str | os.PathLike) else "This mask"


def given_mask(mask: Any, image_size: images.Size, size: images.Size, cells: Sequence[int]) -> torch.Tensor:
    """A mask of latents from a mask that was drawn on an image, or on what the model sees of it.

    Its values are rounded to 256 levels, so that the PNG of `as_png` holds exactly what an edit used.

    Args:
        mask: What `read_mask` reads.
        image_size: Width and height of the image as it was given.
        size: Width and height of the image as the model sees it.
        cells: Height and width of the latents.

    Returns:
        (1, 1, *cells), values in [0, 1].

    Raises:
        SettingError: If the mask cannot be used, belongs to another image, or is empty where the model looks.
        ImageError: If the file cannot be read.
    """
    values = (images.fit_mask(read_mask(mask), image_size, size) * 255).round() / 255
    if not bool((values > 0).any()):
        raise SettingError(
            f"{_name(mask)} is 0 in all that the model sees of the image, its middle: nothing could change. "
            "Cut the image to the part that you want to edit."
        )
    return latent_mask(values, cells)


def as_png(mask: Mask) -> bytes:
    """A mask of latents as the bytes of a grey PNG, one pixel a cell, which `ditlens.edit` takes as ``mask=``."""
    buffer = io.BytesIO()
    levels = (mask[0, 0].cpu() * 255).round().to(torch.uint8)
    Image.fromarray(levels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def latent_mask(mask: Any, size: Sequence[int], grow: int = 0) -> torch.Tensor:
    """A mask of latents from a mask of an image.

    A latent cell may change as much as the most changeable pixel in it.

    Args:
        mask: What `read_mask` reads; it is taken to have the image's shape. `given_mask` looks whether it has.
        size: Height and width of the latents.
        grow: Cells by which the mask is widened on every side.

    Returns:
        (1, 1, height, width), values in [0, 1].

    Raises:
        SettingError: If the mask cannot be used.
    """
    values = read_mask(mask)
    small = F.adaptive_max_pool2d(values, tuple(size))
    return F.max_pool2d(small, 2 * grow + 1, stride=1, padding=grow) if grow else small


@torch.no_grad()
def difference_mask(
    field: VelocityField,
    latents: Latents,
    source: Text,
    targets: Sequence[Text],
    *,
    level: float = HIGH,
    draws: int = DRAWS,
    low: float = EDGE[0],
    high: float = EDGE[1],
    least: float = LEAST,
    seed: int = 0,
) -> torch.Tensor:
    """A mask from where the model would do something else under a target text than under the source text.

    At one noise level, d = mean over noises and channels of ``|v(x_t, target) - v(x_t, source)|``. The idea is
    DiffEdit's (there at half noise, with a hard threshold). Where d is below `low` of its largest values nothing
    may change, above `high` of them everything.

    With one target for each change of the text (`ditlens.description.single_changes`), every change has a mask
    scaled by its own largest values, and the masks are joined: beside another shirt, wrinkles are a small
    difference, and one mask for both would leave them out.

    Args:
        field: The velocity field.
        latents: Clean latents of the images, (B, C, h, w).
        source: Their texts (1 or B).
        targets: The wanted texts (each 1 or B), of which the masks are joined.
        level: Noise level. High noise localises best: there the texts decide, not yet the details.
        draws: Noises to average over; each takes 1 + len(targets) evaluations, `TOGETHER` in a call.
        low: Share of the 98th percentile of d where the mask begins.
        high: Share where it is whole.
        least: A target whose 98th percentile is below this share of the largest target's says the same in other
            words; it adds nothing to the mask.
        seed: Seed of the noises.

    Returns:
        (B, 1, h, w), values in [0, 1].

    Raises:
        SettingError: If low and high are not in order, or there is no target.
    """
    if not 0 <= low < high <= 1:
        raise SettingError(
            f"low and high are shares in order, 0 <= low < high <= 1; got {low:g} and {high:g}."
        )
    if not targets:
        raise SettingError("A mask from the difference needs at least one target text.")
    x = flow.accumulator(latents)
    generators = flow.seeded_generators([seed] * len(x), len(x))
    total = x.new_zeros(len(targets), len(x), 1, *x.shape[-2:])
    for _ in range(draws):
        point = flow.interpolate(x, flow.seeded_noise(generators, x), level)
        rows = [(point, text) for text in (source, *targets)]
        velocities = [
            flow.evaluate(field, level, rows[k : k + TOGETHER]) for k in range(0, len(rows), TOGETHER)
        ]
        before, *after = itertools.chain.from_iterable(velocities)
        total += (torch.stack(after) - before).abs().mean(2, keepdim=True) / draws
    top = total.flatten(2).quantile(0.98, dim=2).clamp_min(1e-12)[..., None, None, None]
    found = ((total / top - low) / (high - low)).clamp(0, 1)
    return (found * (top >= least * top.amax(0))).amax(0)


def difference_settings() -> dict[str, Any]:
    """The settings of `difference_mask` where none are given, ready for JSON: they may differ between versions."""
    return {"level": HIGH, "draws": DRAWS, "edge": list(EDGE), "least": LEAST}
