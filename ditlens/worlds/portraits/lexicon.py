"""The lexicon of instructions: what every phrase of ``words.ini`` means, and words in their base form."""

from __future__ import annotations

import configparser
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from ditlens.worlds.portraits.attributes import ATTRIBUTES, Categorical, attribute
from ditlens.worlds.portraits.phrases import PHRASES, SYNONYMS

Stems: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Sense:
    """What a phrase says about one attribute.

    Attributes:
        attribute: Its name.
        indices: The levels (or values) that are meant; empty for words that only make sense after "more".
        step: Levels to move by: "widen", "trim".
        lean: Where "more" of it leads: +1 towards the last level, -1 towards the first, 0 nowhere.
        also: What it says about another attribute besides: who laughs out loud opens the mouth.
    """

    attribute: str
    indices: frozenset[int] = frozenset()
    step: int = 0
    lean: int = 0
    also: Sense | None = None


@dataclass(frozen=True)
class Entry:
    """A phrase: as a noun, as a word about nouns, or both.

    Attributes:
        heads: Under which names the words about it are listed; empty if it is no noun.
        given: What is meant if the thing itself is asked for: "a smile".
        gone: What is meant if it is removed.
        senses: What it says about each head; under "" what it says alone.
    """

    heads: tuple[str, ...] = ()
    given: Sense | None = None
    gone: Sense | None = None
    senses: Mapping[str, Sense] | None = None

    def as_word(self) -> Entry:
        """The same where it is no noun: "age him"."""
        return Entry(senses=self.senses)


NOTHING = {"glasses": 0, "hat": 0, "earrings": 0, "beard": 0, "smile": 2}
"""The level or value that remains when something is removed."""

WORN = NOTHING.keys() - {"smile"}

AT_EASE = {"mouth_open": 0, "eye_open": 1, "brow_tilt": 1, "gaze": 1, "head_tilt": 1}
"""The level after one stops doing something: squinting, looking left."""

SIDEWAYS = frozenset({"gaze", "head_tilt"})
"""Attributes that have two sides, and no more or less."""

STRONG = {("hair_length", 1): 0, ("skin_tone", 1): 0, ("skin_tone", 3): 4}
"""What "very" makes of a level: "very short"."""

SOFT = {"look": ("gaze",), "peek": ("gaze",), "peer": ("gaze",), "wear": ("shirt",), "clothe": ("shirt",)}
"""Verbs that stand for a noun if a word about that noun follows: "look left", "wear white"."""


# --- the file ---------------------------------------------------------------------------------------------------


def _file() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.read_string(Path(__file__).with_name("words.ini").read_text(encoding="utf-8"))
    return parser


_FILE = _file()


def _sections(kind: str) -> Iterator[tuple[str, configparser.SectionProxy]]:
    """The sections of a kind, with the names that they have besides."""
    for title in _FILE.sections():
        first, _, name = title.partition(" ")
        if first == kind:
            yield name, _FILE[title]


def _tables(kind: str) -> Iterator[tuple[str, str, str, list[str]]]:
    """Head, attribute, levels or steps, and phrases of every line of these sections."""
    for head, lines in _sections(kind):
        for key, listed in lines.items():
            name, what = key.split()
            yield head, name, what, _listed(listed)


def _listed(text: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in text.split(",")]


LISTS = {name: frozenset(words.split()) for name, words in _FILE["small"].items()}
UNDRAWABLE = {word: name for name, listed in _FILE["undrawable"].items() for word in listed.split()}
"""What other worlds draw, with the attribute that is most like it here ("-" if none is)."""
REWRITES = {p: "" if to == "-" else to for to, listed in _FILE["rewrites"].items() for p in _listed(listed)}
PATTERNS = [
    [part.strip() for part in line.split("->")] for line in _FILE["patterns"]["all"].strip().splitlines()
]
THINGS = dict(_FILE["things"])
"""What is spoken of where a word stands alone: who is blond has hair."""
IRREGULAR = {form: word for word, listed in _FILE["irregular"].items() for form in _listed(listed)}
VERBS = {role: _listed(listed) for role, listed in _FILE["verbs"].items()}
ACTIVE = frozenset(VERBS["do"]) - LISTS["stative"]
"""Verbs that bring about a change; "not" before one of them means that it stays away."""

# --- words ------------------------------------------------------------------------------------------------------


def _phrases_of(*kinds: str) -> list[str]:
    return [phrase for kind in kinds for *_, listed in _tables(kind) for phrase in listed]


def _one_word(phrases: Iterable[str]) -> frozenset[str]:
    return frozenset(phrase for phrase in phrases if " " not in phrase)


_NOUNS = [phrase for _, lines in _sections("noun") for phrase in _listed(lines["phrases"])]
_ALL = [
    *_phrases_of("about", "moves", "leans"),
    *_NOUNS,
    *(phrase for listed in VERBS.values() for phrase in listed),
]
_COLORS = [phrase for _, name, _, listed in _tables("about") if name == "hair_color" for phrase in listed]
ADJECTIVES = _one_word([*_phrases_of("leans"), *_COLORS]) | LISTS["qualities"]
SINGLES = _one_word(_ALL) | LISTS["qualities"] | LISTS["fillers"] | LISTS["skipped"] | SOFT.keys()
"""Words that are phrases of their own."""

WORDS = frozenset(word for phrase in _ALL for word in phrase.split())
"""Every word of the lexicon."""

_ENDINGS = {"est": "most", "er": "more", "s": "", "es": "", "ing": "", "ed": "", "ly": ""}
_DOUBLES = re.compile(r"[^aeiou]*[aeiou][^aeiouwxy]")
"""Words that double their last letter before an ending: "trimmed", so "striped" has nothing to do with "strip"."""


def _without(word: str, ending: str) -> Iterator[str]:
    """What a word may be without its ending: "bigger", "er" gives "bigge" and "big"."""
    stem = word.removesuffix(ending)
    if len(stem) < 2 or stem == word:
        return
    whole = ending in ("s", "es", "ly")
    if not (ending == "es" and not stem.endswith(("s", "x", "z", "ch", "sh", "o"))) and (
        whole or not _DOUBLES.fullmatch(stem)
    ):
        yield stem
    if not whole:
        yield stem + "e"
        if stem[-1] == stem[-2]:
            yield stem[:-1]
    if stem.endswith("i"):
        yield stem[:-1] + "y"


@functools.lru_cache(8192)
def base(word: str) -> Stems:
    """A word in the form in which the lexicon has it, after "more" or "most"; nothing if it has none.

    >>> base("smiling"), base("bigger"), base("pirate")
    (('smile',), ('more', 'big'), ())
    """
    word = IRREGULAR.get(word, word)
    if word in SINGLES:
        return (word,)
    if word in UNDRAWABLE:  # "pants" is no form of "to pant"
        return ()
    for known in (SINGLES, WORDS):
        for ending, degree in _ENDINGS.items():
            for stem in _without(word, ending):
                if len(stem) > 2 and stem in (ADJECTIVES if degree else known):
                    return (degree, stem) if degree else (stem,)
    if word.endswith("s") and len(word) > 4 and (found := base(word[:-1])):
        return found
    return (word,) if word in WORDS else ()


def _stems(phrase: str) -> Stems:
    """The key of a phrase; empty if all its words are skipped."""
    words = [word for word in phrase.split() if word not in LISTS["skipped"]]
    return tuple(stem for word in words for stem in base(word) or (word,))


# --- meanings ---------------------------------------------------------------------------------------------------


def _indices(name: str, levels: str) -> frozenset[int]:
    """Levels as the file has them: "0+1", or "black+brown"."""
    listed = levels.split("+") if levels else []
    return frozenset(int(level) if level.isdigit() else ATTRIBUTES[name].level_of(level) for level in listed)


def _direction(name: str, indices: frozenset[int]) -> int:
    """Where more of these levels is: in the upper half of an ordered attribute, up."""
    spec = attribute(name)
    if isinstance(spec, Categorical) or name in SIDEWAYS:
        return 0
    middle, mean = (len(spec.levels) - 1) / 2, sum(indices) / len(indices)
    return (mean > middle) - (mean < middle)


def _senses() -> dict[Stems, dict[str, Sense]]:
    """What every phrase says about every head."""
    found: dict[Stems, dict[str, Sense]] = {}
    for head, name, levels, listed in _tables("about"):
        indices = _indices(name, levels)
        for phrase in listed:
            sense = Sense(name, indices, lean=_direction(name, indices))
            found.setdefault(_stems(phrase), {}).setdefault(head, sense)
    for head, name, number, listed in _tables("moves"):
        step = int(number)
        for phrase in listed:
            sense = Sense(name, step=step, lean=(step > 0) - (step < 0))
            found.setdefault(_stems(phrase), {}).setdefault(head, sense)
    for head, name, lean, listed in _tables("leans"):
        for phrase in listed:
            known = found.setdefault(_stems(phrase), {})
            old = known.get(head, Sense(name))
            if old.attribute == name and not old.step:
                known[head] = replace(old, lean=int(lean))
    for _, name, levels, listed in _tables("also"):
        indices = _indices(name, levels)
        for phrase in listed:
            known = found[_stems(phrase)]
            known[""] = replace(known[""], also=Sense(name, indices, lean=_direction(name, indices)))
    return found


def _noun(lines: configparser.SectionProxy) -> Entry:
    """What a section about a noun says."""
    heads = tuple("" if head == "-" else head for head in _listed(lines["heads"]))
    name, _, levels = lines.get("gives", lines.get("steps", "")).partition(" ")
    if not name:
        return Entry(heads)
    lean = int(lines.get("more", "0"))
    given = (
        Sense(name, step=int(levels), lean=lean)
        if "steps" in lines
        else Sense(name, _indices(name, levels), 0, lean)
    )
    gone = Sense(name, frozenset({int(lines["gone"])})) if "gone" in lines else None
    return Entry(heads, given, gone)


def _entries() -> dict[Stems, Entry]:
    said = _senses()
    for stems, senses in said.items():
        for ending in ("ed", "ing"):  # what "to worry" says, "worried" says as well
            for stem in _without(stems[0], ending) if len(stems) == 1 else ():
                senses |= {head: sense for head, sense in said.get((stem,), {}).items() if head not in senses}
    found = {stems: Entry(senses=senses) for stems, senses in said.items() if stems}
    for stems, entry in list(found.items()):  # "dark red", "light blue"
        colors = {
            h: s
            for h, s in (entry.senses or {}).items()
            if s.attribute in ("hair_color", "shirt", "background", "skin_tone")
        }
        if colors and {s.attribute for s in colors.values()} != {"skin_tone"} and stems != ("dark",):
            for shade in ("dark", "light", "bright", "deep", "pale"):
                found.setdefault((shade, *stems), Entry(senses=colors))
    for _, lines in _sections("noun"):
        entry = _noun(lines)
        for phrase in _listed(lines["phrases"]):
            found[_stems(phrase)] = replace(entry, senses=found.get(_stems(phrase), entry).senses)
    return {stems: entry for stems, entry in found.items() if entry.heads or not _is_composed(stems, found)}


def _is_composed(stems: Stems, found: Mapping[Stems, Entry]) -> bool:
    """Whether a phrase is words about a noun and that noun, which are read one by one."""
    heads = found.get(stems[-1:], Entry()).heads
    before = found.get(stems[:-1], Entry()).senses or {}
    first, after = found.get(stems[:1], Entry()).heads, found.get(stems[1:], Entry()).senses or {}
    alone = (found[stems].senses or {}).get("")
    same = alone and any(head in after and after[head].indices == alone.indices for head in first)
    return len(stems) > 1 and (bool(same) or any(head in before for head in heads))


ENTRIES: dict[Stems, Entry] = _entries()
"""Every phrase that says something about a portrait."""


def _roles() -> dict[Stems, frozenset[str]]:
    found: dict[Stems, frozenset[str]] = {}
    for role, listed in VERBS.items():
        for phrase in listed:
            found[_stems(phrase)] = found.get(_stems(phrase), frozenset()) | {role}
    return {stems: roles for stems, roles in found.items() if stems}


ROLES: dict[Stems, frozenset[str]] = _roles()
"""Every phrase that says what happens, or how much."""


_ABOUT = [(head, name) for kind in ("about", "moves") for head, name, *_ in _tables(kind) if head]


def attributes_of(entry: Entry) -> frozenset[str]:
    """The attributes that a noun is about."""
    found = {name for head, name in _ABOUT if head in entry.heads}
    return frozenset(found | ({entry.given.attribute} if entry.given else set()))


def _compared(word: str) -> str:
    """The comparative of a short adjective."""
    if word.endswith(("e", "y")):
        return word + "r" if word.endswith("e") else word[:-1] + "ier"
    return word + (word[-1] if _DOUBLES.fullmatch(word) else "") + "er"


def _spelt() -> frozenset[str]:
    """Common words, not those of idioms, with their usual endings."""
    common, nouns = LISTS["common"], _one_word(_NOUNS)
    said = {
        word
        for table in PHRASES.values()
        for phrases in table
        for phrase in phrases
        for word in phrase.split()
    }
    said |= {
        word
        for table in SYNONYMS.values()
        for listed in table.values()
        for word in re.findall("[a-z]+", listed)
    }
    leaning = _one_word(_phrases_of("leans")) & ADJECTIVES
    compared = {_compared(word) for word in leaning & (common | said)}
    plurals = {word + "s" for word in nouns if not word.endswith("s")}
    return frozenset(word for word in nouns | plurals | leaning | compared | said | common if len(word) > 2)


SPELT: frozenset[str] = _spelt()
"""The words to which a typo is corrected."""
