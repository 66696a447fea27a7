"""What the measurements share.

Held-out portraits are drawn with seeds below 1000, which training never uses.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm.auto import tqdm

from benchmarks.portraits.sheets import Tile
from benchmarks.report import Result
from ditlens.metrics.statistics import clustered
from ditlens.models.model import Model
from ditlens.worlds.portraits.attributes import ATTRIBUTES, Attributes, sample
from ditlens.worlds.portraits.world import Portraits

SEEDS = {"vae": 7, "captions": 101, "edits": 102, "sweeps": 103, "describer": 104, "exact": 105,
         "frechet": 106, "heldout": 107}  # fmt: skip


@dataclass
class Bench:
    """What to measure with, and how much of it.

    Attributes:
        model: The model.
        captions: Captions to sample.
        edits: Single-attribute edits.
        sweeps: Edits of continuous attributes that are swept over `DEGREES`.
        pictures: Renders that are reconstructed.
        described: Renders that are described.
        renders: Renders that the oracle reads.
        repeats: Timed runs.
        level_seeds: Seeds with which each level word is sampled.
        sampled: The captions' samples, once they are made.
        failures: Collects the images that went wrong: what was asked and what the oracle read.
    """

    model: Model
    captions: int = 1000
    edits: int = 100
    sweeps: int = 40
    pictures: int = 256
    described: int = 200
    renders: int = 2000
    repeats: int = 15
    level_seeds: int = 8
    sampled: list[tuple[torch.Tensor, list[str]]] = field(default_factory=list)
    failures: dict[str, list[tuple[int, list[Tile]]]] = field(default_factory=lambda: defaultdict(list))


def result(
    value: float, low: float | None, high: float | None, n: int, unit: str, note: str, **more: Any
) -> Result:
    """One entry of a results file, without the fields that `record` adds."""
    return {"value": value, "low": low, "high": high, "n": n, "unit": unit, "note": note, **more}


def people(count: int, seed: str) -> Attributes:
    """Held-out portraits."""
    return sample(count, torch.Generator().manual_seed(SEEDS[seed]))


def progress(what: str, total: int) -> Iterable[int]:
    """Count to `total` with a progress bar on standard error."""
    return tqdm(range(total), desc=what, file=sys.stderr)


def measure(bench: Bench, pictures: torch.Tensor) -> list[dict[str, float | str]]:
    """What the oracle reads."""
    assert isinstance(bench.model.world, Portraits), "the model has no portraits world"
    return bench.model.world.oracle.measure(pictures)


def by_attribute(trials: Sequence[dict[str, bool]]) -> dict[str, Result]:
    """Share and number of trials of each attribute."""
    pooled: dict[str, list[bool]] = defaultdict(list)
    for trial in trials:
        for name, right in trial.items():
            pooled[name].append(right)
    return {
        n: {"value": sum(pooled[n]) / len(pooled[n]), "n": len(pooled[n])} for n in ATTRIBUTES if n in pooled
    }


def share(trials: Sequence[dict[str, bool]], names: Sequence[str], note: str) -> Result:
    """Share of right trials among the attributes `names`, clustered by picture."""
    chosen = [{n: right for n, right in trial.items() if n in names} for trial in trials]
    value, low, high, count = clustered([list(trial.values()) for trial in chosen])
    return result(value, low, high, count, "share", note, parts=by_attribute(chosen))


def brief(value: float | str) -> str:
    """A measured value as a word or with two digits."""
    return value if isinstance(value, str) else f"{value:.2f}"
