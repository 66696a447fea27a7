"""Votes on disk: one file per voter, one line per vote, only ever appended to; and the blind images."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ditlens.bench.folder import BenchFolder
from ditlens.bench.rating.ballots import FLIPPED, SOURCE, VOTER, Comparison
from ditlens.errors import BenchError
from ditlens.files import append_whole
from ditlens.images import open_image

QUESTIONS = {
    "follows": "Which follows the instruction better?",
    "keeps": "Which keeps the rest better?",
}
ANSWERS = ("left", "same", "right")
SIDES = ("source", "left", "right")


def votes_folder(bench: BenchFolder) -> Path:
    """Where the votes on a run are kept."""
    return bench.path / "votes"


def vote_line(voter: str, pair: Comparison, answers: dict[str, str], seconds: float) -> dict[str, Any]:
    """Everything that is stored of one vote."""
    time = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"voter": voter, **asdict(pair), **answers, "seconds": round(seconds, 1), "time": time}


def answers_of(data: dict[str, Any]) -> dict[str, str]:
    """The answers to both questions.

    Raises:
        ValueError: If one is missing, or is not left, same or right.
    """
    for question in QUESTIONS:
        if data.get(question) not in ANSWERS:
            raise ValueError(f"{question} must be left, same or right")
    return {question: data[question] for question in QUESTIONS}


def seconds_of(data: dict[str, Any]) -> float:
    """How long the voter looked; 0 if it is unknown."""
    value = data.get("seconds", 0)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return min(max(float(value), 0.0), 86400.0) if good else 0.0


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append one line and wait until it is on the disk.

    A line that a crash cut off stays as it is: the new one starts after it on a line of its own.

    Raises:
        WriteError: If it cannot be written; the file is as it was.
    """
    data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
    append_whole(path, data)


def read_lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """The lines of a file; None for every line that is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}. Change its permissions.") from error
    for line in content.split(b"\n"):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            yield value if isinstance(value, dict) else None


def voter_file(bench: BenchFolder, voter: str) -> Path:
    """The file of a voter.

    Raises:
        ValueError: If this is not a voter's code; nothing else can become part of a path.
    """
    if not VOTER.fullmatch(voter):
        raise ValueError("voter must be 16 hexadecimal digits")
    return votes_folder(bench) / f"{voter}.jsonl"


def done(bench: BenchFolder, voter: str) -> set[int]:
    """Numbers of the pairs on which a voter has voted."""
    lines = read_lines(voter_file(bench, voter))
    return {line["number"] for line in lines if line and isinstance(line.get("number"), int)}


def result_files(bench: BenchFolder) -> dict[tuple[str, str, float], str]:
    """File of every result, by item, method and degree."""
    return {(row.item, row.method, row.degree): row.picture for row in bench.rows if row.picture}


def shown(
    bench: BenchFolder, results: dict[tuple[str, str, float], str], pair: Comparison, side: str
) -> tuple[str, bool]:
    """What is shown on one of `SIDES`: the file, and whether it is upside down."""
    method = SOURCE if side == "source" else getattr(pair, side)
    if method in (SOURCE, FLIPPED):
        return bench.items[pair.item].picture, method == FLIPPED
    return results[pair.item, method, pair.degree], False


def blind_png(bench: BenchFolder, name: str, flipped: bool = False) -> bytes:
    """An image without the metadata of its file.

    An edit's PNG contains its recipe, and with it the method's name: only the pixels are passed on.

    Args:
        bench: The run.
        name: File of the image in the run's folder.
        flipped: Whether to turn it upside down.

    Raises:
        BenchError: If the file is missing.
    """
    from PIL import Image

    image = open_image(bench.file(name))
    clean = Image.new("RGB", image.size)
    clean.paste(image.rotate(180) if flipped else image)
    with io.BytesIO() as file:
        clean.save(file, "PNG")
        return file.getvalue()
