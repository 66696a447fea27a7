"""How a direction is found at a site: from hidden states of many images, and one number for each.

Hidden states are X (images, tokens, width), the attribute is y (images,). Every method gives a vector for the
chosen tokens together, which is then brought to length 1.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from ditlens import flow
from ditlens.analysis.rows import check_finite
from ditlens.arguments import is_number
from ditlens.errors import SettingError
from ditlens.lens.cache import LatentCache
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study

Hidden: TypeAlias = Float[Tensor, "images tokens width"]
COMPONENTS = 10
"""Principal components among which "pca" looks."""
PENALTY = 0.1
"""Of the ridge regression: share of the mean eigenvalue of the images' Gram matrix that is added to each."""
SHUFFLES = 19
"""How often an attribute is shuffled to see what chance gives: once in 20 times it would be more."""
NEAR = 0.7
"""Share of the largest contrast that a token needs to count as near it.

Measured by steering 11 attributes, 12 images each, means: moved 0.38 of the range at drift 0.056; with half of the
largest 0.40 at 0.080; with chance alone as the limit 0.32 at 0.114.
"""
SPREAD_OUT = 1 / 3
"""Share of the images that count as having most of an attribute, and least."""

METHODS = {
    "difference": "difference of the means of most and least",
    "probe": "weights of a ridge regression, as their pattern (Haufe 2014)",
    "weights": "weights of a ridge regression",
    "pca": f"that of the first {COMPONENTS} principal components which correlates most",
}
"""The methods, in words."""


# --- what a study holds ------------------------------------------------------------------------------------


def gather(
    source: Study | LatentCache, site: str, steps: Sequence[int] | None
) -> tuple[Hidden, list[int], list[int]]:
    """Hidden states of a site, the mean over its steps; these steps; and the numbers of its tokens.

    Raises:
        SettingError: If it is a text stream, whose tokens mean something else in every prompt.
        SiteError: If a step is not there.
    """
    stream = Site.parse(site).stream or ""
    if stream != "image":
        raise SettingError(
            f"{site} is no site of the image stream: its tokens are other words in every prompt. Make a direction "
            "of texts: direction(model, 'a frown', 'a smile')."
        )
    part = source.select(site, step=None if steps is None else list(steps))
    if len(part.passes) > 1:
        part = part.select(pass_="cond")
    count, total = len(part.steps), None
    chunks: dict[int, Tensor] = {}
    for each in part.parts():
        first = each.rows[0]
        check_finite(site, each.step, each.values, each.rows)
        values = each.values.float() / count
        chunks[first] = values if first not in chunks else chunks[first] + values
    total = torch.cat([chunks[first] for first in sorted(chunks)])
    return total, list(part.steps), list(source.tokens.get(stream) or range(total.shape[1]))


def target(
    source: Study | LatentCache,
    name: str,
    value: str = "",
    values: Sequence[float | str | None] | None = None,
) -> Float[Tensor, " images"]:
    """One number for each image: an attribute, or 1 where a categorical one has the value and else 0.

    NaN where it is None: where nobody can see it in the image.

    Raises:
        SettingError: If there is no such column, it has texts and no value is named, or it never changes.
    """
    columns = source.columns
    column: Any = values if values is not None else columns.get(name)
    column = column.tolist() if hasattr(column, "tolist") else column  # of an array or a tensor
    count = len(columns["prompt"])
    if column is None:
        raise SettingError(
            f"It has no column {name!r}; it has {', '.join(columns)}. Or give a number each: values=[...]."
        )
    if len(column) != count:
        raise SettingError(f"values has {len(column)} numbers for {count} images; give one each.")
    seen = [each for each in column if each is not None]
    if value or not all(map(is_number, seen)):
        known = sorted({str(each) for each in seen})
        if value not in known:
            raise SettingError(
                f"{name!r} is {' or '.join(known[:8])} in these images: say which, value={known[-1]!r}."
            )
        column = [None if each is None else float(str(each) == value) for each in column]
    numbers = torch.tensor([math.nan if each is None else float(each) for each in column])
    there = numbers[~numbers.isnan()]
    if len(there) < 2 or float(there.max() - there.min()) < 1e-6:
        raise SettingError(
            f"{name!r} is the same in all {len(there)} images: there is no direction in which it changes."
        )
    return numbers


def measured(source: Study | LatentCache) -> list[str]:
    """The columns that an oracle gave, without those that never change, and texts with many values.

    Those of the plan where there was no oracle.
    """
    known = {"prompt", "prompt_number", "seed"}
    found = {name: column for name, column in source.columns.items() if name not in known}
    if isinstance(source, Study):
        found = {n: column for n, column in found.items() if n not in source.manifest.columns} or found
    return [
        name
        for name, column in found.items()
        if len(seen := set(column) - {None}) > 1
        and (all(map(is_number, seen)) or len(seen) <= len(column) / 4)
    ]


def usual_value(source: Study | LatentCache, name: str) -> str:
    """The most frequent value of a column of texts; empty for one of numbers."""
    column = [each for each in source.columns.get(name, []) if each is not None]
    if all(map(is_number, column)):
        return ""
    counts = Counter(map(str, column))
    return max(sorted(counts), key=counts.__getitem__)


# --- the methods -------------------------------------------------------------------------------------------


def fit(hidden: Hidden, target: Tensor, method: str, per_patch: bool) -> tuple[Tensor, float]:
    """A vector of length 1, (tokens or 1, width), and the standard deviation of the values along it.

    Args:
        hidden: Hidden states of the tokens at which it is to act.
        target: The attribute.
        method: One of `METHODS`.
        per_patch: Whether every token has a vector of its own; if not, it is fitted to their mean.

    Raises:
        SettingError: If nothing varies.
    """
    values = hidden.double() if per_patch else hidden.double().mean(1, keepdim=True)
    values = values - values.mean(0)
    centred = target.double() - target.double().mean()
    vector = HOW[method](values.flatten(1), centred)
    if not float(vector.norm()) > 1e-12:
        raise SettingError("The hidden states do not change with this attribute; choose a later block.")
    vector = vector / vector.norm()
    along = values.flatten(1) @ vector
    if float(along @ centred) < 0:  # up is more of it
        vector = -vector
    return vector.reshape(values.shape[1:]).float(), float(along.std())


def choose(
    hidden: Hidden, target: Tensor, patches: Sequence[int] | int | str | None, kept: Sequence[int]
) -> list[int]:
    """Places of the tokens at which a direction is to act.

    Args:
        hidden: Hidden states of all tokens.
        target: The attribute.
        patches: Numbers of tokens, how many, "auto" for the `clear` ones (all, if none is), or None for all.
        kept: The number of each token of `hidden`.

    Raises:
        SettingError: If a token is not there.
    """
    if patches is None:
        return list(range(len(kept)))
    if patches == "auto":
        if found := clear(hidden, target):
            return found
        warnings.warn(
            f"No patch stands out in {len(hidden)} images: all {len(kept)} are used. Take more images, or say how "
            "many patches: patches=4.",
            stacklevel=4,
        )
        return list(range(len(kept)))
    if isinstance(patches, int):
        if patches > len(kept):
            raise SettingError(f"patches is {patches}, but there are {len(kept)} of them.")
        return sorted(contrast(hidden, target).topk(patches).indices.tolist())
    if absent := [p for p in patches if p not in kept]:
        raise SettingError(f"Patch {absent[0]} is not there: give some of {kept[0]} to {kept[-1]}.")
    return [list(kept).index(int(str(p))) for p in patches]


def contrast(hidden: Hidden, target: Tensor) -> Float[Tensor, " tokens"]:
    """How far apart the means of most and least are at every token, in units of the token's own spread."""
    flat = hidden.double()
    most, least = _ends(target)
    spread = (flat - flat.mean(0)).square().sum(-1).mean(0).sqrt()
    return (flat[most].mean(0) - flat[least].mean(0)).norm(dim=-1) / spread.clamp_min(1e-12)


def clear(hidden: Hidden, target: Tensor) -> list[int]:
    """Tokens whose `contrast` is near the largest, and larger than any after the attribute was shuffled.

    A direction that acts at every token with some contrast moves much else: hair hangs together with faces.
    """
    generator = flow.generator_of(0)
    orders = [torch.randperm(len(target), generator=generator) for _ in range(SHUFFLES)]
    chance = max(float(contrast(hidden, target[order]).max()) for order in orders)
    found = contrast(hidden, target)
    return (found > max(chance, NEAR * float(found.max()))).nonzero().flatten().tolist()


def _ends(target: Tensor) -> tuple[Tensor, Tensor]:
    """Which images have most of an attribute, and which least: thirds, or the two values of a binary one."""
    low, high = target.double().quantile(torch.tensor([SPREAD_OUT, 1 - SPREAD_OUT], dtype=torch.double))
    if len(target.unique()) == 2 or low == high:
        middle = (target.max() + target.min()) / 2
        return target > middle, target < middle
    return target >= high, target <= low


def difference(flat: Tensor, target: Tensor) -> Tensor:
    """Mean of the images that have most of an attribute, less the mean of those that have least."""
    most, least = _ends(target)
    return flat[most].mean(0) - flat[least].mean(0)


def ridge(flat: Float[Tensor, "images width"], target: Float[Tensor, " images"]) -> Float[Tensor, " width"]:
    """Weights of a ridge regression of centred numbers, in the form that is small where images are few.

    w = X' (X X' + a I)^-1 y, which equals (X' X + a I)^-1 X' y.
    """
    kernel = flat @ flat.T
    penalty = PENALTY * kernel.diagonal().mean()
    return flat.T @ torch.linalg.solve(kernel + penalty * torch.eye(len(flat), dtype=flat.dtype), target)


def _pattern(flat: Tensor, target: Tensor) -> Tensor:
    return flat.T @ (flat @ ridge(flat, target)) / len(flat)


def _component(flat: Tensor, target: Tensor) -> Tensor:
    left, sizes, right = torch.linalg.svd(flat, full_matrices=False)
    there = min(COMPONENTS, int((sizes > 1e-9 * sizes[0]).sum()))
    return right[:there][(left[:, :there].T @ target).abs().argmax()]


HOW: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "difference": difference, "probe": _pattern, "weights": ridge, "pca": _component,
}  # fmt: skip
"""From centred hidden states (images, numbers) and a centred attribute (images,) to a vector (numbers,)."""
