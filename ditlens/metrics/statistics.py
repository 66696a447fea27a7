"""The statistics of ditlens: 95 % intervals, rank correlation, and how people's comparisons are counted.

Intervals come from resampling (`scipy.stats.bootstrap`): the middle 95 % of a statistic over resamples of what is
independent. Their ends are values that occurred: nothing is interpolated, because the PSNR of equal images is
infinite.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

REPEATS = 2000
"""Resamples of a bootstrap."""

FEW = 5
"""So many independent items, and an interval holds the truth about as often as it can of a small sample."""

Values = Sequence[float] | np.ndarray
Estimate = dict[str, float | int]
"""``{"value", "low", "high", "n", "nan"}``: a number, its interval, how many values it has, and how many NaN."""


# --- intervals ---------------------------------------------------------------------------------------------


def middle(samples: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values, NaN left out; NaN where there are none.

    Example:
        >>> middle(np.arange(1001.0))
        (25.0, 975.0)
    """
    known = samples[~np.isnan(samples)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def seen_mean(values: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Mean of the numbers that are not NaN, such as what can be seen in some images only; NaN where all are.

    Example:
        >>> seen_mean([1.0, math.nan, 2.0]), seen_mean([[1.0, 3.0], [math.nan] * 2], -1).tolist()
        (1.5, [2.0, nan])
    """
    data = np.asarray(list(values), float)
    known = ~np.isnan(data)
    with np.errstate(invalid="ignore"):
        found = np.where(known, data, 0).sum(axis) / known.sum(axis)
    return found if found.ndim else float(found)


def resampled(
    data: Sequence[np.ndarray], statistic: Callable[..., Any], seed: int = 0, repeats: int = REPEATS,
    vectorized: bool = True,
) -> np.ndarray:  # fmt: skip
    """A statistic over resamples, (repeats,); NaN of one item, of which there is nothing to draw.

    Args:
        data: Arrays of one length, (n,), that are resampled together.
        statistic: Takes the resampled arrays; if vectorized, also an axis to reduce.
        seed: Seed of the resampling.
        repeats: Number of resamples.
        vectorized: Whether the statistic takes all resamples at once.
    """
    if len(data[0]) < 2:
        return np.full(repeats, math.nan)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter(
            "ignore", stats.DegenerateDataWarning
        )  # about its own interval, which interpolates
        return stats.bootstrap(
            data, statistic, n_resamples=repeats, vectorized=vectorized, paired=True, method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution  # fmt: skip


def bootstrap(values: Values, statistic: Callable[..., Any] = np.mean, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a statistic over independent measurements; NaN for one, which has no interval.

    Args:
        values: The measurements, at least one.
        statistic: Reduces an axis, e.g. ``np.mean`` or ``np.median``.
        seed: Seed of the resampling.
    """
    return middle(resampled([np.asarray(values, float)], statistic, seed))


def interval(values: Values) -> tuple[float, float]:
    """The ends of the mean's `estimate`: NaN is left out, and both are NaN where less than two values are left."""
    found = estimate(values)
    return found["low"], found["high"]


def estimate(values: Values, statistic: Callable[..., Any] = np.mean, seed: int = 0) -> Estimate:
    """A statistic of independent items, with its interval.

    Args:
        values: One per item; NaN is left out and counted. Infinity counts as such.
        statistic: Reduces an axis, e.g. ``np.mean`` or ``np.median``.
        seed: Seed of the resampling.

    Returns:
        See `Estimate`; NaN where no value is left, and in place of an interval where one is left.

    Example:
        >>> estimate([1.0, float("nan"), 1.0])
        {'value': 1.0, 'low': 1.0, 'high': 1.0, 'n': 2, 'nan': 1}
    """
    data = np.asarray(values, float)
    known = data[~np.isnan(data)]
    counts = {"n": len(known), "nan": len(data) - len(known)}
    if not len(known):
        return {"value": math.nan, "low": math.nan, "high": math.nan, **counts}
    low, high = bootstrap(known, statistic, seed)
    return {"value": float(statistic(known, axis=0)), "low": low, "high": high, **counts}


def resampled_estimate(value: Any, samples: np.ndarray, count: int) -> Estimate:
    """A number with the middle 95 % of its values over resamples of `count` items."""
    low, high = middle(samples)
    return {"value": float(value), "low": low, "high": high, "n": count, "nan": 0}


def too_few(count: int, noun: str) -> list[str]:
    """What to say of intervals over so few items: nothing from 5 on, and of one, which has none.

    Resampling n values of a normal distribution gives an interval that holds the mean in 51 % of cases for n = 2,
    74 % for 3, 80 % for 4, 82 % for 5 and 92 % for 24; of n equal values it gives one of no width.

    Example:
        >>> too_few(4, "carrier"), too_few(5, "carrier")
        (['4 carriers: intervals of so few are too narrow, and hold the truth in 80 % of cases at best.'], [])
    """
    if not 1 < count < FEW:
        return []
    return [
        f"{count} {noun}s: intervals of so few are too narrow, and hold the truth in 80 % of cases at best."
    ]


def said(found: Estimate, digits: int = 2) -> str:
    """A number with its interval.

    Example:
        >>> said({"value": 0.5, "low": 0.25, "high": 0.75})
        '0.50 (0.25 to 0.75)'
    """
    return f"{found['value']:.{digits}f} ({span(found['low'], found['high'], f'.{digits}f')})"


def span(low: float, high: float, form: str = ".2f") -> str:
    """An interval in words; a dash where there is none.

    Example:
        >>> span(0.25, 0.75), span(math.nan, math.nan)
        ('0.25 to 0.75', '–')
    """
    return "–" if math.isnan(low) else f"{low:{form}} to {high:{form}}"


def paired(
    tables: Sequence[np.ndarray], compute: Callable[..., float], seed: int = 0, repeats: int = REPEATS
) -> Estimate:
    """A number computed from several methods' tables of the same items, with its interval.

    Whole items are resampled, the same ones for every method.

    Args:
        tables: One per method, first axis the items.
        compute: Takes the (resampled) tables, gives a number; NaN is left out of the interval.
        seed: Seed of the resampling.
        repeats: Resamples.

    Returns:
        See `Estimate`; n counts the items, nan is 0, and "undefined" is the share of the resamples without a value.
            One item has no interval.
    """

    def of_items(index: np.ndarray) -> float:
        return compute(*(table[index] for table in tables))

    items = np.arange(len(tables[0]))
    samples = resampled([items], of_items, seed, repeats, vectorized=False)
    found = resampled_estimate(of_items(items), samples, len(items))
    undefined = float(np.isnan(samples).mean()) if len(items) > 1 else 0.0
    return {**found, "undefined": undefined}


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of independent trials, also where the share is 0 or 1.

    Args:
        hits: Trials that succeeded.
        count: All trials.

    Returns:
        Lower and upper end; (0, 1) without trials.
    """
    if count == 0:
        return 0.0, 1.0
    low, high = stats.binomtest(hits, count).proportion_ci(method="wilson")
    return float(low), float(high)


def clustered(groups: Sequence[Sequence[bool]], seed: int = 0) -> tuple[float, float, float, int]:
    """A share of trials that come in groups, such as the attributes of one image.

    Whole groups are resampled, since trials of a group are not independent. Where all trials agree, resampling says
    nothing; then Wilson's interval for as many trials as there are groups is taken. One group whose trials differ
    has no interval: its ends are NaN.

    Args:
        groups: Trials of each group; empty groups do not count.
        seed: Seed of the resampling.

    Returns:
        Share, lower end, upper end, number of trials.

    Raises:
        ValueError: If there is no trial.
    """
    hits, sizes = np.array([(sum(group), len(group)) for group in groups if group], float).reshape(-1, 2).T
    if not len(sizes):
        raise ValueError("there is no trial")
    share = hits.sum() / sizes.sum()
    if share in (0.0, 1.0):
        low, high = wilson(int(share) * len(sizes), len(sizes))
    else:
        low, high = middle(resampled([hits, sizes], lambda h, s, axis: h.sum(axis) / s.sum(axis), seed))
    return float(share), low, high, int(sizes.sum())


# --- two measurements --------------------------------------------------------------------------------------


def is_constant(values: Values) -> bool:
    """Whether values are the same but for rounding."""
    data = np.asarray(values, float)
    return bool(np.ptp(data) <= 1e-9 * np.abs(data).max())


def spearman(first: Values, second: Values) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where either side does not vary.

    Example:
        >>> spearman([0, 0.5, 1], [0.1, 0.2, 0.9])
        1.0
    """
    if is_constant(first) or is_constant(second):
        return 0.0
    return round(float(stats.spearmanr(first, second).statistic), 12)  # 1, not 0.9999999999999999


# --- comparisons -------------------------------------------------------------------------------------------


def win_rates(wins: np.ndarray) -> np.ndarray:
    """Share of its comparisons that each method won; NaN without comparisons.

    Args:
        wins: (..., methods, methods): how often the row's method won against the column's; a tie is half a win of
            each.
    """
    won, lost = wins.sum(-1), wins.sum(-2)
    total = won + lost
    return np.where(total > 0, won / np.where(total > 0, total, 1), np.nan)


def bradley_terry(
    wins: np.ndarray, prior: float = 0.1, steps: int = 2000, tolerance: float = 1e-10
) -> np.ndarray:
    """Strengths p so that i beats j with probability p_i / (p_i + p_j); their geometric mean is 1.

    The iteration of Hunter (2004): p_i <- W_i / sum_j n_ij / (p_i + p_j). It climbs the likelihood at every step.

    Args:
        wins: (..., methods, methods), as for `win_rates`.
        prior: Wins of every method against every other one that are added, so that strengths stay finite where a
            method won everything, and comparable where two methods never met.
        steps: Most steps of the iteration.
        tolerance: It ends when no log strength moves more than this.
    """
    methods = wins.shape[-1]
    wins = wins + prior * (1 - np.eye(methods))
    games, won = wins + np.swapaxes(wins, -1, -2), wins.sum(-1)
    strength = np.ones(wins.shape[:-1])
    for _ in range(steps):
        new = won / (games / (strength[..., :, None] + strength[..., None, :])).sum(-1)
        new /= np.exp(np.log(new).mean(-1, keepdims=True))
        moved = np.abs(np.log(new / strength)).max(initial=0)
        strength = new
        if moved < tolerance:
            break
    return strength


def resampled_sums(blocks: np.ndarray, repeats: int, seed: int = 0) -> np.ndarray:
    """Sums over resampled blocks, (repeats, ...), from (blocks, ...); NaN of one block, as in `resampled`.

    One matrix product makes all resamples; `scipy.stats.bootstrap` would keep every block of each in memory.
    """
    count = len(blocks)
    if count < 2:
        return np.full((repeats, *blocks.shape[1:]), math.nan)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=repeats)
    return np.tensordot(draws.astype(float), blocks, axes=1)


def krippendorff_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Krippendorff's alpha for values on an interval scale: 1 is full agreement, 0 is what chance gives.

    Args:
        units: For each thing that was judged, the values that its judges gave; missing ones are left out.

    Returns:
        None where nothing was judged twice, or all values of all units are the same.

    Example:
        >>> krippendorff_alpha([[1, 1], [0, 0], [-1, -1]])
        1.0
    """
    pairable = [np.asarray(unit, float) for unit in units if len(unit) > 1]
    if not pairable or is_constant(values := np.concatenate(pairable)):
        return None
    within = sum(_square_differences(unit) / (len(unit) - 1) for unit in pairable) / len(values)
    between = _square_differences(values) / (len(values) * (len(values) - 1))
    return float(1 - within / between)


def _square_differences(values: np.ndarray) -> float:
    """The sum of the squared differences of all ordered pairs."""
    return float(2 * len(values) ** 2 * values.var())
