"""How long a warm edit takes (`edit_seconds`), beside the commit `BEFORE`, and whether its pictures are the same.

Two processes, one with the package as it is and one with that of the commit, edit the same portraits in turns.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from benchmarks.keys import MeasureError
from benchmarks.report import Result, load_note
from ditlens.metrics.statistics import estimate, paired

BEFORE = "23c0c9b"
"""The commit to compare with."""
THREADS = min(2, os.cpu_count() or 1)
EDITOR = """
import hashlib, json, sys, time
import torch
from ditlens.bench.suites import open_suite
from ditlens.ems.edit import edit
from ditlens.models.loading import load

torch.set_num_threads(int(sys.argv[2]))
model, items = load(sys.argv[1], device="cpu"), open_suite("portraits", int(sys.argv[3])).items
grids = {}
for line in sys.stdin:
    number, what = json.loads(line)
    image, texts = items[number].image(), (items[number].source_text, items[number].target_text)
    started, busy = time.perf_counter(), time.process_time()
    if what == "grid":
        from ditlens.ems.degrees import DegreeGrid
        grid = DegreeGrid(made.plan)
        grid.edit(0.5)
        started, busy = time.perf_counter(), time.process_time()
        made = grid.edit(1.0)
    else:
        made = edit(model, image, source_text=texts[0], target_text=texts[1], seed=number)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    bits = hashlib.sha256(made.latents.numpy().tobytes() + made.image.tobytes()).hexdigest()
    found = {"seconds": seconds, "busy": busy, "bits": bits, "success": not made.missed, "drift": made.drift}
    print(json.dumps(found), flush=True)
"""
"""Makes the edits whose numbers it reads, and writes what came of them, a line each."""


class Editor:
    """A process that edits portraits with the package in some folder.

    Args:
        package: The folder that holds the package.
        count: How many edits of the test split it knows.
    """

    def __init__(self, package: Path, count: int) -> None:
        words = [
            sys.executable,
            "-c",
            EDITOR,
            str(ROOT / "data" / "models" / "portraits"),
            str(THREADS),
            str(count),
        ]
        settings = {"PYTHONPATH": str(package), "OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            words,
            cwd=package,
            env=os.environ | settings,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def edit(self, number: int, what: str = "edit") -> dict[str, Any]:
        """Make an edit; what "grid" makes the one before again, with a grid that has made another."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([number, what]) + "\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise MeasureError(f"the process that makes the edits ended with {self.process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate()


@contextmanager
def editors(count: int) -> Iterator[tuple[Editor, Editor]]:
    """A process with the package as it is, and one with that of the commit before.

    Args:
        count: How many edits of the test split they know.

    Raises:
        MeasureError: If git does not have that commit.
    """
    done = subprocess.run(["git", "archive", BEFORE, "ditlens"], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise MeasureError(f"git has no commit {BEFORE} to compare with: git fetch --unshallow")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        now, before = (stack.enter_context(Editor(package, count)) for package in (ROOT, folder))
        yield now, before


def edit_seconds(count: int = 10, rounds: int = 3) -> Result:
    """Median time of a warm edit with both texts given, and its ratio to the commit before, in turns.

    Args:
        count: How many portraits.
        rounds: How often each is edited; a round before that warms up.
    """
    rows = []
    with editors(count) as (now, before):
        for turn in range(rounds + 1):
            for number in range(count):
                pair = (now, before) if (turn + number) % 2 else (before, now)
                made = {each: each.edit(number) for each in pair}
                again = now.edit(number, "grid")
                if turn:
                    rows.append(
                        [(each["seconds"], each["busy"]) for each in (made[now], made[before], again)]
                    )
    table = np.array(rows)
    return timed(table[..., 0], table[..., 1], count)


def timed(seconds: np.ndarray, busy: np.ndarray, count: int) -> Result:
    """What is written down.

    Args:
        seconds: Times of the edits, (edits, 3): now, the commit before, another degree from a grid.
        busy: Processor times of the same.
        count: How many portraits.
    """
    middle, processor = np.median(seconds, 0), np.median(busy, 0)
    ratio, work = (estimate(table[:, 0] / table[:, 1], np.median) for table in (seconds, busy))
    parts = {
        "before": float(middle[1]), "ratio": ratio, "processor_ratio": work, "next_degree": float(middle[2]),
        "fastest": float(seconds[:, 0].min()), "processor": float(processor[0]),
        "next_degree_processor": float(processor[2]),
    }  # fmt: skip
    wall, cpu = (f"{each['value']:.2f} ({each['low']:.2f} to {each['high']:.2f})" for each in (ratio, work))
    note = (
        f"median; the fastest {parts['fastest']:.2f} s, processor time {processor[0]:.2f} s; commit {BEFORE} in "
        f"turns: {middle[1]:.2f} s, ratio {wall}, of processor time {cpu}; another degree of the same edit from a "
        f"grid: {middle[2]:.2f} s, processor time {processor[2]:.2f} s; both texts given, {count} portraits of the "
        f"test split; {load_note()}"
    )
    return {**estimate(seconds[:, 0], np.median), "unit": "s", "note": note, "parts": parts}


def edit_quality_kept(count: int = 100) -> Result:
    """Share of edits that are the same bit for bit as the commit's before, from a grid, too.

    Args:
        count: How many edits of the test split.
    """
    rows = []
    with editors(count) as (now, before):
        for number in range(count):
            made = now.edit(number), before.edit(number), now.edit(number, "grid")
            rows.append({"same": len({each["bits"] for each in made}) == 1,
                         **{name: [each[name] for each in made[:2]] for name in ("success", "drift")}})  # fmt: skip
    tables = {name: np.array([row[name] for row in rows], float) for name in ("success", "drift")}
    parts = {
        name: paired([table[:, 0], table[:, 1]], lambda now, before: float((now - before).mean()))
        for name, table in tables.items()
    }
    same = [row["same"] for row in rows]
    means = {name: table.mean(0) for name, table in tables.items()}
    note = (
        f"share of {count} edits of the test split, both texts given, whose latents and pictures are the same bit "
        f"for bit as those of commit {BEFORE}, also when a grid of degrees makes them; success "
        f"{means['success'][0]:.2f} against {means['success'][1]:.2f}, drift {means['drift'][0]:.4f} against "
        f"{means['drift'][1]:.4f}; {THREADS} threads"
    )
    return {"value": float(np.mean(same)), "n": count, "unit": "share", "note": note, "parts": parts}
