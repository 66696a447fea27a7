"""What a benchmark edits: images, instructions, texts, and masks of what may change.

Worlds bring suites of their own, which are exact. `pie_bench` and `records` read data that the user brings; nothing
of them is shipped.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ditlens import images
from ditlens.ems.masks import read_mask
from ditlens.errors import DitlensError, SuiteError
from ditlens.files import read_json, read_lines, user_path
from ditlens.images import open_file
from ditlens.tables import counted
from ditlens.worlds import world as worlds
from ditlens.worlds.world import SuiteItem

LONGEST_NAME = 150
"""Bytes of an edit's name: with the degree and the ending it is the name of a file."""
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
        remarks: What is wrong with the data, in sentences: missing images, empty masks, texts that are the same. An
            edit that cannot be made is named, and its rows in a benchmark hold the error.
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
        return "\n".join([f"{self.name}: {counted(len(self.items), 'edit')} ({kinds})", *self.remarks])


# --- data that the user brings -----------------------------------------------------------------------------


def pie_bench(folder: str | Path) -> Suite:
    """PIE-Bench as its authors hand it out: ``mapping_file.json`` and ``annotation_images/``.

    Masks are pairs (start, length) over the flattened 512 x 512 picture; as in the released evaluation a run ends
    with the image and the outermost pixels count as edited. Square brackets are taken out of the prompts.

    Args:
        folder: The unpacked folder.

    Raises:
        SuiteError: If it is not such a folder, or no entry can be used; of one that cannot, see `Suite.remarks`.
    """
    folder = user_path(folder, SuiteError)
    where = folder / "mapping_file.json"
    table = read_json(where, "a PIE-Bench folder (its authors hand it out by a form)", SuiteError)
    edits = {key: partial(_pie_item, key, entry, folder) for key, entry in table.items()}
    return _gathered("pie-bench", edits, {key: f"pie{key}" for key in edits}, folder)


def _pie_item(key: str, entry: Any, folder: Path) -> SuiteItem:
    """An entry of PIE-Bench's table."""
    needed = {"image_path", "original_prompt", "editing_prompt", "mask"}
    if missing := needed - set(entry if isinstance(entry, dict) else ()):
        raise SuiteError(f"it lacks {', '.join(sorted(missing))}.")
    source, target, instruction = (
        " ".join(str(entry.get(text, "")).replace("[", "").replace("]", "").split())
        for text in ("original_prompt", "editing_prompt", "editing_instruction")
    )
    return SuiteItem(
        id=_file_name(f"pie{key}"), kind=PIE_KINDS.get(str(entry.get("editing_type_id")), "unknown"),
        instruction=instruction, source_text=source, target_text=target,
        read=_reader(folder / "annotation_images", entry["image_path"]), mask=pie_mask(entry["mask"]),
    )  # fmt: skip


def pie_mask(runs: Sequence[int], side: int = PIE_SIDE) -> torch.Tensor:
    """Decode PIE-Bench's run lengths: (1, 1, side, side), 1 where it may change; the border is 1.

    A run that leaves the image ends with it.

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
    to the list) and ``source`` and ``target`` texts or an ``instruction``; it may have ``mask`` (an image, white
    may change), ``attribute`` (the kind), ``id`` and ``licence``.

    Args:
        path: The file.

    Raises:
        SuiteError: If it cannot be read, or no record can be used; of one that cannot, see `Suite.remarks`.
    """
    path = user_path(path, SuiteError)
    if path.suffix.lower() == ".jsonl":
        entries = [line for line in read_lines(path, "a list of edits", SuiteError) if line.strip()]
    else:
        entries = read_json(path, "a list of edits", SuiteError, expect=object)
        if not isinstance(entries, list):
            raise SuiteError(
                f"{path} holds no list of records such as {{'image': ..., 'source': ..., 'target': ...}}."
            )
    edits, ids = {}, {}
    for i, entry in enumerate(entries):
        record, number = _parsed(entry), f"{i:04d}"
        given = record.get("id") if isinstance(record, dict) else None
        ids[number] = number if given is None else str(given)
        edits[number] = partial(_record_item, _file_name(ids[number]), record, path.parent)
    return _gathered(f"records {path.name}", edits, ids, path)


def _record_item(name: str, entry: Any, folder: Path) -> SuiteItem:
    """A record of a list of edits."""
    if not isinstance(entry, dict):
        raise SuiteError("it is not a JSON object.")
    source, target, instruction, licence, mask = (
        str(entry.get(key) or "") for key in ("source", "target", "instruction", "licence", "mask")
    )
    if not entry.get("image") or not ((source and target) or instruction):
        raise SuiteError("it needs image, and source and target or an instruction.")
    return SuiteItem(
        id=name, kind=str(entry.get("attribute", "unknown")), instruction=instruction, source_text=source,
        target_text=target, licence=licence, read=_reader(folder, entry["image"]),
        mask=(read_mask(folder / user_path(mask, SuiteError)) > 0.5).float() if mask else None,
    )  # fmt: skip


def _parsed(entry: Any) -> Any:
    """A record, read if it is a line of JSON; the line itself if it is none."""
    try:
        return json.loads(entry) if isinstance(entry, str) else entry
    except (ValueError, RecursionError):
        return entry


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
    path = user_path(spec, SuiteError)
    if path.is_dir():
        suite = pie_bench(path)
    elif path.suffix.lower() in (".json", ".jsonl"):
        suite = records(path)
    else:
        raise SuiteError(
            f"There is no suite {spec!r}. Suites: {', '.join(f'{n}, {n}-dev' for n in worlds.names())}, a folder "
            "of PIE-Bench, or a .json or .jsonl list of edits."
        )
    return Suite(suite.name, suite.items[:count], suite.remarks)


def _reader(folder: Path, name: Any) -> Callable[[], torch.Tensor]:
    """What reads an image of a user's data, whose file is looked at now."""
    file = folder / user_path(str(name), SuiteError)
    if not file.is_file():
        raise SuiteError(f"the image {name} is missing.")
    open_file(file).close()
    return lambda: images.to_tensor(images.open_image(file))


def _gathered(
    name: str, edits: Mapping[str, Callable[[], SuiteItem]], ids: Mapping[str, str], where: Path
) -> Suite:
    """The suite of some edits; one that cannot be made becomes an item that says so when its image is read.

    Args:
        name: Name of the suite.
        edits: What makes each edit, by its number or key.
        ids: The name of each edit, as the user gave it.
        where: Where they come from.

    Raises:
        SuiteError: If a name cannot be part of a file's name, or stands for several edits; or no edit can be made.
    """
    _check_names(ids, where)
    suite, broken = Suite(name, []), 0
    for key, make in edits.items():
        try:
            item = make()
            suite.remarks.extend(f"{ids[key]}: {odd}" for odd in _oddities(item))
        except DitlensError as error:
            broken += 1
            why = SuiteError(f"{ids[key]}: {error}")
            suite.remarks.append(str(why))
            item = SuiteItem(_file_name(ids[key]), "unknown", "", "", "", read=partial(_refuse, why))
        suite.items.append(item)
    if broken == len(suite.items):
        raise SuiteError(f"{where} has no edit that can be made. {' '.join(suite.remarks[:3])}".rstrip())
    return suite


def _refuse(why: SuiteError) -> torch.Tensor:
    raise why


def _check_names(ids: Mapping[str, str], where: Path) -> None:
    """Refuse names of edits under which results cannot be kept apart, before any is made."""
    seen: dict[str, str] = {}
    for name in ids.values():
        file = _file_name(name).casefold()  # some file systems take A and a for the same
        if not file or len(file.encode()) > LONGEST_NAME:
            raise SuiteError(
                f"{where} has an edit of the name {name[:80]!r}; a name has 1 to {LONGEST_NAME} characters."
            )
        if file in seen:
            both = f"{seen[file]!r} and {name!r}" if seen[file] != name else f"{name!r}"
            raise SuiteError(f"{where} has several edits of the name {both}; every edit needs its own.")
        seen[file] = name


def _oddities(item: SuiteItem) -> Iterator[str]:
    """What is odd about an edit that can be made."""
    share = math.nan if item.mask is None else float(item.mask[..., 1:-1, 1:-1].mean())  # PIE's border is 1
    if item.source_text == item.target_text != "":
        yield "source and target text are the same."
    if share == 0:
        yield "the mask is empty, so all of the image counts as background."
    if share == 1:
        yield "the mask covers the whole image, so there is no background to compare."


def _file_name(name: str) -> str:
    """A name as part of a file's name: it leads into no other folder."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
