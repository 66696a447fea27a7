"""The curves of the report page: effect against drift over all degrees, as `chart.html` draws them."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

from ditlens.bench.folder import BenchFolder
from ditlens.bench.report.tables import Number, about_metric, at_degree

LEFT, RIGHT, TOP, BOTTOM = 112, 660, 18, 362
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
        """Where a value is drawn."""
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
    across = axis(title(bench, x), [point.x for point in found], LEFT, RIGHT)
    return Chart(across, axis(title(bench, y), [point.y for point in found], BOTTOM, TOP), lines)


def title(bench: BenchFolder, metric: str) -> str:
    """Title and unit of a metric."""
    about = about_metric(bench, metric)
    unit = f" ({about['unit']})" if about.get("unit") else ""
    return f"{about.get('title') or metric}{unit}"


def axis(title: str, numbers: list[Number], start: float, end: float, most: int = 6) -> Axis:
    """An axis with round ticks that holds all values with their intervals, and zero if zero is near."""
    values = [number.value for number in numbers]
    drawn = [x for number in numbers for x in (number.value, number.low, number.high) if math.isfinite(x)]
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    if 0 < low < spread:
        low = 0.0
    step = round_step((max(*drawn, low + spread) - min(low, *drawn)) / most)
    low = min(math.floor(low / step + 1e-9) * step, *drawn)
    high = max(math.ceil(high / step - 1e-9) * step, low + step, *drawn)
    ticks = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return Axis(title, low, high, [tick * step for tick in ticks], start, end)


def round_step(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
