"""Run any editing method step by step: the one entrance to the engine and to the short loops."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ditlens import flow
from ditlens.ems import engine, loops
from ditlens.ems.engine import EngineState, without_grad
from ditlens.ems.loops import Grid, Inversion, Method, Resample
from ditlens.ems.methods import PRESETS as ENGINE_PRESETS
from ditlens.ems.methods import DeltaVelocity, Distillation, OdeEdit, preset_for
from ditlens.errors import SettingError
from ditlens.flow import Latents, Mask, Text, VelocityField
from ditlens.labels import Label, announce
from ditlens.models.encoders import family_of
from ditlens.models.model import Model

METHODS: dict[str, Method] = {
    **ENGINE_PRESETS,
    **{m.name: m for m in (loops.SDEDIT, loops.DDIB, loops.RF_INVERSION, loops.RF_SOLVER, loops.FIREFLOW)},
}
"""Every method by name, with its published settings for SD3 and latents of 64 x 64; see `method_for`."""


def method_named(name: str, family: str = "sd3", size: Sequence[int] = (64, 64)) -> Method:
    """A method with its published settings.

    Args:
        name: Its name.
        family: "sd3" or "flux": the family of the model.
        size: Height and width of the latents.

    Raises:
        SettingError: If there is none of this name; the message lists them.
    """
    if name not in METHODS:
        raise SettingError(f"There is no method {name!r}. Choose from: {', '.join(METHODS)}.")
    return preset_for(name, family, size) if name in ENGINE_PRESETS else METHODS[name]


def method_for(model: Model, name: str, size: Sequence[int] | None = None) -> Method:
    """A method with the settings that were published for a model's family and for its size.

    Args:
        model: The model.
        name: Name of the method.
        size: Height and width of the latents; those of the model's native pictures by default.

    Raises:
        SettingError: If there is none of this name; the message lists them.
    """
    native = model.side // model.pipe.vae_scale_factor
    return method_named(name, family_of(model), (native, native) if size is None else size)


def exact_at_0(method: Method) -> bool:
    """Whether a method promises that degree 0 returns the reconstruction, bit for bit.

    What resamples or inverts makes the picture anew, and what guides its two sides differently edits by that.
    """
    return isinstance(method, DeltaVelocity) and method.exact_at_0


KINDS: dict[str, type[Any]] = {
    "ode": OdeEdit, "distillation": Distillation, "resample": Resample, "inversion": Inversion,
}  # fmt: skip


def settings_of(method: Method) -> dict[str, Any]:
    """A method as a dictionary, ready for JSON; `method_from` reads it."""
    kind = next(name for name, cls in KINDS.items() if isinstance(method, cls))
    values = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    if values.get("first") is not None:
        values["first"] = settings_of(values["first"])
    return {"kind": kind, **values}


def method_from(settings: Mapping[str, Any]) -> Method:
    """A method from a dictionary.

    Raises:
        SettingError: If a knob is unknown or out of range.
    """
    knobs = dict(settings)
    cls = KINDS.get(knobs.pop("kind", ""))
    known = {f.name for f in dataclasses.fields(cls)} if cls else set()
    if cls is None or not set(knobs) <= known:
        wrong = sorted(set(knobs) - known) if cls else settings.get("kind")
        raise SettingError(
            f"A method has no setting {wrong}. Kinds: {', '.join(KINDS)}; settings: {sorted(known)}."
        )
    if isinstance(knobs.get("first"), Mapping):
        knobs["first"] = method_from(knobs["first"])
    method: Method = cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in knobs.items()})
    return method


def iter_method(
    field: VelocityField,
    latents: Latents,
    source_text: Text,
    target_text: Text,
    method: Method,
    *,
    grid: Grid = flow.sigmas_linear,
    null_text: Text | None = None,
    seeds: Sequence[int] | None = None,
    mask: Mask | None = None,
    slides: torch.Tensor | None = None,
) -> Iterator[EngineState]:
    """Edit latents with any method; yields after every step, and stops when you stop iterating.

    Captures and interventions are told the number of the step; of an `Inversion` every evaluation counts as one,
    because its solvers may look at several noise levels in a step.

    Args:
        field: The velocity field.
        latents: Clean latents of the source pictures, (B, C, H, W).
        source_text: Describes the pictures (1 or B).
        target_text: Describes the wanted pictures, moved by the degree already (1 or B).
        method: Settings of the engine, or one of the short loops.
        grid: Makes the noise levels of a number of steps; `Model.sigmas` for a real model.
        null_text: The empty prompt; needed if a guidance away from it is not 1.
        seeds: One seed per item for its noise, drawn on the CPU; None means 0, 1, ..., B - 1.
        mask: Where the latents may change, (1 or B, 1, H, W) in [0, 1]; None: everywhere.
        slides: Factor on the guidance of each item, (B,), for methods that slide by guidance.

    Returns:
        An iterator of `EngineState`; the last state's latents are the edited picture's.

    Raises:
        SettingError: If grid, texts, guidance, mask or seeds do not fit.
    """
    mask = engine.check_mask(mask, latents)
    if isinstance(method, Resample):
        return _announced(without_grad(loops.iter_resample(
            field, latents, source_text, target_text, grid, method, null_text, seeds, mask
        )))  # fmt: skip
    if isinstance(method, Inversion):
        return without_grad(loops.iter_inversion(
            _Announced(field), latents, source_text, target_text, grid, method, null_text, seeds, mask
        ))  # fmt: skip
    return _announced(engine.iter_edit(
        field, latents, source_text, target_text, grid(method.steps), method,
        null_text=null_text, seeds=seeds, mask=mask, slides=slides,
    ))  # fmt: skip


def _announced(states: Iterator[EngineState]) -> Iterator[EngineState]:
    """Tell captures and interventions the number of every step while it is made."""
    run = object()
    for step in itertools.count():
        with announce(Label(step=step, run=run)):
            state = next(states, None)
        if state is None:
            return
        yield state


class _Announced:
    """A velocity field that tells captures and interventions the number of every evaluation."""

    def __init__(self, field: VelocityField) -> None:
        self.field, self.run, self.numbers = field, object(), itertools.count()

    def __call__(self, latents: Latents, sigma: float, text: Text) -> torch.Tensor:
        with announce(Label(step=next(self.numbers), run=self.run)):
            return self.field(latents, sigma, text)
