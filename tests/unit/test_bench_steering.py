"""The benchmark of steering counts the way to the farther end, and leaves out images that are there already."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import ditlens as dl
from benchmarks.steering import held_out, result, towards_the_farther_end
from ditlens.analysis.steering import Steering
from ditlens.worlds.world import open_world


def steering(name, rows, value=""):
    """Items with readings of one attribute at the amounts -1, 0 and 1."""
    world = open_world("portraits")
    rest = {n: s.value_of(s.rest) for n, s in world.attributes.items()}
    direction = dl.Direction(
        name, "", torch.ones(1, 1), 1.0, "joint.0.image.out", targets=(name,), value=value
    )
    readings = tuple(tuple({**rest, name: each} for each in row) for row in rows)
    images = ((Image.new("RGB", (8, 8)),) * 3,) * len(rows)
    texts, seeds = ("",) * len(rows), (0,) * len(rows)
    return Steering(direction, (-1.0, 0.0, 1.0), texts, seeds, images, readings, "line", (), world)


def test_every_image_goes_to_its_farther_end():
    moved, drift = towards_the_farther_end(steering("smile", [(-0.9, -0.5, 0.5), (-0.7, 0.3, 0.9)]), "smile")
    assert moved.tolist() == pytest.approx([0.5, 0.5]) and drift.tolist() == [0, 0]


def test_images_that_have_the_value_already_do_not_count():
    rows = [("none", "none", "crown"), ("none", "crown", "crown"), ("cap", "cap", "cap")]
    assert towards_the_farther_end(steering("hat", rows, "crown"), "hat")[0].tolist() == [1, 0]


def test_held_out_prompts_do_not_name_the_attribute(portraits):
    prompts, seeds = held_out(portraits, "smile")
    assert len(set(prompts)) == len(set(seeds)) == 24
    assert not any("smil" in prompt or "frown" in prompt or "expression" in prompt for prompt in prompts)


def test_the_key_is_the_drift_of_the_first_attribute():
    one = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 24, "nan": 0}
    found = result({"smile": {"moved": one, "drift": {**one, "value": 0.02}}}, "smile")
    assert found["value"] == 0.02 and found["n"] == 24 and found["parts"]["smile, moved"] == 0.5
    assert "smile moves 0.50 of its range (0.40 to 0.60)" in found["note"]
