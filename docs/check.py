"""Check the built site: ``python docs/check.py outputs/site``.

Every link leads somewhere, nothing comes from outside, every public name and exception has its place in the
reference. Prints what is wrong, writes the counts beside the site as JSON, and exits with 1 if there is anything.
"""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import ditlens
from ditlens.errors import DitlensError

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
"""Elements with an address that a browser loads by itself."""
REFERENCE = Path("docs", "reference")


class Page(HTMLParser):
    """A page's links, what it loads, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif LOADED.get(tag, "") in found:
            self.loads.append(found[LOADED[tag]])


def is_outside(address: str) -> bool:
    """Whether an address is on another host."""
    return urlsplit(address).netloc != "" or urlsplit(address).scheme not in ("", "data")


def broken(site: Path, pages: dict[Path, Page]) -> list[str]:
    """Links and things to load that lead nowhere, or nowhere in this site."""
    found = []
    for path, page in pages.items():
        for address in (*page.links, *page.loads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or not target.is_relative_to(site):
                found.append(f"{path.relative_to(site)}: {address} does not exist")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{path.relative_to(site)}: {address} has no such place")
    return found


def foreign(site: Path, pages: dict[Path, Page]) -> list[str]:
    """What pages and style sheets would load from elsewhere."""
    found = [
        f"{path.relative_to(site)}: loads {address}"
        for path, page in pages.items()
        for address in page.loads
        if is_outside(address)
    ]
    for path in site.rglob("*.css"):
        text = path.read_text("utf-8")
        found += [
            f"{path.relative_to(site)}: loads {start}..."
            for start in ("url(http", "url(//", 'url("http', 'url("//')
            if start in text
        ]
    return found


def without_page(site: Path, pages: dict[Path, Page]) -> list[str]:
    """Public names and exceptions that the reference does not have."""
    api = set().union(
        *(page.anchors for path, page in pages.items() if path.is_relative_to(site / REFERENCE / "api"))
    )
    names = [f"ditlens.{name}" for name in ditlens.__all__ if name not in ("__version__", "errors")]
    missing = [name for name in names if name not in api and f"module-{name}" not in api]
    for each in (DitlensError, *DitlensError.__subclasses__()):
        page = pages.get(site / REFERENCE / "errors" / f"{each.__name__}.html")
        if page is None or f"ditlens.errors.{each.__name__}" not in page.anchors:
            missing.append(f"ditlens.errors.{each.__name__}")
    return missing


def main(site: Path) -> int:
    """Check a site; its warnings are in a file beside it."""
    site = site.resolve()
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
    warnings = (site.parent / f"{site.name}.warnings").read_text("utf-8").splitlines()
    problems = {
        "warnings": [line for line in warnings if line.strip()],
        "broken links": broken(site, pages),
        "loaded from elsewhere": foreign(site, pages),
        "names without a page": without_page(site, pages),
    }
    for kind, lines in problems.items():
        for line in lines:
            print(f"{kind}: {line}")
    counts = {kind: len(lines) for kind, lines in problems.items()}
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    counts |= {"problems": sum(counts.values()), "pages": len(pages), "mb": round(size / 1e6, 1)}
    (site.parent / f"{site.name}.json").write_text(json.dumps(counts, indent=2) + "\n", "utf-8")
    print(f"{len(pages)} pages, {counts['mb']} MB, {counts['problems']} problems: {site / 'index.html'}")
    return int(counts["problems"] > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
