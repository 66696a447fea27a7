"""Contact sheets: labelled pictures in rows on white, in files small enough for the repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LIMIT = 250_000
"""Bytes of a sheet at most."""
GAP, LINE, TEXT, TITLE = 6, 14, 11, 16
"""Pixels: between tiles, of a line of text, of its letters, of the title's letters."""


@dataclass
class Tile:
    """A picture and what is written under it."""

    image: Image.Image
    label: str = ""


def sheet(
    rows: Sequence[Sequence[Tile]], title: str, side: int = 96, names: Sequence[str] = ()
) -> Image.Image:
    """Lay tiles out in rows.

    Args:
        rows: Tiles of each row.
        title: Says what to see; wrapped to the sheet's width.
        side: Height and width of the pictures on the sheet.
        names: A label to the left of each row.
    """
    font, left = ImageFont.load_default(size=TEXT), GAP + (130 if names else 0)
    columns = max(map(len, rows))
    width = max(left + columns * (side + GAP), 360)
    heading = wrapped(title, width - 2 * GAP, ImageFont.load_default(size=TITLE))
    lines = [max(len(wrapped(tile.label, side, font)) for tile in row) for row in rows]
    top = 2 * GAP + len(heading) * (TITLE + 4)
    height = top + sum(side + count * LINE + GAP for count in lines)
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for i, line in enumerate(heading):
        draw.text((GAP, GAP + i * (TITLE + 4)), line, fill="black", font=ImageFont.load_default(size=TITLE))
    for i, row in enumerate(rows):
        if names:
            for k, line in enumerate(wrapped(names[i], left - 2 * GAP, font)):
                draw.text((GAP, top + k * LINE), line, fill="black", font=font)
        for j, tile in enumerate(row):
            x = left + j * (side + GAP)
            page.paste(tile.image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (x, top))
            for k, line in enumerate(wrapped(tile.label, side, font)):
                draw.text((x, top + side + k * LINE), line, fill="black", font=font)
        top += side + lines[i] * LINE + GAP
    return page


def wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Break a text into lines of at most `width` pixels; a longer word stands alone."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def save(page: Image.Image, path: Path) -> None:
    """Write a sheet as PNG below `LIMIT`: with fewer colours if need be, then smaller."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for colors in (0, 256, 128, 64):
        shown = page.quantize(colors, dither=Image.Dither.NONE) if colors else page
        shown.save(path, optimize=True)
        if path.stat().st_size < LIMIT:
            return
    save(page.resize((round(page.width * 0.85), round(page.height * 0.85)), Image.Resampling.LANCZOS), path)
