"""Warnings and the traffic light: what a person is told before and after an edit."""

from __future__ import annotations

import pytest
import torch

from ditlens.ems import judge


def warnings(moved=0.1, degree=1.0, drift=0.02, missed=(), **more):
    return judge.warnings_of(moved, degree, drift, list(missed), **{"same_texts": False, **more})


def test_a_good_edit_needs_no_words():
    assert warnings() == []
    assert warnings(drift=None) == []


def test_degree_0_of_an_exact_method_is_never_warned_about():
    assert warnings(moved=0.0, degree=0.0, drift=1.0, missed=["smile"], same_texts=True) == []


def test_a_method_that_changes_the_picture_for_nothing():
    (text,) = warnings(moved=0.08, degree=0.0, drift=1.0, exact_at_0=False)
    assert text.startswith("changed for nothing: degree 0 asks for nothing") and "0.080" in text
    assert "the same guidance" in text
    (text,) = warnings(moved=0.08, same_texts=True, exact_at_0=False)
    assert text.startswith("changed for nothing: both texts are the same")
    assert warnings(moved=0.001, degree=0.0, exact_at_0=False) == [], "nobody sees it"
    assert warnings(exact_at_0=False) == []


def test_no_visible_change():
    (text,) = warnings(moved=0.001, missed=["smile"])
    assert text.startswith("no visible change") and "raise the degree above 1" in text
    assert warnings(moved=0.001, seen=True) == [], "the oracle sees thin lines"
    (text,) = warnings(moved=0.2, same_texts=True)
    assert "both texts are the same" in text and text.endswith(
        "For more of it say so, as in 'a bigger smile'."
    )


def test_identity_broke():
    (text,) = warnings(drift=0.3, degree=1.5)
    assert text.startswith("identity broke") and "0.30" in text and "below 1.5" in text and "mask=" in text


def test_not_reached_from_degree_1_on():
    (text,) = warnings(missed=["hair_color", "smile"])
    assert text == "not reached: hair color, smile. Try a degree of 1.25, or another seed."
    assert warnings(missed=["smile"], degree=0.5) == []


def test_more_than_asked_is_not_cured_by_a_higher_degree():
    (text,) = warnings(missed=["age"], passed=["age"])
    assert text == "more than asked: age. Lower the degree below 1."
    assert warnings(missed=["age"], passed=["age"], degree=1.5) == [], "it was asked for"
    assert warnings(missed=["age", "smile"], passed=["age"]) == [
        "not reached: smile. Try a degree of 1.25, or another seed.",
        "more than asked: age.",
    ]


def test_what_is_covered_is_not_cured_by_a_higher_degree():
    (text,) = warnings(missed=["eye_open"], hidden={"eye_open", "gaze"})
    assert text.startswith("cannot be seen: eye open. ") and "no degree" in text
    assert warnings(missed=["eye_open"], passed=["eye_open"], hidden={"eye_open"}) == [text]
    assert warnings(hidden={"gaze"}) == [], "it was not asked for"
    assert warnings(missed=["eye_open", "smile"], hidden={"eye_open"}) == [
        text,
        "not reached: smile. Try a degree of 1.25, or another seed.",
    ]


@pytest.mark.parametrize(("db", "light"), [(30.0, "green"), (20.0, "amber"), (3.0, "red"), (25.0, "green")])
def test_lights(db, light):
    assert judge.light_of(db, judge.RECONSTRUCTION_DB) == light


def test_the_worst_light_counts():
    assert judge.worse("green", "red", "amber") == "red"
    assert judge.worse("green", "green") == "green"


def test_psnr():
    a = torch.zeros(1, 3, 4, 4)
    assert judge.psnr(a, a + 0.1) == pytest.approx(20, abs=1e-4)
    assert judge.psnr(a, a) == float("inf")
    assert judge.change(a, a + 0.1) == pytest.approx(0.1)


def test_warnings_of_one_edit_do_not_contradict_each_other():
    for degree in (1.0, 2.0, 3.0):
        broke, short = judge.warnings_of(0.2, degree, 0.3, ["smile"], same_texts=False)
        assert broke.endswith("0.30 of its range. Try another seed, or confine the edit with mask=.")
        assert short == "not reached: smile. Try another seed."
    assert (
        "Lower the degree below 2, try another seed"
        in judge.warnings_of(0.2, 2.0, 0.3, [], same_texts=False)[0]
    )
    assert "Try a degree of 2.25, or" in judge.warnings_of(0.2, 2.0, 0.0, ["smile"], same_texts=False)[0]
    (unseen,) = judge.warnings_of(0.001, 1.0, 0.3, ["smile"], same_texts=False)
    assert unseen.startswith("no visible change")
