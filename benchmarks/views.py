"""Measure the editor and the explorer: `make bench-views`.

Writes ``benchmarks/results/views.json`` after every key; with ``--only``, the other keys keep what was measured
last. A key is a function of `MEASURES`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks import RESULTS, app, browser, edit_speed, previews
from benchmarks.keys import measure_keys
from benchmarks.report import Result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    about = "Measure the editor and the explorer."
    return measure_keys(RESULTS / "views.json", MEASURES, about, argv)


MEASURES: dict[str, Callable[[], Result]] = {
    "preview_psnr_db": previews.preview_psnr_db,
    "edit_seconds": edit_speed.edit_seconds,
    "edit_quality_kept": edit_speed.edit_quality_kept,
    "app_sessions_mixed": app.app_sessions_mixed,
    **{
        each.__name__: each
        for each in (
            browser.drag_ms,
            browser.renders_after_50_events,
            browser.browser_tests,
            browser.explorer_tests,
            browser.static_after_reopen,
            browser.a11y_serious,
        )
    },
}
"""Every key, and how it is measured."""

if __name__ == "__main__":
    sys.exit(main())
