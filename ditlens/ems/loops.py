"""The methods that are not delta velocities, each as a short loop over noisy latents.

Symbols: source picture x, noise level t (1 is noise), velocity v, next level t'. Two kinds::

    Resample   x_t = (1 - t0) z + t0 eps;  sample from t0 to 0.           z = x, or z moved by a score
               SDEdit; and the S of EMS                                    distillation before (`first`)

    Inversion  walk x from 0 to 1 with the source's text, then back with  DDIB, RF-Inversion, RF-Solver,
               the target's                                                FireFlow

The walks differ in the rule of a step of width h = t' - t::

    euler      x' = x + h v(x, t)
    midpoint   x' = x + h v(x + h/2 v(x, t), t + h/2)                     RF-Solver: its second-order Taylor
                                                                           step is this rule, rewritten
    reuse      the same, but v(x, t) is the midpoint velocity of the      FireFlow: order 2 for one
               step before                                                evaluation a step

and RF-Inversion pulls both walks: ``(1 - gamma) v + gamma (y1 - x)/(1 - t)`` towards one fixed noise y1 on the
way up, ``(1 - eta) v + eta (x_t - x)/t`` towards the picture on the way down.

The published RF-Solver and FireFlow also share the values of FLUX's single-stream blocks between both walks; that
part needs blocks which SD3 does not have, and is left out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ditlens import flow
from ditlens.ems import engine
from ditlens.ems.engine import EngineState
from ditlens.ems.methods import DeltaVelocity
from ditlens.errors import SettingError
from ditlens.flow import Latents, Mask, Text, VelocityField

SOLVERS = {"euler": 1, "midpoint": 2, "reuse": 1}
"""Rules of a step, and how often each evaluates the model (reuse: once more at the start)."""

Grid = Callable[[int], torch.Tensor]
"""Makes the noise levels (steps + 1,) of a number of steps: `Model.sigmas`, or `flow.sigmas_linear`."""


def require(config: object, holds: bool, rule: str) -> None:
    """Refuse a setting.

    Raises:
        SettingError: If the rule does not hold.
    """
    if not holds:
        raise SettingError(
            f"The setting {getattr(config, 'name', '')!r} is not possible: {rule}. Got {config}."
        )


@dataclass(frozen=True)
class Resample:
    """Noise the latents up to the middle of the grid, then sample with a text.

    With `first` None this is SDEdit (img2img). With a score distillation as `first` it is the literal order of
    EMS: the image latents are manipulated, then both are sampled together.

    Attributes:
        name: Name in tables and recipes.
        steps: Steps of the whole grid.
        active: Share of the steps that run, in (0, 1]; diffusers' `strength`. It counts steps, not sigma.
        guidance: Classifier-free guidance away from the null text.
        text: Which text samples: "target", or "source" (then only the latents carry the edit).
        first: How the clean latents move before.

    Raises:
        SettingError: If a knob is out of range.
    """

    name: str
    steps: int = 50
    active: float = 0.6
    guidance: float = 7.0
    text: str = "target"
    first: DeltaVelocity | None = None

    def __post_init__(self) -> None:
        require(self, self.steps >= 1, "steps is at least 1")
        require(self, 0 < self.active <= 1, "active lies in (0, 1]")
        require(self, self.text in ("target", "source"), "text is target or source")


@dataclass(frozen=True)
class Inversion:
    """Walk the picture up to noise, then down again with the target text.

    Attributes:
        name: Name in tables and recipes.
        solver: "euler", "midpoint" (RF-Solver) or "reuse" (FireFlow).
        steps: Steps of each walk.
        guidance: Classifier-free guidance on the way down.
        invert_with: Text of the way up, without guidance: "source" or "null".
        gamma: Pull of the way up towards one noise that the seed gives, in [0, 1].
        eta: Pull of the way down towards the picture, in [0, 1].
        eta_stop: Share of the steps during which eta acts.

    Raises:
        SettingError: If a knob is out of range.
    """

    name: str
    solver: str = "euler"
    steps: int = 28
    guidance: float = 3.5
    invert_with: str = "source"
    gamma: float = 0.0
    eta: float = 0.0
    eta_stop: float = 0.25

    def __post_init__(self) -> None:
        require(self, self.steps >= 1, "steps is at least 1")
        require(self, self.solver in SOLVERS, f"solver is one of {', '.join(SOLVERS)}")
        require(self, self.invert_with in ("source", "null"), "invert_with is source or null")
        for knob in ("gamma", "eta", "eta_stop"):
            require(self, 0 <= getattr(self, knob) <= 1, f"{knob} lies in [0, 1]")
        pulled = self.gamma > 0 or self.eta > 0
        require(self, not pulled or self.solver == "euler", "gamma and eta need solver euler")


Method = DeltaVelocity | Resample | Inversion
"""Any way to edit: settings of the delta-velocity engine, or one of the short loops."""

SDEDIT = Resample("sdedit")
"""SDEdit with the settings of diffusers' SD3 img2img pipeline."""

DDIB = Inversion("ddib")
"""Invert with the source text, sample with the target text ("dual" flow)."""

RF_INVERSION = Inversion("rf-inversion", invert_with="null", gamma=0.5, eta=0.9)
"""RF-Inversion with its published FLUX settings, on one consistent grid."""

RF_SOLVER = Inversion("rf-solver", solver="midpoint", steps=15, guidance=2.0)
"""RF-Solver-Edit's steps and guidance, without the sharing of values between the walks."""

FIREFLOW = Inversion("fireflow", solver="reuse", steps=8, guidance=2.0)
"""FireFlow's steps and guidance, without the sharing of values between the walks."""


Drift = Callable[[torch.Tensor, float], torch.Tensor]
"""The velocity (B, C, H, W) of latents at a noise level."""

Keep = Callable[[torch.Tensor, float], torch.Tensor]
"""Puts back, at a noise level, what a mask protects."""


def walk(
    drift: Drift,
    latents: Latents,
    sigmas: Sequence[float],
    solver: str = "euler",
    keep: Keep | None = None,
) -> Iterator[tuple[float, float, torch.Tensor, torch.Tensor]]:
    """Follow a velocity along the noise levels, up or down.

    Yields:
        (t, t', latents at t', the clean latents that the step pointed to), after every step.
    """
    velocity = None
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        width = after - sigma
        if velocity is None or solver != "reuse":
            velocity = drift(latents, sigma)
        if solver != "euler":
            velocity = drift(latents + width / 2 * velocity, sigma + width / 2)
        latents = latents + width * velocity
        if keep is not None:
            latents = keep(latents, after)
        yield sigma, after, latents, latents - after * velocity


class Counted:
    """A velocity field that counts its calls and rows."""

    def __init__(self, field: VelocityField) -> None:
        self.field, self.calls, self.evaluations = field, 0, 0

    def __call__(self, latents: Latents, sigma: float, text: Text) -> torch.Tensor:
        self.calls, self.evaluations = self.calls + 1, self.evaluations + len(latents)
        return self.field(latents, sigma, text)


def iter_resample(
    field: VelocityField, latents: Latents, source: Text, target: Text, grid: Grid, config: Resample,
    null_text: Text | None, seeds: Sequence[int] | None, mask: Mask | None,
) -> Iterator[EngineState]:  # fmt: skip
    """`Resample`, step by step; the arguments are those of `ditlens.ems.sample.iter_method`."""
    x, count = flow.accumulator(latents), Counted(field)
    levels = flow.check_sigmas(grid(config.steps))
    levels = levels[flow.first_active(len(levels) - 1, config.active) :]
    z, made, total = x, 0, len(levels) - 1
    if config.first is not None:
        total += len(config.first.levels(grid(config.first.steps)))
        for state in engine.iter_edit(
            count, x, source, target, grid(config.first.steps), config.first,
            null_text=null_text, seeds=seeds, mask=mask,
        ):  # fmt: skip
            z, made = state.latents, made + 1
            yield EngineState(state.step, total, state.sigma, z, state.clean, count.evaluations, count.calls)
    noise = flow.seeded_noise(flow.seeded_generators(seeds, len(x)), x)
    wanted = target if config.text == "target" else source

    def drift(point: Latents, sigma: float) -> Latents:
        return flow.guided_velocity(count, point, sigma, wanted, null_text, config.guidance)

    def keep(point: Latents, sigma: float) -> Latents:
        return engine.blend(point, flow.interpolate(x, noise, sigma), mask)

    for sigma, _, point, clean in walk(drift, flow.interpolate(z, noise, levels[0]), levels, keep=keep):
        made += 1
        clean = engine.blend(clean, x, mask)
        yield EngineState(made - 1, total, sigma, point, clean, count.evaluations, count.calls)


def iter_inversion(
    field: VelocityField, latents: Latents, source: Text, target: Text, grid: Grid, config: Inversion,
    null_text: Text | None, seeds: Sequence[int] | None, mask: Mask | None,
) -> Iterator[EngineState]:  # fmt: skip
    """`Inversion`, step by step; the arguments are those of `ditlens.ems.sample.iter_method`."""
    x, count = flow.accumulator(latents), Counted(field)
    levels = flow.check_sigmas(grid(config.steps))
    if levels[0] != 1:
        raise SettingError(f"An inversion needs a grid that begins at 1; this one begins at {levels[0]:g}.")
    up_text = source
    if config.invert_with == "null":
        if null_text is None:
            raise SettingError(
                f"{config.name} inverts with the null text: pass null_text (the empty prompt)."
            )
        up_text = null_text
    end = flow.seeded_noise(flow.seeded_generators(seeds, len(x)), x) if config.gamma else x
    total, stop = 2 * config.steps, round(config.eta_stop * config.steps)
    trace, made = {0.0: x}, 0

    def up(point: Latents, sigma: float) -> Latents:
        velocity = flow.guided_velocity(count, point, sigma, up_text)
        return torch.lerp(velocity, (end - point) / (1 - sigma), config.gamma) if config.gamma else velocity

    def down(point: Latents, sigma: float) -> Latents:
        velocity = flow.guided_velocity(count, point, sigma, target, null_text, config.guidance)
        pulled = config.eta > 0 and made < config.steps + stop
        return torch.lerp(velocity, (point - x) / sigma, config.eta) if pulled else velocity

    def keep(point: Latents, sigma: float) -> Latents:
        return engine.blend(point, trace[sigma], mask)

    for sigma, after, point, _ in walk(up, x, levels[::-1], config.solver):
        trace[after] = point
        yield EngineState(made, total, sigma, point, x, count.evaluations, count.calls)
        made += 1
    for sigma, _, point, clean in walk(down, trace[1.0], levels, config.solver, keep):
        yield EngineState(
            made, total, sigma, point, engine.blend(clean, x, mask), count.evaluations, count.calls
        )
        made += 1
