"""What `make bench-course` measures."""

from __future__ import annotations

import json

import nbformat
import pytest

from benchmarks import course, grading
from ditlens.course import editions
from ditlens.course.grading import nbgrader
from ditlens.course.lessons import LESSONS


def test_every_key_has_a_target():
    targets = json.loads((course.RESULTS.parent / "targets.json").read_text("utf-8"))
    assert set(course.MEASURES) <= set(targets)


def test_runs_are_summed_up(monkeypatch):
    found = {
        "student": dict.fromkeys(LESSONS, (True, 30.0)) | {"03": (True, 90.0)},
        "solution": dict.fromkeys(LESSONS, (True, 40.0)) | {"05": (False, 10.0)},
    }
    monkeypatch.setattr(course, "runs", found.__getitem__)
    assert course.notebooks_executed()["value"] == 12
    minutes = course.notebooks_minutes()
    assert minutes["value"] == 7.5 and minutes["note"].startswith("the longest is 03_capture, 90 s")


def test_exercises_are_counted():
    count = sum(len(lesson.exercises) for lesson in LESSONS.values())
    assert course.exercises()["value"] == course.checks_diagnose()["n"] == count >= 39
    assert course.checks_diagnose()["value"] == 1
    assert course.notebook_kb_max()["value"] <= 300


def test_a_check_that_does_not_diagnose_is_seen(monkeypatch):
    from dataclasses import replace

    first, *others = LESSONS["00"].exercises
    blind = replace(first, ideas=[replace(idea, shows=lambda _: False) for idea in first.ideas])
    monkeypatch.setattr(course, "LESSONS", {"00": replace(LESSONS["00"], exercises=(blind, *others))})
    assert course.checks_diagnose()["value"] == 0.75


@pytest.mark.parametrize("wrong", [False, True])
def test_submissions_are_filled_in(wrong):
    nb = nbgrader("00")
    ids = [cell.metadata.get("nbgrader", {}).get("grade_id", "") for cell in nb.cells]
    answers = [
        id.removeprefix("answer-").replace("-", ".") if id.startswith("answer") else None for id in ids
    ]
    grading.fill_in(nb, "00", wrong, answers.__getitem__)
    filled = "\n".join(cell.source for cell, id in zip(nb.cells, answers, strict=True) if id == "00.1")
    assert "one.after" in filled and filled.endswith("appears = 0.625") == wrong
    nbformat.validate(nb)
    assert editions.CHECK.search(filled) is None
