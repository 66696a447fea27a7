"""Steps, runs and guidance passes of forward calls."""

from __future__ import annotations

import types

import pytest
import torch

from ditlens.errors import CaptureError
from ditlens.labels import Label, announce, current_label, outside_steps
from ditlens.lens.adapters.table import ARCHITECTURES
from ditlens.lens.calls import Clock, Guidance, Moment, bind, timestep_of, wants

SD3, FLUX = ARCHITECTURES["SD3Transformer2DModel"], ARCHITECTURES["FluxTransformer2DModel"]
ZIMAGE = ARCHITECTURES["ZImageTransformer2DModel"]


def ticks(times, passes=("cond",), source="timestep", loops=None):
    clock = Clock()
    loops = loops or [None] * len(times)
    return [clock.tick(Moment(t, source, loop), passes) for t, loop in zip(times, loops, strict=True)]


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
    found = [clock.tick(Moment(t), (name,)) for t in (900, 500) for name in ("cond", "uncond")]
    assert found == [(0, 0), (0, 0), (1, 0), (1, 0)]


def test_the_scheduler_decides_the_number():
    assert ticks([1, 2], source="scheduler") == [(1, 0), (2, 0)]  # image to image begins late
    assert ticks([0, 1, 0], source="scheduler") == [(0, 0), (1, 0), (0, 1)]


def test_another_loop_is_another_run():
    """Even at the same step, and where the timesteps go on in the same direction."""
    first, second = object(), object()
    assert ticks([0, 0], source="scheduler", loops=[first, second]) == [(0, 0), (0, 1)]
    assert ticks([900, 500, 100], loops=[first, first, second]) == [(0, 0), (1, 0), (0, 1)]


def test_the_caller_decides_the_number():
    """Calls that repeat a step are its draws: the second draws of all steps are a run, too."""
    edit, other = object(), object()
    loops = [edit] * 4 + [other] * 4
    found = ticks([0, 0, 1, 1, 0, 0, 1, 1], source="caller", loops=loops)
    assert found == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]


def test_a_label_has_the_step_that_was_announced_around_it():
    run = object()
    with announce(Label(step=3, run=run)), announce(Label(("cond",))):
        label = current_label()
        assert (label.step, label.run, label.passes, label.outside) == (3, run, ("cond",), None)
    assert current_label() is None


def test_calls_outside_steps_stay_outside():
    with outside_steps():
        outer = current_label().outside
        with announce(Label(("cond",))):
            assert current_label().outside is outer
        with outside_steps():
            assert current_label().outside not in (None, outer)
    assert current_label() is None


def guidance(architecture, seen=(), **pipe):
    found = Guidance(architecture)
    found.called_by(types.SimpleNamespace(**pipe), object())
    found.begin("run")
    found.seen |= set(seen)
    return found


def passes(architecture, batch, seen=(), guided=True, **args):
    return guidance(architecture, seen, do_classifier_free_guidance=guided).passes(args, batch)


def test_passes_in_one_batch():
    assert passes(SD3, 4) == ("uncond", "uncond", "cond", "cond")
    assert passes(ZIMAGE, 4) == ("cond", "cond", "uncond", "uncond")
    assert passes(SD3, 4, guided=False) == ("cond",) * 4


def test_passes_one_after_the_other():
    assert passes(FLUX, 2) == ("cond", "cond")
    assert passes(FLUX, 2, {"cond"}) == ("uncond", "uncond")
    assert guidance(FLUX, {"cond"}).passes({}, 2) == ("uncond", "uncond")


def test_without_guidance_there_is_no_other_pass():
    assert passes(FLUX, 2, {"cond"}, guided=False) == ("cond", "cond")
    assert passes(SD3, 2, {"cond"}, guided=False) == ("cond", "cond")


def test_pipelines_that_keep_only_the_scale():
    found = guidance(SD3, _guidance_scale=5.0)
    assert found.passes({}, 2) == ("uncond", "cond")
    found.pipe._guidance_scale = 1.0  # CogVideoX lets it vary, and guides to the end
    assert found.passes({}, 2) == ("uncond", "cond")
    found.begin("run")
    assert found.passes({}, 2) == ("cond", "cond")


def test_own_calls_of_a_pipelines_transformer_are_not_guessed():
    """What the pipeline was told in its last run says nothing about them."""
    for architecture in (SD3, FLUX):
        with pytest.raises(
            CaptureError, match=r"by your own code .*Label\(\('uncond', 'cond'\)\).*pipe.transformer"
        ):
            Guidance(architecture).passes({}, 2)
        found = Guidance(architecture)
        assert found.passes({}, 1) == ("cond",)
        found.seen.add("cond")
        with pytest.raises(CaptureError, match="by your own code"):
            found.passes({}, 1)


def test_the_second_network_of_a_pipeline_has_the_pass_of_its_name():
    network = object()
    found = Guidance(ARCHITECTURES["Ideogram4Transformer2DModel"])
    found.called_by(types.SimpleNamespace(transformer=object(), unconditional_transformer=network), network)
    assert found.passes({}, 1) == ("uncond",)


def test_what_cannot_be_decided_is_an_error():
    with pytest.raises(
        CaptureError,
        match=r"does not say whether guidance is on.*from ditlens.labels import.*Label\(\('uncond', 'cond'\)\)",
    ):
        guidance(SD3).passes({}, 2)
    assert guidance(SD3).passes({}, 1) == ("cond",)


@pytest.mark.parametrize(
    ("guided", "names"), [(True, ("uncond", "cond", "perturbed")), (False, ("cond", "perturbed"))]
)
def test_perturbed_attention(guided, names):
    found = guidance(SD3, do_classifier_free_guidance=guided, do_perturbed_attention_guidance=True)
    assert found.passes({}, len(names)) == names


def test_guiders():
    from diffusers import ClassifierFreeGuidance, PerturbedAttentionGuidance, SkipLayerGuidance

    perturbing = {"perturbed_guidance_scale": 2.0, "perturbed_guidance_layers": [0]}
    for guider, names in (
        (ClassifierFreeGuidance(guidance_scale=4.0), ["cond", "uncond"]),
        (ClassifierFreeGuidance(guidance_scale=1.0), ["cond"]),
        (SkipLayerGuidance(guidance_scale=4.0, skip_layer_guidance_layers=[0]), ["cond", "uncond", "skip"]),
        (SkipLayerGuidance(guidance_scale=1.0, skip_layer_guidance_layers=[0]), ["cond", "skip"]),
        (PerturbedAttentionGuidance(guidance_scale=4.0, **perturbing), ["cond", "uncond", "perturbed"]),
        (PerturbedAttentionGuidance(guidance_scale=1.0, **perturbing), ["cond", "perturbed"]),
    ):
        guider.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(500))
        found, seen = guidance(SD3, guider=guider), []
        for _ in range(guider.num_conditions):
            guider._count_prepared += 1  # what prepare_models does, without its hooks
            found.called_by(found.pipe, object())
            seen.extend(found.passes({}, 1))
        assert seen == names


def test_skip_layer_guidance():
    assert passes(SD3, 2, skip_layers=[7, 8]) == ("skip", "skip")


def test_guidance_that_ends_early():
    found = guidance(SD3, do_classifier_free_guidance=True)
    assert found.passes({}, 4) == ("uncond", "uncond", "cond", "cond")
    found.begin("step")
    assert found.passes({}, 2) == ("cond", "cond")
    found.begin("run")  # a smaller batch, guided
    assert found.passes({}, 2) == ("uncond", "cond")


def test_a_bare_transformer_has_one_pass():
    assert Guidance(SD3, alone=True).passes({}, 2) == ("cond", "cond")


@pytest.mark.parametrize("name", ["timestep", "t", "timesteps"])
def test_the_timestep_has_several_names(name):
    assert timestep_of({name: torch.tensor([3, 3])}) == (3.0, 0.0)
    assert timestep_of({name: torch.tensor(3.0).bfloat16()}) == (3.0, 2**-7)


def test_arguments_are_found_by_name_however_they_are_passed():
    class Block(torch.nn.Module):
        def forward(self, hidden_states, encoder_hidden_states, temb=None):
            return hidden_states

    block = Block()
    assert bind(block, (1, 2), {"temb": 3}) == {"hidden_states": 1, "encoder_hidden_states": 2, "temb": 3}
    assert bind(block, (), {"encoder_hidden_states": 2}) == {"encoder_hidden_states": 2}


def test_a_pass_without_its_side_means_both():
    assert wants(None, "uncond.source") and wants(("uncond",), "uncond.source") and wants(("cond",), "cond")
    assert not wants(("uncond.source",), "uncond.target") and not wants(("source",), "uncond.source")
