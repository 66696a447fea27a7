"""The first thing a new user sees: one portrait, one instruction, every change measured.

`ditlens demo` runs it. It edits a portrait that comes with the package, and writes images and recipe to the folder
``outputs/demo`` below the current one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ditlens as dl
from ditlens.files import DATA
from ditlens.images import save_image, strip
from ditlens.tables import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from ditlens.ems.edit import Edit
    from ditlens.models.model import Model

PORTRAIT = DATA / "examples" / "portrait.png"
IMAGE_FILES = ("before_after.png", "sweep.png")
INSTRUCTION = "make the person frown and add a crown"
DEGREES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def run(model: Model, out: Path) -> Edit:
    """Edit the example portrait and write the images.

    Args:
        model: The model to edit with.
        out: Folder for ``before_after.png``, ``sweep.png``, ``edit.png`` and ``edit.json``; made if missing.

    Returns:
        The edit, at degree 1.
    """
    with progress_bar("edit") as show:
        result = dl.edit(
            model, PORTRAIT, INSTRUCTION, seed=0, on_step=lambda state: show(state.step + 1, state.steps)
        )
    result.save(out)
    before_after, sweep = (out / name for name in IMAGE_FILES)
    save_image(before_after, strip([result.source_image, result.image], ["before", "after"], height=256))
    images: list[Image.Image] = []
    with progress_bar("sweep") as show:
        for degree in DEGREES:
            images += result.sweep([degree]).images
            show(len(images), len(DEGREES))
    save_image(sweep, strip(images, [f"{degree:g}" for degree in DEGREES], "degree of the edit"))
    return result
