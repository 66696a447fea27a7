"""Move hidden states and texts along a direction: on a line, or keeping the length of every token."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ditlens.analysis.directions import Direction
from ditlens.errors import CaptureError, InterventionError, SettingError
from ditlens.lens.interventions import Where
from ditlens.lens.spans import words as tokens_of
from ditlens.models.embedding import TextEmbedding
from ditlens.models.model import Model

PATHS = ("line", "norm", "slerp")
"""Ways to move, see `moved`."""
TINY = 1e-12


def steered(values: Tensor, where: Where, direction: Direction, amounts: Tensor, path: str) -> Tensor:
    """Hidden states of a batch, (rows, tokens, width), moved along a direction by each row's amount."""
    step = direction.step.to(values)
    if step.shape[1] != values.shape[2] or (direction.places and max(direction.places) >= values.shape[1]):
        raise InterventionError(
            f"The direction has the width {step.shape[1]}{_at(direction)}, and the values at {where.site} have "
            f"{values.shape[1]} tokens of width {values.shape[2]}: it was made with another model."
        )
    places = list(direction.places) or slice(None)
    new = values.clone()
    new[:, places] = moved(values[:, places], amounts.to(values) * step, path)
    return new


def _at(direction: Direction) -> str:
    return f" and acts at patch {max(direction.places)}" if direction.places else ""


def moved(
    values: Float[Tensor, "rows tokens width"], change: Float[Tensor, "rows tokens width"], path: str
) -> Tensor:
    """Every token moved by its change: on a line, on a line and back to its length, or on a great circle.

    With x a token, d its change, and d' the part of d that is orthogonal to x::

        line     x + d
        norm     |x| (x + d) / |x + d|
        slerp    cos(a) x + sin(a) |x| d' / |d'|,    a = |d| / |x|
    """
    length = values.norm(dim=-1, keepdim=True)
    if path == "line":
        return values + change
    if path == "norm":
        new = values + change
        new = new * (length / new.norm(dim=-1, keepdim=True).clamp_min(TINY))
    else:
        unit = values / length.clamp_min(TINY)
        across = change - (change * unit).sum(-1, keepdim=True) * unit
        across = across / across.norm(dim=-1, keepdim=True).clamp_min(TINY)
        arc = change.norm(dim=-1, keepdim=True) / length.clamp_min(TINY)
        new = length * (arc.cos() * unit + arc.sin() * across)
    return torch.where((change == 0).all(-1, keepdim=True), values, new)


def moved_text(
    model: Model, text: TextEmbedding, direction: Direction, amounts: Tensor, path: str, word: str = ""
) -> TextEmbedding:
    """Embeddings of prompts, each moved along a direction by its amount, (rows, 1, 1)."""
    step = direction.step.to(text.tokens)
    if step.shape[1] != text.tokens.shape[2] or (len(step) > 1 and len(step) != text.tokens.shape[1]):
        raise SettingError(
            f"The direction is {tuple(step.shape)} (tokens, width), and the texts of {model.name} are "
            f"{tuple(text.tokens.shape[1:])}: it was made with another model."
        )
    change = amounts.to(text.tokens) * step
    if len(step) == 1:  # at some words only
        acts = torch.zeros(text.tokens.shape[:2], dtype=torch.bool, device=text.tokens.device)
        for row, prompt in enumerate(text.prompts):
            acts[row, _word_rows(model, prompt, direction, word)] = True
        change = change * acts.unsqueeze(-1)
    tokens = moved(text.tokens, change.expand_as(text.tokens), path)
    pooled = text.pooled
    if direction.pooled is not None:
        pooled_change = amounts.to(pooled) * direction.pooled.to(pooled)
        pooled = moved(pooled.unsqueeze(1), pooled_change.expand(len(pooled), 1, -1), path).squeeze(1)
    return replace(text, tokens=tokens, pooled=pooled)


def _word_rows(model: Model, prompt: str, direction: Direction, word: str) -> list[int]:
    """Rows of a prompt at which a direction of some words acts: the longest of them that is there."""
    wanted = [word] if word else sorted(direction.words, key=len, reverse=True)
    for each in wanted:
        try:
            found = tokens_of(model, prompt, each).values()
        except CaptureError:
            continue
        return sorted({tokens[-1] if direction.last else k for tokens in found for k in tokens})
    raise SettingError(
        f"The prompt {prompt!r} has none of the words at which this direction acts: "
        f"{', '.join(map(repr, wanted[:6]))}. Name one of its words: word='...'."
    )
