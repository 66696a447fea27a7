"""Notebook 00: start here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ditlens.course.answers import choice, number
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, among, between, short

SWITCH = Exercise(
    id="00.1",
    title="Where does the crown appear?",
    difficulty=1,
    takes="one of the degrees that were swept",
    reads=number,
    right=among(0.75),
    praise="Between 0.5 and 0.75 the picture gains a whole crown at once. The text moved evenly; what the "
    "model draws did not.",
    ideas=(
        Idea(
            lambda degree: 0.5 < degree < 0.75,
            "The colour of the panel changes there, halfway between two pictures. But only the eight degrees at "
            "the ticks were measured: which is the first of them with a crown?",
            0.625,
        ),
        Idea(
            among(0.5),
            "Halfway sounds right, because the text is halfway. But the picture at 0.5 has no crown yet: a "
            "category has a threshold of its own.",
            0.5,
        ),
        Idea(
            among(1.0, 1.5),
            "At this degree there is a crown, but it was there before. Look for the first picture that has one.",
            1.0,
        ),
        Idea(
            between(-1, 0.25),
            "The mouth is on its way there, and the hat is still as it was. The mouth slides and the crown "
            "switches: read the panel of the hat.",
            0.25,
        ),
    ),
    hints=(
        "The panel of the hat has two colours, for none and crown. Pictures were made at the ticks only.",
        "edit.sweep(...) measured every picture: print [(one.degree, one.after['hat']) for one in sweep.edits].",
    ),
    example=0.75,
)

ZERO = Exercise(
    id="00.2",
    title="What degree 0 gives back",
    difficulty=1,
    takes="'source', 'reconstruction' or 'target'",
    reads=choice("source", "reconstruction", "target"),
    right=among("reconstruction"),
    praise="The edit added nothing at all; what differs from the source is the loss of the autoencoder. So "
    "measure every edit from the reconstruction.",
    ideas=(
        Idea(
            among("source"),
            "Nothing was edited, so it should be the source. But the picture went through the autoencoder and "
            "back. How far is it from each of the three, if you measure?",
            "source",
        ),
        Idea(
            among("target"),
            "The target is degree 1. At degree 0 both texts are the same numbers: what is their difference?",
            "target",
        ),
    ),
    hints=(
        "Two pictures are equal if the mean of np.abs(first - second) is 0, both as arrays of floats.",
        "np.asarray(zero.image, float) is the array of a picture; pictures has the other ones.",
    ),
    example="reconstruction",
)

ROUTES = Exercise(
    id="00.3",
    title="Which route is enough?",
    difficulty=2,
    takes="'tokens', 'pooled' or 'both'",
    reads=choice("tokens", "pooled", "both"),
    right=among("tokens"),
    praise="The tokens alone give the frown and the crown; the pooled embedding alone moves next to nothing. "
    "An editor that moved only the pooled embedding would look broken, and raise no error.",
    ideas=(
        Idea(
            among("pooled"),
            "The pooled embedding sums up the whole text, so it sounds like the strong one. Look at the third "
            "picture: it was made with the pooled embedding of the target, and has the mouth of the source.",
            "pooled",
        ),
        Idea(
            among("both"),
            "Both reach every block, but is one enough by itself? Compare each single route with the picture "
            "in which both moved.",
            "both",
        ),
    ),
    hints=(
        "Each row holds one route at the source text and moves the other.",
        "Which single route has the same smile and the same hat as both?",
    ),
    example="tokens",
)


def facts_of(edit: Any) -> SimpleNamespace:
    """What the last exercise looks at."""
    if not hasattr(edit, "after"):
        raise AnswerError(f"Got {short(edit)}, which is no edit: give what dl.edit returned.")
    hair, age = str(edit.after["hair_color"]), float(edit.after["age"])
    return SimpleNamespace(hair=hair, age=age, drift=float(edit.drift), asked=set(edit.targets))


def edited(hair: str, age: float, drift: float, *asked: str) -> SimpleNamespace:
    """An edit as far as the last exercise looks at it."""
    return SimpleNamespace(after={"hair_color": hair, "age": age}, drift=drift, targets=asked)


OLD, OLDEST = 2 / 3, 0.75

BO = Exercise(
    id="00.4",
    title="Bo, thirty years on",
    difficulty=3,
    takes="the edit that dl.edit returned",
    reads=facts_of,
    right=lambda bo: bo.hair == "grey" and OLD <= bo.age <= OLDEST and bo.drift <= 0.010,
    praise="A category switches and age slides. He is old before he is grey, the hair switches shortly before "
    "0.5, and from then on he only grows older: the place to stop is a little behind the switch.",
    ideas=(
        Idea(
            lambda bo: not {"hair_color", "age"} <= bo.asked,
            "The edit was asked for one of the two things only, whatever else was in the wish: see bo.targets. In "
            "photographs grey hair would come along with age. This model was trained on faces in which they "
            "do not go together. Ask for both, joined by 'and'.",
            edited("grey", 0.672, 0.0169, "hair_color"),
        ),
        Idea(
            lambda bo: bo.hair == "grey" and bo.age > OLDEST,
            "He is grey, and older than was asked. Degree 1 is where the words lead, and nobody says that you "
            "want all of it: sweep the degree, and watch both.",
            edited("grey", 0.86, 0.0088, "hair_color", "age"),
        ),
        Idea(
            lambda bo: bo.hair == "grey" and bo.age >= OLD,
            "He is old and grey, and more has moved than allowed. More degree is not more edit: sweep the "
            "degree, and look where drift is low after the hair has switched.",
            edited("grey", 0.689, 0.0102, "hair_color", "age"),
        ),
        Idea(
            lambda bo: bo.hair != "grey",
            "The degree is too small for the hair: a category has a threshold, and below it nothing shows, "
            "however long you wait for half of it.",
            edited("black", 0.691, 0.0063, "hair_color", "age"),
        ),
    ),
    hints=(
        "One instruction can ask for several things, joined by 'and'.",
        "Do not guess the degree: for one in bo.sweep([0.4, 0.5, 0.6, 0.8, 1]).edits: print(one.degree, "
        "one.after['hair_color'], one.after['age'], one.drift)",
        "At 0.5 the hair has just switched, and drift is 0.0102; at 0.65 he is too old.",
    ),
    example=edited("grey", 0.720, 0.0090, "hair_color", "age"),
)

LESSON = Lesson(
    number="00",
    name="start_here",
    title="Start here",
    goal="Change one thing in a portrait, in words and by a degree, and measure what else moved.",
    minutes=25,
    before="a little Python; nothing about diffusion models.",
    objectives=(
        "make a portrait from a text, and edit it with an instruction",
        "turn an edit up and down, and say where it slides and where it switches",
        "find out by which route a text reaches the picture",
    ),
    exercises=(SWITCH, ZERO, ROUTES, BO),
    discuss=(
        (
            "At degree -1 the mouth smiles. What should the opposite of adding a crown be?",
            "There is none: a line in the space of texts goes on in both directions, its meaning need not. Some "
            "will propose a hat taken away; the source has none.",
        ),
        (
            "Who decides what counts as drift?",
            "We do: the list of 18 attributes. Whatever is not on the list may change unnoticed. Ask for "
            "examples: the shape of the nose, the lighting.",
        ),
    ),
    trouble=(
        "The first cell that loads the model takes some seconds on a slow laptop; nothing is downloaded.",
        "Cells run out of order: Run, then Restart Kernel and Run All Cells.",
    ),
)
