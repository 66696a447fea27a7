"""The contact sheets of the portraits model: what numbers do not show."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch
from PIL import Image

from benchmarks.portraits.common import SEEDS, Bench, people, progress
from benchmarks.portraits.editing import wishes
from benchmarks.portraits.sheets import Tile, save, sheet
from ditlens import flow, images
from ditlens.ems.edit import edit
from ditlens.ems.manipulate import manipulate
from ditlens.errors import DitlensError
from ditlens.models.embedding import TextEmbedding
from ditlens.worlds.portraits.attributes import CONTINUOUS, take
from ditlens.worlds.portraits.captions import caption_all, compose
from ditlens.worlds.portraits.render import render

SHEETS = {
    "reconstructions": ("Reconstructions", "Renders, what the autoencoder makes of them, and the difference"),
    "samples": ("Samples", "Samples of held-out captions, each above its caption"),
    "levels": ("Levels", "For every continuous attribute one sample per level word, same noise"),
    "interpolations": (
        "Interpolations",
        "Samples between two texts, same noise: the embeddings mixed in even steps",
    ),
    "degrees": ("Degrees", "Edits at degrees from -1 to 2, one row per instruction"),
    "failures": ("Failures", "The samples and edits that went most wrong, with what the oracle saw"),
}
"""Name of each sheet's file -> its title and its alternative text."""
PAIRS = (
    ("a person with a big frown", "a person with a big smile"),
    ("a person with very light skin", "a person with very dark skin"),
    ("a young person with long red hair", "an old person with short grey hair"),
    ("a person with no glasses", "a person with sunglasses"),
    ("a clean-shaven person with a green background", "a person with a long beard and a pink background"),
)
"""Texts between which is sampled."""
DEGREES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


def draw(bench: Bench, docs: Path) -> None:
    """Draw all sheets; that of failures only if something was measured in this run that can fail."""
    save(reconstructions(bench), docs / "reconstructions.png")
    save(samples(bench), docs / "samples.png")
    save(levels(bench), docs / "levels.png")
    save(interpolations(bench), docs / "interpolations.png")
    if bench.failures:
        save(failures(bench), docs / "failures.png")
    save(degrees(bench), docs / "degrees.png")


def tiles(pictures: torch.Tensor) -> list[Tile]:
    """A batch of pictures without labels."""
    return [Tile(images.to_image(picture)) for picture in pictures]


def reconstructions(bench: Bench) -> Image.Image:
    """Renders, their reconstructions, and four times the difference."""
    render_ = render(people(8, "vae"), bench.model.side)
    decoded = bench.model.decode(bench.model.encode_image(render_))
    rows = [tiles(part) for part in (render_, decoded, (4 * (decoded - render_)).abs())]
    return sheet(rows, SHEETS["reconstructions"][1], names=["render", "reconstruction", "difference x 4"])


def samples(bench: Bench) -> Image.Image:
    """Held-out captions with their samples."""
    count = min(18, bench.captions)
    texts = caption_all(people(count, "captions"), random.Random(SEEDS["captions"]))
    made = tiles(bench.model.sample(texts, range(count)))
    rows = [[Tile(t.image, text) for t, text in zip(made[i : i + 6], texts[i : i + 6], strict=True)]
            for i in range(0, count, 6)]  # fmt: skip
    return sheet(rows, SHEETS["samples"][1], side=112)


def levels(bench: Bench) -> Image.Image:
    """One row per continuous attribute, one sample per level."""
    rows = []
    for i in progress("levels", len(CONTINUOUS)):
        spec = CONTINUOUS[i]
        texts = [compose({spec.name: level}) for level in range(len(spec.levels))]
        made = bench.model.sample(texts, [i] * len(texts))
        rows.append([Tile(t.image, level.name) for t, level in zip(tiles(made), spec.levels, strict=True)])
    return sheet(rows, SHEETS["levels"][1], side=88, names=[c.name for c in CONTINUOUS])


def interpolations(bench: Bench) -> Image.Image:
    """Samples between two texts: tokens and pooled vector move together."""
    model, shares = bench.model, torch.linspace(0, 1, 7)
    rows = {}
    for seed, (first, second) in enumerate(PAIRS):
        a, b = model.encode_text(first), model.encode_text(second)
        texts = [manipulate(a, b, float(share)) for share in shares]
        null_text = model.encode_text("").named("uncond")
        noise, sigmas = model.noise([seed] * len(shares)), model.sigmas(model.defaults["steps"])
        guidance = model.defaults["guidance"]
        latents = flow.sample(
            model, noise, sigmas, TextEmbedding.cat(texts), null_text=null_text, guidance=guidance
        )
        made = tiles(model.decode(latents))
        rows[f"{first}, to {second}"] = [
            Tile(t.image, f"{share:.2f}") for t, share in zip(made, shares, strict=True)
        ]
    return sheet(list(rows.values()), SHEETS["interpolations"][1], names=list(rows))


def degrees(bench: Bench) -> Image.Image:
    """Sweeps of the first edits of the benchmark."""
    count = min(6, bench.edits)
    everyone, asked = wishes(count, "edits")
    rows = {}
    for i in progress("degrees", count):
        picture = render(take(everyone, i), bench.model.side)
        try:
            sweep = edit(bench.model, picture, asked[i].text, seed=i).sweep(DEGREES)
        except DitlensError as error:
            print(f"degrees {i} ({asked[i].text!r}): {error}", file=sys.stderr)
            continue
        tiles_ = zip(sweep.images, DEGREES, strict=True)
        rows[asked[i].text] = [Tile(image, f"{degree:g}") for image, degree in tiles_]
    if not rows:
        raise DitlensError("Every edit ended in an error; there is no sheet of degrees.")
    return sheet(list(rows.values()), SHEETS["degrees"][1], names=list(rows))


def failures(bench: Bench) -> Image.Image:
    """The worst of what was measured in this run."""
    found = [sorted(bench.failures[kind], key=lambda f: -f[0]) for kind in ("captions", "edits")]
    rows = [[tile for _, wrong in kind[at : at + count] for tile in wrong]
            for kind, count in zip(found, (6, 3), strict=True) for at in (0, count)]  # fmt: skip
    return sheet([row for row in rows if row], SHEETS["failures"][1], side=112)
