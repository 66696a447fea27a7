"""What is left of the editor in a notebook that was saved: a still copy, wherever the widget cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

pages = pytest.importorskip(
    "tests.browser.pages", reason="needs playwright, Voilà and anywidget: type make test-browser"
)
import nbformat  # noqa: E402

SHUTDOWN = """Promise.race([window.jupyterapp.shell.currentWidget.sessionContext.shutdown(),
    new Promise((done) => setTimeout(done, 20000))])"""
STILL = "This is a still copy of the editor"


@pytest.fixture(scope="module")
def saved(servers, chromium):
    """A notebook that was run, edited in, and saved; its kernel is gone."""
    server = servers("lab")
    path = pages.notebook(server.folder / "saved.ipynb", pages.OPEN)
    person = pages.reader(chromium, server).open("saved.ipynb")
    person.extract("make her smile broadly and add a crown")
    shown = person.page.get_by_text(STILL)
    live = shown.count(), shown.first.is_visible()
    person.lab("docmanager:save")
    pages.until(lambda: "a crown" in path.read_text(), what="saved")
    person.page.evaluate(SHUTDOWN)
    person.close()
    return path, live


def stills(person):
    """The still copy on a page: its visible pictures that have loaded, and its words."""
    copy = person.page.locator(".jp-OutputArea-output:visible", has_text=STILL).last
    copy.wait_for(timeout=30_000)
    script = "(all) => all.filter((img) => img.complete && img.naturalWidth > 100).length"
    return copy.locator("img:visible").evaluate_all(script), copy.inner_text()


def look(person, saved, name, outputs):
    pictures, words = stills(person)
    person.page.screenshot(path=outputs / f"still_{name}.png")
    assert pictures == 2
    assert "degree" in words and "big smile" in words and "a crown" in words
    assert person.asked_outside == [] and person.our_errors == []


def test_the_live_page_has_one_still_copy_and_hides_it(saved):
    path, live = saved
    assert live == (1, False)
    outputs = nbformat.read(path, 4).cells[0].outputs
    assert sum(STILL in str(each) for each in outputs) == 1


def test_without_the_cell_run_both_pictures_and_the_settings_are_there(saved, servers, chromium, outputs):
    path, _ = saved
    person = pages.reader(chromium, servers("lab")).open(path.name, run=False)
    person.wait_for_kernel()  # a new one, that knows nothing of the widget
    look(person, saved, "new_kernel", outputs)
    person.page.evaluate(SHUTDOWN)
    person.page.get_by_text("No Kernel").first.wait_for()
    look(person, saved, "no_kernel", outputs)
    person.close()


def test_an_untrusted_notebook_shows_them_too(saved, servers, chromium, outputs):
    path, _ = saved
    other = nbformat.read(path, 4)
    other.cells[0].source += "\n# from somebody else"
    nbformat.write(other, path.with_name("untrusted.ipynb"))
    person = pages.reader(chromium, servers("lab")).open("untrusted.ipynb", run=False)
    trusted = "window.jupyterapp.shell.currentWidget.content.model.cells.get(0).trusted"
    assert person.page.evaluate(trusted) is False
    look(person, saved, "untrusted", outputs)
    person.close()


def test_a_page_exported_by_nbconvert_shows_them_too(saved, servers, chromium, outputs, tmp_path):
    path, _ = saved
    command = [sys.executable, "-m", "nbconvert", "--to", "html", str(path), "--output-dir", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env=servers("lab").env)
    person = pages.reader(chromium, servers("lab"))
    person.page.goto(f"file://{tmp_path / 'saved.html'}")
    pictures, words = stills(person)
    person.page.screenshot(path=outputs / "still_html.png")
    assert pictures == 2 and "a crown" in words
    person.close()
