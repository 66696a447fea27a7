"""Two editing baselines that need nothing but the loops of `ditlens.flow`.

Both return edited clean latents. Cost: `sdedit` active * N evaluations per picture, twice that with guidance;
`ddib` N for the inversion plus N for the sampling, or 2 N for that with guidance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ditlens import flow
from ditlens.flow import Text, VelocityField


def sdedit(
    field: VelocityField,
    latents: torch.Tensor,
    target_text: Text,
    sigmas: torch.Tensor,
    *,
    active: float = 0.6,
    null_text: Text | None = None,
    guidance: float = 1.0,
    seeds: Sequence[int] | None = None,
) -> torch.Tensor:
    """Add noise up to the middle of the grid, then sample with the target text (SDEdit, img2img).

    Args:
        field: The velocity field.
        latents: Clean latents of the source pictures, (B, C, H, W).
        target_text: Describes the wanted pictures (1 or B).
        sigmas: Noise levels (steps + 1,), strictly decreasing, ending in 0.
        active: Share of the steps to run, in (0, 1]: the `strength` of diffusers. It counts steps, not sigma:
            on a shifted grid 0.6 starts at a sigma well above 0.6.
        null_text: The empty prompt; needed unless guidance is 1.
        guidance: Classifier-free guidance.
        seeds: One seed per item for its noise; None means 0, 1, ..., B - 1.

    Raises:
        SettingError: If the grid, the share, the seeds or a text does not fit.
    """
    flow.check_sigmas(sigmas)
    remaining = sigmas[flow.first_active(len(sigmas) - 1, active) :]
    clean = flow.accumulator(latents)
    noise = flow.seeded_noise(flow.seeded_generators(seeds, len(clean)), clean)
    start = flow.interpolate(clean, noise, float(remaining[0]))
    return flow.sample(field, start, remaining, target_text, null_text=null_text, guidance=guidance)


def ddib(
    field: VelocityField,
    latents: torch.Tensor,
    source_text: Text,
    target_text: Text,
    sigmas: torch.Tensor,
    *,
    null_text: Text | None = None,
    guidance: float = 1.0,
) -> torch.Tensor:
    """Invert with the source text (without guidance), then sample with the target text (dual flow, DDIB).

    Args:
        field: The velocity field.
        latents: Clean latents of the source pictures, (B, C, H, W).
        source_text: Describes the pictures (1 or B).
        target_text: Describes the wanted pictures (1 or B).
        sigmas: Noise levels (steps + 1,), strictly decreasing from 1 to 0; used in both directions.
        null_text: The empty prompt; needed unless guidance is 1.
        guidance: Classifier-free guidance of the sampling.

    Raises:
        SettingError: If the grid or a text does not fit.
    """
    noise = flow.invert(field, latents, sigmas, source_text)
    return flow.sample(field, noise, sigmas, target_text, null_text=null_text, guidance=guidance)
