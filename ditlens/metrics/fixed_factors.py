"""FactorVAE and BetaVAE: metrics of disentanglement that watch codes while one factor stays as it is.

As published, both generate samples with one factor fixed. Here they find samples that share it in a table: nothing
is generated, so a study of generated images will do. In a small table their scores vary by a few hundredths from
seed to seed. `ditlens.metrics.disentanglement` has the other metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ditlens.errors import SettingError
from ditlens.metrics.factors import FactorTable, numbered, read_table, table_arguments, without_sklearn

try:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
except ModuleNotFoundError as error:
    raise without_sklearn(error) from error

BATCH = 64
"""Samples that share a factor, in one vote of FactorVAE, and pairs in one of BetaVAE."""

VOTES = 2000, 1000
"""Votes that both learn from, and that they are judged by."""


@table_arguments
def factor_vae(codes: Any, factors: Any, discrete: Sequence[bool] | None = None, seed: int = 0) -> float:
    """The metric of FactorVAE: does one code stand still while one factor does?

    A vote: 64 samples that share y_k; the code with the least variance among them, over its variance among all
    samples. Each code is given the factor that it is voted for most; the score is the accuracy of that rule on the
    votes of held-out samples. Kim and Mnih 2018 (arXiv:1802.05983). Nothing is generated: samples that share a
    factor are drawn, with replacement, from the table, so every level needs several samples with varied others.
    Constant codes have no vote; published code drops those with a standard deviation below 0.05 too.

    Args:
        codes: (samples, codes).
        factors: (samples, factors); a continuous one is shared within a tenth of the samples.
        discrete: For each factor, whether it is discrete: see `ditlens.metrics.factors.read_table`.
        seed: Seed of the split and the votes.

    Returns:
        1 for an ideal code, 1 / K where codes know nothing.
    """
    table = read_table(codes, factors, discrete)
    counts = []
    for z, turns in _rounds(table, seed):
        counts.append(np.zeros((z.shape[1], len(table.discrete))))
        for k, sharing in turns:
            counts[-1][z[sharing.batch(BATCH)].var(axis=0).argmin(), k] += 1
    learned, judged = counts
    return float(judged[np.arange(len(judged)), learned.argmax(axis=1)].sum() / judged.sum())


@table_arguments
def beta_vae(codes: Any, factors: Any, discrete: Sequence[bool] | None = None, seed: int = 0) -> float:
    """The metric of BetaVAE: do differences of codes tell which factor two samples share?

    Logistic regression of k on mean ``|z - z'|`` over 64 pairs that share y_k, codes standardised; accuracy on
    pairs of held-out samples. Higgins et al. 2017 (openreview Sy2fzU9gl). Pairs are drawn from the table, as in
    `factor_vae`. It cannot see one missing factor: that all codes move tells the classifier which one is shared.

    Args:
        codes: (samples, codes).
        factors: (samples, factors); a continuous one is shared within a tenth of the samples.
        discrete: For each factor, whether it is discrete: see `ditlens.metrics.factors.read_table`.
        seed: Seed of the split and the pairs.

    Returns:
        1 for an ideal code, 1 / K where codes know nothing.
    """
    table = read_table(codes, factors, discrete)
    sets = []
    for z, turns in _rounds(table, seed):
        pairs = [(z[first], z[second]) for _, sharing in turns for first, second in [sharing.pairs(BATCH)]]
        moved = np.array([np.abs(one - other).mean(axis=0) for one, other in pairs])
        sets.append((moved, np.array([k for k, _ in turns])))
    learned, judged = sets
    return float(LogisticRegression(max_iter=1000).fit(*learned).score(*judged))


def _rounds(table: FactorTable, seed: int) -> Iterator[tuple[np.ndarray, list[tuple[int, Sharing]]]]:
    """For two thirds of the samples, then for the others: their codes, and what is shared at each vote."""
    rng = np.random.default_rng(seed)
    halves = train_test_split(np.arange(len(table)), test_size=1 / 3, random_state=seed)
    z, groups = table.standardized[:, table.alive], [table.groups(k) for k in range(len(table.discrete))]
    for rows, count in zip(halves, VOTES, strict=True):
        sharing = [Sharing(group[rows], rng) for group in groups]
        yield z[rows], [(int(k), sharing[k]) for k in rng.integers(len(groups), size=count)]


class Sharing:
    """Draws samples that share a factor, with replacement.

    Args:
        groups: The group of each sample; one that is alone in its group is never drawn.
        rng: Where chance comes from.

    Raises:
        SettingError: If every sample is alone.

    Example:
        >>> sharing = Sharing(np.array([0, 1, 0, 1, 2]), np.random.default_rng(0))
        >>> first, second = sharing.pairs(100)
        >>> bool(((first - second) % 2 == 0).all()), int(first.max())
        (True, 3)
        >>> set(sharing.batch(100).tolist()) in ({0, 2}, {1, 3})
        True
    """

    def __init__(self, groups: np.ndarray, rng: np.random.Generator) -> None:
        self._group, self._rng = numbered(groups), rng
        self._size = np.bincount(self._group)
        self._sorted = np.argsort(self._group, kind="stable")
        self._start = np.cumsum(self._size) - self._size
        self._several = np.flatnonzero(self._size[self._group] > 1)
        if not len(self._several):
            raise SettingError(
                f"No two of {len(groups)} samples share a factor. Give more samples of each of its levels."
            )

    def pairs(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Random samples, and for each a random one of its group."""
        first = self._rng.choice(self._several, count)
        return first, self._mates(first)

    def batch(self, count: int) -> np.ndarray:
        """Random samples of one group."""
        return self._mates(np.repeat(self._rng.choice(self._several), count))

    def _mates(self, rows: np.ndarray) -> np.ndarray:
        group = self._group[rows]
        return self._sorted[
            self._start[group] + (self._rng.random(len(rows)) * self._size[group]).astype(int)
        ]
