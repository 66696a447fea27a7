"""What the sessions behind pages share: threads that work, turns at the model, and news for whoever shows them."""

from __future__ import annotations

import atexit
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from ditlens.errors import DitlensError
from ditlens.models.model import Model


class Turns:
    """A lock that serves whoever waits longest: sessions of one model take turns, step by step."""

    def __init__(self) -> None:
        self._lock, self._queue = threading.Lock(), deque[threading.Event]()

    def __enter__(self) -> Turns:
        mine = threading.Event()
        with self._lock:
            self._queue.append(mine)
            if self._queue[0] is mine:
                mine.set()
        mine.wait()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._queue.popleft()
            if self._queue:
                self._queue[0].set()

    def pass_on(self) -> None:
        """Let the others have their turn, then go on."""
        self.__exit__()
        self.__enter__()


_TURNS: WeakKeyDictionary[Model, Turns] = WeakKeyDictionary()
_OPEN: WeakSet[Working] = WeakSet()


def turns_of(model: Model) -> Turns:
    """The turns of all sessions of one model."""
    return _TURNS.setdefault(model, Turns())


@atexit.register
def _close_all() -> None:
    """A thread that is inside PyTorch while Python ends would take the process down."""
    for session in list(_OPEN):
        session.close()


class Stopped(Exception):
    """Raised inside work that nobody wants any more."""


class Working(ABC):
    """A session: what it shows has a version, errors are told in words, and threads do the work.

    Attributes:
        error: What went wrong last, in words; empty if nothing did.
        details: The traceback of an error that is not ditlens's own.
    """

    def __init__(self) -> None:
        self.error, self.details = "", ""
        self._change = threading.Condition(threading.RLock())
        self._version, self._closed = 0, False
        self._workers: list[threading.Thread] = []

    @abstractmethod
    def shown(self) -> dict[str, Any]:
        """Everything to show, with its ``version``."""

    def _start(self, name: str, *works: Callable[[], None]) -> None:
        """Begin to work, in a thread for each function."""
        self._workers = [threading.Thread(target=work, name=name, daemon=True) for work in works]
        for worker in self._workers:
            worker.start()
        _OPEN.add(self)

    def close(self) -> None:
        """End its threads after the step in hand."""
        with self._change:
            self._closed = True
            self._tell()
        for worker in self._workers:
            worker.join(5)

    def wait(self, version: int = -1, timeout: float = 10.0) -> dict[str, Any] | None:
        """What to show, once it is newer than a version; None if nothing changes for so long.

        Raises:
            EOFError: If the session was closed.
        """
        with self._change:
            self._change.wait_for(lambda: self._version != version or self._closed, timeout)
            if self._closed:
                raise EOFError("This session was closed.")
            return None if self._version == version else self.shown()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Errors go to the page, in words."""
        try:
            yield
        except Stopped:
            pass
        except DitlensError as error:
            self._fail(str(error), "")
        except Exception as error:
            self._fail(
                f"Something unexpected happened: {type(error).__name__}: {error}", traceback.format_exc()
            )

    def _fail(self, message: str, details: str) -> None:
        with self._change:
            self.error, self.details = message, details
            self._tell()

    def _tell(self) -> None:
        """Something to show has changed."""
        self._version += 1
        self._change.notify_all()
