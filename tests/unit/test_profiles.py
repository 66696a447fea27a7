"""Models are fitted to the free memory, and the reason is told."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from ditlens.errors import SettingError
from ditlens.models.profiles import cached_sizes, choose, part_sizes

GPU, CPU = torch.device("cuda"), torch.device("cpu")
SD35_MEDIUM = {"transformer": (4.9e9, 2.0), "text_encoder_3": (9.5e9, 2.0), "text_encoder_2": (1.4e9, 2.0),
               "text_encoder": (0.25e9, 2.0), "vae": (0.17e9, 2.0)}  # fmt: skip


@pytest.mark.parametrize(
    ("free", "machine", "placement"),
    [(40e9, 64e9, "full"), (24e9, 64e9, "full"), (16e9, 64e9, "offload"), (8e9, 64e9, "sequential")],
)
def test_on_a_gpu(free, machine, placement):
    profile = choose(SD35_MEDIUM, GPU, free, machine)
    assert (profile.placement, profile.dtype) == (placement, torch.bfloat16)
    assert "GB" in profile.reason


def test_on_a_cpu():
    assert choose(SD35_MEDIUM, CPU, 64e9, 64e9).dtype == torch.float32
    tight = choose(SD35_MEDIUM, CPU, 30e9, 30e9)
    assert tight.dtype == torch.bfloat16 and "half precision" in tight.reason
    with pytest.raises(SettingError, match="load 'portraits'"):
        choose(SD35_MEDIUM, CPU, 8e9, 8e9)


def test_weights_that_fit_nowhere():
    with pytest.raises(SettingError, match="smaller model"):
        choose(SD35_MEDIUM, GPU, 8e9, 12e9)


def test_what_the_user_asks_for_is_done():
    assert choose(SD35_MEDIUM, GPU, 8e9, 64e9, torch.float16, "full").placement == "full"
    with pytest.raises(SettingError, match="choose auto, full"):
        choose(SD35_MEDIUM, GPU, 8e9, 64e9, profile="small")


def test_small_models_stay_whole_in_single_precision(portraits_folder):
    sizes = part_sizes(portraits_folder)
    assert set(sizes) >= {"transformer", "vae", "text_encoder"}
    assert choose(sizes, GPU, 1e9, 1e9).dtype == torch.float32


def test_a_loaded_model_knows_its_profile(portraits):
    assert portraits.profile.placement == "full"


# --- models of the hub ----------------------------------------------------------------------------------------


@pytest.fixture
def cached(portraits_folder, tmp_path, monkeypatch):
    """The portraits model as it would lie in the Hugging Face cache; gives its snapshot's folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--portraits"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    shutil.copytree(portraits_folder, repository / "snapshots" / "abc")
    return repository / "snapshots" / "abc"


def test_a_hub_model_in_the_cache_has_its_sizes(cached, portraits_folder):
    assert cached_sizes("someone/portraits") == part_sizes(portraits_folder)
    assert cached_sizes("someone/else") == {}


def test_files_beside_the_pipeline_do_not_count(cached):
    """SD3's repository has a folder text_encoders for other programs; the oracle is no part of the pipeline."""
    shutil.copytree(cached / "vae", cached / "text_encoders")
    assert "text_encoders" not in part_sizes(cached) and "oracle" not in part_sizes(cached)


def test_sizes_of_half_a_download_are_not_trusted(cached):
    weights = cached / "text_encoder" / "model.safetensors"
    weights.rename(weights.with_name("model-00001-of-00002.safetensors"))
    assert cached_sizes("someone/portraits") == {}
    shutil.copy(
        weights.with_name("model-00001-of-00002.safetensors"),
        weights.with_name("model-00002-of-00002.safetensors"),
    )
    assert "text_encoder" in cached_sizes("someone/portraits")
    shutil.rmtree(cached / "transformer")
    assert cached_sizes("someone/portraits") == {}


def test_loading_by_id_looks_into_the_cache(cached, monkeypatch):
    from ditlens.models import loading

    seen = {}

    def note(sizes, *_):
        seen.update(sizes)
        raise SettingError("seen enough")

    monkeypatch.setattr(loading, "choose", note)
    with pytest.raises(SettingError, match="seen enough"):
        loading.load("someone/portraits", device="cpu")
    assert "transformer" in seen


def test_unknown_sizes_are_told_with_what_to_type():
    reason = choose({}, GPU, 8e9, 64e9).reason
    assert "not known" in reason and "profile='offload'" in reason and "profile='sequential'" in reason


def test_a_damaged_index_is_left_to_loading(tmp_path):
    (tmp_path / "model_index.json").write_text("{")
    assert part_sizes(tmp_path) == {}
    (tmp_path / "model_index.json").write_text(json.dumps(["no", "parts"]))
    assert part_sizes(tmp_path) == {}
