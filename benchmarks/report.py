"""Print every result in `benchmarks/results` beside its target, and write the same to ``docs/benchmarks.md``.

Leaves with 1 if a file cannot be read.

A results file maps a key to ``{"value", "low", "high", "n", "unit", "command", "date", "hardware", "note"}``.
The value is null where it could not be measured; the note says why.

A target in `targets.json` is ``">= number"`` or ``"<= number"``, or ``"high <= number"`` for the upper end of the
interval. A missed target is printed as such; it is not an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ditlens.tables import columns

HERE = Path(__file__).parent
HEADER = ("suite", "key", "value", "95 % interval", "n", "unit", "target", "", "date")


def main() -> int:
    """Print the table; returns the exit code."""
    targets = json.loads((HERE / "targets.json").read_text("utf-8"))
    rows, suites, code = [], {}, 0
    for path in sorted((HERE / "results").glob("*.json")):
        try:
            results = json.loads(path.read_text("utf-8"))
            rows += [row(path.stem, key, result, targets.get(key, "")) for key, result in results.items()]
            suites[path.stem] = results
        except (ValueError, TypeError, AttributeError) as error:
            print(f"error: {path} is not a results file: {error}", file=sys.stderr)
            code = 1
    print(columns(rows, header=HEADER) if rows else "no results yet; type: make bench-model")
    if rows and not code:
        docs = HERE.parent / "docs"
        docs.mkdir(exist_ok=True)
        (docs / "benchmarks.md").write_text(page(rows, suites), "utf-8")
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
    """Rows of a table; after a head of its own the rule."""
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
    """A number with four digits; anything else as it is; None is what could not be measured."""
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def verdict(value: Any, target: str) -> str:
    """Whether a value meets its target, in a word; empty where there is nothing to compare."""
    if not target or not isinstance(value, (int, float)):
        return ""
    sign, limit = target.split()
    return "met" if (value >= float(limit) if sign == ">=" else value <= float(limit)) else "missed"


if __name__ == "__main__":
    sys.exit(main())
