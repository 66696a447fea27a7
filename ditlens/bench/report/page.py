"""The report of a benchmark: one page that works offline, on a phone, in dark mode and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ditlens.bench.folder import BenchFolder, read_folder
from ditlens.bench.html import asset, render
from ditlens.bench.report.curves import chart
from ditlens.bench.report.gallery import gallery
from ditlens.bench.report.tables import attribute_table, main_table, summary_table
from ditlens.files import write_whole


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
    page = render(
        "page.html", bench=bench, facts=facts(bench), style=asset("page.css"), script=asset("page.js"),
        main=main_table(bench), attributes=attribute_table(bench), chart=chart(bench), gallery=gallery(bench),
        **{part: summary_table(bench, part) for part in ("sweep", "matched", "cost")},
    )  # fmt: skip
    path = bench.path / "index.html"
    write_whole(path, page)
    return path


def facts(bench: BenchFolder) -> dict[str, Any]:
    """Suite, model, version and sizes."""
    about = bench.about
    return {
        "suite": about.get("suite", ""), "model": about.get("model", ""), "ditlens": about.get("ditlens", ""),
        "items": len(bench.items), "methods": len(bench.methods),
        "degrees": ", ".join(f"{degree:g}" for degree in bench.degrees), "seed": about.get("seed", ""),
    }  # fmt: skip
