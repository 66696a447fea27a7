"""Backward passes that run forward calls again: gradient checkpointing of blocks, or of a whole transformer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ditlens.errors import InterventionError
from ditlens.lens.calls import Call

REENTRANT = (
    "Interventions cannot follow checkpoint(..., use_reentrant=True): in the backward pass its blocks run again on "
    "other tensors. Use use_reentrant=False; transformer.enable_gradient_checkpointing() does by default."
)


def backward_number() -> int:
    """Number of the backward pass that runs in this thread; -1 for none."""
    return torch._C._current_graph_task_id()


def in_backward() -> bool:
    """Whether a backward pass runs in this thread; forward calls in it are those of gradient checkpointing."""
    return backward_number() != -1


def is_checkpointed() -> bool:
    """Whether what is computed now will be computed again in the backward pass (`torch.utils.checkpoint`)."""
    saving: Any = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return saving is not None and saving[0].__module__ == "torch.utils.checkpoint"


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among some values, also those in lists, tuples and outputs of diffusers."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


class PastCalls:
    """Calls by the tensors that entered them or their blocks, which checkpointing hands to both again."""

    def __init__(self) -> None:
        self._calls: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def remember(self, call: Call, inputs: Iterable[Any]) -> None:
        """Note which call some inputs belong to, if a backward pass will use them again."""
        if is_checkpointed():
            call = replace(call, model_args={})  # keeps none of the inputs
            for x in tensors_in(inputs):
                self._calls.setdefault(x, []).append(call)

    def recall(self, inputs: Iterable[Any]) -> Call | None:
        """The call to which all inputs belong; None if it was not remembered.

        Raises:
            InterventionError: If reentrant checkpointing has made copies of the inputs.
        """
        known = [self._calls[x] for x in tensors_in(inputs) if x in self._calls]
        calls = [call for call in min(known, key=len, default=[]) if all(call in each for each in known)]
        node: Any = torch._C._current_autograd_node()
        if not calls and node is not None and node.name() == "CheckpointFunctionBackward":
            raise InterventionError(REENTRANT)
        return calls[-1] if calls else None
