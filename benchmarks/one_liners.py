"""How many of the lines of docs/reference/in_one_line.md draw their figure (`one_liners`)."""

from __future__ import annotations

from benchmarks.faults import outcomes
from benchmarks.report import Result

TESTS = "tests/integration/test_one_liners.py"


def measure() -> Result:
    """Run them as the tests do."""
    found = {name: passed for name, passed in outcomes(TESTS).items() if "test_it_runs" in name}
    missed = [name.partition("[")[2].rstrip("]") for name, passed in found.items() if not passed]
    note = f"lines of docs/reference/in_one_line.md, run by {TESTS}; fail: {', '.join(missed) or 'none'}"
    return {"value": sum(found.values()), "n": len(found), "unit": "lines", "note": note}
