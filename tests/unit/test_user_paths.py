"""Every path that a person gives is read by `ditlens.files.user_path`, whoever takes it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench_run import write_run
from PIL import Image

import ditlens
from ditlens.bench import runner
from ditlens.bench.folder import read_folder
from ditlens.bench.rating.ballots import Rules
from ditlens.bench.rating.export import export_static
from ditlens.bench.report.page import write_page
from ditlens.describers.choice import describer_from
from ditlens.describers.huggingface import HuggingFace
from ditlens.describers.recorded import Recorded, Recorder
from ditlens.ems.masks import read_mask
from ditlens.errors import DitlensError
from ditlens.images import open_file, open_image
from ditlens.lens.study import ray_engine
from ditlens.lens.study import run as studies
from ditlens.lens.study.manifest import Manifest
from ditlens.metrics import networks
from ditlens.models.find import find
from ditlens.worlds.portraits import examples

training = importlib.import_module("ditlens.train.run")  # `ditlens.train.run` is a function, too


class Reached(Exception):
    """What is called has come this far, with this folder."""


def reached(folder: Path) -> None:
    raise Reached(folder)


def where(call: Callable[[], object]) -> Path:
    """The folder with which a call comes to what is not needed here."""
    with pytest.raises(Reached) as caught:
        call()
    return caught.value.args[0]


def trained(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(training.RECIPES, "vae", lambda folder, _: reached(folder))
        return where(lambda: training.run("vae", device="cpu", out=path))


def captured(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "begin_study", lambda model, manifest, folder, limit: reached(folder))
        return where(lambda: studies.run_study(None, Manifest("m", "f", ("a",), (0,), {}), path))


def captured_by_ray(path):
    with pytest.MonkeyPatch.context() as patch:
        remote = SimpleNamespace(remote=lambda name, device, manifest, folder, limit: reached(folder))
        ray = SimpleNamespace(
            is_initialized=lambda: True, cluster_resources=dict, remote=lambda **_: lambda _: remote,
            exceptions=SimpleNamespace(RayError=OSError),
        )  # fmt: skip
        patch.setattr(ray_engine, "_ray", lambda: ray)
        return where(lambda: ray_engine.run_with_ray("portraits", None, path, progress=False))


def benchmarked(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "Scorer", lambda _: None)
        patch.setattr(runner, "plan_bench", lambda model, suite, entries, folder, *_: reached(folder))
        return where(lambda: runner.run_bench(None, None, {}, path))


def checkpoint(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DITLENS_CLIP", str(path))
        return Path(networks._folder("DITLENS_CLIP", [])[1])


def own_models(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DITLENS_MODELS", str(path))
        return Path(find("tiny")).parent


ENTRIES: dict[str, tuple[str, Callable]] = {
    "model": ("models/tiny", lambda path: Path(find(path))),
    "models": ("models", own_models),
    "image": ("a b.png", lambda path: open_image(path).size == (8, 8)),
    "header": ("a b.png", lambda path: open_file(path).size == (8, 8)),
    "mask": ("a b.png", lambda path: read_mask(path).shape == (1, 1, 8, 8)),
    "study": ("study", lambda path: ditlens.open_study(path).folder),
    "study by its class": ("study", lambda path: ditlens.Study(path).folder),
    "new study": ("new", captured),
    "new study by Ray": ("new", captured_by_ray),
    "prompts": ("prompts.txt", lambda path: studies.read_prompts(path)[0] == ["a man"]),
    "recorded": ("texts.json", lambda path: Recorded(path).name == "me, recorded"),
    "recorder": ("texts.json", lambda path: Recorder(SimpleNamespace(name="n"), path).path),
    "describer of a file": ("texts.json", lambda path: describer_from(path).name == "me, recorded"),
    "describer of a folder": ("models/tiny", lambda path: Path(describer_from(path).source)),
    "describer": ("models/tiny", lambda path: Path(HuggingFace(path).source)),
    "answers": ("new", lambda path: HuggingFace("org/name", cache=path).cache),
    "benchmark": ("run", lambda path: read_folder(path).path),
    "new benchmark": ("new", benchmarked),
    "page": ("run", lambda path: write_page(path).parent),
    "rating": ("rating", lambda path: export_static("~/run", path, 1, Rules(2, 0, 0, 0)).parent),
    "training": ("new", trained),
    "examples": ("drawn", lambda path: examples.write(path, 8)[0].parent),
    "checkpoint": ("models/tiny", checkpoint),
}  # fmt: skip
"""For each entry the path that it is given, and what it makes of it: the path, or whether all is well."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with something of every kind, with a blank in its name."""
    home = tmp_path / "my home"
    for folder in ("models/tiny", "study"):
        (home / folder).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (home / "models/tiny/model_index.json").write_text("{}")
    Image.new("RGB", (8, 8), "white").save(home / "a b.png")
    (home / "prompts.txt").write_text("a man\n")
    (home / "texts.json").write_text(json.dumps({"format": 1, "describer": "me", "pictures": {}}))
    Manifest("m", "f", ("a",), (0,), {}).begin(home / "study")
    write_run(home / "run", methods=("ems", "ddib"), items=1)
    return home


@pytest.mark.parametrize("entry", ENTRIES)
def test_paths_as_people_give_them(entry, home, monkeypatch, wrong_types):
    name, take = ENTRIES[entry]
    monkeypatch.setattr(examples, "EXAMPLES", dict(list(examples.EXAMPLES.items())[:1]))
    url = f"file://{home}/{name}".replace(" ", "%20")
    for k, given in enumerate((f"~/{name}", url, f"'{home / name}'", f'"~/{name}"', Path("~") / name)):
        new = f"{k}" if entry == "rating" else ""  # which takes a new folder only
        if isinstance(given, Path):
            given, there = given.with_name(given.name + new), home / (name + new)
        else:
            end = given[-1] if given[-1] in "'\"" else ""
            given, there = given.removesuffix(end) + new + end, home / (name + new)
        assert take(given) in (True, there), given


@pytest.mark.parametrize("entry", sorted(set(ENTRIES) - {"models"}))
@pytest.mark.parametrize("given", ["a\0b", "a" * 300, "ftp://a.org/b"])
def test_what_cannot_be_a_path_is_refused_in_words(entry, given, home, wrong_types):
    told = (networks.AbsentError, ValueError) if entry == "checkpoint" else DitlensError
    with pytest.raises(told, match="character that no|null byte|too long|address|Unknown describer"):
        ENTRIES[entry][1](given)
