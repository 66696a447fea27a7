"""How well an edit preserves what should not change: PSNR, MSE and SSIM outside a mask, and structure.

Images are (B, 3, H, W) in [0, 1]; masks (B, 1, H, W) with 1 where the edit may act. Where the mask covers
everything, the value is NaN, and averages have to count that.

Two conventions, two names: PIE-Bench multiplies both images by (1 - mask) and averages over the whole frame, so
that a large mask dilutes the error (``..._pie``); ours averages over the background alone (``..._outside``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ditlens.errors import SettingError


@dataclass(frozen=True)
class Metric:
    """A metric of two images and a mask.

    Attributes:
        name: Column of the table.
        title: What it is, in words.
        better: "higher" or "lower".
        unit: Unit of its values.
        identity: Everything that decides its value except the size of the images: formula and ranges. Reports
            add that size (PIE-Bench: 512 x 512). Only numbers of equal identity are comparable.
        compute: (source, result, mask) -> (B,).
    """

    name: str
    title: str
    better: str
    unit: str
    identity: str
    compute: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

    @property
    def about(self) -> dict[str, str]:
        """What it is, for the tables."""
        return described(self.title, self.better, self.unit, self.identity)


def described(title: str, better: str, unit: str, identity: str) -> dict[str, str]:
    """What a metric is, for the tables; the arguments are those of `Metric`."""
    return {"title": title, "better": better, "unit": unit, "identity": identity}


def check(source: torch.Tensor, result: torch.Tensor, mask: torch.Tensor) -> None:
    """Refuse images and masks that do not fit together.

    Raises:
        SettingError: With the shapes.
    """
    batch, channels, height, width = source.shape if source.ndim == 4 else (0, 0, 0, 0)
    if channels != 3 or result.shape != source.shape or mask.shape != (batch, 1, height, width):
        raise SettingError(
            "Images are (B, 3, H, W), both of one size, masks (B, 1, H, W); got "
            f"{tuple(source.shape)}, {tuple(result.shape)}, {tuple(mask.shape)}. Resize the result first."
        )


def mse_outside(source: torch.Tensor, result: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the background's own pixels: sum((1-m)(a-b)^2) / sum(1-m), (B,)."""
    check(source, result, mask)
    kept = (1 - mask.float()).expand_as(source)
    error = (kept * (source - result).square()).flatten(1).sum(1)
    return error / kept.flatten(1).sum(1)  # 0 / 0 is NaN: nothing is background


def psnr_outside(source: torch.Tensor, result: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of the background's own pixels in dB, (B,); infinite where it is equal."""
    return -10 * mse_outside(source, result, mask).log10()


def mse_pie(source: torch.Tensor, result: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """PIE-Bench: mean squared error of both images times (1 - mask), over the whole frame, (B,)."""
    check(source, result, mask)
    kept = 1 - mask.float()
    value = (kept * source - kept * result).square().flatten(1).mean(1)
    return torch.where(kept.flatten(1).sum(1) > 0, value, torch.nan)


def psnr_pie(source: torch.Tensor, result: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """PIE-Bench: PSNR of `mse_pie` in dB, (B,)."""
    return -10 * mse_pie(source, result, mask).log10()


def ssim_map(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Structural similarity per pixel: Gaussian window of 11 with sigma 1.5, data range 1, (B, 3, H, W).

    Raises:
        SettingError: If the images are smaller than the window.
    """
    if min(first.shape[-2:]) < 11:
        raise SettingError(f"SSIM needs images of at least 11 x 11; got {tuple(first.shape[-2:])}.")
    x = torch.arange(-5, 6, dtype=first.dtype, device=first.device)
    window = torch.exp(-x.square() / (2 * 1.5**2))
    window = window / window.sum()
    kernel = torch.outer(window, window).expand(first.shape[1], 1, 11, 11)

    def blur(value: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(value, (5, 5, 5, 5), mode="reflect"), kernel, groups=value.shape[1])

    a, b = blur(first), blur(second)
    aa, bb, ab = blur(first * first) - a * a, blur(second * second) - b * b, blur(first * second) - a * b
    c1, c2 = 0.01**2, 0.03**2
    return (2 * a * b + c1) * (2 * ab + c2) / ((a * a + b * b + c1) * (aa + bb + c2))


def ssim_outside(source: torch.Tensor, result: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `ssim_map` over the background's pixels, (B,). Windows at its edge see a little of the edit."""
    check(source, result, mask)
    kept = (1 - mask.float()).expand_as(source)
    return (kept * ssim_map(source, result)).flatten(1).sum(1) / kept.flatten(1).sum(1)


def ssim_pie(source: torch.Tensor, result: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """PIE-Bench: SSIM of both images times (1 - mask), over the frame without its outermost 5 pixels, (B,).

    That border, where windows extend beyond the image, is cut off by torchmetrics, which PIE-Bench uses.
    """
    check(source, result, mask)
    kept = 1 - mask.float()
    value = ssim_map(kept * source, kept * result)[..., 5:-5, 5:-5].flatten(1).mean(1)
    return torch.where(kept.flatten(1).sum(1) > 0, value, torch.nan)


def self_similarity(features: torch.Tensor) -> torch.Tensor:
    """Cosine of every place with every other, (B, N, N), from a grid of features (B, C, h, w)."""
    places = F.normalize(features.flatten(2), dim=1)
    return places.transpose(1, 2) @ places


def structure_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the self-similarity of two grids of features (B, C, h, w): (B,).

    With the keys of DINO ViT-B/8 as features this is PIE-Bench's structure distance (`ditlens.metrics.networks`);
    here the features are whatever is passed, and the name of the metric has to say which.
    """
    return (self_similarity(first) - self_similarity(second)).square().flatten(1).mean(1)


_MASK = "mask 1 = may change"
METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("psnr_outside", "PSNR outside the mask", "higher", "dB",
               f"PSNR over background pixels only; range 1; {_MASK}; v2", psnr_outside),
        Metric("ssim_outside", "SSIM outside the mask", "higher", "",
               f"SSIM map (Gaussian 11, sigma 1.5, range 1, reflect) averaged over background pixels; {_MASK}; v2",
               ssim_outside),
        Metric("psnr_pie", "PSNR, PIE-Bench's convention", "higher", "dB",
               f"PSNR over the whole frame of pictures times (1 - mask); range 1; {_MASK}; v2", psnr_pie),
        Metric("ssim_pie", "SSIM, PIE-Bench's convention", "higher", "",
               "SSIM (Gaussian 11, sigma 1.5, range 1, border of 5 cut off) of pictures times (1 - mask); "
               f"{_MASK}; v2",
               ssim_pie),
    )
}  # fmt: skip
"""The metrics that need no weights."""
