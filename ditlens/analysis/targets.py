"""What a probe reads: numbers or categories, as columns to predict, and how well they were predicted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ditlens.analysis.ridge import Split
from ditlens.arguments import is_number
from ditlens.errors import SettingError


def is_missing(value: Any) -> bool:
    """Whether a value is None, an empty text, not a number, or infinite."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float | np.floating) and not math.isfinite(value))


def plain_values(values: Sequence[Any]) -> list[Any]:
    """Values as Python's own, whether they came in a list, an array, a tensor or a column of pandas.

    Raises:
        SettingError: If one of them is several.
    """
    found = [
        value.item() if isinstance(value, np.generic | Tensor) and value.ndim == 0 else value
        for value in values
    ]
    for row, value in enumerate(found):
        if not isinstance(value, str) and hasattr(value, "__len__"):
            raise SettingError(
                f"target holds {len(value)} values for image {row}; give one number or one name each, "
                "e.g. target[:, 0]."
            )
    return found


@dataclass(frozen=True, eq=False)
class Target:
    """One attribute of some images.

    Attributes:
        values: Numbers, or numbers of classes, (images,).
        classes: Names of the classes; empty where the attribute is a number.
    """

    values: np.ndarray
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, values: Sequence[Any]) -> Target:
        """Numbers stay numbers, everything else is a category.

        Raises:
            SettingError: If there are no values, or all are the same.
        """
        if not len(values):
            raise SettingError(f"{name} is unknown for all of these images. Choose another target.")
        if len(set(values)) < 2:
            raise SettingError(
                f"{name} does not vary: {len(values)} images have it, with the values {sorted(set(values))}. "
                "Choose another target, or more images."
            )
        if all(map(is_number, values)):
            return cls(np.array(values, float))
        classes = sorted(map(str, set(values)))
        return cls(np.array([classes.index(str(value)) for value in values]), tuple(classes))

    @property
    def measure(self) -> str:
        """What `score` gives."""
        return "balanced accuracy" if self.classes else "R²"

    @property
    def chance(self) -> float:
        """What guessing gives."""
        return 1 / len(self.classes) if self.classes else 0.0

    @property
    def columns(self) -> Tensor:
        """What is regressed, (images, columns): the number in units of its spread, or a class's indicators."""
        if self.classes:
            return torch.nn.functional.one_hot(torch.from_numpy(self.values), len(self.classes)).float()
        centred = self.values - self.values.mean()
        return torch.from_numpy(centred / centred.std()).float().unsqueeze(1)

    @property
    def weights(self) -> Tensor:
        """How much each image counts in the training: all classes count the same together."""
        if not self.classes:
            return torch.ones(len(self.values))
        counts = np.bincount(self.values, minlength=len(self.classes))
        return torch.from_numpy(len(self.values) / (len(self.classes) * counts.clip(1))[self.values]).float()

    def redrawn(self, types: Sequence[Any], rng: np.random.Generator) -> Target:
        """Values drawn at random from these, the same for all images of one type: the control task."""
        names = list(dict.fromkeys(types))
        drawn = dict(zip(names, rng.choice(self.values, len(names)), strict=True))
        if len(set(drawn.values())) == 1 and len(names) > 1:  # must vary, too
            drawn[names[0]] = rng.choice(self.values[self.values != drawn[names[0]]])
        return Target(np.array([drawn[kind] for kind in types]), self.classes)

    def score(self, predicted: np.ndarray, groups: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """R² or balanced accuracy of every cell, over resampled groups of images.

        Args:
            predicted: (cells, images, columns); NaN for images that were not tested.
            groups: Number of the group of each image.
            draws: How often each group counts, (draws, groups).

        Returns:
            (draws, cells)
        """
        tested = ~np.isnan(predicted[0, :, 0])
        parts = (self._hits if self.classes else self._squares)(predicted[:, tested], tested)
        sums = np.zeros((draws.shape[1], *parts.shape[1:]))
        np.add.at(sums, groups[tested], parts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self._accuracy if self.classes else self._share)(np.tensordot(draws, sums, 1))

    def _squares(self, predicted: np.ndarray, tested: np.ndarray) -> np.ndarray:
        """Of each tested image and cell: 1, the value, its square, the squared error; (images, cells, 4)."""
        y = self.columns.numpy()[tested, 0].astype(float)
        error = (predicted[..., 0].T - y[:, None]) ** 2
        known = np.stack([np.ones_like(y), y, y**2], 1)[:, None].repeat(error.shape[1], 1)
        return np.concatenate([known, error[..., None]], 2)

    @staticmethod
    def _share(sums: np.ndarray) -> np.ndarray:
        count, y, squares, error = np.moveaxis(sums, -1, 0)
        spread = squares - y**2 / count
        return 1 - error / np.where(spread > 1e-9 * squares, spread, np.nan)  # no R² of one value alone

    def _hits(self, predicted: np.ndarray, tested: np.ndarray) -> np.ndarray:
        """Of each tested image and cell: an indicator of its class, then the same where it was predicted."""
        is_class = self.columns.numpy()[tested].astype(float)
        right = self.values[tested][:, None] == predicted.argmax(2).T
        every = is_class[:, None].repeat(right.shape[1], 1)
        return np.concatenate([every, every * right[..., None]], 2)

    @staticmethod
    def _accuracy(sums: np.ndarray) -> np.ndarray:
        every, right = np.split(sums, 2, -1)
        return np.nanmean(right / np.where(every > 0, every, np.nan), -1)

    def unlearnable(self, made: Sequence[Split]) -> list[str]:
        """A note on the classes that are never in training and test at once; none if there are none.

        Raises:
            SettingError: If that is so of every class.
        """
        both = {k for split in made for k in {*self.values[split.train]} & {*self.values[split.test]}}
        never = [name for k, name in enumerate(self.classes) if k not in both]
        why = "All of its images share a prompt, a carrier sentence or a seed, and so are held out together"
        if never and not both:
            raise SettingError(
                f"No class can be both in training and in test, e.g. {never[0]!r}. {why}. Use at least two prompts "
                "of each class (five or more are better), with other wordings and seeds."
            )
        return [f"Never both in training and in test, and so never recognised: {', '.join(never)}."] * bool(
            never
        )

    def rare(self, fewest: int) -> list[str]:
        """Classes with fewer images than that, with their number."""
        counts = Counter(self.values.tolist())
        return [f"{name} ({counts[k]})" for k, name in enumerate(self.classes) if counts[k] < fewest]
