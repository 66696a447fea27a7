"""The arithmetic of comparisons: win rates, Bradley-Terry strengths, Krippendorff's alpha."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


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


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap samples; NaN where there are none."""
    known = samples[np.isfinite(samples)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def krippendorff_alpha(units: Sequence[Sequence[float]], level: str = "interval") -> float | None:
    """Krippendorff's alpha: 1 is full agreement, 0 is what chance gives.

    Args:
        units: For each thing that was judged, the values that its judges gave; missing ones are left out.
        level: "interval": values differ by the square of their distance; "nominal": equal or not.

    Returns:
        None where nothing was judged twice, or all values of all units are the same.
    """
    pairable = [np.asarray(unit, dtype=float) for unit in units if len(unit) > 1]
    if not pairable:
        return None
    values = np.concatenate(pairable)
    within = sum(_differences(unit, level) / (len(unit) - 1) for unit in pairable) / len(values)
    between = _differences(values, level) / (len(values) * (len(values) - 1))
    return None if between == 0 else float(1 - within / between)


def _differences(values: np.ndarray, level: str) -> float:
    """The sum of the differences of all ordered pairs."""
    kinds, counts = np.unique(values, return_counts=True)
    apart = kinds[:, None] - kinds[None, :]
    differences = apart**2 if level == "interval" else (apart != 0).astype(float)
    return float(counts @ differences @ counts)
