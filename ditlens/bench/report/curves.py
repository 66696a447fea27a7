"""The curves of the report page: effect against drift over all degrees, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from ditlens.bench.folder import BenchFolder
from ditlens.bench.report.tables import Number, at_degree, shown

WIDTH, HEIGHT = 680, 440
LEFT, RIGHT, TOP, BOTTOM = 96, 20, 18, 78
COLOURS = 7
"""Colours of Okabe and Ito in page.css: .s0 to .s6, lighter ones on dark pages."""


@dataclass(frozen=True)
class Axis:
    """A linear axis: the values at its ends, its ticks, and its ends on the picture."""

    low: float
    high: float
    ticks: list[float]
    start: float
    end: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True)
class Point:
    """A method at one degree."""

    degree: float
    x: Number
    y: Number


def curves(bench: BenchFolder, x: str = "effect", y: str = "drift") -> str:
    """One line per method through its degrees, with a legend, a caption and the numbers.

    Args:
        bench: The run.
        x: Metric to the right.
        y: Metric upwards.
    """
    lines = {method: _points(bench, method, x, y) for method in bench.methods}
    if not any(lines.values()):
        return f'<p class="note">No curves: this run has no values of both {escape(x)} and {escape(y)}.</p>'
    numbers = [point for line in lines.values() for point in line]
    across = axis([p.x.value for p in numbers], LEFT, WIDTH - RIGHT)
    up = axis([p.y.value for p in numbers], HEIGHT - BOTTOM, TOP)
    drawn = "".join(_line(i, method, line, across, up) for i, (method, line) in enumerate(lines.items()))
    titles = _title(bench, x), _title(bench, y)
    return (
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="curve-title">'
        f'<title id="curve-title">{escape(titles[1])} against {escape(titles[0])}, one line per method; the '
        f"numbers stand in the table below.</title>{_frame(across, up, titles)}{drawn}</svg>{_legend(list(lines))}"
        f"<figcaption>{_caption(bench)}</figcaption>{_numbers(lines, titles)}</figure>"
    )


def _points(bench: BenchFolder, method: str, x: str, y: str) -> list[Point]:
    points = []
    for degree in bench.degrees:
        found = at_degree(bench, method, degree)
        point = Point(degree, Number.of(found.get(x)), Number.of(found.get(y)))
        if math.isfinite(point.x.value) and math.isfinite(point.y.value):
            points.append(point)
    return points


def _title(bench: BenchFolder, metric: str) -> str:
    about = bench.about.get("metrics", {}).get(metric, {})
    unit = f" ({about['unit']})" if about.get("unit") else ""
    return f"{about.get('title') or metric}{unit}"


def _caption(bench: BenchFolder) -> str:
    degrees = bench.degrees
    return (
        f"Along each line the degree grows from {degrees[0]:g} to {degrees[-1]:g}; the filled marker is degree "
        f"{bench.main_degree:g}, and the thin crosses are 95 % intervals. What to see: a good method runs far to "
        "the right (it does what was asked for) and stays low (nothing else moves). Of two methods at the same "
        "place on the horizontal axis, the lower one is better. Press a name to bring its line forward."
    )


# --- axes ----------------------------------------------------------------------------------------------------


def axis(values: list[float], start: float, end: float, most: int = 6) -> Axis:
    """An axis with round ticks that holds all values and zero, if zero is near."""
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    if 0 < low < spread:
        low = 0.0
    step = _step((high - low or spread) / most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(first * step, last * step, [i * step for i in range(first, last + 1)], start, end)


def _step(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _frame(across: Axis, up: Axis, titles: tuple[str, str]) -> str:
    """Grid, tick labels and titles of both axes."""
    parts = []
    for value in across.ticks:
        at = across.place(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{up.end}" x2="{at:.1f}" y2="{up.start}"/>')
        parts.append(f'<text x="{at:.1f}" y="{up.start + 24}" text-anchor="middle">{_tick(value)}</text>')
    for value in up.ticks:
        at = up.place(value)
        parts.append(
            f'<line class="grid" x1="{across.start}" y1="{at:.1f}" x2="{across.end}" y2="{at:.1f}"/>'
        )
        parts.append(
            f'<text x="{across.start - 10}" y="{at + 5:.1f}" text-anchor="end">{_tick(value)}</text>'
        )
    middle = (across.start + across.end) / 2, (up.start + up.end) / 2
    parts.append(
        f'<text x="{middle[0]:.0f}" y="{HEIGHT - 16}" text-anchor="middle">{escape(titles[0])} →</text>'
    )
    turned = f'transform="rotate(-90 22 {middle[1]:.0f})"'
    parts.append(
        f'<text x="22" y="{middle[1]:.0f}" text-anchor="middle" {turned}>{escape(titles[1])} →</text>'
    )
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value:.4g}".replace("-", "−") if abs(value) > 1e-12 else "0"


# --- lines and markers ------------------------------------------------------------------------------------------


def _polygon(*corners: tuple[float, float]) -> Callable[[float, float], str]:
    def draw(x: float, y: float) -> str:
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        return f'<polygon points="{points}"/>'

    return draw


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    angles = [math.pi * i / points for i in range(2 * points)]
    radii = [8.0 if i % 2 == 0 else inner for i in range(2 * points)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


MARKERS: list[Callable[[float, float], str]] = [
    lambda x, y: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>',
    _polygon((-5.5, -5.5), (5.5, -5.5), (5.5, 5.5), (-5.5, 5.5)),
    _polygon((0, -7), (6.5, 5), (-6.5, 5)),
    _polygon((0, -7.5), (7.5, 0), (0, 7.5), (-7.5, 0)),
    _polygon((0, 7), (6.5, -5), (-6.5, -5)),
    _polygon(*_star(5, 3.2)),
    _polygon((-2.2, -7), (2.2, -7), (2.2, -2.2), (7, -2.2), (7, 2.2), (2.2, 2.2),
             (2.2, 7), (-2.2, 7), (-2.2, 2.2), (-7, 2.2), (-7, -2.2), (-2.2, -2.2)),
    _polygon(*_star(3, 4.0)),
]  # fmt: skip
"""One shape per method: with the colours, 56 methods look different."""


def _line(index: int, method: str, points: list[Point], across: Axis, up: Axis) -> str:
    """The path of one method, its intervals and its markers."""
    if not points:
        return ""
    places = [(across.place(p.x.value), up.place(p.y.value)) for p in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    filled = min(points, key=lambda p: abs(p.degree - 1)).degree
    marks = []
    for point, (x, y) in zip(points, places, strict=True):
        solid = " solid" if point.degree == filled else ""
        words = f"{method}, degree {point.degree:g}: {point.x.value:.3g} to the right, {point.y.value:.3g} up"
        cross = _cross(point, x, y, across, up)
        marker = MARKERS[index % len(MARKERS)](x, y)
        marks.append(f'{cross}<g class="mark{solid}">{marker}<title>{escape(words)}</title></g>')
    style = f"series s{index % COLOURS}"
    return (
        f'<g class="{style}" data-method="{escape(method)}"><polyline points="{path}"/>{"".join(marks)}</g>'
    )


def _cross(point: Point, x: float, y: float, across: Axis, up: Axis) -> str:
    """Thin lines for the intervals of both metrics, cut at the frame."""

    def cut(axis: Axis, value: float) -> float:
        return axis.place(min(max(value, axis.low), axis.high))

    lines = []
    if math.isfinite(point.x.low) and math.isfinite(point.x.high):
        a, b = cut(across, point.x.low), cut(across, point.x.high)
        lines.append(f'<line class="interval" x1="{a:.1f}" y1="{y:.1f}" x2="{b:.1f}" y2="{y:.1f}"/>')
    if math.isfinite(point.y.low) and math.isfinite(point.y.high):
        a, b = cut(up, point.y.low), cut(up, point.y.high)
        lines.append(f'<line class="interval" x1="{x:.1f}" y1="{a:.1f}" x2="{x:.1f}" y2="{b:.1f}"/>')
    return "".join(lines)


def _legend(methods: list[str]) -> str:
    return f'<ul class="legend">{"".join(_entry(i, method) for i, method in enumerate(methods))}</ul>'


def _entry(index: int, method: str) -> str:
    """A name of the legend, with its line and marker."""
    marker = f'<g class="mark solid">{MARKERS[index % len(MARKERS)](17, 10)}</g>'
    drawn = f'<g class="series s{index % COLOURS}"><polyline points="1,10 33,10"/>{marker}</g>'
    return (
        f'<li><button type="button" aria-pressed="false" data-method="{escape(method)}">'
        f'<svg viewBox="0 0 34 20" aria-hidden="true">{drawn}</svg>{escape(method)}</button></li>'
    )


def _numbers(lines: dict[str, list[Point]], titles: tuple[str, str]) -> str:
    """The numbers behind the curves, for those who cannot see them."""
    rows = "".join(
        f'<tr><th scope="row">{escape(method)}</th><td>{point.degree:g}</td>'
        f"<td>{shown(point.x.value, 3)}</td><td>{shown(point.y.value, 3)}</td></tr>"
        for method, points in lines.items()
        for point in points
    )
    heads = "".join(f'<th scope="col">{escape(t)}</th>' for t in ("method", "degree", *titles))
    return (
        '<details><summary>The numbers of this figure</summary><div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
