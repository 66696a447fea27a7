"""The pages of `report/` and `rating/`."""

from __future__ import annotations

from pathlib import Path

from ditlens.html import Pages

PAGES = Pages(*(Path(__file__).parent / room / "templates" for room in ("report", "rating")))
render, asset = PAGES.render, PAGES.asset
