"""From rows to numbers: means with intervals at each degree, curves, and comparisons at the same effect."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
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
    return {
        "shared_degrees": shared,
        "methods": {
            name: _method([r for r in rows if r["method"] == name], metrics, shared, continuous)
            for name in methods
        },
    }


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
    degrees = sorted({float(row["degree"]) for row in fine})
    at = {
        f"{degree:g}": {
            m: estimate([number(row, m) for row in fine if row["degree"] == degree])
            for m in metrics
            if any(m in row for row in fine)
        }
        for degree in degrees
    }
    curves = curves_of(at_degrees(fine, [d for d in shared if 0 <= d <= 1]))
    result: dict[str, Any] = {
        "degrees": at,
        "sweep": sweep_of(curves, continuous),
        "matched": {},
        "cost": {
            c: float(np.mean([row[c] for row in fine])) for c in COST if fine and all(c in r for r in fine)
        },
        "errors": len(rows) - len(fine),
    }
    table = effect_table(at_degrees(fine, [d for d in shared if d > 0]))
    if table is not None:
        for goal in GOALS:
            result["matched"][f"drift_at_{goal:g}"] = paired(
                [table], lambda t, g=goal: drift_at(t, g), repeats=500
            )
    return result


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
    if not chosen:
        return {}
    return {
        "spearman": estimate([spearman(d, e) for d, e in chosen], np.median),
        "r2": estimate([linearity(d, e) for d, e in chosen], np.median),
        "slope": estimate([slope(d, e) for d, e in chosen], np.median),
        "range": estimate([span(e) for _, e in chosen], np.median),
    }


def effect_table(rows: Rows) -> np.ndarray | None:
    """Effects and drifts, (items, degrees, 2), of the items that have both at every degree; None without any."""
    degrees = sorted({float(row["degree"]) for row in rows})
    by_item: dict[str, dict[float, tuple[float, float]]] = {}
    for row in rows:
        cell = (number(row, "effect"), number(row, "drift"))
        if not any(map(math.isnan, cell)):
            by_item.setdefault(str(row["item"]), {})[float(row["degree"])] = cell
    whole = {item: cells for item, cells in by_item.items() if len(cells) == len(degrees)}
    if not whole or not degrees:
        return None
    return np.array([[whole[item][d] for d in degrees] for item in sorted(whole)])


def drift_at(table: np.ndarray, goal: float) -> float:
    """Mean drift where the mean effect reaches the goal; NaN where it never does."""
    effect, drift = table.mean(0).T
    return at_effect(list(effect), list(drift), goal)


def drift_ratio(rows: Rows, method: str, other: str, goal: float = 0.8) -> dict[str, float | int]:
    """Drift of a method over that of another, at the same effect, on items and degrees of both."""
    rows = [row for row in rows if row["method"] in (method, other)]
    degrees = [d for d in shared_degrees(rows, [method, other]) if d > 0]
    rows = at_degrees(rows, degrees)
    tables = []
    items = [
        {str(r["item"]) for r in rows if r["method"] == name and not r.get("error")}
        for name in (method, other)
    ]
    shared = items[0] & items[1]
    for name in (method, other):
        table = effect_table(
            [r for r in rows if r["method"] == name and r["item"] in shared and not r.get("error")]
        )
        if table is None:
            return {"value": math.nan, "low": math.nan, "high": math.nan, "n": 0, "nan": 0}
        tables.append(table)
    return paired(tables, lambda a, b: drift_at(a, goal) / drift_at(b, goal))
