"""Tables of the report page, and how numbers look in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ditlens.bench.folder import BenchFolder

MISSING = "–"
SHARES = {"share", "rate", "fraction", "0/1", "yes/no", "%"}
COMBINED = "several at once"


@dataclass(frozen=True)
class Number:
    """A measured value with its 95 % interval, where it has one."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    nan: int = 0

    @classmethod
    def of(cls, raw: Any) -> Number:
        """From summary.json: an object with value, low, high, n and nan, or a plain number."""
        if not isinstance(raw, dict):
            raw = {"value": raw}
        value, low, high = (
            math.nan if raw.get(k) is None else float(raw[k]) for k in ("value", "low", "high")
        )
        return cls(value, low, high, int(raw.get("n") or 0), int(raw.get("nan") or 0))


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its HTML, and the number by which its column is sorted."""

    html: str
    value: float = math.nan
    style: str = ""


@dataclass(frozen=True)
class Head:
    """A column's heading: its HTML, and what hovering shows."""

    html: str
    hint: str = ""


def at_degree(bench: BenchFolder, method: str, degree: float) -> dict[str, Any]:
    """A method's part of summary.json at a degree (its keys are texts: "1.0")."""
    degrees = bench.summary.get("methods", {}).get(method, {}).get("degrees", {})
    return next((metrics for key, metrics in degrees.items() if float(key) == degree), {})


def is_share(bench: BenchFolder, metric: str) -> bool:
    """Whether a metric is a share of all edits, shown in per cent."""
    return metric == "success" or bench.about.get("metrics", {}).get(metric, {}).get("unit") in SHARES


def digits(values: Iterable[float]) -> int:
    """How many decimals a column needs to show how its values differ."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0
    spread = max(known) - min(known)
    size = spread if spread > 0 else max(map(abs, known))
    return min(max(1 - math.floor(math.log10(size)), 0), 4) if size > 0 else 0


def shown(value: float, decimals: int, share: bool = False) -> str:
    """A number as text; shares in per cent."""
    if not math.isfinite(value):
        return MISSING
    text = f"{100 * value:.{max(decimals - 2, 0)}f} %" if share else f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def table(
    caption: str, heads: Sequence[Head], rows: Sequence[tuple[str, Sequence[Cell]]], note: str = ""
) -> str:
    """A table that is sorted by the buttons in its headings; the first column has the rows' names.

    Args:
        caption: What the table shows, as text.
        heads: All headings, that of the first column too.
        rows: Each row's name, as text, and its cells.
        note: How to read it, as HTML.
    """
    buttons = "".join(
        f'<th scope="col" aria-sort="none" title="{escape(head.hint)}">'
        f'<button type="button" class="sort">{head.html}</button></th>'
        for head in heads
    )
    body = "\n".join(
        f'<tr><th scope="row" data-value="{escape(name)}">{escape(name)}</th>{"".join(map(_cell, cells))}</tr>'
        for name, cells in rows
    )
    return (
        f'<div><div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="sortable"><caption>{escape(caption)}</caption><thead><tr>{buttons}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>" + (f'<p class="note">{note}</p>' if note else "") + "</div>"
    )


def _cell(cell: Cell) -> str:
    value = f"{cell.value:.9g}" if math.isfinite(cell.value) else ""
    return f'<td class="{cell.style}" data-value="{value}">{cell.html}</td>'


# --- methods x metrics ---------------------------------------------------------------------------------------


def main_table(bench: BenchFolder) -> str:
    """Every method and metric at degree 1, with intervals; the best values are marked."""
    degree = bench.main_degree
    metrics = [m for m in bench.metrics if any(m in at_degree(bench, name, degree) for name in bench.methods)]
    numbers = {
        m: [Number.of(at_degree(bench, name, degree).get(m)) for name in bench.methods] for m in metrics
    }
    columns = [_column(bench, metric, numbers[metric]) for metric in metrics]
    rows = list(
        zip(bench.methods, zip(*columns, strict=True) if columns else [()] * len(bench.methods), strict=True)
    )
    note = (
        "Small: 95 % interval. <b>★</b> the best value of its column. <b>≈</b> its interval overlaps that of the "
        "best: the difference may be chance. Click a heading, or press Enter on it, to sort."
    )
    heads = [Head("method"), *(_head(bench, metric) for metric in metrics)]
    return table(f"All methods at degree {degree:g}", heads, rows, note)


def _head(bench: BenchFolder, metric: str) -> Head:
    about = bench.about.get("metrics", {}).get(metric, {})
    arrow = {"lower": "↓ lower is better", "higher": "↑ higher is better"}.get(about.get("better", ""), "")
    unit = "" if is_share(bench, metric) else about.get("unit") or ""
    small = "<br>".join(f"<small>{escape(part)}</small>" for part in (unit, arrow) if part)
    return Head(
        escape(about.get("title") or metric) + ("<br>" + small if small else ""), about.get("identity", "")
    )


def _column(bench: BenchFolder, metric: str, numbers: list[Number]) -> list[Cell]:
    """The cells of one metric."""
    best = best_of(numbers, bench.about.get("metrics", {}).get(metric, {}).get("better", ""))
    decimals, share = digits(number.value for number in numbers), is_share(bench, metric)
    return [_number_cell(number, decimals, share, best) for number in numbers]


def best_of(numbers: Sequence[Number], better: str) -> Number | None:
    """The best number, if it is known which way is better and the numbers differ."""
    known = [number for number in numbers if math.isfinite(number.value)]
    if better not in ("lower", "higher") or len({number.value for number in known}) < 2:
        return None
    return (min if better == "lower" else max)(known, key=lambda number: number.value)


def _number_cell(number: Number, decimals: int, share: bool, best: Number | None = None) -> Cell:
    text, style = shown(number.value, decimals, share), ""
    if best is not None and number.value == best.value:
        text, style = f'<b>{text} <span aria-label="best">★</span></b>', "best"
    elif best is not None and number.low <= best.high and number.high >= best.low:
        text += ' <span aria-label="may be chance">≈</span>'
    if math.isfinite(number.low) and math.isfinite(number.high):
        ends = (shown(end, decimals, share) for end in (number.low, number.high))
        text += f"<br><small>{' to '.join(ends)}</small>"
    if number.nan:
        text += f"<br><small>{number.nan} of {number.n + number.nan} without a value</small>"
    return Cell(text, number.value, style)


# --- methods x what summary.json holds besides ------------------------------------------------------------------

TITLES = {
    "spearman": "rank correlation<br><small>of degree and effect; 1: always more</small>",
    "r2": "R²<br><small>of a straight line; 1: even</small>",
    "slope": "slope<br><small>effect per degree</small>",
    "range": "range<br><small>of the effect</small>",
    "nfe": "NFE<br><small>network evaluations</small>",
    "calls": "calls<br><small>of the transformer</small>",
    "seconds": "time<br><small>seconds</small>",
}
BETTER = {"spearman": "higher", "r2": "higher", "nfe": "lower", "calls": "lower", "seconds": "lower"}


def sweep_table(bench: BenchFolder) -> str:
    """What holds over all degrees: how steadily an edit follows its degree."""
    note = "Median over the items whose changed attributes are all continuous."
    return _summary_table(bench, "sweep", "How steadily the effect follows the degree", note)


def matched_table(bench: BenchFolder) -> str:
    """The drift of the methods where their effects are equal."""
    note = (
        "A method that changes little also disturbs little. Here every method is taken at the degree at which its "
        f"mean effect reaches the same value; {MISSING} if it never does."
    )
    return _summary_table(bench, "matched", "Drift at the same effect", note)


def cost_table(bench: BenchFolder) -> str:
    """What each method costs for one edit."""
    note = (
        "NFE counts every evaluation of the velocity for one picture and one text; a call may hold several. "
        "Seconds depend on the machine: compare NFE across machines."
    )
    return _summary_table(bench, "cost", "Cost of one edit, mean", note)


def _summary_table(bench: BenchFolder, part: str, caption: str, note: str) -> str:
    """Methods x whatever a part of summary.json holds; nothing, if it holds nothing."""
    parts = {name: bench.summary.get("methods", {}).get(name, {}).get(part) or {} for name in bench.methods}
    keys = list(dict.fromkeys(key for found in parts.values() for key in found))
    if not keys:
        return ""
    columns = []
    for key in keys:
        numbers = [Number.of(parts[name].get(key)) for name in bench.methods]
        best = best_of(numbers, "lower" if part == "matched" else BETTER.get(key, ""))
        columns.append([_number_cell(n, digits(m.value for m in numbers), False, best) for n in numbers])
    heads = [Head("method"), *(Head(TITLES.get(key) or escape(key.replace("_", " "))) for key in keys)]
    return table(caption, heads, list(zip(bench.methods, zip(*columns, strict=True), strict=True)), note)


# --- attributes x methods --------------------------------------------------------------------------------------


def attribute_table(bench: BenchFolder) -> str:
    """Success and drift per attribute, at degree 1, counted from the rows."""
    groups: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in bench.rows:
        if row.degree == bench.main_degree:
            names = bench.items[row.item].attributes
            group = names[0] if len(names) == 1 else COMBINED
            groups.setdefault(group, {}).setdefault(row.method, []).append(row.metrics)
    ordered = sorted(groups, key=lambda name: (name == COMBINED, name))
    rows = [(name, [_attribute_cell(groups[name].get(m, [])) for m in bench.methods]) for name in ordered]
    heads = [Head("attribute"), *(Head(escape(method)) for method in bench.methods)]
    note = (
        "Edits of one attribute stand under its name, edits of several in the last row. Top: how many of the edits "
        "that could be judged did what was asked for; below: mean drift of everything else. Few edits per cell: "
        "a difference of one or two is chance."
    )
    return table(f"By attribute, at degree {bench.main_degree:g}", heads, rows, note)


def _attribute_cell(metrics: list[dict[str, float]]) -> Cell:
    wins = [m["success"] for m in metrics if math.isfinite(m.get("success", math.nan))]
    drift = [m["drift"] for m in metrics if math.isfinite(m.get("drift", math.nan))]
    if not metrics or not (wins or drift):
        return Cell(MISSING)
    share = sum(wins) / len(wins) if wins else math.nan
    lines = [f"{sum(wins):.0f} of {len(wins)}"] if wins else [MISSING]
    lines += [f"<small>drift {sum(drift) / len(drift):.3f}</small>"] if drift else []
    return Cell("<br>".join(lines), share)
