"""Notebook 10: measuring disentanglement."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ditlens.course.answers import choice, function, number, numbers, words
from ditlens.course.exercise import Exercise, Idea, Lesson, among, between, near

ANGLE = Exercise(
    id="10.1",
    title="What comes along at 60 degrees",
    difficulty=1,
    takes="a number",
    reads=number,
    right=near(0.866, 0.01),
    praise="It is the sine of the angle, about 0.87: at 60° the reading of b is mostly a reading of a.",
    ideas=(
        Idea(
            near(0.667, 0.01),
            "60 of 90 degrees looks like two thirds. But 30° gave a half and not a third: it does not grow in "
            "proportion to the angle.",
            0.667,
        ),
        Idea(
            near(0.5, 0.01),
            "That is what 30° gave, and also the cosine of 60°. Would a larger angle bring the patterns nearer "
            "to each other, or farther apart?",
            0.5,
        ),
        Idea(
            near(1.0, 0.02),
            "That is how far the reading of a itself moves. Which of the two readings is asked for?",
            1.0,
        ),
        Idea(
            lambda x: near(-0.305, 0.01)(x) or near(-0.952, 0.01)(x) or near(0.32, 0.005)(x),
            "This looks like an angle in degrees given to a function that takes radians. Or leave the formula, and "
            "let the world read it.",
            -0.305,
        ),
        Idea(
            near(1.732, 0.01),
            "That is the tangent, and more than a itself moved: the patterns have unit length.",
            1.732,
        ),
        Idea(
            between(20, 100),
            "This looks like per cent. The reading of a moved by 1; give the other in the same unit.",
            86.6,
        ),
        Idea(near(0.0, 0.02), "Only orthogonal patterns read 0 of each other, and these are turned.", 0.0),
    ),
    hints=(
        "Take the cell above, with TwoFactorWorld(std=0.1, angle=60).",
        "world.read(world.text(1.0, 0.0)) has both readings; the second is that of b.",
    ),
    example=0.866,
)

METRICS = (
    "mig",
    "dci_disentanglement",
    "dci_informativeness",
    "sap",
    "explicitness",
    "factor_vae",
    "beta_vae",
)
BLIND = frozenset({"dci_informativeness", "explicitness", "factor_vae", "beta_vae"})

SEES = Exercise(
    id="10.2",
    title="Metrics that do not see the angle",
    difficulty=2,
    takes="a list of metrics",
    reads=words(*METRICS),
    right=among(BLIND),
    praise="Two ask whether the factors can be read at all, by all codes together, and they can. The other two "
    "guess which factor was held still from the code that varies least, and that is still its own. Asked "
    "alone, each of them would call 30° perfect.",
    ideas=(
        Idea(
            lambda names: bool(names & {"mig", "dci_disentanglement", "sap"}),
            "You list a metric that falls from 0° to 30°. A low number at 30° means that it does see the angle.",
            ["mig", "dci_disentanglement", "sap"],
        ),
        Idea(
            among(frozenset({"dci_informativeness", "explicitness"})),
            "These two ask whether the factors can be read at all, right. But there are more whose number hardly "
            "moves, although they carry the word disentanglement in their papers. Compare both columns.",
            ["dci_informativeness", "explicitness"],
        ),
        Idea(
            among(frozenset({"factor_vae", "beta_vae"})),
            "These two do not see it, right. Compare both columns for the others: who asks only whether a factor "
            "can be read at all?",
            ["factor_vae", "beta_vae"],
        ),
        Idea(
            lambda names: bool(names) and names < BLIND,
            "None of these is wrong, and the list is not complete. Compare both columns for the ones that are "
            "left.",
            ["factor_vae"],
        ),
        Idea(
            lambda names: not names,
            "If all of them saw it, every row would fall. Some have 1.00 in both columns.",
            [],
        ),
    ),
    hints=(
        "Compare the columns 0° and 30°, row by row. The last column does not matter here.",
        "found[0].scores and found[30].scores are dicts of numbers; four of the seven stay as they are.",
    ),
    example=sorted(BLIND),
)

UNDECIDED = Exercise(
    id="10.3",
    title="An interval that holds 0",
    difficulty=1,
    takes="'yes', 'no' or 'undecided'",
    reads=choice("yes", "no", "undecided"),
    right=among("undecided"),
    praise="The bias is there, we put it in, and 12 pairs do not show it. That a measurement does not find a thing "
    "is no finding, unless its interval is narrow.",
    ideas=(
        Idea(
            among("no"),
            "The interval holds 0, so there may be nothing. But it also holds values as large as those that "
            "glasses "
            "moved. Can numbers like these rule them out?",
            "no",
        ),
        Idea(
            among("yes"),
            "You know that the bias is there, because you were told. The question is about this cell alone: could "
            "a model without it have given these numbers?",
            "yes",
        ),
    ),
    hints=(
        "Name the smallest and the largest value that the interval allows. Do both say the same?",
        "It allows no effect at all, and a large one.",
    ),
    example="undecided",
)

COUNT = 40


def scores() -> tuple[np.ndarray, np.ndarray]:
    """Two methods on the same items: items differ much, methods by 0.01."""
    rng = np.random.default_rng(1)
    hard = rng.uniform(0, 1, COUNT)
    return hard + 0.01 + rng.normal(0, 0.005, COUNT), hard


def tried(given: Callable[..., Any]) -> SimpleNamespace | None:
    """What an interval of a learner's is for two methods of known difference."""
    result = given(*scores())
    if result is None or result is ...:
        return None
    found = numbers(result)
    if len(found) != 2:
        raise ValueError(f"an interval has two ends, and this has {len(found)} numbers")
    first, second = scores()
    mean = float((first - second).mean())
    wide = float(np.subtract(*of(together)(first, second)[::-1]))  # of the right interval
    low, high = found
    return SimpleNamespace(
        low=low, high=high, width=high - low, middle=(low + high) / 2, mean=mean, wide=wide
    )


def of(ends: Callable[[np.random.Generator, np.ndarray, np.ndarray], Any]) -> Callable[..., Any]:
    """A function as a learner may write it."""
    return lambda first, second: ends(np.random.default_rng(0), np.asarray(first), np.asarray(second))


def bootstrap(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Means of the differences, items resampled together."""
    return (first - second)[rng.integers(0, COUNT, (2000, COUNT))].mean(axis=1)


def plain(values: np.ndarray) -> list[float]:
    """An interval by the formula."""
    half = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return [values.mean() - half, values.mean() + half]


def together(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> Any:
    """The right one: items resampled together."""
    return np.percentile(bootstrap(rng, first, second), [2.5, 97.5])


def apart(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> Any:
    """Items of both methods resampled on their own."""
    one, two = (values[rng.integers(0, COUNT, (2000, COUNT))].mean(axis=1) for values in (first, second))
    return np.percentile(one - two, [2.5, 97.5])


PAIRED = Exercise(
    id="10.4",
    title="The interval of a paired difference",
    difficulty=3,
    takes="a function of two arrays that returns (low, high)",
    reads=function(tried, "first", "second"),
    right=lambda found: (
        abs(found.width / found.wide - 1) < 0.1
        and 1e-7 < abs(found.middle - found.mean) < 0.07 * found.wide  # drawn, and not a formula
    ),
    praise="It was tried on 40 items of its own, which differ a hundred times as much as the two methods. Pairs "
    "take that out: 40 are enough for a difference that two separate samples would need thousands for.",
    ideas=(
        Idea(
            lambda found: found.width > 0.1,
            "This interval is wide, as if the two methods had seen different pictures: it looks as if each array "
            "was resampled on its own. Use the same row numbers for both, or resample the differences.",
            of(apart),
        ),
        Idea(
            lambda found: found.high < 0,
            "The sign is turned round: first - second was asked for.",
            of(lambda rng, first, second: together(rng, second, first)),
        ),
        Idea(
            lambda found: found.low < found.high and 0.01 < found.width < 0.1,
            "This is where single differences lie, not where their mean does: it would stay as wide with a million "
            "items. Take the mean within each resample before the percentiles.",
            of(lambda rng, first, second: np.percentile(first - second, [2.5, 97.5])),  # noqa: ARG005
        ),
        Idea(
            lambda found: found.width < 0,
            "The ends are in the wrong order: the lower one comes first.",
            of(lambda rng, first, second: together(rng, first, second)[::-1]),
        ),
        Idea(
            lambda found: abs(found.width) < 1e-9,
            "The interval has no width: all resamples have the same mean. A generator that begins anew in each "
            "turn "
            "does that, and so does shuffling: draw *with* replacement, from one generator.",
            of(lambda rng, first, second: [(first - second).mean()] * 2),  # noqa: ARG005
        ),
        Idea(
            lambda found: found.high < found.mean,
            "Both ends lie at the lower edge. np.percentile counts from 0 to 100, np.quantile from 0 to 1.",
            of(lambda rng, first, second: np.percentile(bootstrap(rng, first, second), [0.025, 0.975])),
        ),
        Idea(
            lambda found: abs(found.middle - found.mean) <= 1e-7,
            "It lies exactly symmetric about the mean, as a formula with the standard error gives it. That is "
            "close here; the bootstrap was asked for.",
            of(lambda rng, first, second: plain(first - second)),  # noqa: ARG005
        ),
        Idea(
            lambda found: 0.7 < found.width / found.wide <= 0.9,
            "This is narrower than 95 % of the resamples: as much has to be left out on both sides together as "
            "remains from 95 to 100.",
            of(lambda rng, first, second: np.percentile(bootstrap(rng, first, second), [5, 95])),
        ),
        Idea(
            lambda found: 1.1 <= found.width / found.wide < 3,
            "This is wider than the mean's interval. Is it a mean that you take within each resample, and not a "
            "median; over as many items as there are; and 95 % that you keep?",
            of(lambda rng, first, second: np.percentile(bootstrap(rng, first, second), [0.5, 99.5])),
        ),
    ),
    hints=(
        "Resample the differences: difference = first - second is one number for each item.",
        "rows = rng.integers(0, len(difference), (2000, len(difference))) has the items of 2000 resamples.",
        "Take difference[rows].mean(axis=1), and of these np.percentile(..., [2.5, 97.5]).",
    ),
    example=of(together),
)

BEST = Exercise(
    id="10.5",
    title="The best of 8 seeds",
    difficulty=2,
    takes="a number, in standard deviations",
    reads=number,
    right=near(1.4236, 0.06),
    praise="Nearly one and a half standard deviations out of nothing. Many published differences are smaller.",
    ideas=(
        Idea(
            near(0.0, 0.06),
            "The methods are equal on average, yes. But the largest of eight draws is not an average draw.",
            0.0,
        ),
        Idea(
            near(0.354, 0.06),
            "One over the root of 8 is how much a mean of eight scatters. Here nobody takes a mean.",
            0.354,
        ),
        Idea(
            near(0.889, 0.02),
            "That is how *often* the best of 8 is ahead. By how much is it ahead on average?",
            0.889,
        ),
        Idea(
            near(0.61, 0.03),
            "That is how much the best of 8 scatters. How far does it lie above a single draw, on average?",
            0.61,
        ),
        Idea(
            near(2.83, 0.1),
            "The root of 8 belongs to sums of eight draws. Here one of them is chosen: its maximum.",
            2.83,
        ),
        Idea(
            between(-1.6, -1.2),
            "The size is right and the sign is turned: how much better does the *best of 8* look?",
            -1.42,
        ),
    ),
    hints=(
        "rng.normal(size=(20000, 8)) draws 20000 times eight scores.",
        "The best of each row is .max(axis=1); compare its mean with that of single draws.",
    ),
    example=1.42,
)

LESSON = Lesson(
    number="10",
    name="disentanglement",
    title="Measuring disentanglement",
    goal="What else moves? Metrics, a model whose bias is known, and a fair comparison of edits.",
    minutes=50,
    before="notebook 09 helps; means and confidence intervals.",
    objectives=(
        "try a metric on something whose answer is known before you believe it",
        "find a bias that was put into a model, and say when a measurement is undecided",
        "compare editing methods fairly: same items and seeds, dev and test, paired differences, intervals",
        "say what the best of several seeds is worth",
    ),
    exercises=(ANGLE, SEES, UNDECIDED, PAIRED, BEST),
    discuss=(
        (
            "A model trained on photographs gives old people glasses. Is that a bias of the model, of the data, or "
            "of neither?",
            "Old people do wear glasses more often. As a description of the data it is right; as an answer to 'an "
            "old person' it adds what was not asked for. Ask who is harmed if it always does?",
        ),
        (
            "Whom does it help to report the best of 8 seeds?",
            "A user who will look at 8 pictures and pick one is served by it, if all methods get 8. A reader who "
            "compares methods is misled, unless the same choice was made for each, and said.",
        ),
    ),
    trouble=(
        "The twin needs peft, which comes with ditlens[analysis].",
        "Sections 2 and 4 take most of the time; on slow laptops let them run during the discussion of section 1.",
    ),
)
