"""A hook of ours: it acts where its session was opened, and copies of the model do not have it."""

from __future__ import annotations

import copyreg
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Hook:
    """A function as a hook that may leave calls out.

    Args:
        fn: What the hook does.
        is_here: Says whether it is to do it now.
    """

    def __init__(self, fn: Callable[..., Any], is_here: Callable[[], bool]) -> None:
        self.fn, self.is_here = fn, is_here

    @torch.compiler.disable  # a compiled function must not trace what happens here
    def __call__(self, *args: Any) -> Any:
        return self.fn(*args) if self.is_here() else None


def stay_out_of_copies(module: nn.Module) -> None:
    """Leave our hooks out when a module is copied or saved while they are on it."""
    copyreg.dispatch_table.setdefault(type(module), without_hooks)


def without_hooks(module: nn.Module) -> tuple[Any, ...]:
    """What a copy of a module is made from (`copy.deepcopy`, `pickle`, `torch.save`): all but our hooks.

    Registered for the classes of modules that had one of ours; to their other modules it makes no difference.
    """
    parts: Any = module.__reduce_ex__(2)
    make, arguments, state, *rest = parts
    kinds = [name for name in state if name.startswith(("_forward_hooks", "_forward_pre_hooks"))]
    ours = {k for name in kinds for k, hook in state[name].items() if isinstance(hook, Hook)}
    if ours:
        left = {name: OrderedDict((k, v) for k, v in state[name].items() if k not in ours) for name in kinds}
        state = {**state, **left}
    return make, arguments, state, *rest
