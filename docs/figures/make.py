"""Draw the figures of the documentation: ``python docs/figures/make.py``, or with a name to draw one of them.

``sweep.png`` is the demo's: ``ditlens demo`` writes it to ``outputs/demo``.
"""

from __future__ import annotations

import sys
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


def twins(count: int = 8) -> Image.Image:
    """Old and young people, each as portraits and its biased twin draw them from the same noise: half a minute."""
    rows = [
        dl.load(name, device="cpu").sample([text] * count, list(range(count)))
        for text in ("a portrait of an old person", "a portrait of a young person")
        for name in ("portraits", "portraits-twin")
    ]
    return images.to_image(torch.cat([torch.cat(list(row), -1) for row in rows], -2)[None])


def causal_map() -> Figure:
    """Which blocks read the smile from the text, and when: half a minute of processor time."""
    text = "a portrait of a young person with {}, light skin, clean shaven, red hair"
    clean, corrupt = text.format("a big smile"), text.format("a big frown")
    return dl.patch(dl.load("portraits"), clean, corrupt, measure="smile").plot()


def sde_hat() -> Figure:
    """What a hat's text, moved latents, or both do to eight people: 2 minutes."""
    return dl.sde(dl.load("portraits"), "hat", settings=("text", "image", "joint"), count=8).plot()


def leakage_smile_hat() -> Figure:
    """The smile told from the channel of the hat: half a minute."""
    return dl.leakage(dl.load("portraits"), "smile", "hat", steps=(0,), guidance=1.0).plot()


def entanglement_portraits() -> Figure:
    """Which attribute moves which in portraits: 4 minutes."""
    return dl.entanglement(dl.load("portraits")).plot()


def entanglement_twin() -> Figure:
    """The same in its biased twin."""
    return dl.entanglement(dl.load("portraits-twin")).plot()


FIGURES = (causal_map, sde_hat, leakage_smile_hat, entanglement_portraits, entanglement_twin)
"""Each is written to a file of its name."""


if __name__ == "__main__":
    for sheet in (portraits, twins):
        if not sys.argv[1:] or sheet.__name__ in sys.argv:
            sheet().save(HERE / f"{sheet.__name__}.jpg", quality=88, optimize=True)
    for draw in FIGURES:
        if not sys.argv[1:] or draw.__name__ in sys.argv:
            draw().savefig(HERE / f"{draw.__name__}.png", dpi=80)
