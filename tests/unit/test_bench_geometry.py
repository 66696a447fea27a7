"""The benchmark at real geometry, at tiny geometry: every family edits, and the figures are what they say."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import geometry as bench
from ditlens.models.loading import wrap


def tiny(family):
    """The settings of a family's transformer and autoencoder, tiny."""
    changes = {
        "SD3.5-medium": {
            "sample_size": 4, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
            "joint_attention_dim": 64, "caption_projection_dim": 32, "pooled_projection_dim": 64,
            "pos_embed_max_size": 8, "dual_attention_layers": (0,),
        },
        "FLUX.1-dev": {
            "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
            "joint_attention_dim": 64, "pooled_projection_dim": 16, "axes_dims_rope": (4, 4, 8),
        },
    }  # fmt: skip
    make, config, _ = bench.FAMILIES[family]
    vae = bench.VAE | {"block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 2}
    pipe = make(torch.device("cpu"), config | changes[family], vae)
    pipe.set_progress_bar_config(disable=True)
    pipe.default_sample_size = 4  # in FLUX.1, a class attribute and no setting of the transformer
    return wrap(pipe, family)


def test_edits_and_samples_are_compared_row_by_row(tmp_path):
    # Two steps of a sample and the methods' own of edits: guidance is a second row, or an input of the model.
    rows = {
        "SD3.5-medium": {"sample": 4, "ems": 72, "flowedit": 132},
        "FLUX.1-dev": {"sample": 2, "ems": 36, "flowedit": 48},
    }
    for family in bench.FAMILIES:
        found = bench.compare(tiny(family), 32, rounds=1, steps=2)
        sample = found["sample"]
        assert {name: part["rows"] for name, part in found.items()} == rows[family]
        for name in bench.METHODS:
            mine = found[name]
            ratio = (mine["seconds"] / mine["rows"]) / (sample["seconds"] / sample["rows"])
            assert mine["low"] == mine["high"] == mine["value"] == pytest.approx(ratio)
        bench.write(tmp_path / "results.json", family, found, 1, "cpu")
        results = json.loads((tmp_path / "results.json").read_text())
        assert results[bench.key_of(family)]["value"] == pytest.approx(found["ems"]["value"], rel=1e-3)
    assert list(results) == ["edit_row_ratio_sd3", "edit_row_ratio_flux"], "one family leaves the other there"


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.main([]) == 1
    assert "real geometry needs one" in capsys.readouterr().err
