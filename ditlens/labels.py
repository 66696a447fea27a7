"""What a caller says about the next calls of a transformer: step, guidance pass, prompt, tokens.

`ditlens.Model` and `ditlens.edit` announce; captures and interventions listen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Label:
    """What the caller of a transformer says about a call and the rows of its batch.

    Attributes:
        passes: Pass of every row, e.g. ``("uncond", "cond")``.
        prompts: Text of every row; empty if unknown.
        mask: (batch, text tokens), True at real tokens; None if unknown.
        step: Number of the step; None if unknown.
        run: Any object that all steps of one sampling loop share, and no other loop.
        outside: An object that stands for an `outside_steps` block; None where there is none.
    """

    passes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    mask: torch.Tensor | None = None
    step: int | None = None
    run: object = None
    outside: object = None


_label: ContextVar[Label | None] = ContextVar("ditlens_label", default=None)


@contextlib.contextmanager
def announce(label: Label) -> Iterator[None]:
    """Tell captures and interventions what the next transformer calls are about.

    A label without a step gets the one that was announced around it.
    """
    around = _label.get() or Label()
    if label.step is None:
        label = replace(label, step=around.step, run=around.run)
    token = _label.set(replace(label, outside=label.outside or around.outside))
    try:
        yield
    finally:
        _label.reset(token)


@contextlib.contextmanager
def outside_steps() -> Iterator[None]:
    """Hide the next transformer calls from captures and interventions that began before.

    For calls that belong to no step, such as those that compute the mask of an edit.
    """
    with announce(Label(outside=object())):
        yield


def current_label() -> Label | None:
    """What the caller announced."""
    return _label.get()
