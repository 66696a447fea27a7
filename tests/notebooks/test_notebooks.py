"""Every notebook runs from top to bottom, and is committed clean."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ditlens.course import editions
from ditlens.course.lessons import LESSONS

spec = importlib.util.spec_from_file_location("execute", Path(__file__).with_name("execute.py"))
assert spec is not None and spec.loader is not None
execute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execute)

LARGEST = 300_000
LONGEST_CELL = 12
ABSOLUTE = re.compile(r"(?<![\w.:/<~)\]])/[A-Za-z][\w.-]*/[\w.-]+|\b[A-Z]:\\\\?\w|file://")

every_notebook = pytest.mark.parametrize("notebook", execute.NOTEBOOKS.values(), ids=lambda path: path.stem)
every_lesson = pytest.mark.parametrize("number", LESSONS)


def texts(output) -> list[str]:
    """What an output says in letters; pictures are left out."""
    said = [content for kind, content in output.get("data", {}).items() if kind.startswith("text/")]
    return [re.sub(r"data:[\w/+]+;base64,[\w/+=]+", "", text) for text in [output.get("text", ""), *said]]


def lines_of(source: str) -> list[str]:
    """The lines of a cell that a reader reads: no blank ones, no imports."""
    return [line for line in source.splitlines() if not re.match(r"$|import |from \w", line)]


def test_every_notebook_has_a_lesson():
    there = sorted(path.name for path in (execute.ROOT / "notebooks").glob("*.ipynb"))
    assert there == [path.name for path in execute.NOTEBOOKS.values()]


@pytest.mark.slow  # the run with solutions has the same cells, and the committed outputs are those of this one
@pytest.mark.notebook
@every_lesson
def test_runs_from_a_clean_kernel_in_any_folder(number, tmp_path):
    nb = execute.execute(editions.student(number), tmp_path)
    assert count(nb) == list(range(1, len(count(nb)) + 1))
    assert unanswered(number, nb)
    assert not list(tmp_path.iterdir()), "a notebook writes no files"


@pytest.mark.notebook
@every_lesson
def test_runs_with_the_solutions_in_place(number, tmp_path):
    nb = execute.execute(editions.solution(number), tmp_path)
    asked = [exercise.id for exercise in LESSONS[number].exercises]
    assert execute.verdicts(nb) == dict.fromkeys(asked, "✓ right")
    assert not list(tmp_path.iterdir()), "a notebook writes no files"


def unanswered(number: str, nb) -> bool:
    """Whether every exercise was checked, and none comes with its answer."""
    found = execute.verdicts(nb)
    return (
        list(found) == [exercise.id for exercise in LESSONS[number].exercises]
        and "✓ right" not in found.values()
    )


@every_lesson
def test_is_what_its_source_gives(number):
    built = [(cell.cell_type, cell.source, cell.metadata) for cell in editions.student(number).cells]
    nb = nbformat.read(execute.NOTEBOOKS[number], as_version=4)
    assert [(cell.cell_type, cell.source, cell.metadata) for cell in nb.cells] == built, (
        "run `make notebooks`"
    )
    assert unanswered(number, nb), "an exercise comes answered"


@pytest.mark.notebook
def test_the_readmes_python_prints_what_it_says(tmp_path):
    readme = (execute.ROOT / "README.md").read_text("utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.S))
    assert code.count("import ditlens") == 1
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [line for block in re.findall(r"```\n(\S.*?)```", readme, re.S) for line in block.splitlines()]
    printed = {measured(line) for line in done.stdout.splitlines()}
    assert len(told) > 15 and not [line for line in told if measured(line) not in printed]


def measured(line: str) -> str:
    """A line without its numbers, which another CPU rounds otherwise, and without its spaces."""
    return re.sub(r"[-\s]+", " ", re.sub(r"\d+(\.\d+)?", "#", line)).strip()


def count(nb) -> list[int | None]:
    return [cell.execution_count for cell in nb.cells if cell.cell_type == "code"]


@every_notebook
def test_is_committed_clean(notebook):
    assert notebook.stat().st_size <= LARGEST, f"at most {LARGEST} bytes: show fewer or smaller pictures"
    nb = nbformat.read(notebook, as_version=4)
    nbformat.validate(nb)
    assert nb.metadata == execute.METADATA, "widget state or machine details; run `make notebooks`"
    assert count(nb) == list(range(1, len(count(nb)) + 1)), "not executed in order; run `make notebooks`"
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output.get("ename")
            assert execute.is_kept(output) and not output.get("metadata")
            for text in texts(output):
                assert not ABSOLUTE.search(text), f"an absolute path: {ABSOLUTE.search(text)}"


@every_notebook
def test_cells_are_short(notebook):
    nb = nbformat.read(notebook, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            assert 0 < len(lines_of(cell.source)) <= LONGEST_CELL, cell.source
            assert not re.search(r"^\s*[!%]|pip install", cell.source, re.M), "no installs, no magics"
        assert not ABSOLUTE.search(cell.source), f"an absolute path: {ABSOLUTE.search(cell.source)}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/home/ada/ditlens/data", True),
        ("loaded '/tmp/x/y.png'", True),
        ("C:\\Users\\ada", True),
        ("text/image and </details> at https://a.org/b/c", False),
        ("[pitfalls](../docs/reference/pitfalls.md), 3 / 4 / 5", False),
    ],
)
def test_absolute_paths_are_found(text, found):
    assert bool(ABSOLUTE.search(text)) == found


def test_committed_form_leaves_out_what_a_machine_adds():
    view = {execute.WIDGET: {"model_id": "1"}, "text/plain": "IntProgress()"}
    path = f"{execute.ROOT}/data/a.png"
    outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="a warning"),
        nbformat.v4.new_output("display_data", view),
        nbformat.v4.new_output("stream", name="stdout", text=f"wrote {path}"),
        nbformat.v4.new_output("display_data", {"text/plain": path}, metadata={"x": 1}),
    ]
    times = {"execution": {"iopub.execute_input": "now"}, "tags": ["exercise"]}
    cell = nbformat.v4.new_code_cell("1", outputs=outputs, metadata=times)
    nb = execute.committed(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}}))
    assert nb.metadata == execute.METADATA and nb.cells[0].metadata == {"tags": ["exercise"]}
    first, second = nb.cells[0].outputs
    assert first.text == "wrote data/a.png"
    assert second.data == {"text/plain": "data/a.png"} and second.metadata == {}
