"""Reading texts: which phrases of the grammar they contain, and what these mean.

The longest known phrase is taken first, from left to right; words outside the lexicon are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ditlens.errors import CaptionError
from ditlens.worlds.portraits.attributes import ATTRIBUTES, NAMES
from ditlens.worlds.portraits.phrases import (
    ARTICLES,
    HAIR,
    HAIR_SYNONYMS,
    PEOPLE,
    PHRASES,
    SHADES,
    STEMS,
    SYNONYMS,
    Constraints,
    Table,
    join,
    noun,
    tokens,
)

Stems = tuple[str, ...]
SEPARATORS = frozenset({",", "and"})
NOUNS = frozenset(
    "smile frown mouth lip eye brow face skin beard chin glasses hat earrings shirt background".split()
)
"""Nouns that may precede their adjective: "the shirt is red"."""
PREPOSITIONS = frozenset("at in of off on to up with".split())


@dataclass(frozen=True)
class Meaning:
    """What one phrase means: the levels (or values) of an attribute that it allows."""

    attribute: str
    indices: frozenset[int]


@dataclass(frozen=True)
class Mention:
    """A phrase found in a text: tokens `start` to `end` (exclusive) mean `meaning`."""

    start: int
    end: int
    meaning: Meaning

    @property
    def attribute(self) -> str:
        return self.meaning.attribute


def every_index(attribute: str) -> frozenset[int]:
    """All level (or value) indices of an attribute."""
    return frozenset(range(len(PHRASES[attribute])))


def _stem(word: str) -> str:
    return STEMS.get(word, word)


def stems_of(phrase: str) -> Stems:
    """The key under which a phrase is looked up: its stems, without articles and prepositions."""
    return tuple(_stem(word) for word in phrase.split() if word not in ARTICLES | PREPOSITIONS)


def meanings(table: Table) -> dict[Stems, Meaning]:
    """The phrases of a table with their meanings."""
    found: dict[Stems, Meaning] = {}
    for attribute, entries in table.items():
        level_of = ATTRIBUTES[attribute].level_of
        for allowed, phrases in entries.items():
            listed = allowed if isinstance(allowed, tuple) else (allowed,)
            indices = frozenset(level_of(a) if isinstance(a, str) else a for a in listed)
            found |= {stems_of(phrase): Meaning(attribute, indices) for phrase in phrases.split(", ")}
    return found


def _exact(attributes: Iterable[str]) -> dict[Stems, Meaning]:
    """What captions write about these attributes, with its meaning."""
    return {
        stems_of(phrase): Meaning(name, frozenset({index}))
        for name in attributes
        for index, phrases in enumerate(PHRASES[name])
        for phrase in phrases
    }


def _hair_words() -> dict[Stems, Meaning]:
    words = meanings(HAIR_SYNONYMS) | _exact(HAIR)
    colors = {k: m for k, m in words.items() if m.attribute == "hair_color" and k != ("dark",)}
    words |= {(shade, *k): m for k, m in colors.items() for shade in SHADES}
    return words


@dataclass(frozen=True)
class Lexicon:
    """Known phrases.

    Attributes:
        phrases: Complete phrases, e.g. ``("big", "smile")``.
        hair: Adjectives that need the noun "hair".
    """

    phrases: Mapping[Stems, Meaning]
    hair: Mapping[Stems, Meaning]

    @cached_property
    def words(self) -> set[str]:
        """Every word that occurs in a phrase; all others are skipped."""
        known = {word for table in (self.phrases, self.hair) for phrase in table for word in phrase}
        return known | SEPARATORS | {"hair", "is", "no", "or"}


def _lexicon() -> Lexicon:
    """The lexicon of captions; an adjective may also follow its noun: "the shirt is red"."""
    phrases = meanings(SYNONYMS) | _exact(name for name in NAMES if name not in HAIR)
    turned = {
        (phrase[-1], "is", *phrase[:-1]): meaning
        for phrase, meaning in phrases.items()
        if len(phrase) > 1 and phrase[-1] in NOUNS and phrase[0] != "no"
    }
    return Lexicon(turned | phrases, _hair_words())


_LONGEST = 6


def _longest(stems: list[str], at: int, table: Mapping[Stems, Meaning]) -> int:
    """Length of the longest phrase of `table` that starts at `at`; 0 if there is none."""
    most = min(_LONGEST, len(stems) - at)
    return next((n for n in range(most, 0, -1) if tuple(stems[at : at + n]) in table), 0)


def _hair_list(stems: list[str], at: int, words: Lexicon) -> Iterator[tuple[int, int]]:
    """Spans of the hair adjectives from `at` on: "long, wavy and red"."""
    first = at
    while at < len(stems):
        start = at
        while at > first and start < len(stems) and stems[start] in SEPARATORS:
            start += 1
        width = _longest(stems, start, words.hair)
        if not width or (start > first and _longest(stems, start, words.phrases) > width):
            return  # not hair, or it belongs to another phrase: "red hair, short beard"
        yield start, start + width
        at = start + width


def _hair_phrase(stems: list[str], at: int, words: Lexicon) -> tuple[list[tuple[int, int]], int]:
    """The adjectives of the hair phrase that starts at `at`, and where it ends; ([], at) if none does."""
    found: list[tuple[int, int]] = []
    end = at
    if stems[at] != "hair":  # "long red hair"
        found = list(_hair_list(stems, at, words))
        end = found[-1][1] if found else at
        if not found or stems[end : end + 1] != ["hair"]:
            return [], at
    end += 1
    if stems[end : end + 1] == ["is"]:  # "the hair is long"
        later = list(_hair_list(stems, end + 1, words))
        if later:
            return found + later, later[-1][1]
    return (found, end) if found else ([], at)


def scan(words: list[str], known: Lexicon) -> list[Mention]:
    """Find the phrases of a lexicon in a text.

    Words outside the lexicon are skipped, so "a red silk shirt" is a red shirt. "no", "not" and "without" before a
    phrase mean every other level of its attribute, unless the lexicon has the negated phrase ("no glasses").

    Args:
        words: Tokens of the text.
        known: The phrases to look for.

    Returns:
        The phrases found, in order of the text.
    """
    kept = [i for i, w in enumerate(words) if _stem(w) in known.words and w not in ARTICLES]
    stems = [_stem(words[i]) for i in kept]
    mentions: list[Mention] = []
    at, negated, was_negated = 0, False, False

    def add(start: int, end: int, meaning: Meaning) -> None:
        if negated:
            meaning = Meaning(meaning.attribute, every_index(meaning.attribute) - meaning.indices)
        mentions.append(Mention(kept[start], kept[end - 1] + 1, meaning))

    while at < len(stems):
        width = _longest(stems, at, known.phrases)
        adjectives, end = _hair_phrase(stems, at, known)
        if adjectives and end - at >= width:
            for first, last in adjectives:
                add(first, last, known.hair[tuple(stems[first:last])])
        elif width:
            end = at + width
            add(at, end, known.phrases[tuple(stems[at:end])])
        else:
            goes_on = (stems[at] == "or" and was_negated) or (negated and stems[at] != ",")
            negated = stems[at] == "no" or goes_on
            at += 1
            continue
        was_negated = negated or stems[at] == "no"
        negated, at = False, end
    return mentions


LEXICON: Lexicon = _lexicon()
"""The phrases of captions."""

EXAMPLE = "a portrait of an old person with a big smile, long red hair and round glasses"


def parse(text: str) -> Constraints:
    """Read a caption, or any text that a person types.

    Case, punctuation, articles, plurals, spelling variants and the order of phrases do not matter, and
    unknown words are ignored.

    Args:
        text: For example ``"A smiling old woman with curly grey hair"``.

    Returns:
        For each attribute that is named, the indices of the levels or values that the words allow.

    Raises:
        CaptionError: If nothing is understood, or if two phrases contradict each other.
    """
    words = tokens(text)
    constraints: Constraints = {}
    phrases: dict[str, str] = {}
    for mention in scan(words, LEXICON):
        name, allowed = mention.attribute, mention.meaning.indices
        phrase = join(words[mention.start : mention.end])
        if not allowed & constraints.get(name, allowed):
            raise CaptionError(
                f"The text says two things about {noun(name)}: {phrases[name]!r} and {phrase!r}. "
                f"Keep one of them."
            )
        constraints[name] = allowed & constraints.get(name, allowed)
        phrases[name] = phrase
    if not constraints:
        raise CaptionError(_nothing(text))
    return constraints


def remarks(text: str) -> list[str]:
    """What a caption names that no portrait has: the model draws something all the same.

    Example:
        >>> remarks("an old woman with a parrot")
        ["This world has no 'parrot': the model was never taught the word."]
    """
    words = tokens(text)
    known = LEXICON.words | ARTICLES | PREPOSITIONS | PEOPLE | AROUND
    strange = dict.fromkeys(word for word in words if word not in known and _stem(word) not in known)
    found = []
    try:
        understood = bool(scan(words, LEXICON)) and bool(parse(text))
    except CaptionError as error:
        return [f"{error} An image is drawn all the same."]
    if strange and not understood:
        found.append(f"{_nothing(text)} An image is drawn all the same.")
    elif strange:
        found.append(
            f"This world has no {' and no '.join(map(repr, strange))}: the model was never taught the word."
        )
    return found


def _nothing(text: str) -> str:
    return (
        f"Nothing in {text!r} describes a portrait of this world. A caption can name "
        f"{', '.join(noun(name) for name in NAMES)}. Write for example: {EXAMPLE!r}."
    )


AROUND = frozenset(
    "portrait picture photo image her his their she he they who wears wearing looking has have ? very".split()
)
"""Words of captions that say nothing about a portrait."""
