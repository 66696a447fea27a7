"""Eight people at `ditlens app` at once: nothing may be mixed, and memory has a limit (`app_sessions_mixed`).

The app is the real one: one model, Voilà, and eight open pages. Eight more processes stand for the people: each
works in the session of one page. Every picture is compared with what a session alone makes of the same wish, in
its result and in what the page's browser is sent. Other processes read this file too: what needs torch is imported
late.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks import ROOT
from benchmarks.report import Result, load_note
from ditlens.views.app.remote import RemoteSession, connect

PEOPLE, EDITS = 8, 20
PROTOCOL = "v1.kernel.websocket.jupyter.org"
"""How JupyterLab and Voilà's pages talk to their processes."""
CHILD = """
import pickle, sys
from benchmarks import app
work, given = pickle.load(sys.stdin.buffer)
pickle.dump(getattr(app, work)(*given), sys.stdout.buffer)
"""
JPEG = b"\xff\xd8\xff"
MINUTES = 3.0
"""After so long an edit is given up."""


@dataclass(frozen=True)
class Wish:
    """An edit that somebody asks for: of which picture, as a file in memory; its texts, degree and seed."""

    picture: bytes
    source: str
    target: str
    degree: float
    seed: int


@dataclass(frozen=True)
class Made:
    """What came of a wish: the file that the editor saves, both pictures of the page, and what went wrong."""

    png: bytes = b""
    before: bytes = b""
    after: bytes = b""
    error: str = ""
    seconds: float = 0.0


def app_sessions_mixed() -> Result:
    """Pictures that are not those of a session alone, and everything that failed."""
    import ditlens as dl
    from ditlens.views.app.run import App

    model = dl.load("portraits", device="cpu")
    wishes = wishes_for(model)
    started = time.monotonic()
    app = App(model, port=0, seats=PEOPLE)
    try:
        with pages(app) as (seen, dead), memory(app.server.process.pid) as peak:
            desk, tickets = app.desk, app.hub.tickets
            found = spread("person", [(desk, each, wishes[k]) for k, each in enumerate(tickets)])
            time.sleep(2.0)  # what is still on its way to the pages
            broken = dead()
    finally:
        app.close()
    seconds = time.monotonic() - started
    alone = [made for each in wishes for made in spread("by_oneself", [(each,)])]
    return result(found, alone, seen, broken, peak, seconds)


def result(
    found: list[list[Made]], alone: list[list[Made]], seen: list[set[bytes]], broken: int,
    peak: dict[str, float], seconds: float,
) -> Result:  # fmt: skip
    """The result of the benchmark.

    Args:
        found: What everybody's wishes became.
        alone: The same, each made alone.
        seen: The pictures that the browser of each page was sent.
        broken: How many processes of pages, or Voilà, had ended.
        peak: Memory, MB, by kind of process, when all together was highest.
        seconds: How long it took.
    """
    pairs = [pair for mine, one in zip(found, alone, strict=True) for pair in zip(mine, one, strict=True)]
    failed = sum(bool(mine.error) for mine, _ in pairs)
    mixed = sum(not mine.error and differ(mine, one) for mine, one in pairs)
    own = [{each for made in one for each in (made.before, made.after)} for one in alone]
    everyone = set.union(*own)
    foreign = sum(len(shown & (everyone - mine)) for shown, mine in zip(seen, own, strict=True))
    shown = sum(len(pictures & mine) for pictures, mine in zip(seen, own, strict=True))
    each = sum(made.seconds for made, _ in pairs) / len(pairs)
    parts = {
        "mixed_results": mixed, "foreign_pictures_on_pages": foreign, "failed_edits": failed,
        "ended_processes": broken, "own_pictures_on_pages": shown, "memory_mb": peak,
        "seconds_an_edit": each, "seconds_an_edit_alone": sum(made.seconds for _, made in pairs) / len(pairs),
    }  # fmt: skip
    note = (
        f"{len(found)} open pages of ditlens app at once, {len(found[0])} edits each, pixel for pixel those of a "
        f"session alone unless counted here; all processes together at most {peak['all'] / 1024:.2f} GB (PSS; "
        f"the model's {peak['model']:.0f} MB, Voilà {peak['voila']:.0f}, pages {peak['pages']:.0f}); an edit took "
        f"{each:.1f} s; {seconds:.0f} s in all; {load_note()}"
    )
    value = mixed + foreign + failed + broken
    return {"value": value, "n": len(pairs), "unit": "pictures", "note": note, "parts": parts}


def wishes_for(model: Any) -> list[list[Wish]]:
    """Everybody's wishes: edits of the test split, at degrees and with seeds drawn at random."""
    from PIL import Image

    from ditlens.images import to_image

    draw, every = random.Random(0), []
    for item in model.world.suite(PEOPLE * EDITS, "test"):
        memory, picture = io.BytesIO(), to_image(item.image())
        assert isinstance(picture, Image.Image)
        picture.save(memory, "PNG")
        degree, seed = round(draw.uniform(0.3, 1.4), 2), draw.randrange(1000)
        every.append(Wish(memory.getvalue(), item.source_text, item.target_text, degree, seed))
    return [every[k::PEOPLE] for k in range(PEOPLE)]


def spread(work: str, arguments: list[tuple[Any, ...]]) -> list[list[Made]]:
    """Do the work of a function of this file in processes of their own, one for each of the arguments at once."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        for _ in arguments
    ]
    for process, given in zip(started, arguments, strict=True):
        assert process.stdin is not None
        pickle.dump((work, given), process.stdin)
        process.stdin.close()
    return [pickle.load(process.stdout) for process in started if process.stdout is not None]


# --- in processes of their own ---------------------------------------------------------------------------------


def person(desk: tuple[str, bytes], ticket: str, wishes: list[Wish]) -> list[Made]:
    """Work through wishes in the session of somebody's page."""
    session = RemoteSession(connect(*desk), ticket)
    return [make(session, wish) for wish in wishes]


def by_oneself(wishes: list[Wish]) -> list[Made]:
    """Work through wishes in a session that has a model for itself."""
    import ditlens as dl
    from ditlens.views.editor.session import Session

    session = Session(dl.load("portraits", device="cpu"))
    return [make(session, wish) for wish in wishes]


def make(session: Any, wish: Wish) -> Made:
    """Have a wish made, as a page does it."""
    started, version = time.monotonic(), -1
    try:
        session.open(wish.picture)
        session.configure(degree=wish.degree, seed=wish.seed)
        session.set_texts(wish.source, wish.target)
        while time.monotonic() - started < 60 * MINUTES:
            shown = session.wait(version)
            if shown is None:
                continue
            version, state = shown["version"], shown["state"]
            if shown["error"]:
                return Made(error=shown["error"])
            if shown["kind"] == "edit" and not shown["busy"] and state["source_text"] == wish.source:
                seconds = time.monotonic() - started
                return Made(session.png(), shown["before"], shown["after"], "", seconds)
        return Made(error="it took too long")
    except Exception as error:
        return Made(error=f"{type(error).__name__}: {error}")


# --- the pages -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pages(app: Any) -> Iterator[tuple[list[set[bytes]], Any]]:
    """Open pages as browsers do, and read what each is sent.

    Yields:
        The pictures that each page was sent, and a function that counts processes that have ended.
    """
    import psutil
    from websockets.sync.client import connect as open_socket

    base, token = f"{app.server.host}:{app.server.port}", {"Authorization": f"token {app.server.token}"}
    seen: list[set[bytes]] = []
    with contextlib.ExitStack() as stack:
        for _ in range(PEOPLE):
            html = urlopen(app.server.url()).read().decode()
            found = re.search(r'"kernelId": "([\w-]+)"', html)
            assert found, "Voilà starts a process for the page"
            address = f"ws://{base}/api/kernels/{found[1]}/channels"
            socket = stack.enter_context(
                open_socket(address, additional_headers=token, subprotocols=[PROTOCOL], max_size=None)  # type: ignore[list-item]
            )
            seen.append(set())
            threading.Thread(target=read, args=(socket, seen[-1]), daemon=True).start()
        kernels = psutil.Process(app.server.process.pid).children()
        assert len(kernels) == len(app.hub.tickets) == PEOPLE

        def dead() -> int:
            ended = sum(not each.is_running() for each in kernels)
            return ended + PEOPLE - len(app.hub.tickets) + (app.server.process.poll() is not None)

        yield seen, dead


def read(socket: Any, pictures: set[bytes]) -> None:
    """Keep the pictures that a page is sent, until it is closed."""
    for message in socket:  # the number of parts, where each begins, the parts
        numbers = [int.from_bytes(message[k : k + 8], "little") for k in range(0, min(len(message), 4096), 8)]
        starts = numbers[1 : 1 + numbers[0]]
        parts = [message[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
        pictures.update(part for part in parts if part.startswith(JPEG))


@contextlib.contextmanager
def memory(server: int, every: float = 0.5) -> Iterator[dict[str, float]]:
    """The memory of this process, Voilà and all pages, MB, at the moment when it is highest."""
    peak, ended = {"all": 0.0, "model": 0.0, "voila": 0.0, "pages": 0.0}, threading.Event()

    def look() -> None:
        while not ended.wait(every):
            now = in_use(server)
            if now["all"] > peak["all"]:
                peak.update(now)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def in_use(server: int) -> dict[str, float]:
    """Proportional set sizes, MB: what processes share counts once."""
    import psutil

    found = {"model": pss(os.getpid()), "voila": pss(server)}
    with contextlib.suppress(psutil.NoSuchProcess):
        pages = psutil.Process(server).children(recursive=True)
        found["pages"] = sum(pss(page.pid) for page in pages)
    return {"all": sum(found.values()), **found}


def pss(process: int) -> float:
    """Proportional set size of a process, MB; 0 if it has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def differ(first: Made, second: Made) -> bool:
    """Whether two results are not the same, pixel for pixel."""
    from PIL import Image

    pixels = [Image.open(io.BytesIO(made.png)).tobytes() for made in (first, second)]
    return pixels[0] != pixels[1] or (first.before, first.after) != (second.before, second.after)


if __name__ == "__main__":
    print(app_sessions_mixed())
