"""The entrance: ``ditlens`` and ``python -m ditlens``."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from ditlens.cli.commands import app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``ditlens``; those of the process by default.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns about parts that are not used here
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a console cannot show is written as an escape
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        app(words, prog_name="ditlens", obj=words)
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("typer ends every command with SystemExit")
