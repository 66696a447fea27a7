"""The playground in headless Chromium: its pictures beside Python's, its times, its download, whom it asks.

Needs `make playground`, playwright and Chromium; axe-core's script is named by AXE_JS.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import ROOT
from benchmarks.keys import MeasureError
from benchmarks.report import Result, load_note
from ditlens.bench.suites import open_suite
from ditlens.ems.edit import edit
from ditlens.models.loading import load
from ditlens.playground.serve import serve

PAGE = ROOT / "outputs" / "playground"
SAMPLES, EDITS = 8, 8
TEXTS = (
    "a portrait of a young person with a big smile, long red hair",
    "old person, grey hair, round glasses, a long beard",
    "a crown, angry brows, very dark skin",
    "a person looking left, wavy pink hair, hoop earrings",
    "sunglasses, a beanie, a green background",
    "a wide face, closed lips, head tilted right",
    "a unicorn in Paris",
    "",
)
MINE = """
async () => {
    const { Engine } = await import(new URL("src/engine.js", location.origin));
    window.mine = new Engine();
    await mine.load();
}
"""
"""Loads an engine of our own beside the page's."""
BASE64 = """
(values) => {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
}
"""


class Visit:
    """A browser with nothing in its cache, and what it asked for and complained about.

    Attributes:
        page: A page of playwright.
        url: Address of the playground.
        asked: Addresses that were asked for, with the bytes of each answer as gzip would send it.
        complaints: Errors and warnings of the console, and violations of the policy.
    """

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.url, self.complaints = url, []
        self.asked: dict[str, int] = {}
        self.page = browser.new_context(**context).new_page()
        self.page.on(
            "console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text)
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.setdefault(request.url, 0))
        self.page.on("response", self._weigh)

    def _weigh(self, response: Any) -> None:
        with contextlib.suppress(Exception):  # a body may be gone already
            body = response.body()
            packed = body if "/parts/" in response.url else gzip.compress(body, 9)
            self.asked[response.url] = min(len(body), len(packed))

    def foreign(self) -> list[str]:
        """Addresses elsewhere."""
        local = (self.url, "data:", f"blob:{self.url}")
        return [address for address in self.asked if not address.startswith(local)]

    def array(self, what: str) -> np.ndarray:
        """A Float32Array of the page."""
        return np.frombuffer(base64.b64decode(self.page.evaluate(f"({BASE64})({what})")), np.float32)

    def engine(self) -> None:
        """Load an engine without the page around it."""
        self.page.goto(f"{self.url}model/manifest.json")
        self.page.evaluate(MINE)

    def start(self) -> float:
        """Open the page, load the model, and wait for the first picture; returns the seconds after the load."""
        self.page.goto(self.url)
        self.page.click("#start")
        return (self.mark("first-picture") - self.mark("model-ready")) / 1000

    def mark(self, name: str) -> float:
        """When the page made a mark of its own, in milliseconds; waits for it."""
        found = f"performance.getEntriesByName('{name}')[0]?.startTime ?? 0"
        for _ in range(600):  # the policy of the page lets playwright's own waiting not in
            if at := self.page.evaluate(found):
                return float(at)
            self.page.wait_for_timeout(200)
        raise MeasureError(f"the page did not come to {name!r}: {self.complaints}")


@contextlib.contextmanager
def visit(**context: Any) -> Iterator[Visit]:
    """A browser that has never been here.

    Raises:
        MeasureError: If the playground was not built, or there is no browser.
    """
    from playwright.sync_api import sync_playwright

    from tests.browser.pages import CHROMIUM

    if not (PAGE / "index.html").is_file() or CHROMIUM is None:
        raise MeasureError("type make playground first, and install Chromium")
    options = {"executable_path": CHROMIUM, "args": ["--no-sandbox", "--disable-gpu"]}
    with serve(PAGE) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**options)
        try:
            yield Visit(browser, url, **context)
        finally:
            browser.close()


def playground_parity() -> Result:
    """Largest mean difference of a picture from Python's, of 255: the same texts, seeds and settings."""
    model, found = load("portraits", device="cpu"), []
    with visit() as one:
        one.engine()
        for seed, text in enumerate(TEXTS[:SAMPLES]):
            one.page.evaluate(
                "async (args) => { window.made = await mine.sample(args); }", {"text": text, "seed": seed}
            )
            ours = model.sample([text], [seed], steps=one.page.evaluate("made.inside.sigmas.length"))
            found.append(difference(one.array("made.pixels"), ours))
        for seed, item in enumerate(open_suite("portraits", EDITS).items):
            image = item.image()
            source, target = item.source_text, item.target_text
            pixels = model.prepare(image).flatten().tolist()
            degree = 0.5 + 0.25 * (seed % 4)
            one.page.evaluate(
                """async ([pixels, source, target, seed, degree]) => {
                    const { plan } = await mine.plan({ pixels: new Float32Array(pixels), source, target, seed });
                    window.made = await mine.edit({ plan, degree });
                }""",
                [pixels, source, target, seed, degree],
            )
            ours = edit(model, image, source_text=source, target_text=target, seed=seed, degree=degree)
            found.append(difference(one.array("made.pixels"), model.decode(ours.latents)))
    note = (
        f"the largest of {SAMPLES} pictures, {max(mean for mean, _ in found[:SAMPLES]):.1e}, and of {EDITS} edits "
        f"at degrees 0.5 to 1.25, {max(mean for mean, _ in found[SAMPLES:]):.1e}; single pixels differ by up to "
        f"{max(top for _, top in found):.1e}"
    )
    return {"value": max(mean for mean, _ in found), "n": len(found), "unit": "of 255", "note": note}


def difference(theirs: np.ndarray, ours: torch.Tensor) -> tuple[float, float]:
    """Mean and largest difference of pixels, of 255."""
    apart = np.abs(theirs.reshape(ours[0].shape) - ours[0].numpy()) * 255
    return float(apart.mean()), float(apart.max())


def playground_first_picture_s(visits: int = 5) -> Result:
    """Seconds from the end of loading to the first picture, in the page, with nothing in the cache."""
    found = []
    for _ in range(visits):
        with visit() as one:
            found.append(one.start())
    note = f"median, {min(found):.2f} to {max(found):.2f}; 12 steps, one thread of wasm; {load_note()}"
    return {"value": statistics.median(found), "n": visits, "unit": "s", "note": note}


def playground_edit_s(count: int = 8) -> Result:
    """Seconds of an edit with both texts given, mask and measuring with it; and of one at a further degree."""
    first, further = [], []
    with visit() as one:
        one.engine()
        one.page.evaluate(
            "async () => { window.made = await mine.sample({ text: 'a big smile', seed: 0 }); }"
        )
        for item in open_suite("portraits", count).items:
            seconds = one.page.evaluate(
                """async ([source, target]) => {
                    const begun = performance.now();
                    const { plan } = await mine.plan({ pixels: made.pixels, source, target, seed: 0 });
                    await mine.edit({ plan, degree: 1 });
                    const between = performance.now();
                    await mine.edit({ plan, degree: 0.5 });
                    return [between - begun, performance.now() - between].map((each) => each / 1000);
                }""",
                [item.source_text, item.target_text],
            )
            first.append(seconds[0])
            further.append(seconds[1])
    parts = {
        "next_degree": statistics.median(further),
        "slowest": max(first),
        "slowest_next_degree": max(further),
    }
    next_one = f"another degree of the same edit {parts['next_degree']:.2f} s"
    note = f"median; {next_one}; one thread of wasm; {load_note()}"
    return {"value": statistics.median(first), "n": count, "unit": "s", "parts": parts, "note": note}


def playground_mb() -> Result:
    """Megabytes that a first visit with an edit downloads, gzipped."""
    with visit() as one:
        one.start()
        one.page.wait_for_timeout(1000)
        total = sum(one.asked.values()) / 1e6
        model = sum(size for address, size in one.asked.items() if "/parts/" in address) / 1e6
    note = f"{len(one.asked)} files; model and runtime {model:.2f}, page and recorded pictures {total - model:.2f}"
    return {"value": total, "n": len(one.asked), "unit": "MB", "note": note}


def session(one: Visit) -> Iterator[str]:
    """A visit as a person makes it; yields where it has come to."""
    page = one.page
    one.start()
    rest(page)
    yield "portrait"
    page.get_by_role("tab", name="Edit").click()
    page.locator("#wish").fill("make her frown and add a crown")
    page.locator("#wish").press("Enter")
    rest(page)
    page.wait_for_timeout(6000)  # the other degrees
    rest(page)
    yield "edit"
    page.get_by_role("tab", name="Look inside").click()
    page.wait_for_timeout(300)
    yield "inside"
    page.locator("#tour-open").click()
    page.wait_for_timeout(300)
    yield "tour"


def rest(page: Any) -> None:
    """Wait until nothing that was asked for is being computed."""
    page.wait_for_timeout(100)
    page.locator("#stage[aria-busy=false]").wait_for(timeout=60_000)


DRAG = """
async () => {
    const slider = document.getElementById("degree");
    const times = [];
    for (let k = 0; k < 60; k++) {
        slider.value = 1.5 * k / 59;
        const begun = performance.now();
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        await new Promise((resolve) => requestAnimationFrame(() => {
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = resolve;
            port2.postMessage(0);
        }));
        times.push(performance.now() - begun);
    }
    return times;
}
"""
"""Moves the slider from 0 to 1.5, and takes the time of each move until the next frame is painted."""


def playground_drag_ms() -> Result:
    """Milliseconds from a move of the slider to the painted picture between two computed ones."""
    with visit(viewport={"width": 1280, "height": 900}) as one:
        for place in session(one):
            if place == "edit":
                times = one.page.evaluate(DRAG)
                break
    p95 = float(np.percentile(times, 95))
    note = f"median of {len(times)} moves, with the wait for the next frame; 95 % below {p95:.0f} ms; {load_note()}"
    return {
        "value": statistics.median(times),
        "n": len(times),
        "unit": "ms",
        "parts": {"p95": p95},
        "note": note,
    }


def playground_foreign() -> Result:
    """Requests to other hosts, errors and warnings of the console, and violations of the page's policy."""
    parts = {"foreign": 0, "complaints": 0}
    for settings in ({"width": 1280, "height": 900}, {"width": 400, "height": 800}):
        with visit(viewport=settings) as one:
            places = list(session(one))
            parts["foreign"] += len(one.foreign())
            parts["complaints"] += len(one.complaints)
    note = f"in two visits, wide and 400 px, through {', '.join(places)}; violations of the policy count"
    return {
        "value": sum(parts.values()),
        "n": 2,
        "unit": "requests and complaints",
        "parts": parts,
        "note": note,
    }


SITE = ROOT / "outputs" / "site"
SITE_PAGES = ("index.html", "notebooks/09_ems.html", "docs/reference/api/edit.html")


def a11y_serious() -> Result:
    """What axe-core finds serious or critical on the playground, in all its parts, and on pages of the site."""
    from tests.browser.test_looks import serious

    if "AXE_JS" not in os.environ:
        raise MeasureError("AXE_JS does not name axe-core's axe.min.js: get it with npm pack axe-core")
    parts: dict[str, int] = {}
    for scheme in ("light", "dark"):
        with visit(viewport={"width": 1280, "height": 900}, color_scheme=scheme) as one:
            for place in session(one):
                parts[f"playground: {place}, {scheme}"] = len(serious(one.page))
            version = one.page.evaluate("axe.version")
    if not (SITE / "index.html").is_file():
        raise MeasureError("type make docs first")
    with visit() as one, serve(SITE) as url:
        for name in SITE_PAGES:
            one.page.goto(url + name)
            parts[f"site: {name}"] = len(serious(one.page))
    note = f"axe-core {version}, all rules"
    return {"value": sum(parts.values()), "n": len(parts), "unit": "findings", "parts": parts, "note": note}


def docs_problems() -> Result:
    """Warnings, broken links, foreign files and public names without a page, as `make docs` found them."""
    path = SITE.with_name("site.json")
    if not path.is_file():
        raise MeasureError("type make docs first")
    parts = json.loads(path.read_text("utf-8"))
    value, pages = parts.pop("problems"), parts.pop("pages")
    note = f"{pages} pages, {parts.pop('mb')} MB"
    return {"value": value, "n": pages, "unit": "problems", "parts": parts, "note": note}
