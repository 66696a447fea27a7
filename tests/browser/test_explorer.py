"""The explorer as a person uses it, in JupyterLab and in Voilà, with the shipped model and its study."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

import pytest

pages = pytest.importorskip("tests.browser.pages")
pytestmark = pytest.mark.browser
CELL = "import ditlens as dl\n\nexplorer = dl.Explorer(dl.open_study('portraits'))\nexplorer"
MOST = 2.0
"""Seconds from the click on a cell to the picture."""


@pytest.fixture(scope="module")
def open_explorers(chromium, servers):
    made = {}

    def explorer(kind):
        if kind not in made:
            server = servers(kind)
            pages.notebook(server.folder / "explorer.ipynb", CELL)
            made[kind] = opened(pages.reader(chromium, server), "light")
        return made[kind]

    yield explorer
    for each in made.values():
        each.close()


def opened(reader, theme):
    """Open the notebook, and wait until the explorer shows its points, its picture and its map."""
    before = reader.server.connections()
    reader.page.goto(reader.server.url("explorer.ipynb", theme), timeout=90_000)
    if reader.server.kind == "lab":
        reader.wait_for_kernel()
        if theme != "light":
            reader.lab("apputils:change-theme", {"theme": "JupyterLab Dark"})
        reader.lab("notebook:run-all-cells")
    reader.page.wait_for_selector(".ditlens-map td", timeout=120_000)
    new = reader.server.connections() - before
    reader.kernel = pages.Kernel(max(new, key=lambda each: each.stat().st_mtime))
    pages.until(lambda: reader.value("explorer.session.shown()['idle']"), what="the explorer is at rest")
    return reader


@pytest.fixture(params=["lab", "voila"])
def explorer(request, open_explorers):
    """A page with an explorer; it must ask nobody and break nothing."""
    found = open_explorers(request.param)
    found.page.bring_to_front()
    found.page.set_viewport_size({"width": 1280, "height": 1000})
    found.run(
        "explorer.session.configure(picture=0, focus=(), chosen=(), cell=(), kind='probe', color='smile')"
    )
    pages.until(lambda: found.value("explorer.session.shown()['idle']"), what="at rest")
    canvas(found).scroll_into_view_if_needed()
    yield found
    assert (found.asked_outside, found.our_errors) == ([], [])


def canvas(explorer):
    return explorer.page.locator(".ditlens-plane canvas")


def hover(explorer):
    """Move over the scatter until a point is under the mouse; its place on the page."""
    box = canvas(explorer).bounding_box()
    for row in (0.5, 0.4, 0.6):
        for k in range(80):
            x, y = box["x"] + box["width"] * (0.3 + 0.005 * k), box["y"] + box["height"] * row
            explorer.page.mouse.move(x, y)
            if explorer.page.locator(".ditlens-tip").is_visible():
                return x, y
    raise AssertionError("no point is there")


def painted(explorer):
    return explorer.page.locator(".ditlens-patches").get_attribute("data-painted")


def lasso(explorer, *corners):
    """Draw around a part of the scatter, given in shares of its size."""
    box, mouse = canvas(explorer).bounding_box(), explorer.page.mouse
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
    mouse.move(*places[0])
    mouse.down()
    for x, y in places[1:]:
        mouse.move(x, y, steps=8)
    mouse.up()


def test_a_point_shows_its_picture_and_a_click_opens_it(explorer):
    x, y = hover(explorer)
    told = explorer.page.locator(".ditlens-tip").inner_text()
    assert "smile:" in told
    assert (
        explorer.page.locator(".ditlens-thumb")
        .evaluate("each => each.style.backgroundImage")
        .startswith("url")
    )
    explorer.page.mouse.click(x, y)
    number = int(told.split("·")[0])
    pages.until(lambda: explorer.value("explorer.state.picture") == number, 10, "the picture is open")
    prompt = explorer.value("explorer.session.shown()['prompt']")
    pages.until(
        lambda: prompt in (explorer.page.locator(".ditlens-patches img").get_attribute("alt") or ""), 10
    )


def test_points_are_selected_by_drawing_around_them(explorer):
    lasso(explorer, (0.5, 0.05), (0.95, 0.05), (0.95, 0.95), (0.5, 0.95))
    pages.until(lambda: explorer.value("len(explorer.selection)") > 20, 10, "some are selected")
    count = explorer.value("len(explorer.selection)")
    assert count < 300
    explorer.says(f"{count} pictures selected")
    assert explorer.value("len(explorer.session.material.source.select(items=explorer.selection))") == count
    explorer.page.get_by_role("listbox", name="Selected pictures").get_by_role("option").nth(23).wait_for()


def test_points_are_selected_with_keys(explorer):
    explorer.page.evaluate("document.querySelector('.ditlens-plane canvas').focus()")
    keys = explorer.page.keyboard
    keys.press("Escape")
    keys.press("Space")
    for _ in range(4):
        keys.press("Shift+ArrowRight")
        keys.press("Shift+ArrowDown")
    keys.press("Space")
    pages.until(lambda: explorer.value("len(explorer.selection)") > 3, 10, "some are selected")
    keys.press("Escape")
    pages.until(lambda: explorer.value("explorer.selection") == [], 10, "none is selected")
    keys.press("Enter")
    explorer.page.wait_for_function(
        "document.querySelector('.ditlens-heard').textContent.startsWith('opened')"
    )


def test_a_patch_and_a_word_show_where_they_look(explorer):
    cells = explorer.page.locator(".ditlens-grid [role=gridcell]")
    cells.nth(44).click()
    explorer.says("patch 44 looks")
    before = painted(explorer)
    explorer.page.keyboard.press("ArrowRight")
    explorer.page.keyboard.press("Enter")
    explorer.says("patch 45 looks")
    assert painted(explorer) != before
    assert "%" in cells.nth(12).get_attribute("aria-label")
    explorer.page.get_by_role("option", name="mouth", exact=True).click()
    explorer.says("“mouth” looks")
    explorer.page.get_by_role("button", name="what looks at it").click()
    explorer.says("gives to “mouth”")
    explorer.page.get_by_role("button", name="where it looks").click()


def test_a_cell_draws_the_patched_picture(explorer):
    table, seconds = explorer.page.locator(".ditlens-map td"), []
    for k, number in enumerate((8, 11, 2, 5, 14)):
        begun, before = time.monotonic(), shown(explorer)
        table.nth(number).click()
        pages.until(lambda before=before: shown(explorer) > before, 20, "a picture")
        seconds.append(time.monotonic() - begun)
        told = explorer.page.locator(".ditlens-map td[aria-selected=true]").get_attribute("aria-label")
        assert told.startswith(f"block {number // 3}, step {(1, 4, 7)[number % 3]}:"), k
    print(f"cell to picture in {explorer.server.kind}: {[round(1000 * each) for each in seconds]} ms")
    assert median(seconds) <= MOST
    explorer.says("of the change came along")
    explorer.page.keyboard.press("ArrowUp")
    explorer.page.keyboard.press("Enter")
    pages.until(lambda: explorer.value("explorer.state.cell") == (3, 7), 10, "the cell above")


def serious(page):
    """What axe-core finds serious or critical on the page; nothing is looked for where it is not at hand."""
    if "AXE_JS" not in os.environ:
        return []
    page.evaluate(Path(os.environ["AXE_JS"]).read_text(encoding="utf-8"))
    script = (
        "axe.run('.ditlens-page').then((found) => found.violations.map((each) => [each.impact, each.id]))"
    )
    return [each for each in page.evaluate(script) if each[0] in ("serious", "critical")]


def shown(explorer):
    """How many patched pictures the page has shown."""
    return int(
        explorer.page.locator(".ditlens-after").evaluate("each => each.parentElement.dataset.after || 0")
    )


def test_a_slider_moves_the_points(explorer):
    drawn = "Number(document.querySelector('.ditlens-scatter').dataset.drawn)"
    before = explorer.page.evaluate(drawn)
    handle = explorer.page.locator(".widget-hslider", has_text="step").locator(".noUi-handle")
    handle.focus()
    explorer.page.keyboard.press("ArrowLeft")
    pages.until(lambda: explorer.value("explorer.state.step") == 4, 10, "the step")
    explorer.page.wait_for_function(f"{drawn} > {before}")
    handle.focus()
    explorer.page.keyboard.press("ArrowRight")
    pages.until(lambda: explorer.value("explorer.state.step") == 7, 10, "the step")


def test_letters_stay_inside(explorer):
    if explorer.server.kind != "lab":
        pytest.skip("only JupyterLab has shortcuts of one letter")
    before = explorer.cells()
    for place in (".ditlens-map td[tabindex='0']", ".ditlens-grid [tabindex='0']", ".ditlens-plane canvas"):
        explorer.page.locator(place).first.focus()
        for key in "xbad":
            explorer.page.keyboard.press(key)
    assert explorer.cells() == before and explorer.page.locator(".ditlens-scatter").count() == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_wide_and_narrow_pages(chromium, servers, outputs, theme):
    server = servers("voila")
    pages.notebook(server.folder / "explorer.ipynb", CELL)
    found = opened(pages.reader(chromium, server), theme)
    found.page.locator(".ditlens-grid [role=gridcell]").nth(44).click()
    found.page.locator(".ditlens-map td").nth(8).click()
    found.says("of the change came along")
    for width in (1280, 600):
        found.page.set_viewport_size({"width": width, "height": 1750})
        time.sleep(0.5)
        found.page.screenshot(path=outputs / f"explorer_{theme}_{width}.png")
        wide = found.page.evaluate("document.querySelector('.ditlens-scatter').getBoundingClientRect().right")
        assert wide <= width
    assert serious(found.page) == []
    found.page.set_viewport_size({"width": 1280, "height": 1000})
    found.close()
