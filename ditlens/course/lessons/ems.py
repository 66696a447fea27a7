"""Notebook 09: EMS: full zero-shot editing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ditlens.course.answers import choice, number, words
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, among, between, near, short

MISREAD = Exercise(
    id="09.1",
    title="The wish that was misread",
    difficulty=1,
    takes="the letter of one wish, 'A' to 'G'",
    reads=choice(*"abcdefg"),
    right=among("c"),
    praise="He was to get red hair and gets wide eyes. No error, no warning: only who reads the two texts notices.",
    ideas=(
        Idea(
            among("d", "e"),
            "This one was refused. A refusal is no misreading: nothing is edited, and you are told. Look for a "
            "wish that was carried out, as something else.",
            "D",
        ),
        Idea(
            among("b"),
            "It was understood as a wish for a smile, and he smiles already, if slightly. That may be too little "
            "for you, but it is about the right attribute. Is there one that is about another?",
            "B",
        ),
        Idea(
            among("f"),
            "A crown alone does not make a king. But it is about what was meant, as far as this world has it. Is "
            "there a wish that became something of which it does not speak at all?",
            "F",
        ),
        Idea(
            among("a", "g"),
            "Compare the wish with what was asked for: this one came through as it was meant. Read the right "
            "column line by line.",
            "G",
        ),
    ),
    hints=(
        "Strike out the refused ones. Then read each wish beside what it became.",
        "What is a redhead?",
    ),
    example="C",
)

WRONG = Exercise(
    id="09.2",
    title="The mistake that ruins the edit",
    difficulty=1,
    takes="'A', 'B', 'C' or 'D'",
    reads=choice(*"abcd"),
    right=among("d"),
    praise="So you predict that a mistake in what is to change is the fatal one. Run the next cell, and see what "
    "becomes of the hair in B and C.",
    ideas=(
        Idea(
            among("a"),
            "There is no mistake in A: it is the one to compare the others with.",
            "A",
        ),
        Idea(
            among("b"),
            "Both texts say black, so the hair ought to turn black, or the edit to get lost. But what is left of "
            "a word that both texts have, once one embedding is subtracted from the other?",
            "B",
        ),
        Idea(
            among("c"),
            "The difference now has two parts: black to red, and no glasses to round ones. The first is a push "
            "nobody needs. Does it take anything from the second?",
            "C",
        ),
    ),
    hints=(
        "The edit follows the difference of the two texts. Write it down for each case.",
        "In which case is the glasses' part of the difference another one than in A?",
    ),
    example="D",
)

SHARE = Exercise(
    id="09.3",
    title="Where the text moves",
    difficulty=2,
    takes="a share from 0 to 1, to three decimals",
    reads=number,
    right=near(0.798, 0.0015),
    praise="Most of it lies in the two rows whose words changed; the rest lies in rows behind them, which have "
    "read them. Padding holds more than all of these together, and says nothing new.",
    ideas=(
        Idea(
            near(0.8015, 0.0012),
            "That is the padding's share of all 64 rows, or near it. It has nothing to do with the changed words, "
            "though the numbers look alike. Which rows does the question put on top, which below?",
            0.8015,
        ),
        Idea(
            near(0.80, 0.003),
            "Close, but not to three decimals, and another number lies close by as well. Print yours with :.3f.",
            0.80,
        ),
        Idea(
            between(10, 100),
            "This looks like per cent. A share is a number from 0 to 1.",
            79.8,
        ),
        Idea(
            near(0.151, 0.003),
            "That is the first of the two changed rows alone.",
            0.151,
        ),
        Idea(
            near(0.647, 0.003),
            "That is the second of the two changed rows alone.",
            0.647,
        ),
        Idea(
            near(0.202, 0.003),
            "That is the share of all *other* rows of the text.",
            0.202,
        ),
        Idea(
            near(0.893, 0.005),
            "This is the root of the share: lengths were divided, and *squared* lengths are asked for.",
            0.893,
        ),
        Idea(
            near(0.158, 0.0035),
            "This share is of all 64 rows. The padding comes after the text, has read it, and moves with it: "
            "nearly forty rows of the same thing. Leave it out.",
            0.158,
        ),
        Idea(
            near(0.46, 0.01),
            "This is the share of the lengths. Squared lengths add up over rows, lengths do not.",
            0.46,
        ),
        Idea(
            near(1.0, 0.02),
            "Then no other row of the text would move. Look at the blue bars to the right of the tall ones.",
            1.0,
        ),
        Idea(
            near(0.08, 0.01),
            "That is how many rows it is, as a share, as if all moved alike. Look how tall the bars are.",
            0.08,
        ),
    ),
    hints=(
        "moved[rows] has the lengths in the changed rows, moved[texts] those of all rows of the text.",
        "Square before you add: float(moved[rows].square().sum() / ...)",
        "Below the line stands moved[texts].square().sum().",
    ),
    example=0.798,
)

NAMES = ("ems", "flowalign", "flowslider", "flowedit", "dvrf", "dds", "sdedit")

EXACT = Exercise(
    id="09.4",
    title="Who changes what nobody asked for?",
    difficulty=2,
    takes="a list of names from the table",
    reads=words(*NAMES),
    right=among(frozenset({"flowedit", "sdedit"})),
    praise="FlowEdit guides its two sides by different amounts, so equal texts still give different velocities. "
    "SDEdit noises the picture and samples it anew. With both, every degree holds a change that nobody asked for.",
    ideas=(
        Idea(
            lambda names: not names,
            "No text moves at degree 0, true. But some methods do not look at the difference of two velocities "
            "alone. Measure it for each of them.",
            [],
        ),
        Idea(
            lambda names: "dds" in names or "dvrf" in names,
            "Random noise or a long walk sounds as if it could not come back exactly. But it asks both sides at "
            "the same noise: equal texts, equal answers, no step. Compare its picture at 0 with its "
            "reconstruction, not with the source picture.",
            ["flowedit", "sdedit", "dds"],
        ),
        Idea(
            among(frozenset({"sdedit"}), frozenset({"flowedit"})),
            "That one does change the picture. Have you tried all seven?",
            ["sdedit"],
        ),
        Idea(
            lambda names: bool(names & {"ems", "flowalign", "flowslider"}),
            "One of these adds nothing at all at degree 0. Its drift at degree 1 is another matter, and so is what "
            "the autoencoder loses: compare with one.reconstruction, not with the source picture.",
            ["ems"],
        ),
    ),
    hints=(
        "Degree 1 does not matter here, nor does drift: compare pixels.",
        "Turn both pictures into arrays of floats: np.asarray(image, float).",
        "A loop over made.items(), and np.abs(at_0 - kept).mean() for each; exact is 0.",
    ),
    example=["flowedit", "sdedit"],
)


def facts_of(edit: Any) -> SimpleNamespace:
    """What the last exercise looks at."""
    if not hasattr(edit, "after"):
        raise AnswerError(f"Got {short(edit)}, which is no edit: give what dl.edit returned.")
    return SimpleNamespace(
        hair=round(float(edit.after["hair_length"]), 2),  # as it is printed
        covered=edit.before["hat"] != "none",
        drift=float(edit.drift),
        degree=float(edit.degree),
        seed=int(edit.recipe["seed"]),
        missed=set(edit.missed),
        asked=set(edit.targets),
    )


def edited(
    hair: float,
    drift: float,
    *asked: str,
    degree: float = 1.0,
    seed: int = 0,
    missed: tuple[str, ...] = (),
    hat: str = "beanie",
) -> SimpleNamespace:
    """An edit as far as the last exercise looks at it."""
    return SimpleNamespace(
        before={"hat": hat},
        after={"hair_length": hair},
        drift=drift,
        degree=degree,
        recipe={"seed": seed},
        missed=missed,
        targets=asked,
    )


BALD = Exercise(
    id="09.5",
    title="Emil's hair",
    difficulty=3,
    takes="the edit that dl.edit returned",
    reads=facts_of,
    right=lambda emil: (
        emil.hair <= 0.10
        and emil.drift <= 0.020
        and "hair_length" in emil.asked
        and emil.covered
        and not emil.missed
    ),
    praise="It was a matter of the wish: the beanie hid what the edit was about. Ask for both, and degree 1 "
    "is enough.",
    ideas=(
        Idea(
            lambda emil: not emil.covered,
            "This edit starts from a picture without the beanie, so you know the reason. But what the edit before "
            "it moved is not in its drift. Do it in one edit of people['emil'].",
            edited(0.1031, 0.008, "hair_length", hat="none"),
        ),
        Idea(
            lambda emil: "hair_length" not in emil.asked,
            "This wish does not ask for the length of the hair at all. One wish can ask for two things, joined by "
            "'and'.",
            edited(0.42, 0.010, "hat"),
        ),
        Idea(
            lambda emil: emil.degree > 1 and "hat" not in emil.asked and not emil.missed,
            "That is what the warning advised. The oracle now reads 'very short', so nothing counts as missed, and "
            "it is still not 0.10, nor does a bald head show. The advice knows the numbers, not the reason. What "
            "in the picture is the reason?",
            edited(0.23, 0.004, "hair_length", degree=1.25),
        ),
        Idea(
            lambda emil: emil.degree > 1 and "hat" not in emil.asked,
            "More degree goes farther in the same direction, and even 3 does not arrive. What stands in the way is "
            "not distance. Look at the picture: where would the bald head be seen?",
            edited(0.17, 0.004, "hair_length", degree=3.0, missed=("hair_length",)),
        ),
        Idea(
            lambda emil: emil.seed != 0 and "hat" not in emil.asked,
            "Another seed is another draw of the noise, and the picture is nearly the same. A failure that no seed "
            "mends has a cause: look at the picture.",
            edited(0.26, 0.004, "hair_length", seed=5, missed=("hair_length",)),
        ),
        Idea(
            lambda emil: "hat" in emil.asked and emil.degree < 1,
            "Now the wish is right, and the degree stops before it is fulfilled: categories switch, and lengths "
            "go only part of the way.",
            edited(0.25, 0.010, "hair_length", "hat", degree=0.5, missed=("hair_length",)),
        ),
        Idea(
            lambda emil: "hat" not in emil.asked,
            "The wish as it stands does not arrive. Something in the picture stands in its way.",
            edited(0.26, 0.004, "hair_length", missed=("hair_length",)),
        ),
        Idea(
            lambda emil: emil.drift > 0.020,
            "Bald he is, and more moved than was asked for: drift is above 0.020. Is the degree too high, or the "
            "wish too long?",
            edited(0.02, 0.030, "hair_length", "hat", degree=2.0),
        ),
    ),
    hints=(
        "Look at the picture in section 8: what covers the place that should become bald?",
        "One wish may ask for two things, joined by 'and'.",
        "Degree and seed can stay as they are. What has to go, so that a bald head can be seen?",
    ),
    example=edited(0.05, 0.012, "hair_length", "hat"),
)

LESSON = Lesson(
    number="09",
    name="ems",
    title="EMS: full zero-shot editing",
    goal="Extract, manipulate, sample: each step on its own, then the whole editor.",
    minutes=50,
    before="notebooks 07 and 08.",
    objectives=(
        "do each step of an edit by hand, and get the same numbers as the library",
        "say what a wrong description does to an edit, and what it does not",
        "check whether a method leaves the picture alone at degree 0",
        "tell why an edit failed: misread, already so, hidden, or out of reach",
    ),
    exercises=(MISREAD, WRONG, SHARE, EXACT, BALD),
    discuss=(
        (
            "Should an editor refuse a wish that it half understands?",
            "A refusal is safe and annoying; a guess is pleasant and sometimes wrong, unnoticed. Some will propose "
            "a third way: do what was understood, and say what was not. The two texts are that way, for those "
            "who read.",
        ),
        (
            "Which of the failures in section 8 would you notice without an oracle?",
            "The beanie and the unchanged smile can be seen. Eyes behind sunglasses cannot, and a misread wish "
            "only shows to those who remember it. On photographs there is no oracle: ask what could "
            "stand in for it.",
        ),
    ),
    trouble=(
        "The editor needs ipywidgets and anywidget where Jupyter itself runs; the still copy appears without them.",
        "Wishes typed by the class will often be refused: have them write a plain one first, then a chatty one.",
    ),
)
