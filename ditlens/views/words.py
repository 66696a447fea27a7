"""Where the words of a prompt lie in the components of the text stream."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ditlens.analysis.projection import View
from ditlens.analysis.rows import HIDDEN, kept_tokens
from ditlens.arguments import INDEX, takes
from ditlens.errors import CaptureError, SettingError
from ditlens.lens.cache import INDICES, LatentCache
from ditlens.lens.study.store import Study
from ditlens.views.plots import BLUE, GREY, panels
from ditlens.views.projections import VIEW, check_panels, one_item
from ditlens.views.scatter import (
    COMPONENTS,
    checked_components,
    footer,
    label_axes,
    site_name,
)


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
    one, row, _ = one_item(source.select(stream="text", block=block, step=step), item)
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
    grey = "" if all(names) else "grey dots: tokens of no word, such as commas, start and end"
    figure.suptitle(f"Words of “{textwrap.shorten(prompt, 80, placeholder=' …')}”, step {step}", fontsize=11)
    footer(figure, grey, view.preprocessing)
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
