"""Rectified-flow maths and the sampling and inversion loops, written out to be read.

The convention of the whole package, for data ``clean`` and ``noise ~ N(0, 1)``::

    latents(sigma) = (1 - sigma) * clean + sigma * noise        sigma in [0, 1]; 0 is clean, 1 is pure noise
    velocity       = E[noise - clean | latents]                  what the model predicts: d latents / d sigma

`sigma` is written t in most papers. It is not a timestep: SD3 is fed ``timestep = 1000 * sigma``, and the
field that wraps a model does that multiplication, nobody else.

This file knows no model. It needs a `VelocityField`, which may be a diffusion transformer or a closed form
(`ditlens.worlds.analytic`), and treats its text as opaque: something with a batch axis that can be joined,
repeated and compared. All loops add up in float32 (or float64 when given float64), whatever the model uses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch

from ditlens.errors import SettingError

# --- texts -------------------------------------------------------------------------------------------------


@runtime_checkable
class TextBatch(Protocol):
    """A batch of text conditions, e.g. `ditlens.models.embedding.TextEmbedding`."""

    @classmethod
    def cat(cls, texts: Sequence[Any]) -> Any:
        """Join along the batch axis."""

    def expand(self, batch: int) -> Any:
        """Repeat a single text `batch` times; a batch of that size is returned as it is."""

    def equal(self, other: Any) -> torch.Tensor:
        """Say, for every item, whether both texts are the same bit for bit: (B,) bool."""


Text: TypeAlias = "torch.Tensor | TextBatch"
"""Either a `TextBatch`, or a plain tensor (1 or B, ...), as in the analytic worlds (there: the mean)."""


def cat_texts(texts: Sequence[Text]) -> Any:
    """Join texts along the batch axis."""
    if isinstance(texts[0], torch.Tensor):
        return torch.cat([text for text in texts if isinstance(text, torch.Tensor)])
    return texts[0].cat(texts)


def expand_text(text: Text, batch: int) -> Any:
    """Repeat one text for a batch of latents.

    Raises:
        SettingError: If there are neither 1 nor `batch` texts.
    """
    if not isinstance(text, torch.Tensor):
        return text.expand(batch)
    if text.ndim == 0 or text.shape[0] not in (1, batch):
        raise SettingError(
            f"A text of shape {tuple(text.shape)} does not fit {batch} latents: the first axis is the batch. "
            f"Give 1 or {batch} texts, for one mean in a world of shape (B, C, H, W): (1, C, 1, 1)."
        )
    return text.expand(batch, *text.shape[1:])


def equal_texts(first: Text, second: Text) -> torch.Tensor:
    """Say, for every item of two batches of equal size, whether both texts agree bit for bit: (B,) bool."""
    if not isinstance(first, torch.Tensor):
        return first.equal(second)
    if not isinstance(second, torch.Tensor):
        raise SettingError(f"Cannot compare a tensor with a {type(second).__name__}; use one kind of text.")
    return (first == second).flatten(1).all(1)


# --- one point of the flow ---------------------------------------------------------------------------------


def check_sigma(sigma: float | torch.Tensor) -> None:
    """Refuse noise levels outside [0, 1].

    Raises:
        SettingError: If any sigma is out of range or not a number; the usual cause is passing a timestep.
    """
    levels = torch.as_tensor(sigma)
    lowest, highest = float(levels.min()), float(levels.max())
    if not (lowest >= 0 and highest <= 1):  # "not" also catches NaN
        raise SettingError(
            f"sigma must lie in [0, 1] (0 clean, 1 noise); got {lowest:g} to {highest:g}. "
            "The usual cause is passing a timestep: divide it by 1000, or use scheduler.sigmas."
        )


def per_item(values: float | torch.Tensor, like: torch.Tensor) -> Any:
    """Shape one number per item, (B,), as (B, 1, 1, 1) so that it multiplies latents; leave a float."""
    if not isinstance(values, torch.Tensor):
        return values
    if values.dtype != torch.bool:
        values = values.to(like.dtype)
    return values.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def interpolate(clean: torch.Tensor, noise: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """Mix clean latents with noise: ``(1 - sigma) * clean + sigma * noise``.

    Args:
        clean: Clean latents, (B, C, H, W).
        noise: Standard normal noise, same shape.
        sigma: Noise level in [0, 1], one number or one per item (B,).

    Raises:
        SettingError: If sigma is out of range.
    """
    check_sigma(sigma)
    sigma = per_item(sigma, clean)
    return (1 - sigma) * clean + sigma * noise


def predict_clean(latents: torch.Tensor, velocity: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """Estimate the clean latents that this velocity points to: ``latents - sigma * velocity``.

    Args:
        latents: Noisy latents, (B, C, H, W).
        velocity: Velocity at these latents, same shape.
        sigma: Their noise level in [0, 1], one number or one per item (B,).

    Raises:
        SettingError: If sigma is out of range.
    """
    check_sigma(sigma)
    return latents - per_item(sigma, latents) * velocity


def predict_noise(latents: torch.Tensor, velocity: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """Estimate the noise inside the latents: ``latents + (1 - sigma) * velocity``.

    Args and errors are those of `predict_clean`.
    """
    check_sigma(sigma)
    return latents + (1 - per_item(sigma, latents)) * velocity


def score(latents: torch.Tensor, velocity: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """Gradient of the log density of noisy latents: ``-(latents + (1 - sigma) * velocity) / sigma``.

    Args and errors are those of `predict_clean`; in addition sigma must not be 0, where this divides by 0.
    """
    noise = predict_noise(latents, velocity, sigma)
    if bool((torch.as_tensor(sigma) == 0).any()):
        raise SettingError("The score needs sigma > 0: at sigma 0 the velocity does not determine it.")
    return -noise / per_item(sigma, latents)


def guide(uncond: torch.Tensor, cond: torch.Tensor, guidance: float | torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance: ``uncond + guidance * (cond - uncond)``; 1 is `cond`, 0 is `uncond`."""
    return uncond + guidance * (cond - uncond)


def seeded_noise(generators: Sequence[torch.Generator], like: torch.Tensor) -> torch.Tensor:
    """Draw noise for a batch, one CPU generator per item.

    So an item's noise depends on its own seed alone: neither on the batch around it nor on the device.

    Args:
        generators: One per item, on the CPU.
        like: Latents (B, C, H, W) that set shape, dtype and device.

    Raises:
        SettingError: If there is not one generator per item.
    """
    if len(generators) != like.shape[0]:
        raise SettingError(f"Got {len(generators)} seeds for {like.shape[0]} latents; give one per item.")
    draws = [torch.randn(like.shape[1:], generator=generator) for generator in generators]
    return torch.stack(draws).to(like)


def seeded_generators(seeds: Sequence[int] | None, batch: int) -> list[torch.Generator]:
    """Make one CPU generator per seed; None stands for the seeds 0, 1, ..., batch - 1."""
    return [torch.Generator().manual_seed(seed) for seed in (range(batch) if seeds is None else seeds)]


# --- evaluating a model ------------------------------------------------------------------------------------


class VelocityField(Protocol):
    """Anything that predicts velocities: a wrapped diffusion transformer, or a closed form."""

    def __call__(self, latents: torch.Tensor, sigma: float, text: Any) -> torch.Tensor:
        """Return the velocity (B, C, H, W) of latents (B, C, H, W) at one sigma in [0, 1], for B texts."""


def evaluate(
    field: VelocityField, sigma: float, rows: Sequence[tuple[torch.Tensor, Text]]
) -> tuple[torch.Tensor, ...]:
    """Evaluate several (latents, text) rows at one sigma in ONE call of the field.

    Args:
        field: The velocity field.
        sigma: Noise level in [0, 1] of all rows.
        rows: Pairs of latents (B, C, H, W) and their text (1 or B).

    Returns:
        One velocity (B, C, H, W) per row, in the dtype of the latents.

    Raises:
        SettingError: If sigma is out of range or a text does not fit its latents.
    """
    check_sigma(sigma)
    latents = torch.cat([points for points, _ in rows])
    texts = cat_texts([expand_text(text, points.shape[0]) for points, text in rows])
    return field(latents, sigma, texts).to(latents.dtype).chunk(len(rows))


def embedded_guidance(text: Any, guidance: float | torch.Tensor) -> Any:
    """The text with its guidance noted on it, for a guidance-distilled model; None for others."""
    return text.at_guidance(guidance) if getattr(text, "guidance", None) is not None else None


def guidance_texts(text: Text, null_text: Text | None, guidance: float) -> list[Text]:
    """List the texts that guidance has to evaluate: [text] for 1, [null] for 0, else [null, text].

    A guidance-distilled model is told the number instead: then it is [text], with the guidance noted on it.

    Raises:
        SettingError: If guidance is not 1 and there is no null text.
    """
    if (noted := embedded_guidance(text, guidance)) is not None:
        return [noted]
    if guidance == 1:
        return [text]
    if null_text is None:
        raise SettingError(f"guidance {guidance:g} needs null_text (the empty prompt); or use guidance 1.")
    return [null_text] if guidance == 0 else [null_text, text]


def merge_guidance(velocities: Sequence[torch.Tensor], guidance: float | torch.Tensor) -> torch.Tensor:
    """Combine the velocities of `guidance_texts`."""
    return velocities[0] if len(velocities) == 1 else guide(velocities[0], velocities[1], guidance)


def guided_velocity(
    field: VelocityField,
    latents: torch.Tensor,
    sigma: float,
    text: Text,
    null_text: Text | None = None,
    guidance: float = 1.0,
) -> torch.Tensor:
    """Evaluate the velocity with classifier-free guidance, in one call.

    Args:
        field: The velocity field.
        latents: Noisy latents (B, C, H, W).
        sigma: Their noise level in [0, 1].
        text: The prompt (1 or B).
        null_text: The empty prompt; needed unless guidance is 1.
        guidance: 1 evaluates `text` only, 0 `null_text` only, any other value both: one batch [null; text].

    Returns:
        Velocity (B, C, H, W), in the dtype of the latents.

    Raises:
        SettingError: If sigma is out of range, the null text is missing, or a text does not fit the latents.
    """
    texts = guidance_texts(text, null_text, guidance)
    return merge_guidance(evaluate(field, sigma, [(latents, each) for each in texts]), guidance)


# --- loops -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class FlowState:
    """Where a loop stands after a step.

    Attributes:
        step: Index of the step just made, 0 to steps - 1.
        sigma: Noise level of `latents` now.
        latents: (B, C, H, W).
        clean: The clean latents that the step's velocity pointed to, for previews; same shape.
    """

    step: int
    sigma: float
    latents: torch.Tensor = dataclasses.field(repr=False)
    clean: torch.Tensor = dataclasses.field(repr=False)


def sigmas_linear(steps: int) -> torch.Tensor:
    """Equidistant noise levels from 1 to 0, (steps + 1,). Real models shift theirs: ask their scheduler.

    Raises:
        SettingError: If steps is smaller than 1.
    """
    if steps < 1:
        raise SettingError(f"steps must be at least 1; got {steps}.")
    return torch.linspace(1, 0, steps + 1)


def check_sigmas(sigmas: torch.Tensor) -> list[float]:
    """Return the grid as floats, or refuse one that is not 1-D, strictly decreasing, in [0, 1], ending in 0.

    Raises:
        SettingError: With what is wrong.
    """
    check_sigma(sigmas)
    if sigmas.ndim != 1 or len(sigmas) < 2 or bool((sigmas.diff() >= 0).any()) or float(sigmas[-1]) != 0:
        raise SettingError(
            "sigmas must be one axis of steps + 1 strictly decreasing numbers ending in 0; "
            f"got shape {tuple(sigmas.shape)}: {sigmas.flatten().tolist()[:8]}. Try sigmas_linear(28) or "
            "scheduler.sigmas (scheduler.timesteps has no final 0)."
        )
    return [float(sigma) for sigma in sigmas]


def first_active(steps: int, active: float) -> int:
    """Index of the first step to run if only the last share `active` of the steps runs (diffusers: strength).

    Raises:
        SettingError: If active is not in (0, 1].
    """
    if not 0 < active <= 1:
        raise SettingError(f"The active share of the steps must lie in (0, 1]; got {active:g}.")
    return math.floor(steps - steps * active + 1e-9)  # 1e-9: 28 * (24 / 28) must count as 24


def accumulator(latents: torch.Tensor) -> torch.Tensor:
    """Cast to the dtype in which loops add up: float32, or float64 if it came as that."""
    return latents.to(torch.promote_types(latents.dtype, torch.float32))


def euler_step(
    latents: torch.Tensor, velocity: torch.Tensor, sigma: float, next_sigma: float
) -> torch.Tensor:
    """Follow the velocity from sigma to next_sigma: downwards samples, upwards inverts."""
    return latents + (next_sigma - sigma) * velocity


@torch.no_grad()
def integrate(
    field: VelocityField,
    latents: torch.Tensor,
    sigmas: Sequence[float],
    text: Text,
    null_text: Text | None,
    guidance: float,
) -> Iterator[FlowState]:
    """Take one Euler step per pair of neighbouring sigmas, in either direction: all loops are this one."""
    latents = accumulator(latents)
    for step, (sigma, next_sigma) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        velocity = guided_velocity(field, latents, sigma, text, null_text, guidance)
        clean = predict_clean(latents, velocity, sigma)
        latents = euler_step(latents, velocity, sigma, next_sigma)
        yield FlowState(step, next_sigma, latents, clean)


def iter_sample(
    field: VelocityField,
    noise: torch.Tensor,
    sigmas: torch.Tensor,
    text: Text,
    *,
    null_text: Text | None = None,
    guidance: float = 1.0,
) -> Iterator[FlowState]:
    """Sample step by step: yields after every step, and stops when you stop iterating.

    Args:
        field: The velocity field.
        noise: Latents at sigmas[0], (B, C, H, W): pure noise if that is 1, else from `interpolate`.
        sigmas: Noise levels (steps + 1,), strictly decreasing, ending in 0.
        text: The prompt (1 or B).
        null_text: The empty prompt; needed unless guidance is 1.
        guidance: Classifier-free guidance, see `guided_velocity`.

    Returns:
        An iterator of `FlowState`; the last one's `latents` are the sample.

    Raises:
        SettingError: If the grid or, at the first step, a text or the guidance does not fit.
    """
    return integrate(field, noise, check_sigmas(sigmas), text, null_text, guidance)


def finish(states: Iterator[FlowState], on_step: Callable[[FlowState], object] | None = None) -> torch.Tensor:
    """Run a loop to its end, showing every state to `on_step`, and return its last latents."""
    for state in states:
        if on_step is not None:
            on_step(state)
    return state.latents


def sample(
    field: VelocityField,
    noise: torch.Tensor,
    sigmas: torch.Tensor,
    text: Text,
    *,
    null_text: Text | None = None,
    guidance: float = 1.0,
    on_step: Callable[[FlowState], object] | None = None,
) -> torch.Tensor:
    """Integrate the flow from noise to clean latents (B, C, H, W) with Euler steps.

    Args and errors are those of `iter_sample`; `on_step` sees the `FlowState` after every step.
    """
    return finish(iter_sample(field, noise, sigmas, text, null_text=null_text, guidance=guidance), on_step)


def invert(
    field: VelocityField,
    clean: torch.Tensor,
    sigmas: torch.Tensor,
    text: Text,
    *,
    null_text: Text | None = None,
    guidance: float = 1.0,
    on_step: Callable[[FlowState], object] | None = None,
) -> torch.Tensor:
    """Integrate the flow backwards, from clean latents (sigma 0) to the noise (B, C, H, W) behind them.

    Trap: keep guidance at 1. A guided field is not the flow whose noise is Gaussian, so inverting with
    guidance gives noise off its distribution, and sampling with another guidance does not lead back.
    Even at guidance 1, Euler steps there and back agree only up to an error of order 1 / steps.

    Args and errors are those of `sample`, with `clean` for the latents at sigma 0. The grid is the same
    decreasing one; it is walked backwards.
    """
    return finish(integrate(field, clean, check_sigmas(sigmas)[::-1], text, null_text, guidance), on_step)
