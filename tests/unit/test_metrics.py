"""Metrics by hand: what they are at points where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ditlens.errors import SettingError
from ditlens.metrics import continuous, regions

HALF = torch.zeros(1, 1, 16, 16)
HALF[..., 8:] = 1  # the right half may change


def grey(value: float) -> torch.Tensor:
    return torch.full((1, 3, 16, 16), value)


# --- outside a mask ----------------------------------------------------------------------------------------


def test_only_the_background_counts():
    result = grey(0.5)
    result[..., 8:] = 1.0
    assert regions.psnr_outside(grey(0.5), result, HALF).item() == math.inf
    assert regions.psnr_outside(grey(0.5), grey(0.6), HALF).item() == pytest.approx(20, abs=1e-3)
    result[..., :4] += 0.1  # half of the background
    assert regions.mse_outside(grey(0.5), result, HALF).item() == pytest.approx(0.005, rel=1e-5)


def test_pies_convention_is_diluted_by_the_mask():
    ours, theirs = regions.mse_outside, regions.mse_pie
    assert ours(grey(0.5), grey(0.6), HALF).item() == pytest.approx(0.01, rel=1e-4)
    assert theirs(grey(0.5), grey(0.6), HALF).item() == pytest.approx(0.005, rel=1e-4)
    nothing = torch.zeros_like(HALF)
    for metric in (regions.mse_pie, regions.mse_outside):
        assert metric(grey(0.5), grey(0.6), nothing).item() == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("metric", regions.METRICS.values(), ids=list(regions.METRICS))
def test_no_background_is_nan(metric):
    assert math.isnan(metric.compute(grey(0.2), grey(0.2), torch.ones_like(HALF)).item())
    assert metric.better in ("higher", "lower") and metric.identity


def ssim_by_hand(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of one channel, with scipy's filters."""
    from scipy.ndimage import gaussian_filter

    def blur(x):
        return gaussian_filter(x, 1.5, truncate=5 / 1.5, mode="mirror")

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    return (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))


def test_ssim_agrees_with_another_implementation():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 3, 24, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = np.stack([ssim_by_hand(a[0, c].numpy(), b[0, c].numpy()) for c in range(3)])
    np.testing.assert_allclose(regions.ssim_map(a, b)[0].numpy(), expected, atol=1e-10)
    assert regions.ssim_outside(a, a, torch.zeros(1, 1, 24, 20)).item() == pytest.approx(1)
    border = torch.zeros(1, 1, 24, 20)
    inner = expected[:, 5:-5, 5:-5].mean()
    assert regions.ssim_pie(a, b, border).item() == pytest.approx(inner), (
        "as torchmetrics: without the border"
    )
    with pytest.raises(SettingError, match="at least 11 x 11"):
        regions.ssim_map(a[..., :10, :], b[..., :10, :])


def test_structure_does_not_see_a_common_turn_of_the_features():
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    turned = torch.einsum("ij,bjhw->bihw", turn, x)
    torch.testing.assert_close(regions.structure_distance(x, turned), torch.zeros(2), atol=1e-10, rtol=0)
    assert regions.structure_distance(x, x.flip(-1)).min() > 1e-3


def test_shapes_are_checked():
    with pytest.raises(SettingError, match="Resize the result first"):
        regions.psnr_outside(grey(0.5), torch.zeros(1, 3, 8, 8), HALF)


# --- continuous edits --------------------------------------------------------------------------------------


def test_spearman_by_hand():
    s = [0, 1, 2, 3]
    assert continuous.spearman(s, [0, 1, 4, 9]) == pytest.approx(1)
    assert continuous.spearman(s, [3, 2, 1, 0]) == pytest.approx(-1)
    assert continuous.spearman(s, [0, 0, 0, 0]) == 0
    assert continuous.spearman(s, [0, 2, 1, 3]) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert continuous.spearman(s, [0, 1, 1, 2]) == pytest.approx(3 / math.sqrt(10))  # ties at their mean rank


def test_linearity_and_slope():
    s = [0, 0.5, 1, 2]
    assert continuous.linearity(s, [1, 2, 3, 5]) == pytest.approx(1)
    assert continuous.slope(s, [1, 2, 3, 5]) == pytest.approx(2)
    assert continuous.linearity([0, 1, 2], [0, 1, 0]) == pytest.approx(0)
    assert continuous.linearity(s, [1, 1, 1, 1]) == 0
    for value in (0.1, 1 / 3, 123.456):  # their mean differs from them by a rounding error
        assert continuous.linearity([0, 0.5, 1], [value] * 3) == 0
    rounded = [0.1, 0.1 + 1e-17, 0.3 - 0.2]
    assert continuous.linearity([0, 1, 2], rounded) == continuous.spearman([0, 1, 2], rounded) == 0


def test_range():
    assert continuous.span([0.25, 1, 0.5]) == 0.25


def test_paths_of_images():
    straight = [grey(v) for v in (0.0, 0.25, 0.5)]
    assert continuous.triangle_deficit(straight) == pytest.approx(0, abs=1e-6)
    assert continuous.straightness(straight) == pytest.approx(1)
    detour = [grey(v) for v in (0.0, 0.75, 0.5)]
    assert continuous.triangle_deficit(detour) == pytest.approx(1)
    assert continuous.straightness(detour) == pytest.approx(2)
    with pytest.raises(SettingError, match="three images; got 2"):
        continuous.triangle_deficit(straight[:2])


def test_cost_at_the_same_effect():
    assert continuous.at_effect([0.4, 0.8, 1.0], [0.1, 0.2, 0.9], 0.6) == pytest.approx(0.15)
    assert continuous.at_effect([0.8], [0.2], 0.4) == pytest.approx(0.1), "no edit costs nothing"
    assert math.isnan(continuous.at_effect([0.4, 0.5], [0.1, 0.2], 0.6))


def test_strengths_have_to_rise():
    with pytest.raises(SettingError, match="rising strengths"):
        continuous.spearman([0, 0], [1, 2])
