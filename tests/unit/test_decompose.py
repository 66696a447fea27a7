"""PCA and UMAP of hidden states: exact, in parts, without padding, with signs; and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.decomposition import IncrementalPCA

from ditlens.analysis import neighbours, rows
from ditlens.analysis.decompose import PCA
from ditlens.analysis.neighbours import UMAP
from ditlens.analysis.rows import blocks
from ditlens.analysis.streaming import Sums
from ditlens.errors import MissingDependencyError, NotFittedError, SettingError, SiteError
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.lens.study.run import plan_study, run_study

IMAGES, WIDTH = 6, 10


def make_cache(**options) -> LatentCache:
    """Two image sites and a text site at steps 0 and 4: 6 images of 9 patches, 4 text tokens, some padding."""
    draw = torch.Generator().manual_seed(0)
    counts = {"joint.0.image.out": 9, "joint.1.image.out": 9, "joint.0.text.out": 4}
    scale = torch.linspace(3, 0.2, WIDTH)
    tensors = {
        CacheKey(site, step, "cond"): torch.randn(IMAGES, count, WIDTH, generator=draw) * scale + step + i
        for i, (site, count) in enumerate(counts.items())
        for step in (0, 4)
    }
    mask = torch.tensor([[True, True, True, k % 2 == 0] for k in range(IMAGES)])
    items = [CachedItem(0, k, f"prompt {k}") for k in range(IMAGES)]
    return LatentCache(tensors, items, {0: (3, 3)}, {"cond": mask}, **options)


@pytest.fixture
def cache():
    return make_cache()


@pytest.fixture
def image(cache):
    return cache.select(stream="image")


@pytest.fixture(scope="module")
def study(portraits, tmp_path_factory):
    """Four prompts, step 1 of 2, both streams of the first block, whole."""
    prompts = ["a big smile", "a frown, red hair", "a man", "a woman with round glasses"]
    plan = plan_study(
        portraits, prompts, [0], "joint.0.*.out", steps=[1], reduce=None, sampling_steps=2,
        columns={"mood": [1.0, -1.0, 0.0, 0.5]},
    )  # fmt: skip
    return run_study(portraits, plan, tmp_path_factory.mktemp("study"), progress=False)


def all_rows(source: LatentCache) -> np.ndarray:
    return np.concatenate([t.reshape(-1, WIDTH).numpy() for t in source.tensors.values()])


# --- exact ------------------------------------------------------------------------------------------------


def test_equal_to_scikit_learn(image):
    view, theirs = PCA(4).fit(image), SklearnPCA(4).fit(all_rows(image).astype(float))
    assert np.allclose(view.components_, theirs.components_, atol=1e-5), "signs too"
    assert np.allclose(view.mean_, theirs.mean_, atol=1e-5)
    assert np.allclose(view.explained_variance_, theirs.explained_variance_, rtol=1e-5)
    assert np.allclose(view.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-5)
    assert (view.n_features_in_, view.n_samples_) == (WIDTH, 2 * 2 * IMAGES * 9)
    plain = view.transform(all_rows(image))
    assert plain.values("block").tolist() == [""] * 216 and "kind" in plain.to_pandas()
    ours = np.asarray(plain)
    assert np.allclose(ours, theirs.transform(all_rows(image)), atol=1e-4)


def test_as_near_as_incremental_pca_and_nearer():
    draw = np.random.default_rng(0)
    data = (draw.normal(size=(4000, 40)) * np.arange(1, 41) ** -0.7 + 100).astype(np.float32)
    exact = SklearnPCA(5, svd_solver="covariance_eigh").fit(data.astype(float)).components_
    ours, theirs = PCA(5).fit(data).components_, IncrementalPCA(5, batch_size=500).fit(data).components_
    near, far = (np.abs(np.abs(found @ exact.T) - np.eye(5)).max() for found in (ours, theirs))
    assert near < 1e-3 < far


@pytest.mark.parametrize(("kind", "said"), [("complex64", "complex64"), ("U1", "<U1"), (object, "object")])
def test_what_is_no_number_is_refused(kind, said):
    with pytest.raises(SettingError, match=f"This array holds {said}, not numbers that can be projected"):
        PCA(1).fit(np.zeros((4, 2)).astype(kind))


def test_a_far_mean_costs_no_precision():
    data = (np.random.default_rng(0).normal(size=(3000, 8)) + 3000).astype(np.float32)
    sums = Sums.of(data[:1000])
    sums += Sums.of(data[1000:])
    assert np.allclose(sums.covariance, np.cov(data.astype(float).T), atol=1e-4)


@pytest.mark.parametrize("bytes_", [1, 5_000, 1e9])
def test_parts_of_any_size_give_the_same(image, monkeypatch, bytes_):
    whole = PCA(3).fit(all_rows(image))
    monkeypatch.setattr(rows, "PART", bytes_)
    sizes = {len(block.values) for block in blocks(image)}
    assert max(sizes) == {1: 9, 5_000: 54, 1e9: 54}[bytes_]  # of one image, or of all
    parted = PCA(3).fit(image)
    assert np.allclose(parted.components_, whole.components_, atol=1e-5)
    assert np.allclose(parted.explained_variance_, whole.explained_variance_, rtol=1e-5)


def test_a_study_is_read_in_parts_and_gives_what_its_cache_gives(study):
    from_disk, in_memory = (PCA(3).fit(each.select(stream="image")) for each in (study, study.cache()))
    assert np.allclose(from_disk.components_, in_memory.components_, atol=1e-5)
    assert from_disk.n_samples_ == 4 * 64


def test_signs_do_not_depend_on_the_order():
    data = np.random.default_rng(1).normal(size=(200, 6)) * np.arange(6, 0, -1)
    for each in (data, data[::-1].copy(), -data):
        found = PCA(6).fit(each).components_
        assert (found[np.arange(6), np.abs(found).argmax(1)] > 0).all()


def test_standardised_channels_count_alike(image):
    data = all_rows(image).astype(float)
    theirs = SklearnPCA(3).fit((data - data.mean(0)) / data.std(0, ddof=1))
    view = PCA(3, scale="standardise").fit(image)
    assert np.allclose(view.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-4)
    assert np.allclose(np.asarray(view.transform(data)).var(0, ddof=1), view.explained_variance_, rtol=1e-4)
    assert "divided by each channel's deviation" in view.preprocessing


# --- which rows -------------------------------------------------------------------------------------------


def test_padding_is_left_out(cache):
    text = cache.select(stream="text")
    noisy = make_cache()
    for key, tensor in noisy.select(stream="text").tensors.items():
        tensor[~noisy.mask()] = 1e6
        assert key.site == "joint.0.text.out"
    for tokens in ("each", "mean", [1, 3]):
        clean, dirty = (
            PCA(2, tokens=tokens).fit(each.select(stream="text")).components_ for each in (text, noisy)
        )
        assert np.array_equal(clean, dirty)
    assert PCA(2).fit(text).n_samples_ == 2 * (6 * 3 + 3)
    assert "(padding of the text left out)" in repr(PCA(2).fit(text))
    cache.masks.clear()
    assert PCA(2).fit(text).n_samples_ == 2 * 6 * 4
    assert "(padding of the text not known)" in PCA(2).fit(text).preprocessing


def test_one_row_for_each_image(image):
    view = PCA(2, tokens="mean").fit(image)
    means = np.concatenate([t.mean(1).numpy() for t in image.tensors.values()])
    assert np.allclose(view.components_, SklearnPCA(2).fit(means.astype(float)).components_, atol=1e-5)
    assert "mean over the tokens of each image, which hides what lies in single ones" in view.preprocessing
    assert set(view.transform(image).labels["token"]) == {-1}


def test_some_tokens(image):
    found = PCA(2, tokens=[4, 8]).fit(image).transform(image)
    assert len(found) == 2 * 2 * IMAGES * 2 and set(found.labels["token"]) == {4, 8}
    kept = make_cache(tokens={"image": [10, 20, 30, 40, 50, 60, 70, 80, 90]}).select(stream="image")
    again = PCA(2, tokens=[50, 90]).fit(kept).transform(kept)
    assert np.array_equal(found.coordinates, again.coordinates) and set(again.labels["token"]) == {50, 90}


def test_every_row_knows_where_it_is_from(image):
    found = PCA(WIDTH).fit(image).transform(image)
    for row in (0, 100, 215):
        site, step, item, token = (found.labels[name][row] for name in ("site", "step", "item", "token"))
        values = image[str(site), int(step)][item, token]
        assert np.allclose(found.view.project(values), found.coordinates[row], atol=1e-4)
    frame = found.to_pandas()
    assert list(frame["prompt"][:2]) == ["prompt 0", "prompt 0"] and list(frame["block"])[-1] == 1
    assert np.array_equal(frame["PC2"], found.coordinates[:, 1])


def test_columns_of_the_study(study):
    found = PCA(2).fit_transform(study.select(stream="image"))
    mood = found.values("mood")
    assert mood.tolist() == [study.column("mood")[item] for item in found.labels["item"]]
    assert found.values([3, 2, 1, 0]).tolist() == [3 - item for item in found.labels["item"]]
    with pytest.raises(SettingError, match="called 'smil'. There are: site, step, .*mood, smile"):
        found.values("smil")
    with pytest.raises(SettingError, match="Got 3 values for 4 images and 256 rows"):
        found.values([1, 2, 3])


# --- one basis or several ---------------------------------------------------------------------------------


def test_one_basis_for_each_site(image):
    apart = PCA(3, joint=False).fit(image)
    for site in image.sites:
        alone = PCA(3).fit(image.select(site))
        assert np.allclose(apart.basis(site).components, alone.components_, atol=1e-5)
    assert repr(apart).count("joint.") == 4 and "one basis for each site" in repr(apart)
    found = apart.transform(image)
    here = found.labels["site"] == "joint.1.image.out"
    alone = PCA(3).fit(image.select(block=1)).transform(image.select(block=1))
    assert np.allclose(found.coordinates[here], alone.coordinates, atol=1e-4)
    with pytest.raises(NotFittedError, match=r"Say which: view.basis\('joint.0.image.out'\)"):
        apart.components_  # noqa: B018


def test_outlier_tokens_are_reported(cache):
    for key, tensor in cache.tensors.items():
        if key.site == "joint.0.text.out" and key.step == 4:
            tensor[:, 0] *= 10
    view = PCA(2).fit(cache)
    assert (
        list(view.outliers_) == [("joint.0.text.out", 0)] and 9 < view.outliers_["joint.0.text.out", 0] < 11
    )
    assert "joint.0.text.out token 0 (1" in repr(view) and view.preprocessing.endswith("1 outlier token kept")
    assert "no outlier tokens" in repr(PCA(2).fit(cache.select(stream="image")))


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: PCA(11).fit(c), "11 components were asked for, and rows have a width of 10"),
        (lambda c: PCA(3).fit(np.ones((3, 5))), "3 components need 4 rows or more; there are 3"),
        (lambda c: PCA(1).fit(np.ones((9, 5))), "All 9 rows are the same"),
        (lambda c: PCA(2).fit(np.ones((2, 3, 4))), r"has the shape \(2, 3, 4\)"),
        (lambda c: PCA(2).fit(LatentCache()), "The source is empty"),
        (lambda c: PCA(2).fit("cache"), "source is 'cache'; give a cache, a study"),
        (lambda c: PCA(0), "n_components is 0; give a whole number from 1"),
        (lambda c: PCA(2, scale="z"), "scale is 'z'; give one of 'none', 'standardise'"),
        (lambda c: PCA(2, tokens=[9]).fit(c.select(stream="image")), "Token 9 is not in joint.0.image.out"),
        (lambda c: PCA(2, tokens=[3]).fit_transform(c.select(stream="text")).values("x"), "called 'x'"),
        (lambda c: PCA(2).fit(c).transform(np.ones((5, 4))), "width of 4, .* fitted on rows of width 10"),
        (
            lambda c: PCA(2, joint=False).fit(c.select(block=0)).transform(c.select(block=1)),
            "joint.1.image.out was not fitted; there are: joint.0.text.out, joint.0.image.out",
        ),
        (lambda c: UMAP().fit(np.ones((15, 3))), "needs more than 15 rows, and there are 15"),
    ],
)
def test_refused(cache, make, message):
    with pytest.raises(SettingError, match=message):
        make(cache)


def test_values_that_are_not_finite(cache):
    cache.tensors[CacheKey("joint.1.image.out", 4, "cond")][2, 7, 0] = float("nan")
    with pytest.raises(SettingError, match="joint.1.image.out at step 4, image 2, token 7 holds NaN"):
        PCA(2).fit(cache)
    with pytest.raises(SettingError, match="Row 1 holds NaN"):
        PCA(1).fit(np.array([[1.0, 2], [np.inf, 0], [2, 1]]))


def test_widths_that_differ(cache):
    cache.tensors[CacheKey("joint.1.image.out", 4, "cond")] = torch.ones(IMAGES, 9, 3)
    with pytest.raises(
        SettingError, match="joint.1.image.out has a width of 3, and joint.0.text.out one of 10"
    ):
        PCA(2).fit(cache)


def test_tokens_that_were_reduced(cache):
    means = {key: tensor.mean(1) for key, tensor in cache.tensors.items()}
    reduced = LatentCache(means, cache.items, reduced="mean")
    assert PCA(2).fit(reduced).n_samples_ == 3 * 2 * IMAGES
    with pytest.raises(SettingError, match=r"tokens=\[1\], but joint.0.text.out has none \(mean\)"):
        PCA(2, tokens=[1]).fit(reduced)
    heads = LatentCache({CacheKey("joint.0.image.q", 0, "cond"): torch.ones(2, 3, 4, 5)}, cache.items[:2])
    with pytest.raises(SettingError, match="axes of a softmax"):
        PCA(2).fit(heads)


def test_before_it_is_fitted(cache):
    view = PCA(2)
    assert repr(view) == "PCA(2, tokens='each', scale='none', joint=True), not fitted"
    for ask in (
        lambda: view.components_,
        lambda: view.transform(cache),
        lambda: view.plot(),
        lambda: view.bases,
    ):
        with pytest.raises(NotFittedError, match=r"Type: view = dl.PCA\(...\).fit\(cache\)"):
            ask()
    with pytest.raises(SiteError):
        view.fit(cache.select(block=7))


# --- UMAP -------------------------------------------------------------------------------------------------


class FakeReducer:
    """Counts how often a map is laid out; a place is the first two components."""

    laid_out = 0

    def __init__(self, *, n_components, n_neighbors, min_dist, random_state, n_jobs):
        assert n_jobs == 1 and random_state == 0
        self.n_components = n_components

    def fit(self, data):
        type(self).laid_out += 1
        self.embedding_ = data[:, : self.n_components]
        return self

    def transform(self, data):
        return data[:, : self.n_components]


@pytest.fixture
def fake_umap(monkeypatch, tmp_path):
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeReducer))
    monkeypatch.setattr(neighbours, "user_cache", lambda name: tmp_path / name)
    monkeypatch.setattr(FakeReducer, "laid_out", 0)
    neighbours.say_that_the_first_is_slow.cache_clear()
    return tmp_path


def test_a_map_is_kept_on_disk(image, fake_umap, capsys):
    first = UMAP(n_neighbors=5).fit_transform(image)
    assert "UMAP lays out rows on one thread" in capsys.readouterr().err
    again = UMAP(n_neighbors=5).fit_transform(image)
    assert FakeReducer.laid_out == 1 and np.array_equal(first.coordinates, again.coordinates)
    assert capsys.readouterr().err == ""
    UMAP(n_neighbors=5, cache=False).fit(image)
    assert capsys.readouterr().err == ""  # it is said once
    UMAP(n_neighbors=6).fit(image)
    UMAP(n_neighbors=5).fit(image.select(step=0))
    assert FakeReducer.laid_out == 4, "other settings or rows are another map"
    for path in (fake_umap / "umap").iterdir():
        path.write_bytes(b"damaged")
    assert np.array_equal(UMAP(n_neighbors=5).fit_transform(image).coordinates, first.coordinates)


def test_a_folder_that_cannot_be_read_keeps_no_map(image, fake_umap, monkeypatch):
    def refuse(*args, **how):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "load", refuse)
    monkeypatch.setattr(Path, "is_file", refuse)
    assert len(UMAP(n_neighbors=5).fit_transform(image)) == 216 and FakeReducer.laid_out == 1


def test_a_map_starts_from_components_of_drawn_rows(image, fake_umap):
    view = UMAP(n_neighbors=5, max_rows=50).fit(image)
    found = view.transform(image)
    assert found.note == "50 of 216 rows, drawn at random" and len(found) == 50
    assert "10 principal components first; 5 neighbours, min_dist 0.1, seed 0" in view.preprocessing
    for row in (0, 49):
        site, step, item, token = (found.labels[name][row] for name in ("site", "step", "item", "token"))
        expected = view.pca_.project(image[str(site), int(step)][item, token])[:2]
        assert np.allclose(found.coordinates[row], expected, atol=1e-4)
    other = image.select(step=4, block=1)
    assert np.allclose(view.transform(other).coordinates.shape, (50, 2)), "of 54 rows"
    assert view.project(other.stack()[0, 0]).shape == (IMAGES, 9, 2)


def test_without_the_extra(image, monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(
        MissingDependencyError, match=r"pip install 'ditlens\[analysis\]'. dl.PCA works without"
    ):
        UMAP(cache=False).fit(image)


@pytest.mark.slow
def test_a_real_map_is_the_same_twice(recwarn):
    draw = np.random.default_rng(0)
    data = np.concatenate([draw.normal(size=(30, 8)), draw.normal(size=(30, 8)) + 20]).astype(np.float32)
    first, again = (np.asarray(UMAP(cache=False, n_neighbors=5).fit_transform(data)) for _ in range(2))
    assert np.array_equal(first, again) and not [w for w in recwarn if "n_jobs" in str(w.message)]
    inside = max(np.ptp(first[:30], 0).max(), np.ptp(first[30:], 0).max())
    assert np.linalg.norm(first[:30].mean(0) - first[30:].mean(0)) > inside / 2, "two heaps"
