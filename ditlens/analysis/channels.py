"""What the attention carries for the words of one attribute, in a batch of prompts.

The symbols are those of `ditlens.analysis.leakage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from ditlens import flow
from ditlens.lens.captures import capture
from ditlens.lens.spans import words
from ditlens.models.model import Model

ROWS = 32
"""Prompts that are sampled at once; a multiple of 4."""
EMBEDDING = "embedding"
"""Where no block has run yet: the rows of the text embedding at B's tokens."""
CELLS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Levels of A and B in the four prompts of a carrier."""


class Contrast(NamedTuple):
    """An attribute at two levels.

    Attributes:
        name: Its name.
        phrases: The words for both levels.
    """

    name: str
    phrases: tuple[str, str]


Place = tuple[str, str, int]
"""Stream, block and step."""


@dataclass(frozen=True)
class Run:
    """Settings under which prompts are sampled; called, it gives their channels."""

    model: Model
    streams: tuple[str, ...]
    steps: list[int]
    sampling_steps: int
    guidance: float
    pooled: bool

    def __call__(
        self,
        templates: Sequence[str],
        seeds: Sequence[int],
        one: Contrast,
        other: Contrast,
        told: Callable[[float], object],
    ) -> dict[str, dict[Place, np.ndarray]]:
        """The channels of both attributes by name, each (4 * carriers, features) at every place.

        Args:
            templates: Carrier sentences, with "{a}" for the one attribute and "{b}" for the other.
            seeds: A seed for the noise of each.
            one: An attribute.
            other: The other one.
            told: Called with the share of the prompts that is done.
        """
        prompts, tokens = written(self.model, templates, one, other)
        found: dict[str, dict[Place, list[np.ndarray]]] = {name: {} for name in tokens}
        for first in range(0, len(prompts), ROWS):
            part = slice(first, first + ROWS)
            noise = [seeds[k // 4] for k in range(*part.indices(len(prompts)))]
            words_of = {name: each[part] for name, each in tokens.items()}
            for name, place, values in self._collect(prompts[part], noise, words_of):
                found[name].setdefault(place, []).append(values)
            told(min(1, part.stop / len(prompts)))
        return {
            name: {place: np.concatenate(parts) for place, parts in each.items()}
            for name, each in found.items()
        }

    def _collect(
        self, prompts: Sequence[str], seeds: Sequence[int], tokens: Mapping[str, Sequence[Sequence[int]]]
    ) -> Iterator[tuple[str, Place, np.ndarray]]:
        """Channels of one batch: the attribute, the place, and (prompts, features)."""
        model, text = self.model, self.model.encode_text(prompts)
        if not self.pooled:
            shared = rearrange(text.pooled, "(carriers cells) width -> carriers cells width", cells=4).mean(1)
            text = replace(text, pooled=shared.repeat_interleave(4, 0))
        chosen = {name: token_mask(each, text.tokens.shape[1]) for name, each in tokens.items()}
        for name, mask in chosen.items():
            yield name, ("text", EMBEDDING, -1), flat(mean_of(text.tokens, mask))
        points = {"text": ["*.*.text.attn.out"], "image": ["*.*.image.attn.to_text", "*.*.text.v"]}
        wanted = [site for stream in self.streams for site in points[stream]]
        with capture(model, wanted, steps=self.steps, heads="all", limit="4 GB") as cache:
            states = flow.iter_sample(
                model, model.noise(seeds), model.sigmas(self.sampling_steps), text, guidance=self.guidance,
                null_text=model.encode_text("").named("uncond"),
            )  # fmt: skip
            for state in states:
                if state.step == self.steps[-1]:
                    break
        for site in cache.sites:
            block, stream, point = _parts(site)
            if point == "v":
                continue
            for step in self.steps:
                values = cache[site, step].float()
                for name, mask in chosen.items():
                    if stream == "image":
                        taken = from_keys(values, cache[f"{block}.text.v", step].float(), mask)
                    else:
                        taken = mean_of(values, mask)
                    yield name, (stream, block, step), flat(taken)


def _parts(site: str) -> tuple[str, str, str]:
    kind, block, stream, point = site.split(".", 3)
    return f"{kind}.{block}", stream, point


def written(
    model: Model, templates: Sequence[str], one: Contrast, other: Contrast
) -> tuple[list[str], dict[str, list[list[int]]]]:
    """The four prompts of every carrier, in the order of `CELLS`, and the text tokens of both phrases in each."""
    prompts: list[str] = []
    tokens: dict[str, list[list[int]]] = {one.name: [], other.name: []}
    for template in templates:
        for i, j in CELLS:
            prompts.append(template.replace("{a}", one.phrases[i]).replace("{b}", other.phrases[j]))
            for name, phrase in ((one.name, one.phrases[i]), (other.name, other.phrases[j])):
                found = words(model, prompts[-1], phrase)
                tokens[name].append(sorted({token for each in found.values() for token in each}))
    return prompts, tokens


def token_mask(tokens: Sequence[Sequence[int]], count: int) -> Bool[Tensor, "prompts tokens"]:
    """Where the chosen tokens of each prompt are."""
    mask = torch.zeros(len(tokens), count, dtype=torch.bool)
    for row, each in enumerate(tokens):
        mask[row, list(each)] = True
    return mask


def mean_of(
    values: Float[Tensor, "prompts tokens width"], mask: Bool[Tensor, "prompts tokens"]
) -> Float[Tensor, "prompts width"]:
    """The mean over the chosen tokens."""
    weights = mask.to(values)
    return torch.einsum("ptw,pt->pw", values, weights) / weights.sum(1, keepdim=True)


def from_keys(
    weights: Float[Tensor, "prompts heads queries tokens"],
    values: Float[Tensor, "prompts tokens width"],
    mask: Bool[Tensor, "prompts tokens"],
) -> Float[Tensor, "prompts queries width"]:
    """The part of the attention's output, before its projection, that comes from the chosen keys.

    Args:
        weights: Rows of the softmax, towards the text tokens.
        values: Values of the text tokens, heads side by side.
        mask: Which keys.
    """
    split = rearrange(
        values, "prompts tokens (heads width) -> prompts heads tokens width", heads=weights.shape[1]
    )
    taken = (weights * mask.to(weights)[:, None, None]) @ split
    return rearrange(taken, "prompts heads queries width -> prompts queries (heads width)")


def flat(values: Tensor) -> np.ndarray:
    """One row of features for each prompt."""
    found: np.ndarray = values.flatten(1).cpu().numpy()
    return found
