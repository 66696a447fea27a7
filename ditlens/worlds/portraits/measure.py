"""What an edit of a portrait did, in numbers: was the target reached, and did anything else move?

Works on portraits as the oracle reads them: plain dictionaries from attribute name to value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ditlens.worlds.portraits.attributes import distance
from ditlens.worlds.portraits.constraints import index_of

Values = Mapping[str, "float | str"]


def hidden(values: Values) -> set[str]:
    """Attributes that cannot be seen in a portrait; the rule is that of `attributes.visible`."""
    out: set[str] = set()
    if values["glasses"] == "sunglasses":
        out |= {"eye_open", "gaze"}
    if values["hat"] != "none" and float(values["hair_length"]) <= 0.3:
        out.add("hair_style")
    return out


def drift(before: Values, after: Values, targets: Iterable[str]) -> float:
    """Mean change of the attributes that are not targets and can be seen before and after.

    Returns:
        A number in [0, 1], in units of each attribute's range; a categorical attribute counts 0 or 1.
    """
    left_out = set(targets) | hidden(before) | hidden(after)
    moved = [change for name, change in distance(before, after).items() if name not in left_out]
    return sum(moved) / len(moved) if moved else 0.0


def reached(after: Values, changes: Mapping[str, int]) -> dict[str, bool]:
    """Whether each changed attribute now has the level or value asked for."""
    return {name: index_of(name, after[name]) == wanted for name, wanted in changes.items()}


def missed(after: Values, changes: Mapping[str, str]) -> list[str]:
    """Attributes that do not have the level or value asked for, in words, as in `Description.changes`."""
    from ditlens.worlds.portraits.captions import parse

    wanted = {name: parse(phrase)[name] for name, phrase in changes.items()}
    return [name for name, levels in wanted.items() if index_of(name, after[name]) not in levels]
