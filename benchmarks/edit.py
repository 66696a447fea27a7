"""Measure EMS and the methods it is measured against: ``make bench-edit``, then ``make bench`` prints the numbers.

The runs are kept in ``outputs/bench-edit``; if it is interrupted, the same command continues. ``--ems`` and
``--others`` say how many edits of the test split EMS and each other method make, ``--best``, ``--published`` and
``--finding`` how many the best baselines and the rows of the finding; ``--only edits`` or ``--only faults``
measures one part.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import RESULTS, ROOT
from benchmarks.describer_faults import run_faults
from benchmarks.report import Result, Results, record
from ditlens.bench import runner
from ditlens.bench.entries import choose, tuned
from ditlens.bench.scores import Scorer
from ditlens.bench.suites import open_suite
from ditlens.bench.summary import drift_at, drift_ratio, effect_table, number
from ditlens.metrics.continuous import linearity, spearman
from ditlens.metrics.statistics import estimate, paired, wilson
from ditlens.models.loading import load
from ditlens.workers import launch

COMMAND = "make bench-edit"
OWN = ("ems", "ems-no-mask", "ems-exact-mask", "ems-tokens", "ems-pooled",
       "text-only", "image-only", "joint")  # fmt: skip
"""Entries that are EMS with one thing changed, or parts of it: not baselines."""
BORROWERS = ("flowedit-mask", "flowalign-mask", "flowslider-mask")
"""Baselines with EMS's mask, which they were not published with."""
FINDING = ("text-only", "image-only", "joint")
DEGREES = (0.25, 0.5, 0.75, 1.0, 1.5)
"""Of every method: curves are compared at the same degrees."""
MORE_DEGREES = (0.0,)
"""Of EMS in addition."""

Rows = list[dict[str, Any]]


def main() -> None:
    """Run what is missing, compute the keys, write ``benchmarks/results/edit.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ems", type=int, default=300, help="edits of EMS")
    parser.add_argument("--others", type=int, default=24, help="edits of every other method")
    parser.add_argument(
        "--best", type=int, default=150, help="edits of the best baseline, found by those of the others"
    )
    parser.add_argument(
        "--published", type=int, default=300, help="edits of the best baseline that borrows nothing from EMS"
    )
    parser.add_argument("--finding", type=int, default=60, help="edits of text only, image only and both")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "bench-edit")
    parser.add_argument("--only", choices=("edits", "faults"), help="measure this part only")
    options = parser.parse_args()
    results: Results = {}
    if options.only in (None, "edits"):
        results |= edits(options)
    if options.only in (None, "faults"):
        results |= faults()
    for key, result in record(RESULTS / "edit.json", results, command(options)).items():
        if key in results:
            print(f"{key}: {result['value']}")


def command(options: argparse.Namespace) -> str:
    """What to type to measure the same again."""
    if options.only == "faults":
        return f'{COMMAND} ARGS="--only faults"'
    names = ("ems", "others", "best", "published", "finding")
    counts = " ".join(f"--{name} {getattr(options, name)}" for name in names)
    return f'{COMMAND} ARGS="{counts}"'


def edits(options: argparse.Namespace) -> Results:
    """Run the suite and compute the results of `benchmarks/targets.json` that are about edits."""
    model = load("portraits")
    scorer, names = Scorer(model), list(tuned(model))
    run = partial(run_part, model, scorer, options)
    run(names, options.others, DEGREES)
    run(list(FINDING), max(options.finding, options.others), DEGREES)
    run(["ems"], options.ems, DEGREES)
    run(["ems"], min(options.ems, options.best), MORE_DEGREES)

    def ratios() -> dict[str, dict[str, float | int]]:
        return ratios_of(rows_of(options.out, model, scorer))

    for left_out, count in (((), options.best), (BORROWERS, options.published)):
        measured: set[str] = set()
        while (best := best_baseline(ratios(), left_out)) and best not in measured:
            run([best], min(options.ems, count), DEGREES)
            measured.add(best)
    runner.report(options.out, open_suite("portraits", max(options.ems, options.others, options.finding)))
    rows = rows_of(options.out, model, scorer)
    return {
        **of_ems(rows),
        **degree0(rows, options),
        **reversed_edits(model, options),
        **compared(rows, names),
    }


def run_part(
    model: Any,
    scorer: Scorer,
    options: argparse.Namespace,
    names: list[str],
    count: int,
    degrees: tuple[float, ...],
) -> None:
    """Run some methods on the first `count` edits, in several processes."""
    runner.plan_bench(
        model, open_suite("portraits", count), choose(model, ",".join(names)), options.out, degrees, 0, scorer
    )
    given = {"count": count, "methods": ",".join(names), "degrees": ",".join(map(str, degrees)),
             "out": options.out, "workers": options.workers, "device": "cpu"}  # fmt: skip
    words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    if code := launch(["bench", "edit", *words], options.workers):
        raise SystemExit(code)


def rows_of(folder: Path, model: Any, scorer: Scorer) -> Rows:
    """All rows so far that were made with the present edits, settings, weights and metrics."""
    common, entries = runner.made_with(model, scorer), tuned(model)
    found = {name: {path.stem for path in (folder / "parts" / name).glob("*.json")} for name in entries}
    rows: Rows = []
    for seed, item in enumerate(open_suite("portraits", max(map(len, found.values()), default=0) or 1).items):
        for name in (name for name, items in found.items() if item.id in items):
            now = runner.origin(common, entries[name].settings(), item, seed)
            rows += runner.kept_rows(folder, name, item.id, now)
    return rows


def ratios_of(rows: Rows) -> dict[str, dict[str, float | int]]:
    """Drift of EMS over that of every baseline, at an effect of 0.8; baselines that never reach it are left out."""
    moved = [row for row in rows if row["degree"] > 0]
    names = [n for n in dict.fromkeys(row["method"] for row in rows) if n not in OWN]
    ratios = {name: drift_ratio(moved, "ems", name) for name in names}
    return {name: ratio for name, ratio in ratios.items() if not np.isnan(ratio["value"])}


def best_baseline(ratios: dict[str, dict[str, float | int]], left_out: tuple[str, ...] = ()) -> str:
    """The baseline with the least drift relative to EMS, of those that count; empty if there is none.

    The best one is measured on more edits, and so is the one that is best after that: on few edits, some method
    looks better than it is.
    """
    names = [name for name in ratios if name not in left_out]
    return max(names, key=lambda name: ratios[name]["value"], default="")


def of(rows: Rows, method: str, degree: float | None = None) -> Rows:
    """Rows of a method without errors, at one degree or all."""
    return [
        row for row in rows
        if row["method"] == method and not row["error"] and (degree is None or row["degree"] == degree)
    ]  # fmt: skip


def at_best_degrees(rows: Rows, other: str) -> dict[str, Any]:
    """Drift of EMS over that of another method, each at the degree where most of its edits reach their target.

    Of degrees with equally many the lowest counts. The intervals hold the choice: every resample makes its own.
    """
    names = ("ems", other)
    cells = {m: {(r["item"], r["degree"]): (r["drift"], r["success"]) for r in of(rows, m)} for m in names}
    items = sorted(
        item
        for item in {item for item, _ in cells["ems"]}
        if all((item, degree) in cells[m] for m in names for degree in DEGREES)
    )
    if not items:
        return {"value": None, "n": 0, "unit": "ratio", "note": f"EMS and {other} share no edit"}
    tables = [np.array([[cells[m][i, d] for d in DEGREES] for i in items]) for m in names]

    def best(table: np.ndarray) -> int:
        return int(table[:, :, 1].mean(0).argmax())

    def at_best(table: np.ndarray, column: int) -> float:
        return float(table[:, best(table), column].mean())

    degrees = [f"{DEGREES[best(table)]:g}" for table in tables]
    reached = [f"{at_best(table, 1):.3f}" for table in tables]
    more = paired(tables, lambda a, b: at_best(a, 1) - at_best(b, 1))
    return {
        **paired(tables, lambda a, b: at_best(a, 0) / at_best(b, 0)), "unit": "ratio",
        "note": f"mean drift of EMS over {other}, each at the degree where most of its edits reach their target, "
        f"{' and '.join(degrees)}: {' and '.join(reached)} of them",
        "parts": {"success_difference": {k: more[k] for k in ("value", "low", "high", "n")}},
    }  # fmt: skip


def of_ems(rows: Rows) -> Results:
    """Success, drift, monotonicity and exactness of EMS."""
    at_one = of(rows, "ems", 1.0)
    right = sum(row["success"] for row in at_one)
    parts = {}
    for kind in ("single", "double"):
        chosen = [r["success"] for r in at_one if ("+" in r["kind"]) == (kind == "double")]
        parts[kind] = {"value": float(np.mean(chosen)), "n": len(chosen)}
    low, high = wilson(int(right), len(at_one))
    results = {
        "ems_target_success": {
            "value": right / len(at_one), "low": low, "high": high, "n": len(at_one), "unit": "share",
            "note": "test split, degree 1: every attribute asked for has the wanted level or value", "parts": parts,
        },
        "ems_drift": {
            **estimate([r["drift"] for r in at_one]), "unit": "range",
            "note": "degree 1, same edits, from the reconstruction; from the picture given, with the autoencoder's "
            f"share: {np.mean([r['drift_from_source'] for r in at_one]):.4f}",
        },
        **{
            f"ems_{name}": {**estimate([r[name] for r in at_one]), "unit": "range", "note": note}
            for name, note in (
                ("net_drift", "the drift less that of the exact result after encoding and decoding"),
                ("residual", "distance of all attributes, wanted ones included, from the exact result's"),
                ("net_residual", "the residual less that of the exact result after encoding and decoding"),
            )
        },
    }  # fmt: skip
    return results | follows(rows)


def follows(rows: Rows) -> Results:
    """How the measured attribute follows the degree, for single continuous attributes."""
    from ditlens.worlds.portraits.attributes import CONTINUOUS

    smooth = {c.name for c in CONTINUOUS}
    curves: dict[str, dict[float, float]] = {}
    whole = {row["item"] for row in of(rows, "ems", 0.0)}
    for row in of(rows, "ems"):
        if row["item"] in whole and row["kind"] in smooth and row["degree"] <= 1:
            curves.setdefault(row["item"], {})[row["degree"]] = number(row, "effect")
    found = [(sorted(c), [c[d] for d in sorted(c)]) for c in curves.values() if len(c) > 2]
    rank = estimate([spearman(d, e) for d, e in found], np.median)
    line = estimate([linearity(d, e) for d, e in found], np.median)
    return {
        "ems_spearman_and_r2": {
            **rank, "unit": "correlation", "parts": {"spearman": rank, "r2": line},
            "note": "median over edits of one continuous attribute, degrees 0 to 1 in quarters; the value is the "
            "rank correlation, R2 of a straight line is a part",
        },
        "ems_r2": {**line, "unit": "R2", "note": "of the best straight line, the same edits and degrees"},
    }  # fmt: skip


def degree0(rows: Rows, options: argparse.Namespace) -> Results:
    """Degree 0 against the reconstruction."""
    from PIL import Image, ImageChops

    from ditlens.images import to_image

    model = load("portraits")
    items = {item.id: item for item in open_suite("portraits", 50).items}
    exact = []
    if "OMP_NUM_THREADS" not in os.environ:  # as in the runs: the last bits depend on the number of threads
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.workers))
    for row in [row for row in of(rows, "ems", 0.0) if row["item"] in items]:
        # From the suite, not from sources/: what is edited has not been through 8 bits.
        kept = to_image(model.decode(model.encode_image(model.prepare(items[row["item"]].image()))))
        exact.append(
            ImageChops.difference(kept, Image.open(options.out / row["picture"]).convert("RGB")).getbbox()
            is None
        )
    return {
        "degree0_exact": {
            "value": float(np.mean(exact)), "n": len(exact), "unit": "share",
            "note": "share of edits at degree 0 whose pixels equal the reconstruction's",
        }
    }  # fmt: skip


def reversed_edits(model: Any, options: argparse.Namespace) -> Results:
    """Edit, and edit back: how far are the attributes from their start?"""
    from ditlens.ems.edit import edit as edit_picture
    from ditlens.images import to_tensor
    from ditlens.metrics.continuous import pixel_rms
    from ditlens.worlds.portraits.measure import drift

    method, distances, pixels = tuned(model)["ems"].method, [], []
    for k, item in enumerate(open_suite("portraits", min(options.others, 20)).items):
        picture = item.image()
        there = edit_picture(
            model, picture, item.instruction, source_text=item.source_text, target_text=item.target_text,
            method=method, seed=k,
        )  # fmt: skip
        back = there.reverse()
        start = there.plan.reconstruction
        before, after = (model.world.measure(to_tensor(image))[0] for image in (start, back.image))
        distances.append(drift(before, after, ()))
        pixels.append(pixel_rms(to_tensor(start), to_tensor(back.image)))
    return {
        "ems_reversal": {
            **estimate(distances), "unit": "range",
            "note": "edited at degree 1 and reversed: distance of the visible attributes from the reconstruction; "
            f"pixels are {float(np.mean(pixels)):.3f} off (root mean square, of 1)",
        }
    }  # fmt: skip


def compared(rows: Rows, names: list[str]) -> Results:
    """EMS beside the baselines, the finding's table, and how many methods ran."""
    ran = [n for n in names if of(rows, n)]
    table = {}
    for name in ran:
        at_one = of(rows, name, 1.0)
        low, high = wilson(int(sum(r["success"] for r in at_one)), len(at_one))
        curve = effect_table([r for r in of(rows, name) if r["degree"] in DEGREES])
        table[name] = {
            "value": float(np.mean([r["success"] for r in at_one])), "low": low, "high": high, "n": len(at_one),
            **{f"drift_at_{g:g}": None if curve is None else known(drift_at(curve, g)) for g in (0.5, 0.8)},
            "effect": float(np.mean([r["effect"] for r in at_one])),
            **{key: float(np.mean([r[key] for r in at_one])) for key in ("drift", "net_drift", "residual")},
            **{cost: float(np.mean([r[cost] for r in at_one])) for cost in ("nfe", "calls", "seconds")},
        }  # fmt: skip
    ratios = ratios_of(rows)
    best, published = best_baseline(ratios), best_baseline(ratios, BORROWERS)
    never = [name for name in ran if name not in (*OWN, *ratios)]
    counts = [int(entry["n"]) for name, entry in table.items() if name != "ems"]
    return {
        "methods_in_harness": {
            "value": len(ran), "n": len(names), "unit": "methods", "parts": table,
            "note": "value: success at degree 1; with effect, drift, evaluations (nfe), calls, seconds per edit "
            "(two at a time, the machine was busy); "
            f"{table['ems']['n']} edits of EMS, {min(counts)} to {max(counts)} of the others: column n",
        },
        "ems_drift_ratio_to_best_baseline": {
            **(ratios.get(best) or {"value": None, "n": 0}), "unit": "ratio",
            "note": f"mean drift where the mean effect is 0.8, EMS over {best}, the best baseline; "
            f"never reach 0.8: {', '.join(never) or 'none'}",
            "parts": {n: {k: r[k] for k in ("value", "low", "high", "n")} for n, r in ratios.items()},
        },
        "ems_drift_ratio_to_best_published": {
            **(ratios.get(published) or {"value": None, "n": 0}), "unit": "ratio",
            "note": f"the same over {published}, the best of the baselines that borrow nothing from EMS; left out: "
            f"{', '.join(BORROWERS)}",
        },
        "ems_drift_ratio_at_best_degree": at_best_degrees(rows, published)
        if published
        else {"value": None, "n": 0, "unit": "ratio", "note": "no baseline reaches an effect of 0.8"},
        "finding3_table": {
            "value": sum(n in table for n in FINDING), "n": len(FINDING), "unit": "rows",
            "parts": {n: table[n] for n in FINDING if n in table},
            "note": "text only, image only and both, from the same noised start: success at degree 1, and drift at "
            "the same effect (none: never reached); evaluations differ, see nfe",
        },
    }  # fmt: skip


def measure_residual(
    count: int = 100, few: int = 6, out: Path = ROOT / "outputs" / "bench-residual"
) -> Result:
    """Run what `residual_ratio` needs: every baseline on a few edits, and the best ones on as many as EMS."""
    model = load("portraits")
    scorer, entries = Scorer(model), tuned(model)

    def run(names: list[str], count: int) -> dict[str, dict[str, float | int]]:
        chosen = {name: entries[name] for name in names}
        runner.run_bench(model, open_suite("portraits", count), chosen, out, degrees=[1.0])
        return residual_ratios(rows_of(out, model, scorer))

    run(["ems"], count)
    ratios = run([name for name in entries if name not in OWN], few)
    for left_out in ((), BORROWERS):
        while ratios[best := best_baseline(ratios, left_out)]["n"] < count:
            ratios = run([best], count)
    return residual_ratio(ratios)


def residual_ratios(rows: Rows) -> dict[str, dict[str, float | int]]:
    """Mean net residual at degree 1, EMS over every baseline, on the edits of both."""
    found = {}
    for name in dict.fromkeys(row["method"] for row in rows if row["method"] not in OWN):
        own, other = ({r["item"]: r["net_residual"] for r in of(rows, m, 1.0)} for m in ("ems", name))
        shared = sorted(own.keys() & other.keys())
        if shared:
            tables = [np.array([each[item] for item in shared]) for each in (own, other)]
            found[name] = paired(tables, lambda a, b: float(a.mean() / b.mean()))
    return found


def residual_ratio(ratios: dict[str, dict[str, float | int]]) -> Result:
    """EMS over the best baseline that borrows nothing from it; the others as parts."""
    best, any_ = best_baseline(ratios, BORROWERS), best_baseline(ratios)
    beside = "" if any_ == best else f"; over {any_}, {ratios[any_]['value']:.2f}"
    return {
        **ratios[best], "unit": "ratio",
        "parts": {n: {k: r[k] for k in ("value", "low", "high", "n")} for n, r in ratios.items()},
        "note": "distance of all attributes, wanted ones included, from those of the exact result, less what "
        "encoding and decoding that result gives; test split, degree 1, read by the oracle; EMS over "
        f"{best}, the best baseline that borrows nothing from EMS{beside}",
    }  # fmt: skip


def known(value: float) -> float | None:
    """A number, or None where there is none."""
    return None if np.isnan(value) else value


def faults() -> Results:
    """Faults of describers that end in a clear error or a retry."""
    found = run_faults()
    return {
        "describer_faults_handled": {
            "value": sum(found.values()) / len(found), "n": len(found), "unit": "share",
            "note": "not handled: " + (", ".join(n for n, ok in found.items() if not ok) or "none"),
        }
    }  # fmt: skip


if __name__ == "__main__":
    main()
