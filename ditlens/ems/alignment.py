"""Token alignment of two texts: which words stay, and whether row k of both embeddings is the same word's place.

Embeddings are subtracted row by row, so a word that is inserted shifts everything behind it. `align` shows where;
`align_rows` puts the rows of the target back beside the source's. A transformer with joint attention gives its
text rows no position (only the text encoders do), so the order of rows is free: a permuted target makes the same
picture.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Literal

import torch

from ditlens.ems.manipulate import TextEmbedding, check_aligned
from ditlens.errors import SettingError

if TYPE_CHECKING:
    from ditlens.model import Model

Kind = Literal["kept", "replaced", "inserted", "removed"]
KINDS: dict[str, Kind] = {"equal": "kept", "replace": "replaced", "insert": "inserted", "delete": "removed"}
Pairs = Sequence[tuple[int, int]]
WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
"""A word with its hyphens, or a single sign."""
JOINTS = frozenset(
    [*",;.:", *"and but with without on in at under over above behind beside near before".split()]
)
"""What stands between two things that a text says."""
NEAR = 2
"""Changes with at most so many kept words between them, and no joint, are one change."""
Tokenize = Any
"""A tokenizer of transformers, or a function from text to a list of tokens."""


@dataclass(frozen=True)
class Span:
    """A stretch of tokens that stays, or that is another in the target.

    Attributes:
        kind: "kept", "replaced", "inserted" or "removed".
        source: Its tokens in the source; none if inserted.
        target: Its tokens in the target; none if removed.
        source_start: Row of the first in the source.
        target_start: Row of the first in the target.
    """

    kind: Kind
    source: tuple[str, ...]
    target: tuple[str, ...]
    source_start: int
    target_start: int

    @property
    def in_place(self) -> bool:
        """Whether it leaves what follows in its place."""
        return len(self.source) == len(self.target)


@dataclass(frozen=True)
class Alignment:
    """What two texts have in common, token by token.

    Attributes:
        spans: All tokens of both texts, in order.
    """

    spans: tuple[Span, ...]

    @property
    def aligned(self) -> bool:
        """Whether both have as many tokens, and every change replaces tokens by as many others."""
        return all(span.in_place for span in self.spans)

    @property
    def changes(self) -> tuple[Span, ...]:
        """The spans that are not kept."""
        return tuple(span for span in self.spans if span.kind != "kept")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(source row, target row) of what belongs together: kept tokens, and replaced ones as far as they go."""
        return [
            (span.source_start + k, span.target_start + k)
            for span in self.spans
            for k in range(min(len(span.source), len(span.target)))
        ]

    @property
    def share(self) -> float:
        """Share of the rows at which both embeddings have what belongs together; 1 if the texts are aligned.

        Counted over the rows of the longer text, start and end marks among them.
        """
        rows = max(sum(len(span.source) for span in self.spans), sum(len(span.target) for span in self.spans))
        return sum(row == other for row, other in self.pairs) / max(rows, 1)

    @property
    def words(self) -> list[tuple[str, str]]:
        """What changes, as words: (before, after); one of them is empty where words are added or left out."""
        return [(readable(span.source), readable(span.target)) for span in self.changes]

    @property
    def advice(self) -> str:
        """What to reword so that the texts are aligned; empty if they are."""
        if self.aligned:
            return ""
        problems = [_problem(span) for span in self.spans if not span.in_place]
        return (
            f"{' '.join(problems)} Word both texts with the same number of tokens, the changed ones at the same "
            'place: name in the source what the target adds ("no hat" / "red hat"), and keep the order of the rest.'
        )

    def __str__(self) -> str:
        """Two lines: ``[replaced]``, ``{+inserted+}``, ``{-removed-}``, everything else is the same in both."""
        lines = ["source:", "target:"]
        for span in self.spans:
            cells = _cells(span)
            width = max(map(len, cells))
            lines = [
                f"{line} {cell:<{width}}" if width else line for line, cell in zip(lines, cells, strict=True)
            ]
        return "\n".join(line.rstrip() for line in lines)


def align(source: str, target: str, tokenize: Tokenize | None = None, limit: int | None = None) -> Alignment:
    """Align two texts token by token.

    Args:
        source: The text of the picture as it is.
        target: The text as wanted.
        tokenize: A tokenizer of transformers (``model.pipe.tokenizer``): then rows are those of the embedding, with
            start and end marks. Or a function from text to a list of tokens. Words, if left out.
        limit: Tokens that the encoder reads; a tokenizer's own limit by default.

    Raises:
        SettingError: If a text is empty.
    """
    if not source.strip() or not target.strip():
        raise SettingError(f"Two texts are needed to align them; got {source!r} and {target!r}.")
    a, b = tokens_of(source, tokenize, limit), tokens_of(target, tokenize, limit)
    return Alignment(
        tuple(
            Span(KINDS[step], tuple(map(str, a[i:j])), tuple(map(str, b[k:m])), i, k)
            for step, i, j, k, m in _steps(a, b)
        )
    )


def _steps(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[str, int, int, int, int]]:
    """The steps of difflib from `a` to `b`, but what both begin with is kept.

    difflib takes the first of the longest matches; among words that come often ("a", ",") it may be a shifted one.
    """
    shorter = min(len(a), len(b))
    head = next((k for k in range(shorter) if a[k] != b[k]), shorter)
    rest = SequenceMatcher(None, a[head:], b[head:], autojunk=False).get_opcodes()
    kept = [("equal", 0, head, 0, head)] if head else []
    return [*kept, *((step, head + i, head + j, head + k, head + m) for step, i, j, k, m in rest)]


def tokens_of(text: str, tokenize: Tokenize | None = None, limit: int | None = None) -> Sequence[Hashable]:
    """The tokens of a text, cut as the encoder cuts them."""
    if tokenize is None:
        return text.split()[:limit]
    if hasattr(tokenize, "convert_ids_to_tokens"):
        longest = tokenize.model_max_length if limit is None else limit
        ids = tokenize(text, truncation=True, max_length=min(longest, 512)).input_ids
        return tokenize.convert_ids_to_tokens(ids)
    return list(tokenize(text))[:limit]


def single_changes(source: str, target: str) -> list[str]:
    """Target texts that each make one of the changes only.

    "a sad man, red hair" / "a happy man, blue hair" gives "a happy man, red hair" and "a sad man, blue hair".

    Args:
        source: The text of the picture as it is.
        target: The text as wanted.

    Returns:
        One text for each change, in order; none if the texts have the same words.
    """
    a, b = list(WORD.finditer(source)), list(WORD.finditer(target))
    words = [word.group() for word in a]
    changes: list[list[int]] = []  # words of the source, words of the target: [first, end, first, end]
    for step, i, j, k, m in _steps(words, [word.group() for word in b]):
        if step == "equal":
            continue
        between = words[changes[-1][1] : i] if changes else []
        if changes and len(between) <= NEAR and not JOINTS.intersection(between):
            changes[-1][1], changes[-1][3] = j, m
        else:
            changes.append([i, j, k, m])
    return [_with_change(source, target, a, b, change) for change in changes]


def _with_change(
    source: str, target: str, a: Sequence[re.Match[str]], b: Sequence[re.Match[str]], change: Sequence[int]
) -> str:
    """The source with one stretch of its words replaced by one of the target's."""
    first, end, k, m = change
    start = a[first].start() if first < len(a) else len(source)
    stop = a[end - 1].end() if end > first else start
    new = target[b[k].start() : b[m - 1].end()] if m > k else ""
    if new and end == first:  # inserted
        left = "" if not start or source[start - 1].isspace() or new[0] in ",;.:" else " "
        right = " " if start < len(source) and source[start] not in ",;.:" else ""
        new = f"{left}{new}{right}"
    text = source[:start] + new + source[stop:]
    return text if new else re.sub(r"\s+(?=[,;.:\s]|$)", "", text).strip()


# --- rows --------------------------------------------------------------------------------------------------


def align_rows(
    source: TextEmbedding, target: TextEmbedding, pairs: Pairs, segments: Sequence[int] | None = None
) -> TextEmbedding:
    """Put the target's token rows beside the source's rows that they belong to.

    Rows that belong to none stay where they are if that place is free and both rows are words, or both padding.
    Then inserted words take the source's free padding rows, and what is left fills up the rest in order. The
    result is a permutation of the target's rows: the transformer sees the same text.

    Rows of the result are no longer the positions of the words in the prompt; `ditlens.words` counts the latter.

    Args:
        source: Embedding of one text: tokens (1, T, D).
        target: Embedding of the other, of the same shape.
        pairs: (source row, target row), from `Alignment.pairs`.
        segments: Rows of each text encoder whose rows stand behind one another, e.g. (77, 256) for the CLIPs and
            T5 of SD3; rows do not leave their segment. By default all T rows are one.

    Returns:
        The target with its rows, and its mask, in the new order.

    Raises:
        SettingError: If the shapes differ, there is more than one text, or pairs contradict each other.
    """
    check_aligned(source, target)
    count = source.tokens.shape[1]
    segments = (count,) if segments is None else tuple(segments)
    if len(source) != 1 or len(target) != 1 or sum(segments) != count:
        raise SettingError(
            f"Need one text each and segments that sum to {count} rows; got {source!r}, {target!r}, {segments}."
        )
    real = (source.real_tokens()[0].tolist(), target.real_tokens()[0].tolist())
    order = row_order(pairs, real[0], real[1], segments)
    rows = torch.tensor(order, dtype=torch.long, device=target.tokens.device)
    mask = None if target.mask is None else target.mask[:, rows.to(target.mask.device)]
    return replace(target, tokens=target.tokens[:, rows], mask=mask)


def row_order(
    pairs: Pairs, source_real: Sequence[bool], target_real: Sequence[bool], segments: Sequence[int]
) -> list[int]:
    """The target row for every place: a permutation; see `align_rows`.

    Args:
        pairs: (source row, target row).
        source_real: For each place, whether the source has a word there, and not padding.
        target_real: The same of the target's rows.
        segments: Rows of each text encoder.

    Raises:
        SettingError: If a row is not there, is paired twice, or with a row of another encoder.
    """
    encoder = [i for i, rows in enumerate(segments) for _ in range(rows)]
    order: list[int | None] = [None] * len(encoder)
    for place, row in pairs:
        if not (0 <= place < len(order) and 0 <= row < len(order)):
            raise SettingError(f"The pair {(place, row)} is outside the {len(order)} rows.")
        if order[place] is not None or row in order:
            raise SettingError(f"A row of {(place, row)} is in two pairs; each row has one partner.")
        if encoder[place] != encoder[row]:
            raise SettingError(f"The pair {(place, row)} joins rows of different text encoders.")
        order[place] = row
    left = [row for row in range(len(order)) if row not in set(order)]
    for row in list(left):  # those that can stay
        if order[row] is None and source_real[row] == target_real[row]:
            order[row] = row
            left.remove(row)
    for row in sorted(left, key=lambda row: not target_real[row]):  # words first
        free = [k for k, taken in enumerate(order) if taken is None and encoder[k] == encoder[row]]
        order[min(free, key=lambda k: (source_real[k] and target_real[row], k))] = row
    return [row for row in order if row is not None]


def text_pairs(pipe: Any, source: str, target: str, rows: int) -> tuple[list[tuple[int, int]], list[int]]:
    """Which rows of two embedded texts belong together, for every text encoder of an SD3 pipeline.

    Both CLIPs share rows (they are joined along the width and read the same tokens); T5's follow behind.

    Args:
        pipe: A `StableDiffusion3Pipeline` or a `FluxPipeline`, whose rows are all T5's.
        source: The text of the picture as it is.
        target: The text as wanted.
        rows: Token rows of the embeddings.

    Returns:
        The pairs and the segments that `align_rows` takes.
    """
    if type(pipe).__name__.startswith("Flux"):
        return align(source, target, pipe.tokenizer_2, rows).pairs, [rows]
    clip = min(pipe.tokenizer_max_length, rows)
    pairs = align(source, target, pipe.tokenizer, clip).pairs
    if rows == clip:
        return pairs, [clip]
    third = getattr(pipe, "tokenizer_3", None)
    if third is not None:
        pairs += [(clip + i, clip + k) for i, k in align(source, target, third, rows - clip).pairs]
    return pairs, [clip, rows - clip]


def align_embeddings(model: Model, source: TextEmbedding, target: TextEmbedding) -> TextEmbedding:
    """The target's rows beside the source's, for two embeddings from ``model.encode_text``.

    Args:
        model: The model that embedded them.
        source: Embedding of one text.
        target: Embedding of another.

    Raises:
        SettingError: If they do not know their texts, or are of different shapes.
    """
    if len(source.prompts) != 1 or len(target.prompts) != 1:
        raise SettingError(
            "Need two embeddings of one text each that know their texts: model.encode_text(text)."
        )
    count = source.tokens.shape[1]
    pairs, segments = text_pairs(model.pipe, source.prompts[0], target.prompts[0], count)
    return align_rows(source, target, pairs, segments)


# --- words -------------------------------------------------------------------------------------------------


def readable(tokens: Sequence[str]) -> str:
    """Tokens as words: without the signs by which tokenizers mark a word's end or start, and without marks."""
    words = [token for token in tokens if not (token.startswith("<") and token.endswith(">"))]
    if any(token.endswith("</w>") or token[:1] in "Ġ▁" for token in words):
        text = "".join(words)
        for sign in ("</w>", "Ġ", "▁"):
            text = text.replace(sign, " ")
        return " ".join(text.split())
    return " ".join(words)


def _problem(span: Span) -> str:
    before, after = readable(span.source), readable(span.target)
    if span.kind == "inserted":
        return f"The target adds {after!r} ({len(span.target)} more)."
    if span.kind == "removed":
        return f"The target leaves out {before!r} ({len(span.source)} fewer)."
    return f"{before!r} has {len(span.source)} tokens, {after!r} has {len(span.target)}."


def _cells(span: Span) -> tuple[str, str]:
    before, after = readable(span.source), readable(span.target)
    if span.kind == "kept":
        return before, after
    if span.kind == "replaced":
        return f"[{before}]", f"[{after}]"
    return (f"{{-{before}-}}", "") if span.kind == "removed" else ("", f"{{+{after}+}}")
