"""Notebook 03: capturing hidden states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ditlens.course.answers import function, number, whole
from ditlens.course.exercise import AnswerError, Exercise, Idea, Lesson, among, between, short
from ditlens.errors import SiteError
from ditlens.lens.site import Site, select

SIX = [
    Site.parse(f"joint.{block}.{stream}.{point}")
    for block in range(6)
    for stream in ("text", "image")
    for point in ("in", "out", "attn.out", "mlp.out")
    if (block, stream) != (5, "text") or point in ("in", "attn.out")
]
"""Most sites of a model of SD3's kind with six blocks."""
WANTED = frozenset(f"joint.{block}.image.{point}" for block in (2, 3) for point in ("in", "out"))


def chosen(answer: Any) -> frozenset[str]:
    """The sites that a pattern fits in a model with six joint blocks."""
    pattern = answer if isinstance(answer, str) else None
    if pattern is None:
        raise AnswerError(f"Got {short(answer)}, which is no text: write the pattern in quotes.")
    try:
        return frozenset(map(str, select(pattern, SIX, {})))
    except SiteError as reason:
        said = f"{reason}".partition(" A site reads")[0]
        raise AnswerError(f"{said.removesuffix('.')}.") from reason


def blocks_of(sites: frozenset[str]) -> set[str]:
    """Numbers of the blocks of some sites."""
    return {site.split(".")[1] for site in sites}


PATTERN = Exercise(
    id="03.1",
    title="Four sites in one pattern",
    difficulty=1,
    takes="one pattern in quotes, like 'joint.*.image.out'",
    reads=chosen,
    right=lambda sites: sites == WANTED,
    praise="A pattern names block, stream and point, and each may be several. 2:4 and {2,3} are the same "
    "blocks.",
    ideas=(
        Idea(
            lambda sites: sites == {site for site in WANTED if ".2." in site},
            "Your pattern stops at block 2. A range of blocks is one of Python's: its end does not belong "
            "to it.",
            "joint.2:3.image.{in,out}",
        ),
        Idea(
            lambda sites: any(".text." in site for site in sites),
            "Your pattern takes the text stream, too. The third part of an address is the stream: name "
            "only the one "
            "that was asked for.",
            "joint.2:4.*.{in,out}",
        ),
        Idea(
            lambda sites: sites > WANTED and blocks_of(sites) == {"2", "3"},
            "The two blocks are right. Your pattern also takes what attention and feed-forward give "
            "inside them: the "
            "last part names the points, and two of them were asked for.",
            "joint.{2,3}.image.*",
        ),
        Idea(
            lambda sites: sites > WANTED,
            "The four are in it, and more blocks than the two that were asked for. Which part of the "
            "address is the "
            "block, and how are two of them written?",
            "joint.*.image.{in,out}",
        ),
        Idea(
            lambda sites: blocks_of(sites) == {"1", "2"},
            "These are blocks 1 and 2. The first block is 0, here and in the question.",
            "joint.1:3.image.{in,out}",
        ),
        Idea(
            lambda sites: sites < WANTED,
            "Your pattern leaves out some of the four. One block has both ends: where a stream enters, "
            "and where "
            "it leaves. Braces take several points.",
            "joint.{2,3}.image.out",
        ),
    ),
    hints=(
        "The order is kind, block, stream, point, with dots between them.",
        "Several blocks are 0:2 or {0,1}; several points are {in,out}.",
        "joint.____.image.{in,out}: which blocks go into the gap?",
    ),
    example="joint.2:4.image.{in,out}",
)

CALLS = (
    [1000.0, 1000.0, 750.0, 750.0, 500.0, 500.0],  # guidance in two calls
    [1000.0, 750.0, 500.0, 1000.0, 600.0, 200.0],  # a second run, with other timesteps
    [1000.0, 1000.0, 900.0, 700.0, 700.0],  # guidance in some of the steps only
)


def counted(of: Callable[[list[float]], Any]) -> list[list[int]] | None:
    """The steps that a function gives for each series of timesteps."""
    given = [of(list(series)) for series in CALLS]
    if any(each is None or each is ... for each in given):
        return None  # not written yet
    lists = [each.tolist() if hasattr(each, "tolist") else each for each in given]
    for each in lists:
        if not isinstance(each, list | tuple):
            raise AnswerError(f"Your function returned {short(each)}, which is no list.")
    if any(step is ... or step is None for each in lists for step in each):
        return None
    return [[whole(step) for step in each] for each in lists]


STEPS = Exercise(
    id="03.2",
    title="The step of every call",
    difficulty=3,
    takes="a function of a list of timesteps that returns a list of steps",
    reads=function(counted, "timesteps"),
    right=lambda steps: steps == [[0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2], [0, 0, 1, 2, 2]],
    praise="The same timestep is the same step, a lower one is the next step, and a higher one begins a "
    "new run. Where "
    "a scheduler is known, ditlens asks it; for bare calls of a transformer it does what you wrote.",
    ideas=(
        Idea(
            lambda steps: [len(each) for each in steps] != [6, 6, 5],
            "The list that you return is longer or shorter than the list of calls. Every call gets a "
            "step, also the "
            "second one of the same step.",
            lambda timesteps: list(range(len(set(timesteps)))),
        ),
        Idea(
            lambda steps: steps[0] == list(range(6)),
            "Your function counts the calls. Two calls with the same timestep belong to one step: "
            "guidance may "
            "take one call for each of its passes.",
            lambda timesteps: list(range(len(timesteps))),
        ),
        Idea(
            lambda steps: steps[0] == [0, 0, 1, 1, 2, 2] and steps[2] == [0, 0, 1, 1, 2],
            "Your function expects two calls in every step. Guidance may be on in some steps and off in "
            "others: "
            "do not count calls, compare timesteps.",
            lambda timesteps: [call // 2 for call in range(len(timesteps))],
        ),
        Idea(
            lambda steps: steps[0] == [0, 0, 1, 1, 2, 2] and steps[2][:3] == [0, 0, 0],
            "Your function computes the step from the timestep, which works for one distance between them. Other "
            "runs have other timesteps: what do all of them have in common, from one call to the next?",
            lambda timesteps: [int((1000 - t) // 250) for t in timesteps],
        ),
        Idea(
            lambda steps: steps[0] == [0, 0, 1, 1, 2, 2] and steps[1][3:] != [0, 1, 2],
            "Guidance is dealt with, but the second run comes out wrong: its steps begin at 0 again, and "
            "it may "
            "have other timesteps than the first. How does a list of calls show that a new run begins?",
            lambda timesteps: [sorted(set(timesteps), reverse=True).index(t) for t in timesteps],
        ),
    ),
    hints=(
        "Timesteps fall in a sampling loop. Compare each with the one before it: equal, lower or higher.",
        "Keep a counter: as it is if the timestep is equal, one more if it is lower, 0 if it is higher.",
        "for t in timesteps: step = 0 if t > before else step + (t < before); begin with before = -1.0 "
        "and step = 0.",
    ),
    example=lambda timesteps: steps_of(timesteps),
)


def steps_of(timesteps: list[float]) -> list[int]:
    """A right answer to `STEPS`."""
    found: list[int] = []
    before, step = -1.0, 0
    for t in timesteps:
        step = 0 if t > before else step + (t < before)
        found, before = [*found, step], t
    return found


def gigabytes(
    image_rows: int = 24 * 4096, text_rows: int = 23 * 333, steps: int = 28, size: int = 2
) -> float:
    """What a capture of SD3.5 medium takes, in GB of 10^9 bytes."""
    return (image_rows + text_rows) * 1536 * steps * size / 1e9


SIZE = Exercise(
    id="03.3",
    title="One image of a real model",
    difficulty=2,
    takes="a number of GB (10**9 bytes)",
    reads=number,
    right=between(9.09, 9.13),
    praise="Nine gigabytes for one image: more than the weights of the model. So real models are captured "
    "in part, "
    "reduced, or streamed to disk, and dl.estimate says before the run which of them it has to be.",
    ideas=(
        Idea(
            lambda gb: abs(gb - gigabytes(steps=1)) < 0.02,
            "That is one step. The hidden states are others in every step, and the cache keeps all of them.",
            gigabytes(steps=1),
        ),
        Idea(
            between(9.13, 9.16),
            "Nearly. You gave every block two outputs. Does the last one have both? Section 1 looked.",
            gigabytes(text_rows=24 * 333),
        ),
        Idea(
            between(8.469, 8.53),
            "That is in GiB, of 2**30 bytes. A GB is 10**9 bytes.",
            gigabytes() * 1e9 / 2**30,
        ),
        Idea(
            lambda gb: abs(gb - gigabytes(4096, 333)) < 0.02,
            "That is one block. All of them were asked for.",
            gigabytes(4096, 333),
        ),
        Idea(
            lambda gb: abs(gb - gigabytes(size=4)) < 0.15 or abs(gb - gigabytes(size=1)) < 0.1,
            "The numbers of rows are right; look at the bytes of one number again: float16 has 16 bits.",
            gigabytes(size=4),
        ),
        Idea(
            lambda gb: abs(gb - gigabytes(text_rows=0)) < 0.012,
            "That is the image stream alone. Both streams were asked for.",
            gigabytes(text_rows=0),
        ),
        Idea(
            lambda gb: abs(gb - gigabytes(image_rows=24 * 16384)) < 0.4,
            "The latents are 128 x 128, but a patch takes 2 x 2 of them: how many image tokens are left?",
            gigabytes(image_rows=24 * 16384),
        ),
        Idea(
            between(8.9, 9.25),
            "That is about the size. Give two digits after the point, so that the check sees what you counted.",
            9,
        ),
        Idea(
            lambda gb: gb > 1000,
            "That looks like bytes or megabytes. A GB is 10**9 bytes.",
            gigabytes() * 1e9,
        ),
    ),
    hints=(
        "It is the product by hand of section 5: rows times width times steps times bytes of a number.",
        "Image rows: 24 blocks x (128 / 2) ** 2. Text rows: the last block has no text output, so 23 x 333.",
        "Type it: (24 * 4096 + 23 * 333) * 1536 * 28 * 2 / 1e9, in GB.",
    ),
    example=gigabytes(),
)

PATCH = Exercise(
    id="03.4",
    title="Which patch knows the difference?",
    difficulty=2,
    takes="the number of one image token, from 0",
    reads=whole,
    right=among(43),
    praise="Row 5, column 3: the mouth, 5 x 8 + 3. You will meet patch 43 again in the next notebooks. In "
    "the mean over "
    "all patches, the same difference is more than fifty times smaller.",
    ideas=(
        Idea(
            among(29),
            "Right place, wrong number: you counted down the columns. Tokens are numbered row by row, "
            "like text.",
            29,
        ),
        Idea(
            among(44, 42, 34, 35, 36),
            "A neighbour. Counted from 0 or from 1? The first patch is token 0. And take the largest "
            "difference, "
            "not one that is nearly as large.",
            44,
        ),
        Idea(
            among(5, 3),
            "That is a row or a column of the grid. Tokens have one number: row times columns plus column.",
            5,
        ),
        Idea(
            lambda token: token > 63,
            "There are 64 patches, 0 to 63. If you flattened more than the patches, the number counts "
            "channels, "
            "too: take the norm over the channels first.",
            8256,
        ),
    ),
    hints=(
        "Subtract the two captures at this site and step, and take the norm over the channels: 64 numbers "
        "are left.",
        "a = frowning['joint.4.image.out', 10][0] has the shape (64, 192); .norm(dim=-1) goes over the "
        "channels.",
        "int((a - b).norm(dim=-1).argmax()), with a and b from the two caches.",
    ),
    example=43,
)

LESSON = Lesson(
    number="03",
    name="capture",
    title="Capturing hidden states",
    goal="Record what both streams hold at any block and step, without changing a pixel.",
    minutes=35,
    before="Notebook 01.",
    objectives=(
        "name any place in the model, and capture it at the steps and passes that you choose",
        "prove that a capture changed nothing, and that what leaves a block enters the next one",
        "work out how large a capture will be, and what each way of making it smaller costs",
        "change hidden states in a run, and know that the change is gone afterwards",
    ),
    exercises=(PATTERN, STEPS, SIZE, PATCH),
    discuss=(
        (
            "The image is the same bit for bit with and without the capture. Why is that worth a test in "
            "every tool "
            "of this kind, and what could break it?",
            "A tool that changes what it measures gives wrong results without an error. Hooks that return "
            "a value, "
            "in-place operations on what was captured, another order of additions, random numbers that "
            "are drawn "
            "in between.",
        ),
        (
            "You can afford one step, or one block, or the mean over the tokens. Which one do you give up "
            "first?",
            "It depends on the question, and that is the point: where in the image, take all tokens of "
            "one block; "
            "when it is decided, take all steps of one patch. The mean is the cheapest and hides most.",
        ),
    ),
    trouble=(
        "A cell that opens a capture and never calls the model ends with an error that says so: the call "
        "belongs "
        "into the with block.",
        "Whoever reads cache[site, step] after capturing both passes is asked which pass: cache[site, "
        "step, 'cond'].",
        "Nothing here needs much memory: the largest cache is below 20 MB.",
    ),
)
