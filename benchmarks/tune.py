"""Look for good settings of every editing method, on the dev split and with the same effort for each.

``python -m benchmarks.tune`` tries `TRIES` settings of every baseline on the same edits, at about 64 evaluations an
edit, and prints where each stands: effect and success at degree 1, and drift where the mean effect is 0.8. If it is
interrupted, the same command continues. What it found is in ``ditlens/bench/entries.py`` and
``docs/decisions/0003-ems.md``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import ROOT
from ditlens.bench import runner
from ditlens.bench.entries import Entry
from ditlens.bench.suites import Suite, open_suite
from ditlens.bench.summary import drift_at, effect_table
from ditlens.ems import loops
from ditlens.ems.loops import Method
from ditlens.ems.methods import CSDS, DDS, DVRF, FLOWALIGN, FLOWEDIT, FLOWSLIDER, HSDS, Distillation
from ditlens.models.loading import load

DEGREES = (0.25, 0.5, 0.75, 1.0, 1.5)
TRIES = 5
EDITS = (0, 3, 6, 9, 12, 13, 15, 16)
"""Single edits of the dev split: four of continuous attributes, four of categories."""


def baselines() -> dict[str, list[Method]]:
    """`TRIES` settings of every baseline: its own guidance and rate, around what was published."""
    found: dict[str, list[Method]] = {
        "sdedit": [
            replace(loops.SDEDIT, steps=round(32 / active), active=active, guidance=guidance)
            for active, guidance in ((0.6, 4.0), (0.7, 4.0), (0.8, 4.0), (0.7, 7.0), (0.8, 2.0))
        ],
        "flowedit": [
            replace(FLOWEDIT, steps=18, active=16 / 18, source_guidance=source, target_guidance=target)
            for source, target in ((2.0, 4.0), (1.5, 5.5), (2.0, 6.0), (4.0, 8.0), (3.0, 5.0))
        ],
        "flowalign": [
            replace(FLOWALIGN, steps=21, target_guidance=guidance, zeta=zeta)
            for guidance, zeta in ((7.5, 0.01), (4.0, 0.01), (4.0, 0.02), (3.0, 0.005), (5.0, 0.02))
        ],
        "flowslider": [
            replace(FLOWSLIDER, steps=21, active=1.0, target_guidance=guidance)
            for guidance in (1.0, 2.0, 3.0, 4.0, 6.0)
        ],
        "dvrf": [
            replace(DVRF, steps=16, source_guidance=source, target_guidance=target)
            for source, target in ((4.0, 8.0), (2.0, 6.0), (3.0, 5.0), (4.0, 4.0), (3.0, 3.0))
        ],
        "rf-inversion": [
            replace(loops.RF_INVERSION, steps=21, guidance=guidance, eta=eta, gamma=gamma)
            for guidance, eta, gamma in (
                (4.0, 0.9, 0.5), (4.0, 0.6, 0.5), (4.0, 0.3, 0.0), (2.0, 0.6, 0.5), (7.0, 0.9, 0.5),
            )
        ],
    }  # fmt: skip
    for name, method, steps in (
        ("ddib", loops.DDIB, 21), ("rf-solver", loops.RF_SOLVER, 11), ("fireflow", loops.FIREFLOW, 21),
    ):  # fmt: skip
        found[name] = [replace(method, steps=steps, guidance=g) for g in (1.5, 2.0, 3.0, 4.0, 6.0)]
    found["dds"] = [
        replace(DDS, steps=16, source_guidance=g, target_guidance=g, lr=lr)
        for g, lr in ((7.5, 0.3), (4.0, 0.1), (4.0, 0.3), (4.0, 0.6), (4.0, 1.0))
    ]
    strengths = {
        "penalty": ((0.1, 0.1), (0.1, 0.3), (0.3, 0.1), (0.3, 0.5), (0.6, 1.0)),
        "ball": ((0.1, 0.4), (0.3, 0.2), (0.3, 0.4), (0.3, 0.7), (0.6, 0.4)),
        "orthogonal": ((0.03, 0.0), (0.06, 0.0), (0.1, 0.0), (0.3, 0.0), (0.6, 0.0)),
    }
    for name, pairs in strengths.items():
        found[f"csds-recon-{name}"] = [_score(CSDS[name], lr, strength) for lr, strength in pairs]
    found["hsds-recon"] = [
        _score(HSDS, lr, s) for lr, s in ((0.1, 0.1), (0.3, 0.1), (0.3, 0.5), (1.0, 0.5), (3.0, 1.0))
    ]
    assert all(len(tried) == TRIES for tried in found.values())
    return found


def _score(preset: Distillation, lr: float, strength: float) -> Distillation:
    return replace(
        preset,
        steps=16,
        source_guidance=4.0,
        target_guidance=4.0,
        lr=lr,
        **({"strength": strength} if strength else {}),
    )


def own() -> list[Entry]:
    """What was tried for EMS itself: rules of movement and guidance, within its mask."""
    rising = Distillation(
        "ems",
        eta=(0.0, 1.0),
        weight="one",
        source_guidance=3.0,
        target_guidance=3.0,
        steps=16,
    )
    pushed = replace(rising, source_guidance=1.0, guide_from="source", target_guidance=2.0, steps=21)
    aligned = replace(FLOWALIGN, name="ems", steps=21, target_guidance=3.0, zeta=0.01)
    tried = [
        rising,
        replace(rising, source_guidance=4.0, target_guidance=4.0),
        replace(rising, source_guidance=2.0, target_guidance=2.0),
        replace(rising, steps=8, averages=2),
        replace(rising, active=0.85, steps=19),
        pushed,
        replace(pushed, target_guidance=2.5),
        replace(pushed, target_guidance=1.75),
        replace(pushed, target_guidance=1.5),
        replace(pushed, target_guidance=1.25, slide="guidance"),
        replace(pushed, target_guidance=1.5, slide="guidance"),
        replace(pushed, slide="guidance"),
        aligned,
        replace(aligned, target_guidance=4.0, zeta=0.02),
        replace(aligned, target_guidance=2.0, zeta=0.005),
        replace(FLOWSLIDER, steps=21, active=1.0, target_guidance=2.0),
    ]
    return [Entry(f"ems@{k}", method, "difference") for k, method in enumerate(tried)]


def main() -> None:
    """Try what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, nargs="+", default=EDITS, help="which edits of the dev split")
    parser.add_argument("--degrees", type=float, nargs="+", default=DEGREES, help="editing degrees")
    parser.add_argument("--only", default="", help="methods, separated by commas")
    parser.add_argument(
        "--share", type=int, nargs=2, default=(0, 1), help="part k of n, for several processes"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "tune")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tried = {
        f"{n}@{k}": Entry(f"{n}@{k}", m) for n, methods in baselines().items() for k, m in enumerate(methods)
    }
    tried = {entry.name: entry for entry in own()} | tried
    if options.only:
        tried = {n: e for n, e in tried.items() if n.partition("@")[0] in options.only.split(",")}
    dev = open_suite("portraits-dev", max(options.edits) + 1)
    suite = Suite(dev.name, [dev.items[k] for k in options.edits])
    runner.run_bench(
        load("portraits"), suite, tried, options.out, degrees=options.degrees, share=tuple(options.share)
    )
    print(table(options.out, tried, [item.id for item in suite.items]))


def table(folder: Path, tried: dict[str, Entry], items: list[str]) -> str:
    """One line for every setting: where it stands, and what it is."""
    lines = [
        "| setting | success at 1 | effect at 1 | drift at 1 | drift at effect 0.8 | evaluations |",
        "|---|---|---|---|---|---|",
    ]
    for name in tried:
        rows = [row for item in items for row in runner.kept_rows(folder, name, item, {})]
        rows = [row for row in rows if not row.get("error")]
        at_one = [row for row in rows if row["degree"] == 1]
        if not at_one:
            continue
        mean = {
            key: float(np.mean([row[key] for row in at_one])) for key in ("success", "effect", "drift", "nfe")
        }
        curve = effect_table(rows)
        lines.append(
            f"| {name} | {mean['success']:.2f} | {mean['effect']:.2f} | {mean['drift']:.3f} | "
            f"{drift_at(curve, 0.8) if curve is not None else float('nan'):.3f} | {mean['nfe']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
