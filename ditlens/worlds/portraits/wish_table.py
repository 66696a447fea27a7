"""Wishes for the playground: what the grammar makes of short clauses, as a table that a browser can look up.

The browser has the words of the lexicon, but no grammar. It cuts a wish into clauses and writes each as a *frame*:
the parts that its words have, without the words. "Give her much longer hair" is ``make the strong more A N``,
where N is hair and A says something about its length. For every frame, every noun and every sense of a word about
it, the grammar is asked here what it makes of such a clause at each level of a portrait. What it refuses is not in
the table.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from ditlens.errors import CaptionError
from ditlens.worlds.portraits import grammar
from ditlens.worlds.portraits.attributes import ATTRIBUTES, Categorical
from ditlens.worlds.portraits.clauses import DEGREES, Clause, Unclear, _is_color_only, read_clauses
from ditlens.worlds.portraits.constraints import settle
from ditlens.worlds.portraits.edits import command, commands
from ditlens.worlds.portraits.lexicon import (
    _ENDINGS,
    ACTIVE,
    ADJECTIVES,
    ENTRIES,
    IRREGULAR,
    LISTS,
    NOTHING,
    PATTERNS,
    REWRITES,
    ROLES,
    SIDEWAYS,
    SOFT,
    SPELT,
    UNDRAWABLE,
    WORN,
    Entry,
    Sense,
    Stems,
    attributes_of,
)
from ditlens.worlds.portraits.phrases import PHRASES
from ditlens.worlds.portraits.units import _CLOSING, Notes, Unit, _typos, units_of, words_of

Meaning: TypeAlias = tuple[tuple[str, str], ...]
"""Attributes, each with the level that it gets from every level that it may have: ``(("smile", "33344"),)``."""

# --- frames -----------------------------------------------------------------------------------------------------

VERBS = "make let use have want need wear hold grow dye go change alter remove delete no without keep dont".split()
"""One verb for each way in which verbs work."""


def _frames(*lines: str) -> tuple[str, ...]:
    """Every way to fill these lines: a part is one of several, "-" is nothing and "_" a space."""
    parts = (itertools.product(*(part.split("|") for part in line.split())) for line in lines)
    filled = (
        " ".join(" ".join(each).replace("-", "").replace("_", " ").split()) for line in parts for each in line
    )
    return tuple(dict.fromkeys(filled))


WITH_WORD = _frames(
    "-|make|want|use|have|need|with|change_to|make_on -|a|the A N",
    "wear|let|go|grow|hold A N",
    "grow|hold|wear -|a A N",
    "hold|grow -|the N A",
    "make|want|let the_a A N",
    "-|make|want|have|let -|the N A",
    "-|the N make A",
    "change|dye -|the N -|to|into A",
    "-|the N to -|the A",
    "make -|a A N on|make",
    "remove|delete|no|without -|the A N",
    "remove -|the A N delete",
    "make|make_the|let|let_the wear -|a A N",
    "want to_the|to have|wear -|a A N",
    "make it_a A N",
    "-|make A -|the N",
)
"""Frames of a noun and a word about it. "The" stands for "her" and "that", too: "her a" is "the a"."""
WITH_DEGREE = _frames(
    "-|make|want -|a|the more|mild_more|strong_more|less|strong|mild A N",
    "make the_a more|mild_more|strong_more|strong|mild A N",
    "-|make|let -|the N more|mild_more|strong_more|less|strong|mild|a_mild_more|mild_less|a_mild_less A",
    "-|make -|the N A mild|strong|more",
    "-|the N make more|mild_more|strong A",
    "A -|the N mild|strong|more|strong_more|mild_more",
    "-|the N is too A",
    "the N too A",
)
"""The same where there is more or less of it."""
ONLY_NOUN = _frames(
    "-|make|want|use|have|need|with -|a|the|the_a N",
    "change_to|make_on|wear|let|go -|a N",
    "-|make|want -|the more|less|mild_more|strong_more|mild|strong|a_mild N",
    "make -|the N mild|strong|more",
    "grow|wear -|a N",
    "N mild|strong|more",
    "remove|delete|no|without -|a|the N",
    "-|the N delete|make",
    "remove -|the N delete",
    "make|make_the|let|let_the wear -|a N",
    "want to_the|to have|wear -|a N",
    "make -|a|the N on|make",
    "make the N delete",
)
"""Frames of a noun alone."""
ONLY_WORD = _frames(
    "-|make|want|let|have|go|change|change_to|change_into -|the|a|the_a A",
    "-|make|let -|the more|mild_more|strong_more|less|mild_less|strong|mild|a_mild_more A",
    "-|make|make_the A mild|strong|more",
    "too A",
)
"""Frames of a word that needs no noun: "older"."""

_WORN = (
    ("glasses", "round glasses", "square glasses", "sunglasses", "dark shades"),
    ("hat", "cap", "beanie", "crown", "baseball cap", "golden crown", "woolly hat"),
    ("earrings", "pearls", "hoops", "pearl earrings", "hoop earrings"),
)
_SWAPS = ("swap the {} for {}", "replace the {} with {}", "replace the {} by {}", "change the {} to {}")
_IDIOMS = (
    "turn that frown upside down", "wipe the smile off his face", "wipe that grin off his face",
    "cheer him up", "take a few years off her", "take ten years off him", "age him by thirty years",
    "make the skin one shade darker", "make the skin one shade lighter", "make eye contact",
    "get rid of the wrinkles", "give him a haircut", "shave his head", "shave it off", "let her hair grow",
    "let his beard grow", "straighten the head", "make her a queen", "make him a king", "crown him",
    "tone the smile down", "tone down the smile", "say cheese", "let her hair grow long",
    "let the hair grow past the shoulders", "cut his hair", "cut the hair short", "cut the hair very short",
    "trim the beard", "trim the hair", "trim the beard to stubble", "grow out the beard", "stop smiling",
    "stop frowning", "stop squinting", "wake her up", "make him angry", "laugh", "laugh out loud",
    "look into the camera", "make her look at me", "let her look into the camera",
    "look straight into the camera", "look at the camera", "look away", "turn the eyes to the left",
    "turn the eyes to the right", "tilt her head to the left", "tilt his head to the right",
    "lean the head left", "lean the head to the left", "lean the head right", "lean the head to the right",
    "tip the head left", "tip the head right", "turn the head to the left", "turn the head to the right",
    "dress her in white", "dress her in red", "dress her in blue", "dress her in green", "dress her in yellow",
    "dress her in purple", "open eyes wide", "open mouth wide", "open wide", "tilt head left",
    "tilt head right", "tilt head to the left", "tilt head to the right", "turn head left", "turn head right",
)  # fmt: skip
"""Wishes that are common, but have a form of their own."""

# --- what the grammar makes of a clause -------------------------------------------------------------------------

_TYPED = {"more": "more", "less": "less", "mild": "slightly", "strong": "very", "most": "most", "too": "too"}


def _typed(frame: str, noun: str, word: str) -> str:
    """A clause of this frame."""
    frame = re.sub(" make$", " on", re.sub(" on$", " on him", frame))  # "glasses on", "put a hat on him"
    text = frame.replace("make on", "put on").replace("strong more", "much more").replace("the a ", "her a ")
    said = {"N": noun, "A": word, **_TYPED}
    return " ".join(said.get(part, part) for part in text.split())


def meaning(text: str) -> Meaning:
    """What the grammar makes of a clause at each level of what it changes; empty if it refuses it."""
    notes = Notes()
    try:
        clauses = read_clauses(units_of(words_of(text, notes)), notes)
        plans = grammar._plans(clauses, notes)
        names = {ask.sense.attribute for plan in plans for ask in plan.asks}
        if notes.ignored or notes.asides or len(clauses) > 1 or any(plan.kept for plan in plans):
            return ()
        found = tuple((name, _levels(clauses, plans, name, names)) for name in sorted(names))
    except (CaptionError, Unclear):
        return ()
    return found if all(set(levels) != {"-"} for _, levels in found) else ()


def _levels(clauses: Sequence[Clause], plans: Sequence[grammar.Plan], name: str, names: set[str]) -> str:
    """The level that an attribute gets from each that it may have; "-" where the grammar refuses."""
    digits = ""
    for level in range(len(PHRASES[name])):
        try:
            changes, held = grammar._combine(plans, {name: frozenset({level})}, "")
            if set(digits) <= {"-"}:  # what has a part in it does not depend on the level
                grammar._account(clauses, changes.keys() | held)
            digits += str(settle(name, changes[name], level)) if changes.keys() == names else "-"
        except (CaptionError, Unclear):
            digits += "-"
    return digits


# --- what the grammar asks about a phrase -----------------------------------------------------------------------

_LISTS_OF_VERBS = "asking calls covers dyes finite fixes people states stative towards wants".split()


def _way(stems: Stems) -> tuple[Any, ...]:
    """How a verb works."""
    phrase = " ".join(stems)
    listed = tuple(name for name in _LISTS_OF_VERBS if {phrase, stems[0]} & LISTS[name])
    is_own = phrase in SOFT or phrase in ("no", "without")
    return (ROLES[stems], listed, phrase in ACTIVE, repr(ENTRIES.get(stems)), is_own)


@functools.cache
def _ways() -> dict[tuple[Any, ...], str]:
    return {_way((verb,)): verb for verb in reversed(VERBS)}


_TIMES = LISTS["occasions"] | LISTS["media"] | {"year", "decade", "decades"}


@functools.cache
def _part(stems: Stems) -> str:
    """The part of a phrase that says nothing about a noun here: a degree, a verb, a filler; "?" if it is none."""
    roles = ROLES.get(stems, frozenset())
    if len(roles) > 1 or {*stems} & _TIMES:
        return "?"
    for role in roles:
        return role if role in DEGREES else _ways().get(_way(stems), "?")
    if all(word in LISTS["fillers"] for word in stems):
        return "filler"
    return "quality" if all(word in LISTS["qualities"] for word in stems) else ""


@functools.cache
def _kind(stems: Stems) -> str:
    """What else a word about a noun is."""
    unit = Unit(stems, " ".join(stems), (), ENTRIES[stems], ROLES.get(stems, frozenset()))
    return f"{_part(stems)}{'N' * unit.is_noun}{'C' * _is_color_only(unit)}{'Q' * unit.is_quality}"


_KINDS = frozenset(
    ["", "N", "C", "less", "more", "mild", "mildQ", "qualityQ", "qualityCQ", "filler", "fillerQ", "fillerC"]
)
"""Kinds of words that are in the table."""

SHADES = ("dark", "light", "bright", "deep", "pale")
_COLORED = ("hair_color", "shirt", "background", "skin_tone")


def _shaded(stems: Stems) -> dict[str, Sense]:
    """What a color says after "dark" or "light"; empty if it is none."""
    senses = ENTRIES.get(stems, Entry()).senses or {}
    colors = {head: sense for head, sense in senses.items() if sense.attribute in _COLORED}
    return colors if ENTRIES.get((SHADES[0], *stems), Entry()).senses == colors else {}


def _is_shaded(stems: Stems) -> bool:
    """Whether a phrase is a color after such a word."""
    colors = _shaded(stems[1:]) if stems[0] in SHADES else {}
    return bool(colors) and ENTRIES.get(stems, Entry()).senses == colors


@functools.cache
def _alone() -> frozenset[str]:
    """Words that say something alone, or in a noun."""
    phrases = {word for stems in (*ENTRIES, *ROLES) if len(stems) == 1 or _is_noun(stems) for word in stems}
    return frozenset(phrases | LISTS["fillers"] | LISTS["qualities"] | LISTS["skipped"])


def _is_noun(stems: Stems) -> bool:
    return bool(ENTRIES.get(stems, Entry()).heads)


def _is_common(stems: Stems) -> bool:
    """Whether a phrase is in the table: its words mean something elsewhere, too, unlike those of most names."""
    return _is_noun(stems) or len(stems) == 1 or not {*stems} - _alone()


def _like(stems: Stems) -> tuple[tuple[str, ...], str]:
    """Nouns for which this is the same are read alike."""
    entry = ENTRIES[stems]
    return entry.heads, repr((entry.given, entry.gone))


# --- the table --------------------------------------------------------------------------------------------------


class _Numbers(dict[Any, int]):
    """Numbers everything that is asked for, in turn."""

    def __missing__(self, key: Any) -> int:
        self[key] = len(self)
        return self[key]


class _Table:
    """The parts of the table while they are collected."""

    def __init__(self) -> None:
        self.nouns, self.senses, self.sayings, self.kinds = (_Numbers() for _ in range(4))
        self.frames, self.sets, self.meanings = (_Numbers() for _ in range(3))

    def saying(self, senses: dict[str, Sense]) -> int:
        """The number of what a phrase says about every head."""
        return self.sayings[tuple((head, self.senses[sense]) for head, sense in sorted(senses.items()))]

    def phrases(self) -> dict[tuple[int, int, int, str], list[str]]:
        """The phrases of the lexicon by what they say, and which noun, kind and part they are."""
        found: dict[tuple[int, int, int, str], list[str]] = {}
        words = [(word,) for word in sorted(LISTS["fillers"] | LISTS["qualities"])]
        for stems in dict.fromkeys([*ENTRIES, *ROLES, *words]):
            if _is_shaded(stems) or not _is_common(stems):
                continue
            senses = dict(ENTRIES.get(stems, Entry()).senses or {})
            noun = self.nouns[_like(stems)] if _is_noun(stems) else -1
            key = (self.saying(senses), noun, self.kinds[_kind(stems)] if senses else -1, _part(stems))
            found.setdefault(key, []).append(" ".join(stems))
        return found

    def shades(self) -> dict[int, int]:
        """For what a color says, what it says after "dark" or "light"."""
        said = {stems: _shaded(stems) for stems in ENTRIES if _is_common(stems)}
        return {
            self.saying(dict(ENTRIES[stems].senses or {})): self.saying(after)
            for stems, after in said.items()
            if after
        }

    def ask(self, heads: tuple[str, ...], noun: str) -> dict[str, str]:
        """What the grammar makes of this noun with every kind of word about it; without a noun, of words alone."""
        found: dict[tuple[Sense, str], list[Stems]] = {}
        for stems, entry in ENTRIES.items():
            sense = Unit(stems, "", (), entry, frozenset()).about(heads)
            about = not noun or any(head in (entry.senses or {}) for head in heads if head)
            if sense and about and not (len(stems) > 1 and stems[0] in SHADES) and _kind(stems) in _KINDS:
                found.setdefault((sense, _kind(stems)), []).append(stems)
        rows = {}
        for (sense, kind), phrases in found.items():
            word = min(phrases, key=lambda stems: (_runs_on(stems, noun), len(stems)))
            if (*word, noun) in ENTRIES:  # "dark glasses" are a noun of their own
                continue
            is_main = noun in heads or noun in SOFT
            graded = WITH_DEGREE if is_main and _has_degrees(sense) else ()
            frames = WITH_WORD + graded if noun else ONLY_WORD
            rows[f"{self.senses[sense]}.{self.kinds[kind]}"] = self.row(frames, noun, " ".join(word))
        return {key: row for key, row in rows.items() if row}

    def row(self, frames: tuple[str, ...], noun: str, word: str = "") -> str:
        """The meanings of all frames with this noun and word: "meaning:frames ..."."""
        found: dict[Meaning, list[int]] = {}
        for frame in frames:
            grows = noun in ("beard", "hair") or not frame.startswith("grow")
            if not grows or (
                noun == "expression" and {"remove", "delete", "no", "without"} & {*frame.split()}
            ):
                continue
            says = meaning(_typed(frame, noun, word))
            if says and (len(says) == 1 or noun in _HAIRY or not (noun and word)):
                found.setdefault(says, []).append(self.frames[frame])
        listed = {says: tuple(sorted(places)) for says, places in found.items()}
        return " ".join(f"{self.meanings[says]}:{self.sets[places]}" for says, places in listed.items())

    def idioms(self) -> dict[str, int]:
        """Wishes that have no frame, with what they come to; among them every command that is not plain."""
        plain = ("add", "remove", "dye", "change", "swap", "put")
        texts = [text for text in sorted(commands()) if text.split()[0] not in plain]
        texts = [text for text in texts if " them" not in text and "the person" not in text]
        pairs = [
            pair for words in _WORN for pair in itertools.product(words[:4], words[1:]) if pair[0] != pair[1]
        ]
        swaps = [swap.format(*pair) for swap in _SWAPS for pair in pairs]
        found = {text: meaning(text) for text in (*texts, *swaps, *_IDIOMS)}
        return {text: self.meanings[says] for text, says in found.items() if says}


_HAIRY = ("curl", "wave", "perm", "afro")
"""Nouns that say one thing about the hair, so that a word with them may say another: "grey curls"."""


def _runs_on(stems: Stems, noun: str) -> bool:
    """Whether a word makes another phrase with the noun or a degree: "very full", said of a beard, is long."""
    degrees = [("very",), ("more",), ("less",), ("most",), ("slight",), ("too",)]
    joined = [(*degree, *stems) for degree in degrees] + [(*stems, noun), (noun, *stems)]
    return any(phrase in ENTRIES for phrase in joined)


def _has_degrees(sense: Sense) -> bool:
    is_scale = not isinstance(ATTRIBUTES[sense.attribute], Categorical) and sense.attribute not in SIDEWAYS
    return bool(sense.lean or sense.step) or is_scale


def wish_table() -> dict[str, Any]:
    """What a browser needs to read wishes, ready for JSON.

    Returns:
        The words of the lexicon (``phrases``: what each group of them says, and which noun, kind and part it is);
        what clauses come to (``rows``: by noun, then by word; each "meaning:frames ..."); idioms; and how words
        are found in a text (``words``).
    """
    table = _Table()
    phrases = table.phrases()
    rows, nouns = {}, {}
    for stems in sorted(
        filter(_is_noun, ENTRIES), key=lambda s: (" ".join(s) not in ENTRIES[s].heads, len(s))
    ):
        number, entry = str(table.nouns[_like(stems)]), ENTRIES[stems]
        if number in nouns:
            continue
        gone = entry.gone.attribute if entry.gone and entry.gone.attribute in NOTHING else ""
        nouns[number] = {"heads": entry.heads, "about": sorted(attributes_of(entry)), "gone": gone}
        if entry.heads != ("rest",):
            rows[number] = {
                "": table.row(ONLY_NOUN, " ".join(stems)),
                **table.ask(entry.heads, " ".join(stems)),
            }
    for verb in ("look", "wear"):
        nouns[verb] = {"heads": SOFT[verb], "about": [], "gone": ""}
        rows[verb] = table.ask(SOFT[verb], verb)
    rows["-"] = table.ask(("",), "")
    return {
        "rows": rows,
        "nouns": nouns,
        "idioms": table.idioms(),
        "shades": table.shades(),
        "frames": list(table.frames),
        "sets": [_steps(places) for places in table.sets],
        "meanings": list(table.meanings),
        "senses": [[sense.attribute, int(bool(sense.indices or sense.step))] for sense in table.senses],
        "sayings": [dict(saying) for saying in table.sayings],
        "kinds": list(table.kinds),
        "phrases": [[*key, "|".join(listed)] for key, listed in phrases.items()],
        "examples": {name: [_example(name, k) for k in range(len(PHRASES[name]))] for name in PHRASES},
        "words": _words(),
    }


def _steps(places: Iterable[int]) -> list[int]:
    """Ascending numbers as the steps between them, which are shorter."""
    listed = list(places)
    return [after - before for before, after in zip([0, *listed], listed, strict=False)]


def _example(name: str, target: int) -> str:
    """A wish for a level."""
    rest = ATTRIBUTES[name].rest
    source = rest if rest != target else (target + 1) % len(PHRASES[name])
    return command(name, source, frozenset({target})).replace("them", "her")


def _lists() -> Iterator[tuple[str, Iterable[str]]]:
    """The lists of words that are looked up."""
    named = {name for pattern, _ in PATTERNS for name in re.findall("{([a-z]+)}", pattern)}
    small = "skipped owners articles subjects separators asking calls media places".split()
    yield from ((name, LISTS[name]) for name in sorted({*named, *small}))
    absent = {word for stems in (*ENTRIES, *ROLES) for word in stems} - _alone()
    yield "real", LISTS["real"] | {word for word in absent if _typos(word) & SPELT}  # what is no typo
    yield "spelt", SPELT
    yield "adjectives", ADJECTIVES
    yield "undrawable", UNDRAWABLE
    yield "shades", SHADES


def _words() -> dict[str, Any]:
    """How the words of a text are found."""
    return {
        "lists": {name: " ".join(sorted(words)) for name, words in _lists()},
        "worn": sorted(WORN),
        "closing": _CLOSING,
        "irregular": IRREGULAR,
        "endings": _ENDINGS,
        "patterns": PATTERNS,
        "rewrites": REWRITES,
    }
