"""Tables of the report page, and how numbers look in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ditlens.bench.folder import BenchFolder

MISSING = "–"
SHARES = {"share", "rate", "fraction", "0/1", "yes/no", "%"}
COMBINED = "several at once"
TITLES = {
    "spearman": ("rank correlation", "of degree and effect; 1: always more"),
    "r2": ("R²", "of a straight line; 1: even"),
    "slope": ("slope", "effect per degree"),
    "range": ("range", "of the effect"),
    "nfe": ("NFE", "network evaluations"),
    "calls": ("calls", "of the transformer"),
    "seconds": ("time", "seconds"),
}
"""Headings of what summary.json holds besides metrics, each with its explanation."""
BETTER = {"spearman": "higher", "r2": "higher", "nfe": "lower", "calls": "lower", "seconds": "lower"}


class Number(NamedTuple):
    """A measured value with its 95 % interval, where it has one.

    Attributes:
        value: The value.
        low: Lower end of the interval.
        high: Upper end.
        n: How many edits have a value.
        nan: How many have none.
        undefined: Share of the resamples behind the interval that have none.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    nan: int = 0
    undefined: float = 0.0

    @classmethod
    def of(cls, raw: Any) -> Number:
        """From summary.json: an object with these names, or a plain number."""
        known = raw if isinstance(raw, dict) else {"value": raw}
        return cls(**{name: known[name] for name in cls._fields if known.get(name) is not None})


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: What it says.
        small: Smaller lines below.
        value: The number by which its column is sorted; NaN comes last.
        mark: "best" for the best value of its column, "close" where the difference to it may be chance.
    """

    text: str
    small: Sequence[str] = ()
    value: float = math.nan
    mark: str = ""


class Head(NamedTuple):
    """The heading of a column: its title, smaller lines below, and a tooltip."""

    title: str
    small: Sequence[str] = ()
    hint: str = ""


class Table(NamedTuple):
    """A table: its caption, the headings (of the first column, too), and each row's name and cells."""

    caption: str
    heads: Sequence[Head]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def at_degree(bench: BenchFolder, method: str, degree: float) -> dict[str, Any]:
    """A method's part of summary.json at a degree (its keys are texts: "1.0")."""
    degrees = bench.summary.get("methods", {}).get(method, {}).get("degrees", {})
    return next((metrics for key, metrics in degrees.items() if float(key) == degree), {})


def about_metric(bench: BenchFolder, metric: str) -> dict[str, str]:
    """What bench.json says about a metric."""
    return bench.about.get("metrics", {}).get(metric, {})


def digits(values: Sequence[float]) -> int:
    """How many decimals a column needs to show how its values differ."""
    if not values:
        return 0
    size = (max(values) - min(values)) or max(map(abs, values))
    return min(max(1 - math.floor(math.log10(size)), 0), 4) if size > 0 else 0


def shown(value: float, decimals: int, share: bool = False) -> str:
    """A number as text; shares in per cent."""
    if not math.isfinite(value):
        return MISSING
    text = f"{100 * value:.{max(decimals - 2, 0)}f} %" if share else f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def table(
    bench: BenchFolder, caption: str, heads: Sequence[Head], columns: Sequence[Sequence[Cell]]
) -> Table:
    """A table with one row per method, from its columns."""
    cells = zip(*columns, strict=True) if columns else [()] * len(bench.methods)
    return Table(caption, [Head("method"), *heads], list(zip(bench.methods, cells, strict=True)))


def column(numbers: Sequence[Number], better: str, share: bool = False) -> list[Cell]:
    """The cells of one metric, all methods: values, their intervals, and how many edits have none.

    Args:
        numbers: What was measured.
        better: "higher", "lower" or unknown: then, or where all values are equal, none is the best.
        share: Whether they are shown in per cent.
    """
    known = [number for number in numbers if math.isfinite(number.value)]
    decimals, best = digits([number.value for number in known]), Number()
    if better in ("lower", "higher") and len({number.value for number in known}) > 1:
        best = (min if better == "lower" else max)(known, key=lambda number: number.value)
    cells = []
    for number in numbers:
        overlaps = number.low <= best.high and number.high >= best.low  # nothing does with NaN
        mark = "best" if number.value == best.value else "close" if overlaps else ""
        ends = [shown(end, decimals, share) for end in (number.low, number.high)]
        small = [] if MISSING in ends else [" to ".join(ends)]
        if number.nan:
            small.append(f"{number.nan} of {number.n + number.nan} without a value")
        if number.undefined:
            small.append(f"{100 * number.undefined:.0f} % of resamples without a value")
        cells.append(Cell(shown(number.value, decimals, share), small, number.value, mark))
    return cells


def main_table(bench: BenchFolder) -> Table:
    """Every method and metric at degree 1, with intervals; the best values are marked."""
    found = {method: at_degree(bench, method, bench.main_degree) for method in bench.methods}
    heads, columns = [], []
    for metric in bench.metrics:
        if not any(metric in values for values in found.values()):
            continue
        about = about_metric(bench, metric)
        better, unit = about.get("better", ""), about.get("unit") or ""
        share = metric == "success" or unit in SHARES
        arrow = {"lower": "↓ lower is better", "higher": "↑ higher is better"}.get(better, "")
        small = [line for line in ("" if share else unit, arrow) if line]
        heads.append(Head(about.get("title") or metric, small, about.get("identity", "")))
        columns.append(column([Number.of(values.get(metric)) for values in found.values()], better, share))
    return table(bench, f"All methods at degree {bench.main_degree:g}", heads, columns)


def unlike(bench: BenchFolder) -> str:
    """How many images each method edited, where these are not the same; else empty."""
    edited: dict[str, set[str]] = {method: set() for method in bench.methods}
    for row in bench.rows:
        edited[row.method].add(row.item)
    if len(set(map(frozenset, edited.values()))) < 2:
        return ""
    return ", ".join(f"{method} {len(items)}" for method, items in edited.items())


CAPTIONS = {
    "sweep": "How steadily the effect follows the degree",
    "matched": "Drift at the same effect",
    "cost": "Cost of one edit, mean",
}
"""The parts of summary.json besides the metrics at each degree."""


def summary_table(bench: BenchFolder, part: str) -> Table | None:
    """Methods x whatever a part of summary.json (of `CAPTIONS`) holds; None if it holds nothing."""
    parts = [bench.summary.get("methods", {}).get(name, {}).get(part) or {} for name in bench.methods]
    heads, columns = [], []
    for key in dict.fromkeys(key for found in parts for key in found):
        title, *small = TITLES.get(key, (key.replace("_", " "),))
        heads.append(Head(title, small))
        better = "lower" if part == "matched" else BETTER.get(key, "")
        columns.append(column([Number.of(found.get(key)) for found in parts], better))
    return table(bench, CAPTIONS[part], heads, columns) if columns else None


def attribute_table(bench: BenchFolder) -> Table:
    """Success and drift per attribute, at degree 1, counted from the rows."""
    groups: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in bench.rows:
        if row.degree == bench.main_degree:
            names = bench.items[row.item].attributes
            group = names[0] if len(names) == 1 else COMBINED
            groups.setdefault(group, {}).setdefault(row.method, []).append(row.metrics)
    ordered = sorted(groups, key=lambda name: (name == COMBINED, name))
    rows = [(name, [attribute_cell(groups[name].get(m, [])) for m in bench.methods]) for name in ordered]
    heads = [Head("attribute"), *map(Head, bench.methods)]
    return Table(f"By attribute, at degree {bench.main_degree:g}", heads, rows)


def attribute_cell(metrics: list[dict[str, float]]) -> Cell:
    """How many edits did what was asked, their mean drift and residual."""
    found = {
        name: [m[name] for m in metrics if math.isfinite(m.get(name, math.nan))]
        for name in ("success", "drift", "net_drift", "residual")
    }
    wins = found.pop("success")
    text = f"{sum(wins):.0f} of {len(wins)}" if wins else MISSING
    small = [f"{name.replace('_', ' ')} {sum(v) / len(v):.3f}" for name, v in found.items() if v]
    return Cell(text, small, sum(wins) / len(wins) if wins else math.nan)
