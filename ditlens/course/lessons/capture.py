"""Notebook 03: capturing hidden states."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="03",
    name="capture",
    title="Capturing hidden states",
    goal="Record what both streams hold at any block and step, without changing a pixel.",
    minutes=30,
    before="Notebook 01.",
    objectives=(),
    exercises=(),
)
