"""The words of the portraits world for the playground, as one table that Python writes and a browser reads."""

from __future__ import annotations

from typing import Any

from ditlens.worlds.portraits.attributes import ATTRIBUTES, Categorical, Continuous
from ditlens.worlds.portraits.captions import LONGEST_CAPTION, vocabulary
from ditlens.worlds.portraits.phrases import BARE, HAIR, NOT_AFTER_WITH, PHRASES, SPELLINGS, noun
from ditlens.worlds.portraits.wish_table import wish_table

HIDES = (
    {"names": ("eye_open", "gaze"), "when": ({"name": "glasses", "is": "sunglasses"},)},
    {
        "names": ("hair_style",),
        "when": ({"name": "hat", "not": "none"}, {"name": "hair_length", "upTo": 0.3}),
    },
)
"""The rule of `attributes.visible`: what hides which attributes."""


def words_table() -> dict[str, Any]:
    """Everything that the playground knows about words: captions, levels, spellings and wishes.

    Returns:
        A table for JSON; ``playground/src/words.js`` reads it. Making it takes half a minute.
    """
    return {**caption_table(), "wishes": wish_table()}


def caption_table() -> dict[str, Any]:
    """The same without wishes, which is made at once."""
    return {
        "attributes": {name: _attribute(name) for name in ATTRIBUTES},
        "hair": list(HAIR),
        "notAfterWith": sorted(NOT_AFTER_WITH),
        "longest": LONGEST_CAPTION,
        "spellings": SPELLINGS,
        "vocabulary": vocabulary(),
        "hides": HIDES,
    }


def _attribute(name: str) -> dict[str, Any]:
    """Name, range and levels of an attribute."""
    spec = ATTRIBUTES[name]
    ends = {"low": spec.low, "high": spec.high} if isinstance(spec, Continuous) else {}
    return {
        "name": name,
        "spoken": noun(name),
        "kind": "categorical" if isinstance(spec, Categorical) else "continuous",
        **ends,
        "neutral": spec.rest,
        "levels": [_level(name, level) for level in range(len(PHRASES[name]))],
    }


def _level(name: str, level: int) -> dict[str, Any]:
    """Value and phrases of a level; of a continuous attribute, its cell and the core that captions name."""
    spec = ATTRIBUTES[name]
    words = {"value": spec.value_of(level), "phrases": PHRASES[name][level], "bare": BARE[name][level]}
    if isinstance(spec, Categorical):
        return words
    cell = spec.levels[level]
    return {**words, "low": cell.low, "high": cell.high, "core": cell.core(spec.low, spec.high)}
