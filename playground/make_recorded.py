"""Write what the playground shows before the model is there: data/recorded.json and two strips of pictures.

Run in a clone, half a minute: ``python playground/make_recorded.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

import ditlens as dl
from ditlens.files import write_whole

FOLDER = Path(__file__).parent / "data"
WISH = "a big smile and a crown"
CHANGES = {"smile": 4, "hat": 3}
"""The same as levels, counted from 0."""
DEGREES = (-1.0, -0.5, 0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.5, 2.0)
STEPS = 12
SIDE = 128

GALLERY = (
    ("a young person with a calm expression, closed mouth, relaxed eyes, long wavy red hair, light skin, "
     "clean-shaven, no glasses, no hat, a green shirt, a blue background", 3),
    ("an old person with a long beard, short curly grey hair, square glasses, brown skin, a white shirt, "
     "an orange background", 0),
    ("a person with a big frown, angry brows, clean-shaven, cropped straight black hair, tan skin, no glasses, "
     "a red shirt, a grey background", 2),
    ("a middle-aged person with a slight smile, clean-shaven, pearl earrings, shoulder-length curly blond hair, "
     "no glasses, very dark skin, a purple shirt, a pink background", 3),
    ("a young person looking left with wide open eyes, clean-shaven, a beanie, short straight pink hair, "
     "light skin, a yellow shirt, a green background", 2),
    ("a person with a big smile, clean-shaven, sunglasses, no hat, long straight black hair, brown skin, "
     "a blue shirt, a yellow background", 3),
    ("an old person with worried brows, parted lips, a crown, flowing wavy grey hair, tan skin, a purple shirt, "
     "a blue background", 2),
    ("a young person with a very happy smile, clean-shaven, round glasses, short curly brown hair, "
     "very dark skin, a yellow shirt, a pink background", 3),
)  # fmt: skip
"""Texts and seeds of the portraits to choose from; the first one is edited."""


def main() -> None:
    """Draw the gallery, edit its first portrait, and write all of it."""
    model = dl.load("portraits", device="cpu")
    pictures = [model.generate(text, seed=seed, steps=STEPS) for text, seed in GALLERY]
    edits = [dl.edit(model, pictures[0], WISH, degree=degree) for degree in DEGREES]
    write_strip("gallery", pictures)
    write_strip("recorded", [edit.image for edit in edits])
    gallery = [{"text": text, "seed": seed} for text, seed in GALLERY]
    table = {name: part for name, part in model.world.words_table().items() if name != "wishes"}
    recorded = {"gallery": gallery, "edit": described(edits), "table": table}
    write_whole(FOLDER / "recorded.json", json.dumps(recorded, separators=(",", ":")) + "\n")


def described(edits: list[dl.Edit]) -> dict[str, Any]:
    """The texts of an edit, and what the oracle reads at each degree.

    Args:
        edits: The same edit at all `DEGREES`.
    """
    first = edits[0]
    nodes = [
        {"degree": degree, "values": plain(edit.after)} for degree, edit in zip(DEGREES, edits, strict=True)
    ]
    texts = {"wish": WISH, "source": first.source_text, "target": first.target_text}
    return texts | {"changes": CHANGES, "values": plain(first.before), "nodes": nodes}


def plain(values: Any) -> dict[str, float | str]:
    """Values of attributes with three digits."""
    return {
        name: value if isinstance(value, str) else round(float(value), 3) for name, value in values.items()
    }


def write_strip(name: str, pictures: list[Image.Image]) -> None:
    """Write pictures side by side as one file.

    Args:
        name: Its name, without the ending.
        pictures: All of them `SIDE` pixels high and wide.
    """
    strip = Image.new("RGB", (SIDE * len(pictures), SIDE))
    for number, picture in enumerate(pictures):
        strip.paste(picture, (SIDE * number, 0))
    strip.save(FOLDER / f"{name}.webp", quality=92, method=6)


if __name__ == "__main__":
    main()
