"""Notebook 01: inside an MMDiT."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="01",
    name="inside",
    title="Inside an MMDiT",
    goal="Tokens, two streams and one attention over both: what every block of an SD3 or FLUX sees.",
    minutes=35,
    before="Notebook 00; what a matrix product and a softmax are.",
    objectives=(),
    exercises=(),
)
