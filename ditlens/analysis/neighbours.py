"""UMAP of hidden states: a map on which neighbours stay neighbours, in scikit-learn's shape."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ditlens.analysis.decompose import PCA, SCALES
from ditlens.analysis.projection import Projection, View, gathered
from ditlens.analysis.rows import SOURCE, TOKENS, Block, Source, Tokens, blocks, described
from ditlens.arguments import COUNT, FLAG, NUMBER, SEED, one_of, takes
from ditlens.cards import Piece
from ditlens.errors import DitlensError, MissingDependencyError, SettingError
from ditlens.files import user_cache, write_whole
from ditlens.tables import remark

FIRST = 50
"""Most principal components that UMAP starts from."""


@takes(
    n_components=COUNT, tokens=TOKENS, scale=one_of(*SCALES), n_neighbors=COUNT, min_dist=NUMBER,
    max_rows=COUNT, seed=SEED, cache=FLAG,
)  # fmt: skip
@dataclass(eq=False, repr=False)
class UMAP(View):
    """UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426) of hidden states, repeatable.

    Principal components first (50 at most), then `umap-learn` with a seed and one thread, so that the same rows
    give the same map. Of more than `max_rows` rows, so many are drawn at random. What was laid out is kept in the
    user's cache folder, and the same call gives it at once.

    Distances on the map mean little: only who is near whom does. The extra `analysis` brings `umap-learn`.

    Attributes:
        n_components: Dimensions of the map.
        tokens: Which rows, as in `ditlens.PCA`.
        scale: As in `ditlens.PCA`.
        n_neighbors: Neighbours of each row that are kept together: few show detail, many the whole.
        min_dist: Least distance of points on the map, from 0 to 1.
        max_rows: Most rows of the map.
        seed: Of the draw and of the layout.
        cache: Whether to keep the map on disk.
        pca_: The PCA that came first.

    >>> dl.UMAP(n_neighbors=5, tokens="mean")
    UMAP(2, tokens='mean', n_neighbors=5, min_dist=0.1, seed=0), not fitted
    """

    n_components: int = 2
    _: KW_ONLY
    tokens: Tokens = "each"
    scale: str = "none"
    n_neighbors: int = 15
    min_dist: float = 0.1
    max_rows: int = 10_000
    seed: int = 0
    cache: bool = True

    @takes(source=SOURCE)
    def fit(self, source: Source) -> UMAP:
        """Lay the rows out.

        Args:
            source: A cache, a study, a selection of one, or plain rows (rows, width).

        Returns:
            Itself.

        Raises:
            SettingError: If there are not more rows than neighbours, or a value is not finite.
            MissingDependencyError: If umap-learn is not installed.
        """
        count, width = _size(source, self.tokens)
        if count <= self.n_neighbors:
            raise SettingError(
                f"UMAP with n_neighbors={self.n_neighbors} needs more than {self.n_neighbors} rows, and there are "
                f"{count}. Take more images or tokens, or give fewer neighbours."
            )
        first = min(FIRST, width, count - 1)
        pca = PCA(first, tokens=self.tokens, scale=self.scale).fit(source)
        drawn = self._draw(pca, source, count)
        self.pca_, self._rows, self._reducer = pca, drawn.coordinates, None
        self._fitted, self._source = replace(drawn, coordinates=self._layout(), view=self), source
        return self

    def transform(self, source: Source) -> Projection:
        """Places of rows on the map: of what was fitted as it was laid out, of other rows near their neighbours.

        Args:
            source: As in `fit`. Of more than `max_rows` rows, so many are drawn at random.

        Raises:
            NotFittedError: If nothing was fitted.
            MissingDependencyError: If umap-learn is not installed.
        """
        if source is self.source:
            return self._fitted
        count, _ = _size(source, self.tokens)
        drawn = self._draw(self.pca_, source, count)
        return replace(drawn, coordinates=self._place(drawn.coordinates), view=self)

    def project(self, values: Any, site: str = "") -> np.ndarray:
        """Places of rows (..., width): (..., n_components), float32."""
        _ = self.source
        rows = self.pca_.project(values, site)
        return self._place(rows.reshape(-1, rows.shape[-1])).reshape(*rows.shape[:-1], -1)

    def axis(self, number: int) -> str:
        """Name of a coordinate, counted from 0."""
        return f"UMAP {number + 1}"

    @property
    def preprocessing(self) -> str:
        """What was done to the rows, in words; figures print it."""
        _ = self.source
        first = f"{self.pca_.n_components} principal components first"
        return (
            f"{self.pca_.preprocessing}; {first}; {self.n_neighbors} neighbours, "
            f"min_dist {self.min_dist:g}, seed {self.seed}"
        )

    def _card(self) -> list[Piece]:
        settings = f"n_neighbors={self.n_neighbors}, min_dist={self.min_dist:g}, seed={self.seed}"
        title = f"UMAP({self.n_components}, tokens={self.tokens!r}, {settings})"
        if self._source is None:
            return [f"{title}, not fitted"]
        rows = self._fitted.note or f"{len(self._fitted)} rows"
        return [f"{title} of {described(self._source)}", f"  {rows}", f"  {self.preprocessing}"]

    def _draw(self, pca: PCA, source: Source, count: int) -> Projection:
        """Principal components of at most `max_rows` of so many rows, with a note if these are not all."""
        note = f"{self.max_rows} of {count} rows, drawn at random" if self.max_rows < count else ""
        return gathered(pca, source, _drawn(pca, source, count, self.max_rows, self.seed), note)

    # --- the layout ----------------------------------------------------------------------------------

    def _layout(self) -> np.ndarray:
        """The places of the drawn rows: from disk if they were laid out before."""
        path = self._path()
        if self.cache:
            try:
                found: np.ndarray = np.load(path, allow_pickle=False)
                if found.shape == (len(self._rows), self.n_components):
                    return found
            except (OSError, ValueError, EOFError):
                pass  # not there, damaged, or in a folder that cannot be read: lay out again
        layout = np.asarray(self._fit_reducer().embedding_, np.float32)
        if self.cache:
            file = io.BytesIO()
            np.save(file, layout)
            try:
                write_whole(path, file.getvalue())
            except DitlensError as error:
                remark(f"The map is not kept: {error}")
        return layout

    def _place(self, rows: np.ndarray) -> np.ndarray:
        """Places of more rows, given by their principal components."""
        placed: np.ndarray = np.asarray((self._reducer or self._fit_reducer()).transform(rows), np.float32)
        return placed

    def _fit_reducer(self) -> Any:
        say_that_the_first_is_slow()
        try:
            import umap
        except ModuleNotFoundError as error:
            raise missing(error) from error
        reducer = umap.UMAP(
            n_components=self.n_components, n_neighbors=self.n_neighbors, min_dist=self.min_dist,
            random_state=self.seed, n_jobs=1,
        )  # fmt: skip
        self._reducer = reducer.fit(self._rows)
        return self._reducer

    def _path(self) -> Path:
        """Where this layout of these rows is kept."""
        settings = [self.n_components, self.n_neighbors, self.min_dist, self.seed, self._rows.shape]
        about = [*settings, *_versions()]
        key = hashlib.sha256(json.dumps(about).encode() + np.ascontiguousarray(self._rows).tobytes())
        return user_cache("umap") / f"{key.hexdigest()[:32]}.npy"


@functools.cache
def say_that_the_first_is_slow() -> None:
    """Why nothing seems to happen, once in a process: later maps take less than a second."""
    remark("UMAP lays out rows on one thread; importing and compiling it takes about 20 s, this once.")


def _versions() -> list[str]:
    """Versions of what decides a layout.

    Raises:
        MissingDependencyError: If one is not installed.
    """
    try:
        return [version(name) for name in ("umap-learn", "pynndescent", "numba", "numpy", "scikit-learn")]
    except ModuleNotFoundError as error:
        raise missing(error) from error


def missing(error: Exception) -> MissingDependencyError:
    """What to type if umap-learn is not there."""
    return MissingDependencyError(
        f"UMAP needs umap-learn: {error}. Type: pip install 'ditlens[analysis]'. dl.PCA works without it."
    )


def _size(source: Source, tokens: Tokens) -> tuple[int, int]:
    """Rows of a source, and their width."""
    count = width = 0
    for block in blocks(source, tokens):
        count, width = count + len(block.values), block.values.shape[1]
    return count, width


def _drawn(pca: PCA, source: Source, count: int, most: int, seed: int) -> Iterator[tuple[np.ndarray, Block]]:
    """Principal components of at most so many rows, drawn at random, block by block."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(count, most, replace=False)) if count > most else np.arange(count)
    start = 0
    for block in blocks(source, pca.tokens):
        end = start + len(block.values)
        here = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, end)] - start
        part = block._replace(
            **{name: getattr(block, name)[here] for name in ("items", "tokens", "values", "norms")}
        )
        yield pca.project(part.values, block.site), part
        start = end
