"""Notebook 04: the text stream, decomposed."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="04",
    name="text_stream",
    title="The text stream, decomposed",
    goal="What a word becomes on its way through the blocks, and what its neighbours learn of it.",
    minutes=40,
    before="Notebook 03; variance, and what a principal component is.",
    objectives=(),
    exercises=(),
)
