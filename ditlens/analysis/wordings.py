"""Texts that differ in one attribute only, for what is measured between two images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TypeAlias

from ditlens.errors import UnknownAttributeError
from ditlens.worlds.world import Attribute, Continuous, Wanted, World

WORDINGS = 8
"""Captions that are tried for each pair, to find two that differ in one place only."""
Ends: TypeAlias = tuple["float | str", "float | str"]
Plan: TypeAlias = tuple[str, int, tuple[str, str]]
"""What a pair is drawn from: the attribute that is moved, the seed of the noise, and both texts."""


def plan(
    world: World, rows: Sequence[str], pairs: int, moves: Mapping[str, Ends], name_others: bool, seed: int
) -> list[Plan]:
    """The texts of all pairs.

    Raises:
        UnknownAttributeError: If the world has no such attribute or value.
    """
    for name in (*rows, *moves):
        if name not in world.attributes:
            raise UnknownAttributeError(
                f"This world has no attribute {name!r}. Use one of: {', '.join(world.attributes)}."
            )
    plans: list[Plan] = []
    for name in rows:
        spec = world.attributes[name]
        for k in range(pairs):
            if name in moves:
                first, last = map(spec.level_of, moves[name])
            else:
                first, last = ends_of(spec)
            others = others_of(world, name, (first, last), 1000 * seed + k) if name_others else {}
            texts = write(world, {**others, name: first}, {**others, name: last}, 100 * (1000 * seed + k))
            plans.append((name, 1000 * seed + k, texts))
    return plans


def ends_of(spec: Attribute) -> tuple[int, int]:
    """The levels between which an attribute moves: the two ends, or the neutral value and the next."""
    if isinstance(spec, Continuous):
        return 0, len(spec.levels) - 1
    return spec.neutral, (spec.neutral + 1) % len(spec.values)


def others_of(world: World, name: str, ends: tuple[int, int], seed: int) -> dict[str, int]:
    """Levels of all other attributes, at random, of an image in which the moved attribute can be seen at both ends.

    Those that are hidden at one of the ends are left out.
    """
    spec, hidden = world.attributes[name], set[str]()
    for values in world.sample(50, seed):
        hidden = set().union(*(world.hidden({**values, name: spec.value_of(end)}) for end in ends))
        if name not in hidden:
            break
    return {n: world.attributes[n].level_of(values[n]) for n in values if n != name and n not in hidden}


def write(world: World, before: Wanted, after: Wanted, seed: int) -> tuple[str, str]:
    """Before and after, which differ in as few words as some wordings allow."""
    tried = [(world.caption(before, s), world.caption(after, s)) for s in range(seed, seed + WORDINGS)]
    return min(tried, key=lambda texts: different_words(*texts))


def different_words(first: str, last: str) -> int:
    """How many words of the longer rest differ once the beginning and the end that two texts share are taken off.

    >>> different_words("a face with a big smile, red hair", "a face with a slight frown, red hair")
    2
    """
    a, b = first.split(), last.split()
    for _ in range(2):  # from the front, then from the back
        shared = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(a, b, strict=False)))
        a, b = a[shared:][::-1], b[shared:][::-1]
    return max(len(a), len(b))
