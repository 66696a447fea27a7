"""The analytic worlds: closed forms against independent routes (autograd, sampling, integration)."""

from __future__ import annotations

import math

import pytest
import torch

from ditlens import flow
from ditlens.errors import SettingError
from ditlens.worlds.analytic import GaussianWorld, MixtureWorld, TwoFactorWorld

SHAPE = (2, 3, 2, 2)


def draw(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def test_velocity_at_the_ends_and_by_hand():
    world = GaussianWorld(std=0.5)
    x = draw(0)
    assert torch.equal(world(x, 1.0, mean(2.0)), x - 2)  # pure noise: eps - E[clean]
    torch.testing.assert_close(world(x, 0.0, mean(2.0)), -x)  # clean: E[eps] - x
    # t = 1/2, s = 1/2: V = 5/16, k = (1/2 - 1/8) / V = 6/5; x = 3, mu = 2: 6/5 (3 - 1) - 2 = 0.4
    assert world.variance(0.5) == pytest.approx(5 / 16)
    assert float(world(mean(3.0), 0.5, mean(2.0))) == pytest.approx(0.4)


def test_marginal_of_noised_data_is_the_stated_one():
    clean = 2 + 0.5 * draw(1, (20_000, 1, 1, 1))
    noisy = flow.interpolate(clean, draw(2, (20_000, 1, 1, 1)), 0.3)
    assert noisy.mean().item() == pytest.approx(0.7 * 2, abs=0.012)  # 3 standard errors
    assert noisy.var().item() == pytest.approx(GaussianWorld(0.5).variance(0.3), rel=0.03)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.9])
def test_velocity_gives_the_score_of_the_density(sigma):
    for world, text in [
        (GaussianWorld(0.7), mean(1.5)),
        (MixtureWorld((0.2, 0.8), 0.7), torch.stack([mean(-1.0), mean(2.0)], 1)),
    ]:
        x = draw(3).requires_grad_()
        (gradient,) = torch.autograd.grad(world.log_density(x, sigma, text).sum(), x)
        by_velocity = flow.score(x.detach(), world(x.detach(), sigma, text), sigma)
        torch.testing.assert_close(by_velocity, gradient, rtol=1e-10, atol=1e-12)


def test_density_is_the_normal_one():
    world, x = GaussianWorld(0.7), draw(4)
    normal = torch.distributions.Normal(0.6 * mean(1.5), mean(world.variance(0.4)).sqrt())
    expected = normal.log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(world.log_density(x, 0.4, mean(1.5)), expected, rtol=1e-12, atol=0)


def test_exact_flow_is_the_limit_of_euler_steps_with_order_one():
    world, noise, text = GaussianWorld(0.6), draw(5), mean(1.0)
    exact = world.flow(noise, 1.0, 0.0, text)
    torch.testing.assert_close(exact, 1 + 0.6 * noise)  # at t = 1 latents are N(0, 1), at 0 N(mu, s^2)
    errors = []
    for steps in (100, 200):
        sampled = flow.sample(world, noise, flow.sigmas_linear(steps), text)
        errors.append((sampled - exact).abs().max().item())
    assert errors[1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)
    torch.testing.assert_close(world.flow(exact, 0.0, 1.0, text), noise)


def test_exact_sdedit():
    """mu1 + (s / sqrt V(t0)) (x_t0 - (1 - t0) mu1)."""
    world, start = GaussianWorld(0.6), draw(6)
    variance = 0.4**2 * 0.6**2 + 0.6**2
    expected = 3 + 0.6 / math.sqrt(variance) * (start - 0.4 * 3)
    torch.testing.assert_close(world.flow(start, 0.6, 0.0, mean(3.0)), expected)


def test_exact_inversion_and_edit_shift_by_the_difference_of_means():
    world, x = GaussianWorld(0.6), draw(7)
    noise = world.flow(x, 0.0, 1.0, mean(-1.0))
    torch.testing.assert_close(world.flow(noise, 1.0, 0.0, mean(2.0)), x + 3)


def test_guidance_is_a_shifted_mean():
    """CFG with weight w acts as mu_null + w (mu - mu_null): 0.5 + 4 (2 - 0.5) = 6.5."""
    world, x = GaussianWorld(0.6), draw(8)
    guided = flow.guided_velocity(world, x, 0.3, mean(2.0), mean(0.5), 4.0)
    torch.testing.assert_close(guided, world(x, 0.3, mean(6.5)))


def test_two_factors_read_back_and_mix_by_the_angle():
    world = TwoFactorWorld(shape=(3, 2, 2))
    torch.testing.assert_close(world.read(world.text(1.5, -2.0)), torch.tensor([[1.5, -2.0]]).double())
    tilted = TwoFactorWorld(shape=(3, 2, 2), angle=30)
    torch.testing.assert_close(tilted.read(tilted.text(1.0, 0.0)), torch.tensor([[1.0, 0.5]]).double())
    torch.testing.assert_close(tilted.read(tilted.text(0.0, 1.0)), torch.tensor([[0.5, 1.0]]).double())


def test_mixture_of_one_is_the_gaussian_and_two_are_bimodal():
    x = draw(10)
    single = MixtureWorld((3.0,), 0.6)(x, 0.4, mean(2.0)[:, None])
    torch.testing.assert_close(single, GaussianWorld(0.6)(x, 0.4, mean(2.0)))
    world = MixtureWorld((0.25, 0.75), 0.1)
    text = torch.stack([mean(-2.0), mean(2.0)], 1)
    # Midway between the means the responsibilities are the weights; at the first mean they are 1 and 0.
    point = torch.zeros(1, 1, 1, 1).double()
    torch.testing.assert_close(
        world.responsibilities(point, 0.5, text), torch.tensor([[0.25, 0.75]]).double()
    )
    assert world.responsibilities(point - 2, 0.1, text)[0, 0].item() == pytest.approx(1)
    noise = draw(11, (4000, 1, 1, 1))
    made = flow.sample(world, noise, flow.sigmas_linear(50), text)
    assert (made > 0).double().mean().item() == pytest.approx(0.75, abs=0.03)
    assert made[made > 0].mean().item() == pytest.approx(2, abs=0.05)


def test_wrong_worlds_are_refused():
    with pytest.raises(SettingError, match="std must be positive"):
        GaussianWorld(0)
    with pytest.raises(SettingError, match="angle must lie in 0..90"):
        TwoFactorWorld(angle=120)
    with pytest.raises(SettingError, match="positive weight"):
        MixtureWorld((1.0, 0.0))
    with pytest.raises(SettingError, match=r"shape \(batch, 2 modes, C, H, W\)"):
        MixtureWorld()(draw(0), 0.5, mean(1.0))
    with pytest.raises(SettingError, match="usual cause is passing a timestep"):
        GaussianWorld()(draw(0), 500.0, mean(1.0))
