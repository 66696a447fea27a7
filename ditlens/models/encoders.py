"""The text encoders of a model, and which part of a text's embedding each of them writes.

Rows are places in the token matrix E (tokens, width), channels are columns of it::

    SD3     rows 0 to 76:  [ CLIP | second CLIP | zeros ]     pooled:  [ CLIP | second CLIP ]
            then:          [ T5                         ]
    FLUX    all rows:      [ T5                         ]     pooled:  [ CLIP ]

The portraits model is an SD3 without T5, whose two CLIPs have 128 channels each.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ditlens.arguments import shown
from ditlens.errors import SettingError
from ditlens.models.embedding import TextEmbedding
from ditlens.models.flux import TEXT_ROWS
from ditlens.models.model import T5_ROWS, Model

NOTHING = slice(0, 0)

Choice = Collection["int | str"] | int | str | None
"""Which encoders: their numbers, from 0, or their names; None for all."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """One text encoder, and where it writes.

    Attributes:
        name: "clip", "clip_2" or "t5".
        rows: Its rows of the token matrix; none if it gives only a pooled vector.
        channels: Its columns of these rows.
        pooled: Its part of the pooled vector; none if it gives only tokens.
        tokenizer: Its tokenizer.
        limit: Tokens of a text that it reads; what is longer is cut.
    """

    name: str
    rows: slice
    channels: slice
    pooled: slice
    tokenizer: Any = field(default=None, repr=False)
    limit: int | None = None


def family_of(model: Model) -> str:
    """The family of a model: "flux", or "sd3", to which SD3.5 and the portraits model belong."""
    return "flux" if type(model.pipe).__name__.startswith("Flux") else "sd3"


def encoders_of(model: Model) -> tuple[Encoder, ...]:
    """The text encoders of a model, in the order of its pipeline."""
    return _of_flux(model.pipe) if family_of(model) == "flux" else _of_sd3(model.pipe)


def _of_sd3(pipe: Any) -> tuple[Encoder, ...]:
    clip, (first, second) = pipe.tokenizer_max_length, (pipe.text_encoder.config, pipe.text_encoder_2.config)
    rows, width, pooled = slice(0, clip), first.hidden_size, first.projection_dim
    both, all_pooled = width + second.hidden_size, pooled + second.projection_dim
    found = (
        Encoder("clip", rows, slice(0, width), slice(0, pooled), pipe.tokenizer, clip),
        Encoder("clip_2", rows, slice(width, both), slice(pooled, all_pooled), pipe.tokenizer_2, clip),
    )
    if pipe.text_encoder_3 is None:
        return found
    return (*found, Encoder("t5", slice(clip, None), slice(None), NOTHING, pipe.tokenizer_3, T5_ROWS))


def _of_flux(pipe: Any) -> tuple[Encoder, ...]:
    rows = TEXT_ROWS if pipe.transformer.config.guidance_embeds else TEXT_ROWS // 2
    return (
        Encoder("clip", NOTHING, NOTHING, slice(None), pipe.tokenizer, pipe.tokenizer_max_length),
        Encoder("t5", slice(None), slice(None), NOTHING, pipe.tokenizer_2, rows),
    )


def with_rows(encoders: Collection[Encoder]) -> list[Encoder]:
    """The encoders that write into the token matrix."""
    return [encoder for encoder in encoders if encoder.rows != NOTHING]


def choose(model: Model, wanted: Choice) -> tuple[Encoder, ...] | None:
    """The encoders that are meant; None if all are.

    Raises:
        SettingError: If one is not there, or none is named.
    """
    if wanted is None:
        return None
    known = encoders_of(model)
    names: list[Any] = (
        list(wanted) if isinstance(wanted, Collection) and not isinstance(wanted, str) else [wanted]
    )
    there = ", ".join(f"{k} ({encoder.name})" for k, encoder in enumerate(known))
    if not names:
        raise SettingError(f"encoders is empty: no text would move. Leave it out for all of them: {there}.")
    for name in names:
        known_kind = isinstance(name, str | int) and not isinstance(name, bool)
        if not known_kind or not any(name in (k, e.name) for k, e in enumerate(known)):
            raise SettingError(
                f"encoders: {model.name} has no text encoder {shown(name)}. Choose from: {there}."
            )
    return tuple(e for k, e in enumerate(known) if k in names or e.name in names)


def only(source: TextEmbedding, moved: TextEmbedding, encoders: Collection[Encoder] | None) -> TextEmbedding:
    """The moved text where these encoders write, the source's text everywhere else.

    Args:
        source: Embedding of the source text.
        moved: The manipulated embedding, of the same shapes.
        encoders: What moves; None: all of it.
    """
    if encoders is None:
        return moved
    cells = torch.zeros(source.tokens.shape[1:], dtype=torch.bool, device=source.tokens.device)
    pooled = torch.zeros(source.pooled.shape[1:], dtype=torch.bool, device=source.pooled.device)
    for encoder in encoders:
        cells[encoder.rows, encoder.channels] = True
        pooled[encoder.pooled] = True
    mask = None
    if source.mask is not None or moved.mask is not None:  # a row of which a part moves has the words of both
        mask = source.real_tokens() | (moved.real_tokens() & cells.any(1))
    return replace(
        moved,
        tokens=torch.where(cells, moved.tokens, source.tokens),
        pooled=torch.where(pooled, moved.pooled, source.pooled),
        mask=mask,
    )
