"""Capturing while a whole model makes pictures: steps, guidance passes, prompts, words, studies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ditlens as dl
from ditlens.cli.main import main
from ditlens.ems.sample import METHODS
from ditlens.errors import CaptureError, InterventionError, SettingError, StudyError
from ditlens.lens.study import run as studies

TEXT = "a portrait with a big smile, long red hair"
OUT = "joint.*.{text,image}.out"


def pixels(image):
    return np.asarray(image)


@pytest.fixture(scope="module")
def quick(portraits):
    """Settings that make a picture in four steps."""
    return SimpleNamespace(model=portraits, run=lambda **k: portraits.generate(TEXT, seed=0, **k))


# --- a ditlens model ---------------------------------------------------------------------------------------


def test_pictures_are_the_same_bit_for_bit(quick):
    plain = quick.run()
    with dl.capture(quick.model, "*.*.*.*", passes=None) as cache:
        seen = quick.run()
    assert np.array_equal(pixels(plain), pixels(seen))
    assert cache.steps == [0, 1, 2, 3] and cache.passes == ["cond", "uncond"]


def test_by_default_the_conditional_pass_is_kept(quick):
    with dl.capture(quick.model, OUT, steps=[0, 3]) as cache:
        quick.run()
    assert cache.passes == ["cond"] and cache.steps == [0, 3]
    assert cache["joint.0.image.out", 3].shape == (1, 64, 64)
    assert cache["joint.0.image.out"].shape == (2, 1, 64, 64)
    assert [item.prompt for item in cache.items] == [TEXT]
    assert cache.to_grid("joint.1.image.out", step=0).shape == (1, 8, 8, 64)
    assert repr(cache).startswith("LatentCache: 3 sites, 1 image, 98 kB\n")


def test_the_passes_are_told_apart(quick):
    """Capturing the conditional half equals running the text alone."""
    with dl.capture(quick.model, "joint.0.text.in", steps=[0], passes=None) as both:
        quick.run()
    with dl.capture(quick.model, "joint.0.text.in", steps=[0]) as alone:
        quick.run(guidance=1.0)
    cond = both.get("joint.0.text.in", step=0, pass_="cond")
    torch.testing.assert_close(cond, alone["joint.0.text.in", 0])
    assert not torch.allclose(cond, both.get("joint.0.text.in", step=0, pass_="uncond"))


def test_words_and_padding(quick):
    with dl.capture(quick.model, OUT, steps=[0]) as cache:
        quick.run()
    ids = quick.model.pipe.tokenizer(TEXT).input_ids
    found = cache.words("big smile")
    assert [quick.model.pipe.tokenizer.decode([ids[i]]).strip() for i in found["tokenizer"]] == [
        "big",
        "smile",
    ]
    assert found == dl.words(quick.model, TEXT, "Big Smile")
    assert int(cache.mask().sum()) == len(ids)
    with pytest.raises(CaptureError, match="not in the prompt"):
        cache.words("beard")
    with dl.capture(quick.model, OUT, steps=[0], reduce="mean") as mean:
        quick.run()
    real = cache["joint.0.text.out", 0][:, : len(ids)].mean(1)
    torch.testing.assert_close(mean["joint.0.text.out", 0], real)


def test_attention_to_a_word(quick):
    tokens = dl.words(quick.model, TEXT, "smile")["tokenizer"]
    with dl.capture(quick.model, "joint.*.image.attn.to_text", steps=[1], tokens={"text": tokens}) as cache:
        quick.run()
    assert cache.to_grid("joint.0.image.attn.to_text", step=1).shape == (1, 8, 8, len(tokens))


def test_two_pictures_are_two_items(quick):
    with dl.capture(quick.model, "joint.0.image.out", reduce="mean") as cache:
        quick.run()
        quick.model.generate("a man", seed=1)
    assert [(item.run, item.prompt) for item in cache.items] == [(0, TEXT), (1, "a man")]
    assert cache["joint.0.image.out"].shape == (4, 2, 64)


def test_an_edit_guided_on_both_sides(portraits):
    """Each side has its own pass without text, at the same point as with its text."""
    from PIL import Image

    method = dl.OdeEdit("both", source_guidance=1.5, target_guidance=5.5, steps=2)
    kept = {}
    for asked in (None, "uncond"):
        with dl.capture(portraits, "joint.0.image.in", steps=[1], passes=asked) as kept[asked]:
            dl.edit(
                portraits, Image.new("RGB", (128, 128), "gray"), source_text="a man", target_text="an old man",
                method=method, mask="none",
            )  # fmt: skip
    cache = kept[None]
    assert cache.passes == ["source", "target", "uncond.source", "uncond.target"]
    assert [item.prompt for item in cache.items] in (["a man"], ["an old man"])
    assert kept["uncond"].passes == ["uncond.source", "uncond.target"]
    at = {name: cache.get("joint.0.image.in", step=1, pass_=name) for name in cache.passes}
    assert all(len(value) == 1 for value in at.values())
    torch.testing.assert_close(at["uncond.source"], at["source"])
    torch.testing.assert_close(at["uncond.target"], at["target"])
    assert not torch.allclose(at["source"], at["target"])


def test_an_edit_guided_away_from_the_source_text(portraits):
    """The source text is read at two points, under two names."""
    from PIL import Image

    method = dl.OdeEdit("slider", guide_from="source", target_guidance=2.0, steps=2)
    with dl.capture(portraits, "joint.0.image.in", steps=[1], passes=["source", "target"]) as cache:
        dl.edit(
            portraits, Image.new("RGB", (128, 128), "gray"), source_text="a man", target_text="an old man",
            method=method, mask="none",
        )  # fmt: skip
    assert cache.passes == ["source", "source.target", "target"]
    at = {name: cache.get("joint.0.image.in", step=1, pass_=name) for name in cache.passes}
    assert all(len(value) == 1 for value in at.values())
    torch.testing.assert_close(at["source.target"], at["target"])
    assert not torch.allclose(at["source"], at["target"])


def test_a_pass_that_never_comes_is_a_warning(quick):
    asked = dl.capture(quick.model, "joint.0.image.out", passes=("cond", "uncond"))
    with (
        pytest.warns(
            UserWarning,
            match="'uncond' was asked for and never came: the model ran the passes cond at the steps",
        ),
        asked,
    ):
        quick.run(guidance=1.0)


EDITS = {  # method, steps that a capture sees, draws of each
    "random levels": (replace(METHODS["dds"], steps=5), 5, 1),
    "averages": (replace(METHODS["flowedit"], steps=4, active=0.75, averages=3), 3, 3),
    "resampling": (replace(METHODS["sdedit"], steps=4, active=0.5), 2, 1),
    "up and down": (replace(METHODS["ddib"], steps=3), 2 * 3, 1),
    "two looks": (replace(METHODS["rf-solver"], steps=3), 2 * 2 * 3, 1),
    "one look more at the start": (replace(METHODS["fireflow"], steps=3), 2 * (3 + 1), 1),
}


@pytest.mark.filterwarnings("ignore:The pass 'source' was asked for")  # resampling has none
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_tells_its_steps(portraits, name):
    """Whatever noise levels its method looks at; and what looks for the mask is no step."""
    from PIL import Image

    method, steps, draws = EDITS[name]
    with dl.capture(portraits, "joint.0.text.in", passes=("source", "target")) as cache:
        for _ in range(2):
            dl.edit(
                portraits, Image.new("RGB", (128, 128), "gray"), source_text="a man",
                target_text="an old man", method=method, mask="difference",
            )  # fmt: skip
    assert cache.steps == list(range(steps))
    assert [item.run for item in cache.items] == list(range(2 * draws))


def test_interventions_change_the_picture_for_one_pass_only(quick):
    plain = quick.run()
    push = {
        "joint.0.image.out": dl.add_vector(torch.randn(64, generator=torch.Generator().manual_seed(0)), 3.0)
    }
    with dl.intervene(quick.model, push), dl.capture(quick.model, "joint.0.image.out", passes=None) as both:
        moved = quick.run()
    with (
        dl.intervene(quick.model, push, passes="cond"),
        dl.capture(quick.model, "joint.0.image.out", steps=[0], passes=None) as one,
    ):
        quick.run()
    assert not np.array_equal(pixels(plain), pixels(moved))
    place = "joint.0.image.out"
    same = {
        name: torch.equal(one.get(place, step=0, pass_=name), both.get(place, step=0, pass_=name))
        for name in ("cond", "uncond")
    }
    assert same == {"cond": True, "uncond": False}
    assert np.array_equal(pixels(quick.run()), pixels(plain))


# --- stock pipelines ---------------------------------------------------------------------------------------


def test_the_stock_sd3_pipeline(portraits):
    with dl.capture(portraits.pipe, "joint.0.image.out", passes=None) as cache:
        portraits.pipe(TEXT, num_inference_steps=3, guidance_scale=2.0, max_sequence_length=0)
    assert cache.passes == ["cond", "uncond"] and cache.steps == [0, 1, 2]
    with dl.capture(portraits.pipe, "joint.0.image.out") as cache:
        portraits.pipe([TEXT, "a man"], num_inference_steps=2, guidance_scale=1.0, max_sequence_length=0)
    assert cache["joint.0.image.out"].shape == (2, 2, 64, 64)


def test_image_to_image_begins_at_a_later_step(portraits):
    from diffusers import StableDiffusion3Img2ImgPipeline
    from PIL import Image

    pipe = StableDiffusion3Img2ImgPipeline(**portraits.pipe.components)
    pipe.set_progress_bar_config(disable=True)
    with dl.capture(pipe, "joint.0.image.out") as cache:
        pipe(
            TEXT,
            image=Image.new("RGB", (128, 128)),
            strength=0.5,
            num_inference_steps=4,
            max_sequence_length=0,
        )
    assert cache.steps == [2, 3]


def test_a_scheduler_that_asks_twice_at_a_timestep(portraits):
    from diffusers import FlowMatchHeunDiscreteScheduler, StableDiffusion3Pipeline

    pipe = StableDiffusion3Pipeline(
        **portraits.pipe.components | {"scheduler": FlowMatchHeunDiscreteScheduler()}
    )
    pipe.set_progress_bar_config(disable=True)
    with dl.capture(pipe, "joint.0.image.out") as cache:
        pipe(TEXT, num_inference_steps=3, guidance_scale=2.0, max_sequence_length=0)
        pipe(TEXT, num_inference_steps=3, guidance_scale=2.0, max_sequence_length=0)
    assert cache.steps == [0, 1, 2, 3, 4]
    assert [item.run for item in cache.items] == [0, 1]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_stock_flux_pipeline(guidance):
    """FLUX makes one call for each pass; true guidance makes two, the conditional one first."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=False,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(4,), layers_per_block=1, latent_channels=1,
        norm_num_groups=1, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0, scaling_factor=1.0,
    )  # fmt: skip
    pipe = FluxPipeline(FlowMatchEulerDiscreteScheduler(), vae, None, None, None, None, transformer)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)

    def text():
        return torch.randn(1, 5, 32, generator=generator), torch.randn(1, 16, generator=generator)

    (tokens, pooled), (no_tokens, no_pooled) = text(), text()
    with dl.capture(pipe, "joint.0.{text,image}.in", passes=None) as cache:
        pipe(prompt_embeds=tokens, pooled_prompt_embeds=pooled, negative_prompt_embeds=no_tokens,
             negative_pooled_prompt_embeds=no_pooled, true_cfg_scale=guidance, height=16, width=24,
             num_inference_steps=3, output_type="latent")  # fmt: skip
    assert cache.steps == [0, 1, 2]
    assert cache.passes == (["cond"] if guidance == 1 else ["cond", "uncond"])
    assert cache.to_grid("joint.0.image.in", step=0, pass_="cond").shape[1:3] == (8, 12)
    embedded = transformer.context_embedder(tokens)
    torch.testing.assert_close(cache.get("joint.0.text.in", step=2, pass_="cond"), embedded)


# --- studies -----------------------------------------------------------------------------------------------


@pytest.fixture
def plan(portraits):
    return studies.plan_study(
        portraits, ["a man", "a woman", TEXT], [0, 1], "joint.0.{text,image}.out", steps=[0, 3], images=False
    )


def test_a_study_holds_what_capturing_one_by_one_gives(portraits, plan, tmp_path):
    seen = []
    study = studies.run_study(portraits, plan, tmp_path, progress=lambda *done: seen.append(done))
    assert seen == [(i, 6) for i in range(1, 7)]
    with dl.capture(portraits, "joint.0.image.out", steps=[0, 3]) as cache:
        portraits.generate(TEXT, seed=1)
    assert torch.equal(study.get("joint.0.image.out", items=[(2, 1)]), cache["joint.0.image.out"])
    assert dl.open_study(tmp_path).verify() == []
    assert "6 of 6 items" in repr(study)


def test_running_again_computes_nothing_that_is_there(portraits, plan, tmp_path, monkeypatch):
    study = studies.run_study(portraits, plan, tmp_path)
    lost = study.path((1, 0))
    times = {item: study.path(item).stat().st_mtime_ns for item in study.items}
    lost.unlink()
    again = studies.run_study(portraits, plan, tmp_path)
    assert lost.is_file() and again.missing == []
    assert all(study.path(i).stat().st_mtime_ns == t for i, t in times.items() if i != (1, 0))


def test_estimates_are_the_size_on_disk(portraits, plan, tmp_path):
    size = studies.estimate_study(portraits, plan)
    study = studies.run_study(portraits, plan, tmp_path)
    on_disk = sum(study.path(item).stat().st_size for item in study.items)
    assert size.total == pytest.approx(on_disk, rel=0.05)


RUNS = {
    "sites": st.sampled_from(
        [OUT, "joint.1.image.*", "cond", "joint.*.text.{in,attn.out}", "joint.1.*.attn.to_{text,image}"]
    ),
    "steps": st.sampled_from([None, [0], [0, 2], slice(1, None, 2)]),
    "passes": st.sampled_from(["cond", "uncond", ("cond", "uncond"), None]),
    "tokens": st.sampled_from([None, {"image": [0, 5]}, {"text": [1]}]),
    "reduce": st.sampled_from([None, "mean", "sketch:8"]),
    "heads": st.sampled_from(["mean", "all"]),
    "dtype": st.sampled_from([None, torch.float16]),
}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.fixed_dictionaries(RUNS))
def test_an_estimate_is_what_the_capture_takes(portraits, chosen):
    said = dl.estimate(portraits, sampling_steps=3, items=2, **chosen)
    with dl.capture(portraits, limit="1 TB", **chosen) as cache:
        portraits.sample([TEXT, "a portrait"], [0, 1], steps=3)
    assert said.total == cache.nbytes
    assert (said.items, said.steps, said.sites) == (2, len(cache.steps), len(cache.sites))


def test_the_smaller_choices_are_as_small_as_they_say(portraits):
    said = dl.estimate(portraits, OUT, sampling_steps=4)
    options = {
        "reduce='mean'": {"reduce": "mean"}, "dtype=torch.bfloat16": {"dtype": torch.bfloat16},
        "steps=slice(None, None, 4)": {"steps": slice(None, None, 4)}, "sites='joint.1.image.out'": {},
    }  # fmt: skip
    assert set(said.smaller) == set(options)
    for setting, option in options.items():
        sites = "joint.1.image.out" if setting.startswith("sites") else OUT
        with dl.capture(portraits, sites, **option) as cache:
            portraits.generate(TEXT, seed=0, steps=4)
        assert said.smaller[setting] == pytest.approx(cache.nbytes), setting
    assert said.fits("1 GB") and not said.fits("1 kB")
    assert "1 image, 3 sites at 4 steps" in str(said) and "reduce='mean'" in str(said)


def test_an_estimate_keeps_no_tensor_and_needs_to_know_how_to_run(portraits):
    with pytest.raises(SettingError, match="num_inference_steps=1"):
        dl.estimate(portraits.pipe, OUT)
    with pytest.raises(CaptureError, match="did not run"):
        dl.estimate(portraits.pipe, OUT, run=lambda: None)
    said = dl.estimate(portraits.pipe, OUT, run=lambda: portraits.generate(TEXT, seed=0, steps=2))
    assert said.steps == 2 and dl.hooks_on(portraits) == []


def test_a_failing_item_is_tried_again_and_the_others_are_kept(portraits, plan, tmp_path, monkeypatch):
    real, tries = studies.capture_item, []

    def flaky(model, manifest, prompt, seed, limit):
        if (prompt, seed) == (1, 1):
            tries.append(1)
            raise RuntimeError("out of luck")
        if (prompt, seed) == (2, 0) and not study_path.is_file() and len(tries) < 2:
            raise RuntimeError("once")
        return real(model, manifest, prompt, seed, limit)

    study_path = tmp_path / "never"
    monkeypatch.setattr(studies, "capture_item", flaky)
    study = studies.run_study(portraits, plan, tmp_path)
    assert len(tries) == studies.ATTEMPTS
    assert study.missing == [(1, 1)]
    assert study.failures["00001-1"]["attempts"] == 3
    assert "out of luck" in study.failures["00001-1"]["error"]
    monkeypatch.setattr(studies, "capture_item", real)
    assert studies.run_study(portraits, plan, tmp_path).missing == []
    assert list((tmp_path / "failures").iterdir()) == [], "records of items that are finished now"


def test_a_setting_that_fits_no_item_is_an_error_at_once(portraits, tmp_path):
    bad = studies.plan_study(portraits, ["a"], [0], "joint.77.image.out")
    with pytest.raises(dl.errors.SiteError):
        studies.run_study(portraits, bad, tmp_path)
    with pytest.raises(SettingError, match="prompts is .*; give a text, .* or a list of texts"):
        studies.plan_study(portraits, [], [0], OUT)


def command(folder, prompts, out):
    return [
        "capture", "--prompts", str(prompts), "--seeds", "0:2", "--sites", "joint.0.image.out", "--model",
        str(folder), "--device", "cpu", "--out", str(out),
    ]  # fmt: skip


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("# three\na man\n\na woman\nan old man\n")
    return path


def test_the_command(portraits_folder, prompts, tmp_path, capsys):
    arguments = command(portraits_folder, prompts, tmp_path / "study")
    assert main([*arguments, "--dry-run", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "study").exists()
    assert main([*arguments, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["done"] == 6 and cost["bytes_total"] == done["bytes_total"]
    assert main(["study", str(tmp_path / "study"), "--verify"]) == 0
    assert "6 of 6 items" in capsys.readouterr().out
    assert main([*arguments, "--guidance", "1"]) == 1
    assert "holds another study: guidance differ" in capsys.readouterr().err
    assert main(["study", str(tmp_path)]) == 1


def test_prompts_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.txt").write_text("\n# only a comment\n")
    with pytest.raises(StudyError, match="has no prompts"):
        studies.read_prompts(tmp_path / "empty.txt")
    with pytest.raises(StudyError, match="none.txt cannot be read as a list of prompts: No such file"):
        studies.read_prompts(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("un homme\nâgé".encode("latin-1"))
    with pytest.raises(StudyError, match=r"at line 2, column 1, the byte 0xE2 .* Save it as UTF-8"):
        studies.read_prompts(tmp_path / "latin.txt")


def test_prompts_of_an_editor_on_windows(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("a man\r\n# none\r\n\r\n  a café,\u2028at night \r\n".encode("utf-16"))
    assert studies.read_prompts(path) == (["a man", "a café,\u2028at night"], {})


@pytest.fixture
def alone(portraits, tmp_path):
    """What one undisturbed process makes of `prompts` with `command`, as bytes by file."""
    plan = studies.plan_study(portraits, ["a man", "a woman", "an old man"], [0, 1], "joint.0.image.out")
    study = studies.run_study(portraits, plan, tmp_path / "alone")
    return {study.path(item).name: study.path(item).read_bytes() for item in study.items}


def shards(out):
    return {path.name: path.read_bytes() for path in (out / "items").glob("*.safetensors")}


@pytest.mark.slow
def test_killed_and_started_again(portraits_folder, prompts, alone, tmp_path):
    """Each time it is killed a little later after its first new item: while it computes, or while it writes."""
    out = tmp_path / "study"
    arguments = [sys.executable, "-m", "ditlens", *command(portraits_folder, prompts, out)]
    done, stamps = 0, {}
    for later in (0.0, 0.005, 0.02):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob("items/*.safetensors"))) <= done:
            time.sleep(0.001)
        time.sleep(later)
        process.kill()
        process.wait()
        study = dl.open_study(out)
        assert study.verify() == [] and done < len(study) < 6
        done = len(study)
        stamps |= {study.path(item): study.path(item).stat().st_mtime_ns for item in study.items}
    assert subprocess.run(arguments, check=False, capture_output=True).returncode == 0
    assert shards(out) == alone
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps, "no item was computed twice"


@pytest.mark.slow
def test_two_workers_share_the_items(portraits_folder, prompts, alone, tmp_path, capsys):
    out = tmp_path / "study"
    assert main([*command(portraits_folder, prompts, out), "--workers", "2"]) == 0
    assert shards(out) == alone
    assert list((out / "claims").iterdir()) == []


# --- values of other runs, and what a pipeline does not tell --------------------------------------------------

PLACE = "joint.0.image.out"


def test_putting_values_back_keeps_to_their_pass(quick):
    plain = quick.run()
    with dl.capture(quick.model, PLACE) as cond:
        quick.run()
    with dl.capture(quick.model, PLACE, passes=None) as both:
        quick.run()
    with (
        pytest.raises(
            InterventionError, match=r"in the pass 'uncond', and the cache holds cond\..*passes=None"
        ),
        dl.intervene(quick.model, {PLACE: dl.replace_with(cond)}),
    ):
        quick.run()
    for put, passes in ((dl.replace_with(cond), "cond"), (dl.replace_with(both), None)):
        with dl.intervene(quick.model, {PLACE: put}, passes=passes):
            assert np.array_equal(pixels(quick.run()), pixels(plain)), "its own values change nothing"
    with (
        dl.intervene(quick.model, {PLACE: dl.replace_with(cond, pass_="cond")}),
        dl.capture(quick.model, PLACE, steps=[0], passes="uncond") as seen,
    ):
        quick.run()
    assert torch.equal(seen[PLACE, 0], cond[PLACE, 0])


def test_ablation_takes_the_pass_that_is_changed(quick):
    with dl.capture(quick.model, PLACE, passes=None) as both:
        for seed in (0, 1):
            quick.model.generate(TEXT, seed=seed)
    expected = {
        "mean": lambda name: both.get(PLACE, step=0, pass_=name).mean(0, keepdim=True),
        "resample": lambda name: both.get(PLACE, step=0, pass_=name)[1:],
    }
    for how, value in expected.items():
        with (
            dl.capture(quick.model, PLACE, steps=[0], passes=None) as seen,
            dl.intervene(quick.model, {PLACE: dl.ablate(how, both)}, steps=[0]),
        ):
            quick.run()
        for name in ("cond", "uncond"):
            torch.testing.assert_close(seen.get(PLACE, step=0, pass_=name), value(name))
    only = both.select(pass_="cond")
    wrong = dl.intervene(quick.model, {PLACE: dl.ablate("mean", only)})
    with pytest.raises(InterventionError, match=r"intervene\(\.\.\., passes=\.\.\.\)"), wrong:
        quick.run()


def test_words_of_a_pipeline_that_was_called_directly(quick):
    with dl.capture(quick.model.pipe, PLACE) as cache:
        quick.model.pipe(TEXT, num_inference_steps=2, guidance_scale=1.0, max_sequence_length=0)
    with pytest.raises(CaptureError, match=r"called directly\. Say it: prompt='\.\.\.'"):
        cache.words("smile")
    assert cache.words("smile", prompt=TEXT) == dl.words(quick.model, TEXT, "smile")
    with dl.capture(quick.model.transformer, PLACE) as bare:
        quick.run()
    with pytest.raises(CaptureError, match="whole pipeline was given, of the classes SD3.*bare transformer"):
        bare.words("smile", prompt=TEXT)
    with pytest.raises(CaptureError, match="Tokenize the prompt as your pipeline does"):
        dl.words(quick.model.transformer, TEXT, "smile")


def test_masks_are_read_once_for_each_run(quick, monkeypatch):
    """On a GPU, to read a mask waits for all that was computed before."""
    from ditlens.lens import captures

    moved, real = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: moved.append(self.shape) or real(self))
    session = captures.capture(quick.model, OUT, passes=None)
    with session:
        quick.run()
        during = len([shape for shape in moved if len(shape) == 2])
    assert during == 0 and len([shape for shape in moved if len(shape) == 2]) == 2
    assert set(session.cache.masks) == {"cond", "uncond"}
