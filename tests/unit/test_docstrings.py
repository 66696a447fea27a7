"""The examples in docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import io
from pathlib import Path

import pytest

import ditlens as dl

ROOT = Path(dl.__file__).parent
MODULES = {
    ".".join(("ditlens", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
WITH_EXAMPLES = [name for name, path in MODULES.items() if ">>>" in path.read_text(encoding="utf-8")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


class Finder(doctest.DocTestFinder):
    """Finds decorated functions too: they have the globals of their decorator."""

    def _from_module(self, module, thing):
        return getattr(thing, "__module__", None) == module.__name__ or super()._from_module(module, thing)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_print_what_they_say(name, portraits, tmp_path, monkeypatch):
    """Each runs in an empty folder with `dl`, `torch` and `model`: a tiny portraits model, untrained."""
    import torch

    monkeypatch.chdir(tmp_path)
    names = {"dl": dl, "torch": torch, "model": portraits}
    examples = Finder(exclude_empty=True).find(importlib.import_module(name), extraglobs=names)
    report, failed = io.StringIO(), 0
    for each in examples:
        failed += doctest.DocTestRunner(optionflags=FLAGS).run(each, out=report.write).failed
    assert failed == 0, report.getvalue()
    assert any(each.examples for each in examples), "examples that doctest does not find"


def test_every_public_name_has_an_example():
    values = {name: getattr(dl, name) for name in dl.__all__ if name not in ("__version__", "errors", "flow")}
    values |= {
        f"flow.{name}": value
        for name, value in vars(dl.flow).items()
        if getattr(value, "__module__", "") == "ditlens.flow"
        and callable(value)
        and not isinstance(value, type)
    }
    missing = {name for name, value in values.items() if ">>>" not in (value.__doc__ or "")}
    assert len(values) > 40 and not missing, sorted(missing)
