"""Components on the grid of the image: red, green and blue where each patch lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ditlens import images as image_files
from ditlens.analysis.decompose import PCA
from ditlens.analysis.projection import View
from ditlens.analysis.rows import HIDDEN
from ditlens.arguments import INDEX, Kind, takes
from ditlens.errors import SettingError
from ditlens.lens.cache import INDICES, LatentCache
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study
from ditlens.views.plots import WIDTH, NotebookFigure, show_image
from ditlens.views.projections import VIEW, check_panels, one_item
from ditlens.views.scatter import (
    footer,
    site_name,
)

ROBUST = (1, 99)
"""Percentiles of a component that are black and full colour."""


@takes(
    view=VIEW, source=HIDDEN, step=INDICES, block=INDICES, item=INDEX,
    image=Kind("an image: a file, a PIL image or a tensor", lambda value: True),  # noqa: ARG005
)  # fmt: skip
def plot_token_map(
    view: View,
    source: LatentCache | Study,
    *,
    step: int | Sequence[int] | None = None,
    block: int | Sequence[int] | None = None,
    item: int = 0,
    image: Any = None,
) -> Figure:
    """Show the first three components of every patch as red, green and blue, where the patch lies in the image.

    A row for each step, a column for each block. Each component is black at its 1st and full at its 99th
    percentile over all panels, so that equal colours are equal values; with one basis for each site, over the
    panels of a site.

    Args:
        view: Fitted, with three components or more.
        source: A cache or a study with all image tokens. Of several points of a block, its output is shown.
        step: One step, several, or None for all.
        block: One block, several, or None for those that the view was fitted on.
        item: Which image, counted in the source.
        image: The image, shown first; a study has its own.

    Raises:
        SettingError: If the view has fewer than three components, or there would be too many panels.
        CaptureError: If the tokens were reduced, only some were kept, or their grid is unknown.
        SiteError: If block or step were not captured.

    >>> with dl.capture(model, "joint.*.image.out", steps=[0, 3]) as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> figure = dl.plot_token_map(dl.PCA(3).fit(cache), cache, step=3, image=image)
    """
    if view.n_components < 3:
        raise SettingError(
            f"A token map shows three components as red, green and blue; this view has {view.n_components}. "
            f"Fit dl.{type(view).__name__}(3)."
        )
    chosen = source.select(stream="image", block=block, step=step)
    one, whose, own = one_item(chosen, item)
    shown = own if image is None else image_files.open_image(getattr(image, "image", image))
    sites = _mapped(one.sites, view, block is None)
    check_panels(len(sites) * len(one.steps), len(sites))
    maps = {}
    for site in sites:
        for at in one.steps:
            grid = one.to_grid(site, step=at, pass_=one.passes[0], run=one.items[whose].run)
            index = [i for i, each in enumerate(one.items) if each.run == one.items[whose].run].index(whose)
            maps[site, at] = view.project(grid[index], site)[..., :3]
    return _token_figure(view, maps, sites, one.steps, shown, f"image {item}")


def _mapped(sites: list[str], view: View, fitted_only: bool) -> list[str]:
    """The outputs of blocks, or all sites if there are none; of these, those that a view was fitted on, if any."""
    outputs = [site for site in sites if Site.parse(site).point == "out"] or sites
    fitted = view.source.sites if isinstance(view.source, LatentCache | Study) else outputs
    return ([site for site in outputs if site in fitted] if fitted_only else []) or outputs


def _token_figure(
    view: View,
    maps: dict[tuple[str, int], np.ndarray],
    sites: list[str],
    steps: list[int],
    image: Any,
    what: str,
) -> Figure:
    """The panels of `plot_token_map`: a row for each step, a column for each block; the image comes first."""
    joint = getattr(view, "joint", True)
    groups = [list(maps)] if joint else [[(site, step) for step in steps] for site in sites]
    scaled: dict[tuple[str, int], np.ndarray] = {}
    for keys in groups:
        scaled |= zip(keys, robust([maps[key] for key in keys]), strict=True)
    first = int(image is not None)
    side = min(2.4 if len(maps) < 4 else 1.7, (WIDTH - 0.4) / (len(sites) + first))
    wide = max(side * (len(sites) + first) + 0.4, 6.5)
    figure = NotebookFigure(figsize=(wide, side * len(steps) + 1.3), layout="constrained")
    axes = figure.subplots(len(steps), len(sites) + first, squeeze=False)
    for row, step in enumerate(steps):
        if first:
            if row == 0:
                show_image(axes[row, 0], image, "image")
            axes[row, 0].set_axis_off()
        for column, site in enumerate(sites, first):
            ax = axes[row, column]
            ax.imshow(scaled[site, step], interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            if row == 0:
                ax.set_title(site_name(site), fontsize=10)
            if column == first:
                ax.set_ylabel(f"step {step}", fontsize=10)
    kind = type(view).__name__
    figure.suptitle(f"{kind} of {what}: components 1 to 3 as red, green and blue", fontsize=11)
    shares = " + ".join(_shares(view)) if joint and isinstance(view, PCA) else ""
    explained = f"red, green, blue explain {shares} of the variance" if shares else ""
    span = "all panels" if joint else "the panels of a site: colours of different blocks do not compare"
    footer(
        figure,
        explained,
        f"black to full: {ROBUST[0]}st to {ROBUST[1]}th percentile over {span}",
        view.preprocessing,
    )
    return figure


def _shares(view: PCA) -> list[str]:
    return [f"{100 * share:.0f} %" for share in view.explained_variance_ratio_[:3]]


def robust(grids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values from 0 to 1: each channel from its 1st to its 99th percentile over all grids, clipped.

    >>> (colours,) = robust([np.array([-1e6, *range(400), 1e6]).reshape(3, 134, 1)])
    >>> [round(float(colours[at]), 2) for at in ((0, 0, 0), (1, 66, 0), (2, 133, 0))]
    [0.0, 0.5, 1.0]
    """
    everything = np.concatenate([each.reshape(-1, each.shape[-1]) for each in grids])
    low, high = np.percentile(everything, ROBUST, axis=0)
    return [np.clip((grid - low) / np.where(high > low, high - low, 1), 0, 1) for grid in grids]
