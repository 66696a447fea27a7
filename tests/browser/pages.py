"""JupyterLab and Voilà in headless Chromium, offline and with a home of their own; the kernel behind a page."""

from __future__ import annotations

import ast
import atexit
import importlib.util
import json
import os
import queue
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nbformat
from jupyter_client import BlockingKernelClient
from playwright.sync_api import BrowserContext, Page, Playwright

for _name in ("anywidget", "jupyterlab", "voila"):
    if importlib.util.find_spec(_name) is None:
        raise ModuleNotFoundError(f"{_name} is not installed", name=_name)

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-device-scale-factor=1"
).split()
OPEN = "import ditlens as dl\n\nmodel = dl.load('portraits')\neditor = dl.Editor(model)\neditor"
"""The cell of the notebooks that are opened."""
VOILA_ASKS = ("fortawesome/fontawesome-free",)
"""What Voilà's own template asks a server outside for; it is refused here as everything else is."""
OTHERS = ("jupytext", "nbdime", "favicon", "voila/api/shutdown", "debugger state")
"""What errors on the console are about that are none of ours: other extensions; Voilà, when its page is left."""


def until(condition: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
    """Wait until something is true.

    Raises:
        TimeoutError: If it does not come true.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(0.05)
    return found


def notebook(path: Path, *cells: str) -> Path:
    """Write a notebook of code cells."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)
    return path


class Kernel:
    """A kernel by its connection file, to look at what a page's cells hold."""

    def __init__(self, connection: Path) -> None:
        self.client = BlockingKernelClient(connection_file=str(connection))
        self.client.load_connection_file()
        self.client.start_channels()

    def run(self, code: str, value: str = "None", seconds: float = 120.0) -> Any:
        """Run code, and read the value of an expression.

        Raises:
            RuntimeError: If one of them fails.
        """
        sent = self.client.execute(code, silent=False, store_history=False, user_expressions={"value": value})
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                answer = self.client.get_shell_msg(timeout=1)
            except queue.Empty:
                continue
            if answer["parent_header"].get("msg_id") == sent:
                break
        else:
            raise TimeoutError(f"the kernel did not answer within {seconds:g} s")
        content = answer["content"]
        found = content if content["status"] == "error" else content["user_expressions"]["value"]
        if found["status"] == "error":
            raise RuntimeError("\n".join(found["traceback"]))
        return ast.literal_eval(found["data"]["text/plain"])

    def value(self, expression: str) -> Any:
        """The value of an expression."""
        return self.run("", expression)

    def close(self) -> None:
        self.client.stop_channels()


@dataclass
class Server:
    """JupyterLab or Voilà, in a home of its own.

    Attributes:
        kind: "lab" or "voila".
        folder: Where its notebooks, settings and logs are.
    """

    kind: str
    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        names = (
            "JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR JUPYTERLAB_SETTINGS_DIR IPYTHONDIR "
            "JUPYTERLAB_WORKSPACES_DIR MPLCONFIGDIR HOME"
        ).split()
        homes = {name: str(self.folder / "home" / name.lower()) for name in names}
        for each in homes.values():
            Path(each).mkdir(parents=True, exist_ok=True)
        self.runtime = Path(homes["JUPYTER_RUNTIME_DIR"])
        config = Path(homes["JUPYTER_CONFIG_DIR"], "labconfig")
        config.mkdir(exist_ok=True)
        off = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (config / "page_config.json").write_text(json.dumps(off))
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.env = (
            os.environ | homes | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
        )
        self.env.pop("OMP_NUM_THREADS", None)  # as many cores as a reader's notebook has

    def start(self) -> Server:
        """Start it, and wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        lab = (
            "jupyterlab --allow-root --no-browser --ip=127.0.0.1 --ServerApp.port_retries=0 "
            "--expose-app-in-browser --LabApp.news_url=None "
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate "
            f"--ServerApp.port={port} --IdentityProvider.token={self.token} --ServerApp.root_dir={self.folder} "
            "--ServerApp.shutdown_no_activity_timeout=600"
        )
        voila = (
            f"voila {self.folder} --no-browser --Voila.ip=127.0.0.1 --port={port} --show_tracebacks=True "
            f"--VoilaConfiguration.allow_theme_override=YES --Voila.connection_dir_root={self.runtime}"
        )
        command = [sys.executable, "-m", *(lab if self.kind == "lab" else voila).split()]
        self.log = self.folder / "server.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=self.env, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )
        atexit.register(self.stop)
        until(self._answers, 90, f"{self.kind} starts; see {self.log}")
        return self

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.kind} ended:\n{self.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{self.address}/api/status?token={self.token}", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def stop(self) -> None:
        """End it and its kernels."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def url(self, name: str, theme: str = "light") -> str:
        """Address of a notebook's page."""
        if self.kind == "lab":
            return f"{self.address}/lab/tree/{name}?token={self.token}&reset"
        return f"{self.address}/voila/render/{name}?theme={theme}"

    def connections(self) -> set[Path]:
        """The kernels that run."""
        return set(self.runtime.rglob("kernel-*.json"))


@dataclass
class Reader:
    """A person at a page: what they see, and what the page did that they should know.

    Attributes:
        page: The page in the browser.
        server: Whose it is.
        outside: Requests that would have left the machine; all are refused.
        errors: What the page wrote on the console as an error.
    """

    page: Page
    server: Server
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    kernel: Kernel | None = None

    @property
    def asked_outside(self) -> list[str]:
        """Requests that left, but for those of Voilà's own template."""
        return [each for each in self.outside if not any(known in each for known in VOILA_ASKS)]

    @property
    def our_errors(self) -> list[str]:
        """Errors that are not of other extensions, or of what was refused."""
        known = (*OTHERS, *VOILA_ASKS, "ERR_FAILED")
        return [each for each in self.errors if not any(name in each for name in known)]

    def open(self, name: str, theme: str = "light", run: bool = True) -> Reader:
        """Open a notebook, run it, and connect to its kernel."""
        before = self.server.connections()
        self.page.goto(self.server.url(name, theme), timeout=90_000)
        if self.server.kind == "lab":
            self.wait_for_kernel(run)
            self.page.evaluate("window.jupyterapp.shell.collapseLeft()")
            if theme != "light":
                self.lab("apputils:change-theme", {"theme": "JupyterLab Dark"})
            if run:
                self.lab("notebook:run-all-cells")
        if run:
            self.page.wait_for_selector(".ditlens-picture", timeout=120_000)
            new = self.server.connections() - before
            self.kernel = Kernel(max(new, key=lambda each: each.stat().st_mtime)) if new else self.kernel
        return self

    def wait_for_kernel(self, kernel: bool = True) -> None:
        """Wait until JupyterLab has a notebook, and its kernel is really ready: the page says so too early."""
        ready = "window.jupyterapp?.shell.currentWidget?.context?.isReady"
        if kernel:
            session = "window.jupyterapp.shell.currentWidget.sessionContext"
            ready += f" && {session}.isReady && {session}.session?.kernel?.status === 'idle'"
        self.page.wait_for_function(ready, timeout=90_000)

    def lab(self, command: str, arguments: dict[str, Any] | None = None) -> None:
        """Run a command of JupyterLab; what it returns is not waited for longer than 60 s."""
        self.page.evaluate(
            "([name, given]) => Promise.race([window.jupyterapp.commands.execute(name, given).then(() => 0),"
            " new Promise((done) => setTimeout(done, 60000))])",
            [command, arguments or {}],
        )

    def cells(self) -> list[str]:
        """The cells of JupyterLab's notebook."""
        return self.page.evaluate(
            "window.jupyterapp.shell.currentWidget.content.widgets.map((each) => each.model.sharedModel.source)"
        )

    def value(self, expression: str) -> Any:
        """The value of an expression in the kernel."""
        assert self.kernel is not None
        return self.kernel.value(expression)

    def run(self, code: str, value: str = "None") -> Any:
        """Run code in the kernel, and read a value."""
        assert self.kernel is not None
        return self.kernel.run(code, value)

    # --- the editor ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Bring the editor to an example, and everything else to where it begins."""
        self.page.bring_to_front()
        self.run("editor.session.stop()\nfor fold in editor.folds.values():\n    fold.value = False")
        self.page.get_by_role("option", name="ada", exact=True).click()
        self.page.get_by_role("radio", name="divider").click()
        until(lambda: self.shown()["kind"] == "opened" and self.shown()["idle"], what="an example is open")
        until(lambda: not self.page.get_by_label("target text").input_value(), what="no texts")

    def shown(self) -> dict[str, Any]:
        """What the session shows, without its pictures."""
        names = "kind idle ready index state error busy jumps".split()
        return self.run("", f"{{name: editor.session.shown()[name] for name in {names}}}")

    def extract(self, words: str) -> None:
        """Have an edit made, and wait until its degree can be dragged."""
        self.page.get_by_label("change", exact=True).fill(words)
        self.button("Extract").click()
        until(lambda: self.shown()["ready"] and self.shown()["idle"], what="ready to drag")
        self.says("ready to drag")

    def button(self, name: str) -> Any:
        """A button by its words."""
        return self.page.locator(".ditlens-page").get_by_role("button", name=name)

    def handle(self) -> Any:
        """The handle of the degree."""
        return self.page.get_by_role("slider", name="degree")

    def after(self) -> str:
        """The result that the page shows, as the URL of its bytes: another picture has another."""
        return self.page.locator(".ditlens-after").get_attribute("src") or ""

    def after_bytes(self) -> bytes:
        """The result that the page shows."""
        script = (
            "async () => [...new Uint8Array(await (await fetch("
            "document.querySelector('.ditlens-after').src)).arrayBuffer())]"
        )
        return bytes(self.page.evaluate(script))

    def pictures(self, name: str = "after") -> int:
        """How many pictures the page has shown in a place."""
        return int(self.page.locator(".ditlens-stage").first.get_attribute(f"data-{name}") or 0)

    def says(self, text: str, seconds: float = 60.0) -> None:
        """Wait until the page says something."""
        self.page.get_by_text(text).first.wait_for(timeout=1000 * seconds)

    def close(self) -> None:
        if self.kernel is not None:
            self.kernel.close()
        self.page.close()


@contextmanager
def browser(playwright: Playwright, folder: Path) -> Iterator[BrowserContext]:
    """Chromium with a profile of its own."""
    context = playwright.chromium.launch_persistent_context(
        folder, executable_path=CHROMIUM, headless=True, args=FLAGS, viewport={"width": 1280, "height": 1000},
        accept_downloads=True,
    )  # fmt: skip
    try:
        yield context
    finally:
        context.close()


def reader(context: BrowserContext, server: Server) -> Reader:
    """A new page that nothing leaves: requests to other machines are written down and refused."""
    made = Reader(context.new_page(), server)

    def allow(route: Any) -> None:
        if urlparse(route.request.url).hostname in ("127.0.0.1", "localhost", None):
            route.continue_()
        else:
            made.outside.append(route.request.url)
            route.abort()

    made.page.route("**/*", allow)
    made.page.on("console", lambda said: made.errors.append(f"{said.text} ({said.location.get('url')})")
                 if said.type == "error" else None)  # fmt: skip
    made.page.on("pageerror", lambda error: made.errors.append(str(error)))
    return made
