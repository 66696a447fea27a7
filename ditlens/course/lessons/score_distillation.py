"""Notebook 08: score distillation: SDS, DDS, CSDS."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="08",
    name="score_distillation",
    title="Score distillation: SDS, DDS, CSDS",
    goal="Move the latents of a picture by the opinion of the model, and keep the rest where it is.",
    minutes=50,
    before="Notebook 02.",
    objectives=(),
    exercises=(),
)
