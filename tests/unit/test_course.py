"""Exercises diagnose: right answers pass, and every known wrong idea gets its own diagnosis."""

from __future__ import annotations

import pytest

from ditlens import course
from ditlens.course.answers import function, number
from ditlens.course.desk import DESK
from ditlens.course.exercise import AnswerError
from ditlens.course.lessons import LESSONS

EXERCISES = [exercise for lesson in LESSONS.values() for exercise in lesson.exercises]
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
ODD = ["", "blue cheese", [], {}, object(), float("nan"), -1e30, True, lambda: None, [[1, 2], [3]], b"x", "1"]


@pytest.fixture(autouse=True)
def own_desk(monkeypatch):
    """A desk on which nothing lies."""
    for name, value in vars(type(DESK)()).items():
        monkeypatch.setattr(DESK, name, value)


@every_exercise
def test_a_right_answer_is_right(exercise):
    verdict = exercise.verdict(exercise.example)
    assert verdict.right is True, verdict
    assert exercise.praise in repr(verdict)


@every_exercise
def test_each_wrong_idea_has_its_own_diagnosis(exercise):
    assert len(exercise.ideas) >= 2
    for idea in exercise.ideas:
        verdict = exercise.verdict(idea.example)
        assert verdict.right is False and verdict.idea is idea, (idea.says, verdict)
    assert len({idea.says for idea in exercise.ideas}) == len(exercise.ideas)


@every_exercise
def test_no_answer_stops_a_check(exercise):
    assert exercise.verdict(...).right is None and exercise.verdict(None).right is None
    for odd in ODD:
        verdict = exercise.verdict(odd)
        assert verdict.right is not True or odd in (True, "1"), odd
        assert "Traceback" not in repr(verdict)


@every_exercise
def test_an_exercise_is_complete(exercise):
    assert exercise.id.partition(".")[0] in LESSONS and exercise.difficulty in (1, 2, 3)
    assert 1 <= len(exercise.hints) <= 4 and all(exercise.hints)
    assert exercise.title[0].isupper() and len(exercise.title) <= 40
    for said in (exercise.praise, *exercise.hints, *(idea.says for idea in exercise.ideas)):
        assert said.endswith((".", "?", ")", "]", "!")) and len(said) < 420, said


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=lambda lesson: lesson.stem)
def test_a_lesson_is_complete(lesson):
    assert [exercise.id for exercise in lesson.exercises] == [
        f"{lesson.number}.{place}" for place in range(1, len(lesson.exercises) + 1)
    ]
    assert len(lesson.exercises) >= 3 and 2 <= len(lesson.objectives) <= 5 and len(lesson.discuss) >= 2
    shown = course.diagram(lesson.number)._repr_mimebundle_()
    assert "<title>" in shown["image/svg+xml"] and len(shown["text/plain"]) > 80
    assert 'src="data:image/svg+xml;base64,' in shown["text/html"]  # all that a notebook not trusted shows


def test_a_function_may_name_its_arguments_in_its_own_way():
    read = function(lambda of: (of(a=7, b=2), of(7, b=2), of(7, 2)), "a", "b")
    assert read(lambda x, y: x - y) == read(lambda a, b: a - b) == (5, 5, 5)
    with pytest.raises(AnswerError, match="takes other arguments than a, b"):
        read(lambda x: x)


def test_what_is_said_of_a_result_is_said_as_it_is():
    read = function(lambda of: number(of(1)), "a")
    with pytest.raises(AnswerError, match=r"^Got 2 numbers: \[1.0, 2.0\]\.$"):
        read(lambda a: [a, 2])
    with pytest.raises(AnswerError, match="Your function stopped with ZeroDivisionError"):
        read(lambda a: a / 0)


def test_a_share_in_percent_is_known():
    from ditlens.course.answers import number
    from ditlens.course.exercise import Exercise, near

    share = Exercise(
        "00.9", "A share", 1, "a number from 0 to 1", number, near(0.25, 0.01), "Yes.", (), ("No.",), 0.25
    )
    assert share.verdict(25).says == "In percent, perhaps? This exercise takes a number from 0 to 1."
    assert share.verdict(0.25).right and "not a mistake" in share.verdict(50).says
