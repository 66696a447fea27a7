"""The statistics of the benchmarks: shares, means and medians with 95 % intervals, and rank correlation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Z = 1.959964
"""Half width of the central 95 % of a standard normal."""
REPEATS = 2000
"""Resamples of a bootstrap."""


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of independent trials; sensible for shares of 0 and 1, too.

    Args:
        hits: Trials that succeeded.
        count: All trials.

    Returns:
        Lower and upper end; (0, 1) without trials.
    """
    if count == 0:
        return 0.0, 1.0
    share, square = hits / count, Z * Z / count
    center = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * (share * (1 - share) / count + square / (4 * count)) ** 0.5
    return max(0.0, center - half), min(1.0, center + half)


def bootstrap(
    values: Sequence[float], statistic: Callable[..., np.ndarray] = np.mean, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap: the 95 % interval of a statistic over resamples of the values.

    Args:
        values: Independent measurements.
        statistic: Reduces an axis, e.g. ``np.mean`` or ``np.median``.
        seed: Seed of the resampling.
    """
    data = np.asarray(values, dtype=float)
    index = np.random.default_rng(seed).integers(len(data), size=(REPEATS, len(data)))
    low, high = np.quantile(statistic(data[index], axis=1), [0.025, 0.975])
    return float(low), float(high)


def clustered(groups: Sequence[Sequence[bool]], seed: int = 0) -> tuple[float, float, float, int]:
    """A share of trials that come in groups, as several attributes of one picture do.

    Whole groups are resampled, since trials of a group share their luck. Where all trials agree, resampling
    says nothing; then Wilson's interval for as many trials as there are groups is taken.

    Args:
        groups: Trials of each group; empty groups do not count.
        seed: Seed of the resampling.

    Returns:
        Share, lower end, upper end, number of trials.

    Raises:
        ValueError: If there is no trial.
    """
    hits = np.array([sum(group) for group in groups if group], dtype=float)
    sizes = np.array([len(group) for group in groups if group], dtype=float)
    if not len(sizes):
        raise ValueError("there is no trial")
    share, count = hits.sum() / sizes.sum(), int(sizes.sum())
    if share in (0.0, 1.0):
        low, high = wilson(int(share) * len(sizes), len(sizes))
    else:
        index = np.random.default_rng(seed).integers(len(sizes), size=(REPEATS, len(sizes)))
        shares = hits[index].sum(1) / sizes[index].sum(1)
        low, high = np.quantile(shares, [0.025, 0.975])
    return float(share), float(low), float(high), count


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1 upwards; equal values share the mean of their ranks."""
    data = np.asarray(values, dtype=float)
    below = (data[:, None] > data).sum(1)
    equal = (data[:, None] == data).sum(1)
    return below + (equal + 1) / 2


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, ties averaged; 0 if either side does not vary.

    Args:
        first: Measurements.
        second: As many others.
    """
    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    size = float((a @ a) * (b @ b)) ** 0.5
    return float(a @ b) / size if size else 0.0
