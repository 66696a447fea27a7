"""The explorer without a browser: its state, what it shows, its page, and what functions give for the same."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.analysis.probes import UNKNOWN, Probe, ProbeCell
from ditlens.errors import CaptureError, SettingError
from ditlens.lens.site import Site
from ditlens.lens.spans import word_finder
from ditlens.lens.study.run import plan_study, run_study
from ditlens.views.explorer import maps
from ditlens.views.explorer import open as opening
from ditlens.views.explorer.card import compared, still
from ditlens.views.explorer.inside import Lab
from ditlens.views.explorer.material import Material, difference, rounded, thinned
from ditlens.views.explorer.session import Session
from ditlens.views.explorer.state import ExplorerState, picked, stretch

PROMPTS = ["a big smile", "a frown, a cap", "red hair", "a big smile, a cap", "a blue shirt", "an old person"]
OUT = "joint.1.image.out"


@pytest.fixture(scope="module")
def study(portraits, tmp_path_factory):
    plan = plan_study(
        portraits, PROMPTS, list(range(len(PROMPTS))), ["joint.*.image.out", "joint.0.text.out"], paired=True,
        sampling_steps=4, guidance=2.0, columns={"group": ["a", "b", "a", "b", "a", "b"]},
    )  # fmt: skip
    return run_study(portraits, plan, tmp_path_factory.mktemp("study"), progress=False)


@pytest.fixture
def session(study, portraits):
    made = Session(study, portraits)
    yield made
    made.close()


def settled(session, seconds=60.0):
    """What a session shows when nothing is left to do."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        shown = session.shown()
        if shown["idle"]:
            return shown
        session.wait(shown["version"], timeout=0.5)
    raise AssertionError(f"the session did not come to rest: {session.shown()['busy']}")


# --- the state --------------------------------------------------------------------------------------------


def test_a_state_goes_through_json_whole():
    state = ExplorerState(
        site=OUT, step=3, color="hat", chosen=(1, 2), picture=4, focus=("word", 2), cell=(1, 3)
    )
    assert ExplorerState.from_json(state.to_json()) == state


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"), ("[]", "not the state of an explorer"),
        ('{"format": "ditlens explorer 1", "picture": 1.5}', "picture is 1.5; it is a whole number"),
        ('{"format": "ditlens explorer 1", "chosen": "abc"}', "chosen is 'abc'; it is a tuple"),
        ('{"format": "ditlens explorer 1", "focus": ["patch"]}', "focus is .'patch',.; it is"),
        ('{"format": "ditlens explorer 1", "cell": [1]}', "cell is .1,.; it is a block and a step"),
        ('{"format": "ditlens explorer 1", "color": null}', "color is None; it is a text"),
        ('{"format": "ditlens explorer 1", "x": 1}', "no setting 'x'"),
        ('{"format": "ditlens explorer 1", "kind": "x"}', "one of probe, causal, attention"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_state_is_refused(text, words):
    with pytest.raises(SettingError, match=words):
        ExplorerState.from_json(text)


def test_a_number_that_rounds_to_zero_has_no_sign():
    assert [rounded(x) for x in (-0.004, 0.0, -0.006, 1.2349)] == ["0.00", "0.00", "-0.01", "1.23"]


def test_rows_stretches_and_picked_numbers():
    assert ExplorerState(tokens="28").row() == [28] and ExplorerState(tokens="each").row() == "each"
    assert [stretch(kind, 4, 10) for kind in ("until", "from", "only")] == [(0, 5), (4, 10), (4, 5)]
    assert picked([3, 5], 5) == [3, 5] and picked(range(9), 3) == [0, 4, 8]


# --- the material -----------------------------------------------------------------------------------------


def test_points_are_those_of_pca(study):
    state = ExplorerState(site=OUT, step=2, tokens="mean")
    found = Material(study).points(state)
    mine = dl.PCA(2, tokens="mean").fit_transform(study.select([OUT], step=[2]))
    assert np.array_equal(found.projection.coordinates, mine.coordinates)
    assert found.axes[0].startswith("PC1 (") and len(found.projection) == 6


def test_more_points_than_can_be_shown_are_thinned(study):
    every = dl.PCA(2).fit_transform(study.select([OUT], step=[2]))
    found = thinned(every, 100)
    assert len(found) == 100 and found.note == "100 of 384 points, drawn at random"
    items, tokens = found.labels["item"], found.labels["token"]
    assert np.array_equal(found.coordinates, every.coordinates[items * 64 + tokens])


def test_what_a_point_can_be(study):
    material = Material(study)
    assert [value for _, value in material.token_choices(OUT)][:4] == ["mean", "each", "0", "1"]
    assert [value for _, value in material.token_choices("joint.0.text.out")] == ["mean", "each"]
    assert list(material.streams()) == ["text", "image"]
    assert material.colors[0] == "smile" and material.colors[-1] == "group"


def test_colours_of_points_and_legend(study):
    material = Material(study)
    points = material.points(ExplorerState(site=OUT, step=0))
    shades, legend = material.shades(points, "group")
    assert [each["label"] for each in legend] == ["a", "b"]
    rgb = np.frombuffer(shades, np.uint8).reshape(-1, 3)
    assert rgb[0].tolist() == rgb[2].tolist() == [0x00, 0x72, 0xB2] and rgb[1].tolist() == [0xE6, 0x9F, 0x00]
    assert len(material.shades(points, "smile")[1]) >= 5


def test_what_a_selection_has_more_of():
    inside = np.array([True, True, False, False])
    assert difference("smile", [1.0, 1.0, 0.0, 0.0], inside)[1] == {
        "name": "smile", "chosen": "1.00", "others": "0.00", "by": "+2.0 sd",
    }  # fmt: skip
    size, row = difference("hair_color", ["red", "red", "red", "black"], inside)
    assert (size, row["name"], row["by"]) == (1.0, "hair color: black", "-50 points")
    assert difference("x", [1.0, 1.0, 1.0, 1.0], inside) is None
    assert difference("x", [None, None, 1.0, 2.0], inside) is None
    assert "2 pictures selected" in compared([row], 2) and "Click a point" in compared([], 0)


def test_pictures_must_be_as_many_as_images(study):
    with pytest.raises(SettingError, match="Got 1 pictures for 6 images"):
        Material(study, ["one"])


# --- inside a picture -------------------------------------------------------------------------------------


def test_the_picture_is_drawn_again_and_attention_adds_up(study, portraits):
    inside = Lab(portraits, Material(study)).open(3)
    mine = portraits.generate(PROMPTS[3], seed=3, steps=4, guidance=2.0)
    assert np.abs(np.asarray(inside.picture, int) - np.asarray(mine, int)).max() <= 1
    assert [word for word, _ in inside.words] == ["a", "big", "smile", "a", "cap"]
    block = Site.parse(OUT)
    with dl.capture(portraits, "joint.1.*.attn.to_{text,image}", passes="cond") as cache:
        portraits.generate(PROMPTS[3], seed=3, steps=4, guidance=2.0)
    to = inside.gaze(block, 2, ("patch", 28), "to")
    assert torch.allclose(torch.tensor(to.patches), cache["joint.1.image.attn.to_image", 2][0, 28], atol=1e-4)
    smile = cache["joint.1.image.attn.to_text", 2][0, 28, inside.words[2][1]].sum()
    assert to.words[2] == pytest.approx(float(smile), abs=1e-4)
    assert 0 < sum(to.patches) + sum(to.words) <= 1 + 1e-4
    seen = inside.gaze(block, 2, ("word", 2), "from")
    column = cache["joint.1.image.attn.to_text", 2][0][:, inside.words[2][1]].sum(-1)
    assert torch.allclose(torch.tensor(seen.patches), column, atol=1e-4)
    with pytest.raises(CaptureError, match="No attention is known in joint block 5"):
        inside.gaze(Site.parse("joint.5.image.out"), 2, ("patch", 0), "to")


def test_the_path_goes_through_the_picture_itself(study, portraits):
    material = Material(study)
    points = material.points(ExplorerState(site=OUT, step=2))
    path = Lab(portraits, material).open(3).path(points.projection.view, OUT, material.numbers(OUT))
    assert len(path) == 4
    assert np.allclose(path[2], points.projection.coordinates[3], atol=0.05)


def test_words_and_their_tokens(portraits):
    text = "a big smile, a cap"
    found = word_finder(portraits.pipe).each(text)
    assert [word for word, _ in found] == ["a", "big", "smile", "a", "cap"]
    whole = dl.words(portraits, text, "a")
    assert sorted(found[0][1] + found[3][1]) == sorted({t for each in whole.values() for t in each})


def test_a_cell_is_what_patching_gives(study, portraits):
    lab = Lab(portraits, Material(study))
    contrast = lab.contrast(0, "hat")
    made = lab.patched(0, "hat", "text", [(0, (0, 4)), (1, (0, 2)), (0, (0, 4))])
    assert made[0] is made[2]
    with dl.capture(portraits, "joint.1.text.in", passes="cond") as donor:
        portraits.generate(contrast.pair.clean, seed=0, steps=4, guidance=2.0)
    change = {"joint.1.text.in": dl.replace_with(donor)}
    with dl.intervene(portraits, change, steps=range(0, 2), passes="cond"):
        mine = portraits.generate(contrast.pair.corrupt, seed=0, steps=4, guidance=2.0)
    assert np.abs(np.asarray(made[1].picture, int) - np.asarray(mine, int)).max() <= 1
    assert np.abs(np.asarray(made[1].picture, int) - np.asarray(contrast.pictures[0], int)).max() > 1


def test_a_picture_is_changed_in_attributes_of_the_world_only(study, portraits):
    with pytest.raises(SettingError, match="'group'"):
        Lab(portraits, Material(study)).contrast(0, "group")


# --- the session ------------------------------------------------------------------------------------------


def test_a_session_opens_with_points_and_a_picture(session, study):
    shown = settled(session)
    assert (shown["error"], shown["picture_error"], shown["map_wait"]) == ("", "", "")
    assert len(shown["xy"]) == 6 * 8 and len(shown["shades"]) == 6 * 3 and shown["picture"]
    assert shown["words"] == ["a", "big", "smile"] and shown["grid"] == (8, 8) and len(shown["path"]) == 4
    assert session.selection == []
    session.choose([4, 1, 1])
    assert session.selection == [study.items[1], study.items[4]]
    assert len(study.select(items=session.selection)) == 2
    assert settled(session)["chosen_numbers"] == [1, 4]


def test_the_last_wish_wins(session, monkeypatch):
    settled(session)
    made, points = [], Material.points

    def slow(self, state):
        made.append(state.step)
        time.sleep(0.05)
        return points(self, state)

    monkeypatch.setattr(Material, "points", slow)
    for k in range(30):
        session.configure(step=k % 4)
        time.sleep(0.005)
    session.configure(step=2)
    shown = settled(session)
    assert made[-1] == 2 and len(made) < 15
    mine = dl.PCA(2, tokens="mean").fit_transform(
        session.material.source.select([shown["state"]["site"]], step=[2])
    )
    assert shown["xy"] == mine.coordinates.tobytes()


def test_a_map_that_nobody_wants_any_more_is_left_off(session, monkeypatch):
    settled(session)
    calls, patched = [], Lab.patched

    def counted(self, *args):
        calls.append(len(args[-1]))
        return patched(self, *args)

    monkeypatch.setattr(Lab, "patched", counted)
    session.configure(color="hat", kind="causal")
    session.configure(cell=(1, 2))
    shown = settled(session)
    assert 1 in calls and shown["cell"] is not None and shown["map"] is not None
    assert shown["cell"]["told"] == "text states entering block 1, steps 0 to 2"
    assert len(shown["map"]["rows"]) == 2 and shown["map"]["columns"] == ["0", "1", "2", "3"]
    effect = shown["cell"]["effect"]
    assert shown["map"]["texts"][1][2] == ("" if np.isnan(effect) else f"{effect:.2f}")


def test_a_row_of_a_map_is_its_own_block(study, portraits):
    session = Session(study.select(block=1, stream="image"), portraits)
    try:
        cells = [
            ProbeCell("joint.1.image.out", step, 3, *[UNKNOWN._replace(value=step / 4)] * 6)
            for step in range(4)
        ]
        found = Probe("smile", "R²", tuple(cells), (), 6, 0.0)
        made = maps.of_probe(found, settled(session) and session.lab, [0, 2])
        assert (made["rows"], made["blocks"], made["texts"]) == (["1"], [1], [["0.00", "0.50"]])
    finally:
        session.close()


def test_words_on_every_colour_of_a_map_can_be_read():
    values = np.linspace(0, 1, 201)[None]
    made = maps.table([("0", 0)], range(201), values, "", 1.0)
    rgb = np.asarray([[int(each[k : k + 2], 16) / 255 for k in (1, 3, 5)] for each in made["colors"][0]])
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    contrast = np.where(made["dark"][0], 1.05 / (light + 0.05), (light + 0.05) / 0.05)
    assert contrast.min() >= 4.5


def test_attention_to_the_words_of_an_attribute(session):
    session.configure(color="smile", kind="attention", focus=("patch", 28))
    shown = settled(session)
    assert "patch 28" in shown["map"]["told"] and "“smile”" in shown["map"]["told"]
    assert "patch 28 looks" in shown["gaze"]


def test_errors_are_told_in_words(session):
    settled(session)
    session.configure(color="nothing such")
    assert "no column 'nothing such'" in session.error
    session.configure(site="joint.9.image.out")
    assert "There are: joint.0.text.out" in session.error
    session.configure(picture=77)
    assert "There is no picture 77" in session.error
    session.configure(color="group", kind="causal")
    shown = settled(session)
    assert shown["error"] == "" and "'group'" in shown["map_error"]


def test_the_cell_is_code_that_runs(session, study, monkeypatch, portraits):
    session.configure(color="hat", kind="causal", chosen=(0, 2), cell=(1, 1), focus=("patch", 3))
    settled(session)
    code = session.code()
    monkeypatch.setattr(dl, "load", lambda _: portraits)
    monkeypatch.setattr(dl, "patch", lambda *_, **given: Found(given))
    names = {}
    exec(code.replace("from IPython.display import display", "display = print"), names)
    assert names["chosen"] == [study.items[0], study.items[2]]
    assert names["found"].given["steps"] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    made = session.lab.patched(0, "hat", "text", [(1, (0, 2))])[0].picture
    assert np.abs(np.asarray(names["patched"], int) - np.asarray(made, int)).max() <= 1
    assert names["cache"].steps == [0, 1, 2, 3]


class Found:
    def __init__(self, given):
        self.given = given

    def plot(self):
        return "a map"


def test_a_cache_is_explored_too(portraits):
    with dl.capture(
        portraits, ["joint.*.image.out", "joint.1.*.attn.to_{text,image}"], passes="cond"
    ) as cache:
        drawn = [portraits.generate(text, seed=k, steps=2) for k, text in enumerate(PROMPTS[:4])]
    session = Session(cache, portraits, drawn)
    try:
        session.configure(color="", site=OUT, step=1, picture=2, focus=("word", 1), kind="causal")
        shown = settled(session)
        assert shown["words"] == ["red", "hair"] and len(shown["patches"]) == 64 and len(shown["xy"]) == 4 * 8
        assert "Choose an attribute" in shown["map_wait"]
        session.choose([3])
        assert session.selection == [3]
        session.configure(cell=(0, 1))
        assert "does not know the seeds" in settled(session)["cell_error"]
    finally:
        session.close()


def test_what_takes_long_is_told_on_the_page_only(session, monkeypatch, capsys):
    from ditlens.tables import progress_bar, remark
    from ditlens.views.explorer import session as sessions

    told = []

    def probing(*_):
        remark("never seen")
        with progress_bar("probe") as show:
            show(1, 4)
            told.append(session.shown()["busy"])

    monkeypatch.setattr(sessions, "probe", probing)
    session.configure(color="group", kind="probe")
    settled(session)
    assert told[-1:] == ["probing (5 to 10 s), 25 %"] and "never seen" not in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_or_is_another_is_told(study, portraits, monkeypatch):
    from ditlens.errors import ModelError
    from ditlens.views.explorer import session as sessions

    def nothing(_):
        raise ModelError("There is no such model.")

    monkeypatch.setattr(sessions, "load", nothing)
    without = Session(study)
    shown = settled(without)
    without.close()
    assert shown["picture_error"] == "There is no such model." and len(shown["xy"]) == 6 * 8
    monkeypatch.setattr(sessions, "fingerprint", lambda _: "0")
    other = Session(study, portraits)
    shown = settled(other)
    other.close()
    assert "by another model than drew the study" in shown["drawn"]


def test_umap_is_made_beside_the_rest(session, monkeypatch):
    settled(session)
    points = Material.points
    monkeypatch.setattr(
        Material, "points", lambda self, s: points(self, s.with_changes(view="PCA")) or time.sleep(1)
    )
    session.configure(view="UMAP")
    session.configure(picture=4)
    assert not session.shown()["is_laid"]
    shown = settled(session)
    assert shown["is_laid"] and shown["path"] == []


# --- the page ---------------------------------------------------------------------------------------------


@pytest.fixture
def explorer(study, portraits):
    pytest.importorskip("anywidget")
    made = dl.Explorer(study, portraits)
    yield made
    made.close()


def shows(explorer, condition, seconds=30.0):
    """Wait until the page shows something: it follows its session from a thread of its own."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, explorer.error.value
        time.sleep(0.02)


def test_the_page_follows_the_session_and_passes_on_what_is_done(explorer, study):
    shows(explorer, lambda: explorer.patches.words and explorer.scatter.path)
    explorer.scatter.lasso = {"numbers": [0, 3], "count": 1}
    assert explorer.selection == [study.items[0], study.items[3]]
    shows(
        explorer, lambda: "2 pictures selected" in explorer.compared.value and len(explorer.strip.images) == 2
    )
    explorer.scatter.picked = {"item": 5, "place": -1, "count": 1}
    shows(explorer, lambda: explorer.patches.words == ["an", "old", "person"])
    explorer.patches.picked = {"kind": "word", "number": 1, "count": 1}
    shows(explorer, lambda: len(explorer.patches.patches) == 64 and "“old” looks" in explorer.about.value)
    explorer.way.value = "from"
    shows(explorer, lambda: "gives to “old”" in explorer.about.value)
    explorer.color.value = "age"
    explorer.kind.value = "causal"
    shows(explorer, lambda: explorer.table.rows == ["0", "1"])
    explorer.table.picked = {"row": 1, "column": 3, "count": 1}
    shows(explorer, lambda: explorer.result.after != b"" and "entering block 1" in explorer.measured.value)
    explorer.stream.value = "text"
    assert explorer.site.value == "joint.0.text.out" and explorer.state.site == "joint.0.text.out"
    explorer.code_button.click()
    assert "joint.0.text.out" in explorer.code_text.value
    state = ExplorerState.from_json(explorer.state.to_json())
    explorer.step.value = 0
    explorer.show(state)
    shows(explorer, lambda: explorer.step.value == state.step == 3)


def test_a_still_copy_shows_pictures_and_settings(explorer):
    shown = settled(explorer.session)
    page = still(shown, "portraits", "its-class")
    assert (
        page.count("data:image/jpeg;base64,") == 2 and "its-class" in page and shown["state"]["site"] in page
    )
    assert explorer._class in explorer._still_copy(shown)


def test_a_model_alone_brings_pictures_of_its_own(portraits, monkeypatch):
    pytest.importorskip("anywidget")
    monkeypatch.setattr(opening, "drawn", lambda model: made(model))
    explorer = dl.Explorer(portraits)
    assert explorer.session.lab.model is portraits and len(explorer.session.material) == 3
    explorer.close()


def made(model):
    """A few of the pictures."""
    from ditlens.views.explorer import material

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material, "DRAWN", 3)
        patch.setattr(material, "DRAWN_STEPS", 2)
        return material.drawn(model)


def test_the_page_imports_no_torch():
    code = "import sys, ditlens.views.explorer.page; print([n for n in ('torch', 'diffusers') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
