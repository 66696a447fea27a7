"""Measure the course: `make bench-course`.

Writes ``benchmarks/results/course.json`` after every key; with ``--only``, the other keys keep what was measured
last. What only people can say, whether a newcomer stumbles and how a notebook looks, is in `TRIALS`.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import RESULTS, ROOT, grading
from benchmarks.keys import measure_keys
from benchmarks.report import Result, load_note
from ditlens.course import editions
from ditlens.course.lessons import LESSONS

TRIALS: dict[str, Result] = {
    "newcomer_stumbles_open": {
        "value": 4,
        "n": 128,
        "unit": "stumbles",
        "note": "a reader without knowledge of the code walked 00 to 06 and noted 117 stumbles; another one, after "
        "those were mended, 11, none of which stops a learner. These are mended too, and nobody has walked since. "
        "Open, all small: 01 does not say that imports take seconds, and its attention maps are small; 04 takes a "
        "correlation over padding for right, and shows a table without intervals",
    },
    "notebooks_looked_at": {
        "value": 26,
        "n": 26,
        "unit": "notebooks",
        "note": "in JupyterLab, from screenshots: light in full, dark in parts (36 of 74 pieces); no serious fault",
    },
}
"""Results of trials by people and by eye, entered by hand: the number, and in the note how it came about."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    return measure_keys(RESULTS / "course.json", MEASURES, "Measure the course.", argv)


@functools.cache
def execute() -> ModuleType:
    """The module that runs notebooks for the tests."""
    spec = importlib.util.spec_from_file_location("execute", ROOT / "tests" / "notebooks" / "execute.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def runs(edition: str) -> dict[str, tuple[bool, float]]:
    """Of every notebook in an edition: whether all cells ran and all checks said what they should, and seconds."""
    found: dict[str, tuple[bool, float]] = {}
    for number, lesson in LESSONS.items():
        nb, begun, verdicts = getattr(editions, edition)(number), time.perf_counter(), {}
        try:
            with tempfile.TemporaryDirectory() as folder:
                verdicts = execute().verdicts(execute().execute(nb, Path(folder)))
        except Exception as error:
            print(f"{lesson.stem}, {edition}: {error}", file=sys.stderr)
        asked = list(verdicts) == [each.id for each in lesson.exercises]
        right = {verdict == "✓ right" for verdict in verdicts.values()}
        good = asked and right == {edition == "solution"}
        found[number] = good, time.perf_counter() - begun
        print(edition, lesson.stem, found[number], file=sys.stderr)
    return found


def notebooks_executed() -> Result:
    """Notebooks whose cells all run in a clean kernel, as shipped and with the solutions in place."""
    good = [number for number in LESSONS if runs("student")[number][0] and runs("solution")[number][0]]
    note = "each from a clean kernel in an empty folder, as shipped and with the solutions, which all checks pass"
    return {"value": len(good), "n": len(LESSONS), "unit": "notebooks", "note": note}


def notebooks_minutes() -> Result:
    """Minutes that all notebooks take together, as shipped, one after the other."""
    seconds = {LESSONS[number].stem: round(took, 1) for number, (_, took) in runs("student").items()}
    longest = max(seconds, key=lambda name: seconds[name])
    note = f"the longest is {longest}, {seconds[longest]:.0f} s; parts are seconds; {load_note()}"
    value = round(sum(seconds.values()) / 60, 2)
    return {"value": value, "n": len(seconds), "unit": "minutes", "parts": seconds, "note": note}


def checks_diagnose() -> Result:
    """Share of the exercises whose check passes the right answer, and names each of at least two wrong ideas."""
    exercises = [each for lesson in LESSONS.values() for each in lesson.exercises]
    good = [
        each
        for each in exercises
        if each.verdict(each.example).right
        and len(each.ideas) >= 2
        and all(each.verdict(idea.example).idea is idea for idea in each.ideas)
    ]
    ideas = sum(len(each.ideas) for each in exercises)
    note = f"{ideas} wrong ideas; each example is answered with its own diagnosis"
    return {"value": len(good) / len(exercises), "n": len(exercises), "unit": "share", "note": note}


def exercises() -> Result:
    """Exercises in all notebooks."""
    counts = {lesson.stem: len(lesson.exercises) for lesson in LESSONS.values()}
    note = f"at least {min(counts.values())} in each notebook"
    return {"value": sum(counts.values()), "n": len(counts), "unit": "exercises", "note": note}


def notebook_kb_max() -> Result:
    """Size of the largest committed notebook."""
    sizes = {path.stem: path.stat().st_size / 1000 for path in execute().NOTEBOOKS.values()}
    largest = max(sizes, key=lambda name: sizes[name])
    note = f"{largest}; all together {sum(sizes.values()):.0f} KB"
    return {"value": round(sizes[largest]), "n": len(sizes), "unit": "KB", "note": note}


MEASURES: dict[str, Callable[[], Result]] = {
    "notebooks_minutes": notebooks_minutes,
    "notebooks_executed": notebooks_executed,
    "checks_diagnose": checks_diagnose,
    "exercises": exercises,
    "colab_cell_ok": grading.colab_cell_ok,
    "grading_roundtrip": grading.grading_roundtrip,
    "notebook_kb_max": notebook_kb_max,
    **{key: functools.partial(dict, trial) for key, trial in TRIALS.items()},
}
"""Every key, and how it is measured."""

if __name__ == "__main__":
    sys.exit(main())
