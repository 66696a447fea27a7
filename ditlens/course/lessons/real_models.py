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
    title="One picture of FLUX, whole",
    difficulty=2,
    takes="a number of gigabytes",
    reads=number,
    right=near(45.19, 0.3),
    praise="45 GB for one picture, five times as much as SD3.5-medium and nearly twice the weights of the "
    "transformer: width and number of blocks both double, and every block has a text output.",
    ideas=(
        Idea(
            near(15.06, 0.2),
            "These are the 19 joint blocks. The hidden states of the single blocks were asked for, too.",
            15.06,
        ),
        Idea(near(30.12, 0.3), "These are the 38 single blocks, without the joint ones.", 30.12),
        Idea(
            near(90.4, 1),
            "Twice too much. Is it 4 bytes a number? bfloat16 has 2. Or two passes? FLUX.1-dev has one: its "
            "guidance is an input.",
            90.37,
        ),
        Idea(near(22.6, 0.3), "Half of it: a number in bfloat16 takes 2 bytes, not one.", 22.59),
        Idea(near(40.16, 0.2), "That is the image stream alone. The text has 512 tokens.", 40.16),
        Idea(
            near(43.43, 0.2),
            "With the 333 text tokens of SD3.5. FLUX reads 512.",
            43.43,
        ),
        Idea(near(9.1, 0.2), "That is SD3.5-medium again: other width, other blocks.", 9.12),
        Idea(near(1.614, 0.02), "That is one step. All of the 28 were asked for.", 1.614),
        Idea(near(42.08, 0.2), "Close to GiB, which are 2 ** 30 bytes. A GB here is 10⁹ of them.", 42.08),
        Idea(near(45190, 500), "That looks like megabytes. A GB is a thousand of them.", 45185),
        Idea(lambda answer: answer > 1e6, "That looks like bytes. A GB is 10⁹ of them.", 4.5185e10),
    ),
    hints=(
        "Multiply: steps, blocks, tokens, width, bytes of a number.",
        "There are 19 + 38 blocks, and 4096 + 512 tokens in each.",
        "28 * 57 * (4096 + 512) * ..., and divide by 1e9 at the end.",
    ),
    example=45.185,
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
        "Take the 9.1 GB of one picture (exercise 03.3) times 2000, times 64 / 1536.",
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
