"""Notebook 05: the image stream, decomposed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ditlens.course.answers import choice, function, number, whole
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, among, near, short

PLACE = Exercise(
    id="05.1",
    title="How much of PC1 is the place?",
    difficulty=2,
    takes="a number from 0 to 1",
    reads=number,
    right=near(0.831, 0.02),
    praise="More than four fifths of the first component say which patch it is, the same in every "
    "picture. What differs "
    "from person to person is in the rest. Compare images place by place, and the place drops out.",
    ideas=(
        Idea(
            near(0.169, 0.02),
            "That is what is left within the places. The question is about the variance between them.",
            0.169,
        ),
        Idea(
            near(0.262, 0.01),
            "That is the share of all variance that the first component explains. How much of the "
            "component itself "
            "is the place?",
            0.262,
        ),
        Idea(
            lambda share: 0 <= share < 0.1,
            "You took the mean over the patches of each image, and its variance from image to image. The "
            "place is "
            "the other axis: take the mean over the images.",
            0.03,
        ),
        Idea(
            near(0.911, 0.01),
            "That is a ratio of standard deviations. Shares are of the variance: square it.",
            0.911,
        ),
        Idea(
            lambda share: share > 1,
            "A share is at most 1: divide by the variance of all values of the component.",
            180.0,
        ),
    ),
    hints=(
        "first has the shape (images, patches). The mean of a place is its mean over the images.",
        "The variance of the 64 means, over the variance of all 200 x 64 values.",
        "Type it: first.mean(0).var() / first.var()",
    ),
    example=0.831,
)


def component_order(answer: Any) -> tuple[int, ...]:
    """The numbers 1 to 5 in an order."""
    if isinstance(answer, str):
        answer = answer.replace(",", " ").split()
        answer = [int(each) for each in answer]
    if not hasattr(answer, "__len__"):
        raise AnswerError(f"Got {short(answer)}, which is no list.")
    order = tuple(whole(each) for each in answer)
    if sorted(order) == [0, 1, 2, 3, 4]:
        raise AnswerError("Count the components from 1, as the figure does.")
    if sorted(order) != [1, 2, 3, 4, 5]:
        raise AnswerError(f"Each of 1 to 5 once; got {short(answer)}.")
    return order


ORDER = Exercise(
    id="05.2",
    title="Large is not important",
    difficulty=2,
    takes="the numbers 1 to 5 in an order",
    reads=component_order,
    right=among((2, 4, 1, 5, 3)),
    praise="The third component explains more variance than the fourth and fifth, and holds none of the "
    "smile. The order "
    "by variance is one thing, the order by what you ask about another.",
    ideas=(
        Idea(
            among((1, 2, 3, 4, 5)),
            "That is the order by explained variance. It was computed without the smile, and knows "
            "nothing of it. "
            "Correlate each component with the smile.",
            [1, 2, 3, 4, 5],
        ),
        Idea(
            among((1, 5, 3, 4, 2), (2, 4, 3, 5, 1)),
            "You sorted signed correlations. The sign of a component is a convention: -0.5 says as much "
            "as 0.5.",
            [1, 5, 3, 4, 2],
        ),
        Idea(
            among((3, 5, 1, 4, 2)),
            "That is the right order from the wrong end: most first.",
            [3, 5, 1, 4, 2],
        ),
    ),
    hints=(
        "Correlate each of the five columns of the coordinates with the column of the smile.",
        "np.corrcoef(coordinates[:, k], smile)[0, 1] for k in range(5); then sort by its square, largest "
        "first.",
        "Type it: [1 + int(k) for k in np.argsort([-np.corrcoef(c, smile)[0, 1] ** 2 for c in "
        "coordinates.T])]",
    ),
    example=[2, 4, 1, 5, 3],
)

NUMBERS = (
    "smile", "mouth_open", "eye_open", "brow_tilt", "gaze", "hair_length", "face_width", "skin_tone", "age",
    "beard", "head_tilt",
)  # fmt: skip

SPREAD = Exercise(
    id="05.3",
    title="When is the mean enough?",
    difficulty=2,
    takes="the name of one of the measured numbers",
    reads=choice(*NUMBERS),
    right=among("hair_length"),
    praise="How long the hair is shows in how many patches are hair, and a mean counts patches. No single "
    "patch knows as "
    "much. So a mean is no wrong choice in general: it is the wrong one for what lies in one place.",
    ideas=(
        Idea(
            among("smile", "mouth_open", "eye_open", "brow_tilt", "gaze", "age"),
            "This one lies in a few patches: compare the best patch with the mean, it loses nearly "
            "everything. Which "
            "attribute shows in the whole picture?",
            "smile",
        ),
        Idea(
            among("skin_tone", "head_tilt", "face_width"),
            "The mean is good here, as one would think of something that changes many patches. But a "
            "single patch "
            "is better still: compare the two numbers.",
            "skin_tone",
        ),
        Idea(
            among("beard"),
            "A beard covers several patches, and the mean has some of it. One patch has much more.",
            "beard",
        ),
    ),
    hints=(
        "dl.probe(study, name, tokens='mean').best().score.value is the mean's; without tokens= the best "
        "one's.",
        "For every name, print both. For which is the best cell of all the mean itself (best().token is "
        "'mean')?",
        "Ask what changes the number of patches that show something, rather than what a patch shows.",
    ),
    example="hair_length",
)


def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Rows in five dimensions, and a map of them that keeps some neighbours only."""
    numbers = np.random.default_rng(3)
    rows = numbers.normal(size=(30, 5))
    return rows, rows[:, :2] + 0.1 * numbers.normal(size=(30, 2))


def nearest(rows: np.ndarray, count: int, skip: int = 1) -> np.ndarray:
    """Numbers of the nearest rows of each row, itself left out."""
    far = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    return far.argsort(1)[:, skip : count + skip]


def kept_neighbours(rows: np.ndarray, places: np.ndarray, k: int, skip: int = 1) -> float:
    """Share of the k nearest rows that are among the k nearest on the map."""
    before, after = nearest(rows, k, skip), nearest(places, k, skip)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(before, after, strict=True)]))


def in_order(rows: np.ndarray, places: np.ndarray, k: int) -> float:
    """A wrong answer: neighbours count only at the same rank."""
    return float((nearest(rows, k) == nearest(places, k)).mean())


def undivided(rows: np.ndarray, places: np.ndarray, k: int) -> float:
    """A wrong answer: how many, not which share."""
    return k * kept_neighbours(rows, places, k)


def itself_again(rows: np.ndarray, places: np.ndarray, k: int) -> float:
    """A wrong answer: the row itself and its k nearest, over k + 1."""
    return kept_neighbours(rows, places, k + 1, skip=0)


def too_few(rows: np.ndarray, places: np.ndarray, k: int) -> float:
    """A wrong answer: [1:k], which are k - 1 neighbours, over k."""
    return kept_neighbours(rows, places, k - 1) * (k - 1) / k


def jaccard(rows: np.ndarray, places: np.ndarray, k: int) -> float:
    """A wrong answer: over all that are in one of the two sets."""
    both = zip(nearest(rows, k), nearest(places, k), strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in both]))


def tried(of: Callable[..., Any]) -> float | None:
    """The share that a function finds."""
    given = of(*clouds(), 5)
    return None if given is None or given is ... else number(given)


TRUE = kept_neighbours(*clouds(), 5)

KEPT = Exercise(
    id="05.4",
    title="Did the map keep the neighbours?",
    difficulty=3,
    takes="a function of rows (n, width), places (n, 2) and k that returns a number from 0 to 1",
    reads=function(tried, "rows", "places", "k"),
    right=near(TRUE, 1e-4),
    praise="Neighbours are what UMAP promises, so that is what to check. Chance keeps k of n - 1. Half of "
    "them kept is good "
    "for a map in two dimensions, and still means that every other neighbour you see is none.",
    ideas=(
        Idea(
            near(kept_neighbours(*clouds(), 5, skip=0), 1e-4),
            "Each row is its own nearest neighbour in your function, before and on the map. That one is "
            "always kept: "
            "leave it out.",
            lambda rows, places, k: kept_neighbours(rows, places, k, skip=0),
        ),
        Idea(
            near(itself_again(*clouds(), 5), 1e-4),
            "You take k + 1 rows, and one of them is the row itself, which is always kept. Begin behind it, "
            "and divide by k.",
            itself_again,
        ),
        Idea(
            lambda share: any(
                near(wrong, 1e-4)(share) for wrong in (too_few(*clouds(), 5), kept_neighbours(*clouds(), 4))
            ),
            "You compare k - 1 neighbours: [1:k] ends before k. The row itself is column 0, so the k nearest "
            "are the columns 1 to k.",
            too_few,
        ),
        Idea(
            near(jaccard(*clouds(), 5), 1e-4),
            "You divide by all that are in one of the two sets. The question is which share of the k nearest "
            "rows is kept: divide by k.",
            jaccard,
        ),
        Idea(
            near(100 * TRUE, 1e-2),
            "That is in percent. A share lies between 0 and 1.",
            lambda rows, places, k: 100 * kept_neighbours(rows, places, k),
        ),
        Idea(
            near(in_order(*clouds(), 5), 1e-4),
            "Your function wants each neighbour at the same rank. Who is among the k nearest counts, in "
            "any order: "
            "compare sets.",
            in_order,
        ),
        Idea(
            near(undivided(*clouds(), 5), 1e-3),
            "That is how many neighbours are kept, not which share of the k.",
            undivided,
        ),
        Idea(
            near(kept_neighbours(*clouds(), 1), 1e-4),
            "Your function looks at the nearest neighbour only. The k nearest were asked for.",
            lambda rows, places, k: kept_neighbours(rows, places, min(k, 1)),
        ),
    ),
    hints=(
        "ranked(rows) has the nearest rows of each row, in order; ranked(places) those on the map.",
        "ranked(rows)[:, 1 : k + 1] gives the k nearest of each row; column 0 is the row itself.",
        "The mean of len(set(a) & set(b)) / k over the rows, with a and b the two lists of a row.",
    ),
    example=kept_neighbours,
)

LESSON = Lesson(
    number="05",
    name="image_stream",
    title="The image stream, decomposed",
    goal="PCA and UMAP of patches, and how both can mislead.",
    minutes=45,
    before="Notebook 03; notebook 04 helps.",
    objectives=(
        "draw the patches of a picture in their first three components, and say what the colours can and "
        "cannot show",
        "find out what a component is about before you name it",
        "choose what a row is (every patch, one patch, the mean), and say what the choice hides",
        "read a UMAP for what it keeps, and test it on data in which there is nothing to find",
    ),
    exercises=(PLACE, ORDER, SPREAD, KEPT),
    discuss=(
        (
            "A paper shows a UMAP of hidden states with three islands and says that the model knows three "
            "kinds. What "
            "would you ask for?",
            "The same map with other seeds and numbers of neighbours, and of shuffled data; the share of "
            "neighbours "
            "that is kept; what the islands are by an attribute that was measured independently; a "
            "number, such as "
            "held-out accuracy, in the full space.",
        ),
        (
            "When is the mean over all patches the right row?",
            "When the question is about the whole picture or about how many patches show something, as "
            "with the "
            "length of the hair; and when it is checked against single patches. Not before one has looked.",
        ),
    ),
    trouble=(
        "The first UMAP of a session imports and compiles for ten seconds to a minute; later ones take "
        "less than a "
        "second. Run that cell before you explain it.",
        "UMAP on another machine or version may turn, mirror or rearrange the islands; that is part of "
        "the lesson.",
        "umap-learn is missing: pip install 'ditlens[analysis]'.",
    ),
)
