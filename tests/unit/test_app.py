"""The app without a browser: the hub and its line, the desk between processes, the way in, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from multiprocessing import AuthenticationError
from urllib.request import Request, build_opener, urlopen

import psutil
import pytest
from PIL import Image

from ditlens.cli import main as cli
from ditlens.errors import MissingDependencyError, SettingError
from ditlens.views.app import remote, server
from ditlens.views.app.hub import Hub, open_desk
from ditlens.views.app.remote import Door, RemoteSession, connect, open_page
from ditlens.views.editor.page import Page
from ditlens.views.editor.session import Session

WISHES = [("a red shirt", "a blue shirt", 3), ("a man", "a man with a crown", 4)]


@pytest.fixture
def hub(portraits):
    made = Hub(portraits, seats=2)
    yield made
    made.close()


def until(condition, seconds=10.0):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def picture(k):
    """A picture as a file in memory."""
    memory = io.BytesIO()
    Image.effect_mandelbrot((128, 128), (-2, -1.5, 1 + k, 1.5), 20).convert("RGB").save(memory, "PNG")
    return memory.getvalue()


# --- the hub ---------------------------------------------------------------------------------------------------


def test_who_comes_first_is_seated_and_the_next_waits_in_line(hub):
    first, second, third, fourth = (hub.join() for _ in range(4))
    assert [hub.place(each) for each in (first, second, third, fourth)] == [(0, 2), (0, 2), (1, 2), (2, 2)]
    with pytest.raises(ConnectionError, match="not yet your turn"):
        hub.call(third, "shown")
    session = hub._guests[first].session
    hub.leave(first)
    with pytest.raises(EOFError):
        session.wait()
    assert [hub.place(each) for each in (third, fourth)] == [(0, 2), (1, 2)]
    assert hub.call(third, "shown")["index"] == 0
    with pytest.raises(ConnectionError, match="Nobody has this ticket"):
        hub.place(first)


def test_who_is_silent_loses_the_seat(portraits):
    hub = Hub(portraits, seats=1, patience=0.4)
    silent, waiting = hub.join(), hub.join()
    assert (hub.place(silent), hub.place(waiting)) == ((0, 1), (1, 1))
    until(lambda: hub.place(waiting) == (0, 1))
    assert hub.tickets == [waiting]
    hub.call(waiting, "wait", hub.call(waiting, "shown")["version"], 0.3)
    assert hub.tickets == [waiting], "who waits for news is not silent"
    hub.close()
    assert hub.tickets == []
    with pytest.raises(ConnectionError):
        hub.join()


def test_whose_process_has_ended_loses_the_seat_at_once(portraits):
    hub = Hub(portraits, seats=1)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    killed, waiting = hub.join(process.pid), hub.join(os.getpid())
    assert (hub.place(killed), hub.place(waiting)) == ((0, 1), (1, 1))
    process.kill()
    until(lambda: hub.place(waiting) == (0, 1), 5.0)
    process.wait()
    hub.close()


def test_only_public_methods_of_a_session_can_be_called(hub):
    ticket = hub.join()
    hub.place(ticket)
    for name in ("_make", "__class__", "model", "nothing"):
        with pytest.raises(AttributeError, match="a session has no method"):
            hub.call(ticket, name)


# --- the desk --------------------------------------------------------------------------------------------------

DRIVE = """
import hashlib, json, os, sys, threading
from ditlens.views.app.remote import RemoteSession, connect

desk, wishes = (sys.argv[1], bytes.fromhex(sys.argv[2])), json.loads(sys.stdin.read())
found = {}

def work(k, picture, source, target, seed):
    hub = connect(*desk)
    ticket = hub.join()
    assert hub.place(ticket)[0] == 0
    session, version = RemoteSession(hub, ticket), -1
    session.open(bytes.fromhex(picture), "mine.png")
    session.configure(seed=seed)
    session.set_texts(source, target)
    while True:
        shown = session.wait(version) or {"version": version, "kind": "", "busy": "x"}
        version = shown["version"]
        if shown["kind"] == "edit" and not shown["busy"]:
            break
    found[k] = [shown["state"]["target_text"], hashlib.sha256(shown["before"] + shown["after"]).hexdigest()]
    session.close()

threads = [threading.Thread(target=work, args=(k, *wish)) for k, wish in enumerate(wishes)]
for thread in threads: thread.start()
for thread in threads: thread.join()
heavy = sorted({"torch", "numpy", "PIL", "diffusers", "matplotlib"} & set(sys.modules))
print(json.dumps([found, heavy]))
"""


def test_two_pages_in_another_process_do_not_mix_and_need_no_torch(hub, portraits):
    address, key = open_desk(hub)
    wishes = [(picture(k).hex(), *wish) for k, wish in enumerate(WISHES)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVE, address, key.hex()], input=json.dumps(wishes), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, heavy = json.loads(done.stdout)
    assert heavy == []
    for k, (source, target, seed) in enumerate(WISHES):
        alone = Session(portraits)
        alone.open(picture(k), "mine.png")
        alone.configure(seed=seed)
        alone.set_texts(source, target)
        until(lambda one=alone: one.shown()["kind"] == "edit" and not one.shown()["busy"])
        shown = alone.shown()
        alone.close()
        assert found[str(k)] == [target, hashlib.sha256(shown["before"] + shown["after"]).hexdigest()]
    assert found["0"][1] != found["1"][1]
    assert hub.tickets == [], "both have left"


def test_strangers_are_refused(hub):
    address, _ = open_desk(hub)
    with pytest.raises(AuthenticationError):
        connect(address, b"a guess")


def test_errors_of_a_session_come_through_in_words(hub):
    desk = open_desk(hub)
    session = RemoteSession(connect(*desk), hub.join())
    with pytest.raises(EOFError, match="The model is not there any more"):
        session.shown()  # not seated yet
    hub.place(session.ticket)
    session.stop()
    with pytest.raises(AttributeError):
        session._repr_html_()
    hub.call(session.ticket, "stop")
    session.extract("")
    assert session.shown()["error"] == "Say what to change, e.g. make her smile."


# --- the way in ------------------------------------------------------------------------------------------------


def test_the_ninth_is_told_and_gets_in(portraits, monkeypatch):
    monkeypatch.setattr(remote, "EVERY", 0.02)
    hub = Hub(portraits, seats=1)
    first, second, third = Door(hub), Door(hub), Door(hub)
    assert isinstance(first.children[0], Page)
    assert "1 person is at work; you are number 1 in line." in second.note.value
    assert "1 person is at work; you are number 2 in line." in third.note.value
    hub.leave(first.ticket)
    until(lambda: isinstance(second.children[0], Page))
    assert "you are number 1 in line" in third.note.value
    page = first.children[0]
    until(lambda: "This page has ended" in page.error.value)
    hub.close()
    until(lambda: "The model is not there any more" in third.note.value)
    page = second.children[0]
    until(lambda: "This page has ended" in page.error.value)


def test_what_is_wrong_is_said_on_the_page(monkeypatch, tmp_path):
    monkeypatch.setenv(remote.ADDRESS, str(tmp_path / "nobody"))
    monkeypatch.setenv(remote.KEY, "00")
    assert "The model is not there any more" in open_page().value
    monkeypatch.delenv(remote.ADDRESS)
    assert "KeyError" in open_page().value


# --- the command -----------------------------------------------------------------------------------------------


def test_a_port_that_cannot_be_had_is_refused(capsys):
    pytest.importorskip("voila")  # what the page needs is looked at first
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=rf"No server can listen on 127.0.0.1:{port}: .*port=0"):
            server.check(port, "127.0.0.1")
        assert cli.main(["app", "--port", str(port)]) == 1
    assert "let the system take a free one: --port 0." in capsys.readouterr().err
    with pytest.raises(SettingError, match="ports are numbers from 0 to 65535"):
        server.check(70_000, "127.0.0.1")
    assert server.check(0, "127.0.0.1") > 1000


def test_what_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setattr(server, "PACKAGES", ("voila_that_is_not_there", "json"))
    with pytest.raises(
        MissingDependencyError, match=r"needs voila_that_is_not_there. Type: pip install 'ditlens\[app\]'"
    ):
        server.check(0, "127.0.0.1")
    assert cli.main(["app", "--model", "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err


def test_the_command_imports_no_torch_before_it_has_checked():
    code = "import sys; from ditlens.views.app import remote, server; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_however_it_ends_no_process_is_left(name, portraits_folder, tmp_path):
    pytest.importorskip("voila")
    command = [
        sys.executable,
        "-m",
        "ditlens",
        "app",
        "--model",
        str(portraits_folder),
        "--port",
        "0",
        "--no-browser",
    ]
    temporary = {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, env=os.environ | temporary, stderr=subprocess.PIPE, text=True)
    first, second = started.stderr.readline(), started.stderr.readline()
    assert second == "It runs on this computer, and only this computer can open it.\n"
    url = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", first)[0]
    html = urlopen(url, timeout=60).read().decode()
    assert "<title>ditlens: " in html and "application/vnd.jupyter.widget-view+json" in html
    assert re.findall(r"(?:src|href|from|import)[ =(]*[\"']https?://", html) == [], (
        "nothing is loaded from elsewhere"
    )
    login = build_opener().open(Request(url.partition("?")[0]), timeout=60)
    assert "/login" in login.url and "widget-view" not in login.read().decode()
    family = psutil.Process(started.pid).children(recursive=True)
    assert len(family) == 2, "Voilà and one page"
    started.send_signal(getattr(signal, name))
    code = started.wait(30)
    assert code == (-9 if name == "SIGKILL" else 0), started.stderr.read()
    _, alive = psutil.wait_procs(family, 20)
    assert alive == []
    until(lambda: not list(tmp_path.glob("ditlens-app-*")))


@pytest.mark.slow
def test_when_the_server_of_the_pages_ends_so_does_the_app(portraits, monkeypatch):
    pytest.importorskip("voila")
    from ditlens.errors import DitlensError
    from ditlens.views.app.run import App

    app = App(portraits, port=0)
    app.server.process.kill()
    with pytest.raises(
        DitlensError, match=r"(?s)has ended by itself. Voilà said last: .*Voilà is running at"
    ):
        app.server.wait()
    app.close()
    monkeypatch.setattr(server, "CODE", "1")
    monkeypatch.setattr(server, "START", 0.1)
    with pytest.raises(DitlensError, match="did not start"):
        App(portraits, port=0)
