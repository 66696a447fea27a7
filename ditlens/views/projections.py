"""Pictures of components: on the grid of the image, over the steps, word by word, and how much they explain."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ditlens import images as image_files
from ditlens.analysis.decompose import PCA
from ditlens.analysis.projection import View
from ditlens.analysis.rows import HIDDEN, described, kept_tokens
from ditlens.arguments import COUNT, INDEX, NAME, Kind, instance, list_of, listed, several, takes
from ditlens.errors import CaptureError, SettingError, StudyError
from ditlens.lens.cache import INDICES, LatentCache
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study
from ditlens.tables import ranges
from ditlens.views.plots import BLUE, GREY, RED, WIDTH, NotebookFigure, panels, show_image
from ditlens.views.scatter import (
    COLOR,
    Colour,
    checked_components,
    footer,
    label_axes,
    site_name,
)

VIEW = instance("a fitted PCA or UMAP, e.g. dl.PCA(3).fit(cache)", View)
ROBUST = (1, 99)
"""Percentiles of a component that are black and full colour."""
PANELS = 60
"""Most panels of a figure."""
ACROSS = 12
"""Most panels side by side."""
LINES = 8
"""Most images whose way is drawn."""
COMPONENTS = list_of(COUNT, "the numbers of two components, counted from 1")


# --- on the grid of the image ------------------------------------------------------------------------------


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
    one, whose, own = _one_item(chosen, item)
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


def _one_item(source: LatentCache | Study, item: int) -> tuple[LatentCache, int, Image.Image | None]:
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


# --- words -------------------------------------------------------------------------------------------------


@takes(view=VIEW, source=HIDDEN, step=INDEX, block=INDICES, item=INDEX, components=COMPONENTS)
def plot_words(
    view: View,
    source: LatentCache | Study,
    *,
    step: int,
    block: int | Sequence[int] | None = None,
    item: int = 0,
    components: Sequence[int] = (1, 2),
) -> Figure:
    """Show where the words of one prompt lie in two components of the text stream, a panel for each block.

    Tokens that belong to no word (the start of the text, commas, the end) are grey dots; padding is left out. A
    study does not know where its words lie, and numbers the tokens instead.

    Args:
        view: Fitted on the text stream.
        source: A cache or a study with text tokens.
        step: Which step.
        block: One block, several, or None for all.
        item: Which image, counted in the source.
        components: Which two, counted from 1.

    Raises:
        SettingError: If the tokens were reduced, or a component does not exist.
        SiteError: If no text was captured there.

    >>> with dl.capture(model, "joint.*.text.out", steps=0) as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> figure = dl.plot_words(dl.PCA(2).fit(cache), cache, step=0)
    """
    pair = checked_components(components, view.n_components)
    one, row, _ = _one_item(source.select(stream="text", block=block, step=step), item)
    check_panels(len(one.sites))
    pass_ = one.passes[0]
    mask, prompt = one.mask(pass_), one.items[row].prompt
    figure, axes = panels(len(one.sites), 2, 5.4, 3.7)
    room = (7.3, 3.8) if len(axes) == 1 else (3.2, 2.4)
    for ax, site in zip(axes, one.sites, strict=True):
        values = one.get(site, step=step, pass_=pass_)[row]
        if values.ndim != 2:
            raise SettingError(
                f"{site} has no tokens in this source ({one.reduced}). Capture without reducing."
            )
        numbers = kept_tokens(one, site, len(values))
        real = range(len(values)) if mask is None else mask[row].nonzero().ravel().tolist()
        names = _names(one, row, [numbers[i] for i in real])
        _draw_words(ax, view.project(values[list(real)], site)[:, list(pair)], names, room)
        label_axes(ax, view, site, pair)
        ax.set_title(site_name(site), fontsize=10)
    figure.suptitle(f"Words of “{textwrap.shorten(prompt, 80, placeholder=' …')}”, step {step}", fontsize=11)
    footer(figure, view.preprocessing)
    return figure


def _names(cache: LatentCache, row: int, numbers: list[int]) -> list[str]:
    """The word of each token; its number where words are not known, nothing where it belongs to none."""
    if cache.spans is None or not cache.items[row].prompt:
        return [str(number) for number in numbers]
    found: dict[int, str] = {}
    for word in dict.fromkeys(re.findall(r"\w+(?:['’-]\w+)*", cache.items[row].prompt)):
        with contextlib.suppress(CaptureError):  # cut off
            places = {number for each in cache.words(word, row).values() for number in each}
            found |= dict.fromkeys(places, word)
    return [found.get(number, "") for number in numbers]


def _draw_words(ax: Axes, xy: np.ndarray, names: list[str], inches: tuple[float, float]) -> None:
    """A dot for each token, and its word beside it where there is room, on axes of about so many inches."""
    named = np.asarray([bool(name) for name in names])
    ax.scatter(xy[~named, 0], xy[~named, 1], s=14, color=GREY, lw=0)
    ax.scatter(xy[named, 0], xy[named, 1], s=18, color=BLUE, lw=0)
    ax.margins(0.08)
    low, high = xy.min(0), xy.max(0)
    places = (xy - low) / np.where(high > low, high - low, 1) * inches
    taken = [(x - 0.03, y - 0.03, 0.06, 0.06) for x, y in places]  # left, bottom, width, height
    for name, (x, y), point in zip(names, places, xy, strict=True):
        width = 0.078 * len(name)
        for right, up in ((0.06, -0.06), (-0.06 - width, -0.06), (-width / 2, 0.06), (-width / 2, -0.19)):
            box = (x + right, y + up, width, 0.13)
            inside = box[0] > -0.3 and box[0] + width < inches[0] + 0.3
            if name and inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                shift = (72 * right, 72 * (up + 0.02))
                ax.annotate(name, point, shift, textcoords="offset points", fontsize=9)
                break


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    (x, y, w, h), (x2, y2, w2, h2) = one, other
    return x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h


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
