"""Figures of directions: images along one with what was read in them, and the Gram matrix of several."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from ditlens.analysis.cosines import Gram
from ditlens.analysis.same_effect import SAME
from ditlens.analysis.steering import Steering
from ditlens.ems import judge
from ditlens.tables import spoken
from ditlens.views.plots import (
    BLUE,
    GREEN,
    GREY,
    RED,
    WIDTH,
    NotebookFigure,
    draw_bar,
    draw_drift,
    draw_heat,
    draw_levels,
    show_image,
)
from ditlens.worlds.world import Continuous

SHOWN = 9
"""Most images in a strip."""


# --- a sweep -----------------------------------------------------------------------------------------------


def plot_steering(result: Steering) -> Figure:
    """Show images along a direction, and what the oracle read in them.

    From top to bottom: the images of the first item under their amounts; every attribute that the direction is to
    move, in its own units, with the cells of its levels as bands; the mean drift of all others, with the limit
    above which it is another picture. Thick lines are means over all prompts and seeds, thin ones single items; the
    dotted line is the unsteered image.

    Args:
        result: From `ditlens.steer`. Without a world, only the images are shown.
    """
    order = sorted(range(len(result.amounts)), key=lambda k: result.amounts[k])
    amounts = [result.amounts[k] for k in order]
    heights = [WIDTH / max(min(len(order), SHOWN), 4) + 0.2, *[1.7] * len(result.targets)]
    heights += [1.2] if result.readings else []
    figure = NotebookFigure(figsize=(WIDTH, sum(heights) + 1.0), layout="constrained")
    count = len(result.prompts)
    figure.suptitle(
        f"Steering along \u201c{result.direction.name}\u201d at {result.direction.site or 'the text'}"
        + (f", {count} prompts and seeds" if count > 1 else ""),
        fontsize=11,
    )  # fmt: skip
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    _strip(figure, grid, result, order)
    if result.readings:
        _curves(figure, grid, result, order, amounts)
    return figure


def _strip(figure: Figure, grid: GridSpec, result: Steering, order: list[int]) -> None:
    """The first item's images under their amounts; every second or third one where there are many."""
    shown = [order[round(k)] for k in np.linspace(0, len(order) - 1, min(len(order), SHOWN))]
    strip = grid[0].subgridspec(1, len(shown))
    for column, k in enumerate(shown):
        amount = result.amounts[k]
        name = "unsteered" if amount == 0 else f"{amount:+g}"
        show_image(figure.add_subplot(strip[column]), result.images[0][k], name)


def _curves(figure: Figure, grid: GridSpec, result: Steering, order: list[int], amounts: list[float]) -> None:
    axes: list[Axes] = []
    for row, name in enumerate(result.targets, 1):
        ax = figure.add_subplot(grid[row], sharex=axes[0] if axes else None)
        _lines(ax, amounts, np.array(result.values(name))[:, order], BLUE)
        _levels(ax, result, name)
        ax.tick_params(labelbottom=False)
        axes.append(ax)
    ax = figure.add_subplot(grid[len(result.targets) + 1], sharex=axes[0] if axes else None)
    drift = np.array(result.drift)[:, order]
    _lines(ax, amounts, drift, RED)
    ax.axhline(judge.BROKEN, color=GREY, lw=0.8, ls="--")
    ax.text(amounts[-1], judge.BROKEN, "another picture", fontsize=8, color=GREY, ha="right", va="bottom")
    draw_drift(ax, max(1.4 * judge.BROKEN, 1.1 * float(drift.max())))
    unit = "standard deviations of the hidden states" if result.direction.site else "1: from text to text"
    ax.set_xlabel(f"amount ({unit})")
    for each in (*axes, ax):
        each.axvline(0, color=GREY, lw=0.8, ls=":")
    figure.align_ylabels([*axes, ax])


def _lines(ax: Axes, amounts: list[float], values: np.ndarray, color: str) -> None:
    """A thin line for each item, and their mean."""
    if len(values) > 1:
        ax.plot(amounts, values.T, color=color, lw=0.6, alpha=0.35)
    mean = np.ma.masked_invalid(values).mean(0).filled(np.nan)  # of the images in which it can be seen
    ax.plot(amounts, mean, color=color, marker="o", ms=5, lw=2, zorder=3)


def _levels(ax: Axes, result: Steering, name: str) -> None:
    """An attribute's own axis: its range with the cells of its levels, or the share of images with a value."""
    spec = None if result.world is None else result.world.attributes[name]
    if isinstance(spec, Continuous):
        draw_levels(ax, spec)
    else:
        ax.set_ylim(-0.05, 1.05)
        ax.set_ylabel(f"{spoken(name)}\n(share {result.direction.value or 'changed'})", fontsize=9)


# --- the Gram matrix ---------------------------------------------------------------------------------------


def plot_gram(found: Gram) -> Figure:
    """Show the cosines of directions as a matrix, and beside it those of the nulls as distributions.

    On the diagonal of the matrix are cosines between directions of one attribute from other sentences or images
    (null 4). On the right every row is a distribution: its box holds the middle half, its line the middle 95 %.
    """
    count = len(found.names)
    size = max(4.2, 0.28 * count)
    figure = NotebookFigure(figsize=(WIDTH, size + 0.6), layout="constrained")
    figure.suptitle(
        f"Cosines of directions, {found.space}: D = {found.dimension}, effective {found.effective:.0f}", fontsize=11
    )  # fmt: skip
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    top = max(0.2, float(np.abs(found.matrix).max()))
    names = list(map(spoken, found.names))
    shown = draw_heat(left, found.matrix, names, names, -top, top, diverging=True, angle=90, size=8)
    draw_bar(figure, shown, left, "mean cosine", shrink=0.7, pad=0.02)
    _distributions(right, found)
    return figure


def _distributions(ax: Axes, found: Gram) -> None:
    """Cosines within and between attributes, and those of each null, one below the other."""
    rows = [("same attribute\n(null 4)", found.within, GREEN), ("different\nattributes", found.between, BLUE)]
    rows += [
        (_two_lines(name) + f"\n(null {k})", v, GREY) for k, (name, v) in enumerate(found.nulls.items(), 1)
    ]
    for place, (_, values, color) in enumerate(rows):
        low, first, median, third, high = np.quantile(values, [0.025, 0.25, 0.5, 0.75, 0.975])
        ax.plot([low, high], [place, place], color=color, lw=1.5)
        ax.barh(place, third - first, left=first, height=0.5, color=color, alpha=0.6)
        ax.plot([median, median], [place - 0.25, place + 0.25], color="black", lw=1.5)
    ax.axvline(0, color=GREY, lw=0.8, ls=":")
    ax.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("cosine", fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    if tried := [each for each in found.effects if each.candidate]:
        same = sum(each.share >= SAME for each in tried)
        ax.set_title(
            f"null 5: {same} of {len(tried)} orthogonal\ndirections have the same effect", fontsize=9
        )


def _two_lines(name: str) -> str:
    """A name broken at its middle space."""
    words = name.replace(",", "").split()
    half = (len(words) + 1) // 2
    return " ".join(words[:half]) + "\n" + " ".join(words[half:])
