"""The delta-velocity methods, as settings of one engine (`ditlens.ems.engine`).

Every method moves an edited clean picture z away from the source picture x, starting at z = x, by asking what
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

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ditlens.errors import SettingError

OPTIONS = {
    "coupling": ("dds", "flowedit", "dvrf"),
    "rule": ("ode", "gradient"),
    "reference": ("source", "noise", "same"),
    "slide": ("text", "guidance"),
    "guide_from": ("null", "source"),
    "weight": ("clean", "one"),
    "schedule": ("grid", "random"),
    "constraint": ("none", "penalty", "ball", "orthogonal"),
}


@dataclass(frozen=True)
class DeltaVelocity:
    """The knobs of the engine; a method is one setting of them.

    Attributes:
        name: Name in tables and recipes.
        coupling: "dds" eta = 0, "flowedit" eta = 1, "dvrf" eta rising from 0 towards `eta` over the run.
        eta: End of the rise of "dvrf".
        rule: "ode", z += (t' - t) Dv, or "gradient", z -= lr weight (Dv + (1 - eta) delta).
        reference: v_target is compared with v_"source"(q), with eps - x, the velocity of the "noise", or with
            v_source at the "same" point p (HSDS-recon).
        guide_from: What v_target is guided away from: the "null" text or the "source" text, at p.
        source_guidance: Guidance of v_source, away from the null text.
        target_guidance: Guidance of v_target. With guide_from "source" it is FlowSlider's slider.
        steps: Number of steps where no grid is given.
        active: Share of the grid's steps that run, at its clean end: FlowEdit's n_max / N.
        averages: Noise draws per step over which Dv is averaged; each is one call.
        zeta: FlowAlign's source consistency.
        lr: Learning rate of the gradient rule; None takes the gap t - t' of the grid.
        weight: Weight of the gradient: "clean" is 1 - t, "one" is 1.
        schedule: Walk down a "grid", or draw `steps` "random" noise levels from sigma_range.
        sigma_range: Range of the random noise levels, within (0, 1).
        schedule_seed: Seed of the random noise levels, which all items of a batch share.
        constraint: "none", "penalty" (C1), "ball" (C2) or "orthogonal" (C4).
        strength: lam of the penalty; radius of the ball, a root mean square of z - x over an item's elements.
        slide: What the degree of an edit moves: the target "text", or the "guidance" of v_target.
        onset: Above this noise level the target text is the source text, in [0, 1].

    Raises:
        SettingError: If a knob is out of range or two knobs contradict each other.
    """

    name: str
    coupling: str = "flowedit"
    eta: float = 1.0
    rule: str = "ode"
    reference: str = "source"
    guide_from: str = "null"
    source_guidance: float = 1.0
    target_guidance: float = 1.0
    steps: int = 50
    active: float = 1.0
    averages: int = 1
    zeta: float = 0.0
    lr: float | None = None
    weight: str = "clean"
    schedule: str = "grid"
    sigma_range: tuple[float, float] = (0.05, 0.95)
    schedule_seed: int = 0
    constraint: str = "none"
    strength: float = 0.0
    slide: str = "text"
    onset: float = 1.0

    def __post_init__(self) -> None:
        for knob, words in OPTIONS.items():
            self._require(getattr(self, knob) in words, f"{knob} is one of {', '.join(words)}")
        ode, grid, (low, high) = self.rule == "ode", self.schedule == "grid", self.sigma_range
        self._require(min(self.steps, self.averages) >= 1, "steps and averages are at least 1")
        self._require(0 < self.active <= 1, "active lies in (0, 1]")
        self._require(0 <= self.onset <= 1, "onset lies in [0, 1]")
        self._require(0 < low <= high < 1, "sigma_range lies within (0, 1)")
        self._require(
            grid if self.lr is None else self.lr > 0, "lr is positive; it may be None on a grid only"
        )
        if self.constraint in ("penalty", "ball"):
            self._require(self.strength > 0, f"constraint {self.constraint} needs strength > 0")
        if ode:
            self._require(grid and self.coupling == "flowedit", "rule ode needs a grid and coupling flowedit")
            self._require(self.constraint in ("none", "ball"), "this constraint needs rule gradient")
        else:
            self._require(self.zeta == 0, "zeta needs rule ode")
        if self.reference != "source":
            self._require(self.coupling == "dds", f"reference {self.reference} needs coupling dds")
        if self.guide_from == "source":
            self._require(self.source_guidance == 1, "guide_from source needs source_guidance 1")

    @property
    def keeps_equal(self) -> bool:
        """Whether an item whose two texts are equal comes back bit for bit.

        Both velocities must be the model's, and guided alike: plain score distillation moves a picture even under
        its own description, and two guidances edit by what they differ.
        """
        compares = self.reference != "noise" or self.constraint == "orthogonal"
        return compares and (self.guide_from == "source" or self.source_guidance == self.target_guidance)

    @property
    def exact_at_0(self) -> bool:
        """Whether degree 0 returns the reconstruction bit for bit."""
        return self.keeps_equal and (self.slide == "text" or self.guide_from == "source")

    def _require(self, holds: bool, rule: str) -> None:
        if not holds:
            raise SettingError(f"The setting {self.name!r} is not possible: {rule}. Got {self}.")


FLOWEDIT = DeltaVelocity("flowedit", source_guidance=3.5, target_guidance=13.5, steps=50, active=33 / 50)
"""FlowEdit with its published SD3 settings."""

FLOWEDIT_FLUX = replace(FLOWEDIT, source_guidance=1.5, target_guidance=5.5, steps=28, active=24 / 28)
"""FlowEdit with its published FLUX settings."""

FLOWALIGN = DeltaVelocity("flowalign", guide_from="source", target_guidance=7.5, steps=33, zeta=0.01)
"""FlowAlign; its script uses guidance 13.5. Retune zeta whenever steps or guidance change."""

FLOWSLIDER = DeltaVelocity(
    "flowslider", guide_from="source", target_guidance=1.0, steps=50, active=33 / 50, slide="guidance"
)
"""FlowSlider, equation inferred from its abstract. target_guidance slides: 0 source, 1 target, 2 beyond."""

DVRF = DeltaVelocity(
    "dvrf",
    coupling="dvrf",
    rule="gradient",
    weight="one",
    source_guidance=6.0,
    target_guidance=16.5,
    steps=50,
)
"""DVRF with its published SD3 settings but for the learning rate: here the gap of the grid, there a hump."""

DDS = DeltaVelocity(
    "dds",
    coupling="dds",
    rule="gradient",
    schedule="random",
    source_guidance=7.5,
    target_guidance=7.5,
    steps=200,
    lr=0.0488,
)
"""Delta denoising score; lr is the published 0.1 * 2000 / (H W) at 64 x 64 latents, see `preset_for`."""

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

PRESETS = {c.name: c for c in (FLOWEDIT, FLOWALIGN, FLOWSLIDER, DVRF, DDS, *CSDS.values(), HSDS)}
"""Every preset by its name, as for SD3 and latents of 64 x 64."""


def preset_for(name: str, family: str = "sd3", size: Sequence[int] = (64, 64)) -> DeltaVelocity:
    """A preset as it was published for a model of some family and size.

    FlowEdit has other settings for FLUX than for SD3; what was published for one family only is the same for all.
    The learning rate of DDS, and of the methods that have it from there, is 0.1 * 2000 / (H W). It is never above
    1, where a step undoes the whole of what it finds: latents below 15 x 15 would be thrown far beyond.

    Args:
        name: A name in `PRESETS`.
        family: "sd3" or "flux".
        size: Height and width of the latents.

    Raises:
        SettingError: If there is no preset of this name.
    """
    if name not in PRESETS:
        raise SettingError(f"There is no preset {name!r}. Choose from: {', '.join(PRESETS)}.")
    preset = FLOWEDIT_FLUX if (name, family) == (FLOWEDIT.name, "flux") else PRESETS[name]
    if preset.lr == DDS.lr:
        preset = replace(preset, lr=min(1.0, round(0.1 * 2000 / (size[0] * size[1]), 4)))
    return preset
