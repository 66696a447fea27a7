"""A study: captured hidden states of many prompts and seeds, on disk.

A study is a folder::

    manifest.json            what is captured, of which prompts and seeds; written once
    items/00003-7.safetensors   one immutable shard per item (prompt 3, seed 7), written whole or not at all
    failures/00003-7.json    how often an item failed, and why
    claims/                  which worker is at which item (`ditlens.lens.study.claims`)

Tensors are named ``site|pass``, with shape (steps, tokens, width), in the number format that was captured (bf16
stays bf16). `ditlens.lens.study.shards` writes and reads the shards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ditlens.arguments import COUNT, PATH, TEXT, Kind, instance, is_whole, list_of, takes
from ditlens.errors import SiteError, StudyError
from ditlens.files import read_json, user_path
from ditlens.lens.cache import SITE, CachedItem, CacheKey, LatentCache
from ditlens.lens.site import Site
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.shards import MASK, Shard, item_name
from ditlens.tables import human

WHOLE = Kind("a whole number", is_whole)
CHOICE = WHOLE | list_of(WHOLE, "a list of them") | instance("a slice", slice)
ITEMS = list_of(
    Kind("", lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(WHOLE.fits, value))),
    "pairs (number of the prompt, seed), e.g. study.items[:10]",
)
Choice = int | Sequence[int] | slice | None
"""Which steps or tokens: one, several, a slice, or all."""


@dataclass(frozen=True, eq=False)
class StudySlice:
    """A slice of a study; prints its axes.

    Attributes:
        tensor: The values.
        labels: For each axis, in order, its name and its coordinates: ``"step"``: step numbers; ``"item"``: (number
            of the prompt, seed); ``"token"``: token numbers; ``"width"``: channels (of an attention map: ``"key"``,
            the tokens that are attended to).
    """

    tensor: torch.Tensor
    labels: dict[str, Sequence[Any]]

    def __repr__(self) -> str:
        axes = " x ".join(f"{len(labels)} {name}" for name, labels in self.labels.items())
        dtype = str(self.tensor.dtype).removeprefix("torch.")
        return f"StudySlice: {axes}, {dtype}, {human(self.tensor.nbytes)}"


class Study:
    """A study on disk, read lazily; print it to see what it holds.

    Attributes:
        folder: Its folder.
        manifest: What it captures.

    >>> from ditlens.lens.study.run import plan_study, run_study
    >>> plan = plan_study(model, ["a man", "a woman"], [0], "joint.0.image.out", sampling_steps=2)
    >>> run_study(model, plan, "study")
    Study of ...: 2 of 2 items, ... kB, in study
      joint.0.image.out  steps x 64 x 64
      steps [0, 1], passes cond
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = user_path(folder, StudyError)
        self.manifest = Manifest.read(self.folder)

    def path(self, item: tuple[int, int]) -> Path:
        """Shard of an item."""
        return self.folder / "items" / f"{item_name(*item)}.safetensors"

    @cached_property
    def items(self) -> list[tuple[int, int]]:
        """(number of the prompt, seed) of the finished items."""
        return [item for item in self.manifest.items if self.path(item).is_file()]

    @cached_property
    def _first(self) -> Shard:
        return Shard(self.path(self._chosen()[0]))

    @cached_property
    def _names(self) -> list[list[str]]:
        """Site and pass of every tensor in a shard."""
        return [name.split("|") for name in self._first.header if not name.startswith(MASK)]

    @property
    def sites(self) -> list[str]:
        """Captured sites."""
        return sorted({site for site, _ in self._names}, key=lambda s: Site.parse(s).sort_key())

    @property
    def passes(self) -> list[str]:
        """Captured guidance passes."""
        return sorted({pass_ for _, pass_ in self._names})

    @property
    def steps(self) -> list[int]:
        """Captured steps."""
        return self._first.steps

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Items that are not finished."""
        return [item for item in self.manifest.items if not self.path(item).is_file()]

    @property
    def failures(self) -> dict[str, dict[str, Any]]:
        """Why items are missing, by the item's name: ``{"attempts", "error", "trace"}``."""
        paths = [failure_path(self.folder, item) for item in self.missing]
        return {path.stem: read_failure(path) for path in paths if path.is_file()}

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
        for name, what in list(self.failures.items())[:5]:
            times = "" if what["attempts"] < 2 else f" {what['attempts']} times"
            lines.append(f"  {name} failed{times}: {what['error'][:200]}")
        if done < total and not self.failures:
            lines.append("  Run the same `ditlens capture` again to resume.")
        return "\n".join(lines)

    def prompt(self, item: tuple[int, int]) -> str:
        """Text of an item."""
        return self.manifest.prompts[item[0]]

    @takes(site=SITE, step=CHOICE, tokens=CHOICE, pass_=TEXT, items=ITEMS)
    def read(
        self,
        site: str,
        *,
        step: Choice = None,
        tokens: Choice = None,
        pass_: str | None = None,
        items: Sequence[tuple[int, int]] | None = None,
    ) -> StudySlice:
        """Values of one site with their coordinates; only their bytes are read from disk.

        Args:
            site: A captured site.
            step: Step numbers: one, several, a slice of numbers (``slice(0, 8)``), or None for all. One number
                removes the axis.
            tokens: Token numbers, likewise; negative ones count from the end.
            pass_: Guidance pass, needed where several were captured.
            items: (number of the prompt, seed) of the items; all finished ones by default.

        Returns:
            Tensor of (steps, items, tokens, width) with labels.

        Raises:
            SiteError: If site, step, token or pass were not captured.
            StudyError: If a shard is damaged, an item is missing, or none was asked for.

        >>> from ditlens.lens.study.run import plan_study, run_study
        >>> plan = plan_study(model, ["a man", "a woman"], [0], "joint.0.image.out", sampling_steps=2)
        >>> study = run_study(model, plan, "study")
        >>> part = study.read("joint.0.image.out", step=1, tokens=slice(0, 4))
        >>> part
        StudySlice: 2 item x 4 token x 64 width, float32, 2.0 kB
        >>> part.labels["item"], part.labels["token"]
        ([(0, 0), (1, 0)], [0, 1, 2, 3])
        """
        entry = self._entry(site, pass_)
        shape = self._first.header[entry]["shape"]
        if tokens is not None and len(shape) < 3:
            done = self._first.about["reduced"]
            raise SiteError(f"{site} has no tokens in this study: it was reduced ({done}). Leave tokens out.")
        steps = self._steps(step)
        places = None if tokens is None else _tokens(tokens, shape[1])
        chosen = self._chosen(items)
        values = self._gather(entry, [self.steps.index(s) for s in steps], places, chosen)
        names = ["token", "key" if ".attn.to_" in entry else "width"][3 - len(shape) :]
        labels: dict[str, Sequence[Any]] = {"step": steps, "item": chosen}
        labels |= {name: range(size) for name, size in zip(names, shape[1:], strict=True)}
        if places is not None:
            labels["token"] = places
        for name, choice, axis in (("token", tokens, 2), ("step", step, 0)):
            if not isinstance(choice, (slice, Iterable, type(None))):  # one number removes its axis
                values = values.squeeze(axis)
                del labels[name]
        return StudySlice(values, labels)

    def _chosen(self, items: Sequence[tuple[int, int]] | None = None) -> list[tuple[int, int]]:
        """The items that were asked for, or all finished ones, of which there must be some."""
        chosen = list(self.items if items is None else items)
        if items is None and not chosen:
            raise StudyError(
                f"{self.folder} has no finished items yet. Run the same `ditlens capture` to resume."
            )
        if absent := [item for item in chosen if not self.path(item).is_file()]:
            raise StudyError(f"Item {absent[0]} is not in {self.folder}. Choose some of `study.items`.")
        return chosen

    def _gather(
        self, entry: str, rows: list[int], tokens: list[int] | None, items: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        """The same part of every item, stacked on the second axis."""
        parts = (shard.read(entry, rows, tokens) for shard in self._shards(items, [entry]))
        first = next(parts)
        values = first.new_empty(len(rows), len(items), *first.shape[1:])
        for i, part in enumerate(itertools.chain([first], parts)):
            values[:, i] = part
        return values

    def _shards(self, items: Iterable[tuple[int, int]], entries: Iterable[str]) -> Iterator[Shard]:
        """The shards of some items, which must agree in their steps and in the shapes of some tensors."""
        shapes: dict[str, list[int]] = {}
        for item in items:
            shard = Shard(self.path(item))
            for name in entries:
                shape = shard.header.get(name, {}).get("shape")
                if shape is None or shape != shapes.setdefault(name, shape) or shard.steps != self.steps:
                    raise StudyError(
                        f"{shard.path} differs from the items before it in its steps, or in the shape of {name}. "
                        "Read it alone, items=[...]; `study.verify()` lists damaged files."
                    )
            yield shard

    def _entry(self, site: str, pass_: str | None) -> str:
        """Name of a tensor in the shards."""
        name = str(Site.parse(str(site)))
        pass_ = pass_ or (self.passes[0] if len(self.passes) == 1 else None)
        if name not in self.sites or pass_ not in self.passes:
            raise SiteError(
                f"{name} ({pass_ or 'no pass given'}) is not in this study. It has the passes "
                f"{', '.join(self.passes)} of: {', '.join(self.sites[:12])}."
            )
        return f"{name}|{pass_}"

    def _steps(self, choice: Choice) -> list[int]:
        """The chosen steps, all of which were captured."""
        if choice is None:
            return self.steps
        if isinstance(choice, slice):
            wanted = range(max(self.steps) + 1)[choice]
            found = [step for step in self.steps if step in wanted]
        else:
            found = _listed(choice)
        wrong = [step for step in found if step not in self.steps]
        if wrong or not found:
            asked = wrong[0] if wrong else choice
            raise SiteError(f"Step {asked} is not in this study; it has {self.steps}.")
        return found

    def get(self, site: str, **choice: Any) -> torch.Tensor:
        """The tensor of `read`, which takes the same arguments: (steps, items, tokens, width)."""
        return self.read(site, **choice).tensor

    def __getitem__(self, key: str | tuple[Any, ...]) -> torch.Tensor:
        """``study[site]``, ``study[site, step]``, ``study[site, step, pass]``; see `read`."""
        site, step, pass_ = ((*key, None, None)[:3]) if isinstance(key, tuple) else (key, None, None)
        return self.get(str(site), step=step, pass_=pass_)

    @takes(size=COUNT)
    def batches(self, site: str, size: int = 64, **choice: Any) -> Iterator[StudySlice]:
        """The slices of `read`, with its step, tokens and pass_, in parts of `size` items."""
        for start in range(0, len(self.items), size):
            yield self.read(site, items=self.items[start : start + size], **choice)

    @takes(items=ITEMS)
    def cache(self, items: Sequence[tuple[int, int]] | None = None) -> LatentCache:
        """Some items (all by default) as a `LatentCache` in memory.

        Raises:
            StudyError: If a shard is damaged, an item is missing, or none was asked for.
        """
        chosen = self._chosen(items)
        shards = list(self._shards(chosen, self._first.header))
        tensors: dict[CacheKey, torch.Tensor] = {}
        for site in self.sites:
            for pass_ in self.passes:
                values = torch.stack([shard.read(f"{site}|{pass_}") for shard in shards], 1)
                tensors |= {CacheKey(site, step, pass_): values[i] for i, step in enumerate(self.steps)}
        masks = {
            name.removeprefix(MASK): torch.stack([s.read(name) for s in shards]).bool()
            for name in self._first.header
            if name.startswith(MASK)
        }
        return LatentCache(
            tensors=tensors, items=[CachedItem(0, row, self.prompt(item)) for row, item in enumerate(chosen)],
            grids={0: self._first.grid}, masks=masks, reduced=self._first.about["reduced"],
        )  # fmt: skip

    def verify(self) -> list[str]:
        """Names of shards that are damaged, do not match their checksum, or belong to another item or study."""
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


def failure_path(folder: Path, item: tuple[int, int]) -> Path:
    """Where the failures of an item are recorded."""
    return folder / "failures" / f"{item_name(*item)}.json"


def read_failure(path: Path) -> dict[str, Any]:
    """The record of a failure; of a damaged or missing one 0 attempts and an unknown error."""
    try:
        found = read_json(path, "the record of a failure", StudyError)
    except StudyError:
        found = {}
    unknown = {"attempts": 0, "error": "unknown error", "trace": ""}
    return {
        name: found[name] if type(found.get(name)) is type(value) else value
        for name, value in unknown.items()
    }


def _listed(choice: int | Iterable[int]) -> list[int]:
    """One number or several as a list."""
    return [int(number) for number in choice] if isinstance(choice, Iterable) else [int(choice)]


def _tokens(choice: int | Sequence[int] | slice, count: int) -> list[int]:
    """Token numbers from 0; negative ones count from the end."""
    numbers = list(range(count)[choice]) if isinstance(choice, slice) else _listed(choice)
    wrong = [number for number in numbers if not -count <= number < count]
    if wrong or not numbers:
        raise SiteError(f"tokens={choice}: this site has {count} tokens, 0 to {count - 1}.")
    return [number % count for number in numbers]


@takes(folder=PATH)
def open_study(folder: str | Path) -> Study:
    """Open a study that ``ditlens capture`` has made, or is still making.

    Args:
        folder: Its folder.

    Raises:
        StudyError: If the folder is not a study.

    >>> from ditlens.lens.study.run import plan_study, run_study
    >>> plan = plan_study(model, ["a man", "a woman"], [0], "joint.0.image.out", sampling_steps=2)
    >>> _ = run_study(model, plan, "study")
    >>> study = dl.open_study("study")
    >>> study.items, study["joint.0.image.out"].shape
    ([(0, 0), (1, 0)], torch.Size([2, 2, 64, 64]))
    """
    return Study(folder)
