"""Make the two labelled studies that ship, ``data/studies``: ``python -m benchmarks.portraits.study``.

Both are of the same prompts, in which attributes are named independently of one another
(`ditlens.analysis.design`), and keep the images and what the oracle read in them.

- ``portraits``: one patch for each thing that an attribute changes, in every block from what enters the first, at
  an early, a middle and a late step: for maps of blocks and steps, and scatter plots.
- ``portraits-patches``: all patches of one block at one step: for pictures of where something is.

The command resumes; it takes a few minutes on two cores with ``RANK=0 WORLD_SIZE=2`` and ``RANK=1 WORLD_SIZE=2``.
"""

from __future__ import annotations

from typing import Any

import ditlens as dl
from ditlens.analysis.design import design
from ditlens.lens.study.run import plan_study, run_study
from ditlens.lens.study.store import STUDIES

PATCHES = {
    12: "hat", 19: "brow", 28: "eye, glasses", 30: "temple, hair", 36: "cheek", 37: "ear", 41: "hair at the side",
    43: "mouth", 52: "chin, beard", 60: "neck, shirt", 63: "background",
}  # fmt: skip
"""Numbers of the kept patches, counted by rows of 8, and what mostly lies there."""
SITES = ("joint.0.image.in", "joint.1:6.image.out", "cond")
"""The noisy latents, what leaves every block after the first, and the pooled text."""
STEPS, SAMPLING_STEPS = (1, 4, 7), 10
SETTINGS: dict[str, dict[str, Any]] = {
    "portraits": {"sites": SITES, "steps": STEPS, "tokens": {"image": list(PATCHES)}},
    "portraits-patches": {"sites": "joint.4.image.out", "steps": STEPS[-1:]},
}
COUNTS = {"portraits": 320, "portraits-patches": 200}


def main() -> None:
    """Make both studies, or what is missing of them."""
    model = dl.load("portraits", device="cpu")
    made = design(model.world, COUNTS["portraits"], seed=0)
    for name, settings in SETTINGS.items():
        count = COUNTS[name]
        plan = plan_study(
            model, made.prompts[:count], made.seeds[:count], reduce="sketch:64", dtype="float16", paired=True,
            columns={key: values[:count] for key, values in made.columns.items()}, sampling_steps=SAMPLING_STEPS,
            **settings,
        )  # fmt: skip
        print(run_study(model, plan, STUDIES / name))


if __name__ == "__main__":
    main()
