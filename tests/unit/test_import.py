"""`import ditlens` is light, and its public names are what they say."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ditlens

HEAVY = {"torch", "diffusers", "transformers", "umap", "sklearn", "matplotlib", "ipywidgets", "numpy", "PIL"}


def heavy_modules_after(statement: str) -> set[str]:
    """The heavy packages that a fresh Python has loaded after running `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return HEAVY & set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["ditlens", "ditlens.cli.main", "ditlens.cli.doctor", "ditlens.cli.demo"])
def test_import_is_light(module):
    assert heavy_modules_after(f"import {module}") == set()


def test_the_check_notices_a_violation():
    assert heavy_modules_after("import ditlens, numpy") == {"numpy"}


def test_listing_the_names_is_light():
    assert heavy_modules_after("import ditlens; dir(ditlens); ditlens.__version__; ditlens.errors") == set()


def test_dir_lists_exactly_the_public_names():
    assert dir(ditlens) == sorted(ditlens.__all__)
    assert {"load", "Model", "edit", "Edit", "extract", "manipulate", "flow", "errors"} <= set(dir(ditlens))


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(ditlens.__file__).read_text("utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    declared = {alias.asname: node.module for node in imports for alias in node.names}
    lazy = ditlens._HOME | dict.fromkeys(ditlens._MODULES, "ditlens")
    assert declared == lazy
    assert set(lazy) | {"__version__"} == set(ditlens.__all__)


@pytest.mark.parametrize("name", sorted(ditlens._HOME))
def test_public_name_is_found(name):
    value = getattr(ditlens, name)
    assert value is getattr(sys.modules[ditlens._HOME[name]], name)
    assert vars(ditlens)[name] is value, "the second look-up does not import again"


def test_unknown_name():
    with pytest.raises(AttributeError, match=r"module 'ditlens' has no attribute 'lod'; dir\(ditlens\)"):
        ditlens.lod  # noqa: B018
