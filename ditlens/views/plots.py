"""Figures of edits and portraits, for notebooks and files.

Every function returns a matplotlib `Figure` of its own and touches no global state of pyplot, so that it can be
called from any thread and from the callback of a widget. Colours are those of Okabe and Ito, which people with
any kind of colour vision can tell apart.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ditlens import images as image_files
from ditlens.arguments import COUNT, INDEX, TEXT, Kind, instance, list_of, takes
from ditlens.ems.edit import Edit, Sweep
from ditlens.errors import MissingDependencyError, SettingError
from ditlens.lens.cache import LatentCache
from ditlens.tables import spoken
from ditlens.worlds.world import Categorical, Continuous

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec
    from matplotlib.image import AxesImage
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"Figures need matplotlib: {error}. Type: pip install 'ditlens[views]', or make install in a clone."
    ) from error


BLUE, GREEN, RED, GREY = "#0072B2", "#009E73", "#D55E00", "#666666"
"""Okabe and Ito's colours (red is their vermilion), and a grey for what only supports."""

WIDTH = 9.0
"""Inches: as wide as the output of a notebook."""

IMAGES = list_of(Kind("", lambda value: True), "a list of images: files, PIL images or tensors")  # noqa: ARG005
LABELS = list_of(TEXT, "a list of texts, one for each image") | Kind(
    "none", lambda value: isinstance(value, list | tuple) and not value
)

DEGREE = "editing degree (0: reconstruction, 1: target text)"


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, also where pyplot is not loaded.

    As JPEG: a notebook full of portraits is three times smaller than with PNG. For paper, use `savefig`.
    """

    def _ipython_display_(self) -> None:
        """Show the JPEG alone: once pyplot is loaded, IPython would add a PNG to it."""
        from IPython.display import display

        display({"image/jpeg": self._repr_jpeg_(), "text/plain": repr(self)}, raw=True)

    def _repr_jpeg_(self) -> bytes:
        with io.BytesIO() as file:
            self.savefig(file, format="jpeg", dpi=80, pil_kwargs={"quality": 85, "optimize": True})
            return file.getvalue()


# --- parts that several figures share ------------------------------------------------------------------------


def panels(count: int, most: int, alone: float, each: float) -> tuple[NotebookFigure, list[Axes]]:
    """A figure of some panels.

    Args:
        count: How many.
        most: Most of them side by side.
        alone: Height of the figure where there is one panel, in inches.
        each: Height of a row of several.
    """
    across = min(count, most)
    down = math.ceil(count / across)
    size = (WIDTH, alone if count == 1 else each * down + 0.9)
    figure = NotebookFigure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def draw_heat(
    ax: Axes, table: np.ndarray, rows: Sequence[str], columns: Sequence[str], low: float, high: float, *,
    diverging: bool = False, angle: float = 0, size: float = 9,
) -> AxesImage:  # fmt: skip
    """A table as a heat map, in cividis, or where numbers have a sign from orange to violet; NaN is grey.

    Args:
        ax: Where.
        table: The numbers, (rows, columns).
        rows: Names of the rows, from top to bottom.
        columns: Names of the columns.
        low: The number of the darkest colour.
        high: The number of the lightest one.
        diverging: Whether colours part at the middle of the range.
        angle: Of the names of the columns, in degrees.
        size: Of all names, in points.
    """
    shown = ax.imshow(table, norm=Normalize(low, high), cmap="PuOr_r" if diverging else "cividis")
    ax.set_facecolor("0.85")
    turned: dict[str, Any] = {"ha": "right", "rotation_mode": "anchor"} if 0 < angle < 90 else {}
    ax.set_xticks(range(len(columns)), columns, rotation=angle, fontsize=size, **turned)
    ax.set_yticks(range(len(rows)), rows, fontsize=size)
    ax.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(rows)) - 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=0.8)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    return shown


def write_cells(ax: Axes, shown: AxesImage, texts: np.ndarray, size: float = 7, down: float = 0) -> None:
    """Texts in the cells of a heat map, (rows, columns), black or white; `down` shifts them by so many rows."""
    values: Any = shown.get_array()
    shares, diverging = np.asarray(shown.norm(values)), shown.get_cmap().name == "PuOr_r"
    for (row, column), text in np.ndenumerate(texts):
        if text:
            share = float(shares[row, column])
            bright = 0.2 < share < 0.8 if diverging else share > 0.5
            color = "black" if bright else "white"
            ax.text(column, row + down, text, ha="center", va="center", fontsize=size, color=color)


def draw_bar(figure: Any, shown: Any, axes: Any, label: str, **place: Any) -> None:
    """The colours of a map and what they mean, beside its axes."""
    bar = figure.colorbar(shown, ax=axes, **{"pad": 0.01, **place})
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def draw_levels(ax: Axes, spec: Continuous, wanted: int | None = None) -> None:
    """An attribute's own axis: its range, the cells of its levels as bands, and their words on the right."""
    for index, level in enumerate(spec.levels):
        aim = index == wanted
        shade = GREEN if aim else GREY
        ax.axhspan(level.low, level.high, color=shade, alpha=0.22 if aim else 0.10 * (index % 2), lw=0)
    ax.set_ylim(spec.low, spec.high)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_ylabel(f"{spoken(spec.name)}\n({spec.low:g} to {spec.high:g})", fontsize=9)
    words = ax.secondary_yaxis("right")
    words.set_yticks([level.center for level in spec.levels], [level.name for level in spec.levels])
    words.tick_params(length=0, labelsize=8, labelcolor=GREY)
    if wanted is not None:
        words.get_yticklabels()[wanted].set(color=GREEN, fontweight="bold")


def draw_drift(ax: Axes, top: float) -> None:
    """The axis of what else changed."""
    ax.set_ylim(0, top)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.set_ylabel("drift of others\n(share of range)", fontsize=9)


def show_image(ax: Axes, image: object, name: str = "", size: float = 10) -> None:
    """An image without axes, under its name."""
    ax.imshow(np.asarray(getattr(image, "image", image)))
    if name:
        ax.set_title(name, fontsize=size)
    ax.set_axis_off()


# --- a sweep -----------------------------------------------------------------------------------------------


def plot_sweep(sweep: Sweep) -> Figure:
    """Show one edit at several degrees, and what the oracle read in every image.

    From top to bottom: the images under their degrees; every continuous attribute that was asked for, in its
    own units, with the cells of its levels as bands (the wanted level in green) and their words on the right;
    every categorical one as the values that were read; the mean drift of all other attributes.

    Args:
        sweep: From `Edit.sweep`. Without an oracle, only the images are shown.
    """
    order = np.argsort(sweep.degrees, kind="stable")
    degrees, edits = [sweep.degrees[i] for i in order], [sweep.edits[i] for i in order]
    first = edits[0]
    measured = first.after is not None
    continuous, categorical = _targets(first) if measured else ([], [])
    heights = [WIDTH / max(len(edits), 4) + 0.2]
    if measured:
        heights += [1.5] * len(continuous) + [0.3] * len(categorical) + [1.0]
    figure = NotebookFigure(figsize=(WIDTH, sum(heights) + 0.8), layout="constrained")
    figure.suptitle(_title(first, "edit at several degrees"), fontsize=11)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    strip = grid[0].subgridspec(1, len(edits))
    for i, (degree, edit) in enumerate(zip(degrees, edits, strict=True)):
        show_image(figure.add_subplot(strip[i]), edit, f"{degree:g}" if i else f"degree {degree:g}")
    if measured:
        _plot_measured(figure, grid, degrees, edits)
    return figure


def _plot_measured(figure: Figure, grid: GridSpec, degrees: list[float], edits: list[Edit]) -> None:
    """One row per attribute that was asked for, and one for the drift of the others, over a shared axis."""
    continuous, categorical = _targets(edits[0])
    wanted = _wanted(edits[0])
    axes: list[Axes] = []
    specs: list[Any] = [*continuous, *categorical]
    for row, spec in enumerate(specs, 1):
        ax = figure.add_subplot(grid[row], sharex=axes[0] if axes else None)
        values = [edit.after[spec.name] for edit in edits if edit.after is not None]
        plot: Any = _plot_continuous if isinstance(spec, Continuous) else _plot_categorical
        plot(ax, spec, degrees, values, wanted.get(spec.name))
        ax.tick_params(labelbottom=False)
        axes.append(ax)
    ax = figure.add_subplot(grid[-1], sharex=axes[0] if axes else None)
    drift = [edit.drift or 0.0 for edit in edits]
    ax.plot(degrees, drift, color=RED, marker=".", lw=1)
    draw_drift(ax, max(0.1, 1.15 * max(drift)))
    ax.set_xlim(*_limits(degrees))
    ax.set_xticks(sorted(set(degrees)), [f"{degree:g}" for degree in sorted(set(degrees))])
    ax.set_xlabel(DEGREE)
    figure.align_ylabels([*axes[: len(continuous)], ax])


def _targets(edit: Edit) -> tuple[list[Continuous], list[Categorical]]:
    """The attributes that an edit is about, by kind."""
    world = edit.plan.model.world
    specs = [] if world is None else [world.attributes[name] for name in edit.targets]
    continuous = [spec for spec in specs if isinstance(spec, Continuous)]
    return continuous, [spec for spec in specs if isinstance(spec, Categorical)]


def _wanted(edit: Edit) -> dict[str, int]:
    """Index of the level or value that each changed attribute is to get."""
    world = edit.plan.model.world
    return {} if world is None else world.wanted(edit.source_text, edit.target_text)


def _plot_continuous(
    ax: Axes, spec: Continuous, degrees: list[float], values: list[float], wanted: int | None
) -> None:
    """Value against degree, over the bands of the attribute's levels."""
    draw_levels(ax, spec, wanted)
    for end in (0, 1):
        ax.axvline(end, color=GREY, lw=0.8, ls=":")
    ax.plot(degrees, values, color=BLUE, marker="o", ms=5, lw=2, clip_on=False, zorder=3)


def _plot_categorical(
    ax: Axes, spec: Categorical, degrees: list[float], values: list[str], wanted: int | None
) -> None:
    """The value read at each degree, one bar per run of equal values."""
    for low, high, value in _runs(degrees, values):
        aim = wanted is not None and value == spec.values[wanted]
        ax.axvspan(low, high, color=GREEN if aim else GREY, alpha=0.22 if aim else 0.12, lw=0)
        ax.axvline(high, color="white", lw=2)
        ax.text(
            (low + high) / 2, 0.5, value, transform=ax.get_xaxis_transform(), ha="center", va="center",
            fontsize=8, color=GREEN if aim else "black", fontweight="bold" if aim else "normal", clip_on=True,
        )  # fmt: skip
    ax.set_ylabel(spoken(spec.name), rotation=0, ha="right", va="center", fontsize=9)
    ax.set_yticks([])


def _runs(degrees: list[float], values: list[str]) -> Iterator[tuple[float, float, str]]:
    """Stretches of equal values: from, to and value; neighbours meet halfway between their degrees."""
    left, end = _limits(degrees)
    position = 0
    for value, run in groupby(values):
        position += len(list(run))
        right = end if position == len(degrees) else (degrees[position - 1] + degrees[position]) / 2
        yield left, right, value
        left = right


def _limits(degrees: list[float]) -> tuple[float, float]:
    """Ends of the axis of degrees, which are sorted."""
    margin = 0.05 * (degrees[-1] - degrees[0]) or 0.5
    return degrees[0] - margin, degrees[-1] + margin


# --- one edit ----------------------------------------------------------------------------------------------


def plot_edit(edit: Edit) -> Figure:
    """Show an edit: the source, its reconstruction, the result, and where the last two differ.

    The difference is taken to the reconstruction, which is what degree 0 returns: what the autoencoder alone
    changes is not part of the edit. It is the mean over red, green and blue, each from 0 to 1.
    """
    figure = NotebookFigure(figsize=(WIDTH, 2.75), layout="constrained")
    figure.suptitle(_title(edit, "edit"), fontsize=11)
    axes = figure.subplots(1, 4)
    names = ("source", "reconstruction\n(degree 0)", f"result\n(degree {edit.degree:g})")
    images = (edit.source_image, edit.reconstruction, edit.image)
    for ax, name, image in zip(axes, names, images, strict=False):
        show_image(ax, image, name)
    before, after = (np.asarray(image.convert("RGB"), float) / 255 for image in images[1:])
    difference = np.abs(after - before).mean(-1)
    shown = axes[3].imshow(difference, cmap="cividis", vmin=0, vmax=max(0.05, float(difference.max())))
    axes[3].set_title("difference of\nthese two", fontsize=10)
    axes[3].set_axis_off()
    draw_bar(figure, shown, axes[3], "mean |change| of RGB (0 to 1)", shrink=0.8)
    return figure


# --- many images -----------------------------------------------------------------------------------------


@takes(images=IMAGES, labels=LABELS, columns=COUNT, title=TEXT)
def plot_portraits(
    images: Sequence[image_files.ImageLike], labels: Sequence[str] = (), columns: int = 5, title: str = ""
) -> Figure:
    """Show images side by side: a contact sheet.

    Args:
        images: Files, PIL images or tensors.
        labels: A word above each image; none by default.
        columns: Images in a row.
        title: Above the sheet.

    Raises:
        SettingError: If there are no images or no columns, or there is not one label per image.
    """
    if labels and len(labels) != len(images):
        raise SettingError(f"Got {len(labels)} labels for {len(images)} images; give one each, or none.")
    columns = min(columns, len(images))
    rows, side = math.ceil(len(images) / columns), min(2.2, WIDTH / columns)
    height = rows * (side + (0.2 if labels else 0)) + (0.3 if title else 0)
    figure = NotebookFigure(figsize=(columns * side, height), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11)
    for index, image in enumerate(images):
        ax = figure.add_subplot(rows, columns, index + 1)
        show_image(ax, image_files.open_image(image), labels[index] if labels else "")
    return figure


# --- attention ---------------------------------------------------------------------------------------------


@takes(
    cache=instance("a LatentCache, from ditlens.capture(...)", LatentCache), word=TEXT, item=INDEX, pass_=TEXT,
    prompt=TEXT,
)  # fmt: skip
def plot_attention(
    cache: LatentCache,
    word: str = "",
    *,
    image: Any = None,
    item: int = 0,
    pass_: str | None = None,
    prompt: str = "",
) -> Figure:
    """Show where the image looks for a word: one heat map for each captured block and step, the mean of its heads.

    Args:
        cache: Holds sites ``....image.attn.to_text``, with all text tokens, or with those of the word only
            (``capture(..., tokens={"text": tokens})``).
        word: A word of the prompt; empty: the sum over all captured text tokens.
        image: The image that was made, shown once, before the maps of the first step.
        item: Which image of the cache.
        pass_: Guidance pass, where several were captured.
        prompt: Its text; needed for a word only where a pipeline was called directly, whose prompt is unknown.

    Raises:
        SettingError: If the cache holds no such maps.
        CaptureError: If the word is not in the prompt, or the grid of the image tokens is not known.

    >>> with dl.capture(model, "joint.*.image.attn.to_text", steps=1) as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> figure = dl.plot_attention(cache, "smile", image=image)
    """
    names = [site for site in cache.sites if site.endswith(".image.attn.to_text")]
    if not names:
        raise SettingError(
            "This cache holds no attention to the text. Capture 'joint.*.image.attn.to_text', or 'single...'."
        )
    chosen: list[int] | None = None
    if word and "text" not in cache.tokens:
        found = cache.words(word, item, prompt=prompt)
        chosen = sorted({token for tokens in found.values() for token in tokens})
    maps, whose = {}, cache.item(item)
    for name in names:
        for step in cache.steps:
            grid = cache.to_grid(name, step=step, pass_=pass_, run=whose.run)[whose.row]
            values = (grid if chosen is None else grid[..., chosen]).float().sum(-1)
            maps[name, step] = values.reshape(-1, *values.shape[-2:]).mean(0).cpu().numpy()
    rows, first = len(cache.steps), int(image is not None)
    shown_image = None if image is None else image_files.open_image(getattr(image, "image", image))
    side = min(1.5, WIDTH / (len(names) + first + 0.5))
    figure = NotebookFigure(
        figsize=(side * (len(names) + first) + 1.4, side * rows + 0.9), layout="constrained"
    )
    axes = figure.subplots(rows, len(names) + first, squeeze=False)
    top = max(float(m.max()) for m in maps.values())
    for row, step in enumerate(cache.steps):
        if image is not None and row == 0:
            show_image(axes[row, 0], shown_image, "image at the end")
        elif image is not None:
            axes[row, 0].axis("off")
        for column, name in enumerate(names, first):
            ax = axes[row, column]
            shown = ax.imshow(maps[name, step], vmin=0, vmax=top, cmap="cividis")
            ax.set_xticks([])
            ax.set_yticks([])
            if row == 0:
                ax.set_title(f"block {name.split('.')[1]}", fontsize=9)
            if column == first:
                ax.set_ylabel(f"step {step}", fontsize=9)
    what = f"\u201c{word}\u201d" if word else "the text"
    draw_bar(figure, shown, axes, "share of attention", fraction=0.03)
    figure.suptitle(f"attention of each patch to {what}", fontsize=11)
    return figure


# --- small things ------------------------------------------------------------------------------------------


def _title(edit: Edit, otherwise: str) -> str:
    wish = edit.recipe.get("instruction")
    return f"“{wish}”" if wish else f"{otherwise} (texts: {edit.description.describer})"
