"""Figures of components: titles, axes, colours, pictures and words; and what is refused."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image

import ditlens as dl
from ditlens.analysis.decompose import PCA
from ditlens.errors import CaptureError, SettingError, SiteError
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.lens.captures import capture
from ditlens.lens.study.run import plan_study, run_study
from ditlens.views.plots import NotebookFigure
from ditlens.views.projections import plot_scree, plot_trajectory
from ditlens.views.scatter import OKABE_ITO, OTHER, PICTURE, Colour, footer, placed, plot_projection, spread
from ditlens.views.token_maps import plot_token_map
from ditlens.views.words import plot_words

PROMPTS = ["a big smile", "a frown, red hair"]
IMAGE = Image.new("RGB", (16, 16), (200, 10, 10))


@pytest.fixture(scope="module")
def cache(portraits):
    with capture(portraits, "joint.*.{text,image}.out", steps=[0, 1]) as cache:
        portraits.sample(PROMPTS, [0, 1], steps=2)
    return cache


@pytest.fixture(scope="module")
def image(cache):
    return cache.select(stream="image")


@pytest.fixture(scope="module")
def view(image):
    return PCA(3).fit(image)


@pytest.fixture(scope="module")
def study(portraits, tmp_path_factory):
    plan = plan_study(
        portraits, PROMPTS, [0, 1], "joint.*.image.out", steps=[0, 1], reduce=None, sampling_steps=2
    )
    return run_study(portraits, plan, tmp_path_factory.mktemp("study"), progress=False)


def small_print(figure) -> str:
    return figure.get_supxlabel().replace("\n", "; ")


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# --- token maps -------------------------------------------------------------------------------------------


def test_token_maps_by_step_and_block(view, image):
    figure = plot_token_map(view, image, image=IMAGE)
    first, *panels = (ax for ax in figure.axes if ax.images)
    assert first.get_title() == "image" and first.images[0].get_array()[0, 0].tolist() == [200, 10, 10]
    assert [ax.get_title() for ax in panels] == ["block 0", "block 1", "", ""]
    assert [ax.get_ylabel() for ax in panels] == ["step 0", "", "step 1", ""]
    shares = " + ".join(f"{100 * share:.0f} %" for share in view.explained_variance_ratio_)
    assert f"red, green, blue explain {shares} of the variance" in small_print(figure)
    assert "percentile over all panels; every patch a row; centred, not scaled; one basis" in small_print(
        figure
    )


def test_blocks_that_were_fitted_are_shown(image, cache):
    view = PCA(3).fit(image.select(block=1, step=1))
    assert [ax.get_title() for ax in plot_token_map(view, cache, step=0).axes] == ["block 1"]
    assert len(plot_token_map(view, cache, step=0, block=[0, 1]).axes) == 2


def test_colours_are_components_where_the_patches_lie(view, image):
    figure = plot_token_map(view, image, item=1)
    shown = {
        place: ax.images[0].get_array()
        for place, ax in zip(itertools.product((0, 1), (0, 1)), figure.axes, strict=True)
    }
    values = {
        (step, block): view.project(image[f"joint.{block}.image.out", step][1]) for step, block in shown
    }
    low, high = np.percentile(np.concatenate(list(values.values())), (1, 99), axis=0)
    for place, colours in shown.items():
        assert colours.shape == (8, 8, 3)
        expected = np.clip((values[place] - low) / (high - low), 0, 1)
        assert np.allclose(colours.reshape(64, 3), expected, atol=1e-5)
        assert np.allclose(colours[2, 5], expected[21], atol=1e-5), "row by row"


def test_a_study_shows_its_own_image(study):
    figure = plot_token_map(PCA(3, joint=False).fit(study), study, step=1, block=1, item=3)
    assert [ax.get_title() for ax in figure.axes] == ["image", "block 1"]
    assert np.array_equal(figure.axes[0].images[0].get_array(), np.asarray(study.image(3)))
    assert "colours of different blocks do not compare" in figure.get_supxlabel().replace("\n", " ")
    assert figure.get_suptitle() == "PCA of image 3: components 1 to 3 as red, green and blue"


def test_token_maps_that_cannot_be(view, image, cache, study, portraits, tmp_path):
    for ask, error, message in [
        (lambda: plot_token_map(PCA(2).fit(image), image), SettingError, r"this view has 2. Fit dl.PCA\(3\)"),
        (lambda: plot_token_map(view, image, step=5), SiteError, "Nothing in this cache fits"),
        (
            lambda: plot_token_map(view, image, item=2),
            CaptureError,
            "item is 2, and this cache holds 2 images",
        ),
        (
            lambda: plot_token_map(view, study, item=4),
            CaptureError,
            "item is 4, and this study holds 4 images",
        ),
        (lambda: plot_token_map(view, cache.select(stream="text")), SiteError, "Nothing in this cache fits"),
        (lambda: plot_token_map(image, view), SettingError, "view is of type LatentCache; give a fitted PCA"),
    ]:
        with pytest.raises(error, match=message):
            ask()
    plan = plan_study(portraits, PROMPTS, [0], "joint.*.image.out", reduce="mean", sampling_steps=1)
    means = run_study(portraits, plan, tmp_path, progress=False)
    with pytest.raises(
        CaptureError, match="keeps no tokens, only their mean: .* Capture one with reduce=None"
    ):
        plot_token_map(view, means)
    kept = dl.open_study("portraits").select(stream="image")
    with pytest.raises(
        CaptureError,
        match="only 11 were kept here: 12, 19, .* one that has all, .*'portraits-patches'",
    ):
        plot_token_map(view, kept)
    tensors = {CacheKey("joint.0.image.out", step, "cond"): torch.rand(1, 4, 64) for step in range(61)}
    blocks = {CacheKey(f"joint.{k}.image.out", 0, "cond"): torch.rand(1, 4, 64) for k in range(13)}
    with pytest.raises(
        SettingError, match="That would be 13 panels side by side, and more than 12 are too small"
    ):
        plot_token_map(view, LatentCache(blocks, [CachedItem(0, 0)], {0: (2, 2)}), block=list(range(13)))
    with pytest.raises(SettingError, match="That would be 61 panels"):
        plot_token_map(view, LatentCache(tensors, [CachedItem(0, 0)], {0: (2, 2)}))


# --- scatter ----------------------------------------------------------------------------------------------


def test_scatter_of_words_and_numbers(view, image):
    projection = view.transform(image)
    figure = plot_projection(projection, "prompt", components=[1, 3])
    (ax,) = figure.axes
    assert legend(figure) == PROMPTS and figure.legends[0].get_title().get_text() == "prompt"
    third = 100 * view.explained_variance_ratio_[2]
    assert ax.get_ylabel() == f"PC3 ({third:.0f} % of the variance)"
    points = ax.collections[0]
    assert len(points.get_offsets()) == 2 * 2 * 2 * 64
    where = {
        tuple(np.round(xy, 4)): to_hex(c)
        for xy, c in zip(points.get_offsets().data, points.get_facecolors(), strict=True)
    }
    for row in (0, 200, 300, 500):
        place = tuple(np.round(projection.coordinates[row][[0, 2]].astype(float), 4))
        assert where[place] == OKABE_ITO[projection.labels["item"][row]].lower()
    bar = view.plot("block").axes[-1]
    assert bar.get_ylabel() == "block" and list(bar.get_ylim()) == [0, 1]
    assert view.plot().get_suptitle() == "PCA of 2 sites, 2 steps, 2 images"


def test_a_panel_for_each_basis(image):
    figure = PCA(2, joint=False).fit(image).plot("step")
    assert [ax.get_title() for ax in figure.axes[:2]] == ["joint.0.image.out", "joint.1.image.out"]
    assert figure.get_suptitle() == "PCA of 2 sites, 2 steps, 2 images, coloured by step"


def test_pictures_in_place_of_points(study):
    means = (
        PCA(2, tokens="mean").fit(study.select(block=1, step=[1])).transform(study.select(block=1, step=[1]))
    )
    boxes = [a for a in plot_projection(means, "smile").axes[0].artists if isinstance(a, AnnotationBbox)]
    assert 1 <= len(boxes) <= 4
    places = [tuple(map(float, box.xy)) for box in boxes]
    row = [tuple(map(float, xy)) for xy in means.coordinates].index(places[0])
    shown = boxes[0].offsetbox.get_data()
    expected = np.asarray(study.image(int(means.labels["item"][row])).resize((96, 96)))
    assert np.abs(np.asarray(shown, float) - expected).mean() < 1
    assert not plot_projection(means, thumbnails=False).axes[0].artists
    given = plot_projection(means, thumbnails=[IMAGE] * 4).axes[0].artists
    assert given and (np.asarray(given[0].offsetbox.get_data())[0, 0] == [200, 10, 10]).all()
    with pytest.raises(SettingError, match="Got 1 images for 4 items; give one each"):
        plot_projection(means, thumbnails=[IMAGE])


def test_scatters_that_cannot_be(view, image):
    projection = view.transform(image)
    for options, message in [
        ({"color": "smil"}, "Nothing here is called 'smil'. There are: site, step, pass"),
        ({"components": [1, 4]}, r"components=\[1, 4\]: give two numbers from 1 to 3"),
        ({"thumbnails": True}, "Only a study keeps images. For a cache, give them"),
    ]:
        with pytest.raises(SettingError, match=message):
            plot_projection(projection, **options)
    one = PCA(1).fit(image)
    with pytest.raises(SettingError, match="fit one with two or more"):
        one.plot()


def test_colours():
    rare = Colour(np.asarray([f"w{k}" for k in range(10) for _ in range(10 - k)] + [None], object), "kind")
    assert list(rare.legend) == [f"w{k}" for k in range(8)] + ["2 others"]
    assert to_hex(rare.of(np.array([0]))[0]) == OKABE_ITO[0].lower()
    assert [to_hex(c) for c in rare.of(np.array([54, 55]))] == [OTHER.lower()] * 2
    numbers = Colour(np.asarray([-1.0, 0.0, 3.0, None], object), "smile")
    assert numbers.mappable.norm.vmin == -1 and numbers.mappable.norm.vmax == 3
    assert to_hex(numbers.of(np.arange(4))[3]) == OTHER.lower()
    assert not Colour(np.asarray([True, False]), "hat").continuous
    holes = Colour(np.asarray([np.nan, 2.0, np.inf, 4.0]), "smile")
    assert (holes.mappable.norm.vmin, holes.mappable.norm.vmax) == (2, 4) and holes.unknown.tolist() == [
        1,
        0,
        1,
        0,
    ]


@pytest.mark.filterwarnings("error")
def test_values_that_nobody_knows_are_grey():
    colour = Colour(np.full(3, np.nan), "smile")
    assert colour.unknown.all() and not colour.continuous
    assert {to_hex(each) for each in colour.of(np.arange(3))} == {OTHER.lower()}


def test_spread_points_are_apart():
    points = np.random.default_rng(0).uniform(0, 5, (500, 2))
    chosen = points[spread(points, 0.6, 40)]
    apart = np.abs(chosen[:, None] - chosen[None]).max(-1) + np.eye(len(chosen)) * 9
    assert len(chosen) > 25 and apart.min() >= 0.6


def test_a_third_of_the_points_are_pictures_that_shrink_in_a_crowd():
    grid = np.array([[x, y] for x in range(4) for y in range(3)], float)
    places, side = placed(grid)
    assert len(places) == 4 and side == PICTURE
    assert len(placed(grid[:2])[0]) == 1, "one at least"
    heap = np.random.default_rng(0).uniform(0, 0.3, (30, 2))
    assert placed(np.concatenate([heap, grid]))[1] < PICTURE


def test_pictures_stay_within_the_axes(study):
    view = PCA(2, tokens="mean").fit(study.select(block=1, step=[1]))
    figure = plot_projection(view.transform(study.select(block=1, step=[1])), "smile")
    figure.savefig(io.BytesIO())  # lays it out
    ax = figure.axes[0]
    inside, boxes = ax.get_window_extent(), [a.get_window_extent() for a in ax.artists]
    assert boxes and all(inside.x0 <= b.x0 and b.x1 <= inside.x1 for b in boxes)
    assert all(inside.y0 <= b.y0 and b.y1 <= inside.y1 for b in boxes)


def test_small_print_is_no_wider_than_its_figure():
    figure = NotebookFigure(figsize=(6.5, 3))
    footer(figure, "; ".join(["some words of a caption"] * 9), "one part that is longer than a line " * 4)
    lines = figure.get_supxlabel().split("\n")
    assert len(lines) > 3 and max(map(len, lines)) <= 91


# --- steps, words, variance -------------------------------------------------------------------------------


def test_the_way_of_a_patch(view, image, study):
    figure = plot_trajectory(view, image, token=21, components=[2, 1])
    assert [ax.get_title() for ax in figure.axes] == ["block 0", "block 1"]
    assert legend(figure) == ["image 0", "image 1"]
    line, start, end = figure.axes[1].lines[:3]
    expected = view.project(image["joint.1.image.out"][:, 0, 21])[:, [1, 0]]
    assert np.allclose(line.get_xydata(), expected, atol=1e-5)
    assert np.allclose(start.get_xydata(), expected[:1], atol=1e-5) and start.get_mfc() == "white"
    assert np.allclose(end.get_xydata(), expected[-1:], atol=1e-5)
    assert figure.get_suptitle() == "The way of patch 21, step 0 (ring) to step 1 (dot)"
    coloured = plot_trajectory(view, study, token=21, items=[1, 3], color="smile")
    assert coloured.axes[-1].get_ylabel() == "smile" and len(coloured.axes[0].lines) == 6


def test_the_way_of_a_word(cache):
    text = cache.select(stream="text", block=0)
    view = PCA(2).fit(text)
    figure = plot_trajectory(view, text, token="smile", items=[0])
    (places,) = {tuple(found) for found in cache.words("smile").values()}
    mean = text["joint.0.text.out"][:, 0, list(places)].mean(1)
    assert np.allclose(figure.axes[0].lines[0].get_xydata(), view.project(mean), atol=1e-4)
    assert figure.get_suptitle().startswith("The way of “smile”")


def test_ways_that_cannot_be(view, image, cache, study):
    text = cache.select(stream="text", block=0)
    for ask, message in [
        (lambda: plot_trajectory(view, image.select(step=0), token=1), "this source has 1 step"),
        (lambda: plot_trajectory(view, cache, token=1), "this source has both streams"),
        (
            lambda: plot_trajectory(view, image, token="frown"),
            "“frown” is a word, and words lie in the text stream",
        ),
        (lambda: plot_trajectory(view, image, token=64), "Token 64 is not in joint.0.image.out"),
        (lambda: plot_trajectory(view, image, token=1, items=[2]), "items has 2, and there are 2 images"),
        (lambda: plot_trajectory(view, study, token="smile"), "A study does not know where its words lie"),
        (lambda: plot_trajectory(view, text, token=7, items=[0]), "Text token 7 of image 0 is padding"),
        (
            lambda: plot_trajectory(view, image, token=1, color="mood"),
            "no column 'mood'. There are: item, prompt",
        ),
    ]:
        with pytest.raises(SettingError, match=message):
            ask()


def test_words_stand_beside_their_tokens(cache):
    text = cache.select(stream="text")
    view = PCA(2).fit(text)
    figure = plot_words(view, text, step=1, block=0, item=1)
    (ax,) = figure.axes
    (frown,) = {places[0] for places in cache.words("frown", 1).values()}
    found = {text.get_text(): text.xy for text in ax.texts}
    assert set(found) <= {"a", "frown", "red", "hair"} and len(found) >= 2
    shown = sum(len(points.get_offsets()) for points in ax.collections)
    assert shown == int(cache.mask()[1].sum()), "no padding"
    expected = view.project(text["joint.0.text.out", 1][1, frown])
    assert np.allclose(found.get("frown", expected), expected, atol=1e-5)
    assert figure.get_suptitle() == "Words of “a frown, red hair”, step 1"
    assert "grey dots: tokens of no word, such as commas, start and end" in figure.get_supxlabel()


def test_words_of_the_image_are_refused(view, image):
    with pytest.raises(SiteError, match="Nothing in this cache fits stream='text', step=1. It holds:"):
        plot_words(view, image, step=1)


def test_scree(view, image):
    figure = plot_scree(view)
    (ax,) = figure.axes
    heights = [bar.get_height() for bar in ax.patches]
    assert np.allclose(heights, 100 * view.explained_variance_ratio_)
    assert np.allclose(ax.lines[0].get_ydata()[-1], 100 * view.explained_variance_ratio_.sum())
    assert ax.get_ylabel() == "share of the variance (%)"
    assert legend(plot_scree(PCA(2, joint=False).fit(image))) == ["joint.0.image.out", "joint.1.image.out"]
