"""Do directions that are orthogonal to one have the same effect? Then orthogonality says little.

Language models have many steering vectors that are orthogonal to one another and do the same. This is null 5 of a
Gram matrix, see `ditlens.gram`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ditlens.analysis import hidden_directions as hidden
from ditlens.analysis.directions import DIRECTION, SOURCE, Direction
from ditlens.analysis.directions import direction as make_direction
from ditlens.analysis.steering import Steering, steer
from ditlens.arguments import COUNT, TEXT, instance, listed, several, takes
from ditlens.errors import SettingError
from ditlens.lens.cache import LatentCache
from ditlens.lens.study.store import Study
from ditlens.metrics.statistics import seen_mean
from ditlens.models.model import MODEL, Model

SAME = 0.5
"""Share of a direction's effect from which another one counts as having the same."""


@dataclass(frozen=True)
class Effect:
    """What a direction does that is orthogonal to another one, see `same_effect`.

    Attributes:
        name: How it was found.
        cosine: Its cosine to the other one before it was made orthogonal.
        moved: How far it moves the attribute, in units of its range: mean over the images.
        share: That, as a share of what the other one does at the same length.
        drift: Mean change of all other attributes, in units of range.
        candidate: Whether it was tried for having the same effect; not the direction itself, nor the random one.
    """

    name: str
    cosine: float
    moved: float
    share: float
    drift: float
    candidate: bool = True


@takes(
    model=MODEL, direction=DIRECTION,
    others=several(instance("a direction in the same space", Direction)),
)  # fmt: skip
def same_effect(
    model: Model,
    direction: Direction,
    others: Direction | Sequence[Direction],
    amount: float = 2.0,
    **how: object,
) -> list[Effect]:
    """Make directions orthogonal to one, and see whether they move the same attribute all the same.

    Each is steered along at the length of the first one, in the direction in which it has more of the attribute;
    and, for comparison, a random one that was made orthogonal too.

    Args:
        model: The model.
        direction: The one.
        others: One or more candidates in the same space, e.g. from `orthogonal_probes`, or directions of other
            sentences.
        amount: How far, in units of `direction`.
        **how: Prompts, seeds and whatever else `ditlens.steer` takes.

    Returns:
        The effect of `direction` itself, of each candidate, and of the random one.

    Raises:
        SettingError: If a candidate has another shape, or is parallel to the direction.

    Example:
        >>> smile = dl.direction(model, "a slight smile", "a big smile")
        >>> other = dl.direction(model, "a little smile", "a huge smile")
        >>> found = dl.same_effect(model, smile, [other], 1.0, prompts="a slight smile", sampling_steps=1)
        >>> [(each.name, each.candidate) for each in found]
        [('the direction itself', False), ('difference of the two texts', True), ('random', False)]
    """
    base = steer(model, direction, [amount], **how)  # type: ignore[arg-type]
    own = moved_mean(base)
    found = [Effect("the direction itself", 1.0, own, 1.0, drift_mean(base), candidate=False)]
    control = direction.random(1)
    for other in [*listed(others), control]:
        result = steer(model, orthogonal(other, direction), [amount], **how)  # type: ignore[arg-type]
        moved, name = moved_mean(result), "random" if other is control else other.how.partition(",")[0]
        share = moved / own if own else float("nan")
        cosine = direction.cosine(other)
        found.append(Effect(name, cosine, moved, share, drift_mean(result), candidate=other is not control))
    return found


def orthogonal(other: Direction, direction: Direction) -> Direction:
    """A direction less its part along another one, as long as that one and with its targets."""
    if other.vector.shape != direction.vector.shape or other.places != direction.places:
        raise SettingError(
            f"{other.name!r} has the shape {tuple(other.vector.shape)}, and {direction.name!r} "
            f"{tuple(direction.vector.shape)}: they must act at the same tokens."
        )
    parts = [(other.vector, direction.vector)]
    if other.pooled is not None and direction.pooled is not None:
        parts.append((other.pooled, direction.pooled))
    joint = [torch.cat([each[k].flatten() for each in parts]).double() for k in (0, 1)]
    left = joint[0] - (joint[0] @ joint[1]) / (joint[1] @ joint[1]) * joint[1]
    if float(left.norm()) < 1e-6 * float(joint[0].norm()):
        raise SettingError(f"{other.name!r} is parallel to {direction.name!r}: nothing of it is orthogonal.")
    left = (left / left.norm() * joint[1].norm()).float()
    vector = left[: other.vector.numel()].reshape(other.vector.shape)
    pooled = left[other.vector.numel() :] if len(parts) > 1 else other.pooled
    same: dict[str, Any] = {"unit": direction.unit, "targets": direction.targets, "value": direction.value}
    return replace(other, vector=vector, pooled=pooled, **same)


def moved_mean(result: Steering) -> float:
    """How far the first target moved at the last amount, mean over the images in which it can be seen."""
    return seen_mean(item[-1] for item in result.moved())


def drift_mean(result: Steering) -> float:
    """Drift at the last amount, mean over the images."""
    return seen_mean(item[-1] for item in result.drift)


@takes(source=SOURCE, name=TEXT, count=COUNT)
def orthogonal_probes(
    source: Study | LatentCache, name: str, count: int = 3, **how: object
) -> list[Direction]:
    """Directions of one attribute at a site, each found after those before it were projected away.

    The first is that of `ditlens.direction`; each next one is the pattern of a ridge regression that no longer sees
    the parts of the hidden states along the earlier ones (iterative null-space projection). So all are orthogonal.

    Args:
        source: A study or cache.
        name: The attribute.
        count: How many beside the first one.
        **how: Whatever else `ditlens.direction` takes.

    Returns:
        1 + count directions.

    Example:
        >>> with dl.capture(model, "joint.1.image.out", steps=0) as cache:
        ...     images = model.sample(["a smile", "a frown", "a grin", "a pout"], [0, 1, 2, 3], steps=1)
        >>> first, other = dl.orthogonal_probes(cache, "mood", 1, values=[1, 0, 1, 0], patches=[35, 36])
        >>> round(first.cosine(other), 3) == 0
        True
    """
    first = make_direction(source, name, **how)  # type: ignore[arg-type]
    steps = how.get("steps")
    states, _, kept = hidden.gather(source, first.site, None if steps is None else listed(steps))  # type: ignore[arg-type]
    target = hidden.target(source, name, first.value, how.get("values"))  # type: ignore[arg-type]
    if len(first.vector) != len(first.places):  # as every vector of its own patch has
        raise SettingError("per_patch=False shares one vector: orthogonal_probes gives every patch its own.")
    states = states[:, [kept.index(place) for place in first.places]]
    states, target = states[~target.isnan()], target[~target.isnan()]
    found, flat = [first], states.flatten(1).double()
    flat = flat - flat.mean(0)
    for k in range(count):
        for each in found:
            vector = each.vector.flatten().double()
            flat = flat - torch.outer(flat @ vector, vector)
        vector = hidden.HOW["probe"](flat, target.double() - target.double().mean())
        vector = vector / vector.norm()
        found.append(
            replace(first, how=f"probe {k + 1} of what is left, orthogonal to those before it",
                    vector=vector.reshape(first.vector.shape).float(), unit=float((flat @ vector).std()))
        )  # fmt: skip
    return found
