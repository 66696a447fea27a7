"""The texts that an edit is made from: written by a describer, typed by hand, or half and half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditlens import images
from ditlens.describers.choice import describer_from
from ditlens.description import Describer, Description
from ditlens.ems.extract import extract, read_by
from ditlens.errors import SettingError
from ditlens.models.model import Model
from ditlens.worlds.portraits import describer as portraits
from ditlens.worlds.portraits.captions import parse
from ditlens.worlds.portraits.describer import text_changes
from ditlens.worlds.portraits.instructions import parse_instruction
from ditlens.worlds.portraits.pairs import target_caption

if TYPE_CHECKING:
    from PIL import Image


LOWEST, HIGHEST = -2.0, 3.0
"""Degrees beyond these leave what a model was trained on; they are refused."""


def read_wishes(instruction: str | Mapping[str, float]) -> dict[str, float]:
    """Wishes with their degrees; a plain instruction is one wish of degree 1.

    Raises:
        SettingError: If a degree is out of range, or there are no wishes in a mapping.
    """
    if isinstance(instruction, str):
        return {instruction: 1.0}
    if not instruction:
        raise SettingError('There is no wish. Write them with their degrees: {"make her smile": 0.7}.')
    check_degrees(list(instruction.values()))
    return {wish: float(degree) for wish, degree in instruction.items()}


def check_degrees(degrees: Sequence[float]) -> None:
    """Refuse degrees out of range.

    Raises:
        SettingError: If one is.
    """
    for degree in degrees:
        if not LOWEST <= degree <= HIGHEST:
            raise SettingError(
                f"degree {degree:g} is outside [{LOWEST:g}, {HIGHEST:g}]: 0 changes nothing, 1 is the full edit."
            )


def check_hand_texts(
    instruction: str | Mapping[str, float], source_text: str | None, target_text: str | None
) -> None:
    """Refuse texts by hand beside which the wishes or their degrees would be of no use.

    Raises:
        SettingError: If they would.
    """
    if isinstance(instruction, str) or target_text is None:
        return
    if source_text is not None:
        raise SettingError(
            "With both texts given there is one target, and the degrees of the wishes would do nothing. "
            "Pass degree= in their place, or leave the texts out."
        )
    if len(instruction) > 1:
        raise SettingError(
            f"target_text= is one text, but each of the {len(instruction)} wishes needs its own, which moves by "
            "its degree. Leave target_text= out, or make one instruction of the wishes."
        )


def resolved(describer: Describer | str | Path | None, model: Model) -> Describer | None:
    """The describer itself, where a word was given for it."""
    if not isinstance(describer, str | Path):
        return describer

    return describer_from(describer, model)


def describe(
    model: Model,
    image: Image.Image,
    wishes: list[str],
    describer: Describer | None,
    source_text: str | None = None,
    target_text: str | None = None,
) -> Description:
    """Both texts, with those that were typed by hand in their place.

    Args:
        model: The model that will read them.
        image: The picture.
        wishes: What to change.
        describer: Who describes; the model's own if None.
        source_text: What the picture shows, typed by hand. The target then starts from it.
        target_text: What it should show, typed by hand.

    Raises:
        SettingError: If only the source is given, and nothing here can word the target from it.
        CaptionError: If the wishes are not understood.
        DescriberError: If nobody can describe the picture.
    """
    if source_text is not None and target_text is not None:
        changes = changes_between(model, source_text, target_text)
        return read_by(Description(source_text, target_text, changes), model)
    if source_text is not None:
        return read_by(from_source(model, image, wishes, source_text), model)
    description = extract(image, " and ".join(wishes), describer, model=model)
    if target_text is None:
        return description
    changes = changes_between(model, description.source, target_text) or description.changes
    return replace(description.rewritten(target=target_text), changes=changes)


def from_source(model: Model, image: Image.Image, wishes: list[str], source_text: str) -> Description:
    """The texts of a source that was typed by hand, its target written by the grammar of the model's world.

    The grammar may put into the source what a wish changes and it does not mention, so that both texts are alike.

    Raises:
        SettingError: If the model has no world with a grammar.
        CaptionError: If the source or the wishes are not understood.
    """
    if model.world != "portraits":
        raise SettingError(
            "source_text= alone is not enough: only in the portraits world can the target be worded from it, and a "
            "describer would start from its own words. Give target_text= too, worded like the source."
        )

    read = {} if model.oracle is None else model.oracle.measure(images.to_tensor(image))[0]
    known: dict[str, Any] = {**read, **parse(source_text)}
    asked = parse_instruction(" and ".join(wishes), source=known)
    pair = target_caption(source_text, asked, values=read)
    changes = changes_between(model, pair.source_text, pair.target_text)
    return Description(pair.source_text, pair.target_text, changes, "by hand, then the grammar")


def target_parts(
    model: Model, image: Image.Image, description: Description, wishes: list[str], describer: Describer | None
) -> list[str]:
    """The target text of each wish alone, all starting from the description's source text.

    Raises:
        SettingError: If a describer words the source of one wish in another way, so that they cannot be added.
    """
    if len(wishes) < 2:
        return [description.target]
    if model.world == "portraits":
        said = parse(description.source)
        return [
            target_caption(description.source, parse_instruction(wish, source=said)).target_text
            for wish in wishes
        ]
    found = []
    for wish in wishes:
        one = extract(image, wish, describer, model=model)
        if one.source != description.source:
            raise SettingError(
                "The describer words the picture in another way for every wish, so their directions do not start "
                f"from the same text: {one.source!r} and {description.source!r}. Edit one wish after the other, "
                "or give source_text= and target_text=."
            )
        found.append(one.target)
    return found


def completed(model: Model, image: images.Picture, source: str, target: str) -> tuple[str, str]:
    """Two given texts, with what they leave out of the picture put behind both in the describer's words.

    What a text does not say, an edit may change. No edit calls this by itself: what the describer says of values
    between two levels is often wrong. Texts for a model whose describer cannot be asked about single attributes
    come back as they are.
    """
    who = model.describer
    if not isinstance(who, portraits.PortraitDescriber | portraits.OracleDescriber):
        return source, target
    return portraits.completed(source, target, who.left_out(image, source))


def changes_between(model: Model, source: str, target: str) -> dict[str, str]:
    """What two texts of a world change; nothing for models without a world."""
    if model.world != "portraits":
        return {}

    return text_changes(source, target)
