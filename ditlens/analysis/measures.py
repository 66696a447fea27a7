"""What is measured of images, and the pairs of prompts that differ in it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ditlens.analysis.prompts import (
    TRIES,
    alignments,
    attribute_of,
    changed_rows,
    level_names,
    minimal_pair,
    random_image,
    sentences,
    world_of,
)
from ditlens.arguments import function_of, shown
from ditlens.errors import SettingError
from ditlens.models.model import Model
from ditlens.worlds.world import Attribute, Categorical, Continuous, Values, World

MEASURE = function_of("images")
Read: TypeAlias = Callable[[Tensor], "Tensor | Sequence[float]"]
"""Gets images (n, 3, height, width) with values in [0, 1]; gives a number for each."""


@dataclass(frozen=True)
class Pair:
    """Two prompts for the same starting noise.

    Attributes:
        clean: Shows what is measured.
        corrupt: Shows its opposite, or lacks it.
        seed: Seed of the noise.
    """

    clean: str
    corrupt: str
    seed: int

    @classmethod
    def written(cls, model: Model, name: str, seed: int, variant: int = 0) -> Pair:
        """A minimal pair of the model's world, which names opposite values of an attribute.

        A continuous one gets its highest and its lowest level; a categorical one any value, and its neutral one.

        Args:
            model: A model with a world.
            name: The attribute.
            seed: Decides the sentences; also the seed of the noise.
            variant: Decides them, too.

        Raises:
            SettingError: If no two sentences of the world differ in this attribute alone.
        """
        rng = random.Random(f"{name} {seed} {variant}" if variant else f"{name} {seed}")
        corrupt, clean = minimal_pair(model, name, rng)
        return cls(clean, corrupt, seed)

    def changed_rows(self, model: Model) -> list[int]:
        """Rows of the text stream in which the prompts differ.

        Raises:
            SettingError: If they are not aligned; says what to reword.
        """
        if not self.clean.strip() or not self.corrupt.strip():
            raise SettingError("tokens='changed' needs two prompts with words; one is empty.")
        for found in alignments(model, self.corrupt, self.clean):
            if not found.aligned:
                raise SettingError(
                    f"tokens='changed' needs prompts with the same number of tokens: {self.clean!r} and "
                    f"{self.corrupt!r}. {found.advice}"
                )
        return self.clean_rows(model)

    def clean_rows(self, model: Model) -> list[int]:
        """Rows of the clean prompt's text stream that hold what the corrupt prompt has not."""
        return changed_rows(model, self.corrupt, self.clean)[1]

    def unrelated(self, world: World | None, recipient: str) -> str:
        """A prompt about other things, which agrees with one of the two in what they differ in.

        Args:
            world: Writes it; without one it is the empty prompt.
            recipient: The one that it agrees with.
        """
        donor = self.clean if recipient == self.corrupt else self.corrupt
        if world is None or not (told := world.wanted(donor, recipient)):
            return ""
        rng = random.Random(f"caption {self.seed}")
        found = filter(None, (sentences(world, random_image(world, rng), [told], rng) for _ in range(TRIES)))
        return next(found, [""])[0]


@dataclass(frozen=True, eq=False)
class Measure:
    """Reads one number from every image.

    Attributes:
        name: The attribute, or the function's name.
        function: Reads it; None: the model's world does.
        world: The model's world, if any; it reads the other attributes too.
        targets: Of a categorical attribute: for each item the value that counts as 1, all others being 0.
    """

    name: str
    function: Read | None
    world: World | None
    targets: Sequence[int] = ()

    @property
    def spec(self) -> Attribute | None:
        """The attribute; None for a function."""
        return None if self.function is not None or self.world is None else self.world.attributes[self.name]

    def values(self, images: Tensor, facts: Sequence[Values], items: Sequence[int]) -> list[float]:
        """The numbers of images that show these items; NaN where the attribute cannot be seen.

        Raises:
            SettingError: If the function gives anything else than a finite number for each image.
        """
        spec = self.spec
        if isinstance(spec, Continuous):
            return [math.nan if self.is_hidden(each) else float(each[self.name]) for each in facts]
        if isinstance(spec, Categorical):
            return [
                math.nan
                if self.is_hidden(each)
                else float(spec.level_of(each[self.name]) == self.targets[item])
                for each, item in zip(facts, items, strict=True)
            ]
        assert self.function is not None
        try:
            numbers = torch.as_tensor(self.function(images), dtype=torch.float64).flatten()
        except (TypeError, ValueError, RuntimeError):
            numbers = torch.full((0,), 0.0)
        if len(numbers) != len(images) or not bool(numbers.isfinite().all()):
            raise SettingError(
                f"measure gave no number for each of {len(images)} images {tuple(images.shape)} (images, 3, "
                "height, width). Give a function such as lambda images: images.mean((1, 2, 3))."
            )
        return [float(x) for x in numbers]

    def differs(self, clean: float, corrupt: float) -> bool:
        """Whether the measures of a pair differ enough to be a unit: by a tenth of an attribute's range.

        Of a function, which has no range: by a ten-thousandth of the larger value.
        """
        spec = self.spec
        if isinstance(spec, Continuous):
            return abs(clean - corrupt) >= spec.range / 10
        return abs(clean - corrupt) > max(abs(clean), abs(corrupt), 1e-5) / 10_000

    def is_hidden(self, values: Values) -> bool:
        """Whether the attribute cannot be seen in an image of these values; never of a function."""
        return self.spec is not None and self.world is not None and self.name in self.world.hidden(values)

    def shown(self, number: float, values: Values) -> str:
        """What an image shows, in words: a value by its name, else the number."""
        return repr(values[self.name]) if isinstance(self.spec, Categorical) else f"{number:.3g}"

    def words(self) -> str:
        """A sentence with the world's words for all values of the attribute; empty for a function."""
        if self.spec is None or self.world is None:
            return ""
        told = (repr(self.world.phrase(self.name, k)) for k in range(len(level_names(self.spec))))
        return f" The world's words for {self.name}: {', '.join(told)}."


def facts_of(world: World | None, images: Tensor) -> list[Values]:
    """All attributes of images as a world reads them; empty ones without a world."""
    return [{}] * len(images) if world is None else list(world.measure(images))


def check_measure(model: Model, measure: str | Read) -> str:
    """The name of what is measured.

    Raises:
        ModelError: If it is a name, and the model has no world.
        UnknownAttributeError: If the world has no such attribute; the message lists those it has.
        SettingError: If it is neither a name nor a function.
    """
    if not isinstance(measure, str):
        if not MEASURE.fits(measure):
            raise SettingError(
                f"measure is {shown(measure)}; give an attribute's name, or {MEASURE.words} that gives a "
                "number for each image."
            )
        return getattr(measure, "__name__", type(measure).__name__).replace("<lambda>", "measure")
    attribute_of(world_of(model, "a function, e.g. measure=lambda images: images.mean((1, 2, 3))"), measure)
    return measure


def measure_of(model: Model, measure: str | Read, pairs: Sequence[Pair], clean: Sequence[Values]) -> Measure:
    """The measure for pairs whose clean images show these values."""
    name, world, targets = check_measure(model, measure), model.world, []
    if not isinstance(measure, str):
        return Measure(name, measure, world)
    assert world is not None
    spec = world.attributes[name]
    if isinstance(spec, Categorical):
        for pair, seen in zip(pairs, clean, strict=True):
            targets.append(world.wanted(pair.corrupt, pair.clean).get(name, spec.level_of(seen[name])))
    return Measure(name, None, world, targets)
