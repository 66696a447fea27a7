"""Measure the site, the playground and the fast backend: `make bench-site`.

Writes ``benchmarks/results/site.json`` after every key; with ``--only``, other keys keep what was measured last.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from benchmarks import RESULTS, backend, playground
from benchmarks.keys import measure_keys
from benchmarks.report import Result

TRIALS: dict[str, Result] = {
    "first_edit_s": {
        "value": 20,
        "n": 3,
        "unit": "s",
        "parts": {"wide": 20, "wide, refused once": 30, "phone, 400 px": 19},
        "note": "median of three first wishes in own words, by a newcomer who had seen nothing of it: a program "
        "driving the page from screenshots; times in the page are measured (1.3 to 2.7 s), reading and typing "
        "estimated (17 s and more). One wish was typed before the portrait was there and was lost; since then a "
        "wish waits for the portrait. No person has tried it",
    },
}
"""Results of trials by people, entered by hand: the number, and in the note how it came about."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    return measure_keys(RESULTS / "site.json", MEASURES, "Measure the site and the playground.", argv)


MEASURES: dict[str, Callable[[], Result]] = {
    **{
        measure.__name__: measure
        for measure in (
            playground.playground_parity,
            playground.playground_first_picture_s,
            playground.playground_edit_s,
            playground.playground_drag_ms,
            playground.playground_mb,
            playground.playground_foreign,
            playground.a11y_serious,
            playground.docs_problems,
            backend.onnx_edit_ratio,
        )
    },
    **{key: functools.partial(dict, trial) for key, trial in TRIALS.items()},
}
"""Every key, and how it is measured."""

if __name__ == "__main__":
    sys.exit(main())
