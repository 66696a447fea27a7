"""Metrics that need weights: tiny random checkpoints in a folder, and what is said where there are none."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path

import pytest
import torch
from checkpoints import save_clip, save_dino
from torch import nn
from torch.nn import functional as F

from ditlens import images
from ditlens.metrics import networks
from ditlens.metrics.networks import ImagePair, open_networks


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    """Empty caches, no variables, no package lpips: whatever is on this computer."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("DITLENS_CLIP", "DITLENS_DINO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "lpips", None)


def in_hub(tmp_path: Path, name: str) -> Path:
    """A folder where the hub's cache keeps this checkpoint."""
    place = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    return place / "snapshots" / ("0" * 40)


def pair(mask: torch.Tensor | None = None, text: str = "red hat", side: int = 40) -> ImagePair:
    drawn = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    drawn = (drawn * 255).round() / 255  # as files hold it
    return ImagePair(drawn[:1], drawn[1:], mask, text)


def opened(name: str):
    """The network that gives this metric."""
    found, absent = open_networks()
    (network,) = [network for network in found if name in network.about]
    return network, absent


def test_what_is_not_here_is_told_with_what_to_type():
    found, absent = open_networks()
    assert found == [] and set(absent) == {"lpips", "dino", "clip"}
    assert (
        f"lpips is not installed: pip install torch=={torch.__version__} torchvision lpips" in absent["lpips"]
    )
    assert "hf download openai/clip-vit-large-patch14" in absent["clip"] and "DITLENS_CLIP" in absent["clip"]
    assert "hf download facebook/dino-vitb8" in absent["dino"] and "DITLENS_DINO" in absent["dino"]


def test_lpips_is_installed_beside_the_torch_that_is_here():
    """A torchvision that was built for another torch breaks all that imports it."""
    assert networks.pip_install("2.13.0") == "pip install torch==2.13.0 torchvision lpips"
    assert networks.pip_install("2.13.0+cpu").endswith(
        "lpips --extra-index-url https://download.pytorch.org/whl/cpu"
    )


# --- CLIP --------------------------------------------------------------------------------------------------


def test_clip_similarity_is_the_cosine_of_picture_and_text(tmp_path):
    from transformers import CLIPModel

    folder = save_clip(in_hub(tmp_path, networks.CLIPS[0]))
    clip, absent = opened("clip_similarity")
    assert "clip" not in absent
    about = clip.about["clip_similarity"]
    assert networks.CLIPS[0] in about["identity"] and "8 tokens" in about["identity"]
    assert (about["better"], about["unit"]) == ("higher", "cosine")
    one = pair()
    model = CLIPModel.from_pretrained(folder)
    small = images.to_image(one.result).resize((32, 32), 3)  # bicubic
    mean, std = clip.processor.image_mean, clip.processor.image_std
    pixels = (images.to_tensor(small) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        seen = model.get_image_features(pixels).pooler_output
        said = model.get_text_features(torch.tensor([[1, 4, 5, 2]])).pooler_output
    expected = F.cosine_similarity(seen, said).item()
    assert clip.score(one) == {"clip_similarity": pytest.approx(expected, abs=1e-5)}
    assert clip.score(pair(text="blue hat")) != clip.score(one)
    assert -1 <= clip.score(pair(text="red hat " * 90))["clip_similarity"] <= 1, "long texts are cut"
    assert math.isnan(clip.score(pair(text=" "))["clip_similarity"])


def test_a_variable_names_the_clip_that_is_used(tmp_path, monkeypatch):
    save_clip(in_hub(tmp_path, networks.CLIPS[0]))
    hub = opened("clip_similarity")[0].about["clip_similarity"]["identity"]
    monkeypatch.setenv("DITLENS_CLIP", str(save_clip(tmp_path / "mine", seed=1)))
    mine = opened("clip_similarity")[0].about["clip_similarity"]["identity"]
    assert ", mine, weights " in mine
    assert mine.partition("weights ")[2] != hub.partition("weights ")[2], "other weights, another identity"
    monkeypatch.setenv("DITLENS_CLIP", str(tmp_path / "nowhere"))
    assert "DITLENS_CLIP names" in open_networks()[1]["clip"]


def test_a_checkpoint_that_is_not_whole_is_not_used(tmp_path, monkeypatch):
    folder = in_hub(tmp_path, networks.CLIPS[0])
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert "hf download openai/clip-vit-large-patch14 brings what is missing" in open_networks()[1]["clip"]
    other = save_clip(tmp_path / "other")
    (other / "tokenizer.json").unlink()
    monkeypatch.setenv("DITLENS_CLIP", str(other))
    assert "lacks tokenizer or processor" in open_networks()[1]["clip"]
    monkeypatch.setenv("DITLENS_DINO", str(save_clip(tmp_path / "clip")))
    assert "holds no" in open_networks()[1]["dino"]


# --- DINO --------------------------------------------------------------------------------------------------


def test_structure_distance_of_dinos_keys(tmp_path):
    from transformers import ViTModel

    folder = save_dino(in_hub(tmp_path, networks.DINOS[0]))
    dino, absent = opened("structure_pie")
    assert "dino" not in absent and networks.DINOS[0] in dino.about["structure_pie"]["identity"]
    one = pair()
    model, keys = ViTModel.from_pretrained(folder, add_pooling_layer=False), []
    for picture in (one.source, one.result):
        large = F.interpolate(picture * 255, (224, 224), mode="bilinear", antialias=True)
        pixels = (large - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        with torch.no_grad():
            before_last = model(
                pixels, interpolate_pos_encoding=True, output_hidden_states=True
            ).hidden_states[-2]
            layer = model.layers[-1]
            keys.append(layer.attention.k_proj(layer.layernorm_before(before_last))[0])
    assert keys[0].shape == (14 * 14 + 1, 16)
    a, b = (F.normalize(k, dim=1) @ F.normalize(k, dim=1).T for k in keys)
    assert dino.score(one)["structure_pie"] == pytest.approx((a - b).square().mean().item(), rel=1e-4)
    same = ImagePair(one.source, one.source, None, "")
    assert dino.score(same)["structure_pie"] == 0
    assert networks.Dino.pixels(torch.rand(1, 3, 100, 400)).shape[-2:] == (120, 480), (
        "the longer side ends at 480"
    )


# --- LPIPS -------------------------------------------------------------------------------------------------


class FakeLpips(nn.Module):
    """A stand-in for ``lpips.LPIPS``: the difference of what a 1 x 1 convolution sees."""

    def __init__(self, net, pnet_rand, verbose):
        super().__init__()
        assert (net, pnet_rand) == ("squeeze", True), "the backbone is not asked for from the network"
        self.net = nn.Sequential()
        self.net.slice1 = nn.Sequential()
        self.net.slice1.add_module("3", nn.Conv2d(3, 4, 1))
        self.spatial = False

    def forward(self, first, second):
        convolve = self.net.slice1
        assert float(first.detach().min()) >= -1
        result = (convolve(first) - convolve(second)).square().sum(1, keepdim=True)
        return result if self.spatial else result.mean((2, 3), keepdim=True)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The stand-in as a package, and its backbone's weights in torch's cache."""
    package = types.ModuleType("lpips")
    package.LPIPS = FakeLpips
    monkeypatch.setitem(sys.modules, "lpips", package)
    file = Path(torch.hub.get_dir()) / "checkpoints" / networks.BACKBONE
    assert tmp_path in file.parents
    file.parent.mkdir(parents=True)
    torch.save({"features.3.weight": torch.ones(4, 3, 1, 1), "features.3.bias": torch.zeros(4)}, file)
    return file


def test_lpips_of_the_background(fake):
    lpips, absent = opened("lpips_outside")
    assert "lpips" not in absent and set(lpips.about) == {"lpips_outside", "lpips_pie"}
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 10:] = 1  # a quarter is background
    one = pair(mask)
    # [-1, 1] doubles the difference; four equal channels
    change = 4 * (2 * (one.result - one.source)[..., :10].sum(1)).square()
    found = lpips.score(one)
    assert found["lpips_outside"] == pytest.approx(change.mean().item(), rel=1e-4)
    assert found["lpips_pie"] == pytest.approx(change.mean().item() / 4, rel=1e-4), "diluted by the mask"
    for mask in (None, torch.ones(1, 1, 40, 40)):
        assert all(math.isnan(value) for value in lpips.score(pair(mask)).values())


def test_lpips_without_its_backbone_or_with_a_broken_one(fake, monkeypatch):
    fake.write_bytes(b"no weights")
    assert "cannot be used" in open_networks()[1]["lpips"]
    fake.unlink()
    assert "is missing: python -c" in open_networks()[1]["lpips"]

    class Broken:
        def find_spec(self, name, *_):
            if name == "lpips":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "lpips")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert "the torchvision that belongs to torch: pip install" in open_networks()[1]["lpips"]


def test_lpips_itself(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "lpips")
    pytest.importorskip("torchvision", exc_type=Exception)
    real = pytest.importorskip("lpips")
    from torchvision.models import squeezenet1_1

    file = Path(torch.hub.get_dir()) / "checkpoints" / networks.BACKBONE
    file.parent.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(squeezenet1_1().state_dict(), file)
    lpips, _ = opened("lpips_pie")
    theirs = real.LPIPS(net="squeeze", verbose=False)  # finds its backbone in the cache
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 30:] = 1
    one = pair(mask, side=64)
    with torch.no_grad():
        expected = theirs((1 - mask) * one.source, (1 - mask) * one.result, normalize=True)
    found = lpips.score(one)
    assert found["lpips_pie"] == pytest.approx(expected.item(), rel=1e-5)
    theirs.spatial = True
    with torch.no_grad():
        at_pixels = theirs((1 - mask) * one.source, (1 - mask) * one.result, normalize=True)
    assert found["lpips_outside"] == pytest.approx(at_pixels[..., :30].mean().item(), rel=1e-5)
