"""The reference has every public name, so that a new one cannot be forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import ditlens as dl

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"
DOCUMENTED = re.compile(r"^\.\. auto(?:class|data|exception|function|module):: (\S+)$", re.MULTILINE)


def test_every_public_name_is_in_the_reference():
    pages = "\n".join(path.read_text("utf-8") for path in (REFERENCE / "api").glob("*.md"))
    names = DOCUMENTED.findall(pages)
    assert len(names) == len(set(names))
    public = {f"ditlens.{name}" for name in dl.__all__} - {"ditlens.__version__", "ditlens.errors"}
    assert public <= set(names), sorted(public - set(names))


def test_every_exception_has_a_page():
    kinds = (dl.errors.DitlensError, *dl.errors.DitlensError.__subclasses__())
    pages = {path.stem: path.read_text("utf-8") for path in (REFERENCE / "errors").glob("*Error.md")}
    assert {name: DOCUMENTED.findall(text) for name, text in pages.items()} == {
        each.__name__: [f"ditlens.errors.{each.__name__}"] for each in kinds
    }


def test_every_page_is_linked_from_the_page_of_its_folder():
    for folder in (
        DOCS / "how-to",
        DOCS / "decisions",
        DOCS / "explanation",
        REFERENCE / "api",
        REFERENCE / "errors",
    ):
        index = (folder / "README.md").read_text("utf-8")
        linked = set(re.findall(r"\]\(([\w-]+\.md)\)", index))
        assert linked == {path.name for path in folder.glob("*.md")} - {"README.md"}, folder.name


def test_the_docs_stay_out_of_the_wheel():
    text = (DOCS.parent / "setup.py").read_text("utf-8")
    assert re.findall(r'"(docs[^"]*)"', text) == ["docs/reference/glossary.md"]
