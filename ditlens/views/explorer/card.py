"""Pieces of HTML for the explorer: what a selection has more of, the page as a still copy. Imports no torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

SIZE = 420, 320
"""Of the still scatter, in pixels."""
HINT = (
    "Click a point to open its picture; draw around points to select them, with Shift to add some. With keys: "
    "arrows, Enter to open, Space at two corners to select, Escape for none."
)


def small(words: Any) -> str:
    """A line in small print."""
    return str(Markup('<div class="ditlens-small">{}</div>').format(words)) if words else ""


def compared(rows: Sequence[Mapping[str, str]], count: int) -> str:
    """What the selection has more or less of."""
    if not count:
        return small(HINT)
    if not rows:
        return small(f"{count} pictures selected")
    lines = Markup("").join(
        Markup("<tr><td>{name}</td><td>{chosen}</td><td>{others}</td><td>{by}</td></tr>").format(**row)
        for row in rows
    )
    head = Markup("<tr><th>attribute</th><th>selected</th><th>others</th><th>difference</th></tr>")
    return small(Markup("{} pictures selected<table>{}{}</table>").format(count, head, lines))


def scatter(shown: Mapping[str, Any]) -> bytes:
    """The points as a JPEG."""
    image = Image.new("RGB", SIZE, "white")
    if shown.get("xy"):
        xy = np.frombuffer(shown["xy"], np.float32).reshape(-1, 2)
        shades = np.frombuffer(shown["shades"], np.uint8).reshape(-1, 3)
        low, high = xy.min(0), xy.max(0)
        at = (xy - low) / np.where(high > low, high - low, 1)
        draw, radius = ImageDraw.Draw(image), 1 if len(xy) > 2000 else 3
        for (x, y), shade in zip(at.tolist(), shades.tolist(), strict=True):
            left, top = 10 + x * (SIZE[0] - 20), SIZE[1] - 10 - y * (SIZE[1] - 20)
            draw.ellipse((left - radius, top - radius, left + radius, top + radius), fill=tuple(shade))
    with io.BytesIO() as memory:
        image.save(memory, "JPEG", quality=85)
        return memory.getvalue()


def still(shown: Mapping[str, Any], what: str, name: str) -> str:
    """The page as pictures and a table, for readers without a kernel; its class is `name`."""
    state = shown["state"]
    settings = [
        ("of", what),
        *((n, v) for n, v in state.items() if v not in ("", -1, (), []) and n != "chosen"),
    ]
    settings += [("selected", f"{len(state['chosen'])} pictures")] if state["chosen"] else []
    cell = shown.get("cell") or {}
    settings += [(cell["told"], f"{cell['effect']:.2f} of the change came along")] if cell else []
    table = Markup("").join(
        Markup("<tr><th style='text-align:left'>{}</th><td style='text-align:left'>{}</td></tr>").format(n, v)
        for n, v in settings
    )
    pictures = {
        "the points": scatter(shown),
        "the open picture": shown["picture"],
        "patched": cell.get("after", b""),
    }
    images = Markup("").join(
        Markup('<img alt="{}" height="256" src="data:image/jpeg;base64,{}"> ').format(
            alt, base64.b64encode(picture).decode()
        )
        for alt, picture in pictures.items()
        if picture
    )
    return str(
        Markup(
            '<div class="{}"><p>{}</p><table>{}</table>'
            "<p>This is a still copy of the explorer: run the cell to use it.</p></div>"
        ).format(name, images, table)
    )
