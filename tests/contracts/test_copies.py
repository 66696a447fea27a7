"""Pickles and copies: results can be pickled and keep no model alive; copies of a model have none of our hooks."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import sys
import weakref
from pathlib import Path

import pytest
import torch

import ditlens as dl
from ditlens.errors import SettingError
from ditlens.lens.study.run import plan_study, run_study
from ditlens.models.loading import load

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

SD3 = "SD3Transformer2DModel"
OUT = "joint.0.image.out"
TEXTS = {"source_text": "a red shirt", "target_text": "a blue shirt", "method": dl.OdeEdit("plain", steps=2)}


def again(thing):
    """A thing after a pickle."""
    return pickle.loads(pickle.dumps(thing))


@pytest.fixture(scope="module")
def cache(portraits):
    with dl.capture(portraits, "joint.*.{text,image}.out", passes=None) as found:
        portraits.generate("a big smile", seed=0, steps=1)
    return found


# --- pickles ------------------------------------------------------------------------------------------------


def test_a_cache_comes_back_with_its_words(cache):
    for given in (cache, cache.select(stream="text"), copy.deepcopy(cache)):
        found = again(given)
        assert repr(found) == repr(given) and found.items == given.items and found.grids == given.grids
        assert all(torch.equal(found.tensors[key], given.tensors[key]) for key in given)
        assert found.words("smile") == {"tokenizer": [3], "tokenizer_2": [3]}


@pytest.mark.parametrize(
    "name", ["Flux2KleinPipeline", "CogView4Pipeline", "QwenImagePipeline", "HunyuanImagePipeline"]
)
def test_no_reader_of_prompts_holds_its_pipeline(name):
    from ditlens.lens.adapters.texts import reader_of

    class Pipeline:
        def __init__(self):
            self.tokenizer, self.transformer, self.prompt_template_encode = (
                "tokenizer",
                torch.nn.Linear(1, 1),
                "{}",
            )

    pipe = type(name, (Pipeline,), {})()
    found = again(reader_of(pipe, pipe.transformer))
    assert vars(found.pipe) == {"tokenizer": "tokenizer", "prompt_template_encode": "{}", "kind": name}


def test_interventions_come_back(portraits, cache):
    width = cache[OUT, 0, "cond"].shape[-1]
    changes = {
        "add_vector": dl.add_vector(torch.linspace(0, 1, width), 0.5),
        "scale": dl.scale(0.5), "bypass": dl.bypass(),
        "zero": dl.ablate("zero"), "mean": dl.ablate("mean"), "of a cache": dl.ablate("mean", cache),
        "another": dl.ablate("resample", torch.ones(2, 64, width)), "replace_with": dl.replace_with(cache),
    }  # fmt: skip

    def image(change):
        with dl.intervene(portraits, {OUT: change}):
            return portraits.sample(["a frown"], [0], steps=1)

    for name, change in changes.items():
        assert torch.equal(image(change), image(again(change))), name


def test_directions_and_studies_come_back(portraits, tmp_path):
    known = dl.direction(portraits, "a smile", "a frown")
    assert torch.equal(again(known).step, known.step) and repr(again(known)) == repr(known)
    study = run_study(portraits, plan_study(portraits, ["a man"], [0], OUT, sampling_steps=1), tmp_path)
    assert repr(again(study)) == repr(study) and repr(again(study.read(OUT))) == repr(study.read(OUT))


@pytest.mark.parametrize("mask", ["exact", torch.ones(128, 128), "none"], ids=["exact", "given", "none"])
def test_an_edit_comes_back_and_is_small(portraits, mask, tmp_path):
    edit = dl.edit(portraits, portraits.generate("a hat", steps=1), mask=mask, **TEXTS)
    found = again(edit)
    assert found.facts() == edit.facts() and found.missed == edit.missed and found.warnings == edit.warnings
    assert found.image == edit.image and torch.equal(found.latents, edit.latents)
    assert (found.mask is None) == (edit.mask is None) and len(pickle.dumps(edit)) < 1e6, (
        "without the networks"
    )
    names = [
        sorted(path.name for path in each.save(tmp_path / k).iterdir())
        for k, each in (("a", edit), ("b", found))
    ]
    assert names[0] == names[1]
    for use in (lambda: found.sweep([0, 1]), lambda: found.reverse(), lambda: list(found.iter())):
        with pytest.raises(SettingError, match=r"comes from a pickle.*ditlens.edit\(ditlens.load\("):
            use()
    assert copy.deepcopy(edit).sweep([1.0]).edits[0].image == edit.image, "a copy in memory keeps the model"
    assert [again(edit.sweep([0.0, 1.0])).degrees, repr(found.plan.model)] == [
        [0.0, 1.0], f"PickledModel({portraits.name!r})"
    ]  # fmt: skip


# --- what keeps a model alive ---------------------------------------------------------------------------------


def test_a_cache_keeps_no_model_alive(portraits_folder):
    model = load(portraits_folder, device="cpu")
    with dl.capture(model, OUT) as cache:
        model.generate("a big smile", seed=0, steps=1)
    parts = [
        weakref.ref(each) for each in (model.transformer, model.vae, model.pipe.text_encoder, model.pipe)
    ]
    del model
    gc.collect()
    assert [part() for part in parts] == [None] * 4
    assert cache.words("smile")["tokenizer"] == [3]


# --- copies of a model inside a capture -----------------------------------------------------------------------


def hooks(model):
    return [
        (name, hook)
        for module in model.modules()
        for name in vars(module)
        if name.startswith(("_forward_hooks", "_forward_pre_hooks"))
        for hook in getattr(module, name).values()
    ]


def seen(module, args, kwargs, output):
    """A user's own hook."""


@pytest.fixture
def sd3():
    model = tiny.build(SD3).eval()
    model.transformer_blocks[1].register_forward_hook(seen, with_kwargs=True)
    return model


def saved(model):
    """A model after `torch.save`, in whose bytes nothing names ditlens."""
    file = io.BytesIO()
    torch.save(model, file)
    assert b"ditlens" not in file.getvalue()
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, again, saved], ids=["deepcopy", "pickle", "torch.save"])
@torch.no_grad()
def test_copies_have_the_users_hooks_and_none_of_ours(sd3, copied):
    inputs = tiny.inputs(SD3)
    with (
        dl.capture(sd3, "*.*.*.*") as cache,
        dl.intervene(sd3, {OUT: dl.scale(0), "joint.1.image.q": dl.scale(2)}),
    ):
        changed = sd3(**inputs, return_dict=False)[0]
        made, block = copied(sd3), copied(sd3.transformer_blocks[1])
        values = {key: value.clone() for key, value in cache.tensors.items()}
        plain = made(**inputs, return_dict=False)[0]
    for each in (made, block):
        assert hooks(each) == [("_forward_hooks", seen), ("_forward_hooks_with_kwargs", True)]
    assert torch.equal(plain, sd3(**inputs, return_dict=False)[0]) and not torch.equal(plain, changed)
    assert all(torch.equal(values[key], value) for key, value in cache.tensors.items()), (
        "the copy is not captured"
    )
    with dl.capture(made, OUT) as cache:
        made(**inputs)
    assert len(cache) == 1 and len(hooks(made)) == 2


@torch.no_grad()
def test_a_shallow_copy_has_none_of_ours_either(sd3):
    with dl.capture(sd3, "*.*.*.*"):
        block = copy.copy(sd3.transformer_blocks[1])
        sd3(**tiny.inputs(SD3))
    assert [hook for _, hook in hooks(block)] == [seen, True]
