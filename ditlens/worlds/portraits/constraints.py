"""Constraints, the meaning of a text as sets of levels: check a portrait against them, or make one that fits."""

from __future__ import annotations

import random
from collections.abc import Mapping

from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    CATEGORICAL,
    CONTINUOUS,
    NAMES,
    Categorical,
    attribute,
)
from ditlens.worlds.portraits.phrases import Constraints

Source = Mapping[str, float | str] | Mapping[str, frozenset[int]]
"""What is known of a source portrait: its values, or the constraints of its caption."""


def index_of(name: str, value: float | str) -> int:
    """Index of the level or value that an attribute has.

    Args:
        name: Name of the attribute.
        value: Its value, in the form of `attributes.describe_values`.
    """
    spec = attribute(name)
    return spec.index(str(value)) if isinstance(spec, Categorical) else spec.level_of(float(value))


def satisfies(values: Mapping[str, float | str], constraints: Constraints) -> dict[str, bool]:
    """Check a measured portrait against what a text says.

    Args:
        values: One portrait in the form of `attributes.describe_values`.
        constraints: As returned by `parse`.

    Returns:
        For each attribute that the text names, whether the portrait is as it says.
    """
    return {name: index_of(name, values[name]) in allowed for name, allowed in constraints.items()}


def pick(name: str, allowed: frozenset[int]) -> int:
    """The level or value that is meant when a text allows several.

    The neutral one if it is allowed; otherwise the first value of a category, or the middle one of the levels, the
    stronger of two: "a smile" is a big one.
    """
    spec = attribute(name)
    ordered = sorted(allowed)
    if isinstance(spec, Categorical):
        return spec.neutral if spec.neutral in allowed else ordered[0]
    neutral = spec.level_of(spec.neutral)
    if neutral in allowed:
        return neutral
    ordered.sort(key=lambda index: abs(index - neutral))
    return ordered[len(ordered) // 2]


def typical(constraints: Constraints, rng: random.Random | None = None) -> dict[str, float | str]:
    """Values of a portrait that a text describes; neutral where it names nothing.

    Args:
        constraints: As returned by `parse`.
        rng: None takes the centre of the level that `pick` chooses; otherwise a level and a value in its core are
            drawn.

    Returns:
        One portrait in the form of `attributes.describe_values`.
    """
    values: dict[str, float | str] = {c.name: c.values[c.neutral] for c in CATEGORICAL}
    values |= {c.name: c.neutral for c in CONTINUOUS}
    for name, allowed in constraints.items():
        index = rng.choice(sorted(allowed)) if rng else pick(name, allowed)
        values[name] = value_of(name, index, rng)
    return {name: values[name] for name in NAMES}


def value_of(name: str, index: int, rng: random.Random | None = None) -> float | str:
    """A value with the given level: its centre, or drawn from its core; of a category, its name."""
    spec = ATTRIBUTES[name]
    if isinstance(spec, Categorical):
        return spec.values[index]
    level = spec.levels[index]
    return rng.uniform(*level.core(spec.low, spec.high)) if rng else level.center


def known_levels(name: str, source: Source | None) -> frozenset[int]:
    """The levels that an attribute of the source may have; the neutral one if nothing is known."""
    value = (source or {}).get(name)
    if isinstance(value, (frozenset, set)):
        return frozenset(value)
    spec = attribute(name)
    if value is None:
        return frozenset({spec.neutral if isinstance(spec, Categorical) else spec.level_of(spec.neutral)})
    return frozenset({index_of(name, value)})


def settle(name: str, wanted: int | frozenset[int], current: int) -> int:
    """The level that an attribute gets: the current one if that is allowed, otherwise that of `pick`."""
    if isinstance(wanted, int):
        return wanted
    return current if current in wanted else pick(name, wanted)
