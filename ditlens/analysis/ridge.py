"""Linear probes of many cells at once: ridge regression from Gram matrices, and splits that share nothing.

Every cell, such as one patch at one block and step, holds the same images in a width of its own. The Gram matrices
of disjoint groups of images are computed once; those of every training set are their sums. So a map of two thousand
cells costs some seconds, and the penalty is chosen by an inner split in each of the five outer ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties that are tried, in units of the features' variance times the number of images."""
MEMORY = 2e8
"""Bytes that the Gram matrices may take at a time."""


class Split(NamedTuple):
    """One fold: which images do what, each a mask (images,).

    Attributes:
        fit: Train while the penalty is chosen.
        choose: Choose the penalty.
        train: Train with the chosen penalty: those that share nothing with the tested ones.
        test: Are predicted.
    """

    fit: np.ndarray
    choose: np.ndarray
    train: np.ndarray
    test: np.ndarray


def splits(
    labels: Sequence[Sequence[Hashable]], seeds: Sequence[int], folds: int, rng: np.random.Generator
) -> list[Split]:
    """Folds in which no tested image shares a label or a seed with a training image.

    Where every seed belongs to one group of prompts, whole groups are held out and every image is tested once.
    Where prompts and seeds are crossed, each fold tests some prompts with some seeds, and trains on other prompts
    with other seeds; the rest of the images is left out. A seed that all images share cannot be held out.

    >>> made = splits([["a", "a", "b", "b"]], [0, 1, 2, 3], 2, np.random.default_rng(0))
    >>> [split.test.tolist() for split in made]
    [[True, True, False, False], [False, False, True, True]]

    Args:
        labels: Labels that may not be shared, with one value for every image: its prompt, its carrier sentence.
        seeds: The seed of every image.
        folds: How many.
        rng: Deals the groups.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    texts = _connected(labels)
    whole = _connected([*labels, seeds])
    if len(np.unique(whole)) >= folds:
        dealt, sown = _deal(whole, folds, rng), None
    else:
        dealt = _deal(texts, folds, rng)
        shares = min(folds, len(set(seeds)))
        sown = None if shares == 1 else _deal(np.unique(seeds, return_inverse=True)[1], shares, rng)
    made = []
    for fold in range(folds):
        test, train = dealt == fold, dealt != fold
        if sown is not None:
            test, train = test & (sown == fold % shares), train & (sown != fold % shares)
        chosen = dealt == (fold + 1) % folds
        made.append(Split(train & ~chosen, train & chosen, train, test))
    return made


def _connected(labels: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """The group of every image, (images,): images that share a label, directly or by way of others, are one."""
    images = len(labels[0])
    rows: list[int] = []
    columns: list[int] = []
    count = images
    for values in labels:
        numbers = {value: count + k for k, value in enumerate(dict.fromkeys(values))}
        rows += range(images)
        columns += [numbers[value] for value in values]
        count += len(numbers)
    links = coo_matrix((np.ones(len(rows)), (rows, columns)), (count, count))
    return connected_components(links, directed=False)[1][:images]


def _deal(groups: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of every image, (images,): groups are dealt in random order, each to the smallest fold.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if len(names) < folds:
        raise ValueError(f"{len(names)} groups")
    order = rng.permutation(len(names))
    filled, fold = np.zeros(folds), {}
    for place in order:
        fold[names[place]] = smallest = int(filled.argmin())
        filled[smallest] += sizes[place]
    return np.array([fold[group] for group in groups])


# --- ridge regression --------------------------------------------------------------------------------------


class _Sums(NamedTuple):
    """Weighted sums over some images: all that ridge regression needs of them."""

    weight: Tensor  # (groups,)
    x: Tensor  # (groups, cells, width)
    y: Tensor  # (groups, columns)
    xx: Tensor  # (groups, cells, width, width)
    xy: Tensor  # (groups, cells, width, columns)

    def of(self, groups: Tensor) -> _Sums:
        """The sum over some groups, without the first axis."""
        return _Sums(*(part[groups].sum(0) for part in self))


def predict(
    values: Float[Tensor, "cells images width"],
    targets: Float[Tensor, "images columns"],
    weights: Float[Tensor, " images"],
    tasks: Sequence[int],
    made: Sequence[Split],
) -> Float[Tensor, "cells images columns"]:
    """What a linear probe of every cell predicts for images that it was not trained on; NaN for those never tested.

    Features are standardised. The penalty of ridge regression is chosen for every cell, fold and task by the
    squared error on the inner split.

    Args:
        values: Hidden states.
        targets: What to predict; several columns at once cost little more than one.
        weights: How much each image counts in the training.
        tasks: The task that each column belongs to; the columns of a task share their penalty.
        made: From `splits`.
    """
    cells, images, width = values.shape
    patterns, group = np.unique(
        np.stack([mask for split in made for mask in split], 1), axis=0, return_inverse=True
    )
    size = max(1, int(MEMORY / (4 * len(patterns) * min(images, width) ** 2)))
    members = torch.from_numpy(patterns).reshape(len(patterns), len(made), 4)
    found = torch.full((cells, images, targets.shape[1]), torch.nan)
    for first in range(0, cells, size):
        x = standardised(values[first : first + size].float())
        sums = _sums(x, targets, weights, torch.from_numpy(group.reshape(-1)), len(patterns))
        for number, split in enumerate(made):
            fit, _, train, _ = members[:, number].unbind(1)
            choose, test = torch.from_numpy(split.choose), torch.from_numpy(split.test)
            best = _penalty(sums.of(fit), x[:, choose], targets[choose], weights[choose], tasks)
            found[first : first + size, test] = _fitted(sums.of(train), x[:, test], best[:, list(tasks)])
    return found


def standardised(values: Float[Tensor, "cells images width"]) -> Float[Tensor, "cells images narrow"]:
    """Features with mean 0 and standard deviation 1; where they are more than the images, rotated into as many.

    The rotation changes no prediction: what is left out is the same for all images.
    """
    centred = values - values.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    scaled = centred / spread.where(spread > 1e-6 * spread.amax(2, keepdim=True).clamp_min(1e-30), torch.inf)
    if values.shape[2] <= values.shape[1]:
        return scaled
    return scaled @ torch.linalg.qr(scaled.transpose(1, 2))[0]


def _sums(x: Tensor, y: Tensor, weights: Tensor, group: Tensor, groups: int) -> _Sums:
    """The sums of every group of images."""
    parts = []
    for number in range(groups):
        here = group == number
        w, xs, ys = weights[here], x[:, here], y[here]
        weighted = (xs * w[:, None]).transpose(1, 2)
        parts.append(
            (w.sum(), (xs * w[:, None]).sum(1), (ys * w[:, None]).sum(0), weighted @ xs, weighted @ ys)
        )
    return _Sums(*(torch.stack(part) for part in zip(*parts, strict=True)))


def _solve(sums: _Sums, penalty: float) -> tuple[Tensor, Tensor]:
    """Coefficients (cells, width, columns) and intercepts (cells, 1, columns)."""
    mean = sums.x / sums.weight
    gram = sums.xx - sums.weight * mean[:, :, None] * mean[:, None, :]
    gram.diagonal(dim1=1, dim2=2).add_(penalty * sums.weight)
    moments = sums.xy - mean[:, :, None] * sums.y
    slope = torch.cholesky_solve(moments, torch.linalg.cholesky(gram))
    return slope, (sums.y / sums.weight - (mean[:, :, None] * slope).sum(1)).unsqueeze(1)


def _penalty(sums: _Sums, x: Tensor, y: Tensor, weights: Tensor, tasks: Sequence[int]) -> Tensor:
    """The place among `PENALTIES` that predicts each task best, (cells, tasks)."""
    errors = []
    for penalty in PENALTIES:
        slope, intercept = _solve(sums, penalty)
        squares = ((x @ slope + intercept - y).square() * weights[:, None]).sum(1)  # (cells, columns)
        errors.append(torch.zeros(len(x), max(tasks) + 1).index_add_(1, torch.tensor(tasks), squares))
    return torch.stack(errors).argmin(0)


def _fitted(sums: _Sums, x: Tensor, best: Tensor) -> Tensor:
    """Predictions (cells, images, columns), each column with the penalty at its place `best`, (cells, columns)."""
    found = x.new_zeros(len(x), x.shape[1], best.shape[1])
    for place, penalty in enumerate(PENALTIES):
        cells = (best == place).any(1).nonzero().squeeze(1)
        if len(cells):
            part = _Sums(sums.weight, sums.x[cells], sums.y, sums.xx[cells], sums.xy[cells])
            slope, intercept = _solve(part, penalty)
            new = x[cells] @ slope + intercept
            found[cells] = torch.where((best[cells] == place)[:, None], new, found[cells])
    return found
