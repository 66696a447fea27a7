"""Source and target captions that differ only in the edit, aligned token by token where possible.

A caption is cut into *segments*: stretches of tokens that are the same on both sides, and one segment per
changed phrase, which has its own tokens on each side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ditlens.worlds.portraits.attributes import attribute, neutral
from ditlens.worlds.portraits.captions import compose, nameable
from ditlens.worlds.portraits.constraints import known_levels, pick, settle
from ditlens.worlds.portraits.phrases import (
    ARTICLES,
    BARE,
    HAIR,
    PEOPLE,
    PHRASES,
    Constraints,
    article,
    is_noun_phrase,
    join,
    tokens,
    without_article,
)
from ditlens.worlds.portraits.reading import LEXICON, Mention, parse, scan

DETERMINERS = frozenset({"the", "her", "his", "their", "its"})
"""Words that replace "a"."""


class PhraseSpan(NamedTuple):
    """A changed phrase: its tokens (start, end) in each text, end exclusive."""

    attribute: str
    source: tuple[int, int]
    target: tuple[int, int]


class CaptionPair(NamedTuple):
    """A source caption, its target caption, and the phrases in which they differ."""

    source_text: str
    target_text: str
    changed_spans: list[PhraseSpan]


@dataclass
class _Segment:
    """Tokens on both sides; `attribute` says what a phrase is about."""

    source: list[str]
    target: list[str]
    attribute: str | None = None


def target_caption(
    source: str | Mapping[str, float | str],
    changes: Mapping[str, int] | Constraints,
    *,
    values: Mapping[str, float | str] | None = None,
) -> CaptionPair:
    """Write the caption of an edited portrait by replacing phrases in the caption of the source.

    Everything else is kept word for word. If synonyms on either side give both phrases the same length, they are
    taken; otherwise the wording of the source is kept. An attribute that the source caption does not mention is
    first inserted there, with its current value.

    Args:
        source: The source's caption, or its values (then its canonical caption is used).
        changes: As in `Instruction.changes`, or as returned by `parse_instruction`.
        values: The source's values, for attributes that the caption does not mention or leaves open; the neutral
            level is assumed for the others.

    Returns:
        Both texts, normalised, and the spans in which they differ: none for attributes that are already as asked
        for.

    Raises:
        CaptionError: If `source` is a text in which nothing is understood.

    Example:
        >>> target_caption("a portrait of an old person with round glasses", {"glasses": 0}).target_text
        'a portrait of an old person with no glasses'
    """
    if not isinstance(source, str):
        values = source
        source = compose(nameable(neutral(1, **source))[0])
    words = _spell_out(tokens(source))
    said = parse(join(words))
    edits = {}
    for name, wanted in changes.items():
        current = _current(attribute(name).name, said, values)
        target = settle(name, wanted, current)
        if target != current:
            edits[name] = (current, target)
    segments = _cut(words, edits)
    for name, (current, target) in edits.items():
        if all(segment.attribute != name for segment in segments):
            _insert(segments, name, current, target)
    return _assemble(segments, set(edits))


def _spell_out(words: list[str]) -> list[str]:
    """Give every phrase its own "no": "no hat or glasses" becomes "no hat, no glasses"."""
    result: list[str] = []
    negated = False
    for word in words:
        negated = word != "," and (negated or word in ("no", "not", "without"))
        if word in ("or", "nor") and negated:
            result += [",", "no"]
        elif not (word in ARTICLES and result[-1:] == ["no"]):
            result.append(word)
    return result


def _current(name: str, said: Constraints, values: Mapping[str, float | str] | None) -> int:
    """The source's level: measured, unless its caption says otherwise."""
    allowed = said.get(name) or known_levels(name, values)
    measured = attribute(name).level_of(values[name]) if values and name in values else None
    return measured if measured in allowed else pick(name, allowed)


def _cut(words: list[str], edits: Mapping[str, tuple[int, int]]) -> list[_Segment]:
    """Cut a caption at its phrases, and put the new phrases on the target's side."""
    segments: list[_Segment] = []
    done = 0
    for mention in scan(words, LEXICON):
        name = mention.attribute
        start = mention.start
        if name in edits and _takes_article(words, mention):
            start -= 1
        segments.append(_Segment(words[done:start], words[done:start]))
        old = words[start : mention.end]
        done = mention.end
        if name not in edits:
            segments.append(_Segment(old, old, name))
        elif name == "age" or words[done : done + 1] == [] or words[done] not in PEOPLE:
            bare = words[start - 1 : start] != [] and words[start - 1] in DETERMINERS
            segments.append(_Segment(*_replace(name, *edits[name], old, bare), name))
        # otherwise "a smiling man": the adjective goes, and a phrase is appended instead
    segments.append(_Segment(words[done:], words[done:]))
    return [segment for segment in segments if segment.source]


def _takes_article(words: list[str], mention: Mention) -> bool:
    """Whether the article before a mention belongs to it: "a big smile", but not "a long-haired person"."""
    prenominal = mention.end < len(words) and words[mention.end] in PEOPLE
    has_own = mention.attribute == "age" or not (mention.attribute in HAIR or prenominal)
    return has_own and mention.start > 0 and words[mention.start - 1] in ("a", "an")


def _replace(
    name: str, source: int, target: int, old: list[str], bare: bool = False
) -> tuple[list[str], list[str]]:
    """The changed phrase on both sides, as alike as synonyms allow.

    Best is the same number of tokens; then the same kind of phrase (after "with" only a noun is English);
    then the wording that the source has; then synonyms at the same place of their lists. `bare` asks for
    phrases without an article; a keyword ("big smile") is replaced by a keyword.
    """
    written = " ".join(old)
    keyword = any(written in phrases for phrases in BARE[name])
    own_article = any(written in phrases for phrases in PHRASES[name])
    table = BARE if bare or (keyword and not own_article) else PHRASES
    if name == "age":
        written = without_article(written)
    sources = [written, *table[name][source]]

    def cost(pair: tuple[int, int]) -> tuple[int, bool, bool, int, int]:
        i, j = pair
        before, after = sources[i], table[name][target][j]
        rank = table[name][source].index(before) if before in table[name][source] else 0
        longer = abs(len(before.split()) - len(after.split()))
        return longer, is_noun_phrase(written) != is_noun_phrase(after), i > 0, abs(rank - j), j

    pairs = [(i, j) for i in range(len(sources)) for j in range(len(table[name][target]))]
    i, j = min(pairs, key=cost)
    before, after = sources[i], table[name][target][j]
    if name == "age" and old[0] in ("a", "an"):
        return [article(before), *before.split()], [article(after), *after.split()]
    return before.split(), after.split()


def _insert(segments: list[_Segment], name: str, source: int, target: int) -> None:
    """Name an attribute that the caption does not: within the phrase about hair if there is one, or last."""
    phrase = _Segment(*_replace(name, source, target, PHRASES[name][source][0].split()), name)
    if name in HAIR:
        for at in range(1, len(segments)):
            if segments[at].source[0] == "hair" and segments[at - 1].attribute in HAIR:
                segments.insert(at, phrase)
                return
    before = [","] if name != "age" else [",", "looking"]
    segments += [_Segment(before, before), phrase]
    if name in HAIR:
        segments.append(_Segment(["hair"], ["hair"]))


def _assemble(segments: list[_Segment], edited: set[str]) -> CaptionPair:
    """Join the segments; "a" and "an" follow the word after them."""
    source = _fix_articles([word for segment in segments for word in segment.source])
    target = _fix_articles([word for segment in segments for word in segment.target])
    spans = []
    i = j = 0
    for segment in segments:
        start, before = i, j
        i, j = i + len(segment.source), j + len(segment.target)
        if segment.attribute in edited:
            if start and before and source[start - 1] != target[before - 1]:  # "an" became "a"
                start, before = start - 1, before - 1
            spans.append(PhraseSpan(segment.attribute, (start, i), (before, j)))
    return CaptionPair(join(source), join(target), spans)


def _fix_articles(words: list[str]) -> list[str]:
    """Choose between "a" and "an" by the next word."""
    return [
        article(after) if word in ("a", "an") and after else word
        for word, after in zip(words, [*words[1:], ""], strict=True)
    ]
