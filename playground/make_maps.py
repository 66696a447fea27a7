"""Write data/maps.json: where each attribute is readable, and where it is used, as the playground shows it.

Run in a clone, a quarter of an hour on one core: ``python playground/make_maps.py``. Readable is `ditlens.probe` of
the two studies that ship with ditlens, used is `ditlens.patch` of pairs of prompts that the model's world writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import ditlens as dl
from ditlens.files import write_whole
from ditlens.worlds.world import Continuous

FILE = Path(__file__).parent / "data" / "maps.json"
SEEDS, STEPS, COLUMNS = [0, 1, 2, 3], 8, 4
SITE = "joint.4.image.out"
INTO = 5
"""The block whose patches are replaced: it gets what the probed block writes."""
HOW = (
    "dl.probe of the studies portraits (320 images, steps 1, 4, 7 of 10) and portraits-patches (200 images, "
    f"after block 5 of 6, step 7 of 10); dl.patch with {len(SEEDS)} pairs of prompts, {STEPS} sampling steps"
)


def rounded(values: Any) -> Any:
    """Numbers with three digits; None where nothing is known."""
    if isinstance(values, list):
        return [rounded(each) for each in values]
    return None if np.isnan(values) else round(float(values), 3)


def readable(blocks: dl.Study, patches: dl.Study, name: str) -> dict[str, Any]:
    """How well a probe reads an attribute: from each patch of one block, and at best in every block and step.

    Args:
        blocks: A study of several blocks and steps.
        patches: A study of all patches at `SITE`.
        name: The attribute.
    """
    found, every = dl.probe(blocks, name), dl.probe(patches, name)
    sites = [site for site in found.sites if site.endswith((".image.in", ".image.out"))]
    best = [[_best(found, site, step) for step in found.steps] for site in sites]
    rows = [f"after block {number}" for number in range(1, len(sites) + 1)]
    cells = sorted((cell for cell in every.cells if isinstance(cell.token, int)), key=lambda cell: cell.token)
    latents = f"what the noisy latents show before any block, {max(best[0]):.2f} at most ({found.measure})."
    labels = f"shuffled labels, {max(cell.control for cell in cells):.2f} at most ({found.measure})."
    return {
        "patch": {"values": rounded([cell.score.value for cell in cells]), "low": found.chance, "control": labels},
        "block": {
            "values": rounded(sum(best, [])), "low": found.chance, "control": f"the top row, {latents}",
            "rows": ["before block 1", *rows[1:]], "columns": [f"step {step + 1} of 10" for step in found.steps],
        },
    }  # fmt: skip


def _best(found: dl.Probe, site: str, step: int) -> float:
    return max(cell.score.value for cell in found.cells if (cell.site, cell.step) == (site, step))


def used(model: dl.Model, name: str, one_by_one: bool) -> dict[str, Any]:
    """What each patch brings alone, and what another text brings from each block on.

    Args:
        model: The model.
        name: The attribute.
        one_by_one: Whether patches are put in alone: one patch makes no other hat.
    """
    runs: dict[str, Any] = {"measure": name, "seeds": SEEDS, "sampling_steps": STEPS}
    text = dl.patch(model, steps=COLUMNS, **runs)
    columns = [f"first {stop} of {STEPS} steps" for _, stop in text.steps]
    rows = [f"from block {number + 1} on" for number in range(len(text.places))]
    values = rounded(text.table().flatten().tolist())
    control = f"a text about other things, or noise, {_control(text):.2f} at most."
    made = {"block": {"values": values, "low": 0, "control": control, "rows": rows, "columns": columns}}
    if one_by_one:
        runs |= {"stream": "image", "blocks": [INTO], "steps": 1}
        patches = np.nan_to_num(dl.patch(model, tokens="each", **runs).table()[:, -1])
        best = _control(dl.patch(model, tokens=[int(patches.argmax())], controls=True, **runs))
        control = f"a run about other things, or noise, {best:.2f}."
        made["patch"] = {"values": rounded(patches.tolist()), "low": 0, "control": control}
    return made


def _control(found: dl.CausalMap) -> float:
    """The most that a control brings which should bring nothing: another prompt's states, or noise."""
    return max(np.nanmax(np.nanmean(found.controls[name], -1)) for name in ("unrelated", "random"))


def main() -> None:
    """Measure all attributes and write the file."""
    model = dl.load("portraits", device="cpu")
    blocks, patches = dl.open_study("portraits"), dl.open_study("portraits-patches")
    maps = {}
    for name, spec in model.world.attributes.items():
        one_by_one = isinstance(spec, Continuous)
        maps[name] = {"readable": readable(blocks, patches, name), "used": used(model, name, one_by_one)}
    made = {"model": "portraits", "how": HOW, "maps": maps}
    write_whole(FILE, json.dumps(made, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
