"""Steer: make images while a direction is added, to the prompt's embedding or to hidden states at a site.

Amounts are in units of the direction (`ditlens.Direction`); 0 changes nothing, bit for bit. What the world's oracle
reads in every image says how far the target moved and how much else did (drift).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ditlens import flow, images, late
from ditlens.analysis.directions import DIRECTION, NUMBERS, Direction
from ditlens.analysis.moves import PATHS, moved_text, steered
from ditlens.arguments import (
    COUNT,
    NAME,
    NOTHING,
    NUMBER,
    SEED_OR_SEEDS,
    TEXTS,
    listed,
    one_of,
    several,
    takes,
)
from ditlens.cards import Carded, Pictures, Piece, Table
from ditlens.ems import judge
from ditlens.errors import SettingError
from ditlens.lens.cache import SITE
from ditlens.lens.interventions import intervene
from ditlens.metrics.statistics import seen_mean
from ditlens.models.model import MODEL, Model
from ditlens.tables import counted, frame, progress_bar, share_of
from ditlens.worlds.world import Continuous, Values, World

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

ROWS = 24
"""Images that are sampled at a time."""

AMOUNTS = several(NUMBER, "a list of numbers, e.g. [-2, -1, 0, 1, 2]")


@dataclass(frozen=True, eq=False, repr=False)
class Steering(Carded):
    """Images along a direction, and what was read in them; from `ditlens.steer`.

    Every item is a prompt with a seed, and has one image for every amount.

    Attributes:
        direction: The direction.
        amounts: The amounts, in units of the direction; 0, the unsteered image, is always among them.
        prompts: Text of every item.
        seeds: Seed of every item.
        images: ``images[item][amount]``.
        readings: What the oracle reads, likewise; empty without a world. It names every attribute, also those that
            cannot be seen, such as eyes behind sunglasses; `values`, `moved` and `to_pandas` leave these out.
        path: How it moved, "line", "norm" or "slerp".
        likeness: For every item and amount, PSNR in dB between the image and the one that the world draws of what
            is read in it: low for a picture that is shattered; empty if it cannot draw.
        world: The model's world; None if it has none.
    """

    direction: Direction
    amounts: tuple[float, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    images: tuple[tuple[Image.Image, ...], ...] = field(repr=False)
    readings: tuple[tuple[Values, ...], ...] = field(repr=False)
    path: str
    likeness: tuple[tuple[float, ...], ...] = field(repr=False)
    world: World | None = field(repr=False)

    @property
    def image(self) -> Image.Image:
        """The first item's image at the largest amount, counted without its sign."""
        return self.images[0][max(range(len(self.amounts)), key=lambda k: abs(self.amounts[k]))]

    @property
    def targets(self) -> tuple[str, ...]:
        """The attributes that the direction is to move and the oracle can read."""
        return tuple(name for name in self.direction.targets if self.readings and name in self.readings[0][0])

    def values(self, name: str) -> list[list[float]]:
        """An attribute at every item and amount: a number, or 1 where a categorical one has the direction's value.

        Where the direction names no value, 1 is another value than that of the unsteered image. NaN where it cannot
        be seen in the image.
        """
        spec, zero, value = self._spec(name), self.amounts.index(0), self.direction.value

        def number(each: Values, unsteered: Values) -> float:
            if not self._seen(each, name):
                return math.nan
            if isinstance(spec, Continuous):
                return float(each[name])
            if value:
                return float(each[name] == value)
            return float(each[name] != unsteered[name]) if self._seen(unsteered, name) else math.nan

        return [[number(each, item[zero]) for each in item] for item in self.readings]

    def _seen(self, read: Values, name: str) -> bool:
        return self.world is not None and name not in self.world.hidden(read)

    def moved(self, name: str | None = None) -> list[list[float]]:
        """How far an attribute moved from the unsteered image, in units of its range, at every item and amount.

        NaN where it cannot be seen in one of both images.

        Args:
            name: The attribute; by default the direction's first target.
        """
        name = name or (self.targets[0] if self.targets else "")
        spec, zero = self._spec(name), self.amounts.index(0)
        size = spec.range if isinstance(spec, Continuous) else 1.0
        return [[(value - item[zero]) / size for value in item] for item in self.values(name)]

    @property
    def drift(self) -> list[list[float]]:
        """Mean change of all others from the unsteered image, in units of range, at every item and amount."""
        if self.world is None or not self.readings:
            return []
        zero = self.amounts.index(0)
        return [
            [self.world.drift(item[zero], each, self.direction.targets) for each in item]
            for item in self.readings
        ]

    def _spec(self, name: str) -> Any:
        if self.world is None or not self.readings:
            raise SettingError("Nothing was measured: this model has no world. Look at .images instead.")
        if name not in self.world.attributes:
            raise SettingError(
                f"There is no attribute {name!r}. Choose from: {', '.join(self.world.attributes)}."
            )
        return self.world.attributes[name]

    def holds(self) -> list[bool]:
        """For every amount, whether the pictures hold: drift is low, and they look like the world's own."""
        if not self.readings:
            return [True] * len(self.amounts)
        found = []
        for k in range(len(self.amounts)):
            drift = seen_mean(item[k] for item in self.drift)
            like = seen_mean(item[k] for item in self.likeness) if self.likeness else math.inf
            found.append(drift <= judge.BROKEN and like >= judge.WORLD_DB["amber"])
        return found

    @property
    def notes(self) -> list[str]:
        """What to know about it: at which amounts the picture holds, and what to try; empty if all is well."""
        if not self.readings:
            return ["Nothing was measured, because this model has no world: look at the images."]
        found, holds = [], self.holds()
        low, high = _stretch(self.amounts, holds)
        broken = [a for a, good in zip(self.amounts, holds, strict=True) if not good]
        if broken:
            shown = ", ".join(f"{a:g}" for a in broken)
            found.append(
                f"The picture breaks at the amount {shown}: what was not asked for moves by more than "
                f"{judge.BROKEN:g} of its range, or the image is none that this world draws. "
                + (
                    f"Stay within {low:g} to {high:g}, or steer fewer patches or steps."
                    if low < high
                    else "None of the amounts holds: take smaller ones, or steer fewer patches or steps."
                )
            )
        for name in self.targets:
            if unseen := sum(map(math.isnan, chain(*self.values(name)))):
                found.append(f"{name} cannot be seen in {counted(unseen, 'image')}: these do not count.")
            means = (seen_mean(item[k] for item in self.moved(name)) for k in range(len(self.amounts)))
            known = [(a, mean) for a, mean in zip(self.amounts, means, strict=True) if not math.isnan(mean)]
            amounts, moved = [a for a, _ in known], [mean for _, mean in known]
            if any(amounts) and max(map(abs, moved)) < judge.NOTICEABLE / 2:
                found.append(f"{name} hardly moves: try larger amounts, an earlier block, or earlier steps.")
            elif ends := _turns(amounts, moved):
                found.append(
                    f"{name} moves no further beyond the amount {' and '.join(f'{a:g}' for a in ends)}: there more "
                    "of the direction only does damage."
                )
        return found

    def _card(self) -> list[Piece]:
        rows = []
        for k, amount in enumerate(self.amounts):
            row = [f"{amount:g}"]
            means = [seen_mean(item[k] for item in self.values(name)) for name in self.targets]
            row += ["cannot be seen" if math.isnan(mean) else f"{mean:.2f}" for mean in means]
            row += [f"{seen_mean(item[k] for item in self.drift):.3f}"] if self.readings else []
            rows.append(row)
        head = ["amount", *self.targets, *(["drift"] if self.readings else [])]
        title = f"Steering along {self.direction.name}: {counted(len(self.prompts), 'image')} at each amount, means"
        strip = Pictures(self.images[0], [f"amount {amount:g}" for amount in self.amounts])
        return [title, strip, Table(rows, head), *self.notes]

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for every image: prompt, seed, amount, drift, and everything that the oracle read.

        None where it cannot be seen in the image.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        rows, drifts = [], self.drift
        for item, (prompt, seed) in enumerate(zip(self.prompts, self.seeds, strict=True)):
            for k, amount in enumerate(self.amounts):
                read: dict[str, Any] = {}
                if self.readings:
                    found = self.readings[item][k]
                    read = {name: each if self._seen(found, name) else None for name, each in found.items()}
                    read["drift"] = drifts[item][k]
                rows.append({"prompt": prompt, "seed": seed, "amount": amount, **read})
        return frame(rows)

    def plot(self) -> Figure:
        """The strip of images of the first item, and the targets and drift of all; a matplotlib figure."""
        return late.view("plot_steering", "steering")(self)


def _stretch(amounts: Sequence[float], holds: Sequence[bool]) -> tuple[float, float]:
    """The amounts around 0 up to which all pictures hold."""
    order = sorted(range(len(amounts)), key=lambda k: amounts[k])
    zero = next(place for place, k in enumerate(order) if amounts[k] == 0)
    low, high = zero, zero
    while low > 0 and holds[order[low - 1]]:
        low -= 1
    while high + 1 < len(order) and holds[order[high + 1]]:
        high += 1
    return amounts[order[low]], amounts[order[high]]


def _turns(amounts: Sequence[float], moved: Sequence[float]) -> list[float]:
    """The amounts, below and above 0, at which something has moved furthest although there are larger ones."""
    found = []
    for side in (-1, 1):
        places = sorted((k for k, a in enumerate(amounts) if a * side > 0), key=lambda k: abs(amounts[k]))
        if places and (best := max(places, key=lambda k: abs(moved[k]))) != places[-1]:
            found.append(amounts[best])
    return found


# --- steering ----------------------------------------------------------------------------------------------


@takes(
    model=MODEL, direction=DIRECTION, amount=AMOUNTS,
    prompts=TEXTS, seeds=SEED_OR_SEEDS, sites=several(SITE, "a list of sites"), steps=NUMBERS,
    patches=NUMBERS, path=one_of(*PATHS), passes=one_of("cond", "uncond") | NOTHING, word=NAME,
    sampling_steps=COUNT,
    guidance=NUMBER,
)  # fmt: skip
def steer(
    model: Model,
    direction: Direction,
    amount: float | Sequence[float] = 1.0,
    *,
    prompts: str | Sequence[str],
    seeds: int | Sequence[int] = 0,
    sites: str | Iterable[str] | None = None,
    steps: Sequence[int] | int | None = None,
    patches: int | Sequence[int] | None = None,
    path: str = "line",
    passes: str | None = "cond",
    word: str = "",
    sampling_steps: int | None = None,
    guidance: float | None = None,
) -> Steering:
    """Make images while a direction is added, at one amount or several, for one prompt and seed or many.

    Beside the straight line there are two ways that keep the length of every token (arXiv 2605.07973 argues that
    embeddings of concepts lie near a sphere): ``"norm"`` brings x + d back to the length of x, and ``"slerp"``
    turns x towards d on a great circle, by an arc as long as d. For a control use ``direction.random(seed)``.

    Args:
        model: The model.
        direction: Where to go.
        amount: How far, in units of the direction; 0 is the unsteered image, which is made in any case.
        prompts: A text, or several.
        seeds: A seed, or several; of several prompts and several seeds the first goes with the first, and so on.
        sites: Other sites than the direction's own, as in `ditlens.intervene`.
        steps: At which sampling steps; all by default. In text space: all, always.
        patches: At which of the direction's patches; all by default.
        path: "line", "norm" or "slerp".
        passes: In which guidance pass: that of the prompt by default, so that guidance carries the direction as it
            carries the words of the prompt; None for all. In text space: "cond", always.
        word: Text space: the words of the prompt at whose tokens it acts; by default those of the direction that
            are found there.
        sampling_steps: Sampling steps; the model's own number by default.
        guidance: Guidance; the model's own by default.

    Returns:
        The images, and what was read in them.

    Raises:
        SettingError: If the arguments do not fit together, or a prompt has none of the direction's words.
        SiteError: If a site does not exist.
        InterventionError: If the direction is of another width than the model.

    Example:
        >>> smile = dl.direction(model, "a slight smile", "a big smile")
        >>> result = dl.steer(model, smile, [0, 0.5, 1], prompts="a slight smile", seeds=[0, 1], sampling_steps=2)
        >>> result.amounts, len(result.images), result.image.size
        ((0.0, 0.5, 1.0), 2, (128, 128))
        >>> result.targets
        ('smile',)
        >>> result.drift[0][0]
        0.0
    """
    amounts = [float(a) for a in listed(amount)]
    amounts = amounts if 0 in amounts else [0.0, *amounts]
    texts, drawn = _items(prompts, seeds)
    if not direction.site:
        if sites is not None or steps is not None or patches is not None or passes != "cond":
            raise SettingError(
                "This direction lives in text space: it takes no sites, steps, patches or passes. Make one at "
                "a site: direction(study, 'smile', site=...)."
            )
    elif word:
        raise SettingError(
            f"This direction is at {direction.site}, where there are no words. Leave word out."
        )
    if patches is not None:
        direction = direction.at(patches)
    rows = [(item, a) for item in range(len(texts)) for a in amounts]
    batches = [rows[k : k + ROWS] for k in range(0, len(rows), ROWS)]
    how = {"steps": None if steps is None else listed(steps), "passes": passes}
    make = partial(_images, model, direction, texts, drawn, path, word, sites, how, sampling_steps, guidance)
    parts = []
    with progress_bar("steer, batches") as show:
        for done, batch in enumerate(batches):
            parts.append(make(batch, share_of(show, done, len(batches))))
    pixels = torch.cat(parts)
    return _result(model, direction, amounts, texts, drawn, path, pixels)


def _items(prompt: str | Sequence[str], seed: int | Sequence[int]) -> tuple[list[str], list[int]]:
    prompts, seeds = listed(prompt), [flow.seed_of(s) for s in listed(seed)]
    count = max(len(prompts), len(seeds))
    if {len(prompts), len(seeds)} - {1, count}:
        raise SettingError(
            f"Got {len(prompts)} prompts and {len(seeds)} seeds; give one, or as many of each."
        )
    return prompts * (count // len(prompts)), seeds * (count // len(seeds))


def _images(
    model: Model, direction: Direction, prompts: list[str], seeds: list[int], path: str, word: str,
    sites: str | Iterable[str] | None, how: dict[str, Any], sampling_steps: int | None, guidance: float | None,
    rows: list[tuple[int, float]], told: Callable[[float], object],
) -> Tensor:  # fmt: skip
    """Images of some items at some amounts, sampled as one batch; `told` hears the share that is done."""
    steps = model.defaults["steps"] if sampling_steps is None else sampling_steps
    guidance = model.defaults["guidance"] if guidance is None else guidance
    amounts = torch.tensor([a for _, a in rows], device=model.device)[:, None, None]
    text = model.encode_text([prompts[item] for item, _ in rows])
    if not direction.site:
        text = moved_text(model, text, direction, amounts, path, word)
    null = model.encode_text("").named("uncond") if guidance != 1 and not model.distilled else None
    noise, levels = model.noise([seeds[item] for item, _ in rows]), model.sigmas(steps)

    change = partial(steered, direction=direction, amounts=amounts, path=path)
    chosen = map(str, listed(direction.site if sites is None else sites))
    with intervene(model, dict.fromkeys(chosen, change), **how) if direction.site else nullcontext():
        latents = flow.sample(
            model, noise, levels, text, null_text=null, guidance=guidance,
            on_step=lambda state: told((state.step + 1) / steps),
        )  # fmt: skip
    return torch.cat([model.decode(each) for each in latents.split(1)])  # one by one: as bit for bit alone


def _result(
    model: Model, direction: Direction, amounts: list[float], prompts: list[str], seeds: list[int], path: str,
    pixels: Tensor,
) -> Steering:  # fmt: skip
    def by_item(flat: Sequence[Any]) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(flat[k : k + len(amounts)]) for k in range(0, len(flat), len(amounts)))

    world = model.world
    readings = [] if world is None else world.measure(pixels)
    redrawn = None if world is None else world.redraw(pixels)
    likeness = [] if redrawn is None else [judge.psnr(a, b) for a, b in zip(redrawn, pixels, strict=True)]
    return Steering(
        direction, tuple(amounts), tuple(prompts), tuple(seeds),
        by_item([images.to_image(each) for each in pixels]), by_item(readings), path, by_item(likeness), world,
    )  # fmt: skip
