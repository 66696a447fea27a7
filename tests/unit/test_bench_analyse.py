"""What `make bench-analyse` measures."""

from __future__ import annotations

import json

import pytest

from benchmarks import analyse, faults, streaming_pca

TESTS = """
import pytest

@pytest.mark.parametrize("x", [1, 2, 3, 4])
def test_known_value(x):
    assert x < 4
"""


def test_known_values_that_are_found_are_counted(monkeypatch, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    (tmp_path / "test_values.py").write_text(TESTS)
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    monkeypatch.setattr(analyse, "KNOWN_VALUES", "test_values.py")
    found = analyse.metrics_known_values()
    assert (found["value"], found["n"], found["unit"]) == (0.75, 4, "share")
    assert found["note"].endswith("not found: test_known_value[4]")
    (tmp_path / "test_values.py").write_text(
        "import pytest\n\n@pytest.mark.skip\ndef test_none():\n    pass\n"
    )
    with pytest.raises(analyse.MeasureError, match="no test of test_values.py ran"):
        analyse.metrics_known_values()


def test_streaming_and_incremental_pca_are_compared_on_the_same_rows(monkeypatch):
    for name, value in {"ROWS": 400, "WIDTH": 30, "COMPONENTS": 4, "BATCHES": (200, 100)}.items():
        monkeypatch.setattr(streaming_pca, name, value)
    found = streaming_pca.measure()
    first, second = found["parts"]["batches of 200"], found["parts"]["batches of 100"]
    assert first["lowest"] <= found["value"] == first["ratio"] <= first["highest"]
    assert (
        first["ditlens_angle"] < 0.01 and second["ditlens_angle"] < 0.01 < second["IncrementalPCA_angle"] < 20
    )


def test_every_key_has_a_target():
    targets = json.loads((analyse.RESULTS.parent / "targets.json").read_text("utf-8"))
    assert set(analyse.MEASURES) <= set(targets)


def test_an_unknown_key_lists_those_there_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        analyse.main(["--only", "known_values"])
    assert "unknown key known_values; there are metrics_known_values" in capsys.readouterr().err
