"""Run every method on every item of a suite: resumable, one file for each method and item, nothing done twice.

The folder: ``bench.json`` says what runs, ``parts/METHOD/ITEM.json`` holds the rows of one method and item at all
degrees, ``images/`` and ``sources/`` the images. From these, `report` writes ``rows.csv``, ``items.csv``,
``summary.json``, the contact sheets and the page, at any time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ditlens import images
from ditlens.bench.entries import Entry
from ditlens.bench.folder import COLUMNS, FIRST, LAST
from ditlens.bench.report.page import write_page
from ditlens.bench.report.sheets import write_sheets
from ditlens.bench.scores import Scorer
from ditlens.bench.suites import Suite
from ditlens.bench.summary import summarise
from ditlens.ems.edit import results
from ditlens.ems.extract import degree_of
from ditlens.ems.plan import EditSettings, make_plan
from ditlens.errors import BenchError, DitlensError, SettingError
from ditlens.files import user_path, write_json, write_whole
from ditlens.flow import seed_of
from ditlens.models.identity import byte_hash, fingerprint, setup
from ditlens.models.identity import weights as weights_of
from ditlens.models.model import Model
from ditlens.tables import Progress, columns, progress_bar
from ditlens.version import __version__
from ditlens.worlds.world import Continuous, SuiteItem

DEGREES = (0.25, 0.5, 0.75, 1.0, 1.5)
"""They begin low: some methods reach an effect of 0.8 before the degree 0.5."""
WRITES = ("sources", "images", "masks", "sheets", "items.csv", "rows.csv", "summary.json", "index.html")
"""What a benchmark writes beside ``bench.json`` and ``parts``."""


def plan_bench(
    model: Model,
    suite: Suite,
    entries: Mapping[str, Entry],
    folder: Path,
    degrees: Sequence[float],
    seed: int,
    scorer: Scorer | None = None,
) -> dict[str, Any]:
    """Write ``bench.json``, or check that what is there is the same run.

    Raises:
        SettingError: If a degree is out of range or there is nothing to run.
        BenchError: If the folder holds another run, or files of somebody else.
    """
    degrees, seed = [degree_of(degree) for degree in degrees], seed_of(seed)
    if not (entries and suite.items and degrees):
        raise SettingError(
            "There is nothing to run: a benchmark needs a suite with items, methods and degrees."
        )
    scorer = scorer or Scorer(model)
    known = {} if model.world is None else model.world.attributes
    about: dict[str, Any] = {
        "suite": suite.name,
        "model": model.name,
        "made_with": made_with(model, scorer),
        "setup": setup(model),
        "ditlens": __version__,
        "torch": torch.__version__,
        "seed": seed,
        "degrees": [float(d) for d in degrees],
        "count": len(suite.items),
        "methods": {name: entry.settings() for name, entry in entries.items()},
        "metrics": scorer.about(),
        "absent": scorer.absent(),
        "continuous": [name for name, attribute in known.items() if isinstance(attribute, Continuous)],
    }
    path = folder / "bench.json"
    if path.is_file():
        try:
            old = json.loads(path.read_text("utf-8"))
            about["degrees"] = sorted({*old["degrees"], *about["degrees"]})
            about["methods"] = {**old["methods"], **about["methods"]}
            about["count"] = max(about["count"], old.get("count", 0))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise BenchError(
                f"{path} is damaged: {error}. Delete it; the parts beside it stay valid."
            ) from error
        for key in ("suite", "model", "seed"):
            if old.get(key) != about[key]:
                raise BenchError(
                    f"{folder} holds another benchmark: its {key} is {old.get(key)!r}, now it is {about[key]!r}. "
                    "Choose another folder with --out, or delete this one."
                )
    elif not (folder / "parts").is_dir() and (taken := [name for name in WRITES if (folder / name).exists()]):
        raise BenchError(
            f"{folder} is not the folder of a benchmark, and its {taken[0]} could be overwritten. Name a new "
            "folder with --out."
        )
    write_json(path, about)
    return about


def made_with(model: Model, scorer: Scorer) -> dict[str, str]:
    """What all rows of a run have in common: the weights, and the metrics with the networks that they use."""
    found: dict[str, Any] = {name: about["identity"] for name, about in scorer.about().items()}
    for name, module in {"vae": model.vae, **(model.world.networks if model.world else {})}.items():
        found[name] = [(key, byte_hash(value)) for key, value in weights_of(module)]
    return {"weights": fingerprint(model), "metrics": _digest(found)}


def origin(
    common: Mapping[str, str], settings: Mapping[str, Any], item: SuiteItem, seed: int
) -> dict[str, Any]:
    """Everything that decides the rows of a method and item: rows made from anything else are not mixed with these.

    Args:
        common: From `made_with`.
        settings: From `Entry.settings`.
        item: What was asked: items of two suites may share a name.
        seed: The item's seed.
    """
    texts = [item.kind, item.instruction, item.source_text, item.target_text]
    asked = _digest([*texts, dict(item.wanted), seed])
    return {
        **common,
        "settings": json.loads(json.dumps(settings)),
        "asked": asked,
    }  # as JSON: tuples are lists


def item_seed(seed: int, k: int) -> int:
    """The seed of item k."""
    return (seed + k) % 2**63


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def kept_rows(folder: Path, method: str, item: str, origin: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of one method and item that were made from this; none if they are missing or damaged."""
    try:
        part = json.loads((folder / "parts" / method / f"{item}.json").read_text("utf-8"))
        return list(part["rows"]) if origin.items() <= part.items() else []
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return []


def in_turn(
    suite: Suite, entries: Mapping[str, Entry], share: tuple[int, int]
) -> list[tuple[Entry, SuiteItem]]:
    """All methods and items in the order in which one of several processes visits them: its own share first.

    The shares are taken of everything, not of what is missing now, because the others may have begun. The shares of
    the others follow from the end, so that processes that help each other meet only once.
    """
    everything = [(entry, item) for item in suite.items for entry in entries.values()]
    others = [job for k, job in enumerate(everything) if k % share[1] != share[0]]
    return [*everything[share[0] :: share[1]], *reversed(others)]


def run_bench(
    model: Model,
    suite: Suite,
    entries: Mapping[str, Entry],
    folder: str | Path,
    *,
    degrees: Sequence[float] = DEGREES,
    seed: int = 0,
    share: tuple[int, int] = (0, 1),
    progress: bool | Progress = True,
) -> int:
    """Run what is missing of a benchmark; if it is interrupted, the same call continues, and tries errors again.

    Args:
        model: The model.
        suite: Images and instructions.
        entries: Methods.
        folder: Where everything is written.
        degrees: Editing degrees.
        seed: Item k is edited with the seed ``seed + k`` (after the largest comes 0), by every method.
        share: (k, n): as process k of n, run every n-th method and item, then what the others have not reached.
        progress: Whether a bar is shown; or a function, called with (done, total, what) after every edit.

    Returns:
        How many methods and items were run.

    Raises:
        SettingError: If there is nothing to run, or a degree is out of range.
        BenchError: If the folder holds another benchmark.
    """
    folder, scorer, wanted = user_path(folder), Scorer(model), [float(d) for d in degrees]
    plan_bench(model, suite, entries, folder, degrees, seed, scorer)
    common = made_with(model, scorer)
    seeds = {item.id: item_seed(seed, k) for k, item in enumerate(suite.items)}
    jobs = [
        (entry, item, origin(common, entry.settings(), item, seeds[item.id]))
        for entry, item in in_turn(suite, entries, share)
    ]

    def kept(entry: Entry, item: SuiteItem, made_from: dict, errors: bool) -> tuple[list[dict], list[float]]:
        """The rows there are, with those of errors or without, and the degrees that are missing."""
        rows = kept_rows(folder, entry.name, item.id, made_from)
        rows = [row for row in rows if errors or not row["error"]]
        return rows, [d for d in wanted if d not in {row["degree"] for row in rows}]

    todo = [(*job, changed(part_path(folder, *job[:2]))) for job in jobs if kept(*job, errors=False)[1]]
    done = 0
    with progress_bar("edits", progress) as show:
        for seen, (entry, item, made_from, before) in enumerate(todo, 1):
            path = part_path(folder, entry, item)
            others = changed(path) != before  # what another process has just done is not tried again
            rows, missing = kept(entry, item, made_from, errors=others)
            if not missing:
                continue
            done += 1
            rows += edit_item(model, entry, item, folder, missing, seeds[item.id], scorer)
            part = {**made_from, "rows": sorted(rows, key=lambda row: row["degree"])}
            write_whole(path, json.dumps(part))
            show(seen, len(todo), f"{entry.name}, {item.id}")
    return done


def part_path(folder: Path, entry: Entry, item: SuiteItem) -> Path:
    """The file with the rows of one method and item."""
    return folder / "parts" / entry.name / f"{item.id}.json"


def changed(path: Path) -> int:
    """When a file was last changed; 0 if it is not there."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def edit_item(
    model: Model,
    entry: Entry,
    item: SuiteItem,
    folder: Path,
    degrees: Sequence[float],
    seed: int,
    scorer: Scorer,
) -> list[dict[str, Any]]:
    """Edit one item with one method at all degrees; an error becomes rows with its message."""
    base = {"item": item.id, "kind": item.kind, "method": entry.name, "seed": seed}
    started = time.perf_counter()
    try:
        settings = EditSettings(
            source_text=item.source_text or None, target_text=item.target_text or None, seed=seed,
            method=entry.method, mask=entry.mask, tokens=entry.tokens, pooled=entry.pooled,
        )  # fmt: skip
        plan = make_plan(model, item.image(), item.instruction, settings)
        (state,) = deque(plan.states(degrees), maxlen=1)  # the last one
        edits = results(plan, degrees, state, plan.clock())
        calls = state.calls + plan.mask_cost[0]
        seconds = (time.perf_counter() - started) / len(degrees)
        path, scores = scorer.path(edits), [scorer.score(item, edit) for edit in edits]
    except DitlensError as error:
        why = f"{type(error).__name__}: {error}"
        return [{**base, "degree": float(d), "error": why, "picture": ""} for d in degrees]
    images.save_image(folder / "sources" / f"{item.id}.png", plan.source_image)
    rows = []
    for edit, scored in zip(edits, scores, strict=True):
        file = folder / "images" / entry.name / f"{item.id}_{edit.degree:g}.png"
        images.save_image(file, edit.image)
        rows.append({**base, "degree": edit.degree, "calls": calls, "nfe": edit.evaluations,
                     "seconds": round(seconds, 3), **scored, **path,
                     "source_text": edit.source_text, "target_text": edit.target_text,
                     "picture": str(file.relative_to(folder).as_posix()), "error": ""})  # fmt: skip
    return rows


def collect(folder: Path, suite: Suite) -> list[dict[str, Any]]:
    """Write ``items.csv`` and ``rows.csv`` from the parts; returns the rows.

    Raises:
        BenchError: If there are no rows of this run.
    """
    rows: list[dict[str, Any]] = []
    about = json.loads((folder / "bench.json").read_text("utf-8"))
    for method, settings in about["methods"].items():
        for k, item in enumerate(suite.items):
            now = origin(about["made_with"], settings, item, item_seed(about["seed"], k))
            rows += kept_rows(folder, method, item.id, now)
    if not rows:
        raise BenchError(
            f"{folder} holds no rows that were made with the weights, metrics and settings of its bench.json. "
            f"Make them: ditlens bench edit --out {folder}."
        )
    names = dict.fromkeys(name for row in rows for name in row)
    write_table(folder / "rows.csv", [*FIRST, *(n for n in names if n not in COLUMNS), *LAST], rows)
    lines = [
        {
            "item": item.id, "kind": item.kind, "instruction": item.instruction, "source_text": item.source_text,
            "target_text": item.target_text, "picture": f"sources/{item.id}.png",
            "mask": save_mask(folder, item), "licence": item.licence,
        }
        for item in suite.items
        if (folder / "sources" / f"{item.id}.png").is_file()
    ]  # fmt: skip
    write_table(folder / "items.csv", list(lines[0]) if lines else ["item"], lines)
    summary = summarise(rows, list(about["metrics"]), about.get("continuous", []))
    # JSON has neither NaN nor infinity
    finite = json.loads(json.dumps(summary), parse_constant=lambda _: None)
    write_json(folder / "summary.json", finite)
    return rows


def report(folder: Path, suite: Suite) -> Path:
    """Write the tables, the summary, the contact sheets and the page; returns the page's file.

    Raises:
        BenchError: If there are no rows of this run.
    """
    collect(folder, suite)
    write_sheets(folder)
    return write_page(folder)


def table_for_people(folder: Path, methods: Sequence[str], degree: float = 1.0) -> tuple[str, dict[str, Any]]:
    """The main table at one degree, as text and as data."""
    summary = json.loads((folder / "summary.json").read_text("utf-8"))["methods"]
    formats = {"success": "{:.0%}", "effect": "{:.2f}", "drift": "{:.3f}", "net_drift": "{:.3f}",
               "residual": "{:.3f}", "psnr_outside": "{:.1f}"}  # fmt: skip
    header = ("method", "success", "effect", "drift", "net drift", "residual", "PSNR outside",
              "drift at effect 0.8", "NFE", "s")  # fmt: skip
    lines: list[tuple[str, ...]] = []
    data: dict[str, Any] = {}
    for name in methods:
        part = summary.get(name, {})
        at: dict[str, Any] = next((m for d, m in part.get("degrees", {}).items() if float(d) == degree), {})
        matched, cost = part.get("matched", {}).get("drift_at_0.8", {}), part.get("cost", {})
        cells = [(form, at.get(metric, {}).get("value")) for metric, form in formats.items()]
        cells += [
            ("{:.3f}", matched.get("value")),
            ("{:.0f}", cost.get("nfe")),
            ("{:.2f}", cost.get("seconds")),
        ]
        lines.append((name, *("-" if value is None else form.format(value) for form, value in cells)))
        data[name] = {"degree": degree, **{m: at.get(m) for m in formats}, "matched": matched, "cost": cost}
    return columns(lines, header), data


def save_mask(folder: Path, item: SuiteItem) -> str:
    """Write the mask of an item as an image; returns its name, empty if it has none."""
    if item.mask is None:
        return ""
    path = folder / "masks" / f"{item.id}.png"
    images.save_image(path, images.to_image(item.mask.float().expand(1, 3, -1, -1)))
    return path.relative_to(folder).as_posix()


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file; what has no value is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    write_whole(path, text.getvalue())
