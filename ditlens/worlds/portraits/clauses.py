"""The clauses of an instruction: in each, verbs, the nouns that they are about, and the words about the nouns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ditlens.worlds.portraits.lexicon import ACTIVE, AT_EASE, ENTRIES, LISTS, SOFT, THINGS, WORN, Entry
from ditlens.worlds.portraits.units import NUMBERS, Notes, Unit


@dataclass(eq=False)
class Phrase:
    """A noun with the words about it; without a noun, words that stand alone.

    Attributes:
        noun: The noun, if there is one.
        pre: Words before it.
        post: Words after it.
        verbs: The verbs since the phrase before.
        action: What happens to it: "do", "change", "remove", "keep" or "not".
        about: Without a noun, the phrase whose noun it is about.
        hints: Without that too, what it may be about.
    """

    noun: Unit | None
    pre: list[Unit] = field(default_factory=list)
    post: list[Unit] = field(default_factory=list)
    verbs: list[Unit] = field(default_factory=list)
    action: str = ""
    about: Phrase | None = None
    hints: tuple[str, ...] = ("",)

    @property
    def values(self) -> list[Unit]:
        return [*self.pre, *self.post]

    @property
    def heads(self) -> tuple[str, ...]:
        return self.noun.entry.heads if self.noun else ("",)

    @property
    def words(self) -> list[Unit]:
        return [*self.pre, *([self.noun] if self.noun else []), *self.post]

    @property
    def first(self) -> Unit:
        return self.words[0]

    def does(self, small: str) -> bool:
        """Whether one of its verbs is in a list of this name."""
        return any(verb.stems[0] in LISTS[small] for verb in self.verbs)


@dataclass(eq=False)
class Clause:
    """A part of an instruction.

    Attributes:
        link: What separates it from the clause before.
        units: Its words.
        is_origin: Whether it only says what is given up: "instead of the cap".
        phrases: What it is about.
        verbs: Verbs after the last phrase.
        degrees: Degrees of nothing in it: "but not too much" is about the clause before.
        unknown: Words that are not in the lexicon.
        misfits: Words that are, but say nothing about the nouns here.
        qualities: Pleasant adjectives.
        is_also: Whether it ends in "too".
        after: Small words after the last.
        is_closed: Whether a clause of its own says what happens: "he is squinting, fix it".
    """

    link: str
    units: list[Unit] = field(default_factory=list)
    is_origin: bool = False
    phrases: list[Phrase] = field(default_factory=list)
    verbs: list[Unit] = field(default_factory=list)
    degrees: list[str] = field(default_factory=list)
    unknown: list[Unit] = field(default_factory=list)
    misfits: list[Unit] = field(default_factory=list)
    qualities: list[Unit] = field(default_factory=list)
    is_also: bool = False
    after: tuple[str, ...] = ()
    is_closed: bool = False

    @property
    def text(self) -> str:
        return " ".join(unit.typed for unit in self.units)

    def has(self, *small: str) -> bool:
        """Whether one of these small words is in it."""
        said = {word for unit in self.units for word in (*unit.before, *unit.within)}
        return not said.isdisjoint(small) or not {*self.after}.isdisjoint(small)


DEGREES = ("mild", "strong", "more", "less", "most", "too")
ACTIONS = ("not", "keep", "remove", "change", "do")


def _is_separator(unit: Unit) -> bool:
    return len(unit.stems) == 1 and unit.stems[0] in LISTS["separators"]


def clauses_of(units: Sequence[Unit]) -> list[Clause]:
    """Cut an instruction where something new begins."""
    found = [Clause("")]
    for at, unit in enumerate(units):
        following = units[at + 1 :]
        if _is_separator(unit):
            link = unit.stems[0]
            if found[-1].units or found[-1].is_origin:
                found[-1].after = unit.before
                found.append(Clause(link))
            elif link not in (",", "and"):
                found[-1].link = link
            continue
        if unit.typed == "instead" and not (following and "of" in following[0].before):
            continue  # "... instead", and nothing after it
        said = any(u.is_noun or u.entry.senses for u in found[-1].units)
        over = unit.typed == "over" and any(u.stems[0] == "prefer" for u in found[-1].units)
        parts = unit.typed in ("without", "instead") or ("not" in unit.roles and not acts(following))
        if (parts or over) and said:
            found.append(Clause("but"))
        if unit.typed == "without" and following and following[0].is_gerund:
            unit.roles = frozenset({"not"})  # "without removing the hat"
        if unit.typed == "so" and said and following and following[0].roles & {*ACTIONS}:
            found.append(Clause(","))  # "she is sad, so make her smile"
        elif unit.typed == "instead" or over:  # "instead of a cap", "I prefer a crown over a cap"
            found[-1].is_origin = True
        else:
            found[-1].units.append(unit)
    return [clause for clause in found if clause.units]


def acts(units: Sequence[Unit]) -> bool:
    """Whether a verb that changes something follows within the clause."""
    here = itertools.takewhile(lambda unit: not _is_separator(unit), units)
    return any(u.roles & {"change", "remove", "keep"} or " ".join(u.stems) in ACTIVE for u in here)


def _is_parted(units: Sequence[Unit]) -> bool:
    """Whether something new begins at a "with" among these words."""
    return any("with" in unit.before for unit in units)


def _harden(units: Sequence[Unit]) -> None:
    """Make nouns of the verbs in `SOFT` where a word about that noun follows."""
    for at, unit in enumerate(units):
        heads = SOFT.get(unit.stems[0]) if len(unit.stems) == 1 else None
        if heads is None:
            continue
        others = [u for n, u in enumerate(units) if u.is_noun and not _is_parted(units[at + 1 : n + 1])]
        for i, word in enumerate(units[at + 1 :], at + 1):
            if word.is_indefinite and _is_color_only(word):
                continue  # "wear a banana"
            touches = i + 1 < len(units) and units[i + 1].is_noun and not units[i + 1].before
            if word.about(heads) and not touches and not any(word.about(u.entry.heads) for u in others):
                unit.entry = Entry(heads)


def _soften(units: Sequence[Unit]) -> None:
    """Make words of the nouns that say something about another noun: "squinting eyes", "a frowning mouth"."""
    for unit, following in itertools.pairwise(units):
        touches = following.is_noun and not following.follows("towards")
        touches &= unit.is_gerund or not following.is_definite
        if unit.is_noun and touches and unit.about(following.entry.heads):
            unit.entry = unit.entry.as_word()
        elif unit.is_noun and touches and not following.before and following.about(unit.entry.heads):
            following.entry = following.entry.as_word()  # "make the brows frown"
    for unit in units:
        if _acts_alone(unit):
            unit.entry = unit.entry.as_word()


def _acts_alone(unit: Unit) -> bool:
    """Whether a noun is a verb here: "age him"."""
    alone = unit.about(("",)) if unit.is_noun else None
    return bool(alone and alone.step) and not {*LISTS["owners"], *LISTS["articles"], "of"} & set(unit.before)


def _read(clause: Clause, near: Sequence[Phrase]) -> None:
    """Give every word of a clause its part: noun, word about a noun, verb, degree, or none."""
    context = tuple(head for phrase in near for head in phrase.heads)
    _soften(clause.units)
    _harden(clause.units)
    waiting: list[str] = []
    verbs: list[Unit] = []
    pre: list[Unit] = []

    for at, unit in enumerate(clause.units):
        place = "noun" if unit.is_noun else _place(unit, clause, at, context)
        if place and place != "misfit":
            if "for" in unit.before:  # "too happy for a passport photo"
                _lean_back(clause, waiting)
            unit.degrees += waiting
            waiting.clear()
        if place == "noun":
            clause.phrases.append(Phrase(unit, pre, verbs=verbs))
            pre, verbs = [], []
        elif place == "pre":
            pre.append(unit)
        elif place == "post":
            clause.phrases[-1].post.append(unit)
        elif place == "alone":
            about = next((p for p in near if _is_near(unit, p, clause)), None)
            clause.phrases.append(Phrase(None, [unit], [], verbs, about=about, hints=_hinted(unit, clause)))
            verbs = []
        elif degrees := [role for role in DEGREES if role in unit.roles]:
            waiting += degrees
        elif unit.roles:
            _lean_back(clause, waiting)
            verbs.append(unit)
        elif place or not unit.is_filler:
            is_quality = unit.is_quality and "too" not in waiting  # "much nicer"
            (clause.misfits if place else clause.qualities if is_quality else clause.unknown).append(unit)
            waiting.clear()
    _lean_back(clause, waiting)
    clause.verbs = verbs


def _place(unit: Unit, clause: Clause, at: int, context: tuple[str, ...]) -> str:
    """Where a word belongs: before or after a noun, alone, or nowhere."""
    if not unit.entry.senses:
        return ""
    comes = next((i for i, u in enumerate(clause.units) if u.is_noun and i > at), 0)
    later = clause.units[comes] if comes else None
    head = clause.phrases[-1] if clause.phrases and clause.phrases[-1].noun else None
    of_image = any(u.stems[0] in LISTS["media"] for u in clause.units[at + 1 : at + 2])  # "an old photo"
    if not any(u.is_noun for u in clause.units):
        fruit = unit.is_indefinite and unit is clause.units[-1] and _is_color_only(unit)  # "she has a banana"
        tries = any("do" in u.roles and u.stems[0] not in LISTS["stative"] for u in clause.units)
        if of_image or (fruit and not (tries and unit.about(context))):
            return "misfit"
        fits = unit.about(context) or any(unit.about((hint,)) for hint in _hinted(unit, clause))
        return "alone" if fits else "" if unit.roles or unit.is_filler or unit.is_quality else "misfit"
    fits_head = head is not None and unit.about(head.heads)
    touches = comes == at + 1 and later is not None and not later.before
    ends = (
        later is not None and clause.units[at + 1 :] == [later] and later.is_definite
    )  # "go red with the hair"
    parted = not ends and _is_parted(clause.units[at + 1 : comes + 1])
    fits_later = later and not parted and unit.about(later.entry.heads)
    leads = not fits_head or touches or unit.is_definite or unit.is_indefinite or (head and head.pre)
    if fits_later and leads:
        return "pre"
    if fits_head and not touches:
        return "post"
    if unit.roles or unit.is_filler:
        return ""
    governs = comes == at + 1 and later and not {*later.before} - LISTS["owners"] - LISTS["articles"]
    if unit.about(("",)) and not (governs or of_image):
        return "alone"
    return "" if unit.is_quality else "misfit"


def _is_near(unit: Unit, phrase: Phrase, clause: Clause) -> bool:
    """Whether a word is about the noun of a phrase before; of one to come, only if it says the same alone."""
    sense, alone = unit.about(phrase.heads), unit.about(("",))
    leads = phrase.action and not clause.has("him", "her")  # "head left, and give him a clean shave"
    leads = leads or (unit.is_indefinite and not phrase.action)  # "a calm, level brow"
    if sense is None or LISTS["people"] & {*unit.stems}:
        return False
    return bool(leads or alone is None or alone.attribute == sense.attribute)


def _hinted(unit: Unit, clause: Clause) -> tuple[str, ...]:
    """What a word without a noun may be about: "in purple" is the shirt, "dye it pink" the hair."""
    worn = ("shirt",) if "in" in unit.before else ()
    told = [sense.attribute for other in clause.units if (sense := other.about(("",))) and other is not unit]
    things = tuple(
        THINGS[name] for name in told if name in THINGS and not unit.about(("",))
    )  # "bald and round"
    dyed = ("hair",) if LISTS["dyes"] & {other.stems[0] for other in clause.units} else ()
    sense = unit.about(dyed)
    return ("", *worn, *things, *(dyed if sense and sense.attribute == "hair_color" else ()))


def _is_color_only(unit: Unit) -> bool:
    """Whether a word says nothing by itself, and of things only a color: "a banana"."""
    senses = unit.entry.senses or {}
    colors = ("shirt", "background", "hair_color", "skin_tone")
    return "" not in senses and all(sense.attribute in colors for sense in senses.values())


def _lean_back(clause: Clause, waiting: list[str]) -> None:
    """Degrees that no word follows belong to what was said before: "open her mouth a little"."""
    if waiting and clause.phrases:
        phrase = clause.phrases[-1]
        if waiting == ["too"] and clause.units[-1].stems == ("too",):  # "shorter too"
            waiting.pop()
            clause.is_also = True
        for unit in phrase.values or [u for u in (phrase.noun,) if u]:
            unit.degrees += waiting
    elif waiting:
        clause.degrees += waiting
    waiting.clear()


# --- what happens --------------------------------------------------------------------------------------------


def roles_of(verbs: Iterable[Unit]) -> set[str]:
    """What verbs do."""
    return {role for verb in verbs for role in verb.roles}


def _decide(clause: Clause, before: Clause | None) -> None:
    """Find out what happens to each phrase: the verb before it counts, or one after the last phrase."""
    action = ""
    for phrase in clause.phrases:
        phrase.action = action = next((a for a in ACTIONS if a in roles_of(phrase.verbs)), action)
    after = roles_of(clause.verbs)
    closing = next((a for a in ACTIONS[:3] if a in after), "")  # "make the hat disappear", "the glasses stay"
    inherits = before is not None and not clause.verbs and not action
    for phrase in clause.phrases:
        if closing and phrase.action in ("", "do", "change"):
            phrase.action = closing
        elif inherits and before:
            phrase.action = _inherited(clause, phrase, before)
        phrase.action = phrase.action or ("change" if "change" in after else "do")
    if clause.link == "or" and any(phrase.action == "do" for phrase in clause.phrases):
        raise Unclear("it leaves the choice open")


def _inherited(clause: Clause, phrase: Phrase, before: Clause) -> str:
    """What happens to a phrase without a verb: "remove the hat and the glasses"."""
    past = before.phrases[-1].action if before.phrases else ""
    closed = before.is_closed or any(verb.roles & {past} for verb in before.verbs)
    closed |= before.link == "and" and clause.link == ","  # "remove hat and beard, round glasses"
    if past not in ("remove", "keep", "not") or clause.link not in (",", "and", "or", "nor"):
        return "do"
    if clause.link in ("or", "nor"):
        return past
    if phrase.post or any(u.degrees or u.is_indefinite or is_verb(u, phrase) for u in phrase.words):
        return "do"
    if phrase.noun is None:
        if past == "remove":
            return "do"
        raise Unclear(
            f"it is not clear whether {clause.text!r} is to stay or to be made so. Begin it with 'make' or 'keep'"
        )
    doing = " ".join(phrase.noun.stems) in LISTS["calls"] and not phrase.noun.is_definite and not phrase.pre
    gone = phrase.noun.entry.gone
    instead = gone is not None and any(
        p.noun and p.noun.entry.gone == gone and p.noun.stems != phrase.noun.stems for p in before.phrases
    )  # "no beard, just stubble"
    some = any(unit.typed == "some" for unit in clause.units)
    last = before.phrases[-1].noun
    some |= last is not None and last.is_gerund and not phrase.noun.is_gerund  # "stop frowning and pearls"
    if doing or some or (past == "remove" and (gone is None or instead)):
        return "do"
    named = {sense.attribute for unit in phrase.pre if (sense := unit.about(phrase.heads))}
    named |= {gone.attribute} if gone and not named else set()
    short = any(verb.typed in ("no", "without") for p in before.phrases for verb in p.verbs)
    elliptical = short and not named & WORN  # "no hat, brown hair"
    only_not = past == "not" and not acts(before.units)
    stays_so = past == "keep" and before.phrases[-1].noun is None  # "kept short, and hoops"
    if not phrase.first.is_definite and (closed or only_not or stays_so or elliptical):
        return "do"  # "hat off, round glasses", "blue, not green, and red hair"
    lists = (
        not (phrase.pre or short) and not before.phrases[-1].first.is_definite
    )  # "keep hat, beard and glasses"
    if not (phrase.first.is_definite or lists) and (clause.link == "," or past == "keep" or not named & WORN):
        raise Unclear(
            f"it is not clear whether {clause.text!r} is still about what to {past}. Begin it with a verb"
        )
    return past


class Unclear(Exception):
    """A part of an instruction that cannot be read in one way only."""


def is_verb(unit: Unit, phrase: Phrase) -> bool:
    """Whether a word about a noun stands before its article, as a verb does: "close the wide eyes"."""
    if phrase.noun is None or unit not in phrase.pre:
        return False
    at = phrase.pre.index(unit)
    return any(later.is_definite for later in (*phrase.pre[at + 1 :], phrase.noun))


class Misfit(Unclear):
    """A word that says nothing about its noun."""

    def __init__(self, unit: Unit, about: Unit | None) -> None:
        super().__init__(
            f"{unit.typed!r} says nothing about {about.typed if about else 'a portrait'!r} in this world"
        )


def _share(clauses: Sequence[Clause]) -> None:
    """Give nouns without a word their neighbour's: "eyes and mouth wide open", "close the eyes and the mouth"."""
    listed = [clause for clause in clauses if clause.phrases]
    pairs = [
        (first.phrases[-1], second.phrases[0], second)
        for first, second in itertools.pairwise(listed)
        if second.link in (",", "and", "or") and not second.phrases[0].verbs
    ]
    shared: list[Phrase] = []
    for a, b, second in reversed(pairs):
        goes_on = second.link != "," or b in shared  # "eyes, brows and mouth relaxed"
        if goes_on and b.noun and is_bare(a) and not b.pre and all(unit.about(a.heads) for unit in b.post):
            a.post = list(b.post)
            shared.append(a)
    for a, b, second in pairs:
        same = second.is_also and a.values and all(unit.about(b.heads) for unit in a.values)
        if b.noun and same and not b.values:  # "the eyes wide open and the mouth too"
            b.post = list(a.values)
        elif a.noun and is_bare(b):
            bare = second.link != "," and not a.noun.before and len(a.pre) == 1  # "close eyes and mouth"
            verbs = [unit for unit in a.pre if bare or is_verb(unit, a)]
            b.pre = verbs if all(unit.about(b.heads) for unit in verbs) else []


def is_bare(phrase: Phrase) -> bool:
    """Whether a noun is to change, and nothing says into what."""
    given = phrase.noun.entry.given if phrase.noun else None
    means_itself = given is not None and (given.indices or given.step)
    return (
        phrase.noun is not None and not (phrase.values or means_itself) and phrase.action in ("do", "change")
    )


def _cut_tail(clause: Clause, before: Clause | None, notes: Notes) -> None:
    """Leave out what a clause is compared with, or for: "for a job interview", "like in the movies"."""
    head = [u for p in clause.phrases for u in p.words]
    for at, unit in enumerate(clause.units):
        is_too = "for" in unit.before and any("too" in u.degrees for u in head)
        likens = unit.typed.split()[0] == "like" and not unit.follows("subjects")
        compares = likens or is_too or unit.stems[0] == "because" or (at and "as" in unit.before)
        if not (compares or "for" in unit.before or unit.stems[0] == "under"):
            continue
        tail = clause.units[at:]
        lost = [p for p in clause.phrases if p.first in tail and (p.noun or not p.about or _is_told(p.about))]
        if not (any(u in head for u in clause.units[:at]) if at else before and clause.link == ","):
            continue
        strange = any(u in tail for u in (*clause.unknown, *clause.misfits))
        told = [p for p in clause.phrases if p not in lost]
        gone = told[-1].noun.entry.gone if at and told and told[-1].noun and not told[-1].values else None
        if strange and compares and not is_too and gone and gone.attribute in WORN:
            return  # "a hat like a wizard"
        if compares:  # "grey, like an old man": not old
            clause.phrases = [p for p in clause.phrases if p not in lost]
        elif any(u in head for u in tail) or not any(u in clause.unknown for u in tail):
            return
        if lost or strange:
            notes.asides.append(" ".join(u.typed for u in tail))
        for listed in (clause.unknown, clause.misfits, clause.verbs, clause.qualities):
            listed[:] = [u for u in listed if u not in tail]
        return


def _is_told(phrase: Phrase) -> bool:
    """Whether something says how a thing is to be: not only "paler"."""
    return bool(phrase.values) and not any(unit.degrees for unit in phrase.values)


def _follow(before: Clause, clause: Clause) -> None:
    """Let verbs alone be about the clause before: "the hat: remove it"."""
    action = next((a for a in ACTIONS[1:3] if a in roles_of(clause.verbs)), "")
    if clause.verbs[:1] and clause.verbs[0].stems == ("put",):
        action = action or "do"  # "she forgot her glasses, put them on"
    if any(verb.typed == "no" for verb in clause.verbs):
        return  # "a hat? no, glasses"
    things = [p for p in before.phrases if not (p.noun and p.noun.stems[-1] in LISTS["places"])]
    last = (things or before.phrases)[-1]  # "who put that hat on his head? remove it"
    if any(verb.stems[0] in LISTS["fixes"] for verb in clause.verbs) and not clause.has("him", "her"):
        gone = last.noun.entry.gone if last.noun else None
        senses = [sense for unit in last.values if (sense := unit.about(last.heads))]
        names = {sense.attribute for sense in (*senses, *([gone] if gone else []))}
        if not names <= AT_EASE.keys():
            raise Unclear(f"{clause.text!r} does not say how")
        action = "remove"  # "he is squinting, fix it"
    liked = any(verb.stems == ("like",) for p in before.phrases for verb in p.verbs)
    goes = {"do", "change", action, *(["not"] if liked else [])}  # "I never liked that hat, take it off"
    if action and roles_of(before.verbs) <= {"change"} and all(p.action in goes for p in before.phrases):
        last.action = action
        before.verbs, before.is_closed, clause.units, clause.verbs = [], True, [], []


def _thing(phrase: Phrase) -> Phrase | None:
    """The thing that words without a noun are about: "she is too blonde, make it black"."""
    sense = phrase.first.about(phrase.hints)
    stems = (THINGS[sense.attribute],) if sense and sense.attribute in THINGS else None
    return Phrase(Unit(stems, stems[0], (), ENTRIES[stems], frozenset())) if stems else None


def _near(clause: Clause, before: Clause | None, following: Sequence[Clause]) -> list[Phrase]:
    """The nouns that words without one may be about: of the clause before, or of one that goes on with a list."""
    found: list[Phrase] = []
    last = before.phrases[-1] if before is not None and before.phrases else None
    named = (last.about or _thing(last)) if last is not None and last.noun is None else last
    if named is not None:
        found.append(named)
    for later in following:
        if later.link not in (",", "and", "or", "but"):
            break
        nouns = [unit for unit in later.units if unit.is_noun and not _acts_alone(unit)]
        if found and later.units[0].roles:
            break  # "black as the night, make the face thinner"
        if nouns and not _is_parted(later.units[1 : later.units.index(nouns[0]) + 1]):
            comes = Phrase(nouns[0])
            goes_on = clause.link == "and" and later.link == ","
            told = last and (goes_on or last.post or not (last.values or last.verbs))
            found = [*found, comes] if told else [comes, *found]
            break
    them = () if named and named.noun and named.noun.typed.endswith("s") else ("them",)
    people = clause.has("him", "her", "he", "she", *them)
    verbs = any(unit.roles & {"do", "change"} for unit in clause.units)
    goes_on = clause.units[-1].is_indefinite  # "give her a calm, level brow"
    return [] if verbs and people and not (goes_on or clause.has("it")) else found


def _account(clause: Clause, notes: Notes) -> list[str]:
    """The words that have no part in a clause; an adjective of an understood noun is noted and left out instead."""
    missing = []
    for unit in clause.unknown:
        if any(_may_lack(phrase, unit, clause) for phrase in clause.phrases):
            notes.ignored.append(unit.typed)
        else:
            missing.append(unit.typed)
    for at, unit in enumerate(clause.units):
        if unit in clause.qualities and unit.entry.senses:  # "a fresh light shirt", but not "fresh and light"
            following = clause.units[at + 1 : at + 2]
            if not _is_parted(following) and any(u.is_noun or u.entry.senses for u in following):
                notes.ignored.append(unit.typed)
            else:
                clause.misfits.append(unit)
    return missing


def _may_lack(phrase: Phrase, unit: Unit, clause: Clause) -> bool:
    """Whether a phrase is clear without a word: "a red silk shirt", "take that silly hat off"."""
    if phrase.noun is None or unit.stems[0] in NUMBERS:
        return False
    at, end = clause.units.index(unit), clause.units.index(phrase.noun)
    if phrase.action in ("remove", "keep", "not"):
        return at + 1 == end
    start = clause.units.index(phrase.pre[0]) if phrase.pre else end
    between = clause.units[start:end]
    return start < at < end and all(
        u in phrase.pre or u in clause.unknown or u.is_quality or u.is_filler for u in between
    )


def read_clauses(units: Sequence[Unit], notes: Notes) -> list[Clause]:
    """Cut an instruction into clauses, and find out what happens to what in each.

    Raises:
        Unclear: If a word has no part in its clause.
    """
    clauses = clauses_of(units)
    before: Clause | None = None
    unknown: list[str] = []
    misfits: list[Misfit] = []
    for first, second in itertools.pairwise(units):
        touch = first.is_noun and second.is_noun and not second.before
        said = first.about(second.entry.heads) or second.about(first.entry.heads)
        if touch and second.entry.heads != first.entry.heads and not said:
            raise Misfit(first, second)  # "a pearl crown"
    for at, clause in enumerate(clauses):
        near = _near(clause, before, clauses[at + 1 :])
        _read(clause, near)
        nouns = [phrase.noun for phrase in (*reversed(clause.phrases), *near) if phrase.noun]
        # "..., and pearls instead of hoops"
        replaces = any(c.is_origin and c.link == "but" for c in clauses[at + 1 : at + 2])
        _decide(clause, None if replaces else before)
        _cut_tail(clause, before, notes)
        unknown += _account(clause, notes)
        misfits += [Misfit(unit, nouns[0] if nouns else None) for unit in clause.misfits]
        if before is not None and not (clause.phrases or clause.unknown or clause.qualities):
            _follow(before, clause)
        if clause.phrases and not clause.is_origin:
            before = clause
    if unknown:
        raise Unclear("this world has no " + " and no ".join(map(repr, unknown)))
    if misfits:
        raise misfits[0]
    _share(clauses)
    return clauses
