"""Draw the figures of the documentation: ``python docs/figures/make.py``, or with a name to draw one of them.

``sweep.png`` is the demo's: ``ditlens demo`` writes it to ``outputs/demo``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
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


def sde() -> None:
    """What a hat's text, moved latents, or both do to eight people: 2 minutes."""
    found = dl.sde(dl.load("portraits"), "hat", settings=("text", "image", "joint"), count=8)
    found.plot().savefig(HERE / "sde_hat.png", dpi=80)


def leakage() -> None:
    """The smile told from the channel of the hat: half a minute."""
    found = dl.leakage(dl.load("portraits"), "smile", "hat", steps=(0,), guidance=1.0)
    found.plot().savefig(HERE / "leakage_smile_hat.png", dpi=80)


if __name__ == "__main__":
    drawn = {
        "portraits": lambda: portraits().save(HERE / "portraits.jpg", quality=88, optimize=True),
        "sde": sde,
        "leakage": leakage,
    }
    for name in sys.argv[1:] or drawn:
        drawn[name]()
