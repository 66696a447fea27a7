"""The benchmark of sizes: what it trains, what it times, what it writes."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import torch

from benchmarks import sizes as bench
from ditlens.train import mmdit


def test_the_shipped_size_is_among_them():
    assert bench.config(bench.SHIPPED) == mmdit.CONFIG and set(bench.LONGER) <= set(bench.SIZES)


def test_every_size_is_timed_in_turns(monkeypatch):
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)  # every look at it takes a second
    monkeypatch.setattr(bench, "time", clock)
    monkeypatch.setattr(bench, "SIZES", {"1 x 32": (1, 1), "2 x 32": (2, 1)})
    assert bench.times(calls=2) == {"1 x 32": [1, 1], "2 x 32": [1, 1]}
    assert clock.perf_counter() == 2 * 2 + 2 * 2 * 2, "two turns that do not count"


def test_larger_sizes_have_more_weights():
    from diffusers import SD3Transformer2DModel

    with torch.device("meta"):
        counts = [SD3Transformer2DModel(**bench.config(name)).num_parameters() for name in bench.SIZES]
    assert counts == [2_333_984, 7_825_568, 18_559_520, 36_305_312]


def test_what_was_measured_is_read_and_becomes_a_row(tmp_path):
    part = {
        "size": "6 x 192", "minutes": 10.0, "weights": 7_825_568, "samples": 8960, "categorical": 0.65,
        "categorical_low": 0.6, "categorical_high": 0.7, "level": 0.5, "level_low": 0.45, "level_high": 0.55,
    }  # fmt: skip
    folder = tmp_path / "6x192-10"
    folder.mkdir()
    (folder / "60.json").write_text(json.dumps(part))
    options = type("Options", (), {"out": tmp_path, "captions": 60, "work": tmp_path})
    assert bench.trained_and_measured("6 x 192", 10.0, options) == part
    timed = part | {"ms": 40.2, "ms_low": 39.0, "ms_high": 41.6}
    page = bench.table(
        {"parts": {"one": timed}, "date": "2026-01-01", "hardware": "2 threads", "command": "make"}
    )
    assert "| 10 min | 6 x 192 (shipped) | 7.8 M | 16 MB | 8,960 | 0.650 (0.600 to 0.700) | 0.500 " in page
    assert page.splitlines()[6].endswith("| 0.500 (0.450 to 0.550) | 40 ms (39 to 42) |")
