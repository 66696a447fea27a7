"""Notebooks away from home: in an environment like Colab's, and through the two graders that courses use.

Makes virtual environments; needs a package index.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

import nbformat

from benchmarks import ROOT
from benchmarks.keys import MeasureError
from benchmarks.report import Result
from ditlens.course import editions
from ditlens.course.editions import CHECK
from ditlens.course.hand_out import hand_out
from ditlens.course.lessons import LESSONS

GRADED = ("00", "01")
"""Notebooks that make the round trip."""
OTHERS = ("numpy==2.2.6", "ipykernel==6.29.5", "matplotlib", "ipywidgets")
"""What a service like Colab has before the first cell runs, in other versions than ours."""
FAKED = "2.12.1+cu126"
"""The version that PyTorch says there: the same files as here, under another name."""
VERSIONS = "import importlib.metadata as m; print([m.version(n) for n in ('torch', 'numpy', 'ipykernel')])"


def run(command: list[str | Path], folder: Path, **settings: str) -> str:
    """What a command prints.

    Raises:
        MeasureError: If it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, timeout=1200
    )
    if done.returncode:
        raise MeasureError(f"{command[:4]} failed: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


def environment(folder: Path, *packages: str) -> Path:
    """A fresh virtual environment with some packages; its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run([python, "-m", "pip", "install", "-q", *packages], folder)
    return python


# --- Colab ------------------------------------------------------------------------------------------------


def colab_cell_ok() -> Result:
    """Whether the first cell installs ditlens beside other versions, which stay, and notebook 00 then runs."""
    with tempfile.TemporaryDirectory() as place:
        folder, home = Path(place), Path(place, "content")
        home.mkdir()
        options = "pip wheel -q --no-deps --no-build-isolation -w".split()
        run([sys.executable, "-m", *options, home, ROOT], folder)
        python = environment(folder / "venv", "torch==2.13.0", *OTHERS)
        rename_torch(python)
        before = run([python, "-c", VERSIONS], folder)
        nbformat.write(editions.student("00"), home / "00.ipynb")
        run([python, "-m", "pip", "install", "-q", "nbconvert"], folder)
        assert run([python, "-c", VERSIONS], folder) == before
        execute = "jupyter nbconvert --to notebook --execute --output run 00.ipynb".split()
        run([python, "-m", *execute], home)
        after = run([python, "-c", VERSIONS], folder)
        errors = [
            output
            for cell in nbformat.read(home / "run.ipynb", 4).cells
            for output in cell.get("outputs", [])
            if output.output_type == "error"
        ]
    note = (
        f"torch, numpy, ipykernel before: {before.strip()}, after: {after.strip()}; the wheel lay beside the "
        "notebook. PyTorch's files are ours under another version, for want of another CPU build. Not Colab itself."
    )
    return {"value": int(before == after and not errors), "n": 1, "unit": "runs", "note": note}


def rename_torch(python: Path) -> None:
    """Let the installed PyTorch say that it is another version."""
    found = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], python.parent)
    (info,) = Path(found.strip()).glob("torch-*.dist-info")
    metadata = info / "METADATA"
    text = re.sub(r"^Version: .*$", f"Version: {FAKED}", metadata.read_text("utf-8"), count=1, flags=re.M)
    metadata.write_text(text, "utf-8")
    info.rename(info.with_name(f"torch-{FAKED}.dist-info"))


# --- graders ----------------------------------------------------------------------------------------------


def grading_roundtrip() -> Result:
    """Whether both graders give a right submission all points, and one with a wrong answer some of them."""
    scores: dict[str, tuple[float, float, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        python = environment(Path(place, "venv"), "nbgrader==0.9.6", "otter-grader==6.1.6", "ipykernel")
        add_ditlens(python)
        for kind, grade in (("nbgrader", by_nbgrader), ("otter", by_otter)):
            folder = Path(place, kind)
            hand_out(folder, kind, GRADED)
            for number in GRADED:
                scores[f"{kind} {number}"] = grade(folder, number, python.parent)
    good = [right == total and 0 < wrong < total for right, wrong, total in scores.values()]
    told = "; ".join(
        f"{name}: {right:g} and {wrong:g} of {total:g}" for name, (right, wrong, total) in scores.items()
    )
    note = f"points of a submission with all solutions, and of one whose first answer is a known wrong idea: {told}"
    return {"value": sum(good) / len(good), "n": len(good), "unit": "share", "note": note}


def add_ditlens(python: Path) -> None:
    """Let an environment see ditlens and its packages, after its own."""
    own = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], python.parent)
    Path(own.strip(), "peer.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n", "utf-8")


def fill_in(nb: nbformat.NotebookNode, number: str, wrong: bool, id_of: Callable[[int], str | None]) -> None:
    """Write the solutions into the cells to fill in; with `wrong`, of the first exercise a known wrong idea."""
    last = [
        (cell, CHECK.fullmatch(cell.source.splitlines()[-1]))
        for cell in editions.solution(number).cells
        if cell.cell_type == "code"
    ]
    solutions = {found[1]: (cell.source.rpartition("\n")[0], found[2]) for cell, found in last if found}
    first = LESSONS[number].exercises[0]
    for place, cell in enumerate(nb.cells):
        if (id := id_of(place)) is not None:
            code, answer = solutions[id]
            idea = f"\n{answer} = {first.ideas[0].example!r}"
            cell.source = code + (idea if wrong and id == first.id else "")


def by_nbgrader(folder: Path, number: str, tools: Path) -> tuple[float, float, float]:
    """Points of the right and of the wrong submission, and how many there are."""
    stem, path = LESSONS[number].stem, {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    run([tools / "nbgrader", "generate_assignment", stem, "--force"], folder, **path)
    for who in ("right", "wrong"):
        nb = nbformat.read(folder / "release" / stem / f"{stem}.ipynb", 4)
        ids = [cell.metadata.get("nbgrader", {}).get("grade_id", "") for cell in nb.cells]
        answers = [
            id.removeprefix("answer-").replace("-", ".") if id.startswith("answer-") else None for id in ids
        ]
        fill_in(nb, number, who == "wrong", answers.__getitem__)
        place = folder / "submitted" / who / stem
        place.mkdir(parents=True)
        nbformat.write(nb, place / f"{stem}.ipynb")
    run([tools / "nbgrader", "autograde", stem, "--force"], folder, **path)
    run([tools / "nbgrader", "export"], folder, **path)
    with (folder / "grades.csv").open() as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file) if row["assignment"] == stem}
    return float(rows["right"]["score"]), float(rows["wrong"]["score"]), float(rows["right"]["max_score"])


def by_otter(folder: Path, number: str, tools: Path) -> tuple[float, float, float]:
    """Points of the right and of the wrong submission, and how many there are."""
    stem, path = LESSONS[number].stem, {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    home = folder / stem
    run([tools / "otter", "assign", f"{stem}.ipynb", "dist"], home, **path)  # it also runs the solutions
    (grader,) = (home / "dist" / "autograder").glob("*.zip")
    points, total = [], 0.0
    for who in ("right", "wrong"):
        nb = nbformat.read(home / "dist" / "student" / f"{stem}.ipynb", 4)
        following = [re.fullmatch(r'grader\.check\("q(\d\d)_(\d+)"\)', cell.source) for cell in nb.cells[1:]]
        answers = [f"{found[1]}.{found[2]}" if found else None for found in following] + [None]
        fill_in(nb, number, who == "wrong", answers.__getitem__)
        place = home / who
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        nbformat.write(nb, place / f"{stem}.ipynb")
        run([tools / "otter", "run", "-a", grader, "-o", place, place / f"{stem}.ipynb"], home, **path)
        tests = [
            each
            for each in json.loads((place / "results.json").read_text())["tests"]
            if each.get("max_score")
        ]
        points.append(sum(each["score"] for each in tests))
        total = sum(each["max_score"] for each in tests)
    return points[0], points[1], total
