"""HTML pages from the Jinja templates of `report/` and `rating/`; every value is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ROOMS = FileSystemLoader([Path(__file__).parent / room / "templates" for room in ("report", "rating")])
PAGES = Environment(
    loader=ROOMS, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(name: str, **values: Any) -> str:
    """Fill in a template.

    Args:
        name: Its file, such as "page.html".
        values: What it asks for.
    """
    return PAGES.get_template(name).render(**values)


def asset(name: str) -> Markup:
    """A style sheet or a script as it is: not a template, not escaped."""
    return Markup(ROOMS.get_source(PAGES, name)[0])
