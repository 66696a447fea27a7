"""Rectified-flow maths and loops, by hand and on the Gaussian world."""

from __future__ import annotations

import math

import pytest
import torch

from ditlens import flow
from ditlens.errors import SettingError
from ditlens.models.embedding import TextEmbedding
from ditlens.worlds.analytic import GaussianWorld

SHAPE = (2, 3, 2, 2)


def draw(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


class Recorder:
    """A Gaussian world that remembers the batch size and sigma of every call."""

    def __init__(self, std: float = 0.6) -> None:
        self.world, self.calls = GaussianWorld(std), []

    def __call__(self, latents, sigma, text):
        self.calls.append((len(latents), len(text), sigma))
        return self.world(latents, sigma, text)


def euler_stretch(world: GaussianWorld, sigmas: list[float]) -> float:
    """By what Euler steps multiply the deviation from the moving mean: the product of 1 + (t' - t) k(t)."""
    return math.prod(
        1 + (after - now) * world.gain(now) for now, after in zip(sigmas, sigmas[1:], strict=False)
    )


def test_formulas_by_hand():
    clean, noise = mean(2.0), mean(-1.0)
    latents = flow.interpolate(clean, noise, 0.25)
    assert latents.item() == 1.25  # 0.75 * 2 - 0.25
    velocity = noise - clean
    assert flow.predict_clean(latents, velocity, 0.25).item() == 2
    assert flow.predict_noise(latents, velocity, 0.25).item() == -1
    assert flow.score(latents, velocity, 0.25).item() == 4  # -noise / sigma
    assert flow.euler_step(latents, velocity, 0.25, 0.75).item() == -0.25  # 0.25 * 2 - 0.75
    assert flow.guide(mean(1.0), mean(3.0), 7.0).item() == 15


def test_one_sigma_per_item():
    mixed = flow.interpolate(torch.ones(SHAPE), torch.zeros(SHAPE), torch.tensor([0.25, 1.0]))
    assert mixed[:, 0, 0, 0].tolist() == [0.75, 0.0]
    assert mixed.dtype == torch.float32


@pytest.mark.parametrize("sigma", [500.0, -0.1, math.nan, torch.tensor([0.5, 999.0])])
def test_timesteps_are_refused(sigma):
    for function in (flow.interpolate, flow.predict_clean, flow.predict_noise, flow.score):
        with pytest.raises(SettingError, match="usual cause is passing a timestep"):
            function(draw(0), draw(1), sigma)


def test_score_needs_noise():
    with pytest.raises(SettingError, match="sigma > 0"):
        flow.score(draw(0), draw(1), 0.0)


def test_guided_velocity_evaluates_only_what_it_needs_in_one_call():
    field = Recorder()
    for guidance, rows in [(1.0, 2), (0.0, 2), (4.0, 4)]:
        field.calls.clear()
        velocity = flow.guided_velocity(field, draw(0), 0.3, mean(2.0), mean(0.5), guidance)
        assert field.calls == [(rows, rows, 0.3)]
        expected = 0.5 + guidance * 1.5
        torch.testing.assert_close(velocity, field.world(draw(0), 0.3, mean(expected)))
    with pytest.raises(SettingError, match="guidance 4 needs null_text"):
        flow.guided_velocity(field, draw(0), 0.3, mean(2.0), guidance=4.0)


def test_null_row_comes_first():
    seen = []

    def field(latents, sigma, text):  # noqa: ARG001
        seen.append(text.flatten().tolist())
        return latents

    flow.guided_velocity(field, draw(0), 0.3, mean(2.0), mean(0.5), 4.0)
    assert seen == [[0.5, 0.5, 2.0, 2.0]]


def test_text_embeddings_are_batched_like_tensors():
    def field(latents, sigma, text):  # noqa: ARG001
        assert text.tokens.shape == (4, 5, 8) and text.pooled.shape == (4, 6)
        return text.pooled[:, :1, None, None].expand_as(latents)

    null = TextEmbedding(torch.zeros(1, 5, 8), torch.zeros(1, 6))
    text = TextEmbedding(torch.ones(2, 5, 8), torch.ones(2, 6))
    assert isinstance(text, flow.TextBatch)
    velocity = flow.guided_velocity(field, draw(0), 0.3, text, null, 3.0)
    assert torch.equal(velocity, torch.full(SHAPE, 3.0).double())


def test_texts_that_do_not_fit_are_refused():
    with pytest.raises(SettingError, match="does not fit 2 latents"):
        flow.guided_velocity(GaussianWorld(), draw(0), 0.3, torch.zeros(3, 1, 1, 1))
    with pytest.raises(SettingError, match="Got 3 prompts for 2 latents"):
        text = TextEmbedding(torch.zeros(3, 5, 8), torch.zeros(3, 6))
        flow.guided_velocity(GaussianWorld(), draw(0), 0.3, text)


def test_sample_multiplies_deviations_by_the_euler_stretch():
    world, noise, text = GaussianWorld(0.6), draw(0), mean(2.0)
    for steps in (1, 4, 28):
        sigmas = flow.sigmas_linear(steps)
        expected = 2 + euler_stretch(world, sigmas.tolist()) * noise
        torch.testing.assert_close(flow.sample(world, noise, sigmas, text), expected, rtol=1e-12, atol=1e-12)


def test_states_count_steps_and_end_clean():
    sigmas, text = flow.sigmas_linear(4), mean(2.0)
    states = list(flow.iter_sample(GaussianWorld(), draw(0), sigmas, text))
    assert [state.step for state in states] == [0, 1, 2, 3]
    assert [state.sigma for state in states] == [0.75, 0.5, 0.25, 0.0]
    assert torch.equal(states[-1].clean, states[-1].latents)
    # At sigma 1 nothing is known about the picture: the best estimate is the mean.
    torch.testing.assert_close(states[0].clean, torch.full(SHAPE, 2.0).double())
    seen = []
    final = flow.sample(GaussianWorld(), draw(0), sigmas, text, on_step=lambda state: seen.append(state.step))
    assert seen == [0, 1, 2, 3] and torch.equal(final, states[-1].latents)


def test_stopping_the_iteration_stops_the_work():
    field = Recorder()
    for state in flow.iter_sample(field, draw(0), flow.sigmas_linear(50), mean(2.0)):
        if state.step == 2:
            break
    assert len(field.calls) == 3


def test_loops_add_up_in_float32_for_a_half_precision_model():
    def half(latents, sigma, text):
        assert latents.dtype == torch.float32
        return GaussianWorld()(latents, sigma, text).to(torch.bfloat16)

    start = draw(0).to(torch.bfloat16)
    made = flow.sample(half, start, flow.sigmas_linear(10), mean(2.0).float())
    assert made.dtype == torch.float32
    velocity = flow.guided_velocity(half, start.float(), 0.5, mean(2.0).float())
    assert velocity.dtype == torch.float32


def test_loops_keep_no_graph():
    weight = torch.ones(1, requires_grad=True)
    made = flow.sample(lambda x, sigma, text: weight * x, draw(0), flow.sigmas_linear(3), mean(1.0))  # noqa: ARG005
    assert not made.requires_grad


@pytest.mark.parametrize(
    "sigmas",
    [
        torch.tensor([1.0, 0.5]),
        torch.tensor([0.0, 0.5, 1.0]),
        torch.tensor([1.0, 1.0, 0.0]),
        torch.tensor([0.0]),
        torch.zeros(2, 2),
    ],
)
def test_bad_grids_are_refused_before_any_work(sigmas):
    field = Recorder()
    with pytest.raises(SettingError, match="strictly decreasing numbers ending in 0"):
        flow.iter_sample(field, draw(0), sigmas, mean(1.0))
    assert field.calls == []


def test_timesteps_as_a_grid_are_refused():
    with pytest.raises(SettingError, match="usual cause is passing a timestep"):
        flow.iter_sample(GaussianWorld(), draw(0), torch.tensor([1000.0, 500.0, 0.0]), mean(1.0))
    with pytest.raises(SettingError, match="steps is 0; give a whole number from 1"):
        flow.sigmas_linear(0)


def test_inversion_walks_up_and_finds_the_noise():
    field, noise, text = Recorder(), draw(0), mean(2.0)
    clean = field.world.flow(noise, 1.0, 0.0, text)
    sigmas = flow.sigmas_linear(400)
    found = flow.invert(field, clean, sigmas, text)
    assert field.calls[0][2] == 0 and field.calls[-1][2] == sigmas[1].item()
    assert (found - noise).abs().max().item() < 0.01
    stretch = euler_stretch(field.world, sigmas.flip(0).tolist())
    torch.testing.assert_close(found, stretch * (clean - 2), rtol=1e-11, atol=1e-11)


def there_and_back(world: GaussianWorld, steps: int) -> float:
    """What Euler inversion and sampling together make of a deviation: 1 up to an error of order 1 / steps."""
    sigmas = flow.sigmas_linear(steps).tolist()
    return euler_stretch(world, sigmas) * euler_stretch(world, sigmas[::-1])


def test_euler_comes_back_with_order_one():
    world = GaussianWorld(0.6)
    errors = [abs(there_and_back(world, steps) - 1) for steps in (200, 400, 800)]
    assert errors[2] < 0.005
    assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([2, 2], rel=0.01)


def test_guided_inversion_does_not_reconstruct():
    """Inversion with guidance 3 follows the mean 0.5 + 3 * 1.5 = 5, sampling the mean 2: x - 3, not x."""
    world, x, sigmas = GaussianWorld(0.6), draw(0), flow.sigmas_linear(400)
    noise = flow.invert(world, x, sigmas, mean(2.0), null_text=mean(0.5), guidance=3.0)
    back = flow.sample(world, noise, sigmas, mean(2.0))
    torch.testing.assert_close(back, 2 + there_and_back(world, 400) * (x - 5), rtol=0, atol=1e-11)
    plain = flow.sample(world, flow.invert(world, x, sigmas, mean(2.0)), sigmas, mean(2.0))
    torch.testing.assert_close(plain, 2 + there_and_back(world, 400) * (x - 2), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("steps", "active", "first"),
    [(50, 0.6, 20), (50, 33 / 50, 17), (28, 24 / 28, 4), (28, 0.6, 11), (7, 1.0, 0)],
)
def test_active_share_counts_like_diffusers(steps, active, first):
    assert flow.first_active(steps, active) == first


def test_active_share_is_checked():
    for active in (0.0, 1.2):
        with pytest.raises(SettingError, match=r"must lie in \(0, 1\]"):
            flow.first_active(10, active)


def test_noise_belongs_to_the_seed_not_to_the_batch():
    alone = flow.seeded_noise(flow.seeded_generators([7], 1), torch.zeros(1, 3, 2, 2))
    crowd = flow.seeded_noise(flow.seeded_generators([1, 7], 2), torch.zeros(SHAPE).double())
    assert crowd.dtype == torch.float64 and torch.equal(crowd[1], alone[0].double())
    default = flow.seeded_noise(flow.seeded_generators(None, 2), torch.zeros(SHAPE))
    assert torch.equal(
        default[1:], flow.seeded_noise(flow.seeded_generators([1], 1), torch.zeros(1, 3, 2, 2))
    )
    with pytest.raises(SettingError, match="Got 1 seeds for 2 latents"):
        flow.seeded_noise(flow.seeded_generators([7], 1), torch.zeros(SHAPE))


def test_rows_of_unequal_size_are_evaluated_together():
    world, x, text = GaussianWorld(0.6), torch.randn(3, 2, 2, 2), torch.ones(1, 1, 1, 1)
    one, three = flow.evaluate(world, 0.5, [(x[:1], text), (x, 2 * text)])
    assert torch.equal(one, world(x[:1], 0.5, text)) and torch.equal(three, world(x, 0.5, 2 * text))
