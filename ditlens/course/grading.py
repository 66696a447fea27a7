"""The same notebooks for the two graders that courses use: nbgrader and otter-grader.

Both work without ditlens's own checks being copied: what they run is ``course.check``, so a learner sees the same
diagnosis as in the notebook, and a grade comes from the same judgement. An exercise gives as many points as it has
stars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ditlens.course.editions import CHECK, METADATA, Cells, source, tag_of
from ditlens.course.exercise import Exercise
from ditlens.course.lessons import LESSONS, exercise

if TYPE_CHECKING:
    from nbformat import NotebookNode

NBGRADER_CONFIG = """\
# nbgrader reads this file; see https://nbgrader.readthedocs.io
c = get_config()
c.CourseDirectory.course_id = "ditlens"
c.ExecutePreprocessor.timeout = 300
"""

ASSERT = """\
verdict = course.check("{id}", {answer})
assert verdict.right, verdict.says"""
"""It prints nothing: otter makes a doctest of it. The diagnosis is the message of the assertion."""

OTTER_HEAD = """\
# ASSIGNMENT CONFIG
name: {stem}
init_cell: false
export_cell: false
check_all_cell: false"""

OTTER_QUESTION = """\
# BEGIN QUESTION
name: {name}
points: {points}"""


def nbgrader(number: str) -> NotebookNode:
    """A notebook for ``nbgrader generate_assignment``: a cell to fill in and a locked one that grades it."""
    cells: Cells = []
    for tag, cell, following in tagged(number):
        if tag == "exercise":
            found, answer, _ = parts(cell)
            _, _, filled = parts(following)
            cells += [
                _nbgrader_cell(regions(parts(cell)[2], filled), f"answer-{found.id}", solution=True),
                _nbgrader_cell(
                    ASSERT.format(id=found.id, answer=answer), f"check-{found.id}", found.difficulty
                ),
            ]
        elif tag is None:
            cells.append(cell)
    return _notebook(number, cells)


def otter(number: str) -> NotebookNode:
    """A notebook for ``otter assign``, which makes what learners get, and what the autograder runs."""
    cells: Cells = [_raw(OTTER_HEAD.format(stem=LESSONS[number].stem))]
    for tag, cell, following in tagged(number):
        if tag == "exercise":
            found, answer, placeholder = parts(cell)
            _, _, filled = parts(following)
            name = f"q{found.id.replace('.', '_')}"
            prompt = f'""" # BEGIN PROMPT\n{placeholder}\n""" # END PROMPT\n'
            cells += [
                _raw(OTTER_QUESTION.format(name=name, points=found.difficulty)),
                _raw("# BEGIN SOLUTION"),
                _code(f"{prompt}# BEGIN SOLUTION\n{filled}\n# END SOLUTION"),
                _raw("# END SOLUTION"),
                _raw("# BEGIN TESTS"),
                _code(ASSERT.format(id=found.id, answer=answer)),
                _raw("# END TESTS"),
                _raw("# END QUESTION"),
            ]
        elif tag is None:
            cells.append(cell)
    return _notebook(number, cells)


def tagged(number: str) -> list[tuple[str | None, NotebookNode, NotebookNode]]:
    """The cells of a source with their tags, each with the one after it."""
    cells = source(number).cells
    return [(tag_of(cell), cell, after) for cell, after in zip(cells, [*cells[1:], None], strict=True)]


def parts(cell: NotebookNode) -> tuple[Exercise, str, str]:
    """The exercise that a cell checks, the name of the answer, and the lines before the check."""
    *lines, last = cell.source.splitlines()
    found = CHECK.fullmatch(last)
    assert found is not None, last
    return exercise(found[1]), found[2], "\n".join(lines)


def regions(placeholder: str, filled: str) -> str:
    """What nbgrader makes a cell to fill in of; the placeholder tells the names, as a comment."""
    told = "\n".join(f"# {line}".rstrip() for line in placeholder.splitlines() if not line.startswith("#"))
    return f"{told}\n### BEGIN SOLUTION\n{filled}\n### END SOLUTION"


def _code(text: str, **metadata: Any) -> NotebookNode:
    import nbformat

    return nbformat.v4.new_code_cell(text, metadata=metadata)


def _raw(text: str) -> NotebookNode:
    import nbformat

    return nbformat.v4.new_raw_cell(text)


def _nbgrader_cell(text: str, grade_id: str, points: int = 0, *, solution: bool = False) -> NotebookNode:
    """A code cell with what nbgrader wants to know of it."""
    about = {
        "schema_version": 3,
        "grade_id": grade_id.replace(".", "-"),
        "cell_type": "code",
        "task": False,
        "solution": solution,
        "grade": not solution,
        "locked": not solution,
    }
    return _code(text, nbgrader=about if solution else {**about, "points": points})


def _notebook(number: str, cells: Cells) -> NotebookNode:
    """A notebook of these cells, numbered."""
    import nbformat

    for place, cell in enumerate(cells):
        cell["id"] = f"{number}-{place:02}"
        cell.metadata.pop("tags", None)
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
