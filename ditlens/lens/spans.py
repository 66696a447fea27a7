"""Where the words of a prompt lie in the text stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ditlens.arguments import NAME, takes
from ditlens.description import one_reader_at_a_time
from ditlens.errors import ArchitectureError, CaptureError
from ditlens.lens.adapters.table import ARCHITECTURES
from ditlens.lens.adapters.texts import PIPELINES, PipelineReader, Reading, reader_of
from ditlens.lens.hooks import parts_of

Finder = Callable[[str, str], dict[str, list[int]]]
"""``finder(prompt, word) -> {tokenizer: [token, ...]}``."""
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


@takes(prompt=NAME)
def each_word(model: Any, prompt: str) -> list[tuple[str, list[int]]]:
    """Every word of a prompt, in order, with its tokens in the text stream, those of all text encoders together.

    >>> each_word(model, "a big smile")
    [('a', [1]), ('big', [2]), ('smile', [3])]

    Args:
        model: A `ditlens.Model` or a pipeline.
        prompt: The whole text.

    Raises:
        CaptureError: If it is unknown how the model reads its prompt.
    """
    pipe = parts_of(model)[1]
    reader = _reader(pipe)
    if reader is None:
        raise CaptureError(no_tokenizers(pipe))
    return _each_word(reader, prompt)


@one_reader_at_a_time
def _each_word(reader: PipelineReader, prompt: str) -> list[tuple[str, list[int]]]:
    readings = reader(prompt).values()
    return [
        (match[0], sorted({token for each in readings for token in _tokens(each, prompt, [match.span()])}))
        for match in WORD.finditer(prompt)
    ]


def word_finder(pipe: Any) -> Finder | None:
    """A function that finds a word's tokens; None if it is unknown how the pipeline reads its prompt."""
    reader = _reader(pipe)
    return None if reader is None else partial(find_word, reader)


def _reader(pipe: Any) -> PipelineReader | None:
    """Reads prompts as a pipeline does; None if it is unknown how."""
    if pipe is None:
        return None
    try:
        return reader_of(pipe, parts_of(pipe)[0])
    except ArchitectureError:
        return None


@one_reader_at_a_time
def find_word(reader: PipelineReader, prompt: str, word: str) -> dict[str, list[int]]:
    """Tokens of a word of a prompt, for each tokenizer."""
    return word_tokens(reader(prompt), prompt, word)


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


def word_tokens(readings: Mapping[str, Reading], prompt: str, word: str) -> dict[str, list[int]]:
    """Tokens of a word, for each tokenizer, counted in the text stream.

    Args:
        readings: How each tokenizer reads the prompt, by its name.
        prompt: The whole text.
        word: A word or phrase of it.

    Raises:
        CaptureError: If the word is not in the prompt, or was cut off by every tokenizer.
    """
    places = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE)]
    if not places:
        raise CaptureError(f"The word {word!r} is not in the prompt {prompt!r}.")
    found = {name: _tokens(reading, prompt, places) for name, reading in readings.items()}
    if not any(found.values()):
        raise CaptureError(
            f"The word {word!r} was cut off: the prompt is longer than the text encoders read. Shorten the prompt."
        )
    return found


def _tokens(reading: Reading, prompt: str, places: list[tuple[int, int]]) -> list[int]:
    """Tokens of one tokenizer that overlap places (first character, character after the last) of the prompt."""
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
        start + i
        for i, (first, last) in enumerate(spans)
        if last > first and any(first < before + end and last > before + begin for begin, end in places)
    ]
