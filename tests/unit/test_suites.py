"""Suites: exact, the same whatever the count, and honest about data that others bring."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ditlens.bench.suites import open_suite, pie_bench, pie_mask, records
from ditlens.errors import SettingError, SuiteError
from ditlens.worlds.portraits import world
from ditlens.worlds.portraits.attributes import ATTRIBUTES, NAMES, neutral
from ditlens.worlds.portraits.captions import parse
from ditlens.worlds.portraits.render import render


@pytest.fixture(scope="module")
def suite():
    return open_suite("portraits", 54)


def test_an_item_does_not_depend_on_the_count(suite):
    few = open_suite("portraits", 3)
    for a, b in zip(few.items, suite.items, strict=False):
        assert (a.id, a.instruction, a.source_text, a.target_text) == (
            b.id,
            b.instruction,
            b.source_text,
            b.target_text,
        )
        assert torch.equal(a.image(), b.image()) and torch.equal(a.mask, b.mask)


def test_all_attributes_take_part_a_third_in_pairs(suite):
    kinds = [tuple(item.wanted) for item in suite.items]
    assert sum(len(names) == 2 for names in kinds) == 18
    for name in NAMES:
        alone = sum(names == (name,) for names in kinds)
        assert alone >= 2 and sum(name in names for names in kinds) > alone, name


def test_dev_and_test_share_nothing():
    dev, test = open_suite("portraits-dev", 9), open_suite("portraits", 9)
    assert not {i.source_text for i in dev.items} & {i.source_text for i in test.items}
    assert not any(torch.equal(a.image(), b.image()) for a, b in zip(dev.items, test.items, strict=True))


def test_a_new_split_has_other_wishes(suite, monkeypatch):
    monkeypatch.setitem(world.SPLITS, "test", 1)
    found = open_suite("portraits", len(suite))
    assert [i.kind.count("+") for i in found.items] == [i.kind.count("+") for i in suite.items]
    pairs = [(a, b) for a, b in zip(found.items, suite.items, strict=True) if "+" in a.kind]
    assert sum(a.kind == b.kind for a, b in pairs) < len(pairs) / 2, "another second change"
    assert sum(a.instruction == b.instruction for a, b in zip(found.items, suite.items, strict=True)) < 10


def test_texts_mask_and_changes_say_the_same(suite):
    for item in suite.items:
        before, after = parse(item.source_text), parse(item.target_text)
        changed = {n for n in after if before.get(n) != after[n]}
        assert changed == set(item.wanted) and item.kind == "+".join(sorted(changed))
        for name, wanted in item.wanted.items():
            assert wanted in after[name] and ATTRIBUTES[name].level_of(item.truth[name]) != wanted
        values = {**item.truth, **{n: ATTRIBUTES[n].value_of(k) for n, k in item.wanted.items()}}
        target = render(neutral(1, **values), 128)
        moved = (target - item.image()).abs().amax(1, keepdim=True)
        assert moved[item.mask == 0].max() <= 1 / 255 and moved[item.mask == 1].min() > 1 / 255


def test_portraits_refuses_nonsense():
    with pytest.raises(SettingError, match="dev, test; got 'train'"):
        open_suite("portraits-train", 3)
    with pytest.raises(SettingError, match="at least one"):
        open_suite("portraits", 0)


# --- PIE-Bench ---------------------------------------------------------------------------------------------


@pytest.fixture
def pie(tmp_path):
    (tmp_path / "annotation_images" / "1_change").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (512, 512), "red").save(tmp_path / "annotation_images" / "1_change" / name)
    table = {
        "000": {"image_path": "1_change/a.jpg", "original_prompt": "a [red] wall",
                "editing_prompt": "a [blue] wall", "editing_instruction": "make it blue",
                "editing_type_id": "6", "mask": [513, 3, 1025, 2]},
        "001": {"image_path": "1_change/b.jpg", "original_prompt": "a wall", "editing_prompt": "a wall",
                "editing_type_id": "1", "mask": []},
        "002": {"image_path": "1_change/gone.jpg", "original_prompt": "x", "editing_prompt": "y", "mask": []},
        "003": {"image_path": 7, "original_prompt": "x", "editing_prompt": "y", "mask": []},
    }  # fmt: skip
    (tmp_path / "mapping_file.json").write_text(json.dumps(table))
    return tmp_path


def test_pie_bench_is_read(pie):
    suite = pie_bench(pie)
    first = suite.items[0]
    assert (first.id, first.kind, first.source_text, first.target_text) == (
        "pie000",
        "color",
        "a red wall",
        "a blue wall",
    )
    assert first.image().shape == (1, 3, 512, 512)
    inside = first.mask[0, 0, 1:-1, 1:-1]
    assert inside.sum() == 5 and inside[0, :3].sum() == 3 and inside[1, :2].sum() == 2
    assert first.mask[0, 0, 0].all() and first.mask[0, 0, :, -1].all(), "the border counts as edited"
    assert [item.id for item in suite.items] == ["pie000", "pie001", "pie002", "pie003"]
    for broken in suite.items[2:]:
        with pytest.raises(SuiteError, match=f"{broken.id}: the image .* is missing"):
            broken.image()
    report = "\n".join(suite.remarks)
    assert "002: the image 1_change/gone.jpg is missing" in report
    assert "003: the image 7 is missing" in report
    assert "001: source and target text are the same" in report and "001: the mask is empty" in report
    assert open_suite(str(pie), count=1).items[0].id == "pie000"


def test_pie_masks_are_run_lengths():
    mask = pie_mask([10, 2], side=8)
    assert mask[0, 0, 1, 2] == 1 and mask[0, 0, 2, 2] == 0
    assert torch.equal(pie_mask([58, 99], side=8), pie_mask([58, 6], side=8)), "a run ends with the picture"
    for runs in ([1], [-1, 2], [3.5, 2], 7, "1 2"):
        with pytest.raises(SuiteError, match="pairs"):
            pie_mask(runs, side=8)


def test_a_name_in_a_table_leads_into_no_other_folder(pie):
    table = json.loads((pie / "mapping_file.json").read_text())
    (pie / "mapping_file.json").write_text(json.dumps({"../../x": table["000"]}))
    assert pie_bench(pie).items[0].id == "pie______x"
    (pie / "mapping_file.json").write_text(json.dumps({"7": table["000"] | {"mask": [1]}}))
    with pytest.raises(
        SuiteError, match=r"no edit that can be made. pie7: A mask is a list of pairs .* got \[1\]"
    ):
        pie_bench(pie)


def test_a_wrong_folder_is_told(tmp_path):
    with pytest.raises(SuiteError, match="cannot be read as a PIE-Bench folder"):
        pie_bench(tmp_path)
    (tmp_path / "mapping_file.json").write_text('{"0": {"image_path": "a"}}')
    with pytest.raises(SuiteError, match="lacks editing_prompt, mask, original_prompt"):
        pie_bench(tmp_path)
    (tmp_path / "mapping_file.json").write_text('{"0": 3}')
    with pytest.raises(SuiteError, match="pie0: it lacks"):
        pie_bench(tmp_path)
    (tmp_path / "mapping_file.json").write_text("[")
    with pytest.raises(SuiteError, match="not valid JSON"):
        pie_bench(tmp_path)


# --- lists of edits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["json", "jsonl", "JSONL"])
def test_records(tmp_path, suffix):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    mask = np.zeros((40, 40), np.uint8)
    mask[:10] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    entries = [
        {
            "image": "a.png",
            "source": "a wall",
            "target": "a blue wall",
            "mask": "m.png",
            "attribute": "color",
        },
        {"image": "a.png", "instruction": "make it blue", "id": "wish/1"},
        {"image": "gone.png", "instruction": "make it blue"},
    ]
    path = tmp_path / f"list.{suffix}"
    path.write_text(json.dumps(entries) if suffix == "json" else "\n\n".join(map(json.dumps, entries)))
    suite = open_suite(str(path))
    assert [(i.id, i.kind) for i in suite.items] == [
        ("0000", "color"), ("wish_1", "unknown"), ("0002", "unknown")
    ]  # fmt: skip
    assert suite.items[0].mask.sum() == 400 and suite.items[1].mask is None
    assert "gone.png is missing" in suite.remarks[0] and f"records list.{suffix}: 3 edits" in str(suite)


BAD = {
    "no image": (
        {"image": None, "instruction": "x"},
        "it needs image, and source and target or an instruction",
    ),
    "no wish": ({"image": "a.png", "source": "a"}, "it needs image, and source and target or an instruction"),
    "missing": ({"image": "gone.png", "instruction": "x"}, "the image gone.png is missing"),
    "odd": ({"image": ["a.png"], "instruction": "x"}, r"the image \['a.png'\] is missing"),
    "no picture": ({"image": "text.png", "instruction": "x"}, "text.png is not an image that can be read"),
    "gone mask": ({"image": "a.png", "instruction": "x", "mask": "g.png"}, "There is no file .*g.png"),
    "black mask": ({"image": "a.png", "instruction": "x", "mask": "black.png"}, "black.png is 0 everywhere"),
    "web": ({"image": "https://a.org/a.png", "instruction": "x"}, "is an address"),
}


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_one_bad_record_does_not_stop_a_suite(tmp_path, suffix):
    """It is named in the remarks and in the error that its image raises; the others are as they were."""
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    Image.new("L", (40, 40), 0).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no picture")
    good = {"image": "a.png", "instruction": "make it blue"}
    entries = [good, *({**record, "id": name} for name, (record, _) in BAD.items()), 7, good]
    path = tmp_path / f"list.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(entries))
    else:
        path.write_text("\n".join([*map(json.dumps, entries[:-2]), '{"image": "a.p', json.dumps(good)]))
    suite = records(path)
    names = ["0000", *(name.replace(" ", "_") for name in BAD), "0009", "0010"]
    assert [item.id for item in suite.items] == names
    assert suite.items[0].image().shape == suite.items[-1].image().shape == (1, 3, 40, 40)
    reasons = [*((name, why) for name, (_, why) in BAD.items()), ("0009", "it is not a JSON object")]
    assert len(suite.remarks) == len(reasons)
    for (name, why), item, remark in zip(reasons, suite.items[1:], suite.remarks, strict=False):
        with pytest.raises(SuiteError, match=f"{name}: .*{why}"):
            item.image()
        assert remark.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        (["a", "b", "a"], "has several edits of the name 'a'; every edit needs its own"),
        (["a/b", "a_b"], "has several edits of the name 'a/b' and 'a_b'"),
        (["Cat", "cat"], "has several edits of the name 'Cat' and 'cat'"),
        (["", "b"], "has an edit of the name ''; a name has 1 to 150 characters"),
        (["ä" * 76, "b"], "has an edit of the name 'ä{76}'; a name has 1 to 150"),
        (["0001", None], "has several edits of the name '0001'"),
    ],
)
def test_names_are_checked_before_anything_is_read(tmp_path, ids, why):
    (tmp_path / "list.json").write_text(json.dumps([{"image": "gone.png", "id": name} for name in ids]))
    with pytest.raises(SuiteError, match=why):
        records(tmp_path / "list.json")


def test_images_of_a_list_as_people_give_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lists").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    given = ["../a.png", "~/a.png", f"file://{tmp_path}/a.png", str(tmp_path / "a.png")]
    entries = [{"image": name, "mask": name, "instruction": "make it blue"} for name in given]
    (tmp_path / "lists" / "list.json").write_text(json.dumps(entries))
    for spec in ("~/lists/list.json", f"file://{tmp_path}/lists/list.json", "'~/lists/list.json'"):
        suite = open_suite(spec)
        assert [item.image().shape[-1] for item in suite.items] == [40] * 4
        assert [item.mask.shape[-1] for item in suite.items] == [40] * 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "holds no list"),
        ('[{"image": "a.png"}]', "needs image, and source and target or an instruction"),
        ("[]", "no edit that can be made"),
        ("[1", "not valid JSON"),
        ('[{"image": 3, "instruction": "x"}]', "the image 3 is missing"),
    ],
)
def test_bad_lists(tmp_path, text, words):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(SuiteError, match=words):
        records(tmp_path / "list.json")


def test_names_of_suites():
    assert open_suite("portraits-dev", 2).name == "portraits-dev"
    with pytest.raises(SuiteError, match="There is no suite 'pie'"):
        open_suite("pie")
