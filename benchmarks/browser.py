"""What the browser shows: the time of a drag, full renders, the tests in Chromium, and what axe-core finds serious.

Needs what `make test-browser` needs; axe-core's script is named by AXE_JS.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.keys import MeasureError
from benchmarks.report import Result, load_note

MOVES = 50
WATCH = """
window.times = [];
let started = 0;
addEventListener("pointermove", (event) => { if (event.buttons) started = performance.now(); }, true);
new MutationObserver(() => requestAnimationFrame(() => {
    if (started) times.push(performance.now() - started);
    started = 0;
})).observe(document.querySelector(".ditlens-stage"), { attributeFilter: ["data-after"] });
"""
"""From a move of the mouse to the frame in which the loaded picture is painted."""


@contextlib.contextmanager
def opened(kind: str) -> Iterator[Any]:
    """A page of JupyterLab or Voilà with an editor whose degree can be dragged."""
    from playwright.sync_api import sync_playwright

    from tests.browser import pages

    with tempfile.TemporaryDirectory() as folder:
        server = pages.Server(kind, Path(folder, "server"))
        pages.notebook(server.folder / "editor.ipynb", pages.OPEN)
        try:
            server.start()
            with (
                sync_playwright() as playwright,
                pages.browser(playwright, Path(folder, "profile")) as context,
            ):
                person = pages.reader(context, server).open("editor.ipynb")
                person.extract("make her smile broadly and add a crown")
                yield person
                person.close()
        finally:
            server.stop()


def drag_ms() -> Result:
    """From the event to the picture on the page, while the degree is dragged in JupyterLab; median of 50."""
    with opened("lab") as person:
        person.page.evaluate(WATCH)
        box, mouse = person.handle().bounding_box(), person.page.mouse
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse.move(x, y)
        mouse.down()
        for k in range(1, MOVES + 1):
            mouse.move(x - 20 - 8 * (k % 7), y)
            with contextlib.suppress(Exception):  # a picture that is the same makes no event
                person.page.wait_for_function(f"times.length >= {k}", timeout=3000)
        times = person.page.evaluate("times")
        mouse.up()
    if len(times) < MOVES - 5:
        raise MeasureError(f"only {len(times)} of {MOVES} moves were answered")
    p95 = statistics.quantiles(times, n=20)[-1]
    note = (
        f"a mouse on the slider, move by move, until the picture is painted: p95 {p95:.0f} ms; {load_note()}"
    )
    value = statistics.median(times)
    return {"value": value, "n": len(times), "unit": "ms", "note": note, "parts": {"p95": p95}}


def renders_after_50_events() -> Result:
    """Edits that are truly made for 50 moves of the degree within 2 s, in JupyterLab."""
    from tests.browser.test_editor_page import COUNT, drag, made

    with opened("lab") as person:
        person.run(COUNT)
        shown, _ = drag(person, -100, moves=50, wait=0.04)
        made(person)
        renders = person.value("len(DegreeGrid.made)")
    note = f"a mouse that moves 50 times within 2 s; {shown} pictures were shown meanwhile; {load_note()}"
    return {"value": renders, "n": 50, "unit": "renders", "note": note}


def suite(*chosen: str) -> tuple[int, list[str]]:
    """Run browser tests; how many there were, and the names of those that did not pass."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "tests.xml")
        subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "browser", "-q", f"--junitxml={report}",
             *(str(ROOT / "tests" / "browser" / each) for each in chosen or ("",))],
            cwd=ROOT, check=False,
        )  # fmt: skip
        if not report.exists():
            raise MeasureError("pytest wrote no report: is everything there? type: make test-browser")
        cases = [each for each in ElementTree.parse(report).iter("testcase") if each.find("skipped") is None]
    failed = [f"{each.get('name')}" for each in cases if len(each)]
    return len(cases), failed


def browser_tests() -> Result:
    """Tests of the editor in Chromium that pass."""
    count, failed = suite()
    note = f"JupyterLab and Voilà; not passed: {', '.join(failed) or 'none'}; {load_note()}"
    return {"value": count - len(failed), "n": count, "unit": "tests", "note": note}


def explorer_tests() -> Result:
    """Tests of the explorer in Chromium that pass: lasso, patches, cells, keys."""
    count, failed = suite("test_explorer.py")
    note = f"JupyterLab and Voilà; not passed: {', '.join(failed) or 'none'}; {load_note()}"
    return {"value": count - len(failed), "n": count, "unit": "tests", "note": note}


def static_after_reopen() -> Result:
    """Ways to open a saved notebook in which both pictures and the settings are there without the widget."""
    count, failed = suite("test_saved_notebook.py")
    note = (
        "the live page hides its one still copy; a new kernel, none, an untrusted notebook, a page of nbconvert "
        f"show it; not passed: {', '.join(failed) or 'none'}"
    )
    return {"value": count - len(failed), "n": count, "unit": "tests", "note": note}


def a11y_serious() -> Result:
    """What axe-core finds serious or critical on Voilà's page with all sections open, light and dark."""
    from tests.browser.test_looks import serious, unfold

    if "AXE_JS" not in os.environ:
        raise MeasureError("AXE_JS does not name axe-core's axe.min.js: get it with npm pack axe-core")
    parts = {}
    with opened("voila") as person:
        for theme in ("light", "dark"):
            person.open("editor.ipynb", theme)
            person.extract("make her smile broadly and add a crown")
            unfold(person)
            parts[theme] = len(serious(person.page))
        version = person.page.evaluate("axe.version")
    note = f"axe-core {version}, all rules, all sections open"
    return {"value": sum(parts.values()), "n": 2, "unit": "findings", "note": note, "parts": parts}
