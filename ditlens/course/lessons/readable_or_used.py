"""Notebook 06: readable or used?"""

from __future__ import annotations

from typing import Any

from ditlens.course.answers import choice, function, number, whole
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, among, between, near, short

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
            among(2, 3),
            "Too few: your threshold is higher than 0.1, or you counted by eye those that stand out. One "
            "patch with less than the others is still far above 0.1.",
            3,
        ),
        Idea(
            between(5, 63),
            "Too many. A score of a few hundredths is what chance gives where there is nothing to read, as its "
            "neighbours below 0 show: count those above 0.1.",
            6,
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
            "Of its 0.90 about two thirds remain when the noisy latents' score is subtracted, so the network has "
            "added most of it. Which attribute keeps the least, .best().over_latents?",
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
    return lambda found: all(near(formula(*each), 1e-3)(x) for x, each in zip(found, TRIED, strict=True))


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
            gives(lambda p, k, c: (p - c) / k),
            "Divided by clean alone. The whole way goes from corrupt to clean: for patched = clean it is 1.",
            taking(lambda p, k, c: (p - c) / k),
        ),
        Idea(
            gives(lambda p, k, c: abs(p - c) / abs(k - c)),
            "Without the signs a patch that makes the frown deeper counts as a smile. Keep them.",
            taking(lambda p, k, c: abs(p - c) / abs(k - c)),
        ),
        Idea(
            gives(lambda p, k, c: p - c / k - c),
            "Brackets are missing: Python divides before it subtracts, so this is patched, less corrupt / clean, "
            "less corrupt. Put brackets around both differences.",
            taking(lambda p, k, c: p - c / k - c),
        ),
        Idea(
            gives(lambda p, k, c: (p - c) / k - c),
            "The lower difference lacks its brackets: Python divides by clean first, and subtracts corrupt at the "
            "end.",
            taking(lambda p, k, c: (p - c) / k - c),
        ),
        Idea(
            gives(lambda p, k, c: (p - c) / (c - k)),
            "The sign is turned: for patched = clean it gives -1. Both differences must be taken from corrupt, in "
            "the same order.",
            taking(lambda p, k, c: (p - c) / (c - k)),
        ),
        Idea(
            gives(lambda p, k, c: min(max((p - c) / (k - c), 0), 1)),
            "You keep it between 0 and 1. A patch can do more than the whole prompt, or the opposite; cut off, "
            "that would never be seen. Let the number be what it is.",
            taking(lambda p, k, c: min(max((p - c) / (k - c), 0), 1)),
        ),
        Idea(
            gives(lambda p, k, c: (p - c) / (abs(k) + abs(c))),
            "The whole way is the difference of clean and corrupt, and not the sum of their sizes: the two agree "
            "only where one is above 0 and the other below.",
            taking(lambda p, k, c: (p - c) / (abs(k) + abs(c))),
        ),
    ),
    hints=(
        "What should it give for patched = corrupt, and for patched = clean?",
        "How far has it moved from corrupt, as a share of the whole way to clean?",
        "Divide patched - corrupt by clean - corrupt, each in brackets.",
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


def upper_and_lower(answer: Any) -> tuple[float, float]:
    """Two effects, also by name."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if not hasattr(answer, "__len__") or len(answer) != 2:
        raise AnswerError(f"Got {short(answer)}, which is not two numbers.")
    upper, lower = (number(each) for each in answer)
    return upper, lower


def both(low: float, high: float) -> Any:
    """Whether both effects lie in a range."""
    return lambda pair: all(between(low, high)(each) for each in pair)


HALVES = Exercise(
    id="06.5",
    title="Who holds the tilt?",
    difficulty=3,
    takes="two numbers, [PE of the upper half, PE of the lower half]",
    reads=upper_and_lower,
    right=lambda pair: between(0.85, 1.15)(pair[0]) and between(-0.1, 0.3)(pair[1]),
    praise="A part decides. No patch of the upper half brings more than a quarter alone, and together they bring "
    "the whole: used, but not one by one. From most of the lower half the tilt can be read just as well, and it is "
    "hardly used there. Neither map showed that; only the experiment tells the stories apart.",
    ideas=(
        Idea(
            both(0.8, 1.2),
            "Both halves bring everything? That is what the whole image does, at the last block by construction. "
            "tokens='all' is the default: give the numbers of the patches, tokens=list(range(32)).",
            [1.0, 1.0],
        ),
        Idea(
            lambda pair: between(-0.1, 0.3)(pair[0]) and between(0.85, 1.15)(pair[1]),
            "The halves are the wrong way round. Patches are counted row by row from the upper left: 0 to 7 are "
            "the top row.",
            [0.1, 1.0],
        ),
        Idea(
            both(0.32, 0.75),
            "Each half about half of it: that is what 'all share it' predicts, or what the left and the right half "
            "do. Did you run it? The upper half are the patches 0 to 31, entering block 5.",
            [0.5, 0.5],
        ),
        Idea(
            both(-0.3, 0.32),
            "Little in both: that is what 'all must agree' predicts, and what single patches do, or the "
            "image put in too early, or the text. Put in 32 patches at once with stream='image', blocks=[5].",
            [0.25, 0.02],
        ),
        Idea(
            lambda pair: max(map(abs, pair)) > 1.5,
            "A PE is a share: about 0 where nothing came along, about 1 where everything did. This looks like a "
            "count, a percentage or a sum.",
            [100.0, 14.0],
        ),
    ),
    hints=(
        "tokens= takes the numbers of patches: list(range(32)) is the upper half. Which block do the single "
        "patches of dl.locate enter?",
        "dl.patch(model, measure='head_tilt', stream='image', tokens=list(range(32)), blocks=[5], steps=1, "
        "seeds=[8, 2], controls=False), and the same with range(32, 64).",
        "The PE is in the result's table(): table()[0, -1] is that of the whole run.",
    ),
    example=[1.0, 0.14],
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
    exercises=(PATCHES, LATENTS, EFFECT, AHEAD, HALVES),
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
