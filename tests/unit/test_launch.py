"""Workers: what they are told, and that none outlives its launcher."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from ditlens import workers
from ditlens.errors import SettingError
from ditlens.files import is_gone
from ditlens.workers import Worker, leave_to_launcher

WORKER = """
import sys, time
from ditlens.workers import end_with
end_with(*map(int, sys.argv[1:]), every=0.05)
time.sleep(60)
"""
LAUNCHER = f"""
import os, subprocess, sys, time
words = [sys.executable, "-c", {WORKER!r}, str(os.getppid()), str(os.getpid())]
print(subprocess.Popen(words, stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(60)
"""


def test_a_worker_ends_with_its_launcher():
    with subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True) as launcher:
        worker = int(launcher.stdout.readline())
        time.sleep(0.3)
        assert not is_gone(worker), "as long as the launcher lives"
        launcher.kill()
    deadline = time.monotonic() + 30
    while not is_gone(worker):
        assert time.monotonic() < deadline, "the worker went on for 30 seconds"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, Worker(0, 1, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Worker(5, 8, 1)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "3"}, Worker(3, 4, 3)),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, Worker(1, 2, 0)),
    ],
)
def test_a_worker_knows_its_number(monkeypatch, said, expected):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert Worker.here() == expected


@pytest.mark.parametrize(("threads", "expected"), [(None, "4"), ("3", "3")])
def test_what_the_workers_are_told(monkeypatch, threads, expected):
    called = {}

    def run(command, **options):
        called.update(options, command=command)
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(workers.subprocess, "run", run)
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert workers.launch(["train", "text"], 2, restarts=3) == 7
    assert called["env"]["OMP_NUM_THREADS"] == expected
    assert called["stdout"] == 2, "standard output is the caller's"
    words = called["command"]
    assert (
        words[words.index("--nproc_per_node") + 1] == "2" and words[words.index("--max_restarts") + 1] == "3"
    )
    assert words[-4:] == ["-m", "ditlens.workers", "train", "text"]


def test_the_first_error_by_rank_is_the_launchers(monkeypatch):
    def run(command, env, **_):
        monkeypatch.setenv(workers.REFUSALS, env[workers.REFUSALS])
        for rank in (11, 2):
            monkeypatch.setenv("RANK", str(rank))
            assert leave_to_launcher(SettingError(f"from {rank}"))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(workers.subprocess, "run", run)
    with pytest.raises(SettingError, match="^from 2$"):
        workers.launch([], 12)
    monkeypatch.delenv(workers.REFUSALS)
    assert not leave_to_launcher(SettingError("nobody has launched this"))
