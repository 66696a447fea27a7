"""The entanglement matrix: in a world with known entanglement it says what is there, and nothing else."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.analysis import entanglement as ent
from ditlens.analysis import wordings
from ditlens.errors import ModelError, UnknownAttributeError
from ditlens.worlds.world import Categorical, Continuous, Level

ENDS = ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0))


def scale(name: str) -> Continuous:
    levels = tuple(Level(f"{name}{k}", low, high, (f"{name}{k}",)) for k, (low, high) in enumerate(ENDS))
    return Continuous(name, 0.0, 1.0, 0.5, levels)


COLORS = ("red", "green", "blue")


class Toy:
    """Two scales and a colour; the texts name levels, among empty words that depend on the seed."""

    attributes = {
        "heat": scale("heat"),
        "glow": scale("glow"),
        "color": Categorical("color", COLORS, tuple((c,) for c in COLORS)),
    }

    def caption(self, levels, seed=None):
        named = " ".join(f"{name}={level}" for name, level in levels.items())
        return f"{random.Random(seed).choice(('oh', 'ah', 'hm'))} {named}"

    def sample(self, count, seed):
        rng = random.Random(seed)
        return [
            {"heat": rng.random(), "glow": rng.random(), "color": rng.choice(COLORS)} for _ in range(count)
        ]

    def hidden(self, values):
        return {"color"} if values["heat"] > 0.95 else set()

    def measure(self, images):
        return [
            {"heat": row[0].item(), "glow": row[1].item(), "color": COLORS[int(row[2])]}
            for row in images[:, :, 0, 0]
        ]


def draw(texts, seeds):
    """Images whose pixels are the values: heat lifts glow by half of what it moves, and is red when it is high.

    Words that mean nothing shift the glow by up to a tenth.
    """
    rows = []
    for text, seed in zip(texts, seeds, strict=True):
        filler, *said = text.split()
        named = {name: int(level) for name, level in (part.split("=") for part in said)}
        rng = random.Random(seed)
        heat = {0: 0.1, 1: 0.5, 2: 0.9}[named["heat"]] if "heat" in named else rng.random() * 0.9
        glow = 0.2 + 0.5 * heat + {"oh": 0.0, "ah": 0.05, "hm": 0.1}[filler]
        if "glow" in named:
            glow = {0: 0.1, 1: 0.5, 2: 0.9}[named["glow"]]
        color = named.get("color", 0 if heat > 0.7 else 1 + seed % 2)
        rows.append([heat, glow, float(color)])
    return torch.tensor(rows)[:, :, None, None]


def measured(rows, pairs=60, moves=None, name_others=False) -> ent.Entanglement:
    world = Toy()
    plans = wordings.plan(world, rows, pairs, moves or {}, name_others, 0)
    found = tuple(ent.read_pairs(world, plans, draw, show=False))
    return ent.Entanglement("toy", world.attributes, tuple(rows), ("heat", "glow"), found)


@pytest.fixture(scope="module")
def toy() -> ent.Entanglement:
    return measured(["heat", "glow", "color"])


def test_the_matrix_says_what_moves_what(toy):
    """0.8 of its range each by its own text; heat takes along 0.4 of glow and every colour; nothing else moves."""
    assert toy.matrix.shape == (3, 3)
    np.testing.assert_allclose(np.diag(toy.matrix), [0.8, 0.8, 1.0], atol=0.02)
    assert toy.cell("heat", "color")["value"] == 1.0  # never red, then always
    assert toy.cell("heat", "glow")["value"] == pytest.approx(0.4 - shift(toy, "heat"), abs=1e-6)
    for moved, read in (("glow", "heat"), ("glow", "color"), ("color", "heat")):
        assert toy.cell(moved, read)["value"] == 0
    assert toy.cell("color", "glow")["value"] == pytest.approx(-shift(toy, "color"), abs=1e-6)
    assert [(m, r) for m, r, _ in toy.largest(2)] == [("heat", "color"), ("heat", "glow")]
    assert toy.dominance == pytest.approx(np.trace(toy.matrix) / np.abs(toy.matrix).sum())


def shift(found, moved):
    """Mean shift of the glow by empty words: what the null takes off."""
    words = {"oh": 0.0, "ah": 0.05, "hm": 0.1}
    texts = [pair.texts for pair in found.pairs if pair.moved == moved]
    assert all(before.split()[0] == after.split()[0] != other.split()[0] for before, after, other in texts)
    return np.mean([abs(words[t[0].split()[0]] - words[t[2].split()[0]]) for t in texts])


def test_signs_and_scores(toy):
    assert toy.cell("heat", "glow", signed=True)["value"] == pytest.approx(
        0.4 - np.mean([p.readings[2]["glow"] - p.readings[0]["glow"] for p in toy.pairs_of("heat")]), abs=1e-6
    )
    assert math.isnan(toy.signed[0, 2]) and np.isnan(toy.signed[2]).all(), "a colour has no direction"
    red = toy.cell("heat", "color", score=lambda value: value == "red")
    assert (red["value"], red["low"], red["high"], red["n"]) == (1, 1, 1, 60)
    assert toy.cell("heat", "color", score=lambda value: value == "green")["value"] == pytest.approx(-0.5)


def test_an_interval_is_that_of_the_pairs(toy):
    cell = toy.cell("heat", "glow")
    assert cell["low"] < cell["value"] < cell["high"] and cell["n"] == 60
    few = measured(["heat"], pairs=8).cell("heat", "glow")
    assert few["high"] - few["low"] > cell["high"] - cell["low"]


def test_what_is_named_cannot_follow():
    found = measured(["heat"], name_others=True)
    assert found.cell("heat", "glow")["value"] == found.cell("heat", "color")["value"] == 0
    texts = found.pairs[0].texts
    assert all({part.split("=")[0] for part in text.split()[1:]} == set(Toy.attributes) for text in texts)


def test_what_is_hidden_does_not_count(monkeypatch):
    monkeypatch.setattr(Toy, "hidden", lambda self, values: {"color"} if values["heat"] > 0.8 else set())
    cell = measured(["heat"], pairs=4).cell("heat", "color")
    assert math.isnan(cell["value"]) and (cell["n"], cell["nan"]) == (0, 4)


def test_moves_between_two_values():
    found = measured(["color"], pairs=3, moves={"color": ("green", "red")})
    assert {(p.readings[0]["color"], p.readings[1]["color"]) for p in found.pairs} == {("green", "red")}
    every = measured(["color"], pairs=6)
    assert len({(p.readings[0]["color"], p.readings[1]["color"]) for p in every.pairs}) == 6, (
        "all ordered pairs"
    )
    with pytest.raises(UnknownAttributeError, match="no value 'grey'"):
        measured(["color"], moves={"color": ("green", "grey")})
    with pytest.raises(UnknownAttributeError, match="no attribute 'size'. Use one of: heat, glow, color"):
        measured(["size"])


def test_a_table_and_a_picture(toy):
    table = toy.to_pandas()
    assert list(table.columns) == ["moved", "read", "value", "low", "high", "n", "nan", "signed"]
    assert len(table) == 9 and table.set_index(["moved", "read"]).value["heat", "color"] == 1
    assert "heat -> color" in repr(toy) and "3 attributes moved, 3 read, 180 pairs" in repr(toy)
    axes = toy.plot().axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["heat", "glow", "color"]
    assert "100" in {t.get_text() for t in axes.texts}
    assert toy.plot(signed=True).axes[0].images[0].get_clim() == (-1, 1)


def test_of_a_model(portraits):
    found = dl.entanglement(portraits, ["smile", "hat"], pairs=2, steps=1, show=False)
    assert found.matrix.shape == (2, 18) and found.directed == ("smile",)
    before, after, reworded = found.pairs[0].texts
    assert "frown" in before or "sad" in before
    assert portraits.world.wanted(before, reworded) == {} != portraits.world.wanted(before, after)
    with pytest.raises(UnknownAttributeError, match="'nose' is not in this matrix"):
        found.cell("smile", "nose")
    bare = dl.wrap(portraits.pipe, "bare")
    with pytest.raises(ModelError, match="'bare' has no world"):
        dl.entanglement(bare)
