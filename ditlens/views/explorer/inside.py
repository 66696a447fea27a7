"""One picture from inside: the model draws it again, and what it computes is kept, looked at, and changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ditlens import images
from ditlens.analysis.cells import Cell, Run, Sampler, places_of
from ditlens.analysis.measures import Pair, facts_of, measure_of
from ditlens.analysis.patcher import Donor
from ditlens.analysis.projection import View
from ditlens.analysis.prompts import ends
from ditlens.errors import CaptureError, SettingError
from ditlens.lens.cache import LatentCache
from ditlens.lens.captures import capture
from ditlens.lens.site import STREAMS, Site
from ditlens.lens.spans import Words
from ditlens.lens.study.store import Study
from ditlens.models.embedding import TextEmbedding
from ditlens.models.model import Model
from ditlens.views.explorer.material import Material
from ditlens.worlds.world import Continuous

MAPS = "*.*.{text,image}.attn.to_{text,image}"
Word = tuple[str, list[int]]


class Gaze(NamedTuple):
    """Where attention goes to, or comes from.

    Attributes:
        patches: Of each image patch its share.
        words: Of each word its share.
        told: What is to be said of it.
    """

    patches: list[float]
    words: list[float]
    told: str


@dataclass(frozen=True, eq=False)
class Inside:
    """What a model computed while it drew a picture.

    Attributes:
        number: Number of the picture in its study or cache.
        cache: Hidden states and attention maps.
        row: Which image of the cache it is.
        words: The words of its prompt, with their tokens.
        grid: Rows and columns of image patches.
        picture: The picture as it was drawn now; None where it was not.
        seconds: How long that took.
    """

    number: int
    cache: LatentCache
    row: int
    words: list[Word]
    grid: tuple[int, ...]
    picture: Image.Image | None = None
    seconds: float = 0.0

    def _map(self, block: Site, of: str, to: str, step: int) -> Tensor | None:
        """Attention of all tokens of a stream to those of another, (queries, keys)."""
        name = f"{block.kind}.{block.block}.{of}.attn.to_{to}"
        if name not in self.cache.sites or step not in self.cache.steps:
            return None
        return self.cache.get(name, step=step, pass_=self._pass)[self.row].float().cpu()

    @property
    def _pass(self) -> str:
        return "cond" if "cond" in self.cache.passes else self.cache.passes[0]

    def gaze(self, block: Site, step: int, focus: tuple[str, int], way: str) -> Gaze:
        """Where a patch or a word looks, or what looks at it, in one block at one step; the mean over heads.

        Args:
            block: A site of the block.
            step: The step.
            focus: ("patch", number) or ("word", number).
            way: "to": where it looks; "from": what looks at it.

        Raises:
            CaptureError: If no attention was captured there.
        """
        kind, number = focus
        rows = [number] if kind == "patch" else self.words[number][1]
        own = "image" if kind == "patch" else "text"
        found = {}
        for other in STREAMS:
            seen = self._map(block, own, other, step) if way == "to" else self._map(block, other, own, step)
            if seen is not None:
                found[other] = seen[rows].mean(0) if way == "to" else seen[:, rows].sum(1)
        if not found:
            raise CaptureError(
                f"No attention is known in {block.kind} block {block.block} at step {step}: capture "
                "'*.*.{text,image}.attn.to_{text,image}', too."
            )
        patches = found["image"].tolist() if "image" in found else []
        text, words = found.get("text"), []
        if text is not None:
            reduce = torch.sum if way == "to" else torch.mean
            words = [float(reduce(text[tokens])) if tokens else 0.0 for _, tokens in self.words]
        return Gaze(patches, words, self._told(focus, way, patches, words))

    def _told(self, focus: tuple[str, int], way: str, patches: list[float], words: list[float]) -> str:
        kind, number = focus
        who = f"patch {number}" if kind == "patch" else f"“{self.words[number][0]}”"
        if way == "from":
            return f"How much of its attention every patch and every word gives to {who}"
        rest = max(0.0, 1 - sum(patches) - sum(words))
        return (
            f"{who} looks: {100 * sum(patches):.0f} % at patches, {100 * sum(words):.0f} % at words, "
            f"{100 * rest:.0f} % at other text tokens (beginning, end, punctuation)"
        )

    def path(self, view: View, site: str, tokens: Sequence[int] | None) -> list[list[float]]:
        """A patch, or the mean over some, at all steps in the plane of a view: (steps, 2).

        Args:
            view: A fitted PCA.
            site: The site.
            tokens: Which tokens; None for a site without any.
        """
        if site not in self.cache.sites:
            return []
        values = self.cache.get(site, pass_=self._pass)[:, self.row].float()
        if values.ndim == 3:
            values = values[:, list(tokens)].mean(1) if tokens else values.mean(1)
        found: list[list[float]] = view.project(values, site).tolist()
        return found


class Patched(NamedTuple):
    """A picture under a patch: what the oracle reads in it, and the share of the contrast that went along."""

    picture: Image.Image
    read: Any
    effect: float


@dataclass(frozen=True, eq=False)
class Contrast:
    """A picture's prompt, and one that asks for another value of an attribute, both drawn from the same noise.

    Attributes:
        pair: Its own prompt is the corrupt one, the other the clean one: states of the clean run are put into it.
        run: Its own run.
        donor: States of the other run, one row.
        own: States and attention of its own run.
        pictures: Its own picture and the other one.
        read: What the oracle reads in both.
        made: What patches made of it, by stream, block and steps.
    """

    pair: Pair
    run: Run
    donor: LatentCache
    own: LatentCache
    pictures: tuple[Image.Image, Image.Image]
    read: tuple[Any, Any]
    made: dict[Any, Patched] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Lab:
    """A model, and the pictures that it draws again.

    Attributes:
        model: The model.
        material: The pictures.
    """

    model: Model
    material: Material
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def settings(self) -> tuple[int, float]:
        """Sampling steps and guidance with which the pictures were drawn."""
        known = self.material.source.manifest.settings if isinstance(self.material.source, Study) else {}
        defaults = self.model.defaults
        return known.get("sampling_steps") or defaults["steps"], known.get("guidance", defaults["guidance"])

    @cached_property
    def blocks(self) -> list[tuple[str, Site]]:
        """Every block with image tokens: its label, and a site of it."""
        places = places_of(self.model, ["image"], ["in"], None, 1)
        return [(place.label, Site.parse(place.sites[0])) for place in places]

    def _item(self, number: int) -> tuple[str, int]:
        """Prompt and seed of a picture.

        Raises:
            SettingError: If they are not known.
        """
        source = self.material.source
        if not isinstance(source, Study):
            raise SettingError(
                "A cache does not know the seeds of its images, so they cannot be drawn again. Capture a study "
                "(dl.open_study, ditlens capture) to look inside every picture and to change it."
            )
        item = source.items[number]
        return source.prompt(item), item[1]

    def open(self, number: int) -> Inside:
        """Draw a picture again, and keep its attention and the hidden states that its study has.

        Of a cache, which has no seeds, what it holds itself.
        """
        source = self.material.source
        if isinstance(source, LatentCache):
            return opened(source, number)
        prompt, seed = self._item(number)
        begun = time.monotonic()
        steps, guidance = self.settings
        sites = [*self.material.sites, MAPS]
        with capture(
            self.model, sites, passes=source.passes, reduce=source.manifest.settings.get("reduce"),
        ) as cache:  # fmt: skip
            run = Sampler(self.model, [seed], steps, guidance).run([prompt])
        return Inside(
            number, cache, 0, words_of(cache, prompt), grid_of(cache), images.to_image(run.images),
            time.monotonic() - begun,
        )  # fmt: skip

    def contrast(self, number: int, attribute: str) -> Contrast:
        """The picture, and the one whose prompt asks for the far end of an attribute.

        Raises:
            SettingError: If the model's world does not know the attribute, or no prompt asks for its opposite.
        """
        if (number, attribute) in self._kept:
            return self._kept[number, attribute]  # type: ignore[no-any-return]
        prompt, seed = self._item(number)
        pair = Pair(*self._opposite(number, prompt, attribute), seed)
        sampler = Sampler(self.model, [seed, seed], *self.settings)
        with capture(self.model, ["*.*.{text,image}.in", "*.*.image.attn.to_text"], passes="cond") as cache:
            run = sampler.run([pair.corrupt, pair.clean])
        own, other = (
            replace(cache, tensors={k: t[r : r + 1] for k, t in cache.tensors.items()}) for r in (0, 1)
        )
        first = Run(
            TextEmbedding.cat([run.text[0]]), [latents[:1] for latents in run.latents], run.images[:1]
        )
        read = facts_of(self.model.world, run.images)
        pictures = images.to_image(run.images[:1]), images.to_image(run.images[1:])
        self._kept.clear()  # one at a time: states of a large model are large
        self._kept[number, attribute] = Contrast(pair, first, other, own, pictures, (read[0], read[1]))
        return self._kept[number, attribute]  # type: ignore[no-any-return]

    def _opposite(self, number: int, prompt: str, attribute: str) -> tuple[str, str]:
        """The prompt for the far end of an attribute, and the picture's own, which names the attribute too."""
        world = self.model.world
        if world is None or attribute not in world.attributes:
            raise SettingError(
                "A picture is changed in an attribute that the model's world knows, not in "
                f"{attribute or 'nothing'!r}. Choose one as the colour."
            )
        picture = self.material.picture(number)
        known = world.measure(images.to_tensor(self.model_size(picture)))[0] if picture is not None else {}
        spec, value = world.attributes[attribute], known.get(attribute)
        low, high = ends(spec)
        level = low if value is None else spec.level_of(value)
        is_high = 2 * level > low + high if isinstance(spec, Continuous) else level != low
        for far in (
            (low, high) if is_high else (high, low)
        ):  # the second where the prompt asks for the first already
            own, other = world.reword(prompt, world.phrase(attribute, far), known)
            if own != other:
                return other, own
        raise SettingError(
            f"No other prompt asks for another {attribute} of this picture. Choose another one."
        )

    def model_size(self, picture: Image.Image) -> Image.Image:
        """A picture as the model draws it."""
        return images.to_image(self.model.fit(picture))

    def patched(
        self, number: int, attribute: str, stream: str, cells: Sequence[tuple[int, tuple[int, int]]]
    ) -> list[Patched]:
        """Draw a picture with states of its contrast put in, as `ditlens.patch` does it.

        Args:
            number: The picture.
            attribute: What the contrast differs in.
            stream: "text" or "image".
            cells: Blocks, each with the first step of the patch and the step after its last. All are drawn
                together, but those that were drawn before.
        """
        found = self.contrast(number, attribute)
        places = {block: places_of(self.model, [stream], ["in"], [block], 1)[0] for block, _ in cells}
        new = [each for each in dict.fromkeys(cells) if (stream, *each) not in found.made]
        changes = [
            Cell(dict.fromkeys(places[block].sites, Donor(found.donor)), *steps) for block, steps in new
        ]
        sampler = Sampler(self.model, [found.pair.seed], *self.settings)
        measure = measure_of(self.model, attribute, [found.pair], [found.read[1]])
        own, other = (measure.values(found.run.images, [facts], [0])[0] for facts in found.read)
        for rows, pixels in sampler.run_cells(found.run, changes):
            facts = facts_of(self.model.world, pixels)
            values = measure.values(pixels, facts, [0] * len(rows))
            for k, (cell, _) in enumerate(rows):
                effect = (values[k] - own) / (other - own) if measure.differs(other, own) else float("nan")
                picture = images.to_image(pixels[k : k + 1])
                found.made[(stream, *new[cell])] = Patched(picture, facts[k], effect)
        return [found.made[(stream, *each)] for each in cells]

    def looking(
        self, number: int, attribute: str, patch_: int | None, steps: Sequence[int]
    ) -> tuple[np.ndarray, str]:
        """Share of attention that goes to the words of an attribute, (blocks, steps), and which words they are.

        Args:
            number: The picture.
            attribute: The attribute.
            patch_: Of which patch; None: the mean over all.
            steps: The steps.
        """
        found = self.contrast(number, attribute)
        rows = Pair(found.pair.corrupt, found.pair.clean, 0).clean_rows(self.model)
        table = []
        for _, block in self.blocks:
            name = f"{block.kind}.{block.block}.image.attn.to_text"
            seen = [
                found.own.get(name, step=step, pass_="cond")[0].float()[:, rows].sum(-1) for step in steps
            ]
            table.append([float(each.mean() if patch_ is None else each[patch_]) for each in seen])
        inside = [word for word, tokens in words_of(found.own, found.pair.corrupt) if set(tokens) & set(rows)]
        return np.asarray(table), " ".join(inside)


def opened(cache: LatentCache, number: int) -> Inside:
    """An image of a cache, with what the cache holds of it."""
    item = cache.items[number]
    return Inside(number, cache, number, words_of(cache, item.prompt), cache.grids.get(item.run) or ())


def words_of(cache: LatentCache, prompt: str) -> list[Word]:
    """The words of a prompt with their tokens; none where a cache does not know them."""
    try:
        return cache.spans.each(prompt) if isinstance(cache.spans, Words) else []
    except (CaptureError, KeyError):
        return []


def grid_of(cache: LatentCache) -> tuple[int, ...]:
    """Rows and columns of image patches."""
    return next(iter(cache.grids.values()), None) or ()
