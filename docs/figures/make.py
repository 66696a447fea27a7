"""Draw the figures of the documentation: ``python docs/figures/make.py``.

``causal_map.png`` runs the shipped model: half a minute of processor time.
``sweep.png`` is the demo's: ``ditlens demo`` writes it to ``outputs/demo``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

import ditlens as dl
from ditlens import images
from ditlens.worlds.portraits.attributes import sample
from ditlens.worlds.portraits.render import render

HERE = Path(__file__).parent


def portraits(columns: int = 8, side: int = 96, gap: int = 4, seed: int = 4) -> Image.Image:
    """A square sheet of random portraits, drawn at twice the size and scaled down."""
    attributes = sample(columns * columns, torch.Generator().manual_seed(seed))
    step = side + gap
    sheet = Image.new("RGB", (columns * step + gap, columns * step + gap), "white")
    for index, picture in enumerate(render(attributes, 2 * side)):
        row, column = divmod(index, columns)
        small = images.fit(images.to_image(picture), side, side)
        sheet.paste(small, (gap + column * step, gap + row * step))
    return sheet


def causal_map() -> Figure:
    """Which blocks read the smile from the text, and when."""
    text = "a portrait of a young person with {}, light skin, clean shaven, red hair"
    clean, corrupt = text.format("a big smile"), text.format("a big frown")
    return dl.patch(dl.load("portraits"), clean, corrupt, measure="smile").plot()


if __name__ == "__main__":
    portraits().save(HERE / "portraits.jpg", quality=88, optimize=True)
    causal_map().savefig(HERE / "causal_map.png", dpi=80)
