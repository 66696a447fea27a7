"""The gallery of the report page: every source beside its results, with filters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from ditlens.bench.folder import BenchFolder, Item, Row

MOST_RESULTS = 6000
"""Results in one page: more make it slow to open. The others are in the folder and in rows.csv."""


def gallery(bench: BenchFolder, most: int = MOST_RESULTS) -> str:
    """Filters and one strip of pictures per item.

    Args:
        bench: The run.
        most: Results in the page; whole items are left out beyond.
    """
    results: dict[str, list[Row]] = {name: [] for name in bench.items}
    for row in bench.rows:
        results[row.item].append(row)
    strips: list[str] = []
    count = left_out = 0
    for name, rows in results.items():
        if not rows:
            continue
        if strips and count + len(rows) > most:
            left_out += 1
            continue
        count += len(rows)
        strips.append(_strip(bench, bench.items[name], rows))
    note = ""
    if left_out:
        note = (
            f'<p class="note">The last {left_out} items are not shown: their pictures are in the folder.</p>'
        )
    return f'{_filters(bench)}{note}<div id="gallery">{"".join(strips)}</div>'


def _filters(bench: BenchFolder) -> str:
    attributes = sorted({name for item in bench.items.values() for name in item.attributes})
    degrees = [f"{degree:g}" for degree in bench.degrees]
    chosen = f"{bench.main_degree:g}"
    return (
        '<form id="filters" aria-label="Filters of the gallery">'
        f"{_select('attribute', attributes)}{_select('method', bench.methods)}{_select('degree', degrees, chosen)}"
        '<label class="check"><input type="checkbox" name="failed"> failed only</label>'
        '<output id="shown" aria-live="polite"></output></form>'
    )


def _select(name: str, values: Iterable[str], chosen: str = "") -> str:
    options = "".join(
        f'<option value="{escape(v)}"{" selected" if v == chosen else ""}>{escape(v)}</option>'
        for v in values
    )
    return f'<label>{name} <select name="{name}"><option value="">all</option>{options}</select></label>'


def _strip(bench: BenchFolder, item: Item, rows: list[Row]) -> str:
    """One item: the wish, the source, and all results."""
    order = {method: i for i, method in enumerate(bench.methods)}
    rows = sorted(rows, key=lambda row: (order[row.method], row.degree))
    source = _figure(item.picture, f"Source picture of {item.name}", "source") if item.picture else ""
    if item.mask:
        source += _figure(item.mask, f"Mask of {item.name}: white may change", "white may change")
    return (
        f'<section class="item" data-attributes="{escape("|".join(item.attributes))}">'
        f"<h3>{escape(item.instruction)} <small>{escape(item.name)} · {escape(item.kind)}</small></h3>"
        f'<div class="strip"><div class="source">{source}</div><div class="results">'
        f"{''.join(_result(item, row) for row in rows)}</div></div></section>"
    )


def _result(item: Item, row: Row) -> str:
    """One result: picture, method, degree, and whether it did what was asked for."""
    success = row.metrics.get("success", math.nan)
    verdict = "✗ error" if row.error else {1.0: "✓ done", 0.0: "✗ not done"}.get(success, "not judged")
    numbers = [f"{name} {row.metrics[name]:.2f}" for name in ("effect", "drift") if _known(row, name)]
    caption = (
        f"<b>{escape(row.method)}</b> · {row.degree:g}<br>{verdict}<br><small>{' · '.join(numbers)}</small>"
    )
    data = f'data-method="{escape(row.method)}" data-degree="{row.degree:g}" data-failed="{int(row.failed)}"'
    if not row.picture:
        return f'<figure {data}><div class="none">no picture</div><figcaption>{caption}</figcaption></figure>'
    alt = f"{row.method} at degree {row.degree:g}: {item.instruction}"
    return _figure(row.picture, alt, caption, data, escaped=True)


def _known(row: Row, metric: str) -> bool:
    return math.isfinite(row.metrics.get(metric, math.nan))


def _figure(picture: str, alt: str, caption: str, data: str = "", escaped: bool = False) -> str:
    """A picture that opens in full size on a click."""
    address = escape(quote(picture, safe="/"))
    words = caption if escaped else escape(caption)
    return (
        f'<figure {data}><a href="{address}"><img src="{address}" alt="{escape(alt)}" loading="lazy" width="128" '
        f'height="128"></a><figcaption>{words}</figcaption></figure>'
    )
