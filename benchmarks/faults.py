"""Measure how faults end that were found from outside: `make bench-faults`.

Writes ``benchmarks/results/faults.json`` after every key; with ``--only``, the other keys keep what was measured
last. Most keys count tests: a fault is mended when the tests that hold its right value pass.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

from benchmarks import RESULTS, ROOT
from benchmarks.report import Result, record, shown
from ditlens.metrics.statistics import wilson

KINDS: dict[str, tuple[str, ...]] = {}
"""Every kind of fault in plain words -> the tests that hold it: files or node ids for pytest, relative to the root.

For example ``"a key of a table is lost": ("tests/unit/test_a.py::test_b", "tests/unit/test_c.py")``. A kind is
mended if each of its lines selects at least one test and all tests that they select pass.
"""

HELD_OUT = ROOT / "benchmarks" / "portraits" / "wishes_held_out.jsonl"
"""Wishes in other people's words that the lexicon was not written from."""


class MeasureError(Exception):
    """Something could not be measured."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    parser = argparse.ArgumentParser(
        description="Measure how faults end that were found from outside.",
        epilog="Example: python -m benchmarks.faults --only raw_errors",
    )
    parser.add_argument("--only", metavar="KEY,...", type=lambda text: text.split(","), default=list(MEASURES),
                        help=f"measure these only: {', '.join(MEASURES)}")  # fmt: skip
    keys = parser.parse_args(argv).only
    if unknown := set(keys) - set(MEASURES):
        parser.error(f"unknown key {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    path, code = RESULTS / "faults.json", 0
    for key in (key for key in MEASURES if key in keys):
        try:
            measured = MEASURES[key]()
        except MeasureError as error:
            print(f"error: {key} not measured: {error}", file=sys.stderr)
            code = 1
            continue
        result = record(path, {key: measured}, "make bench-faults", order=MEASURES)[key]
        print(f"{key}: {shown(result['value'])} {result['unit']}")
    return code


# --- tests -------------------------------------------------------------------------------------------------


def outcomes(*paths: str) -> dict[str, bool]:
    """Run tests, slow ones too; the id of each, and whether it passed. What was skipped says nothing.

    Raises:
        MeasureError: If a file is missing or pytest could not run.
    """
    for path in paths:
        if not (ROOT / path.partition("::")[0]).is_file():
            raise MeasureError(f"there is no {path.partition('::')[0]}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider",
             "-m", "slow or not slow", f"--junitxml={report}", *paths],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode not in (0, 1):  # 1: tests failed
            raise MeasureError(
                f"pytest {' '.join(paths)} left with {done.returncode}:\n{done.stdout[-2000:]}"
            )
        cases = list(ElementTree.parse(report).iter("testcase"))
    return {
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}":
            case.find("failure") is None and case.find("error") is None
        for case in cases if case.find("skipped") is None
    }  # fmt: skip


def failures(path: str, what: str) -> Result:
    """How many tests of a file fail, of how many; `what` says what a test stands for."""
    found = outcomes(path)
    failed = [name for name, passed in found.items() if not passed]
    note = f"tests of {path} that fail: {what}"
    return {
        "value": len(failed),
        "n": len(found),
        "unit": "failures",
        "note": note,
        "parts": {"failed": failed},
    }


def kinds_fixed() -> Result:
    """Kinds of `KINDS` whose tests all pass."""
    if not KINDS:
        raise MeasureError("the table KINDS of benchmarks/faults.py is empty")
    found = outcomes(*dict.fromkeys(name for names in KINDS.values() for name in names))
    parts = {kind: all(passes(found, name) for name in names) for kind, names in KINDS.items()}
    open_ = [kind for kind, fixed in parts.items() if not fixed]
    note = f"kinds of faults whose tests all pass; not yet: {', '.join(open_) or 'none'}"
    return {"value": sum(parts.values()) / len(parts), "n": len(parts), "unit": "share", "note": note,
            "parts": parts}  # fmt: skip


def passes(found: dict[str, bool], name: str) -> bool:
    """Whether a line of `KINDS` selects at least one of the tests that ran, and all that it selects passed."""
    chosen = [ok for test, ok in found.items() if test == name or test.startswith((f"{name}::", f"{name}["))]
    return bool(chosen) and all(chosen)


# --- wishes ------------------------------------------------------------------------------------------------


def wishes(key: str) -> Result:
    """Wishes that the lexicon was not written from: the share understood, or how many are silently misread."""
    from benchmarks.portraits.wishes import score

    if not HELD_OUT.is_file():
        raise MeasureError(f"there is no {HELD_OUT.relative_to(ROOT).as_posix()}")
    found = score(HELD_OUT)
    count = found.feasible + found.infeasible
    if key == "wishes_misread":
        note, parts = "wishes that came to something else", {"wishes": [case.wish for case in found.misread]}
        return {"value": len(found.misread), "n": count, "unit": "wishes", "note": note, "parts": parts}
    low, high = wilson(found.understood, found.feasible)
    note = (
        "of the wishes that the world can draw: all that is wanted is reached and nothing else changes; "
        f"{len(found.refused)} are refused; {found.refused_rightly} of {found.infeasible} others are refused with "
        "a suggestion"
    )
    return {"value": found.understood / found.feasible, "low": low, "high": high, "n": found.feasible,
            "unit": "share", "note": note, "parts": {"refused": [case.wish for case in found.refused]}}  # fmt: skip


# --- edits and captures ------------------------------------------------------------------------------------


def residual_ratio() -> Result:
    """What an edit leaves to the exact target, above the autoencoder's share: EMS over the best baseline."""
    from benchmarks.edit import measure_residual

    return measure_residual()


def overhead() -> Result:
    """What capturing costs, as `make bench-capture` measures it."""
    from benchmarks import capture

    try:
        return capture.overhead_cpu(SimpleNamespace(**capture.COUNTS))["overhead_cpu_ratio"]
    except RuntimeError as error:
        raise MeasureError(str(error)) from error


MEASURES: dict[str, Callable[[], Result]] = {
    "kinds_fixed": kinds_fixed,
    "checkpoint_failures": partial(
        failures, "tests/contracts/test_gradients.py",
        "a class and an option of a capture under which gradients change, with checkpointing or without",
    ),
    "raw_errors": partial(
        failures, "tests/unit/test_wrong_kinds.py", "a public entry that answers a wrong kind with a raw error"
    ),
    "lost_under_faults": partial(
        failures, "tests/unit/test_write_faults.py", "a writer that loses something or leaves half a file"
    ),
    "negations_wrong": partial(
        failures, "tests/unit/test_negations.py", "a negated wish that becomes the opposite edit"
    ),
    "wishes_understood": partial(wishes, "wishes_understood"),
    "wishes_misread": partial(wishes, "wishes_misread"),
    "ems_residual_ratio": residual_ratio,
    "overhead_cpu_ratio": overhead,
}  # fmt: skip
"""Every key, and how it is measured."""

if __name__ == "__main__":
    sys.exit(main())
