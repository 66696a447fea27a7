"""Draw the figures of the documentation that need no model: ``python docs/figures/make.py``.

``sweep.png`` is the demo's: ``ditlens demo`` writes it to ``outputs/demo``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

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


if __name__ == "__main__":
    portraits().save(HERE / "portraits.jpg", quality=88, optimize=True)
