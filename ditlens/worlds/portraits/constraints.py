"""Constraints, the meaning of a text as sets of levels, and the levels of a portrait."""

from __future__ import annotations

from collections.abc import Mapping

from ditlens.worlds.portraits.attributes import Categorical, attribute
from ditlens.worlds.portraits.phrases import Constraints

Source = Mapping[str, float | str] | Mapping[str, frozenset[int]]
"""What is known of a source portrait: its values, or the constraints of its caption."""


def satisfies(values: Mapping[str, float | str], constraints: Constraints) -> dict[str, bool]:
    """Check a measured portrait against what a text says.

    Args:
        values: One portrait in the form of `attributes.describe_values`.
        constraints: As returned by `parse`.

    Returns:
        For each attribute that the text names, whether the portrait is as it says.
    """
    return {name: attribute(name).level_of(values[name]) in allowed for name, allowed in constraints.items()}


def pick(name: str, allowed: frozenset[int]) -> int:
    """The level or value that is meant when a text allows several.

    The neutral one if it is allowed; otherwise the first value of a category, or the middle one of the levels, the
    stronger of two: "a smile" is a big one.
    """
    spec = attribute(name)
    if spec.rest in allowed:
        return spec.rest
    if isinstance(spec, Categorical):
        return min(allowed)
    ordered = sorted(allowed, key=lambda index: (abs(index - spec.rest), index))
    return ordered[len(ordered) // 2]


def known_levels(name: str, source: Source | None) -> frozenset[int]:
    """The levels that an attribute of the source may have; the neutral one if nothing is known."""
    value = (source or {}).get(name)
    if isinstance(value, (frozenset, set)):
        return frozenset(value)
    spec = attribute(name)
    return frozenset({spec.rest if value is None else spec.level_of(value)})


def settle(name: str, wanted: int | frozenset[int], current: int) -> int:
    """The level that an attribute gets: the current one if that is allowed, otherwise that of `pick`."""
    if isinstance(wanted, int):
        return wanted
    return current if current in wanted else pick(name, wanted)
