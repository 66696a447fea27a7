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

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ditlens.arguments import (
    COUNT,
    FLAG,
    INDEX,
    PATH,
    TEXT,
    Kind,
    instance,
    is_whole,
    list_of,
    listed,
    several,
    takes,
)
from ditlens.cards import Carded, Pictures, Piece, Table
from ditlens.errors import SiteError, StudyError
from ditlens.files import DATA, read_json, user_path
from ditlens.lens.cache import SELECTION, SITE, CachedItem, CacheKey, LatentCache, Part
from ditlens.lens.site import Site, asked, fitting
from ditlens.lens.spans import Words
from ditlens.lens.study import export
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.shards import IMAGE, MASK, Shard, is_site, item_name
from ditlens.tables import human, ranges

WHOLE = Kind("a whole number", is_whole)
CHOICE = several(WHOLE) | instance("a slice", slice)
ITEMS = list_of(
    Kind("", lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(WHOLE.fits, value))),
    "pairs (number of the prompt, seed), e.g. study.items[:10]",
)
if TYPE_CHECKING:
    import numpy as np
    import pandas
    import xarray

STUDIES = DATA / "studies"
"""Where the shipped studies live."""
RESERVED = ("prompt", "prompt_number", "seed")
"""Columns that every study has."""
SHOWN = 5
"""Images of a study that a notebook shows of it."""
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


class Study(Carded):
    """A study on disk, read lazily; print it to see what it holds.

    Attributes:
        folder: Its folder.
        manifest: What it captures.

    >>> from ditlens.lens.study.run import plan_study, run_study
    >>> plan = plan_study(model, ["a man", "a woman"], [0], "joint.*.image.out", sampling_steps=2)
    >>> study = run_study(model, plan, "both")
    >>> study
    Study of ...: 2 of 2 items, ... kB, in both
      joint.0.image.out  steps x 64 x 64
      joint.1.image.out  steps x 64 x 64
      steps [0, 1], passes cond
      images, ... measured attributes
    >>> study.columns["prompt"], study.image(0).size
    (['a man', 'a woman'], (128, 128))
    >>> study.select(stream="image", block=1, step=[0]).steps
    [0]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = user_path(folder, StudyError)
        self.manifest = Manifest.read(self.folder)
        self._kept: dict[str, Any] = {}  # what `select` has chosen: sites, steps, passes, items

    def path(self, item: tuple[int, int]) -> Path:
        """Shard of an item."""
        return self.folder / "items" / f"{item_name(*item)}.safetensors"

    @cached_property
    def items(self) -> list[tuple[int, int]]:
        """(number of the prompt, seed) of the finished items."""
        found = [item for item in self.manifest.items if self.path(item).is_file()]
        return [item for item in self._kept["items"] if item in found] if "items" in self._kept else found

    @cached_property
    def _first(self) -> Shard:
        return Shard(self.path(self._chosen()[0]))

    @cached_property
    def _names(self) -> list[list[str]]:
        """Site and pass of every tensor of hidden states in a shard."""
        return [name.split("|") for name in self._first.header if is_site(name)]

    @property
    def sites(self) -> list[str]:
        """Captured sites, in the order of the forward pass."""
        found = sorted({site for site, _ in self._names}, key=lambda s: Site.parse(s).sort_key())
        return [site for site in found if site in self._kept.get("sites", found)]

    @property
    def passes(self) -> list[str]:
        """Captured guidance passes."""
        return sorted({p for _, p in self._names if self._kept.get("pass_") in (None, p)})

    @property
    def steps(self) -> list[int]:
        """Captured steps."""
        return [step for step in self._first.steps if step in self._kept.get("steps", self._first.steps)]

    @property
    def sigmas(self) -> list[float] | None:
        """Noise level of every captured step, from 1 to 0; None in a study of an earlier version."""
        known = self.manifest.settings.get("sigmas")
        return known and [known[step] for step in self.steps]

    @property
    def tokens(self) -> dict[str, list[int]]:
        """Kept tokens of each stream, where only some were."""
        return dict(self.manifest.settings.get("tokens") or {})

    @property
    def grid(self) -> tuple[int, ...] | None:
        """Rows and columns of the image tokens, if known."""
        return self._first.grid

    @property
    def reduced(self) -> str:
        """What was done to the tokens; empty for nothing."""
        return self._first.about["reduced"]

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

    def _card(self) -> list[Piece]:
        total, done = len(self.manifest.items), len(self.items)
        size = sum(self.path(item).stat().st_size for item in self.items)
        lines: list[Piece] = [
            f"Study of {self.manifest.model}: {done} of {total} items, {human(size)}, in {self.folder}"
        ]
        if done:
            shapes = {s: self._first.header[f"{s}|{self.passes[0]}"]["shape"] for s in self.sites}
            rows = [(s, f"steps x {' x '.join(map(str, shape[1:]))}") for s, shape in shapes.items()]
            lines.append(Table(rows[:12], (), "  "))
            lines += [f"  ... {len(shapes) - 12} more sites"] * (len(shapes) > 12)
            lines.append(f"  steps {self.steps}, passes {', '.join(self.passes)}")
            lines += [f"  columns {', '.join(self.manifest.columns)}"] if self.manifest.columns else []
            measured = f"{len(self._first.measured) or 'no'} measured attributes"
            lines.append(f"  {'images' if self.has_images else 'no images'}, {measured}")
            if self.has_images:
                first = range(min(done, SHOWN))
                prompts = [shorten(self.prompt(self.items[k]), 60, placeholder=" ...") for k in first]
                lines.insert(1, Pictures(map(self.image, first), prompts))
        for name, what in list(self.failures.items())[:5]:
            times = "" if what["attempts"] < 2 else f" {what['attempts']} times"
            lines.append(f"  {name} failed{times}: {what['error'][:200]}")
        if done < total and not self.failures and not self._kept:
            lines.append(
                "  Run the same `ditlens capture`, or run_study with the same plan, again to resume."
            )
        return lines

    def prompt(self, item: tuple[int, int]) -> str:
        """Text of an item."""
        return self.manifest.prompts[item[0]]

    # --- what is known of the images -----------------------------------------------------------------

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """What is known of every item, by name.

        Number and text of its prompt, its seed, the columns of the plan, and every attribute that the oracle of the
        model's world has measured, None where it cannot be seen in the image. Where both have a name, the
        plan's column is it.
        """
        numbers = [prompt for prompt, _ in self.items]
        found: dict[str, list[Any]] = {
            "prompt": [self.prompt(item) for item in self.items],
            "prompt_number": numbers,
            "seed": [seed for _, seed in self.items],
        }
        given = {name: [values[i] for i in numbers] for name, values in self.manifest.columns.items()}
        read = [Shard(self.path(item)).measured for item in self.items]
        measured = {name: [row.get(name) for row in read] for name in (read[0] if read else {})}
        return found | given | {name: values for name, values in measured.items() if name not in given}

    @takes(name=TEXT)
    def column(self, name: str) -> list[Any]:
        """One of the columns.

        Raises:
            StudyError: If there is none of this name.
        """
        if name not in self.columns:
            raise StudyError(f"This study has no column {name!r}. It has: {', '.join(self.columns)}.")
        return self.columns[name]

    @property
    def has_images(self) -> bool:
        """Whether it keeps the images."""
        return IMAGE in self._first.header

    @takes(number=INDEX)
    def image(self, number: int) -> Image.Image:
        """The image of one of the items.

        Args:
            number: Which, counted in `items` from 0.

        Raises:
            StudyError: If the study was made without images, or has fewer items.
        """
        if number >= len(self.items):
            raise StudyError(f"Item {number} is not there: this study has {len(self.items)}, from 0.")
        shard = Shard(self.path(self.items[number]))
        if IMAGE not in shard.header:
            raise StudyError(f"{self.folder} was captured without images. Plan it again with images=True.")
        return Image.open(io.BytesIO(bytes(shard.read(IMAGE).numpy()))).convert("RGB")

    @takes(**SELECTION, step=CHOICE, items=ITEMS)
    def select(
        self,
        sites: str | Iterable[str] | None = None,
        *,
        stream: str | None = None,
        block: int | Sequence[int] | None = None,
        kind: str | None = None,
        point: str | None = None,
        step: Choice = None,
        pass_: str | None = None,
        items: Sequence[tuple[int, int]] | None = None,
    ) -> Study:
        """The part of the study that fits; nothing is read.

        Args:
            sites: Patterns as in `ditlens.capture`.
            stream: ``"text"`` or ``"image"``.
            block: One block or several.
            kind: ``"joint"`` or ``"single"``.
            point: One of `ditlens.lens.site.POINTS`.
            step: As in `read`.
            pass_: Guidance pass.
            items: Some of `items`.

        Raises:
            SiteError: If nothing fits.
            StudyError: If an item is missing.
        """
        found = fitting(self.sites, sites, stream=stream, block=block, kind=kind, point=point)
        if not found or pass_ not in (None, *self.passes):
            given = asked(sites=sites, stream=stream, block=block, kind=kind, point=point, pass_=pass_)
            raise SiteError(f"Nothing in this study fits {given or 'at all'}. It holds:\n{self!r}")
        part = object.__new__(Study)
        part.folder, part.manifest = self.folder, self.manifest
        part._kept = {**self._kept, "sites": found, "steps": self._steps(step), "items": self._chosen(items)}
        part._kept |= {"pass_": pass_} if pass_ else {}
        return part

    @takes(size=COUNT)
    def parts(self, size: int = 64) -> Iterator[Part]:
        """All chosen tensors in parts of at most `size` items, as `ditlens.PCA` and the like read them.

        No more than one part is in memory.
        """
        steps, passes = self.steps, self.passes
        rows = [self._first.steps.index(step) for step in steps]
        for first in range(0, len(self.items), size):
            chosen = self.items[first : first + size]
            numbers = list(range(first, first + len(chosen)))
            for site in self.sites:
                for pass_ in passes:
                    values = self._gather(f"{site}|{pass_}", rows, None, chosen)
                    mask = self.mask(pass_, chosen) if Site.parse(site).stream == "text" else None
                    for step, part in zip(steps, values, strict=True):
                        yield Part(site, step, pass_, numbers, part, mask)

    def mask(self, pass_: str, items: Sequence[tuple[int, int]] | None = None) -> torch.Tensor | None:
        """Which text tokens are real, not padding, (items, tokens); None if unknown."""
        name = f"{MASK}{pass_}"
        if name not in self._first.header:
            return None
        found = torch.stack([s.read(name) for s in self._shards(self._chosen(items), [name])]).bool()
        return found[:, self.tokens["text"]] if "text" in self.tokens else found

    # --- for other libraries -------------------------------------------------------------------------

    def to_pandas(self) -> pandas.DataFrame:
        """The columns as a table with one row for each item.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        return export.to_pandas(self)

    @takes(site=SITE)
    def to_xarray(self, site: str, **choice: Any) -> xarray.DataArray:
        """The values of `read`, which takes the same arguments, as a labelled array.

        Raises:
            MissingDependencyError: If xarray is not installed.
        """
        return export.to_xarray(self, site, **choice)

    def to_numpy(self, site: str, **choice: Any) -> np.ndarray:
        """The values of `read`, which takes the same arguments, in float32."""
        return self.get(site, **choice).float().numpy()

    @takes(path=PATH, overwrite=FLAG)
    def to_parquet(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write everything as one Parquet file, a row for each token, a few items at a time.

        Args:
            path: The file; its name must end in ``.parquet``.
            overwrite: Whether it may be there already.

        Returns:
            The file's path.

        Raises:
            MissingDependencyError: If pyarrow is not installed.
            SettingError: If the name ends otherwise, or the file is there already.
            WriteError: If it cannot be written.
        """
        return export.to_parquet(self, path, overwrite)

    # --- reading hidden states -----------------------------------------------------------------------

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
        there = self.tokens.get(Site.parse(site).stream or "")
        places = None if tokens is None else _tokens(tokens, shape[1], there)
        chosen = self._chosen(items)
        values = self._gather(entry, [self._first.steps.index(s) for s in steps], places, chosen)
        names = ["token", "key" if ".attn.to_" in entry else "width"][3 - len(shape) :]
        labels: dict[str, Sequence[Any]] = {"step": steps, "item": chosen}
        labels |= {name: range(size) for name, size in zip(names, shape[1:], strict=True)}
        if "token" in labels and (there or places):
            numbers = there or range(shape[1])
            labels["token"] = [numbers[place] for place in (range(shape[1]) if places is None else places)]
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
                if (
                    shape is None
                    or shape != shapes.setdefault(name, shape)
                    or shard.steps != self._first.steps
                ):
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
        """The slices of `read`, with its `step`, `tokens` and ``pass_``, in parts of `size` items."""
        for start in range(0, len(self.items), size):
            yield self.read(site, items=self.items[start : start + size], **choice)

    @takes(items=ITEMS)
    def cache(self, items: Sequence[tuple[int, int]] | None = None) -> LatentCache:
        """Some items (all by default) as a `LatentCache` in memory.

        Raises:
            StudyError: If a shard is damaged, an item is missing, or none was asked for.
        """
        chosen = self._chosen(items)
        shards = list(self._shards(chosen, [name for name in self._first.header if name != IMAGE]))
        rows = [self._first.steps.index(step) for step in self.steps]
        tensors: dict[CacheKey, torch.Tensor] = {}
        for site in self.sites:
            for pass_ in self.passes:
                values = torch.stack([shard.read(f"{site}|{pass_}", rows) for shard in shards], 1)
                tensors |= {CacheKey(site, step, pass_): values[i] for i, step in enumerate(self.steps)}
        masks = {
            name.removeprefix(MASK): torch.stack([s.read(name) for s in shards]).bool()
            for name in self._first.header
            if name.startswith(MASK)
        }
        return LatentCache(
            tensors=tensors, items=[CachedItem(0, row, self.prompt(item)) for row, item in enumerate(chosen)],
            grids={0: self.grid}, masks=masks, tokens=self.tokens, reduced=self.reduced,
            spans=Words.kept({}),
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
    return [int(number) for number in listed(choice)]


def _tokens(choice: int | Sequence[int] | slice, count: int, kept: list[int] | None) -> list[int]:
    """Places of tokens; negative numbers count from the end. Where only some tokens were kept, by their numbers."""
    if kept is not None and not isinstance(choice, slice):
        if absent := [number for number in _listed(choice) if number not in kept]:
            raise SiteError(f"Token {absent[0]} is not in this study, which has the tokens {ranges(kept)}.")
        return [kept.index(number) for number in _listed(choice)]
    numbers = list(range(count)[choice]) if isinstance(choice, slice) else _listed(choice)
    wrong = [number for number in numbers if not -count <= number < count]
    if wrong or not numbers:
        raise SiteError(f"tokens={choice}: this site has {count} tokens, 0 to {count - 1}.")
    return [number % count for number in numbers]


@takes(folder=PATH)
def open_study(folder: str | Path) -> Study:
    """Open a study that is shipped, or that ``ditlens capture`` has made, or is still making.

    >>> dl.open_study("portraits").image(0).size
    (128, 128)

    Args:
        folder: Its folder; or the name of a shipped one: ``"portraits"``, ``"portraits-patches"``.

    Raises:
        StudyError: If the folder is not a study; the message lists the shipped ones.

    >>> from ditlens.lens.study.run import plan_study, run_study
    >>> plan = plan_study(model, ["a man", "a woman"], [0], "joint.0.image.out", sampling_steps=2)
    >>> _ = run_study(model, plan, "study")
    >>> study = dl.open_study("study")
    >>> study.items, study["joint.0.image.out"].shape
    ([(0, 0), (1, 0)], torch.Size([2, 2, 64, 64]))
    """
    path, named = user_path(folder, StudyError), STUDIES / str(folder)
    if (named / "manifest.json").is_file():
        return Study(named)
    if not path.exists():
        shipped = ", ".join(sorted(each.parent.name for each in STUDIES.glob("*/manifest.json")))
        raise StudyError(
            f"There is no study {str(folder)[:80]!r}: shipped are {shipped or 'none'} (looked in {STUDIES}). Pass "
            "one of these, or a folder that `ditlens capture --out FOLDER ...` has made."
        )
    return Study(path)
