"""Shards: one file for each item of a study, in safetensors' format, written whole or not at all.

A shard is written step by step without a second copy in memory, flushed to disk and renamed, so that whoever is
killed loses the item in flight and nothing else. Reading takes the bytes of one slice only, without a memory map.

Why not safetensors' own functions: for 50 MB `save_file` took 1.33 times as long, and a second copy to put the
steps of a site together; `safe_open` took 20 times as long to read one step from a disk (its map reads around it).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ditlens.errors import StudyError
from ditlens.files import write_parts
from ditlens.lens.cache import LatentCache
from ditlens.lens.site import Site
from ditlens.tables import streaks

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MASK, IMAGE = "mask|", "image|"
"""Names of tensors that are no hidden states: masks of real tokens by pass, and the image as a JPEG file."""
DAMAGE = (AttributeError, KeyError, OSError, OverflowError, RecursionError, TypeError, ValueError,
          struct.error)  # fmt: skip
"""What reading a damaged header raises."""
REMEDY = "Delete it and run the capture again."


def item_name(prompt: int, seed: int) -> str:
    """Name of an item's files."""
    return f"{prompt:05d}-{seed}"


def is_site(name: str) -> bool:
    """Whether a tensor of a shard holds hidden states."""
    return not name.startswith((MASK, IMAGE))


def write_item(
    folder: Path,
    prompt: int,
    seed: int,
    cache: LatentCache,
    key: str,
    image: bytes = b"",
    measured: Mapping[str, float | str | None] | None = None,
) -> Path:
    """Write the shard of one item.

    Args:
        folder: The study.
        prompt: Number of the prompt.
        seed: Its seed.
        cache: What was captured of it: one item.
        key: Key of the manifest.
        image: The image that was made, as a JPEG file; empty if it is not kept.
        measured: Its attributes, as an oracle reads them; None for those that nobody can see in it.

    Returns:
        The shard's path.
    """
    tensors = tensors_of(cache)
    if image:
        tensors[IMAGE] = [torch.frombuffer(bytearray(image), dtype=torch.uint8)]
    about = {
        "study": key, "item": item_name(prompt, seed), "steps": json.dumps(cache.steps),
        "grid": json.dumps(cache.grids.get(0)), "reduced": cache.reduced,
        "measured": json.dumps(measured or {}),
    }  # fmt: skip
    layout = layout_of(tensors)
    about["sha256"] = digest_of(tensors, about, layout)
    text = json.dumps({"__metadata__": about, **layout}).encode()
    text += b" " * (-len(text) % 8)  # safetensors aligns the values to 8 bytes
    path = folder / "items" / f"{about['item']}.safetensors"
    data = (raw(part) for parts in tensors.values() for part in parts)
    write_parts(path, itertools.chain([struct.pack("<Q", len(text)) + text], data))
    return path


def tensors_of(cache: LatentCache) -> dict[str, list[torch.Tensor]]:
    """The tensors of a shard by name, each as the parts that lie in memory: the steps of a site, or a mask.

    Those with the widest numbers come first, as safetensors wants them.

    Raises:
        StudyError: If the steps of a site differ in shape.
    """
    found: dict[str, list[torch.Tensor]] = {}
    for key in sorted(cache.tensors):
        found.setdefault(f"{key.site}|{key.pass_}", []).append(cache.tensors[key][0])
    for name, parts in found.items():
        if len({(part.shape, part.dtype) for part in parts}) > 1:
            raise StudyError(f"The steps of {name} differ in shape: capture them as studies of their own.")
    found |= {MASK + pass_: [mask[0].to(torch.uint8)] for pass_, mask in cache.masks.items()}
    return dict(sorted(found.items(), key=lambda each: -each[1][0].dtype.itemsize))


def layout_of(tensors: Mapping[str, Sequence[torch.Tensor]]) -> dict[str, Any]:
    """Number format, shape and place of every tensor, as the header of a safetensors file says it."""
    layout, at = {}, 0
    for name, parts in tensors.items():
        end = at + sum(part.nbytes for part in parts)
        shape = [*([len(parts)] if is_site(name) else []), *parts[0].shape]
        layout[name] = {"dtype": NAMES[parts[0].dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    return layout


def digest_of(
    tensors: Mapping[str, Iterable[torch.Tensor]], about: Mapping[str, Any], layout: Mapping[str, Any]
) -> str:
    """Checksum of the header and of names and values, in the order of the names.

    Shards that do not name their item are of an earlier version, which left the header out.
    """
    header = [{name: about[name] for name in about if name != "sha256"}, layout]
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode() if "item" in about else b"")
    for name in sorted(tensors):
        digest.update(name.encode())
        for part in tensors[name]:
            digest.update(raw(part))
    return digest.hexdigest()


def raw(tensor: torch.Tensor) -> Any:
    """The bytes of a tensor, as an array that shares its memory."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy()


class Shard:
    """Reads slices of one safetensors file by position, never more than asked for.

    Attributes:
        path: The file.
        about: Its metadata.
        header: Number format, shape and place of every tensor.
        steps: Captured steps.
        grid: Rows and columns of the image tokens, if known.
        measured: Attributes of the image, as an oracle read them; None for those that nobody can see.

    Raises:
        StudyError: If the file is damaged, or is the shard of another item.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = struct.unpack("<Q", file.read(8))[0]
                if size > 100_000_000:
                    raise ValueError("it has no safetensors header")
                self.header: dict[str, Any] = json.loads(file.read(size))
                self.start = 8 + size
                length = os.fstat(file.fileno()).st_size - self.start
            self.about: dict[str, str] = self.header.pop("__metadata__")
            self.steps = [int(step) for step in json.loads(self.about["steps"])]
            check_layout(self.header, len(self.steps), length)
            self.grid = tuple(map(int, json.loads(self.about["grid"]) or ())) or None
            if not isinstance(self.about["reduced"], str):
                raise ValueError("its 'reduced' is not a text")
            self.measured = dict(json.loads(self.about.get("measured", "{}")))
            if (item := self.about.get("item", path.stem)) != path.stem:
                raise ValueError(f"it is the shard of item {item}")
        except DAMAGE as error:
            raise StudyError(f"{path} cannot be read ({type(error).__name__}: {error}). {REMEDY}") from error

    def read(
        self, name: str, rows: Sequence[int] | None = None, tokens: Sequence[int] | None = None
    ) -> torch.Tensor:
        """A part of a tensor, reading only its bytes.

        Args:
            name: Which tensor.
            rows: Places on its first axis (of a site: steps); all by default.
            tokens: Places on its second axis; all by default.

        Raises:
            StudyError: If the file is cut off.
        """
        shape, dtype = self.header[name]["shape"], DTYPES[self.header[name]["dtype"]]
        rows = range(shape[0]) if rows is None else rows
        row = math.prod(shape[1:]) * dtype.itemsize
        if tokens is None:
            ranges = [(first * row, (last + 1 - first) * row) for first, last in streaks(rows)]
            chosen = [len(rows), *shape[1:]]
        else:
            token = math.prod(shape[2:]) * dtype.itemsize
            parts = [(first * token, (last + 1 - first) * token) for first, last in streaks(tokens)]
            ranges = [(at * row + first, length) for at in rows for first, length in parts]
            chosen = [len(rows), len(tokens), *shape[2:]]
        data = self._bytes(self.header[name]["data_offsets"][0], ranges)
        values = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return values.reshape(chosen)

    def _bytes(self, start: int, ranges: Sequence[tuple[int, int]]) -> bytearray:
        """Ranges (begin, length) of the data, counted from `start`, one after the other."""
        data = bytearray(sum(length for _, length in ranges))
        rest = memoryview(data)
        with self.path.open("rb", buffering=0) as file:
            for begin, length in ranges:
                file.seek(self.start + start + begin)
                part, rest = rest[:length], rest[length:]
                while part:  # one read gives at most 2 GiB
                    got = file.readinto(part)
                    if not got:
                        raise StudyError(f"{self.path} is cut off. {REMEDY}")
                    part = part[got:]
        return data

    def is_whole(self) -> bool:
        """Whether header and content agree with their checksum."""
        tensors = {name: map(self.read, [name]) for name in self.header}
        return digest_of(tensors, self.about, self.header) == self.about.get("sha256")


def check_layout(header: Mapping[str, Any], steps: int, length: int) -> None:
    """Check that the tensors of a header fit one another, the number of steps, and `length` bytes of values.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: If not.
    """
    at = 0
    for name, entry in sorted(header.items(), key=lambda each: each[1]["data_offsets"]):
        site, _ = name.split("|")
        if is_site(name):
            Site.parse(site)
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        whole = all(type(size) is int and size >= 0 for size in (*shape, begin, end))
        bytes_ = math.prod(shape) * DTYPES[entry["dtype"]].itemsize
        if (
            not (whole and shape)
            or (shape[0] != steps and is_site(name))
            or (begin, end) != (at, at + bytes_)
        ):
            raise ValueError(f"{name} has the shape {shape} at the bytes {begin} to {end}")
        at = end
    if at != length:
        raise ValueError(f"its values take {length} bytes, not {at}: it is cut off")
