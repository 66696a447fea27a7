"""Run notebooks from a clean kernel and save them as they are committed: ``python tests/notebooks/execute.py``.

The committed form has the outputs of one run from top to bottom, and nothing else: no widget state, no times, no
traces of the machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(notebook: Path, folder: Path, timeout: int = 300) -> NotebookNode:
    """Run all cells of a notebook in a fresh kernel that knows no settings of the user.

    Args:
        notebook: The file; it is not changed.
        folder: Working folder of the kernel.
        timeout: Seconds that one cell may take.

    Returns:
        The notebook with its outputs, in the committed form.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    nb = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as settings:
        environment = os.environ | {"IPYTHONDIR": settings, "PYTHONWARNINGS": "default"}
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


def main(names: Sequence[str]) -> None:
    """Execute the named notebooks, by default all, and save each in place."""
    for notebook in [Path(name).resolve() for name in names] or NOTEBOOKS:
        nb = execute(notebook, notebook.parent)
        nbformat.write(nb, notebook)
        print(f"{notebook.name}: {notebook.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
