"""Steps, runs and guidance passes of forward calls."""

from __future__ import annotations

import types

import pytest
import torch

from ditlens.adapters.table import ARCHITECTURES
from ditlens.calls import Clock, bind, pipeline_passes, timestep_of

SD3, FLUX = ARCHITECTURES["SD3Transformer2DModel"], ARCHITECTURES["FluxTransformer2DModel"]
ZIMAGE = ARCHITECTURES["ZImageTransformer2DModel"]


def ticks(timesteps, passes=("cond",), indices=None):
    clock = Clock()
    indices = indices or [None] * len(timesteps)
    return [clock.tick(t, passes, i) for t, i in zip(timesteps, indices, strict=True)]


def test_a_sampling_loop_is_one_run():
    assert ticks([900, 500, 100]) == [(0, 0), (1, 0), (2, 0)]


def test_going_up_is_a_run_too():
    assert ticks([0, 100, 500]) == [(0, 0), (1, 0), (2, 0)]


def test_a_turn_begins_a_new_run():
    assert ticks([900, 500, 900, 500]) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert ticks([100, 500, 400, 100]) == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_the_same_pass_again_begins_a_new_run():
    assert ticks([900, 900]) == [(0, 0), (0, 1)]


def test_two_passes_at_one_timestep_are_one_step():
    clock = Clock()
    found = [clock.tick(t, (name,)) for t in (900, 500) for name in ("cond", "uncond")]
    assert found == [(0, 0), (0, 0), (1, 0), (1, 0)]


def test_the_scheduler_decides_the_number():
    assert ticks([500, 100], indices=[1, 2]) == [(1, 0), (2, 0)]  # image to image begins late
    assert ticks([900, 500, 500, 100], indices=[0, 1, 2, 3]) == [(i, 0) for i in range(4)]  # Heun asks twice
    assert ticks([900, 500, 900], indices=[0, 1, 0]) == [(0, 0), (1, 0), (0, 1)]


def passes(architecture, batch, seen=None, guided=True, **args):
    pipe = types.SimpleNamespace(do_classifier_free_guidance=guided)
    return pipeline_passes(pipe, architecture, args, batch, seen or {})


def test_passes_in_one_batch():
    assert passes(SD3, 4) == ("uncond", "uncond", "cond", "cond")
    assert passes(SD3, 4, guided=False) == ("cond",) * 4


def test_passes_one_after_the_other():
    assert passes(FLUX, 2) == ("cond", "cond")
    assert passes(FLUX, 2, {"cond": 1}) == ("uncond", "uncond")


def test_skip_layer_guidance():
    assert passes(SD3, 2, skip_layers=[7, 8]) == ("skip", "skip")


def test_guidance_that_ends_early():
    assert passes(SD3, 2, {"batch": 4}) == ("cond", "cond")


def test_a_bare_transformer_has_one_pass():
    assert pipeline_passes(None, SD3, {}, 2, {}) == ("cond", "cond")


@pytest.mark.parametrize("name", ["timestep", "t", "timesteps"])
def test_the_timestep_has_several_names(name):
    assert timestep_of({name: torch.tensor([3.0, 3.0])}) == 3.0


def test_arguments_are_found_by_name_however_they_are_passed():
    class Block(torch.nn.Module):
        def forward(self, hidden_states, encoder_hidden_states, temb=None):
            return hidden_states

    block = Block()
    assert bind(block, (1, 2), {"temb": 3}) == {"hidden_states": 1, "encoder_hidden_states": 2, "temb": 3}
    assert bind(block, (), {"encoder_hidden_states": 2}) == {"encoder_hidden_states": 2}
