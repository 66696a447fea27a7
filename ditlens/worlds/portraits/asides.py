"""Asides: what a wish says besides, without asking for anything: "for the poster: ...", "..., he's freezing"."""

from __future__ import annotations

import re

from ditlens.worlds.portraits.lexicon import IRREGULAR, LISTS, UNDRAWABLE, Entry, attributes_of
from ditlens.worlds.portraits.phrases import tokens
from ditlens.worlds.portraits.units import Notes, Unit, units_of, words_of

_CUTS = re.compile(
    r"(\s*[,;:!?()\n]+\s*|\.+(?:\s+|$)|\s+[-–—]+\s+|\s+(?:lol|lmao|haha)\s+"
    r"|\s+so\s+(?=(?:he|she|it|they|i|we|have|make|give|put|let|please|an?|no|some)\b)"
    r"|\s+(?=(?:because|cause|cos|cuz|coz|since|otherwise)\b|(?:as|like) (?:if|though|he|she|it|they|i|we)\b)"
    r"|\s+(?=(?:then|when|before|after|now that) (?:he|she|it|they|i|we|my|our|everyone)\b)"
    r"|(?<!that)(?<!like)(?<!if)(?<!so)(?<!as)(?<!and)(?<!but)\s+(?=it['’]s ))",
    re.IGNORECASE,
)
_LEADS = re.compile(
    r"(?:(?:and|but|well|then|now|plus|honestly|besides|though|still|sometimes|lately|apparently) )+"
)
_OCCASIONS = LISTS["occasions"] | {"photo", "picture"}
_OTHERS = re.compile(
    r"(?:no ?(?:body|one)|every(?:body|one)|people|folks)\b(?! but| except|.*\w+ing\b)|(?:when )?(?:i|we)\b['’]?"
    r"|(?:my|our|the|his|her) (?:\w+ ){1,2}(?=(?:had|wore|was|were|always|never|says?|said|thinks?|told|wont|will"
    r"|would|hates?|loves?|likes?|keeps?|finds?|complain\w*|laugh\w*|bought|paid)\b)"
)
"""Who is not in the picture: what they do is no wish, unless they want something."""
_MOODS = {"smile", "brow_tilt", "eye_open", "mouth_open"}
_HOPES = re.compile(
    r"\b(?:d\b|like|love|want|wish|hop(?:e|ing)|prefer|pictur|imagin|envision|see|saw|think|thought|mean|meant|expect|decid"
    r"|ask|choose|chose|pick|vote|dream|turn|opt|order|plan|went (?:for|with)|go (?:for|with))"
)
_PAST = re.compile(r"(?:when )?(?:i|(?:my|our)(?: \w+){1,3}) (?:always )?(?:had|wore|was|were|used to) ")
_FREE = re.compile(
    r"(?:the )?(?:sun|wind|rain|light|snow)(?: is|['’]s| \w+s) |(?:i|you|we) can(?:not|['’]?t)? (?:even )?see "
    r"|(?:i|we) (?:want|need|would like|like|wanna) (?:to )?see (?:the|his|her|their) (?:eyes|face|ears|hair)$"
    r"|no ?(?:body|one) (?:wants|needs|likes) "
)
_PURPOSE = re.compile(
    r"to (?:his|her|my|our|their|\w+ (?:his|her|my|our|their|the|people|everyone)) "
    r"|think (?!.* (?:in|on|behind|with) )|(?:very|so|too|really) .*\bfor |(?:how|what a) .*!"
)
"""With what a purpose, a judgement or a comparison begins: "to impress her boss", "too gloomy for the web site"."""
_OBJECT = re.compile(
    r"\b(?!joining|starting|leaving|entering|visiting|attending|celebrating|meeting|catching|missing|losing|quitting)"
    r"\w+ing (?:an?|the|his|her|some|two)\b"
)


def without_asides(text: str, notes: Notes) -> str:
    """A text without the parts that only give a reason, a purpose or an occasion; these are noted.

    A part with a word that is not in the lexicon is one of them if it is a statement ("she's getting married",
    "nobody needs to see that"), opens as a purpose or a judgement does ("for the poster", "very festive"), names a
    style, or announces the rest ("pirate time: ..."), and if nothing in it asks for anything: no verb of a request,
    nothing that portraits have and the rest does not speak of. A bare noun is none: it may be wished for.
    """
    text = re.sub(r"\bits (?=(?:an?|so|my|for|just|too|really|very|not) )", "it's ", text)
    text = re.sub(
        r"^(for (?:(?:my|our|the) )?\w+) (?=(?:make|give|put|add|i need|i want)\b)", r"\1: ", text, flags=re.I
    )
    pieces = [*_CUTS.split(text), ""]
    parts, cuts = pieces[::2], pieces[1::2]
    asides = [_is_aside(part, cut) for part, cut in zip(parts, cuts, strict=True)]
    rest = _named(" , ".join(part for part, aside in zip(parts, asides, strict=True) if not aside))
    for at, part in enumerate(parts):
        # "I'm sad that he's bald; give him long hair"
        feels = _MOODS if _OTHERS.match(part.lower()) else set()
        asides[at] &= (
            bool(_FREE.match(part.lower()) or _PAST.match(part.lower())) or _named(part) <= rest | feels
        )
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
    lead = _LEADS.match(part.lower())
    part = part.lower()[lead.end() if lead else 0 :]
    words = [word for word in tokens(re.sub(r"['’](s|m)\b", " is", part)) if word not in ",?"]
    announces = ":" in cut
    is_for = announces and words[:1] == ["for"]
    units = units_of(words_of(part, Notes()))
    if units and "!" in cut and all((u.is_quality or u.is_filler) and not u.entry.senses for u in units):
        return True  # "how lovely!"
    if _FREE.match(part) or len(words) < 2:
        return len(words) > 1
    others = bool(_OTHERS.match(part))
    follows = lead and {"then", "now"} & {*lead[0].split()}  # "then he waves", but not "then he is like me"
    if (
        others
        and _hopes(words)
        or follows
        and words[0] in ("he", "she", "they")
        and not {"me", "my"} & {*words}
    ):
        return False
    if _asks(words, for_all=is_for, wants=announces, others=others) or (_OBJECT.search(part) and not others):
        return False
    is_a = words[0] in LISTS["tellers"] and words[1] == "is" and {*words[2:3]} & {"such", "a", "an", "off"}
    if words[0] in LISTS["subjects"] and words[1] == "is" and all(u.is_quality or u.is_filler for u in units):
        return True  # "she is lovely"
    told = others and (
        words[1] in ("is", "am", "are", "feel") or words[1] in IRREGULAR or words[1].endswith("ed")
    )
    told |= others and words[0] in ("my", "our") or is_for or words[0] == "youll"
    if others and units and units[0].is_noun:
        return False  # "the hair will ..."
    points = words[0] in ("that", "this") and words[1] not in LISTS["finite"]  # "that one grey"
    if points or not (is_a or told or any(map(_is_strange, units))):
        return False
    person = words[0] in ("the", "my", "our") and LISTS["people"] & set(words[1:4])
    free = others or words[0] == "youll" or (words[0] == "like" and words[1] in LISTS["tellers"])
    if free or (is_for and (person or LISTS["people"] & {*words})):
        return True
    opens = words[0] in LISTS["openers"] or bool(_PURPOSE.match(part))
    says = announces or opens or words[-1] in LISTS["closers"] or person or words[0] in LISTS["tellers"]
    reason = opens and words[0] not in ("after", "for", "like")
    return bool(says and (reason or not any(unit.is_noun for unit in units)))


def _hopes(words: list[str]) -> bool:
    """Whether somebody who is not in the picture wants something: "I would like ..."."""
    return bool(_HOPES.search(" ".join(words[1:4]))) and words[0] in ("i", "we", "my", "our", "the")


def _asks(words: list[str], *, for_all: bool, wants: bool, others: bool = False) -> bool:
    """Whether words ask for something, or name what a portrait of another world could show."""
    named = {word.removesuffix(end) for word in words for end in ("", "s", "es")} & UNDRAWABLE.keys()
    has = {"has", "have", "had", "got"} & set(words) and not LISTS["occasions"] & set(words)
    asks = LISTS["asking"] - ({"want", "wants"} if wants else {"get", "wore"} if others else set())
    return bool((named and not for_all) or (has and not others) or asks & set(words))


def _subject(part: str, following: str = "") -> str:
    """The thing that a complaint is about, if what follows says what to do: "his beard itches, shave it"."""
    words = tokens(part) or [""]
    points = {"it", "them", "too"} & set(words)
    opens = words[0] in LISTS["owners"] | {"he", "she"}
    others = bool(_OTHERS.match(part.lower())) and not _hopes(words)
    if points or not (opens or others) or _asks(words, for_all=False, wants=False, others=others):
        return ""
    units = units_of(words_of(part, Notes()))
    things = [unit for unit in units if unit.is_noun]
    if len(things) != 1:
        return ""
    thing, owned = things[0], words[0] in LISTS["owners"] and not others
    about = [unit for unit in units if unit is not thing and unit.entry.senses]
    before = units[: units.index(thing)]
    if (owned and not all(u.about(thing.entry.heads) for u in before)) or any(
        u.about(("",)) and not u.about(thing.entry.heads) for u in about
    ):
        return ""
    if not owned and (
        about and not others or not any(u.follows("owners", "articles") for u in (thing, *about))
    ):
        return ""  # "he is grinning like a lunatic, ..."
    comes = units_of(words_of(following, Notes()))
    says = not any(u.is_noun for u in comes) and any(u.about(thing.entry.heads) for u in comes)
    strange = [_is_strange(u) or bool(u.entry.senses and not u.about(thing.entry.heads)) for u in units]
    refers = {"it", "them"} & set(tokens(following)) or (others and says)
    return f"the {thing.typed} is change" if refers and any(strange) else ""
