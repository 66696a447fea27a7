"""What is not to happen does not happen, and nothing of the opposite either."""

from __future__ import annotations

import random

import pytest

from ditlens.errors import CaptionError
from ditlens.worlds.portraits.attributes import ATTRIBUTES, NAMES
from ditlens.worlds.portraits.edits import EDIT_TEMPLATES, write
from ditlens.worlds.portraits.instructions import parse_instruction
from ditlens.worlds.portraits.phrases import PHRASES

NOUNS = {name: name.replace("_", " ") for name in NAMES} | {
    "smile": "expression", "mouth_open": "mouth", "eye_open": "eyes", "brow_tilt": "eyebrows",
    "hair_length": "hair", "face_width": "face", "skin_tone": "skin", "head_tilt": "head",
}  # fmt: skip
NEGATED = ("do not {}", "don't {}", "please don't {}", "never {}", "no need to {}", "you should not {}")
STAYING = (
    "keep the {} as it is", "leave the {} alone", "keep the {}", "don't touch the {}", "do not change the {}",
    "the {} should stay the same", "the {} must not change", "without changing the {}", "leave the {} as is",
    "no change to the {}", "the {} remains unchanged",
)  # fmt: skip
GERUNDS = {"put": "putting", "swap": "swapping", "shave": "shaving", "dye": "dyeing", "let": "letting"}
OTHERS = {
    "background": ("change the background to pink", 2),
    "shirt": ("make the shirt green", 2),
    "glasses": ("add sunglasses", 3),
}


def commands(name: str) -> set[str]:
    """Every template of an attribute that begins with a verb, for every change of level."""
    rng, found = random.Random(0), set()
    levels = range(len(PHRASES[name]))
    for source in levels:
        for target in levels:
            for edit in EDIT_TEMPLATES[name]:
                if source != target and edit.fits(name, source, target) and not edit.template.startswith("{"):
                    found.add(write(edit, name, source, target, "him", rng.choice))
    return found


def gerund(command: str) -> str:
    verb, _, rest = command.partition(" ")
    return f"{GERUNDS.get(verb) or verb.removesuffix('e') + 'ing'} {rest}"


def negations(name: str) -> list[str]:
    found = [pattern.format(command) for command in sorted(commands(name)) for pattern in NEGATED]
    found += [f"without {gerund(command)}" for command in sorted(commands(name))]
    return found + [pattern.format(NOUNS[name]) for pattern in STAYING]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_negated_alone_is_refused(name):
    source = {other: ATTRIBUTES[other].value_of(len(PHRASES[other]) - 1) for other in NAMES}
    for text in negations(name):
        for known in (None, source):
            with pytest.raises(CaptionError, match="only says what is to stay: nothing changes"):
                parse_instruction(text, known)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_negated_beside_a_wish_stays(name):
    other, (wish, level) = next(item for item in OTHERS.items() if item[0] != name)
    for text in negations(name):
        for whole in (f"{wish}, but {text}", f"{wish} and {text}", f"{text}, and {wish}"):
            assert parse_instruction(whole) == {other: {level}}, whole
