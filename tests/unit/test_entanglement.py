"""The entanglement matrix: in a world with known entanglement it says what is there, and nothing else."""

from __future__ import annotations

import io
import math
import random

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.analysis import entanglement as ent
from ditlens.analysis import wordings
from ditlens.errors import ModelError, SettingError, UnknownAttributeError
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
    """Images whose pixels are the values: heat lifts glow by half of what it moves, and is red when it is high."""
    rows = []
    for text, seed in zip(texts, seeds, strict=True):
        said = text.split()[1:]
        named = {name: int(level) for name, level in (part.split("=") for part in said)}
        rng = random.Random(seed)
        heat = {0: 0.1, 1: 0.5, 2: 0.9}[named["heat"]] if "heat" in named else rng.random() * 0.9
        glow = 0.2 + 0.5 * heat
        if "glow" in named:
            glow = {0: 0.1, 1: 0.5, 2: 0.9}[named["glow"]]
        color = named.get("color", 0 if heat > 0.7 else 1 + seed % 2)
        rows.append([heat, glow, float(color)])
    return torch.tensor(rows)[:, :, None, None]


def measured(rows, pairs=60, moves=None, name_others=False) -> ent.Entanglement:
    world = Toy()
    plans = wordings.plan(world, rows, pairs, moves or {}, name_others, 0)
    found = tuple(ent.read_pairs(world, plans, draw, progress=False))
    return ent.Entanglement("toy", world.attributes, tuple(rows), found)


@pytest.fixture(scope="module")
def toy() -> ent.Entanglement:
    return measured(["heat", "glow", "color"])


def chance(shift: float, pairs: int = 60) -> float:
    """Mean size of the mean of so many signs, times a shift: what random exchanges leave of it."""
    return shift * np.sqrt(2 / np.pi / pairs)


def test_the_matrix_says_what_moves_what(toy):
    """0.8 of its range each by its own text; heat takes along 0.4 of glow and every colour; nothing else moves."""
    assert toy.matrix.shape == (3, 3)
    own = 0.8 - chance(0.8)
    np.testing.assert_allclose(np.diag(toy.matrix), [own, own, 1 - chance(1)], atol=0.01)
    assert toy.cell("heat", "color")["value"] == pytest.approx(
        1 - chance(1), abs=0.03
    )  # never red, then always
    assert toy.cell("heat", "glow")["value"] == pytest.approx(0.4 - chance(0.4), abs=0.01)
    for moved, read in (("glow", "heat"), ("glow", "color"), ("color", "heat"), ("color", "glow")):
        cell = toy.cell(moved, read)
        assert cell["value"] == 0 and cell["p"] == 1
    assert [(m, r) for m, r, _ in toy.largest(2)] == [("heat", "color"), ("heat", "glow")]
    assert toy.dominance == pytest.approx(np.trace(toy.matrix) / np.abs(toy.matrix).sum())


def test_what_changes_without_a_tendency_is_no_entanglement():
    """Images that change in every pair, one way or the other, shift no distribution."""
    rng = np.random.default_rng(1)
    cells = [ent.shifted(rng.choice([-1.0, 1.0], (24, 1)), seed) for seed in range(200)]
    values, p = (np.array([cell[key] for cell in cells]) for key in ("value", "p"))
    assert abs(values.mean()) < 0.02 and np.mean(p < 0.05) < 0.1
    some = [ent.shifted(rng.choice([-1.0, 1.0], (200, 1), p=[0.3, 0.7]))["value"] for _ in range(50)]
    assert np.mean(some) == pytest.approx(0.4 - chance(1, 200), abs=0.02)


def test_intervals_hold_the_shift():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(100):
        cell = ent.shifted(rng.choice([-1.0, 0.0, 1.0], (40, 1), p=[0.1, 0.3, 0.6]))
        held += cell["low"] <= 0.5 - chance(np.sqrt(0.7), 40) <= cell["high"]
    assert held >= 88


def test_total_variation_counts_what_leaves_and_comes_once():
    """Half of the images go from the first value to the second, the others stay."""
    moved = np.array([[-1.0, 1.0, 0.0]] * 30 + [[0.0, 0.0, 0.0]] * 30)
    flips = ent.shifted(moved)
    assert flips["value"] == pytest.approx(0.5 - chance(np.sqrt(0.5)), abs=0.01) and flips["p"] == 0


def test_signs_and_scores(toy):
    assert toy.signed[0, 1] == pytest.approx(0.4, abs=1e-6)
    assert np.isnan(toy.signed[:, 2]).all(), "a colour has no sign"
    red = toy.changes("heat", "color", lambda value: value == "red")
    assert red.shape == (60, 1) and red.mean() == 1
    assert toy.changes("heat", "color", lambda value: value == "green").mean() == pytest.approx(-0.5)


def test_few_pairs_have_wide_intervals(toy):
    cell = toy.cell("heat", "color")
    assert cell["n"] == 60 and cell["p"] == 0
    few = measured(["heat"], pairs=4).cell("heat", "color")
    assert few["p"] > 0.05, "four pairs cannot be told from chance"


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
    usual = measured(["color"], pairs=3)
    assert {(p.readings[0]["color"], p.readings[1]["color"]) for p in usual.pairs} == {("red", "green")}
    named = measured(["heat"], pairs=3, moves={"heat": ("heat0", "heat1")})
    assert {tuple(round(r["heat"], 3) for r in p.readings) for p in named.pairs} == {(0.1, 0.5)}
    with pytest.raises(UnknownAttributeError, match="no level 'hot': it can be heat0, heat1, heat2"):
        measured(["heat"], moves={"heat": ("heat0", "hot")})
    with pytest.raises(UnknownAttributeError, match="no value 'grey'"):
        measured(["color"], moves={"color": ("green", "grey")})
    with pytest.raises(UnknownAttributeError, match="no attribute 'size'. Use one of: heat, glow, color"):
        measured(["size"])


def test_what_would_be_counted_twice_or_goes_nowhere_is_refused(portraits):
    with pytest.raises(SettingError, match="attributes has age more than once"):
        dl.entanglement(portraits, ["age", "age"], count=2)
    with pytest.raises(SettingError, match="age goes from 'old' to 'old', which is the same"):
        dl.entanglement(portraits, ["age"], count=2, moves={"age": ("old", "old")})


def test_a_table_and_a_picture(toy):
    table = toy.to_pandas()
    assert list(table.columns) == ["moved", "read", "value", "low", "high", "p", "n", "nan", "signed"]
    assert len(table) == 9 and table.set_index(["moved", "read"]).value["heat", "color"] > 0.85
    assert "heat -> color" in repr(toy) and "3 attributes moved, 3 read, 180 pairs" in repr(toy)
    axes = toy.plot().axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["heat", "glow", "color"]
    assert "90" in {t.get_text() for t in axes.texts}
    assert toy.plot(signed=True).axes[0].images[0].get_clim() == (-1, 1)


def test_few_pairs_tell_nothing_from_chance_and_one_has_no_interval():
    one, five, six = (measured(["heat", "glow"], pairs=n) for n in (1, 5, 6))
    cell = one.cell("heat", "color")
    assert np.isnan([cell["low"], cell["high"]]).all() and cell["p"] == 1
    assert "–" in repr(one) and "one pair: no interval, and nothing can be told from chance" in repr(one)
    assert "5 pairs: nothing can be told from chance; count=6 is the least" in repr(five)
    assert five.cell("heat", "color")["p"] > 0.05 > six.cell("heat", "color")["p"]
    assert six.caution == "" and "chance" not in repr(six)
    assert five.plot().get_supxlabel() == five.caution and six.plot().get_supxlabel() == ""
    assert {type(each) for each in six.cell("heat", "glow").values()} <= {float, int}


def test_the_table_is_sorted_by_what_it_shows(toy):
    values = [cell["value"] for _, _, cell in toy.largest(6)]
    assert len(values) == 6 and values == sorted(values, reverse=True)
    assert "most moved beside themselves, largest change first:" in repr(toy)


def test_of_a_model(portraits):
    found = dl.entanglement(portraits, ["smile", "hat"], count=2, sampling_steps=1, progress=False)
    assert found.matrix.shape == (2, 18)
    before, after = found.pairs[0].texts
    assert "frown" in before or "sad" in before
    assert set(portraits.world.wanted(before, after)) == {"smile"}
    with pytest.raises(UnknownAttributeError, match="'nose' is not in this matrix"):
        found.cell("smile", "nose")
    with pytest.raises(SettingError, match="moves has 'age', which is not among the attributes .*: hat"):
        dl.entanglement(portraits, ["hat"], moves={"age": ("young", "elderly")})
    figure = found.plot()
    figure.savefig(io.BytesIO())  # lays it out
    for ax in figure.axes:
        for label in (ax.xaxis.label, ax.yaxis.label, ax.title):
            box = label.get_window_extent()
            low, high = (box.x0, box.y0), (box.x1, box.y1)
            assert min(low) >= 0 and np.less_equal(high, figure.bbox.max).all(), f"{label} is cut off"
    bare = dl.wrap(portraits.pipe, "bare")
    with pytest.raises(ModelError, match="'bare' has no world"):
        dl.entanglement(bare)
