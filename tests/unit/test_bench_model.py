"""The benchmark of the portraits model: its command, its page, and a smoke run of all of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import ROOT
from benchmarks import model as bench
from benchmarks.portraits import gallery, quality, sheets, speed

# --- sheets ------------------------------------------------------------------------------------------------


def test_sheets_stay_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    tile = sheets.Tile(Image.fromarray(noise), "a label that is longer than the tile is wide")
    page = sheets.sheet([[tile] * 6] * 4, "A title " * 20, names=["a row of tiles"] * 4)
    sheets.save(page, tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").stat().st_size < sheets.LIMIT
    assert page.width == 6 + 130 + 6 * (96 + 6)


# --- the distance of samples to renders -----------------------------------------------------------------------


def test_the_frechet_distance_answers():
    from benchmarks.portraits.common import people
    from benchmarks.portraits.samples import frechet, random_features
    from ditlens.worlds.portraits.attributes import take
    from ditlens.worlds.portraits.render import render

    renders = render(people(160, "frechet"), 128)
    first, second = (random_features(renders[part]) for part in (slice(0, 80), slice(80, 160)))
    assert frechet(first, first) == pytest.approx(0, abs=1e-9)
    spread = first.std(0)
    assert spread.min() > 0.02 * spread.max(), "every feature answers"
    first, second = first / spread, second / spread
    floor = frechet(second, first)
    padded = torch.nn.functional.pad(renders[80:], (1, 1, 1, 1), mode="replicate")
    blurred = torch.nn.functional.avg_pool2d(padded, 3, 1)
    assert frechet(random_features(blurred) / spread, first) > 3 * floor, "blurred"
    few = render(take(people(160, "frechet"), torch.arange(80, 90).repeat(8)), 128)
    assert frechet(random_features(few) / spread, first) > 3 * floor, "always the same faces"


# --- the command -------------------------------------------------------------------------------------------


def test_all_keys_have_words_and_a_target():
    targets = json.loads((ROOT / "benchmarks" / "targets.json").read_text("utf-8"))
    keys = [key for names, _ in bench.GROUPS for key in names]
    assert sorted(keys) == sorted(bench.WHAT)
    assert set(bench.WHAT) <= set(targets)


def test_fixed_prompts_are_understood():
    from ditlens.worlds.portraits.captions import parse
    from ditlens.worlds.portraits.instructions import parse_instruction

    assert [len(parse(prompt)) for prompt in quality.PROMPTS] == [4, 4, 3, 5]
    assert parse_instruction(speed.WISH) == {"smile": frozenset({4})}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "make bench-model"),
        (["--edits", "7", "--out", "/somewhere"], "python -m benchmarks.model --edits 7"),
        (["--quick", "--model", "/my/own/model"], "python -m benchmarks.model --quick --model model"),
        (["--only", "edit_drift", "--device", "cuda"], "python -m benchmarks.model --device cuda"),
    ],
)
def test_the_command_names_no_places(words, expected):
    assert bench.command(bench.parse_arguments(words)) == expected


@pytest.mark.parametrize("words", [["--only", "edit_drifd"], ["--edits", "0"], ["--captions", "many"]])
def test_wrong_options(words, capsys):
    with pytest.raises(SystemExit) as left:
        bench.parse_arguments(words)
    assert left.value.code == 2


def test_a_missing_model(capsys):
    assert bench.main(["--model", "nowhere"]) == 1
    assert "There is no model 'nowhere'" in capsys.readouterr().err


def test_the_page_shows_misses_and_keeps_other_keys(tmp_path):
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
def test_smoke_run(portraits_folder, tmp_path, capsys):
    from ditlens.models.loading import load

    model = load(portraits_folder, device="cpu")
    model.describer = Typist()
    counts = bench.QUICK | {"repeats": 2}
    code = bench.measure_all(bench.Bench(model, **counts), [*bench.WHAT, "sheets"], tmp_path, "a command")
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
    for name in gallery.SHEETS:
        path = tmp_path / "docs" / "model" / f"{name}.png"
        assert path.stat().st_size < 250_000
        assert f"({name}.png)" in text
    assert "| what | key |" in capsys.readouterr().out

    results["vae_psnr_db"]["value"] = 12345.0
    (tmp_path / "benchmarks" / "results" / "model.json").write_text(json.dumps(results))
    bench.measure_all(bench.Bench(model, **counts), ["render_images_per_second"], tmp_path, "another command")
    again = json.loads((tmp_path / "benchmarks" / "results" / "model.json").read_text("utf-8"))
    assert again["vae_psnr_db"]["value"] == 12345.0, "kept"
    assert again["render_images_per_second"]["command"] == "another command"


def test_what_fails_is_reported_and_left_out(portraits_folder, tmp_path, capsys):
    import shutil

    from ditlens.models.loading import load

    folder = tmp_path / "incomplete"
    shutil.copytree(portraits_folder, folder)
    (folder / "describer").mkdir()  # without files
    model = load(folder, device="cpu")
    keys = ["describer_accuracy", "vae_psnr_db"]
    assert bench.measure_all(bench.Bench(model, **bench.QUICK), keys, tmp_path, "a command") == 1
    assert "describer_accuracy not measured: No describer in" in capsys.readouterr().err
    results = json.loads((tmp_path / "benchmarks" / "results" / "model.json").read_text("utf-8"))
    assert list(results) == ["vae_psnr_db"]
