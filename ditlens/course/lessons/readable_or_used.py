"""Notebook 06: readable or used?."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="06",
    name="readable_or_used",
    title="Readable or used?",
    goal="Probing, attention and patching look at one mouth, and tell one story.",
    minutes=50,
    before="Notebooks 03 and 05; linear regression.",
    objectives=(),
    exercises=(),
)
