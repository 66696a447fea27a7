"""Notebook 07: directions and degrees."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="07",
    name="directions",
    title="Directions and degrees",
    goal="Move along a direction by an amount: in the text, in one token, in a hidden state.",
    minutes=45,
    before="Notebook 06 helps; dot products.",
    objectives=(),
    exercises=(),
)
