"""Notebook 01: inside an MMDiT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ditlens.course.answers import function, number, numbers, words
from ditlens.course.exercise import Exercise, Idea, Lesson, among

KEYS = Exercise(
    id="01.1",
    title="How many keys?",
    difficulty=1,
    takes="a whole number",
    reads=number,
    right=among(4096 + 77 + 256),
    praise="64 x 64 patches and 77 + 256 rows of text: less than a tenth of what a patch can look at is text, "
    "and most of the cost is patches looking at patches.",
    ideas=(
        Idea(
            among(77 + 256),
            "These are the rows of the text alone. That would be cross-attention; in joint attention a patch "
            "looks at the other patches, too, in the same softmax.",
            333,
        ),
        Idea(
            among(4096),
            "These are the patches. What else is in the same softmax?",
            4096,
        ),
        Idea(
            among(128 * 128 + 333, 128 * 128),
            "That is one token for each cell of the latents. How many cells make one patch?",
            128 * 128 + 333,
        ),
        Idea(
            among(512 * 512 + 333, 1024 * 1024 + 333, 512 * 512, 1024 * 1024),
            "That counts pixels. The transformer never sees any: what does the autoencoder do first?",
            512 * 512 + 333,
        ),
        Idea(
            among(4096 + 77, 4096 + 256),
            "One part of the text is missing: the rows of the CLIP encoders and those of T5 are joined one "
            "after the other.",
            4096 + 77,
        ),
        Idea(
            among(4096 + 2 * 77 + 256),
            "The two CLIP encoders share their rows: what they write is put side by side in the channels, not one "
            "after the other.",
            4096 + 2 * 77 + 256,
        ),
    ),
    hints=(
        "Pixels to latents, latents to patches, and then the text.",
        "1024 / 8 = 128 cells, in patches of 2: 64 x 64 patches.",
        "Add 77 rows of both CLIP encoders (they share rows) and 256 rows of T5.",
    ),
    example=4429,
)


def place(answer: Any) -> list[float]:
    """A row and a column, or the one number that argmax gives."""
    return [answer] if isinstance(answer, int) and not isinstance(answer, bool) else numbers(answer)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys of patches and keys of text on which a learner's function is tried."""
    generator = torch.Generator().manual_seed(1)
    shapes = (3, 2, 4), (5, 2, 4), (4, 2, 4)
    q, k_image, k_text = (2 * torch.randn(shape, generator=generator) for shape in shapes)
    return q, k_image, k_text


def joint(q: Any, k_image: Any, k_text: Any) -> Any:
    """The attention of queries to the text, mean over heads."""
    scores = torch.einsum("qhc,khc->hqk", q, torch.cat([k_image, k_text])) / q.shape[-1] ** 0.5
    return scores.softmax(-1)[..., len(k_image) :].mean(0)


def text_only(q: Any, k_image: Any, k_text: Any) -> Any:
    """A softmax over the text alone."""
    return joint(q, k_image[:0], k_text)


def wide(q: Any, k_image: Any, k_text: Any) -> Any:
    """Scaled by the width of all heads together."""
    scores = torch.einsum("qhc,khc->hqk", q, torch.cat([k_image, k_text])) / q[0].numel() ** 0.5
    return scores.softmax(-1)[..., len(k_image) :].mean(0)


def unscaled(q: Any, k_image: Any, k_text: Any) -> Any:
    """Not scaled."""
    return joint(q * q.shape[-1] ** 0.5, k_image, k_text)


def one_head(q: Any, k_image: Any, k_text: Any) -> Any:
    """All heads as one."""
    return joint(q.flatten(1)[:, None], k_image.flatten(1)[:, None], k_text.flatten(1)[:, None])


def averaged_scores(q: Any, k_image: Any, k_text: Any) -> Any:
    """The mean over heads taken before the softmax."""
    scores = torch.einsum("qhc,khc->hqk", q, torch.cat([k_image, k_text])) / q.shape[-1] ** 0.5
    return scores.mean(0).softmax(-1)[..., len(k_image) :]


def whole(q: Any, k_image: Any, k_text: Any) -> Any:
    """All columns."""
    scores = torch.einsum("qhc,khc->hqk", q, torch.cat([k_image, k_text])) / q.shape[-1] ** 0.5
    return scores.softmax(-1).mean(0)


def to_patches(q: Any, k_image: Any, k_text: Any) -> Any:
    """The columns of the patches."""
    return whole(q, k_image, k_text)[:, : len(k_image)]


def per_head(q: Any, k_image: Any, k_text: Any) -> Any:
    """One map for each head."""
    scores = torch.einsum("qhc,khc->hqk", q, torch.cat([k_image, k_text])) / q.shape[-1] ** 0.5
    return scores.softmax(-1)[..., len(k_image) :]


def over_queries(q: Any, k_image: Any, k_text: Any) -> Any:
    """The softmax along the wrong axis."""
    scores = torch.einsum("qhc,khc->hqk", q, torch.cat([k_image, k_text])) / q.shape[-1] ** 0.5
    return scores.softmax(-2)[..., len(k_image) :].mean(0)


def same_as(*wrong: Callable[..., Any]) -> Callable[[Any], bool]:
    """Whether a learner's function gave what one of these gives."""

    def holds(found: Any) -> bool:
        given = torch.as_tensor(found).detach().float()
        values = [each(*inputs()) for each in wrong]
        return any(given.shape == value.shape and torch.allclose(given, value, atol=1e-4) for value in values)

    return holds


ATTENTION = Exercise(
    id="01.2",
    title="Attention to the text, by hand",
    difficulty=2,
    takes="a function of q, k_image and k_text that returns (queries, text tokens)",
    reads=function(lambda learner: learner(*inputs()), "q", "k_image", "k_text"),
    right=same_as(joint),
    praise="One softmax over the keys of both streams, one for each head, and the mean of the heads last. Its "
    "rows do not sum to 1, because the rest is attention to patches.",
    ideas=(
        Idea(
            same_as(text_only),
            "Each row of yours sums to 1 over the text: that is cross-attention. In a joint block, words "
            "compete with patches for the same 1.",
            text_only,
        ),
        Idea(
            same_as(wide, unscaled),
            "The pattern is right, and the softmax is too flat or too sharp. The scores are divided by the square "
            "root of the number of channels of what: of the stream, or of one head?",
            wide,
        ),
        Idea(
            same_as(one_head, averaged_scores),
            "You merged the heads before the softmax. Each head has a softmax of its own; that is what heads "
            "are for. When is the mean to be taken?",
            averaged_scores,
        ),
        Idea(
            same_as(whole, to_patches),
            "The softmax is right. Return only the columns that belong to the text: where in the joined keys "
            "do they lie?",
            to_patches,
        ),
        Idea(
            same_as(per_head),
            "This is one map for each head. Return their mean, (queries, text tokens).",
            per_head,
        ),
        Idea(
            same_as(over_queries),
            "Your softmax runs over the queries: patches compete for a word. It should be keys that compete "
            "for the attention of one query. Which axis is that?",
            over_queries,
        ),
    ),
    hints=(
        "The cell in section 3 does all of this for captured values.",
        "Join the keys with torch.cat, patches first, and remember how many patches there are.",
        'scores = torch.einsum("qhc,khc->hqk", q, keys), divided by the square root of the channels of one head.',
        "Then scores.softmax(-1).mean(0), and of its columns those from len(k_image) on.",
    ),
    example=joint,
)

CROWN = Exercise(
    id="01.3",
    title="Who looks at the crown?",
    difficulty=2,
    takes="a row and a column of the grid of patches, counted from 0, e.g. [5, 3]",
    reads=place,
    right=lambda found: found == [1, 4],
    praise="A patch near the top of the head: it looks at its word at step 2, when the picture is still "
    "nearly all noise. It gives a quarter of its attention to this one of 128 keys.",
    ideas=(
        Idea(
            lambda found: found == [4, 1],
            "Row and column are exchanged: an image is indexed from the top first, then from the left.",
            [4, 1],
        ),
        Idea(
            lambda found: len(found) == 1 and found[0] >= 64,
            "That counts rows, columns and text tokens in one: it is the largest value of all words. Take "
            "the map of "
            "the word first, which has 8 x 8 values, and then the place of its largest.",
            [779],
        ),
        Idea(
            lambda found: len(found) == 1,
            "That is one number, the place in the flattened grid. divmod(place, columns) makes row and column "
            "of it.",
            [12],
        ),
        Idea(
            lambda found: found in ([3, 4], [1, 2]),
            "That looks like the other direction, the patch that the word looks at (text.attn.to_image). The "
            "question is which patch looks at the word. The two are not the same: each query has a softmax of "
            "its own.",
            [3, 4],
        ),
        Idea(
            lambda found: found in ([5, 3], [5, 4], [4, 3]),
            "That is a patch at the mouth, which looks at the smile. Which token is the crown?",
            [5, 3],
        ),
        Idea(
            lambda found: found == [2, 5],
            "Rows and columns are counted from 0: the patch in the upper left corner is [0, 0].",
            [2, 5],
        ),
        Idea(
            lambda found: len(found) == 2 and found[0] in (0, 1, 2) and 1 <= found[1] <= 6,
            "A patch at the crown, but not the one that looks at the word most. In block 2, at step 2, take the "
            "largest value of the map.",
            [1, 3],
        ),
    ),
    hints=(
        "The cell above finds the row of smile. Find that of crown in the same way, and take its map out "
        "of the grid.",
        'column = cache.words("crown")["tokenizer"][0]; then grid[..., column] is a map of patches, '
        "(rows, columns).",
        "place = int(grid[..., column].argmax()) counts the patches row by row; divmod(place, 8) is row "
        "and column.",
    ),
    example=[1, 4],
)

LAST = Exercise(
    id="01.4",
    title="The text in the last block",
    difficulty=3,
    takes='a list of "q", "k" and "v", e.g. ["q", "v"]',
    reads=words("q", "k", "v"),
    right=lambda found: found == {"k", "v"},
    praise="Keys and values of the text are what patches read, also in the last block. Its queries are "
    "computed and only serve what nobody reads any more: their result is thrown away.",
    ideas=(
        Idea(
            lambda found: found == {"q", "k", "v"},
            "Attention uses all three, so all three should matter. But whose queries ask for what goes into the "
            "picture? Try each one and compare pixel by pixel.",
            ["q", "k", "v"],
        ),
        Idea(
            lambda found: not found,
            "The last block has no text output, but that does not mean that the text has no effect there. The "
            "patches still look at it: by which of the three?",
            [],
        ),
        Idea(
            lambda found: found == {"v"},
            "The values are what is carried over. But which of them, and how much? Something of the text must "
            "match the queries of the patches.",
            ["v"],
        ),
        Idea(
            lambda found: found == {"k"},
            "The keys decide where patches look. What do they get from there?",
            ["k"],
        ),
        Idea(
            lambda found: "q" in found,
            "Queries belong to who asks. What the text asks for would enter the text's own output, and the "
            "last block has none. Compare the pictures with and without.",
            ["q"],
        ),
    ),
    hints=(
        "The cell tries one of the three. Run it three times, and look at the number that it prints.",
        "A difference of exactly 0 means that nothing in the picture depends on it.",
        "Two of the three change the picture.",
    ),
    example=["k", "v"],
)

LESSON = Lesson(
    number="01",
    name="inside",
    title="Inside an MMDiT",
    goal="Tokens, two streams and one attention over both: what every block of an SD3 or FLUX sees.",
    minutes=35,
    before="notebook 00; what a matrix product and a softmax are.",
    objectives=(
        "say what the tokens of a text and of an image are, and count them",
        "recompute the attention of a block by hand, and get the library's numbers",
        "see which patches look at a word, and say what such a map does not show",
        "find out what the model throws away",
    ),
    exercises=(KEYS, ATTENTION, CROWN, LAST),
    discuss=(
        (
            "A patch at the mouth gives an eighth of its attention to the word smile. Does the smile come "
            "from there?",
            "The map says where a patch looked, not what it did with it. The value may be small, other words "
            "carry the meaning too (encoders mix them), and a block adds to what is there. Notebook 06 "
            "removes and exchanges.",
        ),
        (
            "Rows of padding take part in the softmax. Should they be masked?",
            "The model was trained with them and uses them, so masking changes the pictures. Whether the "
            "words behind them matter is another question. Also ask: what happens when one averages over text "
            "tokens?",
        ),
    ),
    trouble=(
        "Shapes (1, 1, width) of the conditioning vector: the portraits transformer keeps an axis of length 1.",
        "Many expect the map of block 0 to be the clearest. Let them say why before they look.",
        "Whoever writes attention by hand usually forgets the patches in the softmax; exercise 01.2 says so.",
    ),
)
