"""How an error of ditlens looks in IPython and Jupyter: what it says, then the reader's own lines."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

FULL = "DITLENS_TRACEBACK"
"""Environment variable that asks for full tracebacks; empty or 0: not."""

HINT = f"Look around with %debug. Full traceback: %env {FULL}=1, then %tb."

WIDTH = 79
"""Characters in a line of a message: front ends break longer ones inside words."""

LIBRARIES = tuple(
    dict.fromkeys([
        f"{Path(__file__).parent}{os.sep}",
        *(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib")),
    ])
)  # fmt: skip
"""Folders whose code is not the reader's own."""


def rendered(error: BaseException) -> list[str]:
    """An error as IPython shows it: its message, and those lines of its traceback that are the reader's own.

    Args:
        error: The error, with its traceback. What it was raised from is named where the message does not quote it.
    """
    if os.environ.get(FULL, "") not in ("", "0"):
        return in_full(error)
    found, cause, seen = [said(error)], error.__cause__, str(error)
    lines = list(own_lines(error))
    while cause is not None:
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        lines += [line for line in own_lines(cause) if line not in lines]
        if reason not in seen:
            found.append(f"Because of {type(cause).__name__}: {reason}")
            seen += reason
        cause = cause.__cause__
    return [*found, "", *lines, *[""] * bool(lines), HINT]


def said(error: BaseException) -> str:
    """Kind and message of an error, and the notes that were added to it."""
    text = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    wrapper = TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.fill(line) for line in text.splitlines())


def in_full(error: BaseException) -> list[str]:
    """The traceback as it always is."""
    if (shell := shell_of_ipython()) is None:
        return traceback.format_exception(error)
    return shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)


def own_lines(error: BaseException) -> Iterator[str]:
    """Where the reader's own code passed: the place and its line, for each frame from the outermost one."""
    for frame, number in traceback.walk_tb(error.__traceback__):
        name, function = frame.f_code.co_filename, frame.f_code.co_name
        code = linecache.getline(name, number, frame.f_globals).strip()
        if code and not name.startswith(LIBRARIES) and "site-packages" not in name:
            inside = "" if function == "<module>" else f", in {function}"
            yield f"{place_of(name)}, line {number}{inside}:\n    {code}"


def place_of(name: str) -> str:
    """A file's name, or what IPython calls a cell."""
    shell = shell_of_ipython()
    known = None if shell is None else shell.compile.format_code_name(name)
    return f"File {name}" if known is None else " ".join(known)


def shell_of_ipython() -> Any:
    """The shell that runs this code; None outside IPython."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
