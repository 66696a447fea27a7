"""Run any editing method step by step: the one entrance to the engine and to the short loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ditlens import flow
from ditlens.ems import engine, loops
from ditlens.ems.engine import EngineState, SourceSide
from ditlens.ems.loops import Grid, Inversion, Method, Resample
from ditlens.ems.methods import DDS, FLOWEDIT, FLOWEDIT_FLUX, PRESETS, Distillation, OdeEdit
from ditlens.errors import SettingError
from ditlens.flow import Latents, Mask, Text, VelocityField
from ditlens.models.encoders import family_of
from ditlens.models.model import Model

METHODS: dict[str, Method] = {
    **PRESETS,
    **{m.name: m for m in (loops.SDEDIT, loops.DDIB, loops.RF_INVERSION, loops.RF_SOLVER, loops.FIREFLOW)},
}
"""Every method by name, with its published settings for SD3 and latents of 64 x 64; see `method_for`."""


def method_named(name: str, family: str = "sd3", size: Sequence[int] = (64, 64)) -> Method:
    """A method with the settings that were published for models of some family and size.

    FlowEdit has other settings for FLUX than for SD3; what was published for one family only is the same for all.
    The learning rate of DDS, and of the methods that have it from there, is 0.1 * 2000 / (H W). It is never above
    1, where a step undoes the whole of what it finds: latents below 15 x 15 would be thrown far beyond.

    Args:
        name: A name in `METHODS`.
        family: "sd3" or "flux".
        size: Height and width of the latents.

    Raises:
        SettingError: If there is none of this name; the message lists them.

    Example:
        >>> method_named("dds", size=(128, 128)).lr
        0.0122
    """
    if name not in METHODS:
        raise SettingError(f"There is no method {name!r}. Choose from: {', '.join(('ems', *METHODS))}.")
    method = FLOWEDIT_FLUX if (name, family) == (FLOWEDIT.name, "flux") else METHODS[name]
    if isinstance(method, Distillation) and method.lr == DDS.lr:
        return dataclasses.replace(method, lr=min(1.0, round(0.1 * 2000 / (size[0] * size[1]), 4)))
    return method


def method_for(model: Model, name: str, size: Sequence[int] | None = None) -> Method:
    """A method with the settings that were published for a model's family and for its size.

    Args:
        model: The model.
        name: Name of the method.
        size: Height and width of the latents; those of the model's native images by default.

    Raises:
        SettingError: If there is none of this name; the message lists them.
    """
    native = model.side // model.pipe.vae_scale_factor
    return method_named(name, family_of(model), (native, native) if size is None else size)


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
        SettingError: If its kind or a setting is unknown, or a setting is out of range.

    Example:
        >>> method_from({"kind": "resample", "name": "mine", "steps": 20}).steps
        20
    """
    values = dict(settings)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise SettingError(f"There is no kind of method {kind!r}. Choose from: {', '.join(KINDS)}.")
    known = {f.name for f in dataclasses.fields(KINDS[kind])}
    if unknown := sorted(set(values) - known):
        raise SettingError(f"A method of kind {kind!r} has no setting {unknown}. Settings: {sorted(known)}.")
    if isinstance(values.get("first"), Mapping):
        values["first"] = method_from(values["first"])
    if "name" not in values:
        raise SettingError(f"A method needs a name: {{'kind': {kind!r}, 'name': 'mine', ...}}.")
    method: Method = KINDS[kind](**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})
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
    kept: SourceSide | None = None,
) -> Iterator[EngineState]:
    """Edit latents with any method; yields after every step, and stops when you stop iterating.

    Captures and interventions know the number of the step; of an `Inversion` every evaluation counts as one,
    because its solvers may look at several noise levels in a step.

    Args:
        field: The velocity field.
        latents: Clean latents of the source images, (B, C, H, W).
        source_text: Describes the images (1 or B).
        target_text: Describes the wanted images, moved by the degree already (1 or B).
        method: Settings of the engine, or one of the short loops.
        grid: Makes the noise levels of a number of steps; `Model.sigmas` for a real model.
        null_text: The empty prompt; needed if a guidance away from it is not 1.
        seeds: One seed per item for its noise, drawn on the CPU; None means 0, 1, ..., B - 1.
        mask: Where the latents may change, (1 or B, 1, H, W) in [0, 1]; None: everywhere.
        slides: Factor on the guidance of each item, (B,), for methods that slide by guidance.
        kept: What an earlier run has found at the source point, and is not evaluated again; what is missing is
            added. For methods whose `shares_source` is true, if all items have the same latents, source text
            and seed.

    Returns:
        An iterator of `EngineState`; the last state's latents are the edited image's.

    Raises:
        SettingError: If grid, texts, guidance, mask or seeds do not fit.
    """
    mask, texts = engine.check_mask(mask, latents), (source_text, target_text)
    given: dict[str, Any] = {"null_text": null_text, "seeds": seeds, "mask": mask}
    if isinstance(method, Resample):
        made = loops.resample(latents, *texts, method, grid, **given)
    elif isinstance(method, Inversion):
        made = loops.invert(latents, *texts, method, grid, **given)
    else:
        made = engine.prepare(latents, *texts, grid(method.steps), method, **given, slides=slides, kept=kept)
    return engine.drive(field, *made, every_call=isinstance(method, Inversion))
