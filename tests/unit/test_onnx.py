"""The networks as ONNX graphs, and the backend that runs them."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens import images
from ditlens.errors import CaptureError, MissingDependencyError, ModelError, SettingError
from ditlens.models import graphs, onnx_model
from ditlens.models.model import Model
from ditlens.models.onnx_model import OnnxModel

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
TEXTS = {"source_text": "young person, slight smile", "target_text": "young person, big smile"}


@pytest.fixture(scope="module")
def folder(portraits, tmp_path_factory):
    place = tmp_path_factory.mktemp("graphs")
    graphs.write_graphs(portraits, place)
    return place


@pytest.fixture(scope="module")
def fast(portraits, folder):
    return OnnxModel(portraits, folder)


def test_graphs_compute_what_pytorch_computes(folder):
    said = graphs.read_manifest(folder)
    assert set(said["parity"]) == {
        "text.tokens", "text.pooled", "transformer.velocity", "transformer.attention", "encoder.latents",
        "decoder.pixels", "oracle.readings",
    }  # fmt: skip
    assert 0 < max(said["parity"].values()) < 1e-4
    assert {name.rpartition(".")[0] for name in said["files"]} == {
        *"text transformer encoder decoder oracle".split()
    }


def test_attention_is_what_a_capture_sees(portraits, folder):
    text, latents = portraits.encode_text("a big smile"), portraits.noise([0])
    with dl.capture(portraits, "joint.*.image.attn.to_text") as cache:
        portraits(latents, 0.5, text)
    running = graphs.session(folder / "transformer.onnx")
    inputs = {
        "latents": latents,
        "tokens": text.tokens,
        "pooled": text.pooled,
        "timestep": torch.tensor([500.0]),
    }
    (maps,) = running.run(["attention"], {name: value.numpy() for name, value in inputs.items()})
    patches = maps.shape[-1] - text.tokens.shape[1]
    for block, site in enumerate(cache.sites):
        seen = cache[site].reshape(patches, -1).numpy()
        real = seen > 0
        assert np.allclose(maps[0, block, :patches, patches:][real], seen[real], atol=1e-5)
    assert np.allclose(maps.sum(-1), 1, atol=1e-4)


def test_it_generates_and_edits_the_same(portraits, fast):
    ours, theirs = (model.sample(["a big smile"], [3], steps=2) for model in (fast, portraits))
    assert (ours - theirs).abs().max() < 1e-3
    image = images.to_image(theirs)
    ours, theirs = (dl.edit(model, image, **TEXTS, degree=0.7) for model in (fast, portraits))
    assert (ours.latents - theirs.latents).abs().max() < 1e-3
    assert ours.recipe["backend"] == "onnx" and "backend" not in theirs.recipe
    assert dl.edit(fast, image, **TEXTS, degree=0).image.tobytes() == ours.reconstruction.tobytes()


def test_texts_are_embedded_alike_whatever_their_length(portraits, fast):
    texts = ["", "a big smile", "red hair, " * 60, "zyzzyva"]
    ours, theirs = fast.encode_text(texts), portraits.encode_text(texts)
    assert torch.allclose(ours.tokens, theirs.tokens, atol=1e-4)
    assert torch.allclose(ours.pooled, theirs.pooled, atol=1e-4)
    assert torch.equal(ours.mask, theirs.mask) and ours.prompts == theirs.prompts


def test_it_takes_the_tensors_that_pytorch_takes(portraits, fast):
    latents, text = portraits.noise([0, 1]), portraits.encode_text("a big smile")
    wanted = portraits(latents, 0.5, text.expand(2))
    with torch.device("meta"):
        assert torch.allclose(fast(latents.requires_grad_(), 0.5, text), wanted, atol=1e-3)
        assert torch.equal(fast.encode_text("a big smile").mask, text.mask)
        pixels = fast.decode(latents.double())
        assert fast.encode_image(pixels.requires_grad_()).shape == latents.shape


def test_other_sizes_are_refused(fast):
    text = fast.encode_text("a big smile")
    large = torch.zeros(1, fast.latent_channels, 32, 32)
    for use in (
        lambda: fast.decode(large),
        lambda: fast(large, 0.5, text),
        lambda: fast.encode_image(torch.zeros(1, 3, 64, 64)),
    ):
        with pytest.raises(SettingError, match=r"for images of 128 x 128, .*load it as usual"):
            use()


@pytest.mark.parametrize(
    "use",
    [
        lambda model: dl.capture(model, "joint.*.image.out"),
        lambda model: dl.intervene(model, {"joint.0.image.out": dl.scale(0.5)}),
        lambda model: dl.sites(model),
        lambda model: dl.untrained(model),
        lambda model: dl.report(model, "never-written"),
    ],
)
def test_it_has_no_hooks_and_says_so(fast, use):
    with pytest.raises(CaptureError, match=r"backend='onnx', .*nothing to hook into\. Load it as usual"):
        use(fast)


def test_graphs_of_another_model_are_refused(portraits, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    said = graphs.read_manifest(other)
    (other / graphs.MANIFEST).write_text(json.dumps(said | {"identity": "0" * 16}))
    with pytest.raises(ModelError, match="other weights than"):
        OnnxModel(portraits, other)


@pytest.mark.parametrize("harm", ["missing", "changed"])
def test_damaged_graphs_are_refused(portraits, folder, tmp_path, harm):
    other = shutil.copytree(folder, tmp_path / "other")
    file = other / "decoder.bin"
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(ModelError, match=r"decoder\.bin is missing or damaged\. .*OnnxModel"):
        OnnxModel(portraits, other)


def test_the_cache_is_filled_once_and_mended(portraits, folder, monkeypatch, tmp_path):
    written = []

    def write(model, place, on_part=None):
        written.append(place)
        shutil.copytree(folder, place, dirs_exist_ok=True)

    monkeypatch.setattr(onnx_model, "write_graphs", write)
    monkeypatch.setattr(onnx_model, "user_cache", lambda name: tmp_path / name)
    made = OnnxModel(portraits)
    OnnxModel(portraits)
    assert written == [made.graphs]
    (made.graphs / "text.onnx").write_bytes(b"")
    (made.graphs / "foreign.onnx").write_bytes(b"")
    assert "foreign" not in OnnxModel(portraits).sessions
    assert len(written) == 2
    manifest = made.graphs / graphs.MANIFEST
    said = json.loads(manifest.read_text())
    without = {name: about for name, about in said["files"].items() if name != "encoder.onnx"}
    for count, wrong in enumerate(
        ["{}", said | {"identity": "0" * 16}, said | {"files": []}, said | {"files": without},
         said | {"files": dict.fromkeys(said["files"], {})}, said | {"files": dict.fromkeys(said["files"], 1)}]
    ):  # fmt: skip
        manifest.write_text(json.dumps(wrong))
        OnnxModel(portraits)
        assert len(written) == 3 + count


def test_copies_compute_the_same(fast):
    latents, text = fast.noise([0]), fast.encode_text("a big smile")
    for made in (copy.copy(fast), copy.deepcopy(fast)):
        assert torch.equal(made(latents, 0.5, made.encode_text("a big smile")), fast(latents, 0.5, text))


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae"])
def test_weights_that_change_later_are_refused(portraits, folder, part):
    pipe = copy.copy(portraits.pipe)
    pipe.register_modules(**{part: copy.deepcopy(getattr(pipe, part))})
    fast = OnnxModel(Model(pipe, portraits.name, portraits.folder, world=portraits.world), folder)
    with torch.no_grad():
        next(getattr(pipe, part).parameters()).mul_(1.01)
    for use in (lambda: fast.encode_text(""), lambda: fast.encode_image(torch.zeros(1, 3, 128, 128))):
        with pytest.raises(ModelError, match="have changed since its graphs were made"):
            use()


@pytest.mark.parametrize("settings", [{"device": "cuda"}, {"dtype": torch.float16}])
def test_it_computes_in_float32_on_the_cpu_only(settings):
    with pytest.raises(SettingError, match="float32 on the CPU"):
        dl.load("portraits", backend="onnx", **settings)


def test_an_unknown_backend_is_refused():
    with pytest.raises(SettingError, match="torch.*onnx"):
        dl.load("portraits", backend="tensorrt")


@pytest.mark.parametrize("error", [ModuleNotFoundError, AttributeError, OSError])
def test_a_package_that_cannot_be_imported_is_named(monkeypatch, error):
    def fail(name):
        raise error(f"no luck with {name}")

    monkeypatch.setattr(graphs, "import_module", fail)
    with pytest.raises(
        MissingDependencyError, match=r"need onnxruntime: .*no luck with onnxruntime.*'ditlens\[fast\]'"
    ):
        dl.load("portraits", backend="onnx")


def test_what_cannot_be_exported_is_refused(portraits, monkeypatch):
    monkeypatch.setattr(portraits.pipe, "text_encoder_2", None)
    with pytest.raises(
        ModelError, match="cannot be exported to ONNX: its texts are not those of two CLIP encoders"
    ):
        graphs.parts_of(portraits)
