"""Pictures of components over the steps, and how much they explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ditlens.analysis.decompose import PCA
from ditlens.analysis.projection import View
from ditlens.analysis.rows import HIDDEN, described, kept_tokens
from ditlens.arguments import INDEX, NAME, instance, listed, several, takes
from ditlens.errors import CaptureError, SettingError, StudyError
from ditlens.lens.cache import INDICES, LatentCache
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study
from ditlens.tables import ranges
from ditlens.views.plots import BLUE, RED, WIDTH, NotebookFigure, panels
from ditlens.views.scatter import (
    COLOR,
    COMPONENTS,
    Colour,
    checked_components,
    footer,
    label_axes,
    site_name,
)

VIEW = instance("a fitted PCA or UMAP, e.g. dl.PCA(3).fit(cache)", View)
PANELS = 60
"""Most panels of a figure."""
ACROSS = 12
"""Most panels side by side."""
LINES = 8
"""Most images whose way is drawn."""


# --- what all take -----------------------------------------------------------------------------------------


def one_item(source: LatentCache | Study, item: int) -> tuple[LatentCache, int, Image.Image | None]:
    """A cache that holds an image, its row there, and the image if the source has it.

    Raises:
        CaptureError: If there is no such image.
    """
    if isinstance(source, LatentCache):
        source.item(item)
        return source, item, None
    if item >= len(source.items):
        raise CaptureError(f"item is {item}, and this study holds {len(source.items)} images, from 0.")
    if source.reduced and not source.reduced.startswith("sketch:"):
        raise CaptureError(
            f"This study keeps no tokens, only their {source.reduced}: nothing lies on a grid or has a place. "
            "Capture one with reduce=None or reduce='sketch:64' (--reduce none)."
        )
    try:
        image = source.image(item)
    except StudyError:
        image = None
    return source.cache([source.items[item]]), 0, image


def check_panels(count: int, across: int = 1) -> None:
    """Refuse a figure with too many panels.

    Raises:
        SettingError: If there are more than `PANELS`, or than `ACROSS` side by side.
    """
    if count > PANELS or across > ACROSS:
        many = f"{count} panels" if count > PANELS else f"{across} panels side by side"
        raise SettingError(
            f"That would be {many}, and more than {PANELS if count > PANELS else ACROSS} are too small to be seen. "
            "Choose some with step= and block=."
        )


# --- over the steps ----------------------------------------------------------------------------------------


@takes(
    view=VIEW, source=HIDDEN, token=INDEX | NAME, block=INDICES, items=several(INDEX, "a list of item numbers"),
    color=COLOR, components=COMPONENTS,
)  # fmt: skip
def plot_trajectory(
    view: View,
    source: LatentCache | Study,
    *,
    token: int | str,
    block: int | Sequence[int] | None = None,
    items: int | Sequence[int] | None = None,
    color: str | Sequence[Any] = "item",
    components: Sequence[int] = (1, 2),
) -> Figure:
    """Show the way of one token through the steps, one line for each image: from a ring to a filled dot.

    A panel for each block.

    Args:
        view: Fitted.
        source: A cache or a study, of one stream and at least two steps.
        token: Number of an image patch (row by row) or text token, or a word of the prompt of a cache.
        block: One block, several, or None for all.
        items: Which images, counted in the source; the first 8 by default.
        color: Colours the lines, as in `ditlens.plot_projection`; each image has its own by default.
        components: Which two, counted from 1.

    Raises:
        SettingError: If there is one step only, both streams, or no such token.
        CaptureError: If the word is not in a prompt.

    >>> with dl.capture(model, "joint.*.image.out") as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> figure = dl.plot_trajectory(dl.PCA(2).fit(cache), cache, token=43)
    """
    pair = checked_components(components, view.n_components)
    chosen = source.select(block=block)
    streams = {Site.parse(site).stream for site in chosen.sites}
    if len(streams) > 1 or len(chosen.steps) < 2:
        why = f"{len(chosen.steps)} step" if len(streams) == 1 else "both streams"
        raise SettingError(
            f"A way through the steps needs one stream and two steps or more; this source has {why}. Select "
            "one, e.g. cache.select(stream='image'), or capture more steps."
        )
    if isinstance(token, str) and isinstance(source, LatentCache) and streams != {"text"}:
        raise SettingError(
            f"“{token}” is a word, and words lie in the text stream; this source has the image's. Give the "
            "number of a patch, or capture e.g. 'joint.*.text.out'."
        )
    wanted = list(range(min(LINES, len(source.items)))) if items is None else listed(items)
    if max(wanted) >= len(source.items):
        raise SettingError(f"items has {max(wanted)}, and there are {len(source.items)} images, from 0.")
    places = {item: _token_of(source, token, item) for item in wanted}
    check_panels(len(chosen.sites))
    ways = {  # (items, steps, 2)
        site: view.project(_ways(chosen, site, wanted, places), site)[..., list(pair)]
        for site in chosen.sites
    }
    figure, axes = panels(len(ways), 3, 4.6, 3.1)
    colour = _line_colour(source, color, wanted)
    shades = colour.of(np.arange(len(wanted)))
    for ax, (site, lines) in zip(axes, ways.items(), strict=True):
        for line, shade in zip(lines, shades, strict=True):
            ax.plot(*line.T, color=shade, lw=1.6, alpha=0.85)
            ax.plot(*line[0], "o", mfc="white", mec=shade, mew=1.6, ms=6, zorder=3)
            ax.plot(*line[-1], "o", color=shade, ms=7, zorder=3)
        label_axes(ax, view, site, pair)
        ax.set_title(site_name(site), fontsize=10)
    colour.explain(figure, axes)
    what = f"“{token}”" if isinstance(token, str) else f"{_unit(streams)} {token}"
    steps = f"step {chosen.steps[0]} (ring) to step {chosen.steps[-1]} (dot)"
    figure.suptitle(f"The way of {what}, {steps}", fontsize=11)
    footer(figure, view.preprocessing)
    return figure


def _unit(streams: set[str]) -> str:
    return "patch" if streams == {"image"} else "text token"


def _token_of(source: LatentCache | Study, token: int | str, item: int) -> list[int]:
    """Numbers of a token, or of the tokens of a word."""
    if not isinstance(token, str):
        return [token]
    if not isinstance(source, LatentCache):
        raise SettingError(
            "A study does not know where its words lie. Give the number of the token: "
            "dl.words(model, prompt, word) says it."
        )
    return sorted({number for numbers in source.words(token, item).values() for number in numbers})


def _ways(
    source: LatentCache | Study, site: str, items: list[int], places: dict[int, list[int]]
) -> torch.Tensor:
    """Hidden states of one token of some images (of a word: the mean of its tokens), (items, steps, width)."""
    pass_, found = source.passes[0], []
    mask = source.mask(pass_) if Site.parse(site).stream == "text" else None
    for item in items:
        if isinstance(source, Study):
            values = source.get(site, pass_=pass_, items=[source.items[item]])[:, 0]
        else:
            values = source.get(site, pass_=pass_)[:, item]
        if values.ndim != 3:
            done = source.reduced or "a single vector"
            raise SettingError(f"{site} has no tokens in this source ({done}). Capture without reducing.")
        numbers = kept_tokens(source, site, values.shape[1])
        if absent := [number for number in places[item] if number not in numbers]:
            raise SettingError(f"Token {absent[0]} is not in {site}, which has the tokens {ranges(numbers)}.")
        index = [numbers.index(number) for number in places[item]]
        if mask is not None and not bool(mask[item, index].all()):
            raise SettingError(
                f"Text token {places[item][0]} of image {item} is padding. Choose one of the "
                f"{int(mask[item].sum())} real ones, or other items=[...]."
            )
        found.append(values[:, index].float().mean(1))
    return torch.stack(found)


def _line_colour(source: LatentCache | Study, color: str | Sequence[Any], items: list[int]) -> Colour:
    """Colours of some images."""
    if not isinstance(color, str):
        if len(color) != len(source.items):
            raise SettingError(f"Got {len(color)} values for {len(source.items)} images; give one each.")
        return Colour(np.asarray(color)[items], "value")
    if color == "item":
        return Colour(np.asarray([f"image {item}" for item in items], object), "image")
    if color not in source.columns:
        raise SettingError(f"There is no column {color!r}. There are: item, {', '.join(source.columns)}.")
    return Colour(np.asarray(source.columns[color], object)[items], color)


# --- how much they explain ---------------------------------------------------------------------------------


@takes(view=instance("a fitted PCA, e.g. dl.PCA(10).fit(cache)", PCA))
def plot_scree(view: PCA) -> Figure:
    """Show the share of the variance that each component explains, and all up to it together.

    With one basis for each site, a line for each site shows the latter.

    Args:
        view: A fitted PCA.

    >>> with dl.capture(model, "joint.*.image.out", steps=[0, 3]) as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> figure = dl.plot_scree(dl.PCA(10).fit(cache))
    """
    figure = NotebookFigure(figsize=(WIDTH, 4.0), layout="constrained")
    ax = figure.subplots()
    bases = view.bases
    number = np.arange(1, view.n_components + 1)
    if len(bases) == 1:
        shares = 100 * next(iter(bases.values())).explained_variance_ratio
        ax.bar(number, shares, color=BLUE, width=0.8, label="each")
        ax.plot(number, shares.cumsum(), color=RED, marker="o", ms=4, label="all up to it")
    for i, (site, basis) in enumerate(bases.items() if len(bases) > 1 else ()):
        shade = colormaps["cividis"](i / (len(bases) - 1))
        ax.plot(
            number, 100 * basis.explained_variance_ratio.cumsum(), color=shade, marker="o", ms=4, label=site
        )
    ax.set_ylim(0, None)
    ax.set_xlim(0.4, view.n_components + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    ax.set_xlabel("component", fontsize=10)
    ax.set_ylabel("share of the variance (%)", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    if len(bases) <= 16:
        figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    what = "" if len(bases) == 1 else ": all components up to each"
    figure.suptitle(f"Variance explained by {view.n_components} components{what}", fontsize=11)
    footer(figure, described(view.source), view.preprocessing)
    return figure
