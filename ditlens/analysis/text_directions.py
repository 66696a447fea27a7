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

from ditlens.arguments import shown
from ditlens.description import Alignment, Description
from ditlens.errors import SettingError, UnknownAttributeError
from ditlens.lens.spans import words as tokens_of
from ditlens.models.encoders import encoders_of, with_rows
from ditlens.models.model import Model
from ditlens.worlds.world import Attribute, Continuous, World

METHODS = {
    "matrix": "difference of the two texts",
    "word": "difference of the changed words, mean over their tokens",
    "noun": "difference at the last token of a noun",
}
"""The methods, in words."""
OTHERS = 3
"""Attributes that a text of a pair names beside the one that changes."""
TRIES = 60
"""Images and sentences that are tried for one pair."""

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
        _, spec = world_of(model, what[0])
        written = world_pairs(model, what[0], count, seed, value)
        value = "" if isinstance(spec, Continuous) else spec.value_of(ends(spec, value)[1])
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
            found = [_last(model, text, word) for text in pair]
            words[word] = None
        else:
            found, changed = _changed(model, pair)
            words |= dict.fromkeys(changed)
        rows.append(after[k].tokens[0][found[1]].mean(0) - before[k].tokens[0][found[0]].mean(0))
    return torch.stack(rows).mean(0, keepdim=True), None, words


def _last(model: Model, text: str, word: str) -> list[int]:
    """The last token of a word, for each encoder with token rows."""
    return sorted({found[-1] for found in tokens_of(model, text, word).values() if found})


def _changed(model: Model, pair: Pair) -> tuple[list[list[int]], list[str]]:
    """Rows of the changed words in both texts, and these words."""
    rows: list[set[int]] = [set(), set()]
    words: list[str] = []
    for encoder, found in zip(with_rows(encoders_of(model)), alignments(model, pair), strict=True):
        start = encoder.rows.start or 0
        for span in found.changes:
            rows[0] |= {start + span.source_start + k for k in range(len(span.source))}
            rows[1] |= {start + span.target_start + k for k in range(len(span.target))}
        words += [each for both in found.words for each in both if each]
    if not all(rows):
        raise SettingError(
            f"{pair[0]!r} and {pair[1]!r}: one has no words that the other lacks. The method 'word' needs one "
            "that is replaced: 'a frown' / 'a smile'."
        )
    return [sorted(each) for each in rows], words


def alignments(model: Model, pair: Pair) -> list[Alignment]:
    """How the tokens of two texts lie beside each other, for each encoder with token rows."""
    return list(Description(*pair, {}, readers=tuple(with_rows(encoders_of(model)))).alignment.values())


def _aligned_share(model: Model, pairs: Sequence[Pair]) -> float:
    """Share of the rows in which matching tokens meet, the mean over the pairs."""
    shares = [found.share for pair in pairs if all(map(str.strip, pair)) for found in alignments(model, pair)]
    return sum(shares) / max(len(shares), 1) if shares else 1.0


# --- a world's pairs ---------------------------------------------------------------------------------------


def world_of(model: Model, name: str) -> tuple[World, Attribute]:
    """The world of a model and one of its attributes.

    Raises:
        SettingError: If the model has no world.
        UnknownAttributeError: If the world has no such attribute.
    """
    if model.world is None:
        raise SettingError(
            f"{model.name} has no world that writes texts about {name!r}. Give two texts: direction(model, "
            "'a frown', 'a smile'), or pairs=[...]."
        )
    if name not in model.world.attributes:
        raise UnknownAttributeError(
            f"This world has no attribute {name!r}. Choose from: {', '.join(model.world.attributes)}."
        )
    return model.world, model.world.attributes[name]


def ends(spec: Attribute, value: str = "") -> tuple[int, int]:
    """Levels of an attribute before and after: lowest and highest, or the neutral value and another.

    Raises:
        UnknownAttributeError: If it has no such value.
        SettingError: If the value is the neutral one, or a continuous attribute is given one.
    """
    if isinstance(spec, Continuous):
        if value:
            raise SettingError(
                f"{spec.name!r} is continuous: its direction leads from least to most. Leave value out."
            )
        return 0, len(spec.levels) - 1
    level = spec.level_of(value) if value else next(k for k in range(len(spec.values)) if k != spec.rest)
    if level == spec.rest:
        raise SettingError(
            f"{shown(value)} is the neutral value of {spec.name!r}, from which directions start."
        )
    return spec.rest, level


def world_pairs(
    model: Model, name: str, count: int, seed: int, value: str = "", others: int = OTHERS
) -> list[Pair]:
    """Pairs of sentences that differ in one attribute, with the same number of tokens where that can be.

    Args:
        model: Its world writes them.
        name: The attribute.
        count: How many.
        seed: Decides what else they say, and how.
        value: Of a categorical attribute: the value after.
        others: Attributes that they name beside it.

    Raises:
        SettingError: If no two sentences differ in this attribute alone.
    """
    world, spec = world_of(model, name)
    levels, rng, found = ends(spec, value), random.Random(f"{name} {seed}"), []
    for _ in range(count):
        spare = None
        for _ in range(TRIES):
            pair = _try(world, spec, levels, rng, others)
            if pair is None:
                continue
            spare = spare or pair
            if all(each.aligned and len(each.changes) == 1 for each in alignments(model, pair)):
                spare = pair
                break
        if spare is None:
            raise SettingError(
                f"This world has no two sentences that differ in {name!r} alone. Give pairs=[...]."
            )
        found.append(spare)
    return found


def _try(
    world: World, spec: Attribute, levels: tuple[int, int], rng: random.Random, others: int
) -> Pair | None:
    """Two sentences about a random image, which differ in an attribute alone; None if that failed."""
    image = world.sample(1, rng.randrange(2**31))[0]
    both = [{**image, spec.name: spec.value_of(level)} for level in levels]
    unseen = {each for values in both for each in world.hidden(values)}
    sentence, free = rng.randrange(2**31), [n for n in world.attributes if n != spec.name and n not in unseen]
    said = {n: world.attributes[n].level_of(image[n]) for n in rng.sample(free, min(others, len(free)))}
    pair = [world.caption({**said, spec.name: level}, sentence) for level in levels]
    right = spec.name not in unseen and world.wanted(*pair) == {spec.name: levels[1]}
    return (pair[0], pair[1]) if right else None


def random_sentence(world: World, rng: random.Random, others: int = OTHERS + 1, without: str = "") -> str:
    """A sentence about a random image.

    Args:
        world: The world.
        rng: Decides all of it.
        others: How many attributes it names, if so many can be seen.
        without: One that it does not name.
    """
    image = world.sample(1, rng.randrange(2**31))[0]
    unseen = world.hidden(image)
    free = [name for name in world.attributes if name not in unseen and name != without]
    names = rng.sample(free, min(others, len(free)))
    return world.caption({n: world.attributes[n].level_of(image[n]) for n in names}, rng.randrange(2**31))


def levels_of(spec: Attribute) -> int:
    """How many levels or values an attribute has."""
    return len(spec.levels if isinstance(spec, Continuous) else spec.values)


def _phrases(world: World, targets: Sequence[str]) -> list[str]:
    """How captions name every level of some attributes."""
    return [
        world.phrase(name, level) for name in targets for level in range(levels_of(world.attributes[name]))
    ]
