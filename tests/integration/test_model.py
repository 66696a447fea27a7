"""The model against the stock pipeline, and what it says when something is wrong."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image

import ditlens
from ditlens.errors import ModelError, SettingError
from ditlens.models.find import MODELS, find
from ditlens.models.loading import hub_answers, load, pick_device
from ditlens.models.profiles import part_sizes

TEXT = "a portrait of an old person with a big smile, long red hair"
SHORT = "a cap"


@pytest.fixture(scope="module")
def stock(portraits_folder) -> StableDiffusion3Pipeline:
    """The folder as anybody loads it who has never heard of ditlens."""
    pipe = StableDiffusion3Pipeline.from_pretrained(portraits_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# --- the stock pipeline ------------------------------------------------------------------------------------


def test_the_stock_call_needs_no_arguments(stock):
    image = stock(TEXT, num_inference_steps=3).images[0]
    assert image.size == (128, 128)
    assert np.asarray(image).std() > 1, "not a flat picture"


def test_the_stock_pipeline_appends_256_rows_of_exact_zeros(stock):
    tokens = stock.encode_prompt(TEXT, TEXT, TEXT)[0]
    assert tokens.shape == (1, 64 + 256, 256)
    assert tokens[:, 64:].count_nonzero() == 0
    assert tokens[:, :64].abs().sum(-1).min() > 0


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_samples_equal_the_stock_pipelines(portraits, stock, guidance):
    without_third = StableDiffusion3Pipeline(**stock.components)
    without_third.register_modules(text_encoder_3=None, tokenizer_3=None)  # as pitfall 9 says
    without_third.set_progress_bar_config(disable=True)
    theirs = without_third(
        [TEXT, SHORT], num_inference_steps=3, guidance_scale=guidance, latents=portraits.noise([3, 4]),
        max_sequence_length=0, output_type="pt",
    ).images  # fmt: skip
    ours = portraits.sample([TEXT, SHORT], [3, 4], steps=3, guidance=guidance)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_the_negative_prompt_equals_the_stock_pipelines(portraits, stock):
    without_third = StableDiffusion3Pipeline(
        **stock.components | {"text_encoder_3": None, "tokenizer_3": None}
    )
    without_third.set_progress_bar_config(disable=True)
    theirs = without_third(
        TEXT, negative_prompt=SHORT, num_inference_steps=2, guidance_scale=3, latents=portraits.noise([0]),
        max_sequence_length=0, output_type="pt",
    ).images  # fmt: skip
    ours = portraits.sample([TEXT], [0], steps=2, guidance=3, negative_prompt=SHORT)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    other = portraits.sample([TEXT], [0], steps=2, guidance=3)
    assert (ours - other).abs().max() > 1e-3, "the negative prompt matters"


# --- texts -------------------------------------------------------------------------------------------------


def test_text_embeddings_equal_the_pipelines(portraits, stock):
    found = portraits.encode_text([TEXT, SHORT])
    tokens, _, pooled, _ = stock.encode_prompt([TEXT, SHORT], None, None, do_classifier_free_guidance=False)
    torch.testing.assert_close(found.tokens, tokens[:, :64], rtol=0, atol=1e-6)
    torch.testing.assert_close(found.pooled, pooled, rtol=0, atol=1e-6)


def test_the_mask_marks_words_and_end_marks(portraits):
    mask = portraits.encode_text([TEXT, SHORT, ""]).mask
    words = (len(TEXT.replace(",", " ,").split()), 2, 0)
    assert mask.shape == (3, 64)
    assert mask.sum(1).tolist() == [count + 2 for count in words]
    assert all(row.tolist() == sorted(row.tolist(), reverse=True) for row in mask), "the words come first"


def test_the_longest_text_fills_the_mask(portraits):
    assert portraits.encode_text(" ".join(["smile"] * 100)).mask.all()


def test_an_embedding_does_not_depend_on_its_batch(portraits):
    batch, single = portraits.encode_text([TEXT, SHORT]), portraits.encode_text(SHORT)
    torch.testing.assert_close(batch.tokens[1:], single.tokens, rtol=0, atol=1e-6)
    torch.testing.assert_close(batch.pooled[1:], single.pooled, rtol=0, atol=1e-6)
    assert torch.equal(batch.mask[1:], single.mask)


def test_a_third_encoder_that_speaks_is_kept(portraits_folder, tmp_path):
    folder = shutil.copytree(portraits_folder, tmp_path / "model")
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    torch.nn.init.ones_(pipe.text_encoder_3.encoder.final_layer_norm.weight)
    pipe.text_encoder_3.save_pretrained(folder / "text_encoder_3")
    model = load(folder, device="cpu")
    text = model.encode_text([TEXT, SHORT])
    assert text.tokens.shape == (2, 64 + 256, 256)
    assert text.tokens[:, 64:].abs().sum() > 0
    counts = [len(ids) for ids in model.pipe.tokenizer_3([TEXT, SHORT]).input_ids]
    assert text.mask[:, 64:].sum(1).tolist() == counts
    assert model.sample([SHORT], [0], steps=1, guidance=1).shape == (1, 3, 128, 128)


# --- pictures and latents ----------------------------------------------------------------------------------


def test_latents_follow_the_autoencoders_convention(portraits):
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    vae = portraits.vae
    with torch.no_grad():
        mode = vae.encode(pictures * 2 - 1).latent_dist.mode()
        expected = (mode - vae.config.shift_factor) * vae.config.scaling_factor
        decoded = (vae.decode(mode).sample / 2 + 0.5).clamp(0, 1)
    latents = portraits.encode_image(pictures)
    assert latents.shape == (2, 8, 16, 16)
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(portraits.decode(latents), decoded, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (128, 128), (500, 400)])
def test_prepare_fits_any_picture(portraits, size):
    prepared = portraits.prepare(Image.new("RGBA", size, (255, 0, 0, 255)))
    assert prepared.shape == (1, 3, 128, 128)
    assert torch.equal(prepared.amax((0, 2, 3)), torch.tensor([1.0, 0.0, 0.0]))


def test_a_larger_table_of_positions_keeps_the_shape(portraits_folder):
    model = load(portraits_folder, device="cpu")
    model.transformer.register_to_config(pos_embed_max_size=192)  # as SD3 has
    assert model.prepare(Image.new("RGB", (200, 100))).shape == (1, 3, 96, 176)
    assert model.prepare(Image.new("RGB", (64, 64))).shape == (1, 3, 128, 128)


# --- sampling ----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_picture(portraits):
    first, again, other = (portraits.generate(SHORT, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.size == (128, 128)


def test_a_picture_does_not_depend_on_its_batch(portraits):
    batch = portraits.sample([TEXT, SHORT], [1, 2])
    torch.testing.assert_close(batch[1:], portraits.sample([SHORT], [2]), rtol=0, atol=2e-5)


def test_defaults_come_from_the_folder(portraits):
    assert portraits.defaults == {"world": "portraits", "steps": 4, "guidance": 2.0}
    explicit = portraits.sample([TEXT], [0], steps=4, guidance=2.0)
    assert torch.equal(portraits.sample([TEXT], [0]), explicit)
    assert (portraits.sample([TEXT], [0], guidance=1.0) - explicit).abs().max() > 1e-4


def test_sampling_leaves_the_pipeline_alone(portraits):
    before = portraits.pipe.scheduler.timesteps.clone()
    portraits.sample([TEXT], [0], steps=2)
    assert torch.equal(portraits.pipe.scheduler.timesteps, before)


def test_noise_levels_are_the_schedulers(portraits, stock):
    stock.scheduler.set_timesteps(7)
    assert torch.equal(portraits.sigmas(7), stock.scheduler.sigmas.float())
    assert portraits.sigmas(1).shape == (2,)
    with pytest.raises(SettingError, match="steps is 0; give a whole number from 1"):
        portraits.sigmas(0)


def test_prompts_and_seeds_must_match(portraits):
    with pytest.raises(SettingError, match="Got 2 prompts for 1 latents"):
        portraits.sample([TEXT, SHORT], [0])


def test_facts(portraits):
    assert portraits.side == 128
    assert portraits.world.name == "portraits"
    assert repr(portraits).endswith("128 x 128, cpu)")
    assert portraits.noise([0], (64, 32)).shape == (1, 8, 8, 4)


def test_the_oracle_reads_every_attribute(portraits):
    from ditlens.worlds.portraits.attributes import NAMES

    (read,) = portraits.world.measure(torch.rand(1, 3, 128, 128))
    assert tuple(read) == NAMES


# --- loading -----------------------------------------------------------------------------------------------


def test_loading_from_the_models_folder_by_name(portraits_folder, monkeypatch):
    monkeypatch.setenv("DITLENS_MODELS", str(portraits_folder.parent))
    assert find("portraits") == str(portraits_folder)
    model = ditlens.load(device="cpu")
    assert (model.name, model.folder) == ("portraits", portraits_folder)


def test_loading_warns_of_nothing(portraits_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(portraits_folder, device="cpu")


def test_the_third_encoder_of_zeros_is_dropped(portraits):
    assert portraits.pipe.text_encoder_3 is None
    assert portraits.encode_text("").tokens.shape == (1, 64, 256)


def test_a_folder_saved_without_third_encoder_can_be_loaded(portraits, tmp_path):
    portraits.pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="text_encoder_3"):
        StableDiffusion3Pipeline.from_pretrained(tmp_path / "model")  # the reason for the encoder of zeros
    model = load(tmp_path / "model", device="cpu")
    assert torch.equal(model.encode_text(TEXT).tokens, portraits.encode_text(TEXT).tokens)
    assert model.world is None
    assert model.describer is None
    assert model.defaults == {"steps": 28, "guidance": 7.0}


def test_half_precision(portraits_folder, portraits):
    model = load(portraits_folder, device="cpu", dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    picture = model.sample([SHORT], [0], steps=2)
    assert picture.dtype == torch.float32
    assert (picture - portraits.sample([SHORT], [0], steps=2)).abs().mean() < 0.02


# --- what is wrong -----------------------------------------------------------------------------------------


def fails(folder: Path | str, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(folder, device="cpu")
    for word in words:
        assert word in str(caught.value)


@pytest.fixture
def copy(portraits_folder, tmp_path) -> Path:
    return shutil.copytree(portraits_folder, tmp_path / "model")


@pytest.mark.parametrize("name", ["portrait", "./portrait", "/nowhere/at/all", "~/models/sd3", ""])
def test_unknown_names_list_what_is_there(name, portraits_folder, monkeypatch):
    monkeypatch.setenv("DITLENS_MODELS", str(portraits_folder.parent))
    monkeypatch.chdir("/")
    fails(name, f"There is no model {name!r}", "shipped are portraits", "a folder with a model_index.json")


def test_no_models_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("DITLENS_MODELS", str(tmp_path))
    fails("portraits", "shipped are none", str(tmp_path))


def test_a_hub_id_is_left_to_the_hub():
    assert find("stabilityai/stable-diffusion-3.5-medium") == "stabilityai/stable-diffusion-3.5-medium"


def test_a_folder_with_half_precision_only(portraits_folder, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(portraits_folder, folder)
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors")) if path.parent.name != "oracle" else None
    assert part_sizes(folder) == part_sizes(portraits_folder)
    assert load(folder, device="cpu").generate("a man", steps=1).size == (128, 128)


def test_a_typo_in_a_path_is_not_looked_for_on_the_hub(portraits_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(portraits_folder.parent.parent)
    monkeypatch.setattr("ditlens.models.loading.hub_answers", lambda: pytest.fail("the hub was asked"))
    fails(
        f"{portraits_folder.parent.name}/portrats",
        "There is no model",
        f"beside it are {portraits_folder.parent.name}",
    )
    fails(Path("nobody/nothing"), "There is no model 'nobody/nothing'")


def test_a_hub_that_cannot_be_reached_is_asked_for_seconds_only(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    begun = time.monotonic()
    assert not hub_answers()
    assert time.monotonic() - begun < 5


def test_a_hub_id_without_connection():
    fails(
        "nobody/nothing",
        "no folder 'nobody/nothing'",
        "the hub cannot be reached",
        "hf download nobody/nothing",
    )


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_another_kind_of_pipeline(tmp_path):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        block_out_channels=(4,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        sample_size=8, norm_num_groups=2, layers_per_block=1,
    )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    fails(tmp_path, "is a DDPMPipeline", "StableDiffusion3Pipeline and FluxPipeline")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("transformer/diffusion_pytorch_model.safetensors", cut),
        ("vae/diffusion_pytorch_model.safetensors", Path.unlink),
        ("text_encoder/model.safetensors", cut),
        ("text_encoder_2/config.json", cut),
        ("tokenizer/tokenizer.json", cut),
        ("model_index.json", cut),
        ("model_index.json", lambda path: path.write_text('{"_class_name": "NoSuchPipeline"}')),
        ("model_index.json", lambda path: path.write_text("[]")),
    ],
)
def test_damaged_folders(copy, name, harm):
    harm(copy / name)
    fails(copy, f"The model '{copy}' could not be loaded: ", "ditlens doctor")


def test_damaged_settings(copy):
    (copy / "ditlens.json").write_text("{")
    fails(copy, "ditlens.json is damaged", "Restore it")


def test_missing_oracle(copy):
    shutil.rmtree(copy / "oracle")
    with pytest.raises(ModelError, match="No oracle in .*ditlens train oracle"):
        load(copy, device="cpu").world.measure(torch.rand(1, 3, 128, 128))


def test_settings_are_data(copy):
    (copy / "ditlens.json").write_text(json.dumps({"steps": 2}))
    model = load(copy, device="cpu")
    assert model.world is None and model.describer is None
    assert model.defaults["steps"] == 2


def test_an_unknown_world_is_named(copy):
    (copy / "ditlens.json").write_text(json.dumps({"world": "elsewhere"}))
    fails(
        copy, "ditlens.json names a world that is not there", "no world 'elsewhere'. Choose from: portraits"
    )


@pytest.mark.parametrize("device", ["cuda:99", "gpu", ""])
def test_bad_devices(device):
    with pytest.raises(SettingError, match=r"The device .* cannot be used here: .* Try device='cpu'") as said:
        pick_device(device)
    unknown = "it is none of auto, cpu, cuda, cuda:1, mps" in str(said.value)
    assert unknown == (device != "cuda:99"), "PyTorch's list has twenty names that nobody has"


def test_auto_is_a_device_that_works():
    assert torch.ones(1, device=pick_device("auto")).item() == 1


def test_the_default_models_folder_is_in_the_repository():
    root = Path(__file__).parents[2]
    assert root / "data" / "models" == MODELS
