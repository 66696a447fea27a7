"""Words of an instruction: typos corrected, in base form, and joined to the phrases of the lexicon."""

from __future__ import annotations

import functools
import itertools
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ditlens.worlds.portraits.lexicon import (
    COMPLAINTS,
    ENTRIES,
    FILLERS,
    KIN,
    PEOPLE,
    QUALITIES,
    REAL_WORDS,
    REWRITES,
    ROLES,
    SINGLES,
    SKIPPED,
    SPELT,
    UNDRAWABLE,
    Entry,
    Sense,
    base,
)
from ditlens.worlds.portraits.phrases import tokens

SEPARATORS = frozenset(", and but then while plus or nor yet although whilst except besides".split())
"""What stands between two clauses."""
ARTICLES = frozenset({"a", "an"})
OWNERS = frozenset("the this that these those his her their its my your".split())


@dataclass(frozen=True)
class Word:
    """One word in its base form, as it was typed, and the small words that were left out before it."""

    text: str
    typed: str
    before: tuple[str, ...] = ()


VOCABULARY = frozenset(
    {word for phrase in (*ENTRIES, *ROLES) for word in phrase}
    | {word for phrase in REWRITES for word in phrase.split()}
    | SINGLES
    | SEPARATORS
)


def is_known(word: str) -> bool:
    """Whether a word, in any of its forms, is in the lexicon."""
    return word in VOCABULARY or bool(base(word))


@functools.lru_cache(1024)
def corrected(word: str) -> str | None:
    """The one known word that is a single typo away; None if there is none, or several."""
    if len(word) < 4 or not word.isalpha() or is_known(word):
        return None
    if word in REAL_WORDS or {word, word[:-1]} & UNDRAWABLE.keys():
        return None
    found = _typos(word) & SPELT
    found = {
        w for w in found if w[0] == word[0] or sorted(w) == sorted(word)
    }  # the first letter is seldom wrong
    slips = {w for w in found if sorted(w) == sorted(word) or _undoubled(w) == _undoubled(word)}
    for some in (slips, {w for w in found if ENTRIES.get(base(w), Entry()).heads}, found):
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


def _rewritten(raw: list[str]) -> list[str]:
    """The same words with `REWRITES` applied, the longest first."""
    out, at = [], 0
    while at < len(raw):
        for n in range(min(6, len(raw) - at), 0, -1):
            new = REWRITES.get(" ".join(raw[at : at + n]))
            if new is not None:
                out += new.split()
                at += n
                break
        else:
            out.append(raw[at])
            at += 1
    return out


_TELLS = frozenset("give make let have put get dress show dye for".split())
_LIKENS = frozenset("like as into than to add include insert draw with".split())
_OF_PEOPLE = frozenset("same old young little elderly poor dear sweet older younger good bearded".split())


def _may_qualify(word: str) -> bool:
    """Whether a word may only say which person is meant: "the old man", "the art director"."""
    return word in _OF_PEOPLE or not is_known(word)


def _addressed(raw: list[str]) -> list[str]:
    """Pronouns for the person in the portrait: "give the old man a cap", but "like the old man"."""
    out, at = [], 0
    while at < len(raw):
        last, owned = raw[at - 1] if at else "", raw[at] in ("the", "my", "our", "this", "that")
        end = at + owned
        while owned and end < len(raw) and raw[end] not in PEOPLE and _may_qualify(raw[end]):
            end += 1
        wishes = raw[end + 2 : end + 3] in (["wants"], ["insists"], ["says"], ["prefers"])
        if raw[at] in ("his", "her", "their") and wishes:  # "his dad wants"
            owned, end = True, end + 1
        is_person = end < len(raw) and (raw[end] in PEOPLE if owned else raw[end] in KIN and last in _TELLS)
        if is_person and last not in _LIKENS:
            out.append("her")
            at = end + 1
        else:
            out.append(raw[at])
            at += 1
    return out


_PARTED = {"tone": "reduce", "dial": "reduce", "bring": "reduce", "crank": "increase", "amp": "increase"}


def _joined(raw: list[str]) -> list[str]:
    """Verbs joined with their "down" or "up": "tone the tan down", "take that grin down a notch"."""
    for at, word in enumerate(raw):
        rest = raw[at + 1 : at + 5]
        verb = _PARTED.get(word, "reduce" if word == "take" and {"notch", "peg"} & {*raw[at:]} else "")
        end = {"reduce": "down", "increase": "up"}.get(verb)
        if end in rest[1:] and "," not in rest[: rest.index(end)]:
            to = at + 1 + rest.index(end)
            if word != "bring" or {"notch", "peg"} & {*raw[to:]}:
                return [*raw[:at], verb, *raw[at + 1 : to], *raw[to + 1 :]]
    return raw


def _any_but(raw: list[str]) -> list[str]:
    """Negations for exceptions: "any shirt except red" is "a shirt, not red"."""
    if "any" not in raw:
        return raw
    at = raw.index("any")
    rest = raw[at : raw.index(",", at) if "," in raw[at:] else len(raw)]
    but = next((word for word in ("except", "but") if word in rest), None)
    return [*raw[:at], *("mustnt" if word == but else word for word in raw[at:])] if but else raw


_ONES = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety hundred"
NUMBERS = {word: n for n, word in enumerate(_ONES.split(), 1)}
NUMBERS |= {word: 10 * n for n, word in enumerate(_TENS.split(), 1)}
DECADES = {word.removesuffix("y") + "ies": n for word, n in NUMBERS.items() if word.endswith("ty")}
"""The number with which "in her sixties" begins."""

_BEFORE_AGES = frozenset(
    "is be look looks aged age at like turned about around being he she they hit past nearly almost".split()
)


def _number(words: Sequence[str]) -> tuple[int, int]:
    """The number with which a text begins, and how many words it takes; 0 words if there is none."""
    first = words[0].removesuffix("s")
    if first.isdigit():
        return int(first), 1
    tens = NUMBERS.get(words[0], DECADES.get(words[0], 0))
    ones = NUMBERS.get(words[1], 0) if 20 <= tens < 100 and len(words) > 1 else 0
    return (tens + ones, 2) if 0 < ones < 10 else (tens, int(tens > 0))


def _in_years(raw: list[str]) -> list[str]:
    """Numbers of years in words of the lexicon: "sixty years old" is "old", "by thirty years" is "by decades"."""
    out, at = [], 0
    while at < len(raw):
        number, n = _number(raw[at:])
        rest = " ".join(raw[at + n : at + n + 3])
        match = re.match(r"(something|or so|ish|years? old|years of age)\b", rest)
        owned = raw[max(at - 1, 0)] in _BEFORE_AGES | {
            "his",
            "her",
            "their",
            "your",
            "the",
            "early",
            "mid",
            "late",
        }
        is_plural = owned and (raw[at] in DECADES or bool(re.fullmatch(r"\d+s", raw[at])))
        passes = re.match(r"years?\b", rest)
        last, ends = raw[max(at - 1, 0)], raw[at + n : at + n + 1] in ([], [","], ["and"])
        is_told = last in _BEFORE_AGES or (ends and last in ("him", "her", "them", "over", "under"))
        is_age = match or is_plural or (number >= 10 and is_told and not passes)
        if n and is_age:
            out.append("young" if number < 36 else "midlife" if number < 58 else "old")
            n += len(match[0].split()) if match else 0
        elif n and (passes or rest.startswith("decades")):
            out.append("decades" if number >= (25 if passes else 3) else "year")
            n += 1
        else:
            n = max(n, 1)
            out += ["year"] if raw[at] == "decade" else raw[at : at + n]
        at += n
    return out


_COMPLAINS = re.compile(
    r"\b(?:is|are|looks?|feels?|seems?|its|im|am)(?: (?:so|too|really|very|rather|quite|just|a bit|way too))* "
    rf"(?:{'|'.join(sorted(COMPLAINTS))})\b"
)


_OF_HAIR = re.compile(
    r"\b((?:keep|leave|preserve|retain|touch|touching|change|changing) (?:the|her|his|their|its)) "
    r"(colou?r|length|style)\b(?! of| to| into)"
)
"""What is to stay of the hair, where hair is spoken of: "curly hair, but keep the colour"."""


def words_of(text: str, notes: Notes) -> list[Word]:
    """The words of a text that carry meaning."""
    text = re.sub(r"\b(he|she|it|that|there)['’]s\b", r"\1 is", text.lower())
    text = re.sub(r"\b(i|we|he|she|they)['’]d (?:love|like)\b", r"\1 want", text)
    text = re.sub(r"\s+[-–—]+\s+", ", ", re.sub(r"(\w)['’](d|ll|re|ve|m)\b", r"\1", text))  # "I'd", "they're"
    text = re.sub(r"\b(un|de|re|semi)-(?=\w)", r"\1", text)
    text = re.sub(r"\b(?:isn['’]?t|aren['’]?t|(?:is |are )?not) (\w+) enough\b", r"more \1", text)
    text = re.sub(r"\b(?:not|n['’]?t|dont)(?: \w+ with| want| need)? such (?:an? )?", "less ", text)
    text = re.sub(r"\b(?:do not|don['’]?t) (\w+) so much\b", r"\1 less", text)
    text = _COMPLAINS.sub("is change", text)  # "the wall is boring"
    if re.search(r"\bhair\b", text):
        text = _OF_HAIR.sub(r"\1 hair \2", text)
    text = re.sub(r"\b(no (?:\w+(?<!ing) ){1,2})left\b", r"\1", text)  # "no stubble left"
    raw = []
    for typed in _in_years([word if word != "?" else "," for word in tokens(text)]):
        read = corrected(typed)
        if read:
            notes.corrections[typed] = read
        raw.append(read or typed)
    found: list[Word] = []
    before: list[str] = []
    last = ""  # the noun for which "one" stands
    raw = _any_but(_rewritten(_joined(_addressed(raw))))
    for typed, following in itertools.zip_longest(raw, raw[1:], fillvalue=","):
        after_noun = bool(found) and _is_noun(found[-1].text)
        if following in SEPARATORS and typed in _CLOSING and (after_noun or _CLOSING[typed] == "put"):
            found += [Word(_CLOSING[typed], typed)] if found else []
        elif typed in SKIPPED:
            before.append(typed)
        else:
            if typed in ("one", "ones") and last and not _is_noun(following):
                typed = last
            forms = base(typed) or (typed,)
            found += [Word(form, typed, () if i else tuple(before)) for i, form in enumerate(forms)]
            last = typed if _is_noun(typed) else last
            before = []
    return found


_CLOSING = {"on": "put", "in": "put", "out": "off", "go": "off", "goes": "off"}
"""Small words that are verbs at the end of a clause: "glasses on, hat out"."""


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
        return all(word in FILLERS for word in self.stems)

    @property
    def is_gerund(self) -> bool:
        first = self.typed.split()[0]
        return first.endswith("ing") and not (self.is_noun and first == self.stems[0])

    @property
    def is_quality(self) -> bool:
        return all(word in QUALITIES for word in self.stems)

    @property
    def is_definite(self) -> bool:
        return bool(OWNERS & set(self.before))

    @property
    def is_indefinite(self) -> bool:
        return bool(ARTICLES & set(self.before))

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
