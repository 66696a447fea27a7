"""*Extract*: a multimodal model puts a picture and a wish into two texts, source and target.

The method (arXiv 2408.13335) asks a large multimodal model. Here anything that can look and write does: see
`Describer`. The two texts are plain strings, shown and editable; what follows needs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ditlens import images
from ditlens.ems.alignment import Alignment, align
from ditlens.ems.encoders import Encoder, encoders_of, with_rows
from ditlens.errors import DescriberError

if TYPE_CHECKING:
    from PIL import Image

    from ditlens.model import Model


@dataclass(frozen=True)
class Description:
    """What a picture shows and what it should show.

    Attributes:
        source: Text of the picture as it is.
        target: Text of the picture as wanted; best worded like `source`, so that only the changed words differ.
        changes: For each attribute that changes, the wanted value in words; empty if the describer does not know.
        describer: Who wrote the texts.
        encoders: The text encoders that will read the texts; none if no model is known yet.
    """

    source: str
    target: str
    changes: dict[str, str]
    describer: str = "by hand"
    encoders: tuple[Encoder, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        return "\n".join([f"source: {self.source}", f"target: {self.target}", *self._alignment_lines()])

    @cached_property
    def alignment(self) -> dict[str, Alignment]:
        """The two texts side by side, as each text encoder with token rows reads them, by its name.

        Made when it is first asked for; empty if no model is known, or a text is.
        """
        if not self.source.strip() or not self.target.strip():
            return {}
        return {
            e.name: align(self.source, self.target, e.tokenizer, e.limit) for e in with_rows(self.encoders)
        }

    def alignment_facts(self) -> dict[str, dict[str, Any]]:
        """For each text encoder the changed words and the share of rows that are aligned, ready for JSON."""
        return {
            name: {"changed": [list(pair) for pair in found.words], "share": round(found.share, 4)}
            for name, found in self.alignment.items()
        }

    def _alignment_lines(self) -> list[str]:
        """A line for each way in which encoders read the texts, and what to reword if they are not aligned."""
        readers: dict[str, list[str]] = {}
        for name, found in self.alignment.items():
            changed = ", ".join(f"{before or '-'} -> {after or '-'}" for before, after in found.words)
            told = f"{found.share:.0%} of the rows aligned; changed: {changed or 'nothing'}"
            readers.setdefault(f"{told}\n{found.advice}".strip(), []).append(name)
        return [f"{', '.join(names)}: {told}" for told, names in readers.items()]

    def read_by(self, model: Model) -> Description:
        """The same texts, with the text encoders of a model that will read them."""
        return replace(self, encoders=encoders_of(model))

    def rewritten(self, source: str | None = None, target: str | None = None) -> Description:
        """The description with one or both texts replaced by hand."""
        return replace(
            self,
            source=self.source if source is None else source,
            target=self.target if target is None else target,
            describer=f"{self.describer}, then by hand",
        )


class Describer(Protocol):
    """Anything that looks at a picture and writes: the shipped small model, a large one, a person."""

    name: str

    def describe(self, image: Image.Image) -> str:
        """What the picture shows."""

    def extract(self, image: Image.Image, instruction: str) -> Description:
        """What the picture shows, and what it should show once the instruction is carried out."""


def extract(
    image: images.Picture,
    instruction: str,
    describer: Describer | str | Path | None = None,
    *,
    model: Model | None = None,
) -> Description:
    """Describe a picture and a wish for it in two texts.

    Args:
        image: The picture.
        instruction: What to change, in words.
        describer: Who describes; the model's own by default. A text is read by
            `ditlens.ems.describers.describer_from`: an address, an id, a folder or a file of recorded texts.
        model: The model whose describer is used if none is given, and whose text encoders `Description.alignment`
            is about. If it belongs to a world, what changes is read from the texts in that world's words.

    Raises:
        DescriberError: If there is no describer, or it gave nothing usable.
        CaptionError: If the describer of a world does not understand the instruction.
        ImageError: If the picture cannot be read.
    """
    who = model.describer if describer is None and model is not None else describer
    if who is None:
        name = model.name if model is not None else "no model"
        raise DescriberError(
            f"Nobody describes the picture: {name} has no describer of its own. "
            'Give both texts: edit(..., source_text="a photo of ...", target_text="a photo of ..."), '
            "or pass describer=."
        )
    if isinstance(who, (str, Path)):
        from ditlens.ems.describers import describer_from

        who = describer_from(who, model)
    description = who.extract(images.open_image(image), instruction)
    if not description.source.strip() or not description.target.strip():
        raise DescriberError(
            f"{who.name} returned an empty text. Try again, or give source_text= and target_text= by hand."
        )
    if model is None:
        return description
    if describer is not None and model.world == "portraits":
        from ditlens.worlds.portraits.describer import text_changes

        description = replace(description, changes=text_changes(description.source, description.target))
    return description.read_by(model)
