"""Gram matrices of directions: known expectations on synthetic vectors, and what the verdict says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.analysis import geometry
from ditlens.analysis import hidden_directions as hidden
from ditlens.analysis.cosines import analyse, effective_dimension, gaussian_like, pairwise, rms
from ditlens.analysis.same_effect import Effect, orthogonal
from ditlens.errors import SettingError
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.worlds.world import open_world

SITE = "joint.1.image.out"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(kinds, samples, size, share, seed=0):
    """Vectors of `kinds` orthogonal directions, each with noise that leaves `share` of its squared length."""
    pure = torch.eye(kinds, size).unsqueeze(1)
    noise = normal(kinds, samples, size, seed=seed)
    return share**0.5 * pure + (1 - share) ** 0.5 * noise / noise.norm(dim=-1, keepdim=True)


def test_random_vectors_are_orthogonal_by_chance():
    for size in (50, 800):
        cosines = pairwise(normal(200, size))
        assert rms(cosines) == pytest.approx(size**-0.5, rel=0.05) and abs(cosines.mean()) < 0.02


def test_the_effective_dimension_of_known_covariances():
    assert effective_dimension(normal(3000, 20)) == pytest.approx(20, rel=0.03)
    scales = torch.tensor([3.0, 1.0, 1.0, 1.0])
    expected = float(scales.square().sum() ** 2 / scales.pow(4).sum())
    assert effective_dimension(normal(5000, 4) * scales) == pytest.approx(expected, rel=0.05)
    assert effective_dimension(torch.outer(torch.arange(5.0), torch.ones(3))) == pytest.approx(1)


def test_the_gaussian_null_has_the_covariance_of_what_it_is_like():
    given = normal(400, 6) * torch.tensor([4.0, 2.0, 1.0, 1.0, 1.0, 1.0]) + 5
    drawn = gaussian_like(given, 20000, 1)
    torch.testing.assert_close(drawn.T.cov(), given.T.cov(), rtol=0.1, atol=0.3)
    assert drawn.mean(0).abs().max() < 0.1, "without the mean"
    wide = normal(1500, 120) * torch.linspace(1, 2, 120)
    assert rms(pairwise(gaussian_like(wide, 300, 2))) == pytest.approx(
        effective_dimension(wide) ** -0.5, rel=0.05
    )


def test_cosines_within_and_between_known_directions():
    found = analyse(
        planted(6, 4, 2000, 0.5), normal(90, 2000), {"noise": normal(200, 2000)}, list("abcdef"), "somewhere"
    )
    assert found.within.mean() == pytest.approx(0.45, abs=0.06)
    assert found.matrix.shape == (6, 6) and np.diag(found.matrix) == pytest.approx(0.45, abs=0.06)
    assert found.between.mean() == pytest.approx(-0.09, abs=0.03)
    assert len(found.within) == 6 * 12 and len(found.between) == 30 * 12 and found.dimension == 2000
    assert found.ratio > 3 and found.interval[0] <= rms(found.between) <= found.interval[1]


def test_verdicts():
    far = analyse(
        planted(12, 2, 600, 0.9),
        normal(80, 9) @ normal(9, 600),
        {"noise": normal(60, 8)},
        [str(k) for k in range(12)],
        "x",
    )
    assert "less than every null: they are more orthogonal than chance" in far.verdict
    shared = planted(12, 2, 600, 0.2) + 0.4 * normal(12, 2, 3, seed=5) @ normal(3, 600, seed=6) / 25
    near = analyse(shared, normal(80, 600), {"noise": normal(60, 5000)}, [str(k) for k in range(12)], "x")
    assert "not less than any null gives: being nearly orthogonal is no evidence" in near.verdict
    effects = (
        Effect("itself", 1.0, 0.5, 1.0, 0.0, candidate=False), Effect("probe", 0.3, 0.4, 0.8, 0.0),
        Effect("probe 2", 0.0, 0.1, 0.2, 0.0), Effect("random", 0.0, 0.3, 0.6, 0.1, candidate=False),
    )  # fmt: skip
    with_effects = near.__class__(**{**vars(near), "effects": effects})
    assert (
        "1 of 2 directions orthogonal to one of them have the same effect (a random one 60% of it)"
        in with_effects.verdict
    )
    printed = repr(with_effects)
    assert "null 1: noise" in printed and "null 5" in printed and printed.endswith(with_effects.verdict)


def direction(vector, places=(0, 1)):
    return dl.Direction("smile", "by hand", torch.tensor(vector), 2.0, SITE, places, targets=("smile",))


def test_a_direction_made_orthogonal_is_as_long():
    one, other = direction([[3.0, 0.0], [0.0, 4.0]]), direction([[1.0, 1.0], [0.0, 0.0]])
    found = orthogonal(other, one)
    assert float((found.vector * one.vector).sum()) == pytest.approx(0, abs=1e-6)
    assert float(found.vector.norm()) == pytest.approx(5) and found.unit == one.unit
    with pytest.raises(SettingError, match="is parallel to"):
        orthogonal(one, one)
    with pytest.raises(SettingError, match="must act at the same tokens"):
        orthogonal(direction([[1.0, 0.0]], (0,)), one)


def cache_with(attributes, images=160, tokens=4, width=24):
    """A cache whose hidden states hold each attribute along a vector of its own."""
    values = 0.3 * normal(images, tokens, width, seed=7)
    for k, column in enumerate(attributes.values()):
        pure = torch.zeros(tokens, width)
        pure[k % tokens, k] = 1
        values += column[:, None, None] * pure
    cache = LatentCache({CacheKey(SITE, 0, "cond"): values}, [CachedItem(0, k) for k in range(images)])
    columns = {name: column.tolist() for name, column in attributes.items()}
    labelled = {"columns": property(lambda _: {"prompt": [""] * images, **columns})}
    cache.__class__ = type("Labelled", (LatentCache,), labelled)
    return cache


def test_directions_of_a_site_from_disjoint_images():
    made = cache_with({name: normal(160, seed=k) for k, name in enumerate(("smile", "age", "beard"))})
    found = dl.gram(made, site=SITE, samples=2)
    assert found.names == ("smile", "age", "beard") and found.space == SITE
    assert np.diag(found.matrix).min() > 0.7 and found.ratio > 1.5
    assert list(found.nulls) == [
        "random pairs of images",
        "same places, shuffled",
        "Gaussian, same covariance",
    ]
    with pytest.raises(SettingError, match="160 images are too few for 40 samples"):
        dl.gram(made, samples=40)
    with pytest.raises(SettingError, match="at least 2 attributes"):
        dl.gram(made, ["smile"])
    with pytest.raises(SettingError, match="samples is 1"):
        dl.gram(made, samples=1)


def with_columns(columns):
    """A cache of three attributes, and other columns beside them."""
    made = cache_with({name: normal(160, seed=k) for k, name in enumerate(("smile", "age", "beard"))})
    known = {**made.columns, **columns}
    made.__class__ = type("Labelled", (LatentCache,), {"columns": property(lambda _: known)})
    return made


def test_few_attributes_are_centred_on_all():
    """Two orthogonal directions: their own mean pushes their cosine to -1, that of many hardly moves it."""
    every = planted(16, 3, 3000, 0.8)
    alone, among = (
        analyse(every[:2], normal(60, 3000), {"noise": normal(60, 3000)}, ["a", "b"], "x", everything)
        for everything in (None, every)
    )
    assert alone.between.mean() < -0.7 and among.between.mean() == pytest.approx(-0.05, abs=0.03)


def test_few_attributes_of_a_model_and_of_a_site_are_centred_on_all(portraits, monkeypatch):
    monkeypatch.setattr(geometry, "DRAWS", 80)
    two = dl.gram(portraits, ["smile", "hat"], samples=2)
    assert (
        two.names == ("smile", "hat")
        and rms(two.between) < 0.3
        and rms(two.nulls["same places, shuffled"]) < 0.4
    )
    names = [f"a{k}" for k in range(12)]
    made = cache_with({name: normal(160, seed=k) for k, name in enumerate(names)})
    site = dl.gram(made, names[:2], samples=2)
    assert site.names == ("a0", "a1") and abs(site.between.mean()) < 0.3


def test_one_pair_has_no_interval():
    every = planted(12, 3, 2000, 0.9)
    found = analyse(every[:2], normal(60, 2000), {"noise": normal(60, 2000)}, ["a", "b"], "x", every)
    assert np.isnan(found.interval).all() and "one pair of attributes has no interval" in found.verdict
    assert "more orthogonal" not in found.verdict and "nan" not in found.verdict


@pytest.mark.parametrize("kinds", [2, 12])
def test_directions_that_do_not_agree_with_themselves_say_nothing(kinds):
    names = [str(k) for k in range(kinds)]
    found = analyse(normal(kinds, 4, 60), normal(80, 30), {"noise": normal(60, 30, seed=3)}, names, "x")
    assert not found.agrees and "do not agree with themselves" in found.verdict
    assert "orthogonal" not in found.verdict
    assert analyse(
        planted(kinds, 4, 600, 0.5), normal(80, 600), {}, names, "x", planted(20, 4, 600, 0.5)
    ).agrees


def test_attributes_known_in_few_images_are_left_out_or_refused():
    rare = [1.0, 2.0, *[None] * 158]
    made = with_columns({"rare": rare, "odd": ["yes", *["no"] * 159]})
    found = dl.gram(made, samples=2)
    assert found.names == ("smile", "age", "beard")
    assert found.notes == ("Left out, known or different in too few images: rare, odd.",)
    assert found.notes[0] in repr(found)
    with pytest.raises(SettingError, match="'rare' is known in too few images"):
        dl.gram(made, ["smile", "rare"], samples=2)
    named = dl.gram(made, ["smile", "age"], samples=2)
    assert named.notes == () and np.isfinite(named.matrix).all()


def test_of_a_study_the_measured_attributes_are_taken():
    study = dl.open_study("portraits")
    assert hidden.measured(study) == list(open_world("portraits").attributes)


def test_the_matrix_as_a_table():
    found = analyse(planted(3, 2, 50, 0.5), normal(60, 50), {"noise": normal(60, 50)}, list("abc"), "x")
    table = found.to_pandas()
    assert list(table.index) == list(table.columns) == ["a", "b", "c"]
    assert table.loc["a", "b"] == found.matrix[0, 1]


def test_probes_of_what_is_left_are_orthogonal_to_all_before():
    smile = normal(160, seed=1)
    made = cache_with({"smile": smile, "copy": smile + 0.1 * normal(160, seed=2), "age": normal(160, seed=3)})
    found = dl.orthogonal_probes(made, "smile", 2, patches=None)
    flat = torch.stack([each.vector.flatten() for each in found])
    torch.testing.assert_close(flat @ flat.T, torch.eye(3), rtol=0, atol=1e-5)


def test_the_effect_of_orthogonal_directions_is_steered_and_read(portraits):
    vectors = normal(3, 2, 64, seed=4)
    one, other, _ = (direction((v / v.norm()).tolist(), (35, 43)) for v in vectors)
    found = dl.same_effect(portraits, one, [other], 1.0, prompts="a person", seeds=[0, 1], sampling_steps=1)
    assert [each.candidate for each in found] == [False, True, False] and found[0].share == 1
    result = dl.steer(portraits, one, [1.0], prompts="a person", seeds=[0, 1], sampling_steps=1)
    assert found[0].moved == pytest.approx(np.mean([item[1] for item in result.moved()]))
    assert found[1].cosine == pytest.approx(one.cosine(other))


def test_the_figure_has_the_matrix_and_a_row_for_every_null():
    names = ["smile", "face_width", "beard"]
    figure = analyse(
        planted(3, 2, 50, 0.5), normal(60, 50), {"random pairs of texts": normal(60, 50)}, names, "texts"
    ).plot()
    matrix, nulls = figure.axes[:2]
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["smile", "face width", "beard"]
    assert len(nulls.get_yticks()) == 4 and "cosine" in nulls.get_xlabel()
