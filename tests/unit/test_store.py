"""Studies on disk: what is written comes back, and damage is never silent."""

from __future__ import annotations

import json

import pytest
import torch

from ditlens.cache import Item, Key, LatentCache
from ditlens.errors import SiteError, StudyError
from ditlens.store import Manifest, Study, write_item, write_whole

SITE = "joint.0.image.out"
SETTINGS = {"sites": [SITE], "steps": None, "passes": ["cond"], "reduce": None, "dtype": None,
            "sampling_steps": 2, "guidance": 1.0}  # fmt: skip


def manifest(prompts=("a", "b"), seeds=(0, 5), **changes):
    return Manifest("tiny", "f00", tuple(prompts), tuple(seeds), SETTINGS | changes)


def values(prompt, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(100 * prompt + seed)
    return torch.randn(2, 3, 4, generator=generator).to(dtype)


def put(folder, study, prompt, seed, dtype=torch.float32):
    both = values(prompt, seed, dtype)
    cache = LatentCache(
        {Key(SITE, step, "cond"): both[step][None] for step in range(2)}, [Item(0, 0, "x")], {0: (1, 3)},
        {"cond": torch.tensor([[True, False]])},
    )  # fmt: skip
    return write_item(folder, prompt, seed, cache, study.key)


@pytest.fixture(params=[torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def study(tmp_path, request):
    plan = manifest()
    plan.begin(tmp_path)
    for item in plan.items:
        put(tmp_path, plan, *item, request.param)
    return Study(tmp_path), request.param


def test_what_is_written_comes_back(study):
    found, dtype = study
    assert found.items == [(0, 0), (0, 5), (1, 0), (1, 5)]
    whole = found[SITE]
    assert whole.dtype == dtype and whole.shape == (2, 4, 3, 4)
    assert torch.equal(whole[:, 3].float(), values(1, 5, dtype).float())
    assert torch.equal(found[SITE, 1].float(), whole[1].float())
    assert torch.equal(torch.cat(list(found.batches(SITE, 3, step=0))).float(), whole[0].float())
    assert found.verify() == [] and found.missing == []


def test_a_part_as_a_cache(study):
    found, _ = study
    cache = found.cache([(1, 0)])
    assert cache.items[0].prompt == "b"
    assert cache.to_grid(SITE, step=1).shape == (1, 1, 3, 4)
    assert cache.mask().tolist() == [[True, False]]


def test_other_people_can_read_the_files(study):
    found, _ = study
    assert found.path((0, 0)).stat().st_mode & 0o444 == 0o444


def test_one_flipped_bit_is_found(study):
    found, _ = study
    path = found.path((0, 5))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert found.verify() == ["00000-5.safetensors"]


def test_a_file_cut_off_is_an_error_not_zeros(study):
    found, _ = study
    path = found.path((1, 5))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StudyError, match="cut off|cannot be read"):
        found[SITE]
    assert found.verify() == ["00001-5.safetensors"]
    path.write_bytes(b"rubbish")
    with pytest.raises(StudyError, match="Delete it and run the capture again"):
        found[SITE]


def test_asking_for_what_is_not_there(study):
    found, _ = study
    with pytest.raises(SiteError, match="not in this study"):
        found["joint.1.image.out"]
    with pytest.raises(SiteError, match="Step 7"):
        found[SITE, 7]


def test_a_folder_keeps_to_its_study(tmp_path):
    manifest().begin(tmp_path)
    manifest().begin(tmp_path)  # the same again is fine
    with pytest.raises(StudyError, match="prompts differ"):
        manifest(prompts=("a", "c")).begin(tmp_path)
    with pytest.raises(StudyError, match="guidance differ"):
        manifest(guidance=4.0).begin(tmp_path)


def test_a_manifest_changed_by_hand_is_refused(tmp_path):
    manifest().begin(tmp_path)
    path = tmp_path / "manifest.json"
    data = json.loads(path.read_text())
    data["seeds"] = [0]
    path.write_text(json.dumps(data))
    with pytest.raises(StudyError, match="changed by hand"):
        Study(tmp_path)
    path.write_text("{")
    with pytest.raises(StudyError, match="damaged"):
        Study(tmp_path)


def test_no_study(tmp_path):
    with pytest.raises(StudyError, match="no manifest.json"):
        Study(tmp_path)
    manifest().begin(tmp_path)
    with pytest.raises(StudyError, match="no finished items"):
        Study(tmp_path)[SITE]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_whole(path, b"old")

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ditlens.store.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
