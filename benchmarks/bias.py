"""Whether the entanglement matrix finds the bias of the twin: `bias_found` of ``benchmarks/results/analyse.json``.

The twin's training ties age, grey hair and glasses (`ditlens.train.twin`), so the six cells between these three are
biased, by construction and named here before anything is measured. Grey hair or other, glasses or none is what
counts, and the sign. What moves is the text: young to old, brown hair to grey, no glasses to round ones. Nothing
else is named.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import numpy as np

import ditlens as dl
from ditlens.metrics.statistics import estimate, paired

TIED = ("age", "hair_color", "glasses")
BIASED = tuple(itertools.permutations(TIED, 2))
"""The cells that are compared."""
MOVES = {"hair_color": ("brown", "grey"), "glasses": ("none", "round")}
SCORES = {"age": float, "hair_color": lambda value: value == "grey", "glasses": lambda value: value != "none"}
PAIRS = 32
NAMES = ("portraits", "portraits-twin")


def measure() -> dict[str, Any]:
    """The result: how many times as large the biased cells of the twin are, on average, as those of portraits."""
    models = {name: dl.load(name, device="cpu") for name in NAMES}
    tables = {name: biased_cells(model) for name, model in models.items()}
    found = paired([tables["portraits-twin"], tables["portraits"]], times_as_large, repeats=1000)
    parts: dict[str, Any] = {"biased cells": {name: means(table) for name, table in tables.items()}}
    parts["share of what is named, drawn as named"] = {name: obeyed(model) for name, model in models.items()}
    twin, base = (np.mean(np.abs(tables[name].mean(0))) for name in reversed(NAMES))
    note = (
        f"mean of the six cells between age, grey hair and glasses, the twin's ({twin:.2f}) over the mean size of "
        f"those of portraits ({base:.3f}, most of it noise); signed change of age, of the share of grey hair and "
        f"of any glasses in a move of the text; {PAIRS} pairs of texts a row, 8 steps"
    )
    keys = ("value", "low", "high")
    return {**{key: found[key] for key in keys}, "n": PAIRS, "unit": "x", "note": note, "parts": parts}


def biased_cells(model: dl.Model) -> np.ndarray:
    """Changes of the biased cells, (pairs, cells)."""
    found = dl.entanglement(model, TIED, count=PAIRS, moves=MOVES, progress=False)
    return np.concatenate([found.changes(moved, read, SCORES[read]) for moved, read in BIASED], 1)


def times_as_large(twin: np.ndarray, base: np.ndarray) -> float:
    """Mean of the twin's cells over the mean size of portraits', which noise makes larger: a cautious ratio."""
    return float(twin.mean() / np.abs(base.mean(0)).mean())


def means(table: np.ndarray) -> dict[str, dict[str, float]]:
    """Each biased cell with its interval."""
    cells = {
        f"{moved} -> {read}": estimate(column) for (moved, read), column in zip(BIASED, table.T, strict=True)
    }
    return {name: {key: cell[key] for key in ("value", "low", "high")} for name, cell in cells.items()}


def obeyed(model: dl.Model) -> dict[str, float]:
    """Share of what texts name of the three that is drawn so, over all their combinations, the rare ones too."""
    world = model.world
    assert world is not None
    counts = [
        len(getattr(world.attributes[n], "levels", getattr(world.attributes[n], "values", ()))) for n in TIED
    ]
    combinations = [dict(zip(TIED, levels, strict=True)) for levels in itertools.product(*map(range, counts))]
    texts = [world.caption(levels, seed) for seed, levels in enumerate(combinations)]
    images = model.sample(texts, list(range(len(texts))), steps=8)
    shares = [world.agreement(text, read) for text, read in zip(texts, world.measure(images), strict=True)]
    return {key: value for key, value in estimate(shares).items() if key in ("value", "low", "high")}


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=2)
