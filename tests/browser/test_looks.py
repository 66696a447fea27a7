"""How the editor looks: screenshots in light and dark, wide and narrow; nothing cut off; names for everything.

axe-core, which judges contrast and names, is asked where AXE_JS names its axe.min.js (``npm pack axe-core``).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

until = pytest.importorskip(
    "tests.browser.pages", reason="needs playwright, Voilà and anywidget: type make test-browser"
).until

CUT_OFF = """() => {
    const page = document.querySelector(".ditlens-page"), right = page.getBoundingClientRect().right;
    const words = [...page.querySelectorAll("button, label, .widget-readout, td, a")];
    const cut = words.filter((each) => each.offsetParent && (each.scrollWidth > each.clientWidth + 1
        && getComputedStyle(each).display !== "inline" || each.getBoundingClientRect().right > right + 1));
    return cut.map((each) => each.textContent);
}"""
CONTROL = re.compile(
    r"- '?(button|slider|textbox|radio|option|combobox|checkbox|spinbutton|listbox|progressbar|img)\b(.*)"
)


def unfold(editor):
    for name in ("Attributes", "Settings", "Steps", "Save and load", "Code"):
        editor.button(name).click()
    editor.button("Show the steps").click()
    editor.button("Prepare a file").click()
    editor.button("Write the cell").click()
    editor.page.get_by_role("link", name="Download").wait_for()
    editor.page.locator("img[alt^='step ']").wait_for()
    until(editor.page.get_by_label("cell", exact=True).input_value)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_cut_off_and_all_can_be_read(editor, theme, outputs):
    kind, page = editor.server.kind, editor.page
    if kind == "lab":
        editor.lab(
            "apputils:change-theme", {"theme": "JupyterLab Dark" if theme == "dark" else "JupyterLab Light"}
        )
    elif theme == "dark":
        editor.open("editor.ipynb", theme)
    editor.extract("make her smile broadly and add a crown")
    page.locator(".ditlens-page").screenshot(path=outputs / f"page_{kind}_{theme}.png")
    unfold(editor)
    try:
        for width in (1280, 600):
            page.set_viewport_size({"width": width, "height": 2300})
            page.evaluate(
                "document.querySelectorAll('.jp-WindowedPanel-outer').forEach((each) => each.scrollTop = 0)"
            )
            page.wait_for_timeout(700)
            page.screenshot(path=outputs / f"editor_{kind}_{theme}_{width}.png")
            assert page.evaluate(CUT_OFF) == []
        assert kind == "lab" or serious(page) == []
    finally:
        page.set_viewport_size({"width": 1280, "height": 1000})


def test_every_control_has_a_name_and_focus_goes_in_order(editor):
    editor.extract("make her smile broadly and add a crown")
    unfold(editor)
    lines = editor.page.locator(".ditlens-page").aria_snapshot().splitlines()
    controls = [found.groups() for found in map(CONTROL.search, lines) if found]
    assert len(controls) > 60
    assert [kind for kind, rest in controls if '"' not in rest] == []
    editor.page.get_by_role("option", name="ada", exact=True).focus()
    expected = [
        "Open a picture",
        "divider",
        "Divider: the source on its left, the result on its right",
        "degree",
    ]
    name = "document.activeElement.ariaLabel || document.activeElement.textContent"
    for each in expected:
        editor.page.keyboard.press("Tab")
        if each == "degree" and editor.page.evaluate(name) != each:
            editor.page.keyboard.press("Tab")
        assert editor.page.evaluate(name).strip() == each


def serious(page):
    """What axe-core finds serious or critical on a page; nothing is looked for where it is not at hand."""
    if "AXE_JS" not in os.environ:
        return []
    page.evaluate(Path(os.environ["AXE_JS"]).read_text(encoding="utf-8"))
    script = "axe.run().then((found) => found.violations.map((each) => [each.impact, each.id, each.nodes[0].html]))"
    return [each for each in page.evaluate(script) if each[0] in ("serious", "critical")]
