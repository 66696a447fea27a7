"""Run a benchmark in several processes on one machine: each does every n-th pair that is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from ditlens.bench import runner
from ditlens.bench.entries import choose
from ditlens.bench.suites import open_suite
from ditlens.errors import StudyError
from ditlens.models.loading import load


def run_workers(options: Namespace, progress: Callable[[int, int, str], None] | None = None) -> None:
    """Start the processes, watch the folder, wait until all have ended.

    Each process computes with its share of the cores, or with ``OMP_NUM_THREADS`` threads where that is set.

    Args:
        options: The options of ``ditlens bench edit``.
        progress: Receives (finished workers, workers, words).

    Raises:
        StudyError: If a process failed; what the others did is kept.
    """
    threads = str(max(1, (os.cpu_count() or 1) // options.workers))
    fixed = [options.suite, str(options.count), options.methods, ",".join(map(str, options.degrees))]
    fixed += [str(options.seed), str(options.out), options.model, options.device]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ditlens.bench.workers",
                str(os.getpid()),
                str(k),
                str(options.workers),
                *fixed,
            ],
            env={"OMP_NUM_THREADS": threads, **os.environ},
            stdout=subprocess.DEVNULL,
        )
        for k in range(options.workers)
    ]
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(1)
            if progress is not None:
                parts = sum(1 for _ in (options.out / "parts").glob("*/*.json"))
                ended = sum(process.poll() is not None for process in processes)
                progress(ended, len(processes), f"workers ended, {parts} pairs there")
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    if failed := [k for k, process in enumerate(processes) if process.returncode]:
        raise StudyError(
            f"Worker {failed[0]} of the benchmark failed; its message stands above. What was done is kept in "
            f"{options.out}: the same command goes on."
        )


def end_with_parent(parent: int, every: float = 1.0) -> None:
    """End this process when the one that started it is gone, killed without a chance to end its workers.

    Parts are written whole or not at all, so nothing is lost but the pair in flight.

    Args:
        parent: The number of that process.
        every: Seconds between looks.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(words: list[str]) -> None:
    """One worker: the arguments as `run_workers` writes them."""
    parent, k, count, suite, edits, methods, degrees, seed, out, name, device = words
    end_with_parent(int(parent))
    model = load(name, device=device)
    runner.run_bench(
        model, open_suite(suite, int(edits)), choose(model, methods), Path(out),
        degrees=[float(d) for d in degrees.split(",")], seed=int(seed), share=(int(k), int(count)), plan=False,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
