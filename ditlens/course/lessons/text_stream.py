"""Notebook 04: the text stream, decomposed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ditlens.course.answers import function, number, ordered, text
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, between, near, short

LEARNS = Exercise(
    id="04.1",
    title="Who learns of the word?",
    difficulty=1,
    takes="the four words in order, as a list",
    reads=ordered("red", "hair", "shirt", "portrait"),
    right=lambda order: order == ("hair", "red", "shirt", "portrait"),
    praise="Hair learns most: 'long' says something about it. Red is nearer, and has less to do with it; shirt "
    "comes later, and learns next to nothing; portrait comes before, and cannot learn anything.",
    ideas=(
        Idea(
            lambda order: order == ("red", "hair", "shirt", "portrait"),
            "That is the order of the distances, nearest first. It sounds sensible, but the encoder was "
            "trained on "
            "what words say about each other: compare the bars.",
            ["red", "hair", "shirt", "portrait"],
        ),
        Idea(
            lambda order: order[-1] != "portrait",
            "You let an earlier word learn of a later one. This encoder reads from left to right. Which "
            "bars are "
            "exactly zero?",
            ["hair", "red", "portrait", "shirt"],
        ),
        Idea(
            lambda order: order.index("shirt") < 2,
            "You placed shirt high: it comes later, so it may learn. Whether it does is another matter. "
            "Look at its "
            "bar.",
            ["shirt", "hair", "red", "portrait"],
        ),
    ),
    hints=(
        "Read the four bars of the figure.",
        "Read the bars as numbers: {name: round(float(change[i]), 2) for i, name in enumerate(names)}.",
    ),
    example=["hair", "red", "shirt", "portrait"],
)

PADDING = Exercise(
    id="04.2",
    title="What a norm counts",
    difficulty=2,
    takes="a number from 0 to 1",
    reads=number,
    right=near(0.691, 0.008),
    praise="More than two thirds of the difference lie in rows that belong to no word, and the changed "
    "word has about 7 "
    "percent. A norm over the whole matrix is a number about padding.",
    ideas=(
        Idea(
            near(0.31, 0.03),
            "That is the share of the real rows: you took the mask instead of its opposite.",
            0.309,
        ),
        Idea(
            near(0.831, 0.008),
            "That is the square root of the share, the share of the norm. The question is about squared norms.",
            0.831,
        ),
        Idea(
            near(0.807, 0.015),
            "You added up norms. Squares add up to the squared norm of the whole; norms do not. Square "
            "first.",
            0.807,
        ),
        Idea(
            near(45 / 64, 0.004),
            "That is the share of the rows that are padding. It is close by accident: weigh each row by its "
            "squared difference.",
            45 / 64,
        ),
        Idea(
            between(0, 0.1),
            "That is about the share of the changed word alone, or you expected padding not to count. It "
            "takes part "
            "in everything. Sum over the rows where the mask is False.",
            0.0,
        ),
        Idea(
            lambda share: share > 1,
            "A share is at most 1: divide by the sum of all squares, and leave percent out of it.",
            69.1,
        ),
    ),
    hints=(
        "Squared norm of each row of the difference; then the sum where the mask is False, over the sum "
        "of all.",
        "squared = (pair.tokens[0] - pair.tokens[1]).square().sum(-1) has a number for each row.",
        "Type it: squared[~pair.mask[0]].sum() / squared.sum()",
    ),
    example=0.691,
)

FIRST = Exercise(
    id="04.3",
    title="What the first component is",
    difficulty=2,
    takes="a correlation, as a number from -1 to 1",
    reads=number,
    right=lambda r: 0.983 <= abs(r) <= 0.995,
    praise="The component that explains most is, here, how long a row is. It is the largest thing that "
    "rows differ "
    "in, and says nothing of what the words mean. Explained variance is size, not importance.",
    ideas=(
        Idea(
            between(0.87, 0.92),
            "That looks like the share of variance that the component explains. A share is not a "
            "correlation: "
            "correlate the coordinates with the norms.",
            0.89,
        ),
        Idea(
            lambda r: abs(abs(r) - 0.68) < 0.04,
            "That is about the correlation with the position of a row in the text. Take the norms instead.",
            -0.68,
        ),
        Idea(
            lambda r: abs(abs(r) - 0.33) < 0.05,
            "That is the correlation before the first block, at joint.0.text.in. The question is about "
            "its output.",
            0.33,
        ),
        Idea(
            lambda r: 0.975 <= abs(r) < 0.983,
            "That looks like the square of the correlation, or like one with the logarithm of the norms. Take "
            "the correlation itself, with the norms as they are.",
            0.977,
        ),
        Idea(
            lambda r: 0.94 <= abs(r) < 0.965,
            "That is the correlation with the squares of the norms. Take the norms themselves.",
            0.954,
        ),
        Idea(
            lambda r: 0.12 <= abs(r) <= 0.17,
            "That looks like the second component. The first one is column 0 of the coordinates.",
            0.143,
        ),
        Idea(
            lambda r: abs(r) < 0.1,
            "Then length would say nothing of the place on the map. Compare the two figures: which words lie on "
            "the left of the map, and how long are their rows after block 0? Then compute it.",
            0.0,
        ),
        Idea(
            lambda r: abs(r) > 0.995,
            "A correlation of 1 is that of a thing with itself, or a guess. Compute it from the coordinates and "
            "the norms.",
            1.0,
        ),
    ),
    hints=(
        "Take the real rows of the site only, the first len(names) of them: padding is no word.",
        "view.project(rows, site)[:, 0] gives the coordinates, rows.norm(dim=-1) the norms.",
        "np.corrcoef(coordinates, norms)[0, 1], with rows = cache['joint.0.text.out', 0][0, : len(names)].",
    ),
    example=0.99,
)

ROWS = np.array(
    [[5.0, 2, 1], [5, -2, -1], [7, 2, 0], [7, -2, 0], [7, 1, 1], [7, -1, -1], [12, 0, 3], [12, 0, -3]]
)
LEVELS = ["a", "a", "b", "b", "b", "b", "c", "c"]


def between_levels(rows: np.ndarray, levels: list[str]) -> float:
    """Share of the variance of rows that lies between the means of levels."""
    centred = rows - rows.mean(0)
    names = np.asarray(levels)
    means = np.stack([centred[names == each].mean(0) for each in levels])
    return float((means**2).sum() / (centred**2).sum())


def uncentred(rows: np.ndarray, levels: list[str]) -> float:
    """A wrong answer: the mean row counts."""
    means = np.stack([rows[np.asarray(levels) == each].mean(0) for each in levels])
    return float((means**2).sum() / (rows**2).sum())


def unweighted(rows: np.ndarray, levels: list[str]) -> float:
    """A wrong answer: every level counts once."""
    means = np.stack([rows[np.asarray(levels) == each].mean(0) for each in sorted(set(levels))])
    return float(means.var(0).sum() / rows.var(0).sum())


def sum_of_levels(rows: np.ndarray, levels: list[str]) -> float:
    """A wrong answer: squares of the means of levels, each level once, over those of all rows."""
    centred = rows - rows.mean(0)
    means = np.stack([centred[np.asarray(levels) == each].mean(0) for each in sorted(set(levels))])
    return float((means**2).sum() / (centred**2).sum())


def mean_of_levels(rows: np.ndarray, levels: list[str]) -> float:
    """A wrong answer: the mean square of the means of levels over that of the rows."""
    return sum_of_levels(rows, levels) * len(rows) / len(set(levels))


def by_channel(rows: np.ndarray, levels: list[str]) -> float:
    """A wrong answer: the mean of the channels' shares."""
    return float(np.mean([between_levels(rows[:, [k]], levels) for k in range(rows.shape[1])]))


def unsquared(rows: np.ndarray, levels: list[str]) -> float:
    """A wrong answer: the norm of what the levels explain, over the norm of all."""
    return between_levels(rows, levels) ** 0.5


def tried(of: Callable[[np.ndarray, list[str]], Any]) -> float | None:
    """The share that a function gives."""
    given = of(ROWS.copy(), list(LEVELS))
    return None if given is None or given is ... else number(given)


SHARE = between_levels(ROWS, LEVELS)

EXPLAINED = Exercise(
    id="04.4",
    title="How much a level explains",
    difficulty=3,
    takes="a function of rows (n, width) and a list of n levels that returns a number from 0 to 1",
    reads=function(tried, "rows", "levels"),
    right=near(SHARE, 1e-4),
    praise="Variance between the levels over all variance. 1 means that a row is fixed by its level, 0 "
    "that the levels "
    "have the same mean. It looks at all channels, not at the one or two that happen to be drawn.",
    ideas=(
        Idea(
            near(1 - SHARE, 1e-4),
            "That is the share that the levels leave over: the variance within them. The question is "
            "about the rest.",
            lambda rows, levels: 1 - between_levels(rows, levels),
        ),
        Idea(
            near(unweighted(ROWS, LEVELS), 1e-4),
            "Every level counts once in your function, however many rows it has. A level with more rows "
            "weighs more.",
            unweighted,
        ),
        Idea(
            lambda share: any(
                near(wrong(ROWS, LEVELS), 1e-4)(share) for wrong in (sum_of_levels, mean_of_levels)
            ),
            "You add up the squares of the levels' means with one term for each level. A level must count as "
            "often as it has rows: weigh its square by their number, or repeat its mean for each row.",
            sum_of_levels,
        ),
        Idea(
            near(by_channel(ROWS, LEVELS), 1e-4),
            "That is a share for each channel, and their mean, so that a channel that hardly varies counts as "
            "much as one that varies a lot. Add up the squares of all channels, then divide once.",
            by_channel,
        ),
        Idea(
            near(unsquared(ROWS, LEVELS), 1e-4),
            "That is the share of the norms. Variance is in squares, and only squares add up: leave out the root.",
            unsquared,
        ),
        Idea(
            near(uncentred(ROWS, LEVELS), 1e-4),
            "Your rows still have their mean in them. It is the same in all rows, explains nothing, and "
            "is large: "
            "subtract it first.",
            uncentred,
        ),
        Idea(
            near(between_levels(ROWS[:, :1], LEVELS), 1e-4),
            "Your function looks at one channel, or at one component, in which the levels stand out. All "
            "channels "
            "were asked for.",
            lambda rows, levels: between_levels(rows[:, :1], levels),
        ),
        Idea(
            lambda share: not 0 <= share <= 1,
            "A share lies between 0 and 1. Divide the squares between the levels by all squares.",
            lambda rows, levels: float((rows**2).sum()) + len(levels),
        ),
    ),
    hints=(
        "Subtract the mean row. Then replace each row by the mean of the rows of its level: what is left "
        "of the sum "
        "of squares?",
        "means = np.stack([centred[np.array(levels) == each].mean(0) for each in levels]) has a row for "
        "each row.",
        "Return (means**2).sum() / (centred**2).sum()",
    ),
    example=between_levels,
)


COLOURS = frozenset(
    "red black brown blond blonde grey gray white green blue ginger auburn dark light fair orange pink purple "
    "yellow silver golden chestnut".split()
)


def two_texts(answer: Any) -> SimpleNamespace:
    """Two texts as lists of words, what differs, and whether it is the colour of the hair."""
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        raise AnswerError(f"Got {short(answer)}, which is not two texts.")
    first, second = (text(each).replace(",", " , ").split() for each in answer)
    differ = [place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b]
    hair = False
    if differ:
        place = differ[0]
        before, after = first[max(0, place - 2) : place], first[place + 1 : place + 3]
        hair = {first[place], second[place]} <= COLOURS and (
            "hair" in after or ("hair" in before and (not after or after[0] in (",", "and", "with")))
        )
    smiles = [place for place, word in enumerate(first) if word == "smile"]
    there = bool(smiles) and "smile" in second
    return SimpleNamespace(
        same=len(first) == len(second), differ=differ, hair=hair, smiles=smiles if there else []
    )


BLIND = Exercise(
    id="04.5",
    title="A smile that cannot know",
    difficulty=2,
    takes="two texts, ('...', '...')",
    reads=two_texts,
    right=lambda pair: (
        pair.same and pair.smiles and len(pair.differ) == 1 and pair.differ[0] > pair.smiles[-1] and pair.hair
    ),
    praise="What comes first cannot know what comes later, as long as the encoder reads from left to "
    "right. So the order of the phrases decides which word knows of which, and whoever compares rows must know "
    "the order.",
    ideas=(
        Idea(
            lambda pair: not pair.smiles,
            "The word smile must be in both texts: it is its row that is compared.",
            ("a person with red hair", "a person with black hair"),
        ),
        Idea(
            lambda pair: not pair.same or len(pair.differ) > 1,
            "More than one word differs, or one text is longer. Then rows are compared with rows of other "
            "words: change one word, in its place.",
            ("a smile and red hair", "a smile and very long hair"),
        ),
        Idea(
            lambda pair: not pair.differ,
            "The two texts are the same. The colour of the hair should differ.",
            ("a smile and red hair", "a smile and red hair"),
        ),
        Idea(
            lambda pair: pair.smiles[0] < pair.differ[0] < pair.smiles[-1],
            "There is a smile behind the changed word, too, and its row is made with that word in view. Name the "
            "smile once.",
            ("a smile, red hair, a smile", "a smile, black hair, a smile"),
        ),
        Idea(
            lambda pair: pair.differ[0] < pair.smiles[0],
            "The word that changes comes before smile, so the row of smile is made with it in view. Where "
            "would it have to stand?",
            ("a person with red hair and a smile", "a person with black hair and a smile"),
        ),
        Idea(
            lambda pair: not pair.hair,
            "The place is right, but the word that differs is not a colour of the hair, such as red, black, "
            "brown, blond or grey in front of 'hair'.",
            ("a smile and long red hair", "a smile and short red hair"),
        ),
    ),
    hints=(
        "Move a phrase: the encoder reads from left to right.",
        "Smile first, hair afterwards; then change the colour only.",
    ),
    example=("a person with a smile and red hair", "a person with a smile and black hair"),
)

LESSON = Lesson(
    number="04",
    name="text_stream",
    title="The text stream, decomposed",
    goal="What a word becomes on its way through the blocks, and what its neighbours learn of it.",
    minutes=40,
    before="Notebook 03; variance, and what a principal component is.",
    objectives=(
        "find the rows of a word, and tell them from padding and the end token",
        "follow a changed word through the encoder and the blocks, and say which rows learn of it",
        "decompose rows into principal components, and say what a component is before you name it",
        "measure how much of a row is fixed by one word, in its own place and in others",
    ),
    exercises=(LEARNS, PADDING, FIRST, EXPLAINED, BLIND),
    discuss=(
        (
            "The padding changes when a word changes, and the image attends to it. Is it still padding?",
            "By name only. It carries a copy of what the text says, and the model was trained with it "
            "there. Cut it "
            "off, and the softmax has other terms. One may leave it out of a statistic, and say so, but "
            "not out of "
            "the model.",
        ),
        (
            "A classifier tells the smile from the row of the hat. Does the meaning of the smile leak "
            "into the hat?",
            "A trace of it can be told there; how large it is, and whether anything uses it, an accuracy "
            "does not "
            "say. Ask for the order of the words, for the size, and for an intervention.",
        ),
    ),
    trouble=(
        "Rows are counted from 0, and row 0 is the start token: the first word is row 1.",
        "With SD3.5 a text has rows of two kinds of encoders, CLIP first, T5 behind; T5 reads in both "
        "directions, so "
        "no bar there is exactly zero.",
    ),
)
