"""What linear probes read off single patches, with their controls: ``python -m benchmarks.probing``.

It captures a study of its own, both streams of every block and what enters the first one, whole; that resumes and
takes some minutes. Every continuous attribute is then probed in all patches of one block at one step, the same for
all attributes.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import ditlens as dl
from benchmarks import RESULTS, ROOT
from benchmarks.report import Result, record
from ditlens.lens.study.run import plan_study, run_study
from ditlens.worlds.world import Continuous, World

FOLDER = ROOT / "outputs" / "probing"
PROMPTS, SEED = 800, 20
CAPTURED = ("joint.0.{text,image}.in", "joint.*.{text,image}.out")
STEPS, SAMPLING_STEPS = (0, 2, 4, 6, 9), 10
SITE, STEP = "joint.4.image.out", 6
"""Where it reads; chosen once, on the first 257 images, for all attributes together."""
GOOD, WANTED = 0.9, 8
"""An R² that counts as read, and how many of the attributes are to have it."""


def study_of(model: dl.Model, folder: Path = FOLDER) -> dl.Study:
    """Capture what is missing of the study."""
    made = dl.design(model.world, PROMPTS, SEED)
    plan = plan_study(
        model, made.prompts, made.seeds, CAPTURED, steps=STEPS, reduce=None, dtype="float16", columns=made.columns,
        paired=True, sampling_steps=SAMPLING_STEPS,
    )  # fmt: skip
    return run_study(model, plan, folder)


def measure(study: dl.Study, world: World) -> dict[str, Result]:
    """Both results, by key.

    Args:
        study: From `study_of`; any part of it that is finished.
        world: Names the attributes.
    """
    numbers = [name for name, spec in world.attributes.items() if isinstance(spec, Continuous)]
    parts = {name: part_of(study, name) for name in numbers}
    good = sorted(name for name, part in parts.items() if part["value"] >= GOOD)
    ahead = [
        name for name, part in parts.items() if min(part["selectivity_low"], part["over_latents_low"]) > 0
    ]
    seen = f"{len(study.items)} of {len(study.manifest.items)} images"
    where = f"{SITE}, step {STEP} of {SAMPLING_STEPS}, {seen}, the best patch of 64 for each attribute"
    about = {"n": len(study.items), "parts": parts}
    missed = {name: round(part["value"], 2) for name, part in parts.items() if name not in good}
    return {
        "probe_r2": {
            "value": len(good), "unit": f"attributes of {len(parts)} with R² >= {GOOD}", **about,
            "note": f"{where}; held-out prompts, wordings and seeds. The others: {missed}",
        },
        "probe_margin": {
            "value": len(set(good) & set(ahead)), "n": len(study.items),
            "unit": f"of these, with selectivity and lead over the noisy latents above 0 (all: {len(ahead)})",
            "note": "lower ends of the 95 % intervals over prompts, listed under probe_r2; of the latents the best "
                    "patch at the same step counts",
        },
    }  # fmt: skip


def part_of(study: dl.Study, name: str) -> dict[str, Any]:
    """The best patch for one attribute with its controls; if it shows little, also four patches together."""
    cells = dl.probe(study, name, sites=SITE, steps=STEP).cells
    best = max((c for c in cells if c.site == SITE and c.token != "mean"), key=lambda cell: cell.score.value)
    part = {"patch": best.token, **named("", best.score)}
    for key in ("selectivity", "over_latents", "over_text"):
        part |= named(f"{key}_", getattr(best, key))
    if best.score.value < GOOD:
        part |= named("best_4_", dl.probe(study, name, sites=SITE, steps=STEP, tokens="best:4").best().score)
    print(name, {key: round(value, 3) for key, value in part.items()}, flush=True)
    return part


def named(prefix: str, interval: Any) -> dict[str, float]:
    """An interval as entries of a dictionary."""
    return {f"{prefix}{name}": value for name, value in interval._asdict().items()}


@functools.cache
def results() -> dict[str, Result]:
    """Capture and measure."""
    model = dl.load("portraits", device="cpu")
    return measure(study_of(model), model.world)


def probe_r2() -> Result:
    """How many continuous attributes a patch shows."""
    return results()["probe_r2"]


def probe_margin() -> Result:
    """How many of these survive the controls."""
    return results()["probe_margin"]


def main() -> None:
    """Capture, measure and record."""
    record(RESULTS / "analyse.json", results(), "make bench-analyse")


if __name__ == "__main__":
    main()
