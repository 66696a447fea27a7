"""Masks: read from anything, shrunk without losing a pixel, refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ditlens.ems.masks import changed_rows, latent_mask, read_mask
from ditlens.errors import ImageError, SettingError


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
        (np.full((4, 4), 7.0), "divide a picture by 255"),
        (np.ones((4, 4, 3)), r"got the shape \(4, 4, 3\)"),
        (np.ones(4), r"got the shape \(4,\)"),
    ):
        with pytest.raises(SettingError, match=words):
            read_mask(mask)
    with pytest.raises(ImageError):
        read_mask(tmp_path / "missing.png")


def test_changed_rows_of_a_pair():
    from ditlens.ems.manipulate import TextEmbedding

    def text(words):
        return TextEmbedding(torch.zeros(1, 8, 2), torch.zeros(1, 2), None, (words,))

    vocabulary = {w: i for i, w in enumerate("a small wide smile with glasses".split())}

    def tokenize(words):
        return [99, *(vocabulary[w] for w in words.split()), 98]

    rows = changed_rows(text("a small smile"), text("a wide smile with glasses"), tokenize)
    assert rows == ([2], [2, 4, 5])
    assert changed_rows(text("a smile"), text("a smile"), tokenize) == ([], [])
