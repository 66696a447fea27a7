"""Knock out one block at a time, and see what the images lose.

Five ways, after Avrahami et al. (2025, "Stable Flow": bypass) and the study of text streams in arXiv 2601.02211
(zero, double); ablating by a mean or by another prompt's states stays nearer to what the model is used to than
zeros do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ditlens import late
from ditlens.analysis.cells import BLOCKS, NO_INTERVAL, Cell, Change, Sampler, distinct, once, places_of
from ditlens.analysis.measures import Measure, Read, check_measure
from ditlens.analysis.prompts import OTHERS, sentence, world_of
from ditlens.arguments import COUNT, FLAG, NUMBER, SEED_OR_SEEDS, TEXTS, listed, one_of, several, takes
from ditlens.cards import Carded, Piece, Table
from ditlens.errors import SettingError
from ditlens.lens.cache import LatentCache
from ditlens.lens.interventions import Where
from ditlens.metrics import statistics
from ditlens.metrics.statistics import span, too_few
from ditlens.models.model import MODEL, Model
from ditlens.tables import counted, frame, progress_bar
from ditlens.worlds.world import Values

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

WAYS = {
    "bypass": (("text", "image"), ("out",)),
    "zero": (("text",), ("v",)),
    "double": (("text",), ("v",)),
    "mean": (("text",), ("k", "v")),
    "resample": (("text",), ("k", "v")),
}
"""Streams and points of a block that each way changes."""
HOW = one_of(*WAYS)


@dataclass(frozen=True, eq=False, repr=False)
class Ablation(Carded):
    """What images lose when one block is knocked out, in several ways.

    >>> redness = lambda images: images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2))
    >>> found = dl.knock_out(
    ...     model, ["a hat", "no hat"], measure=redness, how="bypass", seeds=[0], sampling_steps=2
    ... )
    >>> found.n, found.ways, found.table().shape  # blocks, ways
    (2, ('bypass',), (2, 1))

    Attributes:
        names: What was measured: attributes, or the one measure.
        unit: In what changes are counted.
        ways: How blocks were knocked out.
        places: The blocks.
        effects: Change of each image against the unchanged one, 0 or more, (ways, places, names, items); NaN
            where an attribute cannot be seen.
        prompts: Text of each item.
        seeds: Seed of each item.
        guidance: Classifier-free guidance of all runs.
        seconds: How long it took.
    """

    names: tuple[str, ...]
    unit: str
    ways: tuple[str, ...]
    places: tuple[str, ...]
    effects: np.ndarray
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    guidance: float = 1.0
    seconds: float = 0.0

    @property
    def n(self) -> int:
        """Items: prompts, times seeds."""
        return len(self.prompts)

    def table(self, way: str | None = None) -> np.ndarray:
        """Mean change: (places, ways), or of one way (places, names).

        Raises:
            SettingError: If blocks were not knocked out in this way.
        """
        if way is None:
            return statistics.seen_mean(self._of_items, -1).T
        if way not in self.ways:
            raise SettingError(f"Blocks were knocked out by {', '.join(self.ways)}, not {way!r}.")
        return statistics.seen_mean(self.effects[self.ways.index(way)], -1)

    def intervals(self) -> np.ndarray:
        """95 % bootstrap intervals of `table` over the items, (places, ways, 2); NaN for less than two."""
        found = np.array([[statistics.interval(cell) for cell in row] for row in self._of_items])
        return found.swapaxes(0, 1)

    @property
    def _of_items(self) -> np.ndarray:
        """Mean change of each item over the names that can be seen in it, (ways, places, items)."""
        return statistics.seen_mean(self.effects, 2)

    @property
    def notes(self) -> list[str]:
        """What to know about it: how many readings are missing; empty if none are."""
        unseen = int(np.isnan(self.effects).sum())
        lost = f"{unseen} of {self.effects.size} readings are of attributes that cannot be seen: they do not count."
        return [lost] * bool(unseen)

    def _card(self) -> list[Piece]:
        what = self.names[0] if len(self.names) == 1 else counted(len(self.names), "attribute")
        values, ends = self.table(), self.intervals()
        rows = [
            [place, *(f"{x:.3f} ({span(a, b, '.3f')})" for x, (a, b) in zip(values[k], ends[k], strict=True))]
            for k, place in enumerate(self.places)
        ]
        title = f"Ablation: mean change of {what}, {self.unit}"
        title += f"; {counted(self.n, 'item') if self.n > 1 else NO_INTERVAL}, guidance {self.guidance:g}"
        return [title, Table(rows, ("block", *self.ways)), *too_few(self.n, "item"), *self.notes]

    def to_pandas(self) -> pandas.DataFrame:
        """One line for each way, block and attribute."""
        rows = [
            {"how": way, "block": place, "name": name, **statistics.estimate(self.effects[w, p, k])}
            for w, way in enumerate(self.ways)
            for p, place in enumerate(self.places)
            for k, name in enumerate(self.names)
        ]
        return frame(rows).drop(columns="nan")

    def plot(self, way: str | None = None) -> Figure:
        """Blocks by ways, or of one way blocks by attributes, as a heat map."""
        return late.view("plot_ablation", "maps")(self, way)


@takes(
    model=MODEL, prompts=TEXTS, how=several(HOW),
    blocks=BLOCKS, seeds=SEED_OR_SEEDS, sampling_steps=COUNT, guidance=NUMBER, progress=FLAG,
)  # fmt: skip
def knock_out(
    model: Model,
    prompts: str | Sequence[str] | None = None,
    *,
    measure: str | Read | None = None,
    how: str | Sequence[str] = tuple(WAYS),
    blocks: int | Sequence[int] | None = None,
    seeds: int | Sequence[int] = (0, 1, 2, 3, 4, 5, 6, 7),
    sampling_steps: int = 10,
    guidance: float | None = None,
    progress: bool = True,
) -> Ablation:
    """Knock out one block at a time, for the whole run, and measure how the images change.

    It makes an image for each block, way and item: with 6 blocks, all ways and 8 seeds 240, after the 8 unchanged
    ones. The progress bar counts them.

    >>> dl.knock_out(
    ...     model, ["a red shirt", "a white shirt"], how=["bypass", "zero"], seeds=[0], sampling_steps=2,
    ...     measure=lambda images: images.mean((1, 2, 3)),
    ... )
    Ablation: mean change of measure, in standard deviations over the unchanged images; 2 items, guidance 1
    block  bypass...zero
    -----  ---...
    0      ...
    1      ...

    Args:
        model: A model, from `load` or `wrap`.
        prompts: One or more texts, each drawn with each seed; by default the model's world writes one for each
            seed.
        measure: An attribute of the model's world, or a function of images as in `patch`; by default all attributes
            of the world.
        how: One or more ways. "bypass": both streams leave the block as they entered. "zero", "double": the values
            (v) of the text in the block's attention become 0, or twice as large: the image reads nothing from the
            text there, or twice as much. "mean", "resample": keys and values of the text become the mean over all
            prompts, or another prompt's.
        blocks: One or more block numbers, counted over all kinds in the order of the forward pass; None for all.
        seeds: One or more seeds of the noise.
        sampling_steps: Euler steps.
        guidance: As in `patch`: 1 by default, and only the conditional pass is changed.
        progress: Whether to show progress: images done, of how many.

    Returns:
        Changes without sign: of an attribute in units of its range (categorical: share of the images with another
        value), of a function in standard deviations over the unchanged images.

    Raises:
        ModelError: If the model has no world, and prompts or a function to measure are missing.
        SettingError: If there is nothing to ablate by, a seed comes twice, or a setting is wrong.
        UnknownAttributeError: If the world has no such attribute.
        SiteError: If the model has no such block.
    """
    begun = time.monotonic()
    ways = listed(how)
    if measure is not None:
        check_measure(model, measure)
    else:
        world_of(model, "measure=, a function of images")
    texts, drawn = items_of(model, prompts, distinct(seeds))
    if guidance is None:
        guidance = model.defaults["guidance"] if model.distilled else 1.0
    sampler = Sampler(model, drawn, sampling_steps, guidance)
    rows = {way: places_of(model, *WAYS[way], blocks, 1) for way in ways}
    kept = list(
        dict.fromkeys(s for way in ways if way in ("mean", "resample") for p in rows[way] for s in p.sites)
    )
    base, cache = sampler.captured(texts, kept) if kept else (sampler.run(texts), None)
    changes = {way: change_of(way, cache, texts) for way in ways}
    cells = [
        Cell(dict.fromkeys(place.sites, changes[way]), 0, sampling_steps)
        for way in ways
        for place in rows[way]
    ]
    meter = Meter(model, measure, base.images)
    effects = np.full((len(cells), len(meter.names), len(texts)), np.nan)
    done, total = 0, len(cells) * len(texts)
    with progress_bar(f"knock out, {counted(total, 'image')}", progress) as show:
        show(done, total)
        for part, pixels in sampler.run_cells(base, cells):
            for (cell, item), change in zip(
                part, meter.changes(pixels, [item for _, item in part]), strict=True
            ):
                effects[cell, :, item] = change
            done += len(part)
            show(done, total)
    return Ablation(
        meter.names, meter.unit, tuple(ways), tuple(place.label for place in rows[ways[0]]),
        effects.reshape(len(ways), -1, *effects.shape[1:]), tuple(texts), tuple(drawn), guidance,
        time.monotonic() - begun,
    )  # fmt: skip


def items_of(
    model: Model, prompts: str | Sequence[str] | None, seeds: Sequence[int]
) -> tuple[list[str], list[int]]:
    """Texts and seeds of the items: every prompt with every seed, or a prompt of the world's for each seed.

    Raises:
        ModelError: If there are no prompts and no world that could write them.
    """
    if prompts is not None:
        given = once(listed(prompts), "prompts")
        return [text for text in given for _ in seeds], [seed for _ in given for seed in seeds]
    world = world_of(model, "prompts: knock_out(model, prompts, ...)")
    return [sentence(world, random.Random(f"caption {seed}"), 2 * OTHERS) for seed in seeds], list(seeds)


def change_of(way: str, cache: LatentCache | None, texts: Sequence[str]) -> Change:
    """The change of one way.

    Raises:
        SettingError: If the states of another prompt are needed, and there is none.
    """
    if way == "bypass":
        return lambda values, where, items: values if where.entering is None else where.entering  # noqa: ARG005
    if way in ("zero", "double"):
        return lambda values, where, items: values * (0.0 if way == "zero" else 2.0)  # noqa: ARG005
    assert cache is not None
    count, others = len(texts), []
    for item, text in enumerate(texts):
        another = [k % count for k in range(item + 1, item + count) if texts[k % count] != text]
        if not another:
            raise SettingError(f"how={way!r} needs two different prompts or more; there is only {text!r}.")
        others.append(another[0])

    def change(values: Tensor, where: Where, items: list[int]) -> Tensor:
        given = cache.get(where.site, step=where.step, pass_="cond").to(values)
        return given.mean(0).expand_as(values) if way == "mean" else given[[others[item] for item in items]]

    return change


class Meter:
    """Measures how images changed against the unchanged ones.

    Attributes:
        names: Attributes, or the one measure.
        unit: In what changes are counted.
    """

    def __init__(self, model: Model, measure: str | Read | None, before: Tensor) -> None:
        self.world, self.function = model.world, measure if callable(measure) else None
        self.unit = "in units of its range"
        if self.function is not None:
            self.names: tuple[str, ...] = (check_measure(model, self.function),)
            self.unit = "in standard deviations over the unchanged images"
            self.start = np.array(self._numbers(before))
            self.scale = float(self.start.std())
            if self.scale <= 1e-9:
                raise SettingError(
                    f"The measure is {self.start[0]:.3g} in every unchanged image, which gives no unit. Give "
                    "several prompts or seeds whose images differ in it."
                )
            return
        assert self.world is not None
        self.names = tuple(self.world.attributes) if measure is None else (str(measure),)
        self.facts = list(self.world.measure(before))

    def _numbers(self, pixels: Tensor) -> list[float]:
        read = Measure(self.names[0], self.function, None)
        return read.values(pixels, [], [])

    def changes(self, pixels: Tensor, items: Sequence[int]) -> list[list[float]]:
        """For each image how far every name moved."""
        if self.function is not None:
            found = zip(self._numbers(pixels), items, strict=True)
            return [[abs(number - self.start[item]) / self.scale] for number, item in found]
        assert self.world is not None
        after = self.world.measure(pixels)
        return [[self._moved(name, self.facts[item], fact) for name in self.names]
                for item, fact in zip(items, after, strict=True)]  # fmt: skip

    def _moved(self, name: str, before: Values, after: Values) -> float:
        assert self.world is not None
        if name in self.world.hidden(before) | self.world.hidden(after):
            return float("nan")
        return self.world.attributes[name].distance(before[name], after[name])
