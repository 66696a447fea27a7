"""Measure the portraits model as shipped: `make bench-model`.

Writes ``benchmarks/results/model.json`` (every key with its 95 % interval), ``docs/model/results.md`` (the same
as a table beside the targets, with tables by attribute) and contact sheets in ``docs/model``. With ``--only``,
the other keys keep what was measured last. Everything is seeded: the same weights give the same numbers, except
times.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import ROOT
from benchmarks.portraits import editing, quality, samples, speed
from benchmarks.portraits.common import Bench
from benchmarks.portraits.gallery import SHEETS, draw
from benchmarks.report import Result, Results, read_results, record, shown, verdict
from ditlens.errors import DitlensError
from ditlens.models.loading import load
from ditlens.worlds.portraits.attributes import ATTRIBUTES

WHAT = {
    "stock_pipeline": "stock `StableDiffusion3Pipeline.from_pretrained(folder)(prompt)` gives a portrait",
    "vae_psnr_db": "autoencoder: reconstruction of held-out renders",
    "caption_categorical_accuracy": "samples of held-out captions: categorical attributes right",
    "caption_level_accuracy": "samples of held-out captions: continuous attributes at the right level word",
    "unguided_categorical_accuracy": "samples without guidance: categorical attributes right",
    "heldout_combination_accuracy": "captions with pairs of values that training never showed: both right",
    "robust_categorical_accuracy": "categorical attributes with 8 or 50 steps, zero rows, odd combinations: worst",
    "level_spearman": "rank correlation of a continuous attribute with its level words, mean",
    "frechet_ratio": "Fréchet distance of samples to renders over that of renders: attributes or appearance",
    "sample_seconds": "one sample, warm",
    "edit_target_reached": "single-attribute edits at degree 1: target reaches its level",
    "edit_drift": "the same edits: mean change of all other attributes",
    "degree_spearman": "degree 0 ... 1.5: rank correlation with the measured attribute, median",
    "degree0_exact": "degree 0 returns the reconstruction, bit for bit",
    "edit_seconds": "one edit, warm",
    "import_seconds": "`import ditlens`",
    "describer_accuracy": "describer: attributes that it names are right",
    "oracle_r2_min": "oracle: R2 of the worst continuous attribute",
    "oracle_accuracy_min": "oracle: accuracy of the worst categorical attribute",
    "render_images_per_second": "renderer at 64 x 64",
}
"""Every key in words, in the order of the table."""
GROUPS: tuple[tuple[tuple[str, ...], Callable[[Bench], Results]], ...] = (
    (("import_seconds",), speed.import_seconds),
    (("render_images_per_second",), speed.render_speed),
    (("edit_seconds",), speed.edit_seconds),
    (("sample_seconds",), samples.sample_seconds),
    (("stock_pipeline",), quality.stock_pipeline),
    (("vae_psnr_db",), quality.vae_psnr),
    (("degree0_exact",), editing.degree0_exact),
    (("oracle_r2_min", "oracle_accuracy_min"), quality.oracle),
    (("describer_accuracy",), quality.describer),
    (("caption_categorical_accuracy", "caption_level_accuracy"), quality.captions),
    (("frechet_ratio",), samples.frechet_ratio),
    (("level_spearman",), samples.level_spearman),
    (("heldout_combination_accuracy",), samples.heldout_combinations),
    (("unguided_categorical_accuracy",), samples.by_guidance),
    (("robust_categorical_accuracy",), samples.robustness),
    (("edit_target_reached", "edit_drift"), editing.edits),
    (("degree_spearman",), editing.sweeps),
)
"""Keys that are measured together, times first, and how."""
QUICK = {"captions": 4, "edits": 2, "sweeps": 2, "pictures": 4, "described": 3, "renders": 40, "repeats": 1,
         "level_seeds": 1}  # fmt: skip
"""Counts of a smoke test."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    options = parse_arguments(argv)
    try:
        model = load(options.model, device=options.device)
    except DitlensError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    counts = {name: getattr(options, name) for name in ("captions", "edits", "sweeps")}
    given = {name: count for name, count in counts.items() if count is not None}
    bench = Bench(model, **{**(QUICK if options.quick else {}), **given})
    out = options.out or (ROOT / "outputs" / "bench-quick" if options.quick else ROOT)
    return measure_all(bench, options.only, out, command(options))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Measure the portraits model.",
        epilog="Example: python -m benchmarks.model --only vae_psnr_db",
    )
    names = [*WHAT, "sheets"]
    parser.add_argument("--only", metavar="KEY,...", type=lambda text: text.split(","), default=names,
                        help=f"measure these only: {', '.join(names)}")  # fmt: skip
    parser.add_argument("--captions", type=int, help="captions to sample (1000)")
    parser.add_argument("--edits", type=int, help="single-attribute edits (100)")
    parser.add_argument("--sweeps", type=int, help="edits swept over 7 degrees (40)")
    parser.add_argument("--quick", action="store_true",
                        help="a smoke test with tiny counts; writes to outputs/bench-quick")  # fmt: skip
    parser.add_argument("--model", default="portraits", help="shipped name or folder (portraits)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda ... (cpu)")
    parser.add_argument("--out", type=Path, help="write below this folder instead of the repository")
    options = parser.parse_args(argv)
    if unknown := set(options.only) - set(names):
        parser.error(f"unknown key {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    counts = (options.captions, options.edits, options.sweeps)
    if any(count is not None and count < 1 for count in counts):
        parser.error("counts are at least 1")
    return options


def command(options: argparse.Namespace) -> str:
    """The command to repeat the run; places on this machine are left out."""
    words = [f"--{n} {getattr(options, n)}" for n in ("captions", "edits", "sweeps") if getattr(options, n)]
    words += ["--quick"] * options.quick
    if options.device != "cpu":
        words.append(f"--device {options.device}")
    if options.model != "portraits":
        words.append(f"--model {Path(options.model).name}")
    return " ".join(["python -m benchmarks.model", *words]) if words else "make bench-model"


def measure_all(bench: Bench, keys: Sequence[str], out: Path, command: str) -> int:
    """Measure, and write after every group of keys; what fails is reported and left out.

    Args:
        bench: The model and the counts.
        keys: What to measure; "sheets" stands for the contact sheets.
        out: Folder in which ``benchmarks/results`` and ``docs/model`` are written.
        command: What to type to repeat this.

    Returns:
        The exit code: 1 if something could not be measured.
    """
    path, docs, code = out / "benchmarks" / "results" / "model.json", out / "docs" / "model", 0
    for names, measure in GROUPS:
        if not set(names) & set(keys):
            continue
        try:
            measured = measure(bench)
        except (DitlensError, AssertionError, ValueError) as error:
            print(f"error: {', '.join(names)} not measured: {error}", file=sys.stderr)
            code = 1
            continue
        found = {key: measured[key] for key in names if key in measured and key in keys}
        write_page(record(path, found, command, str(bench.model.device), order=WHAT), docs)
    if "sheets" in keys:
        try:
            draw(bench, docs)
        except (DitlensError, AssertionError) as error:
            print(f"error: contact sheets not drawn: {error}", file=sys.stderr)
            code = 1
        write_page(read_results(path), docs)
    print((docs / "results.md").read_text("utf-8").partition("\n## ")[0])
    return code


# --- the page ----------------------------------------------------------------------------------------------


def write_page(results: Results, docs: Path) -> None:
    """Write ``results.md``: the table, notes, tables by attribute, and the sheets that are there."""
    targets = json.loads((ROOT / "benchmarks" / "targets.json").read_text("utf-8"))
    lines = [
        "# How good is the portraits model?",
        "",
        "Written by `make bench-model`; all pictures and texts are held out from training, the oracle reads them.",
        "",
        "| what | key | value | 95 % interval | n | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in WHAT:
        if key in results:
            lines.append(row(key, results[key], targets.get(key, "")))
    lines += ["", "## Notes", ""]
    lines += [f"- `{key}`: {results[key]['note']}." for key in WHAT if key in results]
    lines += ["", "Measured with:", ""]
    lines += sorted({f"- `{r['command']}` on {r['date']}, {r['hardware']}" for r in results.values()})
    lines += attribute_tables(results)
    for name, (title, alt) in SHEETS.items():
        if (docs / f"{name}.png").is_file():
            lines += ["", f"## {title}", "", f"![{alt}]({name}.png)"]
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "results.md").write_text("\n".join(lines) + "\n", "utf-8")


def row(key: str, entry: Result, target: str) -> str:
    """One line of the table."""
    low, high = entry["low"], entry["high"]
    interval = "" if low is None else f"{shown(low)} to {shown(high)}"
    value = f"{shown(entry['value'])} {entry['unit']}"
    cells = [WHAT[key], f"`{key}`", value, interval, str(entry["n"]), target, verdict(entry["value"], target)]
    return "| " + " | ".join(cells) + " |"


def attribute_tables(results: Results) -> list[str]:
    """Tables of the keys that have parts: one row per attribute, several keys side by side."""
    tables = (
        ("Captions, edits and descriptions by attribute",
         ("caption_categorical_accuracy", "caption_level_accuracy", "edit_target_reached", "edit_drift",
          "degree_spearman", "describer_accuracy")),
        ("The oracle by attribute", ("oracle_r2_min", "oracle_accuracy_min")),
    )  # fmt: skip
    lines: list[str] = []
    for title, keys in tables:
        there = [key for key in keys if results.get(key, {}).get("parts")]
        names = [name for name in ATTRIBUTES if any(name in results[key]["parts"] for key in there)]
        if names:
            head = ["attribute", *(f"`{key}`" for key in there)]
            lines += ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
            lines += [
                "| " + " | ".join([n, *(cell(results[k]["parts"].get(n)) for k in there)]) + " |"
                for n in names
            ]
            lines += ["", "In brackets: the number of trials."] * (title == tables[0][0])
    return lines


def cell(part: dict[str, float] | None) -> str:
    """A part as the table shows it."""
    if part is None:
        return ""
    if "reconstructed" in part:
        return f"{part['value']:.4f}, reconstructed {part['reconstructed']:.4f}"
    return f"{part['value']:.3f} ({part['n']:.0f})"


if __name__ == "__main__":
    sys.exit(main())
