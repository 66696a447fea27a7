"""How a direction is found in text space: from pairs of texts that differ in one thing.

E is the token matrix of a text (rows, width), p its pooled vector; E1, p1 are those of the text after, E0, p0
before.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ditlens.analysis.prompts import (
    alignments,
    attribute_of,
    changed_rows,
    ends,
    level_names,
    minimal_pair,
    world_of,
)
from ditlens.arguments import shown
from ditlens.errors import SettingError
from ditlens.lens.spans import words as tokens_of
from ditlens.models.model import Model
from ditlens.worlds.world import Attribute, Continuous, World

METHODS = {
    "matrix": "difference of the two texts",
    "word": "difference of the changed words, mean over their tokens",
    "noun": "difference at the last token of a noun",
}
"""The methods, in words."""

Pair = tuple[str, str]


def make(
    model: Model, what: Sequence[str], pairs: Sequence[Pair] | None, method: str, value: str, word: str, count: int,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """What a `ditlens.Direction` in text space is made of; for arguments and errors see `ditlens.direction`."""
    pairs, name, targets, value = _asked(model, what, pairs, value, count, seed)
    if method == "noun" and not word:
        raise SettingError("The method 'noun' needs the noun at whose last token it acts: word='person'.")
    vector, pooled, words = _difference(model, pairs, method, word)
    if method == "word" and model.world is not None:
        words = dict.fromkeys([*words, *_phrases(model.world, targets)])
    length = float(vector.square().sum() + (0 if pooled is None else pooled.square().sum()))
    if length == 0:
        raise SettingError(
            f"{pairs[0][0]!r} and {pairs[0][1]!r} have the same embedding{' at this word' if word else ''}: there "
            f"is no direction.{' Encoders like CLIP read no further: name it after what changes.' if word else ''}"
        )
    how = METHODS[method] + (f", mean over {len(pairs)} pairs" if len(pairs) > 1 else "")
    if method != "word" and (share := _aligned_share(model, pairs)) < 1:
        how += f"; only {share:.0%} of the rows hold matching tokens"
    return {
        "name": name, "how": how, "vector": vector.cpu(), "unit": 1.0, "words": tuple(words), "targets": targets,
        "pooled": None if pooled is None else pooled.cpu(), "value": value, "last": method == "noun",
    }  # fmt: skip


def _asked(
    model: Model, what: Sequence[str], pairs: Sequence[Pair] | None, value: str, count: int, seed: int
) -> tuple[list[Pair], str, tuple[str, ...], str]:
    """The pairs of texts, what they are about in words, the attributes that they change, and to which value."""
    if pairs is None and len(what) == 1:
        written = world_pairs(model, what[0], count, seed, value)
        assert model.world is not None
        spec = model.world.attributes[what[0]]
        value = "" if isinstance(spec, Continuous) else spec.value_of(_levels(spec, value)[1])
        return written, f"{what[0]}: {value}" if value else what[0], (what[0],), value
    if (pairs is None) == (len(what) != 2):
        raise SettingError(
            "Give an attribute, two texts, or pairs=[...]: direction(model, 'smile'), direction(model, 'a frown', "
            f"'a smile'). Got {len(what)} texts{'' if pairs is None else ' and pairs'}."
        )
    given = [(what[0], what[1])] if pairs is None else [(str(a), str(b)) for a, b in pairs]
    name = " -> ".join(given[0]) + (f", and {len(given) - 1} more" if len(given) > 1 else "")
    if model.world is None:
        return given, name, (), ""
    wanted = model.world.wanted(*given[0])
    specs = {target: model.world.attributes[target] for target in wanted}
    values = [s.value_of(wanted[n]) for n, s in specs.items() if not isinstance(s, Continuous)]
    return given, name, tuple(wanted), values[0] if len(values) == len(wanted) == 1 else ""


def _difference(
    model: Model, pairs: Sequence[Pair], method: str, word: str
) -> tuple[Tensor, Tensor | None, Iterable[str]]:
    """The vector, that of the pooled vectors, and the words at which it acts."""
    before, after = ([model.encode_text(pair[k]) for pair in pairs] for k in (0, 1))
    if method == "matrix":
        both = list(zip(before, after, strict=True))
        tokens = torch.stack([b.tokens[0] - a.tokens[0] for a, b in both]).mean(0)
        return tokens, torch.stack([b.pooled[0] - a.pooled[0] for a, b in both]).mean(0), ()
    rows: list[Tensor] = []
    words: dict[str, None] = {}
    for k, pair in enumerate(pairs):
        if method == "noun":
            found = (_last(model, pair[0], word), _last(model, pair[1], word))
            words[word] = None
        else:
            found, changed = _changed(model, pair)
            words |= dict.fromkeys(changed)
        rows.append(after[k].tokens[0][found[1]].mean(0) - before[k].tokens[0][found[0]].mean(0))
    return torch.stack(rows).mean(0, keepdim=True), None, words


def _last(model: Model, text: str, word: str) -> list[int]:
    """The last token of a word, for each encoder with token rows."""
    return sorted({found[-1] for found in tokens_of(model, text, word).values() if found})


def _changed(model: Model, pair: Pair) -> tuple[tuple[list[int], list[int]], list[str]]:
    """Rows of the changed words in both texts, and these words."""
    rows = changed_rows(model, *pair)
    if not all(rows):
        raise SettingError(
            f"{pair[0]!r} and {pair[1]!r}: one has no words that the other lacks. The method 'word' needs one "
            "that is replaced: 'a frown' / 'a smile'."
        )
    return rows, [w for found in alignments(model, *pair) for both in found.words for w in both if w]


def _aligned_share(model: Model, pairs: Sequence[Pair]) -> float:
    """Share of the rows in which matching tokens meet, the mean over the pairs."""
    shares = [
        found.share for pair in pairs if all(map(str.strip, pair)) for found in alignments(model, *pair)
    ]
    return sum(shares) / max(len(shares), 1) if shares else 1.0


def world_pairs(model: Model, name: str, count: int, seed: int, value: str = "") -> list[Pair]:
    """Minimal pairs of sentences that the model's world writes.

    Args:
        model: The model.
        name: The attribute in which they differ.
        count: How many.
        seed: Decides what else they say, and how.
        value: Of a categorical attribute: the value after.

    Raises:
        ModelError: If the model has no world.
        UnknownAttributeError: If the world has no such attribute or value.
        SettingError: If no two sentences differ in this attribute alone.
    """
    spec = attribute_of(world_of(model, "two texts: direction(model, 'a frown', 'a smile')"), name)
    levels, rng = _levels(spec, value), random.Random(f"{name} {seed}")
    return [minimal_pair(model, name, rng, levels) for _ in range(count)]


def _levels(spec: Attribute, value: str) -> tuple[int, int]:
    """Levels before and after: the ends, or the neutral value and another.

    Raises:
        UnknownAttributeError: If it has no such value.
        SettingError: If the value is the neutral one, or a continuous attribute is given one.
    """
    if not value:
        return ends(spec)
    if isinstance(spec, Continuous):
        raise SettingError(
            f"{spec.name!r} is continuous: its direction leads from least to most. Leave value out."
        )
    if spec.level_of(value) == spec.rest:
        raise SettingError(
            f"{shown(value)} is the neutral value of {spec.name!r}, from which directions start."
        )
    return spec.rest, spec.level_of(value)


def _phrases(world: World, targets: Sequence[str]) -> list[str]:
    """How captions name every level of some attributes."""
    return [world.phrase(n, k) for n in targets for k in range(len(level_names(world.attributes[n])))]
