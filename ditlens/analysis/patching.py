"""Activation patching: which block, step and stream of a diffusion transformer does an image come from?

Two prompts that differ in one thing, a clean one ("a big smile") and a corrupt one ("a big frown"), are drawn
from the same noise. The hidden states of one run, the donor, are then put into the other, the recipient, at one
block and for some steps, and what is measured of the image says how much went along:

    PE = (m(patched) - m(recipient)) / (m(donor) - m(recipient))

0: nothing; 1: as much as if the whole prompt had been exchanged. *Sufficiency* puts clean states into the
corrupt run (are they enough to make the smile?), *necessity* corrupt states into the clean run (does the smile
go without them?). See Heimersheim and Nanda (2024), "How to use and interpret activation patching".
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ditlens import late
from ditlens.analysis.cells import BLOCKS, NO_INTERVAL, Sampler, distinct, once, places_of
from ditlens.analysis.measures import Pair, Read, check_measure
from ditlens.analysis.patcher import Patcher, drawn_pairs, grid_of, with_tokens
from ditlens.arguments import (
    COUNT,
    FLAG,
    INDEX,
    NUMBER,
    SEED_OR_SEEDS,
    TEXTS,
    Kind,
    list_of,
    listed,
    one_of,
    several,
    takes,
)
from ditlens.cards import Carded, Piece, Table
from ditlens.errors import SettingError
from ditlens.metrics import statistics
from ditlens.models.model import MODEL, Model
from ditlens.tables import counted, frame

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from PIL import Image

STREAM = one_of("text", "image", "pooled")
STREAMS = several(STREAM, "a list of them, which are patched together")
POINT = one_of("in", "attn.out", "mlp.out", "q", "k", "v")
POINTS = several(POINT, "a list of them, which are patched together")
TOKENS = one_of("all", "changed", "each") | several(INDEX, "a list of token numbers from 0")
INTERVAL = Kind(
    "a stretch, (first step, step after the last)",
    lambda value: list_of(INDEX, "").fits(value) and len(value) == 2,
)
STEPS = COUNT | several(INTERVAL, "a list of them, e.g. [(0, 4), (4, 10)]")
PRINTED = 12
"""Most patches that a table shows: those that do most."""
DIRECTIONS = {
    "sufficiency": ("sufficiency",),
    "necessity": ("necessity",),
    "both": ("sufficiency", "necessity"),
}


@dataclass(frozen=True, eq=False, repr=False)
class CausalMap(Carded):
    """How much of what is measured goes along with hidden states: block x stretch of steps.

    >>> redness = lambda images: images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2))
    >>> found = dl.patch(
    ...     model, "a red shirt", "a green shirt", measure=redness, steps=2, sampling_steps=4, seeds=[0, 1]
    ... )
    >>> found.columns(), found.table().shape, found.intervals().shape
    (['first 2', 'all'], (2, 2), (2, 2, 2))
    >>> sorted(found.controls), list(found.to_pandas())
    (['random', 'unrelated'],
     ['direction', 'place', 'first', 'stop', 'control', 'value', 'low', 'high', 'n', 'drift'])

    Attributes:
        measure: What was measured: an attribute, or the function's name.
        what: What was patched, in words.
        places: Rows of the map: blocks, or image patches.
        steps: Columns: (first step, step after the last). The last one is the whole run.
        levels: Noise level before each step, and after the last one.
        directions: "sufficiency", "necessity", or both.
        effects: PE, (directions, places, steps, items); NaN where the attribute cannot be seen after the patch.
        drift: Change of all other attributes against the recipient in units of their range, in the same places; NaN
            without a world.
        controls: PE of each control in the whole run, (directions, places, items), by its name.
        pairs: The items: two prompts and a seed each.
        ends: What was measured without a patch: (clean, corrupt) of each item, (items, 2).
        grid: Rows and columns of image patches, where each place is one; else ().
        pictures: The first item: clean, corrupt, then each place patched over the whole run in the first direction.
        guidance: Classifier-free guidance of all runs.
        seconds: How long it took.
    """

    measure: str
    what: str
    places: tuple[str, ...]
    steps: tuple[tuple[int, int], ...]
    levels: tuple[float, ...]
    directions: tuple[str, ...]
    effects: np.ndarray
    drift: np.ndarray
    controls: Mapping[str, np.ndarray]
    pairs: tuple[Pair, ...]
    ends: np.ndarray
    grid: tuple[int, ...]
    pictures: tuple[Image.Image, ...] = field(repr=False)
    guidance: float = 1.0
    seconds: float = 0.0

    @property
    def n(self) -> int:
        """Items: pairs of prompts, times seeds."""
        return len(self.pairs)

    def table(self, direction: str | None = None) -> np.ndarray:
        """Mean PE over the items in which it can be seen, (places, steps); of the first direction by default."""
        return statistics.seen_mean(self.effects[self._index(direction)], -1)

    def intervals(self, direction: str | None = None) -> np.ndarray:
        """95 % bootstrap intervals of `table` over the items, (places, steps, 2); NaN for one item."""
        values = self.effects[self._index(direction)]
        return np.array([[statistics.interval(cell) for cell in row] for row in values])

    @property
    def notes(self) -> list[str]:
        """What to know about it: in how many images the attribute cannot be seen; empty if it can in all."""
        unseen = int(np.isnan(self.effects).sum()) + sum(
            int(np.isnan(x).sum()) for x in self.controls.values()
        )
        return [f"{self.measure} cannot be seen in {counted(unseen, 'image')}: these do not count."] * bool(
            unseen
        )

    def _index(self, direction: str | None) -> int:
        if direction is not None and direction not in self.directions:
            raise SettingError(f"This map has {' and '.join(self.directions)}, not {direction!r}.")
        return 0 if direction is None else self.directions.index(direction)

    def columns(self) -> list[str]:
        """Names of the columns: "first 2" steps, "4-5" for steps 4 and 5, "all" for the whole run."""
        total = len(self.levels) - 1
        return [
            "all"
            if (a, b) == (0, total)
            else f"first {b}"
            if a == 0
            else str(a)
            if b == a + 1
            else f"{a}-{b - 1}"
            for a, b in self.steps
        ]

    def _card(self) -> list[Piece]:
        lines: list[Piece] = [
            f"CausalMap of {self.measure}: {self.what}",
            f"{counted(self.n, 'item') if self.n > 1 else NO_INTERVAL}, guidance {self.guidance:g}",
        ]
        for number, direction in enumerate(self.directions):
            values, ends = self.table(direction), self.intervals(direction)
            others = [name for name in self.controls]
            head = ["patch" if self.grid else "block", *self.columns(), "95 % of the last", "drift", *others]
            rows = []
            shown = self._shown(values[:, -1])
            for k in shown:
                low, high = ends[k, -1]
                extra = [f"{statistics.seen_mean(self.controls[name][number, k]):.2f}" for name in others]
                drift = f"{np.mean(self.drift[number, k, -1]):.3f}"
                rows.append(
                    [
                        self.places[k],
                        *(f"{x:.2f}" for x in values[k]),
                        statistics.span(low, high),
                        drift,
                        *extra,
                    ]
                )
            lines += ["", f"PE, {direction}, by steps", Table(rows, head)]
            if len(shown) < len(self.places):
                lines.append(f"The {len(shown)} largest of {len(self.places)}; all: .to_pandas()")
        return [*lines, *statistics.too_few(self.n, "item"), *self.notes]

    def _shown(self, last: np.ndarray) -> list[int]:
        """The places that are printed: all blocks; of many patches those where the whole run does most."""
        if not self.grid or len(self.places) <= PRINTED:
            return [*range(len(self.places))]
        order = np.argsort(-np.nan_to_num(np.abs(last), nan=-1.0), kind="stable")
        return [int(place) for place in order[:PRINTED]]

    def to_pandas(self) -> pandas.DataFrame:
        """One line for each direction, place and stretch of steps, and for each control; n items count."""
        rows: list[dict[str, Any]] = []
        for d, direction in enumerate(self.directions):
            for p, place in enumerate(self.places):
                for s, (first, stop) in enumerate(self.steps):
                    at = {"direction": direction, "place": place, "first": first, "stop": stop, "control": ""}
                    found = statistics.estimate(self.effects[d, p, s])
                    rows.append({**at, **found, "drift": self.drift[d, p, s].mean()})
                for name, values in self.controls.items():
                    at = {"direction": direction, "place": place, "first": 0, "stop": len(self.levels) - 1}
                    rows.append({**at, "control": name, **statistics.estimate(values[d, p]), "drift": np.nan})
        return frame(rows).drop(columns="nan")

    def plot(self) -> Figure:
        """The map as a heat map; as a curve over blocks where it has one column, over the image for patches."""
        return late.view("plot_causal_map", "maps")(self)


@takes(
    model=MODEL, clean=TEXTS, corrupt=TEXTS, stream=STREAMS, tokens=TOKENS, point=POINTS, blocks=BLOCKS,
    window=COUNT, steps=STEPS, direction=one_of(*DIRECTIONS), seeds=SEED_OR_SEEDS, sampling_steps=COUNT,
    guidance=NUMBER, controls=FLAG,
)  # fmt: skip
def patch(
    model: Model,
    clean: str | Sequence[str] | None = None,
    corrupt: str | Sequence[str] | None = None,
    *,
    measure: str | Read,
    stream: str | Sequence[str] = "text",
    tokens: str | int | Sequence[int] = "all",
    point: str | Sequence[str] = "in",
    blocks: int | Sequence[int] | None = None,
    window: int = 1,
    steps: int | tuple[int, int] | Sequence[tuple[int, int]] | None = None,
    direction: str = "sufficiency",
    seeds: int | Sequence[int] = (0, 1, 2, 3),
    sampling_steps: int = 10,
    guidance: float | None = None,
    controls: bool | None = None,
) -> CausalMap:
    """Put hidden states of one prompt's run into another's, block by block, and measure what goes along.

    >>> redness = lambda images: images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2))
    >>> dl.patch(
    ...     model, "a red shirt", "a green shirt", measure=redness, stream=["text", "pooled"], steps=1,
    ...     sampling_steps=2, seeds=[0, 1], controls=False,
    ... )
    CausalMap of measure: text + pooled entering a block
    2 items, guidance 1
    <BLANKLINE>
    PE, sufficiency, by steps
    block  all   95 % of the last  drift
    -----  ----  ----------------  -----
    0      1.00  1.00 to 1.00      ...
    1      ...

    Args:
        model: A model, from `load` or `wrap`.
        clean: One or more prompts that show what is measured. With neither prompt, the model's world writes a
            pair of sentences for each seed that name opposite values of the attribute; a pair whose images do not
            differ in it is replaced.
        corrupt: As many prompts that show its opposite.
        measure: An attribute of the model's world, or a function that gets images (n, 3, height, width), values in
            [0, 1], and gives n numbers. A categorical attribute counts 1 where it has the clean prompt's value,
            else 0.
        stream: What is patched: "text", "image", "pooled" (the vector of timestep and pooled text that modulates
            all blocks), or several of them together.
        tokens: Which tokens of the stream: "all"; "changed" (text): those in which the two prompts differ; one
            or more by number; "each" (image): a map over the patches of one block, each patched alone.
        point: Where in a block. "in", what enters it: the donor's states then stay in the stream, so the row of
            block k says what the model takes *from block k on*. Points within a block act *in block k alone*:
            the text's ["k", "v"] are what the image reads there, the image's ["attn.out", "mlp.out"] what is
            written there.
        blocks: One or more block numbers, counted over all kinds in the order of the forward pass; None for all.
        window: Blocks that are patched together: k to k + window - 1.
        steps: Columns of the map. A number: the patch lasts from the first step for one, two ... fifths of the run
            (5, the default; 1 is the whole run only, the default for patches). Or one or more stretches, (first
            step, step after the last); the whole run is added. A short stretch alone may do little: others draw
            back to the recipient's prompt.
        direction: "sufficiency", "necessity" or "both".
        seeds: One or more seeds of the noise. Each pair of prompts is drawn with each of them: an item. Intervals
            are over items.
        sampling_steps: Euler steps. On portraits 10 draw named levels as well as 20 do (98 % at guidance 1).
        guidance: Classifier-free guidance, of which only the conditional pass is patched. By default there is none,
            1: all that the model computes is then patched, at half the time. Models with embedded guidance get
            their own.
        controls: Also patch, in the whole run, states that should do nothing (by default, but for single
            patches): *unrelated*, those of a prompt about other things (of the empty prompt where no world
            writes one); *random*, the recipient's own plus noise as long as the difference, token by token; for
            the image *permuted*, the donor's patches in another order. Text tokens have no place in SD3 and FLUX
            beyond what is in them: permuted, they give the same image.

    Raises:
        SettingError: If a pair's images differ too little in what is measured or do not show it, prompts are
            missing or do not fit together, a seed comes twice, or a setting is wrong.
        UnknownAttributeError: If the world has no such attribute.
        SiteError: If the model has no such stream or point; the message says why.
        BudgetError: If the states of the donors take more than 1 GB; take fewer blocks, seeds or sampling steps.
    """
    begun, tokens = time.monotonic(), tokens if isinstance(tokens, str) else [int(t) for t in listed(tokens)]
    check_measure(model, measure)
    seeds = distinct(seeds)
    if guidance is None:
        guidance = model.defaults["guidance"] if model.distilled else 1.0
    if clean is None and corrupt is None:
        if not isinstance(measure, str):
            raise SettingError(
                "Give two prompts, patch(model, clean, corrupt, measure=...): only for an attribute of the model's "
                "world can they be written."
            )
        pairs = drawn_pairs(model, measure, seeds, sampling_steps, guidance)
    else:
        pairs = pairs_of(clean, corrupt, seeds)
    streams, points = listed(stream), listed(point)
    stretches = stretches_of(steps, tokens, sampling_steps)
    if controls is None:
        controls = tokens != "each"
    grid = grid_of(model) if tokens == "each" else ()
    blocks_there = places_of(model, streams, points, blocks, window)
    label, rows = blocks_there[0].label, with_tokens(model, blocks_there, tokens, streams, pairs, grid)
    patcher = Patcher(
        model, Sampler(model, [pair.seed for pair in pairs], sampling_steps, guidance), pairs, rows
    )
    found = patcher.map(measure, DIRECTIONS[direction], stretches, streams if controls else [])
    kept = {"all": "", "changed": "changed tokens of ", "each": "single patches of "}
    some = kept[tokens] if isinstance(tokens, str) else f"{counted(len(tokens), 'token')} of "
    block = f"block {label}" if tokens == "each" else "a block"
    at = f"entering {block}" if points == ["in"] else f"at {' + '.join(points)} of {block}"
    what = f"{some}{' + '.join(streams)} {at}"
    return CausalMap(
        what=what + (f", {window} blocks together" if window > 1 else ""), grid=grid, guidance=guidance,
        seconds=time.monotonic() - begun, pairs=tuple(pairs), steps=tuple(stretches), **found,
    )  # fmt: skip


# --- what is patched ---------------------------------------------------------------------------------------


def pairs_of(clean: Any, corrupt: Any, seeds: Sequence[int]) -> list[Pair]:
    """Every pair of prompts with every seed.

    Raises:
        SettingError: If there is one prompt without the other.
    """
    first, second = ([] if given is None else listed(given) for given in (clean, corrupt))
    if len(first) != len(second):
        raise SettingError(
            f"clean has {counted(len(first), 'prompt')} and corrupt {len(second)}: give one of each for every pair."
        )
    texts = list(zip(first, second, strict=True))
    once([f"{a!r} with {b!r}" for a, b in texts], "clean and corrupt")
    return [Pair(a, b, int(seed)) for a, b in texts for seed in seeds]


def stretches_of(steps: Any, tokens: Any, total: int) -> list[tuple[int, int]]:
    """Stretches of the sampling steps, (first, after the last), with the whole run at the end.

    Raises:
        SettingError: If there are fewer steps than stretches, or one of them is empty or runs past the end.
    """
    if steps is None:
        steps = 1 if tokens == "each" else min(5, total)
    if COUNT.fits(steps):
        if steps > total:
            raise SettingError(f"steps={steps} stretches cannot be cut from {total} sampling steps.")
        found = [(0, round(k * total / steps)) for k in range(1, steps + 1)]
    else:
        found = [(int(first), int(stop)) for first, stop in ([steps] if INTERVAL.fits(steps) else steps)]
        for first, stop in found:
            if not first < stop <= total:
                raise SettingError(
                    f"The stretch ({first}, {stop}) is not one of {total} sampling steps: give (first, after "
                    "the last)."
                )
    return [each for each in found if each != (0, total)] + [(0, total)]
