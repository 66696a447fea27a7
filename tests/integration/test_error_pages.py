"""The page of every exception shows messages as they are printed."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ditlens as dl

FOLDER = Path(__file__).parents[2] / "docs" / "reference" / "errors"
EXCEPTIONS = [each.__name__ for each in (dl.errors.DitlensError, *dl.errors.DitlensError.__subclasses__())]
CASE = re.compile(r"^```python\n(.*?)^```\n+^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples may use: see the first of the pages."""
    model = dl.load("portraits", device="cpu")
    image = model.generate("a portrait with a big smile", seed=0, steps=4)
    return {"dl": dl, "model": model, "image": image, "torch": torch, "sys": sys, "Path": Path}


@pytest.fixture
def modules(monkeypatch):
    """An example acts as if a package were not installed."""
    monkeypatch.delitem(sys.modules, "umap", raising=False)
    yield
    sys.modules.pop("umap", None)


def said(code: str, names: dict[str, Any]) -> tuple[str, str]:
    """The exception that a block of code raises and its message; or the base, if it was caught and printed."""
    lines: list[str] = []
    try:
        exec(code, {**names, "print": lambda error: lines.append(str(error))})
    except dl.errors.DitlensError as error:
        return type(error).__name__, str(error)
    return "DitlensError", "\n".join(lines)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_messages_are_those_of_the_page(name, names, modules, wrong_types, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = CASE.findall((FOLDER / f"{name}.md").read_text("utf-8"))
    assert cases
    for code, message in cases:
        kind, found = said(code, names)
        assert kind == name and doctest.OutputChecker().check_output(message, f"{found}\n", LOOSE), found
