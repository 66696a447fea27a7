"""Our reading of SDE: exact on Gaussian worlds, and its curves from planted distances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.analysis.counterfactuals import counterfactuals
from ditlens.analysis.prompts import ends_of
from ditlens.analysis.regenerate import DISTANCES, away, compare, regenerate, renoise, tail
from ditlens.analysis.sde import SDE
from ditlens.errors import SettingError, UnknownAttributeError
from ditlens.worlds.analytic import TwoFactorWorld

SHAPE = (1, 4, 4)
UPPER = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
UPPER[..., :2, :] = 1  # where A lies; B lies below, unless it is turned


def regenerated(world: TwoFactorWorld, texts: list[torch.Tensor], sigma: float = 0.7) -> list[torch.Tensor]:
    """One image of text (1, 1), brought to a noise level and sampled under each text."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    x = world.text(1.0, 1.0) + world.std * torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    levels = tail(dl.flow.sigmas_linear(6), sigma)
    point = renoise(world, x, noise, levels, texts[0])
    return [x, *(regenerate(world, point, levels, text, None, 1.0) for text in texts)]


def test_an_edit_of_one_factor_leaves_the_other_untouched():
    world = TwoFactorWorld(0.5, SHAPE)
    x, own, result, other = regenerated(world, [world.text(1, 1), world.text(-1, 1), world.text(1, 3)])
    found = compare(x, None, UPPER, own, result, other, DISTANCES["squared"])
    assert (found["outside"] == 0).all(), "exactly"
    assert (found["inside"] > 1e-3).all()
    assert found["random"] == pytest.approx(found["inside"]), "the same step along B lies outside, wholly"
    assert np.isnan(found["swap"]).all()


@pytest.mark.parametrize("angle", [0, 20, 45, 70])
def test_the_leak_grows_by_the_known_amount_as_factors_are_turned_together(angle):
    world = TwoFactorWorld(0.5, SHAPE, angle)
    x, own, result, other = regenerated(world, [world.text(1, 1), world.text(1, -1), world.text(3, 1)])
    found = compare(x, x, 1 - UPPER, own, result, other, DISTANCES["squared"])
    share = found["outside"] / (found["inside"] + found["outside"])
    assert share == pytest.approx(np.full(3, np.sin(np.radians(angle)) ** 2), abs=1e-12)
    # a step as long along A lies outside, wholly: D = 1 - leak / random = cos^2
    assert 1 - found["outside"] / found["random"] == pytest.approx(np.cos(np.radians(angle)) ** 2)


def test_pure_noise_follows_the_text_and_little_noise_the_image():
    world = TwoFactorWorld(0.1, SHAPE)
    texts = [world.text(1, 1), world.text(-1, 1)]
    answer = {}
    for sigma in (0.05, 1.0):
        x, own, result = regenerated(world, texts, sigma)
        exact = x + texts[1] - texts[0]
        found = compare(x, exact, UPPER, own, result, own, DISTANCES["squared"])
        answer[sigma] = 1 - found["swap"].mean() / found["gap"].mean()
    assert answer[1.0] > 0.9 and answer[0.05] < 0.6


def test_an_inversion_comes_back_to_the_image_where_noise_does_not():
    world = TwoFactorWorld(0.5, SHAPE)
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    levels, text = tail(dl.flow.sigmas_linear(200), 0.9), world.text(0, 0)
    loss = {}
    for start in ("noise", "inversion"):
        point = renoise(world, x, torch.ones_like(x), levels, text, start)
        loss[start] = float((regenerate(world, point, levels, text, None, 1.0) - x).square().mean())
    assert loss["inversion"] < 1e-3 < 0.1 < loss["noise"]


def test_the_random_text_is_as_far_away_as_the_target(portraits):
    own, target, other = portraits.encode_text(
        ["a big smile", "a big frown", "a crown, pink hair, stubble"]
    ).split()
    moved = away(own, target, other)
    assert float((moved.tokens - own.tokens).norm()) == pytest.approx(
        float((target.tokens - own.tokens).norm()), rel=1e-4
    )
    assert float((moved.pooled - own.pooled).norm()) == pytest.approx(
        float((target.pooled - own.pooled).norm()), rel=1e-4
    )
    along = torch.cosine_similarity(
        (moved.tokens - own.tokens).flatten(), (other.tokens - own.tokens).flatten(), 0
    )
    assert float(along) == pytest.approx(1, abs=1e-4)


def planted(**change: np.ndarray) -> SDE:
    """Four images in two groups that agree, at two noise levels."""
    base = {"own": [0.1, 0.2], "inside": [0.3, 0.4], "outside": [0.1, 0.1], "random": [0.2, 0.4],
            "keep": [0.5, 0.6], "swap": [0.2, 0.1], "gap": [0.4, 0.4]}  # fmt: skip
    values = {("text", name): np.tile(each, (4, 1)) for name, each in base.items()}
    values |= {("joint", name): each for (_, name), each in values.items()}
    values["joint", "swap"] = np.tile([0.1, 0.1], (4, 1))
    values |= {("text", name): each for name, each in change.items()}
    recipe = {"distance": "squared"}
    return SDE("smile", (0.5, 1.0), ("text", "joint"), values, np.array([0, 0, 1, 1]), 0.0, {}, recipe)


def test_curves_areas_and_differences_of_planted_distances():
    found = planted()
    names = ["faithfulness", "strength", "leak", "keep", "locality", "effectiveness", "decomposability"]
    assert found.curves == names
    assert [each["value"] for each in found.curve("locality")] == pytest.approx([0.75, 0.8])
    assert [each["value"] for each in found.curve("effectiveness")] == pytest.approx([0.5, 0.75])
    assert [each["value"] for each in found.curve("decomposability")] == pytest.approx([0.5, 0.75])
    assert found.area("effectiveness")["value"] == pytest.approx(0.625)
    best = found.best("effectiveness", "joint", versus="text")
    assert best == pytest.approx({"value": 0, "low": 0, "high": 0, "n": 2, "nan": 0})
    assert found.area("effectiveness", "joint", versus="text")["value"] == pytest.approx(0.125)
    assert "SDE-recon (our reading of SDE) of 'smile': 4 images in 2 groups" in repr(found)


def test_intervals_are_over_groups_not_images():
    swap = np.array([[0.0, 0], [0.4, 0.4], [0.0, 0], [0.4, 0.4]])  # both groups have the mean 0.2
    each = planted(swap=swap).curve("effectiveness")[0]
    assert (each["value"], each["low"], each["high"], each["n"]) == pytest.approx((0.5, 0.5, 0.5, 2))
    assert repr(planted(swap=swap)).endswith(
        "2 groups: intervals of so few are too narrow, and hold the truth in 80 % of cases at best."
    )
    assert planted(swap=np.sort(swap, 0)).curve("effectiveness")[0]["low"] < 0.1


def test_one_group_has_no_interval():
    found = replace(planted(), groups=np.zeros(4, int))
    for each in (found.curve("effectiveness")[0], found.area("effectiveness"), found.best("leak")):
        assert np.isnan([each["low"], each["high"]]).all() and np.isfinite(each["value"]) and each["n"] == 1
    assert "0.50 (–)" in repr(found)


def test_images_in_which_the_attribute_cannot_be_seen_do_not_count():
    effect = np.array([[np.nan, 1.0], [0.2, 1.0], [0.4, 1.0], [0.6, 1.0]])
    found = planted(effect=effect)
    first, second = found.curve("effect")
    assert (first["value"], first["nan"]) == (pytest.approx(0.4), 1)  # groups: 0.2, and 0.4 with 0.6
    assert (first["low"], first["high"]) == pytest.approx((0.2, 0.5))
    assert second == pytest.approx({"value": 1, "low": 1, "high": 1, "n": 2, "nan": 0})
    assert "smile cannot be seen in 1 of 8 images (text): these do not count in the effect." in repr(found)
    assert planted().notes == []


def test_what_was_not_measured_is_refused_in_words():
    found = planted(outside=np.full((4, 2), np.nan))
    assert "leak" in found.measured("joint") and "leak" not in found.measured("text")
    with pytest.raises(
        SettingError, match="'leak' of 'text' was not measured. There are, for text: faithfulness"
    ):
        found.curve("leak")
    with pytest.raises(SettingError, match="'keep' of 'image' was not measured"):
        found.best("keep", "image")


def test_counterfactuals_differ_in_one_attribute_only(portraits):
    there, back = counterfactuals(portraits, "hat", ("cap", "crown"), count=1, seed=3)
    assert there.wanted == {"hat": 3} and back.wanted == {"hat": 1}
    assert torch.equal(there.draw(), back.image()) and not torch.equal(there.image(), back.image())
    outside = 1 - there.mask
    assert float(((there.image() - back.image()) * outside).abs().max()) < 1e-3
    assert portraits.world.wanted(there.source_text, there.target_text) == {"hat": 3}
    assert "cap" in there.source_text and "crown" in there.target_text


def test_all_settings_of_a_model(portraits):
    move = dl.OdeEdit("mine", steps=2)
    found = dl.sde(
        portraits,
        "smile",
        count=2,
        sigmas=(1.0, 0.5),
        settings=("text", "image", "joint"),
        sampling_steps=2,
        move=move,
    )
    assert found.sigmas == (0.5, 1.0) and found.recipe["move"] == "mine"
    assert {"effect", "drift", "effectiveness", "decomposability"} <= set(found.curves)
    own = found.values["text", "own"]
    assert np.array_equal(own, found.values["image", "own"]), "the reconstruction is the same for all"
    assert not np.array_equal(found.values["text", "swap"], found.values["joint", "swap"])
    assert found.values["image", "inside"][:, 1] == pytest.approx(0, abs=1e-9), (
        "of pure noise nothing is left of z"
    )
    total = found.values["text", "inside"] + found.values["text", "outside"]
    assert (total > 0).all()
    table = found.to_pandas()
    assert "decomposability" not in found.measured("image")
    assert len(table) == (9 + 8 + 8) * 2 and list(table.columns) == [
        "setting",
        "curve",
        "sigma",
        "value",
        "low",
        "high",
        "n",
    ]
    assert found.plot().axes[0].get_ylabel().startswith("effectiveness")


def test_given_images_have_the_single_image_form_only(portraits):
    images = portraits.world.draw(portraits.world.sample(2, 0), portraits.side)
    edits = [(image[None], "no hat", "a crown") for image in images]
    found = dl.sde(portraits, edits, sigmas=(0.5,), sampling_steps=2, distance="ssim")
    assert found.curves == ["faithfulness", "strength", "keep"]
    assert found.name == "2 edits" and found.groups.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("what", "settings", "message"),
    [
        ("smlie", {}, "no attribute 'smlie'. Use one of: smile, "),
        ("smile", {"count": 1}, "Give two people or edits at least"),
        ("smile", {"sigmas": (0.0, 1.0)}, "give a noise level above 0 and up to 1"),
        ("smile", {"settings": ("both",)}, "give one of 'text', 'image', 'joint', or a list"),
        ("smile", {"between": ("a grin", 1)}, "are not two levels of 'smile'. It has: 'a big frown', "),
        ("smile", {"distance": "lpips"}, "give one of 'squared', 'ssim'"),
        ([("a.png", "no hat")], {}, "a list of edits: of \\(image, its text"),
    ],
)
def test_wrong_arguments_are_refused_in_words(portraits, what, settings, message):
    with pytest.raises((SettingError, UnknownAttributeError), match=message):
        dl.sde(portraits, what, **settings)


def test_ends_of_attributes(portraits):
    world = portraits.world
    assert ends_of(world, "smile") == (0, 4) and ends_of(world, "glasses") == (0, 1)
    with pytest.raises(SettingError, match="not two levels of 'hat'"):
        ends_of(world, "hat", (1, 1))
