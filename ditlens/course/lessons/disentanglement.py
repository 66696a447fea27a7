"""Notebook 10: measuring disentanglement."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="10",
    name="disentanglement",
    title="Measuring disentanglement",
    goal="What else moves? Metrics, a model whose bias is known, and a fair comparison of edits.",
    minutes=50,
    before="Notebook 09 helps; means and confidence intervals.",
    objectives=(),
    exercises=(),
)
