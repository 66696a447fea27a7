"""What a capture holds: hidden states by site, step and guidance pass, with one row for every image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ditlens.arguments import COUNT, FLAG, INDEX, NAME, PATH, TEXT, instance, listed, one_of, several, takes
from ditlens.cards import Carded, Piece, Table
from ditlens.errors import CaptureError, SiteError
from ditlens.lens.selection import keeps_tokens
from ditlens.lens.site import KINDS, POINTS, STREAMS, Site, asked, fitting
from ditlens.lens.spans import Words, no_tokenizers
from ditlens.lens.tensor_files import load_tensors, save_tensors
from ditlens.tables import counted, human, ranges

SITE = TEXT | instance("a Site", Site)
INDICES = several(INDEX)
SELECTION = {
    "stream": one_of(*STREAMS), "block": INDICES, "kind": one_of(*KINDS), "point": one_of(*POINTS), "pass_": TEXT,
}  # fmt: skip
"""What the `select` of a cache and of a study take."""


@dataclass(frozen=True, order=True)
class CacheKey:
    """Address of one tensor in a cache.

    Attributes:
        site: Printed `Site`.
        step: Index of the timestep.
        pass_: Guidance pass, ``"cond"``, ``"uncond"``, ``"skip"``; in an edit ``"source"``, ``"target"`` and
            ``"uncond"``, or ``"uncond.source"`` and ``"uncond.target"`` where both sides are guided in one call;
            ``"source.target"`` is the source text at the target's point.
    """

    site: str
    step: int
    pass_: str


@dataclass(frozen=True)
class CachedItem:
    """One image of a run: one row of every tensor.

    Attributes:
        run: Which sampling loop.
        row: Which row of its batch, counted within the pass.
        prompt: Its text; empty if unknown.
    """

    run: int
    row: int
    prompt: str = ""


class Part(NamedTuple):
    """The hidden states of some images at one site and step.

    Attributes:
        site: Printed `Site`.
        step: Index of the timestep.
        pass_: Guidance pass.
        rows: Which images, counted in the cache or study that they are from.
        values: (images, tokens, width); (images, width) where tokens were reduced to one.
        mask: Real tokens of the text, (images, tokens); None if all are, or if it is unknown.
    """

    site: str
    step: int
    pass_: str
    rows: list[int]
    values: Tensor
    mask: Tensor | None

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.values.shape))
        return f"Part: {self.site}, step {self.step}, {self.pass_}, images {ranges(self.rows)}, {shape}"


@dataclass(eq=False, repr=False)
class LatentCache(Carded):
    """Hidden states that were captured.

    ``cache["joint.3.image.out", 7]`` is the tensor of one site at one step, (items, tokens, width);
    ``cache["joint.3.image.out"]`` has all steps, (steps, items, tokens, width). Printing a cache lists it.

    >>> with dl.capture(model, "joint.*.image.out") as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> cache.sites, cache.steps, cache.passes, cache.items
    (['joint.0.image.out', 'joint.1.image.out'], [0, 1, 2, 3], ['cond'],
     [CachedItem(run=0, row=0, prompt='a big smile')])
    >>> cache.to_grid("joint.1.image.out", step=3).shape  # items, rows, columns, width
    torch.Size([1, 8, 8, 64])
    >>> cache.select(step=[0, 3]).stack().shape  # sites, steps, items, tokens, width
    torch.Size([2, 2, 1, 64, 64])

    Attributes:
        tensors: The captured tensors, each with one row per item.
        items: The images, in the order of the rows.
        grids: Rows and columns (of video: frames too) of the image tokens, by run; None if unknown, () where the
            images of one batch have several.
        masks: Real tokens of the text, (items, tokens), by pass; empty if unknown.
        tokens: Kept tokens of each stream, where only some were.
        reduced: What was done to the tokens; empty for nothing.
        spans: Finds the tokens of a word: ``spans(prompt, word) -> {tokenizer: [token, ...]}``, if known.
        flaw: Why values are missing; empty if none are. A cache with a flaw gives no values.
    """

    tensors: dict[CacheKey, Tensor] = field(default_factory=dict)
    items: list[CachedItem] = field(default_factory=list)
    grids: dict[int, tuple[int, ...] | None] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    reduced: str = ""
    spans: Callable[[str, str], dict[str, list[int]]] | None = field(default=None, repr=False)
    flaw: str = ""

    # --- what is in it -------------------------------------------------------------------------------

    @property
    def sites(self) -> list[str]:
        """Captured sites, in the order of the forward pass."""
        return sorted({key.site for key in self.tensors}, key=lambda s: Site.parse(s).sort_key())

    @property
    def steps(self) -> list[int]:
        """Captured steps."""
        return sorted({key.step for key in self.tensors})

    @property
    def passes(self) -> list[str]:
        """Captured guidance passes."""
        return sorted({key.pass_ for key in self.tensors})

    @property
    def nbytes(self) -> int:
        """Size of all tensors, in bytes."""
        return sum(t.nbytes for t in self.tensors.values())

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[CacheKey]:
        return iter(self.tensors)

    def __contains__(self, site: object) -> bool:
        return str(site) in self.sites

    def _card(self) -> list[Piece]:
        if not self.tensors:
            return ["LatentCache (empty)"]
        rows = []
        for site in self.sites:
            keys = [key for key in self.tensors if key.site == site]
            size = sum(self.tensors[key].nbytes for key in keys)
            steps = ranges({key.step for key in keys})
            shape = " x ".join(map(str, self.tensors[keys[0]].shape))
            rows.append([site, shape, steps, ", ".join(sorted({k.pass_ for k in keys})), human(size)])
        shown = rows if len(rows) <= 40 else [*rows[:20], ["...", "", "", "", ""], *rows[-10:]]
        numbers = counted(len(rows), "site"), counted(len(self.items), "image"), human(self.nbytes)
        title = f"LatentCache: {', '.join(numbers)}{f'. INCOMPLETE. {self.flaw}.' if self.flaw else ''}"
        if self.reduced:
            title += f", {self.reduced} {'of' if keeps_tokens(self.reduced) else 'over'} tokens"
        return [title, Table(shown, ("site", "shape", "steps", "pass", "size"))]

    # --- getting tensors out -------------------------------------------------------------------------

    def __getitem__(self, key: str | Site | tuple[Any, ...]) -> Float[Tensor, " ..."]:
        """``cache[site]``, ``cache[site, step]`` or ``cache[site, step, pass]``.

        Raises:
            SiteError: If it was not captured; the message lists what was.
        """
        site, step, pass_ = ((*key, None, None)[:3]) if isinstance(key, tuple) else (key, None, None)
        return self.get(str(site), step=step, pass_=pass_)

    @takes(site=SITE, step=INDEX, pass_=TEXT)
    def get(
        self, site: str | Site, *, step: int | None = None, pass_: str | None = None
    ) -> Float[Tensor, " ..."]:
        """The tensor of a site.

        Args:
            site: Which.
            step: One step: (items, tokens, width). None: all steps, (steps, items, tokens, width).
            pass_: Guidance pass; needed only where several were captured.

        Raises:
            SiteError: If it was not captured; the message lists what was.
            CaptureError: If the capture was interrupted.
        """
        self._check_whole()
        name = str(Site.parse(str(site)))
        found = [key for key in self.tensors if key.site == name]
        if not found:
            raise SiteError(
                f"{name} was not captured. Captured are: {', '.join(self.sites[:12]) or 'none'}"
                f"{', ...' if len(self.sites) > 12 else ''}. Add it to the sites of `capture`."
            )
        passes = sorted({key.pass_ for key in found})
        if pass_ is None and len(passes) > 1:
            raise SiteError(f"{name} was captured for the passes {', '.join(passes)}: say which, pass_=...")
        pass_ = pass_ or passes[0]
        steps = sorted({key.step for key in found if key.pass_ == pass_})
        if not steps:
            raise SiteError(f"{name} was captured for {', '.join(passes)}, not for the pass {pass_!r}.")
        if step is None:
            return _stack([self.tensors[CacheKey(name, s, pass_)] for s in steps], name)
        if step not in steps:
            raise SiteError(f"{name} was captured at the steps {ranges(steps)}, not at step {step}.")
        return self.tensors[CacheKey(name, step, pass_)]

    def _check_whole(self) -> None:
        """Refuse to give values of a capture that was interrupted: some are missing."""
        if self.flaw:
            raise CaptureError(f"This cache is incomplete. {self.flaw}. Run the with-block again.")

    @takes(**SELECTION, step=INDICES)
    def select(
        self,
        sites: str | Iterable[str] | None = None,
        *,
        stream: str | None = None,
        block: int | Sequence[int] | None = None,
        kind: str | None = None,
        point: str | None = None,
        step: int | Sequence[int] | None = None,
        pass_: str | None = None,
    ) -> LatentCache:
        """The part of the cache that fits; shares memory with this one.

        Args:
            sites: Patterns as in `capture`.
            stream: ``"text"`` or ``"image"``.
            block: One block or several.
            kind: ``"joint"`` or ``"single"``.
            point: One of `ditlens.lens.site.POINTS`.
            step: One step or several.
            pass_: Guidance pass.

        Raises:
            SiteError: If nothing fits.
        """
        self._check_whole()
        names = fitting(self.sites, sites, stream=stream, block=block, kind=kind, point=point)
        steps = None if step is None else listed(step)
        kept = {
            key: tensor
            for key, tensor in self.tensors.items()
            if key.site in names and (steps is None or key.step in steps) and pass_ in (None, key.pass_)
        }
        if not kept:
            given = asked(
                sites=sites, stream=stream, block=block, kind=kind, point=point, step=step, pass_=pass_
            )
            raise SiteError(f"Nothing in this cache fits {given or 'at all'}. It holds:\n{self!r}")
        return replace(self, tensors=kept)

    @property
    def columns(self) -> dict[str, list[Any]]:
        """What is known of every image: its prompt."""
        return {"prompt": [item.prompt for item in self.items]}

    @takes(size=COUNT)
    def parts(self, size: int = 64) -> Iterator[Part]:
        """All tensors in parts of at most `size` images, as `ditlens.PCA` and the like read them."""
        self._check_whole()
        for first in range(0, len(self.items), size):
            for key in sorted(self.tensors, key=lambda key: (Site.parse(key.site).sort_key(), key.step)):
                values, mask = self.tensors[key][first : first + size], self.mask(key.pass_)
                text = mask is not None and Site.parse(key.site).stream == "text"
                there = mask[first : first + size] if text and mask is not None else None
                rows = list(range(first, first + len(values)))
                yield Part(key.site, key.step, key.pass_, rows, values, there)

    @takes(path=PATH, overwrite=FLAG)
    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the cache as one safetensors file, whole or not at all.

        >>> with dl.capture(model, "joint.0.image.out", steps=0) as cache:
        ...     image = model.generate("a big smile", seed=0)
        >>> dl.LatentCache.load(cache.save("cache.safetensors"))
        LatentCache: 1 site, 1 image, 16 kB
        site               shape        steps  pass  size
        -----------------  -----------  -----  ----  -----
        joint.0.image.out  1 x 64 x 64  0      cond  16 kB

        Args:
            path: The file; its name must end in ``.safetensors``.
            overwrite: Whether it may be there already.

        Returns:
            The file's path.

        Raises:
            CaptureError: If the capture was interrupted.
            SettingError: If the name ends otherwise, or the file is there already.
            WriteError: If it cannot be written.
        """
        self._check_whole()
        tensors = {f"{k.site}|{k.step}|{k.pass_}": t for k, t in self.tensors.items()}
        tensors |= {f"mask|{name}": mask for name, mask in self.masks.items()}
        about = {
            "items": [[item.run, item.row, item.prompt] for item in self.items],
            "grids": list(self.grids.items()), "tokens": self.tokens, "reduced": self.reduced,
            "words": self.spans.table(i.prompt for i in self.items) if isinstance(self.spans, Words) else {},
        }  # fmt: skip
        return save_tensors(path, "cache", tensors, about, overwrite)

    @classmethod
    @takes(path=PATH)
    def load(cls, path: str | Path) -> LatentCache:
        """Read what `save` wrote; the tokens of words are known of the prompts that made it.

        Raises:
            CaptureError: If the file cannot be read or is no cache.
        """
        return load_tensors(path, "cache", cls._made, CaptureError)

    @classmethod
    def _made(cls, found: dict[str, Tensor], about: dict[str, Any]) -> LatentCache:
        """A cache of what a file holds."""
        keys = {name: name.split("|") for name in found if not name.startswith("mask|")}
        return cls(
            tensors={CacheKey(s, int(step), pass_): found[n] for n, (s, step, pass_) in keys.items()},
            items=[CachedItem(*item) for item in about["items"]],
            grids={run: grid and tuple(grid) for run, grid in about["grids"]},
            masks={n.removeprefix("mask|"): t for n, t in found.items() if n not in keys},
            tokens=about["tokens"], reduced=about["reduced"], spans=Words.kept(dict(about.get("words", {}))),
        )  # fmt: skip

    def stack(self) -> Float[Tensor, "sites steps items *shape"]:
        """All tensors as one: (sites, steps, items, tokens, width), sites and steps in order.

        Raises:
            CaptureError: If their shapes differ; select one stream and pass first.
        """
        if len(self.passes) > 1:
            raise CaptureError(f"Select one pass first: {', '.join(self.passes)}.")
        return _stack([self.get(site) for site in self.sites], ", ".join(self.sites[:3]))

    @takes(site=SITE, step=INDEX, pass_=TEXT, run=INDEX)
    def to_grid(
        self, site: str | Site, *, step: int | None = None, pass_: str | None = None, run: int | None = None
    ) -> Float[Tensor, "*items_and_grid width"]:
        """Image tokens where they lie in the image.

        Args:
            site: A site of the image stream, or an attention map toward it.
            step: As in `get`.
            pass_: As in `get`.
            run: Images of this sampling loop only (`CachedItem.run`); None: all, which must have one grid.

        Returns:
            (..., rows, columns, width), of video (..., frames, rows, columns, width).

        Raises:
            CaptureError: If the tokens were reduced, their grid is unknown, or the images have several.
        """
        parsed = Site.parse(str(site))
        if parsed.stream != "image":
            raise CaptureError(f"{site} has no image tokens as rows. Ask for a site of the image stream.")
        if not keeps_tokens(self.reduced):
            raise CaptureError(
                f"The image tokens have no grid any more: {self.reduced}. Capture without reducing."
            )
        if kept := self.tokens.get("image"):
            raise CaptureError(
                f"A grid needs all image tokens, and only {len(kept)} were kept here: {ranges(kept)}. Capture, or "
                "plan the study, without tokens=; or take one that has all, such as "
                "ditlens.open_study('portraits-patches')."
            )
        grids = {grid for n, grid in self.grids.items() if run in (None, n)}
        if len(grids) > 1:
            shown = ", ".join(
                f"run {n}: {' x '.join(map(str, grid)) if grid else 'unknown' if grid is None else 'several'}"
                for n, grid in self.grids.items()
            )
            raise CaptureError(
                f"The images of this cache have different grids ({shown}). Ask for one run at a time: "
                "to_grid(..., run=0). cache.items says which image is of which run."
            )
        grid = next(iter(grids), None)
        if grid == ():
            raise CaptureError(
                "The images of one batch have several shapes. Run them one by one, or take the first "
                "rows * columns tokens of each: x[item, :n].unflatten(0, (rows, columns))."
            )
        if grid is None:
            raise CaptureError(
                "The grid of the image tokens is not known for this model. Use "
                "x.unflatten(-2, (rows, columns)) with rows and columns of your latents."
            )
        found = self.get(site, step=step, pass_=pass_)
        if run is not None and len({item.run for item in self.items}) > 1:
            rows = [i for i, item in enumerate(self.items) if item.run == run]
            found = found[rows] if step is not None else found[:, rows]
        return found[..., : prod(grid), :].unflatten(-2, grid)

    @takes(pass_=TEXT)
    def mask(self, pass_: str | None = None) -> Bool[Tensor, "items tokens"] | None:
        """Which text tokens are real, not padding; None if unknown."""
        pass_ = pass_ or next(iter(self.masks), "")
        mask = self.masks.get(pass_)
        return mask[:, self.tokens["text"]] if mask is not None and "text" in self.tokens else mask

    @takes(word=NAME, item=INDEX, prompt=TEXT)
    def words(self, word: str, item: int = 0, *, prompt: str = "") -> dict[str, list[int]]:
        """Numbers of the text tokens that make a word (or phrase) of an item's prompt.

        Args:
            word: As it is written in the prompt; case does not matter.
            item: Which image.
            prompt: Its text; needed only where a pipeline was called directly: its prompt is then unknown.

        Returns:
            For each text encoder that feeds the text stream, by tokenizer name, all tokens of all occurrences, as
                `ditlens.words` counts them.

        Raises:
            CaptureError: If the prompt or the tokenizers are unknown, the word is not in the prompt, or the run cut
                it off.
        """
        if self.spans is None:
            raise CaptureError(no_tokenizers())
        prompt = prompt or self.item(item).prompt
        if not prompt:
            raise CaptureError(
                "The prompt of this image is unknown, because the pipeline was called directly. Say it: "
                "prompt='...'."
            )
        return self._within(self.spans(prompt, word), word)

    def item(self, number: int) -> CachedItem:
        """One of the images.

        Raises:
            CaptureError: If there is none of this number.
        """
        if not 0 <= number < len(self.items):
            raise CaptureError(
                f"item is {number}, and this cache holds {counted(len(self.items), 'image')}, from 0."
            )
        return self.items[number]

    def _within(self, found: dict[str, list[int]], word: str) -> dict[str, list[int]]:
        """Those of the tokens that were captured, where the number of text tokens is known."""
        whole = keeps_tokens(self.reduced) and "text" not in self.tokens
        counts = {
            t.shape[1] for k, t in self.tensors.items() if whole and ".text." in k.site and _has_tokens(k, t)
        }
        if len(counts) != 1:
            return found
        count = counts.pop()
        there = {name: [i for i in places if -count <= i < count] for name, places in found.items()}
        if not any(there.values()):
            raise CaptureError(
                f"The word {word!r} was cut off: this run read {count} text tokens. Shorten the prompt, or let the "
                "pipeline read more, where it can: max_sequence_length=..."
            )
        return there


def _stack(tensors: list[Float[Tensor, " ..."]], what: str) -> Float[Tensor, "tensors ..."]:
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) > 1:
        raise CaptureError(
            f"{what}: shapes differ ({', '.join(map(str, sorted(shapes)))}). Select a stream, or give one step."
        )
    return torch.stack(tensors)


def smaller_settings(tensors: Mapping[CacheKey, Tensor], *, reduced: bool = False) -> dict[str, float]:
    """Settings of a capture that would take less, and how much less.

    Args:
        tensors: What is captured now, or tensors of the same shapes.
        reduced: Whether it is reduced over tokens already.

    Returns:
        Setting to type -> share of the present size in (0, 1); every 4th step counts as a quarter.
    """
    total = sum(t.nbytes for t in tensors.values()) or 1
    found: dict[str, float] = {}
    if not reduced:
        with_tokens = {key: t for key, t in tensors.items() if _has_tokens(key, t)}
        rest = sum(t.nbytes for key, t in tensors.items() if key not in with_tokens)
        sketch = sum(t.nbytes * min(1, 64 / t.shape[2]) for t in with_tokens.values())
        mean = sum(t.nbytes / t.shape[1] for t in with_tokens.values())
        found |= {"reduce='sketch:64'": (sketch + rest) / total, "reduce='mean'": (mean + rest) / total}
    half = sum(t.numel() * min(t.dtype.itemsize, 2) for t in tensors.values())
    found["dtype=torch.bfloat16"] = half / total
    found["steps=slice(None, None, 4)"] = 0.25
    sites: Counter[str] = Counter()
    for key, t in tensors.items():
        sites[key.site] += t.nbytes
    last = next((site for site in reversed(sites) if site.endswith(".out")), next(reversed(sites), ""))
    if len(sites) > 1:
        found[f"sites={last!r}"] = sites[last] / total
    return {setting: share for setting, share in found.items() if share < 1}


def _has_tokens(key: CacheKey, tensor: Tensor) -> bool:
    return tensor.ndim == 3 and ".attn.to_" not in key.site
