"""A server of static files for the playground on this computer. Standard library only, no torch."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ditlens.errors import SettingError
from ditlens.files import DATA, PACKAGE, user_cache
from ditlens.models.find import find
from ditlens.version import __version__

PAGE = next(
    (each for each in (DATA / "playground", PACKAGE.parent / "playground") if each.is_dir()),
    DATA / "playground",
)
"""The page's sources: in an installed package with its data, or in a clone of the repository."""
SOURCES = ("index.html", "style.css", "src", "data")
"""What of them belongs to the page."""
STAMP = "made-by-ditlens.txt"
"""Marks a folder that may be replaced, and says from what it was made."""
TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    "": "application/octet-stream",
}


def place() -> Path:
    """Where the page is built by default."""
    return user_cache("playground") / "page"


def stamp(model: str) -> str:
    """One line that changes with the page's sources, the model's files and the version of ditlens."""
    digest = hashlib.sha256()
    sources = [
        path for each in SOURCES for path in (PAGE / each, *(PAGE / each).rglob("*")) if path.is_file()
    ]
    for path in sorted({*sources, PAGE / "package-lock.json"}):
        digest.update(path.relative_to(PAGE).as_posix().encode() + path.read_bytes())
    for path in sorted(Path(find(model)).rglob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return f"ditlens {__version__}, {model}, {digest.hexdigest()[:16]}\n"


def is_current(folder: Path, model: str) -> bool:
    """Whether a folder holds the page as it would be built now."""
    try:
        return (folder / STAMP).read_text("utf-8") == stamp(model)
    except OSError:
        return False


class Pages(SimpleHTTPRequestHandler):
    """Static files with the types that modules need, and no log."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def log_message(self, *_: object) -> None:
        """Nothing: each piece of the download would be a line."""


def listen(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder on a port of this computer, not yet running; 0 takes a free one.

    Raises:
        SettingError: If the port cannot be had.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Pages, directory=str(folder)))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "ports are numbers from 0 to 65535"
        raise SettingError(
            f"No server can listen on port {port}: {reason}. Choose another, or a free one: --port 0."
        ) from error


@contextlib.contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve a folder on this computer while the block runs.

    Args:
        folder: What `ditlens.playground.pack.build` wrote.
        port: Port; 0 takes a free one.

    Yields:
        The address.

    Raises:
        SettingError: If the port cannot be had.
    """
    server = listen(folder, port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
