"""Reading answers: what a learner gives, made comparable.

Each reader returns what the conditions of an exercise are asked of, or raises `AnswerError`: a number may come as a
tensor of one element, a word in capitals, a list as an array.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from ditlens.course.exercise import AnswerError, short


def number(answer: Any) -> float:
    """One number, also of a tensor, an array or an attribute's table with one element.

    >>> number(0.5), number(torch.tensor([2.0]))
    (0.5, 2.0)
    """
    values = numbers(answer if getattr(answer, "ndim", 0) or isinstance(answer, list | tuple) else [answer])
    if len(values) != 1:
        raise AnswerError(f"Got {len(values)} numbers: {short(values)}.")
    if not math.isfinite(values[0]):
        raise AnswerError(f"Got {values[0]}. Was something divided by 0, or the mean taken of nothing?")
    return values[0]


def whole(answer: Any) -> int:
    """One whole number.

    >>> whole(3.0)
    3
    """
    found = number(answer)
    if found != int(found):
        raise AnswerError(f"Got {found:g}, which is no whole number.")
    return int(found)


def numbers(answer: Any) -> list[float]:
    """A list of numbers: of a list, a tuple, an array or a tensor, whatever its shape.

    >>> numbers(torch.ones(2, 1)), numbers((1, 2))
    ([1.0, 1.0], [1.0, 2.0])
    """
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    if hasattr(answer, "flatten"):
        answer = answer.flatten().tolist()
    if isinstance(answer, str | bytes) or not hasattr(answer, "__len__"):
        raise AnswerError(f"Got {short(answer)}, which is no list.")
    if odd := [each for each in answer if isinstance(each, bool | str)]:
        raise AnswerError(f"Got {short(odd[0])}, which is no number.")
    return [float(each) for each in answer]


def text(answer: Any) -> str:
    """A text in small letters, spaces made single, without what surrounds a word.

    >>> text(" The  Image stream. ")
    'the image stream'
    """
    if isinstance(answer, list | tuple | set) and len(answer) == 1:
        (answer,) = answer
    if not isinstance(answer, str):
        quotes = ": write it in quotes" if callable(answer) or isinstance(answer, int | float) else ""
        raise AnswerError(f"Got {short(answer)}, which is no text{quotes}.")
    return " ".join(answer.lower().split()).strip(" .,;:!?\"'")


def choice(*options: str) -> Callable[[Any], str]:
    """One of some words, which are said if it is another one.

    >>> choice("text", "image")("Text")
    'text'
    """

    def read(answer: Any) -> str:
        found = text(answer)
        if found not in options and "_" in "".join(options):
            found = found.replace(" ", "_")  # skin tone
        if found not in options:
            raise AnswerError(f"Got {short(answer)}; choose one of {', '.join(map(repr, options))}.")
        return found

    return read


def words(*options: str) -> Callable[[Any], frozenset[str]]:
    """Some of the options, in any order: a list, a set, or a text with commas.

    >>> sorted(words("hat", "smile", "age")(["Hat", "age"]))
    ['age', 'hat']
    """

    def read(answer: Any) -> frozenset[str]:
        given = answer.split(",") if isinstance(answer, str) else answer
        if other := [each for each in given if text(each) not in options]:
            named = ", ".join(map(repr, options))
            raise AnswerError(f"Got {short(other[0])}; choose one or more of {named}, as a list.")
        return frozenset(map(text, given))

    return read


def ordered(*options: str) -> Callable[[Any], tuple[str, ...]]:
    """All of the options, in an order.

    >>> ordered("probe", "patch")(["patch", "probe"])
    ('patch', 'probe')
    """

    def read(answer: Any) -> tuple[str, ...]:
        given = answer.split(",") if isinstance(answer, str) else answer
        found = tuple(map(choice(*options), given))
        if sorted(found) != sorted(options):
            raise AnswerError(f"Each of {', '.join(map(repr, options))} once; got {short(answer)}.")
        return found

    return read


def function(tried: Callable[[Callable[..., Any]], Any], *arguments: str) -> Callable[[Any], Any]:
    """A function of the learner's: what comes out when it is tried.

    Args:
        tried: Calls the function, by place or by the names below, and returns what the conditions of the exercise
            look at. What it says of a result by an `AnswerError` is shown as it is.
        *arguments: Names of its arguments; a function may give them names of its own.

    >>> function(lambda double: double(3), "x")(lambda x: 2 * x)
    6
    """

    def read(answer: Any) -> Any:
        if not callable(answer):
            raise AnswerError(f"Got {short(answer)}, which is no function.")
        try:
            inspect.signature(answer).bind(*arguments)
        except TypeError as reason:
            raise AnswerError(f"Your function takes other arguments than {', '.join(arguments)}.") from reason
        try:
            result = tried(_named(answer, arguments))
        except AnswerError:  # of the check, not of the function
            raise
        except (Exception, SystemExit) as reason:
            said = " ".join(str(reason).split())
            told = said[:200].rstrip(".")
            raise AnswerError(f"Your function stopped with {type(reason).__name__}: {told}.") from reason
        if result is None or result is ...:
            raise AnswerError("Your function returned nothing yet.")
        return result

    return read


def _named(of: Callable[..., Any], arguments: tuple[str, ...]) -> Callable[..., Any]:
    """A function that can be called with these names of arguments, whatever its own names are."""
    try:
        inspect.signature(of).bind(**dict.fromkeys(arguments))
    except TypeError:
        return lambda *given, **named: of(*given, *(named[name] for name in arguments if name in named))
    return of
