"""Notebook 12: capstone: your own question."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="12",
    name="capstone",
    title="Capstone: your own question",
    goal="Ask something that nobody has asked of this model, and answer it so that others can check.",
    minutes=180,
    before="Notebooks 00 to 07, and 10.",
    objectives=(),
    exercises=(),
)
