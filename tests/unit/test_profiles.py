"""Models are fitted to the free memory, and the reason is told."""

from __future__ import annotations

import pytest
import torch

from ditlens.errors import SettingError
from ditlens.profiles import choose, part_sizes

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
