"""How near the previews of a dragged slider are to the true edits (`preview_psnr_db`)."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np

import ditlens as dl
from benchmarks.report import Result, load_note
from ditlens.bench.suites import open_suite
from ditlens.ems.degrees import DegreeGrid
from ditlens.ems.judge import psnr
from ditlens.ems.plan import EditSettings, make_plan
from ditlens.images import to_tensor
from ditlens.metrics.statistics import estimate

RANGE = (0.0, 1.5)
"""Where the degrees are drawn."""
EQUAL_DB = 60.0
"""What counts for a preview that is better than this, or equal to the true edit."""


def preview_psnr_db(count: int = 24, seed: int = 0) -> Result:
    """PSNR between the preview and the true edit at a random degree, mean over edits of the test split.

    Args:
        count: How many edits.
        seed: Seed of the degrees.
    """
    model, draw = dl.load("portraits", device="cpu"), random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number, item in enumerate(open_suite("portraits", count).items):
        texts = {"source_text": item.source_text, "target_text": item.target_text}
        grid = DegreeGrid(make_plan(model, item.image(), "", EditSettings(seed=number, **texts)))
        started = time.perf_counter()
        for _ in grid.steps():
            pass
        ready, degree = time.perf_counter(), draw.uniform(*RANGE)
        preview = grid.preview(degree)
        shown = time.perf_counter()
        found = min(psnr(to_tensor(preview), to_tensor(grid.edit(degree).image)), EQUAL_DB)
        rows.append({"psnr": found, "degree": degree, "grid_seconds": ready - started,
                     "preview_ms": 1000 * (shown - ready)})  # fmt: skip
    return result(rows, grid.nodes)


def result(rows: list[dict[str, Any]], nodes: tuple[float, ...]) -> Result:
    """What is written down.

    Args:
        rows: For each edit its PSNR in dB, its degree, and the times.
        nodes: Degrees of the grid's nodes.
    """
    found = [row["psnr"] for row in rows]
    low, least = float(np.percentile(found, 10)), min(rows, key=lambda row: row["psnr"])
    times = {name: float(np.median([row[name] for row in rows])) for name in ("grid_seconds", "preview_ms")}
    note = (
        f"preview against the true edit, degrees drawn from {RANGE[0]:g} to {RANGE[1]:g}; nodes "
        f"{', '.join(f'{node:g}' for node in nodes)}; a tenth of the edits are below {low:.1f} dB, the worst has "
        f"{least['psnr']:.1f} dB at {least['degree']:.2f}; a preview takes {times['preview_ms']:.0f} ms, the "
        f"nodes {times['grid_seconds']:.1f} s; {load_note()}"
    )
    parts = {"tenth_percentile": low, "worst": least["psnr"], **times}
    return {**estimate(found), "unit": "dB", "note": note, "parts": parts}
