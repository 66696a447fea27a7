"""The one way back up: results draw themselves (``sweep.plot()``) although views are built on results."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def view(name: str, module: str = "plots") -> Any:
    """A function of a module of `ditlens.views`, by name; matplotlib is imported with it.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    return getattr(import_module(f"ditlens.views.{module}"), name)
