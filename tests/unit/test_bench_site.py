"""What `make bench-site` measures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import backend, playground, site
from benchmarks.keys import MeasureError


def test_every_key_has_a_target():
    targets = json.loads((site.RESULTS.parent / "targets.json").read_text("utf-8"))
    assert set(site.MEASURES) <= set(targets)


def test_pairs_of_edits_are_summed_up():
    rows = [
        [
            {"seconds": 1.0 + k / 10, "success": 1.0, "drift": 0.02},
            {"seconds": 0.5 + k / 20, "success": float(k != 3), "drift": 0.03},
        ]
        for k in range(10)
    ]
    found = backend.summary(rows)
    assert found["value"] == pytest.approx(0.5)
    assert found["parts"]["success_difference"]["value"] == pytest.approx(-0.1)
    assert found["parts"]["drift_difference"]["value"] == pytest.approx(0.01)
    assert "0.72 s against 1.45 s" in found["note"]


def test_differences_are_counted_of_255():
    ours = torch.zeros(1, 3, 2, 2)
    theirs = np.zeros(12, np.float32)
    theirs[0] = 1 / 255
    mean, top = playground.difference(theirs, ours)
    assert top == pytest.approx(1) and mean == pytest.approx(1 / 12)


def test_what_was_not_built_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(playground, "PAGE", tmp_path)
    monkeypatch.setattr(playground, "SITE", tmp_path / "site")
    pytest.importorskip("playwright")
    with pytest.raises(MeasureError, match="make playground"), playground.visit():
        pass
    with pytest.raises(MeasureError, match="make docs"):
        playground.docs_problems()


def test_problems_of_the_docs_are_added_up(monkeypatch, tmp_path):
    monkeypatch.setattr(playground, "SITE", tmp_path / "site")
    found = {"warnings": 1, "broken links": 2, "problems": 3, "pages": 100, "mb": 18.4}
    (tmp_path / "site.json").write_text(json.dumps(found))
    measured = playground.docs_problems()
    assert measured["value"] == 3 and measured["parts"] == {"warnings": 1, "broken links": 2}
