"""The app: a model with its hub in this process, and Voilà beside it."""

from __future__ import annotations

import time

from ditlens.models.model import Model
from ditlens.views.app.hub import SEATS, Hub, open_desk
from ditlens.views.app.remote import ADDRESS, KEY
from ditlens.views.app.server import Server, check

FAREWELL = 0.5
"""Seconds in which the pages say that they have ended."""


class App:
    """The editor as a page that several people open at the same time.

    Args:
        model: The model that all share.
        port: Of the page; 0 takes a free one.
        host: 127.0.0.1 for this computer only; 0.0.0.0 for everybody in the network.
        seats: How many edit at the same time; the next ones wait in line.

    Attributes:
        hub: The sessions.
        desk: Where pages find them: an address and a key.
        server: Voilà.

    Raises:
        MissingDependencyError: If Voilà is not installed.
        SettingError: If the port cannot be had.
        DitlensError: If Voilà does not start.
    """

    def __init__(self, model: Model, port: int = 8866, host: str = "127.0.0.1", seats: int = SEATS) -> None:
        port = check(port, host)
        self.hub = Hub(model, seats)
        self.desk = open_desk(self.hub)
        address, key = self.desk
        try:
            self.server = Server(port, host, f"ditlens: {model.name}", {ADDRESS: address, KEY: key.hex()})
        except BaseException:
            self.hub.close()
            raise

    def close(self) -> None:
        """End it, and all its processes."""
        self.hub.close()
        time.sleep(FAREWELL)
        self.server.close()
