"""Probes: what is planted is found, where it is planted; the controls control; nothing is shared between folds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.analysis.design import design
from ditlens.analysis.directions import direction
from ditlens.analysis.probes import probe
from ditlens.analysis.ridge import PENALTIES, predict, splits
from ditlens.analysis.targets import Target
from ditlens.errors import SettingError, SiteError, StudyError
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.shards import write_item
from ditlens.worlds.world import open_world

WIDTH, PATCHES = 6, 4


def study_of(folder, states, labels, *, seeds=None, carriers=None, paired=True, tokens=None):
    """A study on disk: ``states[site]`` is (images, steps, tokens, width), `labels` a value for each image."""
    count = len(labels)
    prompts = [f"prompt {k}" for k in range(count if paired else count // len(seeds))]
    settings = {"paired": True} if paired else {}
    settings |= {"tokens": tokens} if tokens else {}
    columns = {} if carriers is None else {"carrier": carriers}
    manifest = Manifest(
        "planted", "0", tuple(prompts), tuple(seeds or range(count)), settings, columns=columns
    )
    manifest.begin(folder)
    for k, item in enumerate(manifest.items):
        steps = range(next(iter(states.values())).shape[1])
        tensors = {
            CacheKey(s, t, "cond"): torch.tensor(x[k, t])[None] for s, x in states.items() for t in steps
        }
        cache = LatentCache(tensors=tensors, items=[CachedItem(0, 0)], grids={0: (2, 2)})
        write_item(folder, *item, cache, manifest.key, measured={"smile": labels[k]})
    return dl.open_study(folder)


def noise(count, steps=2, tokens=PATCHES, seed=0):
    return np.random.default_rng(seed).normal(size=(count, steps, tokens, WIDTH)).astype("float32")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """In block 1, at step 1, patch 2 shows the label with noise: R² is 0.8; each patch's mean is nothing."""
    rng = np.random.default_rng(1)
    labels = rng.normal(size=200)
    states = {
        f"joint.{k}.image.{point}": noise(200, seed=k) for k, point in ((0, "in"), (1, "out"), (2, "out"))
    }
    shown = labels + rng.normal(size=200) * 0.5  # R² = 1 / (1 + 0.25) = 0.8
    states["joint.1.image.out"][:, 1, 2, 3] = shown
    states["joint.1.image.out"][:, 1, 1, 3] = -3 * shown  # drowns it in the mean of the patches
    states["joint.1.image.out"][:, 1, 1, 3] += 40 * rng.normal(size=200)
    return study_of(
        tmp_path_factory.mktemp("planted"), states, labels.tolist(), carriers=[k % 10 for k in range(200)]
    )


def test_what_is_planted_is_found_where_it_is(planted):
    found = probe(planted, "smile")
    best = found.best()
    assert (best.site, best.step, best.token) == ("joint.1.image.out", 1, 2)
    assert 0.7 < best.score.value < 0.88
    assert best.score.low < 0.8 < best.score.high
    others = [cell.score.value for cell in found.cells if cell is not best]
    assert len(others) == 3 * 2 * (PATCHES + 1) - 1 and max(others) < 0.25
    assert best.selectivity.low > 0.5 and best.over_latents.low > 0.5
    assert math.isnan(best.over_text.value) and math.isnan(best.over_untrained.value)
    assert "Not compared with the text alone: capture joint.0.text.in, too." in found.notes


def test_the_mean_that_hides_a_patch_is_named(planted):
    said = repr(probe(planted, "smile"))
    assert "The mean over patches hides it: " in said and "at patch 2 of joint.1.image.out." in said
    pooled = probe(planted, "smile", tokens="mean")
    assert not any("hides" in note for note in pooled.notes)
    assert pooled.best().score.value < 0.2


def test_a_mean_that_hides_nothing_is_not_accused(tmp_path):
    states = {"joint.1.image.out": noise(100, steps=1)}
    labels = np.random.default_rng(2).normal(size=100)
    states["joint.1.image.out"][..., 0] += 3 * labels[:, None, None]
    found = probe(study_of(tmp_path, states, labels.tolist()), "smile")
    assert found.best(token="mean").score.value > 0.9
    assert not any("hides" in note for note in found.notes)


def test_reading_is_narrowed(planted):
    found = probe(planted, "smile", sites="joint.2.image.out", steps=1, tokens=[2, 0])
    assert [(c.site, c.step, c.token) for c in found.cells] == [
        (site, 1, token) for site in ("joint.0.image.in", "joint.2.image.out") for token in (0, 2)
    ]
    latents = found.best("joint.0.image.in")
    assert latents.over_latents.value == min(latents.score.value, 0) <= 0, (
        "guessing is the least of a control"
    )
    together = probe(planted, "smile", sites="joint.1.image.out", steps=1, tokens="best:2")
    assert together.best().token == "best 2" and together.best().score.value > 0.65


def test_an_untrained_network_is_compared(planted):
    found = probe(planted, "smile", sites="joint.1.image.out", steps=1, untrained=planted)
    assert found.best().over_untrained == (0.0, 0.0, 0.0)


def test_a_label_of_the_carrier_only_is_not_selective(tmp_path):
    """Each image shows its carrier and nothing else; the label is the carrier's, so a probe can only memorise."""
    carriers = [k % 8 for k in range(160)]
    states = {"joint.1.image.out": 0.1 * noise(160, steps=1, tokens=1)}
    states["joint.1.image.out"][:, 0, 0, :] += np.random.default_rng(5).normal(size=(8, WIDTH))[carriers]
    labels = np.random.default_rng(7).normal(size=8)[carriers]
    found = probe(study_of(tmp_path, states, labels.tolist(), carriers=carriers), "smile", folds=4).best()
    assert found.control > 0.4, "random labels of carriers can be memorised"
    assert found.selectivity.value < 0.05
    assert found.score.value < 0.4, "a carrier that was not seen tells nothing"


def test_categories_are_classified_and_hidden_ones_left_out(tmp_path):
    rng = np.random.default_rng(3)
    kinds = rng.choice(["none", "round", "square"], 150, p=[0.6, 0.2, 0.2])
    states = {"joint.1.image.out": noise(150, steps=1)}
    for k, kind in enumerate(("none", "round", "square")):
        states["joint.1.image.out"][kinds == kind, 0, 1, k] += 6
    labels = [None if k < 10 else kind for k, kind in enumerate(kinds.tolist())]
    found = probe(study_of(tmp_path, states, labels), "smile")
    assert found.measure == "balanced accuracy" and found.chance == pytest.approx(1 / 3)
    assert found.best().token == 1 and found.best().score.value > 0.97
    assert found.images == 140 and found.notes[0] == "smile is unknown for 10 images, left out here."
    assert found.best().control == pytest.approx(1 / 3, abs=0.15)


def test_a_cache_and_own_values_are_read():
    values = torch.from_numpy(noise(60, steps=1)[:, 0])
    labels = values[:, 3, 2] + 1
    cache = LatentCache(
        tensors={CacheKey("joint.1.image.out", 0, "cond"): values}, grids={0: (2, 2)},
        items=[CachedItem(0, k, f"{k}") for k in range(60)],
    )  # fmt: skip
    found = probe(cache, labels.tolist(), folds=4)
    assert found.best().token == 3 and found.best().score.value > 0.99
    assert found.target == "target"


# --- folds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crossed", [False, True])
def test_no_fold_shares_a_prompt_a_carrier_or_a_seed(crossed):
    if crossed:  # 12 prompts of 6 carriers, each with 3 seeds
        prompts, seeds = map(list, zip(*itertools.product(range(12), range(3)), strict=True))
        carriers = [p % 6 for p in prompts]
    else:
        prompts, seeds, carriers = list(range(40)), list(range(40)), [k % 8 for k in range(40)]
    made = splits([prompts, carriers], seeds, 5, np.random.default_rng(0))
    for split in made:
        assert split.test.any() and split.fit.any() and split.choose.any()
        assert not (split.fit & split.choose).any()
        assert ((split.fit | split.choose) == split.train).all()
        for labels in (prompts, carriers, seeds):
            tested, trained = (set(np.array(labels)[mask]) for mask in (split.test, split.train))
            assert not tested & trained
    tested = np.sum([split.test for split in made], 0)
    assert tested.max() == 1 and (crossed or tested.min() == 1)


def test_one_seed_for_all_is_said(tmp_path):
    states, labels = {"joint.1.image.out": noise(30, steps=1)}, np.random.default_rng(4).normal(size=30)
    found = probe(study_of(tmp_path, states, labels.tolist(), seeds=[0], paired=False), "smile")
    assert "All images have the same seed, which so could not be held out." in found.notes
    assert any("control task has nothing to memorise" in note for note in found.notes)


def test_ridge_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, 80, 5)), rng.normal(size=(80, 1))
    y[:, 0] += x[1, :, 2]
    split = splits([list(range(80))], list(range(80)), 4, rng)[0]
    ours = predict(torch.tensor(x), torch.tensor(y).float(), torch.ones(80), [0], [split])[..., 0].numpy()
    for cell in range(2):
        scaled = (x[cell] - x[cell].mean(0)) / x[cell].std(0)
        models = [Ridge(alpha=p * split.fit.sum()).fit(scaled[split.fit], y[split.fit]) for p in PENALTIES]
        errors = [((m.predict(scaled[split.choose]).ravel() - y[split.choose, 0]) ** 2).sum() for m in models]
        last = Ridge(alpha=PENALTIES[int(np.argmin(errors))] * split.train.sum()).fit(
            scaled[split.train], y[split.train]
        )
        assert ours[cell, split.test] == pytest.approx(last.predict(scaled[split.test]).ravel(), abs=1e-4)
        assert np.isnan(ours[cell, ~split.test]).all()


def test_more_channels_than_images_change_nothing():
    rng = np.random.default_rng(8)
    x = torch.tensor(rng.normal(size=(1, 40, 300))).float()
    y = x[0, :, :1] * 2 + x[0, :, 1:2]
    made = splits([list(range(40))], list(range(40)), 4, rng)
    wide = predict(x, y, torch.ones(40), [0], made)
    scaled = (x - x.mean(1)) / x.std(1, unbiased=False)
    kernel = scaled[0] @ scaled[0].T
    values, vectors = torch.linalg.eigh(kernel)
    narrow = (vectors * values.clamp_min(0).sqrt())[None] @ torch.linalg.qr(torch.randn(40, 40))[0]
    from ditlens.analysis import ridge

    usual, ridge.standardised = ridge.standardised, lambda v: v
    try:
        same = predict(narrow, y, torch.ones(40), [0], made)
    finally:
        ridge.standardised = usual
    assert wide.numpy() == pytest.approx(same.numpy(), abs=2e-2)


def test_scores_count_what_they_should():
    draws = np.ones((1, 4))
    number = Target.of("x", [0.0, 1.0, 2.0, 5.0])
    assert number.score(number.columns.numpy()[None], np.arange(4), draws)[0, 0] == pytest.approx(1)
    assert number.score(np.zeros((1, 4, 1)), np.arange(4), draws)[0, 0] == pytest.approx(0)
    kind = Target.of("x", ["a", "a", "a", "b"])
    always_a = np.array([[[1.0, 0.0]] * 4])
    assert kind.score(always_a, np.arange(4), draws)[0, 0] == 0.5  # plain accuracy would be 0.75
    assert kind.weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


# --- what is refused ---------------------------------------------------------------------------------------


def test_wrong_calls_are_refused(planted):
    with pytest.raises(StudyError, match="no column 'smlie' to probe. There are: prompt, "):
        probe(planted, "smlie")
    with pytest.raises(SettingError, match="target has 3 values for 200 images"):
        probe(planted, [1.0, 2.0, 3.0])
    with pytest.raises(SettingError, match="target does not vary: 200 images have it, with the values"):
        probe(planted, [1.0] * 200)
    with pytest.raises(SettingError, match="cannot be split into 12 folds .* carrier sentence .* 10 groups"):
        probe(planted, "smile", folds=12)
    with pytest.raises(SettingError, match="tokens has 9, which the study has not: it has 0-3"):
        probe(planted, "smile", tokens=[0, 9])
    with pytest.raises(SettingError, match="tokens is 'all'; give 'each', 'mean', 'best:4'"):
        probe(planted, "smile", tokens="all")
    with pytest.raises(SiteError, match="'joint.5.image.out' fits no site"):
        probe(planted, "smile", sites="joint.5.image.out")
    with pytest.raises(SettingError, match="has no cell with site=None, step=7"):
        probe(planted, "smile", tokens="mean").best(step=7)


# --- design ------------------------------------------------------------------------------------------------


def test_missing_values_are_left_out(planted):
    values = planted.column("smile")
    holes = dict(enumerate([None, math.nan, math.inf, -math.inf, np.float32("inf"), "", " "]))
    found = probe(
        planted, [holes.get(k, v) for k, v in enumerate(values)], sites="joint.1.image.out", steps=1
    )
    assert found.images == 193 and found.notes[0] == "target is unknown for 7 images, left out here."
    assert found.measure == "R²" and found.best().token == 2
    assert found.plot().axes
    with pytest.raises(SettingError, match="target is unknown for all of these images"):
        probe(planted, [None] * 200)


def test_values_may_come_in_a_tensor_or_an_array(planted):
    values, narrow = planted.column("smile"), {"sites": "joint.1.image.out", "steps": 1}
    expected = probe(planted, "smile", **narrow).to_pandas()
    for given in (torch.tensor(values, dtype=torch.float64), [*torch.tensor(values, dtype=torch.float64)]):
        assert probe(planted, given, **narrow).measure == "R²"
        assert probe(planted, given, **narrow).to_pandas().equals(expected)
    for column in (np.array(values)[:, None], [[value] for value in values]):
        with pytest.raises(
            SettingError, match=r"target holds 1 values for image 0; give one .* target\[:, 0\]"
        ):
            probe(planted, column)


def test_states_that_are_not_finite_are_named(tmp_path):
    states = noise(20, 1)
    states[7, 0, 2, 0] = math.nan
    study = study_of(tmp_path, {"joint.1.image.out": states}, [float(k) for k in range(20)])
    for ask in (lambda: probe(study, "smile"), lambda: direction(study, "smile", site="joint.1.image.out")):
        with pytest.raises(SettingError, match="joint.1.image.out at step 0, image 7 holds NaN or infinity"):
            ask()


def test_a_class_needs_prompts_in_training_and_test(planted, tmp_path):
    names = [f"class {k % 10}" for k in range(200)]  # one carrier each
    with pytest.raises(SettingError, match="No class can be both .*'class 0'.* at least two prompts of each"):
        probe(planted, names, tokens="mean")
    for name in ("carrier", "prompt_number", "seed"):  # numbers that are names
        with pytest.raises(SettingError, match="No class can be both in training and in test, e.g. '"):
            probe(planted, name, tokens="mean")
    study = study_of(tmp_path, {"joint.1.image.out": noise(20, 1)}, ["a", "b"] * 9 + ["b", "c"])
    (note,) = (note for note in probe(study, "smile").notes if "Never" in note)
    assert note == "Never both in training and in test, and so never recognised: c."


@pytest.mark.filterwarnings("error")
def test_few_images_have_wide_intervals_and_no_warning(tmp_path):
    study = study_of(tmp_path, {"joint.1.image.out": noise(5, 1)}, [0.3, -0.2, 0.9, 0.5, -1.0])
    best = probe(study, "smile").best()
    assert best.score.low <= best.score.value <= best.score.high and math.isfinite(best.score.low)


def test_more_best_tokens_than_there_are(planted):
    with pytest.raises(
        SettingError, match="'best:99', but joint.0.image.in has 4 .* tokens='best:4', or fewer"
    ):
        probe(planted, "smile", tokens="best:99")


def test_a_design_names_every_level_equally_often_and_independently():
    world = open_world("portraits")
    made = design(world, 400, seed=1)
    columns = made.columns
    named = {name.removeprefix("named "): values for name, values in columns.items() if name != "carrier"}
    assert list(named) == list(world.attributes) and len(set(made.seeds)) == 400
    counts = [named["smile"].count(level.name) for level in world.attributes["smile"].levels]
    assert counts == [28] * 5  # 35 % of 400 among 5 levels
    assert [columns["carrier"].count(k) for k in range(20)] == [20] * 20
    for k in (0, 7, 399):
        said = world.wanted("a portrait of a person", made.prompts[k])
        there = {name: values[k] for name, values in named.items() if values[k] is not None}
        assert set(said) <= set(there) and len(there) - len(said) <= 2  # what rests is no change
    table = np.array([[values[k] is not None for k in range(400)] for values in named.values()], float)
    strongest = np.abs(np.corrcoef(table) - np.eye(18)).max()
    assert strongest < 0.2
    assert design(world, 400, seed=1) == made
    hidden = [k for k in range(400) if named["glasses"][k] == "sunglasses"]
    assert hidden and not any(named["gaze"][k] or named["eye_open"][k] for k in hidden)


def test_a_design_needs_a_world():
    with pytest.raises(SettingError, match="world is None; give a world, model.world"):
        design(None, 3)


# --- the shipped studies -----------------------------------------------------------------------------------


def test_the_shipped_studies_are_whole_small_and_named():
    studies = [dl.open_study(name) for name in ("portraits", "portraits-patches")]
    assert [len(study) for study in studies] == [320, 200] and not any(study.missing for study in studies)
    assert sum(path.stat().st_size for s in studies for path in s.folder.rglob("*")) < 15e6
    assert studies[0].select(items=studies[0].items[:5]).verify() == []
    assert studies[0].columns["prompt"][:200] == studies[1].columns["prompt"]
    behind = [k for k, value in enumerate(studies[0].column("glasses")) if value == "sunglasses"]
    assert behind and {studies[0].column("gaze")[k] for k in behind} == {None}


def test_a_class_finds_the_smile_at_the_mouth():
    found = probe(dl.open_study("portraits-patches"), "smile")
    assert found.best().token == 43 and found.best().score.value > 0.85
    assert sum(cell.score.value > 0.3 for cell in found.cells) <= 4, "the four patches of the mouth"
    assert found.best(token="mean").score.value < 0.3


def test_an_untrained_twin_is_seen_and_the_trained_one_followed(portraits):
    blank = dl.untrained(portraits, seed=3)
    caches = []
    for model in (portraits, blank):
        with dl.capture(model, "joint.1.image.out") as cache:
            image = model.generate("a man", seed=1, steps=2)
        caches.append((cache, image))
    (trained, first), (random, second) = caches
    assert first.tobytes() == second.tobytes()
    assert random.steps == trained.steps == [0, 1] and random.passes == ["cond"]
    assert not torch.allclose(random["joint.1.image.out"], trained["joint.1.image.out"], atol=0.1)
    assert blank.transformer is not portraits.transformer and blank.vae is portraits.vae
    assert blank.name == f"untrained {portraits.name}" and blank.world is portraits.world
    same, other = (dl.untrained(portraits, seed).transformer.state_dict() for seed in (3, 4))
    mine = blank.transformer.state_dict()
    assert all(torch.equal(mine[name], same[name]) for name in mine)
    assert not all(torch.equal(mine[name], other[name]) for name in mine)
