"""Which methods a benchmark compares, and with which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ditlens.ems import masks
from ditlens.ems.loops import DDIB, FIREFLOW, RF_INVERSION, RF_SOLVER, SDEDIT, Method, Resample
from ditlens.ems.methods import CSDS, DDS, DVRF, FLOWALIGN, FLOWEDIT, FLOWSLIDER, HSDS
from ditlens.ems.plan import default_method
from ditlens.ems.sample import METHODS, method_for, settings_of
from ditlens.errors import SettingError
from ditlens.models.model import Model


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        name: Its name.
        method: The method with its settings.
        mask: How the edit is confined: None, "difference" or "exact".
        tokens: Whether the token matrix of the text moves.
        pooled: Whether the pooled vector of the text moves.
        about: What it is, in a few words.
    """

    name: str
    method: Method
    mask: str | None = None
    tokens: bool = True
    pooled: bool = True
    about: str = ""

    def settings(self) -> dict[str, Any]:
        """Everything that decides its result, ready for JSON."""
        chosen = {name: value for name, value in vars(self).items() if name not in ("name", "method")}
        if self.mask == "difference":
            chosen["mask_settings"] = masks.difference_settings()
        return {**chosen, "method": settings_of(self.method)}


def tuned(model: Model) -> dict[str, Entry]:
    """All methods with settings that fit the portraits model.

    Published settings belong to other models. Of every baseline five settings were tried on the same dev edits, at
    about 64 evaluations an edit, and the one with the least drift at an effect of 0.8 is here (benchmarks/tune.py,
    docs/decisions/0003-ems.md), with two exceptions. FlowSlider's five are one curve in other units of the degree;
    here is the one along which the degrees 0.25 to 1.5 lie. And with the weights of 2026-11-26 only the baselines
    that had been best were tried again (FlowSlider, FlowAlign, DVRF); the others keep their settings. What borrows
    EMS's mask has the settings of the row without it, csds-recon-delta those of dds. EMS itself had more tries: its
    mask, its texts, its rule and guidance.
    """
    ems = default_method(model)
    mask = model.defaults.get("mask")
    both: dict[str, Any] = {"source_guidance": 4.0, "target_guidance": 4.0}
    dds = replace(DDS, **both, lr=0.6, steps=16)
    csds = replace(dds, name="csds-recon-delta", steps=12)
    flowedit = replace(FLOWEDIT, steps=18, active=16 / 18, source_guidance=3.0, target_guidance=5.0)
    flowalign = replace(FLOWALIGN, steps=21, target_guidance=4.0, zeta=0.02)
    flowslider = replace(FLOWSLIDER, steps=21, active=1.0, target_guidance=1.0)
    start = Resample("", steps=12, active=0.5, guidance=4.0)
    found = [
        Entry("ems", ems, mask, about="the default of ditlens.edit"),
        Entry("ems-no-mask", ems, about="EMS without a mask"),
        Entry("ems-exact-mask", ems, "exact", about="EMS in the renderer's own mask: an upper bound"),
        Entry("ems-tokens", ems, mask, pooled=False, about="EMS, only the token matrix moves"),
        Entry("ems-pooled", ems, mask, tokens=False, about="EMS, only the pooled vector moves"),
        Entry("text-only", replace(start, name="text-only"),
              about="the source noised, sampled with the moved text"),
        Entry("image-only", replace(start, name="image-only", first=csds, text="source"),
              about="latents moved by CSDS, noised, sampled with the source text"),
        Entry("joint", replace(start, name="joint", first=csds),
              about="latents moved, sampled with the moved text"),
        Entry("sdedit", replace(SDEDIT, steps=46, active=0.7, guidance=4.0)),
        Entry("ddib", replace(DDIB, steps=21, guidance=1.5)),
        Entry("rf-inversion", replace(RF_INVERSION, steps=21, guidance=4.0)),
        Entry("rf-solver", replace(RF_SOLVER, steps=11, guidance=1.5)),
        Entry("fireflow", replace(FIREFLOW, steps=21, guidance=1.5)),
        Entry("flowedit", flowedit),
        Entry("flowalign", flowalign),
        Entry("flowslider", flowslider),
        *(
            Entry(f"{title.lower()}-mask", method, mask, about=f"{title} in EMS's mask")
            for title, method in {"FlowEdit": flowedit, "FlowAlign": flowalign, "FlowSlider": flowslider}.items()
            if mask
        ),
        Entry("dvrf", replace(DVRF, steps=16, source_guidance=3.0, target_guidance=3.0)),
        Entry("dds", dds),
        Entry("csds-recon-penalty", replace(CSDS["penalty"], **both, lr=0.3, steps=16, strength=0.5)),
        Entry("csds-recon-ball", replace(CSDS["ball"], **both, lr=0.3, steps=16, strength=0.4)),
        Entry("csds-recon-delta", replace(dds, name="csds-recon-delta")),
        Entry("csds-recon-orthogonal", replace(CSDS["orthogonal"], **both, lr=0.6, steps=16)),
        Entry(HSDS.name, replace(HSDS, **both, lr=1.0, steps=16, strength=0.5)),
    ]  # fmt: skip
    return {entry.name: entry for entry in found}


def published(model: Model) -> dict[str, Entry]:
    """All methods with the settings that they were published with, and the model's own EMS."""
    found = {"ems": Entry("ems", default_method(model), model.defaults.get("mask"))}
    return found | {name: Entry(name, method_for(model, name)) for name in METHODS}


TUNED: dict[str | None, Callable[[Model], dict[str, Entry]]] = {"portraits": tuned}
"""The methods with settings tuned for a world's model; elsewhere they have their published ones."""


def choose(model: Model, names: str) -> dict[str, Entry]:
    """The entries that a comma-separated list names; "all" is every one.

    Raises:
        SettingError: If a name is unknown.
    """
    world = None if model.world is None else model.world.name
    known: Mapping[str, Entry] = TUNED.get(world, published)(model)
    if names == "all":
        return dict(known)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if strangers := [name for name in wanted if name not in known]:
        raise SettingError(f"Unknown methods: {', '.join(strangers)}. Choose from all, {', '.join(known)}.")
    return {name: known[name] for name in wanted}
