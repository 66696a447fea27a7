"""Files: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
DATA = next((f for f in (PACKAGE / "data", PACKAGE.parent / "data") if f.is_dir()), PACKAGE / "data")
"""The shipped models and examples: inside the installed package, or beside it in a clone of the repository."""
STALE = 300.0
"""Seconds without a touch after which a claim counts as abandoned."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[Any]) -> None:
    """`write_whole` of bytes and arrays that follow one another and are never together in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with partial.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of writers that were killed."""
    for path in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        with contextlib.suppress(FileNotFoundError):  # another worker was quicker
            if _is_leftover(path):
                path.unlink()


def _is_leftover(path: Path) -> bool:
    """Whether nobody writes an unfinished file any more; its name says who did."""
    start, _, rest = path.name.partition(f".{socket.gethostname()}.")
    number = rest.partition(".")[0]
    here = bool(start) and number.isdecimal()
    return (here and is_gone(int(number))) or time.time() - path.stat().st_mtime > STALE


def is_gone(number: int, start: float | None = None) -> bool:
    """Whether a process of this machine has ended; its number may have gone to another since.

    Args:
        number: The process number.
        start: When it began, in seconds; not compared if unknown.
    """
    import psutil

    try:
        process = psutil.Process(number)
        if process.status() == psutil.STATUS_ZOMBIE:  # it has ended, and its parent has not looked yet
            return True
        return start is not None and abs(process.create_time() - start) > 2
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
