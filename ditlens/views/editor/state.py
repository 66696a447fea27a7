"""What an editor holds: one value that can be undone, saved, repeated and written as code. Imports no torch."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import SequenceMatcher
from typing import Any

from ditlens.errors import SettingError

FORMAT = "ditlens editor 1"
_KINDS = {"degree": (float, int), "guidance": (float, int, type(None))}
"""Types of values where they are not those of the defaults."""


@dataclass(frozen=True, kw_only=True)
class EditorState:
    """All that decides the picture of an editor.

    Attributes:
        picture: The source image as a file in memory, as it was opened.
        name: Where it comes from: the name of an example, or of a file.
        instruction: What to change, in words.
        source_text: What the image shows; empty until it was extracted.
        target_text: What it should show.
        degree: Editing degree: 0 changes nothing, 1 is the full edit.
        seed: Of the noise.
        method: Name of the method; empty: the model's own.
        guidance: Guidance of both velocities; None: the method's own.
        mask: "auto", "none", "difference" or "exact".
        tokens: Whether the text's tokens move.
        pooled: Whether its pooled vector moves.
        encoders: The text encoders whose part moves; empty: all.
    """

    picture: bytes = b""
    name: str = ""
    instruction: str = ""
    source_text: str = ""
    target_text: str = ""
    degree: float = 1.0
    seed: int = 0
    method: str = ""
    guidance: float | None = None
    mask: str = "auto"
    tokens: bool = True
    pooled: bool = True
    encoders: tuple[str, ...] = ()

    def with_changes(self, **changes: Any) -> EditorState:
        """The same with some values changed.

        Raises:
            SettingError: If a name is unknown.
        """
        known = {each.name for each in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise SettingError(
                f"An editor has no setting {unknown[0]!r}. It has: {', '.join(sorted(known))}."
            )
        return replace(self, **changes)

    @property
    def plain(self) -> dict[str, Any]:
        """The values without the picture, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "picture"}

    def to_json(self) -> str:
        """Everything, the picture too, as text; `from_json` reads it."""
        picture = base64.b64encode(self.picture).decode()
        return json.dumps({"format": FORMAT, **self.plain, "picture": picture}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> EditorState:
        """A state from what `to_json` wrote.

        Raises:
            SettingError: If it is something else, or damaged.

        Example:
            >>> EditorState.from_json(EditorState(name="ada", degree=0.5).to_json()).degree
            0.5
        """
        if FORMAT not in text:
            raise SettingError(
                "No edit was saved in this file. Load one that was made under Save and load; to edit any other "
                "picture, open it."
            )
        try:
            values = json.loads(text)
            if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
                raise ValueError("it is of another format")
            values["picture"] = base64.b64decode(values.get("picture", ""), validate=True)
            values["encoders"] = tuple(values.get("encoders", ()))
        except (ValueError, TypeError, RecursionError) as error:
            raise SettingError(f"This saved edit is damaged: {error}. Save it again.") from error
        state = cls().with_changes(**values)
        for each in fields(cls):
            kinds, value = _KINDS.get(each.name, (type(each.default),)), getattr(state, each.name)
            if type(value) not in kinds:
                raise SettingError(f"This saved edit is damaged: {each.name} is {value!r}. Save it again.")
        return state

    def code(self, model: str, image: str, method: Mapping[str, Any] | None = None) -> str:
        """A notebook cell that makes the same picture without the widget.

        Args:
            model: Name of the model.
            image: Code that names the source image.
            method: Settings of the method, where its name does not say them.
        """
        given: dict[str, Any] = {
            "source_text": self.source_text, "target_text": self.target_text, "degree": self.degree,
            "seed": self.seed,
        }  # fmt: skip
        if method or self.method:
            given["method"] = dict(method) if method else self.method
        if self.mask != "auto":
            given["mask"] = None if self.mask == "none" else self.mask
        given |= {name: False for name in ("tokens", "pooled") if not getattr(self, name)}
        if self.encoders:
            given["encoders"] = list(self.encoders)
        arguments = "".join(f"    {name}={value!r},\n" for name, value in given.items())
        return (
            f"import ditlens as dl\n\nmodel = dl.load({model!r})\n"
            f"edit = dl.edit(\n    model,\n    {image},\n{arguments})\nedit\n"
        )


def changed_words(source: str, target: str) -> list[tuple[str, str]]:
    """The words in which two texts differ, (before, after); one of them is empty where words come or go.

    Example:
        >>> changed_words("a slight smile, no hat", "a big smile, a crown")
        [('slight', 'big'), ('no hat', 'a crown')]
    """
    old, new = source.split(), target.split()
    pairs = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [
        (" ".join(old[a:b]).strip(",;."), " ".join(new[c:d]).strip(",;."))
        for kind, a, b, c, d in pairs
        if kind != "equal"
    ]
