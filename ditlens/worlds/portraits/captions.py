"""Writing captions of portraits; `reading` reads them back exactly.

A caption names some attributes of a portrait. `parse` turns it (or anything a person types) into
*constraints*: for each attribute that is named, the set of levels or values that the words allow. A caption names
exactly the levels that the portrait has, so reading it back loses nothing.
"""

from __future__ import annotations

import functools
import operator
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    NAMES,
    Attributes,
    Continuous,
    attribute,
    visible,
)
from ditlens.worlds.portraits.edits import EDIT_TEMPLATES, WHOM, WORN
from ditlens.worlds.portraits.phrases import (
    BARE,
    HAIR,
    PHRASES,
    WEARABLE,
    article,
    count_tokens,
    is_noun_phrase,
    tokens,
)
from ditlens.worlds.portraits.questions import HIDDEN, QUESTIONS
from ditlens.worlds.portraits.reading import parse as parse

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 62
"""Upper limit for any text of this world; with a start and an end token it fits into 64."""

LONGEST_CAPTION = 50
"""Upper limit for captions; the rest of `MAX_TOKENS` is room for phrases that an edit inserts."""

PERSON_HEADS = ("a portrait of {} person", "a picture of {} person")
"""Beginnings of a caption in which age is an adjective."""

PLAIN_HEADS = ("portrait, ", "a face with ", "", "")
"""Beginnings in which it is not; half of these captions are bare lists."""

_ORDER = [name for name in NAMES if name not in HAIR[1:]]  # hair is one phrase, at the place of its length


def nameable(attributes: Attributes) -> list[dict[str, int]]:
    """What captions may name in each portrait: visible attributes whose value lies in the core of a level.

    Args:
        attributes: A batch of portraits.

    Returns:
        For each portrait, the level (or value) index of every such attribute.
    """
    import torch

    seen = visible(attributes)
    columns: list[list[int]] = []
    for name in NAMES:
        value = attributes[name].detach()
        index, sure = value, seen[name]
        if isinstance(ATTRIBUTES[name], Continuous):
            value = value.cpu().double()
            edges, cores = _cells(name)
            index = torch.bucketize(value, edges, right=True)
            low, high = cores[index].unbind(-1)
            sure = sure.cpu() & (low <= value) & (value <= high)
        columns.append(torch.where(sure, index, -1).tolist())
    return [{n: i for n, i in zip(NAMES, row, strict=True) if i >= 0} for row in zip(*columns, strict=True)]


@functools.cache
def _cells(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a continuous attribute with n levels: the edges between their cells, (n - 1,), and their cores, (n, 2)."""
    import torch

    spec = ATTRIBUTES[name]
    assert isinstance(spec, Continuous)
    cores = [level.core(spec.low, spec.high) for level in spec.levels]
    edges = [level.high for level in spec.levels[:-1]]
    first, second = (torch.tensor(each, dtype=torch.float64, device="cpu") for each in (edges, cores))
    return first, second


def _choose_names(named: dict[str, int], rng: random.Random, drop: float) -> dict[str, int]:
    """A random subset of what can be named: sometimes one or two attributes, sometimes all."""
    u = rng.random()
    if u < 0.15:
        kept = rng.sample(sorted(named), min(len(named), rng.randint(1, 2)))
    elif u < 0.25:
        return named
    else:
        kept = [name for name in named if rng.random() >= drop] or [rng.choice(sorted(named))]
    return {name: named[name] for name in kept}


Choice = Callable[[Sequence[str]], str]
_first: Choice = operator.itemgetter(0)
_shortest: Choice = functools.partial(min, key=count_tokens)


def _list_phrases(
    named: Mapping[str, int],
    table: Mapping[str, tuple[tuple[str, ...], ...]],
    choose: Choice,
    rng: random.Random | None,
) -> list[str]:
    """One phrase per attribute, except age; those of hair are joined."""
    hair = [choose(table[name][named[name]]) for name in HAIR if name in named]
    if rng is not None:
        rng.shuffle(hair)
    phrases = []
    for name in _ORDER:
        if name == "hair_length":
            phrases += [" ".join(hair) + " hair"] if hair else []
        elif name in named and name != "age":
            phrase = choose(table[name][named[name]])
            worn = name in WEARABLE and (name == "shirt" or named[name] > 0)
            if worn and rng is not None and rng.random() < 0.15:
                phrase = "wearing " + phrase
            phrases.append(phrase)
    if rng is not None:
        rng.shuffle(phrases)
    return phrases


def _enumerate(phrases: list[str], with_and: bool) -> str:
    if with_and and len(phrases) > 1:
        return ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return ", ".join(phrases)


def compose(named: Mapping[str, int], rng: random.Random | None = None) -> str:
    """Write the caption that names exactly the given levels.

    Args:
        named: Level (or value) index of each attribute to name.
        rng: Source of randomness for synonyms, order and style; None writes the canonical caption.

    Returns:
        A normalised text of at most `LONGEST_CAPTION` tokens.
    """
    choose = rng.choice if rng else _first
    bare = rng is not None and rng.random() < 0.15
    phrases = _list_phrases(named, BARE if bare else PHRASES, choose, rng)
    with_and = rng is not None and rng.random() < 0.4
    age = choose(PHRASES["age"][named["age"]]) if "age" in named else ""
    if not bare and (rng is None or rng.random() < 0.5):
        head = choose(PERSON_HEADS).format(f"{article(age)} {age}" if age else "a")
        link = " with " if phrases and is_noun_phrase(phrases[0]) else ", "
        text = head + link + _enumerate(phrases, with_and) if phrases else head
    else:
        head = choose(PLAIN_HEADS) if not bare else ""
        if age:
            options = [f"{age} person" if bare else f"{article(age)} {age} person", f"looking {age}"]
            phrases.insert(rng.randrange(len(phrases) + 1) if rng else 0, choose(options))
        if "with" in head and not (phrases and is_noun_phrase(phrases[0])):
            head = "portrait, " if phrases else "portrait"
        text = head + _enumerate(phrases, with_and)
    if count_tokens(text) > LONGEST_CAPTION:
        text = keywords(named, rng)
    return text if count_tokens(text) <= LONGEST_CAPTION else keywords(named, rng, _shortest)


def keywords(named: Mapping[str, int], rng: random.Random | None = None, choose: Choice = _first) -> str:
    """Name the given levels as a list of keywords.

    Args:
        named: Level (or value) index of each attribute to name, e.g. from `nameable`.
        rng: Source of randomness for the order; None keeps that of the attributes.
        choose: Chooses one of the synonyms.

    Returns:
        A normalised text; unlike a caption it may have more than `LONGEST_CAPTION` tokens.

    Example:
        >>> keywords({"age": 2, "smile": 4, "hair_color": 3})
        'old person, big smile, red hair'
    """
    person = [PHRASES["age"][named["age"]][0] + " person"] if "age" in named else []
    phrases = _list_phrases(named, BARE, choose, None)
    if rng is not None:
        rng.shuffle(phrases)
    return ", ".join(person + phrases)


def caption_all(
    attributes: Attributes,
    rng: random.Random | None = None,
    *,
    names: Sequence[str] | None = None,
    drop: float = 0.35,
    canonical: bool = False,
) -> list[str]:
    """Describe every portrait of a batch.

    Args:
        attributes: A batch of portraits.
        rng: Source of randomness; None draws a fresh one.
        names: Attributes to name; those that are hidden or between two levels are left out. None names a
            random part of what can be named.
        drop: Probability with which ``names=None`` leaves an attribute out.
        canonical: Write the first synonym of everything, in fixed order, without randomness.

    Returns:
        One normalised text per portrait, e.g. ``"a portrait of an old person with a big smile, long red hair"``.

    Raises:
        UnknownAttributeError: If `names` holds an unknown attribute.
    """
    for name in names or ():
        attribute(name)  # raises with the list of names
    rng = rng or random.Random()
    texts = []
    for named in nameable(attributes):
        if names is not None:
            named = {name: i for name, i in named.items() if name in names}
        elif not canonical:
            named = _choose_names(named, rng, drop)
        texts.append(compose(named, None if canonical else rng))
    return texts


def vocabulary() -> list[str]:
    """Every token that the texts of this world can have: captions, instructions, questions and answers.

    Returns:
        Words and punctuation, sorted, each once.
    """
    texts = [phrase for table in PHRASES.values() for phrases in table for phrase in phrases]
    texts += [head.replace("{}", "a") for head in (*PERSON_HEADS, *PLAIN_HEADS)]
    texts += ["an old person, looking old", "wearing", "long hair and", "much", HIDDEN]
    texts += [*QUESTIONS.values(), *WHOM]
    texts += [thing for values in WORN.values() for things in values for thing in things]
    slots = dict.fromkeys(("whom", "thing", "value", "worn", "much"), "")
    texts += [edit.template.format(**slots) for edits in EDIT_TEMPLATES.values() for edit in edits]
    return sorted({token for text in texts for token in tokens(text)} | {","})
