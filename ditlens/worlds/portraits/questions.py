"""Questions about a portrait, and their answers."""

from __future__ import annotations

from collections.abc import Mapping

from ditlens.worlds.portraits.attributes import attribute, neutral, visible
from ditlens.worlds.portraits.phrases import phrase

HIDDEN = "hidden"
"""The answer about an attribute that is not visible."""

QUESTIONS = {
    "smile": "what expression does the person have?",
    "mouth_open": "how open is the mouth?",
    "eye_open": "how open are the eyes?",
    "brow_tilt": "what eyebrows does the person have?",
    "gaze": "where is the person looking?",
    "hair_length": "how long is the hair?",
    "face_width": "how wide is the face?",
    "skin_tone": "what skin does the person have?",
    "age": "how old is the person?",
    "beard": "what beard does the person have?",
    "head_tilt": "how is the head tilted?",
    "hair_color": "what color is the hair?",
    "hair_style": "what style is the hair?",
    "glasses": "what glasses does the person wear?",
    "hat": "what hat does the person wear?",
    "earrings": "what earrings does the person wear?",
    "shirt": "what color is the shirt?",
    "background": "what color is the background?",
}


def question(name: str) -> str:
    """Ask about one attribute.

    Args:
        name: Name of the attribute.

    Returns:
        A normalised text that ends with a question mark.
    """
    return QUESTIONS[attribute(name).name]


def answer(values: Mapping[str, float | str], name: str) -> str:
    """Answer the question about one attribute of a portrait.

    Args:
        values: One portrait in the form of `attributes.describe_values`.
        name: Name of the attribute.

    Returns:
        The first phrase of the attribute's level or value, as `captions.parse` reads it; `HIDDEN` if it is not
        visible.
    """
    if not visible(neutral(1, **values))[name].item():
        return HIDDEN
    return phrase(name, attribute(name).level_of(values[name]))
