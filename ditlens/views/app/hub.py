"""The sessions of everybody at work, in the process that has the model; and the desk where pages ask for them."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.managers import BaseManager
from typing import Any

from ditlens.files import is_gone
from ditlens.models.model import Model
from ditlens.views.editor.session import Session

SEATS = 8
"""People who edit at the same time; the next ones wait in line."""
PATIENCE = 30.0
"""Seconds of silence after which somebody is taken to have left. A page asks at least every 10 s."""
GONE = "Nobody has this ticket any more."


@dataclass(eq=False)
class Guest:
    """Somebody at work or in line.

    Attributes:
        session: The editor, once there is a seat.
        seen: When the page asked last.
        process: Number of the page's process; 0 if unknown.
        opening: Held while the editor is made.
    """

    session: Session | None = None
    seen: float = field(default_factory=time.monotonic)
    process: int = 0
    opening: threading.Lock = field(default_factory=threading.Lock)


class Hub:
    """One model, and a session for each of those who came first.

    Args:
        model: The model that all share; sessions take turns step by step.
        seats: How many edit at the same time.
        patience: Seconds of silence after which somebody is taken to have left.
    """

    def __init__(self, model: Model, seats: int = SEATS, patience: float = PATIENCE) -> None:
        self.model, self.seats, self.patience = model, seats, patience
        self._guests: dict[str, Guest] = {}  # in the order in which they came
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._look, name="ditlens hub", daemon=True).start()

    @property
    def tickets(self) -> list[str]:
        """Tickets of everybody at work or in line, in the order in which they came."""
        with self._lock:
            return list(self._guests)

    def join(self, process: int = 0) -> str:
        """Get in line.

        Args:
            process: Number of the page's process: who waits in line need not wait until its silence is noticed.

        Returns:
            A ticket, with which everything else is asked.
        """
        ticket = secrets.token_hex(16)
        with self._lock:
            if self._closed.is_set():
                raise ConnectionError(GONE)
            self._guests[ticket] = Guest(process=process)
        return ticket

    def place(self, ticket: str) -> tuple[int, int]:
        """Where somebody is: the place in line, 0 at work; and how many are at work.

        Raises:
            ConnectionError: If nobody has this ticket any more.
        """
        guest = self._guest(ticket)
        tickets = self.tickets
        if ticket not in tickets:
            raise ConnectionError(GONE)
        place = max(0, tickets.index(ticket) + 1 - self.seats)
        if place == 0:
            self._seat(ticket, guest)
        return place, min(len(tickets), self.seats)

    def call(self, ticket: str, name: str, *args: Any, **more: Any) -> Any:
        """Call a public method of somebody's session.

        Raises:
            ConnectionError: If nobody has this ticket any more, or it is not yet their turn.
            AttributeError: If a session has no such method.
        """
        guest = self._guest(ticket)
        if guest.session is None:
            raise ConnectionError("It is not yet your turn.")
        if name.startswith("_") or not callable(getattr(Session, name, None)):
            raise AttributeError(f"a session has no method {name!r}")
        try:
            return getattr(guest.session, name)(*args, **more)
        finally:
            guest.seen = time.monotonic()

    def leave(self, ticket: str) -> None:
        """Give the place to the next in line."""
        with self._lock:
            guest = self._guests.pop(ticket, None)
        if guest is not None:
            with guest.opening:
                if guest.session is not None:
                    guest.session.close()

    def close(self) -> None:
        """End all sessions; their pages say so."""
        self._closed.set()
        for ticket in self.tickets:
            self.leave(ticket)

    def _guest(self, ticket: str) -> Guest:
        with self._lock:
            guest = self._guests.get(ticket)
            if guest is None:
                raise ConnectionError(GONE)
            guest.seen = time.monotonic()
            return guest

    def _seat(self, ticket: str, guest: Guest) -> None:
        with guest.opening:
            if guest.session is None:
                guest.session = Session(self.model)
                if ticket not in self.tickets:  # they left in the meantime
                    guest.session.close()

    def _look(self) -> None:
        """Have those leave who are silent, or whose process has ended."""
        while not self._closed.wait(min(1.0, self.patience / 4)):
            latest = time.monotonic() - self.patience
            with self._lock:
                guests = list(self._guests.items())
            for ticket, guest in guests:
                if guest.seen < latest or (guest.process and is_gone(guest.process)):
                    self.leave(ticket)


def open_desk(hub: Hub) -> tuple[str, bytes]:
    """Answer pages of other processes, on a local socket, until this process ends.

    Returns:
        Its address and the key that a page has to know: without it nothing is even read.
    """

    class Desk(BaseManager):
        """Answers for one hub."""

    Desk.register("hub", callable=lambda: hub, exposed=("join", "place", "call", "leave"))
    key = secrets.token_bytes(32)
    server = Desk(authkey=key).get_server()
    threading.Thread(target=server.serve_forever, name="ditlens desk", daemon=True).start()
    return server.address, key  # type: ignore[return-value]
