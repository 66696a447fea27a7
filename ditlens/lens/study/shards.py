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
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ditlens.errors import StudyError
from ditlens.files import write_parts
from ditlens.lens.cache import LatentCache, streaks

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MASK = "mask|"
REMEDY = "Delete it and run the capture again."


def item_name(prompt: int, seed: int) -> str:
    """Name of an item's files."""
    return f"{prompt:05d}-{seed}"


def write_item(folder: Path, prompt: int, seed: int, cache: LatentCache, key: str) -> Path:
    """Write the shard of one item.

    Args:
        folder: The study.
        prompt: Number of the prompt.
        seed: Its seed.
        cache: What was captured of it: one item.
        key: Key of the manifest.

    Returns:
        The shard's path.
    """
    tensors = tensors_of(cache)
    about = {
        "study": key, "sha256": digest_of(tensors), "steps": json.dumps(cache.steps),
        "grid": json.dumps(cache.grids.get(0)), "reduced": cache.reduced,
    }  # fmt: skip
    path = folder / "items" / f"{item_name(prompt, seed)}.safetensors"
    data = (raw(part) for parts in tensors.values() for part in parts)
    write_parts(path, itertools.chain([header_of(tensors, about)], data))
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


def header_of(tensors: Mapping[str, Sequence[torch.Tensor]], about: Mapping[str, str]) -> bytes:
    """The beginning of a safetensors file: what is where, padded to a multiple of 8 bytes."""
    header: dict[str, Any] = {"__metadata__": about}
    at = 0
    for name, parts in tensors.items():
        end = at + sum(part.nbytes for part in parts)
        shape = [*([] if name.startswith(MASK) else [len(parts)]), *parts[0].shape]
        header[name] = {"dtype": NAMES[parts[0].dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def digest_of(tensors: Mapping[str, Iterable[torch.Tensor]]) -> str:
    """Checksum of names and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        for part in tensors[name]:
            digest.update(raw(part))
    return digest.hexdigest()


def raw(tensor: torch.Tensor) -> Any:
    """The bytes of a tensor, as an array that shares its memory."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy()


class Shard:
    """Reads slices of one safetensors file by position, never more than asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = struct.unpack("<Q", file.read(8))[0]
                if size > 100_000_000:
                    raise ValueError("it has no safetensors header")
                header = json.loads(file.read(size))
        except (OSError, ValueError, struct.error) as error:
            raise StudyError(f"{path} cannot be read ({error}). {REMEDY}") from error
        self.about: dict[str, str] = header.pop("__metadata__", {})
        self.header, self.start = header, 8 + size

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
        """Whether the content agrees with its checksum."""
        try:
            found = digest_of({name: map(self.read, [name]) for name in self.header})
        except (StudyError, RuntimeError, ValueError):
            return False
        return found == self.about.get("sha256")
