"""Notebook 07: directions and degrees."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch

from ditlens.course.answers import choice, function, number, numbers
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, among, between, near, short

PADDING = Exercise(
    id="07.1",
    title="How much of it is padding?",
    difficulty=1,
    takes="a number from 0 to 1",
    reads=number,
    right=between(0.86, 0.875),
    praise="Most of the difference lies in rows that stand for no word. A norm or a cosine over all rows is a "
    "statement "
    "about padding; mask it, or say that you did not.",
    ideas=(
        Idea(
            between(0.9, 0.95),
            "This looks like a ratio of lengths. The question is about squared lengths: those add up over rows.",
            0.92,
        ),
        Idea(
            between(0.73, 0.79),
            "This looks like the share of rows that are padding. Weigh each row by its squared length.",
            0.75,
        ),
        Idea(
            between(0.84, 0.8599),
            "Close, and a row is missing: the rows of padding begin at number `rows`, counted from 0.",
            0.849,
        ),
        Idea(between(80, 95), "In percent, perhaps. A share lies between 0 and 1.", 86.7),
        Idea(
            lambda found: found > 95,
            "That is a sum of squares. A share is the sum over padding, divided by the sum over all rows.",
            10061.0,
        ),
        Idea(
            between(5.5, 8),
            "Padding over words, perhaps. A share is padding over everything.",
            6.5,
        ),
        Idea(
            between(-0.01, 0.05),
            "Padding stands for no word, so it should not differ. Yet print the rows from `rows` on: the encoder "
            "has "
            "let every one of them read the text before it.",
            0.0,
        ),
        Idea(
            between(0.1, 0.18),
            "That is the share of the text's own rows. Padding has the rest.",
            0.15,
        ),
    ),
    hints=(
        "length[rows:] are the lengths of the rows of padding.",
        "Squares: length.square(). A share: divide by the sum over all rows.",
        "length[rows:].square().sum() / length.square().sum()",
    ),
    example=0.867,
)

PARTS = Exercise(
    id="07.2",
    title="Which rows do it?",
    difficulty=1,
    takes="'word', 'after', 'padding' or 'pooled'",
    reads=choice("word", "after", "padding", "pooled"),
    right=among("word"),
    praise="One row of 64 does it. The rest of the difference is along for the ride: that is what makes "
    "token-local "
    "edits possible.",
    ideas=(
        Idea(
            among("padding"),
            "The longest part by far. Read the table: how far does it move the smile? Length is not effect.",
            "padding",
        ),
        Idea(
            among("after"),
            "These rows have read the word, and know of it. Does the image take the smile from them? Compare "
            "with 'all'.",
            "after",
        ),
        Idea(
            among("pooled"),
            "The pooled vector reaches every block, but the table says what it does by itself.",
            "pooled",
        ),
    ),
    hints=("Which line ends near where 'all' ends?",),
    example="word",
)

PAIRS = tuple(
    (torch.tensor(a), torch.tensor(b), t)
    for a, b, t in (
        ([2.0, 0.0, 0.0], [0.0, 2.0, 0.0], 0.5),
        ([3.0, 0.0, 0.0], [1.5, 2.598076, 0.0], 0.25),
        ([1.0, 0.0, 2.0], [2.0, 1.0, 0.0], 0.8),
        ([2.0, 0.0], [0.0, 2.0], 0.0),
    )
)
"""What the learner's function is tried on: pairs of vectors of equal length."""


def tried(slerp: Any) -> list[float] | None:
    """All numbers of the function's results."""
    found = [slerp(a=a.clone(), b=b.clone(), t=t) for a, b, t in PAIRS]
    return None if any(each is None for each in found) else [x for each in found for x in numbers(each)]


def arc(a: Any, b: Any, t: float) -> Any:
    """Spherical interpolation."""
    angle = torch.arccos(torch.dot(a / a.norm(), b / b.norm()))
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def line(a: Any, b: Any, t: float) -> Any:
    """Linear interpolation."""
    return (1 - t) * a + t * b


def unit(a: Any, b: Any, t: float) -> Any:
    """An arc of length 1."""
    return arc(a / a.norm(), b / b.norm(), t)


def raw(a: Any, b: Any, t: float) -> Any:
    """An arc with an angle from a dot product of vectors that were not normalised."""
    angle = torch.arccos(torch.dot(a, b).clamp(-1, 1))
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def degrees(a: Any, b: Any, t: float) -> Any:
    """An arc by an angle in degrees."""
    angle = torch.rad2deg(torch.arccos(torch.dot(a / a.norm(), b / b.norm())))
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def cosine(a: Any, b: Any, t: float) -> Any:
    """An arc by the cosine of the angle."""
    angle = torch.dot(a / a.norm(), b / b.norm())
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def turned(a: Any, b: Any, t: float) -> Any:
    """An arc from b to a."""
    return arc(b, a, t)


def gives(formula: Any) -> Any:
    """Whether the numbers are those of a formula; where it is undefined, both are."""
    expected = [x for pair in PAIRS for x in formula(*pair).tolist()]

    def same(found: list[float]) -> bool:
        both = zip(found, expected, strict=True)
        return all(math.isnan(x) if math.isnan(y) else near(y, 1e-3)(x) for x, y in both)

    return same


SLERP = Exercise(
    id="07.3",
    title="Along an arc",
    difficulty=2,
    takes="a function of a, b and t that returns a vector",
    reads=function(tried, "a", "b", "t"),
    right=gives(arc),
    praise="On the arc the length stays. For vectors of different length, interpolate the length by itself; for "
    "nearly "
    "parallel ones fall back to the line, or you divide by zero.",
    ideas=(
        Idea(
            gives(line),
            "This is the straight line. Halfway it is shorter than both ends: check with a = (2, 0) and b = (0, "
            "2).",
            line,
        ),
        Idea(
            gives(unit),
            "The result always has length 1. Normalise for the angle only, and combine the vectors themselves.",
            unit,
        ),
        Idea(
            gives(raw),
            "The angle comes from a dot product of vectors that are not of length 1: arccos of it is no angle. "
            "Divide "
            "by both lengths first.",
            raw,
        ),
        Idea(
            gives(degrees),
            "The angle is in degrees, and torch.sin takes radians, as torch.arccos gives them.",
            degrees,
        ),
        Idea(
            gives(cosine),
            "The cosine of the angle was used as the angle. torch.arccos turns one into the other.",
            cosine,
        ),
        Idea(
            gives(turned),
            "At t = 0 it should be a, and yours is b.",
            turned,
        ),
    ),
    hints=(
        "The cosine of the angle is the dot product of a / a.norm() and b / b.norm().",
        "torch.arccos gives the angle from it, torch.sin the weights.",
        "return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)",
    ),
    example=arc,
)


def facts_of(result: Any) -> SimpleNamespace:
    """What the check of a steering looks at: at its largest amount, the means over images."""
    if not hasattr(result, "amounts") or not hasattr(result, "moved"):
        raise AnswerError(f"Got {short(result)}: give what dl.steer returned.")
    at = max(range(len(result.amounts)), key=lambda k: abs(result.amounts[k]))
    smile, drift = ([row[at] for row in table] for table in (result.moved("smile"), result.drift))
    return SimpleNamespace(
        amount=result.amounts[at],
        moved=sum(smile) / len(smile),
        drift=sum(drift) / len(drift),
        text=not result.direction.site,
        everywhere=len(result.direction.vector) > 8 or not result.direction.places,
        random="random" in result.direction.name,
    )


def steered(
    amount: float, moved: float, drift: float, name: str = "smile", patches: int = 1, site: str = "joint"
) -> Any:
    """A steering as far as the check looks at it."""
    return SimpleNamespace(
        amounts=(0.0, amount),
        moved=lambda _: [[0.0, moved]],
        drift=[[0.0, drift]],
        direction=SimpleNamespace(name=name, site=site, vector=[0] * patches, places=tuple(range(patches))),
    )


SETTING = Exercise(
    id="07.4",
    title="More smile, and nothing else",
    difficulty=3,
    takes="what dl.steer returned",
    reads=facts_of,
    right=lambda it: it.moved >= 0.38 and it.drift <= 0.015 and not (it.random or it.text),
    praise="One patch of 64 is enough, and what is not touched does not drift. Where a direction acts matters "
    "more than "
    "how it was made.",
    ideas=(
        Idea(
            lambda it: it.random,
            "This is a random direction. It may even come near: at the mouth, nearly any vector moves the mouth. "
            "That it moves something is no sign that it is the direction of the smile.",
            steered(2.0, -0.12, 0.01, "random, as long as: smile"),
        ),
        Idea(
            lambda it: it.text,
            "This direction moves the text, at rows of the token matrix. The exercise is about one that acts in "
            "the image stream: at the patch of the mouth.",
            steered(1.0, 0.8, 0.034, patches=64, site=""),
        ),
        Idea(
            lambda it: it.everywhere,
            "The direction is added at all patches, and moves what lies there, too: background, hair, shirt. Which "
            "direction acts at the mouth only?",
            steered(1.0, 0.34, 0.06, patches=64),
        ),
        Idea(
            lambda it: it.amount < 0,
            "A negative amount goes to the frown.",
            steered(-2.0, -0.15, 0.006),
        ),
        Idea(
            lambda it: it.moved < 0.38,
            "The right place, and not far enough, or so far that the picture no longer follows. Try other amounts.",
            steered(1.0, 0.24, 0.003),
        ),
        Idea(
            lambda it: it.drift > 0.015,
            "Far enough, at the price of everything else. Try a smaller amount.",
            steered(9.0, 0.43, 0.03),
        ),
    ),
    hints=(
        "The table above has both directions at amounts from -2 to 2. Which keeps its drift small?",
        "dl.steer(model, local, [2, 3, 4, 6], ...) measures several amounts at once; print it.",
        "With local, some amount between 3 and 4.5 will do.",
    ),
    example=steered(3.5, 0.39, 0.0125),
)

SPREAD = Exercise(
    id="07.5",
    title="The cosine of nothing",
    difficulty=2,
    takes="a number, the standard deviation of the cosines",
    reads=number,
    right=between(0.0065, 0.0092),
    praise="One over the root of the number of dimensions: 0.008. Beside that, the 0.05 of the attributes looks "
    "large; beside the nulls of the table, which keep to where texts lie, it is small. One number, two verdicts: "
    "it is the null that decides.",
    ideas=(
        Idea(
            between(0.0015, 0.0035),
            "Were the numbers drawn with torch.rand? They are all positive, so the vectors point the same way, "
            "and the cosines lie at 0.75. torch.randn draws normal ones.",
            0.0023,
        ),
        Idea(
            between(0.0055, 0.0064),
            "That is the mean size of a cosine, without its sign. The question is the standard deviation.",
            0.0062,
        ),
        Idea(
            between(0.0093, 0.2),
            "Too large for 16384 dimensions. One cosine alone can be anything: take the spread of hundreds. And a "
            "direction has all 64 rows of 256 numbers, flattened.",
            0.0625,
        ),
        Idea(
            between(0.2, 1.0),
            "In two or three dimensions, perhaps. Draw the vectors: in many dimensions nearly all directions are "
            "nearly "
            "orthogonal.",
            0.5,
        ),
        Idea(
            between(-1e-3, 1e-3),
            "That looks like the mean of the cosines, which is about 0, or like 1 / dimensions. The question is "
            "how "
            "far they scatter.",
            6.1e-5,
        ),
    ),
    hints=(
        "torch.randn(2, 500, 64 * 256) draws two heaps of 500 vectors.",
        "torch.cosine_similarity(first, second) gives 500 cosines; .std() their spread.",
        "It is about 1 / sqrt(64 * 256).",
    ),
    example=1 / 128,
)

LESSON = Lesson(
    number="07",
    name="directions",
    title="Directions and degrees",
    goal="Move along a direction by an amount: in the text, in one token, in a hidden state.",
    minutes=45,
    before="notebook 06 helps; dot products.",
    objectives=(
        "make a direction from two texts and from hidden states, and walk along it",
        "find the rows and the patches at which a direction acts",
        "say what an amount means, and what lies beyond both ends",
        "hold a direction against the right null",
    ),
    exercises=(PADDING, PARTS, SLERP, SETTING, SPREAD),
    discuss=(
        (
            "What should '-1 times adding a hat' be, and who decides?",
            "A person without a hat cannot lose one. Some propose 'hair where the hat would be'. The line in the "
            "space of texts goes on; its meaning is a decision of whoever uses it.",
        ),
        (
            "A paper shows a matrix of small cosines between directions and says 'disentangled'. What would you "
            "ask for?",
            "The nulls: random pairs of texts, the same attribute in other sentences, vectors with the same "
            "covariance. "
            "Then the effect: does moving one attribute change another in images? And whether padding was left "
            "out.",
        ),
    ),
    trouble=(
        "The slowest cell draws 64 portraits for the direction at a site, about ten seconds.",
        "Learners compare amounts of two directions as if they had one unit. Ask: 1 what?",
    ),
)
