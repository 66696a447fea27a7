"""Asides: what a wish says besides, without asking for anything: "for the poster: ...", "..., he's freezing"."""

from __future__ import annotations

import re

from ditlens.worlds.portraits.lexicon import LISTS, UNDRAWABLE, Entry, attributes_of
from ditlens.worlds.portraits.phrases import tokens
from ditlens.worlds.portraits.units import Notes, Unit, units_of, words_of

_CUTS = re.compile(
    r"(\s*[,;:!?()\n]+\s*|\.(?=\s|$)|\s+[-–—]+\s+"
    r"|\s+so\s+(?=(?:he|she|it|they|i|we|have|make|give|put|let|please|an?|no|some)\b)"
    r"|\s+(?=(?:because|cos|cuz|coz|since)\b|(?:as|like) (?:if|though|he|she|it|they|i|we)\b))"
)
_OCCASIONS = LISTS["occasions"] | {"photo", "picture"}
_SPEAKER = re.compile(r"(?:i['’]?m|i am|i feel|we are|we['’]re) (?!\w+ing\b)")
_FREE = re.compile(
    r"(?:the )?(?:sun|wind|rain|light|snow)(?: is|['’]s| \w+s) |(?:i|you|we) can(?:not|['’]?t)? (?:even )?see "
)
_OBJECT = re.compile(
    r"\b(?!joining|starting|leaving|entering|visiting|attending|celebrating|meeting|catching|missing|losing|quitting)"
    r"\w+ing (?:an?|the|his|her|some|two)\b"
)


def without_asides(text: str, notes: Notes) -> str:
    """A text without the parts that only give a reason, a purpose or an occasion; these are noted.

    A part with a word that is not in the lexicon is one of them if it is a statement ("she's getting married"),
    opens as a purpose does ("for the poster"), names a style, or announces the rest ("pirate time: ..."), and if
    nothing in it asks for anything: no verb of a request, nothing that portraits have.
    """
    pieces = [*_CUTS.split(text), ""]
    parts, cuts = pieces[::2], pieces[1::2]
    asides = [_is_aside(part, cut) for part, cut in zip(parts, cuts, strict=True)]
    rest = _named(" , ".join(part for part, aside in zip(parts, asides, strict=True) if not aside))
    for at, part in enumerate(parts):
        # "I'm sad that he's bald; give him long hair"
        feels = {"smile"} if _SPEAKER.match(part.lower()) else set()
        asides[at] &= bool(_FREE.match(part.lower())) or _named(part) <= rest | feels
        asides[at] |= ":" in cuts[at - 1] and bool(tokens(part)) and {*tokens(part)} <= _OCCASIONS
    if all(aside or not part.strip() for aside, part in zip(asides, parts, strict=True)):
        return text
    for at, part in enumerate(parts):
        subject = _subject(part, *parts[at + 1 : at + 2]) if not asides[at] else ""
        notes.asides += [part] if asides[at] or subject else []
        parts[at] = subject or part
    return "".join(part + cut for part, cut, aside in zip(parts, cuts, asides, strict=True) if not aside)


def _named(part: str) -> set[str]:
    """The attributes of which words say something by themselves, or that nouns have."""
    units = units_of(words_of(part, Notes()))
    alone = [sense for unit in units if (sense := unit.about(("",))) and not {*unit.stems} & LISTS["people"]]
    return {sense.attribute for sense in alone}.union(
        *(attributes_of(unit.entry) for unit in units if unit.is_noun)
    )


def _is_strange(unit: Unit) -> bool:
    read = unit.roles or unit.is_filler or unit.is_quality or unit.stems[0] in LISTS["separators"]
    return not read and unit.entry == Entry()


def _is_aside(part: str, cut: str) -> bool:
    part = part.lower()
    words = [word for word in tokens(re.sub(r"['’](s|m)\b", " is", part)) if word not in ",?"]
    announces = ":" in cut
    is_for = announces and words[:1] == ["for"]
    if _FREE.match(part) or len(words) < 2:
        return len(words) > 1
    if _asks(words, for_all=is_for, wants=announces) or _OBJECT.search(part):
        return False
    units = units_of(words_of(part, Notes()))
    is_a = words[0] in LISTS["tellers"] and words[1] == "is" and {*words[2:3]} & {"such", "a", "an", "off"}
    is_told = words[0] == "youll" or is_for or _SPEAKER.match(part)
    points = words[0] in ("that", "this") and words[1] not in LISTS["finite"]  # "that one grey"
    if points or not (is_a or is_told or any(map(_is_strange, units))):
        return False
    purpose = words[0] in LISTS["openers"] or words[-1] in LISTS["closers"]
    person = words[0] in ("the", "my", "our") and LISTS["people"] & set(words[1:4])
    if not (announces or purpose or person or words[0] in LISTS["tellers"]):
        return False
    person = person or (is_for and LISTS["people"] & {*words})
    free = (
        (is_for and person)
        or words[0] in ("i", "we", "youll")
        or (words[0] == "like" and words[1] in LISTS["tellers"])
    )
    return bool(free) or not any(unit.is_noun for unit in units)


def _asks(words: list[str], *, for_all: bool, wants: bool) -> bool:
    """Whether words ask for something, or name what a portrait of another world could show."""
    named = {word.removesuffix(end) for word in words for end in ("", "s", "es")} & UNDRAWABLE.keys()
    has = {"has", "have", "had", "got"} & set(words) and not LISTS["occasions"] & set(words)
    asks = LISTS["asking"] - ({"want", "wants"} if wants else set())
    return bool((named and not for_all) or has or asks & set(words))


def _subject(part: str, following: str = "") -> str:
    """The thing that a complaint is about, if what follows says what to do: "his beard itches, shave it"."""
    words = tokens(part) or [""]
    refers = {"it", "them"} & set(tokens(following)) and not {"it", "them", "too"} & set(words)
    opens = words[0] in LISTS["owners"] | {"he", "she", "i"}
    if not (refers and opens) or _asks(words, for_all=False, wants=False):
        return ""
    units = units_of(words_of(part, Notes()))
    nouns = [unit.is_noun for unit in units]
    owned = words[0] in LISTS["owners"]
    if any(u.about(("",)) for u in units) or nouns.count(True) != 1 or (owned and not nouns[0]):
        return ""
    thing = units[nouns.index(True)]
    if not (owned or thing.follows("owners", "articles")):
        return ""  # "he is grinning like a lunatic, ..."
    strange = [_is_strange(u) or bool(u.entry.senses and not u.about(thing.entry.heads)) for u in units]
    return f"the {thing.typed} is change" if any(strange) else ""
