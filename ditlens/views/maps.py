"""Maps of what happens where inside a model: blocks by steps, blocks by attributes, patches of an image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from ditlens.analysis.ablation import Ablation
from ditlens.analysis.cells import NO_INTERVAL
from ditlens.analysis.patching import CausalMap
from ditlens.errors import SettingError
from ditlens.metrics.statistics import seen_mean
from ditlens.tables import counted, spoken
from ditlens.views.plots import (
    BLUE,
    GREY,
    WIDTH,
    NotebookFigure,
    draw_bar,
    draw_heat,
    show_image,
    write_cells,
)

LINE, TALL = 0.30, 0.50
"""Inches of a line of cells, and of one with intervals."""
ROOM = 6
"""Most columns whose cells have room for an interval that can be read; tables have those of all."""
SHOWN = 8
"""Most pictures in a strip."""


# --- any table ---------------------------------------------------------------------------------------------


def plot_cells(
    table: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    value: str,
    row_label: str = "block",
    column_label: str = "",
    low: float = 0.0,
    high: float = 1.0,
    intervals: np.ndarray | None = None,
    diverging: bool = False,
    caption: str = "",
) -> NotebookFigure:
    """A table of numbers as a heat map, with the number in each cell.

    >>> from ditlens.views.maps import plot_cells
    >>> figure = plot_cells(
    ...     [[0.1, 0.9], [0.0, 0.2]], ["0", "1"], ["step 0", "step 9"], title="smile", value="R² (0 to 1)"
    ... )
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.10', '0.90', '0.00', '0.20']

    Args:
        table: The numbers, (rows, columns); NaN leaves a cell empty.
        rows: Names of the rows, from top to bottom.
        columns: Names of the columns.
        title: Above the map.
        value: What a number is, with its unit, beside the colours.
        row_label: What a row is.
        column_label: What a column is.
        low: The number of the darkest colour.
        high: The number of the lightest one.
        intervals: Ends of an interval of each number, (rows, columns, 2), below it, of up to 6 columns.
        diverging: Whether colours part at the middle of the range, for numbers with a sign.
        caption: What to see, below the map.

    Raises:
        SettingError: If the names do not fit the table.
    """
    table = np.asarray(table, float)
    if table.shape != (len(rows), len(columns)):
        raise SettingError(
            f"The table is {table.shape}, with {len(rows)} names of rows and {len(columns)} of columns."
        )
    line = TALL if intervals is not None and len(columns) <= ROOM else LINE
    figure = NotebookFigure(figsize=(WIDTH, line * len(rows) + 1.3 + _lines(caption)), layout="constrained")
    draw_cells(
        figure.add_subplot(), table, rows, columns, value=value, row_label=row_label, column_label=column_label,
        low=low, high=high, intervals=intervals, diverging=diverging,
    )  # fmt: skip
    _words(figure, title, caption)
    return figure


def draw_cells(
    ax: Axes,
    table: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    value: str,
    row_label: str,
    column_label: str,
    low: float,
    high: float,
    intervals: np.ndarray | None = None,
    diverging: bool = False,
) -> None:
    """The heat map of `plot_cells` on axes that are there."""
    many = len(columns) > 10
    shown = draw_heat(ax, table, rows, columns, low, high, diverging=diverging, angle=40 if many else 0)
    ax.set_aspect("auto")
    numbers = np.vectorize(_number)(table)
    if intervals is None or len(columns) > ROOM:
        write_cells(ax, shown, numbers, 8 if many else 10)
    else:
        write_cells(ax, shown, numbers, 11, -0.2)
        write_cells(ax, shown, np.array([[_range(*ends) for ends in row] for row in intervals]), 9.5, 0.24)
    ax.set_ylabel("\n".join(textwrap.wrap(row_label, max(8, 4 * len(rows)), break_long_words=False)))
    ax.set_xlabel(column_label)
    draw_bar(ax.figure, shown, ax, value, fraction=0.04)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")


def _range(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{_number(low)} to {_number(high)}"


def plot_curves(
    curves: dict[str, np.ndarray],
    rows: Sequence[str],
    *,
    title: str,
    value: str,
    row_label: str = "block",
    intervals: np.ndarray | None = None,
    caption: str = "",
) -> NotebookFigure:
    """Numbers over blocks: the first curve in colour with its intervals, the others (controls) in grey.

    Args:
        curves: Numbers of each row, (rows,), by the curve's name.
        rows: Names of the rows, from left to right.
        title: Above.
        value: What a number is, with its unit.
        row_label: What a row is.
        intervals: Ends of an interval of the first curve, (rows, 2).
        caption: What to see.
    """
    figure = NotebookFigure(figsize=(WIDTH, 3.2 + _lines(caption)), layout="constrained")
    draw_curves(figure.add_subplot(), curves, rows, value=value, row_label=row_label, intervals=intervals)
    _words(figure, title, caption)
    return figure


def draw_curves(
    ax: Axes,
    curves: dict[str, np.ndarray],
    rows: Sequence[str],
    *,
    value: str,
    row_label: str,
    intervals: np.ndarray | None = None,
) -> None:
    """The curves of `plot_curves` on axes that are there."""
    places = np.arange(len(rows))
    styles: list[dict[str, Any]] = [{"color": BLUE, "marker": "o", "lw": 2}]
    dashes = zip("sv^", ("--", ":", "-."), strict=True)
    styles += [{"color": GREY, "marker": mark, "lw": 1, "ls": dash} for mark, dash in dashes]
    for (name, numbers), style in zip(curves.items(), styles, strict=False):
        ax.plot(places, numbers, label=name, ms=5, clip_on=False, zorder=3, **style)
    if intervals is not None:
        ax.fill_between(places, *intervals.T, color=BLUE, alpha=0.2, lw=0)
    for end in (0, 1):
        ax.axhline(end, color=GREY, lw=0.6)
    ax.set_xticks(places, rows)
    ax.set_xlabel(row_label)
    ax.set_ylabel(value)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9)


# --- results -----------------------------------------------------------------------------------------------


def plot_causal_map(result: CausalMap) -> NotebookFigure:
    """A causal map: heat map of blocks and steps, a curve where it has one column, a picture for patches.

    Above it the first item: its corrupt picture, with the states of each block patched for the whole run, and
    clean.

    Args:
        result: From `ditlens.patch`.
    """
    if result.grid:
        return _plot_patches(result)
    count, single = len(result.directions), len(result.steps) == 1
    body = 2.8 if single else TALL * len(result.places) + 0.8
    pictures = _strip(result)
    side = min(1.25, WIDTH / len(pictures))
    notes = " ".join(result.notes)
    height = side + 0.9 + count * body + _lines(notes)
    figure = NotebookFigure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.add_gridspec(1 + count, 1, height_ratios=[side + 0.2, *[body] * count])
    strip = grid[0].subgridspec(1, len(pictures))
    for k, (name, picture) in enumerate(pictures):
        show_image(figure.add_subplot(strip[k]), picture, name)
    for k, direction in enumerate(result.directions):
        ax = figure.add_subplot(grid[1 + k])
        value = f"PE, {direction}\n(0: nothing, 1: all of it)"
        if single:
            curves = {direction: result.table(direction)[:, 0]}
            curves |= {f"control: {name}": seen_mean(found[k], -1) for name, found in result.controls.items()}
            ends = None if result.n < 2 else result.intervals(direction)[:, 0]
            draw_curves(ax, curves, result.places, value=value, row_label=_rows_are(result), intervals=ends)
        else:
            draw_cells(
                ax, result.table(direction), result.places, _stretches(result), value=value, low=0, high=1,
                row_label=_rows_are(result), column_label="sampling steps during which it is patched (noise level)",
                intervals=None if result.n < 2 else result.intervals(direction),
            )  # fmt: skip
    _words(figure, f"{spoken(result.measure)}: {result.what}, {_items(result)}", notes)
    return figure


def _items(result: CausalMap | Ablation) -> str:
    return counted(result.n, "item") if result.n > 1 else NO_INTERVAL


def _rows_are(result: CausalMap) -> str:
    return "patched from block" if "entering" in result.what else "block that is patched"


def _stretches(result: CausalMap) -> list[str]:
    """Names of the columns, with their noise levels."""
    return [
        f"{name}\n{result.levels[first]:.2f} to {result.levels[stop]:.2f}"
        for name, (first, stop) in zip(result.columns(), result.steps, strict=True)
    ]


def _strip(result: CausalMap) -> list[tuple[str, Any]]:
    """Pictures of the first item under their names, from the recipient to the donor."""
    clean, corrupt, *patched = result.pictures
    chosen = np.unique(np.linspace(0, len(patched) - 1, min(SHOWN, len(patched))).round().astype(int))
    ends = [("corrupt", corrupt), ("clean", clean)]
    first, last = ends if result.directions[0] == "sufficiency" else ends[::-1]
    word = "from" if "entering" in result.what else "at"
    return [first, *((f"{word} {result.places[k]}", patched[k]) for k in chosen), last]


def _plot_patches(result: CausalMap) -> NotebookFigure:
    """PE of each image patch, over the recipient's picture."""
    clean, corrupt, *_ = result.pictures
    figure = NotebookFigure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, picture, name in ((axes[0], corrupt, "corrupt"), (axes[1], clean, "clean")):
        show_image(ax, picture, name)
    draw_patches(axes[2], result.table()[:, -1].reshape(result.grid), clean, f"PE, {result.directions[0]}")
    axes[2].set_title("each patch alone", fontsize=10)
    notes = " ".join(result.notes)
    _words(figure, f"{spoken(result.measure)}: {result.what}, {counted(result.n, 'item')}", notes)
    return figure


def draw_patches(ax: Axes, values: np.ndarray, picture: Any, value: str) -> None:
    """A number of each patch of an image, over its picture in grey: the stronger the colour, the larger.

    Args:
        ax: Where.
        values: (rows, columns) of patches.
        picture: A PIL image.
        value: What a number is, with its unit.
    """
    width, height = picture.size
    top = max(0.1, float(np.nanmax(np.abs(values))))
    norm = Normalize(0, top)
    ax.imshow(np.asarray(picture.convert("L")), cmap="gray", vmin=-64, vmax=255)
    ax.imshow(
        values, cmap="cividis", norm=norm, extent=(0, width, height, 0), interpolation="nearest",
        alpha=0.3 + 0.6 * np.clip(values / top, 0, 1),
    )  # fmt: skip
    ax.set_axis_off()
    draw_bar(ax.figure, ScalarMappable(norm, "cividis"), ax, value, shrink=0.8, pad=0.05)


def plot_ablation(result: Ablation, way: str | None = None) -> NotebookFigure:
    """What images lose when a block is knocked out: blocks by ways, or of one way blocks by attributes.

    Args:
        result: From `ditlens.knock_out`.
        way: One of its ways; None for all of them.
    """
    table = result.table(way)
    names = result.ways if way is None else list(map(spoken, result.names))
    several = f"{len(result.names)} attributes" if len(result.names) > 1 else spoken(result.names[0])
    return plot_cells(
        table, result.places, list(names), low=0, high=max(0.1, float(np.nanmax(table))),
        title=f"Knocking out a block{f' by {way}' if way else ''}: {several}, {_items(result)}",
        value=f"mean change,\n{result.unit}", row_label="block knocked out",
        column_label="how" if way is None else "", 
        intervals=result.intervals() if way is None and result.n > 1 else None,
    )  # fmt: skip


# --- small things ------------------------------------------------------------------------------------------


def _lines(caption: str) -> float:
    """Inches of a caption."""
    return 0.2 * (1 + len(caption) // 110) if caption else 0.0


def _words(figure: NotebookFigure, title: str, caption: str) -> None:
    figure.suptitle(title, fontsize=11)
    if caption:
        figure.supxlabel(caption, fontsize=9, color=GREY)
