"""The fast backend beside PyTorch: the same edits of the suite by both, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.report import Result, load_note
from ditlens.bench.suites import open_suite
from ditlens.ems.edit import edit
from ditlens.metrics.statistics import estimate, paired
from ditlens.models.loading import load
from ditlens.models.model import Model

WARM = 3
"""Edits before the clock runs."""


def onnx_edit_ratio(count: int = 300) -> Result:
    """Time of a warm edit with the fast backend as a share of PyTorch's, both texts given.

    Args:
        count: How many edits of the test split.
    """
    torch_model, fast = load("portraits", device="cpu"), load("portraits", backend="onnx")
    rows = []
    for number, item in enumerate(open_suite("portraits", WARM + count).items):
        made = {}
        for model in (torch_model, fast) if number % 2 else (fast, torch_model):
            made[model] = timed_edit(model, item, number)
        if number >= WARM:
            rows.append([made[torch_model], made[fast]])
    return summary(rows)


def timed_edit(model: Model, item: Any, seed: int) -> dict[str, float]:
    """One edit: its time, whether it did what was asked for, and its drift."""
    image, begun = item.image(), time.perf_counter()
    made = edit(model, image, source_text=item.source_text, target_text=item.target_text, seed=seed)
    return {
        "seconds": time.perf_counter() - begun,
        "success": float(not made.missed),
        "drift": made.drift or 0.0,
    }


def summary(rows: list[list[dict[str, float]]]) -> Result:
    """What is written down of pairs of edits: PyTorch's, the fast backend's."""
    table = {name: np.array([[each[name] for each in row] for row in rows]) for name in rows[0][0]}
    seconds = table.pop("seconds")
    ratio = estimate(seconds[:, 1] / seconds[:, 0], np.median)
    difference: Callable[..., float] = lambda torch, fast: float((fast - torch).mean())  # noqa: E731
    parts: dict[str, Any] = {
        f"{name}_difference": paired([values[:, 0], values[:, 1]], difference)
        for name, values in table.items()
    }
    parts |= {
        "torch_seconds": float(np.median(seconds[:, 0])),
        "onnx_seconds": float(np.median(seconds[:, 1])),
    }
    means = {name: values.mean(0) for name, values in table.items()}
    told = ", ".join(f"{name} {fast:.4f} against {torch:.4f}" for name, (torch, fast) in means.items())
    note = (
        f"median of the ratios of single edits, in turns, both texts given: {parts['onnx_seconds']:.2f} s against "
        f"{parts['torch_seconds']:.2f} s; means of {told}; {load_note()}"
    )
    return {**ratio, "unit": "ratio", "note": note, "parts": parts}
