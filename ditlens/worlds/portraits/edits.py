"""Commands: how instructions are written that ask for a change of each attribute."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ditlens.worlds.portraits.attributes import ATTRIBUTES, Categorical
from ditlens.worlds.portraits.constraints import pick
from ditlens.worlds.portraits.phrases import PHRASES, is_noun_phrase


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


def write(
    edit: EditTemplate, name: str, source: int, target: int, whom: str, choose: Callable[[Sequence[str]], str]
) -> str:
    """Fill the slots of an edit's template; `choose` takes one of several phrases."""
    spec = ATTRIBUTES[name]
    text = edit.template.format(
        whom=whom,
        thing=choose([phrase for phrase in PHRASES[name][target] if is_noun_phrase(phrase)] or [""]),
        value=spec.value_of(target) if isinstance(spec, Categorical) else "",
        worn=choose(WORN[name][source]) if name in WORN else "",
        much="much" if edit.is_double(source, target) else "",
    )
    return " ".join(text.split())


def command(name: str, source: int, allowed: frozenset[int]) -> str:
    """The plainest instruction that takes an attribute from one level to what is allowed: verbs rather than "give".

    Args:
        name: The attribute.
        source: Its level now, which is not allowed.
        allowed: The levels that are. If an instruction leaves just these open, it is taken.

    Example:
        >>> command("hat", 0, frozenset({3})), command("hat", 0, frozenset({1, 2, 3}))
        ('put on a crown', 'add a hat')
    """
    target = pick(name, allowed)
    fitting = [edit for edit in EDIT_TEMPLATES[name] if edit.fits(name, source, target)]
    opens = [edit for edit in fitting if edit.open and frozenset(edit.open) == allowed]
    exact = sorted(
        (edit for edit in fitting if not edit.open),
        key=lambda edit: ("give" in edit.template, edit.step != 0),
    )
    return write((opens or exact)[0], name, source, target, "them", operator.itemgetter(0))


def _taking(*places: int) -> Callable[[Sequence[str]], str]:
    """Chooses by place, for one slot after the other."""
    order = iter(places)
    return lambda phrases: phrases[next(order) % len(phrases)]


@functools.cache
def commands() -> frozenset[str]:
    """Every instruction about one attribute that can be written."""
    found = set()
    for name, edits in EDIT_TEMPLATES.items():
        levels = range(len(PHRASES[name]))
        for edit, source, target in itertools.product(edits, levels, levels):
            if source == target or not edit.fits(name, source, target):
                continue
            for whom, thing, worn in itertools.product(WHOM, range(4), range(2)):
                found.add(write(edit, name, source, target, whom, _taking(thing, worn)))
    return frozenset(found)
