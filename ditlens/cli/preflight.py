"""Is this computer ready for a lesson? What `doctor` looks at, and then whether the things themselves work."""

from __future__ import annotations

import contextlib
import platform
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ditlens as dl
from ditlens.cli import doctor
from ditlens.cli.demo import PORTRAIT
from ditlens.cli.doctor import Check
from ditlens.course.desk import VARIABLE, chosen_model
from ditlens.course.editions import METADATA, SOURCES
from ditlens.course.lessons import LESSONS

WISH = "make the person frown and add a crown"
FROWN = -0.6
"""A smile at most, and a crown: what the oracle reads after this edit on every machine that works."""
SLOW = 5.0
"""Seconds; an edit that takes longer makes a lesson tedious."""
CELL = "import ditlens as dl, ipywidgets, anywidget\nmodel = dl.load('portraits')\nmodel.name"
PORTS = range(8888, 8898)
"""Where JupyterLab looks for a free port."""


def examine(thorough: bool = False) -> list[Check]:
    """Run every check of `doctor`, and those of a lesson.

    Args:
        thorough: Whether to run notebook 00 from end to end, too.
    """
    found = [
        check
        for check in doctor.examine()
        if check.status != "ok" or check.name in ("python", "memory", "disk")
    ]
    checks = [
        check_home,
        check_course_model,
        check_edit,
        check_notebook_kernel,
        check_notebooks,
        check_port,
        *([check_lesson] if thorough else []),
    ]
    for look in checks:
        try:
            found += look()
        except Exception as error:  # whatever fails here would fail in the lesson
            said = " ".join(str(error).split())
            name = look.__name__.removeprefix("check_").replace("_", " ")
            found.append(Check(name, "fail", f"{type(error).__name__}: {said:.200}", "ditlens doctor"))
    return found


def facts(checks: list[Check]) -> dict[str, Any]:
    """What ``--json`` prints: one line for each computer, to be collected."""
    return {
        "ready": all(check.status != "fail" for check in checks),
        "computer": socket.gethostname(),
        "system": platform.platform(),
        "ditlens": dl.__version__,
        "checks": [check._asdict() for check in checks],
    }


def check_home() -> Iterator[Check]:
    """Jupyter can write its settings into the user's folder."""
    home = Path.home()
    try:
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        yield Check(
            "home", "fail", f"{home} cannot be written: {error.strerror}", "set HOME to a folder of yours"
        )


def check_course_model() -> Iterator[Check]:
    """The model that the notebooks will use is there, if it is another one."""
    name = chosen_model()
    if name != "portraits":
        yield Check("course model", "ok", f"{name}, as {VARIABLE} says")


def check_edit() -> Iterator[Check]:
    """The model loads and edits, as fast as a lesson needs, and the result is what it is elsewhere."""
    begun = time.perf_counter()
    model = dl.load("portraits")
    loaded = time.perf_counter() - begun
    yield Check(
        "load the model",
        "ok" if loaded < 30 else "warn",
        f"{loaded:.1f} s",
        "" if loaded < 30 else "restart; close other programs",
    )
    dl.edit(model, PORTRAIT, WISH, seed=0)  # the first one in a process is slower
    begun = time.perf_counter()
    edit = dl.edit(model, PORTRAIT, WISH, seed=0)
    took = time.perf_counter() - begun
    after = edit.after or {}
    smile, hat = float(after["smile"]), after["hat"]
    if smile > FROWN or hat != "crown":
        read = f"{took:.1f} s, but the oracle reads smile {smile:.2f} and hat {hat}"
        yield Check("edit a portrait", "fail", read, doctor.reinstall())
    elif took > SLOW:
        yield Check("edit a portrait", "warn", f"{took:.1f} s", "plug it in; close other programs")
    else:
        yield Check("edit a portrait", "ok", f"{took:.1f} s, result as it should be")


def check_notebook_kernel() -> Iterator[Check]:
    """A notebook's kernel starts, and has ditlens and its widgets."""
    from jupyter_client.manager import start_new_kernel

    begun = time.perf_counter()
    manager, client = start_new_kernel(kernel_name="python3", stderr=subprocess.DEVNULL)
    try:
        reply = client.execute_interactive(CELL, timeout=120, output_hook=lambda _: None)["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    took = f"{time.perf_counter() - begun:.1f} s"
    if reply["status"] == "ok":
        yield Check("notebook kernel", "ok", took)
    else:
        yield Check(
            "notebook kernel",
            "fail",
            f"{reply['ename']}: {reply['evalue']:.150}",
            doctor.pip('"ditlens[views]"'),
        )


def check_notebooks() -> Iterator[Check]:
    """The notebooks are there, to be written with ``ditlens course``."""
    missing = [each.stem for each in LESSONS.values() if not (SOURCES / f"{each.stem}.ipynb").is_file()]
    if missing:
        yield Check("notebooks", "fail", f"not in {SOURCES}: {', '.join(missing)}", doctor.reinstall())
    else:
        yield Check("notebooks", "ok", f"{len(LESSONS)}; to have a copy: ditlens course my-course")


def check_port() -> Iterator[Check]:
    """JupyterLab finds a port."""
    for port in PORTS:
        with contextlib.closing(socket.socket()) as place, contextlib.suppress(OSError):
            place.bind(("127.0.0.1", port))
            yield Check("port", "ok", f"{port} is free for JupyterLab")
            return
    yield Check(
        "port",
        "warn",
        f"{PORTS[0]} to {PORTS[-1]} are in use",
        "close other notebooks, or jupyter lab --port 9999",
    )


def check_lesson() -> Iterator[Check]:
    """Notebook 00 runs from end to end."""
    import nbformat
    from nbclient import NotebookClient

    path = SOURCES / f"{LESSONS['00'].stem}.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.metadata = nbformat.from_dict(METADATA)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(nb, timeout=300, resources={"metadata": {"path": str(Path(folder))}}).execute()
    yield Check("notebook 00", "ok", f"all cells in {time.perf_counter() - begun:.0f} s")
