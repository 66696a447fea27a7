"""Texts that differ in one attribute only, for what is measured between two images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TypeAlias

from ditlens.analysis.prompts import attribute_of, ends, people, seen_levels
from ditlens.errors import SettingError
from ditlens.worlds.world import Wanted, World

WORDINGS = 8
"""Captions that are tried for each pair, to find two that differ in one place only."""
Ends: TypeAlias = tuple["float | str", "float | str"]
Plan: TypeAlias = tuple[str, int, tuple[str, str]]
"""What a pair is drawn from: the attribute that is moved, the seed of the noise, and both texts."""


def plan(
    world: World, rows: Sequence[str], count: int, moves: Mapping[str, Ends], name_others: bool, seed: int
) -> list[Plan]:
    """The texts of all pairs.

    Raises:
        UnknownAttributeError: If the world has no such attribute or value.
        SettingError: If a move goes nowhere.
    """
    for name in (*rows, *moves):
        attribute_of(world, name)
    plans: list[Plan] = []
    for name in rows:
        spec = world.attributes[name]
        for k in range(count):
            first, last = map(spec.level_of, moves[name]) if name in moves else ends(spec)
            if first == last:
                raise SettingError(
                    f"moves: {name} goes from {moves[name][0]!r} to {moves[name][1]!r}, which is the same: nothing "
                    "would move. Give two values."
                )
            others: dict[str, int] = {}
            if name_others:
                others = seen_levels(
                    world, people(world, name, (first, last), 1, 1000 * seed + k)[0].values()
                )
            texts = write(world, {**others, name: first}, {**others, name: last}, 100 * (1000 * seed + k))
            plans.append((name, 1000 * seed + k, texts))
    return plans


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
