"""Make a report: measure what a model says to the three findings of the paper."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ditlens.analysis.report import apart, both, together
from ditlens.analysis.report.findings import Evidence, Report
from ditlens.analysis.report.page import write_report
from ditlens.analysis.report.subject import Subject
from ditlens.arguments import FLAG, NOTHING, NUMBER, PATH, instance, takes
from ditlens.errors import SettingError
from ditlens.files import user_path
from ditlens.lens.hooks import parts_of
from ditlens.models.identity import fingerprint
from ditlens.models.model import MODEL, Model
from ditlens.tables import progress_bar
from ditlens.version import __version__

Measurement = Callable[[Subject], Evidence]
WITH_WORLD: tuple[Measurement, ...] = (
    apart.texts_change_one_thing,
    apart.image_states_move_one_thing,
    apart.directions_are_apart,
    apart.words_stay_apart,
    together.attributes_move_alone,
    together.bias_is_seen,
    both.both_are_needed,
)
"""Measurements of a model whose world reads and draws."""
WITHOUT: tuple[Measurement, ...] = (apart.words_stay_apart, both.texts_change_images)
"""Measurements of any other model."""


@takes(
    model=MODEL, folder=PATH, twin=NOTHING | instance("a model whose bias is known", Model), scale=NUMBER,
    progress=FLAG,
)  # fmt: skip
def report(
    model: Model, folder: str | Path, *, twin: Model | None = None, scale: float = 1.0, progress: bool = True
) -> Report:
    """Measure what a model says to the three findings of the paper, and write a page about it.

    Args:
        model: The model. Without a world, few of the measurements can be made; the page says which are left out.
        folder: Where ``index.html``, ``report.json`` and the images behind it go.
        twin: A model of the same world whose bias is known, with the attributes that are tied in it in
            ``twin.defaults["tied"]``; see ``dl.load("portraits-twin")``.
        scale: Share of the usual number of images and pairs: 0.5 takes half the time, with wider intervals.
        progress: Whether to show a bar.

    Returns:
        The report; print it for the verdicts.

    Raises:
        SettingError: If the scale is not positive, or the twin names no attributes that are tied.
        WriteError: If a file cannot be written.
        CaptureError: If a model runs in a backend that has no place for hooks.

    Example:
        >>> found = dl.report(model, "report", scale=0.01)  # doctest: +SKIP
        >>> found.verdict(2)  # doctest: +SKIP
        'supported'
    """
    for each in (model, *([] if twin is None else [twin])):
        parts_of(each)
    if scale <= 0:
        raise SettingError(f"scale is {scale}; give a share of the usual number of images, e.g. 0.5.")
    tied = {} if twin is None else twin.defaults.get("tied")
    if twin is not None and not tied:
        raise SettingError(
            f"{twin.name} has no 'tied' in its ditlens.json, which would say what its bias is."
        )
    place, started = user_path(folder), time.monotonic()
    subject = Subject(model, twin, {name: tuple(ends) for name, ends in (tied or {}).items()}, place, scale)
    left_out = []
    measurements = WITH_WORLD if model.world is not None else WITHOUT
    if model.world is None:
        left_out.append(
            f"{model.name} has no world that reads and draws: what moves beside an attribute, and how near an "
            "edit comes to the exact answer, cannot be measured. No other network stands in for it here."
        )
    elif twin is None:
        measurements = tuple(each for each in measurements if each is not together.bias_is_seen)
        left_out.append("No model whose bias is known was given, to see whether entanglement would be found.")
    about = {
        "model": model.name, "fingerprint": fingerprint(model)[:12], "ditlens": __version__,
        "date": time.strftime("%Y-%m-%d"), "share of the usual images": f"{scale:g}",
    }  # fmt: skip
    found: list[Evidence] = []
    with progress_bar("measurements", progress) as show:
        for number, measure in enumerate(measurements):
            show(number, len(measurements))
            found.append(timed(partial(measure, subject)))
            about["minutes"] = f"{(time.monotonic() - started) / 60:.0f}"
            rest = len(measurements) - len(found)
            missing = [f"{rest} measurements: this report was not finished."] if rest else []
            made = Report(model.name, about, found, [*left_out, *missing])
            write_report(made, place)  # after each: nothing is lost if the next one fails
        show(len(measurements), len(measurements))
    return made


def timed(measure: Callable[[], Any]) -> Evidence:
    """Evidence with the seconds that it took."""
    started = time.monotonic()
    found: Evidence = measure()
    return replace(found, seconds=time.monotonic() - started)
