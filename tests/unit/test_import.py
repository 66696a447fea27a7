"""`import ditlens` is light, and its public names are what they say."""

from __future__ import annotations

import ast
import graphlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import ditlens

PACKAGE = Path(ditlens.__file__).parent
HEAVY = {"torch", "diffusers", "transformers", "umap", "sklearn", "matplotlib", "ipywidgets", "numpy", "PIL"}
LATE = {
    "torch": "1 s",
    "diffusers": "2 s",
    "transformers": "each of its classes brings a module of its own, some of them seconds",
    "tokenizers": "needed to train only; it comes with transformers",
    "huggingface_hub": "each of its names brings a module of its own; needed for weights that are not shipped",
    "safetensors": "its torch half imports torch",
    "matplotlib": "0.5 s, and in the extra `views`",
    "peft": "2 s, and in the extra `analysis`",
    "sklearn": "1 s, and in the extra `analysis`",
    "umap": "20 s the first time, and in the extra `analysis`",
    "pandas": "0.5 s, and in the extra `analysis`",
    "xarray": "1 s, and in the extra `export`",
    "pyarrow": "in the extra `export`",
    "onnx": "in the extra `fast`",
    "onnxruntime": "in the extra `fast`",
    "platformdirs": "as psutil",
    "IPython": "needed where IPython itself calls",
    "jupytext": "0.5 s, and in the extra `teach`",
    "nbformat": "as jupytext",
    "ray": "2 s, and in the extra `cluster`",
    "lpips": "installed by those who want this metric",
    "numpy": "0.1 s; a wrong path or degree is reported before any image is read",
    "PIL": "as numpy",
    "psutil": "files.py stands on the way to every `--help`",
    "tqdm": "as psutil, for tables.py",
}
"""Packages that a function may import, and why not at the top of the file."""


def heavy_modules_after(statement: str) -> set[str]:
    """The heavy packages that a fresh Python has loaded after running `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return HEAVY & set(json.loads(done.stdout))


LIGHT = ("", ".cli.main", ".cli.doctor", ".cli.demo", ".worlds.portraits.instructions")


@pytest.mark.parametrize("module", [f"ditlens{name}" for name in LIGHT])
def test_import_is_light(module):
    assert heavy_modules_after(f"import {module}") == set()


@pytest.mark.skipif(sys.platform != "linux", reason="set on Linux only")
@pytest.mark.parametrize(("given", "found"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_that_wait_leave_the_cores_to_others(given, found):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    code = "import ditlens, os; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == found


def test_the_check_notices_a_violation():
    assert heavy_modules_after("import ditlens, numpy") == {"numpy"}


def late_imports(path: Path) -> Iterator[str]:
    """The modules that a file imports inside functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    outer = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, functions)]
    for node in (inner for function in outer for inner in ast.walk(function)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_functions_import_heavy_packages_only():
    files = [path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "cli")]
    late = {(path.relative_to(PACKAGE).as_posix(), name) for path in files for name in late_imports(path)}
    assert {(path, name) for path, name in late if name.partition(".")[0] not in LATE} == set()
    assert ("models/loading.py", "diffusers") in late, "the check sees what is there"


def test_modules_imported_by_name():
    files = [path for path in PACKAGE.rglob("*.py") if "import_module(" in path.read_text("utf-8")]
    reasons = {
        "__init__.py": "a public name is imported when it is first used",
        "late.py": "results draw themselves",
        "cli/doctor.py": "it vouches for packages that it has imported",
        "worlds/world.py": "a world is a folder, imported by its name",
        "models/graphs.py": "packages of an extra, tried one by one",
        "lens/adapters/texts.py": "what two pipelines of diffusers keep for themselves",
    }
    assert {path.relative_to(PACKAGE).as_posix() for path in files} == set(reasons)


def test_no_module_imports_itself_in_a_circle():
    graph = grimp.build_graph("ditlens", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert sum(map(len, imports.values())) > 400
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_no_module_shadows_a_public_name():
    """Importing the module ``ditlens.edit`` would put it in the place of the function ``ditlens.edit``."""
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert modules & set(ditlens.__all__) == {"course", "errors", "flow"} == set(ditlens._MODULES)


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
