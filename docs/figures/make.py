"""Draw the figures of the documentation: ``python docs/figures/make.py``, or with a name to draw one of them.
"""Draw the figures of the documentation: ``python docs/figures/make.py NAME ...``, or all of them without names.

``entanglement.png`` and ``twins.jpg`` need the models and some minutes; ``ditlens demo`` writes ``sweep.png`` to
``outputs/demo``.
"""

from __future__ import annotations

import io
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


FIGURES = (causal_map, sde_hat, leakage_smile_hat)
"""Each is written to a file of its name."""


if __name__ == "__main__":
    if not sys.argv[1:] or "portraits" in sys.argv:
        portraits().save(HERE / "portraits.jpg", quality=88, optimize=True)
    for draw in FIGURES:
        if not sys.argv[1:] or draw.__name__ in sys.argv:
            draw().savefig(HERE / f"{draw.__name__}.png", dpi=80)
def entanglement(pairs: int = 24) -> Image.Image:
    """The entanglement matrices of portraits and of its biased twin, one below the other."""
    from ditlens.views.matrices import draw_matrix
    from ditlens.views.plots import WIDTH, NotebookFigure

    figure = NotebookFigure(figsize=(WIDTH, 1.8 * WIDTH), layout="constrained", dpi=100)
    for ax, name in zip(figure.subplots(2, 1), ("portraits", "portraits-twin"), strict=True):
        draw_matrix(figure, ax, dl.entanglement(dl.load(name, device="cpu"), pairs=pairs))
    file = io.BytesIO()
    figure.savefig(file)
    return Image.open(file)


def twins(count: int = 8) -> Image.Image:
    """Old and young people as both models draw them, from the same noise."""
    rows = []
    for text in ("a portrait of an old person", "a portrait of a young person"):
        for name in ("portraits", "portraits-twin"):
            model = dl.load(name, device="cpu")
            rows.append(model.sample([text] * count, list(range(count))))
    sheet = torch.cat([torch.cat(list(row), -1) for row in rows], -2)
    return images.to_image(sheet[None])


FIGURES = {
    "portraits.jpg": lambda: portraits().save(HERE / "portraits.jpg", quality=88, optimize=True),
    "entanglement.png": lambda: entanglement().save(HERE / "entanglement.png", optimize=True),
    "twins.jpg": lambda: twins().save(HERE / "twins.jpg", quality=88, optimize=True),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()
