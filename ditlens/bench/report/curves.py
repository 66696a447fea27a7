"""The curves of the report page: effect against drift over all degrees, as `chart.html` draws them."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

from ditlens.bench.folder import BenchFolder
from ditlens.bench.report.tables import Number, about_metric, at_degree

LEFT, RIGHT, TOP, BOTTOM = 96, 660, 18, 362
"""Where the axes are, in a drawing of 680 by 440."""


class Axis(NamedTuple):
    """A linear axis: its title, the values at its ends, its ticks, and the ends' places in the drawing."""

    title: str
    low: float
    high: float
    ticks: list[float]
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where a value is drawn; beyond the ends, at the nearer one."""
        value = min(max(value, self.low), self.high)
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


class Point(NamedTuple):
    """A method at one degree."""

    degree: float
    x: Number
    y: Number


class Chart(NamedTuple):
    """What `chart.html` draws: two axes, and the points of each method."""

    across: Axis
    up: Axis
    lines: dict[str, list[Point]]


def chart(bench: BenchFolder, x: str = "effect", y: str = "drift") -> Chart | None:
    """One line per method through its degrees; None if no method has values of both metrics.

    Args:
        bench: The run.
        x: Metric on the horizontal axis.
        y: Metric on the vertical axis.
    """
    lines: dict[str, list[Point]] = {method: [] for method in bench.methods}
    for method, degree in product(bench.methods, bench.degrees):
        metrics = at_degree(bench, method, degree)
        point = Point(degree, Number.of(metrics.get(x)), Number.of(metrics.get(y)))
        if math.isfinite(point.x.value) and math.isfinite(point.y.value):
            lines[method].append(point)
    found = [point for line in lines.values() for point in line]
    if not found:
        return None
    across = axis(title(bench, x), [p.x.value for p in found], LEFT, RIGHT)
    return Chart(across, axis(title(bench, y), [p.y.value for p in found], BOTTOM, TOP), lines)


def title(bench: BenchFolder, metric: str) -> str:
    """Title and unit of a metric."""
    about = about_metric(bench, metric)
    unit = f" ({about['unit']})" if about.get("unit") else ""
    return f"{about.get('title') or metric}{unit}"


def axis(title: str, values: list[float], start: float, end: float, most: int = 6) -> Axis:
    """An axis with round ticks that holds all values, and zero if zero is near."""
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    if 0 < low < spread:
        low = 0.0
    step = round_step((high - low or spread) / most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(title, first * step, last * step, [i * step for i in range(first, last + 1)], start, end)


def round_step(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
