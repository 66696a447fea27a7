"""Means with 95 % intervals, NaN counted, and ratios of two methods on the same items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

REPEATS = 2000
"""Resamples of a bootstrap."""


def estimate(
    values: Sequence[float], statistic: Callable[..., Any] = np.mean, seed: int = 0
) -> dict[str, float | int]:
    """A statistic with its percentile-bootstrap interval over independent items.

    Args:
        values: One per item; NaN is left out and counted. Infinity (the PSNR of equal pictures) counts as such.
        statistic: Reduces an axis, e.g. ``np.mean`` or ``np.median``.
        seed: Seed of the resampling.

    Returns:
        ``{"value", "low", "high", "n", "nan"}``; NaN where no value is left.
    """
    data = np.asarray(values, float)
    known = data[~np.isnan(data)]
    counts = {"n": len(known), "nan": len(data) - len(known)}
    if not len(known):
        return {"value": float("nan"), "low": float("nan"), "high": float("nan"), **counts}
    index = np.random.default_rng(seed).integers(len(known), size=(REPEATS, len(known)))
    low, high = np.quantile(statistic(known[index], axis=1), [0.025, 0.975], method="inverted_cdf")
    return {"value": float(statistic(known, axis=0)), "low": float(low), "high": float(high), **counts}


def paired(
    tables: Sequence[np.ndarray], compute: Callable[..., float], seed: int = 0, repeats: int = REPEATS
) -> dict[str, float | int]:
    """A number computed from several methods' tables of the same items, with its bootstrap interval.

    Whole items are resampled, the same ones for every method.

    Args:
        tables: One per method, first axis the items.
        compute: Takes the (resampled) tables, gives a number; NaN is left out of the interval and counted.
        seed: Seed of the resampling.
        repeats: Resamples.

    Returns:
        ``{"value", "low", "high", "n", "nan"}``; n counts the items, nan the resamples without a value.
    """
    count = len(tables[0])
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        index = rng.integers(count, size=count)
        found.append(compute(*(table[index] for table in tables)))
    known = np.asarray(found, float)
    known = known[~np.isnan(known)]
    low, high = (
        np.quantile(known, [0.025, 0.975], method="inverted_cdf") if len(known) else [float("nan")] * 2
    )
    return {"value": float(compute(*tables)), "low": float(low), "high": float(high), "n": count,
            "nan": repeats - len(known)}  # fmt: skip
