"""Figures of what the paper finds: reconstructions under other texts, and leakage inside the attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ditlens.analysis.channels import EMBEDDING
from ditlens.analysis.leakage import ORDERS, Leakage, LeakageRow
from ditlens.analysis.sde import SDE
from ditlens.images import to_image
from ditlens.lens.site import STREAMS
from ditlens.metrics.statistics import Estimate
from ditlens.tables import spoken
from ditlens.views.plots import (
    BLUE,
    GREEN,
    GREY,
    RED,
    WIDTH,
    Axes,
    NotebookFigure,
    draw_bar,
    draw_heat,
    show_image,
    write_cells,
)

LINES = {"text": (BLUE, "o"), "image": (RED, "s"), "joint": (GREEN, "D")}
"""Colour and marker of each setting of `ditlens.sde`, and of each stream of `ditlens.leakage`."""
PANELS = {
    "effectiveness": "effectiveness E\n(1: the exact answer)",
    "locality": "locality\n(1: nothing else moves)",
    "decomposability": "decomposability D\n(0: as under a random text)",
    "effect": "effect\n(share of the way)",
    "drift": "drift of others\n(share of range)",
    "faithfulness": "faithfulness\nd(x, R0)",
    "strength": "strength\nd_in(R0, R1)",
    "keep": "keep\nd(x, R1)",
}
"""Curves in the order in which they are drawn, six at most."""


def band(
    ax: Axes, x: Sequence[float], curve: Sequence[Estimate], color: str, marker: str, label: str
) -> None:
    """A line with its 95 % interval."""
    low, high = ([each[end] for each in curve] for end in ("low", "high"))
    ax.fill_between(x, low, high, color=color, alpha=0.15, lw=0)
    ax.plot(x, [each["value"] for each in curve], color=color, marker=marker, ms=4, lw=1.5, label=label)


# --- SDE ---------------------------------------------------------------------------------------------------


def plot_sde(result: SDE) -> NotebookFigure:
    """Draw the curves of a reading of SDE over noise levels, and below them what became of two images.

    Bands are 95 % intervals over people. The images: x, then R0 (own text) and R1 of each setting at every level.
    """
    names = [name for name in PANELS if name in result.curves][:6]
    rows = 1 + len(result.settings)
    side = WIDTH / (len(result.sigmas) + 1.6)
    figure = NotebookFigure(figsize=(WIDTH, 4.6 + side * rows), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(4.4, side * rows + 0.3))
    upper, lower = parts
    upper.suptitle(f"SDE-recon (our reading) of “{spoken(result.name)}”", fontsize=12)
    axes = upper.subplots(2, 3, sharex=True).ravel()
    for ax, name in zip(axes, names, strict=False):
        drawn = [each for each in result.settings if name in result.measured(each)]
        if name == "faithfulness":  # of R0, the same in all settings
            band(ax, result.sigmas, result.curve(name, drawn[0]), GREY, ".", "")
        for setting in [] if name == "faithfulness" else drawn:
            band(ax, result.sigmas, result.curve(name, setting), *LINES[setting], setting)
        if name in ("effectiveness", "decomposability", "locality"):
            ax.set_ylim(max(-1.5, min(0, ax.get_ylim()[0])), 1.05)
            ax.axhline(0, color=GREY, lw=0.8, ls=":")
        elif name != "effect":
            ax.set_ylim(0, max(0.1, ax.get_ylim()[1]) if name == "drift" else None)
        ax.set_ylabel(PANELS[name], fontsize=9)
        ax.tick_params(labelsize=8)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    for ax in axes[3:]:
        ax.set_xlabel("noise level t (1: pure noise)", fontsize=9)
    if len(result.settings) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        labels[0] = f"edit carried by: {labels[0]}"
        upper.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    _strip(lower, result)
    return figure


def _strip(figure: Any, result: SDE) -> None:
    """The first image: R0 and R1 of every setting (rows) at every noise level (columns)."""
    runs = ("own", *result.settings)
    axes = figure.subplots(len(runs), len(result.sigmas) + 1, squeeze=False)
    for row, run in enumerate(runs):
        axes[row, 0].set_axis_off()
        if row == 0:
            show_image(axes[row, 0], to_image(result.examples["source"][:1]), "image x", 9)
        for column, sigma in enumerate(result.sigmas):
            picture = to_image(result.examples[run][column, :1])
            show_image(axes[row, column + 1], picture, "" if row else f"t = {sigma:g}", 9)
        label = "R0: own text" if run == "own" else f"R1: {run}"
        axes[row, 1].text(-0.08, 0.5, label, transform=axes[row, 1].transAxes, fontsize=9, rotation=90, ha="center",
                          va="center")  # fmt: skip


# --- leakage -----------------------------------------------------------------------------------------------


def plot_leakage(result: Leakage) -> NotebookFigure:
    """Draw what one channel tells of another attribute: over blocks for one pair, else a matrix for each block."""
    return _over_blocks(result) if len(result.names) == 2 else _matrices(result)


def _over_blocks(result: Leakage) -> NotebookFigure:
    """Accuracy over blocks: a row for each order and a column for each stream."""
    source, into = (result.rows[0].source, result.rows[0].into)
    streams = [each for each in STREAMS if any(row.stream == each for row in result.rows if row.step >= 0)]
    figure = NotebookFigure(figsize=(WIDTH, 6.2), layout="constrained")
    figure.suptitle(
        f"Is “{spoken(source)}” (A) told from the channel of “{spoken(into)}” (B)?",
        fontsize=12,
    )
    axes = figure.subplots(2, len(streams), sharex=True, sharey=True, squeeze=False)
    for line, order in zip(axes, ORDERS, strict=True):
        base = result.select(source=source, into=into, order=order, block=EMBEDDING)[0]
        for ax, stream in zip(line, streams, strict=True):
            chosen = result.select(source=source, into=into, order=order, stream=stream)
            _panel(ax, result, [row for row in chosen if row.block != EMBEDDING], base)
            place = "before" if order == "before" else "after"
            ax.set_title(f"{stream} stream, A {place} B", fontsize=10)
    drawn = [
        each for row in result.select(source=source, into=into) for each in (row.leak, row.own, row.shuffled)
    ]
    ends = [each[end] for each in drawn for end in ("value", "low")]
    axes[0, 0].set_ylim(min(0.3, float(np.nanmin(ends)) - 0.04), 1.04)  # all panels share it
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy (0.5: chance)", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("block", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _panel(ax: Axes, result: Leakage, rows: Sequence[LeakageRow], base: LeakageRow) -> None:
    x = list(range(len(result.blocks)))
    for step, (color, marker) in zip(result.steps, ((BLUE, "o"), (RED, "s"), (GREEN, "D")), strict=False):
        at = [row for row in rows if row.step == step]
        band(ax, x, [row.leak for row in at], color, marker, f"A (leak), step {step}")
        if step == result.steps[0]:
            ax.plot(x, [row.own["value"] for row in at], color=GREY, marker="^", ms=4, lw=1, label="B (own)")
            low, high = ([row.shuffled[end] for row in at] for end in ("low", "high"))
            ax.fill_between(x, low, high, color=GREY, alpha=0.25, lw=0, label="A, labels shuffled")
    ax.axhline(0.5, color="black", lw=1, ls=":", label="0.5")
    above = {"zorder": 5}  # where it meets a curve, the dashes lie on it
    ax.axhline(base.leak["value"], color="black", lw=1.2, ls="--", label="A from the text embedding", **above)
    ax.set_xticks(
        x, [block.partition(".")[2] if block.startswith("joint") else block for block in result.blocks]
    )
    ax.tick_params(labelsize=8)


def _matrices(result: Leakage) -> NotebookFigure:
    """Accuracies of telling A (rows) from the channel of B (columns), A after B: streams down, blocks across."""
    streams = [each for each in STREAMS if any(row.stream == each for row in result.rows if row.step >= 0)]
    blocks = [EMBEDDING, *result.blocks]
    figure = NotebookFigure(figsize=(WIDTH, 1.75 * len(streams) + 0.7), layout="constrained")
    axes = figure.subplots(len(streams), len(blocks), squeeze=False)
    names = list(map(spoken, result.names))
    for line, stream in zip(axes, streams, strict=True):
        for ax, block in zip(line, blocks, strict=True):
            if block == EMBEDDING and stream != "text":
                ax.set_axis_off()
                continue
            values = result.matrix(block, stream)
            first = block == (EMBEDDING if stream == "text" else blocks[1])
            shown = draw_heat(
                ax, values, names if first else [""] * len(names), names, 0.5, 1, angle=90, size=7
            )
            if len(names) < 6:
                texts = np.char.lstrip(np.char.mod("%.1f", values), "0")
                write_cells(ax, shown, np.where(np.eye(len(names)), "", texts))
            ax.set_title("text embedding" if block == EMBEDDING else f"{stream}, {block}", fontsize=8)
    draw_bar(figure, shown, axes, "accuracy (0.5: chance)", fraction=0.02)
    figure.suptitle("Is A (row) told from the channel of B (column)? A stands after B.", fontsize=11)
    return figure
