"""Every line of the table "in one line" draws its figure, on the shipped model and study."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ditlens as dl

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "in_one_line.md"
LINES = re.findall(r"^\| [^|]+ \| `(.+)` \|$", PAGE.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def names():
    return {"dl": dl, "model": dl.load("portraits", device="cpu"), "study": dl.open_study("portraits")}


@pytest.mark.parametrize("line", LINES, ids=[re.match(r"dl\.(\w+)", line)[1] for line in LINES])
def test_it_runs(line, names):
    figure = eval(line, dict(names))
    texts = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    assert any(texts), "the figure has a title"


def test_there_are_as_many_as_the_page_promises():
    assert len(LINES) == 9
