"""The command line of a benchmark whose keys are measured one by one: `benchmarks.house`, `.faults`, `.analyse`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.report import Result, record, shown


class MeasureError(Exception):
    """Something could not be measured."""


def measure_keys(
    path: Path, measures: Mapping[str, Callable[[], Result]], about: str, argv: Sequence[str] | None = None
) -> int:
    """Measure keys and write them to a results file after each; the other keys keep what was measured last.

    Args:
        path: The results file; ``make bench-STEM`` measures it again.
        measures: Every key, and how it is measured.
        about: What the benchmark is for, in a sentence.
        argv: The command line, by default that of the program.

    Returns:
        The exit code: 1 if something could not be measured.
    """
    name, known = path.stem, ", ".join(measures)
    parser = argparse.ArgumentParser(
        description=about, epilog=f"Example: python -m benchmarks.{name} --only {list(measures)[-1]}"
    )
    parser.add_argument("--only", metavar="KEY,...", type=lambda text: text.split(","), default=list(measures),
                        help=f"measure these only: {known}")  # fmt: skip
    keys = parser.parse_args(argv).only
    if unknown := set(keys) - set(measures):
        parser.error(f"unknown key {', '.join(sorted(unknown))}; there are {known}")
    code = 0
    for key in (key for key in measures if key in keys):
        try:
            measured = measures[key]()
        except MeasureError as error:
            print(f"error: {key} not measured: {error}", file=sys.stderr)
            code = 1
            continue
        result = record(path, {key: measured}, f"make bench-{name}", order=measures)[key]
        print(f"{key}: {shown(result['value'])} {result['unit']}")
    return code
