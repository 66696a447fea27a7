"""The playground as somebody uses it, in headless Chromium, with the true model, from a folder within a site.

Skipped where it is not built: ``make playground``. axe-core is asked where AXE_JS names its axe.min.js.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import urlparse

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: type make test-browser")
from ditlens.playground.serve import serve  # noqa: E402
from ditlens.worlds.portraits import examples  # noqa: E402
from tests.browser.test_looks import serious  # noqa: E402

BUILT = Path(__file__).resolve().parents[2] / "outputs" / "playground"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LONG = 60_000  # milliseconds: the runner may be busy
SHARES = "(all) => all.map((each) => Number(each.style.getPropertyValue('--share')))"
SIMPLE = "a young person with a calm expression, short brown hair, no glasses, no hat, a blue shirt"


class Visit:
    """A page of the playground; remembers what it asked for elsewhere and what went wrong."""

    def __init__(self, context, address):
        self.address, self.page = address, context.new_page()
        self.foreign, self.errors = [], []
        self.page.on("request", self._asked)
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _asked(self, request):
        address = urlparse(request.url)
        if address.scheme in ("http", "https") and address.netloc != urlparse(self.address).netloc:
            self.foreign.append(request.url)

    def open(self, fragment=""):
        self.page.goto("about:blank")
        self.page.goto(self.address + fragment)
        return self

    def start(self):
        """Press Start unless the model is here already; wait for the first portrait."""
        start = self.page.locator("#start")
        self.page.locator("#start:enabled, #loading:visible, body:not(.before)").first.wait_for(timeout=LONG)
        if start.is_enabled() and start.is_visible():
            start.click()
        self.page.locator("body:not(.before)").wait_for(timeout=LONG)
        return self.rest()

    def rest(self):
        """Wait until nothing that was asked for is being computed."""
        self.page.wait_for_timeout(50)
        self.page.locator("#stage[aria-busy=false]").wait_for(timeout=LONG)
        return self

    def picture(self):
        return self.page.locator("#picture").get_attribute("aria-label")

    def pixels(self):
        return self.page.evaluate("document.getElementById('picture').toDataURL()")

    def tab(self, name):
        self.page.get_by_role("tab", name=name).click()

    def wish(self, text):
        self.tab("Edit")
        self.page.locator("#wish").fill(text)
        self.page.locator("#wish").press("Enter")
        return self.rest()

    def slide(self, degree):
        """Move the slider as a hand does, without resting."""
        self.page.locator("#degree").evaluate(
            "(slider, degree) => { slider.value = degree; slider.dispatchEvent(new Event('input')); }", degree
        )


@pytest.fixture(scope="module")
def address():
    if not (BUILT / "model" / "manifest.json").is_file():
        pytest.skip("the playground is not built: type make playground")
    if CHROMIUM is None:
        pytest.skip("Chromium was not found: install it, e.g. apt install chromium")
    with serve(BUILT.parent) as root:
        yield f"{root}{BUILT.name}/"


@pytest.fixture(scope="module")
def chrome(address):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(chrome):
    """A browser that keeps the model from visit to visit."""
    made = chrome.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    yield made
    made.close()


@pytest.fixture
def visit(context, address):
    """A visit; nobody else is asked for anything, and nothing goes wrong."""
    made = Visit(context, address)
    yield made
    made.page.close()
    assert (made.foreign, made.errors) == ([], [])


@pytest.fixture
def started(visit):
    return visit.open().start()


def test_the_first_portrait_is_made_without_asking(visit):
    visit.open().page.locator("#start:enabled").wait_for()
    assert re.search(r"\d+ MB once|Already in your browser", visit.page.locator("#size").text_content())
    visit.start()
    assert visit.picture().startswith("Portrait: ")
    assert "wavy red hair" in visit.picture()
    visit.open().start()  # from the browser's cache, by itself
    assert "wavy red hair" in visit.picture()


def test_a_wish_is_carried_out_and_measured(started):
    started.wish("give her a crown")
    page = started.page
    assert ", crown" in started.picture()
    assert page.locator("#target-words ins").all_text_contents() == ["a crown"]
    assert page.locator("#verdict").text_content() == "Reached: a crown."
    assert "reached" in page.locator("#measures tr").first.text_content()
    assert re.search(r"Drift 0\.\d+", page.locator("#drift").text_content())
    page.locator("#python-box summary").click()
    assert "dl.edit(\n    model, image,\n" in page.locator("#python").text_content()
    page.locator("#nodes i.there").nth(8).wait_for(timeout=LONG)  # all nodes, in the background


def test_a_wish_that_is_not_understood_is_refused_and_nothing_is_lost(started):
    started.wish("give her a crown")
    before = started.picture()
    started.wish("give her freckles")
    assert started.page.locator("#refusal").is_visible()
    assert "freckles" in started.page.locator("#refusal").text_content()
    assert started.picture() == before
    started.wish("put on sunglasses")
    assert started.page.locator("#refusal").is_hidden()


def test_levels_are_chosen_and_reset(started):
    started.tab("Edit")
    page = started.page
    page.locator("#levels-box summary").click()
    page.locator("select[name=shirt]").select_option(label="a purple shirt")
    page.locator("#result").wait_for(timeout=LONG)
    started.rest()
    assert "purple shirt" in started.picture()
    assert page.locator("#levels .changed").count() == 1
    page.locator("#reset").click()
    assert page.locator("#result").is_hidden()
    assert "green shirt" in started.picture()


def test_own_texts(started):
    started.wish("a big smile")
    page = started.page
    page.locator("#texts-box summary").click()
    source = page.locator("#source").input_value()
    page.locator("#target").fill(source.replace("red hair", "black hair"))
    page.get_by_role("button", name="Edit with these texts").click()
    started.rest()
    assert "black hair" in started.picture()
    page.locator("#target").fill(source)
    page.get_by_role("button", name="Edit with these texts").click()
    assert "differ" in page.locator("#refusal").text_content()


def test_dragging_shows_a_mixture_and_then_the_true_edit(started):
    started.wish("make them old")
    kind = started.page.locator("#degree-kind")
    started.page.locator("#nodes i.there").nth(8).wait_for(timeout=LONG)
    started.slide(0.55)
    assert "between the computed" in kind.text_content()
    mixed = started.pixels()
    sync_api.expect(kind).to_have_text("computed", timeout=LONG)
    assert started.pixels() != mixed
    for degree in (0, 0.25, 1.5):
        started.slide(degree)
        assert kind.text_content() == "computed"
    started.slide(2)
    assert "nearest" in kind.text_content()
    sync_api.expect(kind).to_have_text("computed", timeout=LONG)


def test_what_is_typed_stays_while_something_is_computed(started):
    started.wish("make them old")
    page = started.page
    page.locator("#texts-box summary").click()
    page.locator("#target").fill("mine")
    started.tab("Portrait")
    page.locator("#text").fill("somebody else")
    started.slide(-0.8)
    page.wait_for_timeout(500)
    started.rest()
    assert page.locator("#degree-kind").text_content() == "computed"
    assert page.locator("#text").input_value() == "somebody else"
    assert page.locator("#target").input_value() == "mine"


def test_dragging_is_smooth(started):
    started.wish("make them old")
    started.page.locator("#nodes i.there").nth(8).wait_for(timeout=LONG)
    moves = started.page.locator("#degree").evaluate("""(slider) => [...Array(40).keys()].map((k) => {
        const begun = performance.now();
        slider.value = -1 + k * 0.07;
        slider.dispatchEvent(new Event("input"));
        return performance.now() - begun;
    })""")
    assert sorted(moves)[len(moves) // 2] < 50


def test_wishes_add_up(started):
    started.wish("give her a crown").wish("a big smile")
    words = started.page.locator("#target-words ins").all_text_contents()
    assert words == ["big smile", "a crown"]
    started.wish("remove the crown")
    assert started.page.locator("#target-words ins").all_text_contents() == ["big smile"]
    started.page.get_by_role("button", name="Start over").click()
    assert started.page.locator("#result").is_hidden()


def test_a_wish_waits_for_the_portrait(started):
    page = started.page
    started.tab("Portrait")
    page.locator("#gallery button").nth(1).click()
    started.wish("give him a crown")
    assert ", crown" in started.picture() and "grey hair" in started.picture()


def test_looking_inside_does_not_stop_an_edit(started):
    page = started.page
    started.tab("Edit")
    page.locator("#wish").fill("give her a crown")
    page.locator("#wish").press("Enter")
    page.wait_for_timeout(300)
    started.tab("Look inside")
    started.rest().tab("Edit")
    assert page.locator("#target-words ins").all_text_contents() == ["a crown"]


def test_words_that_the_model_has_not_are_named(started):
    page = started.page
    started.tab("Portrait")
    page.locator("#text").fill("an old wizard, red hair")
    page.locator("#text").press("Enter")
    started.rest()
    assert "no word for: wizard" in page.locator("#unknown").text_content()


def test_before_difference_and_mask(started):
    started.wish("give her a crown")
    page, after = started.page, started.pixels()
    page.get_by_label("Before", exact=True).check()
    assert started.picture().startswith("Before the edit")
    page.get_by_label("After", exact=True).check()
    assert started.pixels() == after
    page.get_by_label("Difference", exact=True).check()
    assert re.search(r"by \d+\.\d of 255 in the mean", page.locator("#caption").text_content())
    page.get_by_label("Divider", exact=True).check()
    page.locator("#wipe").focus()
    half = started.pixels()
    page.keyboard.press("Home")
    assert started.pixels() == after != half
    page.locator("#mask").check()
    assert started.pixels() != after


def test_look_inside(started):
    started.tab("Look inside")
    page, told = started.page, started.page.locator("#told")
    words = page.locator("#words button")
    words.filter(has_text="hair").click()
    assert "“hair”" in told.text_content()
    shares = page.locator("#patches button").evaluate_all(SHARES)
    assert len(shares) == 64
    assert max(shares) == 1
    page.get_by_label("where it looks").check()
    found = [float(each) for each in re.findall(r"(\d+\.?\d*) %", told.text_content())]
    assert 98 < sum(found) < 102
    page.locator("#totals button").nth(15).click()
    assert page.locator("#step-value").text_content().startswith("4 of 12")
    assert page.locator("#block input:checked").get_attribute("value") == "1"
    page.locator("#patches button").nth(35).click()
    assert "row 5, column 4" in told.text_content()
    sync_api.expect(page.locator("#badge")).to_contain_text("step 4", timeout=LONG)


def test_readable_or_used(started):
    started.tab("Look inside")
    page = started.page
    page.locator("#map-attribute").select_option("gaze")
    maps = page.locator("#maps figure")
    assert maps.count() == 3
    assert all("ontrol" in maps.nth(k).text_content() for k in (1, 2))
    page.get_by_label("by block and step").check()
    assert maps.nth(1).locator("button").count() == 18
    page.locator("#map-attribute").select_option("hat")
    page.get_by_label("by patch").check()
    assert "Not measured" in maps.nth(2).text_content()


def test_the_tour_by_keyboard_alone(started):
    page = started.page
    press = page.keyboard.press

    def to(locator):
        """Tab until something has the focus."""
        for _ in range(120):
            if locator.evaluate("(element) => element === document.activeElement"):
                return
            press("Tab")
        raise AssertionError(f"Tab does not lead to {locator}")

    to(page.locator("#tour-open"))
    press("Enter")
    bar, todo = page.locator("#tour"), page.locator("#tour .todo")
    assert bar.locator("h2").evaluate("(title) => title === document.activeElement")
    to(page.locator("#text"))
    press("End")
    page.keyboard.type(", a cap")
    press("Enter")
    started.rest()
    assert "done" in todo.get_attribute("class")
    steps = {"2": "#words button >> nth=3", "3": "#patches button >> nth=0"}
    for number, place in steps.items():
        to(page.locator("#tour-next"))
        press("Enter")
        assert bar.locator("h2").text_content().startswith(number)
        to(page.locator(place))
        press("Enter")
        assert "done" in todo.get_attribute("class")
    press("Escape")
    assert bar.is_hidden()
    assert page.locator("#tour-open").evaluate("(button) => button === document.activeElement")


def test_a_link_brings_everything_back(started):
    page = started.page
    started.tab("Portrait")
    page.locator("#text").fill(SIMPLE)
    page.locator("#seed").fill("7")
    page.get_by_role("button", name="Draw").click()
    started.rest().wish("make them old and give them a beanie")
    started.slide(0.75)
    page.wait_for_timeout(600)
    started.rest()
    page.get_by_role("button", name="Copy link").click()
    link, pixels = page.evaluate("navigator.clipboard.readText()"), started.pixels()
    started.open("#" + link.partition("#")[2]).start()
    assert page.locator("#seed").input_value() == "7"
    assert page.locator("#wish").input_value() == "make them old and give them a beanie"
    assert page.locator("#degree").input_value() == "0.75"
    assert started.pixels() == pixels


def test_a_broken_link_is_no_harm(visit):
    visit.open("#text=%3Cb%3Ehi&seed=minus&steps=5&degree=9&change=hat:77,nothing:1&wish=").start()
    assert visit.picture().startswith("Portrait")
    assert visit.page.locator("#text").input_value() == "<b>hi"
    assert visit.page.locator("#result").is_hidden()
    assert visit.page.locator("#error").is_hidden()


def test_a_picture_of_ones_own(started):
    started.page.locator("#file").set_input_files(examples.files()["bo"])
    started.rest()
    assert "beard" in started.picture()
    started.wish("make him frown")
    assert "frown" in started.picture()
    assert started.page.locator("#link").is_disabled()
    started.tab("Portrait")
    started.page.locator("#file").set_input_files(Path(__file__))
    started.rest()
    assert "no picture" in started.page.locator("#error").text_content()
    assert "frown" in started.picture()


def test_a_download_that_stops_goes_on(chrome, address):
    context = chrome.new_context()
    visit = Visit(context, address)
    refused = [0]

    def refuse(route):
        refused[0] += 1
        if refused[0] == 6:
            route.abort()
        else:
            route.continue_()

    context.route("**/parts/*", refuse)
    visit.open().page.locator("#start").click()
    error = visit.page.locator("#load-error")
    error.wait_for(timeout=LONG)
    assert "try again" in error.text_content()
    asked = refused[0]
    visit.page.get_by_role("button", name="Try again").click()
    visit.page.locator("body:not(.before)").wait_for(timeout=LONG)
    pieces = len(list((BUILT / "model" / "parts").iterdir()))
    assert refused[0] - asked < pieces
    context.close()


def test_without_simd_there_are_recorded_pictures(chrome, address):
    context = chrome.new_context()
    context.add_init_script("WebAssembly.validate = () => false")
    visit = Visit(context, address).open()
    visit.page.locator("#unsupported").wait_for()
    assert "recorded" in visit.page.locator("#unsupported").text_content()
    full = visit.pixels()
    visit.slide(0.3)
    assert visit.pixels() != full
    assert visit.page.locator("#start").is_hidden()
    context.close()


def test_without_a_script_there_is_a_sentence(chrome, address):
    context = chrome.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("noscript p").is_visible()
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_how_it_looks(chrome, address, outputs, theme, width):
    context = chrome.new_context(
        viewport={"width": width, "height": 800 if width < 800 else 900}, color_scheme=theme
    )
    visit = Visit(context, address).open()
    page, found = visit.page, []

    def look(name):
        page.wait_for_timeout(400)
        page.screenshot(path=outputs / f"playground_{name}_{theme}_{width}.png", full_page=True)
        found.extend((name, *each) for each in serious(page))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name

    page.locator("#start:enabled").wait_for()
    look("start")
    visit.start()
    look("portrait")
    visit.wish("make them old and give them a crown")
    for box in ("#levels-box", "#texts-box", "#python-box"):
        page.locator(f"{box} summary").click()
    look("edit")
    visit.tab("Look inside")
    page.locator("#words button").filter(has_text="hair").click()
    look("inside")
    page.locator("#tour-open").click()
    look("tour")
    assert found == []
    context.close()
