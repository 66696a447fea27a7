"""The pages: their Python can be typed as it stands, and names what there is."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import ditlens as dl

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        *(ROOT / "docs" / "how-to").glob("*.md"),
        *(ROOT / "docs" / "reference").glob("*.md"),
        *(ROOT / "docs" / "teaching").glob("*.md"),
    ]
)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_can_be_typed(page):
    for block in BLOCK.findall(page.read_text("utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dl":
                assert node.attr in dir(dl), f"dl.{node.attr}"


def test_every_block_is_closed_on_a_line_of_its_own():
    for page in PAGES:
        fences = [line for line in page.read_text("utf-8").splitlines() if "```" in line]
        assert all(line.lstrip().startswith("```") for line in fences) and len(fences) % 2 == 0, page.name


def test_the_pages_for_teachers_are_what_the_lessons_say():
    spec = importlib.util.spec_from_file_location("make", ROOT / "docs" / "teaching" / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    for path, text in make.pages().items():
        assert path.read_text("utf-8") == text, f"{path.name}: run python docs/teaching/make.py"
