"""Contact sheets: what every method made of one item, at every degree, in one image."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ditlens.bench.folder import BenchFolder, ItemRecord, ResultRecord, read_folder
from ditlens.errors import DitlensError, SettingError
from ditlens.images import open_image

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SIDE, MOST_SIDE = 128, 256
"""Fewest and most pixels of the shorter side of an image on a sheet."""
GAP, LINE = 8, 20


def contact_sheet(
    folder: str | Path | BenchFolder,
    item: str,
    methods: Sequence[str] | None = None,
    degrees: Sequence[float] | None = None,
) -> Image.Image:
    """Methods in rows, degrees in columns, and the source image before every row.

    Args:
        folder: What `ditlens bench edit --out` wrote.
        item: Name of the item.
        methods: Which methods, in this order; None for all.
        degrees: Which degrees, in this order; None for all.

    Raises:
        SettingError: If the run has no such item, method or degree.
    """
    from PIL import Image, ImageDraw

    bench = read_folder(folder)
    entry = _known([item], bench.items, "item")[0]
    methods = _known(methods, bench.methods, "method")
    degrees = _known(degrees, bench.degrees, "degree")
    found = {(row.method, row.degree): row for row in bench.rows if row.item == entry}
    source = _picture(bench, bench.items[entry].picture)
    wide, high = source.size if source else (SIDE, SIDE)
    left = GAP + max(round(_font(14).getlength(name)) for name in methods) + GAP
    width = left + (wide + GAP) * (len(degrees) + 1)
    title = _title(bench.items[entry], width)
    top = GAP + LINE * (len(title) + 1) + 2 * GAP
    sheet = Image.new("RGB", (width, top + (high + GAP) * len(methods)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(title):
        draw.text((GAP, GAP + LINE * i), line, fill="black", font=_font(15))
    heads = ["source", *(f"degree {degree:g}" for degree in degrees)]
    for column, head in enumerate(heads):
        draw.text((left + (wide + GAP) * column, top - GAP - LINE), head, fill="black", font=_font(14))
    for row, method in enumerate(methods):
        y = top + (high + GAP) * row
        draw.text((GAP, y + high // 2 - 9), method, fill="black", font=_font(14))
        cells = [(source, "no image"), *(_result(bench, found.get((method, degree))) for degree in degrees)]
        for column, (picture, why) in enumerate(cells):
            _paste(sheet, draw, (left + (wide + GAP) * column, y, wide, high), picture, why)
    return sheet


def write_sheets(folder: str | Path | BenchFolder, most: int = 24) -> list[Path]:
    """Write the sheet of the first item of every kind into `sheets/`.

    Args:
        folder: What `ditlens bench edit --out` wrote.
        most: Sheets to write.

    Returns:
        The files.
    """
    bench = read_folder(folder)
    tried = {row.item for row in bench.rows}
    first: dict[str, str] = {}
    for item in bench.items.values():
        if item.name in tried:
            first.setdefault(item.kind, item.name)
    out = bench.path / "sheets"
    out.mkdir(exist_ok=True)
    paths = []
    for number, name in enumerate(list(first.values())[:most]):
        path = out / f"{number:02d}_{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:60]}.png"
        contact_sheet(bench, name).save(path, optimize=True)
        paths.append(path)
    return paths


def _known(wanted, known, what: str) -> list:  # type: ignore[no-untyped-def]
    """What is asked for, all of which must be known; everything known by default."""
    if wanted is None:
        return list(known)
    unknown = [value for value in wanted if value not in known]
    if unknown or not wanted:
        names = ", ".join(f"{v:g}" if isinstance(v, float) else v for v in list(known)[:20])
        raise SettingError(f"This run has no {what} {unknown[0] if unknown else ''}. Choose from: {names}.")
    return list(wanted)


def _font(size: int):  # type: ignore[no-untyped-def]
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _title(item: ItemRecord, width: int) -> list[str]:
    """The instruction and the item's name, in lines that fit."""
    return textwrap.wrap(
        f"{item.instruction}  ({item.name}, {item.kind})", max(20, (width - 2 * GAP) // 8)
    ) or [""]


def _picture(bench: BenchFolder, name: str) -> Image.Image | None:
    """An image in the size of the sheet: small ones by whole factors, large ones scaled down."""
    from PIL import Image

    try:
        image = open_image(bench.file(name))
    except DitlensError:
        return None
    short = min(image.size)
    if short < SIDE:
        factor = -(-SIDE // short)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if short > MOST_SIDE:
        size = round(image.width * MOST_SIDE / short), round(image.height * MOST_SIDE / short)
        return image.resize(size, Image.Resampling.LANCZOS)
    return image


def _result(bench: BenchFolder, row: ResultRecord | None) -> tuple[Image.Image | None, str]:
    """The image of a result, or why there is none."""
    if row is None:
        return None, "not run"
    return (_picture(bench, row.picture) if row.picture else None), row.error or "no image"


def _paste(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], picture: Image.Image | None,
    why: str,
) -> None:  # fmt: skip
    """Put an image in its place, or a grey field with the reason."""
    x, y, width, height = box
    if picture is not None:
        if picture.size != (width, height):
            picture = picture.resize((width, height))
        sheet.paste(picture, (x, y))
        return
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill="#e6e6e6")
    lines = textwrap.wrap(why, max(8, width // 7))[: max(1, height // 16 - 1)]
    draw.multiline_text((x + 6, y + 6), "\n".join(lines), fill="#444444", font=_font(12))
