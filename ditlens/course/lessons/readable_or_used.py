"""Notebook 06: readable or used?."""

from __future__ import annotations

from typing import Any

from ditlens.course.answers import choice, function, number, whole
from ditlens.course.exercise import Exercise, Idea, Lesson, among, between, near

PATCHES = Exercise(
    id="06.1",
    title="How many patches know?",
    difficulty=1,
    takes="a whole number, how many of the 64 patches",
    reads=whole,
    right=among(4),
    praise="A handful at the mouth, and nothing anywhere else. Sixty patches without the smile are why the mean "
    "over "
    "all of them looks as if the block knew nothing of it.",
    ideas=(
        Idea(
            among(1),
            "You have the best patch. The question is how many patches lie above 0.1: a mouth is wider than one "
            "patch.",
            1,
        ),
        Idea(
            among(0),
            "From the mean over all patches you would think so. The mean hides what lies in a few of them: look at "
            "the cells of single patches.",
            0,
        ),
        Idea(
            among(64, 65),
            "That is how many were probed. A probe can be fitted anywhere; at most of them it reads nothing. Count "
            "the scores above 0.1.",
            64,
        ),
        Idea(
            among(2, 3, 5),
            "Close. Either the threshold is another one than 0.1, or the cell of the mean, whose token is 'mean', "
            "is counted with the patches.",
            3,
        ),
    ),
    hints=(
        "Look at the map first, and guess. Then count.",
        "cell.token is a number for a patch and 'mean' for the mean over all.",
        "sum(cell.score.value > 0.1 for cell in by_patch.cells if cell.token != 'mean')",
    ),
    example=4,
)

NAMES = ("smile", "mouth_open", "head_tilt", "skin_tone")
LATENTS = Exercise(
    id="06.2",
    title="Whose merit is the score?",
    difficulty=2,
    takes="'smile', 'mouth_open', 'head_tilt' or 'skin_tone'",
    reads=choice(*NAMES),
    right=among("skin_tone"),
    praise="R² is near 1, and nearly as high before the first block: the colour of large areas shows through the "
    "noise. "
    "A high score is no finding until the input's own score has been subtracted.",
    ideas=(
        Idea(
            among("head_tilt"),
            "It has the highest score. The question is what the network adds to the noisy latents: the column "
            "'over latents', not R².",
            "head_tilt",
        ),
        Idea(
            among("smile"),
            "It has the lowest score of the four. A low score may still be nearly all the network's own work: "
            "compare it with the column 'over latents'.",
            "smile",
        ),
        Idea(
            among("mouth_open"),
            "The mouth is small, and the noise hides small things. That speaks against the latents. Print "
            ".best().over_latents of all four.",
            "mouth_open",
        ),
    ),
    hints=(
        "dl.probe(study, name).best() is the best cell of an attribute.",
        "Which of them has an over_latents close to 0?",
        "What can you still see of a face behind frosted glass: its mouth, or its colours?",
    ),
    example="skin_tone",
)

TRIED = ((0.53, 0.78, -0.72), (-0.3, 0.9, -0.9), (2.0, 1.0, 0.5), (-1.0, 0.9, -0.9))
"""What the learner's function is tried on: patched, clean, corrupt."""


def tried(effect: Any) -> list[float] | None:
    """The function's results, on keywords: no order of arguments is taken for granted."""
    found = [effect(patched=p, clean=k, corrupt=c) for p, k, c in TRIED]
    return None if None in found else [number(each) for each in found]


def gives(formula: Any) -> Any:
    """Whether the results are those of a formula of patched, clean and corrupt."""
    return lambda found: all(near(formula(*each), 1e-4)(x) for x, each in zip(found, TRIED, strict=True))


def taking(formula: Any) -> Any:
    """A formula with the names of arguments that the exercise asks for."""
    return lambda patched, clean, corrupt: formula(patched, clean, corrupt)


EFFECT = Exercise(
    id="06.3",
    title="The patching effect",
    difficulty=2,
    takes="a function of patched, clean and corrupt that returns a number",
    reads=function(tried, "patched", "clean", "corrupt"),
    right=gives(lambda p, k, c: (p - c) / (k - c)),
    praise="A share of the whole difference, so that smiles, hats and colours can be compared. It may exceed 1 "
    "or fall "
    "below 0, and it explodes where clean and corrupt hardly differ: dl.patch refuses such pairs.",
    ideas=(
        Idea(
            gives(lambda p, _, c: p - c),
            "You measure how far the image moved, in the attribute's own unit. By how much *could* it have moved? "
            "Divide by that.",
            taking(lambda p, _, c: p - c),
        ),
        Idea(
            gives(lambda p, k, c: (k - p) / (k - c)),
            "This is what is still missing: 1 where nothing came along. The patch is put into the corrupt run, so "
            "start measuring there.",
            taking(lambda p, k, c: (k - p) / (k - c)),
        ),
        Idea(
            gives(lambda p, k, _: p / k),
            "You compare patched with clean, and leave out where the corrupt run stands. A frown is not 0: try "
            "patched = corrupt, which should give 0.",
            taking(lambda p, k, _: p / k),
        ),
        Idea(
            gives(lambda p, k, c: abs(p - c) / abs(k - c)),
            "Without the signs a patch that makes the frown deeper counts as a smile. Keep them.",
            taking(lambda p, k, c: abs(p - c) / abs(k - c)),
        ),
    ),
    hints=(
        "What should it give for patched = corrupt, and for patched = clean?",
        "How far has it moved from corrupt, as a share of the whole way to clean?",
        "The formula stands just above the exercise: return it.",
    ),
    example=taking(lambda p, k, c: (p - c) / (k - c)),
)

AHEAD = Exercise(
    id="06.4",
    title="Readable, and not decisive",
    difficulty=3,
    takes="a whole number, the block whose output it is",
    reads=whole,
    right=among(2),
    praise="A probe reads most of the smile there, and the run overwrites most of it: the blocks that follow "
    "still read "
    "the text. Knowing where it can be read does not tell you where it is settled.",
    ideas=(
        Idea(
            among(3),
            "Off by one. The columns are named by the block that is *entered*; the question asks for the block "
            "whose "
            "output it is.",
            3,
        ),
        Idea(
            among(4, 5),
            "There the smile is read best, and there it is used, too: look at the image's PE in the same column. "
            "The "
            "question is where the two part.",
            4,
        ),
        Idea(
            among(0, 1),
            "The effect is small there, but so is the score: below 0.65. Look for the column with a high score "
            "and a "
            "small effect.",
            1,
        ),
    ),
    hints=(
        "Go through the columns of the table: R² at least 0.65, image PE below 0.5.",
        "One column fits. Its number is the block that is entered.",
        "What enters block k is the output of block k - 1.",
    ),
    example=2,
)

TOGETHER = Exercise(
    id="06.5",
    title="All patches together",
    difficulty=3,
    takes="a number, the PE of all patches together",
    reads=number,
    right=between(0.8, 1.2),
    praise="Every patch knows the tilt, none alone decides it, and all together decide it wholly. 'No single "
    "patch is "
    "used' and 'the patches are not used' are different claims, and only the experiment tells them apart.",
    ideas=(
        Idea(
            between(-0.3, 0.2),
            "That looks like a single patch, or like the image put in too early to stay. Not used alone is not "
            "unused: "
            "put in all patches (tokens='all') as they enter the last block.",
            0.1,
        ),
        Idea(
            between(0.2, 0.75),
            "That looks like an effect of some of the steps or some of the patches, or from an earlier block. "
            "Put in "
            "all patches, entering block 5, over the whole run: the column 'all'.",
            0.28,
        ),
        Idea(
            between(5, 64),
            "That looks like a count of patches, or the 0.1 of each added up: effects of patches do not add. Patch "
            "them together, and take the PE of that run.",
            6.4,
        ),
    ),
    hints=(
        "tokens='all' is the default. Which block do the single patches of dl.locate enter?",
        "dl.patch(model, measure='head_tilt', stream='image', blocks=[5], steps=1, seeds=[0, 1], controls=False)",
        "The result has a table(): one row for each block, one column for each stretch of steps.",
    ),
    example=1.0,
)

LESSON = Lesson(
    number="06",
    name="readable_or_used",
    title="Readable or used?",
    goal="Probing, attention and patching look at one mouth, and tell one story.",
    minutes=50,
    before="notebooks 03 and 05; linear regression.",
    objectives=(
        "read an attribute off a hidden state, and say what the score is worth beside its controls",
        "see which patches look at a word, and why that proves nothing yet",
        "put hidden states of one run into another, and measure the effect as a share",
        "keep apart what is readable, what is looked at and what is used",
    ),
    exercises=(PATCHES, LATENTS, EFFECT, AHEAD, TOGETHER),
    discuss=(
        (
            "A probe reads a person's age off the hidden states of a model that was never told of age. Has the "
            "model a "
            "notion of age?",
            "It has something that goes with age, in a linear form. Ask for the controls: would the input show "
            "it, or "
            "a random network? Then ask for an intervention: does anything change with it?",
        ),
        (
            "If you were to publish one of the three maps only, which one, and what would readers take it to mean?",
            "Attention is the one that papers show most, and readers take it for a cause. The used map is the only "
            "causal one, and the easiest to underrate: it shows single patches. Look for 'none of them alone'.",
        ),
    ),
    trouble=(
        "Learners take a shuffled-label score on the training portraits for a finding. Ask what a probe with as "
        "many "
        "weights as portraits would reach.",
        "Off by one between the output of block k and the input of block k + 1: draw it on the board before 06.4.",
        "dl.locate is the slowest cell, about a quarter of a minute; its bar counts patches.",
    ),
)
