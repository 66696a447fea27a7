"""Writing an edition of the course into a folder."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ditlens.course.editions import SOURCES, solution, teacher
from ditlens.course.exercise import Lesson
from ditlens.course.grading import NBGRADER_CONFIG, nbgrader, otter
from ditlens.course.lessons import LESSONS
from ditlens.errors import SettingError
from ditlens.files import PACKAGE, keep_inputs, read_json, write_whole

LICENCE = (
    "These figures were made with ditlens. Licence: Creative Commons Attribution 4.0 International (CC BY 4.0),\n"
    "https://creativecommons.org/licenses/by/4.0/. Say: \"Figure: ditlens, CC BY 4.0\".\n"
)  # fmt: skip


def hand_out(
    folder: Path, edition: str = "student", lessons: Sequence[str] = (), *, overwrite: bool = False
) -> list[Path]:
    """Write an edition of notebooks.

    Args:
        folder: Where to; the two for graders get a folder for each notebook in it.
        edition: ``student``: exercises to fill in, without outputs. ``solution``: filled in. ``teacher``: filled
            in, with notes, known wrong ideas and questions to discuss. ``nbgrader``, ``otter``: what these graders
            make assignments of. ``figures``: the diagrams as SVG and, in a clone, the notebooks' pictures as JPEG.
        lessons: Numbers of notebooks; all by default.
        overwrite: Whether files may be there already.

    Returns:
        The files.

    Raises:
        SettingError: If a file is there already, or there is no such lesson.
        MissingDependencyError: If jupytext is needed and not installed.
        WriteError: If a file cannot be written.
    """
    chosen = [LESSONS[number] for number in lessons or LESSONS if known(number)]
    files = {folder / name: content for lesson in chosen for name, content in WRITERS[edition](lesson)}
    if edition != "figures":
        files |= dict.fromkeys((file.with_name("glossary.md") for file in list(files)), glossary())
    if edition == "nbgrader":
        files[folder / "nbgrader_config.py"] = NBGRADER_CONFIG.encode()
    if edition == "figures":
        files[folder / "LICENCE.txt"] = LICENCE.encode()
    keep_inputs(files, SOURCES.rglob("*.*"))
    taken = [file for file in files if file.exists() and file.read_bytes() != files[file]]
    if taken and not overwrite:
        raise SettingError(
            f"{taken[0]} is there already. Choose another folder, or overwrite it with --force."
        )
    for file, content in files.items():
        write_whole(file, content)
    return list(files)


def glossary() -> bytes:
    """The page that notebooks link to; a copy lies beside them, without its link to other pages."""
    places = (PACKAGE.parent / "docs" / "reference" / "glossary.md", SOURCES / "glossary.md")
    return (
        next(place for place in places if place.is_file())
        .read_bytes()
        .replace(b"[Names](names.md)", b"Names")
    )


def known(number: str) -> bool:
    """Whether there is a lesson of this number.

    Raises:
        SettingError: If there is not.
    """
    if number not in LESSONS:
        raise SettingError(f"There is no notebook {number!r}; they are {min(LESSONS)} to {max(LESSONS)}.")
    return True


Written: TypeAlias = Iterator[tuple[str, bytes]]


def student_files(lesson: Lesson) -> Written:
    """The notebook as it is committed, without outputs: who predicts should not see them."""
    nb = read_json(SOURCES / f"{lesson.stem}.ipynb", "notebook", SettingError)
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    yield f"{lesson.stem}.ipynb", as_notebook(nb)


def built(build: Callable[[str], Any], place: str = "{stem}.ipynb") -> Callable[[Lesson], Written]:
    """The notebook that `build` makes, under a name; in a folder of its own, links to other notebooks end."""

    def files(lesson: Lesson) -> Written:
        nb = as_notebook(build(lesson.number))
        if "/" in place:
            nb = re.sub(rb"\[([^\]]+)\]\(\d\d_\w+\.ipynb\)", rb"\1", nb)
        yield place.format(stem=lesson.stem), nb

    return files


def figure_files(lesson: Lesson) -> Written:
    """The diagram, and the pictures among the outputs."""
    diagram = Path(__file__).parent / "diagrams" / f"{lesson.stem}.svg"
    yield diagram.name, diagram.read_bytes()
    nb = read_json(SOURCES / f"{lesson.stem}.ipynb", "notebook", SettingError)
    outputs = [output for cell in nb["cells"] for output in cell.get("outputs", [])]
    pictures = [output["data"]["image/jpeg"] for output in outputs if "image/jpeg" in output.get("data", {})]
    for place, picture in enumerate(pictures, 1):
        yield f"{lesson.stem}_{place:02}.jpg", base64.b64decode("".join(picture))


def as_notebook(nb: Any) -> bytes:
    """A notebook's file."""
    text = json.dumps(nb, indent=1, ensure_ascii=False).replace(
        "../docs/reference/glossary.md", "glossary.md"
    )
    return f"{text}\n".encode()


WRITERS: dict[str, Callable[[Lesson], Written]] = {
    "student": student_files,
    "solution": built(solution),
    "teacher": built(teacher),
    "nbgrader": built(nbgrader, "source/{stem}/{stem}.ipynb"),
    "otter": built(otter, "{stem}/{stem}.ipynb"),
    "figures": figure_files,
}
