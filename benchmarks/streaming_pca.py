"""The streaming PCA beside scikit-learn's IncrementalPCA: ``streaming_pca_speedup`` of `benchmarks.analyse`.

Both read the same rows in the same batches, in turns, in one process; what counts is CPU time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA, IncrementalPCA

from benchmarks.report import Result, load_note
from ditlens.analysis.decompose import Basis
from ditlens.analysis.streaming import Sums

ROWS, WIDTH, COMPONENTS = 20_000, 1536, 64
BATCHES = (4096, 1000, 500)
"""Rows of a batch: as `ditlens.PCA` reads plain rows, which gives the value; smaller ones beside it."""
ROUNDS = 3


def data() -> np.ndarray:
    """Rows with as many strong directions as components, in noise, off centre: (rows, width), float32."""
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    spread = np.arange(1, WIDTH + 1) ** -0.7
    spread[COMPONENTS:] *= 0.3
    rows = (rng.standard_normal((ROWS, WIDTH)) * spread) @ turned.T + 3 * rng.standard_normal(WIDTH)
    return rows.astype(np.float32)


def streaming(batches: list[np.ndarray]) -> np.ndarray:
    """Components by ours."""
    sums = Sums.of(batches[0])
    for batch in batches[1:]:
        sums += Sums.of(batch)
    return Basis.of(sums, COMPONENTS).components


def incremental(batches: list[np.ndarray]) -> np.ndarray:
    """Components by scikit-learn."""
    model = IncrementalPCA(COMPONENTS)
    for batch in batches:
        model.partial_fit(batch)
    found: np.ndarray = model.components_
    return found


METHODS: dict[str, Callable[[list[np.ndarray]], np.ndarray]] = {
    "ditlens": streaming,
    "IncrementalPCA": incremental,
}


def compare(rows: np.ndarray, exact: np.ndarray, batch: int, rounds: int) -> dict[str, Any]:
    """CPU times of both in turns, their ratios, and the largest angles to the exact subspace in degrees."""
    batches = [rows[start : start + batch] for start in range(0, ROWS, batch)]
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for name, method in METHODS.items():
            start = time.process_time()
            components = method(batches)
            seconds[name].append(time.process_time() - start)
            found[f"{name}_angle"] = np.degrees(
                subspace_angles(components.T.astype(float), exact.T).max()
            ).item()
    found |= {f"{name}_cpu_s": statistics.median(times) for name, times in seconds.items()}
    ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
    return found | {"ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def measure() -> Result:
    """How many times less CPU time the streaming PCA takes, median of the rounds."""
    rows = data()
    exact = PCA(COMPONENTS, svd_solver="covariance_eigh").fit(rows.astype(np.float64)).components_
    found = {batch: compare(rows, exact, batch, ROUNDS if batch == BATCHES[0] else 1) for batch in BATCHES}
    first = found[BATCHES[0]]
    note = (
        f"{ROWS} x {WIDTH} rows, {COMPONENTS} components, batches of {BATCHES[0]} rows, CPU time in turns, "
        f"{ROUNDS} rounds; largest angle to the subspace of scikit-learn's PCA in float64: ours "
        f"{first['ditlens_angle']:.2g} degrees, IncrementalPCA's {first['IncrementalPCA_angle']:.2g}; parts: "
        f"smaller batches, one round, cheaper for IncrementalPCA; {load_note()}"
    )
    return {
        "value": first["ratio"], "n": ROUNDS, "unit": "x less CPU time", "note": note,
        "parts": {f"batches of {batch}": each for batch, each in found.items()},
    }  # fmt: skip
