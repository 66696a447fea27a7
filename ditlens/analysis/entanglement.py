"""Which attribute moves which: the entanglement matrix of a model.

Two texts that differ in one attribute only are drawn from the same noise, and the model's world reads what both
images show. What changes beside the attribute that the texts are about is entangled with it, in the model or in
what it was trained on. Images of the same noise also differ where two texts say the same in other words; that much
is the null, and subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ditlens.analysis.wordings import Ends, Plan, plan
from ditlens.arguments import COUNT, FLAG, NAME, NOTHING, NUMBER, SEED, Kind, list_of, takes
from ditlens.errors import MissingDependencyError, ModelError, UnknownAttributeError
from ditlens.late import view
from ditlens.metrics.statistics import Estimate, estimate
from ditlens.models.model import MODEL, Model
from ditlens.tables import columns, counted, progress_bar
from ditlens.worlds.world import Attribute, Continuous, Values, World

if TYPE_CHECKING:
    import pandas
    import torch

BATCH = 32
"""Images drawn at once."""
Sampler: TypeAlias = "Callable[[list[str], list[int]], torch.Tensor]"
Score: TypeAlias = Callable[[Any], float]
MOVES = NOTHING | Kind(
    "for each attribute two of its values, e.g. {'hair_color': ('brown', 'grey')}",
    lambda moves: (
        isinstance(moves, Mapping)
        and all(isinstance(ends, list | tuple) and len(ends) == 2 for ends in moves.values())
    ),
)


@dataclass(frozen=True)
class ReadPair:
    """Two texts that differ in one attribute, the first one in other words, and what is read in their images.

    Attributes:
        moved: The attribute that differs.
        seed: Seed of the noise that all three images are drawn from.
        texts: Before, after, and before in other words.
        readings: The attributes of the three images.
        hidden: Attributes that cannot be seen in one of them.
    """

    moved: str
    seed: int
    texts: tuple[str, str, str]
    readings: tuple[Values, Values, Values] = field(repr=False)
    hidden: frozenset[str]


@dataclass(frozen=True)
class Entanglement:
    """The entanglement matrix of a model: rows are what the texts move, columns what is read in the images.

    A cell is the mean change of the column's attribute in a move of the row's, less its change under other words:
    of a continuous attribute the size of the change, in units of its range; of a categorical one the share of the
    images in which its value changed. Without entanglement it is 0 but for noise, which has either sign. A pair in
    which an attribute cannot be seen does not count in its column.

    Attributes:
        model: Name of the model.
        attributes: What is read, by name: the columns.
        rows: Attributes that were moved.
        directed: Those of them whose moves all go the same way, so that the sign of a change means something.
        pairs: All pairs of all rows.

    Example:
        >>> found = dl.entanglement(model, ["smile"], pairs=2, steps=2)
        >>> found.matrix.shape
        (1, 18)
        >>> sorted(found.cell("smile", "gaze"))
        ['high', 'low', 'n', 'nan', 'value']
    """

    model: str
    attributes: Mapping[str, Attribute] = field(repr=False)
    rows: tuple[str, ...]
    directed: tuple[str, ...]
    pairs: tuple[ReadPair, ...] = field(repr=False)

    def changes(
        self, moved: str, read: str, *, signed: bool = False, score: Score | None = None
    ) -> np.ndarray:
        """Change of one attribute in every pair of a row, less the null: (pairs,), NaN where it is hidden.

        Args:
            moved: The attribute that the texts move.
            read: The one that is read.
            signed: Count a change downwards as negative; of a continuous attribute only.
            score: Makes a number of a reading, whose signed change counts: ``lambda value: value == "grey"``.

        Raises:
            UnknownAttributeError: If `moved` is no row, or `read` no column.
        """
        for name, known in ((moved, self.rows), (read, tuple(self.attributes))):
            if name not in known:
                raise UnknownAttributeError(
                    f"{name!r} is not in this matrix. Use one of: {', '.join(known)}."
                )
        measure = change_of(self.attributes[read], signed, score)
        found = []
        for pair in self.pairs_of(moved):
            before, after, reworded = (values[read] for values in pair.readings)
            change = measure(before, after) - measure(before, reworded)
            found.append(math.nan if read in pair.hidden else change)
        return np.array(found)

    def pairs_of(self, moved: str) -> list[ReadPair]:
        """The pairs of a row."""
        return [pair for pair in self.pairs if pair.moved == moved]

    def cell(self, moved: str, read: str, *, signed: bool = False, score: Score | None = None) -> Estimate:
        """One cell with its 95 % interval over the pairs; arguments and errors are those of `changes`.

        Returns:
            "value", "low", "high", "n" (pairs that count) and "nan" (pairs in which it is hidden).
        """
        return estimate(self.changes(moved, read, signed=signed, score=score))

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
        return np.array(
            [
                [
                    self.cell(moved, read, signed=True)["value"]
                    if moved in self.directed and isinstance(spec, Continuous)
                    else math.nan
                    for read, spec in self.attributes.items()
                ]
                for moved in self.rows
            ]
        )

    @property
    def dominance(self) -> float:
        """Diagonal dominance, ``sum |M_ii| / sum |M_ij|``: 1 if nothing is entangled; noise makes it smaller."""
        own = [abs(self.cells[name, name]["value"]) for name in self.rows]
        return float(np.nansum(own) / np.nansum(np.abs(self.matrix)))

    def largest(self, count: int = 5) -> list[tuple[str, str, Estimate]]:
        """The cells beside the diagonal with the largest lower ends of their intervals: row, column and cell."""
        beside = [(*names, cell) for names, cell in self.cells.items() if names[0] != names[1]]
        return sorted(beside, key=lambda each: -np.nan_to_num(each[2]["low"], nan=-math.inf))[:count]

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each cell: moved, read, value, low, high, n, nan, signed.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"Tables need pandas: {error}. Type: pip install 'ditlens[analysis]', or make install in a clone."
            ) from error
        table = [{"moved": moved, "read": read, **cell} for (moved, read), cell in self.cells.items()]
        return DataFrame(table).assign(signed=self.signed.ravel())

    def plot(self, *, signed: bool = False) -> Any:
        """Draw the matrix as a heat map; see `ditlens.views.matrices.plot_entanglement`."""
        return view("plot_entanglement", "matrices")(self, signed=signed)

    def __repr__(self) -> str:
        table = [
            (
                f"{moved} -> {read}",
                f"{cell['value']:+.2f}",
                f"{cell['low']:+.2f} to {cell['high']:+.2f}",
                str(cell["n"]),
            )
            for moved, read, cell in self.largest()
        ]
        return (
            f"Entanglement of {self.model!r}: {counted(len(self.rows), 'attribute')} moved, "
            f"{len(self.attributes)} read, {counted(len(self.pairs), 'pair')} of texts\n"
            f"diagonal dominance {self.dominance:.2f} (1: each moves only itself); most moved beside themselves:\n"
            + columns(table, ("moved -> read", "change", "95 % interval", "pairs"), "  ")
        )


def change_of(spec: Attribute, signed: bool, score: Score | None) -> Callable[[Any, Any], float]:
    """How the change from one reading of an attribute to another is counted."""
    if score is not None:
        return lambda before, after: float(score(after)) - float(score(before))
    if signed and isinstance(spec, Continuous):
        return lambda before, after: (float(after) - float(before)) / spec.range
    return spec.distance


@takes(
    model=MODEL, attributes=NOTHING | list_of(NAME, "a list of attributes, e.g. ['age', 'smile']"), pairs=COUNT,
    moves=MOVES, name_others=FLAG, steps=COUNT, guidance=NOTHING | NUMBER, seed=SEED, show=FLAG,
)  # fmt: skip
def entanglement(
    model: Model,
    attributes: Sequence[str] | None = None,
    *,
    pairs: int = 8,
    moves: Mapping[str, Ends] | None = None,
    name_others: bool = False,
    steps: int = 8,
    guidance: float | None = None,
    seed: int = 0,
    show: bool = True,
) -> Entanglement:
    """Measure which attribute moves which in the images of a model with a world.

    For every attribute there are pairs of texts whose only difference is its level: the lowest and the highest of a
    continuous one, in turn any two values of a categorical one. Images of both texts, and of the first one in other
    words, are made from the same noise, and the world reads them. The cell of attributes i and j is::

        M_ij = mean over pairs of d_j(before, after) - d_j(before, before in other words)

    with d_j the distance of two readings: |difference| / range, or 0 and 1 for equal and other values.

    Args:
        model: A model with a world.
        attributes: What to move: the rows; all attributes by default.
        pairs: Pairs of texts for each of them; each takes three images.
        moves: For some attributes the two values to move between, in this order, instead of the usual ends.
        name_others: Whether the texts also name all other attributes, drawn at random and the same in both. What is
            named cannot follow; by default nothing else is named, and what the model makes of that is seen.
        steps: Sampling steps; of the portraits model, 8 draw 97 % of what a text names as the text says.
        guidance: Guidance; the model's own by default. It sharpens what the model has learnt; 1 does not, and takes
            half the time.
        seed: Seed of words, noise and, with `name_others`, of the others' values.
        show: Whether to show progress.

    Raises:
        ModelError: If the model has no world.
        UnknownAttributeError: If the world has no such attribute or value.

    Example:
        >>> twin = dl.load("portraits-twin", device="cpu")
        >>> found = dl.entanglement(twin, ["age"], pairs=4, steps=4, show=False)
        >>> found.cell("age", "glasses")["value"] > found.cell("age", "shirt")["value"]
        True
    """
    world = model.world
    if world is None:
        raise ModelError(
            f"{model.name!r} has no world that could read attributes in its images. Use a model that has one, e.g. "
            "ditlens.load('portraits')."
        )

    def draw(texts: list[str], seeds: list[int]) -> torch.Tensor:
        return model.sample(texts, seeds, steps=steps, guidance=guidance)

    rows = tuple(world.attributes) if attributes is None else tuple(attributes)
    plans = plan(world, rows, pairs, moves or {}, name_others, seed)
    directed = [n for n in rows if n in (moves or {}) or isinstance(world.attributes[n], Continuous)]
    read = tuple(read_pairs(world, plans, draw, show))
    return Entanglement(model.name, world.attributes, rows, tuple(directed), read)


def read_pairs(world: World, plans: Sequence[Plan], draw: Sampler, show: bool) -> Iterator[ReadPair]:
    """Draw the images of all pairs in batches, and read them."""
    jobs = [(text, seed) for _, seed, texts in plans for text in texts]
    readings: list[Values] = []
    with progress_bar("images", show) as tell:
        for start in range(0, len(jobs), BATCH):
            texts, seeds = zip(*jobs[start : start + BATCH], strict=True)
            readings += world.measure(draw(list(texts), list(seeds)))
            tell(len(readings), len(jobs))
    for k, (name, seed, texts) in enumerate(plans):
        before, after, reworded = readings[3 * k : 3 * k + 3]
        hidden = frozenset().union(*map(world.hidden, (before, after, reworded)))
        yield ReadPair(name, seed, texts, (before, after, reworded), hidden)
