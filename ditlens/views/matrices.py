"""Matrices as heat maps: what moves what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ditlens.analysis.entanglement import Entanglement
from ditlens.arguments import FLAG, instance, takes
from ditlens.views.plots import WIDTH, NotebookFigure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLEAR = 0.005
"""Below this share of chance a cell has its number; one or two of 306 have it by chance."""
MATRIX = instance("what ditlens.entanglement(model) returns", Entanglement)


@takes(found=MATRIX, signed=FLAG)
def plot_entanglement(found: Entanglement, *, signed: bool = False) -> Figure:
    """Draw an entanglement matrix as a heat map: rows are moved by the text, columns are read in the images.

    Numbers stand in the cells that chance alone makes as large less than once in 200 times. On the diagonal they
    are wanted; beside it they are entanglement.

    Args:
        found: From `ditlens.entanglement`.
        signed: Show which way continuous attributes move; other columns, and rows without a direction, stay grey.
    """
    height = max(2.5, 1.9 + WIDTH / 26 * len(found.rows))
    figure = NotebookFigure(figsize=(WIDTH, height), layout="constrained")
    draw_matrix(figure, figure.add_subplot(), found, signed)
    return figure


def draw_matrix(figure: Figure, ax: Axes, found: Entanglement, signed: bool = False) -> None:
    """Draw a matrix into axes, with its title and colour bar."""
    values = found.signed if signed else np.clip(found.matrix, 0, 1)
    limits: dict[str, Any] = (
        {"vmin": -1, "vmax": 1, "cmap": "PuOr_r"} if signed else {"vmin": 0, "vmax": 1, "cmap": "cividis"}
    )
    ax.set_facecolor("0.85")
    shown = ax.imshow(values, **limits)
    _write_numbers(ax, found, values, signed)
    reads, moves = ([name.replace("_", " ") for name in names] for names in (found.attributes, found.rows))
    ax.set_xticks(range(len(reads)), reads, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    ax.set_yticks(range(len(moves)), moves, fontsize=9)
    ax.set_xticks(np.arange(len(reads) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(moves) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=0.6)
    ax.tick_params(which="both", length=0)
    ax.set_xlabel("attribute that is read in the images")
    ax.set_ylabel("attribute that the text moves")
    what = "signed change of what is read" if signed else "shift of its distribution beyond chance"
    ax.set_title(f"{found.model}: which attribute moves which\n{what}", fontsize=11)
    unit = "share of range, down to up" if signed else "share of range, or of images (total variation)"
    bar = figure.colorbar(shown, ax=ax, shrink=0.8, pad=0.01)
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _write_numbers(ax: Axes, found: Entanglement, values: np.ndarray, signed: bool) -> None:
    """The values of the cells that are clearly above chance, in hundredths."""
    for row, moved in enumerate(found.rows):
        for column, read in enumerate(found.attributes):
            value = values[row, column]
            if not np.isnan(value) and found.cells[moved, read]["p"] < CLEAR:
                dark = abs(value) > 0.6 if signed else value < 0.55
                ax.text(
                    column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                    color="white" if dark else "black",
                )  # fmt: skip
