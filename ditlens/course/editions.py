"""One source for each notebook, and what is built from it: editions for learners, for teachers and for graders.

A source is a Python file in jupytext's percent format. Its cells carry at most one of these tags:

    exercise    a cell that a learner fills in; its last line is ``course.check("05.2", answer)``
    solution    the same cell, filled in; it follows the exercise
    teacher     a note for the teacher

What a lesson knows (title, minutes, objectives) becomes the first cells, so that it is written once. A heading
``### Exercise 05.2`` is completed by the title and the difficulty of the exercise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ditlens.course.exercise import Lesson
from ditlens.course.lessons import LESSONS, exercise
from ditlens.errors import MissingDependencyError, SettingError
from ditlens.files import DATA, PACKAGE

if TYPE_CHECKING:
    from nbformat import NotebookNode

Cells: TypeAlias = "list[NotebookNode]"

SOURCES = next(
    (each for each in (DATA / "notebooks", PACKAGE.parent / "notebooks") if each.is_dir()), DATA / "notebooks"
)
"""The notebooks: in an installed package with its data, or in a clone of the repository."""
CHECK = re.compile(r"course\.check\(\"(\d\d\.\d+)\", (.+)\)")
"""Last line of an exercise and of its solution."""
HEADING = re.compile(r"^### Exercise (\d\d\.\d+)$", re.M)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

SETUP = """\
# Installs ditlens where it is missing, as on Colab; torch, numpy and the kernel stay as they are.
import importlib.metadata, importlib.util, os, pathlib, subprocess, sys

if importlib.util.find_spec("ditlens") is None:
    there = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    kept = [f"{name}=={there[name]}" for name in ("torch", "torchvision", "numpy", "ipykernel") if name in there]
    pathlib.Path("kept.txt").write_text("\\n".join(kept))
    wheel = next(map(str, pathlib.Path().glob("ditlens-*.whl")), os.environ.get("DITLENS_SOURCE"))
    assert wheel, "Upload ditlens-*.whl beside this notebook, or set DITLENS_SOURCE to git+https://..."
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", "kept.txt"]
    subprocess.run([*pip, f"{wheel}[views,analysis]" if wheel.endswith("whl") else wheel], check=True)"""

HEADER = """\
# {number} · {title}

*{goal}*

> **You will**
>
{objectives}
>
> **Time** {minutes} minutes · **GPU** {gpu} · **Before you start** {before}

Run the cells from top to bottom. Where it says **Predict**, stop and write down a guess first: a wrong guess
teaches more than none. An exercise is a cell with `...` in it; run it as it is, then replace the dots. Stuck?
`course.hint("{number}.1")` in a cell of its own gives one hint, and the next one each time it is run."""

FOOTER = """\
## Your answers

To hand in: `course.results("results.json", name="Your Name")` in a cell of its own. One file serves for all
notebooks. It says of each exercise what you answered, whether it is right, and how many attempts and hints it
took. {following}"""


def source(number: str) -> NotebookNode:
    """Read the source of a notebook, complete with the cells that its lesson gives.

    Raises:
        SettingError: If the file is missing, or is not made as the tags say.
        MissingDependencyError: If jupytext is not installed.
    """
    try:
        import jupytext
        import nbformat
    except ImportError as missing:
        raise MissingDependencyError(
            'Building notebooks needs jupytext. Type: pip install "ditlens[teach]"'
        ) from missing
    new, lesson = nbformat.v4, LESSONS[number]
    path = SOURCES / "source" / f"{lesson.stem}.py"
    if not path.is_file():
        raise SettingError(f"There is no source {path}: it comes with a clone and with the wheel.")
    body = jupytext.read(path, fmt="py:percent").cells
    cells = [
        new.new_markdown_cell(header(lesson)),
        new.new_code_cell(SETUP),
        *body,
        new.new_markdown_cell(FOOTER.format(following=following(lesson))),
        new.new_code_cell("course.exercises()"),
    ]
    for cell in cells:
        cell.source = HEADING.sub(completed, cell.source) if cell.cell_type == "markdown" else cell.source
        cell.metadata.pop("lines_to_next_cell", None)  # of jupytext, about blank lines of the source
    notebook = new.new_notebook(cells=cells, metadata=METADATA)
    look_over(notebook, lesson)
    return notebook


def header(lesson: Lesson) -> str:
    """The first cell of a notebook."""
    objectives = "\n".join(f"> - {each}" for each in lesson.objectives)
    return HEADER.format(**vars(lesson) | {"objectives": objectives})


def following(lesson: Lesson) -> str:
    """A sentence that leads to the next notebook."""
    after = LESSONS.get(f"{int(lesson.number) + 1:02}")
    return f"Next: [{after.number} · {after.title}]({after.stem}.ipynb)." if after else ""


def completed(heading: re.Match[str]) -> str:
    """The heading of an exercise with its title and difficulty."""
    found = exercise(heading[1])
    return f"### Exercise {found.id} · {found.title} {found.stars}"


def tag_of(cell: NotebookNode) -> str | None:
    """The tag that decides in which editions a cell is."""
    return next(iter(cell.metadata.get("tags", [])), None)


def look_over(notebook: NotebookNode, lesson: Lesson) -> None:
    """Look whether exercises, solutions and the lesson's list agree.

    Raises:
        SettingError: If an exercise has no solution, checks something else than it, or is missing or twice.
    """
    tags = [tag_of(cell) for cell in notebook.cells]
    unknown = set(tags) - {None, "exercise", "solution", "teacher"}
    if unknown:
        raise SettingError(f"Notebook {lesson.number} has a cell with the unknown tag {unknown.pop()!r}.")
    asked = []
    for place, cell in enumerate(notebook.cells):
        if tags[place] == "exercise":
            ends = [
                CHECK.fullmatch(each.source.splitlines()[-1]) for each in notebook.cells[place : place + 2]
            ]
            if tags[place + 1] != "solution" or not all(ends) or ends[0][0] != ends[1][0]:  # type: ignore[index]
                raise SettingError(
                    f"Notebook {lesson.number}: an exercise ends with course.check and is followed by its "
                    f"solution, which ends with the same line. This one does not:\n{cell.source}"
                )
            asked.append(ends[0][1])  # type: ignore[index]
    if asked != [each.id for each in lesson.exercises]:
        raise SettingError(
            f"Notebook {lesson.number} asks {asked}; its lesson has {[e.id for e in lesson.exercises]}."
        )


# --- editions -----------------------------------------------------------------------------------------------


def student(number: str) -> NotebookNode:
    """What learners get: exercises to fill in, no solutions, no notes."""
    return edition(number, lambda cells: [each for each in cells if tag_of(each) in (None, "exercise")])


def solution(number: str) -> NotebookNode:
    """The exercises filled in."""
    return edition(number, lambda cells: [each for each in cells if tag_of(each) in (None, "solution")])


def teacher(number: str) -> NotebookNode:
    """The exercises filled in, with notes, the wrong ideas that each check knows, and questions to discuss."""

    def with_notes(cells: Cells) -> Cells:
        chosen = []
        for cell in cells:
            if tag_of(cell) != "exercise":
                chosen.append(cell)
            if tag_of(cell) == "solution":
                chosen.append(note(about(CHECK.fullmatch(cell.source.splitlines()[-1])[1])))  # type: ignore[index]
        lesson = LESSONS[number]
        asked = [f"**{question}**\n\n{expected}" for question, expected in lesson.discuss]
        if asked:
            chosen.append(note("\n\n".join(["## For the teacher: to discuss", *asked])))
        if lesson.trouble:
            chosen.append(
                note(
                    "\n".join(
                        ["## For the teacher: what goes wrong", "", *(f"- {each}" for each in lesson.trouble)]
                    )
                )
            )
        return chosen

    return edition(number, with_notes)


def note(text: str) -> NotebookNode:
    """A cell that only a teacher sees."""
    import nbformat

    return nbformat.v4.new_markdown_cell(text, metadata={"tags": ["teacher"]})


def about(id: str) -> str:
    """What a teacher needs to know of an exercise: why the answer is right, and which wrong ones are known."""
    found = exercise(id)
    plain = (bool, int, float, str, list, tuple)
    ideas = [
        f"- `{each.example!r}`: {each.says}" if isinstance(each.example, plain) else f"- {each.says}"
        for each in found.ideas
    ]
    hints = [f"{rung}. {each}" for rung, each in enumerate(found.hints, 1)]
    return "\n".join(
        [
            f"> **Teacher, {id}.** {found.praise}",
            "",
            "Wrong ideas that the check knows:",
            "",
            *ideas,
            "",
            "Hints:",
            "",
            *hints,
        ]
    )


def edition(number: str, chosen: Callable[[Cells], Cells]) -> NotebookNode:
    """The cells of a source that an edition keeps, numbered so that the same source gives the same file."""
    notebook = source(number)
    notebook.cells = chosen(notebook.cells)
    for place, cell in enumerate(notebook.cells):
        cell["id"] = f"{number}-{place:02}"
    return notebook
