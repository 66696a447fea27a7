"""The image half of *manipulate*: one engine for the family of delta-velocity methods.

`ditlens.ems.methods` has the table of the methods with their equations and presets; here is the loop that
runs them. Symbols as there: source picture x, edited picture z, delta = z - x, noise levels t and t',
coupling eta, source point q, target point p, velocity difference Dv.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch

from ditlens import flow
from ditlens.ems.methods import CSDS as CSDS
from ditlens.ems.methods import DDS as DDS
from ditlens.ems.methods import FLOWALIGN as FLOWALIGN
from ditlens.ems.methods import FLOWEDIT as FLOWEDIT
from ditlens.ems.methods import FLOWSLIDER as FLOWSLIDER
from ditlens.ems.methods import DeltaVelocity as DeltaVelocity
from ditlens.errors import SettingError
from ditlens.flow import Text, VelocityField


@dataclasses.dataclass(frozen=True, eq=False)
class EngineState:
    """Where an edit stands after a step.

    Attributes:
        step: Index of the step just made, 0 to steps - 1.
        steps: Number of steps that this edit takes.
        sigma: Noise level t at which the step looked.
        latents: The edited clean picture z so far, (B, C, H, W).
        clean: Preview of the result, same shape: under the ode rule where Dv points to, else z itself.
        evaluations: (latents, text, sigma) triples put through the model so far, over the whole batch (NFE).
        calls: Calls of the model so far.
    """

    step: int
    steps: int
    sigma: float
    latents: torch.Tensor = dataclasses.field(repr=False)
    clean: torch.Tensor = dataclasses.field(repr=False)
    evaluations: int
    calls: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Prompts:
    """Which texts a step evaluates: `at_q` at the source point, `at_p` at the target point.

    Attributes:
        at_q: [], [text] or [null, text]; empty if the method compares with the noise instead.
        at_p: [text] or [null or source text, text].
        same: (B,) bool, true for items with nothing to edit, because both velocities mean the same.
        guidance: Guidance of v_target; (B,) where the items slide.
    """

    at_q: list[Text]
    at_p: list[Text]
    same: torch.Tensor
    guidance: float | torch.Tensor


def plan_prompts(
    source: Text,
    target: Text,
    null_text: Text | None,
    config: DeltaVelocity,
    batch: int,
    slides: torch.Tensor | None = None,
) -> _Prompts:
    """Decide which texts have to be evaluated where, for a batch of items.

    Each is named by what it does, for captures: "source" at the source point, "target" at the target point,
    "source.target" the source text at the target point, "uncond" the null text, and "uncond.source" and
    "uncond.target" where both points have one.

    Raises:
        SettingError: If a text does not fit the batch, or guidance needs a null text that is missing.
    """
    source, target = flow.expand_text(source, batch), flow.expand_text(target, batch)
    needs_source = config.reference != "noise" or config.constraint == "orthogonal"
    guidance: float | torch.Tensor = config.target_guidance
    slider_at_zero: bool | torch.Tensor = config.guide_from == "source" and guidance == 0  # at_p is [source]
    if slides is not None and config.slide == "guidance":
        guidance = guidance * slides
        slider_at_zero = guidance == 0 if config.guide_from == "source" else False
    same = (flow.equal_texts(source, target) | slider_at_zero) & config.keeps_equal
    guide, source, target = (
        _named(text, role)
        for text, role in ((source, "source.target"), (source, "source"), (target, "target"))
    )
    at_q = flow.guidance_texts(source, null_text, config.source_guidance) if needs_source else []
    texts = (
        config.target_guidance if isinstance(guidance, float | int) else 2.0
    )  # 2: both, whatever the items'
    told = flow.embedded_guidance(target, guidance)  # None, unless the model is guidance-distilled
    if config.guide_from == "source":
        if told is not None:  # all three velocities are of one field, also of a guidance-distilled model
            guide, target = (flow.embedded_guidance(text, config.source_guidance) for text in (guide, target))
        at_p = {0.0: [guide], 1.0: [target]}.get(texts, [guide, target])
    else:
        at_p = flow.guidance_texts(target, null_text, texts) if told is None else [told]
    if all(any(text is null_text for text in texts) for texts in (at_q, at_p)):
        at_q, at_p = (
            [_named(text, f"uncond.{side}") if text is null_text else text for text in texts]
            for side, texts in (("source", at_q), ("target", at_p))
        )
    return _Prompts(at_q, at_p, same, guidance)


def _named(text: Text, role: str) -> Text:
    """The text in a role, if it is of a kind that has one."""
    named = getattr(text, "named", None)
    return text if named is None else named(role)


def noise_levels(config: DeltaVelocity, sigmas: torch.Tensor | None) -> list[tuple[float, float]]:
    """List the noise levels (t, t') of every step; a random level has no next one, there t' = t.

    Raises:
        SettingError: If the grid is not strictly decreasing to 0.
    """
    if config.schedule == "random":
        low, high = config.sigma_range
        draws = torch.rand(config.steps, generator=torch.Generator().manual_seed(config.schedule_seed))
        return [(sigma, sigma) for sigma in (low + (high - low) * draws).tolist()]
    grid = flow.check_sigmas(flow.sigmas_linear(config.steps) if sigmas is None else sigmas)
    start = flow.first_active(len(grid) - 1, config.active)
    return list(zip(grid[start:-1], grid[start + 1 :], strict=True))


def coupling(config: DeltaVelocity, progress: float) -> float:
    """Return eta, which couples the target point to the source point, at progress k / T in [0, 1)."""
    return {"dds": 0.0, "flowedit": 1.0, "dvrf": config.eta * progress}[config.coupling]


def compare(
    field: VelocityField,
    x: torch.Tensor,
    z: torch.Tensor,
    noise: torch.Tensor,
    sigma: float,
    eta: float,
    prompts: _Prompts,
    config: DeltaVelocity,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluate the target point and the source point under one noise, in one call.

    Returns:
        Dv = v_target(p) - v_source(q), or v_target(p) less another reference: v_source(p), or noise - x; and
        v_source(q) - (noise - x), along which the source text would move its own picture. Both (B, C, H, W).
    """
    q = flow.interpolate(x, noise, sigma)
    p = q + (1 - (1 - eta) * sigma) * (z - x)
    own = p if config.reference == "same" else q
    rows = [(own, text) for text in prompts.at_q] + [(p, text) for text in prompts.at_p]
    velocities = flow.evaluate(field, sigma, rows)
    v_source = v_noise = noise - x
    if prompts.at_q:
        v_source = flow.merge_guidance(velocities[: len(prompts.at_q)], config.source_guidance)
    v_target = flow.merge_guidance(velocities[len(prompts.at_q) :], flow.per_item(prompts.guidance, x))
    # For these items p = q and the texts agree: only rounding, which may differ between rows, is undone.
    v_target = torch.where(flow.per_item(prompts.same, x), v_source, v_target)
    return v_target - (v_noise if config.reference == "noise" else v_source), v_source - v_noise


def ode_update(
    config: DeltaVelocity, sigma: float, next_sigma: float, difference: torch.Tensor, delta: torch.Tensor
) -> torch.Tensor:
    """FlowEdit, FlowSlider, FlowAlign: (t' - t) Dv + zeta (clean(q) - clean(p)), clean(p) = p - t v(p)."""
    return (next_sigma - sigma) * difference + config.zeta * (sigma * difference - delta)


def gradient_update(
    config: DeltaVelocity, sigma: float, next_sigma: float, gradient: torch.Tensor, delta: torch.Tensor
) -> torch.Tensor:
    """DDS, DVRF, CSDS-recon: -lr (weight g + lam delta), g = Dv + (1 - eta) delta, lam only for C1."""
    lr = sigma - next_sigma if config.lr is None else config.lr
    weight = 1 - sigma if config.weight == "clean" else 1.0
    penalty = config.strength if config.constraint == "penalty" else 0.0
    return -lr * (weight * gradient + penalty * delta)


def remove_along(gradient: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """C4: remove from each item's gradient its part along `own`: g - own <g, own> / <own, own>."""
    along, square = (gradient * own).flatten(1).sum(1), own.square().flatten(1).sum(1)
    return gradient - flow.per_item(torch.where(square > 0, along / square, 0.0), own) * own


def into_ball(latents: torch.Tensor, center: torch.Tensor, radius: float) -> torch.Tensor:
    """C2: project each item onto the ball around its center whose radius is a root mean square."""
    delta = latents - center
    distance = delta.square().flatten(1).mean(1).sqrt()
    shrunk = center + flow.per_item(radius / distance.clamp_min(radius), delta) * delta
    return torch.where(flow.per_item(distance > radius, delta), shrunk, latents)


def iter_edit(
    field: VelocityField,
    latents: torch.Tensor,
    source_text: Text,
    target_text: Text,
    sigmas: torch.Tensor | None,
    config: DeltaVelocity,
    *,
    null_text: Text | None = None,
    seeds: Sequence[int] | None = None,
    mask: torch.Tensor | None = None,
    slides: torch.Tensor | None = None,
) -> Iterator[EngineState]:
    """Edit step by step: yields after every step, and stops when you stop iterating.

    An item whose two texts are equal comes back bit for bit if its two guidances are equal, or if the method
    guides away from the source text (there also at target_guidance 0). CSDS-recon "penalty" and "ball" do not
    promise that: plain score distillation moves a picture even under its own description.

    Args:
        field: The velocity field.
        latents: Clean latents of the source pictures, (B, C, H, W).
        source_text: Describes the pictures (1 or B).
        target_text: Describes the wanted pictures (1 or B).
        sigmas: Grid (steps + 1,), strictly decreasing to 0; None for a linear one of config.steps. A random
            schedule has no grid and ignores it.
        config: The method.
        null_text: The empty prompt; needed if a guidance away from it is not 1.
        seeds: One seed per item for its noise, drawn on the CPU; None means 0, 1, ..., B - 1.
        mask: Where z may differ from x, (1 or B, 1, H, W) in [0, 1]; None: everywhere.
        slides: Factor on target_guidance of each item, (B,), with slide "guidance"; None: 1.

    Returns:
        An iterator of `EngineState`.

    Raises:
        SettingError: If grid, texts, guidance, mask or (at the first step) seeds do not fit.
    """
    levels = noise_levels(config, sigmas)
    prompts = plan_prompts(source_text, target_text, null_text, config, len(latents), slides)
    before = prompts
    if config.onset < 1:  # until then the target text is the source text
        before = plan_prompts(source_text, source_text, null_text, config, len(latents), slides)
    generators = flow.seeded_generators(seeds, len(latents))
    mask = check_mask(mask, latents)
    return _iterate(field, flow.accumulator(latents), levels, (before, prompts), config, generators, mask)


@torch.no_grad()
def _iterate(
    field: VelocityField,
    x: torch.Tensor,
    levels: list[tuple[float, float]],
    plans: tuple[_Prompts, _Prompts],
    config: DeltaVelocity,
    generators: list[torch.Generator],
    mask: torch.Tensor | None,
) -> Iterator[EngineState]:
    z, calls, evaluations = x, 0, 0
    for step, (sigma, next_sigma) in enumerate(levels):
        prompts = plans[sigma <= config.onset]
        eta, delta = coupling(config, step / len(levels)), z - x
        difference, own = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(config.averages):
            noise = flow.seeded_noise(generators, x)
            parts = compare(field, x, z, noise, sigma, eta, prompts, config)
            difference, own = difference + parts[0] / config.averages, own + parts[1] / config.averages
        calls += config.averages
        evaluations += config.averages * len(x) * (len(prompts.at_q) + len(prompts.at_p))
        clean = z - sigma * difference
        if config.rule == "ode":
            z = z + ode_update(config, sigma, next_sigma, difference, delta)
        else:
            gradient = difference if config.reference == "same" else difference + (1 - eta) * delta
            if config.constraint == "orthogonal":
                gradient = remove_along(gradient, own)
            z = z + gradient_update(config, sigma, next_sigma, gradient, delta)
        if config.constraint == "ball":
            z = into_ball(z, x, config.strength)
        z, clean = blend(z, x, mask), blend(clean, x, mask)
        preview = clean if config.rule == "ode" else z
        yield EngineState(step, len(levels), sigma, z, preview, evaluations, calls)


def check_mask(mask: torch.Tensor | None, latents: torch.Tensor) -> torch.Tensor | None:
    """Return the mask in the form of the latents, or refuse it.

    Raises:
        SettingError: If its shape or its values do not fit.
    """
    if mask is None:
        return None
    batch, _, height, width = latents.shape
    if mask.ndim != 4 or mask.shape[0] not in (1, batch) or tuple(mask.shape[1:]) != (1, height, width):
        raise SettingError(
            f"The mask has shape {tuple(mask.shape)}; for these latents it is "
            f"(1 or {batch}, 1, {height}, {width}). "
            "ditlens.ems.masks.latent_mask makes one from a picture."
        )
    mask = mask.to(latents.device, torch.float32)
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise SettingError("A mask holds numbers from 0 (keep) to 1 (may change); divide a picture by 255.")
    return mask


def blend(edited: torch.Tensor, kept: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What is edited inside the mask, what is kept outside: bit for bit where the mask is 0 or 1."""
    if mask is None:
        return edited
    mask = mask.to(edited.dtype)
    mixed = kept + mask * (edited - kept)
    return torch.where(mask == 1, edited, torch.where(mask == 0, kept, mixed))


def run(
    field: VelocityField,
    latents: torch.Tensor,
    source_text: Text,
    target_text: Text,
    sigmas: torch.Tensor | None,
    config: DeltaVelocity,
    *,
    null_text: Text | None = None,
    seeds: Sequence[int] | None = None,
) -> EngineState:
    """Edit to the end and return the last state; args and errors are those of `iter_edit`."""
    texts = (source_text, target_text)
    states = iter_edit(field, latents, *texts, sigmas, config, null_text=null_text, seeds=seeds)
    for state in states:  # keeps one state only; a list would hold the latents of every step
        last = state
    return last
