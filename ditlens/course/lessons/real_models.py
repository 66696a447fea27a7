"""Notebook 11: real models."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="11",
    name="real_models",
    title="Real models",
    goal="The same calls on SD3.5 and FLUX: memory, minutes, many prompts, several GPUs.",
    minutes=30,
    before="Notebooks 03 and 09.",
    objectives=(),
    exercises=(),
)
