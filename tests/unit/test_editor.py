"""The editor without a browser: its state, its session (one worker, the last wish wins), and the page's values."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

import ditlens as dl
from ditlens.errors import SettingError
from ditlens.views.editor import session as sessions
from ditlens.views.editor.card import bars, still, words
from ditlens.views.editor.session import Session
from ditlens.views.editor.state import EditorState, changed_words
from ditlens.views.working import Stopped, Turns

RED, BLUE = "a red shirt", "a blue shirt"


def settled(session, seconds=60.0):
    """What a session shows when nothing is left to do."""
    end, version = time.monotonic() + seconds, -1
    while time.monotonic() < end:
        shown = session.wait(version, timeout=1.0)
        if shown is not None and shown["idle"]:
            return shown
        version = -1 if shown is None else shown["version"]
    raise AssertionError("the session did not come to rest")


@pytest.fixture
def picture():
    return Image.effect_mandelbrot((128, 128), (-2, -1.5, 1, 1.5), 20).convert("RGB")


@pytest.fixture
def session(portraits, picture):
    made = Session(portraits, picture)
    settled(made)
    yield made
    made.close()


def test_a_session_begins_with_a_picture(session, picture):
    shown = settled(session)
    assert (shown["kind"], shown["index"], shown["ready"], shown["error"]) == ("opened", 0, False, "")
    assert shown["before"] == shown["after"] != b""
    assert set(shown["levels"]) == set(session.model.world.attributes)


def test_texts_are_edited_and_the_grid_is_made(session, portraits, picture):
    session.set_texts(RED, BLUE)
    shown = settled(session)
    assert (shown["kind"], shown["index"], shown["ready"], len(shown["history"])) == ("edit", 1, True, 2)
    mine = dl.edit(portraits, picture, source_text=RED, target_text=BLUE)
    assert session.moments[-1].edit.image == mine.image
    assert [row["name"] for row in shown["measured"] if row["asked"]] == ["shirt"]
    assert shown["levels"]["shirt"] == portraits.world.wanted(RED, BLUE)["shirt"]


def test_dragging_answers_at_once_and_is_made_once(session, monkeypatch):
    session.set_texts(RED, BLUE)
    settled(session)
    made = []
    monkeypatch.setattr(sessions.DegreeGrid, "edit", counting(sessions.DegreeGrid.edit, made))
    pictures = {session.drag(k / 50) for k in range(50)}
    assert len(pictures) > 25 and session.shown()["kind"] == "preview"
    shown = settled(session)
    assert len(made) <= 2 and (shown["kind"], shown["state"]["degree"]) == ("edit", 0.98)


def test_while_the_slider_is_held_nothing_is_made(session, monkeypatch):
    session.set_texts(RED, BLUE)
    settled(session)
    made = []
    monkeypatch.setattr(sessions.DegreeGrid, "edit", counting(sessions.DegreeGrid.edit, made))
    monkeypatch.setattr(sessions, "REST", 0.0)
    for degree in (0.2, 0.4, 0.6):
        session.drag(degree, held=True)
        time.sleep(0.1)
    assert made == [] and session.shown()["kind"] == "preview"
    session.release()
    assert settled(session)["kind"] == "edit" and made == [0.6]


def test_an_instruction_that_cannot_be_followed_leaves_the_texts(session):
    session.set_texts(RED, BLUE)
    settled(session)
    session.extract("make him fly")
    shown = settled(session)
    assert "fly" in shown["error"] and shown["state"]["target_text"] == BLUE


def counting(method, made):
    def counted(self, degree, **more):
        made.append(degree)
        return method(self, degree, **more)

    return counted


def test_undo_redo_and_going_back_in_history(session):
    session.set_texts(RED, BLUE)
    settled(session)
    session.drag(0.5)
    half = settled(session)
    session.undo()
    assert settled(session)["state"]["degree"] == 1.0
    session.undo()
    opened = settled(session)
    assert (opened["kind"], opened["state"]["target_text"]) == ("opened", "")
    session.redo()
    session.redo()
    assert settled(session)["after"] == half["after"]
    session.go(1)
    session.set_texts(RED, "a green shirt")
    assert len(settled(session)["history"]) == 3, "what was undone is replaced"


def test_stop_keeps_what_is_there(session, monkeypatch):
    session.set_texts(RED, BLUE)
    before = settled(session)
    steps = []
    on_step = Session._on_step

    def stopping(self, state):
        steps.append(state.step)
        if state.step == 1:
            self.stop()
        on_step(self, state)

    monkeypatch.setattr(Session, "_on_step", stopping)
    session.configure(seed=5)
    after = settled(session)
    assert steps == [0, 1] and after["after"] == before["after"] and after["busy"] == ""
    assert len(after["history"]) == 2


def test_stop_before_texts_are_made_leaves_those_of_the_picture(session, monkeypatch):
    session.set_texts(RED, BLUE)
    settled(session)

    def stopping(*_, **__):
        session.stop()
        raise Stopped

    monkeypatch.setattr(sessions, "make_plan", stopping)
    session.extract("add a crown")
    assert settled(session)["state"]["target_text"] == BLUE
    monkeypatch.undo()
    session.drag(0.5)
    assert settled(session)["state"]["degree"] == 0.5 and session.moments[-1].state.degree == 0.5


def test_a_file_that_cannot_be_edited_leaves_everything(session):
    before = settled(session)
    for wrong in ({"degree": 99.0}, {"method": "nobody"}, {"mask": "nowhere.png", "guidance": -1e400}):
        state = EditorState(picture=session.state.picture, source_text=RED, target_text=BLUE, **wrong)
        session.load(state.to_json().encode())
        assert session.error and session.shown()["history"] == before["history"]


def test_a_large_picture_is_kept_as_the_model_sees_it(session, portraits):
    large = Image.effect_mandelbrot((900, 600), (-2, -1.5, 1, 1.5), 20).convert("RGB")
    memory = io.BytesIO()
    large.save(memory, "PNG")
    session.open(memory.getvalue(), "large.png")
    assert Image.open(io.BytesIO(session.state.picture)).size == (128, 128)
    session.set_texts(RED, BLUE)
    settled(session)
    assert (
        session.moments[-1].edit.image == dl.edit(portraits, large, source_text=RED, target_text=BLUE).image
    )


def test_errors_are_shown_in_words_and_the_next_wish_works(session):
    session.extract("  ")
    assert "Say what to change" in session.error
    session.set_texts(RED, "")
    assert "Both texts are needed" in session.error
    session.configure(seed=-1)
    settled(session)
    session.drag(99.0)
    assert "degree 99 is outside" in session.error
    session.open(b"no picture")
    assert "is not an image" in session.error
    session.example("nobody")
    assert "There is no example" in session.error
    session.load(b"{}")
    assert "No edit was saved in this file" in session.error
    session.load(b"\x89PNG\r\n\x1a\n" + 40 * b"garbage")
    assert "expected" not in session.error and ("damaged" in session.error or "not an image" in session.error)
    session.configure(seed=0)
    session.set_texts(RED, BLUE)
    assert settled(session)["error"] == ""


def test_an_unexpected_error_is_told_and_its_traceback_kept(session, monkeypatch):
    monkeypatch.setattr(sessions, "make_plan", lambda *_, **__: 1 / 0)
    session.set_texts(RED, BLUE)
    shown = settled(session)
    assert "ZeroDivisionError" in shown["error"] and "make_plan" in session.details


def test_a_saved_picture_goes_on_where_it_was(session, portraits):
    session.set_texts(RED, BLUE)
    session.configure(seed=3, guidance=2.0, mask="none", pooled=False)
    settled(session)
    content = session.png()
    other = Session(portraits)
    other.load(content)
    shown = settled(other)
    assert shown["error"] == "" and shown["state"] == settled(session)["state"]
    assert other.moments[-1].edit.image == session.moments[-1].edit.image
    other.load(session.state.to_json().encode())
    assert settled(other)["state"]["seed"] == 3
    other.close()


def test_the_cell_makes_the_same_picture(session, portraits, picture, tmp_path, monkeypatch):
    picture.save(tmp_path / "mine.png")
    monkeypatch.setattr(dl, "load", lambda _: portraits)
    session = Session(portraits, tmp_path / "mine.png")
    session.set_texts(RED, BLUE)
    session.configure(
        guidance=3.0, seed=2, mask="none", tokens=False, encoders=(session.facts()["encoders"][0],)
    )
    settled(session)
    names = {}
    exec(session.code(), names)
    assert names["edit"].image == session.moments[-1].edit.image
    assert names["edit"].recipe == session.moments[-1].edit.recipe
    session.close()


def test_sessions_of_one_model_take_turns(portraits, picture):
    made = [Session(portraits, picture) for _ in range(3)]
    for k, each in enumerate(made):
        each.set_texts(RED, f"a {('blue', 'green', 'white')[k]} shirt")
    results = [settled(each) for each in made]
    alone = [
        dl.edit(portraits, picture, source_text=RED, target_text=each["state"]["target_text"])
        for each in results
    ]
    assert [each.moments[-1].edit.image for each in made] == [each.image for each in alone]
    assert len({each["after"] for each in results}) == 3
    for each in made:
        each.close()


def test_turns_are_served_in_order():
    turns, order = Turns(), []
    with turns:
        threads = [threading.Thread(target=lambda k=k: served(turns, order, k)) for k in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        turns.pass_on()
        order.append("mine")
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, "mine"]


def served(turns, order, k):
    with turns:
        order.append(k)


def test_a_closed_session_ends_its_page(portraits, picture):
    page = dl.Editor(portraits, picture)
    page.session.close()
    shows(page, lambda: "has ended" in page.error.value)
    with pytest.raises(EOFError, match="closed"):
        page.session.wait()
    assert not page.session._workers[0].is_alive()


# --- the state and what is written of it ------------------------------------------------------------------


def test_a_state_goes_through_json_whole():
    state = EditorState(picture=b"\x00\xff", name="ada", degree=0.3, encoders=("a", "b"), guidance=2.5)
    assert EditorState.from_json(state.to_json()) == state


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "No edit was saved"),
        ("[]", "No edit was saved"),
        ('["ditlens editor 1"]', "damaged"),
        ('{"format": "ditlens editor 1", "picture": 7}', "damaged"),
        ('{"format": "ditlens editor 1", "picture": "%"}', "damaged"),
        ('{"format": "ditlens editor 1", "encoders": 5}', "damaged"),
        ('{"format": "ditlens editor 1", "source_text": 5}', "source_text is 5"),
        ('{"format": "ditlens editor 1", "seed": "x"}', "seed is 'x'"),
        ('{"format": "ditlens editor 1", "guidance": "x"}', "guidance is 'x'"),
        ('{"format": "ditlens editor 1", "x": 1}', "no setting 'x'"),
    ],
)
def test_a_file_that_is_no_state_is_refused(text, words):
    with pytest.raises(SettingError, match=words):
        EditorState.from_json(text)


def test_code_names_only_what_was_changed():
    code = EditorState(source_text="a", target_text="b").code("portraits", "'x.png'")
    assert "method" not in code and "mask" not in code and "tokens" not in code
    assert "mask=None" in EditorState(mask="none").code("m", "'x'")


def test_words_and_bars_escape_what_people_type():
    assert changed_words("no hat, long hair, <b>", "one crown, long hair, <i>") == [
        ("no hat", "one crown"), ("<b>", "<i>"),
    ]  # fmt: skip
    assert "<mark>&lt;i&gt;</mark>" in words("a <b>", "a <i>")
    row = {"asked": False, "moved": 0.5, "shares": [0.0, 0.5], "label": "smile", "words": ["a", "b"]}
    assert "not asked for" in bars([row, row | {"moved": 0.0}], 0.1, 1.0) and "1 more attribute" in bars(
        [row, row | {"moved": 0.0}], 0.1, 1.0
    )


def test_the_still_copy_shows_both_pictures_and_the_settings():
    shown = {
        "state": {
            "name": str(Path("home", "me", "ada.png")),
            "degree": 0.5,
            "method": "",
            "source_text": "<b>",
        },
        "drift": 0.01,
        "before": b"1",
        "after": b"2",
    }
    page = still(shown, "portraits", "its-class")
    assert page.count("data:image/jpeg;base64,") == 2 and "&lt;b&gt;" in page and "its-class" in page
    assert "method" not in page
    assert ">ada.png<" in page and "home" not in page


# --- the page ---------------------------------------------------------------------------------------------


@pytest.fixture
def editor(portraits, picture):
    pytest.importorskip("anywidget")
    made = dl.Editor(portraits, picture)
    yield made
    made.session.close()


def shows(editor, condition, seconds=30.0):
    """Wait until the page shows something: it follows its session from a thread of its own."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, editor.error.value
        time.sleep(0.02)


def test_the_page_follows_the_session_and_passes_on_what_is_done(editor):
    editor.source.value = RED
    editor.target.value = BLUE
    shows(editor, lambda: "ready to drag" in editor.status.value)
    assert "shirt" in editor.measured.value and "<mark>blue</mark>" in editor.words.value
    assert editor.picture.before != editor.picture.after
    editor.degree.value = 0.5
    assert editor.picture.kind == "preview" and editor.session.state.degree == 0.5
    shows(editor, lambda: editor.picture.kind == "edit" and len(editor.history.images) == 3)
    editor.undo_button.click()
    shows(editor, lambda: editor.degree.value == 1.0)
    editor.code_button.click()
    assert "dl.edit(" in editor.code.value
    editor.save_button.click()
    assert "data:image/png;base64," in editor.link.value
    editor.film_button.click()
    assert len(editor.film.images) == 18 and "step 18 of 18" in editor.film_picture.value
    editor.history.picked = [0, 1]
    shows(editor, lambda: editor.picture.kind == "opened")


def test_a_file_arrives_in_pieces(editor):
    memory = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(memory, "PNG")
    data = memory.getvalue()
    for at in (0, 40, 80):
        assert editor.session.state.name != "red.png"
        piece = data[at : at + 40] if at < 80 else data[80:]
        editor.upload._handle_custom_msg({"name": "red.png", "last": at == 80}, [memoryview(piece)])
    assert editor.session.state.name == "red.png" and editor.error.value == ""


def test_a_guidance_that_no_control_offers_is_shown(editor):
    editor.session.set_texts(RED, BLUE)
    editor.session.configure(guidance=2.7, seed=3, encoders=(editor._facts["encoders"][0],))
    settled(editor.session)
    editor._bring(editor.session.shown())
    assert (editor.guidance.value, editor.guidance.label, editor.error.value) == (2.7, "2.7", "")
    assert editor.seed.value == 3 and [box.value for box in editor.encoders.values()] == [True, False]


def test_a_cell_that_is_run_again_ends_the_page_that_it_showed(portraits, picture, monkeypatch):
    from ditlens.views import live

    runs = iter([("cell", "1"), ("cell", "1"), ("other", "2"), ("cell", "3")])
    monkeypatch.setattr(live, "this_run", lambda: next(runs))
    pages = [dl.Editor(portraits, picture) for _ in range(4)]
    for page in pages:
        page._ipython_display_()
    ended = [page.session._closed for page in pages]
    alive = [page.degree.comm is not None for page in pages]
    for page in pages:
        page.close()
    assert ended == [True, True, False, False] and alive == [False, False, True, True]


def test_a_page_that_could_not_be_made_is_let_go_in_silence(recwarn):
    from ditlens.views.editor.page import Page

    page = Page.__new__(Page)
    page.__del__()
    assert not recwarn.list


def test_the_page_shows_errors(editor):
    editor.instruction.value = "make him fly"
    editor.extract_button.click()
    shows(editor, lambda: 'role="alert"' in editor.error.value)


def test_a_level_that_is_chosen_is_asked_for(editor):
    editor.source.value = "a red shirt, no hat"
    editor.target.value = "a blue shirt, no hat"
    shows(editor, lambda: "ready to drag" in editor.status.value)
    editor.levels["hat"].value = 3
    shows(editor, lambda: editor.target.value == "a blue shirt, a crown")


def test_the_page_imports_no_torch():
    code = "import sys, ditlens.views.editor.page; print([n for n in ('torch', 'diffusers') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
