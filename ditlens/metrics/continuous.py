"""Metrics of an edit that was made at several strengths: is the slider even, monotone, worth its range?

Strengths s_0 < ... < s_N, scores a_i of the attribute (signed towards the target), pictures y_i, a distance d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ditlens.errors import SettingError

Distance = Callable[[torch.Tensor, torch.Tensor], float]


def _columns(strengths: Sequence[float], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    s, a = np.asarray(strengths, float), np.asarray(scores, float)
    if s.ndim != 1 or s.shape != a.shape or len(s) < 2 or bool((np.diff(s) <= 0).any()):
        raise SettingError(
            f"Need one score for each of at least two rising strengths; got {len(s)} strengths and {len(a)} scores."
        )
    return s, a


def spearman(strengths: Sequence[float], scores: Sequence[float]) -> float:
    """Rank correlation of strength and score, ties at their mean rank; 0 where the score never changes."""
    s, a = _columns(strengths, scores)

    if np.ptp(a) <= 1e-9 * np.abs(a).max():  # only rounding differs
        return 0.0

    def ranks(values: np.ndarray) -> np.ndarray:
        less = (values[:, None] > values[None]).sum(1)
        same = (values[:, None] == values[None]).sum(1)
        return less + (same - 1) / 2

    x, y = ranks(s) - (len(s) - 1) / 2, ranks(a) - (len(a) - 1) / 2
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def linearity(strengths: Sequence[float], scores: Sequence[float]) -> float:
    """R^2 of the straight line that fits the scores best; 0 where the score never changes."""
    s, a = _columns(strengths, scores)
    if np.ptp(a) <= 1e-9 * np.abs(a).max():  # only rounding differs
        return 0.0
    rest = a - np.polyval(np.polyfit(s, a, 1), s)
    return float(1 - np.square(rest).sum() / np.square(a - a.mean()).sum())


def slope(strengths: Sequence[float], scores: Sequence[float]) -> float:
    """Slope of the best straight line: 1 where the score is the share of the way and the slider is calibrated."""
    return float(np.polyfit(*_columns(strengths, scores), 1)[0])


def largest_deviation(strengths: Sequence[float], scores: Sequence[float]) -> float:
    """Max |a' - s'|, both stretched from 0 to 1: how far the slider is from even. NaN without a range."""
    s, a = _columns(strengths, scores)
    if a[-1] == a[0]:
        return float("nan")
    return float(np.abs((a - a[0]) / (a[-1] - a[0]) - (s - s[0]) / (s[-1] - s[0])).max())


def rising(scores: Sequence[float]) -> float:
    """Share of steps with a_{i+1} >= a_i."""
    return float((np.diff(np.asarray(scores, float)) >= 0).mean())


def violation(scores: Sequence[float]) -> float:
    """Sum max(0, a_i - a_{i+1}) / |a_N - a_0|: what the slider takes back. NaN without a range."""
    a = np.asarray(scores, float)
    span = abs(a[-1] - a[0])
    return float(np.maximum(0, -np.diff(a)).sum() / span) if span > 0 else float("nan")


def span(scores: Sequence[float]) -> float:
    """a_N - a_0. Always to be reported with smoothness: a slider that does nothing is perfectly smooth."""
    return float(scores[-1] - scores[0])


def unevenness(scores: Sequence[float]) -> float:
    """Chi-square per degree of freedom of the scores, stretched to [0, 1], with one bin per strength (SliderEdit).

    0 if every bin has one; NaN without a range.
    """
    a = np.asarray(scores, float)
    if a.max() == a.min():
        return float("nan")
    counts, _ = np.histogram((a - a.min()) / (a.max() - a.min()), bins=len(a), range=(0, 1))
    return float(np.square(counts - 1).sum() / (len(a) - 1))


def pixel_rms(first: torch.Tensor, second: torch.Tensor) -> float:
    """Root mean square difference: the distance where no perceptual one is at hand."""
    return float((first.float() - second.float()).square().mean().sqrt())


def triangle_deficit(pictures: Sequence[torch.Tensor], distance: Distance = pixel_rms) -> float:
    """max_i (d(i, i+1) + d(i+1, i+2) - d(i, i+2)) / d(i, i+2): 0 where the path is straight (Kontinuous Kontext).

    Published with DreamSim as the distance. NaN where two pictures at distance two are equal.
    """
    if len(pictures) < 3:
        raise SettingError(f"A triangle needs three pictures; got {len(pictures)}.")
    found = []
    for a, b, c in zip(pictures, pictures[1:], pictures[2:], strict=False):
        base = distance(a, c)
        found.append((distance(a, b) + distance(b, c) - base) / base if base > 0 else float("nan"))
    return float(np.max(found))


def straightness(pictures: Sequence[torch.Tensor], distance: Distance = pixel_rms) -> float:
    """sum_i d(i, i+1) / d(0, N), at least 1 for a metric; NaN where the ends are equal."""
    base = distance(pictures[0], pictures[-1])
    steps = sum(distance(a, b) for a, b in zip(pictures, pictures[1:], strict=False))
    return steps / base if base > 0 else float("nan")


def at_effect(effects: Sequence[float], costs: Sequence[float], goal: float) -> float:
    """The cost where the effect first reaches a goal, straight between the strengths.

    Comparing methods at the same effect takes away what the strength alone explains. The curve begins at (0, 0): no
    edit, no cost. NaN where the goal is never reached.

    Args:
        effects: Effect at each strength, in rising strength.
        costs: Cost at each strength, e.g. the drift of other attributes.
        goal: The effect, e.g. 0.8.
    """
    e, c = [0.0, *effects], [0.0, *costs]
    for i in range(1, len(e)):
        if e[i] >= goal:
            return float(c[i - 1] + (goal - e[i - 1]) / (e[i] - e[i - 1]) * (c[i] - c[i - 1]))
    return float("nan")


def diagonal_dominance(matrix: np.ndarray) -> tuple[float, float]:
    """Sum |M_ii| / sum |M_ij| and the largest |M_ij| off the diagonal, of an entanglement matrix.

    M_ij is the change of attribute j for one unit of slider i, in units of j's natural spread.
    """
    m = np.abs(np.asarray(matrix, float))
    if m.ndim != 2 or m.shape[0] != m.shape[1] or m.sum() == 0:
        raise SettingError(f"An entanglement matrix is square and not all 0; got the shape {m.shape}.")
    off = m - np.diag(np.diag(m))
    return float(np.trace(m) / m.sum()), float(off.max())
