"""What an explorer shows: one value that can be saved, repeated and written as code. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral
from typing import Any

from ditlens.errors import SettingError

FORMAT = "ditlens explorer 1"
CHOICES = {
    "view": ("PCA", "UMAP"), "kind": ("probe", "causal", "attention"), "stream": ("text", "image"),
    "stretch": ("until", "from", "only"), "way": ("to", "from"),
}  # fmt: skip


NUMBER, NUMBERS, TEXT = "a whole number", "a tuple of whole numbers", "a text"
LIKE = {
    "step": NUMBER, "picture": NUMBER, "chosen": NUMBERS, "cell": "a block and a step, or ()",
    "focus": "('patch', number), ('word', number), or ()",
} | dict.fromkeys((*CHOICES, "site", "tokens", "color"), TEXT)  # fmt: skip
"""What values are, in words."""


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_like(value: Any, name: str) -> bool:
    """Whether a value is of the kind that a name has."""
    if LIKE[name] is TEXT:
        return isinstance(value, str)
    if LIKE[name] is NUMBER:
        return _is_number(value)
    if not isinstance(value, tuple):
        return False
    if name == "focus":
        return not value or (len(value) == 2 and value[0] in ("patch", "word") and _is_number(value[1]))
    return all(map(_is_number, value)) and (name != "cell" or len(value) in (0, 2))


@dataclass(frozen=True, kw_only=True)
class ExplorerState:
    """All that decides what an explorer shows.

    Attributes:
        view: "PCA" or "UMAP".
        site: Whose hidden states are the points.
        step: At which step.
        tokens: What a point is: "mean", one picture; "each", one patch or word of a picture; or the number of a
            token, that one of every picture.
        color: The attribute or column that colours them, and that the map is about.
        chosen: Numbers of the pictures that are selected.
        picture: Number of the picture that is open; -1: none.
        focus: What of it is asked about: ("patch", number), ("word", number), or () for nothing.
        way: "to": where it looks; "from": what looks at it.
        kind: What the map of blocks and steps shows: "probe", "causal" or "attention".
        stream: What is patched: the states of the text or of the image.
        stretch: For how long: "until" this step from the first, "from" this step to the last, "only" this step.
        cell: Block and step of the patch; () for none.
    """

    view: str = "PCA"
    site: str = ""
    step: int = 0
    tokens: str = "mean"
    color: str = ""
    chosen: tuple[int, ...] = ()
    picture: int = -1
    focus: tuple[str, int] | tuple[()] = ()
    way: str = "to"
    kind: str = "probe"
    stream: str = "text"
    stretch: str = "until"
    cell: tuple[int, int] | tuple[()] = ()

    def with_changes(self, **changes: Any) -> ExplorerState:
        """The same with some values changed.

        Raises:
            SettingError: If a name or a choice is unknown.
        """
        known = {each.name for each in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise SettingError(
                f"An explorer has no setting {unknown[0]!r}. It has: {', '.join(sorted(known))}."
            )
        for name, value in changes.items():
            if not _is_like(value, name):
                raise SettingError(f"{name} is {value!r}; it is {LIKE[name]}.")
        for name in CHOICES.keys() & changes.keys():
            if changes[name] not in CHOICES[name]:
                raise SettingError(f"{name} is {changes[name]!r}; it is one of {', '.join(CHOICES[name])}.")
        return replace(self, **changes)

    @property
    def plain(self) -> dict[str, Any]:
        """The values, ready for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """As JSON; `from_json` reads it."""
        return json.dumps({"format": FORMAT, **self.plain})

    @classmethod
    def from_json(cls, text: str) -> ExplorerState:
        """Read what `to_json` wrote.

        Raises:
            SettingError: If it is something else, or damaged.

        Example:
            >>> ExplorerState.from_json(ExplorerState(color="smile", cell=(3, 7)).to_json()).cell
            (3, 7)
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise SettingError(f"This state of an explorer is damaged: {error}.") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise SettingError("This is not the state of an explorer. Write one with state.to_json().")
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls().with_changes(**values | tuples)

    @property
    def patch(self) -> int | None:
        """The patch that is asked about."""
        return self.focus[1] if self.focus and self.focus[0] == "patch" else None

    def row(self) -> str | list[int]:
        """What a point is, as analyses take it."""
        return [int(self.tokens)] if self.tokens.isdecimal() else self.tokens


def stretch(kind: str, step: int, total: int) -> tuple[int, int]:
    """First step of a patch, and the step after its last.

    Example:
        >>> stretch("until", 4, 10), stretch("from", 4, 10), stretch("only", 4, 10)
        ((0, 5), (4, 10), (4, 5))
    """
    return {"until": (0, step + 1), "from": (step, total), "only": (step, step + 1)}[kind]


def picked(numbers: Sequence[int], most: int) -> list[int]:
    """Some of many numbers, evenly spread, the first and the last among them.

    Example:
        >>> picked(range(20), 5)
        [0, 5, 10, 14, 19]
    """
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(k * (len(numbers) - 1) / (most - 1))] for k in range(most)]
