"""A study by workers of a local Ray cluster: the same files as those of one process, also when one is killed."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ditlens.errors import MissingDependencyError, ModelError, SettingError, StudyError
from ditlens.lens.study import ray_engine
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.ray_engine import run_with_ray
from ditlens.lens.study.run import ATTEMPTS, plan_study, run_study
from ditlens.lens.study.store import Study


@pytest.fixture(scope="module")
def cluster():
    """Two CPUs, no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home folder
        ray = pytest.importorskip("ray")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
        yield
        ray.shutdown()


def kill_a_worker(folder, killed):
    """Kill one that is at work when some items are finished; its claim stays behind."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("items/*.safetensors")}
        for path in folder.glob("claims/*") if finished else ():
            number = path.read_text().split()[1:2] if path.is_file() else []
            if number:
                os.kill(int(number[0]), signal.SIGKILL)
                time.sleep(0.01)
                if path.is_file():
                    killed.update(pid=int(number[0]), finished=finished)
                    return
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_worker_loses_and_doubles_nothing(cluster, portraits, portraits_folder, tmp_path):
    plan = plan_study(portraits, ["a man", "a woman", "an old man"], [0, 1], "*.*.*.out", sampling_steps=30)
    run_study(portraits, plan, tmp_path / "alone")
    folder, seen, killed = tmp_path / "ray", [], {}
    killer = threading.Thread(target=kill_a_worker, args=(folder, killed))
    killer.start()
    study = run_with_ray(
        portraits_folder, plan, folder, device="cpu", progress=lambda *done: seen.append(done)
    )
    killer.join()
    assert 0 < len(killed["finished"]) < 6
    assert study.missing == [] and study.failures == {} and study.verify() == []
    assert len(seen) == 6 and seen == sorted(seen) and seen[-1] == (6, 6)
    files = sorted(path.name for path in (folder / "items").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "alone" / "items").iterdir()) and len(files) == 6
    for name in files:
        assert (folder / "items" / name).read_bytes() == (tmp_path / "alone" / "items" / name).read_bytes()
    for name, stamp in killed["finished"].items():
        assert (folder / "items" / name).stat().st_mtime_ns == stamp, "computed again"
    assert list((folder / "claims").iterdir()) == []
    again = run_with_ray(portraits_folder, plan, folder, workers=1, device="cpu", progress=seen.append)
    assert again.missing == [] and len(seen) == 6, "nothing was left to do"


@pytest.mark.slow
def test_a_worker_with_other_weights_ends_the_run(cluster, portraits, portraits_folder, tmp_path):
    plan = plan_study(portraits, ["a man"], [0], "joint.0.image.out")
    with pytest.raises(
        ModelError, match="has other weights, adapters, number format or scheduler than the study's plan"
    ):
        run_with_ray(
            portraits_folder, replace(plan, fingerprint="f00"), tmp_path / "study", workers=1, device="cpu"
        )
    assert not (tmp_path / "study").exists()


# --- without a cluster ----------------------------------------------------------------------------------------


class RayError(Exception):
    """As in Ray."""


class RayTaskError(RayError):
    """As in Ray."""

    def __init__(self, cause):
        self.cause = cause


class ActorDiedError(RayError):
    """As in Ray, which raises it for a worker that it can never start again."""


class Ray:
    """Answers one call at a time, in this process."""

    exceptions = SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, ActorDiedError=ActorDiedError,
        LocalRayletDiedError=ActorDiedError, RaySystemError=ActorDiedError,
    )  # fmt: skip

    @staticmethod
    def wait(answers, num_returns):
        return answers[:1], answers[1:]

    @staticmethod
    def get(answer):
        return answer()


class Actor:
    """A worker whose attempts have the results that are said, by item."""

    def __init__(self, folder, said, begin=None):
        self.folder, self.said, self.asked, self.first = folder, said, [], begin
        self.begin = SimpleNamespace(remote=lambda: lambda: self.answer(self.first, Study(folder)))
        self.attempt = SimpleNamespace(remote=lambda item: lambda: self.result(item))

    def answer(self, said, otherwise):
        if isinstance(said, Exception):
            raise said
        return otherwise if said is None else said

    def result(self, item):
        self.asked.append(item)
        said = self.said[item].pop(0) if self.said.get(item) else 0
        if said == 0:
            path = Study(self.folder).path(item)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        return None if said == "claimed" else self.answer(said, None)


@pytest.fixture
def folder(tmp_path):
    Manifest("tiny", "f00", ("a", "b"), (0, 1), {}).begin(tmp_path)
    return tmp_path


def test_items_that_fail_are_handed_out_again_and_then_given_up(folder):
    said = {(0, 1): [1, "claimed", 1], (1, 0): [ATTEMPTS], (1, 1): [RayError("killed by the system")]}
    actors = [Actor(folder, said), Actor(folder, said)]
    study = ray_engine._distribute(Ray, actors, None)
    assert study.missing == [(1, 0), (1, 1)]
    assert sorted(actors[0].asked + actors[1].asked) == [(0, 0), *4 * [(0, 1)], (1, 0), (1, 1)]
    assert study.failures["00001-1"]["error"] == "RayError: killed by the system"


@pytest.mark.parametrize(
    ("said", "begin", "error"),
    [
        ({(0, 0): [RayTaskError(SettingError("no such step"))]}, None, SettingError("no such step")),
        ({}, RayTaskError(ModelError("other weights")), ModelError("other weights")),
        (
            {},
            RayError("out of memory"),
            StudyError("A Ray worker died 3 times while it loaded the model: out of"),
        ),
    ],
)
def test_what_every_item_would_raise_ends_the_run(folder, said, begin, error):
    with pytest.raises(type(error), match=str(error)):
        ray_engine._distribute(Ray, [Actor(folder, said, begin)], None)
    assert Study(folder).failures == {}


@pytest.mark.parametrize(
    ("said", "begin"),
    [
        ({(0, 1): [ActorDiedError("its owner has died")]}, None),
        ({(0, 1): ["unsent"]}, None),
        ({}, ActorDiedError("its owner has died")),
    ],
)
def test_the_end_of_a_ray_node_ends_the_run_and_fails_no_item(folder, monkeypatch, said, begin):
    def submit(item):
        if said.get(item) == ["unsent"]:
            raise RayError("its owner has died")
        return lambda: actor.result(item)

    actor = Actor(folder, said, begin)
    actor.attempt.remote = submit
    remote = SimpleNamespace(remote=lambda *_: actor)
    ray = SimpleNamespace(
        exceptions=Ray.exceptions, wait=Ray.wait, get=Ray.get, is_initialized=lambda: True,
        cluster_resources=dict, remote=lambda **_: lambda _: remote,
    )  # fmt: skip
    monkeypatch.setattr(ray_engine, "_ray", lambda: ray)
    with pytest.raises(
        StudyError, match="The Ray node ended, .* the same command resumes. Ray says: its owner has died"
    ):
        run_with_ray("portraits", Study(folder).manifest, folder, workers=1)
    study = Study(folder)
    assert study.failures == {} and study.missing == study.manifest.items[0 if begin else 1 :]


def test_without_ray_the_error_says_what_to_type(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ditlens\[cluster\]'"):
        run_with_ray("portraits", Study(folder).manifest, folder)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
