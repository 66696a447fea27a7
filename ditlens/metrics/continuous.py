"""Metrics of an edit at several strengths: is the slider linear, monotone, and does it cover a range?

Strengths s_0 < ... < s_N, scores a_i of the attribute (signed towards the target), images y_i, a distance d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import stats

from ditlens.errors import SettingError
from ditlens.metrics import statistics

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
    return statistics.spearman(*_columns(strengths, scores))


def linearity(strengths: Sequence[float], scores: Sequence[float]) -> float:
    """R^2 of the straight line that fits the scores best; 0 where the score never changes."""
    s, a = _columns(strengths, scores)
    return 0.0 if statistics.is_constant(a) else float(stats.linregress(s, a).rvalue ** 2)


def slope(strengths: Sequence[float], scores: Sequence[float]) -> float:
    """Slope of the best straight line: 1 where the score is the share of the way and the slider is calibrated.

    Example:
        >>> slope([0, 0.5, 1], [0, 0.25, 0.5])
        0.5
    """
    return float(stats.linregress(*_columns(strengths, scores)).slope)


def span(scores: Sequence[float]) -> float:
    """a_N - a_0. Report it beside smoothness: a slider that does nothing is perfectly smooth."""
    return float(scores[-1] - scores[0])


def pixel_rms(first: torch.Tensor, second: torch.Tensor) -> float:
    """Root mean square difference: the distance where no perceptual metric is available."""
    return float((first.float() - second.float()).square().mean().sqrt())


def triangle_deficit(images: Sequence[torch.Tensor], distance: Distance = pixel_rms) -> float:
    """max_i (d(i, i+1) + d(i+1, i+2) - d(i, i+2)) / d(i, i+2): 0 where the path is straight (Kontinuous Kontext).

    Published with DreamSim as the distance. NaN where two images two strengths apart are equal.
    """
    if len(images) < 3:
        raise SettingError(f"A triangle needs three images; got {len(images)}.")
    found = []
    for a, b, c in zip(images, images[1:], images[2:], strict=False):
        base = distance(a, c)
        found.append((distance(a, b) + distance(b, c) - base) / base if base > 0 else float("nan"))
    return float(np.max(found))


def straightness(images: Sequence[torch.Tensor], distance: Distance = pixel_rms) -> float:
    """sum_i d(i, i+1) / d(0, N), at least 1 for a metric; NaN where the ends are equal."""
    base = distance(images[0], images[-1])
    steps = sum(distance(a, b) for a, b in zip(images, images[1:], strict=False))
    return steps / base if base > 0 else float("nan")


def at_effect(effects: Sequence[float], costs: Sequence[float], goal: float) -> float:
    """The cost where the effect first reaches a goal, interpolated linearly between the strengths.

    Comparing methods at the same effect removes what the strength alone explains. The curve begins at (0, 0): no
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
