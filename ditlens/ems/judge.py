"""Judging without a person: is an image one that the model knows, and did an edit do anything, or too much?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ditlens import images
from ditlens.arguments import takes
from ditlens.ems.extract import HIGHEST
from ditlens.models.model import MODEL, Model

UNSEEN = 0.012
"""Root mean square of a change, in units of the brightness range, below which people see none."""

BROKEN = 0.12
"""Mean change of attributes that were not asked to change, in units of range, above which it is another person."""

NOTICEABLE = 0.1
"""A continuous attribute that moved by less, in its own units, is not listed as changed."""

WORLD_DB = {"green": 17.5, "amber": 15.0}
"""Least PSNR between an image and the portrait that the renderer draws from its attributes.

Found with the shipped model: renders 25 to 40 dB, its own samples 18 to 24, renders that were flipped, shifted or
inverted 5 to 15, photographs and flat or smooth colours 5 to 10.
"""

RECONSTRUCTION_DB = {"green": 25.0, "amber": 19.0}
"""Least PSNR between an image and what the autoencoder keeps of it."""

Value = str | float


@dataclass(frozen=True)
class Check:
    """What to expect of an image before it is edited.

    Attributes:
        light: "green", "amber" or "red".
        sentence: What that means, and what to do.
        reconstruction_db: PSNR in dB between the image and its reconstruction: what every edit loses at least.
        world_db: PSNR in dB between the image and the world's own drawing of what the oracle reads in it; None
            if the model has no world.
    """

    light: str
    sentence: str
    reconstruction_db: float
    world_db: float | None

    def __str__(self) -> str:
        return f"{self.light}: {self.sentence}"


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; infinite if they are equal."""
    error = (first.float() - second.float()).square().mean()
    return float(-10 * error.log10()) if error > 0 else float("inf")


@takes(model=MODEL)
@torch.no_grad()
def check_image(model: Model, image: images.ImageLike) -> Check:
    """Say before editing whether an image is one that the model knows.

    Args:
        model: The model.
        image: The image.

    Returns:
        A `Check`; print it.

    Raises:
        ImageError: If the image cannot be read.

    Example:
        >>> print(dl.check_image(model, torch.zeros(1, 3, 128, 128)).light)
        red
    """
    pixels = model.prepare(image)
    return look(model, pixels, model.decode(model.encode_image(pixels)))


def look(model: Model, pixels: torch.Tensor, reconstruction: torch.Tensor) -> Check:
    """Judge an image (1, 3, height, width) beside what the autoencoder keeps of it, of the same shape."""
    kept = psnr(reconstruction, pixels)
    redrawn = None if model.world is None else model.world.redraw(pixels)
    drawn = None if redrawn is None else psnr(redrawn, pixels)
    light = worse(light_of(kept, RECONSTRUCTION_DB), "green" if drawn is None else light_of(drawn, WORLD_DB))
    return Check(light, _sentence(light, kept, drawn, model.name), kept, drawn)


def light_of(value: float, least: Mapping[str, float]) -> str:
    """Green, amber or red, by the least value for each."""
    return next((light for light, low in least.items() if value >= low), "red")


def worse(*lights: str) -> str:
    """The worst of several lights."""
    return max(lights, key=("green", "amber", "red").index)


def _sentence(light: str, kept: float, drawn: float | None, name: str) -> str:
    outside = drawn is not None and light_of(drawn, WORLD_DB) != "green"
    if light == "green":
        return f"the {name} model knows images like this one; its autoencoder keeps {kept:.0f} dB of it."
    if outside and light == "red":
        return (
            f"this image is outside what the {name} model knows: it will turn into a drawn portrait. "
            "Use an image from data/examples or from model.generate(...), or load a larger model."
        )
    if outside:
        return f"this image is at the edge of what the {name} model knows; expect details to be redrawn."
    return (
        f"the autoencoder keeps only {kept:.0f} dB of this image, so every edit loses details. Look at "
        "edit.reconstruction before judging an edit; a larger or cleaner image helps."
    )


def change(first: torch.Tensor, second: torch.Tensor) -> float:
    """Root mean square difference of two images in [0, 1]."""
    return float((first.float() - second.float()).square().mean().sqrt())


def warnings_of(
    moved: float,
    degree: float,
    drift: float | None,
    missed: Sequence[str],
    *,
    passed: Sequence[str] = (),
    hidden: Iterable[str] = (),
    seen: bool = False,
    same_texts: bool,
    exact_at_0: bool = True,
) -> list[str]:
    """What to say about an edit.

    Args:
        moved: Root mean square change of the image against its reconstruction.
        degree: Degree of the edit.
        drift: Mean change of what was not asked for, in units of range; None if it was not measured.
        missed: Attributes that were asked for and are not as asked.
        passed: Those of them that went beyond what was asked.
        hidden: Attributes that nobody can see in the result.
        seen: Whether something that was asked for moved noticeably, as thin lines do with few pixels.
        same_texts: Whether the two texts are the same.
        exact_at_0: Whether the method promises that degree 0 returns the reconstruction.

    Returns:
        Sentences, each with what to try next; none if all is well.
    """
    found: list[str] = []
    if (degree == 0 or same_texts) and not exact_at_0 and moved >= UNSEEN:
        why = "degree 0 asks for nothing" if degree == 0 else "both texts are the same"
        return [
            f"changed for nothing: {why}, and this method moves the image all the same (root mean square "
            f"{moved:.3f}); results at other degrees hold such a part too. Give source and target the same "
            "guidance, or leave method= out."
        ]
    if degree == 0:
        return found
    if same_texts:
        why = "both texts are the same, so the image is already as asked for"
        return [f"no visible change: {why}. For more of it say so, as in 'a bigger smile'."]
    if moved < UNSEEN and not seen:
        return [
            f"no visible change (root mean square {moved:.3f}): raise the degree above {degree:g}, or look at "
            "both texts: does the target really say what you want?"
        ]
    covered = [name for name in missed if name in set(hidden) and degree >= 1]
    short = [name for name in missed if name not in (*passed, *covered) and degree >= 1]
    passed = [name for name in passed if name not in covered]
    broke = drift is not None and drift > BROKEN
    if broke:  # where the wish was not reached either, a lower degree would take it further away
        lower = "" if short else f"Lower the degree below {degree:g}, try"
        found.append(
            f"identity broke: what was not asked for moved by {drift:.2f} of its range. {lower or 'Try'} another "
            "seed, or confine the edit with mask=."
        )
    if covered:
        found.append(
            f"cannot be seen: {listed(covered)}. Something in the result covers it, so no degree and no seed "
            "shows it. Ask for what covers it to go, or leave this wish out."
        )
    if short:
        further = "" if broke or degree >= HIGHEST else f"a degree of {min(degree + 0.25, HIGHEST):g}, or "
        found.append(f"not reached: {listed(short)}. Try {further}another seed.")
    if passed and 0 < degree <= 1:  # above 1, more than what was asked is what was asked
        lower = "" if short else f" Lower the degree below {degree:g}."
        found.append(f"more than asked: {listed(passed)}.{lower}")
    return found


def listed(names: Iterable[str]) -> str:
    """Names of attributes as words."""
    return ", ".join(name.replace("_", " ") for name in names)


def changed(before: Mapping[str, Value], after: Mapping[str, Value], targets: Sequence[str]) -> list[str]:
    """Names of the attributes to show: the targets first, then whatever else moved noticeably."""

    def moved(old: Value, new: Value) -> bool:
        if isinstance(old, str) or isinstance(new, str):
            return old != new
        return abs(new - old) >= NOTICEABLE

    asked = [name for name in targets if name in before]
    return asked + [name for name in before if name not in asked and moved(before[name], after[name])]


def shown(value: Value) -> str:
    """A measured value as a reader wants it: a name, or a number with two digits."""
    return value if isinstance(value, str) else f"{value:.2f}"
