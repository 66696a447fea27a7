"""What a report is about: a model, what several measurements of it share, and words for numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ditlens.analysis.sde import SDE, sde
from ditlens.lens.study.run import plan_study, run_study
from ditlens.lens.study.store import Study
from ditlens.metrics.statistics import Estimate
from ditlens.models.model import Model
from ditlens.tables import spoken
from ditlens.worlds.world import Values, World

PHRASES = (("a smiling", "a frowning"), ("a young", "an old"))
"""Contrasts for models without a world, before the noun."""
CLOTHES = ("in a red coat", "in a blue coat")
"""A contrast for models without a world, after the noun."""
NOUNS = ("man", "woman", "teacher", "dancer", "farmer", "doctor", "sailor", "painter")
"""Carriers for models without a world."""


@dataclass
class Subject:
    """The model that a report is about, and what several measurements share.

    Attributes:
        model: The model.
        twin: A model whose bias is known, to see whether it is found; None if there is none.
        tied: Attributes that are tied in the twin, each with the two values between which they move.
        folder: Where studies are kept.
        scale: Share of the usual number of images.
    """

    model: Model
    twin: Model | None
    tied: Mapping[str, tuple[Any, Any]]
    folder: Path
    scale: float = 1.0

    @property
    def world(self) -> World:
        """The model's world."""
        assert self.model.world is not None
        return self.model.world

    def count(self, usual: int) -> int:
        """A number of images or pairs, scaled; at least 4."""
        return max(4, round(usual * self.scale))

    def spread(self, count: int) -> list[str]:
        """Attributes from all over the list."""
        names = list(self.world.attributes)
        return [names[round(k * (len(names) - 1) / (count - 1))] for k in range(count)]

    @cached_property
    def reconstructions(self) -> list[SDE]:
        """What texts, moved latents and both do to images, for some attributes."""
        settings = ("text", "image", "joint")
        return [
            sde(
                self.model,
                name,
                count=self.count(8),
                settings=settings,
                sigmas=(0.4, 0.6, 0.8, 1.0),
                seed=10 + k,
            )
            for k, name in enumerate(self.spread(6))
        ]

    @cached_property
    def study(self) -> Study:
        """Image states of random images in the middle of the model, whole."""
        people = self.world.sample(self.count(400), 4100)
        prompts = [self.world.caption(self._named(person, k), k) for k, person in enumerate(people)]
        blocks = self.model.transformer.config.num_layers
        plan = plan_study(
            self.model, prompts, [0], f"joint.{blocks // 2}.image.out", reduce=None, sampling_steps=8
        )
        return run_study(self.model, plan, self.folder / "study")

    def _named(self, person: Values, seed: int) -> dict[str, int]:
        """Levels of half of what can be seen in a random image."""
        seen = [name for name in person if name not in self.world.hidden(person)]
        chosen = np.random.default_rng(seed).choice(seen, len(seen) // 2, replace=False)
        return {
            str(name): self.world.attributes[name].level_of(person[name]) for name in seen if name in chosen
        }


# --- words ----------------------------------------------------------------------------------------------


def ends(found: Estimate) -> dict[str, float]:
    """A number and its interval, for a table."""
    return {name: float(found[name]) for name in ("value", "low", "high")}


def spoken_list(names: Sequence[str]) -> str:
    """Names in words, in a row."""
    return ", ".join(map(spoken, names))


def named(names: Sequence[str]) -> str:
    """The same in brackets; nothing, of none."""
    return f" ({spoken_list(names)})" if names else ""


def mean(values: Iterable[Estimate]) -> float:
    """The mean of several numbers."""
    return float(np.mean([each["value"] for each in values]))
