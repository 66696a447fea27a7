"""What a benchmark edits: images, instructions, texts, and masks of what may change.

Worlds bring suites of their own, which are exact. `pie_bench` and `records` read data that the user brings; nothing
of them is shipped.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ditlens import images
from ditlens.ems.masks import read_mask
from ditlens.errors import SuiteError
from ditlens.files import read_json, read_lines
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
        remarks: What is wrong with the data, in sentences: missing images, empty masks, texts that are the same.
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
    with the image and the outermost pixels count as edited. Square brackets are taken out of the prompts.

    Args:
        folder: The unpacked folder.

    Raises:
        SuiteError: If it is not such a folder.
    """
    folder = Path(folder).expanduser()
    where = folder / "mapping_file.json"
    table = read_json(where, "a PIE-Bench folder (its authors hand it out by a form)", SuiteError)
    suite = Suite("pie-bench", [])
    for key, entry in table.items():
        needed = {"image_path", "original_prompt", "editing_prompt", "mask"}
        if missing := needed - set(entry if isinstance(entry, dict) else ()):
            raise SuiteError(f"Entry {key} of mapping_file.json lacks {', '.join(sorted(missing))}.")
        source, target, instruction = (
            " ".join(str(entry.get(text, "")).replace("[", "").replace("]", "").split())
            for text in ("original_prompt", "editing_prompt", "editing_instruction")
        )
        try:
            _add(
                suite, key, folder / "annotation_images", entry["image_path"], partial(pie_mask, entry["mask"]),
                id=_file_name(f"pie{key}"), kind=PIE_KINDS.get(str(entry.get("editing_type_id")), "unknown"),
                instruction=instruction, source_text=source, target_text=target,
            )  # fmt: skip
        except SuiteError as error:
            raise SuiteError(f"Entry {key} of mapping_file.json: {error}") from error
    return _checked(suite, folder)


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
        SuiteError: If it cannot be read, or a record lacks what it needs.
    """
    path = Path(path).expanduser()
    if path.suffix == ".jsonl":
        lines = read_lines(path, "a list of edits", SuiteError)
        entries = [_parse(line, f"{path}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    else:
        entries = read_json(path, "a list of edits", SuiteError, expect=object)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SuiteError(
            f"{path} holds no list of records such as {{'image': ..., 'source': ..., 'target': ...}}."
        )
    suite = Suite(f"records {path.name}", [])
    for i, entry in enumerate(entries):
        name = str(entry.get("id", f"{i:04d}"))
        source, target, instruction, licence, mask = (
            str(entry.get(key) or "") for key in ("source", "target", "instruction", "licence", "mask")
        )
        if not entry.get("image") or not ((source and target) or instruction):
            raise SuiteError(f"Record {name} of {path} needs image, and source and target or an instruction.")
        _add(
            suite, name, path.parent, entry["image"], partial(_drawn_mask, path.parent / mask) if mask else None,
            id=_file_name(name), kind=str(entry.get("attribute", "unknown")), instruction=instruction,
            source_text=source, target_text=target, licence=licence,
        )  # fmt: skip
    return _checked(suite, path)


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


def _add(
    suite: Suite, name: str, folder: Path, picture: Any, mask: Callable[[], torch.Tensor] | None, **facts: Any
) -> None:  # fmt: skip
    """Add an edit to a suite, with remarks on what is odd about it; without its image it is left out.

    Args:
        suite: The suite.
        name: Name of the edit in the user's data.
        folder: Where its image is.
        picture: The image's file in it.
        mask: Reads the mask of what may change.
        **facts: The other attributes of a `SuiteItem`.
    """
    file = folder / str(picture)
    if not file.is_file():
        suite.remarks.append(f"{name}: the image {picture} is missing; left out.")
        return
    drawn = mask() if mask else None
    suite.items.append(SuiteItem(read=lambda: images.to_tensor(images.open_image(file)), mask=drawn, **facts))
    share = math.nan if drawn is None else float(drawn[..., 1:-1, 1:-1].mean())  # the border says nothing
    if facts["source_text"] == facts["target_text"] != "":
        suite.remarks.append(f"{name}: source and target text are the same.")
    if share == 0:
        suite.remarks.append(f"{name}: the mask is empty, so all of the image counts as background.")
    if share == 1:
        suite.remarks.append(
            f"{name}: the mask covers the whole image, so there is no background to compare."
        )


def _checked(suite: Suite, where: Path) -> Suite:
    """The suite, if it has edits, each with a name of its own."""
    twice = [i for i, n in Counter(item.id for item in suite.items).items() if n > 1]
    if twice:
        raise SuiteError(f"{where} has several edits of the name {twice[0]!r}; every edit needs its own.")
    if not suite.items:
        raise SuiteError(f"{where} has no edit that can be made. {' '.join(suite.remarks[:3])}")
    return suite


def _drawn_mask(path: Path) -> torch.Tensor:
    return (read_mask(path) > 0.5).float()


def _file_name(name: str) -> str:
    """A name as part of a file's name: it leads into no other folder."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def _parse(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise SuiteError(f"{where} is not valid JSON: {error}.") from error
