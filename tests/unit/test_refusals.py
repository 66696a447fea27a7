"""What `ditlens.edit` refuses at its door: at once, before a network runs, in words that say what to type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ditlens as dl
from ditlens.ems.masks import read_mask
from ditlens.ems.sample import method_from, settings_of
from ditlens.errors import DitlensError, ImageError, ModelError, SettingError
from ditlens.models.model import Model

pytestmark = pytest.mark.usefixtures("wrong_types")
TEXTS = {"source_text": "a red shirt", "target_text": "a blue shirt"}
PLAIN = torch.full((1, 3, 128, 128), 0.5)


@pytest.fixture
def still(portraits, monkeypatch):
    """The model, none of whose networks may run."""

    def run(*args, **kwargs):
        raise AssertionError("a network ran before the check")

    for name in ("forward", "__call__"):
        monkeypatch.setattr(torch.nn.Module, name, run)
    return portraits


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        *(({"seed": seed}, SettingError, "whole number from 0") for seed in (-1, 1.0, "1", True, None, 2**64)),
        *(({"degree": d}, SettingError, "give a number") for d in ("1", None, [1], True, 1j)),
        ({"degree": float("nan")}, SettingError, "degree nan is outside"),
        ({"degree": 9}, SettingError, "degree 9 is outside"),
        *(({"method": m}, SettingError, "method is .*give a name, ems, flowedit") for m in (5, False, dl.OdeEdit)),
        ({"method": "emz"}, SettingError, "no method 'emz'. Choose from: ems, flowedit"),
        ({"method": {"kind": "ode"}}, SettingError, "needs a name"),
        *(({"tokens": t}, SettingError, "tokens is .* True or False") for t in (2, "yes", None)),
        *(({"encoders": e}, SettingError, "no text encoder") for e in (True, 1.5, [1.0], object(), "t9")),
        *(({"source_text": t}, SettingError, "source_text is") for t in (5, ["a"], "")),
        *(({"instruction": i}, SettingError, "instruction is") for i in (None, ["older"], 5, b"older", {3: 1})),
        ({"instruction": {"older": "1"}}, SettingError, "give a number"),
        *(({"mask": m}, SettingError, "array of numbers") for m in ({}, object())),
        ({"mask": "diference"}, SettingError, "neither a file nor one of none, difference, exact"),
        ({"mask": np.eye(128, dtype=np.uint8)}, SettingError, "0 and 1 as bytes"),
        ({"image": "x" * 300}, ImageError, "is a name too long for the file system"),
        ({"mask": "x" * 300}, SettingError, "is a name too long for the file system"),
        ({"mask": "a\0b.png"}, ImageError, "holds a character that no file's name can have"),
        ({"image": Image.new("RGB", (0, 0))}, ImageError, "0 x 0"),
        ({"image": torch.rand(3, 0, 0)}, ImageError, r"tensor \(3, height, width\)"),
        ({"describer": "nobody"}, DitlensError, "nobody"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_before_a_network_runs(still, settings, error, message):
    given = {"image": PLAIN, "instruction": "", **TEXTS, **settings}
    if "instruction" in settings:
        given.pop("target_text")
    image, instruction = given.pop("image"), given.pop("instruction")
    with pytest.raises(error, match=message):
        dl.edit(still, image, instruction, **given)


def test_an_instruction_without_meaning_is_refused_before_a_network_runs(still):
    with pytest.raises(DitlensError, match="frobnicate"):
        dl.edit(still, PLAIN, "make the person frobnicate")


@pytest.mark.parametrize("model", ["portraits", None, 5])
def test_a_model_is_needed(model):
    with pytest.raises(SettingError, match=r"model is .*; give a model: ditlens.load\('portraits'\)"):
        dl.edit(model, PLAIN, "older")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": "3"}, "steps is a whole number"), ({"steps": 2.5}, "steps is a whole number"),
        ({"target_guidance": float("nan")}, "target_guidance is a finite number"),
        ({"lr": float("inf")}, "lr is positive"),
        ({"sigma_range": (0.1,)}, "a tuple of 2 finite numbers"), ({"eta": 3}, "a tuple of 2 finite numbers"),
    ],
)  # fmt: skip
def test_settings_of_a_method_have_types(settings, message):
    with pytest.raises(SettingError, match=message):
        dl.Distillation("mine", **settings)


def test_a_recipes_method_is_a_method(portraits):
    done = dl.edit(portraits, PLAIN, method=dl.OdeEdit("mine", steps=2), seed=np.int64(3), **TEXTS)
    again = dl.edit(portraits, PLAIN, method=done.recipe["method"], seed=done.recipe["seed"], **TEXTS)
    assert (
        np.array_equal(done.image, again.image)
        and method_from(settings_of(done.plan.method)) == done.plan.method
    )


def test_sweeps_take_arrays_and_name_what_is_wrong(portraits, tmp_path):
    done = dl.edit(portraits, PLAIN, method=dl.OdeEdit("mine", steps=2), **TEXTS)
    sweep = done.sweep(np.linspace(0, 1, 3))
    assert sweep.degrees == [0.0, 0.5, 1.0]
    for wrong in (5, "0.5", [None]):
        with pytest.raises(SettingError, match="degree"):
            done.sweep(wrong)
    with pytest.raises(SettingError, match="no attribute 'nope'. Choose from: smile"):
        sweep.values("nope")
    sweep.save(tmp_path / "new" / "sweep")
    assert (tmp_path / "new" / "sweep.png").is_file()
    with pytest.raises(SettingError, match="is or lies under a file"):
        done.save(tmp_path / "new" / "sweep.png" / "x")


def test_a_masks_transparency_does_not_count(tmp_path):
    mask = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    mask.paste((255, 255, 255, 255), (0, 0, 8, 8))
    mask.save(tmp_path / "mask.png")
    for given in (mask, tmp_path / "mask.png", mask.convert("LA")):
        assert read_mask(given).mean() == 0.25


def test_a_world_that_lacks_something_is_refused(portraits):
    class Half:
        name = "half"
        attributes = {}  # noqa: RUF012

    with pytest.raises(ModelError, match="world is Half, which lacks describer, networks, measure"):
        Model(portraits.pipe, world=Half())
    with pytest.raises(ModelError, match="world is str"):
        Model(portraits.pipe, world="portraits")


def test_settings_of_a_model_are_numbers(portraits, tmp_path):
    for text in ('{"steps": "x"}', '{"guidance": null}', '{"steps": 0}'):
        (tmp_path / "ditlens.json").write_text(text)
        with pytest.raises(ModelError, match="steps is a whole number from 1"):
            Model(portraits.pipe, folder=Path(tmp_path))
    (tmp_path / "ditlens.json").write_text('{"world": null}')
    assert Model(portraits.pipe, folder=Path(tmp_path)).world is None
