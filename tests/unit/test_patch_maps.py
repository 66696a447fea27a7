"""Maps of an attribute by three methods: each where it was planted, and how far they agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import ditlens as dl
from benchmarks import patch_maps as benchmark
from ditlens.analysis import patch_maps
from ditlens.analysis.measures import Pair
from ditlens.errors import SettingError
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.shards import write_item
from ditlens.tables import progress_to

CLEAN, CORRUPT = "a woman with red hair and a red shirt", "a woman with red hair and a blue shirt"


def maps_of(first, second, third, **extra) -> dl.PatchMaps:
    """Maps of three attributes from arrays (attributes, 64)."""
    maps = np.stack([first, second, third]).reshape(3, 3, 8, 8)
    return dl.PatchMaps(("smile", "eye_open", "hat"), ("R²",) * 3, maps, "planted", **extra)


@pytest.fixture
def blocks():
    """Each attribute in six patches of its own, over a little noise."""
    maps = np.random.default_rng(0).normal(scale=0.01, size=(3, 64))
    for k in range(3):
        maps[k, 10 * k : 10 * k + 6] += [1, 0.5, 0.4, 0.3, 0.2, 0.1]
    return maps


def test_equal_maps_agree_and_those_of_other_attributes_do_not(blocks):
    found = maps_of(blocks, blocks, 2 * blocks)
    assert found.top == 6 and found.overlap.tolist() == [[1.0] * 3] * 3
    assert found.best("hat") == {"readable": 20, "looked at": 20, "used": 20}
    assert list(found.agreement) == ["readable, looked at", "readable, used", "looked at, used", "all"]
    for each in found.agreement.values():
        assert [each[key]["value"] for key in ("overlap", "rank correlation", "others")] == [1.0, 1.0, 0.0]
        assert 0.07 < each["shuffled"]["value"] < 0.12 and each["shuffled"]["high"] < 0.3
    assert "smile      1.00 at 0" in repr(found) and "1.00 (1.00 to 1.00)" in repr(found)


def test_half_of_the_patches_in_common_is_half(blocks):
    moved = np.roll(blocks, 3, axis=1)
    found = maps_of(blocks, moved, blocks)
    pairs = found.agreement
    assert [pairs[name]["overlap"]["value"] for name in pairs] == pytest.approx([0.5, 1, 0.5, 2 / 3])
    assert found.overlap[:, 1] == pytest.approx([0.5, 1, 0.5])


def test_one_attribute_has_no_others(blocks):
    found = dl.PatchMaps(("smile",), ("R²",), np.stack([blocks[:1]] * 3).reshape(3, 1, 8, 8), "planted")
    assert found.agreement["all"]["others"]["n"] == 0 and found.agreement["all"]["overlap"]["value"] == 1


def test_the_figure_has_a_row_for_each_attribute_and_its_highest_numbers(blocks):
    colors = ("red", "green", "blue")
    pictures = tuple(tuple(Image.new("RGB", (8, 8), color) for color in colors) for _ in range(3))
    figure = maps_of(blocks, blocks / 25, blocks / 40, pictures=pictures).plot()
    panels = np.array(figure.axes[:18]).reshape(3, 6)
    assert [ax.get_title().split("\n")[0] for ax in panels[0]][2:] == [
        "clean",
        "readable",
        "looked at",
        "used",
    ]
    assert [ax.texts[0].get_text() for ax in panels[:, 0]] == ["smile", "eye\nopen", "hat"]
    assert panels[2, 1].images[0].get_array()[0, 0].tolist() == [0, 128, 0]
    assert np.allclose(panels[2, 5].images[-1].get_array(), blocks[2].reshape(8, 8) / 40)
    tops = [ax.images[-1].norm.vmax for ax in panels[2, 3:]]
    assert tops == pytest.approx([blocks[2].max(), blocks[2].max() / 25, 0.1])  # less than 0.1 PE stays pale
    assert panels[2, 3].texts[0].get_text() == f"{blocks[2].max():.2f}"
    assert panels[2, 5].texts[0].get_text() == f"{blocks[2].max() / 40:.3f}"


def study_of(folder, smiles, kept=range(64)):
    """A study of patches, of which patch 11 alone shows the smile."""
    count = len(smiles)
    prompts = tuple(f"prompt {k}" for k in range(count))
    manifest = Manifest(
        "planted", "0", prompts, tuple(range(count)), {"paired": True, "tokens": {"image": [*kept]}}
    )
    manifest.begin(folder)
    states = torch.randn(count, 64, 4, generator=torch.Generator().manual_seed(0))
    states[:, 11, 2] = torch.tensor(smiles)
    for k, item in enumerate(manifest.items):
        cache = LatentCache(
            tensors={CacheKey("joint.0.image.out", 1, "cond"): states[k : k + 1, [*kept]]},
            items=[CachedItem(0, 0)], grids={0: (8, 8)},
        )  # fmt: skip
        write_item(folder, *item, cache, manifest.key, measured={"smile": smiles[k]})
    return dl.open_study(folder)


def test_all_three_are_measured_in_the_same_patches(portraits, tmp_path, monkeypatch):
    def patch(model, measure, **how):
        """An untrained model draws no smile: the red of the lower right corner is patched in its place."""
        calls.append((measure, how["blocks"], how["tokens"]))
        return dl.patch(model, CLEAN, CORRUPT, measure=corner, **how)

    def corner(images):
        return images[:, 0, -16:, -16:].mean((1, 2))

    calls, smiles = [], np.random.default_rng(0).normal(size=60).tolist()
    monkeypatch.setattr(patch_maps, "patch", patch)
    study = study_of(tmp_path, smiles)
    told = []
    with progress_to(lambda done, total, words="": told.append((done, total))):
        found = dl.locate(portraits, study, "smile", seeds=[3], sampling_steps=2)
    assert told[-1] == (64, 64) and 0 < told[0][0] < 64 and told == sorted(told)
    assert calls == [("smile", [1], "each")] and found.maps.shape == (3, 1, 8, 8)
    assert found.best("smile")["readable"] == 11 and found.maps[0, 0, 1, 3] > 0.95
    assert found.best("smile")["used"] == 63
    assert found.about.endswith("the study is of another model (planted), and says nothing sure of this one")
    with dl.capture(portraits, "joint.0.image.attn.to_text", steps=0) as cache:
        portraits.sample([CLEAN], [3], steps=2, guidance=1.0)
    words = sorted({row for rows in dl.words(portraits, CLEAN, "red shirt").values() for row in rows[-2:-1]})
    assert Pair(CLEAN, CORRUPT, 3).clean_rows(portraits) == words
    share = cache["joint.0.image.attn.to_text", 0][0][:, words].sum(-1).reshape(8, 8)
    assert found.maps[1, 0] == pytest.approx(share.numpy(), abs=1e-6)


def test_the_words_of_the_clean_prompt_are_found_in_unaligned_pairs_too(portraits):
    pair = Pair("red hair and a very big smile", "red hair and a frown", 0)
    with pytest.raises(SettingError, match="same number of tokens"):
        pair.changed_rows(portraits)
    expected = sorted(
        {row for rows in dl.words(portraits, pair.clean, "very big smile").values() for row in rows}
    )
    assert pair.clean_rows(portraits) == expected


def test_missing_patches_are_said_before_anything_is_patched(portraits, tmp_path, monkeypatch):
    study = study_of(tmp_path, np.random.default_rng(0).normal(size=60).tolist(), kept=range(9, 64))
    monkeypatch.setattr(patch_maps, "patch", lambda *args, **how: pytest.fail("patched"))
    with pytest.raises(
        SettingError, match="patch 0 is missing at joint.0.image.out. Use a study of all patches"
    ):
        dl.locate(portraits, study, "smile")


def test_a_study_without_all_patches_is_refused(portraits):
    some = dl.probe(dl.open_study("portraits"), "smile", sites="joint.5.image.out", steps=7)
    with pytest.raises(SettingError, match=r"patch 0 is missing at joint.5.image.out"):
        patch_maps.readable(some, "joint.5.image.out", (8, 8))
    for site, shown in (("joint.0.image.out", "joint.0.image.out"), (None, "joint.4.image.out")):
        with pytest.raises(
            SettingError, match=f"of a model of 2 blocks, here {shown}: this study has joint.4"
        ):
            dl.locate(portraits, dl.open_study("portraits-patches"), "smile", site=site)


def test_the_benchmark_counts_attributes_of_which_every_map_shows_something(blocks):
    weak = blocks.copy()
    weak[1] *= 0.05
    stories = {
        name: {"readable_after_block": 1, "text_needed_until_block": 2}
        for name in ("smile", "eye_open", "hat")
    }
    found = benchmark.result(maps_of(blocks, 0.1 + blocks, weak), stories)
    assert (found["value"], found["n"]) == (2, 3)
    assert found["parts"]["hat"] | {"overlap": 1.0} == found["parts"]["hat"]
    assert found["parts"]["hat"]["used_patch"] == 20 and found["parts"]["hat"]["text_needed_until_block"] == 2
    assert found["parts"]["agreement"]["all, others, value"] == 0
