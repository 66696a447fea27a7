"""HTML pages from Jinja templates; every value is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


class Pages:
    """The templates, style sheets and scripts of some folders.

    Args:
        *folders: Where they are.
    """

    def __init__(self, *folders: Path) -> None:
        self.loader = FileSystemLoader(folders)
        self.jinja = Environment(
            loader=self.loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip

    def render(self, name: str, **values: Any) -> str:
        """Fill in a template.

        Args:
            name: Its file, such as "page.html".
            **values: What it asks for.
        """
        return self.jinja.get_template(name).render(**values)

    def asset(self, name: str) -> Markup:
        """A style sheet or a script as it is: not a template, not escaped."""
        return Markup(self.loader.get_source(self.jinja, name)[0])
