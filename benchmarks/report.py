"""Print every result in `benchmarks/results` beside its target, and write the same to ``docs/benchmarks.md``.

Exits with 1 if a file cannot be read.

A results file, which `record` writes, maps a key to a result with the fields `FIELDS`. The value is null where it
could not be measured; the note says why.

A target in `targets.json` is ``">= number"`` or ``"<= number"``, or ``"high <= number"`` for the upper end of the
interval. A missed target is printed as such; it is not an error.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, ROOT
from ditlens.files import write_json, write_whole
from ditlens.tables import columns

Result = dict[str, Any]
Results = dict[str, Result]
FIELDS = ("value", "low", "high", "n", "unit", "command", "date", "hardware", "note", "parts")
"""The fields of a result, in their order."""
HEADER = ("suite", "key", "value", "95 % interval", "n", "unit", "target", "", "date")


def record(
    path: Path, found: Mapping[str, Result], command: str, device: str = "cpu", order: Iterable[str] = ()
) -> Results:
    """Add results to a file; keys that were not measured this time keep what was measured last.

    Args:
        path: The results file.
        found: The new results, by key, without the fields that the others have in common.
        command: What to type to measure them again.
        device: Where they were measured.
        order: Order of the keys in the file; by default new keys come last.

    Returns:
        All results in the file.
    """
    about = {"command": command, "date": datetime.date.today().isoformat(), "hardware": hardware(device)}
    new = {key: ordered({"low": None, "high": None, **result, **about}) for key, result in found.items()}
    results = read_results(path) | new
    results = {key: results[key] for key in dict.fromkeys([*order, *results]) if key in results}
    write_json(path, results)
    return results


def read_results(path: Path) -> Results:
    """What has been measured so far; another run may measure other keys at the same time."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def ordered(result: Result) -> Result:
    """A result with its `FIELDS` in order, numbers with six digits."""
    return {name: rounded(result[name]) for name in FIELDS if name in result}


def rounded(value: Any) -> Any:
    """Floats with six digits, also inside dictionaries."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def hardware(device: str = "cpu") -> str:
    """Processor and threads, or the graphics card."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{threads()}, {name or platform.processor() or platform.machine()}"


def threads() -> str:
    """How many threads torch computes with, in words."""
    import torch

    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count > 1)}"


def load_note() -> str:
    """Threads used, and whether other programs were running."""
    import torch

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    busy = f", the machine was busy (load {load:.1f})" if load > torch.get_num_threads() + 0.5 else ""
    return f"{threads()}{busy}"


# --- the table ---------------------------------------------------------------------------------------------


def main(root: Path = ROOT) -> int:
    """Print the table of the repository at `root`; returns the exit code."""
    targets = json.loads((root / "benchmarks" / "targets.json").read_text("utf-8"))
    rows, suites, code = [], {}, 0
    for path in sorted((root / "benchmarks" / RESULTS.name).glob("*.json")):
        try:
            results = read_results(path)
            rows += [row(path.stem, key, result, targets.get(key, "")) for key, result in results.items()]
            suites[path.stem] = results
        except (ValueError, TypeError, AttributeError) as error:
            print(f"error: {path} is not a results file: {error}", file=sys.stderr)
            code = 1
    print(columns(rows, header=HEADER) if rows else "no results yet; type: make bench-model")
    if rows and not code:
        write_whole(root / "docs" / "benchmarks.md", page(rows, suites))
    return code


def page(rows: list[tuple[str, ...]], suites: dict[str, dict[str, Any]]) -> str:
    """All results as a page: one table for each suite, the notes, and the methods side by side."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` from `benchmarks/results`. A target that is missed says so.",
    ]
    for suite, results in suites.items():
        lines += ["", f"## {suite}: `make bench-{suite}`", "", *markdown(HEADER[1:])]
        lines += markdown(*(cells[1:] for cells in rows if cells[0] == suite))
        lines += [
            "",
            *(f"- `{key}`: {entry['note']}." for key, entry in results.items() if entry.get("note")),
        ]
    methods = suites.get("edit", {}).get("methods_in_harness", {}).get("parts", {})
    if methods:
        names = list(dict.fromkeys(name for entry in methods.values() for name in entry))
        lines += ["", "## Editing methods at degree 1", "", *markdown(("method", *names))]
        for name, entry in methods.items():
            lines += markdown((name, *(short(entry.get(column)) for column in names)))
        lines += ["", "`value` is the share of edits that reached their target, `low` to `high` its 95 % interval, "
                  "`n` the number of edits; `drift_at_0.5` and `drift_at_0.8` are the drift of all other "
                  "attributes where the mean effect is 0.5 and 0.8, empty where it never is. Rows that begin with "
                  "`ems-` are EMS with one thing changed; `-mask` are baselines with EMS's mask "
                  "(ditlens/bench/entries.py). Rows with another `n` are other edits: what compares are "
                  "the ratios in benchmarks/results/edit.json, each taken on the edits of both."]  # fmt: skip
    return "\n".join(lines) + "\n"


def markdown(*rows: tuple[str, ...]) -> list[str]:
    """Rows of a table; a header is followed by its rule."""
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    is_head = len(rows) == 1 and rows[0][0] in ("key", "method")
    return [*lines, "|" + "---|" * len(rows[0])] if is_head else lines


def short(value: Any) -> str:
    """A number with three digits; empty where there is none."""
    return f"{value:.3g}" if isinstance(value, int | float) else ""


def row(suite: str, key: str, result: dict[str, Any], target: str) -> tuple[str, ...]:
    """One line of the table."""
    value, low, high = result.get("value"), result.get("low"), result.get("high")
    interval = "" if low is None or high is None else f"{shown(low)} to {shown(high)}"
    said = verdict(high if target.startswith("high ") else value, target.removeprefix("high "))
    count, unit, date = (str(result.get(name) or "") for name in ("n", "unit", "date"))
    return suite, key, shown(value), interval, count, unit, target, said, date


def shown(value: Any) -> str:
    """A number with four digits; anything else as it is; None is "not measured"."""
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def verdict(value: Any, target: str) -> str:
    """Whether a value meets its target, in one word; empty where there is nothing to compare."""
    if not target or not isinstance(value, (int, float)):
        return ""
    sign, limit = target.split()
    return "met" if (value >= float(limit) if sign == ">=" else value <= float(limit)) else "missed"


if __name__ == "__main__":
    sys.exit(main())
