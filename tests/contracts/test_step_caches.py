"""Step caches and layer skips: blocks that do not run have no hidden states, and nobody is told otherwise."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers import hooks

import ditlens as dl
from ditlens.errors import CaptureError

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

FLUX, COGVIEW = "FluxTransformer2DModel", "CogView4Transformer2DModel"
OUT = "*.*.{text,image}.out"


def skipping(**settings):
    return diffusers.LayerSkipConfig([1], fqn="transformer_blocks", **settings)


APPLIED = {
    "first block": lambda model: hooks.apply_first_block_cache(model, hooks.FirstBlockCacheConfig()),
    "taylorseer": lambda model: hooks.apply_taylorseer_cache(model, hooks.TaylorSeerCacheConfig()),
    "taylorseer lite": lambda model: hooks.apply_taylorseer_cache(
        model, hooks.TaylorSeerCacheConfig(use_lite_mode=True)
    ),
    "pyramid attention broadcast": lambda model: hooks.apply_pyramid_attention_broadcast(
        model,
        hooks.PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
        ),
    ),
    "faster": lambda model: hooks.apply_faster_cache(
        model, hooks.FasterCacheConfig(current_timestep_callback=lambda: 500)
    ),
    "mag": lambda model: hooks.apply_mag_cache(model, hooks.MagCacheConfig(mag_ratios=torch.ones(28))),
    "sea": lambda model: hooks.apply_sea_cache(model, hooks.SeaCacheConfig()),
    "layer skip": lambda model: hooks.apply_layer_skip(model, skipping()),
    "attention skip": lambda model: hooks.apply_layer_skip(
        model, skipping(skip_attention=False, skip_attention_scores=True, skip_ff=False)
    ),
    "feed-forward skip": lambda model: hooks.apply_layer_skip(model, skipping(skip_attention=False)),
}
"""What is switched on by a function of diffusers."""


@pytest.fixture
def flux():
    return tiny.build(FLUX), tiny.inputs(FLUX)


@pytest.fixture(params=APPLIED)
def switch(request):
    """Model, inputs, and what switches something on; diffusers cannot skip the attention of FLUX alone."""
    name = COGVIEW if request.param == "attention skip" else FLUX
    return tiny.build(name), tiny.inputs(name), APPLIED[request.param]


@torch.no_grad()
def call(model, inputs):
    return model(**inputs, return_dict=False)[0]


def switch_off(model, message):
    """Do what the message says to type."""
    exec(
        re.sub(r".*Remove it first: (.*; )(for .*)", r"\1\n\2", message).replace("; \n", "\n"),
        {"transformer": model},
    )


def test_what_a_function_switched_on_is_refused_and_the_message_switches_it_off(switch):
    model, inputs, switch_on = switch
    with dl.capture(model, OUT) as expected:
        plain = call(model, inputs)
    switch_on(model)
    with pytest.raises(CaptureError, match="leaves a block out") as raised, dl.capture(model, OUT):
        pass
    with pytest.raises(CaptureError, match="leaves a block out"):
        dl.intervene(model, {"joint.1.image.out": dl.scale(0.0)}).__enter__()
    assert dl.hooks_on(model) == []
    switch_off(model, str(raised.value))
    with dl.capture(model, OUT) as cache:
        assert torch.equal(call(model, inputs), plain)
    assert all(torch.equal(cache.tensors[key], expected.tensors[key]) for key in expected)


def test_what_is_switched_on_inside_a_capture_is_refused_at_the_next_call(switch):
    model, inputs, switch_on = switch
    with pytest.raises(CaptureError, match="remove_hook") as raised, dl.capture(model, OUT):
        call(model, inputs)
        switch_on(model)
        call(model, inputs)
    switch_off(model, str(raised.value))
    assert not any(module._forward_hooks for module in model.modules())


def test_an_enabled_cache_is_refused_at_the_next_call_too(flux):
    model, inputs = flux
    message = r"\(fbc_block_hook, fbc_leader_block_hook\).*Call transformer\.disable_cache\(\) first"
    with dl.capture(model, OUT) as cache:
        call(model, inputs)
        model.enable_cache(diffusers.FirstBlockCacheConfig())
        with pytest.raises(CaptureError, match=message):
            call(model, inputs)
        model.disable_cache()
        call(model, inputs)
    assert len(cache.items) == 4  # the refused call left nothing


def test_other_hooks_of_diffusers_are_no_obstacle(flux, monkeypatch):
    """Offloading, casting of weights, a hook that changes arguments, and a registry whose hooks are gone."""
    model, inputs = flux

    class Passes(hooks.ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            return args, kwargs

    monkeypatch.setattr(
        hooks.layerwise_casting, "disable_input_dtype_casting", nullcontext, raising=False
    )  # peft's
    plain = call(model, inputs)
    hooks.HookRegistry.check_if_exists_or_initialize(model.transformer_blocks[0]).register_hook(
        Passes(), "own"
    )
    hooks.apply_layerwise_casting(model, torch.float64, torch.float32)
    registry = hooks.HookRegistry.check_if_exists_or_initialize(model.transformer_blocks[0].attn.to_q)
    registry.register_hook(hooks.layerwise_casting.PeftInputAutocastDisableHook(), "peft")
    APPLIED["layer skip"](model)
    hooks.HookRegistry.check_if_exists_or_initialize(model).remove_hook("layer_skip_hook")
    with dl.capture(model, OUT) as cache:
        assert torch.equal(call(model, inputs), plain)
    assert len(cache) == 8


def guided(model, inputs, guider, **settings):
    """The calls of one step, as modular pipelines make them; what was captured and what an intervention did."""
    pipe = SimpleNamespace(transformer=model, guider=guider)
    changes = {"joint.*.image.out": dl.scale(1.0)}
    with dl.capture(pipe, "*.*.*.*", **settings) as cache, dl.intervene(pipe, changes) as session:
        guider.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(500))
        for _ in range(guider.num_conditions):
            guider.prepare_models(model)
            call(model, inputs)
            guider.cleanup_models(model)
    return cache, session


@pytest.mark.parametrize(
    ("make", "pass_", "calls"),
    [
        (lambda: diffusers.SkipLayerGuidance(skip_layer_config=skipping()), "skip", 3),
        (lambda: diffusers.AutoGuidance(auto_guidance_config=skipping()), "uncond", 2),
    ],
)
def test_layers_that_a_guider_leaves_out_are_neither_captured_nor_changed(flux, make, pass_, calls):
    """All others are, and the conditional pass is whole."""
    model, inputs = flux
    with dl.capture(model, "*.*.*.*") as plain:
        call(model, inputs)
    cache, session = guided(model, inputs, make(), passes=None)
    assert session.applied == {"joint.0.image.out": calls, "joint.1.image.out": calls - 1}
    assert {key.site for key in cache if key.pass_ == pass_} == {
        site for site in plain.sites if not site.startswith("joint.1.")
    }
    assert all(torch.equal(plain.tensors[key], cache.tensors[key]) for key in plain)
    cond, _ = guided(model, inputs, make(), passes="cond")
    assert cond.passes == ["cond"] and set(cond) == set(plain)


def test_an_attention_that_a_guider_perturbs_is_not_captured():
    """It gives back the values; the queries and maps are those of no softmax."""
    model, inputs = tiny.build(COGVIEW), tiny.inputs(COGVIEW)
    config = skipping(skip_attention=False, skip_attention_scores=True, skip_ff=False)
    guider = diffusers.PerturbedAttentionGuidance(perturbed_guidance_config=config)
    cache, session = guided(model, inputs, guider, passes=None)
    absent = set(cache.sites) - {key.site for key in cache if key.pass_ == "perturbed"}
    assert session.applied == {"joint.0.image.out": 3, "joint.1.image.out": 3}
    assert absent == {site for site in cache.sites if re.match(r"joint\.1\.\w+\.(q|k|v|attn)", site)}
