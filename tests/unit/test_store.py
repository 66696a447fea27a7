"""Studies on disk: what is written comes back, and damage is never silent."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import socket
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ditlens.errors import SettingError, SiteError, StudyError
from ditlens.files import remove_leftovers, write_whole
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.lens.study.manifest import Manifest
from ditlens.lens.study.run import record_failure
from ditlens.lens.study.shards import Shard, write_item
from ditlens.lens.study.store import Study

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
        {CacheKey(SITE, step, "cond"): both[step][None] for step in range(2)}, [CachedItem(0, 0, "x")], {0: (1, 3)},
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
    parts = list(found.batches(SITE, 3, step=0))
    assert torch.equal(torch.cat([part.tensor for part in parts]).float(), whole[0].float())
    assert [item for part in parts for item in part.labels["item"]] == found.items
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


@pytest.fixture
def pair(tmp_path):
    """A study of two items."""
    plan = manifest(seeds=(0,))
    plan.begin(tmp_path)
    for item in plan.items:
        put(tmp_path, plan, *item)
    return Study(tmp_path)


def with_header(path, change):
    """Write the header of a shard anew, as `change` returns it."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    text = change(json.loads(data[8:start]))
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[start:])


def about(**changes):
    return lambda header: header | {"__metadata__": header["__metadata__"] | changes}


def entry(**changes):
    return lambda header: header | {f"{SITE}|cond": header[f"{SITE}|cond"] | changes}


@pytest.mark.parametrize(
    "change",
    [
        about(steps="[0, 7]"),
        about(grid="[3, 1]"),
        about(reduced="mean"),
        about(note="x"),
        entry(shape=[2, 4, 3]),
    ],
)
def test_a_changed_header_is_found(pair, change):
    with_header(pair.path((1, 0)), lambda header: header)
    assert pair.verify() == [], "spaces do not matter"
    with_header(pair.path((1, 0)), change)
    assert pair.verify() == ["00001-0.safetensors"]


def test_a_shard_under_the_name_of_another_item_is_found(pair):
    pair.path((1, 0)).write_bytes(pair.path((0, 0)).read_bytes())
    assert pair.verify() == ["00001-0.safetensors"]
    with pytest.raises(StudyError, match="it is the shard of item 00000-0"):
        pair[SITE]


def test_shards_of_the_earlier_version_stay_readable(pair):
    """They do not name their item, and their checksum leaves the header out."""
    digest = hashlib.sha256(f"{SITE}|cond".encode() + values(1, 0).numpy().tobytes() + b"mask|cond\1\0")

    def earlier(header):
        kept = {name: text for name, text in header["__metadata__"].items() if name != "item"}
        return header | {"__metadata__": kept | {"sha256": digest.hexdigest()}}

    with_header(pair.path((1, 0)), earlier)
    assert pair.verify() == [] and torch.equal(pair[SITE][:, 1], values(1, 0))


@pytest.mark.parametrize(
    "change",
    [
        lambda header: [],
        lambda header: None,
        lambda header: b"[" * 100_000,
        lambda header: {name: header[name] for name in header if name != "__metadata__"},
        lambda header: header | {"__metadata__": []},
        lambda header: header | {f"{SITE}|cond": 5},
        lambda header: header | {"nonsense|cond": header[f"{SITE}|cond"] | {"data_offsets": [98, 98]}},
        about(steps="zero"), about(steps="3"), about(steps="[Infinity]"), about(steps="[0, 1, 2]"), about(grid="{"),
        entry(dtype="F33"), entry(dtype=[]), entry(shape=None), entry(shape=[2, 3]), entry(shape=[2.0, 3, 4]),
        entry(data_offsets=[0]), entry(data_offsets=[-96, 0]), entry(data_offsets="ab"),
    ],
)  # fmt: skip
def test_a_damaged_header_is_an_error_of_the_study_and_verify_lists_it(pair, change):
    with_header(pair.path((0, 0)), change)
    for reading in (lambda: pair[SITE], pair.cache, lambda: repr(pair)):
        with pytest.raises(
            StudyError, match="00000-0.safetensors cannot be read .* Delete it and run the capture"
        ):
            reading()
    assert pair.verify() == ["00000-0.safetensors"]


def test_items_that_differ_are_read_one_by_one(pair):
    """A changed step must not pass for another."""
    with_header(pair.path((1, 0)), entry(shape=[2, 4, 3]))
    with pytest.raises(StudyError, match="00001-0.safetensors differs from the items before it"):
        pair[SITE]
    assert pair.cache([(1, 0)])[SITE, 0].shape == (1, 4, 3)
    with_header(pair.path((1, 0)), about(steps="[0, 7]"))
    for reading in (lambda: pair[SITE, 1], pair.cache):
        with pytest.raises(StudyError, match="in its steps"):
            reading()


@pytest.mark.parametrize("text", ["{}", "", "[", "[]", '{"attempts": "two", "error": null}'])
def test_a_damaged_record_of_a_failure_is_an_unknown_error(pair, text):
    pair.path((1, 0)).unlink()
    path = pair.folder / "failures" / "00001-0.json"
    path.parent.mkdir()
    path.write_text(text)
    study = Study(pair.folder)
    assert study.failures == {"00001-0": {"attempts": 0, "error": "unknown error", "trace": ""}}
    assert "00001-0 failed: unknown error" in repr(study)
    record_failure(pair.folder, (1, 0), ValueError("no"))
    assert (study.failures["00001-0"]["attempts"], study.failures["00001-0"]["error"]) == (
        1,
        "ValueError: no",
    )


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


def test_an_edited_manifest_is_refused(tmp_path):
    manifest().begin(tmp_path)
    path = tmp_path / "manifest.json"
    data = json.loads(path.read_text())
    data["seeds"] = [0]
    path.write_text(json.dumps(data))
    with pytest.raises(StudyError, match="was edited: its key"):
        Study(tmp_path)
    for text, said in (
        ("{", "damaged"),
        ("{}", "manifest.json is damaged: it has no 'format'. Capture it again"),
    ):
        path.write_text(text)
        with pytest.raises(StudyError, match=said):
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

    monkeypatch.setattr("ditlens.files.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


# --- memory and other readers -------------------------------------------------------------------------------


def test_other_programs_read_the_shards(study):
    found, dtype = study
    tensors = load_file(found.path((1, 5)))
    assert torch.equal(tensors[f"{SITE}|cond"].float(), values(1, 5, dtype).float())
    assert tensors["mask|cond"].tolist() == [1, 0]


def test_writing_makes_no_second_copy(tmp_path, monkeypatch):
    """8 steps of 4 MB each: neither one tensor of all steps nor the bytes of the file are ever in memory."""
    steps = {CacheKey(SITE, step, "cond"): torch.full((1, 1000, 1000), float(step)) for step in range(8)}
    cache = LatentCache(steps, [CachedItem(0, 0, "x")], {0: (1, 3)})
    monkeypatch.setattr(torch, "stack", lambda *_: pytest.fail("put the steps together"))
    tracemalloc.start()  # sees the bytes of Python and numpy
    path = write_item(tmp_path, 0, 0, cache, "key")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    assert Shard(path).is_whole() and Shard(path).read(f"{SITE}|cond")[:, 0, 0].tolist() == list(range(8))


def test_steps_of_different_shapes_are_an_error(tmp_path):
    steps = {CacheKey(SITE, 0, "cond"): torch.ones(1, 3, 4), CacheKey(SITE, 1, "cond"): torch.ones(1, 2, 4)}
    with pytest.raises(StudyError, match="differ in shape"):
        write_item(tmp_path, 0, 0, LatentCache(steps, [CachedItem(0, 0, "x")]), "key")


# --- several writers ----------------------------------------------------------------------------------------


def test_writers_with_the_same_process_number_do_not_collide(tmp_path, monkeypatch):
    """Containers that share a folder often have equal process numbers, even equal host names."""
    names = []
    replace = os.replace

    def note(partial, path):
        names.append(Path(partial).name)
        replace(partial, path)

    monkeypatch.setattr("ditlens.files.os.replace", note)
    for _ in range(2):
        write_whole(tmp_path / "manifest.json", b"{}")
    assert names[0] != names[1]
    assert all(f".{socket.gethostname()}.{os.getpid()}." in name for name in names)


def test_files_of_killed_writers_are_removed_and_those_of_others_are_not(tmp_path):
    (tmp_path / "items").mkdir()
    here = socket.gethostname()
    dead, alive = f".a.{here}.99999999.0011.tmp", f".a.{here}.{os.getpid()}.0011.tmp"
    names = (dead, alive, ".a.elsewhere.5.0011.tmp", ".old.elsewhere.5.0011.tmp")
    for name in names:
        (tmp_path / "items" / name).touch()
    os.utime(tmp_path / "items" / names[3], (time.time() - 1e4,) * 2)
    (tmp_path / ".manifest.json.tmp").touch()
    os.utime(tmp_path / ".manifest.json.tmp", (time.time() - 1e4,) * 2)  # as they were named before
    remove_leftovers(tmp_path)
    assert {p.name for p in (tmp_path / "items").iterdir()} == set(names[1:3])
    assert not (tmp_path / ".manifest.json.tmp").exists()


# --- reading slices -----------------------------------------------------------------------------------------


class Counting(io.FileIO):
    """A file that gives at most ten bytes at a time, as systems give at most 2 GiB; counts them."""

    taken = 0

    def readinto(self, buffer):
        got = super().readinto(memoryview(buffer)[:10])
        Counting.taken += got
        return got


@pytest.fixture
def counting(monkeypatch):
    Counting.taken = 0
    real = Path.open

    def opened(path, mode="r", buffering=-1, **more):
        return Counting(path) if buffering == 0 else real(path, mode, buffering, **more)

    monkeypatch.setattr(Path, "open", opened)
    return Counting


def test_a_tensor_that_takes_several_reads(study, counting):
    found, dtype = study
    assert torch.equal(found[SITE][:, 3].float(), values(1, 5, dtype).float())
    assert counting.taken == 4 * 24 * dtype.itemsize


def test_a_slice_reads_its_bytes_only(study, counting):
    found, dtype = study
    part = found.get(SITE, step=1, tokens=[0, 2], items=[(1, 5)])
    assert torch.equal(part[0].float(), values(1, 5, dtype)[1, [0, 2]].float())
    assert counting.taken == 2 * 4 * dtype.itemsize


def test_any_slice(study):
    found, _ = study
    whole = found[SITE].float()
    all_steps = (None, 1, [1], [1, 0], slice(0, 1), slice(None, None, 2))
    for step, tokens in itertools.product(all_steps, (None, 2, [2, 0], slice(1, None), -1)):
        expected = whole[slice(None) if step is None else step]
        expected = expected[..., slice(None) if tokens is None else tokens, :]
        read = found.read(SITE, step=step, tokens=tokens)
        assert torch.equal(read.tensor.float(), expected), (step, tokens)
        assert [len(labels) for labels in read.labels.values()] == list(read.tensor.shape), (step, tokens)


def test_labels_say_what_is_where(study):
    found, _ = study
    read = found.read(SITE, step=[1, 0], tokens=[-1, 0], items=[(1, 5), (0, 0)])
    assert list(read.labels) == ["step", "item", "token", "width"]
    assert [list(labels) for labels in read.labels.values()] == [
        [1, 0],
        [(1, 5), (0, 0)],
        [2, 0],
        [0, 1, 2, 3],
    ]
    assert "2 step x 2 item x 2 token x 4 width" in repr(read)
    assert list(found.read(SITE, step=1, tokens=2).labels) == ["item", "width"]


def test_steps_are_called_by_their_numbers(tmp_path):
    """A study of the steps 3 and 7 has no step 0, and a slice is of numbers, not of places."""
    plan = manifest(prompts=("a",), seeds=(0,))
    plan.begin(tmp_path)
    tensors = {CacheKey(SITE, step, "cond"): torch.full((1, 4), float(step)) for step in (3, 7)}
    write_item(tmp_path, 0, 0, LatentCache(tensors, [CachedItem(0, 0, "a")], reduced="mean"), plan.key)
    found = Study(tmp_path)
    assert found[SITE, 4:8].tolist() == [[[7.0] * 4]]
    read = found.read(SITE, step=[7])
    assert list(read.labels) == ["step", "item", "width"] and read.labels["step"] == [7]
    with pytest.raises(SiteError, match="Step 0"):
        found[SITE, [3, 0]]
    with pytest.raises(SiteError, match="not in this study"):
        found[SITE, 8:]
    with pytest.raises(SiteError, match="has no tokens in this study: it was reduced"):
        found.get(SITE, tokens=[0])


def test_tokens_and_items_that_are_not_there(study):
    found, _ = study
    with pytest.raises(SiteError, match="has 3 tokens, 0 to 2"):
        found.get(SITE, tokens=[3])
    with pytest.raises(SiteError, match="has 3 tokens"):
        found.get(SITE, tokens=slice(5, 9))
    with pytest.raises(SettingError, match=r"items is \[\]; give pairs \(number of the prompt, seed\)"):
        found.get(SITE, items=[])
    with pytest.raises(StudyError, match=r"Item \(99, 0\) is not in .*study\.items"):
        found.cache([(99, 0)])


def test_an_attention_map_has_keys(tmp_path):
    plan = manifest(prompts=("a",), seeds=(0,))
    plan.begin(tmp_path)
    site = "joint.0.image.attn.to_text"
    write_item(
        tmp_path,
        0,
        0,
        LatentCache({CacheKey(site, 0, "cond"): torch.rand(1, 3, 5)}, [CachedItem(0, 0, "a")]),
        plan.key,
    )
    assert list(Study(tmp_path).read(site).labels) == ["step", "item", "token", "key"]
