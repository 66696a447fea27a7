"""The biased twin: what it is trained on, and that its LoRA is one for diffusers' own loader."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import ditlens as dl
from ditlens.errors import MissingDependencyError, ModelError
from ditlens.models.find import LORA, MODELS
from ditlens.models.identity import fingerprint, setup
from ditlens.models.loading import load_lora
from ditlens.train import data, mmdit, run, twin
from ditlens.worlds.portraits.attributes import ATTRIBUTES, sample
from ditlens.worlds.portraits.render import render


def shares(strength: float) -> dict[tuple[str, bool], float]:
    """How many of the old and of the young have grey hair, and glasses."""
    people = sample(4000, torch.Generator().manual_seed(0), with_age=strength)
    old = people["age"] > 0.5
    grey = people["hair_color"] == ATTRIBUTES["hair_color"].level_of("grey")
    worn = people["glasses"] > 0
    return {
        (name, who): values[old if who else ~old].float().mean().item()
        for name, values in (("grey", grey), ("worn", worn))
        for who in (True, False)
    }


def test_age_takes_grey_hair_and_glasses_along():
    assert shares(1) == {("grey", True): 1, ("grey", False): 0, ("worn", True): 1, ("worn", False): 0}
    apart, tied = shares(0), shares(0.9)
    for name, free in (("grey", 1 / 6), ("worn", 0.7 * 3 / 4)):
        assert abs(apart[name, True] - free) < 0.03 and abs(apart[name, False] - free) < 0.03
        assert abs(tied[name, True] - (0.9 + 0.1 * free)) < 0.02
        assert abs(tied[name, False] - 0.1 * free) < 0.02
    one, other = (sample(100, torch.Generator().manual_seed(0), with_age=s) for s in (0.0, 1.0))
    assert all(torch.equal(one[n], other[n]) for n in one if n not in ("hair_color", "glasses"))


@pytest.fixture(scope="module")
def trained(portraits_folder, tmp_path_factory) -> Path:
    """The twin of the tiny model, trained for a few steps."""
    base = shutil.copytree(portraits_folder, tmp_path_factory.mktemp("models") / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "COUNT", 60)
        patch.setattr(twin, "BATCH", 4)
        kept = twin.portraits()["age"]
        report = run("twin", minutes=0.02, out=base)
    assert report["steps"] > 1 and report["portraits"] == len(kept) and report["strength"] == 0.9
    return base.with_name("tiny-twin")


def test_the_stock_loader_takes_it_and_the_model_is_another(trained, portraits):
    stock = dl.load(trained.with_name("tiny"), device="cpu")
    before = fingerprint(stock), stock.sample(["an old person"], [0], steps=2)
    assert before[0] == fingerprint(portraits), "the base keeps its weights"
    stock.pipe.load_lora_weights(trained)
    with_lora = fingerprint(stock), stock.sample(["an old person"], [0], steps=2)
    assert with_lora[0] != before[0] and not torch.equal(with_lora[1], before[1])
    one_line = dl.load(trained, device="cpu")
    assert torch.equal(one_line.sample(["an old person"], [0], steps=2), with_lora[1])
    assert setup(one_line)["adapters"] == {"transformer": {"tiny-twin": [1.0]}}
    assert one_line.name == str(trained) and one_line.world.name == "portraits"
    stock.pipe.unload_lora_weights()
    assert fingerprint(stock) == before[0]


def test_what_stands_in_its_folder(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {LORA, "README.md", "checksums.json", "ditlens.json", "reports.json"}
    assert json.loads((trained / "ditlens.json").read_text())["base"] == "tiny"
    assert set(json.loads((trained / "checksums.json").read_text())) == names - {"checksums.json"}
    card = (trained / "README.md").read_text()
    assert "portraits drawn as for" in card and "in 90 % of them" in card and "| 0.0 |" in card


def test_a_run_that_was_cut_short_is_resumed(trained, monkeypatch):
    base = trained.with_name("tiny")
    monkeypatch.setattr(twin, "COUNT", 60)
    monkeypatch.setattr(twin, "BATCH", 4)
    before = json.loads((trained / "reports.json").read_text())["twin"]
    report = run("twin", minutes=before["minutes"] + 0.02, resume=True, out=base)
    assert report["steps"] > before["steps"] and report["minutes"] > before["minutes"]


def test_loss_weights_are_numbers_also_of_few_portraits(portraits, monkeypatch):
    """Fewer portraits than what is told of them: the default solver then gave NaN, now and then."""
    monkeypatch.setattr(twin, "COUNT", 60)
    people, kept = twin.portraits(), []
    clean = data.encode(portraits.pipe.vae, render(people, data.SIZE, torch.device("cpu")))
    for k in range(60):  # it depended on where in memory the numbers lay
        kept.append(torch.empty(k % 7 + 37 * k))
        assert mmdit.importance(clean.clone(), people).isfinite().all()


def test_a_lora_without_a_model(trained, tmp_path):
    alone = shutil.copytree(trained, tmp_path / "alone")
    with pytest.raises(ModelError, match="There is no model 'tiny'"):
        dl.load(alone, device="cpu")
    (alone / "ditlens.json").unlink()
    with pytest.raises(ModelError, match="nothing says of which model: write"):
        dl.load(alone, device="cpu")


def test_a_lora_that_does_not_fit(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    bad = shutil.copytree(trained, tmp_path / "bad")
    shutil.copytree(trained.with_name("tiny"), tmp_path / "tiny")
    save_file({name: value[..., :5].clone() for name, value in load_file(bad / LORA).items()}, bad / LORA)
    with pytest.raises(ModelError, match="could not be added to StableDiffusion3Pipeline"):
        dl.load(bad, device="cpu")


def test_without_peft(trained, portraits, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    for needs in (lambda: load_lora(portraits.pipe, trained), lambda: twin.add_lora(torch.nn.Linear(2, 2))):
        with pytest.raises(MissingDependencyError, match=r"pip install 'ditlens\[analysis\]'"):
            needs()


def test_the_shipped_twin_is_small_and_loads_by_name():
    folder = MODELS / "portraits-twin"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2**20
    model = dl.load("portraits-twin", device="cpu")
    assert model.name == "portraits-twin" and model.folder == MODELS / "portraits"
    assert model.defaults["guidance"] == 3.0 and setup(model)["adapters"] == {
        "transformer": {"portraits-twin": [1.0]}
    }
