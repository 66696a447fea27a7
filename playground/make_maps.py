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
    """Best patch of each block and step, every patch of one block, and what random labels give.

    Args:
        blocks: A study of several blocks and steps.
        patches: A study of all patches at `SITE`.
        name: The attribute.
    """
    found, every = dl.probe(blocks, name), dl.probe(patches, name)
    sites = [site for site in found.sites if site.endswith((".image.in", ".image.out"))]
    best = [[_best(found, site, step) for step in found.steps] for site in sites]
    cells = sorted((cell for cell in every.cells if isinstance(cell.token, int)), key=lambda cell: cell.token)
    return {
        "measure": found.measure, "guessing": rounded(found.chance), "steps": found.steps, "blocks": rounded(best),
        "patches": rounded([cell.score.value for cell in cells]),
        "control": rounded(max(cell.control for cell in cells)),
    }  # fmt: skip


def _best(found: dl.Probe, site: str, step: int) -> float:
    return max(cell.score.value for cell in found.cells if (cell.site, cell.step) == (site, step))


def used(model: dl.Model, name: str, one_by_one: bool) -> dict[str, Any]:
    """What another text brings from each block on, and what each patch brings alone, with the controls.

    Args:
        model: The model.
        name: The attribute.
        one_by_one: Whether patches are put in alone, too: one patch makes no other hat.
    """
    runs: dict[str, Any] = {"measure": name, "seeds": SEEDS, "sampling_steps": STEPS}
    text = dl.patch(model, steps=COLUMNS, **runs)
    columns = [stop for _, stop in text.steps]
    made = {"steps": columns, "blocks": rounded(text.table().tolist()), "control": _control(text)}
    if not one_by_one:
        return made
    runs |= {"stream": "image", "blocks": [INTO], "steps": 1}
    patches = np.nan_to_num(dl.patch(model, tokens="each", **runs).table()[:, -1])
    best = dl.patch(model, tokens=[int(patches.argmax())], controls=True, **runs)
    return made | {"patches": rounded(patches.tolist()), "patches_control": _control(best)}


def _control(found: dl.CausalMap) -> float:
    """The most that a control brings which should bring nothing: another prompt's states, or noise."""
    return rounded(max(np.nanmax(np.nanmean(found.controls[name], -1)) for name in ("unrelated", "random")))


def main() -> None:
    """Measure all attributes and write the file."""
    model = dl.load("portraits", device="cpu")
    blocks, patches = dl.open_study("portraits"), dl.open_study("portraits-patches")
    maps = {}
    for name, spec in model.world.attributes.items():
        one_by_one = isinstance(spec, Continuous)
        maps[name] = {"readable": readable(blocks, patches, name), "used": used(model, name, one_by_one)}
    made = {"model": "portraits", "how": HOW, "sampling_steps": {"readable": 10, "used": STEPS}, "maps": maps}
    write_whole(FILE, json.dumps(made, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
