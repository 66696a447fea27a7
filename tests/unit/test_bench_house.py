"""What `make bench-house` counts."""

from __future__ import annotations

import json

import pytest

from benchmarks import house

SOURCE = '''"""A docstring
of two lines."""

# a comment
import os  # and code


class A:
    """One line."""

    text = """not a docstring,
    but a string of two lines"""

    def f(self):
        """A docstring."""
        return (
            os.sep,
        )
'''


def test_code_lines():
    assert house.code_lines(SOURCE) == 1 + 1 + 2 + 1 + 3
    assert house.code_lines("\n# nothing\n") == 0


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('if world == "portraits":\n    pass\n', [1]),
        ('x = 1\nif "portraits" != world: x = 2', [2]),
        ('spec in ("own", "portraits")', [1]),
        ('match spec:\n    case "own" | "portraits":\n        pass', [2]),
        ('def load(name="portraits"): """Loads "portraits"."""', []),
        ('folder = DATA / "portraits"\nspec in ("portraits-dev",)', []),
    ],
)
def test_name_tests(source, lines):
    assert house.name_tests(source) == lines


def test_rooms_counts_folders_with_code_and_files():
    found = house.rooms()
    assert {"ems", "worlds"} <= set(found["parts"]["folders"]) and "errors.py" in found["parts"]["files"]
    assert found["value"] == len(found["parts"]["folders"]) + len(found["parts"]["files"])
    assert not {"__init__.py", "__pycache__"} & {*found["parts"]["folders"], *found["parts"]["files"]}


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "unchanged"),
    [
        (0.95, 0.90, 0.98, "share", True),
        (0.89, 0.90, 0.98, "share", False),
        (0.99, 0.90, 0.98, "share", False),
        (0.9545, None, None, "share", True),  # within 1 % of 0.95
        (0.9605, None, None, "share", False),
        (0.1, 0.90, 0.98, "s", True),  # quicker
        (1.2, 0.90, 0.98, "s", False),
        (1.2, 0.90, 0.98, "1/s", True),
        (0.1, 0.90, 0.98, "1/s", False),
    ],
)
def test_figures_are_compared_with_their_intervals(value, low, high, unit, unchanged):
    old = {"value": 0.95, "low": low, "high": high, "unit": unit}
    assert house.is_unchanged(value, old) == unchanged


def test_keys_are_written_one_by_one(monkeypatch, tmp_path, capsys):
    def broken():
        raise house.MeasureError("nothing to see")

    one = {"value": 2 / 3, "n": 3, "unit": "ratio", "note": "a note", "parts": {}}
    monkeypatch.setattr(house, "RESULTS", tmp_path)
    monkeypatch.setattr(house, "MEASURES", {"first": lambda: one, "second": broken})
    (tmp_path / "house.json").write_text('{"second": {"value": 1}}')
    assert house.main([]) == 1
    results = json.loads((tmp_path / "house.json").read_text())
    assert list(results) == ["first", "second"] and results["second"] == {"value": 1}
    assert results["first"]["value"] == 0.666667 and results["first"]["command"] == "make bench-house"
    assert "error: second not measured: nothing to see" in capsys.readouterr().err


def test_an_unknown_key_lists_those_there_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        house.main(["--only", "room"])
    assert "unknown key room; there are import_contracts_broken, rooms" in capsys.readouterr().err


def test_every_key_has_a_target():
    targets = json.loads((house.ROOT / "benchmarks" / "targets.json").read_text("utf-8"))
    assert set(house.MEASURES) <= set(targets)
