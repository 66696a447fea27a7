"""Draw the figures of the documentation: ``python docs/figures/make.py``, or with a name to draw one of them.

``sweep.png`` is the demo's: ``ditlens demo`` writes it to ``outputs/demo``.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import ditlens as dl
from ditlens import images
from ditlens.lens.study.run import plan_study, run_study
from ditlens.worlds.portraits.attributes import sample
from ditlens.worlds.portraits.render import render
from ditlens.worlds.world import Continuous

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


@functools.cache
def study(count: int = 60) -> dl.Study:
    """Image states of random portraits, in a temporary folder, at steps 0, 3 and 6 of 8: a minute and a half."""
    model = dl.load("portraits")
    world, prompts = model.world, []
    for number, person in enumerate(world.sample(count, 1)):
        seen = set(person) - world.hidden(person)
        levels = {name: world.attributes[name].level_of(person[name]) for name in person if name in seen}
        prompts.append(world.caption(levels, number))
    plan = plan_study(
        model, prompts, [0], "joint.*.image.out", steps=[0, 3, 6], reduce=None, sampling_steps=8
    )
    return run_study(model, plan, tempfile.mkdtemp())


def token_map() -> Figure:
    """One portrait: its patches in three components that all blocks and steps share."""
    return dl.plot_token_map(dl.PCA(3).fit(study()), study(), item=1)


def mouth() -> Figure:
    """The patch at the mouth: one component goes with how far it is open, another with the smile."""
    view = dl.PCA(3, tokens=[43]).fit(study().select(block=3, step=[6]))
    return view.plot("smile", components=[1, 3])


def entangled(name: str) -> Figure:
    """Which attribute moves which: 4 minutes of processor time."""
    moves = {attribute: tuple(ends) for attribute, ends in dl.load("portraits-twin").defaults["tied"].items()}
    return dl.entanglement(dl.load(name), moves=moves).plot()


def entanglement_portraits() -> Figure:
    """The matrix of portraits."""
    return entangled("portraits")


def entanglement_twin() -> Figure:
    """The same of its biased twin."""
    return entangled("portraits-twin")


def probe_smile() -> Figure:
    """In which block and at which step the smile can be read."""
    return dl.probe(dl.open_study("portraits"), "smile").plot()


def probe_smile_patches() -> Figure:
    """In which patch the smile can be read."""
    return dl.probe(dl.open_study("portraits-patches"), "smile").plot_patches()


def where() -> Figure:
    """Where every continuous attribute is readable, looked at and used: a quarter of an hour."""
    model = dl.load("portraits")
    names = [name for name, spec in model.world.attributes.items() if isinstance(spec, Continuous)]
    return dl.locate(model, dl.open_study("portraits-patches"), names, seeds=range(4)).plot()


def inside() -> Figure:
    """One smile by three methods, for the README: who looks at the word, where it is readable, where it is used."""
    model = dl.load("portraits")
    smiling = "a portrait of a young person with a big smile, light skin, clean shaven, red hair"
    setting = {"steps": 10, "guidance": 1.0}
    with dl.capture(model, "joint.2.image.attn.to_text", steps=[5]) as looks:
        image = model.generate(smiling, seed=0, **setting)
    row = sorted({row for rows in looks.words("smile").values() for row in rows})
    seen = looks.to_grid("joint.2.image.attn.to_text", step=5)[0, ..., row].sum(-1)
    seen = seen.reshape(-1, 8, 8).mean(0)  # over heads, where they are kept
    readable = np.zeros(64)
    for cell in dl.probe(dl.open_study("portraits-patches"), "smile").cells:
        if cell.token != "mean":
            readable[cell.token] = max(cell.score.value, 0)
    pair = (smiling, smiling.replace("smile", "frown"))
    used = {
        stream: dl.patch(model, *pair, measure="smile", stream=stream, steps=1, seeds=[0, 1], controls=False)
        for stream in ("text", "image")
    }
    figure = Figure(figsize=(10, 3.1), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.55])
    for ax, values, title in (
        (left, seen, "1 · looked at"),
        (middle, readable.reshape(8, 8), "2 · readable"),
    ):
        ax.imshow(np.asarray(image.convert("L")), extent=(0, 8, 8, 0), cmap="gray")
        drawn = ax.imshow(values, extent=(0, 8, 8, 0), cmap="inferno", alpha=0.62, vmin=0)
        ax.set_axis_off()
        ax.set_title(title, fontsize=12, fontweight="bold")
        figure.colorbar(drawn, ax=ax, shrink=0.78, pad=0.02).ax.tick_params(labelsize=8)
    left.text(4, 8.5, "share of attention to the word\n“smile”, block 2, step 5 of 10", ha="center", va="top")
    middle.text(
        4, 8.5, "R² of a linear probe of the smile,\npatch by patch, after block 4", ha="center", va="top"
    )
    lines = (
        ("text", "#0072B2", "the text of a smile put in from here on"),
        ("image", "#D55E00", "the image of a smile put in here"),
    )
    for stream, color, label in lines:
        right.plot(range(6), used[stream].table()[:, -1], "o-", color=color, label=label)
    right.set(
        xlabel="block", ylim=(-0.08, 1.45), yticks=[0, 0.5, 1], yticklabels=["0\nfrown", "½", "1\nsmile"]
    )
    right.set_title("3 · used", fontsize=12, fontweight="bold")
    right.set_ylabel("patching effect on the mouth")
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=9, loc="upper center")
    return figure


FIGURES = (inside, causal_map, sde_hat, leakage_smile_hat, token_map, mouth, entanglement_portraits,
           entanglement_twin, probe_smile, probe_smile_patches, where)  # fmt: skip
"""Each is written to a file of its name."""


if __name__ == "__main__":
    for sheet in (portraits, twins):
        if not sys.argv[1:] or sheet.__name__ in sys.argv:
            sheet().save(HERE / f"{sheet.__name__}.jpg", quality=88, optimize=True)
    for draw in FIGURES:
        if not sys.argv[1:] or draw.__name__ in sys.argv:
            photos = draw is where  # of many pictures: three times smaller as JPEG
            draw().savefig(
                HERE / f"{draw.__name__}.{'jpg' if photos else 'png'}", dpi=80 if draw is not inside else 100
            )
