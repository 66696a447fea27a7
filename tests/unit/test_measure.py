"""What an edit did, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from ditlens.worlds.portraits.attributes import (
    CATEGORICAL,
    CONTINUOUS,
    NAMES,
    describe_values,
    neutral,
    sample,
    visible,
)
from ditlens.worlds.portraits.measure import drift, hidden, reached


def person(**overrides):
    return describe_values(neutral(**overrides))


def test_nothing_moved():
    assert drift(person(), person(), []) == 0


def test_a_continuous_change_counts_in_units_of_its_range():
    assert drift(person(), person(smile=0.5), []) == pytest.approx((0.5 / 2) / 18)
    assert drift(person(), person(age=0.7), []) == pytest.approx((0.5 / 1) / 18)


def test_a_categorical_change_counts_one():
    assert drift(person(hat="none"), person(hat="crown"), []) == pytest.approx(1 / 18)


def test_targets_are_left_out():
    before, after = person(), person(smile=1.0, hat="cap", age=0.7)
    assert drift(before, after, ["smile", "hat"]) == pytest.approx(0.5 / 16)
    assert drift(before, after, NAMES) == 0


def test_what_is_hidden_before_or_after_is_left_out():
    shades = person(glasses="sunglasses", gaze=1.0, eye_open=1.0)
    assert drift(person(), shades, ["glasses"]) == 0
    assert drift(shades, person(), ["glasses"]) == 0
    assert drift(person(), person(gaze=1.0), ["glasses"]) == pytest.approx(0.5 / 17)
    assert (
        drift(person(hair_length=0.1, hat="cap", hair_style="curly"), person(hair_length=0.1), ["hat"]) == 0
    )


def test_the_largest_drift_is_one():
    low = {c.name: c.low for c in CONTINUOUS} | {c.name: c.values[0] for c in CATEGORICAL}
    high = {c.name: c.high for c in CONTINUOUS} | {c.name: c.values[1] for c in CATEGORICAL}
    assert drift(low, high, []) == 1


def test_hidden_is_the_rule_of_visible():
    people = sample(300, torch.Generator().manual_seed(0))
    seen = visible(people)
    clear = (people["hair_length"] - 0.3).abs() > 1e-4  # measured values are rounded to four digits
    for i in clear.nonzero().flatten().tolist():
        assert hidden(describe_values(people, i)) == {name for name in NAMES if not seen[name][i]}


def test_reached_needs_the_level_that_was_asked_for():
    after = person(smile=0.3, hat="crown", beard=0.9)
    wanted = {"smile": 3, "hat": 3, "beard": 2}  # a slight smile, a crown, a medium beard
    assert reached(after, wanted) == {"smile": True, "hat": True, "beard": False}
    assert reached(after, {}) == {}


@pytest.mark.parametrize(
    ("smile", "level"), [(-9.0, 0), (-0.6, 1), (-0.199, 2), (0.199, 2), (0.2, 3), (9.0, 4)]
)
def test_levels_are_cells_closed_below(smile, level):
    assert reached(person(smile=smile), {"smile": level}) == {"smile": True}
