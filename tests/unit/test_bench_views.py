"""What `make bench-views` measures."""

from __future__ import annotations

import json

import pytest

from benchmarks import edit_speed, previews, views
from benchmarks.keys import MeasureError


def test_every_key_has_a_target():
    targets = json.loads((views.RESULTS.parent / "targets.json").read_text("utf-8"))
    assert set(views.MEASURES) <= set(targets)


def test_previews_are_summed_up():
    times = {"grid_seconds": 2.0, "preview_ms": 40.0}
    rows = [{"psnr": 30.0 + k, "nearest": 10.0 + k, "degree": 0.1 * k, **times} for k in range(21)]
    found = previews.result(rows, (0.0, 1.0))
    assert (found["value"], found["n"], found["unit"]) == (40.0, 7, "dB")
    assert found["parts"] == {"tenth_percentile": 32.0, "worst": 30.0, "nearest_node": 20.0, **times}
    assert "a tenth of the previews are below 32.0 dB, the worst has 30.0 dB at 0.00" in found["note"]


class Twin:
    """In the place of a process that edits: as fast, and with as many bits, as it is told."""

    def __init__(self, seconds, bits):
        self.seconds, self.bits = seconds, bits

    def edit(self, number, what="edit"):
        seconds = self.seconds / 2 if what == "grid" else self.seconds
        return {
            "seconds": seconds,
            "busy": 1.5 * seconds,
            "bits": self.bits[number],
            "success": number > 0,
            "drift": 0.25,
        }

    def __enter__(self):
        return self, Twin(4.0, "abcd")

    def __exit__(self, *error):
        pass


def test_edits_are_compared_with_those_of_the_commit_before(monkeypatch):
    monkeypatch.setattr(edit_speed, "editors", lambda count: Twin(3.0, "abcx"))
    found = edit_speed.edit_seconds(count=2, rounds=2)
    assert (found["value"], found["n"]) == (3.0, 4)
    assert found["parts"]["before"] == 4.0 and found["parts"]["next_degree"] == 1.5
    assert found["parts"]["ratio"]["value"] == found["parts"]["processor_ratio"]["value"] == 0.75
    assert (found["parts"]["processor"], found["parts"]["next_degree_processor"]) == (4.5, 2.25)
    kept = edit_speed.edit_quality_kept(count=4)
    assert (kept["value"], kept["n"]) == (0.75, 4)
    assert kept["parts"]["success"]["value"] == kept["parts"]["drift"]["value"] == 0
    assert "success 0.75 against 0.75, drift 0.2500 against 0.2500" in kept["note"]


def test_a_commit_that_git_does_not_have(monkeypatch):
    monkeypatch.setattr(edit_speed, "BEFORE", "0000000")
    with pytest.raises(MeasureError, match="git has no commit 0000000"), edit_speed.editors(1):
        pass
