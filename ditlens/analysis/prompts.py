"""Texts of a world: sentences that differ in one attribute and in nothing else, and what to put around it."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from ditlens.arguments import is_whole, shown
from ditlens.description import Alignment, Description
from ditlens.errors import ModelError, SettingError, UnknownAttributeError
from ditlens.models.encoders import encoders_of, with_rows
from ditlens.models.model import Model
from ditlens.worlds.world import Attribute, Categorical, Values, Wanted, World

OTHERS = 3
"""Attributes that a sentence names beside what it is about."""
TRIES = 60
"""Sentences that are tried for one pair."""
Ends = Sequence["int | str"]
"""Two levels of an attribute, by number or by name."""


# --- attributes and their ends -----------------------------------------------------------------------------


def world_of(model: Model, instead: str) -> World:
    """The model's world.

    Raises:
        ModelError: If it has none; the message names what to give instead.
    """
    if model.world is None:
        raise ModelError(
            f"{model.name!r} has no world that reads attributes in images and writes texts about them, so there "
            f"are no attributes by name. Give {instead}."
        )
    return model.world


def attribute_of(world: World, name: str) -> Attribute:
    """An attribute by name.

    Raises:
        UnknownAttributeError: If there is none; the message lists them.
    """
    if name not in world.attributes:
        raise UnknownAttributeError(
            f"This world has no attribute {name!r}. Use one of: {', '.join(world.attributes)}."
        )
    return world.attributes[name]


def level_names(spec: Attribute) -> list[str]:
    """Names of the levels or values of an attribute."""
    return list(spec.values) if isinstance(spec, Categorical) else [level.name for level in spec.levels]


def ends(spec: Attribute) -> tuple[int, int]:
    """The two levels that an attribute is moved between: lowest and highest, or the neutral value and the next."""
    count = len(level_names(spec))
    return (spec.rest, (spec.rest + 1) % count) if isinstance(spec, Categorical) else (0, count - 1)


def ends_of(world: World, name: str, between: Ends | None = None) -> tuple[int, int]:
    """The ends of an attribute, or two other levels.

    Args:
        world: The world.
        name: The attribute.
        between: The levels; its `ends` by default.

    Raises:
        UnknownAttributeError: If there is no such attribute.
        SettingError: If these are not two of its levels.

    Example:
        >>> ends_of(model.world, "hat"), ends_of(model.world, "smile", ("a slight smile", 4))
        ((0, 1), (3, 4))
    """
    spec = attribute_of(world, name)
    if between is None:
        return ends(spec)
    names = level_names(spec)
    found = [
        names.index(str(each)) if each in names else int(each)
        for each in between
        if each in names or is_whole(each, 0, len(names) - 1)
    ]
    if not len(between) == len(set(found)) == 2:
        raise SettingError(
            f"{shown(between)} are not two levels of {name!r}. It has: {', '.join(map(repr, names))}; their "
            "numbers from 0 do too."
        )
    return found[0], found[1]


def people(
    world: World, attribute: str, ends: tuple[int, int], count: int, seed: int
) -> list[dict[int, Values]]:
    """Images of random values, once with each end of an attribute: `count` mappings from level to values.

    All values are the centres of their levels, so that a text names them exactly; an image in which the attribute
    would be hidden is left out.

    Raises:
        SettingError: If there are not as many images in which it can be seen.
    """
    found: list[dict[int, Values]] = []
    for values in world.sample(8 * count, seed):
        central = {
            name: spec.value_of(spec.level_of(values[name])) for name, spec in world.attributes.items()
        }
        both: dict[int, Values] = {
            level: {**central, attribute: world.attributes[attribute].value_of(level)} for level in ends
        }
        if attribute in seen_levels(world, both.values()):
            found.append(both)
        if len(found) == count:
            return found
    raise SettingError(
        f"{attribute!r} can be seen in {len(found)} of {8 * count} random images; ask for fewer."
    )


def seen_levels(world: World, images: Collection[Values]) -> dict[str, int]:
    """Levels of all attributes that can be seen in every one of some images, as the first one has them."""
    unseen = set().union(*map(world.hidden, images))
    first = next(iter(images))
    return {n: spec.level_of(first[n]) for n, spec in world.attributes.items() if n not in unseen}


# --- sentences ---------------------------------------------------------------------------------------------


def random_image(world: World, rng: random.Random) -> Values:
    """Values of an image."""
    return world.sample(1, rng.randrange(2**31))[0]


def sentences(
    world: World, image: Values, told: Sequence[Wanted], rng: random.Random, others: int = OTHERS,
    without: Collection[str] = (),
) -> list[str]:  # fmt: skip
    """Sentences about an image, the same but for what each is told to name; none if that cannot be seen in it.

    Args:
        world: Writes them.
        image: Values of the image.
        told: Levels that each of them names instead of the image's own.
        rng: Decides what else they say, and how.
        others: Attributes that they name beside these, if so many can be seen.
        without: Attributes that they do not name.
    """
    images = [{**image, **{n: world.attributes[n].value_of(k) for n, k in each.items()}} for each in told]
    seen, named = seen_levels(world, images), {name for each in told for name in each}
    if not named <= set(seen):
        return []
    free = [name for name in seen if name not in named and name not in without]
    said = {name: seen[name] for name in rng.sample(free, min(others, len(free)))}
    wording = rng.randrange(2**31)
    return [world.caption({**each, **said}, wording) for each in told]


def sentence(
    world: World, rng: random.Random, others: int = OTHERS + 1, without: Collection[str] = ()
) -> str:
    """A sentence about a random image; arguments are those of `sentences`."""
    return sentences(world, random_image(world, rng), [{}], rng, others, without)[0]


def minimal_pair(
    model: Model, name: str, rng: random.Random, levels: tuple[int, int] | None = None
) -> tuple[str, str]:
    """Two sentences that differ in one attribute alone, by one span of as many tokens where that can be.

    Args:
        model: A model with a world.
        name: The attribute.
        rng: Decides what else they say, and how.
        levels: Its level in each; by default its ends, of a categorical one the neutral value and any other.

    Raises:
        ModelError: If the model has no world.
        UnknownAttributeError: If the world has no such attribute.
        SettingError: If no two sentences of the world differ in this attribute alone.
    """
    world = world_of(model, "two texts")
    spec, found = attribute_of(world, name), None
    for _ in range(TRIES):
        image = random_image(world, rng)
        first, last = levels or ends(spec)
        if levels is None and isinstance(spec, Categorical):
            last = rng.choice([level for level in range(len(spec.values)) if level != first])
        pair = sentences(world, image, [{name: first}, {name: last}], rng)
        if not pair or world.wanted(*pair) != {name: last}:
            continue
        if all(each.aligned and len(each.changes) == 1 for each in alignments(model, *pair)):
            return pair[0], pair[1]
        found = found or (pair[0], pair[1])
    if found is None:
        raise SettingError(f"This world has no two sentences that differ in {name!r} alone. Give both texts.")
    return found


def alignments(model: Model, before: str, after: str) -> list[Alignment]:
    """How the tokens of two texts lie beside each other, for each encoder with token rows."""
    readers = tuple(with_rows(encoders_of(model)))
    return list(Description(before, after, {}, readers=readers).alignment.values())


def changed_rows(model: Model, before: str, after: str) -> tuple[list[int], list[int]]:
    """Rows of the text stream in which two texts differ, those of the one and those of the other."""
    rows: tuple[set[int], set[int]] = set(), set()
    for encoder, found in zip(with_rows(encoders_of(model)), alignments(model, before, after), strict=True):
        start = encoder.rows.start or 0
        for span in found.changes:
            rows[0].update(start + span.source_start + k for k in range(len(span.source)))
            rows[1].update(start + span.target_start + k for k in range(len(span.target)))
    return sorted(rows[0]), sorted(rows[1])


# --- carriers of two phrases -------------------------------------------------------------------------------


def carrier(world: World, a: str, b: str, seed: int) -> str:
    """A list of phrases of other attributes, at random levels, with places for A and, later, B.

    Example:
        >>> carrier(model.world, "smile", "hat", 1)
        '...{a}...{b}...'
    """
    rng = random.Random(seed)
    fillers = rng.sample([name for name in world.attributes if name not in (a, b)], rng.randint(2, 4))
    phrases = [world.phrase(n, rng.randrange(len(level_names(world.attributes[n])))) for n in fillers]
    first, second = sorted((rng.randint(0, len(phrases)), rng.randint(0, len(phrases))))
    return ", ".join([*phrases[:first], "{a}", *phrases[first:second], "{b}", *phrases[second:]])


def swapped(template: str) -> str:
    """A carrier with the places of A and B exchanged.

    Example:
        >>> swapped("old, {a}, {b}")
        'old, {b}, {a}'
    """
    return template.replace("{a}", "\0").replace("{b}", "{a}").replace("\0", "{b}")
