"""The lessons: one module for each notebook, with its exercises and what a teacher needs to know."""

from __future__ import annotations

from ditlens.course.exercise import Exercise, Lesson
from ditlens.course.lessons import (
    capstone,
    capture,
    directions,
    disentanglement,
    ems,
    image_stream,
    inside,
    readable_or_used,
    real_models,
    rectified_flow,
    score_distillation,
    start_here,
    text_stream,
)
from ditlens.errors import SettingError

LESSONS: dict[str, Lesson] = {
    each.LESSON.number: each.LESSON
    for each in (
        start_here,
        inside,
        rectified_flow,
        capture,
        text_stream,
        image_stream,
        readable_or_used,
        directions,
        score_distillation,
        ems,
        disentanglement,
        real_models,
        capstone,
    )
}
"""All lessons by their number, in their order."""


def lesson(number: str) -> Lesson:
    """One lesson.

    Raises:
        SettingError: If there is none of this number.
    """
    found = number.strip().zfill(2) if number.strip() else ""
    if found not in LESSONS:
        raise SettingError(f"There is no notebook {number!r}; they are {min(LESSONS)} to {max(LESSONS)}.")
    return LESSONS[found]


def exercise(id: str) -> Exercise:
    """One exercise, by a number such as ``"05.2"``.

    Raises:
        SettingError: If there is none of this number.
    """
    number, point, own = id.strip().partition(".")
    if not point:
        raise SettingError(f'{id!r} is no number of an exercise; they look like "05.2".')
    found = lesson(number)
    return found.exercise(f"{found.number}.{own}")
