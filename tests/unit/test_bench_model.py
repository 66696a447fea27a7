"""The benchmark's statistics against numbers worked out elsewhere, and a smoke run of all of it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image
from scripts import FOLDER, script


@pytest.fixture(scope="module")
def bench():
    with script("model") as module:
        yield module


@pytest.fixture(scope="module")
def intervals(bench):
    return sys.modules["intervals"]


@pytest.fixture(scope="module")
def sheets(bench):
    return sys.modules["portraits.sheets"]


# --- statistics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (95, 100, 0.888247, 0.978457),  # R: binom::binom.wilson(95, 100)
        (1, 10, 0.017876, 0.404150),
        (5, 10, 0.236593, 0.763407),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(intervals, hits, count, low, high):
    assert intervals.wilson(hits, count) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 99], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),  # 1 - 6 * 4 / (5 * 24)
        ([1, 2, 3, 4], [1, 2, 2, 3], 0.948683),  # 4.5 / sqrt(5 * 4.5)
        ([1, 2, 3], [7, 7, 7], 0.0),
    ],
)
def test_spearman(intervals, first, second, expected):
    assert intervals.spearman(first, second) == pytest.approx(expected, abs=1e-6)


def test_ranks_share_ties(intervals):
    assert intervals.ranks([30, 10, 20, 10]).tolist() == [4, 1.5, 3, 1.5]


def test_bootstrap_of_a_mean_is_about_two_standard_errors(intervals):
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = intervals.bootstrap(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert intervals.bootstrap(values) == (low, high), "seeded"
    assert intervals.bootstrap([3.0], np.median) == (3, 3)


def test_shares_of_groups(intervals):
    share, low, high, count = intervals.clustered([[True, False], [True], [], [True, True]])
    assert (share, count) == (0.8, 5)
    assert 0 < low < 0.8 < high <= 1
    assert intervals.clustered([[True] * 9] * 10) == pytest.approx((1, *intervals.wilson(10, 10), 90))
    with pytest.raises(ValueError, match="no trial"):
        intervals.clustered([[]])


def test_groups_that_share_their_luck_widen_the_interval(intervals):
    apart = [[i % 2 == 0] for i in range(100)]
    together = [[i % 2 == 0] * 10 for i in range(10)]
    width = {name: np.diff(intervals.clustered(g)[1:3]).item() for name, g in (("a", apart), ("t", together))}
    assert width["t"] == pytest.approx(width["a"] * 10**0.5, rel=0.15)


# --- sheets ------------------------------------------------------------------------------------------------


def test_sheets_stay_small(sheets, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    tile = sheets.Tile(Image.fromarray(noise), "a label that is longer than the tile is wide")
    page = sheets.sheet([[tile] * 6] * 4, "A title " * 20, names=["a row of tiles"] * 4)
    sheets.save(page, tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").stat().st_size < sheets.LIMIT
    assert page.width == 6 + 130 + 6 * (96 + 6)


# --- the command -------------------------------------------------------------------------------------------


def test_all_keys_have_words_and_a_target(bench):
    targets = json.loads((FOLDER / "targets.json").read_text("utf-8"))
    keys = [key for names, _ in bench.GROUPS for key in names]
    assert sorted(keys) == sorted(bench.WHAT)
    assert set(bench.WHAT) <= set(targets)


def test_fixed_prompts_are_understood(bench):
    from ditlens.worlds.portraits.captions import parse
    from ditlens.worlds.portraits.instructions import parse_instruction

    assert [len(parse(prompt)) for prompt in sys.modules["portraits.quality"].PROMPTS] == [4, 4, 3, 5]
    assert parse_instruction(sys.modules["portraits.speed"].WISH) == {"smile": frozenset({4})}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "make bench-model"),
        (["--edits", "7", "--out", "/somewhere"], "python benchmarks/model.py --edits 7"),
        (["--quick", "--model", "/my/own/model"], "python benchmarks/model.py --quick --model model"),
        (["--only", "edit_drift", "--device", "cuda"], "python benchmarks/model.py --device cuda"),
    ],
)
def test_the_command_names_no_places(bench, words, expected):
    assert bench.command(bench.parse_arguments(words)) == expected


@pytest.mark.parametrize("words", [["--only", "edit_drifd"], ["--edits", "0"], ["--captions", "many"]])
def test_wrong_options(bench, words, capsys):
    with pytest.raises(SystemExit) as left:
        bench.parse_arguments(words)
    assert left.value.code == 2


def test_a_missing_model(bench, capsys):
    assert bench.main(["--model", "nowhere"]) == 1
    assert "There is no model 'nowhere'" in capsys.readouterr().err


def test_the_page_shows_misses_and_keeps_other_keys(bench, tmp_path):
    entry = {"n": 10, "command": "make bench-model", "date": "2025-01-01", "hardware": "h", "note": "why"}
    results = {
        "vae_psnr_db": {"value": 29.0, "low": 28.5, "high": 29.5, "unit": "dB", **entry},
        "stock_pipeline": {"value": 1.0, "low": None, "high": None, "unit": "works", **entry},
        "edit_drift": {"value": 0.02, "low": 0.01, "high": 0.03, "unit": "range", **entry,
                       "parts": {"smile": {"value": 0.5, "n": 4}}},
    }  # fmt: skip
    bench.write_page(results, tmp_path)
    page = (tmp_path / "results.md").read_text("utf-8")
    assert "| `vae_psnr_db` | 29 dB | 28.5 to 29.5 | 10 | >= 30 | missed |" in page
    assert "| `stock_pipeline` | 1 works |  | 10 | >= 1 | met |" in page
    assert "| smile | 0.500 (4) |" in page
    assert page.count("make bench-model` on 2025-01-01") == 1


class Typist:
    """Describes every picture alike, and understands the grammar."""

    name = "typist"

    def describe(self, image):
        return "a young person with a slight smile, round glasses"

    def extract(self, image, instruction):
        from ditlens.description import Description
        from ditlens.worlds.portraits.captions import parse
        from ditlens.worlds.portraits.describer import text_changes
        from ditlens.worlds.portraits.instructions import parse_instruction, target_caption

        source = self.describe(image)
        pair = target_caption(source, parse_instruction(instruction, source=parse(source)))
        return Description(*pair[:2], text_changes(*pair[:2]), self.name)


@pytest.mark.slow
def test_smoke_run(bench, portraits_folder, tmp_path, capsys):
    from ditlens.models.loading import load

    model = load(portraits_folder, device="cpu")
    model.describer = Typist()
    counts = bench.QUICK | {"repeats": 2}
    code = bench.run(bench.Bench(model, **counts), [*bench.WHAT, "sheets"], tmp_path, "a command")
    assert code == 0
    results = json.loads((tmp_path / "benchmarks" / "results" / "model.json").read_text("utf-8"))
    assert list(results) == list(bench.WHAT)
    for entry in results.values():
        assert list(entry)[:9] == "value low high n unit command date hardware note".split()
        assert entry["low"] is None or entry["low"] <= entry["value"] <= entry["high"]
    assert results["degree0_exact"]["value"] == 1
    assert results["stock_pipeline"]["n"] == 4
    text = json.dumps(results) + (tmp_path / "docs" / "model" / "results.md").read_text("utf-8")
    assert str(portraits_folder) not in text
    for name in sys.modules["portraits.gallery"].SHEETS:
        path = tmp_path / "docs" / "model" / f"{name}.png"
        assert path.stat().st_size < 250_000
        assert f"({name}.png)" in text
    assert "| what | key |" in capsys.readouterr().out

    results["vae_psnr_db"]["value"] = 12345.0
    (tmp_path / "benchmarks" / "results" / "model.json").write_text(json.dumps(results))
    bench.run(bench.Bench(model, **counts), ["render_images_per_second"], tmp_path, "another command")
    again = json.loads((tmp_path / "benchmarks" / "results" / "model.json").read_text("utf-8"))
    assert again["vae_psnr_db"]["value"] == 12345.0, "kept"
    assert again["render_images_per_second"]["command"] == "another command"


def test_what_fails_is_reported_and_left_out(bench, portraits_folder, tmp_path, capsys):
    import shutil

    from ditlens.models.loading import load

    folder = tmp_path / "incomplete"
    shutil.copytree(portraits_folder, folder)
    (folder / "describer").mkdir()  # without files
    model = load(folder, device="cpu")
    keys = ["describer_accuracy", "vae_psnr_db"]
    assert bench.run(bench.Bench(model, **bench.QUICK), keys, tmp_path, "a command") == 1
    assert "describer_accuracy not measured: No describer in" in capsys.readouterr().err
    results = json.loads((tmp_path / "benchmarks" / "results" / "model.json").read_text("utf-8"))
    assert list(results) == ["vae_psnr_db"]
