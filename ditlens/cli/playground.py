"""``ditlens export`` and ``ditlens playground``: the model outside of Python, and the page that runs it."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import typer
from typer import Argument, Option

import ditlens as dl
from ditlens.cli import options as o
from ditlens.cli.app import Outcome
from ditlens.cli.checks import check
from ditlens.tables import progress_bar


def export(
    form: Annotated[Literal["onnx"], Argument(help="Kind of files.")],
    out: o.Out = Path("outputs/onnx"),
    force: o.Force = False,
    model: o.Model = "portraits",
) -> Outcome:
    """Write the model as ONNX graphs, for use outside of Python."""
    from ditlens.models.graphs import MANIFEST, need

    check(model, out=out, writes=[MANIFEST], force=force)
    need("onnx", "onnxscript", "onnxruntime")
    loaded = dl.load(model, device="cpu")
    from ditlens.playground.export import export as write

    with progress_bar("networks") as show:
        said = write(loaded, out, show)
    size = sum(each["bytes"] for each in said["files"].values()) / 1e6
    worst = max(said["parity"].values())
    text = f"wrote {out}: {size:.0f} MB; the output that is furthest from PyTorch's differs by {worst:.1e}"
    return Outcome(text, {"folder": out, "form": form, **said})


def playground(
    out: Annotated[Path | None, o.Place(help="Folder for the page; by default in the user's cache.")] = None,
    build_only: Annotated[bool, Option("--build-only", help="Write the page, and do not serve it.")] = False,
    rebuild: Annotated[bool, Option("--rebuild", help="Write the page anew, also if it is there.")] = False,
    port: Annotated[int, Option(help="Port of the page; 0 takes a free one.")] = 8867,
    no_browser: Annotated[bool, Option("--no-browser", help="Only print the address.")] = False,
    model: o.Model = "portraits",
) -> Outcome:
    """Open the playground: the model runs in your browser."""
    from ditlens.playground.serve import is_current, listen, place, serve

    check(model)
    folder = place() if out is None else out
    said: dict[str, Any] = {"folder": folder, "port": port}
    if not build_only:
        listen(folder, port).server_close()  # a port that cannot be had is said before the page is built
    if rebuild or build_only or not is_current(folder, model):
        from ditlens.playground.pack import build, replaceable

        check(out=folder)
        replaceable(folder)
        with progress_bar("playground") as show:
            made = build(
                dl.load(model, device="cpu"), folder, lambda what, done, total: show(done, total, what)
            )
        said["download"] = made["download"]
        typer.echo(f"wrote {folder}; a browser downloads {made['download'] / 1e6:.1f} MB of it, once")
    if build_only:
        return Outcome("", said)
    with serve(folder, port) as url:
        said["port"] = urlsplit(url).port
        typer.echo(f"The playground: {url} (Ctrl-C ends it)")
        if not no_browser:
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return Outcome("stopped", said)
