"""What a benchmark run left on disk, read back: `bench.json`, `items.csv`, `rows.csv`, `summary.json`."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditlens.errors import StudyError

FIRST = "item kind method degree seed nfe calls seconds".split()
LAST = "source_text target_text picture error".split()
COLUMNS = [*FIRST, *LAST]
"""Columns of rows.csv that are no metric: those before the metrics, and those after."""


@dataclass(frozen=True)
class Item:
    """One line of items.csv: a picture and a wish.

    Attributes:
        name: The item's name.
        kind: Names of the attributes that the wish is about, joined by +.
        instruction: The wish.
        picture: File of the source picture, relative to the folder.
        mask: File of the mask of what may change, or nothing.
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
class Row:
    """One line of rows.csv: what one method made of one item at one degree.

    Attributes:
        item: Name of the item.
        method: Name of the method.
        degree: The editing degree.
        picture: File of the result, relative to the folder; nothing if there is none.
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
        """Whether it broke, or did not do what was asked for."""
        return bool(self.error) or self.metrics.get("success", math.nan) == 0


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
    items: dict[str, Item]
    rows: list[Row]
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
            StudyError: If it lies outside the folder or does not exist.
        """
        path = (self.path / name).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise StudyError(f"{name} lies outside {self.path}: the tables were changed by hand. {AGAIN}")
        if not path.is_file():
            raise StudyError(f"There is no file {name} in {self.path}: it was moved or deleted. {AGAIN}")
        return path


AGAIN = "Run the benchmark again into a new folder: ditlens bench edit --suite portraits --out DIR."


def read_folder(folder: str | Path | BenchFolder) -> BenchFolder:
    """Read a benchmark's folder.

    Args:
        folder: What `ditlens bench edit --out` wrote.

    Raises:
        StudyError: If a file is missing or damaged.
    """
    if isinstance(folder, BenchFolder):
        return folder
    path = Path(folder).expanduser()
    about = _object(path, "bench.json")
    items = {line["item"]: _item(line) for line in _table(path, "items.csv", Item)}
    lines = _table(path, "rows.csv", Row)
    rows = [_row(line) for line in lines]
    for line in lines:  # an item whose edits all broke has no source and no line
        items.setdefault(line["item"], Item(line["item"], line.get("kind", ""), "(no source picture)", ""))
    return BenchFolder(path, about, items, rows, _object(path, "summary.json"))


def _read(path: Path, name: str) -> str:
    try:
        return (path / name).read_text("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StudyError(f"{path} is no folder of a benchmark: it has no {name}. {AGAIN}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{name} in {path} cannot be read: {error}. {AGAIN}") from error


def _object(path: Path, name: str) -> dict[str, Any]:
    """A file with one JSON object."""
    try:
        value = json.loads(_read(path, name))
    except ValueError as error:
        raise StudyError(f"{name} in {path} is damaged: {error}. {AGAIN}") from error
    if not isinstance(value, dict):
        raise StudyError(f"{name} in {path} is damaged: it is no JSON object. {AGAIN}")
    return value


def _table(path: Path, name: str, kind: type) -> list[dict[str, str]]:
    """A CSV file with a header, as dictionaries of texts."""
    reader = csv.DictReader(_read(path, name).splitlines(keepends=True))
    needed = "item kind instruction picture".split() if kind is Item else "item method degree picture".split()
    lines = list(reader)
    missing = [column for column in needed if column not in (reader.fieldnames or [])]
    if missing and (lines or kind is Row):
        raise StudyError(f"{name} in {path} lacks the columns {', '.join(missing)}. {AGAIN}")
    return [{key: value or "" for key, value in line.items() if key is not None} for line in lines]


def _item(line: dict[str, str]) -> Item:
    return Item(line["item"], line["kind"], line["instruction"], line["picture"], line.get("mask", ""))


def _row(line: dict[str, str]) -> Row:
    metrics = {name: _float(value) for name, value in line.items() if name not in COLUMNS}
    degree = _float(line["degree"])
    return Row(line["item"], line["method"], degree, line["picture"], line.get("error", ""), metrics)


def _float(text: str) -> float:
    """A number; NaN for an empty cell or for words."""
    try:
        return float({"True": "1", "False": "0"}.get(text, text))
    except ValueError:
        return math.nan
