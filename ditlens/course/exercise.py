"""Exercises that diagnose: an answer is right, or shows a wrong idea that is known, or is wrong in another way.

An exercise is data. Its check knows no notebook: it gets a value, reads it, and gives reasons.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ditlens.cards import Carded, Piece
from ditlens.errors import SettingError

STARS = {1: "★☆☆", 2: "★★☆", 3: "★★★"}
"""What a difficulty looks like: a minute, a few minutes, a quarter of an hour."""


class AnswerError(Exception):
    """An answer is of a kind that its exercise cannot judge; the message says why, if more is known."""


@dataclass(frozen=True)
class Idea:
    """A wrong idea that people have, and how an answer shows it.

    Attributes:
        shows: Whether an answer, as its exercise reads it, comes from this idea.
        says: What the answer suggests, why it is wrong, and what to look at; never the right answer.
        example: An answer that shows it.
    """

    shows: Callable[[Any], bool]
    says: str
    example: Any


@dataclass(frozen=True)
class Exercise:
    """A question with a check.

    Attributes:
        id: Number of its notebook and its own, ``"05.2"``.
        title: A few words.
        difficulty: 1 to 3.
        takes: What an answer is, after "takes": "a number from 0 to 1".
        reads: Makes an answer comparable (`number`, `text`, ...), or raises; see `ditlens.course.answers`.
        right: Whether an answer, as read, is right.
        praise: What a right answer means, and what follows from it.
        ideas: Wrong ideas, the most particular first.
        hints: From a nudge to nearly everything.
        example: A right answer.
    """

    id: str
    title: str
    difficulty: Literal[1, 2, 3]
    takes: str
    reads: Callable[[Any], Any]
    right: Callable[[Any], bool]
    praise: str
    ideas: Sequence[Idea]
    hints: Sequence[str]
    example: Any

    @property
    def stars(self) -> str:
        """The difficulty as three stars."""
        return STARS[self.difficulty]

    def verdict(self, answer: Any) -> Verdict:
        """Judge an answer; never raises, whatever the answer is."""
        if answer is ... or answer is None:
            return Verdict(
                self, None, f"Not answered yet. It takes {self.takes}. A hint: course.hint({self.id!r})"
            )
        try:
            value = self.reads(answer)
        except AnswerError as reason:
            return Verdict(self, None, f"{reason} This exercise takes {self.takes}.")
        except Exception:  # whatever an answer can be, its reader may stumble over it
            return Verdict(self, None, f"This exercise takes {self.takes}; got {short(answer)}.")
        if holds(self.right, value):
            return Verdict(self, True, self.praise)
        for idea in self.ideas:
            if holds(idea.shows, value):
                return Verdict(self, False, idea.says, idea)
        if isinstance(value, float) and holds(self.right, value / 100):
            return Verdict(self, False, f"In percent, perhaps? This exercise takes {self.takes}.")
        return Verdict(
            self, False, f"Not yet, and not a mistake that is known here. A hint: course.hint({self.id!r})"
        )


@dataclass(frozen=True, repr=False)
class Verdict(Carded):
    """What a check says of an answer.

    Attributes:
        exercise: The exercise.
        right: Whether the answer is right; None if there was none that can be judged.
        says: Why.
        idea: The wrong idea that the answer shows, if it is one of those that are known.
    """

    exercise: Exercise
    right: bool | None
    says: str
    idea: Idea | None = None

    def _card(self) -> list[Piece]:
        mark = {True: "✓ right", False: "✗ not yet", None: "○ open"}[self.right]
        return [f"{self.exercise.id} · {self.exercise.title}: {mark}", self.says]


@dataclass(frozen=True)
class Lesson:
    """What is known of a notebook besides its cells.

    Attributes:
        number: ``"05"``.
        name: Its file's name without number and ending, ``"image_stream"``.
        title: Its heading.
        goal: One sentence under the heading.
        minutes: How long a learner needs, exercises included.
        objectives: What the learner can do afterwards, each after "You will".
        before: What to know first.
        exercises: Its exercises.
        gpu: Whether it needs a GPU.
        discuss: Questions for a class, with what a teacher may expect to hear.
        trouble: What goes wrong in class, and what helps.
    """

    number: str
    name: str
    title: str
    goal: str
    minutes: int
    objectives: Sequence[str]
    before: str
    exercises: Sequence[Exercise]
    gpu: str = "not needed"
    discuss: Sequence[tuple[str, str]] = ()
    trouble: Sequence[str] = ()

    @property
    def stem(self) -> str:
        """Number and name, ``"05_image_stream"``."""
        return f"{self.number}_{self.name}"

    def exercise(self, id: str) -> Exercise:
        """One of its exercises.

        Raises:
            SettingError: If it has none of this number.
        """
        found = {each.id: each for each in self.exercises}
        if id not in found:
            raise SettingError(
                f"There is no exercise {id!r}; notebook {self.number} has {', '.join(found) or 'none'}."
            )
        return found[id]


def holds(condition: Callable[[Any], bool], value: Any) -> bool:
    """Whether a condition is met; one that cannot be asked of a value is not."""
    with contextlib.suppress(Exception):
        return bool(condition(value))
    return False


def short(answer: Any) -> str:
    """An answer in one line of at most 80 letters.

    >>> short({"a": 1})
    "{'a': 1}"
    """
    try:
        text = " ".join(repr(answer).split())
    except Exception:
        text = f"a {type(answer).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def near(value: float, tolerance: float) -> Callable[[Any], bool]:
    """Whether a number lies within a tolerance of a value.

    >>> near(0.5, 0.1)(0.55), near(0.5, 0.1)(0.7)
    (True, False)
    """
    return lambda answer: abs(answer - value) <= tolerance and math.isfinite(answer)


def between(low: float, high: float) -> Callable[[Any], bool]:
    """Whether a number lies in a range, both ends included.

    >>> between(0, 1)(1), between(0, 1)(2)
    (True, False)
    """
    return lambda answer: low <= answer <= high


def among(*values: Any) -> Callable[[Any], bool]:
    """Whether an answer is one of some values.

    >>> among("text", "both")("both")
    True
    """
    return lambda answer: answer in values
