"""Images regenerated from a noise level under one text or another, and how far they come out apart.

The symbols are those of `ditlens.analysis.sde`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch

from ditlens import flow
from ditlens.ems.sample import Method, iter_method
from ditlens.errors import SettingError
from ditlens.flow import Latents, Text, VelocityField
from ditlens.images import fit_mask
from ditlens.metrics.regions import ssim_map
from ditlens.models.embedding import TextEmbedding, check_aligned
from ditlens.models.model import Model
from ditlens.worlds.world import SuiteItem

ROWS = 16
"""Images that are sampled at once."""

SETTINGS = {"text": ("source", "target"), "image": ("moved", "source"), "joint": ("moved", "target")}
"""Which latents each setting noises, and which text samples them; the reconstruction is ("source", "source")."""

Distance: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
DISTANCES: dict[str, Distance] = {
    "squared": lambda a, b: (a - b).square().mean(1, keepdim=True),
    "ssim": lambda a, b: 1 - ssim_map(a, b).mean(1, keepdim=True),
}
"""Distances of two images by name, per pixel, (batch, 1, height, width)."""


@dataclass(frozen=True)
class Run:
    """Settings of `ditlens.sde`, which measure one batch of edits after the other."""

    model: Model
    sigmas: tuple[float, ...]
    settings: tuple[str, ...]
    move: Method
    start: str
    distance: str
    sampling_steps: int
    guidance: float
    seed: int

    def __call__(
        self,
        items: Sequence[SuiteItem],
        groups: Sequence[int],
        randoms: Sequence[str],
        keep: int,
        told: Callable[[], object],
    ) -> tuple[dict[tuple[str, str], np.ndarray], dict[str, torch.Tensor], np.ndarray]:
        """Measures by setting, (images, sigmas); the first `keep` images; the autoencoder's error, (images,).

        `told` is called after each noise level.
        """
        given = joined([self.model.prepare(item.image()) for item in items])
        scene = Scene(self.model, items, given, DISTANCES[self.distance])
        found: dict[tuple[str, str], list[np.ndarray]] = {}
        shown: dict[str, list[torch.Tensor]] = {}
        for images in self._images(items, given, [self.seed + group for group in groups], randoms):
            for setting in self.settings:
                random = images["random"] if SETTINGS[setting][0] == "source" else None
                for name, values in scene.measure(images["own"], images[setting], random).items():
                    found.setdefault((setting, name), []).append(values)
            for name in ("own", *self.settings):
                shown.setdefault(name, []).append(images[name][:keep])
            told()
        pictures = {"source": scene.x[:keep], **{name: torch.stack(parts) for name, parts in shown.items()}}
        loss = region(DISTANCES[self.distance](given.cpu(), scene.x))
        return {key: np.stack(parts, 1) for key, parts in found.items()}, pictures, loss

    def _images(
        self, items: Sequence[SuiteItem], given: torch.Tensor, seeds: Sequence[int], randoms: Sequence[str]
    ) -> Iterator[dict[str, torch.Tensor]]:
        """For every noise level, images by route: "own" (R0), "random" (Rn), and R1 of each setting."""
        model = self.model
        own, target = (
            model.encode_text([getattr(item, f"{which}_text") for item in items])
            for which in ("source", "target")
        )
        texts = {"source": own, "target": target, "random": away(own, target, model.encode_text(randoms))}
        null = model.encode_text("").named("uncond")
        clean = {"source": model.encode_image(given)}
        if any(SETTINGS[each][0] == "moved" for each in self.settings):
            states = iter_method(
                model, clean["source"], own, target, self.move, grid=model.sigmas, null_text=null, seeds=seeds
            )
            clean["moved"] = list(states)[-1].latents
        noise = model.noise(seeds, (given.shape[-2], given.shape[-1]))
        routes = {"own": ("source", "source"), "random": ("source", "random")}
        routes |= {each: SETTINGS[each] for each in self.settings}
        for sigma in self.sigmas:
            levels = tail(model.sigmas(self.sampling_steps), sigma)
            points = {name: renoise(model, z, noise, levels, own, self.start) for name, z in clean.items()}
            yield {
                route: model.decode(regenerate(model, points[z], levels, texts[text], null, self.guidance))
                for route, (z, text) in routes.items()
            }


def tail(grid: torch.Tensor, sigma: float) -> torch.Tensor:
    """A noise level, and the levels of a grid that lie below it.

    Example:
        >>> tail(dl.flow.sigmas_linear(4), 0.6)
        tensor([0.6000, 0.5000, 0.2500, 0.0000])
    """
    return torch.cat([torch.tensor([sigma], dtype=grid.dtype), grid[grid < sigma - 1e-3]])


def renoise(
    field: VelocityField,
    clean: Latents,
    noise: Latents,
    levels: torch.Tensor,
    own: Text,
    start: str = "noise",
) -> Latents:
    """Latents at the first of the noise levels: with noise, or along the flow under the image's own text."""
    if start == "noise":
        return flow.interpolate(clean, noise, float(levels[0]))
    return flow.invert(field, clean, levels, own)


def regenerate(
    field: VelocityField,
    latents: Latents,
    levels: torch.Tensor,
    text: Text,
    null_text: Text | None,
    guidance: float,
) -> Latents:
    """R(x; c): latents at the first of the noise levels, sampled to the end under a text."""
    return flow.sample(field, latents, levels, text, null_text=null_text, guidance=guidance)


def away(own: TextEmbedding, target: TextEmbedding, random: TextEmbedding) -> TextEmbedding:
    """The own text moved towards a random one, as far as the target is: in its tokens and in its pooled vector.

    Raises:
        SettingError: If a target has the same embedding as its own text, or a random text has.
    """
    for other in (target, random):
        check_aligned(own, other)
        if bool(own.equal(other).any()):
            raise SettingError(
                "Source and target have the same embedding: there is no direction between them."
            )
    tokens, pooled = (
        start + _as_long(wrong - start, right - start)
        for start, right, wrong in (
            (own.tokens, target.tokens, random.tokens), (own.pooled, target.pooled, random.pooled),
        )
    )  # fmt: skip
    return replace(own, tokens=tokens, pooled=pooled)


def _as_long(change: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A change of every item of a batch, as long as another one."""
    lengths = [each.flatten(1).norm(dim=1) for each in (change, other)]
    factor = lengths[1] / lengths[0].clamp_min(torch.finfo(change.dtype).tiny)
    return change * factor.reshape(-1, *[1] * (change.ndim - 1))


def region(distance: torch.Tensor, mask: torch.Tensor | None = None) -> np.ndarray:
    """The part of a distance per pixel that lies in a region, over the pixels of the whole image: (batch,).

    What lies inside a region and what lies outside thus add up to the distance.
    """
    return (distance if mask is None else distance * mask).flatten(1).mean(1).double().numpy()


def compare(
    x: torch.Tensor, y: torch.Tensor | None, mask: torch.Tensor | None, own: torch.Tensor, result: torch.Tensor,
    random: torch.Tensor | None, distance: Distance,
) -> dict[str, np.ndarray]:  # fmt: skip
    """All distances of one noise level, (batch,) each, by the names in the `parts` of `CURVES`.

    Args:
        x: The images, (batch, channels, height, width).
        y: As they should become; None if nobody knows.
        mask: Where they may change, (batch, 1, height, width), 0 or 1; None if nobody knows.
        own: R0.
        result: R1.
        random: Rn; None if there is none.
        distance: Of two images, per pixel.
    """
    unknown = np.full(len(x), np.nan)
    moved, other = distance(own, result), None if mask is None else 1 - mask
    return {
        "own": region(distance(x, own)),
        "keep": region(distance(x, result)),
        "inside": region(moved, mask),
        "outside": unknown if other is None else region(moved, other),
        "random": unknown if other is None or random is None else region(distance(own, random), other),
        "swap": unknown if y is None else region(distance(result, y)),
        "gap": unknown if y is None else region(distance(x, y)),
    }


class Scene:
    """What is known of some edits before anything is regenerated: x, y, the region, and what the world reads.

    Attributes:
        x: The images as the autoencoder gives them back, (batch, 3, height, width).
        y: The same of the images as they should become; None if nobody can draw them.
        mask: Where they may change, (batch, 1, height, width); None if nobody knows.
    """

    def __init__(
        self, model: Model, items: Sequence[SuiteItem], given: torch.Tensor, distance: Distance
    ) -> None:
        self.model, self.items, self.distance = model, items, distance
        self.x, self.y, self.mask = model.decode(model.encode_image(given)), None, None
        if all(item.draw is not None for item in items):
            drawn = joined([model.prepare(item.draw()) for item in items if item.draw is not None])
            self.y = model.decode(model.encode_image(drawn))
        if all(item.mask is not None for item in items):
            size = (given.shape[-1], given.shape[-2])
            self.mask = torch.cat(
                [fit_mask(item.mask, size, size) for item in items if item.mask is not None]
            )
        read = model.world is not None and all(item.wanted for item in items)
        self.before = model.world.measure(self.x) if model.world is not None and read else None

    def measure(
        self, own: torch.Tensor, result: torch.Tensor, random: torch.Tensor | None
    ) -> dict[str, np.ndarray]:
        """Distances of one noise level, and what the world reads: (batch,) each."""
        found = compare(self.x, self.y, self.mask, own, result, random, self.distance)
        world = self.model.world
        if self.before is None or world is None:
            return found
        rows = list(
            zip(self.before, world.measure(result), (item.wanted for item in self.items), strict=True)
        )
        return found | {
            "effect": np.array(
                [
                    np.nan
                    if row[2].keys() & (world.hidden(row[0]) | world.hidden(row[1]))
                    else world.progress(*row)
                    for row in rows
                ]
            ),
            "drift": np.array([world.drift(before, after, wanted) for before, after, wanted in rows]),
        }


def joined(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Images of one size as a batch.

    Raises:
        SettingError: If their sizes differ.
    """
    sizes = {tuple(image.shape[-2:]) for image in images}
    if len(sizes) > 1:
        raise SettingError(
            f"The images have the sizes {sorted(sizes)} (height, width) once they are fitted to the model: cut "
            "them to one shape."
        )
    return torch.cat(list(images))
