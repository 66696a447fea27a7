"""Pairs of images and texts that differ in one attribute and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from ditlens.arguments import is_whole, shown
from ditlens.errors import ModelError, SettingError, UnknownAttributeError
from ditlens.models.model import Model
from ditlens.worlds.world import Attribute, Categorical, SuiteItem, Values, World

Ends = Sequence["int | str"]
"""Two levels of an attribute, by number or by name."""


def world_of(model: Model, instead: str) -> World:
    """The model's world.

    Raises:
        ModelError: If it has none; the message names what to give instead.
    """
    if model.world is None:
        raise ModelError(
            f"{model.name!r} belongs to no world, so it has no attributes by name. Give {instead}."
        )
    return model.world


def attribute_of(world: World, name: str) -> Attribute:
    """An attribute by name.

    Raises:
        UnknownAttributeError: If there is none; the message lists them.
    """
    if name not in world.attributes:
        raise UnknownAttributeError(
            f"{world.name!r} has no attribute {name!r}. Use one of: {', '.join(world.attributes)}."
        )
    return world.attributes[name]


def level_names(spec: Attribute) -> list[str]:
    """Names of the levels or values of an attribute."""
    return list(spec.values) if isinstance(spec, Categorical) else [level.name for level in spec.levels]


def ends_of(world: World, name: str, between: Ends | None = None) -> tuple[int, int]:
    """Two levels of an attribute that make it binary.

    Args:
        world: The world.
        name: The attribute.
        between: The levels; by default the lowest and the highest of a continuous attribute, and of a categorical
            one its neutral value and the one after it.

    Raises:
        UnknownAttributeError: If there is no such attribute.
        SettingError: If these are not two of its levels.

    Example:
        >>> ends_of(model.world, "hat"), ends_of(model.world, "smile", ("a slight smile", 4))
        ((0, 1), (3, 4))
    """
    spec = attribute_of(world, name)
    names = level_names(spec)
    if between is None:
        return (
            (spec.rest, (spec.rest + 1) % len(names))
            if isinstance(spec, Categorical)
            else (0, len(names) - 1)
        )
    found = [level for each in between if (level := _level(names, each)) is not None]
    if not len(between) == len(set(found)) == 2:
        raise SettingError(
            f"{shown(between)} are not two levels of {name!r}. It has: {', '.join(map(repr, names))}; their "
            "numbers from 0 do too."
        )
    return found[0], found[1]


def _level(names: Sequence[str], given: int | str) -> int | None:
    if given in names:
        return names.index(str(given))
    return int(given) if is_whole(given, 0, len(names) - 1) else None


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
        if not any(attribute in world.hidden(each) for each in both.values()):
            found.append(both)
        if len(found) == count:
            return found
    raise SettingError(
        f"{attribute!r} can be seen in {len(found)} of {8 * count} random images; ask for fewer."
    )


def counterfactuals(
    model: Model, attribute: str, between: Ends | None = None, count: int = 12, seed: int = 0
) -> list[SuiteItem]:
    """Edits of one attribute with exact answers: each of `count` people in both directions, one after the other.

    The image, the image as it should become, their texts and the region that may change come from the model's
    world. A text names every attribute that can be seen.

    Args:
        model: A model with a world that can draw.
        attribute: What changes.
        between: The two levels, see `ends_of`.
        count: Number of people; there are twice as many edits.
        seed: Decides who they are.

    Raises:
        ModelError: If the model has no world.
        UnknownAttributeError: If there is no such attribute.
        SettingError: If `between` are not two of its levels.

    Example:
        >>> there, back = counterfactuals(model, "hat", count=1)
        >>> there.wanted, back.wanted, there.target_text == back.source_text
        ({'hat': 1}, {'hat': 0}, True)
    """
    world = world_of(model, "a list of (image, its text, the text with the attribute flipped)")
    ends = ends_of(world, attribute, between)
    items = []
    for k, both in enumerate(people(world, attribute, ends, count, seed)):
        unseen = set().union(*(world.hidden(each) for each in both.values()))
        texts = {level: _text(world, values, unseen) for level, values in both.items()}
        for old, new in (ends, ends[::-1]):
            before, after, wanted = both[old], both[new], {attribute: new}
            items.append(SuiteItem(
                f"{attribute}-{k}-{new}", attribute, "", texts[old], texts[new],
                lambda values=before: world.draw([values], model.side),  # type: ignore[misc]
                world.change_mask(before, wanted, model.side), wanted, before, after,
                lambda values=after: world.draw([values], model.side),  # type: ignore[misc]
            ))  # fmt: skip
    return items


def _text(world: World, values: Values, unseen: set[str]) -> str:
    """The canonical text of an image, which names everything that can be seen."""
    return world.caption(
        {name: spec.level_of(values[name]) for name, spec in world.attributes.items() if name not in unseen}
    )
