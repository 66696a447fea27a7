"""Claims: which worker is at which item of a study, as small files in the folder that all workers share.

A claim is a lease with a heartbeat. It names host, process number and start time of its worker, which touches the
file while it works. A claim is abandoned when its process has ended, or when there has been no heartbeat for
`STALE` seconds; the next worker then takes the item over. (Locks of one machine, such as filelock's, say nothing
about workers of others.)
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ditlens.files import STALE, is_gone, patiently, write_errors

HEARTBEAT = 20.0
"""Seconds between two touches of a claim."""
UNREADABLE = 5.0
"""Seconds after which a claim that names no worker counts as abandoned: its worker died while writing."""


@contextlib.contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Try to claim an item; yields whether it is ours. An abandoned claim is taken over.

    Args:
        folder: The study.
        name: The item's name.
    """
    path = folder / "claims" / name
    mine = signature()
    if not _take(path, mine):
        yield False
        return
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, mine, done), name="heartbeat", daemon=True)
    heart.start()
    try:
        yield True
    finally:
        done.set()
        heart.join()
        if _text(path) == mine:  # another may have taken it over
            patiently(lambda: path.unlink(missing_ok=True))


def signature() -> str:
    """Host, process number and start time of this process."""
    import psutil

    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def is_abandoned(path: Path) -> bool:
    """Whether a claim holds no longer: its process has ended, its heartbeat has stopped, or it is not there."""
    try:
        text, age = _text(path), time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    try:
        host, number, start = text.split()
        process = int(number), float(start)
    except ValueError:
        return age > UNREADABLE
    return age > STALE or (host == socket.gethostname() and is_gone(*process))


def _take(path: Path, mine: str) -> bool:
    """Write a claim, unless there is one that holds.

    Raises:
        WriteError: If none can be written here.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(mine)
                return True
            except FileExistsError:
                if not is_abandoned(path):
                    return False
            except OSError:
                path.unlink(missing_ok=True)  # one that names nobody would keep others away
                raise
            patiently(lambda: path.unlink(missing_ok=True))
    return False


def _beat(path: Path, mine: str, done: threading.Event) -> None:
    """Touch a claim until the work is done or another worker has taken it over."""
    while not done.wait(HEARTBEAT):
        with contextlib.suppress(OSError):  # a network drive may be away for a moment
            if _text(path) != mine:
                return
            os.utime(path)


def _text(path: Path) -> str:
    """What a claim says; nothing if it is gone."""
    try:
        return patiently(lambda: path.read_text("utf-8"))
    except FileNotFoundError:
        return ""
