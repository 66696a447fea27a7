"""Write a report: one page that holds its figures and its style, and the numbers as JSON."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditlens.analysis.report.findings import CLAIMS, Report
from ditlens.files import write_json, write_whole
from ditlens.html import Pages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGES = Pages(Path(__file__).parent / "templates")


def write_report(report: Report, folder: Path) -> Path:
    """Write ``index.html``, which needs no other file, and ``report.json``.

    Args:
        report: The report.
        folder: Where.

    Returns:
        The page.

    Raises:
        WriteError: If one cannot be written.
    """
    page = PAGES.render(
        "report.html",
        report=report,
        claims=CLAIMS,
        style=PAGES.asset("report.css"),
        picture=as_uri,
        cell=as_cell,
    )
    write_json(folder / "report.json", report.facts())
    write_whole(folder / "index.html", page)
    return folder / "index.html"


def as_uri(figure: Figure) -> str:
    """A figure as an address that holds it: PNG, sharp on a screen of twice the resolution."""
    with io.BytesIO() as memory:
        figure.savefig(memory, format="png", dpi=120, facecolor="white")
        return f"data:image/png;base64,{base64.b64encode(memory.getvalue()).decode()}"


def as_cell(value: Any) -> str:
    """A value of a table; numbers with three digits after the point."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
