"""What the playground's page computes by itself, in Node.js; for the page see tests/browser/test_playground.py."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "playground"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_the_view_helpers():
    tests = ROOT / "tests" / "playground" / "page.test.mjs"
    done = subprocess.run([NODE, "--test", str(tests)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_page_names_every_element_that_its_code_asks_for():
    page = (PAGE / "index.html").read_text("utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    code = "".join(path.read_text("utf-8") for path in (PAGE / "src").glob("*.js"))
    asked = set(re.findall(r'\b(?:byId|on|onSubmit|say|choose)\("([a-z-]+)"', code))
    assert not asked - set(ids)


def test_all_levels_and_maps_are_there():
    page = (PAGE / "index.html").read_text("utf-8")
    shown = " ".join(re.findall(r'data-names="([^"]+)"', page)).split()
    table = json.loads((PAGE / "data" / "recorded.json").read_text("utf-8"))["table"]
    maps = json.loads((PAGE / "data" / "maps.json").read_text("utf-8"))["maps"]
    assert sorted(shown) == sorted(table["attributes"]) == sorted(maps)
    for each in maps.values():
        assert len(each["readable"]["patch"]["values"]) == 64
        assert len(each["used"]["block"]["values"]) == 24


def test_what_is_committed_for_the_page_is_small():
    size = sum(path.stat().st_size for path in (PAGE / "data").iterdir())
    assert size < 300_000
