"""The editor as a person uses it, in JupyterLab and in Voilà, with the shipped model."""

from __future__ import annotations

import base64
import time

import pytest
from PIL import Image

pages = pytest.importorskip(
    "tests.browser.pages", reason="needs playwright, Voilà and anywidget: type make test-browser"
)
until = pages.until

CROWN = "make her smile broadly and add a crown"
COUNT = """
from ditlens.ems.degrees import DegreeGrid
if not hasattr(DegreeGrid, "made"):
    DegreeGrid.made, DegreeGrid.truly = [], DegreeGrid.edit
    DegreeGrid.edit = lambda self, degree, **more: DegreeGrid.made.append(degree) or self.truly(degree, **more)
DegreeGrid.made.clear()
"""


def drag(editor, by, moves=20, wait=0.06):
    """Drag the degree by some pixels, and let go; how many pictures came until then, and what the last is."""
    box, mouse, before = editor.handle().bounding_box(), editor.page.mouse, editor.pictures()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(x, y)
    mouse.down()
    started = time.monotonic()
    for k in range(1, moves + 1):
        mouse.move(x + by * k / moves, y)
        time.sleep(max(0.0, started + k * wait - time.monotonic()))
    shown, kind = editor.pictures() - before, editor.value("editor.picture.kind")
    mouse.up()
    return shown, kind


def made(editor):
    """Wait until nothing is left to be made, and the page shows it."""
    until(lambda: editor.shown()["idle"], what="idle")
    expected = editor.value("editor.session.moments[editor.session.index].picture")
    until(lambda: editor.after_bytes() == expected, what="the page shows what was made")


def test_it_opens_with_a_picture_large_enough_for_a_projector(editor):
    box = editor.page.locator(".ditlens-stage").bounding_box()
    assert min(box["width"], box["height"]) >= 384
    assert editor.page.get_by_role("listbox", name="Examples").get_by_role("option").count() == 5


def test_extract_fills_both_texts_and_edits(editor):
    before = editor.after()
    editor.extract(CROWN)
    assert "slight smile" in editor.page.get_by_label("source text").input_value()
    target = editor.page.get_by_label("target text").input_value()
    assert "big smile" in target and "a crown" in target
    assert editor.after() != before
    assert "no hat" in editor.page.locator(".ditlens-words").inner_text()
    assert editor.page.locator(".ditlens-asked").count() == 2


def test_the_picture_changes_while_the_degree_is_dragged_and_is_made_truly_on_release(editor):
    editor.extract(CROWN)
    editor.run(COUNT)
    shown, kind = drag(editor, -90)
    assert shown >= 5 and kind == "preview"
    made(editor)
    degree = editor.shown()["state"]["degree"]
    truly = editor.value("DegreeGrid.made")
    assert degree < 0.7 and len(truly) <= 2 and truly[-1] == degree
    assert float(editor.handle().get_attribute("aria-valuenow")) == pytest.approx(degree, abs=0.06)


def test_fifty_events_in_two_seconds_make_two_pictures_at_most(editor):
    editor.extract(CROWN)
    editor.run(COUNT)
    drag(editor, -100, moves=50, wait=0.04)
    made(editor)
    assert 1 <= len(editor.value("DegreeGrid.made")) <= 2


def test_stop_leaves_what_was_there(editor):
    editor.extract(CROWN)
    picture, index = editor.after_bytes(), editor.shown()["index"]
    slow = "import time\nfrom ditlens.views.editor.session import Session\nstep = Session._on_step\n"
    editor.run(slow + "Session._on_step = lambda self, state: (time.sleep(0.5), step(self, state))")
    try:
        editor.page.get_by_label("change", exact=True).fill("make her old")
        editor.button("Extract").click()
        editor.page.get_by_role("progressbar", name="progress").wait_for(timeout=20_000)
        until(lambda: editor.shown()["busy"] == "editing")
        started = time.monotonic()
        editor.button("Stop").click()
        until(lambda: editor.shown()["idle"], 5)
        assert time.monotonic() - started < 2.5, "within a step"
        assert editor.after_bytes() == picture and editor.shown()["index"] == index
    finally:
        editor.run("Session._on_step = step")


def test_undo_and_redo(editor):
    editor.extract(CROWN)
    crown = editor.after_bytes()
    editor.button("Undo").click()
    until(lambda: editor.shown()["kind"] == "opened")
    until(lambda: not editor.page.get_by_label("target text").input_value())
    editor.button("Redo").click()
    until(lambda: editor.after_bytes() == crown)
    assert "a crown" in editor.page.get_by_label("target text").input_value()
    editor.page.get_by_role("listbox", name="History").get_by_role("option").nth(0).click()
    until(lambda: editor.shown()["index"] == 0)


def test_a_saved_picture_is_restored_after_the_page_was_opened_again(editor, tmp_path):
    editor.extract(CROWN)
    drag(editor, -60)
    made(editor)
    picture, state = editor.after_bytes(), editor.shown()["state"]
    editor.button("Save and load").click()
    editor.button("Prepare a file").click()
    with editor.page.expect_download() as download:
        editor.page.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "mine.png")
    editor.open("editor.ipynb")
    until(lambda: editor.shown()["kind"] == "opened" and editor.shown()["idle"])
    editor.button("Save and load").click()
    editor.page.locator("input[type=file][accept='.png,.json']").set_input_files(tmp_path / "mine.png")
    until(lambda: editor.shown()["kind"] == "edit")
    made(editor)
    assert editor.after_bytes() == picture and editor.shown()["state"] == state
    assert "a crown" in editor.page.get_by_label("target text").input_value()


def test_a_file_larger_than_a_message_may_be_is_opened(editor, tmp_path):
    Image.effect_noise((4000, 4000), 80).save(tmp_path / "large.png", compress_level=0)
    assert (tmp_path / "large.png").stat().st_size > 15e6
    editor.page.locator("input[type=file][accept='image/*']").set_input_files(tmp_path / "large.png")
    until(lambda: editor.shown()["state"]["name"] == "large.png", 20, "the file arrives")
    assert editor.shown()["error"] == ""


def test_the_cell_makes_the_same_picture(editor):
    editor.extract(CROWN)
    editor.button("Code").click()
    editor.button("Write the cell").click()
    cell = editor.page.get_by_label("cell", exact=True)
    code = until(cell.input_value)
    same = "edit.image.tobytes() == editor.session.moments[-1].edit.image.tobytes()"
    assert editor.run(code, same) is True


def test_errors_are_said_in_words_and_nothing_is_lost(editor):
    editor.extract(CROWN)
    target = editor.page.get_by_label("target text").input_value()
    editor.page.get_by_label("change", exact=True).fill("make him fly")
    editor.page.get_by_label("change", exact=True).press("Enter")
    alert = editor.page.get_by_role("alert")
    alert.wait_for()
    assert "this world has no 'fly'" in alert.inner_text() and "Traceback" not in alert.inner_text()
    assert editor.page.get_by_label("target text").input_value() == target
    editor.extract("add glasses")
    alert.wait_for(state="detached")


def test_a_picture_that_is_dropped_is_opened(editor):
    drop(editor, pages.ROOT / "data" / "examples" / "chidi.png", "mine.png")
    until(lambda: editor.shown()["state"]["name"] == "mine.png")
    made(editor)
    before = editor.value("editor.session.moments[-1].before")
    assert before == editor.value("editor.picture.before")
    drop(editor, pages.ROOT / "README.md", "words.png")
    editor.page.get_by_role("alert").wait_for()
    assert "is not an image" in editor.page.get_by_role("alert").inner_text()


def drop(editor, path, name):
    script = """([data, name]) => {
        const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0)), transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, { type: "image/png" }));
        const stage = document.querySelector(".ditlens-stage");
        for (const kind of ["dragenter", "dragover", "drop"]) {
            stage.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }
    }"""
    editor.page.evaluate(script, [base64.b64encode(path.read_bytes()).decode(), name])


def test_keys_stay_in_the_widget(editor):
    editor.extract(CROWN)
    cells = editor.cells() if editor.server.kind == "lab" else []
    page = editor.page
    divider = page.get_by_role("slider", name="Divider")
    places = [
        divider, editor.handle(), page.get_by_role("radio", name="divider"), editor.button("Undo"),
        page.get_by_role("listbox", name="History").get_by_role("option").nth(1),
        editor.button("Settings"), editor.button("Open a picture"),
    ]  # fmt: skip
    for place in places:
        place.focus()
        for key in ("a", "b", "x", "d", "d", "m", "y", "Escape", "ArrowUp", "ArrowDown"):
            page.keyboard.press(key)
    assert page.locator(".ditlens-stage").count() == 1
    if cells:
        assert editor.cells() == cells
    page.get_by_role("radio", name="divider").click()
    divider.focus()
    old = int(divider.input_value())
    page.keyboard.press("ArrowRight")
    assert int(divider.input_value()) == old + 1
    page.get_by_role("radio", name="divider").focus()
    for mode in ("before", "after", "difference"):
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("radio", name=mode).get_attribute("aria-checked") == "true"
    made(editor)
