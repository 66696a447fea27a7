"""The methods that are not delta velocities, each as a short loop over noisy latents.

Symbols: source image x, noise level t (1 is noise), velocity v, next level t'. Two kinds::

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
way up, ``(1 - eta) v + eta (x_t - x)/t`` towards the image on the way down.

The published RF-Solver and FireFlow also share the values of FLUX's single-stream blocks between both walks; that
part needs blocks which SD3 does not have, and is left out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from ditlens import flow
from ditlens.ems import engine
from ditlens.ems.engine import Loop, Step
from ditlens.ems.methods import BaseMethod, DeltaVelocity
from ditlens.errors import SettingError
from ditlens.flow import Latents, Mask, Text, VelocityField

SOLVERS = {"euler": 1, "midpoint": 2, "reuse": 1}
"""Rules of a step, and how often each evaluates the model (reuse: once more at the start)."""

Grid = Callable[[int], torch.Tensor]
"""Makes the noise levels (steps + 1,) of a number of steps: `Model.sigmas`, or `flow.sigmas_linear`."""


@dataclass(frozen=True)
class Resample(BaseMethod):
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
        SettingError: If a setting is out of range.
    """

    steps: int = 50
    active: float = 0.6
    guidance: float = 7.0
    text: str = "target"
    first: DeltaVelocity | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.steps >= 1, "steps is at least 1")
        self._require(0 < self.active <= 1, "active lies in (0, 1]")
        self._one_of("text", "target", "source")


@dataclass(frozen=True)
class Inversion(BaseMethod):
    """Walk the image up to noise, then down again with the target text.

    Attributes:
        name: Name in tables and recipes.
        solver: "euler", "midpoint" (RF-Solver) or "reuse" (FireFlow).
        steps: Steps of each walk.
        guidance: Classifier-free guidance on the way down.
        invert_with: Text of the way up, without guidance: "source" or "null".
        gamma: Pull of the way up towards one noise that the seed gives, in [0, 1].
        eta: Pull of the way down towards the image, in [0, 1].
        eta_stop: Share of the steps during which eta acts.

    Raises:
        SettingError: If a setting is out of range.
    """

    solver: str = "euler"
    steps: int = 28
    guidance: float = 3.5
    invert_with: str = "source"
    gamma: float = 0.0
    eta: float = 0.0
    eta_stop: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.steps >= 1, "steps is at least 1")
        self._one_of("solver", *SOLVERS)
        self._one_of("invert_with", "source", "null")
        for setting in ("gamma", "eta", "eta_stop"):
            self._require(0 <= getattr(self, setting) <= 1, f"{setting} lies in [0, 1]")
        pulled = self.gamma > 0 or self.eta > 0
        self._require(not pulled or self.solver == "euler", "gamma and eta need solver euler")


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


Velocity = Callable[[Latents, float], Latents]
"""The velocity (B, C, H, W) of latents at a noise level."""

Keep = Callable[[Latents, float], Latents]
"""Puts back, at a noise level, what a mask protects."""


def walk(
    velocity_of: Velocity,
    latents: Latents,
    sigmas: Sequence[float],
    solver: str = "euler",
    keep: Keep | None = None,
) -> Iterator[tuple[float, float, Latents, Latents]]:
    """Follow a velocity along the noise levels, up or down.

    Yields:
        (t, t', latents at t', the clean latents that the step pointed to), after every step.
    """
    velocity = None
    for sigma, after in pairwise(sigmas):
        width = after - sigma
        if velocity is None or solver != "reuse":
            velocity = velocity_of(latents, sigma)
        if solver != "euler":
            velocity = velocity_of(latents + width / 2 * velocity, sigma + width / 2)
        latents = latents + width * velocity
        if keep is not None:
            latents = keep(latents, after)
        yield sigma, after, latents, latents - after * velocity


def resample(
    latents: Latents, source: Text, target: Text, method: Resample, grid: Grid, *,
    null_text: Text | None, seeds: Sequence[int] | None, mask: Mask | None,
) -> tuple[int, Loop]:  # fmt: skip
    """The number of steps of a `Resample`, and its loop; for arguments see `ditlens.ems.sample.iter_method`."""
    x = flow.accumulator(latents)
    levels = flow.check_sigmas(grid(method.steps))
    levels = levels[flow.first_active(len(levels) - 1, method.active) :]
    noise = flow.seeded_noise(flow.seeded_generators(seeds, len(x)), x)
    text = target if method.text == "target" else source
    before, move = 0, None
    if method.first is not None:
        before, move = engine.prepare(
            x,
            source,
            target,
            grid(method.first.steps),
            method.first,
            null_text=null_text,
            seeds=seeds,
            mask=mask,
        )

    def keep(point: Latents, sigma: float) -> Latents:
        return engine.blend(point, flow.interpolate(x, noise, sigma), mask)

    def loop(field: VelocityField) -> Iterator[Step]:
        def velocity_of(point: Latents, sigma: float) -> Latents:
            return flow.guided_velocity(field, point, sigma, text, null_text, method.guidance)

        z = x
        for step in move(field) if move else ():
            z = step[1]
            yield step
        for sigma, _, point, clean in walk(
            velocity_of, flow.interpolate(z, noise, levels[0]), levels, keep=keep
        ):
            yield sigma, point, engine.blend(clean, x, mask)

    return before + len(levels) - 1, loop


def invert(
    latents: Latents, source: Text, target: Text, method: Inversion, grid: Grid, *,
    null_text: Text | None, seeds: Sequence[int] | None, mask: Mask | None,
) -> tuple[int, Loop]:  # fmt: skip
    """The number of steps of an `Inversion`, and its loop; for arguments see `ditlens.ems.sample.iter_method`.

    Raises:
        SettingError: If the grid does not begin at 1, or the null text is missing.
    """
    x = flow.accumulator(latents)
    levels = flow.check_sigmas(grid(method.steps))
    if levels[0] != 1:
        raise SettingError(f"An inversion needs a grid that begins at 1; this one begins at {levels[0]:g}.")
    up_text = source if method.invert_with == "source" else null_text
    if up_text is None:
        raise SettingError(f"{method.name} inverts with the null text: pass null_text (the empty prompt).")
    end = flow.seeded_noise(flow.seeded_generators(seeds, len(x)), x) if method.gamma else x
    pulled = levels[: round(method.eta_stop * method.steps)] if method.eta else []

    def loop(field: VelocityField) -> Iterator[Step]:
        trace = {0.0: x}

        def up(point: Latents, sigma: float) -> Latents:
            velocity = flow.guided_velocity(field, point, sigma, up_text)
            return (
                torch.lerp(velocity, (end - point) / (1 - sigma), method.gamma) if method.gamma else velocity
            )

        def down(point: Latents, sigma: float) -> Latents:
            velocity = flow.guided_velocity(field, point, sigma, target, null_text, method.guidance)
            return torch.lerp(velocity, (point - x) / sigma, method.eta) if sigma in pulled else velocity

        def keep(point: Latents, sigma: float) -> Latents:
            return engine.blend(point, trace[sigma], mask)

        for sigma, after, point, _ in walk(up, x, levels[::-1], method.solver):
            trace[after] = point
            yield sigma, point, x
        for sigma, _, point, clean in walk(down, trace[1.0], levels, method.solver, keep):
            yield sigma, point, engine.blend(clean, x, mask)

    return 2 * method.steps, loop
