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
from ditlens.views.plots import plot_portraits
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


def twins() -> Figure:
    """Old and young people as portraits and its biased twin draw them from the same noise: 20 seconds."""
    rows = [(who, name) for who in ("old", "young") for name in ("portraits", "portraits-twin")]
    drawn = [
        image[None]
        for who, name in rows
        for image in dl.load(name).sample(
            [f"a portrait of a {who} person".replace("a old", "an old")] * 6, range(6)
        )
    ]
    labels = [f"{who}: {name}" if column == 0 else "" for who, name in rows for column in range(6)]
    return plot_portraits(drawn, labels, columns=6, title="the same noise, without and with the bias")


FIGURES = (causal_map, sde_hat, leakage_smile_hat, entanglement_portraits, entanglement_twin, twins)
"""Each is written to a file of its name."""


if __name__ == "__main__":
    if not sys.argv[1:] or "portraits" in sys.argv:
        portraits().save(HERE / "portraits.jpg", quality=88, optimize=True)
    for draw in FIGURES:
        if not sys.argv[1:] or draw.__name__ in sys.argv:
            draw().savefig(HERE / f"{draw.__name__}.png", dpi=80)
