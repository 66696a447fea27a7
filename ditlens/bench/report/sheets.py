"""Contact sheets: what every method made of one item, at every degree, in one image."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from ditlens.bench.folder import BenchFolder, read_folder
from ditlens.errors import DitlensError
from ditlens.images import open_image, save_image, strip

if TYPE_CHECKING:
    from PIL import Image

SIDE, MOST_SIDE = 128, 256
"""Fewest and most pixels of the height of an image on a sheet."""


def contact_sheet(bench: BenchFolder, name: str) -> Image.Image:
    """The source and the results at all degrees, one row for each method.

    Args:
        bench: The run.
        name: Name of the item.
    """
    from PIL import Image

    item, found = bench.items[name], {(row.method, row.degree): row for row in bench.rows if row.item == name}
    source = _opened(bench, item.picture)
    height = min(max(source.height, SIDE), MOST_SIDE)
    heads = ["source", *(f"degree {degree:g}" for degree in bench.degrees)]
    rows = []
    for method in bench.methods:
        images = [source]
        for result in (found.get((method, degree)) for degree in bench.degrees):
            images.append(_opened(bench, result.picture, result.error) if result else _note("not run"))
        rows.append(strip(images, heads, method, height))
    width = max(row.width for row in rows)
    rows.insert(0, _note(f"{item.instruction}  ({item.name}, {item.kind})", (width, 48), "white"))
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def write_sheets(folder: str | Path | BenchFolder, most: int = 24) -> None:
    """Write the sheet of the first item of every kind into `sheets/`.

    Args:
        folder: What `ditlens bench edit --out` wrote.
        most: Sheets to write.
    """
    bench = read_folder(folder)
    tried = {row.item for row in bench.rows}
    first: dict[str, str] = {}
    for item in bench.items.values():
        if item.name in tried:
            first.setdefault(item.kind, item.name)
    out = bench.path / "sheets"
    for number, name in enumerate(list(first.values())[:most]):
        file = f"{number:02d}_{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:60]}.png"
        save_image(out / file, contact_sheet(bench, name), optimize=True)


def _opened(bench: BenchFolder, name: str, why: str = "") -> Image.Image:
    """An image of the run, or a grey one that says why there is none."""
    try:
        return open_image(bench.file(name)) if name else _note(why or "no image")
    except DitlensError:
        return _note("no image")


def _note(text: str, size: tuple[int, int] = (SIDE, SIDE), color: str = "#e6e6e6") -> Image.Image:
    """A text on a plain image, in as many lines as fit."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", size, color)
    lines = textwrap.wrap(text, size[0] // 8)[: size[1] // 18]
    font = ImageFont.load_default(size=13)
    ImageDraw.Draw(image).multiline_text((8, 8), "\n".join(lines), fill="black", font=font)
    return image
