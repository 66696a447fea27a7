"""Times: one edit, one import, the renderer. They mean something on an idle machine only."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.portraits.common import Bench, progress, result
from benchmarks.report import Results, load_note
from ditlens import images
from ditlens.ems.edit import edit
from ditlens.metrics.statistics import bootstrap
from ditlens.worlds.portraits.attributes import neutral, sample
from ditlens.worlds.portraits.render import render

WISH = "give them a big smile"
"""The edit that is timed."""


def edit_seconds(bench: Bench) -> Results:
    """Warm wall time of one edit, with describing (as `ditlens edit`) and with both texts given."""
    picture = images.to_image(render(neutral(smile=-0.3), bench.model.side))
    first = edit(bench.model, picture, WISH)
    calls: dict[str, Callable[[], Any]] = {
        "with describing": lambda: edit(bench.model, picture, WISH),
        "texts given": lambda: edit(
            bench.model, picture, source_text=first.source_text, target_text=first.target_text
        ),
    }
    times: dict[str, list[float]] = defaultdict(list)
    for i in progress("timed edits", bench.repeats + 2):
        for name, call in calls.items():
            seconds = timed(call)
            if i >= 2:
                times[name].append(seconds)
    parts = {n: {"value": float(np.median(t)), "n": len(t)} for n, t in times.items()}
    chosen = times["with describing"]
    note = (
        f"median; with describing {parts['with describing']['value']:.2f} s, with both texts given "
        f"{parts['texts given']['value']:.2f} s; {first.evaluations} evaluations of the transformer; {load_note()}"
    )
    interval = bootstrap(chosen, np.median)
    return {"edit_seconds": result(float(np.median(chosen)), *interval, len(chosen), "s", note, parts=parts)}


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def import_seconds(bench: Bench) -> Results:
    """Wall time of `import ditlens` in a new Python, less that of a bare one, in turns."""
    statement = "import ditlens, sys; assert 'torch' not in sys.modules, 'torch was loaded'"
    times: dict[str, list[float]] = {"bare": [], "import": []}
    for i in progress("imports", max(5, bench.repeats) + 1):
        for name, code in (("bare", "pass"), ("import", statement)):
            command = [sys.executable, "-c", code]
            seconds = timed(lambda command=command: subprocess.run(command, check=True))  # type: ignore[misc]
            if i:  # the first run fills the disk's cache
                times[name].append(seconds)
    extra = [a - b for a, b in zip(times["import"], times["bare"], strict=True)]
    note = (
        f"median difference to a bare Python start ({np.median(times['bare']):.3f} s); no torch is loaded; "
        f"{load_note()}"
    )
    interval = bootstrap(extra, np.median)
    return {"import_seconds": result(float(np.median(extra)), *interval, len(extra), "s", note)}


def render_speed(bench: Bench) -> Results:
    """Pictures that the renderer draws in a second at 64 x 64."""
    everyone = sample(256, torch.Generator().manual_seed(0))
    render(everyone, 64)
    rates = [256 / timed(lambda: render(everyone, 64)) for _ in range(max(3, bench.repeats // 2))]
    note = f"median of batches of 256; {load_note()}"
    interval = bootstrap(rates, np.median)
    return {"render_images_per_second": result(float(np.median(rates)), *interval, len(rates), "1/s", note)}
