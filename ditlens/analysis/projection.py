"""Hidden states in a few dimensions, and what is known of every row: what `ditlens.PCA` and `ditlens.UMAP` give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ditlens import late
from ditlens.analysis.rows import SOURCE, Block, Source, blocks
from ditlens.arguments import takes
from ditlens.cards import Carded, Piece, Table
from ditlens.errors import NotFittedError, SettingError
from ditlens.lens.cache import LatentCache
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study
from ditlens.tables import frame

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

LABELS = ("site", "step", "pass", "item", "token")
"""What is known of every row."""
DERIVED = ("kind", "block", "stream", "point")
"""What its site says of it."""
Self = TypeVar("Self", bound="View")


class View(Carded, ABC):
    """What PCA and UMAP have in common: they are fitted on a source, and give coordinates of rows."""

    n_components: int
    tokens: Any
    _source: Source | None = None

    @property
    @abstractmethod
    def preprocessing(self) -> str:
        """What was done to the rows, in words; figures print it."""

    @abstractmethod
    def axis(self, number: int) -> str:
        """Name of a coordinate, counted from 0."""

    @abstractmethod
    def project(self, values: Any, site: str = "") -> np.ndarray:
        """Coordinates of rows (..., width) of a site: (..., n_components), float32."""

    @abstractmethod
    def fit(self: Self, source: Source) -> Self:
        """Fit on a source."""

    @property
    def source(self) -> Source:
        """What it was fitted on.

        Raises:
            NotFittedError: If it has not been fitted.
        """
        if self._source is None:
            name = type(self).__name__
            raise NotFittedError(f"This {name} has not been fitted. Type: view = dl.{name}(...).fit(cache)")
        return self._source

    @takes(source=SOURCE)
    def transform(self, source: Source) -> Projection:
        """Coordinates of the rows of a source.

        Args:
            source: A cache, a study, a selection of one, or plain rows, of the width that was fitted.

        Raises:
            SettingError: If its rows do not fit.
            NotFittedError: If nothing was fitted.
        """
        _ = self.source
        found = ((self.project(block.values, block.site), block) for block in blocks(source, self.tokens))
        return gathered(self, source, found)

    def fit_transform(self, source: Source) -> Projection:
        """`fit` and `transform`."""
        return self.fit(source).transform(source)

    def plot(self, color: str | Sequence[Any] = "", **options: Any) -> Figure:
        """Scatter of what it was fitted on; see `Projection.plot`."""
        return self.transform(self.source).plot(color, **options)


def gathered(
    view: View, source: Source, found: Iterable[tuple[np.ndarray, Block]], note: str = ""
) -> Projection:
    """Coordinates and labels of all blocks as one projection."""
    parts = [
        (coordinates, (b.site, b.step, b.pass_, b.items, b.tokens)) for coordinates, b in found if len(coordinates)
    ]  # fmt: skip
    if not parts:
        raise SettingError("No row is left: all of these tokens are padding. Choose other tokens.")
    labels = {
        name: np.concatenate([np.broadcast_to(each[i], len(xy)) for xy, each in parts])
        for i, name in enumerate(LABELS)
    }
    return Projection(np.concatenate([xy for xy, _ in parts]), labels, view, source, note)


@dataclass(frozen=True, eq=False, repr=False)
class Projection(Carded):
    """Coordinates of rows in a fitted view, and where each row comes from.

    ``numpy.asarray(projection)`` is the coordinates.

    Attributes:
        coordinates: (rows, components), float32.
        labels: Of every row: ``site``, ``step``, ``pass``, ``item`` (which image of the source) and ``token`` (its
            number; -1 for a mean over tokens).
        view: The fitted PCA or UMAP.
        source: Whose rows these are.
        note: What else to know, e.g. that rows were drawn at random.

    >>> with dl.capture(model, "joint.*.image.out", steps=[0, 3]) as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> dl.PCA(2).fit_transform(cache).to_pandas().columns.tolist()
    ['site', 'step', 'pass', 'item', 'token', 'kind', 'block', 'stream', 'point', 'prompt', 'PC1', 'PC2']
    """

    coordinates: np.ndarray
    labels: Mapping[str, np.ndarray]
    view: View
    source: Source = field(repr=False)
    note: str = ""

    def __len__(self) -> int:
        return len(self.coordinates)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.coordinates, dtype, copy=copy)

    def _card(self) -> list[Piece]:
        axes = [self.view.axis(i) for i in range(self.coordinates.shape[1])][:6]
        rows = [
            [str(self.labels[name][i]) for name in LABELS] + [f"{x:.3g}" for x in self.coordinates[i][:6]]
            for i in range(min(len(self), 5))
        ]
        lines: list[Piece] = [
            f"Projection: {len(self)} rows x {self.coordinates.shape[1]} components",
            f"  {self.view.preprocessing}", *[f"  {self.note}"] * bool(self.note),
            Table(rows, [*LABELS, *axes], "  "),
        ]  # fmt: skip
        return lines + ["  ..."] * (len(self) > 5)

    @cached_property
    def _site_labels(self) -> dict[str, np.ndarray]:
        """`DERIVED` labels of every row."""
        names, which = np.unique(self.labels["site"], return_inverse=True)
        sites = [Site.parse(name) if name else None for name in names.tolist()]
        return {name: np.asarray([getattr(site, name, "") for site in sites])[which] for name in DERIVED}

    @property
    def names(self) -> list[str]:
        """What `values` knows: labels, and columns of the source."""
        given = self.source.columns if isinstance(self.source, LatentCache | Study) else {}
        return [*LABELS, *DERIVED, *given]

    def values(self, name: str | Sequence[Any]) -> np.ndarray:
        """What is known of every row, by name: a label, or a column of the study.

        Args:
            name: One of `names`; or values of your own, one for each image of the source, or one for each row.

        Raises:
            SettingError: If nothing has this name, or there are more or fewer values; the message lists the names.
        """
        known = {**self.labels, **self._site_labels}
        if isinstance(name, str) and name in known:
            return known[name]
        if isinstance(name, str):
            if name not in self.names:
                raise SettingError(
                    f"Nothing here is called {name!r}. There are: {', '.join(self.names)}. Or give a list "
                    "with one value for each image."
                )
            assert isinstance(self.source, LatentCache | Study)
            name = self.source.columns[name]
        if len(name) == len(self):
            return np.asarray(name)
        count = len(self.source.items if isinstance(self.source, LatentCache | Study) else self.source)
        if len(name) != count:
            raise SettingError(
                f"Got {len(name)} values for {count} images and {len(self)} rows. Give one for each image, or row."
            )
        return np.asarray(name)[self.labels["item"]]

    def to_pandas(self) -> pandas.DataFrame:
        """A table with one row for each row: labels, columns of the source, coordinates.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        axes = {f"{self.view.axis(i)}": x for i, x in enumerate(self.coordinates.T)}
        return frame({**{name: self.values(name) for name in self.names}, **axes})

    def plot(self, color: str | Sequence[Any] = "", **options: Any) -> Figure:
        """Scatter of two coordinates; see `ditlens.plot_projection`.

        >>> with dl.capture(model, "joint.1.image.out", steps=[0, 3]) as cache:
        ...     image = model.generate("a big smile", seed=0)
        >>> figure = dl.PCA(2).fit_transform(cache).plot(color="step")
        """
        return late.view("plot_projection", "scatter")(self, color, **options)
