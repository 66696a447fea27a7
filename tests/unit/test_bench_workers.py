"""Workers of a benchmark: they do not outlive the process that started them, and their errors reach it."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from ditlens.bench import workers
from ditlens.errors import BenchError, ModelError

PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from ditlens.bench.workers import begin

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin, (1,))
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 60).result()
"""


def test_a_worker_ends_with_its_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running(), "as long as the parent lives"
        parent.kill()
    gone, _ = psutil.wait_procs([worker], timeout=30)
    if not gone and worker.status() != psutil.STATUS_ZOMBIE:  # an orphan that no init process collects
        worker.kill()
        pytest.fail("the worker was still running after 30 seconds")


@pytest.fixture
def run(tmp_path):
    def call(model="nowhere", workers_=1):
        workers.run_workers(
            workers_, suite="portraits-dev", count=1, methods="ems", degrees=[1.0], seed=0, out=tmp_path,
            model=model, device="cpu",
        )  # fmt: skip

    return call


def test_an_error_of_a_worker_reaches_the_parent(run):
    with pytest.raises(ModelError, match="There is no model 'nowhere'"):
        run()


def test_a_worker_that_is_killed_is_reported(run, monkeypatch):
    monkeypatch.setattr(workers, "partial", lambda work, **_: killed)
    with pytest.raises(BenchError, match="was killed.*type the same command again"):
        run()


def killed(share):
    os._exit(9)
