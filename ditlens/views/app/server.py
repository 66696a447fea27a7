"""Voilà, the server of the pages, as a process of its own that ends with this one. Imports no torch."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ditlens.errors import DitlensError, MissingDependencyError, SettingError, WriteError
from ditlens.files import write_json

PARENT = "DITLENS_APP_PARENT"
"""Environment variable with the number of the process that has the model."""
PACKAGES = ("voila", "ipykernel", "ipywidgets", "anywidget")
TEMPLATE = Path(__file__).with_name("page.html.jinja")
CODE = "from ditlens.views.app.remote import open_page\n\nopen_page()"
ABANDONED = 60
"""Seconds after which a page's process ends that no browser is connected to."""
START, END = 60.0, 10.0
"""Seconds that Voilà may take to start, and to end."""


def check(port: int, host: str) -> int:
    """Check before anything is loaded whether the pages can be served.

    Returns:
        The port; a free one for 0.

    Raises:
        MissingDependencyError: If a package is not installed.
        SettingError: If the port cannot be had.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"The app needs {' and '.join(missing)}. Type: pip install 'ditlens[app]', or "
            "make install EXTRAS=all,app in a clone."
        )
    try:
        with socket.create_server((host, port)) as found:
            return int(found.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "ports are numbers from 0 to 65535"
        raise SettingError(
            f"No server can listen on {host}:{port}: {reason}. Choose another port, or let the system take "
            "a free one: port=0."
        ) from error


class Server:
    """Voilà with one page, which asks for a token.

    Its settings are its own: nothing of the person's Jupyter is read, and nothing is left behind.

    Args:
        port: A free port.
        host: 127.0.0.1 for this computer only; 0.0.0.0 for everybody in the network.
        title: Of the page.
        environment: What pages have to know.

    Raises:
        DitlensError: If it does not start; the message has its last words.
    """

    def __init__(self, port: int, host: str, title: str, environment: dict[str, str]) -> None:
        self.port, self.host, self.token = port, host, secrets.token_urlsafe(24)
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="ditlens-app-"))  # for its owner only
            self._write(title)
            log = (self.folder / "voila.log").open("wb")
        except OSError as error:
            raise WriteError(f"The app cannot write its page: {error}.") from error
        command = [sys.executable, "-m", "ditlens.views.app", str(self.folder / "editor.ipynb")]
        with log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment(environment), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,  # Ctrl-C is for this process, which ends that one
            )  # fmt: skip
        try:
            self._wait_for_it()
        except BaseException:
            self.close()
            raise

    def url(self, address: str = "") -> str:
        """The address of the page, with the token."""
        return f"http://{address or self.host}:{self.port}/?token={self.token}"

    def wait(self) -> None:
        """Wait until it ends.

        Raises:
            DitlensError: If it ends by itself; the message has its last words.
        """
        while self.process.poll() is None:
            time.sleep(0.3)
        raise DitlensError(f"The server of the pages has ended by itself. {self._last_words()}")

    def close(self) -> None:
        """End it and the processes of all its pages."""
        self.process.terminate()
        try:
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.process.kill()  # the processes of the pages notice, and end too
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, title: str) -> None:
        """Its notebook, template and settings."""
        cell: dict[str, Any] = {
            "cell_type": "code", "id": "editor", "source": CODE, "metadata": {}, "outputs": [],
            "execution_count": None,
        }  # fmt: skip
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        about = {"title": title, "kernelspec": kernel}
        notebook = {"cells": [cell], "metadata": about, "nbformat": 4, "nbformat_minor": 5}
        settings = {
            "Voila": {"ip": self.host, "port": self.port, "port_retries": 0, "open_browser": False,
                      "token": self.token, "connection_dir_root": str(self.folder)},
            "VoilaConfiguration": {
                "template": "ditlens", "resources": {"token": self.token},
                "allow_template_override": "NO", "allow_theme_override": "NO",
                "file_allowlist": ["nothing"],
                "extension_allowlist": ["@jupyter-widgets/jupyterlab-manager", "anywidget",
                                        "@voila-dashboards/widgets-manager8"],
                "extension_denylist": [],
            },
            "AsyncMappingKernelManager": {"cull_idle_timeout": ABANDONED, "cull_interval": 10},
        }  # fmt: skip
        template = self.folder / "voila" / "templates" / "ditlens"
        template.mkdir(parents=True)
        shutil.copyfile(TEMPLATE, template / "index.html.j2")
        files = {
            template / "conf.json": {"base_template": "lab"},
            self.folder / "editor.ipynb": notebook,
            self.folder / "voila.json": settings,
        }
        for path, content in files.items():
            write_json(path, content)

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        here = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **os.environ, **dict.fromkeys(places, str(self.folder)), "PYTHONPATH": os.pathsep.join(here),
            PARENT: str(os.getpid()), **more,
        }  # fmt: skip

    def _wait_for_it(self) -> None:
        here = "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host
        end = time.monotonic() + START
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection((here, self.port), 1.0).close()
                return
            except OSError:
                time.sleep(0.1)
        raise DitlensError(f"The server of the pages did not start. {self._last_words()}")

    def _last_words(self) -> str:
        log = (self.folder / "voila.log").read_text("utf-8", "replace").strip()
        return f"Voilà said last: {log[-2000:]}" if log else "Voilà said nothing. Try: ditlens doctor"
