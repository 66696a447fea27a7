"""*Extract*: a multimodal model puts a picture and a wish into two texts, source and target.

The method (arXiv 2408.13335) asks a large multimodal model. Here anything that can look and write does: see
`Describer`. The two texts are plain strings, shown and editable; what follows needs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ditlens import images
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
    """

    source: str
    target: str
    changes: dict[str, str]
    describer: str = "by hand"

    def __str__(self) -> str:
        return f"source: {self.source}\ntarget: {self.target}"

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
        model: The model whose describer is used if none is given. If it belongs to a world, what changes is read
            from the texts in that world's words.

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
    if describer is not None and model is not None and model.world == "portraits":
        from ditlens.worlds.portraits.describer import text_changes

        return replace(description, changes=text_changes(description.source, description.target))
    return description
