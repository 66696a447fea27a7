"""What a benchmark run left on disk, read back: `bench.json`, `items.csv`, `rows.csv`, `summary.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditlens.errors import BenchError
from ditlens.files import read_csv, read_json, user_path

FIRST = "item kind method degree seed nfe calls seconds".split()
LAST = "source_text target_text picture error".split()
COLUMNS = [*FIRST, *LAST]
"""Columns of rows.csv that are not metrics: those before the metrics, and those after."""
AGAIN = "Run the benchmark again into a new folder: ditlens bench edit --suite portraits --out DIR."


@dataclass(frozen=True)
class ItemRecord:
    """One line of items.csv: an image and an instruction.

    Attributes:
        name: The item's name.
        kind: Names of the attributes that the instruction is about, joined by +.
        instruction: The instruction.
        picture: File of the source image, relative to the folder.
        mask: File of the mask of what may change; empty if there is none.
    """

    name: str
    kind: str
    instruction: str
    picture: str
    mask: str = ""

    @property
    def attributes(self) -> list[str]:
        return [name for name in self.kind.split("+") if name]


@dataclass(frozen=True)
class ResultRecord:
    """One line of rows.csv: what one method made of one item at one degree.

    Attributes:
        item: Name of the item.
        method: Name of the method.
        degree: The editing degree.
        picture: File of the result, relative to the folder; empty if there is none.
        error: Why there is none.
        metrics: Every metric; NaN where it has no value.
    """

    item: str
    method: str
    degree: float
    picture: str
    error: str
    metrics: dict[str, float]

    @property
    def failed(self) -> bool:
        """Whether it ended with an error, or did not do what was asked."""
        return bool(self.error) or self.metrics.get("success", math.nan) == 0

    def known(self, metric: str) -> bool:
        """Whether a metric has a value."""
        return math.isfinite(self.metrics.get(metric, math.nan))


@dataclass(frozen=True)
class BenchFolder:
    """A benchmark run on disk.

    Attributes:
        path: The folder.
        about: bench.json: suite, model, versions, methods and metrics.
        items: Every item by its name.
        rows: Every result.
        summary: summary.json: means with their intervals.
    """

    path: Path
    about: dict[str, Any]
    items: dict[str, ItemRecord]
    rows: list[ResultRecord]
    summary: dict[str, Any]

    @property
    def methods(self) -> list[str]:
        """The methods in the order of bench.json; after them, those that only rows.csv knows."""
        return list(dict.fromkeys([*self.about.get("methods", {}), *(row.method for row in self.rows)]))

    @property
    def degrees(self) -> list[float]:
        return sorted({row.degree for row in self.rows})

    @property
    def main_degree(self) -> float:
        """1, or the nearest degree to it that was run."""
        return min(self.degrees or [1.0], key=lambda degree: abs(degree - 1))

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics in the order of rows.csv."""
        return list(self.rows[0].metrics) if self.rows else list(self.about.get("metrics", {}))

    def file(self, name: str) -> Path:
        """A file of the folder.

        Raises:
            BenchError: If it is outside the folder or does not exist.
        """
        path = (self.path / name).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise BenchError(f"{name} is outside {self.path}: somebody changed the tables. {AGAIN}")
        if not path.is_file():
            raise BenchError(f"There is no file {name} in {self.path}: it was moved or deleted. {AGAIN}")
        return path


def read_folder(folder: str | Path | BenchFolder) -> BenchFolder:
    """Read a benchmark's folder.

    Args:
        folder: What `ditlens bench edit --out` wrote.

    Raises:
        BenchError: If a file is missing or damaged.
    """
    if isinstance(folder, BenchFolder):
        return folder
    path = user_path(folder, BenchError)
    for name in ("bench.json", "summary.json", "rows.csv", "items.csv"):
        if not (path / name).is_file():
            raise BenchError(f"{path} is not the folder of a benchmark: it has no {name}. {AGAIN}")
    about = read_json(path / "bench.json", "the settings of a benchmark", BenchError)
    summary = read_json(path / "summary.json", "the numbers of a benchmark", BenchError)
    lines = _table(path / "rows.csv", "item method degree picture".split())
    items = {line["item"]: _item(line) for line in _table(path / "items.csv", ["item"])}
    for line in lines:  # an item whose edits all ended with an error has neither source nor line
        items.setdefault(line["item"], _item({"instruction": "(no source image)", **line, "picture": ""}))
    return BenchFolder(path, about, items, [_result(line) for line in lines], summary)


def _table(path: Path, needed: list[str]) -> list[dict[str, str]]:
    columns, lines = read_csv(path, "a table of a benchmark", BenchError)
    if missing := [column for column in needed if column not in columns]:
        raise BenchError(f"{path} lacks the columns {', '.join(missing)}. {AGAIN}")
    return lines


def _item(line: dict[str, str]) -> ItemRecord:
    facts = {name: line.get(name, "") for name in ("kind", "instruction", "picture", "mask")}
    return ItemRecord(line["item"], **facts)


def _result(line: dict[str, str]) -> ResultRecord:
    metrics = {name: _float(value) for name, value in line.items() if name not in COLUMNS}
    degree = _float(line["degree"])
    return ResultRecord(line["item"], line["method"], degree, line["picture"], line.get("error", ""), metrics)


def _float(text: str) -> float:
    """A number; NaN for an empty cell or for words."""
    try:
        return float({"True": "1", "False": "0"}.get(text, text))
    except ValueError:
        return math.nan
