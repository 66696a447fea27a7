"""Instructions: write them, read them, and apply them to attributes exactly."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ditlens.errors import CaptionError
from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    NAMES,
    Attributes,
    Categorical,
    attribute,
    describe_values,
    take,
    visible,
)
from ditlens.worlds.portraits.constraints import Source, index_of, known_levels, settle, value_of
from ditlens.worlds.portraits.edits import (
    COMPARATIVES,
    EDIT_TEMPLATES,
    INSTRUCTIONS,
    MODIFIERS,
    NOTHING,
    REMOVERS,
    VERBS,
    WHOM,
    WORN,
    EditTemplate,
)
from ditlens.worlds.portraits.pairs import target_caption as target_caption
from ditlens.worlds.portraits.phrases import PHRASES, Constraints, is_noun_phrase, noun, tokens
from ditlens.worlds.portraits.reading import NOUNS, SEPARATORS, Mention, scan

EXAMPLE = "make the smile bigger and remove the glasses"


@dataclass(frozen=True)
class Instruction:
    """A request for an edit, with its exact meaning.

    Attributes:
        text: What a person would say.
        changes: For each attribute to change, the index of the level or value that it gets.
    """

    text: str
    changes: dict[str, int]

    @property
    def targets(self) -> list[str]:
        """Names of the attributes to change."""
        return list(self.changes)


def instruction(
    attributes: Attributes,
    index: int = 0,
    rng: random.Random | None = None,
    *,
    names: Sequence[str] | None = None,
    count: int = 1,
) -> Instruction:
    """Draw an instruction for one portrait whose changes are possible, and visible before and after.

    Args:
        attributes: A batch of portraits.
        index: Which of them.
        rng: Source of randomness; None draws a fresh one.
        names: The attributes to change (hidden ones are left out); None draws `count` of them.
        count: Number of attributes to change if `names` is None.

    Returns:
        The text, with the new level of each attribute that changes.

    Raises:
        CaptionError: If every attribute in `names` is hidden.
    """
    rng = rng or random.Random()
    one = take(attributes, range(len(next(iter(attributes.values()))))[index])
    source = {name: index_of(name, value) for name, value in describe_values(one).items()}
    seen = visible(one)
    order = [attribute(name).name for name in names] if names is not None else rng.sample(NAMES, len(NAMES))
    changes: dict[str, int] = {}
    for name in order:
        if names is None and len(changes) == count:
            break
        others = [level for level in range(len(PHRASES[name])) if level != source[name]]
        trial = changes | {name: rng.choice(others)}
        if seen[name].item() and _all_visible(one, trial):
            changes = trial
    if not changes:
        raise CaptionError(
            f"Nothing can be changed: {', '.join(noun(n) for n in order)} cannot be seen in this portrait. "
            f"Pass other names, or names=None."
        )
    whom = rng.choice(WHOM)
    parts = [_ask(name, source[name], target, whom, rng) for name, target in changes.items()]
    last = rng.choice((", ", " and "))
    return Instruction(last.join([*([", ".join(parts[:-1])] if parts[1:] else []), parts[-1]]), changes)


def _all_visible(one: Attributes, changes: Mapping[str, int]) -> bool:
    """Whether each change can be seen in the target: glasses may not hide a new gaze."""
    if len(changes) == 1:
        return True  # no attribute hides itself
    seen = visible(apply(one, 0, changes))
    return all(bool(seen[name]) for name in changes)


def _ask(name: str, source: int, target: int, whom: str, rng: random.Random) -> str:
    """Words that ask to change one attribute from one level to another."""
    fitting = [edit for edit in EDIT_TEMPLATES[name] if edit.fits(name, source, target)]
    return write(rng.choice(fitting), name, source, target, whom, rng)


def write(edit: EditTemplate, name: str, source: int, target: int, whom: str, rng: random.Random) -> str:
    """Fill the slots of an edit's template."""
    spec = ATTRIBUTES[name]
    text = edit.template.format(
        whom=whom,
        thing=rng.choice([phrase for phrase in PHRASES[name][target] if is_noun_phrase(phrase)] or [""]),
        value=spec.values[target] if isinstance(spec, Categorical) else "",
        worn=rng.choice(WORN[name][source]) if name in WORN else "",
        much="much" if edit.is_double(source, target) else "",
    )
    return " ".join(text.split())


def check_instruction(text: str) -> None:
    """Refuse a text in which nothing is an edit of a portrait; needs no image.

    Raises:
        CaptionError: If nothing is understood.
    """
    words = _resolve_pronouns(tokens(text))
    if not scan(words, INSTRUCTIONS, _modifiers(words)[1] | _origins(words)):
        raise CaptionError(not_understood(text))


def not_understood(text: str) -> str:
    """What to say about a text that asks for nothing that this world has."""
    return (
        f"Nothing in {text!r} is an edit of a portrait of this world. An instruction can change "
        f"{', '.join(noun(name) for name in NAMES)}. Write for example: {EXAMPLE!r}."
    )


def parse_instruction(text: str, source: Source | None = None) -> Constraints:
    """Read an instruction, relative to a source portrait.

    Within one clause the last mention of an attribute counts ("swap the glasses for a pair of sunglasses").
    Relative words move by one level from that of the source ("much" and "a lot": two) and stop at the ends. The
    neutral level is assumed where the source says nothing.

    Args:
        text: For example ``"make the smile a frown and remove the glasses"``.
        source: The source's values (see `attributes.describe_values`) or the constraints of its caption.

    Returns:
        For each attribute to change, the indices of the levels or values that the words allow.

    Raises:
        CaptionError: If nothing is understood, if something that can only be changed is to be removed, or if two
            clauses contradict each other.
    """
    words = _resolve_pronouns(tokens(text))
    steps, skip = _modifiers(words)
    mentions = scan(words, INSTRUCTIONS, skip | _origins(words))
    result: Constraints = {}
    for clause in _clauses(words, mentions):
        for name, mention in {m.attribute: m for m in clause}.items():
            allowed = mention.meaning.indices
            if mention.meaning.step:
                factor = max(steps.get(i, 1) for i in range(mention.start, mention.end))
                allowed = _move(name, known_levels(name, source), factor * mention.meaning.step)
            elif _is_removed(words, mention):
                allowed = frozenset({NOTHING[name]})
            if not allowed & result.get(name, allowed):
                raise CaptionError(
                    f"The instruction {text!r} asks two different things of {noun(name)}. Keep one of them."
                )
            result[name] = allowed & result.get(name, allowed)
    if not result:
        raise CaptionError(not_understood(text))
    return result


def _resolve_pronouns(words: list[str]) -> list[str]:
    """Replace "one" by its noun: "swap the red shirt for a blue one"."""
    result: list[str] = []
    for word in words:
        last = next((w for w in reversed(result) if w in NOUNS), word)
        result.append(last if word in ("one", "ones") else word)
    return result


def _modifiers(words: list[str]) -> tuple[dict[int, int], frozenset[int]]:
    """The factor of each relative word ("much bigger": 2) by position, and the positions to skip."""
    steps: dict[int, int] = {}
    skip: set[int] = set()
    for at, word in enumerate(words):
        if word in COMPARATIVES:
            before = at - 1
            while before >= 0 and words[before] in MODIFIERS:
                steps[at] = max(steps.get(at, 1), MODIFIERS[words[before]])
                skip.add(before)
                before -= 1
    return steps, frozenset(skip)


def _origins(words: list[str]) -> frozenset[int]:
    """Positions of the words that say what something was: "from red to", "instead of red"."""
    skip: set[int] = set()
    for at, word in enumerate(words):
        ends = SEPARATORS | {"to", "into"}
        if word == "instead" or (word == "from" and "to" in words[at:]):
            end = next((i for i in range(at, len(words)) if words[i] in ends), len(words))
            skip.update(range(at, end))
    return frozenset(skip)


def _clauses(words: list[str], mentions: Iterable[Mention]) -> list[list[Mention]]:
    """Group mentions by the clauses that commas and "and" separate."""
    clauses: dict[int, list[Mention]] = {}
    for mention in mentions:
        number = sum(word in SEPARATORS | {"then", "but"} for word in words[: mention.start])
        clauses.setdefault(number, []).append(mention)
    return list(clauses.values())


def _is_removed(words: list[str], mention: Mention) -> bool:
    """Whether the verb before a mention removes it; one verb may have several objects."""
    before = [i for i in range(mention.start) if words[i] in REMOVERS | VERBS]
    if not before or words[before[-1]] not in REMOVERS:
        return False
    if mention.attribute in NOTHING:
        same_clause = not SEPARATORS & set(words[before[-1] : mention.start])
        return same_clause or mention.attribute != "smile"
    if SEPARATORS & set(words[before[-1] : mention.start]):
        return False
    raise CaptionError(
        f"{noun(mention.attribute).capitalize()} cannot be removed, only changed. What can be removed: "
        f"{', '.join(noun(name) for name in NOTHING)}. Write for example: {EXAMPLE!r}."
    )


def _move(name: str, levels: frozenset[int], step: int) -> frozenset[int]:
    top = len(PHRASES[name]) - 1
    return frozenset(min(max(level + step, 0), top) for level in levels)


def apply(
    attributes: Attributes,
    index: int,
    changes: Mapping[str, int] | Constraints,
    *,
    rng: random.Random | None = None,
) -> Attributes:
    """Apply changes to a portrait: the exact target of an edit.

    Args:
        attributes: A batch of portraits.
        index: Which of them is the source.
        changes: As in `Instruction.changes`, or as returned by `parse_instruction`.
        rng: None puts changed attributes at the centre of their level; otherwise a value in its core is drawn.

    Returns:
        A batch of one. Attributes that do not change, or are already as asked for, keep their values.
    """
    one = {name: values.clone() for name, values in take(attributes, index).items()}
    for name, wanted in changes.items():
        spec = attribute(name)
        value = one[name].item()
        current = int(value) if isinstance(spec, Categorical) else spec.level_of(value)
        target = settle(name, wanted, current)
        if target != current:
            new = target if isinstance(spec, Categorical) else float(value_of(name, target, rng))
            one[name].fill_(new)
    return one
