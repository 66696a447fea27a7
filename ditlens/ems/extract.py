"""*Extract*: a multimodal model puts an image and an instruction into two texts, source and target.

The method (arXiv 2408.13335) asks a large multimodal model. Here anything that can look and write does: see
`ditlens.description.Describer`. The two texts are plain strings, shown and editable; what follows needs nothing
else.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ditlens import images
from ditlens.arguments import TEXT, takes
from ditlens.describers.choice import describer_from
from ditlens.description import Describer, Description
from ditlens.errors import DescriberError, SettingError
from ditlens.models.encoders import encoders_of, with_rows
from ditlens.models.model import MODEL, Model


@takes(instruction=TEXT, model=MODEL)
def extract(
    image: images.ImageLike,
    instruction: str,
    describer: Describer | str | Path | None = None,
    *,
    model: Model | None = None,
) -> Description:
    """Describe an image and what to change in it by two texts.

    Args:
        image: The image.
        instruction: What to change, in words.
        describer: Who describes; the model's own by default. A text is read by
            `ditlens.describers.choice.describer_from`: an address, an id, a folder or a file of recorded texts.
        model: The model whose describer is used if none is given, and whose text encoders `Description.alignment`
            is about. If it belongs to a world, what changes is read from the texts in that world's words.

    Raises:
        DescriberError: If there is no describer, or it gave nothing usable.
        CaptionError: If the describer of a world does not understand the instruction.
        ImageError: If the image cannot be read.

    Example:
        >>> from ditlens.describers.choice import ByHand
        >>> image = model.generate("a portrait with a big smile", seed=0, steps=2)
        >>> dl.extract(image, "add a crown", ByHand("no hat", "a crown"), model=model).changes
        {'hat': 'a crown'}
    """
    who = describer_from(describer, model)
    description = who.extract(images.open_image(image), instruction)
    if not description.source.strip() or not description.target.strip():
        raise DescriberError(
            f"{who.name} returned an empty text. Try again, or pass source_text= and target_text=."
        )
    if model is None:
        return description
    return known_to(model, description)


def known_to(model: Model, description: Description) -> Description:
    """The same texts, with the text encoders that will read them and, in a world, what they change in its words."""
    world, changes = model.world, description.changes
    if world is not None:
        wanted = world.wanted(description.source, description.target)
        changes = {name: world.phrase(name, level) for name, level in wanted.items()}
    return replace(description, changes=changes, readers=tuple(with_rows(encoders_of(model))))


def describe(
    model: Model,
    image: Image.Image,
    instructions: Sequence[str],
    describer: Describer | None,
    source_text: str | None = None,
    target_text: str | None = None,
) -> Description:
    """Both texts of an edit, with those that were given in place of the describer's.

    Args:
        model: The model that will read them.
        image: The image.
        instructions: What to change.
        describer: Who describes; the model's own if None.
        source_text: What the image shows. The target then starts from it.
        target_text: What it should show.

    Raises:
        CaptionError: If the instructions are not understood.
        DescriberError: If nothing can describe the image.
    """
    asked = " and then ".join(instructions)  # each begins anew: "remove the hat and then glasses"
    if source_text is not None and target_text is not None:
        return known_to(model, Description(source_text, target_text, {}))
    if source_text is not None:  # `check_texts` has seen that there is a world
        assert model.world is not None
        known = model.world.measure(images.to_tensor(image))[0]
        texts = model.world.reword(source_text, asked, known)
        return known_to(model, Description(*texts, {}, "by hand, then the grammar"))
    description = extract(image, asked, describer, model=model)
    if target_text is None:
        return description
    found = known_to(model, description.rewritten(target=target_text))
    return replace(found, changes=found.changes or description.changes)


def target_texts(
    model: Model,
    image: Image.Image,
    description: Description,
    instructions: Sequence[str],
    describer: Describer | None,
) -> list[str]:
    """The target text of each instruction alone, all starting from the description's source text.

    Raises:
        SettingError: If a describer words the source of one instruction differently, so that the directions cannot
            be added.
    """
    if len(instructions) < 2:
        return [description.target]
    if model.world is not None:
        return [model.world.reword(description.source, instruction)[1] for instruction in instructions]
    found = [extract(image, instruction, describer, model=model) for instruction in instructions]
    for one in found:
        if one.source != description.source:
            raise SettingError(
                "The describer words the image differently for each instruction, so their directions do not start "
                f"from the same text: {one.source!r} and {description.source!r}. Make one edit after the other, "
                "or pass source_text= and target_text=."
            )
    return [one.target for one in found]


# --- what is asked for -------------------------------------------------------------------------------------


def instructions_of(instruction: str | Mapping[str, float]) -> dict[str, float]:
    """Instructions with their degrees; a plain one has degree 1.

    Raises:
        SettingError: If they are of another type, a degree is out of range, or a mapping is empty.
    """
    if isinstance(instruction, str):
        return {instruction: 1.0}
    if not isinstance(instruction, Mapping) or not all(isinstance(words, str) for words in instruction):
        raise SettingError(
            f'instruction is {instruction!r}; write what to change as one text, "make her smile", or several with '
            'their degrees: {"make her smile": 0.7, "remove the glasses": 1}.'
        )
    if not instruction:
        raise SettingError('There is no instruction. Write them with their degrees: {"make her smile": 0.7}.')
    return {words: degree_of(degree) for words, degree in instruction.items()}


def check_texts(
    model: Model, instruction: str | Mapping[str, float], source_text: str | None, target_text: str | None
) -> None:
    """Refuse combinations of texts and instructions of which a part would have no effect.

    Raises:
        SettingError: If an instruction is missing, or given beside texts that leave it nothing to do.
    """
    texts = {"source_text": source_text, "target_text": target_text}
    for name, text in texts.items():
        if text is not None and not (isinstance(text, str) and text.strip()):
            raise SettingError(f"{name} is {text!r}. Say what the image shows, or leave it out.")
    if source_text is not None and target_text is not None:
        if not isinstance(instruction, str):
            raise SettingError(
                "With both texts given there is one target, and the degrees of the instructions would do nothing. "
                "Pass degree= in their place, or leave the texts out."
            )
        return
    if not all(words.strip() for words in ([instruction] if isinstance(instruction, str) else instruction)):
        raise SettingError(
            'The instruction is empty. Say what to change, e.g. "make her smile", or pass source_text= and '
            "target_text=."
        )
    if target_text is not None and not isinstance(instruction, str) and len(instruction) > 1:
        raise SettingError(
            f"target_text= is one text, but each of the {len(instruction)} instructions needs its own, which moves "
            "by its degree. Leave target_text= out, or make one instruction of them."
        )
    if source_text is not None and model.world is None:
        raise SettingError(
            "source_text= alone is not enough: only a model with a world can word the target from it, and a "
            "describer would start from its own words. Pass target_text= too, worded like the source."
        )


LOWEST, HIGHEST = -2.0, 3.0
"""Degrees beyond these leave what a model was trained on; they are refused."""


def degree_of(degree: float) -> float:
    """An editing degree as a float.

    Raises:
        SettingError: If it is not a number, or out of range.
    """
    one = isinstance(degree, numbers.Real) or getattr(degree, "shape", None) == ()  # of an array or a tensor
    if isinstance(degree, bool) or not one:
        raise SettingError(f"degree is {degree!r}; give a number: 0 changes nothing, 1 is the full edit.")
    if not LOWEST <= degree <= HIGHEST:
        raise SettingError(
            f"degree {degree:g} is outside [{LOWEST:g}, {HIGHEST:g}]: 0 changes nothing, 1 is the full edit."
        )
    return float(degree)
