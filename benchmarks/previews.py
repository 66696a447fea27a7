"""How near the previews of a dragged slider are to the true edits (`preview_psnr_db`)."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
from PIL import Image

import ditlens as dl
from benchmarks.report import Result, load_note
from ditlens.bench.suites import open_suite
from ditlens.ems.degrees import DegreeGrid
from ditlens.ems.judge import psnr
from ditlens.ems.plan import EditSettings, make_plan
from ditlens.images import to_tensor
from ditlens.metrics.statistics import estimate

THIRDS = ((0.0, 0.5), (0.5, 1.0), (1.0, 1.5))
"""In each of these an edit has one degree, drawn at random."""
EQUAL_DB = 60.0
"""What counts for a preview that is better than this, or equal to the true edit."""


def preview_psnr_db(count: int = 24, seed: int = 0) -> Result:
    """PSNR between previews and the true edits at random degrees, mean over edits of the test split.

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
        ready, chosen = time.perf_counter(), [draw.uniform(*third) for third in THIRDS]
        previews = [grid.preview(degree) for degree in chosen]
        times = {"grid_seconds": ready - started, "preview_ms": 1000 / 3 * (time.perf_counter() - ready)}
        nearest = [min(grid.nodes, key=lambda node, near=degree: abs(node - near)) for degree in chosen]
        plain = [grid.preview(node) for node in nearest]
        true = [grid.edit(degree).image for degree in chosen]  # these are nodes from now on
        rows += [
            {"psnr": decibel(preview, image), "nearest": decibel(node, image), "degree": degree, **times}
            for preview, node, image, degree in zip(previews, plain, true, chosen, strict=True)
        ]
    return result(rows, grid.nodes)


def decibel(first: Image.Image, second: Image.Image) -> float:
    """PSNR of two pictures, at most `EQUAL_DB`."""
    return min(psnr(to_tensor(first), to_tensor(second)), EQUAL_DB)


def result(rows: list[dict[str, Any]], nodes: tuple[float, ...]) -> Result:
    """What is written down.

    Args:
        rows: The previews, edit by edit: PSNR in dB, that of the nearest node's picture, degree and times.
        nodes: Degrees of the grid's nodes.
    """
    found, nearest = (np.array([row[name] for row in rows]) for name in ("psnr", "nearest"))
    low, least = float(np.percentile(found, 10)), min(rows, key=lambda row: row["psnr"])
    times = {name: float(np.median([row[name] for row in rows])) for name in ("grid_seconds", "preview_ms")}
    shown = ", ".join(f"{node:g}" for node in nodes)
    note = (
        f"preview against the true edit, {len(THIRDS)} random degrees an edit from {THIRDS[0][0]:g} to "
        f"{THIRDS[-1][1]:g}, at most {EQUAL_DB:g} dB; nodes {shown}; a tenth of the previews are below "
        f"{low:.1f} dB, the worst has {least['psnr']:.1f} dB at {least['degree']:.2f}; the nearest node's picture "
        f"has {nearest.mean():.1f} dB; a preview takes {times['preview_ms']:.0f} ms, the nodes "
        f"{times['grid_seconds']:.1f} s; {load_note()}"
    )
    parts = {"tenth_percentile": low, "worst": least["psnr"], "nearest_node": float(nearest.mean()), **times}
    return {**estimate(found.reshape(-1, len(THIRDS)).mean(1)), "unit": "dB", "note": note, "parts": parts}
