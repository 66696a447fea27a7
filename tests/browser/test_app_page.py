"""`ditlens app` as a class uses it: two at work, one in line, somebody leaves, the teacher ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

pages = pytest.importorskip("tests.browser.pages")
pytestmark = pytest.mark.browser


@pytest.fixture
def app():
    """The app with two seats; its address."""
    command = [sys.executable, "-m", "ditlens", "app", "--no-browser", "--port", "0", "--seats", "2"]
    path = os.pathsep.join(filter(None, (str(pages.ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", process.stderr.readline())
        yield process, found[0]
    finally:
        process.terminate()
        process.wait(30)


def enter(context, url):
    """Somebody who opens the page."""
    person = pages.reader(context, None)
    person.page.goto(url, timeout=90_000)
    return person


def ask(person, example, words):
    """Open an example and ask for a change of it."""
    person.page.bring_to_front()  # Chromium draws no other tab
    person.page.get_by_role("option", name=example, exact=True).click()
    person.page.get_by_role("listbox", name="History").get_by_role("option").nth(1).wait_for()
    person.page.get_by_label("change", exact=True).fill(words)
    person.page.get_by_role("button", name="Extract").click()


def target(person):
    """The target text, once the edit is there."""
    person.page.bring_to_front()
    person.page.wait_for_function("document.body.innerText.includes('ready to drag')", timeout=90_000)
    return person.page.get_by_label("target text").input_value()


def test_pupils_do_not_meet_and_the_next_in_line_comes_in(chromium, app, outputs):
    process, url = app
    first, second = enter(chromium, url), enter(chromium, url)
    for person in (first, second):
        person.page.wait_for_selector(".ditlens-picture", timeout=90_000)
    third = enter(chromium, url)
    third.page.get_by_text("2 people are at work; you are number 1 in line.").wait_for(timeout=60_000)
    third.page.screenshot(path=outputs / "app_line.png")
    ask(first, "ada", "add a crown")
    ask(second, "bo", "make him smile broadly")
    texts = target(second), target(first)
    assert ["crown" in text for text in texts] == ["big smile" not in text for text in texts] == [False, True]
    first.page.screenshot(path=outputs / "app_editor.png", full_page=True)
    first.page.goto("about:blank")
    first.page.close()
    third.page.bring_to_front()
    third.page.wait_for_selector(".ditlens-picture", timeout=90_000)  # a lost farewell costs a minute
    assert not third.page.locator("#ditlens-ended").is_visible()
    assert target(second) == texts[0]
    process.send_signal(signal.SIGTERM)
    for person in (second, third):
        person.page.bring_to_front()
        person.page.get_by_text("This page has ended").wait_for(timeout=20_000)
    assert process.wait(30) == 0
    second.page.bring_to_front()
    second.page.get_by_text("The editor cannot be reached.").wait_for(timeout=20_000)
    second.page.screenshot(path=outputs / "app_ended.png")
    for person in (first, second, third):
        assert person.outside == [], "Voilà asks nobody outside either"
        lost = ("WebSocket", "ERR_CONNECTION_REFUSED")
        assert [each for each in person.our_errors if not any(name in each for name in lost)] == []
    second.page.close()
    third.page.close()
