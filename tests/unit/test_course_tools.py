"""What learners and teachers type: the desk in a kernel, editions, kits, preflight."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from ditlens import course
from ditlens.cli import options, preflight
from ditlens.cli.main import main
from ditlens.course import desk, editions, grading, kit
from ditlens.course.desk import DESK
from ditlens.course.hand_out import WRITERS, hand_out
from ditlens.course.lessons import LESSONS
from ditlens.errors import ModelError, SettingError


@pytest.fixture(autouse=True)
def own_desk(monkeypatch):
    """A desk on which nothing lies."""
    monkeypatch.delenv(desk.VARIABLE, raising=False)
    for name, value in vars(desk.Desk()).items():
        monkeypatch.setattr(DESK, name, value)


# --- the desk ---------------------------------------------------------------------------------------------


def test_a_lesson_begins_with_the_model_that_the_environment_names(monkeypatch):
    assert "model portraits;" in repr(course.start("00"))
    monkeypatch.setenv(desk.VARIABLE, "portraits-twin")
    assert "model portraits-twin (DITLENS_MODEL names it)" in repr(course.start("0"))
    monkeypatch.setenv(desk.VARIABLE, "no-such-model")
    with pytest.raises(ModelError, match="no-such-model"):
        course.start("00")


@pytest.mark.parametrize("number", ["13", "x", ""])
def test_a_lesson_that_is_not_there(number):
    with pytest.raises(SettingError, match="they are 00 to 12"):
        course.start(number)


def test_exercises_that_are_not_there():
    with pytest.raises(SettingError, match=r"notebook 00 has 00.1, 00.2"):
        course.check("00.9", 1)
    with pytest.raises(SettingError, match="look like"):
        course.hint("zero")


def test_the_desk_remembers(tmp_path):
    assert "not yet" in repr(course.check("00.1", 0.5)) and "right" in repr(
        course.check("00.2", "Reconstruction ")
    )
    first, second = course.hint("00.1"), course.hint("00.1")
    assert "hint 1 of 2" in repr(first) and "hint 2 of 2" in repr(second) == repr(course.hint("00.1"))
    shown = repr(course.exercises("00"))
    assert shown.startswith("1 of 4") and shown.count("○ open") == 2 and shown.count("✗ not yet") == 1

    handed = course.results(tmp_path / "ada.json", name="Ada")
    assert repr(handed).endswith("ada.json, of Ada: 2 exercises of notebooks 00, 1 right.")
    found = json.loads(handed.file.read_text())["exercises"]
    assert found["00.1"] | {"diagnosis": ""} == {
        "answer": "0.5", "right": False, "diagnosis": "", "attempts": 1, "hints": 2,
    }  # fmt: skip
    assert found["00.1"]["diagnosis"].startswith("Halfway") and found["00.2"]["right"] is True


def test_an_exercise_has_one_count_however_it_is_written():
    course.hint("0.1"), course.check("00.1", 0.5)
    assert "hint 2 of 2" in repr(course.hint("00.1"))
    assert list(DESK.entries) == ["00.1"]


def test_numbers_that_are_none():
    for answer in (float("nan"), float("-inf"), [float("inf")]):
        assert "divided by 0" in course.check("00.1", answer).says


def test_what_was_right_stays_right():
    for answer in (0.5, 0.75, 1, ...):
        course.check("00.1", answer)
    assert vars(DESK.entry("00.1")) == {
        "answer": "0.75", "right": True, "diagnosis": "", "attempts": 3, "hints": 0,
    }  # fmt: skip


def test_results_of_several_notebooks_are_in_one_file(tmp_path, monkeypatch):
    course.check("00.2", "reconstruction")
    course.results(tmp_path / "ada.json", name="Ada")
    monkeypatch.setattr(DESK, "entries", {})  # another kernel
    course.check("00.3", "pooled")
    course.results(tmp_path / "ada.json", name="Ada")
    found = json.loads((tmp_path / "ada.json").read_text())["exercises"]
    assert {id: entry["right"] for id, entry in found.items()} == {"00.2": True, "00.3": False}


def test_what_was_right_in_another_kernel_stays_right(tmp_path, monkeypatch):
    for answer in ("source", "reconstruction"):
        course.check("00.2", answer)
    course.results(tmp_path / "ada.json", name="Ada")
    monkeypatch.setattr(DESK, "entries", {})  # the kernel is restarted
    course.hint("00.2"), course.check("00.2", "target")
    (entry,) = course.results(tmp_path / "ada.json", name="Ada").exercises.values()
    assert (entry["right"], entry["answer"], entry["attempts"], entry["hints"]) == (
        True,
        "'reconstruction'",
        2,
        1,
    )


def test_results_of_others_stay(tmp_path):
    course.check("00.2", "reconstruction")
    course.results(tmp_path / "ada.json", name="Ada")
    with pytest.raises(SettingError, match="is of 'Ada', not of 'Bo'"):
        course.results(tmp_path / "ada.json", name="Bo")
    (tmp_path / "other.json").write_text('{"format": "x"}')
    with pytest.raises(SettingError, match="no file of course results"):
        course.results(tmp_path / "other.json", name="Ada")
    with pytest.raises(SettingError, match=r"must end in \.json"):
        course.results(tmp_path / "ada.txt", name="Ada")


@pytest.mark.parametrize("exercises", ["3", '{"00.1": 3}', '{"00.1": {"right": true}}', "null"])
def test_a_damaged_file_of_results(tmp_path, exercises):
    course.check("00.1", 0.5)
    file = tmp_path / "ada.json"
    file.write_text(f'{{"format": "ditlens-course-1", "name": "Ada", "exercises": {exercises}}}')
    with pytest.raises(SettingError, match="is damaged"):
        course.results(file, name="Ada")


def test_nothing_to_hand_in(tmp_path):
    with pytest.raises(SettingError, match="no exercise was checked"):
        course.results(tmp_path / "ada.json", name="Ada")
    course.check("00.1", 0.5)
    for name in ("", " "):
        with pytest.raises(SettingError, match="The name is empty"):
            course.results(tmp_path / "ada.json", name=name)
    assert not list(tmp_path.iterdir())


def test_a_function_that_ends_python():
    assert "stopped with SystemExit: 3" in course.check("05.4", lambda *given: sys.exit(3)).says


def test_a_lesson_must_be_begun_to_be_listed():
    with pytest.raises(SettingError, match=r'course.exercises\("05"\)'):
        course.exercises()


def test_marked_cells_are_skipped_where_the_model_has_no_world(monkeypatch, capsys):
    shell = InteractiveShell()
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    for _ in range(3):  # a cell that is run again
        course.start("00")
    assert shell.input_transformers_cleanup.count(desk.skipped) == 1
    marked = "\n# portraits only: its oracle measures\nprint('measured')"
    shell.run_cell(marked)
    monkeypatch.setattr(DESK, "world", False)
    monkeypatch.setattr(DESK, "model", "sd3")
    shell.run_cell(marked)
    shell.run_cell("print('plain')")
    said = capsys.readouterr().out.splitlines()
    assert said == ["measured", "Skipped with the model sd3: portraits only: its oracle measures.", "plain"]
    InteractiveShell.clear_instance()


# --- editions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", LESSONS)
def test_editions_have_what_they_should(number):
    tags = {
        kind: [editions.tag_of(cell) for cell in getattr(editions, kind)(number).cells]
        for kind in ("student", "solution", "teacher")
    }
    count = len(LESSONS[number].exercises)
    assert tags["student"].count("exercise") == count and not {"solution", "teacher"} & set(tags["student"])
    assert tags["solution"].count("solution") == count and not {"exercise", "teacher"} & set(tags["solution"])
    assert tags["teacher"].count("teacher") > count and "exercise" not in tags["teacher"]
    for made in (grading.nbgrader(number), grading.otter(number), editions.teacher(number)):
        nbformat.validate(made)
    points = [cell.metadata.get("nbgrader", {}).get("points", 0) for cell in grading.nbgrader(number).cells]
    assert sum(points) == sum(exercise.difficulty for exercise in LESSONS[number].exercises)


def test_a_students_copy_has_no_outputs(tmp_path):
    files = hand_out(tmp_path, lessons=["00"])
    assert [path.name for path in files] == ["00_start_here.ipynb", "glossary.md"]
    nb = nbformat.read(files[0], as_version=4)
    assert not any(cell.get("outputs") for cell in nb.cells)
    sources = [cell.source for cell in editions.student("00").cells]
    here = [source.replace("(../docs/reference/glossary.md)", "(glossary.md)") for source in sources]
    assert [cell.source for cell in nb.cells] == here != sources


def test_work_is_not_overwritten(tmp_path):
    path, _ = hand_out(tmp_path, lessons=["00"])
    path.write_text("my answers")
    with pytest.raises(SettingError, match="00_start_here.ipynb is there already"):
        hand_out(tmp_path, lessons=["00"])
    assert len(hand_out(tmp_path, lessons=["01"])) == 2, "the glossary that is there is the same"
    assert path.read_text() == "my answers"
    with pytest.raises(SettingError, match="what this was made from"):
        hand_out(editions.SOURCES, lessons=["00"], overwrite=True)
    with pytest.raises(SettingError, match="no notebook '77'"):
        hand_out(tmp_path, lessons=["77"])


def test_the_command(tmp_path, capsys):
    assert main(["course", str(tmp_path / "a"), "--only", "0,01", "--edition", "figures"]) == 0
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"00_start_here.svg", "00_start_here_01.jpg", "01_inside.svg", "LICENCE.txt"} <= names
    assert main(["course", str(tmp_path / "a"), "--only", "x"]) == 2
    assert "write 05 or 05,06" in capsys.readouterr().err


def test_the_command_knows_every_edition():
    assert list(get_args(options.Edition)) == list(WRITERS)


def test_a_source_that_does_not_agree(tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()
    monkeypatch.setattr(editions, "SOURCES", tmp_path)
    file = tmp_path / "source" / "00_start_here.py"
    with pytest.raises(SettingError, match="There is no source"):
        editions.source("00")
    for text, said in {
        '# %% tags=["exercize"]\nx = 1': "unknown tag 'exercize'",
        '# %% tags=["exercise"]\nx = ...\ncourse.check("00.1", x)\n\n# %%\nx = 1': "followed by its solution",
        "# %%\nx = 1": "asks",
    }.items():
        file.write_text(text)
        with pytest.raises(SettingError, match=said):
            editions.source("00")


# --- a room of laptops ------------------------------------------------------------------------------------


def test_a_kit_is_checked_before_it_begins(tmp_path):
    with pytest.raises(SettingError, match="amiga: platforms are windows, macos, linux"):
        kit.collect(tmp_path / "kit", ["amiga"])
    with pytest.raises(SettingError, match=r"2\.7: platforms"):
        kit.collect(tmp_path / "kit", ["linux"], ["2.7"])
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingError, match="Choose a new folder"):
        kit.collect(tmp_path, ["linux"])
    with pytest.raises(SettingError, match="is no wheel of ditlens"):
        kit.collect(tmp_path / "kit", ["linux"], wheel=tmp_path / "mine.txt")
    with pytest.raises(SettingError, match="There is no file"):
        kit.collect(tmp_path / "kit", ["linux"], wheel=tmp_path / "ditlens-1.whl")
    (tmp_path / "ditlens-1.whl").write_text("x")
    with pytest.raises(SettingError, match="is damaged"):
        kit.collect(tmp_path / "kit", ["linux"], wheel=tmp_path / "ditlens-1.whl")
    with pytest.raises(SettingError, match="no folder that is there"):
        kit.collect(tmp_path / "kit", ["linux"], index="/absent")
    assert not (tmp_path / "kit").exists()


def test_a_kit_is_continued(tmp_path, monkeypatch):
    asked, fail = [], [True]

    def run(command, settings=None):
        asked.append([str(word) for word in command])
        if "download" in asked[-1] and fail.pop():
            raise SettingError("A network is needed now")
        if "download" in asked[-1]:
            place = Path(asked[-1][asked[-1].index("-d") + 1])
            (place / f"torch-{len(asked)}.whl").write_bytes(b"x")

    monkeypatch.setattr(kit, "run", run)
    wheel = tmp_path / "ditlens-0.1.0-py3-none-any.whl"
    zipfile.ZipFile(wheel, "w").close()
    with pytest.raises(
        SettingError, match=r"The packages for windows, Python 3\.12, could not be had\. A network"
    ):
        kit.collect(tmp_path / "kit", ["windows"], ["3.12"], wheel)
    fail[:] = [False, False]
    made = kit.collect(tmp_path / "kit", ["windows", "macos"], ["3.12"], wheel)
    assert made.packages == 3 and made.systems == ("windows (Python 3.12)", "macos (Python 3.12)")
    assert any("macosx_14_0_arm64" in command for command in asked)
    assert (tmp_path / "kit" / "notebooks" / "00_start_here.ipynb").is_file()
    assert b"\r\n" in (tmp_path / "kit" / "install.cmd").read_bytes()
    assert subprocess.run(["sh", "-n", tmp_path / "kit" / "install.sh"]).returncode == 0


def test_preflight_looks_at_the_things_themselves(monkeypatch):
    monkeypatch.setattr(preflight.doctor, "examine", lambda: [])
    found = {check.name: check for check in preflight.examine()}
    assert {check.status for check in found.values()} == {"ok"}
    assert "result as it should be" in found["edit a portrait"].found
    assert preflight.facts(list(found.values()))["ready"] is True


def test_preflight_looks_at_the_model_and_at_the_home(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight.doctor, "examine", lambda: [])
    for name in ("check_edit", "check_notebooks", "check_port", "check_notebook_kernel"):
        monkeypatch.setattr(preflight, name, lambda: iter(()))
    monkeypatch.setenv(desk.VARIABLE, "nonsense")
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    found = {check.name: check.found for check in preflight.examine() if check.status == "fail"}
    assert found["course model"].startswith(
        "ModelError: The environment variable DITLENS_MODEL names the model."
    )
    assert "cannot be written" in found["home"]


def test_preflight_says_what_fails(monkeypatch):
    def broken():
        raise OSError("no kernel today")
        yield

    monkeypatch.setattr(preflight.doctor, "examine", lambda: [])
    for name in ("check_edit", "check_notebooks", "check_port"):
        monkeypatch.setattr(preflight, name, lambda: iter(()))
    broken.__name__ = "check_notebook_kernel"
    monkeypatch.setattr(preflight, "check_notebook_kernel", broken)
    (check,) = preflight.examine()
    assert check.status == "fail" and "no kernel today" in check.found and check.name == "notebook kernel"
    assert preflight.facts([check])["ready"] is False


def test_the_first_cell_does_nothing_where_ditlens_is_there(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", editions.SETUP], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
