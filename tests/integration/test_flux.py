"""FLUX at tiny random size: packing, guidance as an input or as a second prompt, every editing method."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.ems.sample import METHODS, method_for
from ditlens.errors import ModelError, SettingError
from ditlens.lens.study import run as studies
from ditlens.models.encoders import choose, only
from ditlens.models.flux import FluxModel, pack, positions, unpack
from ditlens.models.loading import load, wrap

EXACT = ("flowalign", "flowslider", "dds", "csds-recon-delta", "csds-recon-orthogonal", "hsds-recon")
"""Methods with the same guidance on both sides: degree 0 changes nothing."""
SOURCE, TARGET = "a red cat on a mat", "a blue cat on a mat"


def pipeline(distilled: bool):
    """A `FluxPipeline` of the real classes with random weights, 32 x 32 pixels."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    from ditlens.train.text import build_tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = build_tokenizer()
        clip = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=2, max_position_embeddings=77, eos_token_id=tokenizer.eos_token_id,
                bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
            )
        )  # fmt: skip
        t5 = T5EncoderModel(
            T5Config(vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        )
        transformer = FluxTransformer2DModel(
            in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=24, pooled_projection_dim=16, guidance_embeds=distilled, axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
        clip, t5 = clip.eval(), t5.eval()
        vae = AutoencoderKL(
            block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=2, scaling_factor=0.36,
            shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip
    tokenizer.model_max_length = 77
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=distilled), vae=vae,
        text_encoder=clip, tokenizer=tokenizer, text_encoder_2=t5, tokenizer_2=tokenizer, transformer=transformer,
    )  # fmt: skip
    pipe.default_sample_size = 4  # latents of 4 x 4: pictures of 32 x 32
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module", params=[True, False], ids=["dev", "schnell"])
def model(request):
    return FluxModel(pipeline(request.param), "tiny")


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_packing_is_the_pipelines_and_back():
    latents = torch.randn(2, 4, 6, 8)
    from diffusers import FluxPipeline

    packed = FluxPipeline._pack_latents(latents, 2, 4, 6, 8)
    assert torch.equal(pack(latents), packed)
    assert torch.equal(unpack(packed, 6, 8), latents)
    ids = FluxPipeline._prepare_latent_image_ids(1, 3, 4, "cpu", torch.float32)
    assert torch.equal(positions(6, 8), ids)
    with pytest.raises(SettingError, match="two by two"):
        pack(torch.zeros(1, 4, 5, 8))


def test_samples_are_the_pipelines_own(model):
    noise = model.noise([3])
    assert noise.shape == (1, 4, 4, 4)
    guidance = 2.5 if model.distilled else 1.0
    expected = model.pipe(
        SOURCE, height=32, width=32, num_inference_steps=4, guidance_scale=guidance, latents=pack(noise),
        max_sequence_length=512 if model.distilled else 256, output_type="pt",
    ).images  # fmt: skip
    ours = model.sample([SOURCE], [3], steps=4, guidance=guidance)
    torch.testing.assert_close(ours, expected.float(), atol=1e-5, rtol=1e-4)


def test_guidance_of_a_distilled_model_is_an_input(model):
    weak, strong = (model.sample([SOURCE], [0], steps=2, guidance=g) for g in (1.5, 6.0))
    assert not torch.equal(weak, strong)
    calls = []
    hook = model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append((len(kwargs["hidden_states"]), kwargs["guidance"])),
        with_kwargs=True,
    )
    try:
        model.sample([SOURCE], [0], steps=1, guidance=6.0)
    finally:
        hook.remove()
    ((rows, told),) = calls
    if model.distilled:
        assert rows == 1 and told.tolist() == [6.0], "one prompt, told its guidance"
    else:
        assert rows == 2 and told is None, "null and prompt"


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_edits(model, picture, name):
    import dataclasses

    small = {"averages": 1} if hasattr(METHODS[name], "averages") else {}
    method = dataclasses.replace(METHODS[name], steps=3, **small)
    done = dl.edit(model, picture, source_text=SOURCE, target_text=TARGET, method=method, mask=None)
    again = done.sweep([0.0, 1.0])
    torch.testing.assert_close(again.edits[1].latents, done.latents, atol=1e-4, rtol=1e-3)
    assert np.isfinite(done.latents.numpy()).all() and done.latents.shape == (1, 4, 4, 4)
    assert method.exact_at_0 == (name in EXACT)
    if name in EXACT:
        assert np.array_equal(np.asarray(again.images[0]), np.asarray(done.reconstruction))


def test_a_method_by_name_has_the_settings_published_for_flux(model, picture):
    flowedit = method_for(model, "flowedit")
    knobs = ("source_guidance", "target_guidance", "steps", "active")
    assert [getattr(flowedit, knob) for knob in knobs] == [1.5, 5.5, 28, 24 / 28]
    assert method_for(model, "dds", (128, 128)).lr == 0.0122
    done = dl.edit(model, picture, source_text=SOURCE, target_text=TARGET, method="flowedit")
    assert done.recipe["method"]["target_guidance"] == 5.5


@torch.no_grad()
def test_t5_writes_the_rows_and_clip_the_pooled_vector(model):
    source, target = model.encode_text(SOURCE), model.encode_text(TARGET)
    for name, prompts in (("clip", (TARGET, SOURCE)), ("t5", (SOURCE, TARGET))):
        tokens, pooled, _ = model.pipe.encode_prompt(
            *prompts, device="cpu", max_sequence_length=source.tokens.shape[1]
        )
        moved = only(source, target, choose(model, name))
        torch.testing.assert_close(moved.tokens, tokens, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(moved.pooled, pooled, atol=1e-5, rtol=1e-4)
        half = source if name == "clip" else target
        assert torch.equal(moved.tokens, half.tokens) and not torch.equal(source.tokens, target.tokens)


def test_flowedit_tells_source_and_target_their_own_guidance(picture):
    model = FluxModel(pipeline(True), "tiny")
    method = dl.OdeEdit("flowedit", source_guidance=1.5, target_guidance=5.5, steps=2)
    told = []
    model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: told.append(kwargs["guidance"].tolist()), with_kwargs=True
    )
    done = dl.edit(model, picture, source_text=SOURCE, target_text=TARGET, method=method)
    assert told == [[1.5, 5.5], [1.5, 5.5]] and done.evaluations == 4


def test_guidance_away_from_the_source_text_tells_all_three_the_same(picture):
    model = FluxModel(pipeline(True), "tiny")
    told = []
    model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: told.append(kwargs["guidance"].tolist()), with_kwargs=True
    )
    method = dl.OdeEdit("flowslider", guide_from="source", target_guidance=2.0, steps=2)
    dl.edit(model, picture, source_text=SOURCE, target_text=TARGET, method=method)
    assert told == [[1.0] * 3] * 2


def test_captures_name_source_and_target(model, picture):
    method = dl.OdeEdit("ems", source_guidance=2.0, target_guidance=2.0, steps=2)
    with dl.capture(model, "{joint,single}.0.{text,image}.out", passes=["source", "target"]) as cache:
        dl.edit(model, picture, source_text=SOURCE, target_text=TARGET, method=method)
    assert cache.passes == ["source", "target"] and cache.steps == [0, 1]
    assert cache.to_grid("single.0.image.out", step=0, pass_="target").shape[1:3] == (2, 2)


def test_a_study_of_a_distilled_model_has_no_second_pass(model, tmp_path):
    both = {"passes": ("cond", "uncond"), "guidance": 3.5, "sampling_steps": 1}
    if model.distilled:
        with pytest.raises(SettingError, match="guidance-distilled.*--passes cond"):
            studies.plan_study(model, ["a cat"], [0], "joint.0.image.out", **both)
        return
    plan = studies.plan_study(model, ["a cat"], [0], "joint.0.image.out", **both)
    assert studies.run_study(model, plan, tmp_path).passes == ["cond", "uncond"]


def test_words_are_aligned_by_the_rows_of_t5(model, picture):
    aligned = dl.edit(
        model,
        picture,
        source_text="a cat",
        target_text="a very big cat",
        method=dl.FLOWEDIT,
        mask="difference",
    )
    assert aligned.mask is not None
    ((name, found),) = aligned.description.alignment.items()
    assert name == "t5" and [after for _, after in found.words] == ["very big"] and not found.aligned
    rows = model.encode_text([SOURCE, ""]).real_tokens().sum(1)
    assert rows[0] > rows[1] > 0


def test_load_knows_flux_and_says_what_else_it_takes(tmp_path):
    pipeline(True).save_pretrained(tmp_path)
    loaded = load(tmp_path, device="cpu")
    assert isinstance(loaded, FluxModel) and loaded.distilled and loaded.defaults["guidance"] == 3.5

    class QwenImagePipeline:
        """Any other."""

    with pytest.raises(ModelError, match=r"QwenImagePipeline.*ditlens\.capture"):
        wrap(QwenImagePipeline())


def test_patching_goes_over_both_kinds_of_blocks(model):
    def spot(images):
        return images[:, 0, :8, :8].mean((1, 2))

    found = dl.patch(
        model, TARGET, "two dogs", measure=spot, stream=["text", "pooled"], steps=1, sampling_steps=2, seeds=[0],
    )  # fmt: skip
    assert found.places == ("joint.0", "joint.1", "single.0")
    assert found.guidance == (3.5 if model.distilled else 1)
    assert found.effects[0, 0, 0, 0] == pytest.approx(1, abs=0.02)
    lost = dl.knock_out(model, [TARGET, "two dogs"], measure=spot, how="zero", seeds=[0], sampling_steps=2)
    assert lost.places == found.places and (lost.table() > 0).all()
