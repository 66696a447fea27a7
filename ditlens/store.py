"""A study: captured hidden states of many prompts and seeds, on disk.

A study is a folder::

    manifest.json            what is captured, of which prompts and seeds; written once
    items/00003-7.safetensors   one immutable shard per item (prompt 3, seed 7), written whole or not at all
    failures/00003-7.json    how often an item failed, and why
    claims/                  which worker is at which item

Tensors are named ``site|pass``, with shape (steps, tokens, width), in the number format that was captured (bf16
stays bf16). A shard is written beside its place, flushed to disk and renamed, so that whoever is killed loses the
item in flight and nothing else. Reading takes the bytes of one slice only, without a memory map.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ditlens.cache import Item, Key, LatentCache, human
from ditlens.errors import SiteError, StudyError
from ditlens.site import Site

FORMAT = 1
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
MASK = "mask|"


@dataclass(frozen=True)
class Manifest:
    """What a study captures.

    Attributes:
        model: Name of the model.
        fingerprint: Of its weights.
        prompts: The texts.
        seeds: Seeds, each used with every prompt.
        settings: Everything else that decides the values: sites, steps, passes, reduce, dtype, sampling.
    """

    model: str
    fingerprint: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]

    @property
    def items(self) -> list[tuple[int, int]]:
        """(number of the prompt, seed) of every item, in order."""
        return [(i, seed) for i in range(len(self.prompts)) for seed in self.seeds]

    @property
    def key(self) -> str:
        """Identity: equal for equal values."""
        text = json.dumps([FORMAT, self.fingerprint, self.prompts, self.seeds, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, "key": self.key, **vars(self)}, indent=2)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a study.

        Raises:
            StudyError: If there is none, or it is damaged or of another version.
        """
        path = folder / "manifest.json"
        if not path.is_file():
            raise StudyError(
                f"{folder} is no study: it has no manifest.json. Make one with "
                f"`ditlens capture --out {folder} ...`."
            )
        try:
            data = json.loads(path.read_text("utf-8"))
            if data.pop("format") != FORMAT:
                raise StudyError(f"{path} is of another version of ditlens; capture the study again.")
            key = data.pop("key")
            manifest = cls(data["model"], data["fingerprint"], tuple(data["prompts"]), tuple(data["seeds"]),
                           data["settings"])  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"{path} is damaged: {error}. Capture the study again in a new folder."
            ) from error
        if key != manifest.key:
            raise StudyError(
                f"{path} was changed by hand: its key does not fit. Restore it, or start a new folder."
            )
        return manifest

    def begin(self, folder: Path) -> None:
        """Write the manifest, or check that the one there is the same.

        Raises:
            StudyError: If the folder holds another study; the message says where they differ.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "manifest.json"
        if path.is_file():
            there = Manifest.read(folder)
            if there.key != self.key:
                different = [
                    n for n in ("fingerprint", "prompts", "seeds") if getattr(there, n) != getattr(self, n)
                ]
                different += [
                    n
                    for n in sorted({*there.settings, *self.settings})
                    if there.settings.get(n) != self.settings.get(n)
                ]
                raise StudyError(
                    f"{folder} holds another study: {', '.join(different)} differ. Give a new folder with --out, "
                    "or the same settings to go on."
                )
            return
        write_whole(path, self.to_json().encode())


def item_name(prompt: int, seed: int) -> str:
    """Name of an item's files."""
    return f"{prompt:05d}-{seed}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.chmod(0o644)
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
    from safetensors.torch import save

    tensors = {}
    for site in cache.sites:
        for pass_ in cache.passes:
            steps = sorted(k.step for k in cache.tensors if k.site == site and k.pass_ == pass_)
            if steps:
                values = [cache.tensors[Key(site, step, pass_)][0] for step in steps]
                tensors[f"{site}|{pass_}"] = torch.stack(values).contiguous()
    for pass_, mask in cache.masks.items():
        tensors[MASK + pass_] = mask[0].to(torch.uint8)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].view(torch.uint8).numpy().tobytes())
    about = {
        "study": key, "sha256": digest.hexdigest(), "steps": json.dumps(cache.steps),
        "grid": json.dumps(cache.grids.get(0)), "reduced": cache.reduced,
    }  # fmt: skip
    path = folder / "items" / f"{item_name(prompt, seed)}.safetensors"
    write_whole(path, save(tensors, about))
    return path


class Shard:
    """Reads slices of one safetensors file by position, never more than asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = struct.unpack("<Q", file.read(8))[0]
                if size > 100_000_000:
                    raise ValueError("no safetensors header")
                header = json.loads(file.read(size))
        except (OSError, ValueError, struct.error) as error:
            raise StudyError(
                f"{path} cannot be read ({error}). Delete it and run the capture again."
            ) from error
        self.about: dict[str, str] = header.pop("__metadata__", {})
        self.header, self.start = header, 8 + size

    def read(self, name: str, first: int = 0, count: int | None = None) -> torch.Tensor:
        """Entries `first` to ``first + count`` along the first axis of a tensor; all by default."""
        entry = self.header[name]
        shape, dtype = entry["shape"], DTYPES[entry["dtype"]]
        count = shape[0] - first if count is None else count
        row = math.prod(shape[1:]) * dtype.itemsize
        data = bytearray(count * row)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start + entry["data_offsets"][0] + first * row)
            got = file.readinto(data)
        if got != len(data):
            raise StudyError(f"{self.path} is cut off. Delete it and run the capture again.")
        return torch.frombuffer(data, dtype=dtype).reshape(count, *shape[1:]) if data else torch.empty(0)

    def is_whole(self) -> bool:
        """Whether the content agrees with its checksum."""
        try:
            digest = hashlib.sha256()
            for name in sorted(self.header):
                digest.update(name.encode() + self.read(name).view(torch.uint8).numpy().tobytes())
        except (StudyError, RuntimeError, ValueError):
            return False
        return digest.hexdigest() == self.about.get("sha256")


class Study:
    """A study that is read lazily; print it to see what it holds.

    Attributes:
        folder: Where it is.
        manifest: What it captures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, Manifest.read(folder)

    def path(self, item: tuple[int, int]) -> Path:
        """Shard of an item."""
        return self.folder / "items" / f"{item_name(*item)}.safetensors"

    @cached_property
    def items(self) -> list[tuple[int, int]]:
        """(prompt number, seed) of the items that are there."""
        return [item for item in self.manifest.items if self.path(item).is_file()]

    @cached_property
    def _first(self) -> Shard:
        if not self.items:
            raise StudyError(
                f"{self.folder} has no finished items yet. Run the same `ditlens capture` again."
            )
        return Shard(self.path(self.items[0]))

    @property
    def sites(self) -> list[str]:
        """Captured sites."""
        names = {name.split("|")[0] for name in self._first.header if not name.startswith(MASK)}
        return sorted(names, key=lambda s: Site.parse(s).sort_key())

    @property
    def passes(self) -> list[str]:
        """Captured guidance passes."""
        return sorted({n.split("|")[1] for n in self._first.header if not n.startswith(MASK)})

    @property
    def steps(self) -> list[int]:
        """Captured steps."""
        return json.loads(self._first.about["steps"])

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Items that are not there yet."""
        return [item for item in self.manifest.items if not self.path(item).is_file()]

    @property
    def failures(self) -> dict[str, dict[str, Any]]:
        """What went wrong with items that are not there, by item."""
        found = {}
        for prompt, seed in self.missing:
            path = self.folder / "failures" / f"{item_name(prompt, seed)}.json"
            if path.is_file():
                found[path.stem] = json.loads(path.read_text("utf-8"))
        return found

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        total, done = len(self.manifest.items), len(self.items)
        size = sum(self.path(item).stat().st_size for item in self.items)
        lines = [f"Study of {self.manifest.model}: {done} of {total} items, {human(size)}, in {self.folder}"]
        if done:
            shapes = {s: self._first.header[f"{s}|{self.passes[0]}"]["shape"] for s in self.sites}
            lines += [
                f"  {s}  steps x {' x '.join(map(str, shape[1:]))}" for s, shape in list(shapes.items())[:12]
            ]
            lines += [f"  ... {len(shapes) - 12} more sites"] * (len(shapes) > 12)
            lines.append(f"  steps {self.steps}, passes {', '.join(self.passes)}")
        if self.failures:
            lines.append(f"  failed: {', '.join(self.failures)}")
        return "\n".join(lines)

    def prompt(self, item: tuple[int, int]) -> str:
        """Text of an item."""
        return self.manifest.prompts[item[0]]

    def get(
        self,
        site: str,
        *,
        step: int | None = None,
        pass_: str | None = None,
        items: Sequence[tuple[int, int]] | None = None,
    ) -> torch.Tensor:
        """Values of one site, reading only their bytes.

        Args:
            site: Which.
            step: One step: (items, tokens, width). None: (steps, items, tokens, width).
            pass_: Guidance pass, needed where several were captured.
            items: Which items; all finished ones by default.

        Raises:
            SiteError: If site, step or pass were not captured.
            StudyError: If a shard is damaged.
        """
        name = str(Site.parse(str(site)))
        pass_ = pass_ or (self.passes[0] if len(self.passes) == 1 else None)
        if name not in self.sites or pass_ not in self.passes:
            raise SiteError(
                f"{name} ({pass_ or 'no pass given'}) is not in this study. It has the passes "
                f"{', '.join(self.passes)} of: {', '.join(self.sites[:12])}."
            )
        if step is not None and step not in self.steps:
            raise SiteError(f"Step {step} is not in this study; it has {self.steps}.")
        at = None if step is None else self.steps.index(step)
        values = []
        for item in self.items if items is None else items:
            shard = Shard(self.path(item))
            entry = f"{name}|{pass_}"
            values.append(shard.read(entry) if at is None else shard.read(entry, at, 1)[0])
        return torch.stack(values, 1 if step is None else 0)

    def __getitem__(self, key: str | tuple[Any, ...]) -> torch.Tensor:
        """``study[site]``, ``study[site, step]``, ``study[site, step, pass]``; see `get`."""
        site, step, pass_ = ((*key, None, None)[:3]) if isinstance(key, tuple) else (key, None, None)
        return self.get(str(site), step=step, pass_=pass_)

    def batches(
        self, site: str, size: int = 64, *, step: int | None = None, pass_: str | None = None
    ) -> Iterator[torch.Tensor]:
        """`get` in parts of `size` items, for statistics that see one part at a time."""
        for start in range(0, len(self.items), size):
            yield self.get(site, step=step, pass_=pass_, items=self.items[start : start + size])

    def cache(self, items: Sequence[tuple[int, int]] | None = None) -> LatentCache:
        """Some items (all by default) as a `LatentCache` in memory."""
        chosen = list(self.items if items is None else items)
        shards = [Shard(self.path(item)) for item in chosen]
        tensors: dict[Key, torch.Tensor] = {}
        for site in self.sites:
            for pass_ in self.passes:
                values = torch.stack([shard.read(f"{site}|{pass_}") for shard in shards], 1)
                tensors |= {Key(site, step, pass_): values[i] for i, step in enumerate(self.steps)}
        masks = {
            name.removeprefix(MASK): torch.stack([s.read(name) for s in shards]).bool()
            for name in self._first.header
            if name.startswith(MASK)
        }
        grid = json.loads(self._first.about["grid"])
        return LatentCache(
            tensors=tensors, items=[Item(0, row, self.prompt(item)) for row, item in enumerate(chosen)],
            grids={0: tuple(grid) if grid else None}, masks=masks, reduced=self._first.about["reduced"],
        )  # fmt: skip

    def verify(self) -> list[str]:
        """Names of shards whose content does not fit their checksum, or that belong to another study."""
        bad = []
        for item in self.items:
            try:
                shard = Shard(self.path(item))
                good = shard.about.get("study") == self.manifest.key and shard.is_whole()
            except StudyError:
                good = False
            if not good:
                bad.append(self.path(item).name)
        return bad


def open(folder: str | Path) -> Study:
    """Open a study that ``ditlens capture`` has made, or is still making.

    Args:
        folder: Its folder.

    Raises:
        StudyError: If it is none.
    """
    return Study(Path(folder))
