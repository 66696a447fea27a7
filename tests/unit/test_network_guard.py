"""The guard in conftest.py works: loopback is open, everything else is closed."""

from __future__ import annotations

import os
import socket

import pytest


def test_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_other_hosts_are_closed(method):
    with socket.socket() as client, pytest.raises(AssertionError, match="tests run without network"):
        getattr(client, method)(("192.0.2.1", 80))  # an address reserved for documentation


def test_hubs_are_offline():
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
