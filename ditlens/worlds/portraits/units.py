"""Words of an instruction: typos corrected, in base form, and joined to the phrases of the lexicon."""

from __future__ import annotations

import functools
import itertools
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ditlens.worlds.portraits.lexicon import (
    ENTRIES,
    LISTS,
    PATTERNS,
    REWRITES,
    ROLES,
    SINGLES,
    SPELT,
    UNDRAWABLE,
    Entry,
    Sense,
    base,
)
from ditlens.worlds.portraits.phrases import tokens


@dataclass(frozen=True)
class Word:
    """One word in its base form, as it was typed, and the small words that were left out before it."""

    text: str
    typed: str
    before: tuple[str, ...] = ()


_ONES = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety hundred".split()
NUMBERS = {word: n for n, word in enumerate(_ONES, 1)} | {word: 10 * n for n, word in enumerate(_TENS, 1)}
DECADES = {word.removesuffix("y") + "ies": n for word, n in NUMBERS.items() if word.endswith("ty")}
"""The number with which "in her sixties" begins."""

VOCABULARY = frozenset(
    {word for phrase in (*ENTRIES, *ROLES) for word in phrase}
    | {word for phrase in REWRITES for word in phrase.split()}
    | {word for pattern, _ in PATTERNS for word in re.findall(r"[a-z]{3,}", pattern)}
    | SINGLES
    | LISTS["separators"]
    | NUMBERS.keys()
    | DECADES.keys()
)


def is_known(word: str) -> bool:
    """Whether a word, in any of its forms, is in the lexicon."""
    return word in VOCABULARY or bool(base(word))


@functools.lru_cache(1024)
def corrected(word: str) -> str | None:
    """The one known word that is a single typo away; None if there is none, or several.

    Letters that changed places or were doubled count most, then one that is missing. A word of three letters has no
    other typos, and becomes one only that way; only a long one may be a word of an idiom.
    """
    if len(word) < 3 or not word.isalpha() or is_known(word):
        return None
    if word in LISTS["real"] or {word, word[:-1]} & UNDRAWABLE.keys():
        return None
    near = {w for w in _typos(word) & SPELT if w[0] == word[0] or sorted(w) == sorted(word)}
    slips = {w for w in near if sorted(w) == sorted(word) or _undoubled(w) == _undoubled(word)}
    longer = {w for w in near if len(w) > len(word)}
    nouns = {w for w in near if ENTRIES.get(base(w), Entry()).heads}
    found = {w for w in near if len(w) > 3}
    if len(word) > 7 and not found:  # a long word of an idiom: "suprised"
        found = {w for w in _typos(word) if len(w) > len(word) and w[0] == word[0] and len(base(w)) == 1}
    for some in (slips, nouns & longer, longer) if len(word) == 3 else (slips, nouns & found, longer, found):
        if some:
            return min(some) if len({base(w) for w in some}) == 1 else None
    return None


def _undoubled(word: str) -> str:
    return re.sub(r"(.)\1", r"\1", word)


def _typos(word: str) -> set[str]:
    """All words at Damerau distance 1."""
    halves = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    letters = string.ascii_lowercase
    return (
        {a + b[1:] for a, b in halves if b}
        | {a + b[1] + b[0] + b[2:] for a, b in halves if len(b) > 1}
        | {a + c + b[1:] for a, b in halves if b for c in letters}
        | {a + c + b for a, b in halves for c in letters}
    )


@dataclass
class Notes:
    """What a person should know about how an instruction was read."""

    corrections: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)

    def remarks(self) -> list[str]:
        found = [f"{typed!r} is read as {read!r}." for typed, read in self.corrections.items()]
        found += [f"{word!r} is left out: this world cannot draw it." for word in self.ignored]
        return found + [f"{text!r} is left out: it asks for nothing." for text in self.asides]


def _whole(pattern: str) -> re.Pattern[str]:
    """A pattern of the lexicon, for whole words."""
    pattern = re.sub(r"{([a-z]+)}", lambda name: "|".join(sorted(LISTS[name[1]])), pattern)
    return re.compile(rf"(?<!\S)(?:{pattern.replace('END', '(?=$| ,| and | but )')})(?!\S)")


_PATTERNS = [(_whole(pattern), put) for pattern, put in PATTERNS]
_REWRITES = _whole("|".join(sorted(REWRITES, key=len, reverse=True)))

_NUMBER = rf"(?:(?:{'|'.join(_TENS)})(?: (?:{'|'.join(_ONES[:9])}))?|{'|'.join(_ONES)}|\d+)"
_BEFORE = "is|be|look|looks|aged|age|at|like|turned|about|around|being|he|she|they|hit|past|nearly|almost"
_AGES = [
    _whole(rf"()({_NUMBER}) (?:something|or so|ish|years? old|years of age)"),
    _whole(rf"((?:{_BEFORE}|his|her|their|your|the|early|mid|late) )({'|'.join(DECADES)}|\d+s)"),
    _whole(rf"((?:{_BEFORE}) )({_NUMBER})(?! (?:years?|decades)(?: |$))"),
    _whole(rf"((?:him|her|them|over|under) )({_NUMBER})END"),
]
_YEARS = _whole(rf"({_NUMBER}) (years?|decades)|()decade")


def _value(number: str) -> int:
    """What a number is: "sixty five", "sixties", "65"."""
    digits = number.removesuffix("s")
    return int(digits) if digits.isdigit() else sum((NUMBERS | DECADES)[word] for word in number.split())


def _aged(found: re.Match[str]) -> str:
    """An age in words of the lexicon: "sixty years old" is "old"."""
    number = _value(found[2])
    if number < 10 and found[1]:
        return found[0]
    return found[1] + ("young" if number < 36 else "midlife" if number < 58 else "old")


def _passed(found: re.Match[str]) -> str:
    """Years that pass: "by thirty years" is "by decades"."""
    long = found[1] and _value(found[1]) >= (3 if found[2] == "decades" else 25)
    return "decades" if long else "year"


def words_of(text: str, notes: Notes) -> list[Word]:
    """The words of a text that carry meaning."""
    text = re.sub(r"\b(he|she|it|that|there)['’]s\b", r"\1 is", text.lower())
    text = re.sub(r"\b(i|we|he|she|they)['’]d (?:love|like)\b", r"\1 want", text)
    text = re.sub(r"(\w)['’](?:d|ll|re|ve|m)\b", r"\1", text)  # "I'd", "they're"
    text = re.sub(r"\b(un|de|re|semi)-(?=\w)", r"\1", re.sub(r"\s+[-–—]+\s+", ", ", text))
    raw = []
    for typed in [word if word != "?" else "," for word in tokens(text)]:
        read = corrected(typed)
        if read:
            notes.corrections[typed] = read
        raw.append(read or typed)
    text = " ".join(raw)
    for ages in _AGES:
        text = ages.sub(_aged, text)
    text = _YEARS.sub(_passed, text)
    for pattern, put in _PATTERNS:
        text = pattern.sub(put, text)
    raw = _REWRITES.sub(lambda phrase: REWRITES[phrase[0]], text).split()
    found: list[Word] = []
    before: list[str] = []
    last = ""  # the noun for which "one" stands
    for typed, following in itertools.zip_longest(raw, raw[1:], fillvalue=","):
        after_noun = bool(found) and _is_noun(found[-1].text)
        if (
            following in LISTS["separators"]
            and typed in _CLOSING
            and (after_noun or _CLOSING[typed] == "put")
        ):
            found += [Word(_CLOSING[typed], typed)] if found else []
        elif typed in LISTS["skipped"]:
            before.append(typed)
        else:
            if typed in ("one", "ones") and last and not _is_noun(following):
                typed = last
            forms = base(typed) or (typed,)
            found += [Word(form, typed, () if i else tuple(before)) for i, form in enumerate(forms)]
            last = _kind(typed) or last
            before = []
    return [*found, Word(",", ",", tuple(before))] if before else found


_CLOSING = {"on": "put", "in": "put", "out": "off", "go": "off", "goes": "off"}
"""Small words that are verbs at the end of a clause: "glasses on, hat out"."""


def _kind(word: str) -> str:
    """What a thing is one of: a cap is a hat; itself if it is of no kind, nothing if it is no thing."""
    heads = ENTRIES.get(base(word)[-1:], Entry()).heads
    return next((head for head in heads if ENTRIES.get((head,), Entry()).heads), word if heads else "")


def _is_noun(word: str) -> bool:
    return bool(ENTRIES.get(base(word)[-1:], Entry()).heads)


# --- phrases ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Unit:
    """A phrase of the lexicon that was found, or a word that is not in it.

    Attributes:
        stems: Its words.
        typed: The same as they were typed.
        before: Small words before it.
        entry: What it means.
        roles: What it may do: verbs, degrees.
        within: Small words between its words.
        degrees: Degrees that belong to it: "much", "more".
    """

    stems: tuple[str, ...]
    typed: str
    before: tuple[str, ...]
    entry: Entry
    roles: frozenset[str]
    within: tuple[str, ...] = ()
    degrees: list[str] = field(default_factory=list)

    @property
    def is_noun(self) -> bool:
        return bool(self.entry.heads)

    @property
    def is_filler(self) -> bool:
        return all(word in LISTS["fillers"] for word in self.stems)

    @property
    def is_gerund(self) -> bool:
        first = self.typed.split()[0]
        return first.endswith("ing") and not (self.is_noun and first == self.stems[0])

    @property
    def is_quality(self) -> bool:
        return all(word in LISTS["qualities"] for word in self.stems)

    @property
    def is_definite(self) -> bool:
        return self.follows("owners")

    @property
    def is_indefinite(self) -> bool:
        return self.follows("articles")

    def follows(self, *small: str) -> bool:
        """Whether a word before it is one of these, or in a list of this name."""
        return any(word in self.before or LISTS.get(word, frozenset()) & {*self.before} for word in small)

    def about(self, heads: Iterable[str]) -> Sense | None:
        """What it says about a noun."""
        senses = self.entry.senses or {}
        found = [senses[head] for head in heads if head in senses]
        return next((sense for sense in found if sense.indices or sense.step), found[0] if found else None)


_LONGEST = max(len(phrase) for phrase in (*ENTRIES, *ROLES))


def _is_parted(words: Sequence[Word]) -> bool:
    """Whether "with" joins two phrases here that are read one by one: "pale with raven black hair"."""
    stems = tuple(word.text for word in words)
    return any(
        "with" in word.before and stems[:at] in ENTRIES and stems[at:] in ENTRIES
        for at, word in enumerate(words[1:], 1)
    )


def units_of(words: Sequence[Word]) -> list[Unit]:
    """The longest phrases of the lexicon, from left to right."""
    found, at = [], 0
    while at < len(words):
        for n in range(min(_LONGEST, len(words) - at), 0, -1):
            stems = tuple(word.text for word in words[at : at + n])
            if n == 1 or ((stems in ENTRIES or stems in ROLES) and not _is_parted(words[at : at + n])):
                break
        typed = " ".join(dict.fromkeys(word.typed for word in words[at : at + n]))
        first, *others = words[at : at + n]
        within = tuple(small for word in others for small in word.before)
        entry, roles = ENTRIES.get(stems, Entry()), ROLES.get(stems, frozenset())
        found.append(Unit(stems, typed, first.before, entry, roles, within))
        at += n
    return found
