"""Mean and covariance of more rows than fit into memory, exact, in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class Sums:
    r"""What a principal component analysis needs to know of some rows.

    Sums of two sets of rows add up to those of both, so parts of a study can be summed on their own (Chan, Golub
    and LeVeque, "Algorithms for computing the sample variance", The American Statistician 37, 1983): with the
    difference d of the means,

    $$ S = S_1 + S_2 + \frac{n_1 n_2}{n_1 + n_2} d d^T. $$

    The products of each part are taken in float32 about the part's own mean, and added in float64.

    Attributes:
        count: Number of rows.
        mean: Mean row, (width,), float64.
        scatter: Sum of the outer products of the rows less their mean, (width, width), float64.

    >>> rows = np.random.default_rng(0).normal(5, 2, (100, 3)).astype(np.float32)
    >>> both = Sums.of(rows[:30]) + Sums.of(rows[30:])
    >>> both.count, np.allclose(both.covariance, np.cov(rows.T), rtol=1e-5)
    (100, True)
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Sums:
        """Sums of some rows (rows, width)."""
        mean = rows.mean(0, dtype=np.float64) if len(rows) else np.zeros(rows.shape[1])
        centred = rows - mean.astype(np.float32)
        return cls(len(rows), mean, (centred.T @ centred).astype(np.float64))

    def __iadd__(self, other: Sums) -> Sums:
        if other.count:
            both, apart = self.count + other.count, other.mean - self.mean
            self.scatter += other.scatter
            self.scatter += np.outer(apart * (self.count * other.count / both), apart)
            self.mean += apart * (other.count / both)
            self.count = both
        return self

    def __add__(self, other: Sums) -> Sums:
        found = Sums(self.count, self.mean.copy(), self.scatter.copy())
        found += other
        return found

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the columns, (width, width)."""
        return self.scatter / (self.count - 1)
