"""The work behind `ditlens.patch`: donors, the tokens they give, and the runs that are patched and measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ditlens import flow, images
from ditlens.analysis.cells import Cell, Place, Run, Sampler
from ditlens.analysis.measures import Measure, Pair, Read, facts_of, measure_of
from ditlens.arguments import shown
from ditlens.errors import SettingError
from ditlens.lens.cache import LatentCache
from ditlens.lens.interventions import Where
from ditlens.models.model import Model
from ditlens.tables import progress_bar
from ditlens.worlds.world import Values


def with_tokens(
    model: Model, places: list[Place], tokens: Any, streams: Sequence[str], pairs: Sequence[Pair],
    grid: tuple[int, ...],
) -> list[Place]:  # fmt: skip
    """The places with the tokens that are patched there.

    Raises:
        SettingError: If these tokens cannot be chosen in this stream.
    """
    if isinstance(tokens, str) and tokens == "all":
        return places
    fit = {"changed": ["text"], "each": ["image"]}.get(tokens if isinstance(tokens, str) else "")
    if len(streams) > 1 or streams == ["pooled"] or (fit is not None and list(streams) != fit):
        raise SettingError(
            f"tokens={shown(tokens)} needs stream={(fit or ['text'])[0]!r}; it is {' + '.join(streams)}."
        )
    if tokens == "changed":
        chosen = tuple(tuple(pair.changed_rows(model)) for pair in pairs)
        return [Place(place.label, place.sites, chosen) for place in places]
    if tokens == "each":
        if len(places) != 1:
            raise SettingError("tokens='each' maps the patches of one block: say which, e.g. blocks=[2].")
        patches = range(grid[0] * grid[1])
        return [Place(str(patch), places[0].sites, ((patch,),) * len(pairs)) for patch in patches]
    return [Place(place.label, place.sites, (tuple(map(int, tokens)),) * len(pairs)) for place in places]


def grid_of(model: Model) -> tuple[int, ...]:
    """Rows and columns of image patches."""
    side = model.side // model.pipe.vae_scale_factor // model.patch
    return side, side


VARIANTS = 4
"""Pairs that are tried for each seed."""


def drawn_pairs(model: Model, name: str, seeds: Sequence[int], steps: int, guidance: float) -> list[Pair]:
    """For each seed a minimal pair of the world's whose images differ in the attribute: few are drawn wrong.

    Raises:
        SettingError: If the model draws no such pair for a seed.
    """
    world, found, left = model.world, dict[int, Pair](), list(range(len(seeds)))
    assert world is not None
    for variant in range(VARIANTS):
        pairs = [Pair.written(model, name, int(seeds[place]), variant) for place in left]
        sampler = Sampler(model, [pair.seed for pair in pairs], steps, guidance)
        drawn = [sampler.run([getattr(pair, end) for pair in pairs]).images for end in ("clean", "corrupt")]
        clean, corrupt = (list(world.measure(each)) for each in drawn)
        read, every = measure_of(model, name, pairs, clean), range(len(pairs))
        ends = zip(read.values(drawn[0], clean, every), read.values(drawn[1], corrupt, every), strict=True)
        hidden = [world.hidden(a) | world.hidden(b) for a, b in zip(clean, corrupt, strict=True)]
        good = {
            place: pair
            for place, pair, both, unseen in zip(left, pairs, ends, hidden, strict=True)
            if name not in unseen and read.differs(*both)
        }
        found |= good
        left = [place for place in left if place not in good]
        if not left:
            return [found[place] for place in range(len(seeds))]
    raise SettingError(
        f"{model.name} draws no two images that differ in {name!r} from the world's sentences with the seed "
        f"{seeds[left[0]]}. Give other seeds, or prompts: patch(model, clean, corrupt, measure={name!r})."
    )


@dataclass(frozen=True, eq=False)
class Donor:
    """A change that puts the states of another run in the place of a row's own.

    Attributes:
        cache: States of the other run, one row for each item.
        tokens: The tokens that are replaced, for each item; empty: all.
        kind: "patch", or a control: "unrelated" is a patch from another cache; "random" adds noise as long as the
            difference; "permuted" brings the donor's tokens in another order.
    """

    cache: LatentCache
    tokens: tuple[tuple[int, ...], ...] = ()
    kind: str = "patch"

    def __call__(self, values: Tensor, where: Where, items: list[int]) -> Tensor:
        new = self.cache.get(where.site, step=where.step, pass_="cond")[items].to(values)
        if self.kind == "permuted":
            order = torch.randperm(new.shape[-2], generator=flow.generator_of(0))
            new = new[:, order]
        if self.kind == "random":
            noise = torch.stack([self._noise(values, where, item) for item in items]).to(values)
            new = values + noise * (new - values).norm(dim=-1, keepdim=True)
        if not self.tokens:
            return new
        mixed = values.clone()
        for row, item in enumerate(items):
            chosen, count = list(self.tokens[item]), new.shape[-2]
            if absent := [token for token in chosen if token >= count]:
                raise SettingError(
                    f"tokens has {absent[0]}, and {where.site} has {count} tokens, 0 to {count - 1}. Choose "
                    "among them."
                )
            mixed[row, chosen] = new[row, chosen]
        return mixed

    @staticmethod
    def _noise(values: Tensor, where: Where, item: int) -> Tensor:
        """A direction of length 1 for each token; an item's own, the same in every step."""
        generator = flow.generator_of(1000 * item + where.site.block)
        return torch.nn.functional.normalize(flow.normal(values.shape[1:], generator), dim=-1)


@dataclass(frozen=True, eq=False)
class Patcher:
    """Patches pairs of prompts at places."""

    model: Model
    sampler: Sampler
    pairs: Sequence[Pair]
    places: Sequence[Place]

    def map(
        self,
        measure: str | Read,
        directions: Sequence[str],
        stretches: list[tuple[int, int]],
        controlled: list[str],
    ) -> dict[str, Any]:
        """The numbers of a `CausalMap`."""
        sites = list(dict.fromkeys(site for place in self.places for site in place.sites))
        runs, caches, facts = {}, {}, {}
        for name in ("clean", "corrupt"):
            prompts = [getattr(pair, name) for pair in self.pairs]
            runs[name], caches[name] = self.sampler.captured(prompts, sites)
            facts[name] = facts_of(self.model.world, runs[name].images)
        read = measure_of(self.model, measure, self.pairs, facts["clean"])
        every = range(len(self.pairs))
        ends = np.array([read.values(runs[name].images, facts[name], every) for name in runs]).T
        self._check(read, ends, facts)
        effects, drifts, controls = [], [], defaultdict[str, list[np.ndarray]](list)
        pictures = [runs["clean"].images[0], runs["corrupt"].images[0]]
        for direction in directions:
            donor, recipient = ("clean", "corrupt") if direction == "sufficiency" else ("corrupt", "clean")
            given = {place.tokens: Donor(caches[donor], place.tokens) for place in self.places}
            cells = [
                Cell(dict.fromkeys(place.sites, given[place.tokens]), *stretch)
                for place in self.places for stretch in stretches
            ]  # fmt: skip
            kinds = self._controls(controlled, caches[donor], recipient, sites)
            cells += [
                Cell(dict.fromkeys(place.sites, Donor(cache, place.tokens, kind)), *stretches[-1])
                for kind, cache in kinds.items() for place in self.places
            ]  # fmt: skip
            values, drift, seen = self._measure(read, runs[recipient], facts[recipient], cells, direction)
            start = ends[:, ("clean", "corrupt").index(recipient)]
            pe = (values - start) / (ends[:, ("clean", "corrupt").index(donor)] - start)
            count, shape = len(self.places) * len(stretches), (len(self.places), len(stretches), -1)
            effects.append(pe[:count].reshape(shape))
            drifts.append(drift[:count].reshape(shape))
            for kind, found in zip(kinds, np.split(pe[count:], max(1, len(kinds))), strict=False):
                controls[kind].append(found)
            if direction == directions[0]:
                pictures += [seen[k * len(stretches) - 1] for k in range(1, len(self.places) + 1)]
        return {
            "measure": read.name, "places": tuple(place.label for place in self.places),
            "levels": tuple(self.sampler.levels), "directions": tuple(directions), "effects": np.stack(effects),
            "drift": np.stack(drifts), "controls": {kind: np.stack(found) for kind, found in controls.items()},
            "ends": ends, "pictures": tuple(images.to_image(each[None]) for each in pictures),
        }  # fmt: skip

    def _check(self, read: Measure, ends: np.ndarray, facts: Mapping[str, list[Values]]) -> None:
        """Refuse pairs whose images do not show what is measured, or are alike in it.

        Raises:
            SettingError: For the first such pair, with what both images show.
        """
        for item, (pair, both) in enumerate(zip(self.pairs, ends, strict=True)):
            seen = [facts[name][item] for name in ("clean", "corrupt")]
            for prompt, values in zip((pair.clean, pair.corrupt), seen, strict=True):
                if read.is_hidden(values):
                    raise SettingError(
                        f"{read.name} cannot be seen in the image of {prompt!r} (seed {pair.seed}): something "
                        f"covers it. Give prompts whose images show it, or another seed."
                    )
            if not read.differs(*both):
                clean, corrupt = map(read.shown, both, seen)
                raise SettingError(
                    f"{read.name} is {clean} in the image of {pair.clean!r} and {corrupt} in that of "
                    f"{pair.corrupt!r} (seed {pair.seed}): too little to measure shares of it. Give prompts that "
                    f"differ more in {read.name}, or another seed.{read.words()}"
                )

    def _controls(
        self, controlled: list[str], donor: LatentCache, recipient: str, sites: list[str]
    ) -> dict[str, LatentCache]:
        """The caches of the controls that these streams have."""
        if not controlled:
            return {}
        prompts = [p.unrelated(self.model.world, getattr(p, recipient)) for p in self.pairs]
        found = {"unrelated": self.sampler.captured(prompts, sites)[1], "random": donor}
        return found | ({"permuted": donor} if controlled == ["image"] else {})

    def _measure(
        self, read: Measure, base: Run, before: list[Values], cells: list[Cell], title: str
    ) -> tuple[np.ndarray, np.ndarray, dict[int, Tensor]]:
        """What is measured and the drift of all else, (cells, items), and each cell's picture of the first item."""
        values, drift = np.full((2, len(cells), len(before)), np.nan)
        seen, done = {}, 0
        with progress_bar(f"patch, {title}") as show:
            for rows, pixels in self.sampler.run_cells(base, cells):
                facts = facts_of(self.model.world, pixels)
                numbers = read.values(pixels, facts, [item for _, item in rows])
                for (cell, item), number, fact, picture in zip(rows, numbers, facts, pixels, strict=True):
                    values[cell, item] = number
                    drift[cell, item] = self._drift(read, before[item], fact, self.pairs[item])
                    if item == 0:
                        seen[cell] = picture
                done += len(rows)
                show(done, values.size)
        return values, drift, seen

    def _drift(self, read: Measure, before: Values, after: Values, pair: Pair) -> float:
        world = self.model.world
        if world is None:
            return float("nan")
        wanted = set(world.wanted(pair.corrupt, pair.clean)) | (
            {read.name} if read.spec is not None else set()
        )
        return world.drift(before, after, wanted)
