"""Pieces of HTML for the editor: measured attributes as bars, and the still copy of the page. Imports no torch."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from markupsafe import Markup, escape

from ditlens.tables import spoken
from ditlens.views.editor.state import changed_words

MOVED = 0.02
"""Share of an attribute's range from which a change is worth a row."""


def words(source: str, target: str) -> Markup:
    """The words in which both texts differ."""
    pairs = [
        Markup("<del>{}</del> → <mark>{}</mark>").format(old or "nothing", new or "nothing")
        for old, new in changed_words(source, target)
    ]
    return (
        Markup('<div class="ditlens-words">changed: {}</div>').format(Markup(", ").join(pairs))
        if pairs
        else Markup("")
    )


def bars(rows: Sequence[Mapping[str, Any]], drift: float | None, seconds: float | None) -> Markup:
    """What the oracle reads, before and after: those that were asked for or moved first."""
    if not rows:
        return Markup("")
    ordered = sorted(rows, key=lambda row: (not row["asked"], -row["moved"]))
    shown = [row for row in ordered if row["asked"] or row["moved"] > MOVED]
    rest = len(rows) - len(shown)
    lines = [_row(row) for row in shown]
    facts = (
        [] if drift is None else [f"drift {drift:.3f}: mean change of what was not asked for, of its range"]
    )
    facts += [] if not rest else [f"{rest} more attributes stayed"]
    facts += [] if seconds is None else [f"{seconds:.1f} s"]
    return Markup('<div class="ditlens-bars"><table>{}</table><div>{}</div></div>').format(
        Markup("").join(lines), "; ".join(facts)
    )


def _row(row: Mapping[str, Any]) -> Markup:
    kind = "ditlens-asked" if row["asked"] else "ditlens-moved"
    track: Markup | str = ""
    if row["shares"]:
        a, b = (max(0.0, min(1.0, share)) * 105 for share in row["shares"])
        track = Markup(
            '<div class="ditlens-track" role="img" aria-label="from {} to {}">'
            '<u style="left:{:.0f}px;width:{:.0f}px"></u>'
            '<i style="left:{:.0f}px"></i><b style="left:{:.0f}px"></b></div>'
        ).format(*(f"{share:.2f}" for share in row["shares"]), min(a, b), abs(b - a), a, b)
    before, after = row["words"]
    change = Markup("{} → {}").format(before, after) if before != after else escape(before)
    note = "" if row["asked"] else Markup(" <i>not asked for</i>")
    return Markup('<tr class="{}"><td>{}</td><td>{}</td><td>{}{}</td></tr>').format(
        kind, row["label"], track, change, note
    )


def _said(value: Any) -> str:
    """A setting as a person writes it."""
    if isinstance(value, bool):
        return "move" if value else "stay"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def still(shown: Mapping[str, Any], model: str, name: str) -> str:
    """The page as a picture and a table, for readers without a kernel; its class is `name`."""
    state = shown["state"]
    settings = [
        ("model", model),
        *(  # a copy is read elsewhere: of a file only its name
            (spoken(n), PurePath(v).name if n == "name" else _said(v))
            for n, v in state.items()
            if v not in ("", None, ())
        ),
    ]
    if shown["drift"] is not None:
        settings.append(("drift", f"{shown['drift']:.3f}"))
    table = Markup("").join(
        Markup(
            "<tr><th style='text-align:left;white-space:nowrap'>{}</th><td style='text-align:left'>{}</td></tr>"
        ).format(n, v)
        for n, v in settings
    )
    images = Markup("").join(
        Markup(
            '<figure style="display:inline-block;margin:0 8px 8px 0"><img alt="{}" width="256" '
            'src="data:image/jpeg;base64,{}"><figcaption>{}</figcaption></figure>'
        ).format(alt, base64.b64encode(shown[part]).decode(), alt)
        for part, alt in (("before", "source"), ("after", "result"))
        if shown[part]
    )
    return str(
        Markup(
            '<div class="{}"><div>{}</div><table>{}</table>'
            "<p>This is a still copy of the editor: run the cell to use it.</p></div>"
        ).format(name, images, table)
    )
