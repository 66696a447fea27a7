"""Notebook 11: real models."""

from __future__ import annotations

from ditlens.course.answers import choice, number, whole
from ditlens.course.exercise import Exercise, Idea, Lesson, among, near

TOKENS = Exercise(
    id="11.1",
    title="Image tokens at 768 pixels",
    difficulty=1,
    takes="a whole number",
    reads=whole,
    right=among(2304),
    praise="48 × 48 patches of 16 × 16 pixels. Attention looks at pairs of tokens, so twice the side costs about "
    "sixteen times as much there.",
    ideas=(
        Idea(
            among(9216),
            "These are the cells of the latents, 96 × 96. The transformer does not see single cells.",
            9216,
        ),
        Idea(
            among(3072),
            "You scaled the 4096 tokens of 1024 pixels by the side. A picture has two sides.",
            3072,
        ),
        Idea(
            among(96, 576),
            "Two steps: pixels to cells, 8 on a side, and cells to patches, 2 on a side. Multiply these two, and "
            "mind "
            "that a picture has two sides.",
            96,
        ),
        Idea(
            among(2304 + 333, 2304 + 256, 2304 + 77),
            "That has the text's tokens in it. Only the image's were asked for.",
            2637,
        ),
        Idea(among(48), "That is one side of the picture, in patches.", 48),
        Idea(
            among(147456, 589824),
            "These are pixels, or not far enough from them: the autoencoder makes one cell of 8 × 8 pixels, and a "
            "patch is larger still.",
            589824,
        ),
    ),
    hints=(
        "How many pixels wide is one patch?",
        "768 / 8 / 2 patches a side; and there are two sides.",
    ),
    example=2304,
)

SITES = Exercise(
    id="11.2",
    title="Image sites of FLUX.1-dev",
    difficulty=1,
    takes="a whole number",
    reads=whole,
    right=among(57),
    praise="19 joint blocks and 38 single ones. In the single blocks both streams share one tensor, and still each "
    "has a site of its own.",
    ideas=(
        Idea(
            among(19),
            "These are the joint blocks. The first star stands for the kind of block: FLUX has another kind, too.",
            19,
        ),
        Idea(
            among(38),
            "These are the single blocks alone. Before them come the joint ones.",
            38,
        ),
        Idea(
            lambda n: n > 200,
            "That is every site of the network: attention, MLP and more, of both streams. Count those whose name "
            "matches the pattern; dl.sites takes the pattern as well, or filter the list yourself.",
            900,
        ),
        Idea(
            among(56),
            "In SD3 the last block has no *text* output. Image outputs are asked for, and the last block has one.",
            56,
        ),
        Idea(
            among(76, 95, 114),
            "That counts more than asked for: each block has one `out` of the image stream.",
            114,
        ),
    ),
    hints=(
        "Two kinds of block: the table in section 1 has how many of each.",
        "Each block, joint or single, has one image.out.",
    ),
    example=57,
)

BYTES = Exercise(
    id="11.3",
    title="One picture, whole",
    difficulty=2,
    takes="a number of gigabytes",
    reads=number,
    right=near(9.12, 0.1),
    praise="9 GB for one picture: twice as much as the transformer's own weights.",
    ideas=(
        Idea(
            near(18.25, 0.3),
            "Twice too much: that counts both guidance passes, or 4 bytes a number. bfloat16 has 2.",
            18.25,
        ),
        Idea(
            near(4.56, 0.1),
            "Half of it: a number in bfloat16 takes 2 bytes, not one.",
            4.56,
        ),
        Idea(
            near(0.326, 0.02),
            "That is one step. All of the 28 were asked for.",
            0.326,
        ),
        Idea(
            near(0.38, 0.02),
            "That is one block. All of the 24 were asked for.",
            0.38,
        ),
        Idea(
            near(8.494, 0.012),
            "Close to GiB, which are 2 ** 30 bytes. A GB here is 10⁹ of them.",
            9.12e9 / 2**30,
        ),
        Idea(
            near(0.66, 0.04),
            "That is the text stream alone. The image has 4096 tokens.",
            0.658,
        ),
        Idea(
            near(73, 2),
            "That is in bits. A byte has eight.",
            73,
        ),
        Idea(
            near(18250, 500),
            "That is for 2000 pictures. One was asked for.",
            18240,
        ),
        Idea(
            near(9120, 150),
            "That looks like megabytes. A GB is a thousand of them.",
            9120,
        ),
        Idea(
            near(8.45, 0.06),
            "That is the image stream alone. The text stream has 333 tokens.",
            8.456,
        ),
        Idea(
            lambda answer: answer > 1e6,
            "That looks like bytes. A GB is 10⁹ of them.",
            9.12e9,
        ),
    ),
    hints=(
        "Multiply: steps, blocks, tokens, width, bytes of a number.",
        "28 * 24 * (4096 + 333) * ..., and divide by 1e9 at the end.",
        "Nearly everything: (28 * 24 * (4096 + 333) * 1536 * 2 / 1e9)",
    ),
    example=9.12,
)

REDUCTION = Exercise(
    id="11.4",
    title="What fits on the disk, and answers",
    difficulty=2,
    takes="'none', 'sketch:64' or 'mean'",
    reads=choice("none", "sketch:64", "mean"),
    right=among("sketch:64"),
    praise="A 24th of 9.1 GB, times 2000, is 0.76 TB, with every token in its place. On portraits the best patch "
    "still tells the smile from it, with R² 0.88 in place of 0.95.",
    ideas=(
        Idea(
            among("mean"),
            "It fits a thousand times, and what you look for is gone: a mean over tokens hides what lies in one "
            "place. Remember the smile in notebook 05.",
            "mean",
        ),
        Idea(
            among("none"),
            "It keeps everything, and 2000 times 9 GB is 18 TB.",
            "none",
        ),
    ),
    hints=(
        "Two conditions: it has to fit, and tokens have to stay apart.",
        "Take the result of 11.3 times 2000, and that times 64 / 1536.",
    ),
    example="sketch:64",
)

LESSON = Lesson(
    number="11",
    name="real_models",
    title="Real models",
    goal="The same calls on SD3.5 and FLUX: memory, minutes, many prompts, several GPUs.",
    minutes=30,
    before="notebooks 03 and 09.",
    objectives=(
        "say what changes from portraits to SD3.5 and FLUX, and what does not",
        "compute what a capture takes before it runs, and reduce it",
        "run many prompts so that a killed run goes on where it was",
        "choose a describer, and know what it sees",
    ),
    exercises=(TOKENS, SITES, BYTES, REDUCTION),
    discuss=(
        (
            "With one GPU hour and 1 TB, which question about SD3.5 would you ask?",
            "Look for a question with a number as its answer, and a control. An hour is about 1000 edits or some "
            "1500 pictures; 1 TB is 100 of them whole, or some thousands as sketches. Most first "
            "proposals are too large.",
        ),
        (
            "Which findings of notebooks 00 to 10 would you check first on a larger model?",
            "Good candidates are those that could be artefacts of the small world: which route carries an edit, "
            "the effect of a wrong description, or that attributes are independent.",
        ),
    ),
    trouble=(
        "Nothing is downloaded: those who want the real weights need a login, a licence accepted, and a GPU.",
        "On a shared machine, remind people that dl.capture has a limit and a study has none but the disk.",
    ),
)
