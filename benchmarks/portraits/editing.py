"""Edits: is the target reached, does anything else move, does the degree do what it says?"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from benchmarks.portraits.common import SEEDS, Bench, brief, by_attribute, people, progress, result
from benchmarks.portraits.sheets import Tile
from benchmarks.report import Results
from ditlens.ems.edit import Edit, edit
from ditlens.errors import CaptionError, DitlensError
from ditlens.metrics.statistics import bootstrap, spearman, wilson
from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    CONTINUOUS,
    Attributes,
    Categorical,
    distance,
    take,
)
from ditlens.worlds.portraits.describer import change_indices
from ditlens.worlds.portraits.instructions import Instruction, instruction
from ditlens.worlds.portraits.measure import drift, hidden, reached
from ditlens.worlds.portraits.render import render

DEGREES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Degrees of the sweeps."""


def wishes(count: int, seed: str, names: Sequence[str] = ()) -> tuple[Attributes, list[Instruction]]:
    """Held-out portraits, each with a single-attribute instruction (of the attributes `names`, in turn)."""
    everyone, rng = people(count, seed), random.Random(SEEDS[seed])
    asked = []
    for i in range(count):
        try:
            asked.append(instruction(everyone, i, rng, names=[names[i % len(names)]] if names else None))
        except CaptionError:  # hidden in this portrait
            asked.append(instruction(everyone, i, rng, names=[names[0]]))
    return everyone, asked


def edits(bench: Bench) -> Results:
    """Single-attribute instructions through `ditlens.edit` at degree 1, described by the model's describer."""
    everyone, asked = wishes(bench.edits, "edits")
    hits: list[dict[str, bool]] = []
    drifts: list[float] = []
    moved: dict[str, list[float]] = defaultdict(list)
    understood = 0
    for i in progress("edits", bench.edits):
        wish, picture = asked[i], render(take(everyone, i), bench.model.side)
        try:
            done = edit(bench.model, picture, wish.text, seed=i)
        except DitlensError as error:
            hits.append(dict.fromkeys(wish.changes, False))
            print(f"edit {i} ({wish.text!r}): {error}", file=sys.stderr)
            continue
        before, after = values_of(done)
        hits.append(reached(after, wish.changes))
        drifts.append(drift(before, after, wish.changes))
        understood += change_indices(done.source_text, done.target_text) == wish.changes
        for name, change in distance(before, after).items():
            if name not in {*wish.changes, *hidden(before), *hidden(after)}:
                moved[name].append(change)
        if not all(hits[-1].values()):
            seen = ", ".join(f"{name} {brief(after[name])}" for name in wish.changes)
            bench.failures["edits"].append(
                (1, [Tile(done.source_image, wish.text), Tile(done.image, f"seen: {seen}")])
            )
    count, right = len(hits), sum(all(hit.values()) for hit in hits)
    note = f"degree 1; the describer's texts ask for exactly the wanted change in {understood} of {count}"
    if count > len(drifts):
        note += f"; {count - len(drifts)} ended in an error"
    parts = {n: {"value": float(np.mean(moved[n])), "n": len(moved[n])} for n in ATTRIBUTES if n in moved}
    results = {
        "edit_target_reached": result(
            right / count, *wilson(right, count), count, "share", note, parts=by_attribute(hits)
        )
    }
    if drifts:
        note = "attributes visible before and after, in units of their range; a category counts 0 or 1"
        results["edit_drift"] = result(
            float(np.mean(drifts)), *bootstrap(drifts), len(drifts), "range", note, parts=parts
        )
    return results


def values_of(done: Edit) -> tuple[dict[str, float | str], dict[str, float | str]]:
    """Attributes before and after an edit."""
    assert done.before is not None and done.after is not None, "the model has no oracle"
    return done.before, done.after


def sweeps(bench: Bench) -> Results:
    """Rank correlation of degree and measured attribute, towards the wanted level."""
    names = [c.name for c in CONTINUOUS]
    everyone, asked = wishes(bench.sweeps, "sweeps", names)
    found: list[float] = []
    parts: dict[str, list[float]] = defaultdict(list)
    for i in progress("sweeps", bench.sweeps):
        ((name, level),) = asked[i].changes.items()
        spec = ATTRIBUTES[name]
        assert not isinstance(spec, Categorical)
        up = spec.levels[level].center > float(everyone[name][i])
        picture = render(take(everyone, i), bench.model.side)
        try:
            sweep = edit(bench.model, picture, asked[i].text, seed=i).sweep(DEGREES)
        except DitlensError as error:
            print(f"sweep {i} ({asked[i].text!r}): {error}", file=sys.stderr)
            values: list[float] = [0.0] * len(DEGREES)
        else:
            values = [float(value) for value in sweep.values(name)]
        found.append(spearman(DEGREES, values) * (1 if up else -1))
        parts[name].append(found[-1])
    note = (
        f"median over edits of continuous attributes, degrees {DEGREES[0]:g} to {DEGREES[-1]:g} in "
        f"{len(DEGREES)} steps, signed towards the wanted level"
    )
    table = {n: {"value": float(np.median(v)), "n": len(v)} for n, v in parts.items()}
    interval = bootstrap(found, np.median)
    return {
        "degree_spearman": result(
            float(np.median(found)), *interval, len(found), "correlation", note, parts=table
        )
    }


def degree0_exact(bench: Bench) -> Results:
    """Edits at degree 0, alone and within a sweep, against the reconstruction: every byte."""
    count = max(2, bench.edits // 10)
    everyone, asked = wishes(count, "exact")
    exact = []
    for i in progress("degree 0", count):
        picture = render(take(everyone, i), bench.model.side)
        try:
            done = edit(bench.model, picture, asked[i].text, degree=0.0, seed=i)
        except DitlensError as error:
            print(f"degree 0, {i} ({asked[i].text!r}): {error}", file=sys.stderr)
            continue
        for each in (done, done.sweep([0.0, 1.0]).edits[0]):
            exact.append(each.image.tobytes() == each.reconstruction.tobytes())
    if not exact:
        raise ValueError("every edit ended in an error")
    note = "share of edits whose pixels equal the reconstruction's, half of them within a sweep"
    return {"degree0_exact": result(sum(exact) / len(exact), None, None, len(exact), "share", note)}
