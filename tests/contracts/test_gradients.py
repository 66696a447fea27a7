"""Capturing changes no gradient, with and without gradient checkpointing, for every joint-attention class."""

from __future__ import annotations

import contextlib
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import ditlens as dl
from ditlens.errors import InterventionError
from ditlens.labels import outside_steps

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
EVERYTHING, NO_MAPS = "*.*.*.*", "*.*.*.{in,out,attn.out,q,k,v}"
OPTIONS = {
    "everything": {"sites": EVERYTHING},
    "maps of every head": {"sites": "*.*.*.attn.to_{text,image}", "heads": "all"},
    "chosen tokens": {"sites": EVERYTHING, "tokens": {"text": [0, 2], "image": [0, -1]}},
    "mean": {"sites": NO_MAPS, "reduce": "mean"},
    "mean of chosen tokens": {"sites": NO_MAPS, "reduce": "mean", "tokens": {"text": [0, 2]}},
    "sketch": {"sites": NO_MAPS, "reduce": "sketch:4"},
    "own reducer": {"sites": NO_MAPS, "reduce": lambda values, mask: values.square().sum(1)},
    "half precision": {"sites": NO_MAPS, "dtype": torch.float16},
    "all passes": {"sites": NO_MAPS, "passes": None},
}
"""Options of `ditlens.capture` by what they ask for."""


@pytest.fixture(scope="module", params=list(tiny.TINY))
def trained(request):
    """Name, model in training mode, and inputs; texts are of unequal length where the class takes a mask."""
    name = request.param
    model, inputs = tiny.build(name).train().requires_grad_(True), tiny.inputs(name)
    return name, model, short_texts(inputs)


def short_texts(inputs):
    """The inputs with a shorter text in the last row, where the class takes a mask, lengths or a list of texts."""
    for key, value in inputs.items():
        if key.endswith(("attention_mask", "states_mask", "attention_mask_2")) and len(value) > 1:
            value[-1, ..., -1] = 0
        elif key == "text_lens":
            value[-1] -= 1
        elif key == "cap_feats":
            value[-1] = value[-1][:-1]
    return inputs


def outputs(found):
    """All floating-point tensors of an output."""
    if isinstance(found, torch.Tensor):
        return [found] if found.is_floating_point() else []
    parts = found.values() if isinstance(found, dict) else found
    return [
        x for each in parts if isinstance(each, dict | tuple | list | torch.Tensor) for x in outputs(each)
    ]


def gradients(model, inputs, *captures):
    """Gradients of every parameter, and what was captured meanwhile."""
    model.zero_grad()
    torch.manual_seed(0)
    with contextlib.ExitStack() as stack:
        caches = [stack.enter_context(each) for each in captures]
        sum(x.square().mean() for x in outputs(model(**inputs))).backward()
    return [p.grad for p in model.parameters()], caches


def same(a, b):
    return all(x is y is None or torch.equal(x, y) for x, y in zip(a, b, strict=True))


@contextlib.contextmanager
def checkpointing(model, on):
    if on:
        model.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if on:
            model.disable_gradient_checkpointing()


def capture(model, option):
    settings = dict(OPTIONS[option])
    return dl.capture(model, settings.pop("sites"), **settings)


def checkpoints(name, model):
    """Whether a class can be trained with gradient checkpointing.

    HunyuanImage cannot: diffusers 0.42 passes an argument there that its own function refuses.
    """
    return model._supports_gradient_checkpointing and name != "HunyuanImageTransformer2DModel"


def test_capturing_changes_no_gradient(trained):
    """Every option at once, without and with checkpointing, and what they capture is the same."""
    name, model, inputs = trained
    found = []
    for on in [False, True][: 1 + checkpoints(name, model)]:
        with checkpointing(model, on):
            plain, _ = gradients(model, inputs)
            during, caches = gradients(model, inputs, *(capture(model, option) for option in OPTIONS))
        assert any(grad is not None and bool(grad.any()) for grad in plain)
        assert same(plain, during), f"checkpointing: {on}"
        assert all(
            len(cache.steps) == 1 and not any(x.requires_grad for x in cache.tensors.values())
            for cache in caches
        )
        found.append([cache.tensors for cache in caches])
    assert all(set(a) == set(b) for a, b in zip(found[0], found[-1], strict=True))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(found[0], found[-1], strict=True) for key in a)
    assert dl.hooks_on(model) == []


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("on", [False, True])
def test_each_option_alone_changes_no_gradient(trained, option, on):
    name, model, inputs = trained
    if on and not checkpoints(name, model):
        return
    with checkpointing(model, on):
        plain, _ = gradients(model, inputs)
        during, _ = gradients(model, inputs, capture(model, option))
    assert same(plain, during)


# --- interventions, and backward passes that come early, late or elsewhere ----------------------------------

PLACES = [f"joint.0.image.{point}" for point in ("in", "attn.out", "q", "mlp.out", "out")]


@pytest.fixture
def sd3():
    name = "SD3Transformer2DModel"
    model = tiny.build(name).train()
    yield model, tiny.inputs(name)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def shift():
    return torch.zeros(32, requires_grad=True)


def loss(model, inputs, run=None, **changes):
    inputs = inputs | changes
    found = model(**inputs, return_dict=False) if run is None else run(inputs)
    return found[0].square().mean()


def changed(model, place, by, **settings):
    return dl.intervene(model, {place: lambda values: values * (1 + by) + by}, **settings)


def whole(model, reentrant=False):
    """A call of the model that the backward pass runs again, as for gradients through a sampling loop."""

    def run(inputs):
        def call(latents, text):
            return model(
                **(inputs | {"hidden_states": latents, "encoder_hidden_states": text}), return_dict=False
            )

        latents = inputs["hidden_states"].clone().requires_grad_()
        return checkpoint(call, latents, inputs["encoder_hidden_states"], use_reentrant=reentrant)

    return run


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["blocks", "whole"])
def test_an_intervention_that_ended_before_a_checkpointed_backward_is_refused(sd3, place, how):
    model, inputs = sd3
    run = whole(model) if how == "whole" else None
    for constant in (False, True):
        by = shift()
        inputs["hidden_states"].requires_grad_()
        with checkpointing(model, how == "blocks"):
            with changed(model, place, torch.ones(32) if constant else by):
                late = loss(model, inputs, run)
            with pytest.raises(
                InterventionError, match=r"after the end .* Call backward\(\) inside the with-block"
            ):
                late.backward()


@pytest.mark.parametrize("place", PLACES)
def test_without_checkpointing_a_backward_may_come_late(sd3, place):
    model, inputs = sd3
    by, other = shift(), shift()
    with changed(model, place, by):
        loss(model, inputs).backward()
    with changed(model, place, other):
        late = loss(model, inputs)
    late.backward()
    assert by.grad.any() and torch.equal(by.grad, other.grad)


@pytest.mark.parametrize("place", [*PLACES, "cond"])
@pytest.mark.parametrize("how", ["blocks", "whole", "both"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_recomputed_call_is_changed_at_its_own_step_and_captured_once(sd3, place, how, elsewhere):
    """Two calls with the same text, then one backward pass, here or in another thread (as CUDA's is)."""
    model, inputs = sd3

    def found(on, run=None):
        by = shift()
        with (
            checkpointing(model, on),
            changed(model, place, by, steps=[0]) as session,
            dl.capture(model, [place, "joint.1.image.attn.to_text"]) as cache,
        ):
            total = sum(loss(model, inputs, run, timestep=torch.full((2,), t)) for t in (900.0, 100.0))
            if elsewhere:
                thread = threading.Thread(target=total.backward)
                thread.start()
                thread.join()
            else:
                total.backward()
        assert session.applied == {place: 1} and cache.steps == [0, 1] and len(cache.items) == 2
        return by.grad, cache[place]

    plain, values = found(False)
    again, seen = found(how != "whole", None if how == "blocks" else whole(model))
    assert plain.any() and torch.equal(seen, values)
    torch.testing.assert_close(again, plain)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["nested", "offloaded"])
def test_a_training_step_is_changed_again_where_checkpoints_take_copies(sd3, place, how):
    """Hooks on saved tensors, an outer checkpoint's or those of offloading, hand a block copies of its inputs."""
    model, inputs = sd3
    model.requires_grad_(True)

    def found(on):
        model.zero_grad()
        offloaded = (
            torch.autograd.graph.save_on_cpu() if on and how == "offloaded" else contextlib.nullcontext()
        )
        run = whole(model) if on and how == "nested" else None
        with checkpointing(model, on), dl.intervene(model, {place: dl.scale(0.5)}, steps=[0]), offloaded:
            sum(loss(model, inputs, run, timestep=torch.full((2,), t)) for t in (900.0, 100.0)).backward()
        return [p.grad for p in model.parameters()]

    assert same(found(True), found(False))


@pytest.mark.parametrize("how", ["blocks", "whole"])
def test_a_recomputation_of_an_earlier_call_is_neither_changed_nor_captured(sd3, how):
    model, inputs = sd3
    model.requires_grad_(True)
    run = whole(model) if how == "whole" else None

    def gradient(inside):
        model.zero_grad()
        early = loss(model, inputs, run)
        with contextlib.ExitStack() as stack:
            if inside:
                by = stack.enter_context(changed(model, PLACES[0], torch.ones(32)))
                cache = stack.enter_context(dl.capture(model))
                with torch.no_grad():
                    loss(model, inputs)
            early.backward()
        if inside:
            assert by.applied == {PLACES[0]: 1} and len(cache.items) == 2 and len(cache.steps) == 1
        return [p.grad for p in model.parameters()]

    with checkpointing(model, how == "blocks"):
        assert same(gradient(inside=True), gradient(inside=False))


@pytest.mark.parametrize("how", ["blocks", "whole"])
def test_reentrant_checkpoints_can_be_captured_and_not_changed(sd3, how):
    model, inputs = sd3
    run = whole(model, reentrant=True) if how == "whole" else None
    inputs["hidden_states"].requires_grad_()
    if how == "blocks":
        model.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=True))
    with dl.capture(model, EVERYTHING) as cache:
        loss(model, inputs, run).backward()
    assert len(cache.items) == 2 and len(cache.steps) == 1
    with pytest.raises(InterventionError, match="use_reentrant=False"), changed(model, PLACES[0], shift()):
        loss(model, inputs, run).backward()


@pytest.mark.parametrize("how", ["blocks", "whole"])
def test_a_checkpointed_backward_after_a_capture_is_the_same(sd3, how):
    model, inputs = sd3
    model.requires_grad_(True)
    run = whole(model) if how == "whole" else None
    found = []
    with checkpointing(model, how == "blocks"):
        for captures in ([], [dl.capture(model, EVERYTHING)]):
            model.zero_grad()
            with contextlib.ExitStack() as stack:
                for each in captures:
                    stack.enter_context(each)
                late = loss(model, inputs, run)
            late.backward()
            found.append([p.grad for p in model.parameters()])
    assert same(*found)


def test_a_call_outside_steps_is_not_changed_at_the_conditioning_vector(sd3):
    """It used to be, after another call."""
    model, inputs = sd3
    with torch.no_grad():
        plain = loss(model, inputs)
        with dl.intervene(model, {"cond": dl.scale(0.0)}):
            assert loss(model, inputs) != plain
            with outside_steps():
                assert loss(model, inputs) == plain
