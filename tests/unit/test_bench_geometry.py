"""The benchmark at real geometry, at tiny geometry: every family edits, and the figures are what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from ditlens.model import model_class

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import geometry  # noqa: E402

TINY = {
    "SD3.5-medium": geometry.SD35_MEDIUM
    | {
        "sample_size": 4, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 64, "caption_projection_dim": 32, "pooled_projection_dim": 64,
        "pos_embed_max_size": 8, "dual_attention_layers": (0,),
    },
    "FLUX.1-dev": geometry.FLUX1
    | {
        "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 64, "pooled_projection_dim": 16, "axes_dims_rope": (4, 4, 8),
    },
}  # fmt: skip
VAE = geometry.VAE | {"block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 2}


@pytest.mark.parametrize("family", geometry.FAMILIES)
def test_edits_and_samples_are_compared_row_by_row(family, tmp_path):
    make = geometry.FAMILIES[family][0]
    pipe = make(torch.device("cpu"), TINY[family], VAE)
    pipe.set_progress_bar_config(disable=True)
    model = model_class(pipe)(pipe, family)
    found = geometry.compare(model, 32, rounds=1, steps=2)
    guided = family == "SD3.5-medium"
    assert found["sample"]["rows"] == (4 if guided else 2)
    for name in geometry.METHODS:
        assert found[name]["rows"] > 4 and found[name]["seconds"] > 0 and found[name]["value"] > 0
    geometry.write(tmp_path / "results.json", {f"{family}, {k}": v for k, v in found.items()}, "here", 1)
    (result,) = json.loads((tmp_path / "results.json").read_text()).values()
    assert result["value"] == pytest.approx(found["ems"]["value"], rel=1e-3) and family in result["note"]


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert geometry.main([]) == 1
    assert "needs one" in capsys.readouterr().err
