"""What a benchmark edits: pictures, wishes, texts, and masks of what may change.

`portraits` is built in and exact. `pie_bench` and `records` read data that the user brings; nothing of them is
shipped.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ditlens import images
from ditlens.ems.masks import read_mask
from ditlens.errors import CaptionError, SettingError, SuiteError
from ditlens.worlds.portraits.attributes import NAMES, describe_values, neutral, sample
from ditlens.worlds.portraits.constraints import value_of
from ditlens.worlds.portraits.instructions import instruction
from ditlens.worlds.portraits.pairs import target_caption
from ditlens.worlds.portraits.render import change_mask, render

SPLITS = {"dev": 600, "test": 760}
"""Splits of the portraits suite. Their seeds, millions times these numbers, are no other module's.

The test split is a fresh one whenever a setting has been chosen after looking at it: 700, 710, 720, 730 and 750
were the ones before, and 740 has been looked at by mistake.
"""

PIE_SIDE = 512
PIE_KINDS = {
    "0": "random", "1": "change object", "2": "add object", "3": "delete object", "4": "attribute content",
    "5": "pose", "6": "color", "7": "material", "8": "background", "9": "style",
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One edit to make.

    Attributes:
        id: Its name, fit for a file's name.
        kind: What it is about: attribute names joined by +, or a category.
        instruction: The wish; may be empty if both texts are there.
        source_text: What the picture shows; may be empty.
        target_text: What it should show; may be empty.
        read: Reads the picture.
        mask: Where it may change, (1, 1, H, W), 0 or 1; None if unknown.
        changes: Wanted level or value of each attribute that changes; empty outside a world.
        truth: True attributes of the picture; empty outside a world.
        licence: Under which licence the picture is.
    """

    id: str
    kind: str
    instruction: str
    source_text: str
    target_text: str
    read: Callable[[], torch.Tensor] = field(repr=False)
    mask: torch.Tensor | None = field(default=None, repr=False)
    changes: Mapping[str, int] = field(default_factory=dict)
    truth: Mapping[str, float | str] = field(default_factory=dict, repr=False)
    licence: str = ""

    def picture(self) -> torch.Tensor:
        """The picture, (1, 3, H, W), values in [0, 1]."""
        return self.read()


@dataclass(frozen=True)
class Suite:
    """Edits to make.

    Attributes:
        name: Name of the suite.
        items: The edits.
        remarks: What is wrong with the data, in sentences: missing pictures, empty masks, texts that are the same.
    """

    name: str
    items: list[Item]
    remarks: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        kinds = ", ".join(
            f"{kind} {count}" for kind, count in Counter(i.kind for i in self.items).most_common(12)
        )
        return "\n".join([f"{self.name}: {len(self.items)} edits ({kinds})", *self.remarks])


# --- portraits ---------------------------------------------------------------------------------------------


def portraits(count: int = 300, split: str = "test", side: int = 128) -> Suite:
    """Held-out portraits with wishes about all attributes: two thirds single changes, one third double ones.

    Item k depends on the split's seed and k only, not on the count: portrait and wish. Texts and masks are exact:
    the texts come from the grammar (canonical caption, target caption), the mask from rendering both.

    Args:
        count: Number of edits.
        split: "dev" to tune on, "test" to report.
        side: Pixels.

    Raises:
        SettingError: If the split is unknown or the count not positive.
    """
    if split not in SPLITS:
        raise SettingError(f"The portraits suite has the splits {', '.join(SPLITS)}; got {split!r}.")
    if count < 1:
        raise SettingError(f"count is {count}; a suite has at least one edit.")
    return Suite(f"portraits-{split}", [_portrait(k, split, side) for k in range(count)])


def _portrait(k: int, split: str, side: int) -> Item:

    names = list(NAMES)
    round_, place = divmod(k, len(names))
    first, double = (
        names[place],
        (place + round_) % 3 == 2,
    )  # every attribute alone twice and in a pair once in 3
    rng = random.Random(f"{SPLITS[split]} {k}")
    for attempt in range(100):  # until what changes can be seen
        person = sample(1, torch.Generator().manual_seed(SPLITS[split] * 1_000_000 + 1000 * k + attempt))
        second = rng.choice([n for n in names if n != first])
        try:
            wish = instruction(person, 0, rng, names=[first, second] if double else [first])
        except CaptionError:  # hidden in this portrait
            continue
        if len(wish.changes) != 1 + double:  # the second one is
            continue
        values = describe_values(person)
        pair = target_caption(values, wish.changes)
        after = {**values, **{name: value_of(name, level) for name, level in wish.changes.items()}}
        mask = change_mask(person, neutral(1, **after), side)
        if bool(mask.any()) and pair.changed_spans:
            break
    else:
        raise SuiteError(f"No portrait was found in which {first} can be changed.")
    return Item(
        f"{split}{k:04d}", "+".join(sorted(wish.changes)), wish.text, pair.source_text, pair.target_text,
        lambda: render(person, side), mask.float(), dict(wish.changes), values, "Apache-2.0, drawn by ditlens",
    )  # fmt: skip


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
            Item(
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
            Item(
                _file_name(name), kind,
                str(entry.get("instruction", "")), source, target, _reader(picture), mask,
                licence=str(entry.get("licence", "")),
            )
        )  # fmt: skip
    return _suite(f"records {path.name}", items, remarks, path)


def open_suite(spec: str, count: int = 300) -> Suite:
    """A suite by name or path: "portraits", "portraits-dev", a PIE-Bench folder, a .json or .jsonl file.

    Args:
        spec: Name or path.
        count: Number of edits; of a suite that the user brings, the first so many.

    Raises:
        SuiteError: If there is no such suite.
    """
    if spec in ("portraits", "portraits-test", "portraits-dev"):
        return portraits(count, "dev" if spec.endswith("dev") else "test")
    path = Path(spec).expanduser()
    if path.is_dir():
        suite = pie_bench(path)
    elif path.suffix in (".json", ".jsonl"):
        suite = records(path)
    else:
        raise SuiteError(
            f"There is no suite {spec!r}. Suites: portraits, portraits-dev, a PIE-Bench folder, or a .json or "
            ".jsonl list of edits."
        )
    return Suite(suite.name, suite.items[:count], suite.remarks)


def _suite(name: str, items: list[Item], remarks: list[str], where: Path) -> Suite:
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
