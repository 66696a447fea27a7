"""Where the words of a prompt lie in the text stream."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ditlens.arguments import NAME, takes
from ditlens.description import one_reader_at_a_time
from ditlens.errors import ArchitectureError, CaptureError
from ditlens.lens.adapters.table import ARCHITECTURES
from ditlens.lens.adapters.texts import PIPELINES, PipelineReader, Reading, reader_of
from ditlens.lens.hooks import parts_of

Offsets = Mapping[str, list[list[int]]]
"""Of each tokenizer: number, first character and character after the last of every token of a prompt."""
WORD = re.compile(r"\w+(?:['’-]\w+)*")
"""A word with its hyphens."""
UNLIMITED = 1_000_000
"""Most tokens of a text where the pipeline sets no limit; tokenizers refuse much larger numbers."""


@takes(prompt=NAME, word=NAME)
def words(model: Any, prompt: str, word: str) -> dict[str, list[int]]:
    """Numbers of the text tokens that make a word of a prompt, for each text encoder of the text stream.

    >>> dl.words(model, "a portrait with a big smile", "big smile")
    {'tokenizer': [5, 6], 'tokenizer_2': [5, 6]}

    Args:
        model: A `ditlens.Model` or a pipeline.
        prompt: The whole text.
        word: A word or phrase of it; all its occurrences count.

    Returns:
        Token numbers by tokenizer. Where padding comes before the text (CogView4), they are negative: -1 is the
            last token. They are right as long as the call leaves the pipeline's own template as it is and, where
            they are negative, cuts nothing off the prompt (``max_sequence_length``).

    Raises:
        CaptureError: If it is unknown how the model reads its prompt, or the word is not in the prompt.
    """
    pipe = parts_of(model)[1]
    finder = word_finder(pipe)
    if finder is None:
        raise CaptureError(no_tokenizers(pipe))
    return finder(prompt, word)


@dataclass(frozen=True)
class Words:
    """Finds the tokens of a word: ``words(prompt, word) -> {tokenizer: [token, ...]}``.

    Attributes:
        offsets: Where the tokens of a prompt lie in it.
    """

    offsets: Callable[[str], Offsets]

    def __call__(self, prompt: str, word: str) -> dict[str, list[int]]:
        try:
            return word_tokens(self.offsets(prompt), prompt, word)
        except KeyError:
            raise CaptureError(
                "This cache is from a file, which does not keep the model's tokenizers, nor the words of this "
                f"prompt. Ask the model: dl.words(model, {prompt!r}, {word!r})."
            ) from None

    def each(self, prompt: str) -> list[tuple[str, list[int]]]:
        """Every word of a prompt, in order, with its tokens in the text stream, those of all tokenizers together.

        >>> word_finder(model.pipe).each("a big smile")
        [('a', [1]), ('big', [2]), ('smile', [3])]

        Raises:
            CaptureError: If the tokenizers give no character offsets.
            KeyError: If this prompt is not known.
        """
        offsets = self.offsets(prompt).values()
        return [
            (word[0], sorted({token for each in offsets for token in _overlapping(each, [word.span()])}))
            for word in WORD.finditer(prompt)
        ]

    def table(self, prompts: Iterable[str]) -> dict[str, Offsets]:
        """The offsets of prompts, to be written to a file; prompts that cannot be read are left out."""
        found = {}
        for prompt in dict.fromkeys(prompts):
            with contextlib.suppress(CaptureError, KeyError):
                found[prompt] = self.offsets(prompt)
        return found

    @classmethod
    def kept(cls, table: Mapping[str, Offsets]) -> Words:
        """What knows the prompts of a table only."""
        return cls(table.__getitem__)


def word_finder(pipe: Any) -> Words | None:
    """What finds a word's tokens; None if it is unknown how the pipeline reads its prompt."""
    if pipe is None:
        return None
    try:
        reader = reader_of(pipe, parts_of(pipe)[0])
    except ArchitectureError:
        return None
    return None if reader is None else Words(partial(read_offsets, reader))


@one_reader_at_a_time
def read_offsets(reader: PipelineReader, prompt: str) -> Offsets:
    """Where the tokens of a prompt lie in it, for each tokenizer."""
    return {name: _offsets(reading, prompt) for name, reading in reader(prompt).items()}


def no_tokenizers(pipe: Any = None) -> str:
    """Why words cannot be found, and what to type instead."""
    whole = ", ".join(name for name, each in ARCHITECTURES.items() if each.text)
    which = "this text stream" if pipe is None else f"the text stream of {type(pipe).__name__}"
    return (
        f"The tokenizers behind {which} are not known. Words can be found where a ditlens.Model or a whole "
        f"pipeline was given, of the classes {whole} (transformers), {', '.join(PIPELINES)}: neither a bare "
        "transformer, a pipeline without its tokenizers nor a study on disk can tell. Tokenize the prompt as your "
        "pipeline does, and use the numbers: tokens={'text': [...]}."
    )


def word_tokens(offsets: Offsets, prompt: str, word: str) -> dict[str, list[int]]:
    """Tokens of a word, for each tokenizer, counted in the text stream.

    Args:
        offsets: Of the prompt.
        prompt: The whole text.
        word: A word or phrase of it.

    Raises:
        CaptureError: If the word is not in the prompt, or was cut off by every tokenizer.
    """
    places = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE)]
    if not places:
        raise CaptureError(f"The word {word!r} is not in the prompt {prompt!r}.")
    found = {name: _overlapping(each, places) for name, each in offsets.items()}
    if not any(found.values()):
        raise CaptureError(
            f"The word {word!r} was cut off: the prompt is longer than the text encoders read. Shorten the prompt."
        )
    return found


def _overlapping(tokens: list[list[int]], places: list[tuple[int, int]]) -> list[int]:
    """Those of the tokens that lie in places (first character, character after the last)."""
    return [
        token for token, first, last in tokens if any(first < end and last > begin for begin, end in places)
    ]


def _offsets(reading: Reading, prompt: str) -> list[list[int]]:
    """Number, first character and character after the last of every token of the prompt, of one tokenizer."""
    tokenizer, before = reading.tokenizer, len(reading.before)
    if not getattr(tokenizer, "is_fast", False):
        raise CaptureError(
            f"{type(tokenizer).__name__} gives no character offsets. Load the pipeline with the fast tokenizer: "
            "transformers.AutoTokenizer.from_pretrained(..., use_fast=True)."
        )
    spans = tokenizer(
        reading.before + prompt + reading.after, return_offsets_mapping=True, truncation=True,
        max_length=min(tokenizer.model_max_length, reading.longest or UNLIMITED),
        add_special_tokens=reading.special,
    )["offset_mapping"]  # fmt: skip
    start = -len(spans) if reading.from_end else reading.start
    return [
        [start + i, first - before, last - before]
        for i, (first, last) in enumerate(spans)
        if before < last > first < before + len(prompt)
    ]
