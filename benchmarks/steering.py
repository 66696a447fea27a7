"""Measure steering: how far directions at a site and of texts move an attribute, and how much else (`steer_drift`).

Directions are made from images of some prompts and seeds, and steer others, whose prompts do not name the
attribute. Every image is steered towards the end of the attribute's range that it is farther from.
What was set here (method, site, steps, amount) was chosen on prompts of a third kind, by the smile alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import ditlens as dl
from benchmarks.report import Result, load_note
from ditlens import flow
from ditlens.analysis.prompts import ends, sentence
from ditlens.metrics.statistics import estimate
from ditlens.worlds.world import Continuous

IMAGES, ITEMS, STEPS = 144, 24, 8
"""Images from which directions are made, held-out ones that are steered, and sampling steps."""
SITE, METHOD, AMOUNT = "joint.3.image.out", "probe", 1.5
NAMES = ("smile", "mouth_open", "skin_tone", "beard", "hat", "brow_tilt")
"""Attributes that are steered; the first one is the key."""
MAKING, HELD_OUT = 11, 2301
"""Seeds; the settings were chosen on 77."""


@dataclass(frozen=True)
class Material:
    """Hidden states and readings of images from which directions are made."""

    cache: dl.LatentCache
    readings: list[dict[str, Any]]

    def direction(self, name: str, **how: Any) -> dl.Direction:
        """A direction of an attribute, at `SITE` unless another is named."""
        values = [reading[name] for reading in self.readings]
        return dl.direction(self.cache, name, values=values, **({"site": SITE, "method": METHOD} | how))


def material(model: dl.Model, count: int = IMAGES) -> Material:
    """Capture random images of random sentences at `SITE`."""
    rng, world = random.Random(MAKING), model.world
    assert world is not None
    prompts = [sentence(world, rng, others=9) for _ in range(count)]
    null = model.encode_text("").named("uncond")
    guidance = model.defaults["guidance"]
    pixels = []
    with dl.capture(model, SITE, limit="4 GB") as cache:
        for first in range(0, count, ITEMS):
            text = model.encode_text(prompts[first : first + ITEMS])
            noise = model.noise(range(first, first + len(text)))
            latents = flow.sample(model, noise, model.sigmas(STEPS), text, null_text=null, guidance=guidance)
            pixels.append(model.decode(latents))
    return Material(cache, world.measure(torch.cat(pixels)))


def held_out(model: dl.Model, name: str, seed: int = HELD_OUT) -> tuple[list[str], list[int]]:
    """Prompts that do not name an attribute, and seeds."""
    assert model.world is not None
    rng = random.Random(f"{name} {seed}")
    prompts = [sentence(model.world, rng, others=8, without=[name]) for _ in range(ITEMS)]
    return prompts, list(range(1000 * seed, 1000 * seed + ITEMS))


def towards_the_farther_end(result: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """How far the attribute moved to its farther end in each image, in units of range, and the drift.

    Of a categorical attribute, images that have its value from the start are left out.
    """
    spec, zero = result.world.attributes[name], result.amounts.index(0)
    low, high = result.amounts.index(min(result.amounts)), result.amounts.index(max(result.amounts))
    moved, drift = np.array(result.moved(name)), np.array(result.drift)
    items = np.arange(len(moved))
    before = np.array(result.values(name))[:, zero]
    if not isinstance(spec, Continuous):
        return moved[before == 0, high], drift[before == 0, high]
    up = before < (spec.low + spec.high) / 2
    which = np.where(up, high, low)
    return moved[items, which] * np.where(up, 1, -1), drift[items, which]


def both(moved: np.ndarray, drift: np.ndarray) -> dict[str, Any]:
    """Both numbers with their intervals."""
    return {"moved": estimate(moved), "drift": estimate(drift)}


def steered(
    model: dl.Model, direction: dl.Direction, name: str, amount: float = AMOUNT, **how: Any
) -> dict[str, Any]:
    """What a direction does to held-out images."""
    prompts, seeds = held_out(model, name)
    result = dl.steer(
        model, direction, [-amount, 0, amount], prompts=prompts, seeds=seeds, sampling_steps=STEPS, **how
    )
    return both(*towards_the_farther_end(result, name))


def steer_drift(names: Sequence[str] = NAMES, keep: Callable[[Result], object] = dict) -> Result:
    """Drift of the first attribute's best direction; as parts what other directions and other attributes do.

    Args:
        names: Attributes.
        keep: Called with the result after every part.
    """
    model = dl.load("portraits")
    known, first, parts = material(model), names[0], {}
    best, text = known.direction(first), dl.direction(model, first)
    runs = {first: (best, first, AMOUNT)}
    runs |= {name: (known.direction(name, value=usual(model, name)), name, AMOUNT) for name in names[1:]}
    runs |= {f"{first}, texts, degree {degree:g}": (text, first, degree) for degree in (1.0, 2.0)}
    runs |= {f"{first}, all patches": (known.direction(first, patches=None), first, AMOUNT)}
    runs |= {f"{first}, random direction": (best.random(), first, AMOUNT)}
    for label, (direction, name, amount) in runs.items():
        parts[label] = steered(model, direction, name, amount)
        moved, drift = parts[label]["moved"]["value"], parts[label]["drift"]["value"]
        print(f"{label}: moved {moved:.3f}, drift {drift:.4f}", flush=True)
        keep(result(parts, first))
    return result(parts, first)


def result(parts: Mapping[str, dict[str, Any]], first: str) -> Result:
    """The drift of an attribute, how far it moved, and both of all parts."""
    moved, drift = parts[first]["moved"], parts[first]["drift"]
    note = (
        f"{first} moves {moved['value']:.2f} of its range ({moved['low']:.2f} to {moved['high']:.2f}) at amount "
        f"{AMOUNT:g} of the direction '{METHOD}' at {SITE}; {load_note()}"
    )
    flat = {f"{label}, {what}": each[what]["value"] for label, each in parts.items() for what in each}
    fields = {field: drift[field] for field in ("value", "low", "high", "n")}
    return {**fields, "unit": "share of range", "note": note, "parts": flat}


def usual(model: dl.Model, name: str) -> str:
    """The value to steer to: the first beside the neutral one; empty for a continuous attribute."""
    assert model.world is not None
    spec = model.world.attributes[name]
    return "" if isinstance(spec, Continuous) else spec.value_of(ends(spec)[1])
