"""SDEdit, the inversions and their solvers against the closed forms of the Gaussian world."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import pytest
import torch

from ditlens import flow
from ditlens.ems.loops import DDIB, FIREFLOW, RF_INVERSION, RF_SOLVER, SDEDIT, Inversion, Resample, walk
from ditlens.ems.methods import CSDS, DDS, FLOWEDIT, FLOWSLIDER, HSDS
from ditlens.ems.sample import METHODS, iter_method, method_from, method_named, settings_of
from ditlens.errors import SettingError
from ditlens.worlds.analytic import GaussianWorld

SHAPE = (2, 3, 2, 2)
SPREAD = 0.6


def draw(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def run(method, x=None, source=-1.0, target=2.0, **options):
    options = {"null_text": mean(0.5), "seeds": [3, 4]} | options
    x = draw(0) if x is None else x
    states = iter_method(GaussianWorld(SPREAD), x, mean(source), mean(target), method, **options)
    return deque(states, maxlen=1)[0]


def exact(x: torch.Tensor, mean_of: float, sigma: float, to: float) -> torch.Tensor:
    """The flow of the Gaussian world from one noise level to another, in closed form."""

    def spread(t: float) -> float:
        return math.sqrt((1 - t) ** 2 * SPREAD**2 + t**2)

    return (1 - to) * mean_of + spread(to) / spread(sigma) * (x - (1 - sigma) * mean_of)


# --- solvers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 3), ("reuse", 2)])
def test_order_of_a_solver(solver, order):
    """Halving the step divides the error by 2 ** order: FireFlow is of second order for one evaluation a step.

    The midpoint rule is of second order in general and, as it happens, of third in a Gaussian world.
    """
    world, x = GaussianWorld(SPREAD), draw(0)
    goal, errors = exact(x, 2.0, 0.9, 0.2), []  # all the way, Euler and midpoint errors partly cancel
    for steps in (50, 100, 200):
        *_, last = walk(
            lambda z, t: world(z, t, mean(2.0)),
            x,
            torch.linspace(0.9, 0.2, steps + 1, dtype=torch.float64).tolist(),
            solver,
        )
        errors.append((last[2] - goal).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.1)


def test_midpoint_is_rf_solvers_taylor_step():
    """x + h v + h^2/2 (v(x + h v / 2, t + h/2) - v)/(h/2) is the midpoint rule, identically."""
    world, x, text = GaussianWorld(SPREAD), draw(0), mean(2.0)
    t, after = 0.7, 0.6
    h = after - t
    v = world(x, t, text)
    slope = (world(x + h / 2 * v, t + h / 2, text) - v) / (h / 2)
    (step,) = walk(lambda z, s: world(z, s, text), x, [t, after], "midpoint")
    torch.testing.assert_close(step[2], x + h * v + h**2 / 2 * slope, rtol=0, atol=1e-14)


def test_reuse_takes_the_last_midpoint_velocity_for_the_next_guess():
    seen = []

    def drift(z, t):
        seen.append((t, z.mean().item()))
        return torch.ones_like(z)

    *_, last = walk(drift, torch.zeros(SHAPE), [1.0, 0.5, 0.0], "reuse")
    assert [t for t, _ in seen] == [1.0, 0.75, 0.25], "one evaluation a step, one more at the start"
    assert last[2].mean().item() == -1


# --- SDEdit and what comes before it -----------------------------------------------------------------------


def test_sdedit_formula():
    """mu1 + (s / sqrt V(t0)) (x_t0 - (1 - t0) mu1), approached at first order."""
    noise = flow.seeded_noise(flow.seeded_generators([3, 4], 2), draw(0))
    errors = []
    for steps in (500, 1000):
        state = run(replace(SDEDIT, steps=steps, active=0.6, guidance=1.0))
        limit = exact(0.4 * draw(0) + 0.6 * noise, 2.0, 0.6, 0.0)
        errors.append((state.latents - limit).abs().max().item())
    assert errors[1] < 0.003 and errors[0] / errors[1] == pytest.approx(2, rel=0.02)


def test_sdedit_with_the_source_text_ignores_the_target():
    method = replace(SDEDIT, steps=10, guidance=1.0, text="source")
    assert torch.equal(run(method, target=2.0).latents, run(method, target=7.0).latents)


def test_first_moves_the_latents_before_they_are_noised():
    """Image only, text only, both: the three rows of the finding, in closed form."""
    first = replace(FLOWEDIT, source_guidance=1.0, target_guidance=1.0, active=1.0, steps=7)
    plain = Resample("plain", steps=400, active=0.5, guidance=1.0)
    noise = flow.seeded_noise(flow.seeded_generators([3, 4], 2), draw(0))
    for text, moved in (("target", False), ("source", True), ("target", True)):
        method = replace(plain, text=text, first=first if moved else None)
        start = draw(0) + (3.0 if moved else 0.0)
        expected = exact(0.5 * start + 0.5 * noise, 2.0 if text == "target" else -1.0, 0.5, 0.0)
        torch.testing.assert_close(run(method).latents, expected, rtol=0, atol=0.02)
    states = list(
        iter_method(GaussianWorld(SPREAD), draw(0), mean(-1.0), mean(2.0), method, null_text=mean(0.5))
    )
    assert [s.step for s in states] == list(range(7 + 200)) and {s.steps for s in states} == {207}


# --- inversions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [DDIB, RF_SOLVER, FIREFLOW])
def test_inversion_shifts_by_the_difference_of_means(method):
    """x + mu1 - mu0; at the mean of the source exactly, for any grid and solver."""
    method = replace(method, guidance=1.0)
    center = torch.full(SHAPE, -1.0, dtype=torch.float64)
    for steps in (3, 50):
        found = run(replace(method, steps=steps), center).latents
        torch.testing.assert_close(found, center + 3, rtol=0, atol=1e-12)
    error = (run(replace(method, steps=200)).latents - (draw(0) + 3)).abs().max().item()
    assert error < (0.04 if method.solver == "euler" else 2e-3)


def test_rf_inversion_limits():
    """gamma 1 leads to the seed's noise whatever the picture; eta 1 throughout leads back to the picture."""
    up = replace(RF_INVERSION, gamma=1.0, eta=0.0, steps=12)
    states = list(
        iter_method(
            GaussianWorld(SPREAD), draw(0), mean(-1.0), mean(2.0), up, null_text=mean(0.5), seeds=[3, 4]
        )
    )
    noise = flow.seeded_noise(flow.seeded_generators([3, 4], 2), draw(0))
    torch.testing.assert_close(states[11].latents, noise, rtol=0, atol=1e-12)
    back = replace(RF_INVERSION, eta=1.0, eta_stop=1.0, steps=12)
    torch.testing.assert_close(run(back).latents, draw(0), rtol=0, atol=1e-12)
    free = run(replace(RF_INVERSION, gamma=0.0, eta=0.0, guidance=1.0, steps=9)).latents
    plain = run(replace(DDIB, invert_with="null", guidance=1.0, steps=9)).latents
    torch.testing.assert_close(free, plain, rtol=0, atol=1e-12)


def test_rf_inversion_pulls_for_its_share_of_the_steps_only():
    short = run(replace(RF_INVERSION, eta=1.0, eta_stop=0.25, steps=12, guidance=1.0)).latents
    long = run(replace(RF_INVERSION, eta=1.0, eta_stop=0.75, steps=12, guidance=1.0)).latents
    x = draw(0)
    assert (long - x).abs().mean() < 0.5 * (short - x).abs().mean()


# --- HSDS, sliding, masks ----------------------------------------------------------------------------------


def test_hsds_is_the_mixed_second_derivative():
    """h = (1 - t)(mu1 - mu0)/V(t); weighted by t, z moves by lr (1 - t) t / V(t) (mu1 - mu0), from any point."""
    method = replace(
        HSDS, steps=6, lr=0.1, source_guidance=1.0, target_guidance=1.0, constraint="none", strength=0
    )
    expected = 0.0
    for t, _ in method.levels(None):
        expected += 0.1 * (1 - t) * t / ((1 - t) ** 2 * SPREAD**2 + t**2) * 3.0
    found = run(method).latents - draw(0)
    torch.testing.assert_close(found, torch.full(SHAPE, expected, dtype=torch.float64), rtol=0, atol=1e-12)
    world, z, t = GaussianWorld(SPREAD), draw(5), 0.3
    step = 1e-6
    score = [flow.score(z, world(z, t, mean(m)), t) for m in (-1.0, -1.0 + 3 * step)]
    mixed = (score[1] - score[0]) / step
    closed = 0.7 * 3 / (0.7**2 * SPREAD**2 + t**2)
    torch.testing.assert_close(mixed, torch.full(SHAPE, closed, dtype=torch.float64), rtol=1e-6, atol=0)


def test_sliding_by_guidance_is_linear_for_every_item():
    method = replace(FLOWSLIDER, active=1.0, steps=9)
    found = run(method, slides=torch.tensor([0.0, 1.5])).latents - draw(0)
    assert torch.equal(found[0], torch.zeros(SHAPE[1:], dtype=torch.float64)), (
        "0 returns the picture bit for bit"
    )
    torch.testing.assert_close(found[1], torch.full(SHAPE[1:], 4.5, dtype=torch.float64), rtol=0, atol=1e-12)


EVERY = {
    **METHODS,
    "image-only": Resample("image-only", steps=6, first=replace(DDS, steps=4), text="source"),
    "both": Resample("both", steps=6, first=replace(CSDS["penalty"], steps=4)),
}


def quick(method):
    return replace(method, steps=6)


@pytest.mark.parametrize("name", EVERY)
def test_outside_the_mask_nothing_changes(name):
    mask = torch.zeros(1, 1, 2, 2)
    mask[..., 0] = 1
    state = run(quick(EVERY[name]), mask=mask)
    assert torch.equal(state.latents[..., 1], draw(0)[..., 1])
    assert torch.equal(state.clean[..., 1], draw(0)[..., 1]), "the preview keeps it too"
    assert (state.latents[..., 0] - draw(0)[..., 0]).abs().min() > 1e-4
    whole = run(quick(EVERY[name]), mask=torch.ones(1, 1, 2, 2)).latents
    torch.testing.assert_close(whole, run(quick(EVERY[name])).latents, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_states_count_steps_and_cost(name):
    calls, rows = [], []
    world = GaussianWorld(SPREAD)

    def field(latents, sigma, text):
        calls.append(sigma)
        rows.append(len(latents))
        return world(latents, sigma, text)

    states = list(
        iter_method(
            field, draw(0), mean(-1.0), mean(2.0), quick(EVERY[name]), null_text=mean(0.5), seeds=[3, 4]
        )
    )
    assert [s.step for s in states] == list(range(states[0].steps)) and len({s.steps for s in states}) == 1
    assert (states[-1].calls, states[-1].evaluations) == (len(calls), sum(rows))
    assert not states[-1].latents.requires_grad


@pytest.mark.parametrize("name", EVERY)
def test_settings_survive_json(name):
    import json

    method = EVERY[name]
    assert method_from(json.loads(json.dumps(settings_of(method)))) == method


def test_refusals(wrong_types):
    with pytest.raises(SettingError, match=r"There is no method 'flow'\. Choose from: .*flowedit"):
        method_named("flow")
    with pytest.raises(SettingError, match=r"no setting \['speed'\]"):
        method_from({"kind": "inversion", "name": "mine", "speed": 3})
    with pytest.raises(SettingError, match="no kind of method .magic."):
        method_from({"kind": "magic"})
    with pytest.raises(SettingError, match="solver is one of euler, midpoint, reuse"):
        Inversion("mine", solver="heun")
    with pytest.raises(SettingError, match="need solver euler"):
        Inversion("mine", solver="reuse", eta=0.5)
    with pytest.raises(SettingError, match=r"active lies in \(0, 1\]"):
        Resample("mine", active=0.0)
    with pytest.raises(SettingError, match="inverts with the null text"):
        run(RF_INVERSION, null_text=None)
    with pytest.raises(SettingError, match="begins at 1"):
        run(DDIB, grid=lambda steps: torch.linspace(0.9, 0, steps + 1))
    for mask, words in (
        (torch.ones(2, 2), r"The mask has shape \(2, 2\)"),
        (torch.full((1, 1, 2, 2), 255.0), "divide an image by 255"),
    ):
        with pytest.raises(SettingError, match=words):
            run(quick(FLOWEDIT), mask=mask)
