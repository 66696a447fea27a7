"""Scatter of projected hidden states, coloured by anything that is known of the images, with their pictures."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ditlens import images as image_files
from ditlens.analysis.projection import Projection
from ditlens.arguments import COUNT, FLAG, TEXT, Kind, instance, list_of, takes
from ditlens.errors import SettingError, StudyError
from ditlens.lens.cache import LatentCache
from ditlens.lens.study.store import Study
from ditlens.tables import spoken
from ditlens.views.plots import GREY, panels

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Eight colours that people with any kind of colour vision can tell apart."""
OTHER = "#BBBBBB"
POINTS = 20_000
"""Most points of a scatter; of more rows, so many are drawn at random."""
PICTURES = 40
"""Most pictures on a scatter."""
PICTURE = 0.5
"""Side of a picture, in inches."""
ANYTHING = Kind("anything", lambda value: True)  # noqa: ARG005
COLOR = TEXT | list_of(ANYTHING, "a list with one value for each image")
COMPONENTS = list_of(COUNT, "the numbers of two components, counted from 1")


@takes(
    projection=instance("a Projection, from view.transform(...)", Projection), color=COLOR,
    thumbnails=FLAG | list_of(ANYTHING, "a list of images, one for each item"),
    components=COMPONENTS,
)  # fmt: skip
def plot_projection(
    projection: Projection,
    color: str | Sequence[Any] = "",
    *,
    thumbnails: bool | Sequence[Any] | None = None,
    components: Sequence[int] = (1, 2),
) -> Figure:
    """Scatter of two components, one panel for each basis.

    Args:
        projection: From ``view.transform(...)``.
        color: What colours the points: ``"block"``, ``"step"``, ``"token"`` or another label, a column of the
            study such as ``"smile"``, or a list with one value for each image. Numbers have a colour bar (cividis),
            words a legend (the colours of Okabe and Ito).
        thumbnails: Whether about 40 well-spread points are pictures, framed in their colour: of a patch, the
            patch and those around it. By default where a study has images, and rows are no text tokens. A cache has
            none: give a list of them, one for each item.
        components: Which two, counted from 1.

    Raises:
        SettingError: If nothing has the name `color`, or a component does not exist.

    >>> with dl.capture(model, "joint.*.image.out", steps=[0, 3]) as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> figure = dl.plot_projection(dl.PCA(3).fit_transform(cache), "block", components=[1, 3])
    """
    first, second = checked_components(components, projection.coordinates.shape[1])
    joint = getattr(projection.view, "joint", True)
    sites = [""] if joint else list(dict.fromkeys(projection.labels["site"].tolist()))
    colour = Colour(projection.values(color), color if isinstance(color, str) else "") if len(color) else None
    picture = pictures(projection, thumbnails) if len(sites) == 1 else None
    figure, axes = panels(len(sites), 3, 5.6, 2.6)
    drawn, told = _drawn(len(projection))
    for ax, site in zip(axes, sites, strict=True):
        rows = drawn[projection.labels["site"][drawn] == site] if site else drawn
        xy = projection.coordinates[rows][:, [first, second]]
        shades = colour.of(rows) if colour else np.full(len(rows), OKABE_ITO[0])
        ax.scatter(xy[:, 0], xy[:, 1], c=shades, s=max(4, min(30, 6000 / len(rows))), alpha=0.75, lw=0)
        label_axes(ax, projection.view, site, (first, second))
        if site:
            ax.set_title(site, fontsize=10)
        if picture is not None:
            _draw_pictures(figure, ax, xy, rows, shades, picture)
    if colour:
        colour.explain(figure, axes)
    kind = type(projection.view).__name__
    by = f", coloured by {colour.name}" if colour and colour.name else ""
    figure.suptitle(f"{kind} of {_where(projection)}{by}", fontsize=11)
    footer(figure, projection.view.preprocessing, projection.note, told)
    return figure


# --- parts that the other figures of projections share -----------------------------------------------------


def checked_components(components: Sequence[int], count: int) -> tuple[int, int]:
    """Two components, counted from 0.

    Raises:
        SettingError: If they are not two, or one does not exist.
    """
    if len(components) != 2 or max(components) > count:
        raise SettingError(
            f"components={list(components)}: give two numbers from 1 to {count}, e.g. [1, 2]. "
            f"This view has {count}{'; fit one with two or more' if count < 2 else ''}."
        )
    return components[0] - 1, components[1] - 1


def label_axes(ax: Axes, view: Any, site: str, numbers: tuple[int, int]) -> None:
    """Names of two components, of a PCA with their shares of the variance."""
    for axis, number in zip((ax.xaxis, ax.yaxis), numbers, strict=True):
        axis.set_label_text(axis_label(view, number, site), fontsize=10)
        axis.set_major_locator(MaxNLocator(4 if axis is ax.xaxis else 5))  # numbers stand side by side below
    ax.tick_params(labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)


def axis_label(view: Any, number: int, site: str = "") -> str:
    """Name of a component, of a PCA with its share of the variance."""
    basis = view.basis(site) if hasattr(view, "basis") else None
    share = f" ({100 * basis.explained_variance_ratio[number]:.0f} % of the variance)" if basis else ""
    return f"{view.axis(number)}{share}"


def footer(figure: Figure, *texts: str) -> None:
    """What was done to the rows, in small print under a figure, in lines that are no wider than it."""
    most = min(105, int(14 * figure.get_figwidth()))
    lines: list[str] = []
    for part in "; ".join(text for text in texts if text).split("; "):
        if lines and len(lines[-1]) + len(part) + 2 <= most:
            lines[-1] += f"; {part}"
        else:
            lines += textwrap.wrap(part, most)
    figure.supxlabel("\n".join(lines), fontsize=9, color=GREY)


def site_name(site: str) -> str:
    """A site for the title of a panel: its block, or all of it where it is no block's output."""
    parts = site.split(".")
    kind = "block" if parts[0] == "joint" else "single block"
    return f"{kind} {parts[1]}" if len(parts) == 4 and parts[3] == "out" else site


class Colour:
    """Colours of values: numbers from dark to light (cividis), words in the colours of Okabe and Ito."""

    def __init__(self, values: np.ndarray, name: str) -> None:
        self.name = spoken(name)
        given = [None if isinstance(v, float) and not math.isfinite(v) else v for v in values.tolist()]
        self.unknown = np.asarray([value is None for value in given])
        known = [value for value in given if value is not None]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
        self.continuous = bool(known) and numbers
        self.legend: dict[str, str] = {}
        if self.continuous:
            numbers_ = np.asarray([np.nan if value is None else float(value) for value in given])
            low, high = np.nanmin(numbers_), np.nanmax(numbers_)
            self.mappable = ScalarMappable(
                Normalize(low, high if high > low else low + 1), colormaps["cividis"]
            )
            self.whole = all(isinstance(value, int) for value in known)
            self.colours = self.mappable.to_rgba(np.nan_to_num(numbers_, nan=low))
        else:
            self._name_words([None if value is None else str(value) for value in given])

    def _name_words(self, words: list[str | None]) -> None:
        counts = Counter(word for word in words if word is not None)
        named = sorted(word for word, _ in counts.most_common(len(OKABE_ITO)))
        self.legend = dict(zip(named, OKABE_ITO, strict=False))
        rest = len(counts) - len(named)
        self.colours = np.asarray([_rgba(self.legend.get(word or "", OTHER)) for word in words])
        if rest > 0:
            self.legend[f"{rest} others"] = OTHER

    def of(self, rows: np.ndarray) -> np.ndarray:
        """RGBA of some rows; grey where nothing is known."""
        found = np.array(self.colours[rows])
        found[self.unknown[rows]] = _rgba(OTHER)
        return found

    def explain(self, figure: Figure, axes: Any) -> None:
        """A colour bar or a legend, right of the axes."""
        if self.continuous:
            bar = figure.colorbar(self.mappable, ax=axes, fraction=0.04, pad=0.02)
            bar.set_label(self.name, fontsize=10)
            bar.ax.tick_params(labelsize=9)
            if self.whole:
                bar.locator = MaxNLocator(8, integer=True)
                bar.update_ticks()
        else:
            legend = self.legend | ({"not known": OTHER} if self.unknown.any() else {})
            marks = [
                Line2D([], [], marker="o", ls="", color=colour, label=_short(word))
                for word, colour in legend.items()
            ]
            figure.legend(
                handles=marks, loc="outside right upper", title=self.name or None, fontsize=9, frameon=False
            )


def _rgba(colour: str) -> tuple[float, ...]:
    found: tuple[float, ...] = to_rgba(colour)
    return found


def _short(word: str, most: int = 24) -> str:
    return word if len(word) <= most else f"{word[: most - 1]}…"


def _where(projection: Projection) -> str:
    sites = list(dict.fromkeys(projection.labels["site"].tolist()))
    if sites == [""]:
        return f"{len(projection)} rows"
    steps = sorted(set(projection.labels["step"].tolist()))
    where = sites[0] if len(sites) == 1 else f"{len(sites)} sites"
    when = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps"
    images = len(set(projection.labels["item"].tolist()))
    return f"{where}, {when}, {images} image{'s' * (images > 1)}"


def _drawn(count: int) -> tuple[np.ndarray, str]:
    """Rows that are drawn, and a note if not all are."""
    if count <= POINTS:
        return np.random.default_rng(0).permutation(count), ""  # no block or step lies on top of the others
    chosen = np.random.default_rng(0).choice(count, POINTS, replace=False)
    return chosen, f"{POINTS} of {count} points shown"


# --- pictures ----------------------------------------------------------------------------------------------


def pictures(
    projection: Projection, thumbnails: bool | Sequence[Any] | None
) -> Callable[[int], Image.Image] | None:
    """A function that gives the picture of a row; None where there shall be none.

    Raises:
        SettingError: If pictures were asked for that are not there, or there is not one for each image.
    """
    source = projection.source
    text = (
        bool(np.isin(projection.values("stream"), ["text"]).any())
        and int(projection.labels["token"].max()) >= 0
    )
    if thumbnails is False or (thumbnails is None and (text or not isinstance(source, Study))):
        return None
    if thumbnails is None or thumbnails is True:
        if not isinstance(source, Study):
            raise SettingError("Only a study keeps images. For a cache, give them: thumbnails=[image, ...].")
        try:
            source.image(0)
        except StudyError:
            if thumbnails is None:
                return None
            raise
        return lambda row: _patch(projection, row, source.image(int(projection.labels["item"][row])))
    count = len(source.items) if isinstance(source, LatentCache | Study) else len(source)
    given = [image_files.open_image(getattr(image, "image", image)) for image in thumbnails]
    if len(given) != count:
        raise SettingError(f"Got {len(given)} images for {count} items; give one each.")
    return lambda row: _patch(projection, row, given[int(projection.labels["item"][row])])


def _patch(projection: Projection, row: int, image: Image.Image) -> Image.Image:
    """The image of a row; if the row is one patch, that patch and its neighbours."""
    source, token = projection.source, int(projection.labels["token"][row])
    grids = [source.grid] if isinstance(source, Study) else [*getattr(source, "grids", {}).values()]
    grid = grids[0] if len(grids) == 1 else None
    if token < 0 or projection.values("stream")[row] != "image" or grid is None or min(grid, default=0) < 3:
        return image
    rows, columns = grid[-2:]
    y, x = divmod(token, columns)
    wide, high = image.width / columns, image.height / rows
    left, top = min(max(x - 1, 0), columns - 3) * wide, min(max(y - 1, 0), rows - 3) * high
    return image.crop((round(left), round(top), round(left + 3 * wide), round(top + 3 * high)))


def _draw_pictures(
    figure: Figure,
    ax: Axes,
    xy: np.ndarray,
    rows: np.ndarray,
    shades: np.ndarray,
    picture: Callable[[int], Image.Image],
) -> None:
    """Pictures in place of well-spread points, a third of them at most, with room for the outermost."""
    size = np.array([0.8 * figure.get_figwidth(), 0.75 * figure.get_figheight()])
    low, high = xy.min(0), xy.max(0)
    inches = (xy - low) / np.where(high > low, high - low, 1) * size
    places, side = placed(inches)
    for place in places:
        image = picture(int(rows[place])).resize((96, 96))
        box = OffsetImage(np.asarray(image), zoom=72 * side / 96)
        frame = {"edgecolor": shades[place], "lw": 2.5}
        ax.add_artist(AnnotationBbox(box, tuple(xy[place]), pad=0.05, bboxprops=frame))
    edge = side / 2 + 0.1  # with its frame
    ax.margins(*(edge / (size - 2 * edge)))


def placed(points: np.ndarray) -> tuple[list[int], float]:
    """Which points, (points, 2) in inches, are pictures, and the side of one.

    A third of the points at most are pictures. They shrink, to a half, until they hide at most a quarter of the
    others.

    >>> places, side = placed(np.array([[x, y] for x in range(4) for y in range(3)], float))
    >>> len(places), side
    (4, 0.5)
    """
    most = min(PICTURES, max(1, len(points) // 3))
    for side in (PICTURE, 0.75 * PICTURE, PICTURE / 2):
        places = spread(points, 1.25 * PICTURE, most)
        away = np.abs(points[:, None] - points[places]).max(-1)
        if (away < side / 2).any(1).sum() - len(places) <= (len(points) - len(places)) / 4:
            break
    return places, side


def spread(points: np.ndarray, apart: float, most: int) -> list[int]:
    """Points, each far from those before it, of which no two are nearer than `apart` on both axes.

    >>> spread(np.array([[0.0, 0], [0.1, 0], [1, 0], [0, 1]]), 0.5, 3)
    [3, 0, 2]
    """
    chosen: list[int] = []
    distance = np.full(len(points), np.inf)
    centre = np.abs(points - points.mean(0)).max(1)
    place = int(centre.argmax()) if len(points) else 0
    while len(chosen) < most and len(chosen) < len(points) and distance[place] >= apart:
        chosen.append(place)
        distance = np.minimum(distance, np.abs(points - points[place]).max(1))
        place = int(distance.argmax())
    return chosen
