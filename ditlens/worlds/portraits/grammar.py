"""Reading instructions: which attributes a text wants changed, and to what.

A text is cut into clauses. In each, verbs say what happens (change, remove, keep, or none of it after "not"), nouns
say to what, and the words about a noun say how. Every word must have a part in this, or the text is refused: half a
instruction is never carried out.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import operator
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ditlens.errors import CaptionError
from ditlens.worlds.portraits.asides import without_asides
from ditlens.worlds.portraits.attributes import ATTRIBUTES, Categorical
from ditlens.worlds.portraits.clauses import (
    Clause,
    Misfit,
    Phrase,
    Unclear,
    acts,
    is_bare,
    is_verb,
    read_clauses,
    roles_of,
)
from ditlens.worlds.portraits.constraints import Source, known_levels
from ditlens.worlds.portraits.edits import EDIT_TEMPLATES, write
from ditlens.worlds.portraits.lexicon import (
    AT_EASE,
    ENTRIES,
    IRREGULAR,
    LISTS,
    NOTHING,
    SIDEWAYS,
    STRONG,
    UNDRAWABLE,
    Entry,
    Sense,
    attributes_of,
    base,
)
from ditlens.worlds.portraits.phrases import PHRASES, Constraints, noun, tokens
from ditlens.worlds.portraits.units import Notes, Unit, units_of, words_of

LONGEST = 1_000
"""Characters of an instruction: reading takes longer than in proportion to them."""

# --- what a clause asks for -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Ask:
    """One thing that is wanted.

    Attributes:
        sense: What.
        degrees: How much of it.
        is_negated: Whether anything but this is wanted.
        place: -1 before the noun, 0 the noun itself, +1 after it.
        is_stay: Whether it is only wanted to stay so.
        removes: Whether something is removed.
        thing: The noun that it is about.
        refers: Whether it is about a noun of another clause: "keep the beard but shorter".
        moves: Whether a verb says it: "slim the face".
    """

    sense: Sense
    degrees: list[str]
    is_negated: bool = False
    place: int = 0
    is_stay: bool = False
    removes: bool = False
    thing: tuple[str, ...] = ()
    refers: bool = False
    moves: bool = False


@dataclass(eq=False)
class Plan:
    """What one clause comes to.

    Attributes:
        asks: What it wants.
        kept: Attributes that are to stay.
        is_firm: Whether they are to stay for their own sake, not only because something is not to be done.
        is_description: Whether it may only say how things are: "she looks sad, make her smile".
        is_story: Whether that is of the speaker or of the past: "I squint when I see it".
        barred: What is not wanted of something that an earlier clause wants: "a hat, but not a crown".
        is_request: Whether a verb asks for it.
        open: Nouns of which another clause must say what they should become.
        last: The last phrase that wants something.
    """

    asks: list[Ask] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    is_firm: bool = False
    is_description: bool = False
    is_story: bool = False
    barred: list[Ask] = field(default_factory=list)
    is_request: bool = False
    open: list[Phrase] = field(default_factory=list)
    last: Phrase | None = None

    @property
    def is_told(self) -> bool:
        """Whether it says how things are, and asks for nothing."""
        return self.is_description and not self.is_request


def _plan(clause: Clause) -> Plan:
    """What the phrases of a clause ask for."""
    looks = any(a.is_noun and b.typed in ("look", "seem") for a, b in itertools.pairwise(clause.units))
    verbs = [verb for phrase in clause.phrases for verb in phrase.verbs] + clause.verbs
    plan = Plan(
        is_story=any(map(_is_story, clause.units)),
        is_description=looks or any(_is_finite(u) or u.typed == "why" for u in clause.units),
        is_request=bool(
            LISTS["asking"] & {word for v in verbs if not _complaint(v) for word in v.typed.split()}
        ),
    )
    phrases, origin = _target(clause)
    for phrase in phrases:
        _forget_what_is(clause, phrase)
        noun_unit, found = phrase.noun, _senses(phrase)
        is_place = (
            noun_unit and noun_unit.is_definite and noun_unit.stems[-1] in LISTS["places"] and not found
        )
        if phrase.action == "do" and noun_unit and noun_unit.is_definite and _is_praise(phrase):
            phrase.action = "keep"
        if noun_unit is not None and noun_unit.entry.heads == ("rest",):
            if phrase.action not in ("keep", "not") and noun_unit.stems[0] != "nothing":
                raise Unclear(f"it does not say what {noun_unit.typed!r} is")
        elif phrase.action == "remove" or (phrase.action == "not" and _unwanted(phrase)):
            if not (plan.asks and is_place):  # "off her face", but not "with no hair"
                _remove(plan, phrase, found)
        elif phrase.action == "keep" or (phrase.action == "not" and not _is_state(phrase, found)):
            if not (plan.kept and is_place and phrase.first.follows("on", "in")):  # "on his head"
                _keep(plan, phrase, found)
        elif found:
            if phrase.does("fixes") and any(unit.follows("they", "it") for unit in phrase.values):
                raise Unclear(f"{clause.text!r} does not say how")  # "fix his eyes, they are half shut"
            alone = phrase.action == "change" and origin is None and len(phrases) == 1 and noun_unit
            if alone and not (phrase.values or found[0].degrees or phrase.first.follows("for", "into", "to")):
                plan.open.append(phrase)  # "change the hat", but not "swap them for pearls"
            else:
                _ask(plan, phrase, found, refers=phrase.about is not None or clause.has("it", "them"))
        elif not _is_scenery(phrase, phrases):
            plan.open.append(phrase)
    return plan


def _complaint(verb: Unit) -> bool:
    """Whether it stands for a complaint: "is boring"."""
    return verb.stems == ("change",) and verb.follows("is", "are")


def _forget_what_is(clause: Clause, phrase: Phrase) -> None:
    """Leave out how a thing is that is to change: "the red shirt is boring"."""
    if any(map(_complaint, clause.verbs)) and phrase.noun:
        phrase.pre, phrase.post, phrase.action = [], [], "change"


def _ask(plan: Plan, phrase: Phrase, found: Sequence[Ask], *, refers: bool) -> None:
    """Want something; what a noun was before gives way: "make the smile a frown"."""
    thing = phrase.noun.stems if phrase.noun else ()
    last = plan.last
    replaced = last is not None and last.noun is not None and (last.noun.is_definite or last.verbs)
    if replaced or all(ask.sense.step for ask in plan.asks):  # "age him by thirty years"
        names = {ask.sense.attribute for ask in found}
        plan.asks = [ask for ask in plan.asks if ask.sense.attribute not in names]
    plan.last = phrase
    negated = phrase.action == "not"
    plan.asks += [replace(ask, is_negated=negated, thing=thing, refers=refers) for ask in found]


def _remove(plan: Plan, phrase: Phrase, found: Sequence[Ask]) -> None:
    """Want something away: the thing, or only the look of hair ("cover the grey hair")."""
    if phrase.values and all(ask.sense.attribute in ("hair_color", "hair_style") for ask in found):
        plan.asks += [replace(ask, is_negated=True) for ask in found]
    else:
        thing = phrase.noun.stems if phrase.noun else ()
        plan.asks += [Ask(rest, [], removes=True, thing=thing) for rest in _removed(phrase, found)]


def _is_praise(phrase: Phrase) -> bool:
    """Whether somebody likes a thing as it is: "I love his beard", but "I would love a beard"."""
    return any(v.stems in (("like",), ("love",)) and v.follows("subjects") for v in phrase.verbs)


def _is_finite(unit: Unit) -> bool:
    """Whether it belongs to a sentence that may only say how things are: "her mouth hangs open, shut it"."""
    first = unit.typed.split()[0]
    told = first in ("look", "seem", "feel") and unit.follows("i", "you", "we", "they")
    inflected = first.endswith("s") and not unit.is_noun and first != unit.stems[0]
    inflected = inflected and not unit.follows("to", "the")  # "to the shoulders"
    return told or _is_story(unit) or inflected or bool(LISTS["finite"] & {first, *unit.before})


def _is_story(unit: Unit) -> bool:
    """Whether it tells of the speaker or of the past: "I'm going bald", "he snoozed", "she was blond"."""
    first = unit.typed.split()[0]
    is_past = unit.follows("subjects") and (first.endswith("ed") or first in IRREGULAR)
    return is_past or unit.follows("was") or (not (unit.roles or unit.is_filler) and unit.follows("i", "we"))


def _target(clause: Clause) -> tuple[list[Phrase], Phrase | None]:
    """The phrases that are wanted, and the one that gives way: "swap the cap for a crown"."""
    first, *later = clause.phrases
    words = [(phrase, unit) for phrase in clause.phrases for unit in phrase.words]
    verbs = roles_of([verb for phrase in clause.phrases for verb in phrase.verbs] + clause.verbs)
    goes_to, comes_from = clause.has("to", "into"), clause.has("from")
    if (
        comes_from
        and not goes_to
        and any(u.follows("from") and u.entry.senses and not u.is_noun for _, u in words)
    ):
        raise Unclear(f"{clause.text!r} only says from where")
    covers = first.does("covers")  # "hide his hair under a cap"
    again = any(p.values and p.first.follows("to", "into") and p.heads == first.heads for p in later)
    swaps = covers or again or "change" in verbs or clause.has("into") or (comes_from and goes_to)
    small = "coverings" if covers else "towards"
    at = next(
        (n for n, (_, unit) in enumerate(words) if n and unit is not first.noun and unit.follows(small)), 0
    )
    if not (swaps and at and first.noun) or ({"not", "keep"} & verbs and not covers):
        return clause.phrases, None
    phrase, tail = words[at][0], [unit for _, unit in words[at:]]
    cut = replace(
        phrase, pre=[u for u in phrase.pre if u in tail], post=[u for u in phrase.post if u in tail]
    )
    rest = [cut, *clause.phrases[clause.phrases.index(phrase) + 1 :]]
    return rest if phrase is first else [replace(p, action="do") for p in rest], first


def _senses(phrase: Phrase) -> list[Ask]:
    """What the words of a phrase say."""
    found, what = [], phrase.noun
    heads = phrase.heads if what is not None else phrase.about.heads if phrase.about else phrase.hints
    for unit in phrase.values:
        sense = unit.about(heads)
        place = -1 if unit in phrase.pre and not is_verb(unit, phrase) else 1
        one_sided = sense and sense.attribute == "gaze" and place < 0 and what and what.typed == "eye"
        if sense is None or one_sided:
            raise Misfit(unit, what)
        moves = is_verb(unit, phrase)
        found += [Ask(each, unit.degrees, place=place, moves=moves) for each in (sense, sense.also) if each]
    given = what.entry.given if what is not None else None
    if what is None or given is None:
        return found
    for ask in found:  # "a real grin"
        if ask.sense.attribute == given.attribute and ask.sense.indices & given.indices:
            ask.sense = replace(ask.sense, indices=ask.sense.indices & given.indices)
    said = [ask for ask in found if ask.sense.attribute == given.attribute]
    if isinstance(ATTRIBUTES[given.attribute], Categorical):  # "a woolly crown"
        for ask in said:
            if ask.place < 0 and ask.sense.indices and given.indices.isdisjoint(ask.sense.indices):
                raise Unclear(f"{phrase.values[0].typed!r} and {what.typed!r} are two different things")
    starts = what.is_indefinite or what.follows("to", "into")  # "grow a beard", "trim it to stubble"
    if said and not (starts and all(ask.sense.step for ask in said)):
        parts = [degree for degree in what.degrees if degree in ("mild", "strong")]
        return [replace(ask, degrees=[*ask.degrees, *parts]) if ask.sense.step else ask for ask in found]
    if given.indices or given.step or set(what.degrees) & {"more", "less", "most"}:  # "grow a beard"
        found.append(Ask(given, what.degrees))
    return found


def _is_scenery(phrase: Phrase, phrases: Sequence[Phrase]) -> bool:
    """Whether a noun only says where, or what another one says better: "a smile on his face", "hair in waves"."""
    if phrase.noun is None or len(phrases) < 2 or not is_bare(phrase):
        return False
    small = set(phrase.noun.before) - LISTS["owners"] - LISTS["articles"]
    placed = phrase.noun.stems[-1] in LISTS["places"] and small
    again = any(p is not phrase and p.noun and p.noun.entry.heads == phrase.heads for p in phrases)
    return bool(placed) or again or phrase.noun.stems == ("dress",)


def _is_state(phrase: Phrase, found: Sequence[Ask]) -> bool:
    """Whether "not" is about how things are: "make him not smile", but neither "not older" nor "not cut"."""
    compared = any({"more", "less", "most"} & set(ask.degrees) for ask in found)
    if phrase.about and is_bare(phrase.about) and not (phrase.about.verbs or acts(phrase.verbs)):
        return True  # "the mouth not open"
    if compared or any(unit.typed.endswith("ened") for unit in phrase.values):  # "straightened"
        return False
    at = next((i for i, verb in enumerate(phrase.verbs) if "not" in verb.roles), None)
    if at is None or any(is_verb(unit, phrase) for unit in phrase.pre):
        return False
    word = phrase.verbs[at]
    doing = word.typed == "not" and phrase.first.is_gerund  # "not smiling"
    stated = (doing or word.stems[0] in LISTS["states"]) and not word.follows("you", "we")
    made = "do" in roles_of(phrase.verbs[:at])
    return (stated or made) and not acts(phrase.verbs[at + 1 :])


def _unwanted(phrase: Phrase) -> bool:
    """Whether the thing itself is not wanted: "I do not want a hat"."""
    gone = phrase.noun.entry.gone if phrase.noun else None
    removable = gone is not None and gone.attribute in NOTHING and not phrase.values
    return removable and phrase.does("wants") and not acts(phrase.verbs)


def _keep(plan: Plan, phrase: Phrase, found: Sequence[Ask]) -> None:
    """Let attributes stay: those of the noun, or of the words about it."""
    if phrase.action == "keep" and (phrase.post if phrase.noun else phrase.about):  # "keep the mouth closed"
        plan.asks += [replace(ask, is_stay=True) for ask in found]
        return
    if phrase.action == "not" and not acts(phrase.verbs):
        plan.barred += [ask for ask in found if ask.sense.indices and not ask.degrees]
    names = {ask.sense.attribute for ask in found}
    if phrase.noun is not None and not (names and phrase.values):
        names |= attributes_of(phrase.noun.entry)
    plan.kept |= names
    plan.is_firm |= phrase.action == "keep"


def _removed(phrase: Phrase, found: Sequence[Ask]) -> list[Sense]:
    """What remains when something is removed, or stopped."""
    if phrase.noun is not None and phrase.noun.entry.gone is not None:
        if phrase.noun.stems == ("hair",) and phrase.does("covers"):
            raise Unclear("hair can be cut, but not hidden")
        return [phrase.noun.entry.gone]
    rest = NOTHING | AT_EASE
    names = {ask.sense.attribute for ask in found}
    if names and names <= rest.keys():
        return [Sense(name, frozenset({rest[name]})) for name in sorted(names)]
    if phrase.noun is not None:
        names = names or set(attributes_of(phrase.noun.entry))
    what = noun(min(names)) if names else "this"
    raise CaptionError(
        f"{what.capitalize()} cannot be removed, only changed. What can be removed: "
        f"{', '.join(noun(name) for name in NOTHING)}."
    )


# --- levels -----------------------------------------------------------------------------------------------------


def _levels(ask: Ask, source: Source | None) -> frozenset[int]:
    """The levels of an attribute that are asked for."""
    sense, degrees, name = ask.sense, set(ask.degrees), ask.sense.attribute
    known, indices, top = known_levels(name, source), sense.indices, len(PHRASES[name]) - 1
    is_scale = name == "hair_style" or not isinstance(ATTRIBUTES[name], Categorical)
    if "too" in degrees:  # "the hair is too long", "tilted too much"
        if name in SIDEWAYS:
            return frozenset({AT_EASE[name]})
        degrees = degrees - {"too", "more"} | {"less"}
    compared = degrees & {"more", "less", "most"}
    if sense.step or compared and sense.lean:
        step = sense.step or (-sense.lean if "less" in degrees else sense.lean)
        if "most" in degrees:
            return frozenset({top if step > 0 else 0})
        step *= 2 if "strong" in degrees and "mild" not in degrees and abs(step) == 1 else 1
        return frozenset(min(max(level + step, 0), top) for level in known)
    if "less" in compared or (compared and not is_scale and name != "hair_color"):
        raise Unclear(f"there is no more or less of {noun(name)}")
    if not indices:
        raise Unclear(f"it does not say what {noun(name)} should become")
    if is_scale and "mild" in degrees and ask.moves and not known & indices and name not in SIDEWAYS:
        return frozenset(
            level + (1 if level < min(indices) else -1) for level in known
        )  # "slim the face a bit"
    if is_scale and degrees & {"mild", "strong", "most"}:
        indices = _graded(sense, ATTRIBUTES[name].rest, mild="mild" in degrees)
    elif name == "beard" and indices == {1, 2, 3} and known == {1} and not ask.is_negated:
        indices = frozenset({2})  # who has stubble and wants a beard wants more than that
    return frozenset(range(top + 1)) - indices if ask.is_negated else indices


def _graded(sense: Sense, rest: int, *, mild: bool) -> frozenset[int]:
    """The first or last of several levels; of one, the level nearer to the neutral one, or a stronger one."""
    if len(sense.indices) > 1:
        side = -sense.lean if mild else sense.lean
        return frozenset({max(sense.indices) if side > 0 else min(sense.indices)}) if side else sense.indices
    (level,) = sense.indices
    if not mild:
        return frozenset({STRONG.get((sense.attribute, level), level)})
    nearer = level + (rest > level) - (rest < level)
    return sense.indices if nearer == rest else frozenset({nearer})


# --- a whole instruction ----------------------------------------------------------------------------------------


@dataclass
class Reading:
    """An instruction that was understood.

    Attributes:
        changes: For each attribute to change, the indices of the levels or values that the words allow.
        kept: Attributes that are to stay as they are.
        remarks: What a person should know about the reading: typos that were corrected, words that were left out.
    """

    changes: Constraints
    kept: frozenset[str]
    remarks: list[str]


def read_instruction(text: str, source: Source | None = None) -> Reading:
    """Read an instruction, relative to a source portrait.

    Args:
        text: What a person typed.
        source: The source's values or the constraints of its caption.

    Returns:
        What is to change, what is to stay, and how doubtful words were read.

    Raises:
        CaptionError: If any part is not understood, impossible, or nothing changes.
    """
    if len(text) > LONGEST:
        raise CaptionError(
            f"This instruction has {len(text):,} characters. Say what to change in {LONGEST} or fewer."
        )
    notes = Notes()
    units = units_of(words_of(without_asides(text, notes), notes))
    try:
        clauses = read_clauses(units, notes)
        plans = _plans(clauses, notes)
        changes, held = _combine(plans, source, text)
        kept = held | {name for plan in plans for name in plan.kept}
        _account(clauses, changes.keys() | kept)
    except Unclear as problem:
        raise CaptionError(_refusal(text, str(problem), units)) from None
    except CaptionError as problem:
        raise CaptionError(f"{problem} {_suggestion(text)}") from None
    kept = frozenset(kept - changes.keys())
    if not changes and plans:
        raise CaptionError(f"{text!r} only says what is to stay: nothing changes. {_suggestion(text)}")
    if not changes:
        raise CaptionError(_refusal(text, "it does not say what to change", units))
    return Reading(changes, kept, notes.remarks())


def _account(clauses: Sequence[Clause], told: Set[str]) -> None:
    """Refuse an instruction with a word of which nothing came: it says something of no attribute in `told`."""
    for clause in clauses:
        for phrase in _target(clause)[0] if clause.phrases and not clause.is_origin else []:
            heads = phrase.heads if phrase.noun or not phrase.about else phrase.about.heads
            for unit in phrase.values:
                sense = unit.about(heads) or unit.about(phrase.hints)
                if sense is not None and sense.attribute not in told:
                    raise Unclear(f"{unit.typed!r} has no part in it")
            thing = phrase.noun
            if thing is None or phrase.values or thing.entry.heads == ("rest",):
                continue
            is_place = thing.stems[-1] in LISTS["places"] and thing.before  # "a smile on his face"
            if not (is_place or attributes_of(thing.entry) & told):
                raise Unclear(f"{thing.typed!r} has no part in it")


def _plans(clauses: Sequence[Clause], notes: Notes) -> list[Plan]:
    """What the clauses come to, one after the other."""
    plans: list[Plan] = []
    for clause in clauses:
        last = plans[-1] if plans else Plan()
        if clause.phrases and not clause.is_origin:
            plan = _plan(clause)
            bare = all(phrase.noun is None and not phrase.verbs for phrase in clause.phrases)
            plan.is_description |= bare and clause.link == "and" and last.is_description
            if clause.units[0].stems[0] in LISTS["states"] and not plan.asks:
                last.asks = [ask for ask in last.asks if ask.sense.attribute not in plan.kept]
            plans.append(plan)  # "the curls should not be straightened"
        elif clause.phrases:
            continue
        elif not plans and len(clauses) > 1 and {*roles_of(clause.verbs)} == {"keep"}:
            notes.asides.append(clause.text)  # "it is fine, but ..."
        elif clause.degrees and plans:
            for ask in last.asks:
                ask.degrees += clause.degrees
        elif (
            clause.qualities
            and all(v.is_filler for v in clause.verbs)
            and plans
            and (clause.link != "and" or not (clause.verbs or any(u.entry.senses for u in clause.qualities)))
        ):
            notes.ignored.append(clause.text)  # "very elegant", "it is her favorite color"
        elif clause.qualities or roles_of(clause.verbs) - {"do"} or (clause.verbs and len(clauses) == 1):
            raise Unclear(f"{clause.text!r} does not say what to change")
    for before, plan in itertools.pairwise(plans):
        wanted = {ask.sense.attribute for ask in before.asks if not ask.removes}
        plan.asks += [replace(ask, is_negated=True) for ask in plan.barred if ask.sense.attribute in wanted]
    asked = {ask.sense.attribute for plan in plans for ask in plan.asks}
    for phrase in (phrase for clause in clauses if clause.is_origin for phrase in clause.phrases):
        gone = (
            phrase.noun.entry.gone if phrase.noun else None
        )  # "a smile instead of the beard": the beard goes
        if gone is not None and gone.attribute in NOTHING.keys() - asked and plans:
            plans[-1].asks.append(Ask(gone, [], removes=True))
    for plan in plans:
        for phrase in plan.open:
            named = phrase.noun and attributes_of(phrase.noun.entry) & asked  # "curly, the hair"
            if not named and not any(other.about is phrase for c in clauses for other in c.phrases):
                raise Unclear(f"it does not say what {phrase.first.typed!r} should become")
    return plans


def _combine(plans: Sequence[Plan], source: Source | None, text: str) -> tuple[Constraints, Set[str]]:
    """The levels that all clauses allow, and the attributes that stay as they are asked to be.

    How things are ("he looks old", "the hair is too long") gives way to how they are to be, a removal to what takes
    its place ("remove the hat, put on a crown"), and a direction ("longer") to a level.

    Raises:
        CaptionError: If clauses contradict each other.
        Unclear: If something may only say how things are, beside a request about something else.
    """
    said: dict[str, list[tuple[Plan, list[Ask]]]] = {}
    for plan in plans:
        for name in dict.fromkeys(ask.sense.attribute for ask in plan.asks):
            said.setdefault(name, []).append((plan, [a for a in plan.asks if a.sense.attribute == name]))
    is_asked = any(plan.is_request and not plan.is_description for plan in plans)
    is_asked |= any(plan.is_story for plan in plans) and not all(plan.is_told for plan in plans)
    result: Constraints = {}
    held: Constraints = {}
    for name, groups in said.items():
        wishes = [asks for plan, asks in groups if not (plan.is_told or _complains(asks))]
        tells = any(plan.is_told and not _changes(asks) for plan, asks in groups)
        if not wishes and is_asked and tells:
            raise Unclear(f"it is not clear whether it says how {noun(name)} is, or how it is to be")
        if all(ask.is_negated for asks in wishes for ask in asks):
            wishes = [asks for _, asks in groups]
        levels = [(asks, _together(asks, source)) for asks in wishes]
        still = [found for asks, found in levels if _stays(asks, found, source)]
        firm = _without_weak([(asks, found) for asks, found in levels if not _stays(asks, found, source)])
        if still:
            held[name] = frozenset.intersection(*still)
        if not firm:
            continue
        result[name] = frozenset.intersection(*(found for _, found in firm))
        asks = [ask for some, _ in firm for ask in some]
        kept = [plan for plan in plans if name in plan.kept]
        spared = kept and all(ask.removes for ask in asks)  # "hat off, but do not remove the crown"
        if (
            not result[name] & held.get(name, result[name])
            and not (result[name] and _only_moves(asks))
            or spared
        ):
            raise CaptionError(_both(text, name))
        if any(plan.is_firm and plan.kept == {name} for plan in kept) and not all(ask.refers for ask in asks):
            raise CaptionError(
                f"The instruction {text!r} wants {noun(name)} to stay and to change. Keep one of them."
            )
    return result, held.keys()


Group: TypeAlias = tuple[list[Ask], frozenset[int]]


def _without_weak(groups: list[Group]) -> list[Group]:
    """Of asks that contradict each other, those that count: not removals, nor directions."""
    for is_weak in (_gives_way, _only_moves):
        if groups and not frozenset.intersection(*(levels for _, levels in groups)):
            groups = [g for g in groups if not is_weak(g[0], *(asks for asks, _ in groups))] or groups
    return groups


def _changes(asks: Sequence[Ask]) -> bool:
    """Whether words about how things are ask for a change all the same."""
    return all(ask.removes or ask.is_stay or "too" in ask.degrees for ask in asks)


def _complains(asks: Sequence[Ask]) -> bool:
    return all("too" in ask.degrees for ask in asks)


def _both(text: str, name: str) -> str:
    return f"The instruction {text!r} asks two different things of {noun(name)}. Keep one of them."


def _given(ask: Ask) -> frozenset[int]:
    """What the thing that is removed may be."""
    given = ENTRIES.get(ask.thing, Entry()).given
    return given.indices if given else frozenset()


def _stays(asks: Sequence[Ask], allowed: frozenset[int], source: Source | None) -> bool:
    """Whether something is only to stay as it is in an image: "keep her eyes open"."""
    known = source is not None and known_levels(asks[0].sense.attribute, source) <= allowed
    return all(ask.is_stay for ask in asks) and (known or all(ask.sense.step for ask in asks))


def _only_moves(asks: Sequence[Ask], *_: Sequence[Ask]) -> bool:
    """Whether words only say in which direction: "longer"."""
    return all(ask.sense.step or set(ask.degrees) & {"more", "less", "most"} for ask in asks)


def _gives_way(asks: Sequence[Ask], *groups: Sequence[Ask]) -> bool:
    """Whether words only clear the place: "remove the hat, put on a crown", but not "cap on, all hats off"."""
    at, things = groups.index(asks), {ask.thing for ask in asks}
    named = frozenset[int]().union(*map(_given, asks))
    others = [ask for n, some in enumerate(groups) for ask in some if n != at]
    wanted = frozenset[int]().union(*(a.sense.indices for some in groups[:at] for a in some if not a.removes))
    return all(ask.removes for ask in asks) and not (things & {ask.thing for ask in others} or named & wanted)


def _together(asks: Sequence[Ask], source: Source | None) -> frozenset[int]:
    """What the words of one clause allow: "more" counts most, then levels, then verbs that move by one."""
    compared = [ask for ask in asks if set(ask.degrees) & {"more", "less", "most", "too"}]
    if any(ask.moves for ask in asks):  # "chop off her long hair"
        asks = [ask for ask in asks if ask.place >= 0]
    plain = [ask for ask in asks if ask.sense.indices]
    chosen = compared or plain or list(asks)
    levels = [_levels(ask, source) for ask in chosen]
    common = frozenset.intersection(*levels)
    if common:
        return common
    later = [found for ask, found in zip(chosen, levels, strict=True) if ask.place > 0]
    if later and len(later) < len(levels) and (common := frozenset.intersection(*later)):
        return common  # "make the red shirt blue"
    if len({ask.sense.lean for ask in chosen} - {0}) == 1 and all(
        a.place < 0 and a.sense.lean for a in chosen
    ):
        return frozenset[int]().union(*levels)  # "a big full beard"
    raise Unclear(f"it asks two different things of {noun(asks[0].sense.attribute)}")


# --- refusals ---------------------------------------------------------------------------------------------------


def _refusal(text: str, why: str, units: Sequence[Unit]) -> str:
    """What to say about an instruction that is not understood."""
    if any(unit.is_noun or unit.entry.senses for unit in units):
        return f"{text!r} is not understood: {why}. {_suggestion(text)}"
    return (
        f"Nothing in {text!r} is an edit of a portrait of this world: {why}. An instruction can "
        f"change {', '.join(noun(name) for name in ATTRIBUTES)}. {_suggestion(text)}"
    )


def _suggestion(text: str) -> str:
    return f"Did you mean {' or '.join(map(repr, nearest(text)))}?"


def nearest(text: str, count: int = 2) -> list[str]:
    """The commands that are most like an instruction: the same attributes, the same words, then the same letters.

    Example:
        >>> nearest("hair red and blue")
        ['dye the hair red', 'make the hair red']
    """
    words = _content(text)
    entries = [ENTRIES[(word,)] for word in words if (word,) in ENTRIES]
    about = {name for entry in entries for name in attributes_of(entry)}
    about |= {UNDRAWABLE[each] for word in tokens(text) for each in (word, word[:-1]) if each in UNDRAWABLE}
    about = about or {sense.attribute for entry in entries for sense in (entry.senses or {}).values()}
    candidates = [(len(words & said) + (name in about), text) for name, text, said in _plain_commands()]
    most = max(score for score, _ in candidates)

    def unlike(candidate: tuple[int, str]) -> float:
        return -candidate[0] - difflib.SequenceMatcher(None, candidate[1], text.lower()).ratio()

    best = [candidate for candidate in candidates if candidate[0] >= most - 1]
    return [instruction for _, instruction in sorted(best, key=unlike)[:count]]


def _content(text: str) -> frozenset[str]:
    """The words of a text that are more than filling, in their base form."""
    words = {word for typed in tokens(text) for word in base(typed) or (typed,)}
    return frozenset(words - LISTS["fillers"] - LISTS["skipped"] - LISTS["separators"])


@functools.cache
def _plain_commands() -> tuple[tuple[str, str, frozenset[str]], ...]:
    """Commands for every level of every attribute: its name, the text, and its words."""
    found: dict[str, str] = {}
    for name, edits in EDIT_TEMPLATES.items():
        levels = range(len(PHRASES[name]))
        for edit, source, target in itertools.product(edits, levels, levels):
            if source != target and edit.fits(name, source, target):
                found.setdefault(write(edit, name, source, target, "him", operator.itemgetter(0)), name)
    return tuple((name, instruction, _content(instruction)) for instruction, name in found.items())
