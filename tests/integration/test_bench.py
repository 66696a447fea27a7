"""The benchmark from end to end on the tiny model: resumed, redone where it must be, never mixed."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import math
import shutil

import pytest
import torch
from checkpoints import save_clip
from PIL import Image

import ditlens
from ditlens.bench import entries as entries_of
from ditlens.bench import runner
from ditlens.bench.entries import Entry, choose, published, tuned
from ditlens.bench.suites import Suite, open_suite
from ditlens.bench.summary import drift_at, drift_ratio, effect_table, summarise
from ditlens.cli import main as cli
from ditlens.ems.loops import Resample
from ditlens.ems.methods import OdeEdit
from ditlens.ems.sample import METHODS
from ditlens.errors import BenchError, SettingError
from ditlens.images import to_image
from ditlens.worlds.world import SuiteItem

QUICK = {
    "ems": Entry("ems", OdeEdit("ems", source_guidance=2.0, target_guidance=2.0, steps=3)),
    "sdedit": Entry("sdedit", Resample("sdedit", steps=3, guidance=1.0)),
}


@pytest.fixture(scope="module")
def suite():
    return open_suite("portraits-dev", 3)


@pytest.fixture
def run(portraits, suite, tmp_path):
    def call(entries=QUICK, suite=suite, **options):
        return runner.run_bench(portraits, suite, entries, tmp_path, **{"degrees": (0.0, 1.0, 1.5)} | options)

    return call


def rows_of(folder):
    with (folder / "rows.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_pair_is_run_once_and_all_is_written(run, suite, tmp_path):
    seen = []
    assert run(progress=lambda *words: seen.append(words)) == 6
    assert [w[:2] for w in seen] == [(k, 6) for k in range(1, 7)]
    assert run() == 0, "nothing is done twice"
    page = runner.report(tmp_path, suite)
    rows = rows_of(tmp_path)
    assert len(rows) == 18 and page.is_file()
    for row in rows:
        assert (tmp_path / row["picture"]).is_file() and row["error"] == ""
        assert 0 <= float(row["drift"]) <= 1 and row["nfe"] == {"ems": "12", "sdedit": "2"}[row["method"]]
        assert row["source_text"] and row["source_text"] != row["target_text"]
        assert row["vqa"] == "", "this tiny model has no describer network to ask"
    about = json.loads((tmp_path / "bench.json").read_text())
    assert set(about["absent"]) == {"lpips", "dino", "clip"} and about["count"] == 3
    assert about["methods"]["ems"]["method"]["steps"] == 3
    summary = json.loads((tmp_path / "summary.json").read_text())["methods"]
    assert summary["ems"]["cost"]["nfe"] == 12 and summary["sdedit"]["cost"]["nfe"] == 2
    assert summary["ems"]["degrees"]["1"]["drift"]["n"] == 3


def test_what_decides_a_number_is_told_beside_it(run, suite, tmp_path, monkeypatch):
    """Sizes for all metrics of regions; a CLIP that is found is a metric like the others."""
    monkeypatch.setenv("DITLENS_CLIP", str(save_clip(tmp_path / "tiny-clip")))
    run({"ems": QUICK["ems"]})
    page = runner.report(tmp_path, suite).read_text()
    about = json.loads((tmp_path / "bench.json").read_text())
    assert "clip" not in about["absent"]
    for name in ("psnr_pie", "ssim_pie", "psnr_outside", "clip_similarity"):
        identity = about["metrics"][name]["identity"]
        assert identity.endswith("; pictures of 128 x 128") and identity in html.unescape(page)
    assert ", tiny-clip, weights " in about["metrics"]["clip_similarity"]["identity"]
    values = {float(row["clip_similarity"]) for row in rows_of(tmp_path)}
    assert len(values) > 1 and all(-1 <= value <= 1 for value in values)
    summary = json.loads((tmp_path / "summary.json").read_text())["methods"]["ems"]
    assert summary["degrees"]["1"]["clip_similarity"]["n"] == 3
    assert "CLIP similarity" in page
    monkeypatch.delenv("DITLENS_CLIP")
    assert run({"ems": QUICK["ems"]}) == 3, "rows with other metrics are not mixed in"


def test_a_damaged_part_is_made_again(run, tmp_path):
    run()
    part = next((tmp_path / "parts" / "ems").iterdir())
    good = part.read_text()
    part.write_text(good[: len(good) // 2])
    assert run() == 1
    again, old = json.loads(part.read_text()), json.loads(good)
    for row in [*again["rows"], *old["rows"]]:
        row.pop("seconds")
    assert json.dumps(again) == json.dumps(old), "the same numbers to the last digit"


def test_new_settings_weights_or_degrees_are_run_again(run, portraits, tmp_path):
    run()
    other = QUICK | {"ems": Entry("ems", OdeEdit("ems", source_guidance=2.0, target_guidance=2.0, steps=4))}
    assert run(other) == 3
    assert run(other, degrees=(0.5,)) == 6
    weight = next(portraits.transformer.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
        try:
            assert run(other, degrees=(0.5,)) == 6
        finally:
            weight.copy_(before)  # the same bits: other tests share the model


def test_more_degrees_are_added_to_those_there(run, suite, tmp_path):
    run(degrees=(0.5, 1.0))
    first = (tmp_path / "images" / "ems" / f"{suite.items[0].id}_1.png").stat().st_mtime_ns
    assert run(degrees=(1.0, 1.5)) == 6
    runner.collect(tmp_path, suite)
    rows = rows_of(tmp_path)
    assert [float(r["degree"]) for r in rows if r["method"] == "ems"] == [0.5, 1.0, 1.5] * 3
    assert (tmp_path / "images" / "ems" / f"{suite.items[0].id}_1.png").stat().st_mtime_ns == first, (
        "not made again"
    )


def test_other_wishes_under_the_same_name_are_run_again(run, suite, tmp_path):
    run()
    one = suite.items[0]
    other = dataclasses.replace(one, instruction="", target_text=one.source_text)
    changed = Suite(suite.name, [other, *suite.items[1:]])
    runner.collect(tmp_path, changed)
    assert {row["item"] for row in rows_of(tmp_path)} == {item.id for item in suite.items[1:]}
    assert run(suite=changed) == 2


def test_rows_of_old_weights_do_not_reach_the_tables(run, portraits, suite, tmp_path):
    run()
    decoder = next(portraits.vae.decoder.parameters())
    with torch.no_grad():
        decoder.add_(0.01)
        try:
            run({"ems": QUICK["ems"]})
        finally:
            decoder.sub_(0.01)
    runner.collect(tmp_path, suite)
    assert {row["method"] for row in rows_of(tmp_path)} == {"ems"}, "SDEdit's were decoded with other weights"


def test_another_benchmark_is_not_mixed_in(run, suite):
    run()
    with pytest.raises(BenchError, match="its seed is 0, now it is 5"):
        run(seed=5)
    with pytest.raises(BenchError, match="its suite is 'portraits-dev'"):
        run(suite=Suite("other", suite.items))
    with pytest.raises(SettingError, match="nothing to run"):
        run({})


def test_what_is_not_there_is_told(run, suite, tmp_path):
    run({"ems": QUICK["ems"]})
    runner.collect(tmp_path, suite)
    with (tmp_path / "items.csv").open() as file:
        assert {line["licence"] for line in csv.DictReader(file)} == {"Apache-2.0, drawn by ditlens"}
    text, data = runner.table_for_people(tmp_path, ["ems", "sdedit"])
    assert text.splitlines()[-1].split() == ["sdedit", *"---------"], "no row has been made: no cost either"
    shutil.rmtree(tmp_path / "parts")
    with pytest.raises(BenchError, match="ditlens bench edit --out"):
        runner.collect(tmp_path, suite)
    (tmp_path / "bench.json").write_text("[1]")
    with pytest.raises(BenchError, match="bench.json is damaged.*Delete it"):
        run({"ems": QUICK["ems"]})


def test_an_edit_that_fails_is_a_row_that_tells_it(run, suite, tmp_path):
    bad = SuiteItem("bad", "smile", "", "", "", lambda: torch.rand(1, 3, 128, 128))
    run(suite=Suite(suite.name, [suite.items[0], bad]))
    runner.collect(tmp_path, Suite(suite.name, [suite.items[0], bad]))
    errors = [row["error"] for row in rows_of(tmp_path) if row["item"] == "bad"]
    assert len(errors) == 6 and all("Error" in error for error in errors)
    assert json.loads((tmp_path / "summary.json").read_text())["methods"]["ems"]["errors"] == 3


def test_one_bad_record_is_a_row_and_the_others_are_edited(portraits, suite, tmp_path):
    """What is wrong may show when the list is read, when the image is read, or when its mask is used."""
    to_image(suite.items[0].image()).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    Image.new("L", (30, 20), 255).save(tmp_path / "narrow.png")
    texts = {"source": "a portrait, no hat", "target": "a portrait, a crown"}
    records = [
        {"image": "gone.png"}, {"image": "cut.png"}, {"image": "a.png", "mask": "narrow.png"}, {"image": "a.png"}
    ]  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps([texts | each for each in records]))
    bad, folder = open_suite(str(tmp_path / "list.json")), tmp_path / "out"
    assert runner.run_bench(portraits, bad, {"ems": QUICK["ems"]}, folder, degrees=[1.0], progress=False) == 4
    runner.report(folder, bad)
    errors = {row["item"]: row["error"] for row in rows_of(folder)}
    assert errors["0000"] == "SuiteError: 0000: the image gone.png is missing."
    assert errors["0001"].startswith("ImageError: ") and "cut.png is damaged or cut off" in errors["0001"]
    assert errors["0002"].startswith("SettingError: The mask has 30 x 20 pixels")
    assert errors["0003"] == ""
    assert json.loads((folder / "summary.json").read_text())["methods"]["ems"]["errors"] == 3


def test_a_record_that_was_repaired_is_edited_by_the_next_run(portraits, suite, tmp_path):
    to_image(suite.items[0].image()).save(tmp_path / "a.png")
    good = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(good[:900])
    records = [{"image": f"{name}.png", "source": "no hat", "target": "a crown"} for name in "ab"]
    (tmp_path / "list.json").write_text(json.dumps(records))
    bad, folder = open_suite(str(tmp_path / "list.json")), tmp_path / "out"

    def run(**options):
        given = {"degrees": [1.0], "progress": False, **options}
        return runner.run_bench(portraits, bad, {"ems": QUICK["ems"]}, folder, **given)

    assert run() == 2
    assert run() == 1, "only the error is tried again"
    (tmp_path / "b.png").write_bytes(good)
    assert run() == 1
    assert run() == 0
    runner.report(folder, bad)
    assert [row["error"] for row in rows_of(folder)] == ["", ""]


def test_a_folder_of_somebody_else_is_left_alone(run, tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(
        BenchError, match="is not the folder of a benchmark, and its masks could be overwritten"
    ):
        run()
    assert [path.name for path in tmp_path.rglob("*")] == ["masks"]


def test_every_method_is_scored_by_the_text_of_the_suite(portraits, suite, monkeypatch):
    from ditlens.bench.scores import Scorer
    from ditlens.ems.edit import edit

    item, scorer = suite.items[0], Scorer(portraits)
    made = edit(portraits, item.image(), source_text=item.source_text, target_text=item.target_text)
    agreed = scorer.score(item, made)["text_agreement"]
    monkeypatch.setattr(type(made), "target_text", "an old person")  # whatever the edit was made with
    assert scorer.score(item, made)["text_agreement"] == agreed
    bare = dataclasses.replace(item, target_text="")
    assert scorer.score(bare, made)["text_agreement"] != agreed, "only a suite without texts takes the edit's"


def test_shares_are_apart_whoever_begins_later(suite):
    orders = [runner.in_turn(suite, QUICK, (k, 2)) for k in range(2)]
    names = [[(entry.name, item.id) for entry, item in order] for order in orders]
    assert not set(names[0][:3]) & set(names[1][:3]), "own shares"
    assert len(set(names[0])) == len(set(names[1])) == 6, "and then what the other has not come to"
    assert names[0][3:] == names[1][:3][::-1], "from its end"


def test_a_share_helps_with_what_is_left(run, tmp_path):
    assert run(share=(0, 2)) == 6
    lost = [next((tmp_path / "parts" / name).iterdir()) for name in QUICK]
    for path in lost:
        path.unlink()
    assert run(share=(1, 3)) == 2
    assert all(path.is_file() for path in lost)


def test_entries(portraits):
    names = set(tuned(portraits))
    assert {"ems", "text-only", "image-only", "joint", "hsds-recon"} <= names
    assert set(METHODS) <= names, "every method that ditlens has is in the table"
    assert all(name == entry.name for name, entry in tuned(portraits).items())
    assert set(published(portraits)) == {"ems", *METHODS}
    with pytest.raises(SettingError, match=r"Unknown methods: flow\. Choose from all, ems"):
        choose(portraits, "ems,flow")
    assert list(choose(portraits, "sdedit, ems")) == ["sdedit", "ems"]


def test_the_command(portraits, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(vars(ditlens), "load", lambda *a, **k: portraits)
    monkeypatch.setitem(entries_of.TUNED, "portraits", lambda model: QUICK)
    words = [
        "bench",
        "edit",
        "--suite",
        "portraits-dev",
        "--count",
        "2",
        "--degrees",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["methods"]) == set(QUICK) and told["methods"]["ems"]["cost"]["nfe"] == 12
    assert cli.main([*words, "--methods", "nope"]) == 1
    assert "Unknown methods: nope" in capsys.readouterr().err
    page = tmp_path / "index.html"
    page.unlink()
    assert cli.main(["bench", "page", str(tmp_path)]) == 0 and page.is_file()
    assert "wrote" in capsys.readouterr().out
    assert cli.main(["bench", "votes", str(tmp_path)]) == 1
    assert "There are no votes" in capsys.readouterr().err
    assert (
        cli.main(["bench", "export", str(tmp_path), "--out", str(tmp_path / "voting"), "--pairs", "2"]) == 0
    )
    assert (tmp_path / "voting" / "index.html").is_file()
    assert cli.main(["bench", "edit", str(tmp_path)]) == 2


@pytest.mark.parametrize(("world", "share"), [("1", None), ("3", (2, 3))])
def test_workers_of_the_command_take_their_shares(world, share, portraits, monkeypatch, tmp_path, capsys):
    """With --workers, the command starts itself again; what killed workers have made is kept."""
    launched, shares = [], []
    run = runner.run_bench
    monkeypatch.setitem(vars(ditlens), "load", lambda *a, **k: portraits)
    monkeypatch.setitem(entries_of.TUNED, "portraits", lambda model: QUICK)
    monkeypatch.setattr("ditlens.workers.launch", lambda *given: launched.append(given) or 9)
    monkeypatch.setattr(runner, "run_bench", lambda *a, **k: shares.append(k["share"]) or run(*a, **k))
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setenv("RANK", "2")
    words = ["bench", "edit", "--suite", "portraits-dev", "--count", "1", "--degrees", "1", "--workers", "3"]
    code = cli.main([*words, "--out", str(tmp_path)])
    told = capsys.readouterr()
    if share is None:
        assert (code, launched, shares) == (1, [([*words, "--out", str(tmp_path)], 3)], [])
        assert (
            "(launcher: exit 9)" in told.err
            and f"kept in {tmp_path}: type the same command again" in told.err
        )
    else:
        assert (code, launched, shares) == (0, [], [share])
        assert told.out == "" and len([*(tmp_path / "parts").glob("*/*.json")]) == 2


# --- the numbers -------------------------------------------------------------------------------------------


def made_up(method: str, slope: float, items: int = 12) -> list[dict]:
    return [
        {"item": f"{i}", "kind": "smile", "method": method, "degree": d, "effect": d * (1 + 0.01 * i),
         "drift": slope * d * (1 + i), "nfe": 4, "calls": 2, "seconds": 1.0, "error": ""}
        for i in range(items)
        for d in (0.25, 0.5, 1.0)
    ]  # fmt: skip


def test_drift_at_the_same_effect_and_its_ratio():
    rows = made_up("a", 0.01) + made_up("b", 0.02)
    table = effect_table(made_up("a", 0.01))
    assert table.shape == (12, 3, 2)
    assert drift_at(table, 0.8) == pytest.approx(0.8 / 1.055 * 0.065)
    ratio = drift_ratio(rows, "a", "b")
    assert ratio["low"] == pytest.approx(0.5) and ratio["high"] == pytest.approx(0.5) and ratio["n"] == 12
    found = summarise(rows, ["effect", "drift"], ["smile"])["methods"]["a"]
    assert found["sweep"]["spearman"]["value"] == 1 and found["sweep"]["r2"]["value"] == pytest.approx(1)
    assert found["matched"]["drift_at_0.8"]["value"] == pytest.approx(drift_at(table, 0.8))


def test_items_without_a_value_in_one_method_are_left_out_of_both():
    rows = made_up("a", 0.01) + [{**row, "drift": 2 * row["drift"]} for row in made_up("b", 0.01)]
    for row, item in ((rows[4], "1"), (rows[-1], "11")):
        assert row["item"] == item
        row["effect"] = float("nan")
    ratio = drift_ratio(rows, "a", "b")
    assert ratio["value"] == pytest.approx(0.5) and ratio["n"] == 10


def test_methods_are_compared_on_the_degrees_of_both():
    """A bent curve, read off between distant degrees, would look worse than the same curve on a fine grid."""
    fine = [{**row, "drift": row["degree"] ** 3} for row in made_up("a", 1)]
    coarse = [{**row, "method": "b"} for row in fine if row["degree"] != 0.5]
    ratio = drift_ratio(fine + coarse, "a", "b")
    assert ratio["value"] == ratio["low"] == ratio["high"] == 1
    summary = summarise(fine + coarse, ["effect", "drift"])
    assert summary["shared_degrees"] == [0.25, 1.0]
    a, b = (summary["methods"][name]["matched"]["drift_at_0.8"]["value"] for name in "ab")
    assert a == b


def test_the_exact_result_has_no_residual_and_no_drift_of_its_own(portraits, suite):
    from types import SimpleNamespace

    from ditlens.bench.scores import Scorer, in_world
    from ditlens.images import to_image, to_tensor

    item, scorer = suite.items[0], Scorer(portraits)
    exact, world = scorer.exact(item), portraits.world
    reconstruction = to_image(portraits.decode(portraits.encode_image(item.image())))
    before = world.measure(to_tensor(reconstruction))[0]
    shown = {"before": before, "plan": SimpleNamespace(reconstruction=reconstruction), "degree": 0.5,
             "target_text": item.target_text}  # fmt: skip
    perfect = in_world(world, item, SimpleNamespace(after=exact, **shown), exact)
    assert perfect["net_drift"] == perfect["net_residual"] == 0.0
    assert perfect["residual"] == world.drift(item.exact, exact, ())
    true = in_world(world, item, SimpleNamespace(after=item.exact, **shown), exact)
    assert true["residual"] == 0.0 and true["net_residual"] == -perfect["residual"]
    unknown = in_world(world, item, SimpleNamespace(after=exact, **shown))
    assert all(math.isnan(unknown[key]) for key in ("net_drift", "residual", "net_residual"))
    changed = {name for name, value in item.exact.items() if value != item.truth[name]}
    assert changed == set(item.wanted)
