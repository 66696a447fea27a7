"""Workers of a benchmark do not outlive the process that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = """
import sys, time
from ditlens.bench.workers import end_with_parent
end_with_parent(int(sys.argv[1]), 0.05)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
words = [sys.executable, "-c", {WORKER!r}, str(os.getpid())]
print(subprocess.Popen(words, stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(60)
"""


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc here, or gone in between
        return not Path("/proc").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX processes")
def test_a_worker_ends_with_its_parent():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert runs(worker), "as long as the parent lives"
        parent.kill()
    for _ in range(300):
        if not runs(worker):
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    pytest.fail("the worker went on for 30 seconds")
