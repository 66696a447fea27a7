"""The command line without a model: help, wrong usage, exit codes, messages, JSON."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import get_args

import pytest
import typer
from PIL import Image

import ditlens
from ditlens.cli import bench as cli_bench
from ditlens.cli import demo, doctor, options
from ditlens.cli import main as cli
from ditlens.cli.app import typed
from ditlens.cli.doctor import Check
from ditlens.description import Description
from ditlens.ems.edit import Edit
from ditlens.errors import ModelError
from ditlens.tables import counted, progress_bar, progress_to, remark

COMMANDS = (
    "generate",
    "edit",
    "check",
    "demo",
    "app",
    "course",
    "kit",
    "preflight",
    "playground",
    "export",
    "capture",
    "study",
    "report",
    "doctor",
    "train",
    "bench",
)
BENCH = ("bench edit", "bench page", "bench vote", "bench export", "bench votes")


def provide(monkeypatch, **contents):
    """Put stand-ins into the public face; the modules behind it are left alone."""
    for name, value in contents.items():
        monkeypatch.setitem(vars(ditlens), name, value)


class MadeUpEdit(types.SimpleNamespace):
    """What an edit says of itself, of given facts."""

    __repr__, _card = Edit.__repr__, Edit._card


@pytest.fixture
def edited(monkeypatch):
    """Stand-ins for model and editor; holds the arguments that `edit` was called with."""
    called: dict = {}

    def save(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "edit.png").touch()
        (folder / "edit.json").touch()

    facts = {"source_text": "a man", "target_text": "a man with a hat", "degree": 0.5, "targets": ["hat"],
             "before": {"hat": "none", "smile": 0.0, "age": 0.2, "gaze": 0.5},
             "after": {"hat": "cap", "smile": 0.3, "age": 0.21, "gaze": 0.5},
             "drift": 0.08, "warnings": [], "seconds": 1.25, "recipe": {"seed": 7}}  # fmt: skip
    result = MadeUpEdit(
        **facts,
        facts=lambda: facts,
        description=Description(facts["source_text"], facts["target_text"], {}),
        image=Image.new("RGB", (64, 64), "white"),
        source_image=Image.new("RGB", (64, 64), "black"),
        save=save,
        sweep=lambda degrees: types.SimpleNamespace(images=[Image.new("RGB", (64, 64))] * len(degrees)),
    )

    def edit(model, image, instruction, **settings):
        print("a library that prints")
        called.update(model=model, image=image, instruction=instruction, **settings)
        for step in range(2):
            settings["on_step"](types.SimpleNamespace(step=step, steps=2))
        return result

    provide(monkeypatch, load=lambda name, device: f"{name} on {device}", edit=edit)
    return called


@pytest.fixture
def image(tmp_path):
    """An image file."""
    Image.new("RGB", (64, 64)).save(tmp_path / "me.png")
    return tmp_path / "me.png"


# --- help and usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [*COMMANDS, *BENCH])
def test_help_is_readable_and_has_an_example(command, capsys):
    assert cli.main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example:\n    ditlens {command}" in text
    assert "..." not in text.replace("[ARGS]...", "")
    assert max(map(len, text.splitlines())) <= 84
    assert ("--json" in text) == (command != "bench")


@pytest.mark.parametrize("command", [*COMMANDS, *BENCH])
def test_the_example_is_right_usage(command, capsys):
    """An option behind the example is the only thing that is wrong with it."""
    cli.main([*command.split(), "--help"])
    example = capsys.readouterr().out.partition("Example:\n    ditlens ")[2].splitlines()[0]
    assert cli.main([*shlex.split(example), "--nope"]) == 2
    assert "No such option: --nope" in capsys.readouterr().err


def test_general_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^  (\w+)  +[A-Z]", text, re.MULTILINE) == list(COMMANDS)
    assert "ditlens demo" in text and "--install-completion" in text
    assert "..." not in text.replace("[ARGS]...", "")


def test_help_answers_at_once():
    words = [sys.executable, "-X", "importtime", "-m", "ditlens", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "diffusers", "transformers", "PIL", "PIL.Image", "rich", "tqdm"}


def test_shells_complete_commands_and_methods():
    def completed(words):
        asked = {
            "_DITLENS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        command = [sys.executable, "-m", "ditlens"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | asked)
        return done.stdout.split()

    assert completed("ditlens ed") == ["edit"]
    assert completed("ditlens edit --method flow") == ["flowedit", "flowalign", "flowslider"]


def test_help_tells_the_defaults(capsys):
    assert cli.main(["generate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "gives the same result. [default: 0]" in text
    assert "[default: portraits]" in text
    assert "default: None" not in text and "default: False" not in text


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ditlens {ditlens.__version__}\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["paint"], "No such command 'paint'"),
        (["generate"], "Missing argument 'prompt'"),
        (["generate", "a man", "--steps", "0"], "'--steps'"),
        (["generate", "a man", "--steps", "many"], "'--steps'"),
        (["generate", "a man", "--guidance", "nan"], "'--guidance'"),
        (
            ["generate", "a man", "--out", "a.gif"],
            "'--out': 'a.gif' must end in one of .png, .jpg, .jpeg, .webp",
        ),
        (["edit", "a.png"], "Missing argument 'instruction'"),
        (["edit", "a.png", "older", "--degree", "nan"], "'--degree'"),
        (["edit", "a.png", "older", "--degree", "3.5"], "'--degree'"),
        (["edit", "a.png", "older", "--method", "flow"], "'flow' is not one of 'ems', 'flowedit'"),
        (["edit", "a.png", "older", "--encoders", "clip,foo"], "write clip,t5 or 0,2"),
        (["edit", "a.png", "older", "--encoders", " ,"], "write clip,t5 or 0,2"),
        (["bench", "edit", "--degrees", "0,4"], "'0,4' holds no degrees from -2 to 3"),
        (["bench", "edit", "folder"], "unexpected extra argument"),
        (["train", "everything"], "'everything' is not one of 'text', 'vae'"),
        (["train", "vae", "--minutes", "-1"], "'--minutes'"),
    ],
)
def test_wrong_usage_leaves_with_2(words, complaint, capsys):
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.out == ""


def test_without_a_command_there_is_help(capsys):
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert "Make an image from a text." in captured.out + captured.err


@pytest.mark.parametrize("text", ["a", "4:", "3:1", "1,,2", "-1"])
def test_lists_of_numbers_that_cannot_be_read_say_how_to_write_them(text):
    with pytest.raises(typer.BadParameter, match="write 0:4 or 1,5,7"):
        options.numbers(text)


def test_lists_are_read():
    assert options.numbers("0:4") == (0, 1, 2, 3) and options.numbers("1,5,7") == (1, 5, 7)
    assert options.degrees("1,-0.5,1") == (-0.5, 1.0)
    assert options.passes("both") == options.passes("uncond,cond") == ("cond", "uncond")
    assert options.encoders("clip, 1") == ("clip", 1)


def test_negative_degrees_are_numbers_not_options(edited, image, tmp_path):
    assert cli.main(["edit", str(image), "older", "--degree", "-0.5", "--out", str(tmp_path)]) == 0
    assert edited["degree"] == -0.5


def test_what_the_command_line_knows_by_heart_is_so():
    """Without torch it cannot look."""
    from ditlens.bench.runner import DEGREES
    from ditlens.cli import bench, checks
    from ditlens.ems import extract, masks
    from ditlens.ems.sample import METHODS
    from ditlens.lens.study.run import FORMATS
    from ditlens.train import STAGES

    assert get_args(options.Method) == ("ems", *METHODS)
    assert set(get_args(options.Stage)) == {*STAGES, "twin", "all"}
    assert get_args(options.Dtype) == FORMATS
    assert set(checks.MASKS) == {"auto", *masks.MASKS}
    assert (options.LOWEST, options.HIGHEST) == (extract.LOWEST, extract.HIGHEST)
    assert options.degrees(bench.DEGREES) == DEGREES


# --- errors -------------------------------------------------------------------------------------------------


def refuse(*_, **__):
    raise ModelError("no model 'cats': there is 'portraits'. Pass --model portraits")


def test_own_errors_are_one_line_and_1(monkeypatch, capsys):
    provide(monkeypatch, load=refuse)
    assert cli.main(["generate", "a cat"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: no model 'cats': there is 'portraits'. Pass --model portraits\n"
    assert captured.out == ""


def test_own_errors_as_json(monkeypatch, capsys):
    provide(monkeypatch, load=refuse)
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

    provide(monkeypatch, load=load)
    assert cli.main(["generate", "a cat"]) == code
    assert capsys.readouterr().err.endswith(message)


@pytest.mark.parametrize("bug", [ZeroDivisionError("bug"), ModuleNotFoundError("x", name="ditlens.lost")])
def test_bugs_keep_their_traceback(bug, monkeypatch):
    def load(*_, **__):
        raise bug

    provide(monkeypatch, load=load)
    with pytest.raises(type(bug)):
        cli.main(["generate", "a cat"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("generate cat --model cats", "There is no model 'cats'"),
        ("generate cat --out me.png/a.png", "me.png is not a folder. Choose another place: --out"),
        ("edit gone.png older", "There is no file gone.png"),
        ("edit prompts.txt older", "prompts.txt is not an image"),
        ("edit me.png ' '", "The instruction is empty"),
        ("edit me.png ' ' --source-text 'a man'", "The instruction is empty"),
        ("edit me.png 'xyzzy plugh'", "Nothing in 'xyzzy plugh' is an edit of a portrait"),
        ("edit me.png 'xyzzy plugh' --describer own", "Nothing in 'xyzzy plugh' is an edit of a portrait"),
        ("edit me.png 'xyzzy plugh' --source-text 'a man'", "Nothing in 'xyzzy plugh' is an edit"),
        ("edit me.png older --mask gone.png", "There is no file gone.png"),
        ("edit me.png older --mask diference", "one of auto, none"),
        ("edit me.png older --out me.png", "me.png is not a folder"),
        ("check gone.png", "There is no file gone.png"),
        ("demo --model cats", "There is no model 'cats'"),
        ("capture --prompts gone.txt", "There is no file gone.txt"),
        ("capture --prompts prompts.txt --out prompts.txt", "prompts.txt is not a folder"),
        ("bench edit --suite nope", "There is no suite 'nope'"),
        ("train vae --out me.png", "me.png is not a folder"),
    ],
)
def test_what_is_wrong_is_told_before_torch_is_imported(words, complaint, image, monkeypatch, capsys):
    monkeypatch.chdir(image.parent)
    (image.parent / "prompts.txt").write_text("a man\n")
    provide(monkeypatch, load=lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("ditlens.lens.study.run", "ditlens.bench.runner", "ditlens.train.run"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main([*shlex.split(words), "--json"]) == 1
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert complaint in json.loads(captured.out)["error"]["message"]


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "mine")
    assert cli.main(["generate", "cat", "--out", str(tmp_path / "mine" / "new" / "a.png")]) == 1
    assert "mine may not be written to by you" in capsys.readouterr().err


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
        called.pop("on_step")(types.SimpleNamespace(step=0))
        return Image.new("RGB", (8, 8))

    model = types.SimpleNamespace(generate=draw, defaults={"steps": 20})
    provide(monkeypatch, load=lambda name, device: model)
    out = tmp_path / "new" / "a.png"
    assert cli.main(["generate", "a man", "--out", str(out), "--json", *words]) == 0
    assert called == {"prompt": "a man", **settings}, "what is not given is left to the model"
    assert Image.open(out).size == (8, 8)
    assert json.loads(capsys.readouterr().out) == {"prompt": "a man", **settings, "image": str(out)}


@pytest.mark.filterwarnings("always")
def test_generate_says_what_cannot_be_drawn(tmp_path, monkeypatch, capsys):
    def draw(prompt, **given):
        warnings.warn("This world has no 'cat'.", stacklevel=2)
        return Image.new("RGB", (8, 8))

    provide(
        monkeypatch, load=lambda name, device: types.SimpleNamespace(generate=draw, defaults={"steps": 1})
    )
    assert cli.main(["generate", "a cat", "--out", str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("a.png\n") and said.err.endswith("warning: This world has no 'cat'.\n")
    assert "test_cli.py" not in said.err, "no line of code"


def test_edit_for_machines(edited, image, tmp_path, capsys):
    words = [
        "edit",
        str(image),
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
    assert callable(edited.pop("on_step"))
    assert edited == {
        "model": "portraits on auto",
        "image": image,
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


@pytest.mark.parametrize(
    "given", ["--describer texts.json", "--source-text 'a man' --target-text 'a dragon'", "--model dragons"]
)
def test_instructions_are_left_to_others_than_a_world(given, edited, image, tmp_path, monkeypatch):
    monkeypatch.setenv("DITLENS_MODELS", str(tmp_path))
    for name, settings in (("portraits", {"world": "portraits"}), ("dragons", {"steps": 4})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text("{}")
        (tmp_path / name / "ditlens.json").write_text(json.dumps(settings))
    words = ["edit", str(image), "turn into a dragon", "--out", str(tmp_path)]
    assert cli.main([*words, *shlex.split(given)]) == 0
    assert edited["instruction"] == "turn into a dragon"


def test_edit_with_some_text_encoders(edited, image, tmp_path):
    words = ["edit", str(image), "add a hat", "--out", str(tmp_path), "--encoders"]
    assert cli.main([*words, "clip, 1"]) == 0
    assert edited["encoders"] == ("clip", 1), "names or numbers"


def test_a_wrong_text_encoder_lists_those_there(portraits, monkeypatch, image, tmp_path, capsys):
    provide(monkeypatch, load=lambda name, device: portraits)
    assert cli.main(["edit", str(image), "bald", "--out", str(tmp_path), "--encoders", "clip,t5"]) == 1
    assert "has no text encoder 't5'. Choose from: 0 (clip), 1 (clip_2)." in capsys.readouterr().err


def test_demo_for_people(edited, tmp_path, capsys):
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "source text  a man",
        "target text  a man with a hat",
        "degree       0.5",
        "seconds      1.2",
        "drift        0.080 of an attribute's range, mean over those not asked for",
        "",
        "measured  before      after",
        "--------  ------  --  -----  -------------",
        "hat       none    ->  cap",
        "smile     0.00    ->  0.30   not asked for",
        "(2 more attributes stayed the same)",
        "",
        f"wrote before_after.png, edit.png, edit.json, sweep.png in {tmp_path / 'out'}",
    ]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"before_after.png", "edit.png", "edit.json", "sweep.png"}


def test_demo_without_its_portrait(edited, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "PORTRAIT", tmp_path / "gone.png")
    assert cli.main(["demo"]) == 1
    assert "gone.png" in capsys.readouterr().err
    assert edited == {}


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
    run = importlib.import_module("ditlens.train.run")
    monkeypatch.setattr(run, "run", lambda stage, **given: called.update(given, stage=stage))
    assert cli.main(["train", "vae", "--minutes", "0.5", "--resume", "--out", str(tmp_path), "--json"]) == 0
    assert called == {"stage": "vae", "device": "auto", "minutes": 0.5, "resume": True, "out": tmp_path}
    assert json.loads(capsys.readouterr().out) == {"stage": "vae", "out": str(tmp_path), "result": None}


@pytest.mark.parametrize(("code", "result"), [(0, {"steps": 5}), (1, {})])
def test_train_with_workers_repeats_the_command(code, result, tmp_path, monkeypatch, capsys):
    words = ["train", "vae", "--workers", "2", "--out", str(tmp_path), "--json"]
    (tmp_path / "reports.json").write_text('{"vae": {"steps": 5}}')
    started = []
    monkeypatch.setattr("ditlens.workers.launch", lambda *given: started.append(given) or code)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert cli.main(words) == code
    assert started == [(words, 2)]
    assert json.loads(capsys.readouterr().out)["result"] == result


# --- files --------------------------------------------------------------------------------------------------


def test_an_input_is_never_overwritten(edited, image, capsys):
    """Not even with --force."""
    picture = image.rename(image.with_name("edit.png"))
    before = picture.read_bytes()
    for force in ([], ["--force"]):
        assert cli.main(["edit", str(picture), "older", "--out", str(picture.parent), *force]) == 1
        assert "edit.png is what this was made from: it is never overwritten" in capsys.readouterr().err
    (picture.parent / "mask.png").write_bytes(before)
    words = ["edit", str(picture), "older", "--mask", str(picture.parent / "mask.png"), "--force"]
    assert cli.main([*words, "--out", str(picture.parent)]) == 1
    assert edited == {} and picture.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ("generate cat --out new/a.png", ["a.png"]), ("edit me.png older --out new", ["edit.png"]),
        ("edit me.png older --out new", ["edit.json"]), ("edit me.png older --out new", ["mask.png"]),
        ("demo --out new", ["sweep.png"]), ("train oracle --out new", ["oracle/config.json"]),
        ("train all --out new", ["vae/config.json"]),
    ],
)  # fmt: skip
def test_other_files_are_overwritten_with_force_only(words, files, image, monkeypatch, capsys):
    monkeypatch.chdir(image.parent)
    for file in files:
        (image.parent / "new" / file).parent.mkdir(parents=True)
        (image.parent / "new" / file).write_text("precious")
    provide(monkeypatch, load=refuse)
    monkeypatch.setattr(importlib.import_module("ditlens.train.run"), "run", refuse)
    assert cli.main(shlex.split(words)) == 1
    assert f"{files[0]} is there already. Choose another place with --out, or overwrite it with --force." in (
        capsys.readouterr().err
    )
    assert (image.parent / "new" / files[0]).read_text() == "precious"
    assert cli.main([*shlex.split(words), "--force"]) == 1
    assert "no model 'cats'" in capsys.readouterr().err, "it gets as far as the model"


def test_paths_are_read_as_people_give_them(edited, image, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for k, given in enumerate([f"file://{image}", f"'{image}'", "~/me.png", '"~/me.png"']):
        assert cli.main(["edit", given, "older", "--out", f"~/out {k}", "--mask", given]) == 0
        assert edited["image"] == image
        assert (tmp_path / f"out {k}" / "edit.png").is_file()


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("a\0.png", "holds a character that no file's name can have"), ("", "not empty"),
        ("a" * 300 + ".png", "is a name too long for the file system"),
        ("https://a.org/b.png", "is an address (https://), not a file"),
    ],
)  # fmt: skip
def test_what_is_no_path_is_wrong_usage(out, why, image, capsys):
    for words in (
        ["generate", "a man"],
        ["edit", str(image), "older"],
        ["demo"],
        ["train", "vae"],
        ["bench", "edit"],
    ):
        assert cli.main([*words, "--out", out]) == 2
        assert why in " ".join(capsys.readouterr().err.split())
    for words in (["edit", out, "older"], ["check", out], ["study", out], ["bench", "page", out]):
        assert cli.main(words) == 2
    assert cli.main(["edit", str(image), "older", "--mask", out]) == 1, "it may be a word, too"


def test_every_path_of_a_command_is_read_by_one_function():
    commands = [*cli.app.registered_commands, *cli_bench.bench.registered_commands]
    given = [each for one in commands for each in inspect.signature(one.callback).parameters.values()]
    of_paths = (Path, Path | None)
    paths = [get_args(each.annotation) for each in given if {*get_args(each.annotation)[:1]} & {*of_paths}]
    assert len(paths) == 21
    assert {how.parser for _, how in paths} == {options.path, options.image_file}


# --- printing -----------------------------------------------------------------------------------------------

PRINTS = """
import sys
from ditlens.cli import app, main
@app.command("speak")
def speak() -> app.Outcome:
    return app.Outcome("wrote st\\xfcdy/\\u2764\\udcff", {"folder": "st\\xfcdy"})
sys.exit(main.main(["speak"]))
"""


def spoken(how: str, encoding: str = "utf-8") -> subprocess.CompletedProcess:
    """What a command prints, run by a shell."""
    words = shlex.join([sys.executable, "-c", PRINTS])
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    return subprocess.run(["bash", "-c", how.format(words)], capture_output=True, env=environment)


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("encoding", "seen"),
    [
        ("ascii", rb"wrote st\xfcdy/\u2764\udcff"), ("latin-1", b"wrote st\xfcdy/\\u2764\\udcff"),
        ("utf-8", "wrote stüdy/❤\\udcff".encode()),
    ],
)  # fmt: skip
def test_what_a_console_cannot_show_is_an_escape(encoding, seen):
    done = spoken("{}", encoding)
    assert (done.returncode, done.stdout, done.stderr) == (0, seen + b"\n", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("{} | true; exit ${{PIPESTATUS[0]}}", 0, b""), ("{} >&-", 0, b""),
        ("{} >/dev/full", 1, b"error: the work is done, but its result could not be printed: No space left "),
    ],
)  # fmt: skip
def test_a_result_that_nobody_can_read(how, code, said):
    done = spoken(how)
    assert done.returncode == code and done.stderr.startswith(said) and done.stderr.count(b"\n") == code


# --- progress -----------------------------------------------------------------------------------------------


def test_progress_calls_a_function_or_nothing(capsys):
    told = []
    with progress_bar("items", lambda *given: told.append(given)) as show:
        show(1, 3, "first")
    with progress_bar("items", False) as show:
        show(1, 3)
    assert told == [(1, 3, "first")]
    assert capsys.readouterr().err == ""


def test_progress_goes_to_a_listener_in_this_thread_only(capsys):
    told, others = [], []

    def work():
        with progress_bar("items", lambda *given: others.append(given)) as show:
            show(2, 3)
        with progress_bar("items") as show:
            show(3, 3)

    with progress_to(lambda *given: told.append(given)):
        remark("something")
        with progress_bar("items") as show:
            show(1, 3)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert (told, others) == ([(1, 3)], [(2, 3)])
    assert capsys.readouterr().err == ""
    remark("something")
    assert capsys.readouterr().err == "something\n"


def test_progress_in_a_log_file_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 16.0, 17.0, 40.0])
    monkeypatch.setattr("ditlens.tables.time.monotonic", lambda: next(clock))
    with progress_bar("items") as show:
        for done in range(4):
            show(done, 3, "done")
    assert capsys.readouterr().err == "items: 1/3 done, 00:32 left\nitems: 3/3 done\n"


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("ditlens.tables.WAIT", 0)
    with progress_bar("items") as show:
        for done in range(1, 4):
            show(done, 3)
    captured = capsys.readouterr()
    assert "items: 100%" in captured.err and "3/3" in captured.err
    assert captured.out == ""


def test_what_takes_no_second_shows_no_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar("items") as show:
        show(3, 3)
    assert capsys.readouterr().err == ""


def test_a_bar_inside_another_waits_longer(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("ditlens.tables.WAIT", 0)
    with progress_bar("outer") as outer, progress_bar("inner") as inner:
        outer(1, 2)
        inner(2, 2)
    shown = capsys.readouterr().err
    assert "outer: " in shown and "inner" not in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["edit", "a.png", "older", "--degree", "5"], "Invalid value for '--degree': give at most 3"),
        (["edit", "a.png", "older", "--degree", "-5"], "Invalid value for '--degree': give at least -2"),
        (["edit", "a.png", "older", "--degree", "much"], "Invalid value for '--degree': give a number"),
        (["generate", "a man", "--seed", "1.5"], "Invalid value for '--seed': give a whole number"),
        (
            ["edit", "a.png", "older", "--method", "x"],
            "Invalid value for '--method': 'x' is not one of 'ems', ",
        ),
        (["edit", "a.png"], "Missing argument 'instruction'."),
        (["paint"], "No such command 'paint'."),
    ],
)
def test_wrong_usage_speaks_plainly_to_people_and_machines(words, says, capsys):
    assert cli.main([*words, "--json"]) == 2
    captured = capsys.readouterr()
    assert f"Error: {says}" in captured.err
    said = json.loads(captured.out)["error"]
    assert said["type"] == "UsageError" and said["message"].startswith(says)


def test_help_lists_the_methods(capsys):
    for words in (["edit"], ["bench", "edit"]):
        assert cli.main([*words, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "ems, flowedit, flowalign, flowslider, dvrf, dds," in text


@pytest.mark.parametrize("command", ["page", "vote", "export", "votes"])
def test_a_benchmark_that_is_not_named(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", command]) == 1
    said = (
        "error: Which benchmark? In outputs there is none. Name its folder, or make one: ditlens bench edit"
    )
    assert capsys.readouterr().err.startswith(said)
    for name in ("a", "b"):
        (tmp_path / "outputs" / name).mkdir(parents=True)
        (tmp_path / "outputs" / name / "bench.json").write_text("{}")
    assert cli.main(["bench", command]) == 1
    assert f"In outputs are {Path('outputs/a')}, {Path('outputs/b')}." in capsys.readouterr().err
    (tmp_path / "outputs/b/bench.json").unlink()
    assert cli.main(["bench", command]) == 1
    assert (
        f"{Path('outputs/a')} is not the folder of a benchmark: it has no summary.json"
        in capsys.readouterr().err
    )


def test_numbers_agree_with_their_nouns():
    assert [counted(n, "damaged shard") for n in (0, 1, 2)] == [
        "0 damaged shards",
        "1 damaged shard",
        "2 damaged shards",
    ]


def test_errors_name_options_not_arguments(capsys):
    assert cli.main(["generate", "a man", "--device", "nonsense"]) == 1
    assert capsys.readouterr().err.endswith("Try --device 'cpu'.\n")
    said = typed(
        "Pass target_text= too, or limit='2 GB', dtype=torch.bfloat16; other=3.",
        ["target_text", "limit", "dtype"],
    )
    assert said == "Pass --target-text too, or --limit '2 GB', --dtype bfloat16; other=3."
    named = "Pass describer=. Type: `ditlens capture --out . --model x`, describer=, or (describer=)"
    assert typed(named, ["describer"]) == (
        "Pass --describer. Type: `ditlens capture --out . --model x`, --describer, or (--describer)"
    )


@pytest.mark.parametrize("reduce", ["sketch", "sketch:0", "median", "mean "])
def test_a_wrong_reduction_lists_those_of_the_command(reduce, image, capsys):
    assert cli.main(["capture", "--prompts", str(image), "--reduce", reduce]) == 2
    assert f"{reduce!r} is none of sketch:64 (or another width), none, mean" in capsys.readouterr().err
