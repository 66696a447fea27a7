"""Where continuous attributes are readable, looked at and used in the image, and from and up to which block.

The two studies that ship with ditlens are probed; the runs that are patched are drawn here: a quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import ditlens as dl
from benchmarks.report import Result, load_note
from ditlens.worlds.world import Continuous

SEEDS, STEPS = range(4), 8
LEAST = 0.1
"""A map shows something where its best patch has a tenth of what is possible."""
PEAK = 2
"""Attention has no such scale: its best patch must have this many times that of the middle one."""
HALF = 0.5


def patch_maps(names: Sequence[str] = ()) -> Result:
    """How many attributes have all three maps, and how the maps agree; all continuous attributes by default."""
    model = dl.load("portraits", device="cpu")
    assert model.world is not None
    chosen = list(names) or [n for n, spec in model.world.attributes.items() if isinstance(spec, Continuous)]
    maps = dl.locate(model, dl.open_study("portraits-patches"), chosen, seeds=SEEDS, sampling_steps=STEPS)
    print(maps, flush=True)
    blocks = dl.open_study("portraits")
    return result(maps, {name: story(model, blocks, name) for name in chosen})


def story(model: dl.Model, study: dl.Study, name: str) -> dict[str, int]:
    """The first block after which a patch shows half of the best score, and the last that needs half of the text.

    Args:
        model: The model.
        study: Image streams after several blocks.
        name: The attribute.
    """
    found = dl.probe(study, name)
    best = found.best()
    blocks = {site: int(site.split(".")[1]) for site in found.sites if site not in found.baselines}
    scores = {blocks[site]: found.best(site, step=best.step).score.value for site in blocks}
    first = min(block for block, score in scores.items() if score >= HALF * best.score.value)
    text = dl.patch(model, measure=name, steps=1, controls=False, seeds=SEEDS, sampling_steps=STEPS)
    still = [k for k, effect in enumerate(text.table()[:, -1]) if effect >= HALF]
    return {"readable_after_block": first, "text_needed_until_block": max(still, default=-1)}


def result(maps: dl.PatchMaps, stories: dict[str, dict[str, int]]) -> Result:
    """What is written down.

    Args:
        maps: From `ditlens.locate`.
        stories: From `story`, by attribute.
    """
    flat = maps.maps.reshape(*maps.maps.shape[:2], -1)
    best, middle = flat.max(-1), np.median(flat, -1)
    shown = (best[0] >= LEAST) & (best[2] >= LEAST) & (best[1] >= PEAK * middle[1])
    parts: dict[str, Any] = {
        name: {f"{method}_{key}": value for number, method in enumerate(("readable", "looked_at", "used"))
               for key, value in {"patch": int(flat[number, k].argmax()), "best": float(best[number, k])}.items()}
        | {"overlap": float(maps.overlap[:, k].mean()), **stories[name]}
        for k, name in enumerate(maps.names)
    }  # fmt: skip
    parts["agreement"] = {
        f"{pair}, {what}, {end}": found[end]
        for pair, each in maps.agreement.items() for what, found in each.items() for end in ("value", "low", "high")
    }  # fmt: skip
    every = maps.agreement["all"]
    note = (
        f"{maps.about}; the {maps.top} highest patches of two maps overlap by {every['overlap']['value']:.2f} "
        f"({every['overlap']['low']:.2f} to {every['overlap']['high']:.2f} over attributes), by "
        f"{every['others']['value']:.2f} with another attribute's map, by {every['shuffled']['value']:.2f} with "
        f"shuffled patches; a map counts if its best patch has {LEAST:g} of a perfect score, {LEAST:g} PE, or "
        f"{PEAK} times the middle patch's attention; {load_note()}"
    )
    return {"value": int(shown.sum()), "n": len(shown), "unit": "attributes with all three maps", "note": note,
            "parts": parts}  # fmt: skip
