"""Rectified-flow maths and the sampling and inversion loops, written out to be read.

The convention of the whole package, for data ``clean`` and ``noise ~ N(0, 1)``::

    latents(sigma) = (1 - sigma) * clean + sigma * noise        sigma in [0, 1]; 0 is clean, 1 is pure noise
    velocity       = E[noise - clean | latents]                  what the model predicts: d latents / d sigma

`sigma` is written t in most papers. It is not a timestep: SD3 is fed ``timestep = 1000 * sigma``, and the
field that wraps a model does that multiplication, and no other code.

This file knows no model. It needs a `VelocityField`, which may be a diffusion transformer or a closed form
(`ditlens.worlds.analytic`), and treats its text as opaque: something with a batch axis that can be joined,
repeated and compared. All loops add up in float32 (or float64 when given float64), whatever the model uses.

The examples use the Gaussian world, in which a text is the mean of the images that it describes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ditlens.arguments import COUNT, takes
from ditlens.errors import SettingError

Latents: TypeAlias = Float[Tensor, "batch channels height width"]
"""Latents, and the noise and velocities that are added to them."""
Row: TypeAlias = Float[Tensor, "_ channels height width"]
"""Latents that are evaluated together with others, of which there may be more or fewer."""
Mask: TypeAlias = Float[Tensor, "#batch 1 height width"]
"""Where latents may change, in [0, 1]: one for all items, or one each."""
Sigma: TypeAlias = float | Float[Tensor, ""] | Float[Tensor, " batch"]
"""A noise level in [0, 1]: one number, or one for each item of the batch."""
Guidance: TypeAlias = float | Float[Tensor, "batch 1 1 1"]
"""Strength of guidance, one number or one for each item of the batch (see `per_item`)."""

# --- texts -------------------------------------------------------------------------------------------------


@runtime_checkable
class TextBatch(Protocol):
    """A batch of text conditions, e.g. `ditlens.models.embedding.TextEmbedding`."""

    @classmethod
    def cat(cls, texts: Sequence[Any]) -> Any:
        """Join along the batch axis."""

    def expand(self, batch: int) -> Any:
        """Repeat a single text `batch` times; a batch of that size is returned as it is."""

    def equal(self, other: Any) -> Bool[Tensor, " batch"]:
        """Say, for every item, whether both texts are the same bit for bit."""


Text: TypeAlias = Float[Tensor, "_ ..."] | TextBatch
"""Either a `TextBatch`, or a plain tensor (1 or batch, ...), as in the analytic worlds (there: the mean)."""


def cat_texts(texts: Sequence[Text]) -> Any:
    """Join texts along the batch axis.

    >>> dl.flow.cat_texts([torch.zeros(1, 3, 1, 1), torch.ones(2, 3, 1, 1)]).shape
    torch.Size([3, 3, 1, 1])
    """
    if isinstance(texts[0], Tensor):
        return torch.cat([text for text in texts if isinstance(text, Tensor)])
    return texts[0].cat(texts)


def expand_text(text: Text, batch: int) -> Any:
    """Repeat one text for a batch of latents.

    >>> dl.flow.expand_text(torch.zeros(1, 3, 1, 1), 4).shape
    torch.Size([4, 3, 1, 1])

    Raises:
        SettingError: If there are neither 1 nor `batch` texts.
    """
    if not isinstance(text, Tensor):
        return text.expand(batch)
    if text.ndim == 0 or text.shape[0] not in (1, batch):
        raise SettingError(
            f"A text of shape {tuple(text.shape)} does not fit {batch} latents: the first axis is the batch. "
            f"Give 1 or {batch} texts, for one mean in a world of shape (B, C, H, W): (1, C, 1, 1)."
        )
    return text.expand(batch, *text.shape[1:])


def equal_texts(first: Text, second: Text) -> Bool[Tensor, " texts"]:
    """Say, for every item of two batches of equal size, whether both texts agree bit for bit.

    >>> dl.flow.equal_texts(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]]))
    tensor([ True, False])
    """
    if not isinstance(first, Tensor):
        return first.equal(second)
    if not isinstance(second, Tensor):
        raise SettingError(f"Cannot compare a tensor with a {type(second).__name__}; use one kind of text.")
    return (first == second).flatten(1).all(1)


# --- one point of the flow ---------------------------------------------------------------------------------


def check_sigma(sigma: float | Float[Tensor, " ..."]) -> None:
    """Refuse noise levels outside [0, 1].

    >>> dl.flow.check_sigma(500)
    Traceback (most recent call last):
    ditlens.errors.SettingError: sigma must lie in [0, 1] (0 clean, 1 noise); got 500. The usual ...

    Raises:
        SettingError: If any sigma is out of range or not a number; the usual cause is passing a timestep.
    """
    levels = sigma.flatten().tolist() if isinstance(sigma, Tensor) else [sigma]
    if not all(0 <= level <= 1 for level in levels):  # false for NaN, too
        found = " to ".join(dict.fromkeys(f"{level:g}" for level in (min(levels), max(levels))))
        raise SettingError(
            f"sigma must lie in [0, 1] (0 clean, 1 noise); got {found}. "
            "The usual cause is passing a timestep: divide it by 1000, or use model.sigmas(steps)."
        )


def per_item(values: float | Shaped[Tensor, " ..."], like: Latents) -> Any:
    """Shape one number per item, (batch,), as (batch, 1, 1, 1) so that it multiplies latents; leave a float.

    >>> dl.flow.per_item(torch.tensor([0.5, 1.0]), like=torch.zeros(2, 3, 4, 4)).shape
    torch.Size([2, 1, 1, 1])
    """
    if not isinstance(values, Tensor):
        return values
    if values.dtype != torch.bool:
        values = values.to(like.dtype)
    return values.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def interpolate(clean: Latents, noise: Latents, sigma: Sigma) -> Latents:
    """Mix clean latents with noise: ``(1 - sigma) * clean + sigma * noise``.

    >>> dl.flow.interpolate(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), sigma=0.25)
    tensor([[[[0.2500]]]])

    Args:
        clean: Clean latents.
        noise: Standard normal noise.
        sigma: Noise level in [0, 1], one number or one per item.

    Raises:
        SettingError: If sigma is out of range.
    """
    check_sigma(sigma)
    sigma = per_item(sigma, clean)
    return (1 - sigma) * clean + sigma * noise


def predict_clean(latents: Latents, velocity: Latents, sigma: Sigma) -> Latents:
    """Estimate the clean latents that this velocity points to: ``latents - sigma * velocity``.

    >>> dl.flow.predict_clean(torch.full((1, 1, 1, 1), 0.25), torch.ones(1, 1, 1, 1), sigma=0.25)
    tensor([[[[0.]]]])

    Args:
        latents: Noisy latents.
        velocity: Velocity at these latents.
        sigma: Their noise level in [0, 1], one number or one per item.

    Raises:
        SettingError: If sigma is out of range.
    """
    check_sigma(sigma)
    return latents - per_item(sigma, latents) * velocity


def predict_noise(latents: Latents, velocity: Latents, sigma: Sigma) -> Latents:
    """Estimate the noise inside the latents: ``latents + (1 - sigma) * velocity``.

    >>> dl.flow.predict_noise(torch.full((1, 1, 1, 1), 0.25), torch.ones(1, 1, 1, 1), sigma=0.25)
    tensor([[[[1.]]]])

    Args and errors are those of `predict_clean`.
    """
    check_sigma(sigma)
    return latents + (1 - per_item(sigma, latents)) * velocity


def score(latents: Latents, velocity: Latents, sigma: Sigma) -> Latents:
    """Gradient of the log density of noisy latents: ``-(latents + (1 - sigma) * velocity) / sigma``.

    >>> dl.flow.score(torch.full((1, 1, 1, 1), 0.25), torch.ones(1, 1, 1, 1), sigma=0.25)
    tensor([[[[-4.]]]])

    Args and errors are those of `predict_clean`; in addition sigma must not be 0, where this divides by 0.
    """
    noise = predict_noise(latents, velocity, sigma)
    if not (sigma.all() if isinstance(sigma, Tensor) else sigma):
        raise SettingError("The score needs sigma > 0: at sigma 0 the velocity does not determine it.")
    return -noise / per_item(sigma, latents)


def guide(uncond: Latents, cond: Latents, guidance: Guidance) -> Latents:
    """Classifier-free guidance: ``uncond + guidance * (cond - uncond)``; 1 is `cond`, 0 is `uncond`.

    >>> dl.flow.guide(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0), guidance=7.0)
    tensor([[[[15.]]]])
    """
    return uncond + guidance * (cond - uncond)


def normal(shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, " ..."]:
    """Standard normal numbers from a generator on the CPU: float32 there, whatever PyTorch's defaults are.

    >>> dl.flow.normal((2,), torch.Generator().manual_seed(0))
    tensor([ 1.5410, -0.2934])
    """
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu")


def seeded_noise(generators: Sequence[torch.Generator], like: Latents) -> Latents:
    """Draw noise for a batch, one CPU generator per item.

    So an item's noise depends on its own seed alone: neither on the batch around it nor on the device.

    >>> both = dl.flow.seeded_noise(dl.flow.seeded_generators([3, 7], 2), torch.zeros(2, 4, 8, 8))
    >>> alone = dl.flow.seeded_noise(dl.flow.seeded_generators([7], 1), torch.zeros(1, 4, 8, 8))
    >>> torch.equal(both[1], alone[0])
    True

    Args:
        generators: One per item, on the CPU.
        like: Latents that set shape, dtype and device.

    Raises:
        SettingError: If there is not one generator per item.
    """
    if len(generators) != like.shape[0]:
        raise SettingError(f"Got {len(generators)} seeds for {like.shape[0]} latents; give one per item.")
    draws = [normal(like.shape[1:], generator) for generator in generators]
    return torch.stack(draws).to(like)


def seed_of(seed: int) -> int:
    """A seed as a Python int; numpy's and torch's whole numbers are seeds, too.

    Raises:
        SettingError: If it is anything else, or does not fit into 63 bits.

    Example:
        >>> seed_of(3)
        3
    """
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise SettingError(f"seed is {seed!r}; give a whole number from 0 to 2**63 - 1, e.g. seed=0.")
    return number


def generator_of(seed: int) -> torch.Generator:
    """A generator on the CPU, another one for each seed from 0 to 2**63 - 1.

    PyTorch reads the last 32 bits of a seed only: with 3 and 2**32 + 3 it draws the same. Larger seeds are
    therefore hashed to 32 bits first.

    >>> [dl.flow.generator_of(seed).initial_seed() for seed in (3, 2**32 + 3)]
    [3, 2977988308]
    """
    number = seed_of(seed)
    if number >= 2**32:
        number = int.from_bytes(hashlib.sha256(number.to_bytes(8, "big")).digest()[:4], "big")
    return torch.Generator().manual_seed(number)


def seeded_generators(seeds: Sequence[int] | None, batch: int) -> list[torch.Generator]:
    """Make one CPU generator per seed; None stands for the seeds 0, 1, ..., batch - 1.

    >>> [generator.initial_seed() for generator in dl.flow.seeded_generators(None, 3)]
    [0, 1, 2]
    """
    return [generator_of(seed) for seed in (range(batch) if seeds is None else seeds)]


# --- evaluating a model ------------------------------------------------------------------------------------


@runtime_checkable
class VelocityField(Protocol):
    """Anything that predicts velocities: a wrapped diffusion transformer, or a closed form."""

    def __call__(self, latents: Latents, sigma: float, text: Any) -> Latents:
        """Return the velocity of latents at one sigma in [0, 1], for as many texts."""


def evaluate(field: VelocityField, sigma: float, rows: Sequence[tuple[Row, Text]]) -> tuple[Row, ...]:
    """Evaluate several (latents, text) rows at one sigma in ONE call of the field.

    >>> from ditlens.worlds.analytic import GaussianWorld
    >>> x, text = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    >>> dl.flow.evaluate(GaussianWorld(), 1.0, [(x, text), (x, 2 * text)])
    (tensor([[[[-1.]]]]), tensor([[[[-2.]]]]))

    Args:
        field: The velocity field.
        sigma: Noise level in [0, 1] of all rows.
        rows: Pairs of latents and their text (1 or as many).

    Returns:
        One velocity per row, in the dtype of the latents.

    Raises:
        SettingError: If sigma is out of range or a text does not fit its latents.
    """
    check_sigma(sigma)
    latents = torch.cat([points for points, _ in rows])
    texts = cat_texts([expand_text(text, points.shape[0]) for points, text in rows])
    return field(latents, sigma, texts).to(latents.dtype).split([len(points) for points, _ in rows])


def embedded_guidance(text: Any, guidance: float | Float[Tensor, " batch"]) -> Any:
    """The text with its guidance noted on it, for a guidance-distilled model; None for others.

    >>> flux_text = dl.TextEmbedding(torch.zeros(1, 5, 8), torch.zeros(1, 6), guidance=(3.5,))
    >>> dl.flow.embedded_guidance(flux_text, 5.5).guidance
    (5.5,)
    """
    return text.at_guidance(guidance) if getattr(text, "guidance", None) is not None else None


def guidance_texts(text: Text, null_text: Text | None, guidance: float) -> list[Text]:
    """List the texts that guidance has to evaluate: [text] for 1, [null] for 0, else [null, text].

    A guidance-distilled model embeds the number instead: then it is [text], with the guidance noted on it.

    >>> text, null = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    >>> [len(dl.flow.guidance_texts(text, null, guidance)) for guidance in (0, 1, 7)]
    [1, 1, 2]

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


def merge_guidance(velocities: Sequence[Latents], guidance: Guidance) -> Latents:
    """Combine the velocities of `guidance_texts`.

    >>> dl.flow.merge_guidance([torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)], 7.0)
    tensor([[[[7.]]]])
    """
    return velocities[0] if len(velocities) == 1 else guide(velocities[0], velocities[1], guidance)


def guided_velocity(
    field: VelocityField,
    latents: Latents,
    sigma: float,
    text: Text,
    null_text: Text | None = None,
    guidance: float = 1.0,
) -> Latents:
    """Evaluate the velocity with classifier-free guidance, in one call.

    >>> from ditlens.worlds.analytic import GaussianWorld
    >>> x, text, null = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    >>> dl.flow.guided_velocity(GaussianWorld(), x, 1.0, text, null, guidance=3.0)
    tensor([[[[-3.]]]])

    Args:
        field: The velocity field.
        latents: Noisy latents.
        sigma: Their noise level in [0, 1].
        text: The prompt: one, or one for each item.
        null_text: The empty prompt; needed unless guidance is 1.
        guidance: 1 evaluates `text` only, 0 `null_text` only, any other value both: one batch [null; text].

    Returns:
        The velocity, in the dtype of the latents.

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
        latents: The latents now.
        clean: The clean latents that the step's velocity pointed to, for previews.
    """

    step: int
    sigma: float
    latents: Latents = dataclasses.field(repr=False)
    clean: Latents = dataclasses.field(repr=False)


@takes(steps=COUNT)
def sigmas_linear(steps: int) -> Float[Tensor, " {steps}+1"]:
    """Equidistant noise levels from 1 to 0. Real models shift theirs: ask their scheduler.

    >>> dl.flow.sigmas_linear(4)
    tensor([1.0000, 0.7500, 0.5000, 0.2500, 0.0000])

    Raises:
        SettingError: If steps is smaller than 1.
    """
    return torch.linspace(1, 0, steps + 1, dtype=torch.float32, device="cpu")


def check_sigmas(sigmas: Float[Tensor, " ..."]) -> list[float]:
    """Return the grid as floats, or refuse one that is not 1-D, strictly decreasing, in [0, 1], ending in 0.

    >>> dl.flow.check_sigmas(torch.tensor([1.0, 0.5, 0.0]))
    [1.0, 0.5, 0.0]

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

    >>> dl.flow.first_active(28, 0.75)
    7

    Raises:
        SettingError: If active is not in (0, 1].
    """
    if not 0 < active <= 1:
        raise SettingError(f"The active share of the steps must lie in (0, 1]; got {active:g}.")
    return math.floor(steps - steps * active + 1e-9)  # 1e-9: 28 * (24 / 28) must count as 24


def accumulator(latents: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Cast to the dtype in which loops add up: float32, or float64 if it came as that.

    >>> dl.flow.accumulator(torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return latents.to(torch.promote_types(latents.dtype, torch.float32))


def euler_step(latents: Latents, velocity: Latents, sigma: float, next_sigma: float) -> Latents:
    """Follow the velocity from sigma to next_sigma: downwards samples, upwards inverts.

    >>> dl.flow.euler_step(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0), 1.0, 0.75)
    tensor([[[[0.5000]]]])
    """
    return latents + (next_sigma - sigma) * velocity


def integrate(
    field: VelocityField,
    latents: Latents,
    sigmas: Sequence[float],
    text: Text,
    null_text: Text | None,
    guidance: float,
) -> Iterator[FlowState]:
    """Take one Euler step per pair of neighbouring sigmas, in either direction: all loops are this one.

    >>> from ditlens.worlds.analytic import GaussianWorld
    >>> x, text = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    >>> [state.sigma for state in dl.flow.integrate(GaussianWorld(), x, [0, 0.5, 1], text, None, 1.0)]
    [0.5, 1]
    """
    latents = accumulator(latents)
    for step, (sigma, next_sigma) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        with torch.no_grad():
            velocity = guided_velocity(field, latents, sigma, text, null_text, guidance)
            clean = predict_clean(latents, velocity, sigma)
            latents = euler_step(latents, velocity, sigma, next_sigma)
        yield FlowState(step, next_sigma, latents, clean)


def iter_sample(
    field: VelocityField,
    noise: Latents,
    sigmas: Float[Tensor, " ..."],
    text: Text,
    *,
    null_text: Text | None = None,
    guidance: float = 1.0,
) -> Iterator[FlowState]:
    """Sample step by step: yields after every step, and stops when you stop iterating.

    >>> from ditlens.worlds.analytic import GaussianWorld
    >>> noise, text = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0)
    >>> for state in dl.flow.iter_sample(GaussianWorld(), noise, dl.flow.sigmas_linear(2), text):
    ...     print(state.step, state.sigma, state.latents.item(), state.clean.item())
    0 0.5 1.0 2.0
    1 0.0 2.0 2.0

    Args:
        field: The velocity field.
        noise: Latents at sigmas[0]: pure noise if that is 1, else from `interpolate`.
        sigmas: Noise levels, (steps + 1,), strictly decreasing, ending in 0.
        text: The prompt: one, or one for each item.
        null_text: The empty prompt; needed unless guidance is 1.
        guidance: Classifier-free guidance, see `guided_velocity`.

    Returns:
        An iterator of `FlowState`; the last one's `latents` are the sample.

    Raises:
        SettingError: If the grid or, at the first step, a text or the guidance does not fit.
    """
    return integrate(field, noise, check_sigmas(sigmas), text, null_text, guidance)


def finish(states: Iterator[FlowState], on_step: Callable[[FlowState], object] | None = None) -> Latents:
    """Run a loop to its end, showing every state to `on_step`, and return its last latents.

    >>> from ditlens.worlds.analytic import GaussianWorld
    >>> noise, text = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0)
    >>> dl.flow.finish(dl.flow.iter_sample(GaussianWorld(), noise, dl.flow.sigmas_linear(2), text))
    tensor([[[[2.]]]])
    """
    for state in states:
        if on_step is not None:
            on_step(state)
    return state.latents


def sample(
    field: VelocityField,
    noise: Latents,
    sigmas: Float[Tensor, " ..."],
    text: Text,
    *,
    null_text: Text | None = None,
    guidance: float = 1.0,
    on_step: Callable[[FlowState], object] | None = None,
) -> Latents:
    """Integrate the flow from noise to clean latents with Euler steps.

    >>> from ditlens.worlds.analytic import GaussianWorld
    >>> noise, text = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0)
    >>> dl.flow.sample(GaussianWorld(), noise, dl.flow.sigmas_linear(4), text)
    tensor([[[[2.]]]])

    Args and errors are those of `iter_sample`; `on_step` sees the `FlowState` after every step.
    """
    return finish(iter_sample(field, noise, sigmas, text, null_text=null_text, guidance=guidance), on_step)


def invert(
    field: VelocityField,
    clean: Latents,
    sigmas: Float[Tensor, " ..."],
    text: Text,
    *,
    null_text: Text | None = None,
    guidance: float = 1.0,
    on_step: Callable[[FlowState], object] | None = None,
) -> Latents:
    """Integrate the flow backwards, from clean latents (sigma 0) to the noise behind them.

    >>> from ditlens.worlds.analytic import GaussianWorld
    >>> clean, text = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 2.0)
    >>> dl.flow.invert(GaussianWorld(), clean, dl.flow.sigmas_linear(4), text)
    tensor([[[[0.]]]])

    Trap: keep guidance at 1. A guided field is not the flow whose noise is Gaussian, so inverting with
    guidance gives noise off its distribution, and sampling with another guidance does not lead back.
    Even at guidance 1, Euler steps there and back agree only up to an error of order 1 / steps.

    Args and errors are those of `sample`, with `clean` for the latents at sigma 0. The grid is the same
    decreasing one; it is walked backwards.
    """
    return finish(integrate(field, clean, check_sigmas(sigmas)[::-1], text, null_text, guidance), on_step)
