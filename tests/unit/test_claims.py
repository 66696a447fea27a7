"""Claims: one worker for each item, and no item waits for a worker that has ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from ditlens.lens.study import claims
from ditlens.lens.study.claims import STALE, claim, is_gone, signature


@pytest.fixture
def other():
    """A living process that is not this one."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def put(folder, text, age=0.0):
    path = folder / "claims" / "a"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)


def is_free(folder):
    with claim(folder, "a") as mine:
        return mine


def test_one_at_a_time(tmp_path):
    with claim(tmp_path, "a") as first:
        assert first and not is_free(tmp_path)
        with claim(tmp_path, "b") as another:
            assert another
    assert is_free(tmp_path)


def test_the_claim_of_a_living_process_holds(tmp_path, other):
    start = psutil.Process(other.pid).create_time()
    put(tmp_path, f"{socket.gethostname()} {other.pid} {start:.2f}")
    assert not is_free(tmp_path)
    other.kill()  # a zombie until it is waited for
    deadline = time.time() + 20
    while not is_free(tmp_path):
        assert time.time() < deadline, "the claim of a killed process still holds"
        time.sleep(0.05)


def test_a_process_number_that_was_given_again_holds_nothing(tmp_path, other):
    """Else the study would wait for ever for an unrelated process."""
    put(tmp_path, f"{socket.gethostname()} {other.pid} {time.time() - 1e5:.2f}")
    assert is_free(tmp_path)
    put(tmp_path, f"{socket.gethostname()} 99999999 {time.time():.2f}")
    assert is_free(tmp_path)


def test_another_machine_keeps_its_claim_while_there_is_a_heartbeat(tmp_path):
    put(tmp_path, "elsewhere 5 1000.00", age=STALE / 2)
    assert not is_free(tmp_path)
    put(tmp_path, "elsewhere 5 1000.00", age=2 * STALE)
    assert is_free(tmp_path)


def test_a_claim_that_names_no_worker_holds_for_a_moment(tmp_path):
    for text in ("", "elsewhere 5", "a b c"):
        put(tmp_path, text)
        assert not is_free(tmp_path)
        put(tmp_path, text, age=60)
        assert is_free(tmp_path)


def wait_for(condition):
    deadline = time.time() + 20
    while not condition():
        assert time.time() < deadline
        time.sleep(0.01)


def test_a_long_item_keeps_its_claim(tmp_path, monkeypatch):
    """Without a heartbeat another machine runs every item again that takes longer than STALE."""
    monkeypatch.setattr(claims, "HEARTBEAT", 0.02)
    path = tmp_path / "claims" / "a"
    with claim(tmp_path, "a") as mine:
        assert mine
        os.utime(path, (time.time() - 2 * STALE,) * 2)
        wait_for(lambda: time.time() - path.stat().st_mtime < STALE)
    assert not path.exists()


def test_a_claim_that_was_taken_over_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT", 0.02)
    path = tmp_path / "claims" / "a"
    with claim(tmp_path, "a"):
        put(tmp_path, "elsewhere 5 1000.00", age=50)
        stamp = path.stat().st_mtime_ns
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "heartbeat"])
        assert path.stat().st_mtime_ns == stamp
    assert path.read_text() == "elsewhere 5 1000.00"


def test_this_process(tmp_path):
    host, number, start = signature().split()
    assert (host, int(number)) == (socket.gethostname(), os.getpid())
    assert not is_gone(int(number), float(start)) and not is_gone(int(number))
