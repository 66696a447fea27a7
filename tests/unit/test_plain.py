"""The methods to be read do what the engine does."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import torch

from ditlens import flow
from ditlens.ems import plain
from ditlens.ems.methods import DDS, FLOWEDIT, FLOWSLIDER, DeltaVelocity, OdeEdit
from ditlens.ems.sample import iter_method
from ditlens.worlds.analytic import GaussianWorld, MixtureWorld

EMS = OdeEdit("ems", steps=12)


def mean(*values: float) -> torch.Tensor:
    """A text of the mixture world: where its two modes are."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 2, 1, 1, 1)


WORLD = MixtureWorld((0.3, 0.7), 0.4)
SOURCE, TARGET, NULL = mean(-1.0, 1.0), mean(0.0, 3.0), mean(-2.0, 0.5)
X = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def engine(
    method: DeltaVelocity, target: torch.Tensor, seed: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """What the engine makes of it."""
    states = iter_method(WORLD, X, SOURCE, target, method, null_text=NULL, seeds=[seed], mask=mask)
    return deque(states, maxlen=1)[0].latents


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (expected - X).abs().max() > 0.01, "an edit that moves"
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("degree", [0.5, 1.0, 1.5])
def test_ems(seed, degree):
    mask = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    found = plain.ems(
        WORLD, X, SOURCE, TARGET, degree=degree, sigmas=flow.sigmas_linear(12), mask=mask.double(), seed=seed
    )
    same(found, engine(EMS, SOURCE.lerp(TARGET, degree), seed, mask))


def test_ems_at_0_is_the_source():
    found = plain.ems(WORLD, X, SOURCE, TARGET, degree=0, sigmas=flow.sigmas_linear(12))
    torch.testing.assert_close(found, X, rtol=0, atol=1e-12)


@pytest.mark.parametrize("std", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("degree", [0.5, 1.0])
def test_ems_lands_where_the_target_text_says(std, degree):
    world, source, target = GaussianWorld(std), torch.full_like(X, -1.0), torch.full_like(X, 2.0)
    found = plain.ems(world, X, source, target, degree=degree, sigmas=flow.sigmas_linear(12))
    torch.testing.assert_close(found, X + degree * 3, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 7])
def test_flowedit(seed):
    found = plain.flowedit(WORLD, X, SOURCE, TARGET, NULL, sigmas=flow.sigmas_linear(50), seed=seed)
    same(found, engine(FLOWEDIT, TARGET, seed))


@pytest.mark.parametrize("seed", [0, 7])
def test_dds(seed):
    same(plain.dds(WORLD, X, SOURCE, TARGET, NULL, seed=seed), engine(DDS, TARGET, seed))


@pytest.mark.parametrize("slider", [0.5, 1.0, 2.0])
def test_flowslider(slider):
    method = replace(FLOWSLIDER, active=1.0, target_guidance=slider)
    found = plain.flowslider(WORLD, X, SOURCE, TARGET, slider=slider, sigmas=flow.sigmas_linear(50), seed=3)
    same(found, engine(method, TARGET, 3))


def test_on_a_model(portraits):
    x = portraits.encode_image(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)))
    source, target = portraits.encode_text("a slight smile"), portraits.encode_text("a big smile")
    sigmas = portraits.sigmas(5)
    found = plain.ems(portraits, x, source, target, degree=0.7, sigmas=sigmas)
    states = iter_method(
        portraits, x, source, source.lerp(target, 0.7), replace(EMS, steps=5), grid=portraits.sigmas
    )
    expected = deque(states, maxlen=1)[0].latents
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
