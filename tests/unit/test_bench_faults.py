"""What `make bench-faults` counts."""

from __future__ import annotations

import json

import pytest

from benchmarks import faults
from ditlens.worlds.portraits.attributes import ATTRIBUTES

TESTS = """
import pytest

@pytest.mark.parametrize("x", [1, 2, 3])
def test_numbers(x):
    assert x < 3

@pytest.mark.slow
def test_slow():
    pass

@pytest.mark.skip
def test_skipped():
    pass

@pytest.fixture
def broken():
    raise OSError

def test_error(broken):
    pass
"""


@pytest.fixture
def tests(monkeypatch, tmp_path):
    """A repository with a file of tests: five that run, of which two do not pass."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(TESTS)
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    return "tests/test_a.py"


def test_failures_are_counted(tests):
    found = faults.failures(tests, "a thing")
    assert (found["value"], found["n"]) == (2, 5)
    assert found["parts"]["failed"] == [f"{tests}::test_numbers[3]", f"{tests}::test_error"]


def test_a_kind_is_mended_if_all_of_its_tests_pass(tests, monkeypatch):
    kinds = {
        "numbers": (f"{tests}::test_numbers",),
        "small numbers": (f"{tests}::test_numbers[1]", f"{tests}::test_slow"),
        "nothing that runs": (f"{tests}::test_slow", f"{tests}::test_skipped"),
    }
    monkeypatch.setattr(faults, "KINDS", kinds)
    found = faults.kinds_fixed()
    assert found["parts"] == {"numbers": False, "small numbers": True, "nothing that runs": False}
    assert (found["value"], found["n"]) == (pytest.approx(1 / 3), 3)
    assert "not yet: numbers, nothing that runs" in found["note"]


def test_what_cannot_be_measured_says_why(tests, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(faults, "RESULTS", tmp_path)
    monkeypatch.setattr(faults, "KINDS", {"a kind": ("tests/unit/test_gone.py",)})
    (tmp_path / "faults.json").write_text('{"raw_errors": {"value": 1}}')
    assert faults.main(["--only", "kinds_fixed,raw_errors"]) == 1
    said = capsys.readouterr().err
    assert "kinds_fixed not measured: there is no tests/unit/test_gone.py" in said
    assert "raw_errors not measured: there is no tests/unit/test_wrong_kinds.py" in said
    assert json.loads((tmp_path / "faults.json").read_text()) == {"raw_errors": {"value": 1}}


def test_wishes_are_counted(monkeypatch, tmp_path):
    wishes = [
        {"wish": "put on a crown", "gold": {"hat": [3]}, "refuse": False},
        {"wish": "put on a crown", "gold": {"hat": [1]}, "refuse": False},
        {"wish": "frobnicate", "gold": {"hat": [1]}, "refuse": False},
        {"wish": "make it a cat", "gold": {}, "refuse": True},
    ]
    source = {name: spec.rest for name, spec in ATTRIBUTES.items()}
    monkeypatch.setattr(faults, "HELD_OUT", tmp_path / "wishes.jsonl")
    faults.HELD_OUT.write_text("\n".join(json.dumps({"source": source, **wish}) for wish in wishes))
    understood, misread = faults.wishes("wishes_understood"), faults.wishes("wishes_misread")
    assert (understood["value"], understood["n"]) == (pytest.approx(1 / 3), 3)
    assert understood["parts"]["refused"] == ["frobnicate"]
    assert (misread["value"], misread["n"]) == (1, 4) and misread["parts"]["wishes"] == ["put on a crown"]


def test_every_key_has_a_target():
    targets = json.loads((faults.RESULTS.parent / "targets.json").read_text("utf-8"))
    assert set(faults.MEASURES) <= set(targets)


def test_the_table_names_tests_that_are_there():
    names = {name.partition("::")[0] for tests in faults.KINDS.values() for name in tests}
    assert [name for name in names if not (faults.ROOT / name).is_file()] == []


def test_an_unknown_key_lists_those_there_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        faults.main(["--only", "raw_error"])
    assert "unknown key raw_error; there are kinds_fixed, checkpoint_failures" in capsys.readouterr().err
