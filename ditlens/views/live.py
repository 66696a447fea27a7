"""What pages share: a widget that follows a session, tells errors in words, and leaves a still copy of itself.

Imports no torch.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import HTML, display
from markupsafe import Markup

if TYPE_CHECKING:
    from ditlens.views.working import Working

_NUMBERS = itertools.count()
_SHOWN: dict[str, tuple[str, WeakSet[Live]]] = {}
"""Of each cell its last run, and the pages that it showed."""


def html(value: Any = "", **more: Any) -> widgets.HTML:
    """A piece of HTML without margins of its own."""
    return widgets.HTML(str(value), **more)


def this_run() -> tuple[str, str]:
    """The notebook's cell that is being run, and a name for this run of it; empty where nobody says."""
    kernel = getattr(get_ipython(), "kernel", None)
    asked = {} if kernel is None else kernel.get_parent("shell")
    return str(asked.get("metadata", {}).get("cellId", "")), str(asked.get("header", {}).get("msg_id", ""))


def without(act: Callable[[], Any], _: Any) -> Any:
    """Call what takes nothing with what a widget gives."""
    return act()


def _close_all(controls: Iterable[Any]) -> None:
    """Close widgets and what is in them: a box that is closed leaves them open."""
    for each in controls:
        _close_all(getattr(each, "children", ()))
        each.close()


class Live(widgets.VBox):  # type: ignore[misc]
    """A session as a widget. Whoever builds on it makes the controls, then calls `_follow`."""

    error: widgets.HTML
    session: Working
    _facts: dict[str, Any]
    """What does not change, with the name of its ``model``."""

    def __init__(self, session: Working) -> None:
        super().__init__()
        self.session = session
        self._lock = threading.RLock()
        self._showing = threading.local()  # a person's change in another thread is none of the page's own
        self._still: Any = None
        self._class = f"ditlens-still-{id(self):x}-{next(_NUMBERS)}"

    # --- what a page says of itself ----------------------------------------------------------------------

    def _apply(self, shown: dict[str, Any]) -> None:
        """Bring the page to what the session shows."""
        raise NotImplementedError

    def _still_copy(self, shown: dict[str, Any]) -> str:
        """The page as pictures and a table, of the class `_class`, for readers without a kernel."""
        raise NotImplementedError

    # --- what is done to it ------------------------------------------------------------------------------

    def _guarded(self, act: Callable[[Any], Any]) -> Callable[[Any], None]:
        """Errors of callbacks are shown on the page: nobody sees them elsewhere."""

        def guarded(given: Any) -> None:
            try:
                act(given)
            except EOFError as error:  # the session has ended
                self._alarm(str(error))
            except Exception as error:
                self._alarm(f"{type(error).__name__}: {error}")

        return guarded

    def _shows(self) -> bool:
        """Whether this thread is bringing the page to what the session has."""
        return getattr(self._showing, "now", False)

    def _on(self, control: Any, act: Callable[[Any], Any], name: str = "value") -> None:
        """Call a function with a control's new value, unless the page itself has set it."""
        act = self._guarded(act)
        control.observe(lambda change: None if self._shows() else act(change["new"]), name)

    # --- what is shown -----------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Show the session, now and from now on."""
        self._bring(self.session.shown())
        threading.Thread(target=self._listen, name="ditlens page", daemon=True).start()

    def _bring(self, shown: dict[str, Any]) -> None:
        self._apply(shown)
        if self._still is not None and shown["idle"]:
            self._still.update(HTML(self._still_copy(shown)))

    def _listen(self) -> None:
        version = -1
        while True:
            try:
                shown = self.session.wait(version)
                if shown is not None:
                    version = shown["version"]
                    self._bring(shown)
            except (EOFError, ConnectionError):
                self._alarm("This page has ended: run its cell, or open it, again.")
                return
            except Exception as error:
                self._alarm(f"{type(error).__name__}: {error}")
                time.sleep(1.0)  # what fails every time leaves the processor to others

    def close(self) -> None:
        """End the session, and take the page away."""
        session = getattr(self, "session", None)  # a page that could not be made is closed, too
        if session is not None:
            session.close()
            _close_all(self.children)
        super().close()

    def _replace(self) -> None:
        """End the pages that an earlier run of this cell has shown: nobody can see them any more."""
        cell, run = this_run()
        if not cell:
            return
        last, pages = _SHOWN.get(cell, ("", WeakSet()))
        if last != run:
            for page in pages - {self}:
                page.close()
            pages = WeakSet()
        _SHOWN[cell] = run, pages | {self}

    def _alarm(self, words: str) -> None:
        self.error.value = (
            str(Markup('<div class="ditlens-error" role="alert">{}</div>').format(words)) if words else ""
        )

    def _ipython_display_(self) -> None:
        """The widget, and below it a still copy that only shows where the widget cannot be."""
        words = f"{type(self).__name__} of {self._facts['model']}"
        self._replace()
        display({**super()._repr_mimebundle_(), "text/plain": words}, raw=True)
        self._still = display(HTML(self._still_copy(self.session.shown())), display_id=self._class)
