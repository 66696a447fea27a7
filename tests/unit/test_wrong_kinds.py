"""Whatever a public function is given, it works or says in its own words what is wrong with which argument."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import ditlens as dl
from ditlens.describers.choice import ByHand, describer_from
from ditlens.describers.endpoint import OpenAICompatible
from ditlens.describers.huggingface import HuggingFace
from ditlens.describers.recorded import Recorded
from ditlens.lens.study.run import plan_study, run_study
from ditlens.views import plots

pytestmark = pytest.mark.usefixtures("wrong_types")

SITE, MAP = "joint.0.image.out", "joint.0.image.attn.to_text"
PICTURE = Image.new("RGB", (128, 128), "teal")


class Entry(NamedTuple):
    """A public function with arguments that work."""

    call: Callable[..., Any]
    works: dict[str, Any]


@pytest.fixture(scope="module")
def entries(portraits, tmp_path_factory) -> dict[str, Entry]:
    model, pipe = portraits, portraits.pipe
    one = model.encode_text("a big smile")
    other = model.encode_text("a slight smile")
    with dl.capture(model, [SITE, MAP]) as cache:
        model.generate("a big smile", steps=2)
    texts = {"source_text": "a red shirt", "target_text": "a blue shirt"}
    quick = dl.OdeEdit("quick", steps=1)
    edit = dl.edit(model, PICTURE, **texts, method=quick)
    other_edit = dl.edit(model, PICTURE, "add a crown", method=quick, mask=None)
    plan = plan_study(model, ["a man"], [0], SITE, sampling_steps=1)
    study = run_study(model, plan, tmp_path_factory.mktemp("study") / "made")

    def capturing(**given: Any) -> None:
        with dl.capture(**given):
            model.generate("a smile", steps=1)

    def intervening(**given: Any) -> None:
        with dl.intervene(**given):
            model.generate("a smile", steps=1)

    def changing(make: Callable[..., Any]) -> Callable[..., None]:
        return lambda **given: intervening(model=model, changes={SITE: make(**given)})

    asked = {"instruction": "", "degree": 1.0, "seed": 0, **texts, "method": quick, "mask": None}
    routes = {"tokens": True, "pooled": True, "encoders": None}
    kept = {"steps": None, "passes": "cond", "tokens": None}
    form = {"reduce": None, "heads": "mean", "dtype": None}
    drawn = {"steps": 1, "guidance": 2.0, "negative_prompt": "", "on_step": None}
    return {
        "load": Entry(dl.load, {"name_or_path": model.folder, "device": "cpu", "dtype": None, "profile": "auto"}),
        "wrap": Entry(dl.wrap, {"pipe": pipe, "name": "mine", "folder": None}),
        "Model": Entry(dl.Model, {"pipe": pipe, "name": "mine", "folder": None, "world": None}),
        "generate": Entry(model.generate, {"prompt": "a man", "seed": 0, **drawn}),
        "sample": Entry(model.sample, {"prompts": ["a man"], "seeds": [0], **drawn}),
        "encode_text": Entry(model.encode_text, {"prompts": "a man"}),
        "encode_image": Entry(model.encode_image, {"pixels": torch.zeros(1, 3, 128, 128)}),
        "decode": Entry(model.decode, {"latents": torch.zeros(1, model.latent_channels, 16, 16)}),
        "prepare": Entry(model.prepare, {"image": PICTURE}),
        "sigmas": Entry(model.sigmas, {"steps": 2}),
        "noise": Entry(model.noise, {"seeds": [0], "size": None}),
        "measure": Entry(model.world.measure, {"images": torch.zeros(1, 3, 128, 128)}),
        "edit": Entry(dl.edit, {"model": model, "image": PICTURE, **asked, **routes, "on_step": None}),
        "edit, described": Entry(
            lambda **given: dl.edit(model, PICTURE, method=quick, mask=None, **given),
            {"instruction": "add a crown", "describer": ByHand("no hat", "a crown")},
        ),
        "edit_steps": Entry(dl.edit_steps, {"model": model, "image": PICTURE, **asked, **routes}),
        "extract": Entry(
            dl.extract,
            {"image": PICTURE, "instruction": "add a crown", "describer": ByHand("no hat", "a crown"),
             "model": model},
        ),
        "check_image": Entry(dl.check_image, {"model": model, "image": PICTURE}),
        "manipulate": Entry(
            dl.manipulate, {"source": one, "target": other, "degree": 0.5, **routes, "low": -2.0, "high": 3.0}
        ),
        "sweep": Entry(edit.sweep, {"degrees": [1.0]}),
        "sweep.values": Entry(edit.sweep([1.0]).values, {"attribute": "smile"}),
        "iter": Entry(edit.iter, {"degree": 1.0}),
        "reverse": Entry(edit.reverse, {"degree": 1.0}),
        "save": Entry(edit.save, {"directory": "made"}),
        "capture": Entry(
            capturing, {"model": model, "sites": SITE, **kept, **form, "device": "cpu", "limit": "1 GB"}
        ),
        "intervene": Entry(intervening, {"model": model, "changes": {SITE: dl.scale(0.5)}, **kept}),
        "add_vector": Entry(changing(dl.add_vector), {"direction": torch.ones(64), "amount": 1.0}),
        "scale": Entry(changing(dl.scale), {"factor": 1.0}),
        "replace_with": Entry(changing(dl.replace_with), {"values": torch.ones(1, 64, 64), "pass_": None}),
        "ablate": Entry(changing(dl.ablate), {"how": "mean", "source": None, "seed": 0}),
        "estimate": Entry(
            dl.estimate,
            {"model": model, "sites": SITE, "run": None, "sampling_steps": 1, "items": 1, **kept, **form},
        ),
        "sites": Entry(dl.sites, {"model": model, "patterns": SITE}),
        "words": Entry(dl.words, {"model": model, "prompt": "a big smile", "word": "smile"}),
        "hooks_on": Entry(dl.hooks_on, {"model": model}),
        "cache.get": Entry(cache.get, {"site": SITE, "step": 0, "pass_": "cond"}),
        "cache.select": Entry(
            cache.select,
            {"sites": SITE, "stream": "image", "block": 0, "kind": "joint", "point": "out", "step": 0,
             "pass_": "cond"},
        ),
        "cache.to_grid": Entry(cache.to_grid, {"site": SITE, "step": 0, "pass_": "cond", "run": 0}),
        "cache.words": Entry(cache.words, {"word": "smile", "item": 0, "prompt": "a big smile"}),
        "cache.mask": Entry(cache.mask, {"pass_": "cond"}),
        "plot_attention": Entry(
            plots.plot_attention,
            {"cache": cache, "word": "smile", "image": PICTURE, "item": 0, "pass_": "cond", "prompt": ""},
        ),
        "plan_study": Entry(
            plan_study,
            {"model": model, "prompts": ["a man"], "seeds": [0], "sites": SITE, "steps": None, "passes": ("cond",),
             "reduce": None, "dtype": None, "sampling_steps": 1, "guidance": 2.0},
        ),
        "apply": Entry(other_edit.apply, {"image": PICTURE, "degree": 1.0}),
        "sweep.save": Entry(edit.sweep([1.0]).save, {"path": "strip.png"}),
        "TextEmbedding": Entry(
            dl.TextEmbedding, {"tokens": torch.ones(1, 2, 3), "pooled": torch.ones(1, 4), "mask": None}
        ),
        "Description": Entry(dl.Description, {"source": "no hat", "target": "a hat", "changes": {}}),
        "ByHand": Entry(ByHand, {"source": "no hat", "target": "a hat"}),
        "cache[]": Entry(lambda key: cache[key], {"key": SITE}),
        "study[]": Entry(lambda key: study[key], {"key": SITE}),
        "study.cache": Entry(study.cache, {"items": [(0, 0)]}),
        "redraw": Entry(model.world.redraw, {"images": torch.zeros(1, 3, 128, 128)}),
        "disentanglement": Entry(
            dl.disentanglement,
            {"codes": np.eye(2)[[0, 1] * 40], "factors": [[0, 1], [1, 1], [1, 0], [0, 0]] * 20, "discrete": None,
             "seed": 0},
        ),
        "sigmas_linear": Entry(dl.flow.sigmas_linear, {"steps": 3}),
        "Distillation": Entry(dl.Distillation, {"name": "mine", "steps": 3, "lr": 0.1}),
        "plot_portraits": Entry(
            plots.plot_portraits, {"images": [PICTURE], "labels": ("one",), "columns": 1, "title": ""}
        ),
        "open_study": Entry(dl.open_study, {"folder": study.folder}),
        "study.read": Entry(
            study.read, {"site": SITE, "step": 0, "tokens": None, "pass_": "cond", "items": None}
        ),
        "study.batches": Entry(lambda **given: list(study.batches(**given)), {"site": SITE, "size": 1}),
        "describer_from": Entry(describer_from, {"spec": "own", "model": model}),
        "OpenAICompatible": Entry(
            OpenAICompatible,
            {"model": "llava", "url": "http://127.0.0.1:1/v1", "key_env": "KEY", "timeout": 1.0, "side": 64,
             "max_tokens": 9, "options": None, "cache": None},
        ),
        "HuggingFace": Entry(
            HuggingFace, {"id_or_folder": "org/name", "device": "cpu", "max_new_tokens": 9, "cache": None}
        ),
        "Recorded": Entry(Recorded, {"record": {"format": 1, "describer": "me", "pictures": {}}}),
        "OdeEdit": Entry(
            dl.OdeEdit, {"name": "mine", "steps": 3, "active": 1.0, "source_guidance": 1.0, "guide_from": "null"}
        ),
    }  # fmt: skip


def wrong_values(model: dl.Model) -> Iterator[Any]:
    yield from (
        None,
        True,
        1.5,
        -1,
        0,
        2**70,
        float("nan"),
        "",
        "nonsense",
        "a\0b",
        b"bytes",
        Path("nowhere"),
    )
    yield from ([], [None], (1.5,), {}, {"a": 1}, slice(None), object(), int, lambda: 0)
    yield from (np.ones(3), torch.ones(2, 5), torch.zeros(0), PICTURE, model, model.pipe, model.transformer)


OWN = ("on_step", "run", "reduce")
"""Arguments that are functions: what a person's own function raises is not ours."""

MEANT = {"patterns": "sites", "spec": "describer", "key": "site"}
"""What messages call an argument where they come from further in."""


def fault(entry: Entry, argument: str, value: Any) -> str:
    """What is wrong with the answer to a wrong value; empty if it works, or an error of ours names it."""
    try:
        entry.call(**(entry.works | {argument: value}))
    except dl.errors.DitlensError as error:
        said = str(error)
        named = re.search(rf"\b{MEANT.get(argument, argument).rstrip('_s')}", said, re.IGNORECASE)
        quoted = isinstance(value, str | Path) and (repr(str(value)) in said or str(value or "\0") in said)
        return "" if named or quoted else f"is not named: {said}"
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error)[:200]}"
    return ""


def test_no_raw_errors(entries, portraits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count = sum(len(entry.works) for entry in entries.values())
    assert len(entries) >= 40 and count >= 150 and len(list(wrong_values(portraits))) >= 25
    values = list(wrong_values(portraits))
    called = (dl.Model, torch.nn.Module, type(portraits.pipe))
    faults = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for (name, entry), value in itertools.product(entries.items(), values):
            for argument in entry.works:
                if argument in OWN and isinstance(value, called):
                    continue
                if found := fault(entry, argument, value):
                    faults.append(f"{name}({argument}={str(value)[:30]!r}) {found}")
    assert faults == []


def test_what_the_entries_are_given_works(entries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for entry in entries.values():
        entry.call(**entry.works)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: dl.edit(m.pipe), "model is of type StableDiffusion3Pipeline; give a model: "
         "ditlens.load('portraits'), or ditlens.wrap(pipe) around your own pipeline."),
        (lambda m: dl.edit(m), "edit needs image. Its arguments are: model, image, instruction, degree, "),
        (lambda m: dl.edit(m, PICTURE, "smile", degre=1),
         "edit: got an unexpected keyword argument 'degre'. Its arguments are: model, "),
        (lambda m: dl.load(m.pipe), "name_or_path is of type StableDiffusion3Pipeline; give a name, a folder, or "
         "ditlens.wrap(pipe) around your own pipeline."),
        (lambda m: dl.load("portraits", dtype="float16"),
         "dtype is 'float16'; give a number format of torch, e.g. torch.float16."),
        (lambda m: dl.Model(object.__new__(flux())), "pipe is a FluxPipeline, and this class wraps a "
         "StableDiffusion3Pipeline: ditlens.wrap(pipe) chooses the right class."),
        (lambda m: dl.wrap("portraits"),
         "pipe is 'portraits', a name; load models by name with ditlens.load('portraits')."),
        (lambda m: dl.add_vector(np.ones(64)), "direction is of type ndarray and shape (64,); give a tensor, e.g. "
         "torch.ones(width); an array becomes one by torch.from_numpy(array)."),
        (lambda m: m.generate(["a crown", "a hat"]), "prompt is ['a crown', 'a hat']; give a text, e.g. "
         "'a big smile', or for several texts use model.sample(prompts, seeds)."),
        (lambda m: m.generate("half a \ud83d"), "prompt is 'half a \\ud83d'; give a text"),
        (lambda m: m.generate("a crown", guidance=Fraction(3, 2)), "guidance is of type Fraction; give a number"),
        (lambda m: m.generate("a crown", steps=2.5), "steps is 2.5; give a whole number from 1, e.g. 20."),
        (lambda m: m.generate("a crown", seed=2**70),
         "seed is 1180591620717411303424; give a whole number from 0 to 2**63 - 1"),
        (lambda m: m.world.measure(PICTURE), "images is of type Image; give a tensor (batch, 3, height, width) "
         "with values in [0, 1]; model.prepare makes one of a file or a PIL image."),
        (lambda m: dl.capture(m, None), "sites is None; give patterns as texts."),
        (lambda m: dl.capture("portraits"), "model is 'portraits', which has no transformer. Pass a ditlens.Model "
         "(a name is loaded by ditlens.load)"),
        (lambda m: dl.capture(torch.nn.DataParallel(m.transformer)),
         "model is a DataParallel around the transformer; pass what is inside: model.module."),
        (lambda m: dl.capture(peft(m.transformer)),
         "model is a PeftModel around the transformer; pass what is inside: model.base_model.model."),
        (lambda m: dl.sites(type("UNet2DConditionModel", (torch.nn.Module,), {})()),
         "UNet2DConditionModel is a U-Net, whose text and image never share a stream."),
        (lambda m: dl.edit(m, PICTURE, "smile", method=3), "method is 3; give a name, ems, "),
    ],
)  # fmt: skip
def test_what_the_messages_say(portraits, call, says):
    with pytest.raises(dl.errors.DitlensError) as caught:
        call(portraits)
    assert str(caught.value).startswith(says)


def peft(transformer: torch.nn.Module) -> torch.nn.Module:
    """A module of the shape that PEFT gives to a transformer with a LoRA."""
    wrapped = type("PeftModel", (torch.nn.Module,), {})()
    wrapped.base_model = type("LoraModel", (torch.nn.Module,), {})()
    wrapped.base_model.model = transformer
    return wrapped


def flux() -> type:
    from diffusers import FluxPipeline

    return FluxPipeline


def test_a_direction_of_another_width(portraits):
    with (
        pytest.raises(
            dl.errors.InterventionError,
            match=r"direction has the shape \(5,\), and the values here \(2, 64, 64\)",
        ),
        dl.intervene(portraits, {SITE: dl.add_vector(torch.ones(5))}, passes="cond"),
    ):
        portraits.sample(["a", "b"], [0, 1], steps=1)


def test_wrap_is_load_without_the_loading(portraits):
    own = dl.wrap(portraits.pipe, "mine", portraits.folder)
    assert type(own) is dl.Model and own.world.name == "portraits"
    assert own.generate("a smile", steps=1).tobytes() == portraits.generate("a smile", steps=1).tobytes()


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "FlowMatchHeunDiscreteScheduler", "EulerDiscreteScheduler"]
)
def test_schedulers_without_the_levels_of_rectified_flow(portraits, name):
    import diffusers

    pipe = diffusers.StableDiffusion3Pipeline(**portraits.pipe.components)
    pipe.scheduler = getattr(diffusers, name)()
    with pytest.raises(
        dl.errors.ModelError, match=f"scheduler of this pipeline, {name}, has no noise levels of rectified"
    ):
        dl.wrap(pipe)


def test_a_capture_whose_with_was_forgotten(portraits):
    cache = dl.capture(portraits, SITE)
    assert repr(cache).startswith("<capture of 1 site; write `with ditlens.capture(...) as cache:`")
    for use in (lambda: cache[SITE], lambda: cache.select(block=0), lambda: cache.items):
        with pytest.raises(
            dl.errors.CaptureError, match="This is the capture, not its cache.*write `with ditlens.capture"
        ):
            use()
    assert not hasattr(cache, "_repr_html_")


def test_a_capture_that_was_interrupted_gives_no_values(portraits):
    def stop(state: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), dl.capture(portraits, SITE) as cache:
        portraits.generate("a smile", on_step=stop)
    assert "INCOMPLETE. Its with-block ended with KeyboardInterrupt." in repr(cache)
    for use in (
        lambda: cache[SITE],
        lambda: cache.select(block=0),
        lambda: cache.to_grid(SITE),
        lambda: cache.stack(),
    ):
        with pytest.raises(
            dl.errors.CaptureError, match="This cache is incomplete. .* Run the with-block again."
        ):
            use()


def test_attention_of_every_head_is_drawn_as_its_mean(portraits):
    with dl.capture(portraits, MAP, heads="all") as cache, dl.capture(portraits, MAP) as mean:
        portraits.generate("a smile", steps=1)
    drawn = [plots.plot_attention(which, "smile").axes[0].images[0].get_array() for which in (cache, mean)]
    assert drawn[0].shape == (8, 8)
    np.testing.assert_allclose(*drawn, rtol=1e-5)


def test_a_word_is_drawn_where_a_stock_pipeline_ran(portraits):
    with dl.capture(portraits.pipe, MAP) as cache:
        portraits.pipe("a smile", num_inference_steps=1, guidance_scale=1.0, max_sequence_length=0)
    with pytest.raises(dl.errors.CaptureError, match="The prompt of this image is unknown"):
        plots.plot_attention(cache, "smile")
    assert plots.plot_attention(cache, "smile", prompt="a smile").axes
