"""Notebook 05: the image stream, decomposed."""

from ditlens.course.exercise import Lesson

LESSON = Lesson(
    number="05",
    name="image_stream",
    title="The image stream, decomposed",
    goal="PCA and UMAP of patches, and how both can mislead.",
    minutes=45,
    before="Notebook 03; notebook 04 helps.",
    objectives=(),
    exercises=(),
)
