"""Firefox as it is installed, over its own remote control: just enough to run a script in a page."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
PORT = 2828


class Firefox:
    """A headless Firefox that takes one command after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.number, self.rest = connection, 0, b""
        self._read()  # a greeting
        self.command("WebDriver:NewSession", capabilities={})

    def _read(self) -> Any:
        while b":" not in self.rest:
            self.rest += self.connection.recv(65536)
        length, _, data = self.rest.partition(b":")
        while len(data) < int(length):
            data += self.connection.recv(65536)
        self.rest = data[int(length) :]
        return json.loads(data[: int(length)])

    def command(self, name: str, **arguments: Any) -> Any:
        """Send a command, and return its result."""
        self.number += 1
        data = json.dumps([0, self.number, name, arguments]).encode()
        self.connection.sendall(str(len(data)).encode() + b":" + data)
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def goto(self, url: str) -> None:
        """Open a page."""
        self.command("WebDriver:Navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an async JavaScript function's body."""
        body = f"const done = arguments[0]; (async () => {{ {script} }})().then(done, (e) => done(`${{e}}`));"
        found = self.command("WebDriver:ExecuteAsyncScript", script=body, args=[], scriptTimeout=120_000)
        return found["value"]


@contextlib.contextmanager
def firefox(profile: Path) -> Iterator[Firefox]:
    """A fresh headless Firefox."""
    assert FIREFOX is not None
    words = [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", str(profile)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", PORT))
                break
            time.sleep(0.5)
        else:
            raise TimeoutError("Firefox did not start")
        with connection:
            yield Firefox(connection)
    finally:
        process.kill()
        process.wait()
