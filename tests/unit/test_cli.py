"""The command line without a model: help, wrong usage, exit codes, messages, JSON."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
from PIL import Image

from ditlens.cli import demo, doctor
from ditlens.cli import main as cli
from ditlens.cli.doctor import Check
from ditlens.errors import ModelError

COMMANDS = ("generate", "edit", "demo", "doctor", "train")


def provide(monkeypatch, module, **contents):
    """Let ``import module`` find these contents, whatever is installed."""
    stand_in = types.ModuleType(module)
    vars(stand_in).update(contents)
    monkeypatch.setitem(sys.modules, module, stand_in)


@pytest.fixture
def edited(monkeypatch):
    """Stand-ins for model and editor; holds the arguments that `edit` was called with."""
    called: dict = {}

    def save(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "edit.png").touch()
        (folder / "edit.json").touch()

    result = types.SimpleNamespace(
        image=Image.new("RGB", (64, 64), "white"),
        source_image=Image.new("RGB", (64, 64), "black"),
        source_text="a man",
        target_text="a man with a hat",
        degree=0.5,
        seconds=1.25,
        before={"hat": "none", "smile": 0.0, "age": 0.2, "gaze": 0.5},
        after={"hat": "cap", "smile": 0.3, "age": 0.21, "gaze": 0.5},
        drift=0.08,
        targets=["hat"],
        warnings=[],
        recipe={"seed": 7},
        save=save,
        sweep=lambda degrees: types.SimpleNamespace(save=lambda path: path.write_text(f"{degrees}")),
    )

    def edit(model, image, instruction, **settings):
        print("a library that prints")
        called.update(model=model, image=image, instruction=instruction, **settings)
        return result

    provide(monkeypatch, "ditlens.models.loading", load=lambda name, device: f"{name} on {device}")
    provide(monkeypatch, "ditlens.ems.edit", edit=edit)
    return called


# --- help and usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    example = text.partition("example:\n  ditlens ")[2].strip()
    assert example.startswith(command)
    cli.build_parser().parse_args(shlex.split(example))
    assert "--json" in text


def test_general_help_names_every_command(capsys):
    with pytest.raises(SystemExit, match="^0$"):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {command} " in text for command in COMMANDS)
    assert "ditlens demo" in text


def test_help_tells_the_defaults(capsys):
    with pytest.raises(SystemExit):
        cli.main(["generate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "gives the same picture (default: 0)" in text
    assert "(default: portraits)" in text
    assert "(default: None)" not in text and "(default: False)" not in text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["generate"], "the following arguments are required: PROMPT"),
        (["generate", "a man", "--steps", "0"], "--steps: '0' is not above zero"),
        (["generate", "a man", "--steps", "many"], "--steps: invalid positive_int value: 'many'"),
        (
            ["generate", "a man", "--out", "a.gif"],
            "--out: 'a.gif' must end in one of .png, .jpg, .jpeg, .webp",
        ),
        (["edit", "a.png"], "the following arguments are required: INSTRUCTION"),
        (["edit", "a.png", "older", "--degree", "nan"], "--degree: 'nan' is not a finite number"),
        (["edit", "a.png", "older", "--encoders", " ,"], "names no text encoders; write clip,clip_2 or 0,1"),
        (["train", "everything"], "invalid choice: 'everything'"),
        (["train", "vae", "--minutes", "-1"], "--minutes: '-1' is not above zero"),
    ],
)
def test_wrong_usage_leaves_with_2(words, complaint, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        cli.main(words)
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("text", ["a", "4:", "3:1", "1,,2", "-1"])
def test_lists_of_numbers_that_cannot_be_read_say_how_to_write_them(text):
    with pytest.raises(argparse.ArgumentTypeError, match="write 0:4 or 1,5,7"):
        cli.numbers(text)


def test_negative_degrees_are_numbers_not_options():
    assert cli.build_parser().parse_args(["edit", "a.png", "older", "--degree", "-0.5"]).degree == -0.5


def test_stages_are_those_of_the_recipes():
    from ditlens.train import STAGES

    assert set(cli.STAGES) == {*STAGES, "all"}


# --- errors -------------------------------------------------------------------------------------------------


def refuse(*_, **__):
    raise ModelError("no model 'cats': there is 'portraits'. Pass --model portraits")


def test_own_errors_are_one_line_and_1(monkeypatch, capsys):
    provide(monkeypatch, "ditlens.models.loading", load=refuse)
    assert cli.main(["generate", "a cat", "--model", "cats"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: no model 'cats': there is 'portraits'. Pass --model portraits\n"
    assert captured.out == ""


def test_own_errors_as_json(monkeypatch, capsys):
    provide(monkeypatch, "ditlens.models.loading", load=refuse)
    assert cli.main(["generate", "a cat", "--json"]) == 1
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["type"] == "ModelError"
    assert captured.err == f"error: {error['message']}\n"


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (PermissionError(13, "Permission denied", "/x"), 1, "error: [Errno 13] Permission denied: '/x'\n"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1, "type: ditlens doctor\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_expected_failures_have_no_traceback(raised, code, message, monkeypatch, capsys):
    def load(*_, **__):
        raise raised

    provide(monkeypatch, "ditlens.models.loading", load=load)
    assert cli.main(["generate", "a cat"]) == code
    assert capsys.readouterr().err.endswith(message)


@pytest.mark.parametrize("bug", [ZeroDivisionError("bug"), ModuleNotFoundError("x", name="ditlens.lost")])
def test_bugs_keep_their_traceback(bug, monkeypatch):
    def load(*_, **__):
        raise bug

    provide(monkeypatch, "ditlens.models.loading", load=load)
    with pytest.raises(type(bug)):
        cli.main(["generate", "a cat"])


def test_the_process_passes_the_exit_code_on():
    done = subprocess.run([sys.executable, "-m", "ditlens", "paint"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == "" and "Traceback" not in done.stderr


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], {"seed": 0}),
        (["--seed", "3", "--steps", "4", "--guidance", "0"], {"seed": 3, "steps": 4, "guidance": 0.0}),
    ],
)
def test_generate(words, settings, tmp_path, monkeypatch, capsys):
    called = {}

    def draw(prompt, **given):
        called.update(given, prompt=prompt)
        return Image.new("RGB", (8, 8))

    model = types.SimpleNamespace(generate=draw)
    provide(monkeypatch, "ditlens.models.loading", load=lambda name, device: model)
    out = tmp_path / "new" / "a.png"
    assert cli.main(["generate", "a man", "--out", str(out), "--json", *words]) == 0
    assert called == {"prompt": "a man", **settings}, "what is not given is left to the model"
    assert Image.open(out).size == (8, 8)
    assert json.loads(capsys.readouterr().out) == {"prompt": "a man", **settings, "image": str(out)}


def test_edit_for_machines(edited, tmp_path, capsys):
    words = [
        "edit",
        "me.png",
        "add a hat",
        "--degree",
        "0.5",
        "--seed",
        "7",
        "--out",
        str(tmp_path),
        "--json",
    ]
    assert cli.main(words) == 0
    assert edited == {
        "model": "portraits on auto",
        "image": Path("me.png"),
        "instruction": "add a hat",
        "degree": 0.5,
        "seed": 7,
        "mask": "auto",
        "method": None,
        "describer": None,
        "source_text": None,
        "target_text": None,
        "encoders": None,
    }
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["after"]["hat"] == "cap"
    assert told["recipe"] == {"seed": 7}
    assert Path(told["image"]).is_file() and Path(told["json"]).is_file()
    assert captured.err == "a library that prints\n"


def test_edit_with_some_text_encoders(edited, tmp_path, capsys):
    words = ["edit", "me.png", "add a hat", "--out", str(tmp_path), "--encoders"]
    assert cli.main([*words, "clip, 1"]) == 0
    assert edited["encoders"] == ("clip", 1), "names or numbers"


def test_a_wrong_text_encoder_lists_those_there(portraits, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("ditlens.models.loading.load", lambda name, device: portraits)
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(picture)
    assert cli.main(["edit", str(picture), "bald", "--out", str(tmp_path), "--encoders", "clip,t5"]) == 1
    assert "has no text encoder 't5'. Choose from: 0 (clip), 1 (clip_2)." in capsys.readouterr().err


def test_demo_for_people(edited, tmp_path, monkeypatch, capsys):
    portrait = tmp_path / "portrait.png"
    portrait.touch()
    monkeypatch.setattr(demo, "PORTRAIT", portrait)
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "source text  a man",
        "target text  a man with a hat",
        "degree       0.5",
        "seconds      1.2",
        "drift        0.080 of an attribute's range, mean over those not asked for",
        "",
        "measured  before      after",
        "--------  ------  --  -----",
        "hat       none    ->  cap",
        "smile     0.00    ->  0.30",
        "(2 more attributes stayed the same)",
        "",
        f"wrote before_after.png, edit.png, edit.json, sweep.png in {tmp_path / 'out'}",
    ]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"before_after.png", "edit.png", "edit.json", "sweep.png"}


def test_demo_without_its_portrait(edited, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "PORTRAIT", tmp_path / "gone.png")
    assert cli.main(["demo"]) == 1
    assert "gone.png does not exist: it comes with the repository" in capsys.readouterr().err
    assert edited == {}


def test_before_and_after_stand_side_by_side():
    sheet = demo.beside(Image.new("L", (10, 20), 0), Image.new("RGBA", (40, 40), "red"), height=100, gap=10)
    assert sheet.size == (10 + 50 + 10 + 100 + 10, 28 + 100 + 10)
    assert sheet.getpixel((35, 78)) == (0, 0, 0)
    assert sheet.getpixel((120, 78)) == (255, 0, 0)


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_doctor(status, code, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([Check("disk", status, "1 GB", "make clean")]),))
    assert cli.main(["doctor"]) == code
    assert "disk" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == code
    check = {"name": "disk", "status": status, "found": "1 GB", "fix": "make clean"}
    assert json.loads(capsys.readouterr().out) == {"ok": code == 0, "checks": [check]}


def test_train(tmp_path, monkeypatch, capsys):
    called = {}
    provide(monkeypatch, "ditlens.train", run=lambda stage, **given: called.update(given, stage=stage))
    assert cli.main(["train", "vae", "--minutes", "0.5", "--resume", "--out", str(tmp_path), "--json"]) == 0
    assert called == {"stage": "vae", "device": "auto", "minutes": 0.5, "resume": True, "out": tmp_path}
    assert json.loads(capsys.readouterr().out) == {"stage": "vae", "out": str(tmp_path), "result": None}
