"""One JupyterLab, one Voilà and one Chromium for all tests; skipped where a part is missing."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

NEEDED = ("playwright", "jupyterlab", "voila", "anywidget")
if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    pytest.skip(
        f"not installed: {', '.join(missing)}; type: make test-browser", allow_module_level=True
    )

from playwright.sync_api import sync_playwright  # noqa: E402

from tests.browser import pages  # noqa: E402

OUTPUTS = Path(os.environ.get("DITLENS_SCREENSHOTS", pages.ROOT / "outputs" / "browser"))


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if pages.CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="Chromium was not found: install it, e.g. apt install chromium"))


@pytest.fixture(scope="session")
def outputs():
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    return OUTPUTS


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    with sync_playwright() as playwright, pages.browser(playwright, tmp_path_factory.mktemp("profile")) as context:
        yield context


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Start a server where it is first asked for."""
    made = {}

    def server(kind):
        if kind not in made:
            made[kind] = pages.Server(kind, tmp_path_factory.mktemp(kind)).start()
            pages.notebook(made[kind].folder / "editor.ipynb", pages.OPEN)
        return made[kind]

    yield server
    for each in made.values():
        each.stop()


@pytest.fixture(scope="session")
def open_editors(chromium, servers):
    made = {}

    def editor(kind):
        if kind not in made:
            made[kind] = pages.reader(chromium, servers(kind)).open("editor.ipynb")
        return made[kind]

    yield editor
    for each in made.values():
        each.close()


@pytest.fixture(params=["lab", "voila"])
def editor(request, open_editors):
    """A page with an editor that shows an example and nothing else; the page must ask nobody and break nothing."""
    found = open_editors(request.param)
    found.begin()
    yield found
    assert (found.asked_outside, found.our_errors) == ([], [])
