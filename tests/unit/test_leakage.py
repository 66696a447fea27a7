"""The leakage classifier: planted signals of known size, and what it takes from the attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

import ditlens as dl
from ditlens.analysis.channels import (
    CELLS,
    Contrast,
    Run,
    from_keys,
    mean_of,
    token_mask,
    written,
)
from ditlens.analysis.classifying import classify, size_of
from ditlens.analysis.leakage import Leakage, LeakageRow
from ditlens.analysis.prompts import carrier, swapped
from ditlens.errors import ModelError, SettingError


def cells(carriers: int) -> tuple[np.ndarray, np.ndarray]:
    levels = np.array(CELLS * carriers)
    return levels[:, 0], levels[:, 1]


def test_a_planted_leak_has_its_known_accuracy():
    """Two unit Gaussians whose means are 2 apart are told apart with accuracy Phi(1) = 0.84."""
    a, b = cells(250)
    rng = np.random.default_rng(0)
    features = np.stack([2.0 * a, 20.0 * b], 1) + rng.normal(size=(len(a), 2))
    leak, own, shuffled = classify(features, a, b)
    assert leak["value"] == pytest.approx(norm.cdf(1), abs=0.03)
    assert leak["low"] < norm.cdf(1) < leak["high"] and leak["n"] == 1000
    assert own["value"] == 1.0 and 0.98 < own["low"] < 1
    assert shuffled["value"] == pytest.approx(0.5, abs=0.01) and shuffled["high"] < 0.55


def test_no_leak_is_chance_also_with_more_features_than_prompts():
    a, b = cells(24)
    features = np.random.default_rng(1).normal(size=(96, 2000))
    features[:, :40] += 3 * b[:, None]
    leak, own, shuffled = classify(features, a, b)
    assert leak["low"] <= 0.5 <= leak["high"] and own["value"] > 0.95
    assert shuffled["low"] <= leak["value"] <= shuffled["high"]


def test_what_holds_within_a_carrier_only_is_no_leak():
    """A classifier that saw the carrier would be right always: here A moves every carrier elsewhere."""
    a, b = cells(40)
    rng = np.random.default_rng(2)
    features = np.repeat(rng.normal(size=(40, 300)), 4, 0) * (2 * a - 1)[:, None]
    assert classify(features, a, b)[0]["value"] == pytest.approx(0.5, abs=0.15)


def test_equal_features_are_exactly_chance():
    a, b = cells(8)
    leak, own, _ = classify(np.stack([b, b], 1) * 1.0, a, b)
    assert leak["value"] == 0.5 and own["value"] == 1.0


def test_the_size_of_a_leak_is_the_ratio_of_both_moves():
    a, b = cells(30)
    rng = np.random.default_rng(3)
    carriers = np.repeat(10 * rng.normal(size=(30, 50)), 4, 0)
    of_a, of_b = rng.normal(size=(2, 50))
    of_a, of_b = of_a / np.linalg.norm(of_a), of_b / np.linalg.norm(of_b)
    features = carriers + 0.2 * a[:, None] * of_a + 2 * b[:, None] * of_b
    size = size_of(features)
    assert (size["value"], size["low"], size["high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert size_of(features, side=1)["value"] == pytest.approx(10)
    assert size_of(carriers + 2 * b[:, None] * of_b)["value"] == pytest.approx(0, abs=1e-9), "exactly none"


def test_the_parts_of_all_keys_add_up_to_the_attention(portraits):
    sites = "joint.1.image.attn.to_{text,image}", "joint.1.{text,image}.v", "joint.1.image.attn.out"
    with dl.capture(portraits, sites, steps=[0], heads="all") as cache:
        portraits.sample(["a big smile", "a crown"], [0, 1], steps=1)
    every = {
        s: torch.ones(2, cache[f"joint.1.{s}.v", 0].shape[1], dtype=torch.bool) for s in ("text", "image")
    }
    parts = {
        s: from_keys(cache[f"joint.1.image.attn.to_{s}", 0], cache[f"joint.1.{s}.v", 0], mask)
        for s, mask in every.items()
    }
    out = portraits.transformer.transformer_blocks[1].attn.to_out[0](parts["text"] + parts["image"])
    assert torch.allclose(out, cache["joint.1.image.attn.out", 0], atol=1e-5)
    some = torch.zeros_like(every["text"])
    some[:, 3] = True
    weights, values = cache["joint.1.image.attn.to_text", 0], cache["joint.1.text.v", 0]
    taken = from_keys(weights, values, some)
    width = values.shape[-1] // weights.shape[1]
    assert torch.allclose(taken[0, 5, :width], weights[0, 0, 5, 3] * values[0, 3, :width])


def test_means_are_over_the_chosen_tokens():
    values = torch.arange(12.0).reshape(2, 3, 2)
    assert mean_of(values, token_mask([[0, 2], [1]], 3)).tolist() == [[2.0, 3.0], [8.0, 9.0]]


def test_prompts_are_balanced_and_their_phrases_found(portraits):
    smile, hat = Contrast("smile", ("a big frown", "a big smile")), Contrast("hat", ("no hat", "a cap"))
    prompts, tokens = written(portraits, ["{b}, red hair, {a}"], smile, hat)
    assert prompts == [f"{h}, red hair, {s}" for s in smile.phrases for h in hat.phrases]
    assert tokens["hat"] == [[1, 2]] * 4 and tokens["smile"] == [[7, 8, 9]] * 4  # 0 is the start mark
    written_by_world = carrier(portraits.world, "smile", "hat", 5)
    assert written_by_world.index("{a}") < written_by_world.index("{b}")
    assert "smile" not in written_by_world and "hat" not in written_by_world
    assert swapped(swapped(written_by_world)) == written_by_world


def test_the_embedding_knows_what_came_before_and_not_what_comes_after(portraits):
    found = dl.leakage(portraits, "smile", "hat", carriers=8, steps=(0,), sampling_steps=2, stream="text")
    first, second = (found.select(block="embedding", order=order)[0] for order in ("before", "after"))
    assert first.leak["value"] > 0.9 and second.leak["value"] == 0.5
    assert first.own["value"] == second.own["value"] == 1.0
    assert found.blocks == ["joint.0", "joint.1"] and len(found.rows) == 2 * 3
    assert "smile from hat" in repr(found) and "8 carriers, pooled vector as it is" in repr(found)


def test_a_shared_pooled_vector_closes_that_way(portraits):
    smile, hat = Contrast("smile", ("a big frown", "a big smile")), Contrast("hat", ("no hat", "a cap"))
    moved, shares = {}, []
    for pooled in (True, False):
        run = Run(portraits, ("text",), [0], 2, 1.0, pooled)
        with dl.capture(portraits, "joint.0.text.v", steps=[0]) as cache:
            run(["{b}, {a}"], [0], smile, hat, shares.append)
        values = cache["joint.0.text.v", 0][
            :, 1:3
        ]  # tokens of the hat, which do not see the smile behind them
        moved[pooled] = float((values[0] - values[2]).abs().max())  # the smile changes, the hat does not
    assert moved[True] > 1e-4 and moved[False] < 1e-6


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 96, "nan": 0}


def test_many_pairs_make_a_matrix_for_each_block_and_figures():
    names = ("smile", "hat", "age")
    rows = [
        LeakageRow(
            s, i, order, where, block, step, estimate(0.5 + names.index(s) / 10), estimate(1), *[estimate(0.5)] * 2
        )
        for s in names for i in names if s != i for order in ("before", "after")
        for where, block, step in (("text", "embedding", -1), ("text", "joint.0", 0), ("image", "joint.0", 0))
    ]  # fmt: skip
    found = Leakage(names, tuple(rows), {"carriers": 24, "pooled": True})
    matrix = found.matrix("joint.0", "image")
    assert np.isnan(np.diag(matrix)).all() and matrix[2, 0] == pytest.approx(0.7) and matrix[0, 1] == 0.5
    assert found.plot().axes[0].get_title() == "text embedding"
    pair = [row for row in rows if {row.source, row.into} == {"smile", "hat"} and row.source == "smile"]
    two = Leakage(("smile", "hat"), tuple(pair), {"carriers": 24, "pooled": True})
    assert [ax.get_title() for ax in two.plot().axes][:2] == [
        "text stream, A before B",
        "image stream, A before B",
    ]
    low = [row._replace(shuffled={**estimate(0.3), "low": 0.12}) for row in pair]
    figure = Leakage(("smile", "hat"), tuple(low), {"carriers": 24, "pooled": True}).plot()
    assert all(ax.get_ylim()[0] < 0.12 for ax in figure.axes), "the axis shows the whole band"
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert len(dashed) == 1 and dashed[0].zorder > max(line.zorder for line in figure.axes[0].lines[:2])
    assert len(two.to_pandas()) == len(pair) and two.to_pandas()["leak_high"].max() == pytest.approx(0.6)
    with pytest.raises(SettingError, match="There is no row with {'block': 'joint.9'}"):
        found.select(block="joint.9")


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("smile",), {}, "Give two attributes"),
        ((["smile"],), {}, "Give two attributes"),
        (("smile", "smile"), {}, "cannot leak into itself"),
        (("smile", "hat"), {"carriers": 3}, "needs at least 4"),
        (("smile", "hat"), {"carriers": ["{a} only"]}, "needs {a} and {b} once each"),
        (("smile", "hat"), {"carriers": ["{a}, {b}"]}, "at least 4 different carriers"),
        (("smile", "hat"), {"steps": (0, 8)}, "steps go from 0 to 7"),
        (("smile", 3), {}, "give an attribute, e.g. 'smile', or two phrases"),
    ],
)
def test_wrong_arguments_are_refused_in_words(portraits, arguments, settings, message):
    with pytest.raises(SettingError, match=message):
        dl.leakage(portraits, *arguments, **settings)


def test_models_without_a_world_take_phrases_and_carriers(portraits):
    plain = dl.Model(portraits.pipe)
    with pytest.raises(ModelError, match="no attributes by name. Give two phrases"):
        dl.leakage(plain, "smile", "hat")
    smile, hat = ("a big smile", "a big frown"), ("no hat", "a cap")
    said = [f"{{a}}, {each} hair, {{b}}" for each in ("red", "grey", "pink", "black")]
    found = dl.leakage(
        plain, smile, hat, carriers=said, steps=(0,), sampling_steps=1, guidance=1, stream="text"
    )
    assert found.names == ("a big smile / a big frown", "no hat / a cap") and found.recipe["carriers"] == 4
