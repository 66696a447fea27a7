"""Notebook 09: EMS: full zero-shot editing."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="09",
    name="ems",
    title="EMS: full zero-shot editing",
    goal="Extract, manipulate, sample: each step on its own, then the whole editor.",
    minutes=50,
    before="Notebooks 07 and 08.",
    objectives=(),
    exercises=(),
)
