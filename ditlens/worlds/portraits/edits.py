"""Tables of instructions: how they ask for a change of each attribute, and what else people say."""

from __future__ import annotations

from dataclasses import dataclass

from ditlens.worlds.portraits.constraints import pick
from ditlens.worlds.portraits.phrases import Table
from ditlens.worlds.portraits.reading import Lexicon, Meaning, Stems, lexicon, meanings, stems_of


@dataclass(frozen=True)
class EditTemplate:
    """One way to ask for a change of an attribute.

    Attributes:
        template: The words. Slots: ``{whom}`` a pronoun; ``{thing}`` a phrase of the target level;
            ``{value}`` the name of the target value; ``{worn}`` what the person wears now; ``{much}``
            "much" or nothing.
        targets: Levels that an absolute instruction can set; None means all.
        sources: Levels from which it makes sense; None means all.
        step: Levels to move by, for relative instructions; 0 for absolute ones.
        open: Levels that it leaves open ("make her smile").
    """

    template: str
    targets: tuple[int, ...] | None = None
    sources: tuple[int, ...] | None = None
    step: int = 0
    open: tuple[int, ...] = ()

    def fits(self, attribute: str, source: int, target: int) -> bool:
        """Whether this edit takes an attribute from one level to another."""
        if self.sources is not None and source not in self.sources:
            return False
        if self.step:
            twice = "{much}" in self.template and self.is_double(source, target)
            return twice or target - source == self.step
        if self.open:
            return source not in self.open and target == pick(attribute, frozenset(self.open))
        return self.targets is None or target in self.targets

    def is_double(self, source: int, target: int) -> bool:
        """Whether the change is two steps of this edit: "much bigger"."""
        return self.step != 0 and target - source == 2 * self.step


def _set(template: str, *targets: int, sources: tuple[int, ...] | None = None) -> EditTemplate:
    return EditTemplate(template, targets or None, sources)


def _step(step: int, template: str, *sources: int) -> EditTemplate:
    return EditTemplate(template, sources=sources or None, step=step)


def _open(template: str, *levels: int, sources: tuple[int, ...] | None = None) -> EditTemplate:
    return EditTemplate(template, sources=sources, open=levels)


_GIVE = _set("give {whom} {thing}")
_TAKE_OFF = (_set("remove the {worn}", 0), _set("take off the {worn}", 0))

EDIT_TEMPLATES: dict[str, tuple[EditTemplate, ...]] = {
    "smile": (
        _GIVE,
        _set("make {whom} frown deeply", 0),
        _set("make {whom} frown slightly", 1),
        _set("make {whom} smile slightly", 3),
        _set("make {whom} smile broadly", 4),
        _open("make {whom} frown", 0, 1),
        _open("make {whom} smile", 3, 4),
        _step(+1, "make the smile {much} bigger", 3),
        _step(-1, "make the smile {much} smaller", 4),
        _step(+1, "make {whom} {much} happier"),
        _step(-1, "make {whom} {much} sadder"),
    ),
    "mouth_open": (
        _GIVE,
        _set("close the mouth", 0),
        _set("open the mouth slightly", 1),
        _set("open the mouth wide", 2),
        _step(+1, "open the mouth wider", 1),
    ),
    "eye_open": (
        _GIVE,
        _set("narrow the eyes", 0),
        _set("relax the eyes", 1),
        _set("open the eyes wide", 2),
        _step(+1, "make the eyes {much} bigger"),
        _step(-1, "make the eyes {much} narrower"),
    ),
    "brow_tilt": (
        _GIVE,
        _step(+1, "make the brows {much} angrier"),
        _step(-1, "make the brows {much} more worried"),
    ),
    "gaze": (
        _set("let {whom} look left", 0),
        _set("turn the eyes left", 0),
        _set("let {whom} look straight ahead", 1),
        _set("make {whom} look at the viewer", 1),
        _set("let {whom} look right", 2),
        _set("turn the eyes right", 2),
    ),
    "hair_length": (
        _set("give {whom} {thing} hair"),
        _set("make the hair {thing}"),
        _set("{thing} hair please"),
        _step(+1, "make the hair {much} longer"),
        _step(+1, "{much} longer hair"),
        _step(-1, "make the hair {much} shorter"),
        _step(-1, "{much} shorter hair"),
    ),
    "face_width": (
        _GIVE,
        _step(+1, "make the face {much} wider"),
        _step(-1, "make the face {much} narrower"),
    ),
    "skin_tone": (
        _GIVE,
        _step(+1, "make the skin {much} darker"),
        _step(-1, "make the skin {much} lighter"),
    ),
    "age": (
        _set("make {whom} {thing}"),
        _step(+1, "make {whom} {much} older"),
        _step(+1, "let {whom} look {much} older"),
        _step(-1, "make {whom} {much} younger"),
        _step(-1, "let {whom} look {much} younger"),
    ),
    "beard": (
        _set("shave the beard", 0, sources=(2, 3)),
        _set("remove the beard", 0),
        _set("give {whom} {thing}", 1, 2, 3),
        _set("grow stubble", 1, sources=(0,)),
        _set("grow {thing}", 2, 3, sources=(0, 1)),
        _open("add a beard", 1, 2, 3),
        _step(+1, "make the beard {much} longer", 1, 2),
        _step(-1, "make the beard {much} shorter", 2, 3),
    ),
    "head_tilt": (
        _set("tilt the head left", 0),
        _set("turn the head left", 0),
        _set("hold the head upright", 1),
        _set("hold the head straight", 1),
        _set("tilt the head right", 2),
        _set("turn the head right", 2),
    ),
    "hair_color": (
        _set("dye the hair {thing}"),
        _set("make the hair {thing}"),
        _set("give {whom} {thing} hair"),
        _set("change the hair color to {thing}"),
    ),
    "hair_style": (
        _set("make the hair {thing}"),
        _set("give {whom} {thing} hair"),
        _set("{thing} hair please"),
    ),
    "glasses": (
        *_TAKE_OFF,
        _set("give {whom} {thing}", 1, 2, 3),
        _set("add {thing}", 1, 2, 3, sources=(0,)),
        _set("put on {thing}", 1, 2, 3, sources=(0,)),
        _set("swap the {worn} for {thing}", 1, 2, 3, sources=(1, 2, 3)),
        _open("add glasses", 1, 2, sources=(0,)),
    ),
    "hat": (
        *_TAKE_OFF,
        _set("give {whom} {thing}", 1, 2, 3),
        _set("put on {thing}", 1, 2, 3, sources=(0,)),
        _set("swap the {worn} for {thing}", 1, 2, 3, sources=(1, 2, 3)),
        _open("add a hat", 1, 2, 3, sources=(0,)),
    ),
    "earrings": (
        *_TAKE_OFF,
        _set("give {whom} {thing}", 1, 2),
        _set("add {thing}", 1, 2, sources=(0,)),
        _set("swap the {worn} for {thing}", 1, 2, sources=(1, 2)),
        _open("add earrings", 1, 2, sources=(0,)),
    ),
    "shirt": (
        _set("give {whom} {thing}"),
        _set("change the shirt to {value}"),
        _set("make the shirt {value}"),
    ),
    "background": (
        _set("change the background to {value}"),
        _set("make the background {value}"),
        _set("change to {thing}"),
    ),
}
"""How `instructions.instruction` asks for a change of each attribute."""

WORN = {
    "glasses": (("glasses",), ("glasses",), ("glasses",), ("sunglasses", "glasses")),
    "hat": (("hat",), ("cap", "hat"), ("beanie", "hat"), ("crown", "hat")),
    "earrings": (("earrings",), ("earrings", "pearls"), ("earrings", "hoops")),
}
"""Words for what the person wears now, for each value."""

WHOM = ("him", "her", "them", "the person")

# What relative words do to a noun: "bigger smile", "make the smile bigger".
_COMPARED: tuple[tuple[str, int, tuple[str, ...], tuple[str, ...]], ...] = (
    ("smile", +1, ("smile",), ("bigger", "larger", "wider", "broader", "happier", "more")),
    ("smile", -1, ("smile",), ("smaller", "less")),
    ("smile", -1, ("frown",), ("bigger", "deeper", "sadder", "more")),
    ("smile", +1, ("frown",), ("smaller", "less")),
    ("mouth_open", +1, ("mouth", "open mouth"), ("wider", "more", "bigger", "more open")),
    ("mouth_open", -1, ("mouth",), ("narrower", "smaller", "less open", "more closed")),
    ("mouth_open", -1, ("close mouth",), ("more",)),
    ("eye_open", +1, ("eyes", "open eyes"), ("wider", "more", "bigger", "larger", "rounder", "more open")),
    ("eye_open", -1, ("eyes",), ("narrower", "smaller", "less open", "more closed")),
    ("eye_open", -1, ("close eyes",), ("more",)),
    ("brow_tilt", +1, ("brows",), ("angrier", "fiercer", "more angry")),
    ("brow_tilt", -1, ("brows",), ("sadder", "more worried", "less angry")),
    ("hair_length", +1, ("hair",), ("longer", "more")),
    ("hair_length", -1, ("hair",), ("shorter", "less")),
    ("face_width", +1, ("face",), ("wider", "rounder", "broader", "bigger", "fuller")),
    ("face_width", -1, ("face",), ("narrower", "slimmer", "thinner", "smaller")),
    ("skin_tone", +1, ("skin",), ("darker", "browner")),
    ("skin_tone", -1, ("skin",), ("lighter", "paler", "fairer")),
    ("age", +1, ("face", ""), ("older", "more old")),
    ("age", -1, ("face", ""), ("younger", "less old", "more young")),
    ("beard", +1, ("beard",), ("longer", "bigger", "fuller", "thicker", "larger", "more")),
    ("beard", -1, ("beard",), ("shorter", "smaller", "thinner", "less")),
    ("smile", +1, ("",), ("happier", "more cheerful", "less sad")),
    ("smile", -1, ("",), ("sadder", "less happy")),
    ("brow_tilt", +1, ("",), ("angrier",)),
    ("brow_tilt", -1, ("",), ("more worried", "less angry")),
)

_VERBS: Table = {
    "mouth_open": {0: "close mouth", 1: "open mouth slightly", 2: "open mouth wide"},
    "eye_open": {0: "close eyes", 1: "relax the eyes", 2: "open eyes wide"},
    "gaze": {0: "eyes left", 2: "eyes right", 1: "eyes straight"},
    "head_tilt": {0: "tilt head left", 2: "tilt head right", 1: "straighten head"},
    "beard": {0: "shave, shave the beard"},
    "hair_length": {0: "shave the head"},
    "hair_style": {0: "straighten hair", 2: "curl hair"},
}

_STEPPING_VERBS = {
    "lengthen hair": ("hair_length", +1), "shorten hair": ("hair_length", -1), "trim hair": ("hair_length", -1),
    "trim beard": ("beard", -1), "darken skin": ("skin_tone", +1), "lighten skin": ("skin_tone", -1),
    "widen face": ("face_width", +1), "widen eyes": ("eye_open", +1), "widen smile": ("smile", +1),
}  # fmt: skip

_HAIR_WORDS = {
    "longer": Meaning("hair_length", step=+1),
    "shorter": Meaning("hair_length", step=-1),
    "curlier": Meaning("hair_style", frozenset({2})),
    "straighter": Meaning("hair_style", frozenset({0})),
    "wavier": Meaning("hair_style", frozenset({1})),
}

NOTHING = {"glasses": 0, "hat": 0, "earrings": 0, "beard": 0, "smile": 2}
"""The level or value that remains when something is removed."""

REMOVERS = frozenset("remove delete erase take lose rid drop stop".split())
"""Verbs that remove what follows them; those in `VERBS` do not."""

VERBS = frozenset(
    "make give let put add change turn dye paint set swap replace exchange switch get grow keep hold want "
    "open close tilt lean shave trim curl straighten look wear narrow relax widen darken lighten".split()
)

MODIFIERS = {"much": 2, "lot": 2, "lots": 2, "far": 2, "way": 2, "even": 1, "still": 1, "very": 1}
MODIFIERS |= {"bit": 1, "little": 1, "slightly": 1, "somewhat": 1}
"""Words before a relative word, and the number of levels that it then moves by."""

COMPARATIVES = frozenset(word.split()[0] for *_, words in _COMPARED for word in words)
"""Relative words."""


def _lexicon() -> Lexicon:
    phrases: dict[Stems, Meaning] = {}
    for attribute, step, nouns, words in _COMPARED:
        for noun in nouns:
            for word in words:
                for phrase in (f"{word} {noun}", f"{noun} {word}"):
                    phrases[stems_of(phrase)] = Meaning(attribute, step=step)
    phrases |= {stems_of(p): Meaning(a, step=step) for p, (a, step) in _STEPPING_VERBS.items()}
    phrases |= meanings(_VERBS)
    return lexicon(phrases, {stems_of(word): meaning for word, meaning in _HAIR_WORDS.items()}, direct=True)


INSTRUCTIONS: Lexicon = _lexicon()
"""The phrases of instructions: those of captions, relative words and verbs."""
