"""Figures of probes: what can be read in which block, at which step, and in which patch."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure

from ditlens.analysis.patch_maps import PatchMaps
from ditlens.analysis.probes import Probe, ProbeCell
from ditlens.errors import SettingError
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study
from ditlens.tables import spoken
from ditlens.views.maps import draw_cells
from ditlens.views.plots import RED, WIDTH, NotebookFigure, draw_bar, show_image

AVERAGED = 200
"""Most images in the mean picture."""
PICTURES = ("corrupt", "with one patch\nof the clean run", "clean")
SCALES = ("readable\n(score of a probe)", "looked at\n(share of attention)", "used\n(PE of the patch)")
FAINT = (0.1, 0.0, 0.1)
"""Full colour of a map stands for its highest patch, but at least for this."""
DYE = LinearSegmentedColormap.from_list("dye", [(*to_rgb(RED), 0.0), (*to_rgb(RED), 1.0)])
"""The picture shows through where there is little."""


def plot_probe(probe: Probe) -> Figure:
    """Heat maps of block x step: the best token of every site, and the mean over its tokens.

    A row is a site, from what enters the network (the noisy latents) to the last block; a column is a sampling
    step. The scale goes from what guessing gives to a perfect score; what is below is drawn as guessing.

    Args:
        probe: From `ditlens.probe`.
    """
    panels = {name: _panel(probe, name) for name in ("best token", "mean over tokens")}
    panels = {name: table for name, table in panels.items() if not np.isnan(table).all()}
    rows = [_name(probe, site) for site in probe.sites]
    figure = NotebookFigure(figsize=(WIDTH, max(0.32 * len(rows) + 1.6, 2.6)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (name, table) in zip(axes, panels.items(), strict=True):
        draw_cells(
            ax, table, rows, _steps(probe), low=probe.chance, high=1, value=_scale(probe), row_label="",
            column_label="sampling step (noise level)" if _sigmas(probe) else "sampling step",
        )  # fmt: skip
        ax.set_title(name, fontsize=10)
    figure.suptitle(f"Where {spoken(probe.target)} can be read linearly, {probe.images} images", fontsize=11)
    return figure


def plot_probe_patches(probe: Probe, block: int | None = None, step: int | None = None) -> Figure:
    """The score of every patch over the mean picture; those halfway to perfect or better with their number.

    Args:
        probe: From `ditlens.probe`, with ``tokens="each"``, of a study with all image tokens.
        block: Which block's image stream; by default that of the best patch.
        step: Which step; by default that of the best patch.

    Raises:
        SettingError: If patches are missing, or the block or step was not probed.
    """
    cells, grid = _patches(probe, block, step)
    values = np.array([cell.score.value for cell in cells]).reshape(grid)
    picture = mean_picture(probe.source)
    figure = NotebookFigure(figsize=(WIDTH, 3.5), layout="constrained")
    axes = figure.subplots(1, 1 if picture is None else 2, squeeze=False)[0]
    extent = (0, grid[1], grid[0], 0)
    if picture is not None:
        axes[0].imshow(picture, extent=extent)
        axes[0].set_title("mean picture", fontsize=10)
        axes[-1].imshow(picture.mean(-1), extent=extent, cmap="gray", vmin=-0.5, vmax=1)
    alpha = 0.35 + 0.5 * ((values - probe.chance) / (1 - probe.chance)).clip(
        0, 1
    )  # the picture shows through
    shown = axes[-1].imshow(values, extent=extent, cmap="cividis", vmin=probe.chance, vmax=1, alpha=alpha)
    axes[-1].set_title("score of each patch", fontsize=10)
    for (row, column), value in np.ndenumerate(values):
        if value >= probe.chance + 0.5 * (1 - probe.chance):
            axes[-1].text(column + 0.5, row + 0.5, f"{value:.2f}", fontsize=8, ha="center", va="center")
    for ax in axes:
        ax.set_xticks(np.arange(grid[1]) + 0.5, range(grid[1]), fontsize=8)
        ax.set_yticks(np.arange(grid[0]) + 0.5, range(grid[0]), fontsize=8)
        ax.tick_params(length=0)
        ax.set_xlabel("column of patches", fontsize=9)
        ax.set_ylabel("row of patches", fontsize=9)
    draw_bar(figure, shown, axes, _scale(probe), fraction=0.03)
    site, number = cells[0].site, cells[0].step
    level = f" (noise level {_sigmas(probe)[number]:.2f})" if number in _sigmas(probe) else ""
    figure.suptitle(
        f"Which patches know of {spoken(probe.target)}: {site}, step {number}{level}", fontsize=11
    )
    return figure


def plot_patch_maps(found: PatchMaps) -> Figure:
    """A row for each attribute: pictures of one pair of prompts, and its three maps over the mean picture.

    Colours are as strong as a share of the highest patch of the map, whose number stands in the corner; of the
    readable and the used map, patches below a tenth of 1 stay pale.

    Args:
        found: From `ditlens.locate`.
    """
    picture, count = mean_picture(found.study), len(found.names)
    grey = np.ones((1, 1)) if picture is None else picture.mean(-1)
    titles = [*(PICTURES if found.pictures else ()), *SCALES]
    side, extent = WIDTH / (len(titles) + 1), (0, found.maps.shape[3], found.maps.shape[2], 0)
    figure = NotebookFigure(figsize=(WIDTH, side * count + 1.4))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
    axes = figure.subplots(count, len(titles), squeeze=False)
    for number, name in enumerate(found.names):
        row = axes[number]
        for ax, each in zip(row, found.pictures[number] if found.pictures else (), strict=False):
            show_image(ax, each)
        label = {"transform": row[0].transAxes, "fontsize": 10, "ha": "right", "va": "center"}
        row[0].text(-0.06, 0.5, spoken(name).replace(" ", "\n"), **label)
        for ax, values, least in zip(row[-len(SCALES) :], found.maps[:, number], FAINT, strict=True):
            top = float(values.max())
            ax.imshow(grey, extent=extent, cmap="gray", vmin=-0.8, vmax=1)
            ax.imshow(values, extent=extent, cmap=DYE, vmin=0, vmax=max(top, least, 1e-9))
            ax.text(0.97, 0.03, _digits(top), transform=ax.transAxes, fontsize=9, ha="right")
            ax.set_axis_off()
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    draw_bar(
        figure, ScalarMappable(Normalize(0, 1), DYE), axes[:, -len(SCALES) :],
        "share of the map's highest patch (its number is in the corner)", location="bottom", aspect=40,
    )  # fmt: skip
    figure.suptitle("Where attributes are readable, looked at and used", fontsize=11)
    return figure


def _digits(value: float) -> str:
    """Two digits after the point, or three where there would be one that counts."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _patches(probe: Probe, block: int | None, step: int | None) -> tuple[list[ProbeCell], tuple[int, ...]]:
    """The cells of all patches where the best one is, in order, and the rows and columns that they have."""
    found = [
        cell
        for cell in probe.cells
        if isinstance(cell.token, int) and cell.site not in probe.baselines
        and block in (None, Site.parse(cell.site).block) and step in (None, cell.step)
    ]  # fmt: skip
    source = probe.source
    grid = source.grid if isinstance(source, Study) else None if source is None else source.grids.get(0)
    grid = grid or ()
    best = max(found, key=lambda cell: cell.score.value, default=None)
    here = [cell for cell in found if best and (cell.site, cell.step) == (best.site, best.step)]
    if not here or len(grid) != 2 or len(here) != np.prod(grid):
        asked = [f"{what} {n}" for what, n in (("block", block), ("step", step)) if n is not None]
        raise SettingError(
            f"A picture of patches needs all of them{' at ' * bool(asked)}{', '.join(asked)}: this probe "
            f"has {len(here)} of {'x'.join(map(str, grid)) or 'an unknown grid'}. Probe a study with all image "
            "tokens."
        )
    return sorted(here, key=lambda cell: int(cell.token)), grid


def mean_picture(source: Any) -> np.ndarray | None:
    """The mean of a study's images, (height, width, 3), values in [0, 1]; None if it has none."""
    if not isinstance(source, Study) or not source.has_images:
        return None
    count = min(AVERAGED, len(source.items))
    return np.mean([np.asarray(source.image(k), float) / 255 for k in range(count)], axis=0)


def _panel(probe: Probe, which: str) -> np.ndarray:
    """The scores of one panel, (sites, steps); NaN where there is none."""
    table = np.full((len(probe.sites), len(probe.steps)), np.nan)
    for cell in probe.cells:
        place = probe.sites.index(cell.site), probe.steps.index(cell.step)
        only = cell.site in probe.baselines and Site.parse(cell.site).stream != "image"  # has a mean only
        if only or (cell.token == "mean") == (which == "mean over tokens"):
            table[place] = np.nanmax([table[place], cell.score.value])
    return table


def _name(probe: Probe, site: str) -> str:
    """What a row is."""
    parsed = Site.parse(site)
    if site in probe.baselines:
        return "noisy latents" if parsed.stream == "image" else "text alone"
    point = "" if parsed.point == "out" else f" {parsed.point}"
    return f"block {parsed.block} {parsed.stream}{point}"


def _sigmas(probe: Probe) -> dict[int, float]:
    """Noise level of each step, if known."""
    study = probe.source
    known = study.sigmas if isinstance(study, Study) else None
    return dict(zip(study.steps, known, strict=True)) if isinstance(study, Study) and known else {}


def _steps(probe: Probe) -> list[str]:
    levels = _sigmas(probe)
    return [f"{step}\n({levels[step]:.2f})" if step in levels else f"{step}" for step in probe.steps]


def _scale(probe: Probe) -> str:
    """What a number is."""
    return f"{probe.measure}\n({probe.chance:.2g}: guessing)"
