"""Statistics against numbers worked out elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ditlens.metrics import statistics
from ditlens.metrics.statistics import bootstrap, clustered, estimate, paired, said, wilson

# --- intervals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (95, 100, 0.888247, 0.978457),  # R: binom::binom.wilson(95, 100)
        (1, 10, 0.017876, 0.404150),
        (5, 10, 0.236593, 0.763407),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(hits, count, low, high):
    assert wilson(hits, count) == pytest.approx((low, high), abs=1e-5)


def test_the_middle_of_known_samples():
    assert statistics.middle(np.array([math.nan, *range(1, 201)])) == (5, 195)
    assert np.isnan(statistics.middle(np.array([math.nan]))).all()


def test_bootstrap_of_a_mean_is_about_two_standard_errors():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert bootstrap(values) == (low, high), "seeded"
    assert np.isnan(bootstrap([3.0], np.median)).all(), "one item has no interval"
    assert said(estimate([3.0])) == "3.00 (–)"


def test_bootstrap_of_two_values_is_theirs():
    """Resamples of (0, 1) have the means 0, 1/2 and 1, a quarter, a half and a quarter of them."""
    samples = statistics.resampled([np.array([0.0, 1.0])], np.mean)
    assert set(samples) == {0, 0.5, 1} and len(samples) == statistics.REPEATS
    assert (samples == 0.5).mean() == pytest.approx(0.5, abs=0.05)
    assert bootstrap([0.0, 1.0]) == (0, 1)


def test_estimate_counts_what_is_missing():
    found = estimate([1.0, 3.0, math.nan, 2.0])
    assert (found["value"], found["n"], found["nan"]) == (2.0, 3, 1)
    assert 1 <= found["low"] < 2 < found["high"] <= 3
    assert math.isnan(estimate([math.nan])["value"])
    constant = estimate([0.5] * 9, np.median)
    assert constant["low"] == constant["value"] == constant["high"] == 0.5
    infinite = estimate([30.0] * 40 + [math.inf])
    assert infinite["value"] == math.inf == infinite["high"] and infinite["low"] == 30


def test_estimate_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for k in range(200):
        found = estimate(rng.normal(1.0, 1.0, 60), seed=k)
        inside += found["low"] <= 1.0 <= found["high"]
    assert 180 <= inside <= 199


def test_paired_resamples_the_same_items():
    a = np.arange(1.0, 41.0)[:, None]
    found = paired([a, 2 * a], lambda x, y: float(x.mean() / y.mean()), repeats=200)
    assert found["low"] == found["value"] == found["high"] == 0.5, "the items' spread cancels"
    assert found["n"] == 40 and found["nan"] == 0
    gone = paired([a], lambda x: math.nan, repeats=20)
    assert math.isnan(gone["low"]) and (gone["n"], gone["nan"], gone["undefined"]) == (40, 0, 1.0)


def test_paired_leaves_out_resamples_without_a_value():
    """Of two items, one of four resamples lacks the second; the others have the ratio 1."""
    a = np.array([[0.0], [1.0]])
    found = paired([a, a], lambda x, y: float(x.mean() / y.mean()) if y.mean() else math.nan)
    assert (found["value"], found["low"], found["high"]) == (1, 1, 1)
    assert (found["n"], found["nan"]) == (2, 0) and found["undefined"] == pytest.approx(1 / 4, rel=0.15)


def test_shares_of_groups():
    share, low, high, count = clustered([[True, False], [True], [], [True, True]])
    assert (share, count) == (0.8, 5)
    assert 0.5 <= low < 0.8 < high <= 1
    assert clustered([[True] * 9] * 10) == pytest.approx((1, *wilson(10, 10), 90))
    with pytest.raises(ValueError, match="no trial"):
        clustered([[]])


def test_one_item_or_group_has_no_interval():
    for found in (
        estimate([0.5]),
        paired([np.array([[2.0]])], lambda x: float(x.mean())),
        statistics.resampled_estimate(0.5, statistics.resampled_sums(np.array([[0.5]]), 9), 1),
        dict(zip(("value", "low", "high"), clustered([[True, False]]), strict=False)),
    ):
        assert math.isfinite(found["value"]) and math.isnan(found["low"]) and math.isnan(found["high"])
    assert paired([np.array([[2.0]])], lambda x: float(x.mean()))["undefined"] == 0
    assert clustered([[True, True]])[1:3] == wilson(1, 1) != (1, 1)


def test_dependent_trials_widen_the_interval():
    alone = [[i % 2 == 0] for i in range(100)]
    together = [[i % 2 == 0] * 10 for i in range(10)]
    width = {name: np.diff(clustered(g)[1:3]).item() for name, g in (("a", alone), ("t", together))}
    assert width["t"] == pytest.approx(width["a"] * 10**0.5, rel=0.15)


# --- rank correlation --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 99], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),  # 1 - 6 * 4 / (5 * 24)
        ([1, 2, 3, 4], [1, 2, 2, 3], 0.948683),  # ties at their mean rank: 4.5 / sqrt(5 * 4.5)
        ([1, 2, 3], [7, 7, 7], 0.0),
        ([7, 7, 7], [1, 2, 3], 0.0),
        ([0, 1, 2], [0.1, 0.1 + 1e-17, 0.3 - 0.2], 0.0),  # the same but for rounding
    ],
)
def test_spearman(first, second, expected):
    assert statistics.spearman(first, second) == pytest.approx(expected, abs=1e-6)


# --- comparisons -------------------------------------------------------------------------------------------

WINS = np.array([[0.0, 3.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])


def test_win_rates():
    assert statistics.win_rates(WINS) == pytest.approx([4 / 6, 1 / 4, 1 / 2])
    assert math.isnan(statistics.win_rates(np.zeros((2, 2)))[0])


def test_bradley_terry_of_two_methods_is_the_ratio_of_their_wins():
    found = statistics.bradley_terry(np.array([[0.0, 8.0], [2.0, 0.0]]), prior=0)
    assert found == pytest.approx([2, 1 / 2])


def test_bradley_terry_recovers_strengths():
    strengths = np.array([1.0, 0.0, -1.0])
    p = 1 / (1 + np.exp(-(strengths[:, None] - strengths[None])))
    found = statistics.bradley_terry(1000 * p * (1 - np.eye(3)))
    assert np.allclose(np.diff(np.log(found)), np.diff(strengths), atol=0.05)


def test_resampled_sums_have_the_bootstraps_mean_and_spread():
    blocks = np.random.default_rng(0).normal(1, 2, (50, 3))
    sums = statistics.resampled_sums(blocks, 4000)
    assert sums.shape == (4000, 3)
    assert sums.mean(0) == pytest.approx(blocks.sum(0), rel=0.05)
    assert sums.std(0) == pytest.approx(blocks.std(0) * 50**0.5, rel=0.05)


def test_krippendorffs_alpha():
    alpha = statistics.krippendorff_alpha
    assert alpha([[1, 1], [0, 0], [-1, -1]]) == pytest.approx(1)
    # observed disagreement 4 * 8 / 8, expected 2 * 4 * 4 * 4 / (8 * 7)
    assert alpha([[1, -1], [-1, 1], [1, -1], [-1, 1]]) == pytest.approx(1 - 4 / (128 / 56))
    assert alpha([[1, 1], [1, 1]]) is None, "without any difference there is nothing to agree about"
    assert alpha([[1], [0]]) is None, "nothing was judged twice"
