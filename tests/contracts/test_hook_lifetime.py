"""Hooks come and go: after whatever happens, ours are gone and those of others are where they were."""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import math
import re
import sys
import types
import weakref
from pathlib import Path

import pytest
import torch

import ditlens as dl
from ditlens.errors import BudgetError, CaptureError, InterventionError, SettingError, SiteError
from ditlens.labels import Label, announce, outside_steps
from ditlens.lens import attention
from ditlens.lens.captures import all_finite
from ditlens.lens.hooks import given_part

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

SD3 = "SD3Transformer2DModel"
OUT = "joint.*.{text,image}.out"


def hooks(model):
    """Every hook of every module, whoever put it there."""
    return [
        hook
        for module in model.modules()
        for kind in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        for hook in kind.values()
    ]


@pytest.fixture
def sd3():
    """Model, inputs, and a user's own hook; afterwards nothing else may be on the model."""
    model, inputs = tiny.build(SD3), tiny.inputs(SD3)
    seen = []
    model.transformer_blocks[0].register_forward_hook(lambda m, a, k, o: seen.append(1), with_kwargs=True)
    before = hooks(model)
    yield model, inputs
    assert hooks(model) == before
    assert dl.hooks_on(model) == []
    seen.clear()
    with torch.no_grad():
        model(**inputs)
    assert seen == [1]


@torch.no_grad()
def call(model, inputs, **changes):
    return model(**(inputs | changes), return_dict=False)[0]


def test_normal_exit(sd3):
    model, inputs = sd3
    with dl.capture(model, OUT) as cache:
        assert dl.hooks_on(model) == ["capture of 3 sites"]
        call(model, inputs)
    assert len(cache) == 3


def test_the_model_raises(sd3):
    model, inputs = sd3
    with pytest.raises(RuntimeError, match="mat1 and mat2"), dl.capture(model, OUT):
        call(model, inputs, encoder_hidden_states=torch.zeros(2, 5, 31))


def test_a_block_raises_while_its_attention_is_watched(sd3):
    model, inputs = sd3
    model.transformer_blocks[1].attn.to_q.register_forward_hook(lambda *_: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError), dl.capture(model, "*.*.*.attn.to_text"):
            call(model, inputs)
        assert torch.overrides._get_current_function_mode_stack() == []
    finally:
        model.transformer_blocks[1].attn.to_q._forward_hooks.clear()


def test_the_users_function_raises(sd3):
    model, inputs = sd3
    with pytest.raises(ZeroDivisionError), dl.intervene(model, {"joint.0.image.out": lambda v: v / (1 // 0)}):
        call(model, inputs)


def test_the_second_site_is_bad(sd3):
    model, _ = sd3
    with pytest.raises(SiteError), dl.capture(model, ["joint.0.image.out", "joint.9.image.out"]):
        pass
    with (
        pytest.raises(SiteError),
        dl.intervene(model, {"joint.0.image.out": dl.scale(2), "joint.1.text.out": dl.scale(2)}),
    ):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_ctrl_c(sd3, error):
    model, inputs = sd3
    with pytest.raises(error), dl.capture(model, OUT):
        call(model, inputs)
        raise error


def test_ctrl_c_inside_the_forward(sd3):
    model, inputs = sd3

    def stop(values):
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        dl.capture(model, "*.*.*.*"),
        dl.intervene(model, {"joint.1.image.q": stop}),
    ):
        call(model, inputs)
    assert torch.overrides._get_current_function_mode_stack() == []


class Stops:
    """A hook that raises when it is called for the n-th time, and never again."""

    def __init__(self, module, after, error=RuntimeError):
        self.left, self.error = after, error
        self.handle = module.register_forward_hook(self)

    def __call__(self, *_):
        self.left -= 1
        if self.left == 0:
            self.handle.remove()
            raise self.error("once")


def tried(model, inputs, times):
    """A sampling loop; whether it came to its end."""
    try:
        for time in times:
            call(model, inputs, timestep=torch.full((2,), time))
    except (RuntimeError, KeyboardInterrupt):
        return False
    return True


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_call_that_raised_and_was_repeated_is_captured_whole(sd3, error):
    model, inputs = sd3
    with dl.capture(model, "*.*.*.*") as expected:
        call(model, inputs)
    Stops(model.transformer_blocks[1].ff, 1, error)
    with (
        dl.capture(model, "*.*.*.*", limit=expected.nbytes) as cache,
        dl.intervene(model, {"joint.0.image.out": dl.scale(1.0)}) as session,
    ):
        assert not tried(model, inputs, [500.0])
        assert not cache.tensors
        call(model, inputs)
    assert (
        set(cache) == set(expected) and len(cache.items) == 2 and session.applied == {"joint.0.image.out": 1}
    )
    assert all(torch.equal(cache.tensors[key], expected.tensors[key]) for key in cache)


@pytest.mark.parametrize("again", ["the step", "the loop"])
def test_a_sampling_loop_that_raised_and_went_on_or_began_again_is_captured_whole(sd3, again):
    """After another loop, which is kept."""
    model, inputs = sd3
    times = [900.0, 500.0, 100.0]
    with dl.capture(model, OUT) as expected:
        assert tried(model, inputs, times)
    with dl.capture(model, OUT, limit=2 * expected.nbytes) as cache:
        assert tried(model, inputs, times)
        Stops(model.transformer_blocks[1].ff, 2)
        assert not tried(model, inputs, times)
        assert tried(model, inputs, times if again == "the loop" else times[1:])
    assert [item.run for item in cache.items].count(0) == 2 and len(cache.items) == 4
    assert set(cache) == set(expected) and cache.steps == [0, 1, 2]
    assert all(torch.equal(cache.tensors[k], expected.tensors[k].repeat(2, 1, 1)) for k in cache)


def test_a_sampling_loop_that_broke_off_is_a_warning(sd3):
    model, inputs = sd3
    Stops(model.transformer_blocks[1].ff, 2)
    with pytest.warns(UserWarning, match="holds the steps before"), dl.capture(model, OUT) as cache:
        assert not tried(model, inputs, [900.0, 500.0, 100.0])
    assert cache.steps == [0]


def test_every_draw_of_an_announced_loop_that_began_again_is_captured(sd3):
    """An edit may draw several noises at each step; the second draws count as a run of their own."""
    model, inputs = sd3

    def loop():
        run = object()
        for step in range(2):
            with announce(Label(("cond", "cond"), step=step, run=run)):
                call(model, inputs)
                call(model, inputs)

    with dl.capture(model, OUT) as expected:
        loop()
    Stops(model.transformer_blocks[1].ff, 4)
    with dl.capture(model, OUT) as cache:
        with pytest.raises(RuntimeError, match="once"):
            loop()
        loop()
    assert len(cache.items) == len(expected.items) == 4
    assert all(torch.equal(cache.tensors[key], expected.tensors[key]) for key in expected)


class Guided:
    """A pipeline that guides by two calls a step."""

    config_name, do_classifier_free_guidance = "model_index.json", True

    def __init__(self, transformer):
        self.transformer = transformer

    def __call__(self, inputs, times):
        return tried(self.transformer, inputs, times)


def test_a_pass_that_raised_is_not_taken_for_come(sd3):
    """Two calls a step, as for guidance: the second call of a repeated step is uncond still."""
    model, inputs = sd3
    pipe = Guided(model)
    guided = dl.capture(pipe, OUT, passes=None)
    guided.guidance.architecture = dataclasses.replace(guided.guidance.architecture, rows=())
    Stops(model.transformer_blocks[1].ff, 1)
    with guided as cache:
        assert not pipe(inputs, [500.0])
        assert pipe(inputs, [500.0, 500.0])
    assert cache.passes == ["cond", "uncond"] and cache.steps == [0] and len(cache.items) == 2


def test_nested_in_every_order(sd3):
    model, inputs = sd3
    plain = call(model, inputs)
    double, shift = dl.scale(2.0), dl.add_vector(torch.ones(32))
    place = "joint.0.image.out"
    with dl.capture(model, place) as base:
        call(model, inputs)
    with (
        dl.capture(model, place) as outside,
        dl.intervene(model, {place: double}),
        dl.intervene(model, {place: shift}),
    ):
        call(model, inputs)
    with (
        dl.intervene(model, {place: double}),
        dl.intervene(model, {place: shift}),
        dl.capture(model, place) as inside,
    ):
        call(model, inputs)
    torch.testing.assert_close(outside[place], base[place] * 2 + 1)
    assert torch.equal(outside[place], inside[place])
    with dl.capture(model, place) as a, dl.capture(model, OUT) as b:
        call(model, inputs)
    assert torch.equal(a[place], b[place])
    assert torch.equal(call(model, inputs), plain)


@pytest.mark.parametrize("point", ["q", "v"])
def test_softmax_arguments_are_seen_as_changed_in_every_order(sd3, point):
    model, inputs = sd3
    place = f"joint.0.image.{point}"
    double, shift = dl.scale(2.0), dl.add_vector(torch.ones(32))
    with dl.capture(model, place) as base:
        call(model, inputs)
    with (
        dl.capture(model, place) as outside,
        dl.intervene(model, {place: double}),
        dl.intervene(model, {place: shift}),
    ):
        first = call(model, inputs)
    with (
        dl.intervene(model, {place: double}),
        dl.intervene(model, {place: shift}),
        dl.capture(model, place) as inside,
    ):
        assert torch.equal(call(model, inputs), first)
    torch.testing.assert_close(outside[place], base[place] * 2 + 1)
    assert torch.equal(outside[place], inside[place])
    with (
        dl.intervene(model, {place: shift}),
        dl.intervene(model, {place: double}),
        dl.capture(model, place) as other,
    ):
        call(model, inputs)
    torch.testing.assert_close(other[place], (base[place] + 1) * 2)
    assert not attention.WATCHES


def test_reuse_of_one_context_begins_again(sd3):
    model, inputs = sd3
    session = dl.capture(model, OUT)
    with session as first:
        call(model, inputs)
    values = first["joint.0.image.out"].clone()
    with pytest.raises(SettingError, match="used once"), session:
        pass
    assert torch.equal(first["joint.0.image.out"], values)


def test_nothing_ran(sd3):
    model, _ = sd3
    with pytest.raises(CaptureError, match="did not run inside the with-block"), dl.capture(model, OUT):
        pass
    with (
        pytest.raises(InterventionError, match="did not run"),
        dl.intervene(model, {"joint.0.image.out": dl.scale(1)}),
    ):
        pass


def test_a_copy_ran_instead(sd3):
    model, inputs = sd3
    other = copy.deepcopy(model)
    with pytest.raises(CaptureError, match="another object"), dl.capture(model, OUT):
        call(other, inputs)


def test_steps_that_never_come(sd3):
    model, inputs = sd3
    with pytest.raises(CaptureError, match="never with the steps"), dl.capture(model, OUT, steps=[5]):
        call(model, inputs)


def test_a_block_left_out_is_reported(sd3):
    model, inputs = sd3
    with pytest.raises(CaptureError, match=r"missed 1 of 1 calls"), dl.capture(model, OUT):
        block = model.transformer_blocks[0]
        model.transformer_blocks[0].forward, keep = block.forward, block.forward
        real = type(block).__call__
        try:
            type(block).__call__ = lambda self, *a, **k: self.forward(*a, **k)  # hooks never fire
            call(model, inputs)
        finally:
            type(block).__call__ = real
            block.forward = keep
            del block.forward


def test_skip_layer_guidance_is_a_pass_of_its_own(sd3):
    model, inputs = sd3
    with dl.capture(model, "joint.*.image.out") as cache:
        call(model, inputs)
        call(model, inputs, skip_layers=[0])
    assert cache.passes == ["cond"]
    with dl.capture(model, "joint.1.image.out", passes=None) as cache:
        call(model, inputs)
        call(model, inputs, skip_layers=[0])
    assert cache.passes == ["cond", "skip"]


def test_steps_follow_the_timestep_not_a_counter(sd3):
    model, inputs = sd3
    with dl.capture(model, "joint.0.image.out") as cache:
        for _ in range(2):
            for t in (900.0, 500.0, 100.0):
                call(model, inputs, timestep=torch.full((2,), t))
    assert cache.steps == [0, 1, 2]
    assert [item.run for item in cache.items] == [0, 0, 1, 1]
    assert cache["joint.0.image.out", 1].shape == (4, 24, 32)


def test_runs_of_different_length_are_refused(sd3):
    model, inputs = sd3
    with (
        pytest.raises(CaptureError, match="different numbers of steps"),
        dl.capture(model, "joint.0.image.out"),
    ):
        for t in (900.0, 500.0, 900.0):
            call(model, inputs, timestep=torch.full((2,), t))


def test_interventions_at_chosen_steps_and_tokens(sd3):
    model, inputs = sd3
    place = "joint.0.image.out"
    times = [torch.full((2,), t) for t in (900.0, 500.0)]

    def both():
        return [call(model, inputs, timestep=t) for t in times]

    plain = both()
    with dl.intervene(model, {place: dl.add_vector(torch.randn(32))}, steps=[1]):
        late = both()
    assert torch.equal(plain[0], late[0]) and not torch.equal(plain[1], late[1])
    with (
        dl.capture(model, place) as cache,
        dl.intervene(model, {place: dl.scale(0.0)}, tokens={"image": [3, 7]}),
    ):
        both()
    zero = (cache[place, 0] == 0).all(-1)
    assert zero[:, [3, 7]].all() and zero.sum() == 4


def test_tokens_of_an_intervention_that_are_not_there(sd3):
    model, inputs = sd3
    with pytest.raises(SettingError, match="its names are 'text' and 'image'"):
        dl.intervene(model, {OUT: dl.scale(0.0)}, tokens={"img": [0]})
    wrong = dl.intervene(model, {"joint.0.image.out": dl.scale(0.0)}, tokens={"image": [24]})
    with pytest.raises(SettingError, match="24 tokens: give numbers from 0 to 23"), wrong:
        call(model, inputs)


def test_patching_from_another_run_gives_that_run(sd3):
    model, inputs = sd3
    other = tiny.inputs(SD3, seed=5)
    with dl.capture(model, "joint.1.image.out") as cache:
        theirs = call(model, other)
    with dl.intervene(
        model, {"joint.1.image.out": dl.replace_with(cache)}
    ):  # the last block decides everything
        mixed = call(
            model, inputs | {"timestep": other["timestep"], "pooled_projections": other["pooled_projections"]}
        )
    torch.testing.assert_close(mixed, theirs)


def test_ablations_and_bypass(sd3):
    model, inputs = sd3
    place = "joint.0.image.out"
    with dl.capture(model, ["joint.0.image.in", place]) as base:
        call(model, inputs)

    def after(fn):
        with dl.capture(model, place) as cache, dl.intervene(model, {place: fn}):
            call(model, inputs)
        return cache[place, 0]

    assert not after(dl.ablate("zero")).any()
    torch.testing.assert_close(
        after(dl.ablate("mean")), base[place, 0].mean(1, keepdim=True).expand(-1, 24, -1)
    )
    torch.testing.assert_close(after(dl.ablate("mean", base)), base[place, 0].mean(0).expand(2, -1, -1))
    assert torch.equal(after(dl.ablate("resample", base, seed=1)), base[place, 0].flip(0))
    assert torch.equal(after(dl.bypass()), base["joint.0.image.in", 0])
    wrong = dl.intervene(model, {"joint.0.image.mlp.out": dl.bypass()})
    with pytest.raises(InterventionError, match="bypass works at a block's 'out'"), wrong:
        call(model, inputs)
    with pytest.raises(SettingError, match="needs a cache"):
        dl.ablate("resample")


def test_functions_that_do_wrong_are_told(sd3, wrong_types):
    model, inputs = sd3

    def in_place(values):
        values += 1
        return values

    for fn, message in (
        (lambda v: None, "returned NoneType"),
        (lambda v: v[:, :3], r"shape \(2, 3, 32\) for values of shape \(2, 24, 32\)"),
        (in_place, "in place"),
    ):
        with pytest.raises(InterventionError, match=message), dl.intervene(model, {"joint.0.image.out": fn}):
            call(model, inputs)
    with pytest.raises(SettingError, match="not a function"):
        dl.intervene(model, {"joint.0.image.out": 3})
    with pytest.raises(SettingError, match="captured, not changed"):
        dl.intervene(model, {"joint.0.image.attn.to_text": dl.scale(2)})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        *(({"passes": wrong}, "choose among 'cond', 'uncond', 'skip'") for wrong in ("nope", [], 5, ["cond", 5])),
        *(({"passes": wrong}, "or None for all") for wrong in ("", "uncond.nope", "cond,uncond")),
        *(({"steps": wrong}, "give a list of whole numbers") for wrong in ([1.5], 1.5, "0", [None], slice(0.5, 2))),
        *(({"steps": wrong}, "give step numbers from 0") for wrong in ([], [-1])),
        ({"steps": slice(-2, None)}, "the number of steps is not known before"),
        ({"steps": slice(None, None, -1)}, "the number of steps is not known before"),
        *(({"tokens": {"image": wrong}}, "give a list of whole numbers") for wrong in (["a"], "12", 3, [0.5])),
        *(({"tokens": wrong}, "its names are 'text' and 'image'") for wrong in (5, [0], {"image": [0], 5: [0]})),
        *(({"limit": wrong}, "write it like '500 MB'") for wrong in (math.nan, None, -1, [1])),
        *(({"reduce": wrong}, "'mean', 'sketch:64'") for wrong in (5, ["mean"])),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_at_once(sd3, wrong_types, setting, said):
    with pytest.raises(SettingError, match=said):
        dl.capture(sd3[0], OUT, **setting)
    if not setting.keys() & {"limit", "reduce"}:
        with pytest.raises(SettingError, match=said):
            dl.intervene(sd3[0], {OUT: dl.scale(0.0)}, **setting)


def test_names_of_passes_that_models_make_are_allowed(sd3):
    for name in ("skip", "perturbed", "source", "target", "uncond.source", "uncond.target", "source.target"):
        assert dl.capture(sd3[0], OUT, passes=name).passes == (name,)


def test_no_sites_and_no_changes_are_refused_at_once(sd3, wrong_types):
    model, _ = sd3
    with pytest.raises(SiteError, match="No sites were given"):
        dl.capture(model, [])
    with pytest.raises(SiteError, match=r"sites is 5; .*A site reads kind\.block"):
        dl.capture(model, 5)
    for wrong in ({}, 5, None, [dl.scale(0)]):
        with pytest.raises(SettingError, match="changes nothing: give sites and functions"):
            dl.intervene(model, wrong)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: dl.scale("x"), r"factor is 'x'; give a number, e.g. 0.5"),
        (lambda: dl.scale([1.0]), "factor is \[1.0\]; give a number"),
        (lambda: dl.add_vector([1.0]), "direction is \[1.0\]; give a tensor"),
        (lambda: dl.add_vector(torch.ones(2), "x"), "amount is 'x'; give a number"),
        (lambda: dl.replace_with("x"), "values is 'x'; give a tensor .* or a LatentCache"),
        (lambda: dl.ablate("mean", [1.0]), "source is \[1.0\]; give a tensor .* or a LatentCache"),
    ],
)
def test_what_an_intervention_cannot_use_is_refused_at_once(wrong_types, make, said):
    with pytest.raises(SettingError, match=said):
        make()


def test_the_budget_stops_the_run_and_names_smaller_choices(sd3):
    model, inputs = sd3
    with (
        pytest.raises(BudgetError, match=r"(?s)reduce='mean'.*steps=.*limit="),
        dl.capture(model, OUT, limit="8 kB"),
    ):
        call(model, inputs)


def test_values_that_are_not_finite_are_reported(sd3):
    model, inputs = sd3
    place = "joint.0.text.in"
    told = pytest.warns(
        UserWarning, match=rf"{place} has values that are not finite from step 0 on .*bfloat16"
    )
    with told, dl.capture(model, "joint.*.{text,image}.in"):
        call(model, inputs, encoder_hidden_states=torch.full((2, 5, 32), torch.inf))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (torch.tensor([1.0, -2.0]), True),
        (torch.tensor([torch.inf, -torch.inf]), False),
        (torch.tensor([torch.nan, 1.0]), False),
        (torch.tensor([3e38, 3e38]), True),  # only the sum overflows
        (torch.full((9,), 6e4, dtype=torch.float16), True),
    ],
)
def test_finite_means_every_value(values, expected):
    assert all_finite(values) is expected


def test_reducing_and_selecting_tokens(sd3):
    model, inputs = sd3
    place = "joint.0.image.out"
    with dl.capture(model, [place, "cond"]) as full:
        call(model, inputs)
    with dl.capture(model, [place, "cond"], reduce="mean") as mean:
        call(model, inputs)
    with dl.capture(model, place, reduce="sketch:4", tokens={"image": [0, 5]}) as sketch:
        call(model, inputs)
    with dl.capture(model, place, dtype=torch.float16) as half:
        call(model, inputs)
    first = functools.partial(lambda values, mask, count: values[:, :count].mean(1), count=1)
    with dl.capture(model, place, reduce=first) as own:
        call(model, inputs)
    torch.testing.assert_close(own[place, 0], full[place, 0][:, 0])
    assert [cache.reduced for cache in (full, mean, own)] == ["", "mean", "partial"]
    torch.testing.assert_close(mean[place, 0], full[place, 0].mean(1))
    assert mean["cond", 0].shape == (2, 32)
    assert sketch[place, 0].shape == (2, 2, 4)
    with (
        dl.capture(model, place, reduce="sketch:4") as narrow,
        dl.capture(model, place, reduce="sketch:32") as whole,
    ):
        call(model, inputs)
    assert narrow.to_grid(place).shape == (1, 2, 4, 6, 4) and "sketch:4 of tokens" in repr(narrow)
    assert torch.equal(whole[place], full[place]), "there is nothing to gain"
    assert half[place].dtype == torch.float16
    with pytest.raises(CaptureError, match="no grid any more"):
        mean.to_grid(place)
    with pytest.raises(SettingError, match="choose 'mean'"):
        dl.capture(model, place, reduce="median")
    with (
        pytest.raises(SettingError, match="there are 24 tokens"),
        dl.capture(model, place, tokens={"image": [24]}),
    ):
        call(model, inputs)


def test_gradients_pass_through_an_intervention_with_checkpointing(sd3):
    model, inputs = sd3
    model.train()
    shift = torch.zeros(32, requires_grad=True)
    place = "joint.0.{text,image}.out"

    def gradient():
        with (
            dl.intervene(model, {place: lambda v: v * (1 + shift)}),
            dl.capture(model, "joint.1.image.out") as cache,
        ):
            model(**inputs, return_dict=False)[0].square().mean().backward()
        assert len(cache.steps) == 1  # the recomputation in the backward pass is not captured again
        found, shift.grad = shift.grad, None
        return found

    plain = gradient()
    model.enable_gradient_checkpointing()
    try:
        again = gradient()
    finally:
        model.disable_gradient_checkpointing()
        model.eval()
    assert plain.abs().max() > 0
    torch.testing.assert_close(again, plain)


def test_steps_are_remembered_in_the_recomputation(sd3):
    """Two forwards at different steps, then one backward: each block is changed as in its own forward."""
    model, inputs = sd3
    model.train()
    shift = torch.zeros(32, requires_grad=True)

    def gradient():
        with dl.intervene(model, {"joint.0.image.out": lambda v: v * (1 + shift)}, steps=[0]):
            outs = [
                model(**(inputs | {"timestep": torch.full((2,), t)}), return_dict=False)[0]
                for t in (900.0, 100.0)
            ]
            (outs[0].square().mean() + outs[1].square().mean()).backward()
        found, shift.grad = shift.grad, None
        return found

    plain = gradient()
    model.enable_gradient_checkpointing()
    try:
        torch.testing.assert_close(gradient(), plain)
    finally:
        model.disable_gradient_checkpointing()
        model.eval()


def test_captured_under_inference_mode(sd3):
    model, inputs = sd3
    with torch.inference_mode(), dl.capture(model, OUT) as cache:
        model(**inputs)
    with dl.capture(model, OUT) as plain:
        call(model, inputs)
    torch.testing.assert_close(cache["joint.0.image.out"].clone(), plain["joint.0.image.out"])


def test_what_is_captured_is_ours(sd3):
    model, inputs = sd3
    with dl.capture(model, "cond") as cache:
        call(model, inputs)
    keep = cache["cond"].clone()
    call(model, inputs, timestep=torch.full((2,), 3.0))
    assert torch.equal(cache["cond"], keep)


def test_offloaded_weights(sd3):
    from accelerate import cpu_offload

    model, inputs = sd3
    plain = call(model, inputs)
    with dl.capture(model, OUT) as expected:
        call(model, inputs)
    other = tiny.build(SD3)
    cpu_offload(other, execution_device=torch.device("cpu"))
    with dl.capture(other, OUT) as cache:
        assert torch.equal(call(other, inputs), plain)
    assert torch.equal(cache["joint.0.image.out"], expected["joint.0.image.out"])


@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_weights_offloaded_in_groups(sd3, kind):
    from diffusers.hooks import apply_group_offloading

    model, inputs = sd3
    plain = call(model, inputs)
    with dl.capture(model, "*.*.*.*") as expected:
        call(model, inputs)
    other = tiny.build(SD3)
    apply_group_offloading(
        other, onload_device=torch.device("cpu"), offload_type=kind, num_blocks_per_group=1
    )
    with dl.capture(other, "*.*.*.*") as cache:
        assert torch.equal(call(other, inputs), plain)
    assert set(cache) == set(expected) and dl.hooks_on(other) == []
    assert all(torch.equal(cache.tensors[key], expected.tensors[key]) for key in cache)
    assert torch.equal(call(other, inputs), plain)


class LowRank(torch.nn.Module):
    """What peft puts in place of a linear layer: the layer, and a low-rank update beside it."""

    def __init__(self, base: torch.nn.Linear) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.base_layer = base
        self.a = torch.nn.Parameter(torch.randn(2, base.in_features, generator=generator))
        self.b = torch.nn.Parameter(torch.randn(base.out_features, 2, generator=generator) / 4)

    def forward(self, x):
        return self.base_layer(x) + x @ self.a.T @ self.b.T


def test_low_rank_adapters_are_part_of_what_is_seen(sd3):
    model, inputs = sd3
    other = tiny.build(SD3)
    attn = other.transformer_blocks[1].attn
    attn.to_q, attn.add_k_proj = LowRank(attn.to_q), LowRank(attn.add_k_proj)
    plain = call(other, inputs)
    assert not torch.equal(plain, call(model, inputs)), "the adapter does something"
    sites = ["joint.1.image.{q,attn.out,out}", "joint.1.text.k"]
    with dl.capture(other, sites) as cache:
        assert torch.equal(call(other, inputs), plain)
    with dl.capture(model, sites) as without:
        call(model, inputs)
    assert all(not torch.equal(cache.tensors[key], without.tensors[key]) for key in cache)
    with dl.intervene(other, {"joint.1.image.q": lambda q: 0 * q}), dl.capture(other, sites) as changed:
        call(other, inputs)
    assert not changed["joint.1.image.q"].any(), "it stands behind the adapter"


def test_an_ip_adapter_adds_nothing_to_the_joint_softmax(sd3):
    from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0

    model, inputs = sd3
    other = tiny.build(SD3)
    torch.manual_seed(0)
    for block in other.transformer_blocks:
        block.attn.processor = SD3IPAdapterJointAttnProcessor2_0(32, 16, 16, timesteps_emb_dim=8, scale=0.5)
    picture = {"ip_hidden_states": torch.randn(2, 3, 16), "temb": torch.randn(2, 8)}
    inputs = inputs | {"joint_attention_kwargs": picture}
    plain = call(other, inputs | {"joint_attention_kwargs": dict(picture)})
    sites = [
        "joint.0.image.{in,q,k,v,attn.to_text,attn.to_image}",
        "joint.0.text.{k,attn.to_image}",
        "joint.*.image.out",
    ]
    with dl.capture(other, sites) as cache:
        seen = call(other, inputs | {"joint_attention_kwargs": dict(picture)})
    assert torch.equal(seen, plain)
    with dl.capture(model, sites) as without:
        call(model, sd3[1])
    for name in ("in", "q", "k", "v", "attn.to_text", "attn.to_image"):
        assert torch.equal(cache[f"joint.0.image.{name}"], without[f"joint.0.image.{name}"]), name
    assert not torch.equal(cache["joint.0.image.out"], without["joint.0.image.out"]), (
        "the adapter does something"
    )
    rows = cache["joint.0.image.attn.to_text"].sum(-1) + cache["joint.0.image.attn.to_image"].sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows))
    shapes = []
    note = {"joint.0.image.k": lambda k: shapes.append(k.shape) or k, "joint.0.image.q": lambda q: q.clone()}
    with dl.intervene(other, note):
        assert torch.equal(call(other, inputs | {"joint_attention_kwargs": dict(picture)}), plain)
    assert shapes == [(2, 24, 32)], "once, not for the adapter's keys too"


@pytest.mark.parametrize("how", ["torch.compile", "method"])
@pytest.mark.parametrize("warm", [False, True])
def test_compiled_models(sd3, how, warm):
    model, inputs = sd3
    with dl.capture(model, OUT) as expected:
        plain = call(model, inputs)
    other = tiny.build(SD3)
    if how == "method":
        other.compile(backend="eager")
        compiled = other
    else:
        compiled = torch.compile(other, backend="eager")
    try:
        if warm:
            call(compiled, inputs)
        with dl.capture(compiled, OUT) as cache:
            out = call(compiled, inputs)
        torch.testing.assert_close(out, plain)
        torch.testing.assert_close(cache["joint.0.image.out"], expected["joint.0.image.out"])
        with dl.intervene(compiled, {"joint.0.image.out": dl.scale(2.0)}):
            assert not torch.allclose(call(compiled, inputs), plain)
        torch.testing.assert_close(call(compiled, inputs), plain)
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("warm", [False, True])
def test_a_compiled_function_that_calls_the_model(sd3, warm):
    model, inputs = sd3
    with dl.capture(model, OUT) as expected:
        plain = call(model, inputs)
    compiled = torch.compile(lambda inputs: call(model, inputs), backend="eager")
    try:
        if warm:
            compiled(inputs)
        with dl.capture(model, OUT) as cache:
            torch.testing.assert_close(compiled(inputs), plain)
        torch.testing.assert_close(cache["joint.0.image.out"], expected["joint.0.image.out"])
        with dl.intervene(model, {"joint.0.image.out": dl.scale(2.0)}):
            assert not torch.allclose(compiled(inputs), plain)
        torch.testing.assert_close(compiled(inputs), plain)
    finally:
        torch._dynamo.reset()


def test_a_with_block_inside_a_compiled_function(sd3, wrong_types):  # the checker of types cannot be compiled
    model, inputs = sd3
    plain = call(model, inputs)

    def captured():
        with dl.capture(model, OUT) as cache:
            return call(model, inputs), cache.steps

    try:
        found, steps = torch.compile(captured, backend="eager")()
        assert torch.equal(found, plain) and steps == [0]
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize(
    ("reduce", "got"),
    [
        (lambda values, mask: None, "None"),
        (lambda values, mask: values.sum(), "shape ()"),
        (lambda values, mask: values.mean(0), "shape (24, 32)"),
    ],
)
def test_a_reducer_that_does_wrong_is_told(sd3, wrong_types, reduce, got):
    model, inputs = sd3
    says = rf"reduce= gave a value that is .*{re.escape(got)}, from values of the shape \(2, 24, 32\)"
    with pytest.raises(CaptureError, match=says), dl.capture(model, "joint.0.image.out", reduce=reduce):
        call(model, inputs)


@pytest.mark.parametrize("before", ["default", "eager_on_recompile"])
def test_the_compilers_stance_is_what_it_was_in_whatever_order_contexts_are_left(before):
    from torch._dynamo import eval_frame

    model = tiny.build(SD3)
    model.compile(backend="eager")
    try:
        with torch.compiler.set_stance(before):
            first, second, third = (dl.capture(model, OUT) for _ in range(3))
            first.__enter__()
            second.__enter__()
            first.__exit__(RuntimeError, None, None)  # an exception, so that nothing is missed
            assert eval_frame._stance.stance == "force_eager"
            third.__enter__()
            second.__exit__(RuntimeError, None, None)
            second.close()  # once more does no harm
            assert eval_frame._stance.stance == "force_eager"
            third.__exit__(RuntimeError, None, None)
            assert eval_frame._stance.stance == before
    finally:
        torch._dynamo.reset()


def test_a_compiled_part(sd3):
    """Compiled modules have no length and no truth value; whoever looks for them must not ask."""
    model, inputs = sd3
    with dl.capture(model, OUT) as expected:
        plain = call(model, inputs)
    other = tiny.build(SD3)
    try:
        other.transformer_blocks[0].ff = torch.compile(other.transformer_blocks[0].ff, backend="eager")
        with dl.capture(other, OUT) as cache:
            torch.testing.assert_close(call(other, inputs), plain)
        torch.testing.assert_close(cache["joint.0.image.out"], expected["joint.0.image.out"])
        compiled = torch.compile(tiny.build(SD3), backend="eager")
        for name in ("transformer", "prior"):
            assert given_part(None, types.SimpleNamespace(**{name: compiled})) is compiled
    finally:
        torch._dynamo.reset()


def test_step_caches_are_refused():
    from diffusers import FirstBlockCacheConfig

    model = tiny.build("FluxTransformer2DModel")
    model.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(CaptureError, match=r"disable_cache\(\)"), dl.capture(model, OUT):
        pass
    model.disable_cache()
    with torch.no_grad(), dl.capture(model, OUT):
        model(**tiny.inputs("FluxTransformer2DModel"))


def test_other_attention_backends_are_reported(monkeypatch):
    """Where the softmax is not PyTorch's, maps cannot be seen: an error, not an empty map."""
    model, inputs = tiny.build("QwenImageTransformer2DModel"), tiny.inputs("QwenImageTransformer2DModel")
    import diffusers.models.transformers.transformer_qwenimage as home

    monkeypatch.setattr(home, "dispatch_attention_fn", lambda q, k, v, **_: v)
    with pytest.raises(CaptureError, match="set_attention_backend"), dl.capture(model, "*.*.*.attn.to_text"):
        call(model, inputs)
    assert hooks(model) == []


def test_a_model_can_be_freed():
    model, inputs = tiny.build(SD3), tiny.inputs(SD3)
    with dl.capture(model, OUT) as cache, dl.intervene(model, {"joint.0.image.out": dl.scale(2)}):
        call(model, inputs)
    ghost = weakref.ref(model)
    del model
    gc.collect()
    assert ghost() is None
    assert len(cache) == 3


def test_freed_in_the_middle_of_a_session():
    model = tiny.build(SD3)
    session = dl.capture(model, OUT)
    session.__enter__()
    assert dl.hooks_on(model) == ["capture of 3 sites"]
    ghost = weakref.ref(model)
    del model, session
    gc.collect()
    assert ghost() is None


def test_calls_outside_steps_are_neither_seen_nor_changed(sd3):
    """Only for sessions that began outside: who looks for a mask may use a capture."""
    model, inputs = sd3
    place = "joint.0.image.out"
    plain = call(model, inputs)
    with dl.capture(model, place) as outer, dl.intervene(model, {place: dl.scale(2.0)}) as session:
        call(model, inputs)
        with outside_steps():
            assert torch.equal(call(model, inputs), plain)
            with dl.capture(model, place) as inner:
                call(model, inputs)
    assert session.applied[place] == 1 and len(outer.items) == 2
    torch.testing.assert_close(outer[place], 2 * inner[place])
