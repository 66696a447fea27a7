"""Masks: read from anything, shrunk without losing a pixel, refused with a reason."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ditlens import images
from ditlens.ems.masks import (
    TOGETHER,
    as_png,
    difference_mask,
    difference_settings,
    given_mask,
    latent_mask,
    read_mask,
)
from ditlens.errors import ImageError, SettingError
from ditlens.worlds.analytic import GaussianWorld


def square(side: int = 32) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[8:9, 8:24] = 255
    return mask


@pytest.mark.parametrize(
    "make",
    [
        lambda m, _: m,
        lambda m, _: Image.fromarray(m),
        lambda m, _: Image.fromarray(m).convert("RGBA"),
        lambda m, _: torch.from_numpy(m).bool(),
        lambda m, _: torch.from_numpy(m)[None, None].float() / 255,
        lambda m, _: m.astype(bool),
        lambda m, path: (Image.fromarray(m).save(path / "m.png"), path / "m.png")[1],
        lambda m, path: (Image.fromarray(m).save(path / "m.png"), str(path / "m.png"))[1],
    ],
)
def test_every_form_is_the_same_mask(make, tmp_path):
    found = read_mask(make(square(), tmp_path))
    assert found.shape == (1, 1, 32, 32)
    assert torch.equal(found[0, 0] > 0, torch.from_numpy(square() > 0)) and found.max() == 1


def test_a_cell_changes_if_one_of_its_pixels_may():
    small = latent_mask(square(), (4, 4))
    expected = torch.zeros(4, 4)
    expected[1, 1:3] = 1
    assert torch.equal(small[0, 0], expected)
    grown = latent_mask(square(), (4, 4), grow=1)
    assert grown[0, 0].sum() == 12 and grown[0, 0, 3].sum() == 0
    assert latent_mask(square(48), (7, 5)).shape == (1, 1, 7, 5)


def test_refusals(tmp_path):
    for mask, words in (
        (np.zeros((4, 4)), "0 everywhere"),
        (np.full((4, 4), 7.0), "divide an image by 255"),
        (np.ones((4, 4, 3)), r"got the shape \(4, 4, 3\)"),
        (np.ones(4), r"got the shape \(4,\)"),
    ):
        with pytest.raises(SettingError, match=words):
            read_mask(mask)
    with pytest.raises(ImageError):
        read_mask(tmp_path / "missing.png")


def test_an_empty_file_is_named(tmp_path):
    path = tmp_path / "black.png"
    Image.new("L", (8, 8)).save(path)
    for form in (path, str(path)):
        with pytest.raises(SettingError, match=f"The mask {path} is 0 everywhere"):
            read_mask(form)


# --- a mask of the picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (301, 97), (77, 78), (128, 128), (1, 5)])
@pytest.mark.parametrize("shape", [(128, 128), (96, 48)])
def test_a_picture_is_cut_as_pillow_does(size, shape):
    from PIL import ImageOps

    picture = Image.effect_noise(size, 60).convert("RGB")
    wanted = ImageOps.fit(picture, shape, Image.Resampling.LANCZOS)
    assert np.array_equal(images.fit(picture, *shape), wanted)


def test_a_mask_is_cut_like_its_picture():
    picture = np.full((100, 300), 255, np.uint8)
    picture[25:50, 125:150] = 0  # in the middle 100 x 100, and there cells 4 to 7 of 16
    fitted = images.fit(Image.fromarray(picture), 128, 128)
    assert np.asarray(fitted)[34:62, 34:62].max() < 30
    mask = given_mask(255 - picture, (300, 100), (128, 128), (16, 16))
    expected = torch.zeros(16, 16)
    expected[4:8, 4:8] = 1
    assert torch.equal(mask[0, 0], expected)
    half = given_mask((255 - picture)[::2, ::2], (300, 100), (128, 128), (16, 16))
    assert torch.equal(half[0, 0, 5:7, 5:7], torch.ones(2, 2)) and half.sum() <= 36
    line = np.zeros((100, 300), bool)
    line[:, 199] = True  # the last column that the model sees
    assert given_mask(line, (300, 100), (128, 128), (16, 16))[0, 0].sum(0).tolist() == [0] * 15 + [16]


@pytest.mark.parametrize("side", [16, 128, 512])
def test_a_mask_of_what_the_model_sees_stays(side):
    mask = np.zeros((side, side), np.uint8)
    mask[: side // 2, : side // 4] = 255
    found = given_mask(mask, (300, 100), (128, 128), (16, 16))
    expected = torch.zeros(16, 16)
    expected[:8, :4] = 1
    assert torch.equal(found[0, 0], expected)
    square = torch.rand(1, 1, 128, 128)
    assert images.fit_mask(square, (300, 100), (128, 128)) is square


def test_a_mask_of_another_picture_is_refused():
    with pytest.raises(SettingError, match="30 x 40 pixels.*300 x 100.*128 x 128.*source_image"):
        given_mask(np.ones((40, 30)), (300, 100), (128, 128), (16, 16))
    aside = np.zeros((100, 300), bool)
    aside[:, :90] = True
    with pytest.raises(SettingError, match="0 in all that the model sees"):
        given_mask(aside, (300, 100), (128, 128), (16, 16))


def test_a_written_mask_is_the_same_mask(tmp_path):
    soft = given_mask(torch.rand(128, 128), (128, 128), (128, 128), (16, 16))
    (tmp_path / "mask.png").write_bytes(as_png(soft))
    assert torch.equal(given_mask(tmp_path / "mask.png", (300, 100), (128, 128), (16, 16)), soft)


def change(size: float, rows: slice) -> torch.Tensor:
    """A text of the Gaussian world that wants other pictures in some rows: it shows as another velocity there."""
    text = torch.zeros(1, 2, 10, 10)
    text[:, :, rows] = size
    return text


def test_each_change_has_a_mask_of_its_own_scale():
    field, clean, source = GaussianWorld(), torch.zeros(1, 2, 10, 10), torch.zeros(1, 2, 10, 10)
    shirt, wrinkles = change(8.0, slice(7, 10)), change(1.2, slice(0, 2))
    at_once = difference_mask(field, clean, source, [shirt + wrinkles])
    apart = difference_mask(field, clean, source, [shirt, wrinkles])
    assert torch.equal(at_once[0, 0, 7:], torch.ones(3, 10)), "the large change is free either way"
    assert torch.allclose(at_once[0, 0, :2], torch.tensor((1.2 / 8 - 0.05) / 0.15)), (
        "the small one only in part"
    )
    assert torch.equal(apart[0, 0, :2], torch.ones(2, 10)) and torch.equal(apart[0, 0, 7:], torch.ones(3, 10))
    assert not apart[0, 0, 2:7].any(), "between them nothing may change"


def test_a_change_at_a_twentieth_of_another_has_its_mask():
    field, clean, source = GaussianWorld(), torch.zeros(1, 2, 10, 10), torch.zeros(1, 2, 10, 10)
    found = difference_mask(field, clean, source, [change(8.0, slice(7, 10)), change(0.4, slice(0, 2))])
    assert torch.equal(found[0, 0, :2], torch.ones(2, 10)), "age or a tilted head, beside another shirt"


def test_the_same_in_other_words_is_no_change():
    field, clean, source = GaussianWorld(), torch.zeros(1, 2, 10, 10), torch.zeros(1, 2, 10, 10)
    shirt, synonym = change(8.0, slice(7, 10)), change(0.1, slice(0, 10))
    assert torch.equal(
        difference_mask(field, clean, source, [shirt, synonym]),
        difference_mask(field, clean, source, [shirt]),
    )
    with pytest.raises(SettingError, match="at least one target"):
        difference_mask(field, clean, source, [])


def test_the_settings_are_all_that_a_mask_is_made_with():
    settings = difference_settings()
    assert settings == {"level": 0.8, "draws": 4, "edge": [0.05, 0.2], "least": 0.03}
    settings["low"], settings["high"] = settings.pop("edge")
    knobs = {
        name: knob.default
        for name, knob in inspect.signature(difference_mask).parameters.items()
        if knob.kind is knob.KEYWORD_ONLY
    }
    assert knobs == {**settings, "seed": 0}


def test_a_recipe_has_the_settings_of_a_mask_from_the_difference_only(portraits):
    from ditlens.ems.plan import EditSettings, make_plan

    def recipe(mask):
        texts = {"source_text": "a red shirt", "target_text": "a blue shirt"}
        settings = EditSettings(mask=mask, **texts)
        return make_plan(portraits, Image.new("RGB", (128, 128), "white"), settings=settings).recipe(1.0)

    stored = json.loads(json.dumps(recipe("difference")))
    assert stored["mask_settings"] == difference_settings()
    for other in ("none", "exact", square(128)):
        assert "mask_settings" not in recipe(other)


def test_a_mask_for_every_picture_of_a_batch():
    field, clean = GaussianWorld(), torch.zeros(2, 2, 10, 10)
    target = torch.cat([change(1.0, slice(0, 2)), change(5.0, slice(8, 10))])
    found = difference_mask(field, clean, torch.zeros(1, 2, 10, 10), [target])
    assert found.shape == (2, 1, 10, 10)
    assert found[0, 0, :2].all() and not found[0, 0, 2:].any()
    assert found[1, 0, 8:].all() and not found[1, 0, :8].any()


def test_many_changes_are_looked_at_in_calls_of_bounded_size():
    sizes = []

    def field(latents, sigma, text):
        sizes.append(len(latents))
        return GaussianWorld()(latents, sigma, text)

    clean, source = torch.zeros(1, 2, 10, 10), torch.zeros(1, 2, 10, 10)
    rows = [change(3.0, slice(k, k + 1)) for k in range(0, 10, 2)]
    found = difference_mask(field, clean, source, rows, draws=2)
    assert sizes == 2 * [TOGETHER, 1 + len(rows) - TOGETHER]
    assert found[0, 0, ::2].all() and not found[0, 0, 1::2].any()
