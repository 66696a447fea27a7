"""Maps of blocks and steps: what can be read there, what is used there, and what is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps

from ditlens.analysis.probes import Probe
from ditlens.lens.site import Site
from ditlens.tables import spoken
from ditlens.views.explorer.inside import Lab
from ditlens.views.explorer.material import hex_of, rounded
from ditlens.views.explorer.state import ExplorerState, stretch

LIGHT = 0.47
"""From this share of the range on, black words are easier to read on a colour than white ones."""
LASTS = {"until": "up to this step", "from": "from this step on", "only": "in this step"}


def table(
    rows: Sequence[tuple[str, int]],
    steps: Sequence[int],
    values: np.ndarray,
    told: str,
    high: float | None = None,
) -> dict[str, Any]:
    """A map as the page shows it.

    Args:
        rows: Of each row its label, and the number of its block, which a click patches.
        steps: The columns.
        values: (rows, columns); NaN is left empty.
        told: What it shows.
        high: The value of the lightest colour; the highest one by default.
    """
    top = high or float(values.max()) or 1.0
    return {
        "rows": [label for label, _ in rows], "blocks": [block for _, block in rows], "told": told,
        "columns": [str(step) for step in steps],
        "texts": [["" if np.isnan(x) else rounded(x) for x in row] for row in values],
        "colors": [["" if np.isnan(x) else hex_of(colormaps["cividis"](x)) for x in row] for row in values / top],
        "dark": (values / top < LIGHT).tolist(),
    }  # fmt: skip


def blank(lab: Lab, steps: Sequence[int]) -> dict[str, Any]:
    """A map without values, whose cells can be clicked."""
    rows = [(label, number) for number, (label, _) in enumerate(lab.blocks)]
    return table(rows, steps, np.full((len(rows), len(steps)), np.nan), "", 1.0)


def of_probe(found: Probe, lab: Lab | None, steps: Sequence[int]) -> dict[str, Any]:
    """The best token of every block and step of a probe."""
    there = [site for site in map(Site.parse, found.sites) if site.stream == "image"]
    blocks = list(dict.fromkeys((site.kind, site.block) for site in there))
    known = blocks if lab is None else [(site.kind, site.block) for _, site in lab.blocks]
    several = len({kind for kind, _ in known}) > 1
    best = np.full((len(blocks), len(steps)), np.nan)
    for cell in found.cells:
        site = Site.parse(cell.site)
        if site.stream == "image" and cell.step in steps:
            at = blocks.index((site.kind, site.block)), steps.index(cell.step)
            best[at] = np.fmax(best[at], cell.score.value)
    rows = [
        (f"{kind}.{block}" if several else f"{block}", known.index((kind, block))) for kind, block in blocks
    ]
    told = (
        f"{found.measure} of {spoken(found.target)} on pictures that the probe has not seen, best patch; guessing "
        f"gives {found.chance:.2f}"
    )
    return table(rows, steps, best, told, 1.0)


def of_patches(lab: Lab, state: ExplorerState, steps: Sequence[int]) -> dict[str, Any]:
    """What a patch does at every block and step to the open picture."""
    rows = [(label, number) for number, (label, _) in enumerate(lab.blocks)]
    total = lab.settings[0]
    cells = [(block, stretch(state.stretch, step, total)) for _, block in rows for step in steps]
    made = lab.patched(state.picture, state.color, state.stream, cells)
    values = np.asarray([each.effect for each in made]).reshape(len(rows), -1)
    clean = lab.contrast(state.picture, state.color).pair.clean
    told = (
        f"share of the change that comes along when the {state.stream} states of “{clean}” are put in at a block, "
        f"{LASTS[state.stretch]}. One picture: how sure it is, dl.patch says over several"
    )
    return table(rows, steps, values, told, 1.0)


def of_attention(lab: Lab, state: ExplorerState, steps: Sequence[int]) -> dict[str, Any]:
    """How much the open picture, or the patch that is asked about, looks at the words of the attribute."""
    rows = [(label, number) for number, (label, _) in enumerate(lab.blocks)]
    values, words = lab.looking(state.picture, state.color, state.patch, steps)
    who = "all patches" if state.patch is None else f"patch {state.patch}"
    return table(rows, steps, 100 * values, f"% of the attention of {who} that goes to “{words}”")
