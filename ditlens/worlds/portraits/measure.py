"""Measure an edit of a portrait: was the target reached, and did anything else change?

Works on portraits as the oracle reads them: plain dictionaries from attribute name to value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ditlens.worlds.portraits.attributes import ATTRIBUTES, Categorical, distance, neutral, visible
from ditlens.worlds.world import Values


def hidden(values: Values) -> set[str]:
    """Attributes that are not visible in a portrait, by the rule of `attributes.visible`."""
    return {name for name, seen in visible(neutral(1, **values)).items() if not seen.item()}


def drift(before: Values, after: Values, wanted: Iterable[str]) -> float:
    """Mean change of the attributes that are not wanted to change and are visible before and after.

    Returns:
        A number in [0, 1], in units of each attribute's range; a categorical attribute counts 0 or 1.
    """
    ignored = set(wanted) | hidden(before) | hidden(after)
    moved = [change for name, change in distance(before, after).items() if name not in ignored]
    return sum(moved) / len(moved) if moved else 0.0


def reached(after: Values, wanted: Mapping[str, int]) -> dict[str, bool]:
    """Whether each changed attribute now has the level or value asked for."""
    return {name: ATTRIBUTES[name].level_of(after[name]) == level for name, level in wanted.items()}


def progress(before: Values, after: Values, wanted: Mapping[str, int]) -> float:
    """Share of the way from the value before to the centre of the wanted level, mean over the changed attributes.

    Returns:
        A number in [-1, 1]: 0 nothing moved, 1 reached or passed, below 0 the other way. A category is 0 or 1.
    """
    shares = []
    for name, level in wanted.items():
        spec = ATTRIBUTES[name]
        if isinstance(spec, Categorical):
            shares.append(float(spec.level_of(after[name]) == level))
            continue
        way = spec.value_of(level) - float(before[name])
        moved = float(after[name]) - float(before[name])
        shares.append(max(-1.0, min(1.0, moved / way)) if abs(way) > 1e-3 else 1.0)
    return sum(shares) / len(shares) if shares else 0.0
