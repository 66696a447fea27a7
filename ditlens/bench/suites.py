"""What a benchmark edits: pictures, wishes, texts, and masks of what may change.

Worlds bring suites of their own, which are exact. `pie_bench` and `records` read data that the user brings; nothing
of them is shipped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ditlens import images
from ditlens.ems.masks import read_mask
from ditlens.errors import SuiteError
from ditlens.worlds import world as worlds
from ditlens.worlds.world import SuiteItem

PIE_SIDE = 512
PIE_KINDS = {
    "0": "random", "1": "change object", "2": "add object", "3": "delete object", "4": "attribute content",
    "5": "pose", "6": "color", "7": "material", "8": "background", "9": "style",
}  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """Edits to make.

    Attributes:
        name: Name of the suite.
        items: The edits.
        remarks: What is wrong with the data, in sentences: missing pictures, empty masks, texts that are the same.
    """

    name: str
    items: list[SuiteItem]
    remarks: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        kinds = ", ".join(
            f"{kind} {count}" for kind, count in Counter(i.kind for i in self.items).most_common(12)
        )
        return "\n".join([f"{self.name}: {len(self.items)} edits ({kinds})", *self.remarks])


# --- data that the user brings -----------------------------------------------------------------------------


def pie_bench(folder: str | Path) -> Suite:
    """PIE-Bench as its authors hand it out: ``mapping_file.json`` and ``annotation_images/``.

    Masks are pairs (start, length) over the flattened 512 x 512 picture; as in the released evaluation a run ends
    with the picture and the outermost pixels count as edited. Square brackets are taken out of the prompts.

    Args:
        folder: The unpacked folder.

    Raises:
        SuiteError: If it is not such a folder.
    """
    folder = Path(folder).expanduser()
    table = _read_json(folder / "mapping_file.json", "a PIE-Bench folder (its authors hand it out by a form)")
    if not isinstance(table, dict):
        raise SuiteError(f"{folder / 'mapping_file.json'} is not PIE-Bench's table: it holds no object.")
    items, remarks = [], []
    for key, entry in table.items():
        needed = {"image_path", "original_prompt", "editing_prompt", "mask"}
        missing = needed - set(entry) if isinstance(entry, dict) else needed
        if missing:
            raise SuiteError(f"Entry {key} of mapping_file.json lacks {', '.join(sorted(missing))}.")
        path = folder / "annotation_images" / str(entry["image_path"])
        if not path.is_file():
            remarks.append(f"{key}: the picture {entry['image_path']} is missing; left out.")
            continue
        try:
            mask = pie_mask(entry["mask"])
        except SuiteError as error:
            raise SuiteError(f"Entry {key} of mapping_file.json: {error}") from error
        source, target = (_plain(entry[name]) for name in ("original_prompt", "editing_prompt"))
        remarks += _remarks(key, source, target, float(mask[..., 1:-1, 1:-1].mean()))
        kind = PIE_KINDS.get(str(entry.get("editing_type_id", "")), "unknown")
        items.append(
            SuiteItem(
                _file_name(f"pie{key}"),
                kind,
                _plain(entry.get("editing_instruction", "")),
                source,
                target,
                _reader(path),
                mask,
            )
        )
    return _suite("pie-bench", items, remarks, folder)


def pie_mask(runs: Sequence[int], side: int = PIE_SIDE) -> torch.Tensor:
    """Decode PIE-Bench's run lengths: (1, 1, side, side), 1 where it may change; the border is 1.

    A run that leaves the picture ends with it.

    Raises:
        SuiteError: If the numbers are no pairs.
    """
    whole = isinstance(runs, Sequence) and all(isinstance(run, int) and run >= 0 for run in runs)
    if not whole or len(runs) % 2:
        raise SuiteError(
            f"A mask is a list of pairs (start, length), whole and not negative; got {runs!r:.60}."
        )
    flat = np.zeros(side * side, np.float32)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        flat[start : start + length] = 1
    mask = torch.from_numpy(flat.reshape(1, 1, side, side))
    mask[..., [0, -1], :] = 1
    mask[..., :, [0, -1]] = 1
    return mask


def records(path: str | Path) -> Suite:
    """A list of edits as JSON or JSON lines: what ZOFIE or ZOPIE might look like.

    The format of those benchmarks is not public; this is our reading. Each record has ``image`` (a file, relative
    to the list) and ``source`` and ``target`` texts or an ``instruction``; it may have ``mask`` (a picture, white
    may change), ``attribute`` (the kind), ``id`` and ``licence``.

    Args:
        path: The file.

    Raises:
        SuiteError: If it cannot be read, or a record lacks what it needs.
    """
    path = Path(path).expanduser()
    if path.suffix == ".jsonl":
        lines = _read_text(path, "a list of edits").splitlines()
        entries = [_parse(line, f"{path}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    else:
        entries = _read_json(path, "a list of edits")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SuiteError(
            f"{path} holds no list of records such as {{'image': ..., 'source': ..., 'target': ...}}."
        )
    items, remarks = [], []
    for i, entry in enumerate(entries):
        name = str(entry.get("id", f"{i:04d}"))
        texts = bool(entry.get("source")) and bool(entry.get("target"))
        if not entry.get("image") or not (texts or entry.get("instruction")):
            raise SuiteError(f"Record {name} of {path} needs image, and source and target or an instruction.")
        picture = path.parent / str(entry["image"])
        if not picture.is_file():
            remarks.append(f"{name}: the picture {entry['image']} is missing; left out.")
            continue
        mask = None
        if entry.get("mask"):
            mask = (read_mask(path.parent / str(entry["mask"])) > 0.5).float()
        source, target = str(entry.get("source", "")), str(entry.get("target", ""))
        if texts:
            remarks += _remarks(name, source, target, None if mask is None else float(mask.mean()))
        kind = str(entry.get("attribute", "unknown"))
        items.append(
            SuiteItem(
                _file_name(name), kind,
                str(entry.get("instruction", "")), source, target, _reader(picture), mask,
                licence=str(entry.get("licence", "")),
            )
        )  # fmt: skip
    return _suite(f"records {path.name}", items, remarks, path)


def open_suite(spec: str, count: int = 300) -> Suite:
    """A suite by name or path: a world's ("portraits", "portraits-dev"), a PIE-Bench folder, a .json or .jsonl.

    Args:
        spec: Name or path.
        count: Number of edits; of a suite that the user brings, the first so many.

    Raises:
        SuiteError: If there is no such suite.
    """
    world, _, split = spec.partition("-")
    if world in worlds.names():
        split = split or "test"
        return Suite(f"{world}-{split}", list(worlds.open_world(world).suite(count, split)))
    path = Path(spec).expanduser()
    if path.is_dir():
        suite = pie_bench(path)
    elif path.suffix in (".json", ".jsonl"):
        suite = records(path)
    else:
        raise SuiteError(
            f"There is no suite {spec!r}. Suites: {', '.join(f'{n}, {n}-dev' for n in worlds.names())}, a folder "
            "of PIE-Bench, or a .json or .jsonl list of edits."
        )
    return Suite(suite.name, suite.items[:count], suite.remarks)


def _suite(name: str, items: list[SuiteItem], remarks: list[str], where: Path) -> Suite:
    twice = [i for i, n in Counter(item.id for item in items).items() if n > 1]
    if twice:
        raise SuiteError(f"{where} has several edits of the name {twice[0]!r}; every edit needs its own.")
    if not items:
        raise SuiteError(f"{where} has no edit that can be made. {' '.join(remarks[:3])}")
    return Suite(name, items, remarks)


def _remarks(name: str, source: str, target: str, share: float | None) -> list[str]:
    found = []
    if source == target:
        found.append(f"{name}: source and target text are the same.")
    if share == 0:
        found.append(f"{name}: the mask is empty, so all of the picture counts as background.")
    if share == 1:
        found.append(f"{name}: the mask covers the whole picture, so there is no background to compare.")
    return found


def _file_name(name: str) -> str:
    """A name as part of a file's name: it leads into no other folder."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def _plain(text: str) -> str:
    return " ".join(str(text).replace("[", "").replace("]", "").split())


def _reader(path: Path) -> Callable[[], torch.Tensor]:
    return lambda: images.to_tensor(images.open_image(path))


def _read_text(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} cannot be read as {what}: {error}.") from error


def _read_json(path: Path, what: str) -> Any:
    return _parse(_read_text(path, what), str(path))


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SuiteError(f"{where} is not valid JSON: {error}.") from error
