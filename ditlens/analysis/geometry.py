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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ditlens import flow, late
from ditlens.analysis import hidden_directions as hidden
from ditlens.analysis.directions import SOURCE, site_of
from ditlens.analysis.prompts import level_names, sentence, world_of
from ditlens.analysis.same_effect import SAME, Effect
from ditlens.analysis.text_directions import world_pairs
from ditlens.arguments import COUNT, SEED, TEXTS, instance, listed, one_of, several, takes
from ditlens.errors import SettingError
from ditlens.lens.cache import SITE, LatentCache
from ditlens.lens.study.store import Study
from ditlens.metrics.statistics import middle, resampled
from ditlens.models.model import Model
from ditlens.tables import columns, frame
from ditlens.worlds.world import World

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

Vectors = Float[Tensor, "attributes samples numbers"]
"""Directions of several attributes, each made several times from other material."""
DRAWS = 300
"""Texts or images that are drawn for the nulls."""
ROUTES = ("tokens", "pooled")
FEWEST = 4
"""Images in which an attribute must be known to make one direction of a site."""


@dataclass(frozen=True, eq=False, repr=False)
class Gram:
    """Cosines of directions of several attributes, and what chance would give; from `ditlens.gram`.

    Attributes:
        space: Where the directions live: the site, or the route of the text.
        names: The attributes.
        matrix: Mean cosines, (attributes, attributes); on the diagonal between directions of one attribute that
            were made from other sentences or images.
        within: Those of the diagonal, one by one: null 4.
        between: Cosines between directions of different attributes.
        interval: 95 % interval of the root mean square of `between`, over attributes; NaN for 2 of them, one pair.
        nulls: Cosines of the nulls 1 to 3, by name.
        dimension: D, how many numbers a direction has.
        effective: D_eff of texts or hidden states; at most their number less 1.
        effects: Null 5; empty if it was not tried.
        notes: What was left out, and why.
    """

    space: str
    names: tuple[str, ...]
    matrix: np.ndarray
    within: np.ndarray
    between: np.ndarray
    interval: tuple[float, float]
    nulls: Mapping[str, np.ndarray]
    dimension: int
    effective: float
    effects: tuple[Effect, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Mean cosine within an attribute over root mean square cosine between attributes."""
        return float(self.within.mean() / rms(self.between))

    @property
    def agrees(self) -> bool:
        """Whether directions of one attribute are alike: their mean cosine is clearly above that of every null.

        Clearly: by more than two standard errors of chance, which counts every attribute once.
        """
        count = len(self.names)
        return all(self.within.mean() > v.mean() + 2 * rms(v) / count**0.5 for v in self.nulls.values())

    @property
    def verdict(self) -> str:
        """What the numbers say, in a few sentences."""
        if not self.agrees:
            return (
                f"Directions of one attribute do not agree with themselves: their mean cosine is "
                f"{self.within.mean():.2f}, and chance gives as much. So nothing can be said about different "
                "attributes; take more images or samples, or another site."
            )
        low, high = self.interval
        chance = {name: rms(values) for name, values in self.nulls.items()}
        closer = [name for name, size in chance.items() if high < size]
        others = [name for name in chance if name not in closer]
        found = (
            f"Directions of different attributes have a root mean square cosine of {rms(self.between):.2f}"
        )
        if np.isnan(low):
            found += ": one pair of attributes has no interval, so take more to compare them with the nulls. "
        elif not others:
            found += (
                f" ({low:.2f} to {high:.2f}), less than every null: they are more orthogonal than chance makes "
                "them. "
            )
        else:
            which = "any null" if not closer else " and ".join(others)
            found += (
                f" ({low:.2f} to {high:.2f}), which is not less than {which} gives: being nearly orthogonal is no "
                "evidence here. "
            )
        found += f"Within an attribute the mean cosine is {self.within.mean():.2f}, {self.ratio:.1f} times as much."
        return found + self._twins()

    def _twins(self) -> str:
        """What null 5 says; empty if it says nothing against the matrix."""
        tried = [each for each in self.effects if each.candidate]
        control = max([each.share for each in self.effects if each.name == "random"], default=0.0)
        same = [each for each in tried if each.share >= max(SAME, control)]
        if not same:
            return ""
        return (
            f" {len(same)} of {len(tried)} directions orthogonal to one of them have the same effect (a random one "
            f"{control:.0%} of it): a diagonal matrix by itself proves nothing."
        )

    def __repr__(self) -> str:
        rows = [
            ["within an attribute (null 4)", *_numbers(self.within)],
            ["between attributes", *_numbers(self.between)],
        ]
        rows += [[f"null {k}: {name}", *_numbers(v)] for k, (name, v) in enumerate(self.nulls.items(), 1)]
        size = f"D = {self.dimension}, D_eff = {self.effective:.0f}"
        title = f"Gram of {len(self.names)} attributes, {self.space}: {size}"
        lines = [title, columns(rows, ("cosines", "mean", "rms", "95 % within"))]
        if self.effects:
            cells = [
                [e.name, f"{e.cosine:.2f}", f"{e.moved:+.2f}", f"{e.share:.0%}", f"{e.drift:.3f}"]
                for e in self.effects
            ]
            lines.append(
                columns(cells, ("null 5: orthogonal directions", "cosine before", "moved", "share", "drift"))
            )
        return "\n".join([*lines, *self.notes, self.verdict])

    def to_pandas(self) -> pandas.DataFrame:
        """The matrix as a table, its rows and columns named by the attributes.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        return frame(self.matrix, index=list(self.names), columns=list(self.names))

    def plot(self) -> Figure:
        """The matrix, and beside it its cosines against those of the nulls; a matplotlib figure."""
        return late.view("plot_gram", "steering")(self)


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def _numbers(values: np.ndarray) -> list[str]:
    low, high = np.quantile(values, [0.025, 0.975])
    return [f"{values.mean():+.3f}", f"{rms(values):.3f}", f"{low:+.2f} to {high:+.2f}"]


# --- the analysis of any vectors ---------------------------------------------------------------------------


def analyse(
    vectors: Vectors,
    population: Float[Tensor, "n numbers"],
    nulls: Mapping[str, Tensor],
    names: Sequence[str],
    space: str,
    everything: Vectors | None = None,
) -> Gram:
    """The Gram matrix of directions and the cosines of the nulls.

    The mean of all directions is taken from each first, and each null's own mean from the null. Only
    directions that were made from different material are compared, so that what two attributes share is not the
    noise of the same images.

    Args:
        vectors: Directions, (attributes, samples, numbers), at least 2 of each.
        population: Embeddings of random texts, or hidden states of random images: their covariance is that of null
            3.
        nulls: Vectors of the nulls 1 and 2, (draws, numbers).
        names: The attributes.
        space: Where they live, in words.
        everything: Directions of all attributes there are, whose mean is taken off; by default `vectors`.
    """
    kinds, samples, size = vectors.shape
    mean = (vectors if everything is None else everything).flatten(0, 1).double().mean(0)
    flat = centred(vectors.flatten(0, 1), mean)
    cosines = (flat @ flat.T).reshape(kinds, samples, kinds, samples).numpy()
    other = ~np.eye(samples, dtype=bool)  # made from other material
    by_pair = cosines.transpose(0, 2, 1, 3)[:, :, other]  # (kinds, kinds, pairs of samples)
    same = np.eye(kinds, dtype=bool)
    squares = (by_pair**2).mean(-1)

    def size_of(chosen: np.ndarray) -> float:
        different = chosen[:, None] != chosen[None]
        return (
            float(np.sqrt(squares[np.ix_(chosen, chosen)][different].mean())) if different.any() else np.nan
        )

    interval = (np.nan, np.nan)
    if kinds > 2:
        interval = middle(resampled([np.arange(kinds)], size_of, vectorized=False))
    gaussian = gaussian_like(population, DRAWS, 0)
    found = {**nulls, "Gaussian, same covariance": gaussian}
    return Gram(
        space, tuple(names), by_pair.mean(-1), by_pair[same].ravel(), by_pair[~same].ravel(), interval,
        {name: pairwise(each) for name, each in found.items()}, size, effective_dimension(population),
    )  # fmt: skip


def centred(vectors: Float[Tensor, "n numbers"], mean: Tensor | None = None) -> Float[Tensor, "n numbers"]:
    """Vectors less a mean, by default their own, brought to length 1."""
    away = vectors.double() - (vectors.double().mean(0) if mean is None else mean)
    return away / away.norm(dim=1, keepdim=True).clamp_min(1e-12)


def pairwise(vectors: Float[Tensor, "n numbers"]) -> np.ndarray:
    """Cosines of all pairs of vectors, after their mean is taken off."""
    flat = centred(vectors)
    rows, cols = torch.triu_indices(len(flat), len(flat), 1)
    return (flat @ flat.T)[rows, cols].numpy()


def effective_dimension(vectors: Float[Tensor, "n numbers"]) -> float:
    """(tr S)^2 / tr(S^2) of the covariance S: D for a sphere, 1 for a line; at most n - 1 from n vectors.

    Example:
        >>> round(effective_dimension(torch.eye(4)), 6)
        3.0
    """
    away = vectors.double() - vectors.double().mean(0)
    kernel = away @ away.T
    return float(kernel.trace() ** 2 / kernel.square().sum())


def gaussian_like(
    vectors: Float[Tensor, "n numbers"], count: int, seed: int
) -> Float[Tensor, "count numbers"]:
    """Gaussian vectors with the covariance of others: random mixtures of them."""
    away = vectors.float() - vectors.float().mean(0)
    return flow.normal((count, len(away)), flow.generator_of(seed)) @ away / len(away) ** 0.5


# --- directions of texts, and of a site --------------------------------------------------------------------


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
    vectors = {name: differences(world_pairs(model, name, samples, seed)) for name in every}
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
