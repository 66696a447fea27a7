"""Whether the entanglement matrix finds the bias of the twin: `bias_found` of ``benchmarks/results/analyse.json``.

The twin's training ties age, grey hair and glasses (`ditlens.train.twin`), so the six cells between these three are
biased, by construction and named here before anything is measured. The text moves from young to old, from brown
hair to grey, from no glasses to round ones; nothing else is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

import ditlens as dl
from benchmarks.report import Result, load_note
from ditlens.metrics.statistics import estimate, middle

NAMES = ("portraits", "portraits-twin")
COUNT, REPEATS, CLEAR = 24, 2000, 0.005


def measure() -> Result:
    """How many times as large the twin's biased cells are, on average, as the mean size of those of portraits."""
    models = {name: dl.load(name, device="cpu") for name in NAMES}
    tied = {name: tuple(ends) for name, ends in models[NAMES[1]].defaults["tied"].items()}
    matrices = {
        name: dl.entanglement(model, count=COUNT, moves=tied, progress=False)
        for name, model in models.items()
    }
    found = result(matrices, list(itertools.permutations(tied, 2)))
    found["parts"]["share of what is named, drawn as named"] = {
        n: obeyed(m, list(tied)) for n, m in models.items()
    }
    return found


def result(matrices: Mapping[str, dl.Entanglement], biased: list[tuple[str, str]]) -> Result:
    """The key from the matrices of both models."""
    base, twin = (cells_of(matrices[name], biased) for name in NAMES)
    ratio = twin.mean(0) / np.abs(base).mean(0)
    low, high = middle(ratio[1:])
    parts: dict[str, Any] = {}
    for name, found in matrices.items():
        beside = {names: cell for names, cell in found.cells.items() if names[0] != names[1]}
        others = [cell for names, cell in beside.items() if names not in biased]
        parts[name] = {
            **{f"{a} -> {b}": rounded(beside[a, b]) for a, b in biased},
            "the other cells beside the diagonal": rounded(estimate([cell["value"] for cell in others])),
            "of these clear of chance": sum(cell["p"] < CLEAR for cell in others),
            "the diagonal": rounded(estimate([found.cells[name, name]["value"] for name in found.rows])),
            "diagonal dominance": round(found.dominance, 3),
        }
    note = (
        f"mean of the six cells between {', '.join(dict(biased))}: the twin's, {twin[:, 0].mean():.2f}, over "
        f"the mean "
        f"size of those of portraits, {np.abs(base[:, 0]).mean():.3f}, which are noise; shifts of distributions "
        f"beyond "
        f"chance, {COUNT} pairs of texts a row, 8 steps; {load_note()}"
    )
    return {
        "value": float(ratio[0]),
        "low": low,
        "high": high,
        "n": COUNT,
        "unit": "x",
        "note": note,
        "parts": parts,
    }


def cells_of(found: dl.Entanglement, biased: list[tuple[str, str]]) -> np.ndarray:
    """The biased cells, (cells, 1 + resamples): as measured, and over resampled pairs."""
    rng, rows = np.random.default_rng(0), []
    for moved, read in biased:
        changes = found.changes(moved, read)
        count, half = len(changes), 1 if changes.shape[1] == 1 else 2
        weights = rng.multinomial(count, np.full(count, 1 / count), REPEATS)
        spread = np.abs(weights @ changes / count).sum(-1) / half
        value = found.cells[moved, read]["value"]
        rows.append(np.concatenate([[value], value + spread - spread.mean()]))
    return np.array(rows)


def obeyed(model: dl.Model, tied: list[str]) -> dict[str, float]:
    """Share of what texts name of the three that is drawn so, over all their combinations, the rare ones too."""
    world = model.world
    assert world is not None
    counts = [
        len(getattr(world.attributes[n], "levels", getattr(world.attributes[n], "values", ()))) for n in tied
    ]
    combinations = [dict(zip(tied, levels, strict=True)) for levels in itertools.product(*map(range, counts))]
    texts = [world.caption(levels, seed) for seed, levels in enumerate(combinations)]
    images = model.sample(texts, list(range(len(texts))), steps=8)
    return rounded(
        estimate([world.agreement(t, r) for t, r in zip(texts, world.measure(images), strict=True)])
    )


def rounded(found: Mapping[str, Any]) -> dict[str, float]:
    """A number and its interval."""
    return {key: round(float(found[key]), 4) for key in ("value", "low", "high")}
