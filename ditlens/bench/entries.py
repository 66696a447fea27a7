"""Which methods a benchmark compares, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ditlens.ems.loops import DDIB, FIREFLOW, RF_INVERSION, RF_SOLVER, SDEDIT, Method, Resample
from ditlens.ems.methods import CSDS, DDS, DVRF, FLOWALIGN, FLOWEDIT, FLOWSLIDER, HSDS
from ditlens.ems.plan import default_method
from ditlens.ems.sample import METHODS, settings_of
from ditlens.errors import SettingError

if TYPE_CHECKING:
    from ditlens.model import Model


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        name: Its name.
        method: The method with its settings.
        mask: How the edit is confined: None, "difference", "attention" or "exact".
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
        chosen = {"mask": self.mask, "tokens": self.tokens, "pooled": self.pooled, "about": self.about}
        return {**chosen, "method": settings_of(self.method)}


def tuned(model: Model) -> dict[str, Entry]:
    """All methods with settings that fit the portraits model.

    Published settings belong to other models; these were tried on the dev split, at about 64 evaluations an edit
    (docs/decisions/0003-ems.md). The search was not equally long for every method yet.
    """
    ems = default_method(model)
    csds = replace(DDS, name="csds-recon-delta", steps=12, source_guidance=4.0, target_guidance=4.0, lr=0.3)
    start = Resample("", steps=12, active=0.5, guidance=4.0)
    mask = model.defaults.get("mask")
    found = [
        Entry("ems", ems, mask, about="the default of ditlens.edit"),
        *([Entry("ems-no-mask", ems, about="EMS, free to move everywhere")] if mask else []),
        Entry("ems-attention-mask", ems, mask="attention", about="EMS within a mask read from attention"),
        Entry(
            "ems-exact-mask", ems, mask="exact", about="EMS within the renderer's own mask: an upper bound"
        ),
        Entry("ems-tokens", ems, mask, pooled=False, about="EMS, only the token matrix moves"),
        Entry("ems-pooled", ems, mask, tokens=False, about="EMS, only the pooled vector moves"),
        Entry(
            "text-only",
            replace(start, name="text-only"),
            about="the source noised, sampled with the moved text",
        ),
        Entry(
            "image-only",
            replace(start, name="image-only", first=csds, text="source"),
            about="latents moved by CSDS, noised, sampled with the source text",
        ),
        Entry(
            "joint",
            replace(start, name="joint", first=csds),
            about="latents moved, sampled with the moved text",
        ),
        Entry("sdedit", replace(SDEDIT, steps=40, active=0.8, guidance=4.0)),
        Entry("ddib", replace(DDIB, steps=21, guidance=4.0)),
        Entry("rf-inversion", replace(RF_INVERSION, steps=21, guidance=4.0)),
        Entry("rf-solver", replace(RF_SOLVER, steps=11, guidance=4.0)),
        Entry("fireflow", replace(FIREFLOW, steps=21, guidance=4.0)),
        Entry("flowedit", replace(FLOWEDIT, steps=18, active=16 / 18)),
        Entry("flowalign", replace(FLOWALIGN, steps=21)),
        *(_masked(mask) if mask else []),
        Entry("flowslider", replace(FLOWSLIDER, steps=21, active=1.0)),
        Entry("dvrf", replace(DVRF, steps=16)),
        Entry("dds", replace(DDS, steps=16)),
        *(Entry(preset.name, replace(preset, steps=16)) for preset in CSDS.values()),
        Entry(HSDS.name, replace(HSDS, steps=16)),
    ]
    return {entry.name: entry for entry in found}


def _masked(mask: str) -> list[Entry]:
    """The baselines that can be confined, in EMS's own mask: what of EMS's lead is the mask's?"""
    return [
        Entry(
            "flowedit-mask", replace(FLOWEDIT, steps=18, active=16 / 18), mask, about="FlowEdit in EMS's mask"
        ),
        Entry("flowalign-mask", replace(FLOWALIGN, steps=21), mask, about="FlowAlign in EMS's mask"),
    ]


def published(model: Model) -> dict[str, Entry]:
    """All methods with the settings that they were published with, and the model's own EMS."""
    found = {"ems": Entry("ems", default_method(model), model.defaults.get("mask"))}
    return found | {name: Entry(name, method) for name, method in METHODS.items()}


def choose(model: Model, names: str) -> dict[str, Entry]:
    """The entries that a comma-separated list names; "all" is every one.

    Raises:
        SettingError: If a name is unknown.
    """
    known: Mapping[str, Entry] = tuned(model) if model.world == "portraits" else published(model)
    if names == "all":
        return dict(known)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if strangers := [name for name in wanted if name not in known]:
        raise SettingError(f"Unknown methods: {', '.join(strangers)}. Choose from all, {', '.join(known)}.")
    return {name: known[name] for name in wanted}
