"""Voilà as `Server` starts it: it ends when the process that has the model is gone, killed perhaps."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import threading
import time

from ditlens.files import is_gone
from ditlens.views.app.server import END, PARENT

GRACE = 3.0
"""Seconds in which the pages say that the model is gone."""


def end_with(parent: int) -> None:
    """End Voilà, and so its pages, after another process has ended."""
    while not is_gone(parent):
        time.sleep(1.0)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END)
    os._exit(1)


if __name__ == "__main__":
    parent = int(os.environ[PARENT])
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    try:
        runpy.run_module("voila", run_name="__main__", alter_sys=True)
    finally:
        if is_gone(parent):
            shutil.rmtree(os.getcwd(), ignore_errors=True)  # what `Server` would have removed
