"""The report of a benchmark: one page that works offline, on a phone, in dark mode and on paper."""

from __future__ import annotations

from pathlib import Path

from ditlens.bench.folder import BenchFolder, read_folder
from ditlens.bench.html import PAGES, asset, render
from ditlens.bench.report.curves import chart
from ditlens.bench.report.gallery import gallery
from ditlens.bench.report.tables import attribute_table, main_table, shown, summary_table, unlike
from ditlens.files import write_whole

PAGES.jinja.filters["shown"] = shown


def write_page(folder: str | Path | BenchFolder) -> Path:
    """Write `index.html` into the folder of a benchmark run.

    The page contains its style and its script; only the images are files of their own. It needs no server and no
    network.

    Args:
        folder: What `ditlens bench edit --out` wrote.

    Returns:
        The page.

    Raises:
        BenchError: If a file of the run is missing or damaged.
    """
    bench = read_folder(folder)
    facts = {name: bench.about.get(name, "") for name in ("suite", "model", "ditlens")} | {
        "items": len(bench.items), "methods": len(bench.methods),
        "degrees": ", ".join(f"{degree:g}" for degree in bench.degrees), "seed": bench.about.get("seed", ""),
    }  # fmt: skip
    page = render(
        "page.html", bench=bench, facts=facts, style=asset("page.css"), script=asset("page.js"),
        main=main_table(bench), unlike=unlike(bench), attributes=attribute_table(bench),
        chart=chart(bench), gallery=gallery(bench),
        **{part: summary_table(bench, part) for part in ("sweep", "matched", "cost")},
    )  # fmt: skip
    path = bench.path / "index.html"
    write_whole(path, page)
    return path
