"""Matrices as heat maps: what moves what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ditlens.analysis.entanglement import Entanglement
from ditlens.arguments import FLAG, instance, takes
from ditlens.tables import spoken
from ditlens.views.plots import GREY, WIDTH, NotebookFigure, draw_bar, draw_heat, write_cells

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
    height = max(3.2, 1.9 + WIDTH / 26 * len(found.rows))
    figure = NotebookFigure(figsize=(WIDTH, height), layout="constrained")
    draw_matrix(figure, figure.add_subplot(), found, signed)
    return figure


def draw_matrix(figure: Figure, ax: Axes, found: Entanglement, signed: bool = False) -> None:
    """Draw a matrix into axes, with its title and colour bar."""
    values = found.signed if signed else np.clip(found.matrix, 0, 1)
    reads, moves = (list(map(spoken, names)) for names in (found.attributes, found.rows))
    shown = draw_heat(ax, values, moves, reads, -1 if signed else 0, 1, diverging=signed, angle=45)
    clear = np.reshape([cell["p"] < CLEAR for cell in found.cells.values()], values.shape)
    numbers = np.char.mod("%.0f", 100 * values)
    write_cells(ax, shown, np.where(clear & ~np.isnan(values), numbers, ""))
    few = len(found.rows) < 8  # so few lines have no room for long labels beside them
    ax.set_xlabel("attribute that is read in the images")
    ax.set_ylabel("the text moves" if few else "attribute that the text moves")
    what = "signed change of what is read" if signed else "shift of its distribution beyond chance"
    ax.set_title(f"{found.model}: which attribute moves which\n{what}", fontsize=11)
    if found.caution:
        figure.supxlabel(found.caution, fontsize=9, color=GREY)
    unit = "share of range, down to up" if signed else "share of range, or of images (total variation)"
    draw_bar(figure, shown, ax, unit.replace(", ", ",\n").replace(" (", "\n(") if few else unit, shrink=0.8)
