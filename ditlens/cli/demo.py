"""The first thing a new user sees: one portrait, one instruction, every change measured.

`ditlens demo` runs it. It edits a portrait that comes with the package, and writes images and recipe to the folder
``outputs/demo`` below the current one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ditlens as dl
from ditlens.files import DATA
from ditlens.images import save_image, strip
from ditlens.tables import columns, counted, progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from ditlens.ems.edit import Edit
    from ditlens.models.model import Model

PORTRAIT = DATA / "examples" / "portrait.png"
IMAGE_FILES = ("before_after.png", "sweep.png")
INSTRUCTION = "make the person frown and add a crown"
DEGREES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
NOTICEABLE = 0.1
"""A continuous attribute that moved by less, in its own units, is not listed as changed."""

Value = str | float


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


def summary(edit: Edit) -> str:
    """Tell what an edit did: both texts, and the measured attributes that changed."""
    facts = [
        ("source text", edit.source_text),
        ("target text", edit.target_text),
        ("degree", f"{edit.degree:g}"),
        ("seconds", f"{edit.seconds:.1f}"),
    ]
    if edit.before is None or edit.after is None:
        return columns(facts)
    listed = changed(edit.before, edit.after, edit.targets)
    rows = [(name, shown(edit.before[name]), "->", shown(edit.after[name])) for name in listed]
    others = len(edit.before) - len(listed)
    facts.append(("drift", f"{edit.drift:.3f} of an attribute's range, mean over those not asked for"))
    table = columns(rows, header=("measured", "before", "", "after"))
    return f"{columns(facts)}\n\n{table}\n({counted(others, 'more attribute')} stayed the same)"


def changed(before: dict[str, Value], after: dict[str, Value], targets: list[str]) -> list[str]:
    """Names of the attributes to show: the targets first, then whatever else moved noticeably."""

    def moved(old: Value, new: Value) -> bool:
        if isinstance(old, str) or isinstance(new, str):
            return old != new
        return abs(new - old) >= NOTICEABLE

    asked = [name for name in targets if name in before]
    return asked + [name for name in before if name not in asked and moved(before[name], after[name])]


def shown(value: Value) -> str:
    """A measured value as a reader wants it: a name, or a number with two digits."""
    return value if isinstance(value, str) else f"{value:.2f}"
