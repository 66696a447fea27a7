"""What is set for the whole process changes no result; every seed that is documented is a seed of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens import flow
from ditlens.bench import runner
from ditlens.bench.entries import Entry
from ditlens.bench.suites import open_suite
from ditlens.ems.methods import DDS, OdeEdit
from ditlens.errors import SettingError
from ditlens.lens.study.run import plan_study
from ditlens.models.loading import load
from ditlens.worlds.portraits.attributes import neutral, sample
from ditlens.worlds.portraits.render import render


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "another device": lambda: torch.device("meta"),
}


def everything(model, picture):
    """Tensors and arrays from every kind of call."""
    with dl.capture(model, "joint.0.*.{out,attn.to_text}", passes=None, reduce="sketch:8") as cache:
        image = model.sample(["a big smile"], [2**40], steps=1)
    yield from cache.tensors.values()
    yield image
    settings = {
        "source_text": "a red shirt",
        "target_text": "a blue shirt",
        "method": OdeEdit("plain", steps=1),
    }
    for mask in ("exact", "difference"):
        edit = dl.edit(model, picture, mask=mask, **settings)
        yield edit.latents
        yield np.array([value for value in edit.after.values() if isinstance(value, float)])
    yield dl.edit(model, picture, **settings | {"method": replace(DDS, steps=1)}).latents
    yield np.array(list(str(dl.check_image(model, picture))))
    yield from render(sample(2, flow.generator_of(0)), 32)
    yield render(neutral(), 32)


@pytest.fixture(scope="module")
def picture(portraits):
    return portraits.generate("a portrait", steps=1)


@pytest.fixture(scope="module")
def usual(portraits, picture):
    return list(everything(portraits, picture))


@pytest.mark.parametrize("name", DEFAULTS)
def test_another_default_changes_nothing(portraits, picture, usual, name):
    with DEFAULTS[name]():
        found = list(everything(portraits, picture))
    for before, after in zip(usual, found, strict=True):
        assert after.dtype == before.dtype and (np.asarray(after) == np.asarray(before)).all()


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_model_loads_the_same(portraits, portraits_folder, name):
    with DEFAULTS[name]():
        loaded = load(portraits_folder, device="cpu")
    assert loaded.dtype == torch.float32
    for key, value in portraits.transformer.state_dict().items():
        assert torch.equal(value, loaded.transformer.state_dict()[key])


# --- seeds --------------------------------------------------------------------------------------------------

LARGE = (3, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 3, 2**53, 2**53 + 1, 2**62 + 3, 2**63 - 1)


def test_every_seed_draws_its_own_noise(portraits):
    noises = portraits.noise(LARGE)
    assert len({noise.numpy().tobytes() for noise in noises}) == len(LARGE), "PyTorch reads 32 bits of a seed"
    torch.manual_seed(3)  # small seeds draw what PyTorch draws
    assert torch.equal(noises[0], torch.randn(noises[0].shape))


def test_the_largest_seed_everywhere(portraits, picture, tmp_path):
    largest = 2**63 - 1
    method = OdeEdit("plain", steps=1)
    settings = {
        "source_text": "a red shirt",
        "target_text": "a blue shirt",
        "method": method,
        "mask": "difference",
    }
    assert dl.edit(portraits, picture, seed=largest, **settings).recipe["seed"] == largest
    assert plan_study(portraits, ["a man"], [0, largest], "joint.0.image.out").seeds == (0, largest)
    entries = {"plain": Entry("plain", method)}
    suite = open_suite("portraits-dev", 2)
    runner.run_bench(portraits, suite, entries, tmp_path, degrees=(1.0,), seed=largest, progress=False)
    rows = runner.collect(tmp_path, suite)
    assert [(row["seed"], row["error"]) for row in rows] == [(largest, ""), (0, "")]


def test_a_study_refuses_what_is_no_seed(portraits):
    says = (
        r"seeds is \[9223372036854775808\]; give a whole number from 0 to 2\*\*63 - 1, .* or a list of seeds"
    )
    with pytest.raises(SettingError, match=says):
        plan_study(portraits, ["a man"], [2**63], "joint.0.image.out")
