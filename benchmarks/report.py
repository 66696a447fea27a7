"""Print every result in `benchmarks/results` beside its target; leaves with 1 if a file cannot be read.

A results file maps a key to ``{"value", "low", "high", "n", "unit", "command", "date", "hardware", "note"}``.
A target in `targets.json` is ``">= number"`` or ``"<= number"``, or ``"high <= number"`` for the upper end of the
interval. A missed target is printed as such; it is
not an error.
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
    rows, code = [], 0
    for path in sorted((HERE / "results").glob("*.json")):
        try:
            results = json.loads(path.read_text("utf-8"))
            rows += [row(path.stem, key, result, targets.get(key, "")) for key, result in results.items()]
        except (ValueError, TypeError, AttributeError) as error:
            print(f"error: {path} is not a results file: {error}", file=sys.stderr)
            code = 1
    print(columns(rows, header=HEADER) if rows else "no results yet; type: make bench-model")
    return code


def row(suite: str, key: str, result: dict[str, Any], target: str) -> tuple[str, ...]:
    """One line of the table."""
    value, low, high = result.get("value"), result.get("low"), result.get("high")
    interval = "" if low is None or high is None else f"{shown(low)} to {shown(high)}"
    said = verdict(high if target.startswith("high ") else value, target.removeprefix("high "))
    count, unit, date = (str(result.get(name) or "") for name in ("n", "unit", "date"))
    return suite, key, shown(value), interval, count, unit, target, said, date


def shown(value: Any) -> str:
    """A number with four digits; anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def verdict(value: Any, target: str) -> str:
    """Whether a value meets its target, in a word; empty where there is nothing to compare."""
    if not target or not isinstance(value, (int, float)):
        return ""
    sign, limit = target.split()
    return "met" if (value >= float(limit) if sign == ">=" else value <= float(limit)) else "missed"


if __name__ == "__main__":
    sys.exit(main())
