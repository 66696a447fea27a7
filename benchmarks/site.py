"""Measure the site, the playground and the fast backend: `make bench-site`.

Writes ``benchmarks/results/site.json`` after every key; with ``--only``, other keys keep what was measured last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks import RESULTS, backend
from benchmarks.keys import measure_keys
from benchmarks.report import Result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    return measure_keys(RESULTS / "site.json", MEASURES, "Measure the site and the playground.", argv)


MEASURES: dict[str, Callable[[], Result]] = {
    "onnx_edit_ratio": backend.onnx_edit_ratio,
}
"""Every key, and how it is measured."""

if __name__ == "__main__":
    sys.exit(main())
