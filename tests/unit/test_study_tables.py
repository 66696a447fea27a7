"""What a study knows of its images, its parts, and what it hands to other libraries; caches as files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ditlens.errors import CaptureError, SettingError, SiteError, StudyError
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.lens.captures import capture
from ditlens.lens.study import export
from ditlens.lens.study.run import image_of, plan_study, read_prompts, run_study
from ditlens.lens.study.store import Study, open_study

SITES = "joint.*.image.out"


@pytest.fixture(scope="module")
def study(portraits, tmp_path_factory):
    """Two prompts, two seeds; steps 0 and 2, three patches; images and a column."""
    plan = plan_study(
        portraits, ["a big smile", "a frown"], [0, 3], SITES, steps=[0, 2], reduce=None, sampling_steps=3,
        tokens={"image": [5, 9, 60]}, columns={"mood": [1.0, -1.0]},
    )  # fmt: skip
    return run_study(portraits, plan, tmp_path_factory.mktemp("study"), progress=False)


def test_columns_of_every_item(study):
    assert study.columns["prompt"] == ["a big smile"] * 2 + ["a frown"] * 2
    assert study.column("mood") == [1.0, 1.0, -1.0, -1.0] and study.column("seed") == [0, 3, 0, 3]
    assert set(study.column("glasses")) <= {"none", "round", "square", "sunglasses"}
    with pytest.raises(
        StudyError, match="no column 'anger'. It has: prompt, prompt_number, seed, mood, smile"
    ):
        study.column("anger")


def test_images_are_what_the_model_makes(study, portraits):
    made, other = (portraits.generate("a frown", seed=seed, steps=3) for seed in (3, 0))
    kept = study.image(3)
    near, far = (np.abs(np.asarray(kept, float) - np.asarray(each, float)).mean() for each in (made, other))
    assert kept.size == made.size and near < 6 < 30 < far  # of 255: noise, as JPEG
    with pytest.raises(StudyError, match="Item 4 is not there: this study has 4"):
        study.image(4)


def test_kept_tokens_go_by_their_numbers(study):
    part = study.read(SITES.replace("*", "1"), step=2)
    assert part.tensor.shape == (4, 3, 64) and list(part.labels["token"]) == [5, 9, 60]
    assert torch.equal(study.get("joint.1.image.out", step=2, tokens=9), part.tensor[:, 1])
    with pytest.raises(SiteError, match="Token 6 is not in this study, which has the tokens 5, 9, 60"):
        study.get("joint.1.image.out", tokens=6)


def test_a_selection_reads_its_part_only(study):
    part = study.select(stream="image", block=1, step=[2], items=study.items[1:3])
    assert (part.sites, part.steps, part.items) == (["joint.1.image.out"], [2], [(0, 3), (1, 0)])
    assert torch.equal(part["joint.1.image.out", 2], study["joint.1.image.out", 2][1:3])
    assert part.column("mood") == [1.0, -1.0] and part.sigmas == study.sigmas[1:]
    with pytest.raises(SiteError, match="Nothing in this study fits"):
        study.select(stream="text")
    with pytest.raises(SiteError, match="Step 0 is not in this study"):
        part.get("joint.1.image.out", step=0)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_parts_of_studies_and_caches_are_the_same(study, size):
    found = [list(each.parts(size)) for each in (study, study.cache())]
    for parts in found:
        assert [row for p in parts if (p.site, p.step) == ("joint.0.image.out", 0) for row in p.rows] == [
            0,
            1,
            2,
            3,
        ]
        for site in study.sites:
            for step in study.steps:
                values = torch.cat([p.values for p in parts if (p.site, p.step) == (site, step)])
                assert torch.equal(values, study[site, step])


def test_masks_come_with_the_text(portraits, tmp_path):
    plan = plan_study(
        portraits, ["a frown", "a big smile, red hair"], [0], "joint.0.text.out", sampling_steps=1
    )
    made = run_study(portraits, plan, tmp_path, progress=False)
    (part,) = made.parts()
    assert torch.equal(part.mask, made.cache().mask()) and part.mask.sum(1).tolist() == [4, 8]


def test_tables_of_other_libraries(study, tmp_path):
    frame = study.to_pandas()
    assert list(frame.index) == study.items and list(frame["mood"]) == [1.0, 1.0, -1.0, -1.0]
    pytest.importorskip("xarray")
    array = study.to_xarray("joint.1.image.out", tokens=[9, 60])
    assert array.dims == ("step", "item", "token", "width") and array.shape == (2, 4, 2, 64)
    at = array.sel(step=2, token=9)
    assert np.array_equal(at.values, study.to_numpy("joint.1.image.out", step=2, tokens=9))
    assert list(array["mood"].values) == [1.0, 1.0, -1.0, -1.0]
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(study.to_parquet(tmp_path / "study.parquet")).to_pylist()
    assert len(table) == 2 * 2 * 4 * 3  # sites, steps, items, tokens
    row = next(r for r in table if (r["site"], r["step"], r["token"], r["prompt_number"], r["seed"])
               == ("joint.1.image.out", 2, 60, 1, 3))  # fmt: skip
    assert np.allclose(row["values"], study.get("joint.1.image.out", step=2, tokens=60)[3])
    assert row["mood"] == -1.0 and row["pass"] == "cond"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"mood": [1.0]}, "'mood' has 1 values for 2 prompts"),
        ({"seed": [1, 2]}, "has 'seed', which every study has already"),
        ({"smile": [1, 2]}, "has 'smile', but .* the oracle reads .* e.g. 'my smile'; or keep no images"),
        ({"mood": [1.0, {}]}, "'mood' holds {}; give numbers or texts"),
    ],
)
def test_columns_that_do_not_fit(portraits, columns, message):
    with pytest.raises(SettingError, match=message):
        plan_study(portraits, ["a", "b"], [0], SITES, columns=columns)


def test_a_given_column_is_never_hidden(portraits, tmp_path):
    plan = plan_study(portraits, ["a"], [0], "joint.0.image.out", sampling_steps=1)
    older = replace(plan, columns={"smile": ["mine"]})  # was not refused by earlier versions
    assert run_study(portraits, older, tmp_path / "given", progress=False).column("smile") == ["mine"]
    blind = plan_study(portraits, ["a"], [0], SITES, columns={"smile": ["mine"]}, images=False)
    assert blind.columns == {"smile": ["mine"]}


def test_other_columns_are_another_study(portraits, tmp_path):
    for mood, message in (([0], ""), ([1], "holds another study: columns differ")):
        plan = plan_study(portraits, ["a"], [0], SITES, columns={"mood": mood})
        if message:
            with pytest.raises(StudyError, match=message):
                plan.begin(tmp_path)
        else:
            plan.begin(tmp_path)


def test_prompts_with_columns_from_a_file(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text('prompt,mood,carrier\n"a smile, red hair",1,face\na frown,-1,portrait\n')
    assert read_prompts(path) == (["a smile, red hair", "a frown"],
                                  {"mood": [1.0, -1.0], "carrier": ["face", "portrait"]})  # fmt: skip
    path.write_text("prompt,mood,carrier,note\na smile,,face,\na frown,-1, ,\n")
    assert read_prompts(path)[1] == {"mood": [None, -1.0], "carrier": ["face", None], "note": [None, None]}
    path.write_text("text\na smile\n")
    with pytest.raises(StudyError, match="has the columns text; one must be named prompt"):
        read_prompts(path)


def test_without_images(portraits, tmp_path):
    plan = plan_study(portraits, ["a"], [0], SITES, images=False, sampling_steps=1)
    made = run_study(portraits, plan, tmp_path, progress=False)
    assert "no images, no measured attributes" in repr(made)
    with pytest.raises(StudyError, match="was captured without images. Plan it again with images=True"):
        made.image(0)


def test_caches_are_saved_and_loaded(portraits, tmp_path):
    with capture(portraits, "joint.*.*.out", tokens={"text": [0, 1, 2]}) as cache:
        portraits.sample(["a frown", "a smile"], [0, 1], steps=2)
    again = LatentCache.load(cache.save(tmp_path / "cache.safetensors"))
    assert repr(again) == repr(cache) and again.items == cache.items and again.grids == cache.grids
    assert all(torch.equal(again.tensors[key], cache.tensors[key]) for key in cache.tensors)
    assert torch.equal(again.mask(), cache.mask())
    assert again.to_grid("joint.1.image.out", step=0).shape == (2, 8, 8, 64)


def test_a_loaded_cache_knows_the_words_of_its_prompts(portraits, tmp_path):
    with capture(portraits, "joint.0.text.out", steps=0) as cache:
        portraits.sample(["a big frown, a big hat", "a smile"], [0, 1], steps=1)
    again = LatentCache.load(cache.save(tmp_path / "cache.safetensors"))
    for word in ("frown", "big", "Big Hat"):
        assert again.words(word) == cache.words(word) != {}
    assert again.words("big")["tokenizer"] == [2, 6]
    twice = LatentCache.load(again.save(tmp_path / "twice.safetensors"))
    assert twice.words("smile", 1) == cache.words("smile", 1)
    with pytest.raises(CaptureError, match="The word 'hat' is not in the prompt 'a smile'"):
        again.words("hat", 1)
    with pytest.raises(CaptureError, match=r"nor the words of this prompt. Ask the model: dl.words"):
        again.words("hat", prompt="a hat")


def test_a_grid_of_some_tokens(portraits, tmp_path):
    plan = plan_study(portraits, "a smile", 0, SITES, tokens={"image": [3, 4, 5, 9]}, sampling_steps=1)
    made = run_study(portraits, plan, tmp_path, progress=False)
    with pytest.raises(
        CaptureError, match="A grid needs all image tokens, and only 4 were kept here: 3-5, 9. "
    ):
        made.cache().to_grid(next(site for site in made.sites if ".image." in site), step=0)


def test_files_that_are_no_caches(tmp_path):
    (tmp_path / "broken").write_bytes(b"nothing")
    for name in ("broken", "none"):
        with pytest.raises(CaptureError, match=f"{name} holds no cache that can be read"):
            LatentCache.load(tmp_path / name)
    broken = LatentCache({CacheKey("joint.0.image.out", 0, "cond"): torch.ones(1, 1, 1)}, [CachedItem(0, 0)],
                         flaw="Ctrl-C came")  # fmt: skip
    with pytest.raises(CaptureError, match="incomplete"):
        broken.save(tmp_path / "cache.safetensors")


def test_a_study_of_an_earlier_version_is_read(study, tmp_path):
    """Without images, columns and levels in its files."""
    opened = Study(study.folder)
    opened.manifest.settings.pop("sigmas")
    assert opened.sigmas is None


def test_prompts_with_a_seed_each(portraits, tmp_path):
    plan = plan_study(portraits, ["a man", "a woman"], [5, 3], SITES, paired=True, sampling_steps=1)
    assert plan.items == [(0, 5), (1, 3)]
    assert run_study(portraits, plan, tmp_path, progress=False).items == [(0, 5), (1, 3)]
    with pytest.raises(SettingError, match="paired=True: there are 1 seeds for 2 prompts; give one each"):
        plan_study(portraits, ["a man", "a woman"], [0], SITES, paired=True)


def test_what_nobody_can_see_is_not_measured(portraits, monkeypatch):
    def sunglasses(images):
        return [{"glasses": "sunglasses", "gaze": 0.4, "smile": 0.1}]

    monkeypatch.setattr(portraits.world, "measure", sunglasses)
    read = image_of(portraits, portraits.noise([0]))[1]
    assert read == {"glasses": "sunglasses", "gaze": None, "smile": 0.1, "eye_open": None}


def test_files_are_not_overwritten_unasked(study, tmp_path):
    pytest.importorskip("pyarrow")
    cache = study.cache(study.items[:1])
    for write, suffix in ((study.to_parquet, "parquet"), (cache.save, "safetensors")):
        path = tmp_path / f"kept.{suffix}"
        path.write_text("precious")
        with pytest.raises(SettingError, match=f"kept.{suffix} is there already. .* overwrite=True"):
            write(path)
        assert path.read_text() == "precious"
        assert write(path, overwrite=True) == path and path.stat().st_size > 1000
        with pytest.raises(SettingError, match=f"must end in .{suffix}, e.g. 'kept.csv.{suffix}'"):
            write(tmp_path / "kept.csv")


def test_missing_values_fit_in_a_file(study, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(export, "SIZE", 2)  # the first two items have no mood
    other = Study(study.folder)
    other.columns = {**study.columns, "mood": [None, None, 1.0, 2.0]}
    read = parquet.read_table(other.to_parquet(tmp_path / "a.parquet")).to_pydict()
    assert {*read["mood"]} == {None, 1.0, 2.0}


def test_a_cache_from_a_file_says_whom_to_ask(study, tmp_path):
    loaded = LatentCache.load(study.cache(study.items[:1]).save(tmp_path / "a.safetensors"))
    for cache in (loaded, study.cache()):
        with pytest.raises(CaptureError, match=r"does not keep .* dl.words\(model, 'a big smile', 'smile'\)"):
            cache.words("smile")


def test_the_shipped_studies_are_suggested(tmp_path):
    with pytest.raises(StudyError, match="no study 'portrait': shipped are portraits, portraits-patches "):
        open_study("portrait")
    with pytest.raises(StudyError, match="has no manifest.json"):
        open_study(tmp_path)
