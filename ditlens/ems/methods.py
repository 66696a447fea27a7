"""The delta-velocity methods, as settings of one engine (`ditlens.ems.engine`).

Every method moves an edited clean image z away from the source image x, starting at z = x, by asking what
the model would do to both under the same noise. With delta = z - x, noise level t, noise eps and a coupling
eta in [0, 1]::

    source point   q  = (1 - t) x + t eps
    target point   p  = (1 - t) z + t eps + eta t delta  =  q + (1 - (1 - eta) t) delta
    difference     Dv = v_target(p) - v_source(q)

    method        eta      update of z                                       noise levels t
    DDS           0        z -= lr (1 - t) (Dv + delta)                      random
    DVRF          eta k/T  z -= lr (Dv + (1 - eta_k) delta)                  grid, step k of T
    FlowEdit      1        z += (t' - t) Dv                                  grid, t > t'
    FlowAlign     1        z += (t' - t) Dv + zeta (clean(q) - clean(p))     grid
    FlowSlider    1        z += (t' - t) Dv                                  grid
    CSDS-recon    0        z -= lr g, g constrained as below                 random

FlowAlign and FlowSlider guide v_target away from the source text at p, the others away from the null text.

*PDS* with the exact posterior of its step is DDS with another weight, and so has no row of its own.

*CSDS-recon* is our reconstruction: the constraint in EMS (arXiv 2408.13335) is not known to us. Its gradient
is that of score distillation, g = (1 - t) (v_target(p) - (eps - z)), constrained in one of four ways:
"penalty" (C1) adds lam delta; "ball" (C2) keeps z within a distance of x; "delta" (C3) compares with
v_source(q) instead of eps - x, which is DDS; "orthogonal" (C4) removes the part of g along what the source
text does to the source.

*HSDS-recon* reads the other paper's "Hessian score distillation" as the mixed second derivative of log p,
contracted with the editing direction n: the change of the score at ONE point when the text moves,
h = -((1 - t)/t) (v_target(p) - v_source(p)), weighted by t. It never settles by itself, since it does not know how
far z has come; a constraint has to end it.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import NamedTuple

import torch

from ditlens import flow
from ditlens.errors import SettingError
from ditlens.flow import Latents, generator_of


class Look(NamedTuple):
    """What a step has seen, from which an update rule makes the step; all tensors are (B, C, H, W).

    Attributes:
        sigma: Noise level t.
        next_sigma: Noise level t' of the next step; t where there is none.
        eta: Coupling of the target point to the source point.
        delta: z - x.
        difference: Dv.
        own: v_source(q) - (eps - x), along which the source text would move its own image.
    """

    sigma: float
    next_sigma: float
    eta: float
    delta: Latents
    difference: Latents
    own: Latents


@dataclass(frozen=True)
class BaseMethod:
    """What all methods have: a name, checks of their settings, and a promise about degree 0.

    Attributes:
        name: Name in tables and recipes.
    """

    name: str

    def __post_init__(self) -> None:
        for each in fields(self):
            value, usual = getattr(self, each.name), each.default
            if isinstance(usual, int):
                fits, what = type(value) is int, "a whole number"
            elif isinstance(usual, float):
                fits, what = finite(value), "a finite number"
            elif isinstance(usual, tuple):
                fits = isinstance(value, tuple) and len(value) == len(usual) and all(map(finite, value))
                what = f"a tuple of {len(usual)} finite numbers"
            else:
                continue
            self._require(fits, f"{each.name} is {what}")

    @property
    def exact_at_0(self) -> bool:
        """Whether degree 0 returns the reconstruction bit for bit; what resamples or inverts makes a new image."""
        return False

    @property
    def needs_null(self) -> bool:
        """Whether the empty prompt may be evaluated."""
        return True

    def _one_of(self, setting: str, *values: str) -> None:
        given = getattr(self, setting)
        self._require(isinstance(given, str) and given in values, f"{setting} is one of {', '.join(values)}")

    def _require(self, holds: bool, rule: str) -> None:
        if not holds:
            raise SettingError(f"The setting {self.name!r} is not possible: {rule}. Got {self}.")


def finite(value: object) -> bool:
    """Whether a setting is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class DeltaVelocity(BaseMethod, abc.ABC):
    """What both update rules have in common: which velocities are compared, and where.

    Attributes:
        name: Name in tables and recipes.
        source_guidance: Guidance of v_source, away from the null text.
        target_guidance: Guidance of v_target. With guide_from "source" it is FlowSlider's slider.
        guide_from: What v_target is guided away from: the "null" text or the "source" text, at p.
        steps: Number of steps where no grid is given.
        active: Share of the grid's steps that run, at its clean end: FlowEdit's n_max / N.
        averages: Noise draws per step over which Dv is averaged; each is one call.
        slide: What the degree of an edit moves: the target "text", or the "guidance" of v_target.

    Raises:
        SettingError: If a setting is out of range or two contradict each other.

    Example:
        >>> isinstance(dl.FLOWEDIT, dl.DeltaVelocity), dl.FLOWEDIT.exact_at_0
        (True, False)
    """

    source_guidance: float = 1.0
    target_guidance: float = 1.0
    guide_from: str = "null"
    steps: int = 50
    active: float = 1.0
    averages: int = 1
    slide: str = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("guide_from", "null", "source")
        self._one_of("slide", "text", "guidance")
        self._require(min(self.steps, self.averages) >= 1, "steps and averages are at least 1")
        self._require(0 < self.active <= 1, "active lies in (0, 1]")
        if self.guide_from == "source":
            self._require(self.source_guidance == 1, "guide_from source needs source_guidance 1")

    @property
    def needs_source(self) -> bool:
        """Whether v_source is evaluated at all."""
        return True

    @property
    def needs_null(self) -> bool:
        at_p = self.guide_from == "null" and (self.target_guidance != 1 or self.slide == "guidance")
        return at_p or (self.needs_source and self.source_guidance != 1)

    @property
    def shares_source(self) -> bool:
        """Whether v_source is the same at every degree, because it is taken at q, which holds no z."""
        return self.needs_source

    @property
    def keeps_equal(self) -> bool:
        """Whether an item whose two texts are equal comes back bit for bit.

        Both velocities must be guided alike: two guidances edit by what they differ.
        """
        return self.guide_from == "source" or self.source_guidance == self.target_guidance

    @property
    def exact_at_0(self) -> bool:
        """Whether degree 0 returns the reconstruction bit for bit."""
        return self.keeps_equal and (self.slide == "text" or self.guide_from == "source")

    @abc.abstractmethod
    def coupling(self, progress: float) -> float:
        """The coupling eta at progress k / T in [0, 1)."""

    @abc.abstractmethod
    def update(self, look: Look) -> Latents:
        """The step from z, (B, C, H, W)."""

    def preview(self, latents: Latents, look: Look) -> Latents | None:
        """The result to which the step points; None: where it ends."""
        return None

    def constrained(self, latents: Latents, source: Latents) -> Latents:
        """The latents after the step, held where the rule allows them."""
        return latents

    def levels(self, sigmas: torch.Tensor | None) -> list[tuple[float, float]]:
        """The noise levels (t, t') of every step.

        Args:
            sigmas: Grid (steps + 1,), strictly decreasing to 0; None for a linear one.

        Raises:
            SettingError: If the grid is not strictly decreasing to 0.
        """
        grid = flow.check_sigmas(flow.sigmas_linear(self.steps) if sigmas is None else sigmas)
        start = flow.first_active(len(grid) - 1, self.active)
        return list(pairwise(grid[start:]))


@dataclass(frozen=True)
class OdeEdit(DeltaVelocity):
    """FlowEdit, FlowAlign, FlowSlider: z += (t' - t) Dv + zeta (clean(q) - clean(p)), where clean(p) = p - t v(p).

    Attributes:
        zeta: FlowAlign's source consistency.

    Example:
        >>> method = dl.OdeEdit("mine", source_guidance=2.0, target_guidance=2.0, steps=4)
        >>> method.levels(None)
        [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
        >>> method.exact_at_0
        True
    """

    zeta: float = 0.0

    def coupling(self, progress: float) -> float:
        return 1.0

    def update(self, look: Look) -> Latents:
        sigma, difference = look.sigma, look.difference
        return (look.next_sigma - sigma) * difference + self.zeta * (sigma * difference - look.delta)

    def preview(self, latents: Latents, look: Look) -> Latents:
        return latents - look.sigma * look.difference


@dataclass(frozen=True)
class Distillation(DeltaVelocity):
    """DDS, DVRF, CSDS-recon: z -= lr (weight g + lam delta), g = Dv + (1 - eta) delta, lam only for C1.

    Attributes:
        eta: Coupling at the first step and, reached linearly, behind the last; DDS has (0, 0), DVRF (0, 1).
        reference: v_target is compared with v_source at q ("source"), with eps - x ("noise"), or with v_source at
            p, the "same" point (HSDS-recon).
        lr: Learning rate; None takes the gap t - t' of the grid.
        weight: Weight of the gradient: "clean" is 1 - t, "one" is 1.
        schedule: Walk down a "grid", or draw `steps` "random" noise levels from sigma_range.
        sigma_range: Range of the random noise levels, within (0, 1).
        schedule_seed: Seed of the random noise levels, which all items of a batch share.
        constraint: "none", "penalty" (C1), "ball" (C2) or "orthogonal" (C4).
        strength: lam of the penalty; radius of the ball, a root mean square of z - x over an item's elements.

    Example:
        >>> dl.Distillation("mine", eta=(0.0, 1.0), weight="one", steps=4).coupling(0.25)
        0.25
        >>> dl.DDS.coupling(0.25)
        0.0
    """

    eta: tuple[float, float] = (0.0, 0.0)
    reference: str = "source"
    lr: float | None = None
    weight: str = "clean"
    schedule: str = "grid"
    sigma_range: tuple[float, float] = (0.05, 0.95)
    schedule_seed: int = 0
    constraint: str = "none"
    strength: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("reference", "source", "noise", "same")
        self._one_of("weight", "clean", "one")
        self._one_of("schedule", "grid", "random")
        self._one_of("constraint", "none", "penalty", "ball", "orthogonal")
        grid, (low, high) = self.schedule == "grid", self.sigma_range
        self._require(0 < low <= high < 1, "sigma_range lies within (0, 1)")
        self._require(
            grid if self.lr is None else finite(self.lr) and self.lr > 0,
            "lr is positive; it may be None on a grid only",
        )
        if self.constraint in ("penalty", "ball"):
            self._require(self.strength > 0, f"constraint {self.constraint} needs strength > 0")
        if self.reference != "source":
            self._require(self.eta == (0, 0), f"reference {self.reference} needs eta (0, 0)")

    @property
    def needs_source(self) -> bool:
        return self.reference != "noise" or self.constraint == "orthogonal"

    @property
    def shares_source(self) -> bool:
        return super().shares_source and self.reference != "same"

    @property
    def keeps_equal(self) -> bool:
        """See `DeltaVelocity.keeps_equal`; plain score distillation moves an image even under its own text."""
        return self.needs_source and super().keeps_equal

    def coupling(self, progress: float) -> float:
        return self.eta[0] + progress * (self.eta[1] - self.eta[0])

    def update(self, look: Look) -> Latents:
        gradient = (
            look.difference if self.reference == "same" else look.difference + (1 - look.eta) * look.delta
        )
        if self.constraint == "orthogonal":
            gradient = remove_along(gradient, look.own)
        lr = look.sigma - look.next_sigma if self.lr is None else self.lr
        weight = 1 - look.sigma if self.weight == "clean" else 1.0
        penalty = self.strength if self.constraint == "penalty" else 0.0
        return -lr * (weight * gradient + penalty * look.delta)

    def constrained(self, latents: Latents, source: Latents) -> Latents:
        return into_ball(latents, source, self.strength) if self.constraint == "ball" else latents

    def levels(self, sigmas: torch.Tensor | None) -> list[tuple[float, float]]:
        """The noise levels (t, t') of every step; a random level has no next one, there t' = t."""
        if self.schedule == "grid":
            return super().levels(sigmas)
        low, high = self.sigma_range
        generator = generator_of(self.schedule_seed)
        draws = torch.rand(self.steps, generator=generator, dtype=torch.float32, device="cpu")
        return [(sigma, sigma) for sigma in (low + (high - low) * draws).tolist()]


def remove_along(gradient: Latents, own: Latents) -> Latents:
    """C4: remove from each item's gradient its part along `own`: g - own <g, own> / <own, own>."""
    along, square = (gradient * own).flatten(1).sum(1), own.square().flatten(1).sum(1)
    return gradient - flow.per_item(torch.where(square > 0, along / square, 0.0), own) * own


def into_ball(latents: Latents, center: Latents, radius: float) -> Latents:
    """C2: project each item onto the ball around its center whose radius is a root mean square."""
    delta = latents - center
    distance = delta.square().flatten(1).mean(1).sqrt()
    shrunk = center + flow.per_item(radius / distance.clamp_min(radius), delta) * delta
    return torch.where(flow.per_item(distance > radius, delta), shrunk, latents)


FLOWEDIT = OdeEdit("flowedit", source_guidance=3.5, target_guidance=13.5, steps=50, active=33 / 50)
"""FlowEdit with its published SD3 settings."""

FLOWEDIT_FLUX = replace(FLOWEDIT, source_guidance=1.5, target_guidance=5.5, steps=28, active=24 / 28)
"""FlowEdit with its published FLUX settings."""

FLOWALIGN = OdeEdit("flowalign", guide_from="source", target_guidance=7.5, steps=33, zeta=0.01)
"""FlowAlign; its script uses guidance 13.5. Retune zeta whenever steps or guidance change."""

FLOWSLIDER = OdeEdit(
    "flowslider", guide_from="source", target_guidance=1.0, steps=50, active=33 / 50, slide="guidance"
)
"""FlowSlider, equation inferred from its abstract. target_guidance slides: 0 source, 1 target, 2 beyond."""

DVRF = Distillation("dvrf", eta=(0.0, 1.0), weight="one", source_guidance=6.0, target_guidance=16.5, steps=50)
"""DVRF with its published SD3 settings but for the learning rate: here the gap of the grid, there a hump."""

DDS = Distillation("dds", schedule="random", source_guidance=7.5, target_guidance=7.5, steps=200, lr=0.0488)
"""Delta denoising score; lr is the published 0.1 * 2000 / (H W) for latents of 64 x 64: see `method_named`."""

_SDS = replace(DDS, name="sds", reference="noise")
CSDS = {
    "penalty": replace(_SDS, name="csds-recon-penalty", constraint="penalty", strength=0.1),
    "ball": replace(_SDS, name="csds-recon-ball", constraint="ball", strength=0.5),
    "delta": replace(DDS, name="csds-recon-delta"),
    "orthogonal": replace(_SDS, name="csds-recon-orthogonal", constraint="orthogonal"),
}
"""CSDS-recon: four readings of constrained score distillation. The strengths are starting points of ours."""

HSDS = replace(DDS, name="hsds-recon", reference="same", constraint="penalty", strength=0.1)
"""HSDS-recon: our reading of the direction of EIM (arXiv 2411.08196), held back by a penalty."""

PRESETS: dict[str, DeltaVelocity] = {
    c.name: c for c in (FLOWEDIT, FLOWALIGN, FLOWSLIDER, DVRF, DDS, *CSDS.values(), HSDS)
}
"""Every preset by its name, as for SD3 and latents of 64 x 64."""
