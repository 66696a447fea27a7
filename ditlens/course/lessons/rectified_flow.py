"""Notebook 02: rectified flow, on paper and in code."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="02",
    name="rectified_flow",
    title="Rectified flow, on paper and in code",
    goal="From noise to a picture in twenty steps: first where every number is known, then with the model.",
    minutes=40,
    before="Notebook 00; a normal distribution and a derivative.",
    objectives=(),
    exercises=(),
)
