"""The renderer: deterministic, differentiable, the same at every resolution, and honest about what it changes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    CATEGORICAL,
    CONTINUOUS,
    NAMES,
    Categorical,
    neutral,
    sample,
    take,
)
from ditlens.worlds.portraits.render import change_mask, render

# Nothing at a kink of its scale, everything to be seen.
PLAIN = {"beard": 0.3, "mouth_open": 0.4, "hair_length": 0.52, "age": 0.5, "skin_tone": 0.3, "gaze": 0.3,
         "head_tilt": 0.3, "face_width": 0.2, "smile": 0.3, "brow_tilt": 0.3, "eye_open": 0.6}  # fmt: skip

# Where (top, bottom, left, right; shares of the side) the ends of a scale, or two values, may differ.
BOXES = {
    "smile": (0.55, 0.75, 0.35, 0.65), "mouth_open": (0.55, 0.75, 0.35, 0.65), "eye_open": (0.30, 0.55, 0.30, 0.70),
    "brow_tilt": (0.30, 0.45, 0.30, 0.70), "gaze": (0.40, 0.50, 0.30, 0.70), "beard": (0.40, 1.00, 0.25, 0.75),
    "age": (0.25, 0.70, 0.25, 0.75), "skin_tone": (0.20, 1.00, 0.15, 0.85), "glasses": (0.35, 0.55, 0.20, 0.80),
    "hat": (0.00, 0.40, 0.15, 0.85), "earrings": (0.50, 0.70, 0.20, 0.80), "shirt": (0.80, 1.00, 0.00, 1.00),
    "hair_color": (0.05, 0.70, 0.20, 0.80), "hair_style": (0.05, 0.70, 0.15, 0.85),
}  # fmt: skip


@pytest.fixture(scope="module")
def people():
    return sample(12, torch.Generator().manual_seed(3))


def ends(name: str):
    """The neutral portrait with the lowest and the highest value of an attribute."""
    spec = ATTRIBUTES[name]
    low, high = (0, 1) if isinstance(spec, Categorical) else (spec.low, spec.high)
    return neutral(**{name: low}), neutral(**{name: high})


def energy(picture: torch.Tensor) -> torch.Tensor:
    """One smooth number for a picture, to which no place is indifferent."""
    axis = torch.linspace(-1, 1, picture.shape[-1], dtype=picture.dtype)
    return ((1.5 + axis + axis[:, None] + 3 * axis * axis[:, None]) * picture.square()).sum()


# --- shape -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 16, 33, 64, 200])
def test_any_size(size):
    picture = render(neutral(2), size)
    assert picture.shape == (2, 3, size, size)
    assert picture.dtype == torch.float32


def test_values_are_colours(people):
    pictures = render(people, 48)
    assert 0 <= pictures.min() < 0.1
    assert 0.9 < pictures.max() <= 1
    assert pictures.isfinite().all()


def test_extreme_values_do_not_break_it():
    for at in (-3.0, 3.0):
        picture = render(neutral(**{c.name: at for c in CONTINUOUS}), 32)
        assert picture.isfinite().all()


def test_it_is_deterministic(people):
    assert torch.equal(render(people, 48), render(people, 48))


def test_a_picture_does_not_depend_on_its_batch(people):
    batch = render(people, 64)
    single = torch.cat([render(take(people, i), 64) for i in range(len(batch))])
    torch.testing.assert_close(batch, single, rtol=0, atol=1e-5)


def test_batches_larger_than_a_chunk():
    many = sample(37, torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        render(many, 64)[30:], render(take(many, slice(30, None)), 64), rtol=0, atol=1e-5
    )


def test_resolutions_agree(people):
    small, large = render(people, 64), render(people, 128)
    difference = (F.avg_pool2d(large, 2) - small).abs()
    assert difference.mean() < 0.006
    assert difference.flatten(1).quantile(0.99, dim=1).max() < 0.13, "thin lines only"


# --- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [c.name for c in CONTINUOUS])
def test_every_continuous_attribute_has_the_right_gradient(name):
    values = neutral(**PLAIN)
    values[name].requires_grad_()
    (gradient,) = torch.autograd.grad(energy(render(values, 96)), values[name])
    step = 2e-3 * ATTRIBUTES[name].range
    above, below = (
        energy(render(neutral(**PLAIN | {name: PLAIN[name] + d}), 96).double()) for d in (step, -step)
    )
    numeric = ((above - below) / (2 * step)).item()
    assert abs(numeric) > 1
    assert gradient.item() == pytest.approx(numeric, rel=0.2)  # a pixel on an edge has a kink


def test_gradients_are_finite_for_random_people(people):
    values = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in people.items()}
    leaves = [values[c.name] for c in CONTINUOUS]
    for gradient in torch.autograd.grad(energy(render(values, 32)), leaves):
        assert gradient.isfinite().all()


# --- what changes where ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_changes_the_picture_only_inside_its_mask(name):
    before, after = ends(name)
    mask = change_mask(before, after, 96)
    difference = (render(before, 96) - render(after, 96)).abs()
    assert mask.shape == (1, 1, 96, 96)
    assert mask.dtype == torch.bool
    assert mask.sum() >= 40
    assert difference.amax() > 0.2, "one can see it"
    assert (difference * ~mask).amax() <= 1 / 255


@pytest.mark.parametrize("name", BOXES)
def test_changes_stay_where_they_belong(name):
    rows, columns = change_mask(*ends(name), 96)[0, 0].nonzero(as_tuple=True)
    top, bottom, left, right = BOXES[name]
    assert top <= rows.min() / 96 <= rows.max() / 96 < bottom
    assert left <= columns.min() / 96 <= columns.max() / 96 < right


def test_the_background_is_behind_everything():
    mask = change_mask(neutral(background="blue"), neutral(background="orange"), 96)[0, 0]
    assert mask[5, 5]
    assert mask[5, 90]
    assert not mask[30:70, 36:60].any(), "the face"


@pytest.mark.parametrize("spec", CATEGORICAL, ids=lambda spec: spec.name)
def test_all_values_of_a_category_look_different(spec):
    pictures = torch.cat([render(neutral(**{spec.name: i}), 64) for i in range(len(spec.values))])
    for i in range(len(pictures)):
        for j in range(i):
            assert (pictures[i] - pictures[j]).abs().amax() > 0.12


@pytest.mark.parametrize("spec", CONTINUOUS, ids=lambda spec: spec.name)
def test_all_levels_look_different(spec):
    pictures = torch.cat([render(neutral(**{spec.name: level.center}), 96) for level in spec.levels])
    for low, high in zip(pictures[:-1], pictures[1:], strict=True):
        assert (low - high).abs().amax() > 0.05
        assert ((low - high).abs().amax(0) > 0.02).sum() >= 15


def test_no_change_no_mask(people):
    assert not change_mask(people, people, 32).any()


def test_sunglasses_hide_the_gaze():
    left, right = (neutral(glasses="sunglasses", gaze=gaze) for gaze in (-1.0, 1.0))
    assert not change_mask(left, right, 96).any()


def test_a_smile_goes_up_and_a_frown_goes_down():
    def corner_height(smile: float) -> float:
        """Mean row of what a mouth changes near its left corner."""
        mask = change_mask(neutral(smile=0.0), neutral(smile=smile), 128)[0, 0, :, :58]
        lip = render(neutral(smile=smile), 128)[0, :, :, :58].sum(0) * mask
        dark = mask & (lip < lip[mask].quantile(0.3))
        return dark.nonzero()[:, 0].float().mean().item()

    assert corner_height(1.0) < corner_height(-1.0) - 2, "rows count downwards"
