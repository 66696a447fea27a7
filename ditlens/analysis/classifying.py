"""Telling two attributes from one vector: how surely, and how far each moves it.

Rows come in fours, one four for each carrier sentence, in the order of `ditlens.analysis.channels.CELLS`.
"""

from __future__ import annotations

import numpy as np
from einops import rearrange

from ditlens.errors import MissingDependencyError
from ditlens.metrics.statistics import REPEATS, Estimate, clustered, resampled_estimate, resampled_sums

FOLDS, SHUFFLES = 6, 20
"""Parts of the carriers that are held out in turn, and how often labels are shuffled."""
SHRINK = 0.1
"""Ridge of the classifier, as a share of the number of features."""


def classify(
    features: np.ndarray, leak: np.ndarray, own: np.ndarray, seed: int = 0
) -> tuple[Estimate, Estimate, Estimate]:
    """Accuracy of a linear classifier on carriers that it has not seen: of A, of B, and of A shuffled.

    The classifier is ridge regression on standardised features; where it cannot decide, that is half right. Four
    rows in a row are one carrier. Shuffling moves labels within a carrier, so that they stay balanced.

    Args:
        features: (4 * carriers, features).
        leak: Level of A in each row, 0 or 1.
        own: Level of B.
        seed: Decides the shuffles.

    Raises:
        MissingDependencyError: If scikit-learn is not installed.

    Example:
        >>> levels = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat(8, 1).numpy()
        >>> a, b, shuffled = classify(levels[:, 1:] * 1.0, levels[:, 0], levels[:, 1])
        >>> a["value"], b["value"]
        (0.5, 1.0)
    """
    try:
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import GroupKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"Classifying needs scikit-learn: {error}. Type: pip install 'ditlens[analysis]'."
        ) from error
    carriers = np.arange(len(features)) // 4
    rng = np.random.default_rng(seed)
    mixed = [rng.permuted(leak.reshape(-1, 4), axis=1).ravel() for _ in range(SHUFFLES)]
    labels = np.stack([leak, own, *mixed], 1) * 2.0 - 1
    right = np.zeros(labels.shape)  # 1, 0, or 1/2 where the classifier cannot decide
    model = make_pipeline(StandardScaler(), Ridge(alpha=SHRINK * features.shape[1]))
    for train, test in GroupKFold(min(FOLDS, len(features) // 4)).split(features, groups=carriers):
        told = model.fit(features[train], labels[train]).predict(features[test])
        right[test] = (1 + np.sign(np.round(told * labels[test], 9))) / 2
    leaked, kept = (_accuracy(right[:, k], carriers) for k in (0, 1))
    chance = right[:, 2:].mean(0)
    low, high = np.quantile(chance, [0.025, 0.975])
    return leaked, kept, {
        "value": float(chance.mean()), "low": float(low), "high": float(high), "n": SHUFFLES, "nan": 0,
    }  # fmt: skip


def _accuracy(right: np.ndarray, carriers: np.ndarray) -> Estimate:
    share, low, high, count = clustered([right[carriers == k].tolist() for k in np.unique(carriers)])
    return {"value": share, "low": low, "high": high, "n": count, "nan": 0}


def size_of(features: np.ndarray, side: int = 0) -> Estimate:
    """How far A moves a vector, as a share of how far B moves it: |f(A) - f(not A)| / |f(B) - f(not B)|.

    Both differences are of the same carrier and seed, means over the levels of the other attribute; the norms are
    root mean squares over carriers.

    Args:
        features: (4 * carriers, features), in the order of `CELLS`.
        side: Which of the two numbers of a cell is the level of A.

    Example:
        >>> levels = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat(8, 1).numpy()
        >>> size_of(levels * [1.0, 10.0])["value"], size_of(levels * [1.0, 10.0], side=1)["value"]
        (0.1, 10.0)
    """
    axes = "(carriers first second) width -> carriers first second width"
    f = rearrange(features.astype(float), axes, first=2, second=2)
    moves = [f[:, 1].mean(1) - f[:, 0].mean(1), f[:, :, 1].mean(1) - f[:, :, 0].mean(1)]
    squares = np.stack([np.square(moves[side]).sum(1), np.square(moves[1 - side]).sum(1)], 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # B may move nothing
        value = np.sqrt(np.divide(*squares.sum(0)))
        samples = np.sqrt(np.divide(*resampled_sums(squares, REPEATS).T))
    return resampled_estimate(value, samples, len(squares))
