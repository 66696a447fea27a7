"""The entrance: ``ditlens`` and ``python -m ditlens``."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from typer import BadParameter

from ditlens.cli.app import wrong_usage
from ditlens.cli.commands import app

UsageError: type[Exception] = BadParameter.__bases__[0]
"""The base of all errors of usage; typer gives it no name of its own."""


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
        return int(app(words, prog_name="ditlens", obj=words, standalone_mode=False) or 0)
    except UsageError as error:
        return wrong_usage(error, "--json" in words)
    except SystemExit as end:  # shell completion, a closed pipe
        return int(end.code or 0)
