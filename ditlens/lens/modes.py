"""Modes of a model that hooks depend on: compiled, or with parts replaced by a step cache or layer skip."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

REMOVE = (
    "Remove it first: from diffusers.hooks import HookRegistry; for name in {}: "
    "HookRegistry.check_if_exists_or_initialize(transformer).remove_hook(name)"
)
"""How to switch off what was switched on by a function, ``apply_...(transformer, config)``."""


class Eager:
    """Runs compiled modules without compilation while it is entered; contexts may be left in any order."""

    def __init__(self) -> None:
        self._entered = 0
        self._stance = contextlib.ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._entered:
                with contextlib.suppress(RuntimeError):  # of a with-block inside a compiled function
                    self._stance.enter_context(torch.compiler.set_stance("force_eager"))
            self._entered += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                self._stance.close()


EAGER = Eager()


def parts_within(module: nn.Module) -> Iterator[nn.Module]:
    """A module and all its parts; faster than `modules()`, which nests a generator for each level."""
    waiting = [module]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [child for child in part._modules.values() if child is not None]


def replacements(modules: Iterable[nn.Module]) -> Iterator[tuple[nn.Module, str, Any]]:
    """Hooks of diffusers that run something else in place of a module's forward: the module, their name, the hook.

    Step caches and layer skips do. Offloading and casting only prepare the arguments or the weights.
    """
    for module in modules:
        if (registry := module.__dict__.get("_diffusers_hook")) is None:
            continue
        for name, hook in registry.hooks.items():
            if hasattr(hook, "new_forward") and type(hook).__name__ != "PeftInputAutocastDisableHook":
                yield module, name, hook
