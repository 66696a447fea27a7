"""What public functions may be given: checked at the door, before anything runs, and refused in words.

A function says of each argument what it takes, and `takes` refuses everything else by name::

    @takes(prompt=TEXT, steps=COUNT)
    def generate(prompt, steps=None): ...

    generate("a smile", steps=2.5)   # SettingError: steps is 2.5; give a whole number from 1, e.g. 20.

What depends on several arguments, or on what a model has, is checked further in.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from ditlens.errors import SettingError

F = TypeVar("F", bound=Callable[..., Any])

LARGEST = 1_000_000
"""Most steps or items that anybody can mean."""


@dataclass(frozen=True)
class Kind:
    """What an argument may be.

    Attributes:
        words: What to give, after "give": "a text, e.g. 'a big smile'".
        fits: Whether a value is of this kind; never raises.
    """

    words: str
    fits: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        return Kind(f"{self.words}, or {other.words}", lambda value: self.fits(value) or other.fits(value))


def instance(words: str, *types: type) -> Kind:
    """Objects of some types."""
    return Kind(words, lambda value: isinstance(value, types))


def one_of(*names: str) -> Kind:
    """A name among some."""
    return Kind(
        f"one of {', '.join(map(repr, names))}", lambda value: isinstance(value, str) and value in names
    )


def list_of(kind: Kind, words: str) -> Kind:
    """A list, a tuple or the like of at least one value of a kind."""

    def fits(value: Any) -> bool:
        if isinstance(value, str | bytes | Mapping | type) or not hasattr(type(value), "__len__"):
            return False
        try:
            values = list(value)
        except TypeError:  # a tensor without axes
            return False
        return bool(values) and all(map(kind.fits, values))

    return Kind(words, fits)


def several(kind: Kind, words: str = "a list of them") -> Kind:
    """One value of a kind, or a list of them; `listed` makes a list of either.

    >>> several(COUNT).fits(3), several(COUNT).fits([3, 4]), several(COUNT).fits([])
    (True, True, False)
    """
    return kind | list_of(kind, words)


def function_of(*arguments: str) -> Kind:
    """Functions that can be called with so many arguments."""

    def fits(value: Any) -> bool:
        if not callable(value) or isinstance(value, type):
            return False
        try:
            inspect.signature(value).bind(*arguments)
        except TypeError:
            return False
        except ValueError:  # a built-in function that does not say
            return True
        return True

    return Kind(f"a function, e.g. lambda {', '.join(arguments)}: ...".replace("lambda :", "lambda:"), fits)


def is_whole(value: Any, low: int = -(2**63), high: int = 2**63 - 1) -> bool:
    """Whether a value is one whole number, numpy's and torch's among them, from `low` to `high`."""
    if isinstance(value, bool) or getattr(value, "shape", None):
        return False
    try:
        return low <= operator.index(value) <= high
    except TypeError:
        return False


def listed(value: Any) -> list[Any]:
    """One thing or several, as a list; of an array or tensor its first axis, where it has one.

    >>> listed("a"), listed(("a", "b"))
    (['a'], ['a', 'b'])
    """
    many = isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", None) != 0
    return list(value) if many else [value]


def is_number(value: Any) -> bool:
    """Whether a value is one finite number; a fraction is none, with which torch cannot multiply."""
    try:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool | Fraction)
        return real and math.isfinite(value)
    except OverflowError:  # a whole number with more than 300 digits
        return False


def is_path(value: Any) -> bool:
    """Whether a value can name a file or folder."""
    return isinstance(value, str | os.PathLike) and bool(str(value).strip())


def is_text(value: Any) -> bool:
    """Whether a value is a text that can be written, which one with half a character cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def is_batch(value: Any) -> bool:
    """Whether a value is a tensor of images or latents: four axes, none empty, numbers that are not whole."""
    tensor = callable(getattr(value, "is_floating_point", None)) and hasattr(value, "numel")
    return tensor and value.ndim == 4 and value.numel() > 0 and value.is_floating_point()


TEXT = Kind("a text, e.g. 'a big smile'", is_text)
NAME = Kind("a name, as a text", lambda value: isinstance(value, str) and bool(value.strip()))
TEXTS = several(TEXT)
FLAG = Kind("True or False", lambda value: isinstance(value, bool))
NUMBER = Kind("a number, e.g. 0.5", lambda value: is_number(value) and abs(value) < 2**63)
INDEX = Kind("a whole number from 0", lambda value: is_whole(value, 0, 2**63 - 1))
SEED = Kind("a whole number from 0 to 2**63 - 1, e.g. seed=0", INDEX.fits)
SEEDS = list_of(INDEX, "a list of whole numbers from 0 to 2**63 - 1, a seed for each image")
SEED_OR_SEEDS = several(SEED, "a list of seeds")
COUNT = Kind("a whole number from 1, e.g. 20", lambda value: is_whole(value, 1, LARGEST))
ON_STEP = function_of("state")
NOTHING = Kind("None", lambda value: value is None)
PATH = Kind("a path, e.g. 'outputs/smile'", is_path)

LATENTS = Kind("latents, a tensor (batch, channels, height, width)", is_batch)
PIXELS = Kind(
    "a tensor (batch, 3, height, width) with values in [0, 1]; model.prepare makes one of a file or a PIL image",
    lambda value: is_batch(value) and value.shape[1] == 3,
)


def takes(**kinds: Kind) -> Callable[[F], F]:
    """Have the arguments of a function, or of a class that is made, checked before it runs.

    Args:
        kinds: What each argument may be; an argument's own default is always allowed.

    Returns:
        A decorator. The function raises `SettingError` for an argument of another kind, one that is missing, and
        one that does not exist.

    Example:
        >>> @takes(steps=COUNT)
        ... def run(steps): ...
        >>> run(2.5)
        Traceback (most recent call last):
        ditlens.errors.SettingError: steps is 2.5; give a whole number from 1, e.g. 20.
    """

    def decorate(function: F) -> F:
        if isinstance(function, type):
            vars_of: Any = function
            vars_of.__init__ = decorate(vars_of.__init__)
            return function
        signature = inspect.signature(function)
        name = function.__qualname__.removesuffix(".__init__")
        required = [
            p.name
            for p in signature.parameters.values()
            if p.default is p.empty and p.kind < p.VAR_POSITIONAL
        ]
        known = ", ".join(n for n in signature.parameters if n != "self")

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind_partial(*args, **kwargs).arguments
            except TypeError as error:
                raise SettingError(f"{name}: {error}. Its arguments are: {known}.") from None
            for argument, value in given.items():
                kind, usual = kinds.get(argument), signature.parameters[argument].default
                if kind is not None and value is not usual and not kind.fits(value):
                    raise SettingError(f"{argument} is {shown(value)}; give {kind.words}.")
            if absent := [argument for argument in required if argument not in given]:
                raise SettingError(f"{name} needs {' and '.join(absent)}. Its arguments are: {known}.")
            return function(*args, **kwargs)

        return checked  # type: ignore[return-value]

    return decorate


def shown(value: Any) -> str:
    """A value in a message: itself where that is short, else its type and shape."""
    if value is None or isinstance(value, str | bytes | bool | int | float | Path | type):
        return repr(value) if len(repr(value)) < 60 else f"{repr(value)[:56]}..."
    if isinstance(value, list | tuple | dict | set | slice) and len(repr(value)) < 60:
        return repr(value)
    name, shape = type(value).__name__, getattr(value, "shape", None)
    return f"of type {name}" + (f" and shape {tuple(shape)}" if isinstance(shape, tuple) else "")
