"""The two texts of an edit, and how they align: which words stay, and where an insertion shifts the rest.

Embeddings of two texts are subtracted row by row, so a word that is inserted shifts everything behind it; `align`
shows where.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ditlens.errors import SettingError

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal["kept", "replaced", "inserted", "removed"]
KINDS: dict[str, Kind] = {"equal": "kept", "replace": "replaced", "insert": "inserted", "delete": "removed"}
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


# --- the two texts ---------------------------------------------------------------------------------------


class Reader(Protocol):
    """A text encoder with token rows: its name, its tokenizer, and how many tokens it reads."""

    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def limit(self) -> int | None: ...


@dataclass(frozen=True)
class Description:
    """What a picture shows and what it should show.

    Attributes:
        source: Text of the picture as it is.
        target: Text of the picture as wanted; best worded like `source`, so that only the changed words differ.
        changes: For each attribute that changes, the wanted value in words; empty if the describer does not know.
        describer: Who wrote the texts.
        readers: The text encoders that will read the texts; none if no model is known yet.
    """

    source: str
    target: str
    changes: dict[str, str]
    describer: str = "by hand"
    readers: tuple[Reader, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        return "\n".join([f"source: {self.source}", f"target: {self.target}", *self._alignment_lines()])

    @cached_property
    def alignment(self) -> dict[str, Alignment]:
        """The two texts side by side, as each text encoder with token rows reads them, by its name.

        Made when it is first asked for; empty if no model is known, or a text is.
        """
        if not self.source.strip() or not self.target.strip():
            return {}
        return {r.name: align(self.source, self.target, r.tokenizer, r.limit) for r in self.readers}

    def alignment_facts(self) -> dict[str, dict[str, Any]]:
        """For each text encoder the changed words and the share of rows that are aligned, ready for JSON."""
        return {
            name: {"changed": [list(pair) for pair in found.words], "share": round(found.share, 4)}
            for name, found in self.alignment.items()
        }

    def _alignment_lines(self) -> list[str]:
        """A line for each way in which encoders read the texts, and what to reword if they are not aligned."""
        readers: dict[str, list[str]] = {}
        for name, found in self.alignment.items():
            changed = ", ".join(f"{before or '-'} -> {after or '-'}" for before, after in found.words)
            told = f"{found.share:.0%} of the rows aligned; changed: {changed or 'nothing'}"
            readers.setdefault(f"{told}\n{found.advice}".strip(), []).append(name)
        return [f"{', '.join(names)}: {told}" for told, names in readers.items()]

    def rewritten(self, source: str | None = None, target: str | None = None) -> Description:
        """The description with one or both texts replaced by hand."""
        return replace(
            self,
            source=self.source if source is None else source,
            target=self.target if target is None else target,
            describer=f"{self.describer}, then by hand",
        )


class Describer(Protocol):
    """Anything that looks at a picture and writes: the shipped small model, a large one, a person."""

    name: str

    def describe(self, image: Image.Image) -> str:
        """What the picture shows."""

    def extract(self, image: Image.Image, instruction: str) -> Description:
        """What the picture shows, and what it should show once the instruction is carried out."""
