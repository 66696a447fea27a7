"""Figures of probes show the numbers that were measured, in their places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ditlens.analysis.probes import UNKNOWN, Interval, Probe, ProbeCell
from ditlens.errors import SettingError
from ditlens.lens.cache import LatentCache


def probe_of(tokens, sites=("joint.0.image.in", "joint.1.image.out"), steps=(0, 5)):
    """A probe whose scores count up from 0.00 in steps of 0.01."""
    places = [(site, step, token) for site in sites for step in steps for token in tokens]
    cells = [
        ProbeCell(*place, Interval(k / 100, k / 100, k / 100), 0.0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
        for k, place in enumerate(places)
    ]
    source = LatentCache(grids={0: (2, 3)})
    return Probe("eye_open", "R²", tuple(cells), ("joint.0.image.in",), 9, 0.0, source=source)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_map_shows_the_best_token_and_the_mean():
    figure = probe_of([0, 1, "mean"]).plot()
    best, mean, bar, _ = figure.axes
    assert texts(best) == ["0.01", "0.04", "0.07", "0.10"] and texts(mean) == ["0.02", "0.05", "0.08", "0.11"]
    assert [label.get_text() for label in best.get_yticklabels()] == ["noisy latents", "block 1 image"]
    assert [label.get_text() for label in best.get_xticklabels()] == ["0", "5"]
    assert figure.get_suptitle() == "Where eye open can be read linearly, 9 images"
    assert "R²" in bar.get_ylabel()


def test_patches_lie_where_they_are_in_the_image():
    found = probe_of(list(range(6)))
    values = found.plot_patches(block=1, step=0).axes[0].images[-1].get_array()
    assert np.asarray(values).tolist() == pytest.approx(np.arange(12, 18).reshape(2, 3) / 100)
    assert "joint.1.image.out, step 5" in found.plot_patches().get_suptitle()


def test_a_picture_of_patches_needs_all_of_them():
    with pytest.raises(SettingError, match="this probe has 2 of 2x3. Probe a study with all image tokens"):
        probe_of([0, 1]).plot_patches(block=1)
    with pytest.raises(SettingError, match="needs all of them: this probe has 2"):
        probe_of([0, 1]).plot_patches()
    with pytest.raises(SettingError, match="at block 4: this probe has 0"):
        probe_of(list(range(6))).plot_patches(block=4)


@pytest.mark.parametrize("measure", ["R²", "balanced accuracy"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_label_of_the_colours_stays_beside_them(rows, measure):
    sites = [f"joint.{k}.image.out" for k in range(rows)]
    figure = replace(probe_of([0, "mean"], sites), measure=measure).plot()
    figure.draw_without_rendering()
    label = figure.axes[-1].yaxis.label.get_window_extent()
    assert label.y0 >= 0 and label.y1 < figure._suptitle.get_window_extent().y0
