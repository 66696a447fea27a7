"""What of a run is kept: which steps, passes and tokens, reduced how, and up to how many bytes."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ditlens import flow
from ditlens.arguments import TEXT, Kind, function_of
from ditlens.errors import SettingError
from ditlens.lens.site import STREAMS

Steps: TypeAlias = Iterable[int] | slice | int | None
"""Which steps: numbers, a slice, or None for all."""
Passes: TypeAlias = str | Iterable[str] | None
"""Which guidance passes: one, several, or None for all."""
Tokens: TypeAlias = Mapping[str, Sequence[int]] | None
"""Numbers of the tokens of each stream; None for all."""
Reducer = Callable[[Tensor, Tensor | None], Tensor]
"""Gets values (items, tokens, width) and which tokens are real, (items, tokens) or None; returns (items, ...)."""
REDUCE = Kind(
    "'mean', 'sketch:64' or a function of (values, mask)",
    lambda value: TEXT.fits(value) or function_of("values", "mask").fits(value),
)
PASSES = ("cond", "uncond", "skip", "perturbed", "img_cond", "source", "target")
"""Names of guidance passes; those of an edit may have two of them, like "uncond.source"."""
UNITS = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}


def pass_names(passes: Passes) -> tuple[str, ...] | None:
    """Names of guidance passes; None for all.

    Raises:
        SettingError: If there are none, or no model has one of that name.
    """
    if passes is None:
        return None
    names = tuple(passes) if isinstance(passes, Iterable) and not isinstance(passes, str) else (passes,)
    if not names or not all(set(str(name).split(".")) <= set(PASSES) for name in names):
        raise SettingError(
            f"passes={passes!r}: choose among {', '.join(map(repr, PASSES))}, or None for all."
        )
    return names


def whole_numbers(setting: str, given: Any) -> list[int]:
    """Numbers as a list, if all are whole numbers.

    Raises:
        SettingError: If not.
    """
    try:
        return [operator.index(number) for number in given]
    except TypeError:
        raise SettingError(f"{setting}: give a list of whole numbers, e.g. [0, 2].") from None


def token_numbers(tokens: Tokens) -> dict[str, list[int]]:
    """Token numbers by stream.

    Raises:
        SettingError: If a stream has another name, or a number is not whole.
    """
    if tokens is None:
        return {}
    if not isinstance(tokens, Mapping) or not set(tokens) <= set(STREAMS):
        raise SettingError(
            f"tokens={tokens!r}: its names are 'text' and 'image', e.g. tokens={{'text': [4, 5]}}."
        )
    return {name: whole_numbers(f"tokens={tokens!r}", index) for name, index in tokens.items()}


def check_tokens(index: list[int], count: int) -> list[int]:
    """Token numbers as they are, if each of the `count` tokens that they name exists.

    Raises:
        SettingError: If not.
    """
    wrong = [i for i in index if not -count <= i < count]
    if wrong:
        raise SettingError(
            f"tokens has {wrong}, but there are {count} tokens: give numbers from 0 to {count - 1}, or -1 and down."
        )
    return index


def step_filter(steps: Steps) -> Callable[[int], bool]:
    """A function that tells whether a step is wanted.

    Raises:
        SettingError: If no step is, they are not whole numbers, or they count from the end.
    """
    if steps is None:
        return lambda step: True  # noqa: ARG005
    if isinstance(steps, slice):
        start, stop, every = steps.start or 0, steps.stop, steps.step or 1
        if min(whole_numbers(f"steps={steps}", (start, stop or 0, every - 1))) < 0:
            raise SettingError(
                f"steps={steps} counts from the end, but the number of steps is not known before. Count from 0."
            )
        return lambda step: step >= start and (stop is None or step < stop) and (step - start) % every == 0
    return set(step_numbers(steps)).__contains__


def step_numbers(steps: Iterable[int] | int) -> list[int]:
    """Numbers of steps as a list.

    Raises:
        SettingError: If there are none, they are not whole numbers, or they count from the end.
    """
    chosen = whole_numbers(f"steps={steps!r}", steps if isinstance(steps, Iterable) else [steps])
    if not chosen or min(chosen) < 0:
        raise SettingError(f"steps={sorted(chosen)}: give step numbers from 0.")
    return chosen


def reducer(reduce: str | Reducer | None) -> tuple[Reducer | None, str]:
    """The function that reduces tokens, and its name; None and an empty name for nothing.

    Raises:
        SettingError: If the name is unknown.
    """
    if reduce is None:
        return None, ""
    if callable(reduce):
        return reduce, getattr(reduce, "__name__", type(reduce).__name__)
    if reduce == "mean":
        return token_mean, reduce
    found = re.fullmatch(r"sketch:(\d+)", str(reduce))
    if found and int(found[1]) > 0:
        return lambda value, mask: sketch(value, int(found[1])), reduce  # noqa: ARG005
    raise SettingError(f"reduce={reduce!r}: choose 'mean', 'sketch:64' or a function of (values, mask).")


def token_mean(
    value: Float[Tensor, "items tokens width"], mask: Bool[Tensor, "items tokens"] | None
) -> Float[Tensor, "items width"]:
    """Mean over real tokens."""
    return masked_mean(value, mask, 1).squeeze(1)


def masked_mean(
    value: Float[Tensor, "items ..."], mask: Bool[Tensor, "items tokens"] | None, axis: int
) -> Float[Tensor, "_ ..."]:
    """Mean over the items or the tokens, without padding; the axis is kept.

    Args:
        value: The values, (items, tokens, width); without a mask also (items, width).
        mask: True at real tokens; None if all are. Where none is real, all count.
        axis: 0 for items, 1 for tokens.
    """
    if mask is None:
        return value.mean(axis, keepdim=True)
    real = mask.to(value.device, torch.bool).unsqueeze(-1)
    count = real.sum(axis, keepdim=True)
    wide = torch.promote_types(value.dtype, torch.float32)  # a sum overflows float16
    mean = value.where(real, 0).sum(axis, keepdim=True, dtype=wide) / count.clamp_min(1)
    return torch.where(count > 0, mean.to(value.dtype), value.mean(axis, keepdim=True))


def keeps_tokens(reduced: str) -> bool:
    """Whether all tokens are still there after a reduction of this name."""
    return not reduced or reduced.startswith("sketch:")


def sketch(value: Float[Tensor, "*rows wide"], width: int) -> Float[Tensor, "*rows narrow"]:
    """A fixed Gaussian projection to a smaller width, which keeps distances: its columns are N(0, 1/width).

    Values that are not wider stay as they are.
    """
    if value.shape[-1] <= width:
        return value
    matrix = flow.normal((value.shape[-1], width), flow.generator_of(0)) / width**0.5
    return (value.float() @ matrix.to(value.device)).to(value.dtype)


def size_of(limit: str | float) -> float:
    """Bytes of ``"1.5 GB"`` or a number.

    Raises:
        SettingError: If it cannot be read.
    """
    if isinstance(limit, int | float) and limit >= 0:  # not a NaN
        return float(min(limit, 2**63))
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kmgt]?b)\s*", str(limit).lower())
    if not found:
        raise SettingError(f"limit={limit!r}: write it like '500 MB' or '2 GB'.")
    return float(found[1]) * UNITS[found[2]]


def row_index(rows: list[int]) -> slice | list[int]:
    """Rows as a slice where they follow one another: then nothing is copied."""
    return slice(rows[0], rows[-1] + 1) if rows == list(range(rows[0], rows[-1] + 1)) else rows
