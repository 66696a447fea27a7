"""The page in its own process: a session that lives elsewhere, and the line before it. Imports no torch."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from functools import partial
from multiprocessing.managers import BaseManager
from typing import Any

import ipywidgets as widgets
from markupsafe import Markup

from ditlens.errors import DitlensError
from ditlens.views.editor.page import Page

ADDRESS, KEY = "DITLENS_APP_ADDRESS", "DITLENS_APP_KEY"
"""Environment variables by which pages find the desk."""
LOST = (
    "The model is not there any more: it was ended, or its computer is too busy. Open this page again later."
)
EVERY = 1.0
"""Seconds between looks at the place in line."""


def connect(address: str, key: bytes) -> Any:
    """The hub of another process.

    Raises:
        multiprocessing.AuthenticationError: If the key is wrong.
        OSError: If nobody answers at this address.
    """

    class Desk(BaseManager):
        """Asks for one hub."""

    Desk.register("hub")
    desk = Desk(address=address, authkey=key)
    desk.connect()
    return desk.hub()  # type: ignore[attr-defined]


class RemoteSession:
    """The public methods of somebody's `Session`, called in the process that has the model.

    Args:
        hub: What `connect` gave.
        ticket: What the hub's `join` gave.
    """

    def __init__(self, hub: Any, ticket: str) -> None:
        self.hub, self.ticket = hub, ticket

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # notebooks look for _repr_html_ and the like
            raise AttributeError(name)
        return partial(self._call, name)

    def _call(self, name: str, *args: Any, **more: Any) -> Any:
        try:
            return self.hub.call(self.ticket, name, *args, **more)
        except (DitlensError, EOFError):
            raise
        except OSError as error:
            raise EOFError(LOST) from error

    def close(self) -> None:
        """Give the place to the next in line."""
        self.hub.leave(self.ticket)


class Door(widgets.VBox):  # type: ignore[misc]
    """The place in line, and the editor once it is one's turn.

    Args:
        hub: What `connect` gave.
    """

    def __init__(self, hub: Any) -> None:
        super().__init__()
        self.hub, self.ticket = hub, hub.join(os.getpid())
        self.note = widgets.HTML()
        self.children = [self.note]
        atexit.register(self._leave)
        if not self._enter():
            threading.Thread(target=self._wait, name="ditlens line", daemon=True).start()

    def _enter(self) -> bool:
        """Show the editor, or the place in line; returns whether it is the editor."""
        place, busy = self.hub.place(self.ticket)
        if place:
            people = "1 person is" if busy == 1 else f"{busy} people are"
            self.note.value = said(
                f"{people} at work; you are number {place} in line. "
                "This page becomes the editor when it is your turn."
            )
            return False
        session: Any = RemoteSession(self.hub, self.ticket)
        self.children = [Page(session)]
        return True

    def _wait(self) -> None:
        try:
            while not self._enter():
                time.sleep(EVERY)
        except Exception as error:
            self.note.value = said(in_words(error))

    def _leave(self) -> None:
        """Let the next in line in at once, not when this page has been silent for long."""
        with contextlib.suppress(EOFError, OSError):
            self.hub.leave(self.ticket)


def said(words: str) -> str:
    """A message on the page."""
    return str(Markup('<p role="status" style="font-size: 1.2em">{}</p>').format(words))


def in_words(error: Exception) -> str:
    """What to tell somebody whose page cannot go on."""
    return LOST if isinstance(error, EOFError | OSError) else f"{type(error).__name__}: {error}"


def open_page() -> widgets.Widget:
    """What the notebook of the app shows: the editor, the place in line, or what is wrong, in words."""
    try:
        return Door(connect(os.environ[ADDRESS], bytes.fromhex(os.environ[KEY])))
    except Exception as error:
        return widgets.HTML(said(in_words(error)))
