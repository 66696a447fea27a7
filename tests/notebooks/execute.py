"""Build notebooks from their sources, run and save them: ``python tests/notebooks/execute.py``.

With numbers (``... execute.py 05 06``) only those. ``--solutions`` runs the editions with the exercises filled in
instead, saves nothing, and prints every verdict.

The committed form has the outputs of one run from top to bottom, and nothing else: no widget state, no times, no
traces of the machine.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from ditlens.course.editions import METADATA, solution, student
from ditlens.course.lessons import LESSONS

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {number: ROOT / "notebooks" / f"{each.stem}.ipynb" for number, each in LESSONS.items()}
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(nb: NotebookNode, folder: Path, timeout: int = 300, **settings: str) -> NotebookNode:
    """Run all cells of a notebook in a fresh kernel that knows no settings of the user.

    Args:
        nb: The notebook; it is changed.
        folder: Working folder of the kernel.
        timeout: Seconds that one cell may take.
        **settings: Environment variables.

    Returns:
        The notebook with its outputs, in the committed form.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    with tempfile.TemporaryDirectory() as ipython:
        environment = os.environ | {"IPYTHONDIR": ipython, "PYTHONWARNINGS": "default"} | settings
        client = NotebookClient(
            nb,
            timeout=timeout,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
        )
        client.execute(env=environment)
    return committed(nb)


def committed(nb: NotebookNode) -> NotebookNode:
    """Reduce an executed notebook to what is committed; standard error, where bars and warnings go, is left out."""
    nb.metadata = nbformat.from_dict(METADATA)
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
        if cell.cell_type == "code":
            cell.outputs = [reduced(output) for output in cell.outputs if is_kept(output)]
    return nb


def is_kept(output: NotebookNode) -> bool:
    emptied = "data" in output and not any(output.data.values())  # a bar that is gone
    return output.get("name") != "stderr" and WIDGET not in output.get("data", {}) and not emptied


def reduced(output: NotebookNode) -> NotebookNode:
    """An output without its metadata and without the folder of this repository."""
    if "metadata" in output:
        output.metadata = nbformat.from_dict({})
    if "text" in output:
        output.text = without_root(output.text)
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = without_root(content)
    return output


def without_root(text: str) -> str:
    return text.replace(f"{ROOT}{os.sep}", "")


def verdicts(nb: NotebookNode) -> dict[str, str]:
    """What the checks of an executed notebook said, by exercise: ``✓ right``, ``✗ not yet`` or ``○ open``."""
    texts = [
        output.get("data", {}).get("text/plain", "")
        for cell in nb.cells
        for output in cell.get("outputs", [])
    ]
    return dict(re.findall(r"^(\d\d\.\d+) · .*: ([✓✗○] [a-z ]+)$", "\n".join(texts), re.M))


def main(words: Sequence[str]) -> None:
    """Build and execute the notebooks of the given numbers, by default all."""
    solutions = "--solutions" in words
    for number in [word for word in words if word in LESSONS] or LESSONS:
        notebook, begun = NOTEBOOKS[number], time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            nb = execute((solution if solutions else student)(number), Path(folder))
        took = f"{time.perf_counter() - begun:.0f} s"
        if solutions:
            print(f"{notebook.stem}: {took}", *verdicts(nb).items(), sep="\n    ")
        else:
            nbformat.write(nb, notebook)
            print(f"{notebook.name}: {took}, {notebook.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
