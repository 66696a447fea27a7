"""What is measured of images, and minimal pairs of prompts that differ in nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from ditlens.arguments import function_of, shown
from ditlens.description import Alignment, Description
from ditlens.errors import MissingDependencyError, SettingError, UnknownAttributeError
from ditlens.models.encoders import encoders_of, with_rows
from ditlens.models.model import Model
from ditlens.worlds.world import Attribute, Categorical, Continuous, Values, World

if TYPE_CHECKING:
    import pandas

TRIES = 60
"""Portraits and sentences that are tried for one pair."""
OTHERS = 3
"""Attributes that a sentence names beside the one that is measured."""

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

    def facts(self, images: Tensor) -> list[Values]:
        """All attributes of images as the world reads them; empty ones without a world."""
        return [{}] * len(images) if self.world is None else list(self.world.measure(images))

    def values(self, images: Tensor, facts: Sequence[Values], items: Sequence[int]) -> list[float]:
        """The numbers of images that show these items.

        Raises:
            SettingError: If the function gives anything else than a finite number for each image.
        """
        spec = self.spec
        if isinstance(spec, Continuous):
            return [float(each[self.name]) for each in facts]
        if isinstance(spec, Categorical):
            found = [spec.level_of(each[self.name]) for each in facts]
            return [float(level == self.targets[item]) for level, item in zip(found, items, strict=True)]
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


def check_measure(model: Model, measure: str | Read) -> str:
    """The name of what is measured.

    Raises:
        UnknownAttributeError: If the world has no such attribute; the message lists those it has.
        SettingError: If the model has no world, or it is neither a name nor a function.
    """
    if not isinstance(measure, str):
        if not MEASURE.fits(measure):
            raise SettingError(
                f"measure is {shown(measure)}; give an attribute's name, or {MEASURE.words} that gives a "
                "number for each image."
            )
        return getattr(measure, "__name__", type(measure).__name__).replace("<lambda>", "measure")
    if model.world is None:
        raise SettingError(
            f"measure is {measure!r}, but {model.name} has no world that reads attributes. Give a function "
            "of images (n, 3, height, width) instead, e.g. measure=lambda images: images.mean((1, 2, 3))."
        )
    if measure not in model.world.attributes:
        raise UnknownAttributeError(
            f"This world has no attribute {measure!r}. Choose from: {', '.join(model.world.attributes)}."
        )
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


# --- pairs -------------------------------------------------------------------------------------------------


def minimal_pair(model: Model, name: str, seed: int, variant: int = 0) -> Pair:
    """Two sentences that name opposite values of an attribute and the same others, with one token span changed.

    A continuous attribute gets its highest and its lowest level; a categorical one any value, and its neutral one.

    Args:
        model: A model with a world.
        name: The attribute.
        seed: Decides the sentences; also the seed of the noise.
        variant: Decides them, too.

    Raises:
        SettingError: If no two sentences of the world differ in this attribute alone.
    """
    world = model.world
    assert world is not None
    rng, spec, found = (
        random.Random(f"{name} {seed} {variant}" if variant else f"{name} {seed}"),
        world.attributes[name],
        None,
    )
    for _ in range(TRIES):
        person = world.sample(1, rng.randrange(2**31))[0]
        levels = opposites(spec, rng)
        ends = [{**person, name: spec.value_of(level)} for level in levels]
        unseen = {each for end in ends for each in world.hidden(end)}
        others = [each for each in world.attributes if each != name and each not in unseen]
        if name in unseen:
            continue
        said = {
            each: world.attributes[each].level_of(person[each])
            for each in rng.sample(others, min(OTHERS, len(others)))
        }
        sentence = rng.randrange(2**31)
        clean, corrupt = (world.caption({name: level, **said}, sentence) for level in levels)
        if world.wanted(corrupt, clean) != {name: levels[0]}:
            continue
        pair = Pair(clean, corrupt, seed)
        if all(each.aligned and len(each.changes) == 1 for each in alignments(model, pair)):
            return pair
        found = found or pair
    if found is None:
        raise SettingError(
            f"This world has no two sentences that differ in {name!r} alone. Give both: patch(model, clean, "
            "corrupt)."
        )
    return found


def opposites(spec: Attribute, rng: random.Random) -> tuple[int, int]:
    """Levels of the clean and of the corrupt prompt."""
    if isinstance(spec, Continuous):
        return len(spec.levels) - 1, 0
    return rng.choice([level for level in range(len(spec.values)) if level != spec.rest]), spec.rest


def alignments(model: Model, pair: Pair) -> list[Alignment]:
    """How the corrupt prompt's tokens lie beside those of the clean one, for each encoder with token rows."""
    readers = tuple(with_rows(encoders_of(model)))
    return list(Description(pair.corrupt, pair.clean, {}, readers=readers).alignment.values())


def changed_rows(model: Model, pair: Pair) -> list[int]:
    """Rows of the text stream in which a pair differs.

    Raises:
        SettingError: If the prompts are not aligned; says what to reword.
    """
    if not pair.clean.strip() or not pair.corrupt.strip():
        raise SettingError("tokens='changed' needs two prompts with words; one is empty.")
    for found in alignments(model, pair):
        if not found.aligned:
            raise SettingError(
                f"tokens='changed' needs prompts with the same number of tokens: {pair.clean!r} and "
                f"{pair.corrupt!r}. {found.advice}"
            )
    return clean_rows(model, pair)


def clean_rows(model: Model, pair: Pair) -> list[int]:
    """Rows of the clean prompt's text stream that hold what the corrupt prompt has not."""
    rows = {
        (encoder.rows.start or 0) + span.target_start + k
        for encoder, found in zip(with_rows(encoders_of(model)), alignments(model, pair), strict=True)
        for span in found.changes
        for k in range(len(span.target))
    }
    return sorted(rows)


def unrelated_prompt(world: World | None, pair: Pair, recipient: str, seed: int) -> str:
    """A prompt about other things, which agrees with one of a pair in what the pair differs in.

    Args:
        world: Writes it; without one it is the empty prompt.
        pair: The pair.
        recipient: The one of its prompts that is changed.
        seed: Decides what it is about.
    """
    donor = pair.clean if recipient == pair.corrupt else pair.corrupt
    told = {} if world is None else world.wanted(donor, recipient)
    if world is None or not told:
        return ""
    return random_caption(world, seed, told)


def random_caption(
    world: World, seed: int, told: Mapping[str, int] | None = None, count: int = OTHERS
) -> str:
    """A sentence about a random image of a world.

    Args:
        world: The world.
        seed: Decides the image and the sentence.
        told: Levels that it names in any case.
        count: Attributes that it names beside them.
    """
    rng, told = random.Random(f"caption {seed}"), dict(told or {})
    person = world.sample(1, rng.randrange(2**31))[0]
    fixed = {name: world.attributes[name].value_of(level) for name, level in told.items()}
    unseen = world.hidden({**person, **fixed})
    others = [name for name in world.attributes if name not in told and name not in unseen]
    for name in rng.sample(others, min(count, len(others))):
        told[name] = world.attributes[name].level_of(person[name])
    return world.caption(told, rng.randrange(2**31))


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Estimates as a table of pandas, one line for each.

    Raises:
        MissingDependencyError: If pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"This needs pandas: {error}. Type: pip install 'ditlens[analysis]'."
        ) from error
    return pandas.DataFrame([{key: value for key, value in row.items() if key != "nan"} for row in rows])
