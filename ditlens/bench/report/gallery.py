"""The gallery of the report page: every source beside its results, with filters."""

from __future__ import annotations

from dataclasses import dataclass, field

from ditlens.bench.folder import BenchFolder, ItemRecord, ResultRecord

MOST_RESULTS = 6000
"""Results on one page: more make it slow to open. The others are in the folder and in rows.csv."""


@dataclass
class Gallery:
    """What `gallery.html` shows.

    Attributes:
        filters: Choices of each filter, and the one that is chosen at first ("" for all).
        strips: Items with their results.
        left_out: Number of items beyond `MOST_RESULTS`.
    """

    filters: dict[str, tuple[list[str], str]]
    strips: list[tuple[ItemRecord, list[ResultRecord]]] = field(default_factory=list)
    left_out: int = 0


def gallery(bench: BenchFolder, most: int = MOST_RESULTS) -> Gallery:
    """Filters, and one strip of images per item.

    Args:
        bench: The run.
        most: Results on the page; whole items are left out beyond.
    """
    attributes = sorted({name for item in bench.items.values() for name in item.attributes})
    degrees = [f"{degree:g}" for degree in bench.degrees]
    found = Gallery({"attribute": (attributes, ""), "method": (bench.methods, ""),
                     "degree": (degrees, f"{bench.main_degree:g}")})  # fmt: skip
    order = {method: i for i, method in enumerate(bench.methods)}
    results: dict[str, list[ResultRecord]] = {name: [] for name in bench.items}
    for row in sorted(bench.rows, key=lambda row: (order[row.method], row.degree)):
        results[row.item].append(row)
    count = 0
    for name, rows in results.items():
        if found.strips and rows and count + len(rows) > most:
            found.left_out += 1
        elif rows:
            count += len(rows)
            found.strips.append((bench.items[name], rows))
    return found
