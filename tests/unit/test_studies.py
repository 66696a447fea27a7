"""Studies: workers and their devices, limits, settings that keep nothing, and the command."""

from __future__ import annotations

import gc
import json
import subprocess
import weakref

import pytest
import torch

from ditlens import flow, workers
from ditlens.cli import main as cli
from ditlens.errors import BudgetError, CaptureError, SettingError, SiteError, StudyError
from ditlens.lens.cache import CacheKey, smaller_settings
from ditlens.lens.captures import capture
from ditlens.lens.estimates import Estimate
from ditlens.lens.selection import sketch
from ditlens.lens.study import run as studies
from ditlens.lens.study.run import as_option, over_limit
from ditlens.models.loading import load
from ditlens.workers import Worker
from ditlens.worlds.portraits.attributes import sample
from ditlens.worlds.portraits.render import render

OUT = "joint.0.{text,image}.out"


@pytest.fixture
def no_launcher(monkeypatch):
    """No workers may be started."""
    monkeypatch.setattr(workers, "launch", lambda *_, **__: pytest.fail("started workers"))


@pytest.fixture
def command(portraits_folder, tmp_path):
    """Words of a command that captures one prompt into ``tmp_path / "study"``."""
    (tmp_path / "prompts.txt").write_text("a man\n")
    return [
        "capture", "--prompts", str(tmp_path / "prompts.txt"), "--sites", OUT, "--model", str(portraits_folder),
        "--device", "cpu", "--out", str(tmp_path / "study"),
    ]  # fmt: skip


# --- workers ------------------------------------------------------------------------------------------------


def test_every_worker_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for asked in ("auto", "cuda"):
        assert [Worker(k, 3, k).device(asked) for k in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert Worker(1, 2, 1).device("cuda:0") == "cuda:0" and Worker(1, 2, 1).device("cpu") == "cpu"


def test_without_a_gpu_the_device_is_as_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Worker(1, 2, 1).device("auto") == "auto"
    assert Worker(1, 2, 1).device("cuda") == "cuda"  # loading says that there is none


def test_a_dry_run_starts_no_workers(command, no_launcher, tmp_path, capsys):
    assert cli.main([*command, "--dry-run", "--workers", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes_total"] > 0
    assert not (tmp_path / "study").exists()


def test_workers_that_all_fail_are_an_error_of_its_own(command, monkeypatch, capsys):
    monkeypatch.setattr(workers, "launch", lambda *_, **__: 1)
    assert cli.main([*command, "--workers", "2"]) == 1
    said = capsys.readouterr().err
    assert "No worker came to write" in said and "without --workers" in said


# --- what would fail again ------------------------------------------------------------------------------------


def failing(monkeypatch, error, at):
    """Let the capture of one item fail; returns the items that were tried."""
    real, tried = studies.capture_item, []

    def capture_item(model, manifest, prompt, seed, limit):
        tried.append((prompt, seed))
        if (prompt, seed) == at:
            raise error
        return real(model, manifest, prompt, seed, limit)

    monkeypatch.setattr(studies, "capture_item", capture_item)
    return tried


@pytest.fixture
def three(portraits):
    return studies.plan_study(portraits, ["a man", "a woman", "an old man"], [0], OUT, sampling_steps=1)


@pytest.mark.parametrize("error", [SettingError("no such setting"), BudgetError("over the limit")])
def test_a_wrong_setting_ends_a_study_at_once(portraits, three, tmp_path, monkeypatch, error):
    tried = failing(monkeypatch, error, (1, 0))
    with pytest.raises(type(error), match=str(error)):
        studies.run_study(portraits, three, tmp_path)
    assert tried == [(0, 0), (1, 0)] and studies.Study(tmp_path).failures == {}


def test_an_item_that_cannot_be_captured_is_tried_once(portraits, three, tmp_path, monkeypatch):
    tried = failing(monkeypatch, CaptureError("not this one"), (1, 0))
    study = studies.run_study(portraits, three, tmp_path)
    assert tried == [(0, 0), (1, 0), (2, 0)] and study.missing == [(1, 0)]
    assert "00001-0 failed: CaptureError: not this one" in repr(study)
    tried.clear()
    assert studies.run_study(portraits, three, tmp_path).missing == [(1, 0)], (
        "others are there: it is not the setting"
    )
    assert tried == [(1, 0)]


def test_a_worker_leaves_a_wrong_setting_to_its_launcher(command, tmp_path, monkeypatch):
    """PyTorch's launcher starts a worker again that ends with an error: this one ends as if all were well."""

    def run(words, env, **_):
        for name, value in {**env, "RANK": "1", "WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        return subprocess.CompletedProcess(words, cli.main([*command, "--workers", "2", "--steps", "99"]))

    monkeypatch.setattr(workers.subprocess, "run", run)
    with pytest.raises(SettingError, match=r"no \[99\]"):
        workers.launch([], 2)
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_workers_with_a_wrong_setting_are_not_started_again(command, capfd):
    assert cli.main([*command, "--workers", "2", "--steps", "99", "--json"]) == 1
    said = capfd.readouterr()
    assert json.loads(said.out)["error"]["type"] == "SettingError"
    assert said.err.count("no [99]") == 1


# --- limits -------------------------------------------------------------------------------------------------

SIZE = Estimate(
    item=4e9, items=10, steps=28, sites=48,
    smaller={"reduce='mean'": 4e7, "dtype=torch.bfloat16": 2e10, "steps=slice(None, None, 4)": 1e10,
             "sites='joint.23.image.out'": 8e8},
)  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "choice"),
    [("3 GB", "--dtype bfloat16 (2.0 GB)"), ("1 GB", "--steps 0,4,8,12,16,20,24 (1.0 GB)"),
     ("100 MB", "--sites joint.23.image.out (80 MB)"), ("5 MB", "--reduce mean (4.0 MB)")],
)  # fmt: skip
def test_a_study_over_its_limit_names_the_next_smaller_choice(limit, choice):
    said = over_limit(SIZE, limit, 28)
    assert "One image takes 4.0 GB" in said
    assert f"The next smaller choice: {choice}" in said and "--limit '4.4 GB'" in said


def test_a_limit_that_nothing_meets_and_one_that_is_met():
    assert "combine --reduce mean (4.0 MB)" in over_limit(SIZE, "1 MB", 28)
    assert over_limit(SIZE, "4 GB", 28) == ""
    assert "Choose fewer sites" in over_limit(Estimate(2.0, 1, 1, 1), 1, 28)
    assert as_option("reduce='mean'", 4) == "--reduce mean"


def test_the_command_offers_smaller_choices_as_its_options(portraits, command, capsys):
    assert cli.main([*command, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert (
        "Smaller: --reduce mean " in told
        and "; --steps 0 " in told
        and "torch" not in told
        and "=" not in told
    )


def test_the_command_refuses_before_it_begins(command, tmp_path, capsys):
    tight = [*command, "--limit", "9 kB"]
    assert cli.main(tight) == 1
    assert "The next smaller choice: --" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
    assert cli.main([*tight, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is False
    assert cli.main([*tight, "--reduce", "mean", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1


def test_one_item_is_in_memory_at_a_time(portraits, tmp_path, monkeypatch):
    """The limit is for one item: that of before must be gone when the next one is captured."""
    alive, real = [], studies.capture_item

    def watched(*arguments):
        gc.collect()
        assert [ref() for ref in alive] == [None] * len(alive)
        found = real(*arguments)
        alive.append(weakref.ref(found[0]))
        return found

    monkeypatch.setattr(studies, "capture_item", watched)
    plan = studies.plan_study(portraits, ["a man", "a woman"], [0, 1], OUT, sampling_steps=1)
    assert studies.run_study(portraits, plan, tmp_path).missing == [] and len(alive) == 4


# --- settings that keep nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "said"),
    [({"steps": [99]}, "4 steps, 0 to 3, and no \\[99\\]"), ({"steps": [0, 4]}, "no \\[4\\]"),
     ({"steps": []}, "steps is .*; give a whole number from 0, or a list of step numbers"),
     ({"passes": []}, "passes is .*; give one of 'cond', 'uncond', or a list of them"),
     ({"passes": ["skip"]}, "'skip'.*; give one of 'cond', 'uncond'"),
     ({"passes": ["cond", "uncond"], "guidance": 1.0}, "With guidance 1"),
     ({"guidance": 0.0}, "With guidance 0 there is no pass 'cond'"),
     ({"dtype": "int8"}, "dtype is 'int8'; give one of 'float16', 'bfloat16', 'float32'")],
)  # fmt: skip
def test_settings_that_keep_nothing_are_refused(portraits, setting, said):
    with pytest.raises(SettingError, match=said):
        studies.plan_study(portraits, ["a man"], [0], OUT, sampling_steps=4, **setting)


def test_a_refused_study_does_not_block_the_folder(portraits, command, tmp_path, capsys):
    assert cli.main([*command, "--steps", "99"]) == 1
    assert "no [99]" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
    for setting in ({"sites": "joint.77.image.out"}, {"sites": OUT, "reduce": "meen"}):
        with pytest.raises((SiteError, SettingError)):
            studies.run_study(
                portraits, studies.plan_study(portraits, ["a man"], [0], **setting), tmp_path / "study"
            )
        assert not (tmp_path / "study").exists()
    assert cli.main([*command, "--steps", "0"]) == 0


@pytest.mark.parametrize("words", ["both", "cond,uncond", "uncond,cond"])
def test_both_passes(command, words, tmp_path, capsys):
    assert cli.main([*command, "--passes", words]) == 0
    assert studies.Study(tmp_path / "study").passes == ["cond", "uncond"]


def test_an_unknown_pass_is_wrong_usage(command, capsys):
    assert cli.main([*command, "--passes", "bath"]) == 2
    assert "'bath' is none of cond, uncond, both" in capsys.readouterr().err


def test_another_model_is_another_study(portraits, tmp_path):
    plan = studies.plan_study(portraits, ["a man"], [0], OUT)
    plan.begin(tmp_path)
    shift = portraits.pipe.scheduler.config["shift"]
    try:
        portraits.pipe.scheduler.register_to_config(shift=shift + 1)
        other = studies.plan_study(portraits, ["a man"], [0], OUT)
    finally:
        portraits.pipe.scheduler.register_to_config(shift=shift)
    with pytest.raises(StudyError, match="weights, number format, adapters or scheduler differ"):
        other.begin(tmp_path)


def test_the_error_of_a_limit_is_a_budget_error(command, capsys):
    assert cli.main([*command, "--limit", "9 kB", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "BudgetError" and "next smaller choice" in error["message"]


def test_the_engine_ray_gets_the_plan(command, portraits_folder, no_launcher, monkeypatch, tmp_path, capsys):
    called = {}

    def run_with_ray(source, manifest, folder, **given):
        called.update(given, source=source, items=manifest.items)
        manifest.begin(folder)
        return studies.Study(folder)

    monkeypatch.setattr("ditlens.lens.study.ray_engine.run_with_ray", run_with_ray)
    assert cli.main([*command, "--engine", "ray", "--workers", "2", "--json"]) == 0
    assert called == {
        "source": str(portraits_folder),
        "items": [(0, 0)],
        "workers": 2,
        "device": "cpu",
        "limit": "1 GB",
    }
    assert json.loads(capsys.readouterr().out)["missing"] == 1
    assert cli.main([*command, "--engine", "dask"]) == 2


# --- what a study keeps of the tokens -------------------------------------------------------------------------


def test_a_study_keeps_every_token_unless_it_is_told_otherwise(portraits, command, tmp_path, monkeypatch):
    assert studies.plan_study(portraits, ["a man"], [0], OUT).settings["reduce"] == "sketch:64"
    for given, kept in (([], "sketch:64"), (["--reduce", "none"], None), (["--reduce", "mean"], "mean")):
        seen = []
        monkeypatch.setattr(
            studies,
            "estimate_study",
            lambda model, plan, seen=seen: seen.append(plan) or Estimate(1, 1, 1, 1),
        )
        assert cli.main([*command, "--dry-run", *given]) == 0
        assert seen[0].settings["reduce"] == kept
    monkeypatch.undo()
    plan = studies.plan_study(
        portraits, ["a man"], [0], OUT, sampling_steps=1, reduce="sketch:8", dtype="float16"
    )
    study = studies.run_study(portraits, plan, tmp_path / "narrow", progress=False)
    assert (
        study["joint.0.image.out"].shape == (1, 1, 64, 8)
        and study["joint.0.image.out"].dtype == torch.float16
    )
    assert study.cache().to_grid("joint.0.image.out").shape == (1, 1, 8, 8, 8)


def test_a_sketch_keeps_the_number_format_and_is_offered_before_the_mean():
    wide = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    assert sketch(wide, 64).dtype == torch.bfloat16 and sketch(wide, 64).shape == (2, 5, 64)
    assert torch.equal(sketch(wide, 256), wide)
    near = sketch(wide, 64).float().norm(dim=-1) / wide.float().norm(dim=-1)
    assert 0.7 < near.min() < near.max() < 1.4, "lengths are kept"
    offered = smaller_settings({CacheKey("joint.0.image.out", 0, "cond"): wide})
    assert list(offered.items())[:2] == [("reduce='sketch:64'", 0.25), ("reduce='mean'", 0.2)]


@pytest.mark.slow
def test_a_mean_hides_the_smile_that_a_patch_shows():
    """The shipped model reads 120 portraits, as noisy as in the last third of a run: what tells their smiles?"""
    model, count, place, mouth = load("portraits", device="cpu"), 120, "joint.3.image.out", 43
    people = sample(count, torch.Generator().manual_seed(0))
    clean, nothing = model.encode_image(render(people, 128)), model.encode_text("").expand(count)
    noisy = flow.interpolate(clean, model.noise(range(count)), 0.3)
    with (
        capture(model, place) as whole,
        capture(model, place, reduce="sketch:64") as narrow,
        capture(model, place, reduce="mean") as mean,
    ):
        model(noisy, 0.3, nothing)
    known = {
        "patch": whole[place, 0][:, mouth], "narrow patch": narrow[place, 0][:, mouth], "mean": mean[place, 0]
    }  # fmt: skip
    found = {name: best_r2(x, people["smile"]) for name, x in known.items()}
    assert found["patch"] > 0.7 and found["narrow patch"] > 0.55 and found["mean"] < 0.4


def best_r2(x, y):
    """The share of the variance of y that the best of some ridge regressions explains on a held-out third."""
    first, last = slice(0, len(x) * 2 // 3), slice(len(x) * 2 // 3, None)
    a, b = ((each - each[first].mean(0)).double() for each in (x / x[first].std(0), y))
    gram, scores = a[first] @ a[first].T, []
    for ridge in (1.0, 10.0, 100.0, 1000.0):
        weights = a[first].T @ torch.linalg.solve(gram + ridge * torch.eye(len(gram)), b[first])
        scores.append(float(1 - (a[last] @ weights - b[last]).var() / b[last].var()))
    return max(scores)
