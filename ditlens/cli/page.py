"""``ditlens app``: the editor as a page of its own, until Ctrl-C."""

from __future__ import annotations

import signal
import webbrowser
from typing import Annotated, Any

import typer
from typer import Option

import ditlens as dl
from ditlens.cli import options as o
from ditlens.cli.app import Outcome
from ditlens.cli.checks import check

EVERYONE = ("0.0.0.0", "")


def app(
    port: Annotated[int, Option(help="Port of the page; 0 takes a free one.")] = 8866,
    host: Annotated[
        str, Option(help="Who may open it; 0.0.0.0 lets in everyone in the network who has the address.")
    ] = "127.0.0.1",
    seats: Annotated[int, Option(min=1, metavar="N", help="People who edit at the same time; others wait.")] = 8,
    no_browser: Annotated[bool, Option("--no-browser", help="Only print the address.")] = False,
    model: o.Model = "portraits",
    device: o.Device = "auto",
) -> Outcome:  # fmt: skip
    """Open the editor as a page, for one person or a class."""
    from ditlens.views.app.server import check as check_server

    check(model)
    port = check_server(port, host)
    from ditlens.views.app.run import App

    for name in (
        "SIGTERM",
        "SIGHUP",
    ):  # the latter when a terminal is closed, unless nohup says so; not on Windows
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    served = App(dl.load(model, device=device), port, host, seats)
    try:
        for line in about(served.server, host, seats):
            typer.echo(line)
        if not no_browser:
            webbrowser.open(served.server.url("localhost" if host in EVERYONE else host))
        served.server.wait()
    except KeyboardInterrupt:
        typer.echo("stopped")
    finally:
        served.close()
    return Outcome("", {"model": model, "host": host, "port": port})


def about(server: Any, host: str, seats: int) -> list[str]:
    """Where it runs, who can reach it, and how to stop it."""
    from ditlens.bench.rating.server import addresses

    local = host == "localhost" or host.startswith("127.")
    lines = [
        f"The editor: {server.url(each)} (Ctrl-C ends it)"
        for each in (addresses() if host in EVERYONE else [host])
    ]
    if local:
        return [*lines, "It runs on this computer, and only this computer can open it."]
    return [
        *lines,
        f"It runs on this computer. Everyone in the network with this address can open it, {seats} at the same "
        "time; the connection is not encrypted.",
    ]


def stop(*_: object) -> None:
    """End as after Ctrl-C."""
    raise KeyboardInterrupt
