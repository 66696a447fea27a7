"""The first thing a new user sees: one portrait, one instruction, every change measured.

`ditlens demo` and `make demo` run it. It edits ``data/examples/portrait.png`` and leaves its pictures and the
recipe in ``outputs/demo``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ditlens.errors import ImageError
from ditlens.files import DATA
from ditlens.tables import columns

if TYPE_CHECKING:
    from PIL import Image

    from ditlens.ems.edit import Edit
    from ditlens.models.model import Model

PORTRAIT = DATA / "examples" / "portrait.png"
INSTRUCTION = "make the person frown and add a crown"
DEGREES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
NOTICEABLE = 0.1
"""A continuous attribute that moved by less, in its own units, is not listed as changed."""

Value = str | float


def run(model: Model, out: Path) -> Edit:
    """Edit the example portrait and write the pictures.

    Args:
        model: The model to edit with.
        out: Folder for ``before_after.png``, ``sweep.png``, ``edit.png`` and ``edit.json``; made if missing.

    Returns:
        The edit, at degree 1.

    Raises:
        ImageError: If the example portrait is not there.
    """
    from ditlens.ems.edit import edit

    if not PORTRAIT.is_file():
        raise ImageError(
            f"the demo's portrait {PORTRAIT} does not exist: it comes with the repository, not with the "
            f"package. In a clone of the repository type: make demo. "
            f'Or take a picture of yours: ditlens edit YOUR.png "{INSTRUCTION}"'
        )
    result = edit(model, PORTRAIT, INSTRUCTION, degree=1.0, seed=0)
    out.mkdir(parents=True, exist_ok=True)
    result.save(out)
    beside(result.source_image, result.image).save(out / "before_after.png")
    result.sweep(DEGREES).save(out / "sweep.png")
    return result


def beside(before: Image.Image, after: Image.Image, height: int = 256, gap: int = 12) -> Image.Image:
    """Put two pictures side by side on white, scaled to one height, each under its name."""
    from PIL import Image, ImageDraw, ImageFont

    title = 28
    scaled = [
        picture.convert("RGB").resize(
            (max(1, round(picture.width * height / picture.height)), height), Image.Resampling.LANCZOS
        )
        for picture in (before, after)
    ]
    width = sum(picture.width for picture in scaled) + 3 * gap
    sheet = Image.new("RGB", (width, height + title + gap), "white")
    draw = ImageDraw.Draw(sheet)
    left = gap
    for name, picture in zip(("before", "after"), scaled, strict=True):
        draw.text((left, gap / 2), name, fill="black", font=ImageFont.load_default(size=15))
        sheet.paste(picture, (left, title))
        left += picture.width + gap
    return sheet


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
    return f"{columns(facts)}\n\n{table}\n({others} more attributes stayed the same)"


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
