"""The capture benchmark: its ratios, its memory, its geometries, and what is said where there is no GPU."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import capture as bench
from benchmarks import report

# --- time ---------------------------------------------------------------------------------------------------


def test_slow_drift_cancels():
    """A machine that gets slower all the time: the ratios are those of a steady one."""
    names = ["none", "a", "none", "b", "none", "b", "none", "a", "none"]
    cost = {"none": 1.0, "a": 1.1, "b": 2.0}
    taken = [(name, cost[name] * (5 + 0.5 * i)) for i, name in enumerate(names)]
    ratios = bench.neighbour_ratios(taken)
    assert ratios["a"] == pytest.approx([1.1, 1.1]) and ratios["b"] == pytest.approx([2.0, 2.0])
    assert ratios["none"] == pytest.approx([1.0, 1.0, 1.0])


def test_tools_are_compared_round_by_round():
    theirs = [1.0, 1.5, 1.1, 2.0, 1.2]  # one machine, sometimes slow, for both alike
    found = bench.compared([1.02 * ratio for ratio in theirs], theirs)
    assert set(found) == {"ditlens", "ditlens_low", "ditlens_high"}
    assert all(value == pytest.approx(1.02) for value in found.values())


def test_the_command_names_the_counts_that_were_chosen():
    options = argparse.Namespace(**{**bench.COUNTS, "pairs": 60})
    assert bench.command(("overhead_cpu_ratio",), options) == 'make bench-capture ARGS="--pairs 60"'
    assert bench.command(("kill_lost_or_doubled",), options) == "make bench-capture"
    assert bench.command(("joint_classes_supported", "leaks"), options) == "make bench-capture"


def test_every_tool_runs_between_two_runs_without(capsys):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in ("none", "a", "b", "c")}
    taken = bench.run_rounds(calls, 8, torch.device("cpu"))
    assert [name for name, _ in taken] == order and len(order) == 1 + 2 * 3 * 8
    assert set(order[::2]) == {"none"} and "none" not in order[1::2]
    rounds = [tuple(order[1 + 6 * i : 7 + 6 * i : 2]) for i in range(8)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds) and len(set(rounds)) > 2


# --- geometries ---------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """The same classes and inputs, small; memory is measured in this process."""
    flux = bench.FLUX1 | {
        "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 32, "pooled_projection_dim": 16, "axes_dims_rope": (4, 6, 6), "in_channels": 16,
    }  # fmt: skip
    sd3 = bench.SD35_MEDIUM | {
        "sample_size": 8, "num_layers": 3, "num_attention_heads": 1, "joint_attention_dim": 32,
        "caption_projection_dim": 64, "pooled_projection_dim": 16, "dual_attention_layers": (0,),
        "pos_embed_max_size": 8,
    }  # fmt: skip
    small = {
        "SD3.5-medium": bench.Geometry("SD3Transformer2DModel", sd3, bench.sd3_inputs, 5),
        "FLUX.1": bench.Geometry("FluxTransformer2DModel", flux, lambda c, n: bench.flux_inputs(c, n, 4), 5),
    }
    monkeypatch.setattr(bench, "GEOMETRIES", small)
    monkeypatch.setattr(bench, "peak_mb", lambda *arguments: bench.resident_mb(*arguments[:4]))
    return bench


def test_the_geometry_of_flux():
    """1024 x 1024 pixels, FLUX.1-dev; without its 12 billion weights."""
    geometry = bench.GEOMETRIES["FLUX.1"]
    with torch.device("meta"):
        from diffusers import FluxTransformer2DModel

        model = FluxTransformer2DModel(**geometry.config)
    assert (len(model.transformer_blocks), len(model.single_transformer_blocks)) == (19, 38)
    assert model.inner_dim == 3072 and sum(p.numel() for p in model.parameters()) == pytest.approx(
        11.9e9, rel=0.01
    )
    inputs = geometry.inputs(geometry.config, geometry.text)
    assert inputs["hidden_states"].shape == (1, 4096, 64) and inputs["encoder_hidden_states"].shape[1] == 512
    assert len(bench.chosen_blocks(model, bench.FOUR_FLUX)) == 4


@pytest.mark.parametrize("geometry", ["SD3.5-medium", "FLUX.1"])
def test_tools_do_the_same_work(tiny, geometry):
    model, inputs = tiny.GEOMETRIES[geometry].make(torch.device("cpu"))
    sites = "*.*.*.out"
    with torch.no_grad():
        cache = tiny.ours(model, inputs, sites, None)()
        kept = [x for output in tiny.hooks(model, inputs, sites, None)() for x in output]
        traced = [x for trace in tiny.baukit(model, inputs, sites, None)().values() for x in trace.output]
    assert len(kept) == len(traced) == len(cache)
    by_size = sorted(cache.tensors.values(), key=lambda x: x.double().sum().item())
    for one, other in zip(by_size, sorted(kept, key=lambda x: x.double().sum().item()), strict=True):
        assert torch.equal(one, other)


def test_ratios_and_memory_of_each_tool(tiny):
    found = tiny.overhead(
        "FLUX.1", "joint.{0,1}.{text,image}.out", "mean", 3, "cpu", ["none", "ditlens", "hooks"]
    )
    assert set(found) == {"none", "ditlens", "hooks"} and found["hooks"]["n"] == 3
    assert all(r["low"] <= r["value"] <= r["high"] and r["peak_mb"] > 50 for r in found.values())


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").is_file(),
    reason="a limit of the benchmark: only Linux can set the peak of a process back, elsewhere it only grows",
)
def test_the_peak_of_memory():
    bench.restart_peak()
    before = bench.resident_peak()
    block = np.ones(25_000_000)
    assert bench.resident_peak() - before > 150e6
    del block
    bench.restart_peak()
    assert bench.resident_peak() - before < 100e6


# --- no GPU -------------------------------------------------------------------------------------------------


@pytest.fixture
def no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path / "benchmarks" / "results" / "capture.json"


def test_without_a_gpu_the_result_says_so(no_gpu, capsys):
    assert bench.main(["--only", "overhead_gpu_ratio", "--out", str(no_gpu)]) == 0
    entry = json.loads(no_gpu.read_text())["overhead_gpu_ratio"]
    assert entry["value"] is None and entry["note"] == "not measured: no GPU was at hand"
    assert set(entry) >= {"low", "high", "n", "unit", "command", "date", "hardware"}
    assert "overhead_gpu_ratio: not measured: no GPU was at hand" in capsys.readouterr().out


def test_what_was_measured_on_a_gpu_is_kept(no_gpu):
    no_gpu.parent.mkdir(parents=True)
    before = {"overhead_gpu_ratio": {"value": 1.01, "unit": "x", "note": "on a GPU"}}
    no_gpu.write_text(json.dumps(before))
    assert bench.main(["--only", "overhead_gpu_ratio", "--out", str(no_gpu)]) == 0
    assert json.loads(no_gpu.read_text()) == before


def test_the_report_shows_what_was_not_measured(no_gpu, capsys):
    bench.main(["--only", "overhead_gpu_ratio", "--out", str(no_gpu)])
    (no_gpu.parents[1] / "targets.json").write_text('{"overhead_gpu_ratio": "<= 1.02"}')
    capsys.readouterr()
    assert report.main(no_gpu.parents[2]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "overhead_gpu_ratio" in line)
    assert "not measured" in line and "met" not in line and "missed" not in line
