"""From rows to numbers: means with intervals at each degree, curves, and comparisons at the same effect."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from ditlens.metrics.continuous import at_effect, linearity, slope, span, spearman
from ditlens.metrics.statistics import estimate, paired

GOALS = (0.5, 0.8)
"""Effects at which the drift of methods is compared."""
COST = ("nfe", "calls", "seconds")

Rows = Sequence[Mapping[str, Any]]


def summarise(rows: Rows, metrics: Sequence[str], continuous: Collection[str] = ()) -> dict[str, Any]:
    """All numbers of the report.

    Args:
        rows: The rows of the table.
        metrics: Names of the metrics.
        continuous: Names of the world's continuous attributes, whose edits are read as curves.

    Returns:
        ``{"shared_degrees", "methods": {name: {"degrees", "sweep", "matched", "cost", "errors"}}}``.
    """
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    shared = shared_degrees(rows, methods)
    of = {name: [row for row in rows if row["method"] == name] for name in methods}
    found = {name: _method(own, metrics, shared, continuous) for name, own in of.items()}
    return {"shared_degrees": shared, "methods": found}


def shared_degrees(rows: Rows, methods: Sequence[str]) -> list[float]:
    """The degrees at which all methods were run.

    Curves are compared on these only: what is read off between two degrees depends on how far apart they are.
    """
    by_method = [
        {float(r["degree"]) for r in rows if r["method"] == m and not r.get("error")} for m in methods
    ]
    return sorted(set.intersection(*[degrees for degrees in by_method if degrees] or [set()]))


def at_degrees(rows: Rows, degrees: Sequence[float]) -> list[Mapping[str, Any]]:
    """The rows at some degrees."""
    return [row for row in rows if float(row["degree"]) in degrees]


def _method(
    rows: Rows, metrics: Sequence[str], shared: Sequence[float], continuous: Collection[str]
) -> dict[str, Any]:
    fine = [row for row in rows if not row.get("error")]
    degrees: dict[str, Any] = {}
    for degree in sorted({float(row["degree"]) for row in fine}):
        here = [row for row in fine if row["degree"] == degree]
        measured = [metric for metric in metrics if any(metric in row for row in fine)]
        degrees[f"{degree:g}"] = {m: estimate([number(row, m) for row in here]) for m in measured}
    table = effect_table(at_degrees(fine, [d for d in shared if d > 0]))
    matched = {
        f"drift_at_{goal:g}": paired([table], partial(drift_at, goal=goal), repeats=500)
        for goal in GOALS
        if table is not None
    }
    curves = curves_of(at_degrees(fine, [d for d in shared if 0 <= d <= 1]))
    paid = [name for name in COST if fine and all(name in row for row in fine)]
    return {
        "degrees": degrees,
        "sweep": sweep_of(curves, continuous),
        "matched": matched,
        "cost": {name: float(np.mean([row[name] for row in fine])) for name in paid},
        "errors": len(rows) - len(fine),
    }


def number(row: Mapping[str, Any], name: str) -> float:
    """A cell as a number; NaN where there is none."""
    value = row.get(name, math.nan)
    return math.nan if value in ("", None) else float(value)


def curves_of(rows: Rows) -> dict[str, tuple[list[float], list[float], str]]:
    """Degrees and effects of every item, with its kind, in rising degree."""
    found: dict[str, tuple[list[float], list[float], str]] = {}
    for row in sorted(rows, key=lambda r: float(r["degree"])):
        if not math.isnan(number(row, "effect")):
            degrees, effects, _ = found.setdefault(str(row["item"]), ([], [], str(row["kind"])))
            degrees.append(float(row["degree"]))
            effects.append(number(row, "effect"))
    return {item: curve for item, curve in found.items() if len(curve[0]) > 2}


def sweep_of(
    curves: Mapping[str, tuple[list[float], list[float], str]], continuous: Collection[str]
) -> dict[str, Any]:
    """How the measured attributes follow the degree, over items whose changed attributes are all continuous."""
    chosen = [(d, e) for d, e, kind in curves.values() if set(kind.split("+")) <= set(continuous)]
    measures = {"spearman": spearman, "r2": linearity, "slope": slope, "range": lambda _, e: span(e)}
    found = {name: [measure(d, e) for d, e in chosen] for name, measure in measures.items() if chosen}
    return {name: estimate(values, np.median) for name, values in found.items()}


def effect_table(rows: Rows, methods: Sequence[str] | None = None) -> np.ndarray | None:
    """Effects and drifts, (items, methods x degrees, 2), of the items that have both everywhere; None without any.

    Args:
        rows: The rows.
        methods: Order of the methods; that of the rows by default.
    """
    methods = methods or list(dict.fromkeys(row["method"] for row in rows))
    columns = list(product(methods, sorted({float(row["degree"]) for row in rows})))
    items: dict[str, dict[tuple[str, float], tuple[float, float]]] = {}
    for row in rows:
        cell = (number(row, "effect"), number(row, "drift"))
        if not any(map(math.isnan, cell)):
            items.setdefault(str(row["item"]), {})[row["method"], float(row["degree"])] = cell
    whole = [cells for _, cells in sorted(items.items()) if len(cells) == len(columns)]
    return np.array([[cells[column] for column in columns] for cells in whole]) if whole else None


def drift_at(table: np.ndarray, goal: float) -> float:
    """Mean drift where the mean effect reaches the goal; NaN where it never does."""
    effect, drift = table.mean(0).T
    return at_effect(list(effect), list(drift), goal)


def drift_ratio(rows: Rows, method: str, other: str, goal: float = 0.8) -> dict[str, float | int]:
    """Drift of a method over that of another, at the same effect, on items and degrees of both."""
    methods = (method, other)
    fine = [row for row in rows if row["method"] in methods and not row.get("error")]
    degrees = [d for d in shared_degrees(fine, methods) if d > 0]
    table = effect_table(at_degrees(fine, degrees), methods)
    if table is None:
        return estimate([])
    return paired(np.split(table, 2, axis=1), lambda a, b: drift_at(a, goal) / drift_at(b, goal))
