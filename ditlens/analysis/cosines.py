"""Cosines of directions beside those of nulls: the Gram matrix of any vectors. See `ditlens.analysis.geometry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ditlens import flow, late
from ditlens.analysis.same_effect import SAME, Effect
from ditlens.cards import Carded, Piece, Table
from ditlens.metrics.statistics import middle, resampled
from ditlens.tables import frame

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

Vectors = Float[Tensor, "attributes samples numbers"]
"""Directions of several attributes, each made several times from other material."""
DRAWS = 300
"""Texts or images that are drawn for the nulls."""


@dataclass(frozen=True, eq=False, repr=False)
class Gram(Carded):
    """Cosines of directions of several attributes, and what chance would give; from `ditlens.gram`.

    Attributes:
        space: Where the directions live: the site, or the route of the text.
        names: The attributes.
        matrix: Mean cosines, (attributes, attributes); on the diagonal between directions of one attribute that
            were made from other sentences or images.
        within: Those of the diagonal, one by one: null 4.
        between: Cosines between directions of different attributes.
        interval: 95 % interval of the root mean square of `between`, over attributes; NaN for 2 of them, one pair.
        nulls: Cosines of the nulls 1 to 3, by name.
        dimension: D, how many numbers a direction has.
        effective: D_eff of texts or hidden states; at most their number less 1.
        effects: Null 5; empty if it was not tried.
        notes: What was left out, and why.
    """

    space: str
    names: tuple[str, ...]
    matrix: np.ndarray
    within: np.ndarray
    between: np.ndarray
    interval: tuple[float, float]
    nulls: Mapping[str, np.ndarray]
    dimension: int
    effective: float
    effects: tuple[Effect, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Mean cosine within an attribute over root mean square cosine between attributes."""
        return float(self.within.mean() / rms(self.between))

    @property
    def agrees(self) -> bool:
        """Whether directions of one attribute are alike: their mean cosine is clearly above that of every null.

        Clearly: by more than two standard errors of chance, which counts every attribute once.
        """
        count = len(self.names)
        return all(self.within.mean() > v.mean() + 2 * rms(v) / count**0.5 for v in self.nulls.values())

    @property
    def verdict(self) -> str:
        """What the numbers say, in a few sentences."""
        if not self.agrees:
            return (
                f"Directions of one attribute do not agree with themselves: their mean cosine is "
                f"{self.within.mean():.2f}, and chance gives as much. So nothing can be said about different "
                "attributes; take more images or samples, or another site."
            )
        low, high = self.interval
        chance = {name: rms(values) for name, values in self.nulls.items()}
        closer = [name for name, size in chance.items() if high < size]
        others = [name for name in chance if name not in closer]
        found = (
            f"Directions of different attributes have a root mean square cosine of {rms(self.between):.2f}"
        )
        if np.isnan(low):
            found += ": one pair of attributes has no interval, so take more to compare them with the nulls. "
        elif not others:
            found += (
                f" ({low:.2f} to {high:.2f}), less than every null: they are more orthogonal than chance makes "
                "them. "
            )
        else:
            which = "any null" if not closer else " and ".join(others)
            found += (
                f" ({low:.2f} to {high:.2f}), which is not less than {which} gives: being nearly orthogonal is no "
                "evidence here. "
            )
        found += f"Within an attribute the mean cosine is {self.within.mean():.2f}, {self.ratio:.1f} times as much."
        return found + self._twins()

    def _twins(self) -> str:
        """What null 5 says; empty if it says nothing against the matrix."""
        tried = [each for each in self.effects if each.candidate]
        control = max([each.share for each in self.effects if each.name == "random"], default=0.0)
        same = [each for each in tried if each.share >= max(SAME, control)]
        if not same:
            return ""
        return (
            f" {len(same)} of {len(tried)} directions orthogonal to one of them have the same effect (a random one "
            f"{control:.0%} of it): a diagonal matrix by itself proves nothing."
        )

    def _card(self) -> list[Piece]:
        rows = [
            ["within an attribute (null 4)", *_numbers(self.within)],
            ["between attributes", *_numbers(self.between)],
        ]
        rows += [[f"null {k}: {name}", *_numbers(v)] for k, (name, v) in enumerate(self.nulls.items(), 1)]
        size = f"D = {self.dimension}, D_eff = {self.effective:.0f}"
        title = f"Gram of {len(self.names)} attributes, {self.space}: {size}"
        lines: list[Piece] = [title, Table(rows, ("cosines", "mean", "rms", "95 % within"))]
        if self.effects:
            cells = [
                [e.name, f"{e.cosine:.2f}", f"{e.moved:+.2f}", f"{e.share:.0%}", f"{e.drift:.3f}"]
                for e in self.effects
            ]
            lines.append(
                Table(cells, ("null 5: orthogonal directions", "cosine before", "moved", "share", "drift"))
            )
        return [*lines, *self.notes, self.verdict]

    def to_pandas(self) -> pandas.DataFrame:
        """The matrix as a table, its rows and columns named by the attributes.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        return frame(self.matrix, index=list(self.names), columns=list(self.names))

    def plot(self) -> Figure:
        """The matrix, and beside it its cosines against those of the nulls; a matplotlib figure."""
        return late.view("plot_gram", "steering")(self)


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def _numbers(values: np.ndarray) -> list[str]:
    low, high = np.quantile(values, [0.025, 0.975])
    return [f"{values.mean():+.3f}", f"{rms(values):.3f}", f"{low:+.2f} to {high:+.2f}"]


# --- the analysis of any vectors ---------------------------------------------------------------------------


def analyse(
    vectors: Vectors,
    population: Float[Tensor, "n numbers"],
    nulls: Mapping[str, Tensor],
    names: Sequence[str],
    space: str,
    everything: Vectors | None = None,
) -> Gram:
    """The Gram matrix of directions and the cosines of the nulls.

    The mean of all directions is taken from each first, and each null's own mean from the null. Only
    directions that were made from different material are compared, so that what two attributes share is not the
    noise of the same images.

    Args:
        vectors: Directions, (attributes, samples, numbers), at least 2 of each.
        population: Embeddings of random texts, or hidden states of random images: their covariance is that of null
            3.
        nulls: Vectors of the nulls 1 and 2, (draws, numbers).
        names: The attributes.
        space: Where they live, in words.
        everything: Directions of all attributes there are, whose mean is taken off; by default `vectors`.
    """
    kinds, samples, size = vectors.shape
    mean = (vectors if everything is None else everything).flatten(0, 1).double().mean(0)
    flat = centred(vectors.flatten(0, 1), mean)
    cosines = (flat @ flat.T).reshape(kinds, samples, kinds, samples).numpy()
    other = ~np.eye(samples, dtype=bool)  # made from other material
    by_pair = cosines.transpose(0, 2, 1, 3)[:, :, other]  # (kinds, kinds, pairs of samples)
    same = np.eye(kinds, dtype=bool)
    squares = (by_pair**2).mean(-1)

    def size_of(chosen: np.ndarray) -> float:
        different = chosen[:, None] != chosen[None]
        return (
            float(np.sqrt(squares[np.ix_(chosen, chosen)][different].mean())) if different.any() else np.nan
        )

    interval = (np.nan, np.nan)
    if kinds > 2:
        interval = middle(resampled([np.arange(kinds)], size_of, vectorized=False))
    gaussian = gaussian_like(population, DRAWS, 0)
    found = {**nulls, "Gaussian, same covariance": gaussian}
    return Gram(
        space, tuple(names), by_pair.mean(-1), by_pair[same].ravel(), by_pair[~same].ravel(), interval,
        {name: pairwise(each) for name, each in found.items()}, size, effective_dimension(population),
    )  # fmt: skip


def centred(vectors: Float[Tensor, "n numbers"], mean: Tensor | None = None) -> Float[Tensor, "n numbers"]:
    """Vectors less a mean, by default their own, brought to length 1."""
    away = vectors.double() - (vectors.double().mean(0) if mean is None else mean)
    return away / away.norm(dim=1, keepdim=True).clamp_min(1e-12)


def pairwise(vectors: Float[Tensor, "n numbers"]) -> np.ndarray:
    """Cosines of all pairs of vectors, after their mean is taken off."""
    flat = centred(vectors)
    rows, cols = torch.triu_indices(len(flat), len(flat), 1)
    return (flat @ flat.T)[rows, cols].numpy()


def effective_dimension(vectors: Float[Tensor, "n numbers"]) -> float:
    """(tr S)^2 / tr(S^2) of the covariance S: D for a sphere, 1 for a line; at most n - 1 from n vectors.

    Example:
        >>> round(effective_dimension(torch.eye(4)), 6)
        3.0
    """
    away = vectors.double() - vectors.double().mean(0)
    kernel = away @ away.T
    return float(kernel.trace() ** 2 / kernel.square().sum())


def gaussian_like(
    vectors: Float[Tensor, "n numbers"], count: int, seed: int
) -> Float[Tensor, "count numbers"]:
    """Gaussian vectors with the covariance of others: random mixtures of them."""
    away = vectors.float() - vectors.float().mean(0)
    return flow.normal((count, len(away)), flow.generator_of(seed)) @ away / len(away) ** 0.5
