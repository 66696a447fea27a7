"""The two texts of an edit, and how they align: which words stay, and where an insertion shifts the rest.

The embeddings of two texts are subtracted row by row, so an inserted word shifts everything after it; `align` shows
where.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, runtime_checkable

from ditlens.cards import Carded, Marked, Piece, Table
from ditlens.errors import SettingError

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal["kept", "replaced", "inserted", "removed"]
KINDS: dict[str, Kind] = {"equal": "kept", "replace": "replaced", "insert": "inserted", "delete": "removed"}
WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
"""A word with its hyphens, or a punctuation mark."""
JOINTS = frozenset(
    [*",;.:", *"and but with without on in at under over above behind beside near before".split()]
)
"""Tokens that separate the things a text says."""
NEAR = 2
"""Changes with at most this many kept words between them, and no joint, count as one."""
Tokenize = Any
"""A transformers tokenizer, or a function from a text to a list of tokens."""


@dataclass(frozen=True)
class Span:
    """A run of tokens that is the same in both texts, or differs.

    Attributes:
        kind: "kept", "replaced", "inserted" or "removed".
        source: Its tokens in the source; empty if inserted.
        target: Its tokens in the target; empty if removed.
        source_start: Row of the first one in the source.
        target_start: Row of the first one in the target.
    """

    kind: Kind
    source: tuple[str, ...]
    target: tuple[str, ...]
    source_start: int
    target_start: int

    @property
    def shifts(self) -> bool:
        """Whether it moves what follows to other rows."""
        return len(self.source) != len(self.target)


@dataclass(frozen=True)
class Alignment:
    """What two texts have in common, token by token; `align` makes it.

    Attributes:
        spans: All tokens of both texts, in order.
    """

    spans: tuple[Span, ...]

    @property
    def aligned(self) -> bool:
        """Whether every change replaces tokens by equally many, so that nothing is shifted."""
        return not any(span.shifts for span in self.spans)

    @property
    def changes(self) -> tuple[Span, ...]:
        """The spans that are not kept."""
        return tuple(span for span in self.spans if span.kind != "kept")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(source row, target row) of matching tokens: kept ones, and replaced ones in order."""
        return [
            (span.source_start + k, span.target_start + k)
            for span in self.spans
            for k in range(min(len(span.source), len(span.target)))
        ]

    @property
    def share(self) -> float:
        """Share of the rows, in [0, 1], in which matching tokens meet; 1 if the texts are aligned.

        The rows are those of the longer text, including start and end tokens.
        """
        rows = max(sum(len(span.source) for span in self.spans), sum(len(span.target) for span in self.spans))
        return sum(row == other for row, other in self.pairs) / max(rows, 1)

    @property
    def words(self) -> list[tuple[str, str]]:
        """What changes, as words: (before, after); one of them is empty where words are inserted or removed."""
        return [(_readable(span.source), _readable(span.target)) for span in self.changes]

    @property
    def advice(self) -> str:
        """What to reword so that the texts are aligned; empty if they are."""
        if self.aligned:
            return ""
        problems = " ".join(_problem(span) for span in self.spans if span.shifts)
        return (
            f"{problems} Give both texts the same number of tokens, with the changed ones in the same place: if "
            'the target adds something, say in the source that it is missing ("no hat" / "red hat"), and keep the '
            "order of the rest."
        )

    def __str__(self) -> str:
        """Two lines with ``[replaced]``, ``{+inserted+}`` and ``{-removed-}`` words; the rest is in both."""
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
        source: What the image shows.
        target: What it should show.
        tokenize: A transformers tokenizer (``model.pipe.tokenizer``): then rows are those of the embedding, with
            start and end tokens. Or a function from a text to a list of tokens. By default, texts are split into
            words.
        limit: Tokens that the encoder reads; by default the tokenizer's own limit.

    Raises:
        SettingError: If a text is empty.

    Example:
        >>> found = align("a man with no hat", "a tall man with red hat")
        >>> print(found)
        source: a          man with [no]  hat
        target: a {+tall+} man with [red] hat
        >>> found.words, round(found.share, 2)
        ([('', 'tall'), ('no', 'red')], 0.17)
    """
    if not source.strip() or not target.strip():
        raise SettingError(f"Two texts are needed to align them; got {source!r} and {target!r}.")
    a, b = _tokens(source, tokenize, limit), _tokens(target, tokenize, limit)
    return Alignment(
        tuple(
            Span(KINDS[step], tuple(map(str, a[i:j])), tuple(map(str, b[k:m])), i, k)
            for step, i, j, k, m in _steps(a, b)
        )
    )


def _steps(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[str, int, int, int, int]]:
    """The steps of difflib from `a` to `b`, except that a common beginning is always kept.

    difflib takes the first of the longest matches; among frequent tokens ("a", ",") it may be a shifted one.
    """
    shorter = min(len(a), len(b))
    head = next((k for k in range(shorter) if a[k] != b[k]), shorter)
    rest = SequenceMatcher(None, a[head:], b[head:], autojunk=False).get_opcodes()
    kept = [("equal", 0, head, 0, head)] if head else []
    return [*kept, *((step, head + i, head + j, head + k, head + m) for step, i, j, k, m in rest)]


P = ParamSpec("P")
R = TypeVar("R")
READING = threading.RLock()


def one_reader_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Let one thread at a time read texts: tokenizers keep truncation and padding from call to call."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with READING:
            return function(*args, **kwargs)

    return run


@one_reader_at_a_time
def _tokens(text: str, tokenize: Tokenize | None = None, limit: int | None = None) -> Sequence[Hashable]:
    """The tokens of a text, cut as the encoder cuts them."""
    if tokenize is None:
        return text.split()[:limit]
    if hasattr(tokenize, "convert_ids_to_tokens"):
        longest = tokenize.model_max_length if limit is None else limit
        ids = tokenize(text, truncation=True, max_length=min(longest, 512)).input_ids
        return tokenize.convert_ids_to_tokens(ids)
    return list(tokenize(text))[:limit]


def single_changes(source: str, target: str) -> list[str]:
    """Target texts that each make only one of the changes.

    Args:
        source: What the image shows.
        target: What it should show.

    Returns:
        One text for each change, in order; none if the texts have the same words.

    Example:
        >>> single_changes("a sad man, red hair", "a happy man, blue hair")
        ['a happy man, red hair', 'a sad man, blue hair']
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
    """The source with some of its words replaced by some of the target's."""
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


# --- tokens as words -------------------------------------------------------------------------------------


def _readable(tokens: Sequence[str]) -> str:
    """Tokens as words: without the marks by which tokenizers end or begin a word, and without special tokens."""
    words = [token for token in tokens if not (token.startswith("<") and token.endswith(">"))]
    if any(token.endswith("</w>") or token[:1] in "Ġ▁" for token in words):
        text = "".join(words)
        for sign in ("</w>", "Ġ", "▁"):
            text = text.replace(sign, " ")
        return " ".join(text.split())
    return " ".join(words)


def _problem(span: Span) -> str:
    before, after = (f"{_readable(tokens)!r} ({_count(tokens)})" for tokens in (span.source, span.target))
    if span.kind == "inserted":
        return f"The target adds {after}."
    if span.kind == "removed":
        return f"The target leaves out {before}."
    return f"{before} becomes {after}."


def _count(tokens: Sequence[str]) -> str:
    return f"{len(tokens)} token{'s' if len(tokens) > 1 else ''}"


def _cells(span: Span) -> tuple[str, str]:
    before, after = _readable(span.source), _readable(span.target)
    if span.kind == "kept":
        return before, after
    if span.kind == "replaced":
        return f"[{before}]", f"[{after}]"
    return (f"{{-{before}-}}", "") if span.kind == "removed" else ("", f"{{+{after}+}}")


# --- the two texts ---------------------------------------------------------------------------------------


@runtime_checkable
class TextEncoder(Protocol):
    """A text encoder with a row for each token: its name, its tokenizer, and how many tokens it reads."""

    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def limit(self) -> int | None: ...


@dataclass(frozen=True)
class Description(Carded):
    """What an image shows and what it should show.

    Attributes:
        source: What the image shows.
        target: What it should show; best worded like `source`, so that only the changed words differ.
        changes: For each attribute that changes, the wanted value in words; empty if the describer does not know.
        describer: Who wrote the texts.
        readers: The text encoders that will read the texts; empty if no model is known yet.

    Example:
        >>> print(Description("a man, no hat", "a man, red hat", {"hat": "red hat"}))
        source: a man, no hat
        target: a man, red hat
    """

    source: str
    target: str
    changes: dict[str, str]
    describer: str = "by hand"
    readers: tuple[TextEncoder, ...] = field(default=(), repr=False, compare=False)

    def rows(self) -> list[tuple[str, str]]:
        """Both texts as rows of a table, which marks in HTML what differs."""
        pair = ("source text", self.source, self.target), ("target text", self.target, self.source)
        return [(name, Marked(text, other)) for name, text, other in pair]

    def _card(self) -> list[Piece]:
        return ["Description", Table([*self.rows(), ("describer", self.describer)]), *self._alignment_lines()]

    def __str__(self) -> str:
        return "\n".join([f"source: {self.source}", f"target: {self.target}", *self._alignment_lines()])

    @cached_property
    def alignment(self) -> dict[str, Alignment]:
        """How the texts align for each text encoder, by its name; empty if no model is known or a text is empty."""
        if not self.source.strip() or not self.target.strip():
            return {}
        return {r.name: align(self.source, self.target, r.tokenizer, r.limit) for r in self.readers}

    def alignment_facts(self) -> dict[str, dict[str, Any]]:
        """For each text encoder the changed words and the share of aligned rows, ready for JSON."""
        return {
            name: {"changed": [list(pair) for pair in found.words], "share": round(found.share, 4)}
            for name, found in self.alignment.items()
        }

    def _alignment_lines(self) -> list[str]:
        """A line for each way in which the encoders read the texts, and what to reword if they are not aligned."""
        lines: dict[str, list[str]] = {}
        for name, found in self.alignment.items():
            changed = ", ".join(f"{before or '-'} -> {after or '-'}" for before, after in found.words)
            line = f"{found.share:.0%} of the rows aligned; changed: {changed or 'nothing'}\n{found.advice}"
            lines.setdefault(line.strip(), []).append(name)
        return [f"{', '.join(names)}: {line}" for line, names in lines.items()]

    def rewritten(self, target: str) -> Description:
        """The description with a target that a person wrote."""
        return replace(self, target=target, describer=f"{self.describer}, then by hand")


@runtime_checkable
class Describer(Protocol):
    """Whoever looks at an image and writes: the small model that comes with ditlens, a large one, a person."""

    name: str

    def describe(self, image: Image.Image) -> str:
        """What the image shows."""

    def extract(self, image: Image.Image, instruction: str) -> Description:
        """What the image shows, and what it should show once the instruction is carried out."""
