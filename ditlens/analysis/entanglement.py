"""Which attribute moves which: the entanglement matrix of a model.

Two texts that differ in one attribute only are drawn from the same noise, many times, and the model's world reads
what all images show. What a text does not name is decided by the noise, so single images change in many ways when a
word changes; where an attribute is entangled with another, its *distribution* moves::

    shift_ij = |mean(after) - mean(before)| / range        of a continuous attribute j, when the text moves i
             = 1/2 sum_v |share_v(after) - share_v(before)|    of a categorical one: total variation
    M_ij     = shift_ij - mean of shift_ij over random exchanges of before and after within the pairs

The second line is what chance gives for so many pairs, and is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ditlens.analysis.cells import once
from ditlens.analysis.prompts import world_of
from ditlens.analysis.wordings import Ends, Plan, plan
from ditlens.arguments import COUNT, FLAG, NAME, NOTHING, NUMBER, SEED, Kind, listed, several, takes
from ditlens.cards import Carded, Piece, Table
from ditlens.errors import SettingError, UnknownAttributeError
from ditlens.late import view
from ditlens.metrics.statistics import Estimate, span
from ditlens.models.model import MODEL, Model
from ditlens.tables import counted, frame, progress_bar
from ditlens.worlds.world import Attribute, Continuous, Values, World

if TYPE_CHECKING:
    import pandas
    import torch

BATCH, REPEATS = 32, 1000
"""Images drawn at once; exchanges and resamples of a cell."""
FEWEST = 6
"""Pairs from which on p can fall below 0.05: of n pairs, 2 of 2^n exchanges shift as far as what was found."""
Sampler: TypeAlias = "Callable[[list[str], list[int]], torch.Tensor]"
Score: TypeAlias = Callable[[Any], Any]
MOVES = NOTHING | Kind(
    "for each attribute two of its values, e.g. {'hair_color': ('brown', 'grey')}",
    lambda moves: (
        isinstance(moves, Mapping)
        and all(isinstance(ends, list | tuple) and len(ends) == 2 for ends in moves.values())
    ),
)


@dataclass(frozen=True)
class ReadPair:
    """Two texts that differ in one attribute, and what is read in their images.

    Attributes:
        moved: The attribute that differs.
        seed: Seed of the noise that both images are drawn from.
        texts: Before and after.
        readings: The attributes of both images.
        hidden: Attributes that cannot be seen in one of them.
    """

    moved: str
    seed: int
    texts: tuple[str, str]
    readings: tuple[Values, Values] = field(repr=False)
    hidden: frozenset[str]


@dataclass(frozen=True, repr=False)
class Entanglement(Carded):
    """The entanglement matrix of a model: rows are what the texts move, columns what is read in the images.

    A cell says how far the distribution of the column's attribute shifts when the text moves the row's, beyond
    chance; see `ditlens.analysis.entanglement`. Without entanglement it is 0 but for noise, which has either sign.
    A pair in which an attribute cannot be seen does not count in its column.

    Attributes:
        model: Name of the model.
        attributes: What is read, by name: the columns.
        rows: Attributes that were moved.
        pairs: All pairs of all rows.

    Example:
        >>> found = dl.entanglement(model, ["smile"], count=2, sampling_steps=2)
        >>> found.matrix.shape
        (1, 18)
        >>> sorted(found.cell("smile", "gaze"))
        ['high', 'low', 'n', 'nan', 'p', 'value']
    """

    model: str
    attributes: Mapping[str, Attribute] = field(repr=False)
    rows: tuple[str, ...]
    pairs: tuple[ReadPair, ...] = field(repr=False)

    def changes(self, moved: str, read: str, score: Score | None = None) -> np.ndarray:
        """Change of one attribute in every pair of a row in which it can be seen, (pairs, numbers).

        Args:
            moved: The attribute that the texts move.
            read: The one that is read: of a continuous one the signed change in units of its range, of a
                categorical one the change of each value's indicator.
            score: Makes one number of a reading instead: ``lambda value: value == "grey"``.

        Raises:
            UnknownAttributeError: If `moved` is no row, or `read` no column.
        """
        for name, known in ((moved, self.rows), (read, tuple(self.attributes))):
            if name not in known:
                raise UnknownAttributeError(
                    f"{name!r} is not in this matrix. Use one of: {', '.join(known)}."
                )
        code = score or code_of(self.attributes[read])
        seen = [pair.readings for pair in self.pairs_of(moved) if read not in pair.hidden]
        found = [np.subtract(code(after[read]), code(before[read]), dtype=float) for before, after in seen]
        return np.array(found).reshape(len(found), -1) if found else np.zeros((0, 1))

    def pairs_of(self, moved: str) -> list[ReadPair]:
        """The pairs of a row."""
        return [pair for pair in self.pairs if pair.moved == moved]

    def cell(self, moved: str, read: str, score: Score | None = None) -> Estimate:
        """One cell with its 95 % interval over the pairs; arguments and errors are those of `changes`.

        Returns:
            "value", "low", "high", "n" (pairs that count), "nan" (pairs in which it is hidden), and "p", how often
            chance alone shifts as far.
        """
        found, count = self.changes(moved, read, score), len(self.pairs_of(moved))
        unknown = {"value": math.nan, "low": math.nan, "high": math.nan, "p": math.nan}
        shift = shifted(found) if len(found) else unknown
        return {**shift, "n": len(found), "nan": count - len(found)}

    @cached_property
    def cells(self) -> dict[tuple[str, str], Estimate]:
        """All cells, by row and column."""
        return {(moved, read): self.cell(moved, read) for moved in self.rows for read in self.attributes}

    @property
    def matrix(self) -> np.ndarray:
        """The values of all cells, (rows, columns)."""
        values = [cell["value"] for cell in self.cells.values()]
        return np.array(values, float).reshape(len(self.rows), -1)

    @cached_property
    def signed(self) -> np.ndarray:
        """Mean signed changes in units of the range, (rows, columns); NaN where a sign means nothing."""
        found = [
            self.changes(moved, read).mean()
            if isinstance(spec, Continuous) and len(self.changes(moved, read)) else math.nan
            for moved in self.rows for read, spec in self.attributes.items()
        ]  # fmt: skip
        return np.array(found).reshape(len(self.rows), -1)

    @property
    def dominance(self) -> float:
        """Diagonal dominance, ``sum |M_ii| / sum |M_ij|``: 1 if nothing is entangled; noise makes it smaller.

        NaN for a single pair, of which every cell is 0.
        """
        own = [abs(self.cells[name, name]["value"]) for name in self.rows]
        total = float(np.nansum(np.abs(self.matrix)))
        return float(np.nansum(own)) / total if total > 0 else math.nan

    def largest(self, count: int = 5) -> list[tuple[str, str, Estimate]]:
        """The cells beside the diagonal with the largest values: row, column and cell."""
        beside = [(*names, cell) for names, cell in self.cells.items() if names[0] != names[1]]
        return sorted(beside, key=lambda each: -np.nan_to_num(each[2]["value"], nan=-math.inf))[:count]

    @property
    def caution(self) -> str:
        """What too few pairs cannot say; empty where there are enough."""
        fewest = min(len(self.pairs_of(moved)) for moved in self.rows)
        if fewest >= FEWEST:
            return ""
        no = "one pair: no interval, and nothing" if fewest == 1 else f"{fewest} pairs: nothing"
        return f"{no} can be told from chance; count={FEWEST} is the least with which p can fall below 0.05"

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each cell: moved, read, value, low, high, p, n, nan, signed.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        table = [{"moved": moved, "read": read, **cell} for (moved, read), cell in self.cells.items()]
        return frame(table).assign(signed=self.signed.ravel())

    def plot(self, *, signed: bool = False) -> Any:
        """Draw the matrix as a heat map; see `ditlens.views.matrices.plot_entanglement`."""
        return view("plot_entanglement", "matrices")(self, signed=signed)

    def _card(self) -> list[Piece]:
        table = [
            (
                f"{moved} -> {read}",
                f"{cell['value']:+.2f}",
                span(cell["low"], cell["high"], "+.2f"),
                str(cell["n"]),
            )
            for moved, read, cell in self.largest()
        ]
        found: list[Piece] = [
            f"Entanglement of {self.model!r}: {counted(len(self.rows), 'attribute')} moved, "
            f"{len(self.attributes)} read, {counted(len(self.pairs), 'pair')} of texts",
            f"diagonal dominance {self.dominance:.2f} (1: each moves only itself)",
            *([self.caution] if self.caution else []),
            "most moved beside themselves, largest change first:",
            Table(table, ("moved -> read", "change", "95 % interval", "pairs"), "  "),
        ]
        return found


def code_of(spec: Attribute) -> Score:
    """A reading as numbers: in units of the range, or an indicator of each value."""
    if isinstance(spec, Continuous):
        return lambda value: float(value) / spec.range
    return lambda value: np.array([value == each for each in spec.values], float)


def shifted(changes: np.ndarray, seed: int = 0) -> Estimate:
    """How far the mean of some changes lies from 0 beyond chance, with its interval.

    >>> found = shifted(np.full((50, 1), 0.5))
    >>> round(found["value"], 1), found["p"]
    (0.4, 0.0)

    Args:
        changes: (pairs, numbers): one number, or the change of every value's indicator.
        seed: Of the exchanges and resamples.
    """
    rng, count = np.random.default_rng(seed), len(changes)
    half = 1 if changes.shape[1] == 1 else 2  # total variation counts what leaves and what comes once

    def size(weights: np.ndarray) -> np.ndarray:
        return np.abs(weights @ changes / count).sum(-1) / half

    value = size(np.ones((1, count)))[0]
    chance = size(rng.choice([-1.0, 1.0], (REPEATS, count)))
    spread = size(rng.multinomial(count, np.full(count, 1 / count), REPEATS).astype(float))
    low, high = (
        map(float, np.quantile(spread - spread.mean(), [0.025, 0.975])) if count > 1 else [math.nan] * 2
    )
    net = float(value - chance.mean())
    return {"value": net, "low": net + low, "high": net + high, "p": float((chance >= value - 1e-9).mean())}


@takes(
    model=MODEL, attributes=NOTHING | several(NAME, "a list of attributes, e.g. ['age', 'smile']"), count=COUNT,
    moves=MOVES, name_others=FLAG, sampling_steps=COUNT, guidance=NOTHING | NUMBER, seed=SEED, progress=FLAG,
)  # fmt: skip
def entanglement(
    model: Model,
    attributes: str | Sequence[str] | None = None,
    *,
    count: int = 24,
    moves: Mapping[str, Ends] | None = None,
    name_others: bool = False,
    sampling_steps: int = 8,
    guidance: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Entanglement:
    """Measure which attribute moves which in the images of a model with a world.

    For every attribute there are pairs of texts whose only difference is its level: the lowest and the highest of a
    continuous one, the neutral value and the next of a categorical one. Images of both texts are made from the same
    noise, and the world reads them; `ditlens.analysis.entanglement` says how a cell is computed. All 18 attributes
    of portraits take two minutes on two cores.

    Args:
        model: A model with a world.
        attributes: What to move, one or more: the rows; all attributes by default.
        count: Pairs of texts for each of them, with two images each. Fewer than 20 leave much to chance; with fewer
            than 6, nothing can be told from it, and the table says so.
        moves: For some attributes the two values to move between, in this order, instead of the usual ends.
        name_others: Whether the texts also name all other attributes, drawn at random and the same in both. What is
            named cannot follow; by default nothing else is named, and what the model makes of that is seen.
        sampling_steps: Sampling steps; of the portraits model, 8 draw 97 % of what a text names as the text says.
        guidance: Guidance; the model's own by default. It sharpens what the model has learnt; 1 does not, and takes
            half the time.
        seed: Seed of words, noise and, with `name_others`, of the others' values.
        progress: Whether to show progress.

    Raises:
        ModelError: If the model has no world.
        UnknownAttributeError: If the world has no such attribute or value.
        SettingError: If there is a move for an attribute that is not moved.

    Example:
        >>> twin = dl.load("portraits-twin", device="cpu")
        >>> found = dl.entanglement(twin, ["age"], count=8, sampling_steps=4, progress=False)
        >>> found.cell("age", "glasses")["value"] > found.cell("age", "shirt")["value"]
        True
    """
    world = world_of(model, "a model that has one: ditlens.load('portraits')")

    def draw(texts: list[str], seeds: list[int]) -> torch.Tensor:
        return model.sample(texts, seeds, steps=sampling_steps, guidance=guidance)

    rows = tuple(world.attributes) if attributes is None else tuple(once(listed(attributes), "attributes"))
    plans = plan(world, rows, count, moves or {}, name_others, seed)
    if extra := [name for name in moves or {} if name not in rows]:
        raise SettingError(
            f"moves has {extra[0]!r}, which is not among the attributes that are moved: {', '.join(rows)}. Add it "
            "to them, or take its move out."
        )
    return Entanglement(model.name, world.attributes, rows, tuple(read_pairs(world, plans, draw, progress)))


def read_pairs(world: World, plans: Sequence[Plan], draw: Sampler, progress: bool) -> Iterator[ReadPair]:
    """Draw the images of all pairs in batches, and read them."""
    jobs = [(text, seed) for _, seed, texts in plans for text in texts]
    readings: list[Values] = []
    with progress_bar("images", progress) as tell:
        for start in range(0, len(jobs), BATCH):
            texts, seeds = zip(*jobs[start : start + BATCH], strict=True)
            readings += world.measure(draw(list(texts), list(seeds)))
            tell(len(readings), len(jobs))
    for (name, seed, pair), before, after in zip(plans, readings[::2], readings[1::2], strict=True):
        hidden = frozenset(world.hidden(before) | world.hidden(after))
        yield ReadPair(name, seed, pair, (before, after), hidden)
