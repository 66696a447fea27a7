"""Many interventions in one sampling run: each row of a batch is one image under one change of its own.

A map of what a model uses has a cell for each block and stretch of steps, and each cell needs images of its own.
They differ in nothing but the change, so they are sampled as rows of one batch. Until a change begins, its rows
are the unchanged images: they start from the latents that these had at that step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from ditlens import flow
from ditlens.arguments import INDEX, listed, several
from ditlens.errors import SettingError
from ditlens.flow import Latents
from ditlens.labels import Label, announce
from ditlens.lens.cache import LatentCache
from ditlens.lens.captures import capture
from ditlens.lens.interventions import Intervention, Where, intervene
from ditlens.lens.listing import sites
from ditlens.lens.site import Site
from ditlens.models.embedding import TextEmbedding
from ditlens.models.model import Model
from ditlens.tables import counted

T = TypeVar("T")
ROWS, TOKENS = 32, 2048
"""Most rows of one batch, and about how many image tokens they may have together."""

BLOCKS = several(INDEX, "a list of block numbers, e.g. [0, 1, 2]")
Change: TypeAlias = Callable[[Tensor, Where, list[int]], Tensor]
"""``change(values, where, items)``: new values (rows, tokens, width) of rows that show these items."""


NO_INTERVAL = "one item: no interval"
"""What a table or figure says of a single item."""


def distinct(seeds: int | Sequence[int]) -> list[int]:
    """One seed or several as a list of whole numbers, each once.

    Raises:
        SettingError: If one comes twice: its images would be counted as if they were independent.
    """
    return once([int(seed) for seed in listed(seeds)], "seeds")


def once(found: Sequence[T], name: str) -> list[T]:
    """What was given, if each comes once.

    Raises:
        SettingError: If one comes twice: its images would be counted as if they were independent.
    """
    if twice := [each for each in dict.fromkeys(found) if found.count(each) > 1]:
        raise SettingError(
            f"{name} has {', '.join(map(str, twice))} more than once. It gives the same images again, which say "
            "nothing new: give each once."
        )
    return list(found)


@dataclass(frozen=True, eq=False)
class Cell:
    """One change of the model, under which every item is drawn once.

    Attributes:
        changes: What changes, by printed site.
        start: First step at which it changes.
        stop: The step before which it ends.
    """

    changes: Mapping[str, Change]
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Run:
    """Items that were sampled without any change.

    Attributes:
        text: Their texts, one each.
        latents: Their latents before each step, and after the last one.
        images: Their images, (items, 3, height, width).
    """

    text: TextEmbedding
    latents: list[Latents]
    images: Tensor


@dataclass(frozen=True, eq=False)
class Sampler:
    """Samples items, each from noise of its own, with and without changes.

    Attributes:
        model: The model.
        seeds: The seed of each item.
        steps: Sampling steps.
        guidance: Classifier-free guidance. Only the conditional pass is changed.
    """

    model: Model
    seeds: Sequence[int]
    steps: int
    guidance: float

    @property
    def levels(self) -> list[float]:
        """Noise level before each step, and 0."""
        return flow.check_sigmas(self.model.sigmas(self.steps))

    @property
    def rows(self) -> int:
        """Rows of a batch."""
        tokens = (self.model.side // self.model.pipe.vae_scale_factor // self.model.patch) ** 2
        return max(1, min(ROWS, TOKENS // tokens))

    def _walk(self, latents: Latents, text: TextEmbedding, start: int = 0) -> Iterator[flow.FlowState]:
        """Sample from a step on, and tell interventions which step it is."""
        numbers, run = {level: step for step, level in enumerate(self.levels)}, object()

        def field(latents: Latents, sigma: float, text: TextEmbedding) -> Latents:
            with announce(Label(step=numbers[sigma], run=run)):
                return self.model(latents, sigma, text)

        null = None if self.guidance == 1 else self.model.encode_text("").named("uncond")
        levels = self.model.sigmas(self.steps)[start:]
        return flow.iter_sample(field, latents, levels, text, null_text=null, guidance=self.guidance)

    def run(self, prompts: Sequence[str]) -> Run:
        """Sample one prompt for each item."""
        text, noise = self.model.encode_text(list(prompts)), self.model.noise(list(self.seeds))
        parts = []
        for rows in torch.arange(len(prompts)).split(self.rows):
            start = flow.accumulator(noise[rows])
            parts.append([start, *(state.latents for state in self._walk(start, _rows(text, rows.tolist())))])
        latents = [torch.cat(each) for each in zip(*parts, strict=True)]
        return Run(text, latents, self.decode(latents[-1]))

    def captured(self, prompts: Sequence[str], sites: Sequence[str]) -> tuple[Run, LatentCache]:
        """Sample one prompt for each item, and keep hidden states of the conditional pass."""
        with capture(self.model, sites, device=self.model.device) as cache:
            run = self.run(prompts)
        return run, cache

    def decode(self, latents: Latents) -> Tensor:
        """Images of latents, (rows, 3, height, width)."""
        return torch.cat([self.model.decode(part) for part in latents.split(self.rows)])

    def run_cells(self, base: Run, cells: Sequence[Cell]) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
        """Draw every item of a run under every change.

        Args:
            base: The run that is changed.
            cells: The changes.

        Yields:
            (number of the cell, number of the item) of some rows, and their images (rows, 3, height, width).
                Rows come in any order, each once.
        """
        begun: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, cell in enumerate(cells):
            begun[cell.start] += [(number, item) for item in range(len(base.text))]
        for start, rows in begun.items():
            for first in range(0, len(rows), self.rows):
                part = rows[first : first + self.rows]
                yield part, self.decode(self._changed(base, cells, part, start))

    def _changed(self, base: Run, cells: Sequence[Cell], rows: list[tuple[int, int]], start: int) -> Latents:
        """Final latents of rows under their changes."""
        items, chosen = [item for _, item in rows], [cells[number] for number, _ in rows]
        sites = dict.fromkeys(site for cell in chosen for site in cell.changes)
        changes = {site: by_rows(site, chosen, items) for site in sites}
        with intervene(self.model, changes, passes="cond"):
            return flow.finish(self._walk(base.latents[start][items], _rows(base.text, items), start))


def by_rows(site: str, cells: Sequence[Cell], items: Sequence[int]) -> Intervention:
    """One intervention that changes each row of a batch as the row's own cell says.

    Args:
        site: Printed site.
        cells: The cell of each row.
        items: The item that each row shows.
    """
    groups: dict[Change, list[int]] = defaultdict(list)
    for row, cell in enumerate(cells):
        if site in cell.changes:
            groups[cell.changes[site]].append(row)

    def change(values: Tensor, where: Where) -> Tensor:
        new = values.clone()
        for fn, rows in groups.items():
            now = [row for row in rows if cells[row].start <= where.step < cells[row].stop]
            if now:
                mask, entering = (None if x is None else x[now] for x in (where.mask, where.entering))
                place = replace(where, mask=mask, entering=entering)
                new[now] = fn(values[now], place, [items[row] for row in now]).to(new)
        return new

    return change


# --- the rows of a map -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What is patched in one row of a map.

    Attributes:
        label: The row's name.
        sites: Printed sites.
        tokens: For each item the tokens that are patched; empty: all.
    """

    label: str
    sites: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...] = ()


def places_of(
    model: Model,
    streams: Sequence[str],
    points: Sequence[str],
    blocks: int | Sequence[int] | None,
    window: int,
) -> list[Place]:
    """One place for each block that has such sites.

    Raises:
        SiteError: If the model has none.
        SettingError: If there is no block of a number.
    """
    cond = ("cond",) if "pooled" in streams else ()
    patterns = [f"*.*.{stream}.{point}" for stream in streams if stream != "pooled" for point in points]
    if not patterns:
        return [Place("all", tuple(map(str, sites(model, "cond"))))]
    order = list(dict.fromkeys((site.kind, site.block) for site in sites(model)))
    found: dict[tuple[str, int], list[Site]] = {}
    for site in sites(model, patterns):
        found.setdefault((site.kind, site.block), []).append(site)
    kinds = {kind for kind, _ in order}
    if window > len(order):
        raise SettingError(
            f"window is {window}, and this model has {counted(len(order), 'block')}. Give fewer."
        )
    wanted = range(len(order)) if blocks is None else [int(block) for block in listed(blocks)]
    if absent := [k for k in wanted if k >= len(order) or (blocks is not None and order[k] not in found)]:
        raise SettingError(
            f"blocks: there is no block {absent[0]} with {', '.join(patterns)}: this model has {len(order)} "
            f"blocks, 0 to {len(order) - 1}."
        )
    places = []
    for number in wanted:
        inside = [str(site) for each in order[number : number + window] for site in found.get(each, ())]
        if inside:
            kind, block = order[number]
            places.append(Place(f"{block}" if len(kinds) == 1 else f"{kind}.{block}", (*inside, *cond)))
    return places


def _rows(text: TextEmbedding, rows: Sequence[int]) -> TextEmbedding:
    """Some prompts of a batch, in this order, each perhaps several times."""
    return TextEmbedding.cat([text[row] for row in rows])
