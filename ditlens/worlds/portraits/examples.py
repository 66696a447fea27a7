"""Five example portraits, drawn by the renderer of this world.

The images in ``data/examples`` come from here; `write` draws them again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ditlens.files import DATA, user_path
from ditlens.images import save_image, to_image
from ditlens.worlds.portraits.attributes import neutral
from ditlens.worlds.portraits.render import render

FOLDER = DATA / "examples"
"""Where the images are, in a clone of the repository or an installed package."""

Look = dict[str, Any]
"""Values of some attributes: numbers, or names of categorical values."""

EXAMPLES: dict[str, Look] = {
    "ada": {
        "smile": 0.32, "eye_open": 0.55, "brow_tilt": -0.15, "hair_length": 0.62, "skin_tone": 0.3, "age": 0.2,
        "hair_color": "red", "hair_style": "wavy", "shirt": "green", "background": "blue",
    },
    "bo": {
        "smile": 0.4, "eye_open": 0.5, "brow_tilt": -0.1, "hair_length": 0.33, "face_width": 0.45,
        "skin_tone": 0.5, "age": 0.5, "beard": 0.45, "hair_color": "black", "glasses": "square",
        "shirt": "white", "background": "orange",
    },
    "chidi": {
        "smile": 0.45, "mouth_open": 0.08, "eye_open": 0.52, "gaze": 0.1, "hair_length": 0.36, "face_width": -0.1,
        "skin_tone": 0.72, "age": 0.22, "hair_color": "black", "hair_style": "curly", "shirt": "yellow",
        "background": "green",
    },
    "dora": {
        "smile": 0.38, "eye_open": 0.45, "brow_tilt": -0.1, "hair_length": 0.6, "face_width": 0.1,
        "skin_tone": 0.28, "age": 0.72, "hair_color": "grey", "hair_style": "curly", "earrings": "pearls",
        "shirt": "purple", "background": "pink",
    },
    "emil": {
        "smile": 0.3, "eye_open": 0.5, "gaze": -0.1, "hair_length": 0.4, "face_width": -0.5,
        "skin_tone": 0.25, "age": 0.25, "hair_color": "blond", "hat": "beanie",
        "shirt": "blue", "background": "grey",
    },
}  # fmt: skip
"""Attribute values by name; all others are neutral."""


def files() -> dict[str, Path]:
    """The image files by name, ``portrait`` first."""
    return {name: FOLDER / f"{name}.png" for name in ("portrait", *EXAMPLES)}


def write(folder: str | Path = FOLDER, size: int = 256) -> list[Path]:
    """Draw every example as ``NAME.png``, and the first one as ``portrait.png`` too.

    Args:
        folder: Where to write; made if missing.
        size: Height and width in pixels.

    Returns:
        The files.
    """
    folder, written = user_path(folder), []
    for name, look in {"portrait": next(iter(EXAMPLES.values())), **EXAMPLES}.items():
        written.append(folder / f"{name}.png")
        save_image(written[-1], to_image(render(neutral(**look), size)[0]), optimize=True)
    return written
