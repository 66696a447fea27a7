"""Are directions of different attributes orthogonal, and would that say anything?

The paper's claim (EMS, arXiv 2408.13335, as public summaries put it) is that editing directions of different
meanings form an orthogonal set. In D dimensions any two random directions are: their cosine has mean 0 and variance
1 / D. So a Gram matrix is shown beside five nulls, and it is the ratio *within an attribute* to *between
attributes* that counts.

Every direction is taken less the mean of all. Over the few that are asked for that would measure itself: the mean
off, k equal lengths at right angles have the cosine -1 / (k - 1). So the mean is that of the directions of all
attributes, whichever are asked for.

1. pairs of texts, or of images, at random;
2. the same places, with the attributes shuffled;
3. Gaussian directions with the covariance S of all texts, or of all hidden states: they fill the effective
   dimension D_eff = (tr S)^2 / tr(S^2) in place of D;
4. the same attribute in other sentences, or in other images: this one should be high;
5. directions orthogonal to one that have the same effect (`same_effect`): where they exist, a diagonal Gram matrix
   proves nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from ditlens import flow
from ditlens.analysis import hidden_directions as hidden
from ditlens.analysis.cosines import DRAWS, Gram, analyse
from ditlens.analysis.cosines import rms as rms
from ditlens.analysis.directions import SOURCE, site_of
from ditlens.analysis.prompts import level_names, sentence, world_of
from ditlens.analysis.same_effect import Effect
from ditlens.analysis.text_directions import world_pairs
from ditlens.arguments import COUNT, SEED, TEXTS, instance, listed, one_of, several, takes
from ditlens.errors import SettingError
from ditlens.lens.cache import SITE, LatentCache
from ditlens.lens.study.store import Study
from ditlens.models.model import Model
from ditlens.tables import progress_bar
from ditlens.worlds.world import World

if TYPE_CHECKING:
    pass

ROUTES = ("tokens", "pooled")
FEWEST = 4
"""Images in which an attribute must be known to make one direction of a site."""


@takes(
    source=SOURCE, attributes=TEXTS, site=SITE, route=one_of(*ROUTES), samples=COUNT, seed=SEED,
    effects=several(instance("what same_effect(...) gave", Effect)),
)  # fmt: skip
def gram(
    source: Model | Study | LatentCache,
    attributes: str | Sequence[str] | None = None,
    *,
    site: str | None = None,
    route: str = "tokens",
    samples: int = 4,
    seed: int = 0,
    effects: Effect | Sequence[Effect] = (),
) -> Gram:
    """Compare directions of many attributes with one another, and with what chance would give.

    From a model: directions of texts, c1 - c0 of pairs that its world writes, each in another sentence. From a
    study or a cache: differences of means at a site, each over other images. From every direction the mean of all
    attributes' directions is taken, those that are not asked for too: else few attributes would push one another
    apart.

    Args:
        source: A model, or a study or cache.
        attributes: Which; by default all of the model's world, or all that were measured in the study's images and
            are known in enough of them. Of a categorical one: its first value beside the neutral one, or in a study
            its most frequent value.
        site: Site of the study.
        route: Of texts: the token matrix, all rows in one vector as the model reads them (padding too), or the
            pooled vector.
        samples: Directions of each attribute, from different sentences or images, at least 2.
        seed: Of the sentences and of the nulls.
        effects: Null 5, from `same_effect`.

    Returns:
        The matrix with its nulls; print it for the verdict.

    Raises:
        ModelError: If the model has no world.
        SettingError: If there are fewer than 2 attributes or samples, or a study has too few images, or too few in
            which an attribute that was asked for is known.

    Example:
        >>> found = dl.gram(model, ["smile", "age", "beard"], samples=2)
        >>> found.matrix.shape, list(found.nulls)
        ((3, 3), ['random pairs of texts', 'same places, shuffled', 'Gaussian, same covariance'])
        >>> found.dimension  # 64 tokens x 256
        16384
    """
    if samples < 2:
        raise SettingError(f"samples is {samples}; at least 2 directions of each attribute are compared.")
    notes: tuple[str, ...] = ()
    names = None if attributes is None else listed(attributes)
    if isinstance(source, Model):
        made = _of_texts(source, names, route, samples, seed)
        space = "token matrices of texts" if route == "tokens" else "pooled vectors of texts"
    else:
        made, notes = _of_site(source, names, site, samples, seed)
        space = site_of(source, site)
    chosen, vectors, population, nulls = made
    asked = torch.stack([vectors[name] for name in chosen])
    found = analyse(asked, population, nulls, chosen, space, torch.stack(list(vectors.values())))
    return replace(found, effects=tuple(listed(effects)), notes=notes)


Made: TypeAlias = tuple[list[str], dict[str, Tensor], Tensor, dict[str, Tensor]]
"""The attributes asked for, directions (samples, numbers) of all there are, the population, and nulls 1 and 2."""


def _of_texts(model: Model, names: Sequence[str] | None, route: str, samples: int, seed: int) -> Made:
    """Attributes, all directions from pairs of sentences, random sentences, and the nulls 1 and 2."""
    world = world_of(model, "a study: gram(study, site=...)")
    chosen = _enough(list(names or world.attributes))

    def encode(prompts: Sequence[str]) -> Tensor:
        text = model.encode_text(prompts)
        return (text.tokens.flatten(1) if route == "tokens" else text.pooled).float().cpu()

    def differences(pairs: Sequence[tuple[str, str]]) -> Tensor:
        return encode([after for _, after in pairs]) - encode([before for before, _ in pairs])

    every = list(dict.fromkeys([*chosen, *world.attributes]))
    vectors = {}
    with progress_bar("gram, attributes") as show:
        for name in every:
            vectors[name] = differences(world_pairs(model, name, samples, seed))
            show(len(vectors), len(every))
    rng = random.Random(seed)
    population = encode([sentence(world, rng) for _ in range(DRAWS)])
    nulls = {
        "random pairs of texts": population[::2] - population[1::2],
        "same places, shuffled": differences(_phrase_pairs(world, every, rng, DRAWS // 2)),
    }
    return chosen, vectors, population, nulls


def _phrase_pairs(
    world: World, names: Sequence[str], rng: random.Random, count: int
) -> list[tuple[str, str]]:
    """Pairs of sentences that name one thing each, at the same place, but of different attributes."""
    found = []
    for _ in range(count):
        two = rng.sample(list(names), 2)
        levels = [rng.randrange(len(level_names(world.attributes[name]))) for name in two]
        pair = [world.caption({name: level}) for name, level in zip(two, levels, strict=True)]
        found.append((pair[0], pair[1]))
    return found


def _of_site(
    source: Study | LatentCache, names: Sequence[str] | None, site: str | None, samples: int, seed: int
) -> tuple[Made, tuple[str, ...]]:
    """Attributes, all directions from disjoint parts of the images, all images, the nulls 1 and 2, and notes."""
    states, _, _ = hidden.gather(source, site_of(source, site), None)
    flat = states.flatten(1)
    every = list(dict.fromkeys([*(names or ()), *hidden.measured(source)]))
    targets = {name: hidden.target(source, name, hidden.usual_value(source, name)) for name in every}
    generator = flow.generator_of(seed)
    order = torch.randperm(len(flat), generator=generator)
    parts = order.chunk(samples)
    if len(parts) < samples or min(map(len, parts)) < 8:
        raise SettingError(
            f"{len(flat)} images are too few for {samples} samples of at least 8; give fewer samples."
        )

    rare = [name for name in every if not all(_known(targets[name][part]) for part in parts)]
    if names and (absent := [name for name in names if name in rare]):
        raise SettingError(
            f"{absent[0]!r} is known in too few images, or has too few with and without it, for {samples} samples: "
            "give fewer samples, more images, or leave it out."
        )
    usual = [name for name in every if name not in rare]
    chosen = _enough(list(names or usual))
    notes = (
        (f"Left out, known or different in too few images: {', '.join(rare)}.",) if rare and not names else ()
    )

    def made(target: Tensor, part: Tensor, shuffle: bool = False) -> Tensor:
        rows = part[~target[part].isnan()]
        order = torch.randperm(len(rows), generator=generator) if shuffle else torch.arange(len(rows))
        return hidden.difference(flat[rows], target[rows][order])

    vectors = {name: torch.stack([made(targets[name], part) for part in parts]) for name in usual}
    pairs = torch.randint(len(flat), (DRAWS, 2), generator=generator)
    shuffled = [made(targets[usual[k % len(usual)]], parts[k % samples], True) for k in range(DRAWS)]
    nulls = {
        "random pairs of images": flat[pairs[:, 0]] - flat[pairs[:, 1]],
        "same places, shuffled": torch.stack(shuffled),
    }
    return (chosen, vectors, flat, nulls), notes


def _known(target: Tensor) -> bool:
    """Whether an attribute is known in enough of these images, and differs between them."""
    there = target[~target.isnan()]
    return len(there) >= FEWEST and bool(there.max() > there.min())


def _enough(names: list[str]) -> list[str]:
    if len(set(names)) < 2:
        raise SettingError(f"attributes has {len(set(names))}: a Gram matrix compares at least 2 attributes.")
    return list(dict.fromkeys(names))
