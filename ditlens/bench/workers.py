"""Run a benchmark in several processes on one machine: each takes its share of the missing edits."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import torch

from ditlens.bench import runner
from ditlens.bench.entries import choose
from ditlens.bench.suites import open_suite
from ditlens.errors import BenchError
from ditlens.models.loading import load
from ditlens.workers import end_with


def run_workers(
    workers: int,
    *,
    suite: str,
    count: int,
    methods: str,
    degrees: Sequence[float],
    seed: int,
    out: Path,
    model: str,
    device: str,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Run a benchmark that `runner.plan_bench` has planned, in several processes, until all have ended.

    Each process computes with its share of the cores, or with ``OMP_NUM_THREADS`` threads where that is set.

    Args:
        workers: Number of processes.
        suite: Name of the suite, as for `open_suite`.
        count: Number of its items.
        methods: Names of the methods, separated by commas.
        degrees: Editing degrees.
        seed: Seed of the first item.
        out: The benchmark's folder.
        model: Name of the model, as for `load`.
        device: Device of the model.
        progress: Receives (ended processes, processes, words) whenever they change.

    Raises:
        DitlensError: What ended a process; the edits that were made are kept.
        BenchError: If a process was killed.
    """
    work = partial(_work, suite=suite, count=count, methods=methods, degrees=degrees, seed=seed, out=out,
                   model=model, device=device)  # fmt: skip
    threads = max(1, (os.cpu_count() or 1) // workers)
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin, (threads,))
    try:
        running = [pool.submit(work, share=(k, workers)) for k in range(workers)]
        said = (-1, -1)
        while wait(running, timeout=1).not_done:
            now = sum(job.done() for job in running), sum(1 for _ in (out / "parts").glob("*/*.json"))
            if progress is not None and now != said:
                progress(now[0], workers, f"workers ended, {now[1]} edits done")
            said = now
        for job in running:
            job.result()
    except BrokenProcessPool as error:
        raise BenchError(
            f"A worker of the benchmark was killed, perhaps because memory ran out. The edits that were made are "
            f"kept in {out}: type the same command again to continue, with fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - set(others):  # after Ctrl-C they still compute
            child.terminate()


def begin(threads: int) -> None:
    """Set up a worker: its threads, its output, and that it ends with its parent, also if that is killed."""
    sys.stdout = sys.stderr  # with --json, only the parent writes to standard output
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None, "this is a worker"
    end_with(parent.pid)


def _work(
    *, share: tuple[int, int], suite: str, count: int, methods: str, degrees: Sequence[float], seed: int, out: Path,
    model: str, device: str,
) -> None:  # fmt: skip
    """What one worker does."""
    loaded = load(model, device=device)
    runner.run_bench(
        loaded, open_suite(suite, count), choose(loaded, methods), out, degrees=degrees, seed=seed, share=share,
        plan=False, progress=False,
    )  # fmt: skip
