"""Notebook 12: capstone: your own question."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from ditlens.course.answers import choice, function, number, numbers, ordered, text
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, among, between, near

STEPS = ("question", "prediction", "run", "interval", "claim")
ORDER = Exercise(
    id="12.1",
    title="What comes first?",
    difficulty=1,
    takes="a list of the five words in order",
    reads=ordered(*STEPS),
    right=among(STEPS),
    praise="The prediction comes before the run, so that it can fail, and the claim after the interval, so that "
    "it says "
    "no more than the numbers do.",
    ideas=(
        Idea(
            lambda it: it.index("prediction") > it.index("run"),
            "A prediction after the run cannot fail, so it tells nobody anything. Put it where you do not know the "
            "outcome yet.",
            ["question", "run", "prediction", "interval", "claim"],
        ),
        Idea(
            lambda it: it.index("claim") < it.index("interval"),
            "You claim before you know how sure the number is. The interval decides which claims are open to you.",
            ["question", "prediction", "run", "claim", "interval"],
        ),
        Idea(
            lambda it: it.index("question") > 0,
            "Without a question, what would you predict?",
            ["prediction", "question", "run", "interval", "claim"],
        ),
        Idea(
            lambda it: it.index("interval") < it.index("run"),
            "An interval is computed from the numbers of the run.",
            ["question", "prediction", "interval", "run", "claim"],
        ),
    ),
    hints=("What must you write down before you can know the outcome?", "It begins with the question."),
    example=list(STEPS),
)

TRIED = ((0.1, 0.02), (0.05, 0.01), (0.3, 0.02))
"""What the learner's function is tried on: spread and half of the width."""


def tried(needed: Any) -> list[float] | None:
    """The function's results."""
    found = [needed(spread=s, half_width=w) for s, w in TRIED]
    return None if None in found else [number(each) for each in found]


def gives(formula: Any, tolerance: float = 1.0) -> Any:
    """Whether the results are those of a formula."""
    return lambda found: all(near(formula(*each), tolerance)(x) for x, each in zip(found, TRIED, strict=True))


def taking(formula: Any) -> Any:
    """A formula with the names of arguments that the exercise asks for."""
    return lambda spread, half_width: formula(spread, half_width)


def ratio(factor: float, power: float = 2) -> Any:
    """A power of the spread over the half-width, times a factor."""
    return lambda spread, width: (factor * spread / width) ** power


PAIRS = Exercise(
    id="12.2",
    title="How many pairs?",
    difficulty=2,
    takes="a function of spread and half_width that returns a whole number",
    reads=function(tried, "spread", "half_width"),
    right=lambda found: (
        all(
            x == int(x) and 0 <= x - (1.96 * s / w) ** 2 < 1.01
            for x, (s, w) in zip(found, TRIED, strict=True)
        )
        or gives(lambda s, w: math.ceil((2 * s / w) ** 2), 0.01)(found)
    ),
    praise="Half the width takes four times the pairs. That is why you decide first how small an effect you care "
    "about, "
    "and why nobody gets from a hint to a proof by running a little longer.",
    ideas=(
        Idea(
            gives(ratio(1.96, 1)),
            "The root is still to be undone: the width shrinks with the root of n, so n grows with the square.",
            taking(lambda s, w: math.ceil(1.96 * s / w)),
        ),
        Idea(
            gives(ratio(0.98)),
            "Four times too few: the half-width was doubled, or the 1.96 halved. The interval is the mean plus and "
            "minus half_width, which is what the formula has.",
            taking(lambda s, w: math.ceil((1.96 * s / (2 * w)) ** 2)),
        ),
        Idea(
            gives(lambda s, w: 1.96 * (s / w) ** 2),
            "The 1.96 stands inside the square: square the whole of 1.96 * spread / half_width.",
            taking(lambda s, w: math.ceil(1.96 * s * s / w / w)),
        ),
        Idea(
            gives(ratio(1.645)),
            "1.645 belongs to an interval of 90 %.",
            taking(lambda s, w: math.ceil((1.645 * s / w) ** 2)),
        ),
        Idea(
            gives(ratio(1.0)),
            "Without the 1.96 this is one standard error: such an interval holds the truth in two cases of "
            "three, not "
            "in 95 of 100.",
            taking(lambda s, w: math.ceil((s / w) ** 2)),
        ),
        Idea(
            gives(ratio(3.92)),
            "You took the half-width for the whole width. The interval is the mean plus and minus half_width.",
            taking(lambda s, w: math.ceil((3.92 * s / w) ** 2)),
        ),
        Idea(
            gives(ratio(1.96)),
            "Nearly: a whole number, rounded up. Rounded down, the interval comes out wider than you asked for.",
            taking(lambda s, w: (1.96 * s / w) ** 2),
        ),
    ),
    hints=(
        "Set half_width = 1.96 * spread / sqrt(n), and solve for n.",
        "sqrt(n) = 1.96 * spread / half_width.",
        "int(np.ceil((1.96 * spread / half_width) ** 2))",
    ),
    example=taking(lambda s, w: math.ceil((1.96 * s / w) ** 2)),
)

CLAIM = Exercise(
    id="12.3",
    title="What may you say?",
    difficulty=2,
    takes="'a', 'b', 'c' or 'd'",
    reads=choice("a", "b", "c", "d"),
    right=among("b"),
    praise="It says how many pairs, that 0 is possible, and which effects are not. A reader who cares about "
    "smaller ones "
    "knows that this study does not speak of them.",
    ideas=(
        Idea(
            among("a"),
            "That 0 lies in the interval does not make it 0: the interval holds small shifts as well. No study "
            "shows "
            "that an effect is exactly nothing.",
            "a",
        ),
        Idea(
            among("c"),
            "This takes the outcome of a study that was not made. If 0 lies in the interval, the sign is open, "
            "too.",
            "c",
        ),
        Idea(
            among("d"),
            "A large word for a small measurement. One attribute, one pair of texts, 12 seeds: nothing here "
            "measures "
            "a notion.",
            "d",
        ),
    ),
    hints=(
        "Is 0 in the interval? Is 0.05, or -0.05?",
        "Strike the sentences that say something of which nothing was measured.",
    ),
    example="b",
)

CHANCE = Exercise(
    id="12.4",
    title="Finds by chance",
    difficulty=2,
    takes="a number",
    reads=number,
    right=near(1.0, 0.05),
    praise="Look at twenty things, and one of them is 'significant'. Report how many you looked at, and confirm "
    "what "
    "you found in items that you had not looked at.",
    ideas=(
        Idea(
            near(0.0, 0.02),
            "An interval of 95 % misses the truth in 5 of 100 cases, also where the truth is 0.",
            0,
        ),
        Idea(
            near(0.05, 0.01),
            "That is the chance for one attribute. There are 20 of them.",
            0.05,
        ),
        Idea(
            among(5.0, 0.5),
            "Five in a *hundred* miss. How many is that in 20?",
            5,
        ),
        Idea(
            near(0.64, 0.03),
            "That is the chance that at least one misses, 1 - 0.95 ** 20. The question is how many do, on average.",
            0.64,
        ),
        Idea(
            between(18.5, 20),
            "That many are expected to contain 0. How many do not?",
            19,
        ),
    ),
    hints=("Of 100 intervals of 95 %, how many miss?", "And of 20?"),
    example=1.0,
)

CLAIMS = ("effect", "no effect of interest", "undecided")
FEWEST = 12


def study_of(answer: Any) -> SimpleNamespace:
    """A learner's study: what its form says."""
    keys = ("question", "prediction", "smallest effect", "effect", "control", "claim")
    if not isinstance(answer, dict):
        raise AnswerError("That is no dict.")
    blank = [key for key in keys if answer.get(key, ...) is ... or answer.get(key) is None]
    if blank == list(keys):
        raise AnswerError("The form is still empty.")
    unread = [key for key in ("effect", "smallest effect", "claim") if key in blank]
    if unread:
        raise AnswerError(f"Still to fill in: {', '.join(unread)}.")
    for key in ("effect", "control"):
        if isinstance(answer.get(key), dict):
            raise AnswerError(f"The {key} has all attributes: choose one, as in shifts(...)['age'].")
        if isinstance(answer.get(key), int | float):
            raise AnswerError(f"The {key} is one number; give the list with a number for each pair.")
    effect = np.array(numbers(answer["effect"]))
    if not len(effect) or not np.isfinite(effect).all():
        raise AnswerError("The effect needs a finite number for each pair.")
    rng = np.random.default_rng(0)
    low, high = np.quantile(effect[rng.integers(0, len(effect), (4000, len(effect)))].mean(1), [0.025, 0.975])
    control = [] if "control" in blank else numbers(answer["control"])
    smallest = number(answer["smallest effect"])
    sure = "effect" if low > 0 or high < 0 else "undecided"
    within = -smallest < low and high < smallest
    return SimpleNamespace(
        claim=choice(*CLAIMS)(answer["claim"]),
        pairs=len(effect),
        control=control,
        written=all(len(text(answer[k]).split()) > 2 for k in keys[:2] if k not in blank)
        and not {"question", "prediction"} & set(blank)
        and text(answer["question"]) != text(answer["prediction"]),
        positive=smallest > 0,
        still=len(control) > 1 and bool(abs(np.mean(control)) <= abs(smallest)),
        varied=bool(effect.std() > 0),
        allowed={sure} | ({"no effect of interest"} if within else set()),
        same=len(control) == len(effect) and bool(np.allclose(control, effect)),
    )


def study(**changes: Any) -> dict[str, Any]:
    """A study in good form, with changes."""
    steps = np.linspace(-0.03, 0.03, FEWEST)
    return {
        "question": "Does a smile narrow the eyes?",
        "prediction": "The mean shift lies within 0.05.",
        "smallest effect": 0.05,
        "effect": steps.tolist(),
        "control": (steps[::-1] / 2).tolist(),
        "claim": "no effect of interest",
    } | changes


OWN = Exercise(
    id="12.5",
    title="Your study",
    difficulty=3,
    takes="the form, a dict with all six entries",
    reads=study_of,
    right=lambda it: (
        it.claim in it.allowed
        and it.pairs >= FEWEST
        and len(it.control) >= FEWEST
        and it.written
        and it.positive
        and it.still
        and it.varied
        and not it.same
    ),
    praise="The form is right: a prediction, a control, enough pairs, and a claim that your numbers allow. "
    "Whether the "
    "question was worth it, others will say. The rubric below is for them.",
    ideas=(
        Idea(
            lambda it: not it.written,
            "Question or prediction is missing, too short to be wrong, or the one is a copy of the other. Write "
            "each as a sentence; the "
            "prediction "
            "must be able to fail.",
            study(prediction=...),
        ),
        Idea(
            lambda it: len(it.control) < 2 or it.same,
            "The control is missing, or it is the effect itself. Measure the same number where it should not "
            "move: a "
            "text that is only reworded, a random direction, shuffled labels.",
            study(control=...),
        ),
        Idea(
            lambda it: it.pairs < FEWEST,
            "Too few pairs: below 12 a bootstrap interval comes out too narrow. How many *your* question needs, "
            "say "
            "the spread of your pilot, your smallest effect, and the function of 12.2.",
            study(effect=[0.01, -0.01, 0.0]),
        ),
        Idea(
            lambda it: len(it.control) < FEWEST,
            "The control has too few pairs to show that it does not move. Give it as many as the effect has.",
            study(control=[0.01, -0.01, 0.0]),
        ),
        Idea(
            lambda it: not it.positive,
            "The smallest effect that matters is a size: a number above 0, in the unit of the measure.",
            study(**{"smallest effect": 0}),
        ),
        Idea(
            lambda it: not it.varied,
            "Every pair gave exactly the same number, so there is no scatter to make an interval of. Did the "
            "measure "
            "read what you think, and can it move at all?",
            study(effect=[0.0] * FEWEST),
        ),
        Idea(
            lambda it: not it.still,
            "Your control moved by more than the smallest effect that matters. Then either it is no control, or "
            "the measure moves whatever you do. What should leave it where it is?",
            study(control=np.linspace(0.6, 0.8, FEWEST).tolist()),
        ),
        Idea(
            lambda it: it.claim == "effect",
            "You claim an effect, and 0 lies in its interval. A mean that is not 0 is no effect yet.",
            study(claim="effect"),
        ),
        Idea(
            lambda it: it.claim == "no effect of interest",
            "You claim that there is nothing of interest, and the interval reaches beyond the smallest effect that "
            "matters. Not found is not the same as not there.",
            study(effect=np.linspace(-0.4, 0.4, FEWEST).tolist()),
        ),
        Idea(
            lambda it: it.claim == "undecided",
            "The interval has no 0 in it, so your numbers say more than you do.",
            study(effect=np.linspace(0.1, 0.2, FEWEST).tolist(), claim="undecided"),
        ),
    ),
    hints=(
        "interval(study['effect']) gives the mean and the ends: is 0 between them? Do they lie within the "
        "smallest effect?",
        "shifts(read(before, seeds), read(after, seeds))['age'] is a list for 'effect'; the control has a "
        "reworded text.",
        "The worked example has all that the form needs: fresh['eye_open'] and reworded['eye_open'].",
    ),
    example=study(),
)

LESSON = Lesson(
    number="12",
    name="capstone",
    title="Capstone: your own question",
    goal="Ask something that nobody has asked of this model, and answer it so that others can check.",
    minutes=180,
    before="notebooks 00 to 07, and 10.",
    objectives=(
        "turn a question into a measurement, with a prediction that can fail",
        "choose the number of items, and controls that would expose you",
        "word a claim as the evidence allows, a negative one included",
        "make a small study that somebody else can repeat",
    ),
    exercises=(ORDER, PAIRS, CLAIM, CHANCE, OWN),
    discuss=(
        (
            "Your prediction failed. What do you change: the question, the measure, the prediction, or your mind?",
            "Your mind, if the controls held; the measure, if they did not, and then everything is run again. "
            "Whoever "
            "changes question or prediction afterwards says so, and calls it exploring.",
        ),
        (
            "Would you hand in a study without an effect, and what would have to be in it?",
            "Yes: a positive control that moved, an interval that is narrow against the smallest effect of "
            "interest, "
            "and the prediction. In the rubric a careful nothing earns all points.",
        ),
    ),
    trouble=(
        "Rubric, 20 points: question 3, prediction 2, measure 3, controls 4, enough items 2, interval and figure "
        "2, "
        "claim 3, repeatable 1. None are for the size of an effect.",
        "Questions come out too large ('does it understand ...'). Ask: which text would you change, and which "
        "number "
        "would move?",
        "Time: 40 minutes for the worked example, 20 for the plan, which a neighbour signs before anything runs, "
        "90 for "
        "the study, 30 for reading somebody else's.",
        "Learners run until something is 'significant'. Let them fix the number of pairs in the plan.",
    ),
)
