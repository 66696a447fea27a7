"""Steps, runs and guidance passes of diffusers' own pipelines, at tiny size: every row gets the right name."""

from __future__ import annotations

import inspect
import sys
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import diffusers
import PIL.Image
import pytest
import torch

import ditlens as dl
from ditlens.errors import CaptureError, InterventionError
from ditlens.labels import Label, announce

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

STEPS = 3


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pipeline(kind, model, scheduler=None, part="transformer", processor=None, **changes):
    """A pipeline of a class with a tiny transformer and nothing else in it; `changes` replace its methods."""
    kind = type(kind.__name__, (kind,), changes)
    scheduler = scheduler or diffusers.FlowMatchEulerDiscreteScheduler()
    given = dict.fromkeys(parts_of(kind)) | {part: tiny.build(model), "scheduler": scheduler}
    pipe = kind(**given | ({"processor": processor} if processor else {}))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def parts_of(kind):
    """Names of the parts that a pipeline cannot be made without."""
    wanted = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return [each.name for each in wanted if each.default is inspect.Parameter.empty]


# --- one batch for both passes -----------------------------------------------------------------------------
# Each gives: the site of the text where it enters, a pipeline, and how to run it with a guidance scale and a text


def sd3():
    pipe = pipeline(diffusers.StableDiffusion3Pipeline, "SD3Transformer2DModel")

    return "joint.0.text.in", pipe, partial(run_sd3, pipe)


def run_sd3(pipe, guidance, count=1, steps=STEPS, **more):
    given = {
        "prompt_embeds": noise(count, 5, 32), "negative_prompt_embeds": noise(count, 5, 32, seed=1),
        "pooled_prompt_embeds": noise(count, 16), "negative_pooled_prompt_embeds": noise(count, 16, seed=1),
        "guidance_scale": guidance, "num_inference_steps": steps, "height": 64, "width": 64,
    }  # fmt: skip
    return pipe(**given | more, output_type="latent")


def aura_flow():
    pipe = pipeline(diffusers.AuraFlowPipeline, "AuraFlowTransformer2DModel")

    def run(guidance, count=1):
        pipe(prompt_embeds=noise(count, 5, 32), negative_prompt_embeds=noise(count, 5, 32, seed=1),
             prompt_attention_mask=torch.ones(count, 5), negative_prompt_attention_mask=torch.ones(count, 5),
             guidance_scale=guidance, num_inference_steps=STEPS, height=64, width=64,
             output_type="latent")  # fmt: skip

    return "joint.0.text.in", pipe, run


def cogvideox():
    scheduler = diffusers.CogVideoXDDIMScheduler()
    pipe = pipeline(diffusers.CogVideoXPipeline, "CogVideoXTransformer3DModel", scheduler)

    def run(guidance, count=1):
        pipe(prompt_embeds=noise(count, 5, 12), negative_prompt_embeds=noise(count, 5, 12, seed=1),
             guidance_scale=guidance, num_inference_steps=STEPS, height=64, width=96, num_frames=5,
             output_type="latent", use_dynamic_cfg=True, max_sequence_length=5)  # fmt: skip

    return "joint.0.text.in", pipe, run


def bria_fibo():
    def encode_prompt(self, prompt, guidance_scale, **_):
        count = len(prompt)
        texts = [(noise(count, 5, 32, seed=s), torch.ones(count, 5)) for s in (0, 1)]
        layers = [[noise(count, 5, 12, seed=s)] * 3 for s in (0, 1)]
        (text, mask), (no_text, no_mask) = texts
        return text, no_text, torch.zeros(5, 3), mask, no_mask, *layers

    pipe = pipeline(diffusers.BriaFiboPipeline, "BriaFiboTransformer2DModel", encode_prompt=encode_prompt)

    def run(guidance, count=1):
        pipe(["a"] * count, guidance_scale=guidance, num_inference_steps=STEPS, height=64, width=64,
             output_type="latent")  # fmt: skip

    return "joint.0.text.in", pipe, run


def ernie_image():
    pipe = pipeline(diffusers.ErnieImagePipeline, "ErnieImageTransformer2DModel")

    def run(guidance, count=1):
        texts = [list(noise(count, 5, 12, seed=s)) for s in (0, 1)]
        pipe(prompt_embeds=texts[0], negative_prompt_embeds=texts[1], guidance_scale=guidance,
             num_inference_steps=STEPS, height=64, width=64, output_type="latent")  # fmt: skip

    return "single.0.text.in", pipe, run


BATCHED = [sd3, aura_flow, cogvideox, bria_fibo, ernie_image]


@pytest.mark.parametrize("make", BATCHED)
@pytest.mark.parametrize("count", [1, 2])
def test_rows_of_a_guided_batch_are_told_apart(make, count):
    place, pipe, run = make()
    with dl.capture(pipe, place, passes=None) as both:
        run(5.0, count)
    with dl.capture(pipe, place, passes=None) as alone:
        run(1.0, count)
    assert both.passes == ["cond", "uncond"] and alone.passes == ["cond"]
    assert both.steps == alone.steps == list(range(STEPS))
    cond = both.get(place, step=0, pass_="cond")
    assert len(cond) == count
    torch.testing.assert_close(cond, alone[place, 0])
    assert not torch.allclose(cond, both.get(place, step=0, pass_="uncond"))


def test_omnigen_has_three_passes_with_pictures(monkeypatch):
    """Its pipeline makes all passes even at guidance 1; with pictures the third one sees them without the text."""
    home = sys.modules[diffusers.OmniGenPipeline.__module__]
    monkeypatch.setattr(
        home, "OmniGenMultiModalProcessor", lambda *_, **__: None, raising=False
    )  # torchvision
    pipe = pipeline(diffusers.OmniGenPipeline, "OmniGenTransformer2DModel")

    def processed(prompts, images, use_img_cfg, **_):
        rows = 3 if use_img_cfg else 2
        pictures = {"input_pixel_values": [], "input_image_sizes": {}}
        if use_img_cfg:  # 4 tokens of a picture in the text of the first row
            pictures = {"input_pixel_values": [noise(1, 4, 4, 4)], "input_image_sizes": {0: [[1, 5]]}}
        size = 6 + 1 + 16
        return pictures | {
            "input_ids": torch.arange(rows)[:, None].expand(rows, 6),
            "attention_mask": torch.ones(rows, size, size),
            "position_ids": torch.arange(size).expand(rows, size),
        }

    processed.__dict__.update(max_image_size=1024, reset_max_image_size=lambda **_: None)
    pipe.multimodal_processor = processed
    pipe.encode_input_images = lambda values, **_: values
    place = "single.0.text.in"
    for pictures, names in ((None, ["cond", "uncond"]), (["picture"], ["cond", "img_cond", "uncond"])):
        with dl.capture(pipe, place, passes=None) as cache:
            prompt = "<img><|image_1|></img> a" if pictures else "a"
            pipe(prompt, input_images=pictures, guidance_scale=1.0, num_inference_steps=2, height=64, width=64,
                 output_type="latent", max_input_image_size=1024)  # fmt: skip
        assert sorted(cache.passes) == names
        embedded = pipe.transformer.embed_tokens(torch.arange(3))
        for name, token in (("cond", 0), ("uncond", 1), ("img_cond", 2)):
            if name in names:
                torch.testing.assert_close(cache.get(place, step=0, pass_=name)[0, -1], embedded[token])


def kandinsky(kind):
    def encode(self, prompt, device, count, guided, negative=None):
        texts = [noise(1, 5, 16, seed=s) for s in ((1, 0) if guided else (0,))]
        rows = len(texts)
        return noise(rows, 16), torch.cat(texts), torch.ones(rows, 5, dtype=torch.bool)

    pooled = {"get_zero_embed": lambda self, *_, **__: noise(1, 16), "_encode_prompt": encode}
    return pipeline(
        kind, "PriorTransformer", diffusers.UnCLIPScheduler(prediction_type="sample"), "prior", **pooled
    )


def test_the_prior_of_kandinsky_is_a_transformer_too():
    pipe, place = kandinsky(diffusers.KandinskyV22PriorPipeline), "single.0.text.in"
    with dl.capture(pipe, place, passes=None) as cache:
        pipe("a", guidance_scale=4.0, num_inference_steps=STEPS)
    assert cache.passes == ["cond", "uncond"] and cache.steps == [0, 1, 2]
    with dl.capture(pipe, place, passes=None) as alone:
        pipe("a", guidance_scale=1.0, num_inference_steps=STEPS)
    torch.testing.assert_close(cache.get(place, step=0, pass_="cond"), alone[place, 0])


def test_rows_that_nobody_can_tell_apart_are_an_error():
    """The first prior of Kandinsky keeps to itself whether it guides: better no name than a wrong one."""
    pipe, place = kandinsky(diffusers.KandinskyPriorPipeline), "single.0.text.in"
    with (
        pytest.raises(CaptureError, match=r"KandinskyPriorPipeline .*Label\(\('uncond', 'cond'\)\)"),
        dl.capture(pipe, place),
    ):
        pipe("a", guidance_scale=4.0, num_inference_steps=STEPS)
    assert dl.hooks_on(pipe) == []
    with dl.capture(pipe, place, passes=None) as cache, announce(Label(("uncond", "cond"))):
        pipe("a", guidance_scale=4.0, num_inference_steps=STEPS)
    assert cache.passes == ["cond", "uncond"] and cache.steps == [0, 1, 2]
    with dl.capture(pipe, place, passes=None) as alone:  # one row cannot be two passes
        pipe("a", guidance_scale=1.0, num_inference_steps=STEPS)
    torch.testing.assert_close(cache.get(place, step=0, pass_="cond"), alone[place, 0])


def test_perturbed_attention_is_a_pass_of_its_own():
    pipe = pipeline(diffusers.StableDiffusion3PAGPipeline, "SD3Transformer2DModel")
    for guidance, names in ((5.0, ("uncond", "cond", "perturbed")), (1.0, ("cond", "perturbed"))):
        with dl.capture(pipe, "joint.0.text.in", passes=None) as cache:
            run_sd3(pipe, guidance, pag_scale=2.0)
        assert cache.passes == sorted(names) and cache.steps == list(range(STEPS))
        embed = pipe.transformer.context_embedder
        for name in names:
            text = embed(noise(1, 5, 32, seed=int(name == "uncond")))
            torch.testing.assert_close(cache.get("joint.0.text.in", step=0, pass_=name), text)


def test_a_guider_says_which_pass_it_has_prepared():
    """Modular pipelines call a batched class once for each pass, as their guider says."""
    transformer, place = tiny.build("SD3Transformer2DModel"), "joint.0.text.in"
    pipe = SimpleNamespace(
        transformer=transformer, guider=diffusers.ClassifierFreeGuidance(guidance_scale=4.0)
    )
    inputs = tiny.inputs("SD3Transformer2DModel")
    with torch.no_grad(), dl.capture(pipe, place, passes=None) as cache:
        for step, t in enumerate((900.0, 500.0)):
            pipe.guider.set_state(step=step, num_inference_steps=2, timestep=torch.tensor(t))
            for _ in range(pipe.guider.num_conditions):
                pipe.guider.prepare_models(transformer)
                transformer(**inputs | {"timestep": torch.full((2,), t)})
                pipe.guider.cleanup_models(transformer)
    assert cache.passes == ["cond", "uncond"] and cache.steps == [0, 1]
    assert len(cache.get(place, step=0, pass_="uncond")) == 2


# --- who runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["pipeline", "transformer"])
def test_passes_are_those_of_the_pipeline_that_runs(given):
    """Two pipelines share a transformer; what the other one was told last does not count."""
    place, first, _ = sd3()
    second = type(first)(**first.components)
    second.set_progress_bar_config(disable=True)
    embed = first.transformer.context_embedder
    for before, now, names in ((1.0, 5.0, ["cond", "uncond"]), (5.0, 1.0, ["cond"])):
        run_sd3(first, before)
        target = first if given == "pipeline" else first.transformer
        with dl.capture(target, place, passes=None) as cache:
            run_sd3(second, now, count=2)
        assert cache.passes == names and cache.steps == list(range(STEPS))
        torch.testing.assert_close(cache.get(place, step=0, pass_="cond"), embed(noise(2, 5, 32)))


@pytest.mark.parametrize(("make", "count"), [(sd3, 2), (sd3, 1), ("flux", 1)])
def test_a_loop_of_your_own_says_what_its_rows_are(make, count):
    """A pipeline's last guidance says nothing of calls that it does not make."""
    place, pipe, run = flux() if make == "flux" else make()
    run(5.0)
    name = "FluxTransformer2DModel" if make == "flux" else "SD3Transformer2DModel"
    inputs = {k: v[:count] if len(v) == 2 else v for k, v in tiny.inputs(name).items()}

    def loop(passes=None):
        for t in (0.9, 0.5):
            for k in range(1 if count == 2 else 2):
                with announce(Label(passes[k])) if passes else nullcontext():
                    pipe.transformer(**inputs | {"timestep": torch.full((count,), t)})

    with torch.no_grad():
        with (
            pytest.raises(CaptureError, match=r"called by your own code .*Label\(\('uncond', 'cond'\)\)"),
            dl.capture(pipe, place),
        ):
            loop()
        said = [("uncond", "cond")] if count == 2 else [("uncond",), ("cond",)]
        with dl.capture(pipe, place, passes=None) as cache:
            loop(said)
        assert cache.passes == ["cond", "uncond"] and cache.steps == [0, 1] and len(cache.items) == 1
        if count == 2:
            with dl.capture(pipe.transformer, place, passes=None) as alone:
                loop()
            assert alone.passes == ["cond"]
            for given in (pipe, pipe.transformer):  # one name for each text, not for each row
                says = r"has the passes \('cond',\), and the batch has 2 rows: name the pass of each row"
                with pytest.raises(CaptureError, match=says), dl.capture(given, place):
                    loop([("cond",)])


def test_a_guider_is_asked_only_while_it_guides():
    """It keeps the count of the last pass of its last run."""
    transformer, place = tiny.build("SD3Transformer2DModel"), "joint.0.text.in"
    pipe = SimpleNamespace(
        transformer=transformer, guider=diffusers.ClassifierFreeGuidance(guidance_scale=4.0)
    )
    pipe.guider._step, pipe.guider._count_prepared = 5, 2
    inputs = {k: v[:1] for k, v in tiny.inputs("SD3Transformer2DModel").items()}
    with torch.no_grad(), dl.capture(pipe, place, passes=None) as cache:
        transformer(**inputs)
    assert cache.passes == ["cond"]


# --- pipelines with reference images -----------------------------------------------------------------------
# Each makes an image of 4 x 6 tokens; gives a pipeline and how to run it

IMAGE = PIL.Image.new("RGB", (96, 64))


def flux2_klein_kv():
    """Reads the reference image at step 0, then keys and values that are kept of it."""
    ids = torch.cartesian_prod(torch.tensor([10.0]), torch.arange(3.0), torch.arange(5.0), torch.zeros(1))
    pipe = pipeline(
        diffusers.Flux2KleinKVPipeline, "Flux2Transformer2DModel",
        prepare_image_latents=lambda *_, **__: (noise(1, 15, 4), ids[None]),
    )  # fmt: skip
    norm = SimpleNamespace(running_mean=torch.zeros(4), running_var=torch.ones(4))
    pipe.vae = SimpleNamespace(dtype=torch.float32, bn=norm, config=SimpleNamespace(batch_norm_eps=0.0))
    return pipe, partial(pipe, image=IMAGE, prompt_embeds=noise(1, 5, 32))


class Processor:
    tokenizer = SimpleNamespace(encode=lambda text: [0])  # noqa: ARG005

    def apply_chat_template(self, *_, **__):
        return [[0]]


def qwen_image21():
    """Keeps keys and values of the text, too, for each pass."""

    def encode_prompt(self, prompt, **_):
        slots = torch.tensor([[False] * 3 + [True] * 2 + [False]])
        return noise(1, 6, 12, seed=int(prompt == "a")), None, slots

    pipe = pipeline(
        diffusers.QwenImage21Pipeline, "QwenImage21Transformer2DModel", processor=Processor(),
        encode_prompt=encode_prompt, prepare_latents=lambda *_, **__: (noise(1, 24, 4), noise(1, 8, 4, seed=9)),
    )  # fmt: skip
    image = PIL.Image.new("RGB", (64, 32))
    given = {"negative_prompt": "b", "true_cfg_scale": 4.0, "output_resolution": 48}
    return pipe, partial(pipe, "a", image=image, **given)


def glm_image():
    """Runs the reference images through the transformer, at time 0, before the first step."""
    latents = SimpleNamespace(latents=noise(1, 4, 6, 10))
    pipe = pipeline(diffusers.GlmImagePipeline, "GlmImageTransformer2DModel")
    pipe.vae = SimpleNamespace(
        encode=lambda image: latents, dtype=torch.float32,
        config=SimpleNamespace(latents_mean=[0.0] * 4, latents_std=[1.0] * 4, latent_channels=4),
    )  # fmt: skip
    given = {
        "prompt_embeds": noise(1, 5, 12), "negative_prompt_embeds": noise(1, 5, 12, seed=1),
        "prior_token_ids": torch.ones(1, 24, dtype=torch.long),
        "prior_token_image_ids": [torch.ones(15, dtype=torch.long)],
        "source_image_grid_thw": [torch.tensor([[1, 3, 5]])],
    }  # fmt: skip
    return pipe, partial(pipe, image=[IMAGE], guidance_scale=4.0, **given)


@pytest.mark.parametrize("make", [flux2_klein_kv, qwen_image21, glm_image])
def test_reference_images_of_a_pipeline_are_no_part_of_its_image(make):
    pipe, run = make()
    places = [f"*.{block}.image.{{in,attn.to_text,attn.to_image,attn.to_other}}" for block in (0, -1)]
    with dl.capture(pipe, places, passes=None) as cache:
        run(height=64, width=96, num_inference_steps=STEPS, output_type="latent")
    assert [(item.run, item.row) for item in cache.items] == [(0, 0)] and cache.grids == {0: (4, 6)}
    assert cache.steps == list(range(STEPS))
    assert cache.passes == (["cond"] if make is flux2_klein_kv else ["cond", "uncond"])
    for place in (site for site in cache.sites if site.endswith(".in")):
        for pass_ in cache.passes:
            assert cache.get(place, pass_=pass_).shape[:3] == (STEPS, 1, 24)
            heads = [cache.get(place[:-2] + f"attn.to_{s}", pass_=pass_) for s in ("text", "image", "other")]
            torch.testing.assert_close(sum(h.sum(-1) for h in heads), torch.ones(STEPS, 1, 24))
            assert (heads[2].min() > 0.01) == (make is not glm_image or pass_ == "cond")


# --- what was asked for and never came ---------------------------------------------------------------------


def test_steps_that_never_come_are_named():
    place, pipe, run = sd3()
    message = (
        r"Step 5, 7-8 was asked for and never came: the model ran the passes cond, uncond at the steps 0-2"
    )
    with pytest.warns(UserWarning, match=message), dl.capture(pipe, place, steps=[0, 2, 7, 5, 8]) as cache:
        run(5.0)
    assert cache.steps == [0, 2]
    with pytest.warns(UserWarning, match=message), dl.intervene(
        pipe, {place: dl.scale(0.5)}, steps=(n for n in (0, 5, 7, 8))
    ):  # fmt: skip
        run(5.0)
    with pytest.warns(UserWarning, match="The pass 'uncond' was asked for and never came"), dl.intervene(
        pipe, {place: dl.scale(0.5)}, passes=["cond", "uncond"]
    ):  # fmt: skip
        run(1.0)
    with warnings.catch_warnings():  # a slice says up to where, not what there is
        warnings.simplefilter("error")
        with dl.capture(pipe, place, steps=slice(1, 9)) as cache:
            run(5.0)
    assert cache.steps == [1, 2]


def test_errors_name_the_steps_that_came():
    """Image to image with strength 0.5 begins in the middle."""
    pipe = pipeline(
        diffusers.StableDiffusion3Img2ImgPipeline, "SD3Transformer2DModel",
        prepare_latents=lambda *_, **__: noise(1, 4, 8, 8),
    )  # fmt: skip
    given = {"strength": 0.5, "image": torch.zeros(1, 3, 64, 64), "steps": 4}
    with (
        pytest.raises(CaptureError, match="ran the passes cond, uncond at the steps 2-3: ask for some"),
        dl.capture(pipe, "joint.0.image.out", steps=[0, 1]),
    ):
        run_sd3(pipe, 5.0, **given)
    with (
        pytest.raises(InterventionError, match="The model ran the passes cond, uncond at the steps 2-3;"),
        dl.intervene(pipe, {"joint.0.image.out": dl.scale(0.5)}, steps=0),
    ):
        run_sd3(pipe, 5.0, **given)


# --- runs and steps ----------------------------------------------------------------------------------------


def test_a_smaller_batch_after_a_larger_one_is_guided_too():
    place, pipe, run = sd3()
    with dl.capture(pipe, place, passes=None) as cache:
        run(5.0, count=2)
        run(5.0, count=1)
    assert [(item.run, item.row) for item in cache.items] == [(0, 0), (0, 1), (1, 0)]
    cond, uncond = (cache.get(place, step=0, pass_=name) for name in ("cond", "uncond"))
    embed = pipe.transformer.context_embedder
    torch.testing.assert_close(cond[2:], embed(noise(1, 5, 32)))
    torch.testing.assert_close(uncond[2:], embed(noise(1, 5, 32, seed=1)))


def flux(dtype=torch.float32):
    pipe = pipeline(diffusers.FluxPipeline, "FluxTransformer2DModel",
                    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)).to(dtype)  # fmt: skip

    def run(guidance, steps=STEPS):
        pipe(prompt_embeds=noise(1, 5, 32).to(dtype), pooled_prompt_embeds=noise(1, 16).to(dtype),
             negative_prompt_embeds=noise(1, 5, 32, seed=1).to(dtype),
             negative_pooled_prompt_embeds=noise(1, 16, seed=1).to(dtype), true_cfg_scale=guidance,
             height=32, width=32, num_inference_steps=steps, output_type="latent")  # fmt: skip

    return "joint.0.text.in", pipe, run


@pytest.mark.parametrize("make", [sd3, flux])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_one_step_runs_are_runs_of_their_own(make, guidance):
    place, pipe, run = make()
    with dl.capture(pipe, place, passes=None) as cache:
        for _ in range(3):
            run(guidance, steps=1)
    assert [item.run for item in cache.items] == [0, 1, 2] and cache.steps == [0]
    assert cache.passes == (["cond"] if guidance == 1 else ["cond", "uncond"])
    assert len(cache.get(place, step=0, pass_="cond")) == 3


def lumina2(shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    pipe = pipeline(diffusers.Lumina2Pipeline, "Lumina2Transformer2DModel", scheduler)

    def run(guidance, steps):
        ones = torch.ones(1, 5, dtype=torch.bool)
        pipe(prompt_embeds=noise(1, 5, 12), negative_prompt_embeds=noise(1, 5, 12, seed=1),
             prompt_attention_mask=ones, negative_prompt_attention_mask=ones, guidance_scale=guidance,
             num_inference_steps=steps, height=64, width=64, output_type="latent")  # fmt: skip

    return "single.0.image.in", pipe, run


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_model_that_counts_time_from_the_noise_has_the_right_steps(guidance):
    """Lumina2 is given 1 - t / 1000, which another step's t / 1000 may come close to."""
    place, pipe, run = lumina2(shift=6.0)
    times = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda m, a, k: times.append(float(k["timestep"][0])), with_kwargs=True
    )
    with dl.capture(pipe, [place, "cond"], passes=None) as cache:
        run(guidance, 30)
    hook.remove()
    assert {item.run for item in cache.items} == {0} and cache.steps == list(range(30))
    times = list(dict.fromkeys(times))
    with torch.no_grad(), dl.capture(pipe.transformer, "cond") as plain:
        for t in times:
            pipe.transformer(**tiny.inputs("Lumina2Transformer2DModel") | {"timestep": torch.full((2,), t)})
    for step in range(30):
        torch.testing.assert_close(cache.get("cond", step=step, pass_="cond"), plain["cond", step][:1])


def test_timesteps_in_bfloat16_are_found():
    """They are off by up to half a percent, which must not look like another run."""
    place, pipe, run = flux(torch.bfloat16)
    with dl.capture(pipe, place, passes=None) as cache:
        run(4.0, steps=28)
    assert cache.steps == list(range(28)) and {item.run for item in cache.items} == {0}


def test_timesteps_are_read_once_for_each_run(monkeypatch):
    """Reading one from a GPU waits for everything before it."""
    place, pipe, run = sd3()
    read, real = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: read.append(self) or real(self))
    seen = []
    with dl.capture(pipe, place, passes=None):
        for _ in range(2):
            run(5.0, steps=4)
            seen.append(sum(each is pipe.scheduler.timesteps for each in read))
    assert seen == [1, 1]
