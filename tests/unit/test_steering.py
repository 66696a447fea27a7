"""Steering: amount 0 changes nothing, amount 1 adds one unit where it should, and what is read is counted."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from PIL import Image

import ditlens as dl
from ditlens.analysis.moves import moved, moved_text
from ditlens.analysis.steering import Steering
from ditlens.errors import InterventionError, SettingError
from ditlens.worlds.world import open_world

SITE, PATCHES, WIDTH = "joint.0.image.out", (35, 43), 64


@pytest.fixture(scope="module")
def direction():
    vector = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    return dl.Direction("smile", "by hand", vector / vector.norm(), 3.0, SITE, PATCHES, targets=("smile",))


def captured(model, direction, amounts, **how):
    """Hidden states that `steer` leaves at the site, (steps, amounts, tokens, width)."""
    with dl.capture(model, SITE) as cache:
        dl.steer(model, direction, amounts, prompts="a portrait", seeds=3, sampling_steps=2, **how)
    return cache[SITE]


def test_amount_0_is_the_image_that_the_model_makes(portraits, direction):
    result = dl.steer(portraits, direction, 0, prompts="a hat", seeds=7, sampling_steps=2)
    assert result.amounts == (0.0,) and result.drift == [[0.0]] and result.moved() == [[0.0]]
    assert result.image == portraits.generate("a hat", seed=7, steps=2)
    text = dl.direction(portraits, "a hat", "a crown")
    assert dl.steer(portraits, text, 0, prompts="a hat", seeds=7, sampling_steps=2).image == result.image


def test_amount_1_adds_one_unit_at_the_patches_and_steps(portraits, direction):
    none, one, two = captured(portraits, direction, [0, 1, -2], steps=[1])[1]
    change = torch.zeros(64, WIDTH)
    change[list(PATCHES)] = direction.unit * direction.vector
    torch.testing.assert_close(one - none, change, rtol=0, atol=1e-5)
    torch.testing.assert_close(two - none, -2 * change, rtol=0, atol=1e-5)
    before = captured(portraits, direction, [0, 1], steps=[1])[0]
    torch.testing.assert_close(before[0], before[1], rtol=0, atol=1e-6)
    part = captured(portraits, direction, [0, 1], patches=[43])[0]
    moved_at = (part[1] - part[0]).abs().amax(-1) > 1e-4
    assert moved_at.nonzero().flatten().tolist() == [43]


def test_only_the_prompts_pass_changes_unless_all_are_asked_for(portraits, direction):
    for passes, changed in (("cond", {"cond"}), (None, {"cond", "uncond"})):
        with dl.capture(portraits, SITE, passes=None, steps=[0]) as cache:
            dl.steer(portraits, direction, 1, prompts="a hat", sampling_steps=1, passes=passes)
        assert {p for p in cache.passes if not torch.equal(*cache.get(SITE, step=0, pass_=p))} == changed


def test_degree_1_of_two_texts_is_the_target_text(portraits):
    a, b = "a portrait of a person with a frown", "a portrait of a person with a smile"
    source, target = portraits.encode_text([a, b]).split()
    amounts = torch.ones(1, 1, 1)
    found = moved_text(portraits, source, dl.direction(portraits, a, b), amounts, "line")
    torch.testing.assert_close(found.tokens, target.tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.pooled, target.pooled, rtol=0, atol=1e-5)
    word = dl.direction(portraits, a, b, method="word")
    found = moved_text(portraits, source, word, 2 * amounts, "line")
    rows = (found.tokens - source.tokens)[0].abs().amax(-1).nonzero().flatten().tolist()
    assert rows == dl.words(portraits, a, "frown")["tokenizer"] and torch.equal(found.pooled, source.pooled)
    torch.testing.assert_close((found.tokens - source.tokens)[0, rows[0]], 2 * word.vector[0])
    with pytest.raises(
        SettingError, match="has none of the words at which this direction acts: .*word='...'"
    ):
        moved_text(portraits, portraits.encode_text("a hat"), word, amounts, "line")
    hat = moved_text(portraits, portraits.encode_text("a hat"), word, amounts, "line", "hat")
    assert not torch.equal(hat.tokens, portraits.encode_text("a hat").tokens)


def test_ways_that_keep_the_length():
    x = torch.tensor([[[3.0, 0.0], [0.0, 2.0]]])
    change = torch.tensor([[[0.0, 3.0], [0.0, 0.0]]])
    torch.testing.assert_close(moved(x, change, "line")[0, 0], torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(moved(x, change, "norm")[0, 0], torch.full((2,), 4.5**0.5))
    turned = 3 * torch.tensor(
        [torch.tensor(1.0).cos(), torch.tensor(1.0).sin()]
    )  # an arc of 3 on a circle of 3
    torch.testing.assert_close(moved(x, change, "slerp")[0, 0], turned)
    for path in ("line", "norm", "slerp"):
        assert torch.equal(moved(x, change, path)[0, 1], x[0, 1]), (
            "a token without a change stays bit for bit"
        )


def test_prompts_and_seeds_go_together(portraits, direction):
    result = dl.steer(portraits, direction, [1], prompts=["a hat", "a crown"], seeds=[1, 2], sampling_steps=1)
    assert result.amounts == (0.0, 1.0) and result.prompts == ("a hat", "a crown") and result.seeds == (1, 2)
    table = result.to_pandas()
    assert list(table["amount"]) == [0, 1, 0, 1] and list(table["seed"]) == [1, 1, 2, 2]
    assert {"smile", "drift", "prompt"} <= set(table.columns)
    with pytest.raises(SettingError, match="Got 2 prompts and 3 seeds"):
        dl.steer(portraits, direction, prompts=["a", "b"], seeds=[1, 2, 3])


def test_what_does_not_fit_is_refused(portraits, direction):
    text = dl.direction(portraits, "a hat", "a crown")
    wide = dataclasses.replace(direction, vector=torch.ones(2, 65))
    far = dataclasses.replace(direction, places=(3, 64))
    cases = [
        (text, {"steps": [0]}, SettingError, "lives in text space: it takes no sites, steps"),
        (direction, {"word": "hat"}, SettingError, "where there are no words"),
        (direction, {"patches": [1]}, SettingError, "does not act at patch 1"),
        (direction, {"path": "curve"}, SettingError, "path is 'curve'"),
        (wide, {}, InterventionError, "has the width 65 .* made with another model"),
        (far, {}, InterventionError, "acts at patch 64, and the values .* 64 tokens"),
        (dataclasses.replace(text, vector=torch.ones(5, 256)), {}, SettingError, r"is \(5, 256\)"),
    ]
    for given, how, problem, message in cases:
        with pytest.raises(problem, match=message):
            dl.steer(portraits, given, prompts="a hat", sampling_steps=1, **how)


# --- what is read --------------------------------------------------------------------------------------------


def result(readings, direction, amounts=(0.0, 1.0, 2.0), likeness=20.0):
    """One item with these readings of the smile and the hat at each amount; everything else is neutral."""
    world = open_world("portraits")
    rest = {n: s.value_of(s.rest) for n, s in world.attributes.items()}
    rows = tuple({**rest, **each} for each in readings)
    image = Image.new("RGB", (16, 16))
    return Steering(
        direction, amounts, ("a person",), (0,), ((image,) * len(rows),), (rows,), "line",
        ((likeness,) * len(rows),), world,
    )  # fmt: skip


def test_movement_is_in_units_of_the_range_and_drift_of_the_others(direction):
    found = result([{"smile": -0.5}, {"smile": 0.5}, {"smile": 1.0, "hat": "crown"}], direction)
    assert found.moved() == [[0.0, 0.5, 0.75]]
    zero, one, two = found.drift[0]
    assert zero == one == 0 and 1 / 18 < two < 1 / 12  # one of the visible others changed
    assert found.holds() == [True, True, True] and found.notes == []
    assert repr(found).splitlines()[-1].split() == ["2", "1.00", f"{two:.3f}"]


def test_a_category_counts_where_its_value_is_reached(direction):
    hat = dataclasses.replace(direction, targets=("hat",), value="crown")
    found = result([{}, {"hat": "cap"}, {"hat": "crown"}], hat)
    assert found.values("hat") == [[0, 0, 1]] and found.moved() == [[0, 0, 1]] and found.drift == [[0, 0, 0]]
    anything = dataclasses.replace(hat, value="")
    assert result([{}, {"hat": "cap"}, {}], anything).values("hat") == [[0, 1, 0]]


def test_a_picture_that_breaks_is_named_with_the_range_that_holds(direction):
    broken = {"hat": "crown", "shirt": "red", "background": "pink", "hair_color": "pink"}
    amounts = (-1.0, 0.0, 1.0, 2.0)
    found = result([{"smile": -0.3}, {}, {"smile": 0.5}, broken], direction, amounts)
    assert found.holds() == [True, True, True, False]
    assert "breaks at the amount 2" in found.notes[0] and "Stay within -1 to 1" in found.notes[0]
    blurred = result([{}, {}], direction, (0.0, 3.0), likeness=9.0)
    assert "breaks" in blurred.notes[0] and "hardly moves" in blurred.notes[1]


def test_where_no_amount_holds_none_is_advised(direction):
    broken = {"hat": "crown", "shirt": "red", "background": "pink", "hair_color": "pink"}
    (note, _) = result([broken, {}, broken], direction, (-1.0, 0.0, 1.0)).notes
    assert "None of the amounts holds: take smaller ones" in note and "0 to 0" not in note


def test_what_cannot_be_seen_is_not_counted(direction):
    eyes = dataclasses.replace(direction, targets=("eye_open",))
    dark = {"eye_open": 1.0, "glasses": "sunglasses"}
    found = result([{"eye_open": 0.2}, {"eye_open": 0.9}, dark], eyes)
    assert found.values("eye_open")[0][:2] == [0.2, 0.9] and math.isnan(found.values("eye_open")[0][2])
    assert math.isnan(found.moved()[0][2]) and not math.isnan(found.drift[0][2])
    assert "eye_open cannot be seen in 1 image: these do not count." in found.notes
    assert "2       cannot be seen" in repr(found)
    assert list(found.to_pandas()["eye_open"].isna()) == [False, False, True]
    found.plot()
    never = result([dark, dark], eyes, (0.0, 1.0))
    assert never.notes == ["eye_open cannot be seen in 2 images: these do not count."]
    never.plot()


def test_where_the_target_turns_back_is_said(direction):
    amounts = (-2.0, -1.0, 0.0, 1.0, 2.0)
    found = result([{"smile": s} for s in (-0.4, -0.8, 0.0, 0.5, 0.9)], direction, amounts)
    assert found.notes == [
        "smile moves no further beyond the amount -1: there more of the direction only does damage."
    ]


def test_without_a_world_there_are_images_only(direction):
    image = Image.new("RGB", (16, 16))
    found = Steering(direction, (0.0, 1.0), ("a",), (0,), ((image, image),), (), "line", (), None)
    assert found.drift == [] and found.targets == () and "look at the images" in found.notes[0]
    with pytest.raises(SettingError, match="Nothing was measured"):
        found.moved()


def test_the_figure_shows_images_target_and_drift(direction):
    amounts = (2.0, 0.0, -1.0)
    figure = result([{"smile": 0.9}, {"smile": 0.1}, {"smile": -0.4}], direction, amounts).plot()
    images = [ax.get_title() for ax in figure.axes if ax.images]
    assert images == ["-1", "unsteered", "+2"]
    smile, drift = [ax for ax in figure.axes if ax.lines and not ax.images]
    assert smile.lines[0].get_xydata().tolist() == [[-1, -0.4], [0, 0.1], [2, 0.9]]
    assert "smile" in smile.get_ylabel() and "drift" in drift.get_ylabel()
    assert "standard deviations" in drift.get_xlabel()
