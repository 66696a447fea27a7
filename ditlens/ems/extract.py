"""*Extract*: a multimodal model puts a picture and a wish into two texts, source and target.

The method (arXiv 2408.13335) asks a large multimodal model. Here anything that can look and write does: see
`Describer`. The two texts are plain strings, shown and editable; what follows needs nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ditlens import images
from ditlens.describers.choice import describer_from
from ditlens.description import Describer, Description
from ditlens.errors import DescriberError
from ditlens.models.encoders import encoders_of, with_rows
from ditlens.models.model import Model
from ditlens.worlds.portraits.describer import text_changes


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
            `ditlens.describers.choice.describer_from`: an address, an id, a folder or a file of recorded texts.
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
        who = describer_from(who, model)
    description = who.extract(images.open_image(image), instruction)
    if not description.source.strip() or not description.target.strip():
        raise DescriberError(
            f"{who.name} returned an empty text. Try again, or give source_text= and target_text= by hand."
        )
    if model is None:
        return description
    if describer is not None and model.world == "portraits":
        description = replace(description, changes=text_changes(description.source, description.target))
    return read_by(description, model)


def read_by(description: Description, model: Model) -> Description:
    """The same texts, with the text encoders of a model that will read them."""
    return replace(description, readers=tuple(with_rows(encoders_of(model))))
