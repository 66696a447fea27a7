"""Instructions: write them and read them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ditlens.errors import CaptionError
from ditlens.worlds.portraits.attributes import (
    NAMES,
    Attributes,
    attribute,
    describe_values,
    neutral,
    take,
    visible,
)
from ditlens.worlds.portraits.constraints import Source
from ditlens.worlds.portraits.edits import EDIT_TEMPLATES, WHOM, write
from ditlens.worlds.portraits.grammar import read_instruction
from ditlens.worlds.portraits.pairs import target_caption as target_caption
from ditlens.worlds.portraits.phrases import PHRASES, Constraints, noun

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
    source = {name: attribute(name).level_of(value) for name, value in describe_values(one).items()}
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
    after = neutral(1, **{name: attribute(name).value_of(level) for name, level in changes.items()})
    seen = visible({**one, **{name: after[name] for name in changes}})
    return all(bool(seen[name]) for name in changes)


def _ask(name: str, source: int, target: int, whom: str, rng: random.Random) -> str:
    """Words that ask to change one attribute from one level to another."""
    fitting = [edit for edit in EDIT_TEMPLATES[name] if edit.fits(name, source, target)]
    return write(rng.choice(fitting), name, source, target, whom, rng.choice)


def check_instruction(instruction: str) -> list[str]:
    """Refuse a text that is not an edit of a portrait, or only in part; needs no image.

    Returns:
        What a person should know about how it is read: typos that were corrected, adjectives that were left out.

    Raises:
        CaptionError: If any part is not understood, or nothing is to change.

    Example:
        >>> check_instruction("give her a red silk shrit")
        ["'shrit' is read as 'shirt'.", "'silk' is left out: this world cannot draw it."]
    """
    return read_instruction(instruction).remarks


def parse_instruction(text: str, source: Source | None = None) -> Constraints:
    """Read an instruction, relative to a source portrait; see `grammar` for how.

    Relative words move by one level from that of the source ("much" and "a lot": two) and stop at the ends. The
    neutral level is assumed where the source says nothing.

    Args:
        text: For example ``"make the smile a frown and remove the glasses"``.
        source: The source's values (see `attributes.describe_values`) or the constraints of its caption.

    Returns:
        For each attribute to change, the indices of the levels or values that the words allow.

    Raises:
        CaptionError: If any part is not understood, if something that can only be changed is to be removed, if
            two clauses contradict each other, or if nothing is to change.
    """
    return read_instruction(text, source).changes
