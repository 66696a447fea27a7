"""The delta-velocity engine against the closed forms of the Gaussian world."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ditlens import flow
from ditlens.ems import engine
from ditlens.ems.manipulate import manipulate
from ditlens.ems.methods import (
    CSDS,
    DDS,
    FLOWALIGN,
    FLOWEDIT,
    FLOWSLIDER,
    PRESETS,
    DeltaVelocity,
    Distillation,
    OdeEdit,
)  # fmt: skip
from ditlens.ems.sample import iter_method
from ditlens.errors import SettingError
from ditlens.models.embedding import TextEmbedding
from ditlens.worlds.analytic import GaussianWorld, MixtureWorld, TwoFactorWorld

SHAPE = (2, 3, 2, 2)
MU0, MU1, NULL = -1.0, 2.0, 0.5
PLAIN = replace(FLOWEDIT, source_guidance=1.0, target_guidance=1.0, active=1.0)
SLIDER = replace(FLOWSLIDER, active=1.0)


def draw(seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def iter_edit(field, x, source, target, sigmas, method, **options):
    """The states of an edit on a grid; None is the linear one of as many steps as the method has."""
    grid = flow.sigmas_linear if sigmas is None else lambda _: sigmas
    return iter_method(field, x, source, target, method, grid=grid, **options)


def run(*args, **options) -> engine.EngineState:
    """The last state of an edit."""
    for state in iter_edit(*args, **options):  # noqa: B007
        pass
    return state


def mean(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def shift(config: DeltaVelocity, steps: int | None = None, source=MU0, target=MU1, seeds=(0, 1), world=None):
    """Edit draw(0) from mean `source` to mean `target` and return z - x."""
    sigmas = None if steps is None else flow.sigmas_linear(steps)
    state = run(
        world or GaussianWorld(0.6), draw(0), mean(source), mean(target), sigmas, config,
        null_text=mean(NULL), seeds=seeds,
    )  # fmt: skip
    return state.latents - draw(0)


def assert_shift(found: torch.Tensor, expected: float, atol: float = 1e-13) -> None:
    torch.testing.assert_close(found, torch.full(SHAPE, expected, dtype=torch.float64), rtol=0, atol=atol)


# --- FlowEdit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [3, 7, 50])
@pytest.mark.parametrize("seeds", [(0, 1), (10, 11), (123, 5)])
def test_flowedit_is_exact_for_every_grid_and_noise(steps, seeds):
    assert_shift(shift(PLAIN, steps, seeds=seeds), MU1 - MU0)
    assert_shift(shift(replace(PLAIN, averages=3), steps, seeds=seeds), MU1 - MU0)


def test_flowedit_in_float32():
    x = draw(0, torch.float32)
    state = run(GaussianWorld(0.6), x, mean(MU0), mean(MU1), flow.sigmas_linear(50), PLAIN)
    assert state.latents.dtype == torch.float32
    torch.testing.assert_close(state.latents, x + 3, rtol=0, atol=2e-5)


@pytest.mark.parametrize("degree", [-1.0, 0.0, 0.25, 1.0, 2.5])
def test_text_interpolation_shifts_in_proportion(degree):
    assert_shift(shift(PLAIN, 7, target=MU0 + degree * (MU1 - MU0)), degree * 3)


def test_flowedit_from_the_middle_of_the_grid():
    """Each step stretches u = delta - (1 - t) 3, which starts at -(1 - t0) 3 and ends at delta - 3."""
    world, grid = GaussianWorld(0.6), flow.sigmas_linear(50).tolist()[17:]
    stretch = math.prod(
        1 + (after - now) * world.gain(now) for now, after in zip(grid, grid[1:], strict=False)
    )
    assert_shift(shift(replace(PLAIN, active=33 / 50), 50), 3 - stretch * (1 - grid[0]) * 3, atol=1e-12)
    # In the limit of small steps the stretch is s / sqrt V(t0).
    limit = 3 * (1 - 0.6 * 0.34 / math.sqrt(world.variance(0.66)))
    assert_shift(shift(replace(PLAIN, active=0.66), 2000), limit, atol=2e-3)


def test_unequal_guidance_moves_even_without_an_edit():
    """The shift is w1 (mu1 - null) - w0 (mu0 - null); with mu1 = mu0 it is (w1 - w0) (mu0 - null)."""
    config = replace(FLOWEDIT, active=1.0)
    assert_shift(shift(config, 7), 13.5 * (MU1 - NULL) - 3.5 * (MU0 - NULL), atol=1e-12)
    assert_shift(shift(config, 7, target=MU0), (13.5 - 3.5) * (MU0 - NULL), atol=1e-12)
    assert_shift(shift(replace(config, target_guidance=3.5), 7), 3.5 * (MU1 - MU0), atol=1e-12)


def test_first_preview_is_already_the_result():
    states = iter_edit(GaussianWorld(0.6), draw(0), mean(MU0), mean(MU1), flow.sigmas_linear(7), PLAIN)
    first = next(states)
    torch.testing.assert_close(first.clean, draw(0) + 3)
    torch.testing.assert_close(first.latents, draw(0) + 3 / 7, rtol=0, atol=1e-7)


def test_two_factors_stay_apart():
    world, x = TwoFactorWorld(0.6, (3, 2, 2)), draw(0)
    dds = replace(DDS, source_guidance=1.0, target_guidance=1.0, lr=1.0)
    for config in (PLAIN, SLIDER, FLOWALIGN, dds):
        state = run(world, x, world.text(0.0, 1.0), world.text(2.0, 1.0), None, config)
        moved = world.read(state.latents) - world.read(x)
        torch.testing.assert_close(moved[:, 1], torch.zeros(2).double(), rtol=0, atol=1e-13)
    state = run(world, x, world.text(0.0, 1.0), world.text(2.0, 1.0), None, PLAIN)
    moved = world.read(state.latents - x)
    torch.testing.assert_close(moved[:, 0], torch.full((2,), 2.0).double(), rtol=0, atol=1e-13)


def test_two_factors_leak_by_the_sine_of_their_angle():
    world, x = TwoFactorWorld(0.6, (3, 2, 2), angle=30), draw(0)
    state = run(world, x, world.text(0.0, 1.0), world.text(2.0, 1.0), None, PLAIN)
    expected = torch.tensor([[2.0, 1.0], [2.0, 1.0]]).double()
    torch.testing.assert_close(world.read(state.latents - x), expected, rtol=0, atol=1e-13)


def test_flowedit_on_a_mixture():
    """Moving all modes alike shifts by exactly that; exchanging two equal modes is no edit at all."""
    world, x = MixtureWorld((0.5, 0.5), 0.3), -2 + 0.3 * draw(0)
    source = torch.stack([mean(-2.0), mean(2.0)], 1)
    moved = run(world, x, source, source + 0.5, flow.sigmas_linear(20), PLAIN).latents
    assert_shift(moved - x, 0.5, atol=1e-12)
    exchanged = run(world, x, source, source.flip(1), flow.sigmas_linear(20), PLAIN).latents
    assert_shift(exchanged - x, 0.0, atol=1e-12)


# --- FlowSlider, FlowAlign ---------------------------------------------------------------------------------


@pytest.mark.parametrize("slider", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_flowslider_is_linear(slider):
    found = shift(replace(SLIDER, target_guidance=slider), 7)
    assert_shift(found, slider * (MU1 - MU0))
    if slider == 0:
        assert torch.equal(found, torch.zeros(SHAPE).double())


@pytest.mark.parametrize(("zeta", "share"), [(0.0, 1.0), (0.01, 0.70), (0.05, 0.08)])
def test_flowalign_keeps_a_share_of_the_shift(zeta, share):
    """These shares hold for data of std 0.7; at std 1 they are 65 and 3 percent."""
    config = replace(FLOWALIGN, zeta=zeta, target_guidance=1.0)
    found = shift(config, 33, world=GaussianWorld(0.7)) / (MU1 - MU0)
    assert found.min().item() == pytest.approx(share, abs=0.005)
    assert found.max().item() == pytest.approx(share, abs=0.005)


def test_flowalign_without_zeta_is_flowslider():
    align = replace(FLOWALIGN, zeta=0.0, target_guidance=2.0)
    assert torch.equal(shift(align, 7), shift(replace(SLIDER, target_guidance=2.0), 7))


def test_flowalign_update_is_the_published_one():
    """One step by hand: z + (t' - t) (v_p - v_q) + zeta [(q - t v_q) - (p - t v_p)]."""
    world, x, sigmas = GaussianWorld(0.6), draw(0), torch.tensor([0.75, 0.5, 0.0])
    states = iter_edit(world, x, mean(MU0), mean(MU1), sigmas, replace(FLOWALIGN, zeta=0.1), seeds=[0, 1])
    first, second = states
    generators = flow.seeded_generators([0, 1], 2)
    z = x
    for (t, after), state in zip([(0.75, 0.5), (0.5, 0.0)], (first, second), strict=True):
        q = (1 - t) * x + t * flow.seeded_noise(generators, x)
        p = z + q - x
        v_q, v_p = world(q, t, mean(MU0)), world(p, t, mean(MU0 + 7.5 * 3))
        z = z + (after - t) * (v_p - v_q) + 0.1 * ((q - t * v_q) - (p - t * v_p))
        torch.testing.assert_close(state.latents, z)


# --- DDS, DVRF ---------------------------------------------------------------------------------------------


def test_dds_has_the_shift_as_its_only_fixed_point():
    config = replace(DDS, source_guidance=1.0, target_guidance=1.0, lr=1.0, steps=300)
    assert_shift(shift(config), 3.0, atol=1e-12)
    assert_shift(shift(replace(config, schedule_seed=5), seeds=(8, 9)), 3.0, atol=1e-12)
    # With guidance 7.5 on both sides: 7.5 times the shift.
    assert_shift(shift(replace(config, source_guidance=7.5, target_guidance=7.5)), 22.5, atol=1e-11)


def test_dds_gradient_by_its_formula():
    """lr (1 - t) t / V (Dmu - delta): contraction of the remaining distance, whatever the noise."""
    world, config = (
        GaussianWorld(0.6),
        replace(DDS, source_guidance=1.0, target_guidance=1.0, lr=0.5, steps=4),
    )
    left = 3.0
    for sigma, _ in config.levels(None):
        left *= 1 - 0.5 * (1 - sigma) * sigma / world.variance(sigma)
    assert_shift(shift(config), 3 - left, atol=1e-12)


def pds_gradient(x, z, noises, levels, spread, keep, world, texts):
    """Posterior distillation sampling by its definition: the difference of both stochastic latents.

    Each is (x_s - mean) / spread, where mean = A clean(x_t) + B x_t is that of the step from t down to s; `keep`
    is A. Both pictures share the noise at t and the noise at s.
    """
    (t, s), latents = levels, []
    for picture, text in zip((x, z), texts, strict=True):
        at_t, at_s = (
            flow.interpolate(picture, noise, level) for noise, level in zip(noises, levels, strict=True)
        )
        clean = at_t - t * world(at_t, t, text)
        latents.append((at_s - keep * clean - math.sqrt(s**2 - spread**2) / t * at_t) / spread)
    return latents[1] - latents[0]


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.5])
def test_pds_with_its_own_posterior_is_dds_of_another_weight(spread):
    """With A = (1 - s) - B (1 - t) nothing is left that holds the picture: psi = 0, whatever the world."""
    t, s = 0.625, 0.5
    keep = (1 - s) - math.sqrt(s**2 - spread**2) / t * (1 - t)
    world, steps, rate = MixtureWorld((0.3, 0.7), 0.4), 5, 0.1
    texts = [torch.stack([mean(a), mean(b)], 1) for a, b in ((-1.0, 1.0), (0.0, 3.0))]
    config = replace(
        DDS, source_guidance=1.0, target_guidance=1.0, sigma_range=(t, t), weight="one", steps=steps,
        lr=rate * keep * t / spread,
    )  # fmt: skip
    x = z = draw(0)
    generators, other = flow.seeded_generators((0, 1), 2), draw(9)  # the noise at s cancels
    for state in iter_edit(world, x, *texts, None, config, seeds=(0, 1)):
        noises = (flow.seeded_noise(generators, x), other)
        gradient = pds_gradient(x, z, noises, (t, s), spread, keep, world, texts)
        mismatched = pds_gradient(x, z, noises, (t, s), spread, keep - 0.2, world, texts)
        z = z - rate * gradient
        torch.testing.assert_close(state.latents, z, rtol=0, atol=1e-12)
    # Another A, as from steps of unequal length, leaves psi delta: here 0.2 (z - x) / spread.
    before = z + rate * gradient
    rest = mismatched - (keep - 0.2) / keep * gradient
    torch.testing.assert_close(rest, 0.2 / spread * (before - x), rtol=1e-9, atol=1e-12)


def test_random_levels_stay_in_range():
    levels = [sigma for sigma, _ in replace(DDS, steps=500).levels(None)]
    assert len(levels) == 500 and min(levels) >= 0.05 and max(levels) <= 0.95
    assert sum(levels) / 500 == pytest.approx(0.5, abs=0.04)


def test_gradient_rule_with_full_coupling_is_flowedit():
    """DVRF with eta_k = 1 and lr = |dt| is FlowEdit."""
    dvrf = Distillation("dvrf", eta=(1.0, 1.0), weight="one")
    world = MixtureWorld((0.5, 0.5), 0.3)  # not linear, so that noise and grid matter
    source = torch.stack([mean(-1.0), mean(1.0)], 1)
    args = (world, draw(0), source, source.roll(1, 1) + torch.tensor([0.0, 1.0])[:, None, None, None])
    found, expected = (run(*args, flow.sigmas_linear(7), config).latents for config in (dvrf, PLAIN))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_dvrf_without_coupling_is_dds_up_to_its_weight():
    """eta = 0 is DDS; the weight 1 - t is the only difference, so at one fixed t it is a factor of lr."""
    world, sigmas = GaussianWorld(0.6), flow.sigmas_linear(5)
    dvrf = Distillation("dvrf", lr=0.2, weight="one")
    dds = replace(dvrf, weight="clean")
    args = (world, draw(0), mean(MU0), mean(MU1), sigmas)
    for found, expected in zip(iter_edit(*args, dvrf), iter_edit(*args, dds), strict=True):
        if found.step == 0:
            step, weighted = found.latents - draw(0), expected.latents - draw(0)
            torch.testing.assert_close(weighted, (1 - found.sigma) * step)


def test_dvrf_couples_more_and_more():
    config = Distillation("dvrf", eta=(0.0, 0.8), weight="one")
    assert [config.coupling(step / 4) for step in range(4)] == pytest.approx([0, 0.2, 0.4, 0.6])
    # lr = |dt|: delta -= |dt| [Dv + (1 - eta) delta], Dv = k (1 - (1 - eta) t) delta - k (1 - t) 3 - 3.
    world, delta = GaussianWorld(0.6), 0.0
    for step in range(4):
        t, eta = 1 - step / 4, 0.2 * step
        k = world.gain(t)
        delta -= 0.25 * (k * (1 - (1 - eta) * t) * delta - k * (1 - t) * 3 - 3 + (1 - eta) * delta)
    assert_shift(shift(config, 4), delta, atol=1e-12)


# --- CSDS-recon --------------------------------------------------------------------------------------------
# With point-like data (s -> 0) score distillation is free of noise and its fixed points are known.


POINT = GaussianWorld(1e-5)
AT_HALF = {"source_guidance": 1.0, "target_guidance": 1.0, "sigma_range": (0.5, 0.5), "lr": 0.5, "steps": 200}
"""At t = 1/2, s = 0 score distillation is g = (1 - t) t / V (z - mu1) = z - mu1."""


def test_plain_score_distillation_forgets_the_picture():
    state = run(POINT, draw(0), mean(MU1), mean(MU1), None, replace(DDS, reference="noise", **AT_HALF))
    torch.testing.assert_close(state.latents, torch.full(SHAPE, MU1).double(), rtol=0, atol=1e-8)


def test_csds_penalty_balances():
    """(z - mu1) + lam (z - x) = 0: z = (mu1 + lam x) / (1 + lam)."""
    config = replace(CSDS["penalty"], strength=0.25, **AT_HALF)
    state = run(POINT, draw(0), mean(MU0), mean(MU1), None, config)
    torch.testing.assert_close(state.latents, (MU1 + 0.25 * draw(0)) / 1.25, rtol=0, atol=1e-8)


def test_csds_ball_ends_on_its_surface():
    """The nearest point of the ball to mu1: radius 0.5 rms from x straight towards mu1."""
    config = replace(CSDS["ball"], strength=0.5, **AT_HALF)
    state = run(POINT, draw(0), mean(MU0), mean(MU1), None, config)
    away = MU1 - draw(0)
    rms = away.square().mean((1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(state.latents, draw(0) + 0.5 * away / rms, rtol=0, atol=1e-7)
    wide = run(POINT, draw(0), mean(MU0), mean(MU1), None, replace(config, strength=100.0))
    torch.testing.assert_close(wide.latents, torch.full(SHAPE, MU1).double(), rtol=0, atol=1e-7)


def test_csds_delta_is_dds():
    assert replace(CSDS["delta"], name="dds") == DDS
    state = run(POINT, draw(0), mean(MU0), mean(MU1), None, replace(CSDS["delta"], **AT_HALF))
    torch.testing.assert_close(state.latents, draw(0) + 3, rtol=0, atol=1e-8)


def test_csds_orthogonal_moves_across_the_source_direction():
    """z = x + the part of (mu1 - x) orthogonal to (x - mu0)."""
    config = replace(CSDS["orthogonal"], **AT_HALF)
    state = run(POINT, draw(0), mean(MU0), mean(MU1), None, config)
    own, wanted = (draw(0) - MU0).flatten(1), (MU1 - draw(0)).flatten(1)
    along = (own * wanted).sum(1, keepdim=True) / own.square().sum(1, keepdim=True)
    torch.testing.assert_close((state.latents - draw(0)).flatten(1), wanted - along * own, rtol=0, atol=1e-7)


# --- contracts ---------------------------------------------------------------------------------------------


class Network(torch.nn.Module):
    """A small float32 network whose output depends a little on the position in the batch, as rounding may."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(12 + 6 + 8 + 1, 67), torch.nn.SiLU(), torch.nn.Linear(67, 12)
        )
        self.batches: list[int] = []

    def forward(self, latents, sigma, text):
        self.batches.append(len(latents))
        parts = [latents.flatten(1), text.pooled, text.tokens.mean(1), torch.full((len(latents), 1), sigma)]
        rounding = 1 + 1e-6 * torch.arange(len(latents))[:, None]
        return (rounding * self.layers(torch.cat(parts, 1))).reshape(latents.shape)


def embedding(seed: int, batch: int = 1) -> TextEmbedding:
    generator = torch.Generator().manual_seed(seed)
    return TextEmbedding(
        torch.randn(batch, 5, 8, generator=generator), torch.randn(batch, 6, generator=generator)
    )


EQUAL = [
    replace(FLOWEDIT, target_guidance=3.5),
    replace(FLOWEDIT, target_guidance=1.0, source_guidance=1.0, averages=2),
    FLOWALIGN,
    replace(FLOWSLIDER, target_guidance=1.7),
    replace(DDS, steps=20),
    replace(CSDS["orthogonal"], steps=20),
    Distillation("dvrf", eta=(0.0, 1.0), weight="one", constraint="ball", strength=0.1),
]


@pytest.mark.parametrize("config", EQUAL, ids=lambda config: config.name)
def test_equal_texts_return_the_source_bit_for_bit(config):
    x = draw(0, torch.float32)
    for field, text, null in [
        (Network(), embedding(0), embedding(1)),
        (GaussianWorld(0.6), mean(MU0).float(), mean(NULL).float()),
    ]:
        copy = text.to(torch.float32) if isinstance(text, torch.Tensor) else manipulate(text, embedding(2), 0)
        for state in iter_edit(field, x, text, copy, None, config, null_text=null):
            assert torch.equal(state.latents, x) and torch.equal(state.clean, x)


def test_slider_at_zero_returns_the_source_bit_for_bit():
    slider = replace(FLOWSLIDER, target_guidance=0.0)
    x = draw(0, torch.float32)
    assert torch.equal(run(Network(), x, embedding(0), embedding(2), None, slider).latents, x)


def test_only_the_items_with_equal_texts_stay():
    x, source = draw(0, torch.float32), embedding(0)
    target = TextEmbedding.cat([manipulate(source, embedding(2), degree) for degree in (0.0, 1.0)])
    state = run(Network(), x, source, target, None, FLOWSLIDER)
    assert torch.equal(state.latents[0], x[0])
    alone = run(Network(), x[1:], source, embedding(2), None, FLOWSLIDER, seeds=[1])
    torch.testing.assert_close(state.latents[1:], alone.latents, rtol=0, atol=1e-5)
    assert (state.latents[1] - x[1]).abs().max().item() > 0.01


@pytest.mark.parametrize(
    ("config", "at_q", "at_p"),
    [
        (FLOWEDIT, ["uncond.source", "source"], ["uncond.target", "target"]),
        (replace(FLOWEDIT, source_guidance=1.0), ["source"], ["uncond", "target"]),
        (replace(FLOWEDIT, source_guidance=0.0), ["uncond.source"], ["uncond.target", "target"]),
        (replace(FLOWEDIT, source_guidance=1.0, target_guidance=1.0), ["source"], ["target"]),
        (FLOWALIGN, ["source"], ["source.target", "target"]),
        (replace(FLOWSLIDER, target_guidance=0.0), ["source"], ["source.target"]),
        (replace(FLOWSLIDER, target_guidance=1.0), ["source"], ["target"]),
        (CSDS["ball"], [], ["uncond", "target"]),
    ],
    ids=str,
)
def test_what_a_text_is_asked_for_is_its_name(config, at_q, at_p):
    source, target, null = (embedding(k).named(n) for k, n in enumerate(("source", "target", "uncond")))
    plan = engine.plan_prompts(source, target, null, config, 2)
    roles = [[text.roles[0] for text in texts] for texts in (plan.at_q, plan.at_p)]
    assert roles == [at_q, at_p]


@pytest.mark.parametrize(
    ("config", "calls", "evaluations"),
    [
        (FLOWEDIT, 33, 132),
        (replace(FLOWEDIT, steps=28, active=24 / 28, source_guidance=1.0, target_guidance=1.0), 24, 48),
        (FLOWALIGN, 33, 99),
        (replace(FLOWSLIDER, target_guidance=2.0), 33, 99),
        (FLOWSLIDER, 33, 66),
        (DDS, 200, 800),
        (CSDS["penalty"], 200, 400),
        (CSDS["delta"], 200, 800),
        (CSDS["orthogonal"], 200, 800),
        (replace(FLOWEDIT, averages=2), 66, 264),
    ],
)
def test_costs_are_counted_as_published_and_each_step_is_one_call(config, calls, evaluations):
    field = Network()
    x = draw(0, torch.float32)
    state = run(field, x[:1], embedding(0), embedding(2), None, config, null_text=embedding(1))
    assert (state.calls, state.evaluations) == (calls, evaluations)
    assert (len(field.batches), sum(field.batches)) == (calls, evaluations)
    two = run(field, x, embedding(0), embedding(2), None, config, null_text=embedding(1))
    assert (two.calls, two.evaluations) == (calls, 2 * evaluations)


def test_states_say_where_they_are_and_stopping_stops():
    field, sigmas = Network(), flow.sigmas_linear(10)
    config = replace(FLOWEDIT, active=0.6)
    args = (field, draw(0, torch.float32), embedding(0), embedding(2), sigmas, config)
    states = iter_edit(*args, null_text=embedding(1))
    seen = [next(states) for _ in range(3)]
    assert len(field.batches) == 3
    assert [(state.step, state.steps, state.calls) for state in seen] == [(0, 6, 1), (1, 6, 2), (2, 6, 3)]
    assert [state.sigma for state in seen] == pytest.approx([0.6, 0.5, 0.4])
    assert not seen[-1].latents.requires_grad


def test_noise_of_an_item_depends_on_its_seed_alone():
    world = MixtureWorld((0.5, 0.5), 0.3)
    source = torch.stack([mean(-1.0), mean(1.0)], 1)
    target = 1.5 * source
    for config in (PLAIN, replace(DDS, steps=20, source_guidance=1.0, target_guidance=1.0)):
        both = run(world, draw(0), source, target, None, config, seeds=[4, 9]).latents
        alone = run(world, draw(0)[1:], source, target, None, config, seeds=[9]).latents
        other = run(world, draw(0)[1:], source, target, None, config, seeds=[4]).latents
        torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-12)
        assert (other - alone).abs().max().item() > 1e-3
        again = run(world, draw(0), source, target, None, config, seeds=[4, 9]).latents
        assert torch.equal(both, again)


def test_presets_hold_the_published_numbers():
    assert sorted(PRESETS) == [
        "csds-recon-ball", "csds-recon-delta", "csds-recon-orthogonal", "csds-recon-penalty",
        "dds", "dvrf", "flowalign", "flowedit", "flowslider", "hsds-recon",
    ]  # fmt: skip
    assert (FLOWEDIT.steps, FLOWEDIT.source_guidance, FLOWEDIT.target_guidance) == (50, 3.5, 13.5)
    assert len(FLOWEDIT.levels(None)) == 33
    assert (FLOWALIGN.steps, FLOWALIGN.target_guidance, FLOWALIGN.zeta) == (33, 7.5, 0.01)
    assert (DDS.steps, DDS.target_guidance, DDS.lr) == (200, 7.5, pytest.approx(0.1 * 2000 / 64**2, abs=5e-5))


@pytest.mark.parametrize(
    ("rule", "settings", "message"),
    [
        (OdeEdit, {"active": 0.0}, r"active lies in \(0, 1\]"),
        (OdeEdit, {"averages": 0}, "at least 1"),
        (OdeEdit, {"slide": "lr"}, "slide is one of text, guidance"),
        (OdeEdit, {"guide_from": "source", "source_guidance": 2.0}, "needs source_guidance 1"),
        (Distillation, {"sigma_range": (0.0, 1.0)}, "sigma_range"),
        (Distillation, {"constraint": "ball"}, "needs strength > 0"),
        (Distillation, {"schedule": "random"}, "lr is positive"),
        (Distillation, {"eta": (0.0, 1.0), "reference": "noise"}, r"reference noise needs eta \(0, 0\)"),
        (Distillation, {"eta": (0.0, 1.0), "reference": "same"}, r"reference same needs eta \(0, 0\)"),
        (Distillation, {"weight": "two"}, "weight is one of clean, one"),
    ],
)
def test_contradictions_are_refused(rule, settings, message):
    with pytest.raises(SettingError, match=message):
        rule("mine", **settings)


def test_wrong_calls_are_refused_before_any_work():
    field, x = Network(), draw(0, torch.float32)
    args = (field, x, embedding(0), embedding(2))
    with pytest.raises(SettingError, match="guidance 3.5 needs null_text"):
        iter_edit(*args, None, FLOWEDIT)
    with pytest.raises(SettingError, match="strictly decreasing"):
        iter_edit(*args, torch.tensor([1.0, 0.5]), FLOWALIGN)
    with pytest.raises(SettingError, match="Got 3 prompts for 2 latents"):
        iter_edit(field, x, embedding(0, 3), embedding(2), None, FLOWALIGN)
    with pytest.raises(SettingError, match="Got 1 seeds for 2 latents"):
        run(*args, None, FLOWALIGN, seeds=[1])
    assert field.batches == []
