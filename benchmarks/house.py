"""Measure the package itself: `make bench-house`.

Writes ``benchmarks/results/house.json`` after every key; with ``--only``, the other keys keep what was measured
last. Compared is with the commit `BEFORE`, whose figures come from git, or from here where git has no history.
"""

from __future__ import annotations

import ast
import graphlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, ROOT
from benchmarks.keys import MeasureError, measure_keys
from benchmarks.report import Result

PACKAGE = ROOT / "ditlens"
BEFORE, LINES_BEFORE = "498532f", 14682
"""The commit to compare with, and its lines of code."""
NEW = ("cli/checks.py", "ems/plain.py", "lens/study/ray_engine.py", "worlds/world.py")
"""Files of features that the commit before did not have; what is not there yet does not count."""
FIGURES = ("--captions", "400", "--sweeps", "20")
"""The counts with which most figures of the model were measured before."""
TIMES = {"s", "1/s"}
"""Units of figures that depend on the machine: these count as changed only where they got worse."""
REPEATS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    return measure_keys(RESULTS / "house.json", MEASURES, "Measure the package itself.", argv)


def run(*command: str | Path, folder: Path = ROOT, ok: bool = True) -> tuple[str, float]:
    """Run a command; what it wrote, and the seconds it took.

    Raises:
        MeasureError: If its exit code says success although `ok` is false, or the reverse.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if (done.returncode == 0) != ok:
        tail = (done.stdout + done.stderr)[-2000:]
        raise MeasureError(f"{' '.join(map(str, command))} left with {done.returncode}:\n{tail}")
    return done.stdout + done.stderr, seconds


# --- the layout --------------------------------------------------------------------------------------------


def import_contracts() -> Result:
    """Broken contracts of import-linter, and modules that import themselves in a circle."""
    import grimp

    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    found = re.search(r"Contracts: (\d+) kept, (\d+) broken", done.stdout)
    if found is None:
        raise MeasureError(f"lint-imports said: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    kept, broken = map(int, found.groups())
    graph = grimp.build_graph("ditlens", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
        cycles = 0
    except graphlib.CycleError:
        cycles = 1
    note = (
        "broken contracts of pyproject.toml, plus 1 if there is a circle of modules; imports for types count"
    )
    parts = {"contracts": kept + broken, "broken": broken, "cycles": cycles, "modules": len(imports)}
    return {"value": broken + cycles, "n": kept + broken, "unit": "broken", "note": note, "parts": parts}


def rooms() -> Result:
    """What a reader sees who opens the folder of the package."""
    folders = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
    files = sorted(path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__"))
    note = (
        "folders with Python code and files *.py at the top of ditlens/, without __init__.py and __main__.py"
    )
    parts = {"folders": folders, "files": files}
    return {"value": len(folders + files), "n": 1, "unit": "rooms", "note": note, "parts": parts}


def world_string_tests() -> Result:
    """Places that ask for the portraits world by its name."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.is_relative_to(PACKAGE / "worlds")]
    paths.remove(PACKAGE / "models" / "loading.py")
    found = {path.relative_to(ROOT).as_posix(): name_tests(path.read_text("utf-8")) for path in paths}
    parts = {name: lines for name, lines in found.items() if lines}
    note = 'comparisons (==, !=, in, not in, case) with the string "portraits"; parts: lines by file'
    count = sum(map(len, parts.values()))
    return {"value": count, "n": len(paths), "unit": "comparisons", "note": note, "parts": parts}


def name_tests(source: str, name: str = "portraits") -> list[int]:
    """The lines on which a source text compares something with a name."""
    compared: list[ast.AST] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            compared += [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared.append(node.value)
    strings = [
        inner
        for node in compared
        for inner in (node, *getattr(node, "elts", ()))
        if isinstance(inner, ast.Constant)
    ]
    return [node.lineno for node in strings if node.value == name]


# --- the size ----------------------------------------------------------------------------------------------


def lines_ratio() -> Result:
    """Lines of code now over those of the commit before, files of new features left out."""
    now = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    everything = sum(map(code_lines, now.values()))
    new = {name: code_lines(now[name]) for name in NEW if name in now}
    before = lines_before()
    parts = {"all": everything, "new": new, "before": before, "ratio of all": round(everything / before, 4)}
    note = f"without blank lines, comments, docstrings and the files under `new`, over all lines at {BEFORE}"
    value = (everything - sum(new.values())) / before
    return {"value": value, "n": len(now), "unit": "ratio", "note": note, "parts": parts}


def lines_before() -> int:
    """The lines of code of the commit before, from git where it has it."""
    done = subprocess.run(["git", "archive", BEFORE, "ditlens"], cwd=ROOT, capture_output=True)
    if done.returncode:
        return LINES_BEFORE
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        files = [archive.extractfile(member) for member in archive if member.name.endswith(".py")]
        return sum(code_lines(file.read().decode("utf-8")) for file in files if file)


def code_lines(source: str) -> int:
    """The lines of a source text that hold code: no blank lines, comments or docstrings."""
    layout = {
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    }  # fmt: skip
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


# --- the installation and the tests ------------------------------------------------------------------------


def wheel_works() -> Result:
    """The wheel in a fresh environment, elsewhere, read-only and offline."""
    said, seconds = run(
        sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "slow or not slow", "tests/packaging"
    )
    note = "demo, doctor, load and --help in a fresh environment, elsewhere, read-only and offline: tests/packaging"
    parts = {"said": said.strip().splitlines()[-1], "seconds": round(seconds)}
    return {"value": 1, "n": 1, "unit": "works", "note": note, "parts": parts}


def test_minutes() -> Result:
    """`make test` with two processes, in the environment that runs this."""
    folder = Path(sys.executable).parent
    said, seconds = run("make", "-o", ".venv/.installed", f"BIN={folder}", "WORKERS=2", "test")
    summary = next(line for line in reversed(said.splitlines()) if " passed" in line)
    note = "make test with two processes of one thread each: format, lint, types, imports and tests"
    parts = {"pytest": summary.strip("= ")}
    return {"value": seconds / 60, "n": 1, "unit": "min", "note": note, "parts": parts}


# --- errors ------------------------------------------------------------------------------------------------


def error_seconds() -> Result:
    """From a mistake to the message: the slowest of several mistakes, on the command line and in Python."""
    import ditlens as dl
    from ditlens.errors import DitlensError
    from ditlens.files import DATA
    from ditlens.models.loading import load

    portrait, wish = str(DATA / "examples" / "portrait.png"), "make the person frown"
    cases: dict[str, tuple[str, str, dict[str, Any]]] = {
        "path": ("missing.png", wish, {}),
        "degree": (portrait, wish, {"degree": 99.0}),
        "mask": (portrait, wish, {"mask": "missing.png"}),
        "method": (portrait, wish, {"method": "emz"}),
        "word": (portrait, "make the person frobnicate", {}),
    }
    model = load("portraits", device="cpu")
    parts: dict[str, Result] = {}
    for name, (image, text, settings) in cases.items():
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        with tempfile.TemporaryDirectory() as folder:
            command = (sys.executable, "-m", "ditlens", "edit", image, text, *words)
            runs = [run(*command, folder=Path(folder), ok=False) for _ in range(REPEATS)]
        if "Traceback" in runs[0][0]:
            raise MeasureError(f"a wrong {name} ends in a traceback:\n{runs[0][0][-2000:]}")
        start = time.perf_counter()
        try:
            dl.edit(model, image, text, **settings)
        except DitlensError as error:
            called, message = time.perf_counter() - start, str(error)
        else:
            raise MeasureError(f"dl.edit accepts a wrong {name}")
        seconds = statistics.median(seconds for _, seconds in runs)
        parts[name] = {
            "command": round(seconds, 3),
            "dl.edit": round(called, 3),
            "says": message.splitlines()[0],
        }
    worst = max(max(part["command"], part["dl.edit"]) for part in parts.values())
    note = (
        f"the slowest of {len(cases)} mistakes; command: whole process of `python -m ditlens edit`, median of "
        f"{REPEATS}; dl.edit: the call, with the model loaded"
    )
    return {"value": worst, "n": len(cases), "unit": "s", "note": note, "parts": parts}


# --- the figures of the model ------------------------------------------------------------------------------


def figures_unchanged() -> Result:
    """How many figures of the portraits model left the interval in which they were before."""
    shown = subprocess.run(
        ["git", "show", f"{BEFORE}:benchmarks/results/model.json"], cwd=ROOT, capture_output=True
    )  # fmt: skip
    if shown.returncode:
        raise MeasureError(f"git has no commit {BEFORE} to compare with: git fetch --unshallow")
    before = json.loads(shown.stdout)
    out = ROOT / "outputs" / "bench-house"
    run(sys.executable, "-m", "benchmarks.model", "--only", ",".join(before), *FIGURES, "--out", out)
    now = json.loads((out / "benchmarks" / "results" / "model.json").read_text("utf-8"))
    parts = {
        key: {"value": now[key]["value"], "before": old["value"], "low": old["low"], "high": old["high"],
              "inside": is_unchanged(now[key]["value"], old)}
        for key, old in before.items()
    }  # fmt: skip
    outside = [key for key, part in parts.items() if not part["inside"]]
    note = (
        f"figures of `python -m benchmarks.model {' '.join(FIGURES)}` outside their 95 % interval at {BEFORE}, or "
        "more than 1 % off where they have none; times count where they got worse"
    )
    return {"value": len(outside), "n": len(parts), "unit": "figures", "note": note, "parts": parts}


def is_unchanged(value: float, old: Result) -> bool:
    """Whether a figure is where it was; a time may be shorter, a speed higher."""
    low, high = old["low"], old["high"]
    if low is None:
        low, high = old["value"] - 0.01 * abs(old["value"]), old["value"] + 0.01 * abs(old["value"])
    if old["unit"] in TIMES:
        return value <= high if old["unit"] == "s" else value >= low
    return low <= value <= high


MEASURES: dict[str, Callable[[], Result]] = {
    "import_contracts_broken": import_contracts,
    "rooms": rooms,
    "world_string_tests": world_string_tests,
    "lines_ratio": lines_ratio,
    "wheel_works": wheel_works,
    "test_minutes": test_minutes,
    "error_seconds": error_seconds,
    "figures_unchanged": figures_unchanged,
}
"""Every key, and how it is measured: the quick ones first."""

if __name__ == "__main__":
    sys.exit(main())
