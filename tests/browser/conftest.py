"""One JupyterLab, one Voilà and one Chromium for all tests; skipped where a part is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = Path(os.environ.get("DITLENS_SCREENSHOTS", ROOT / "outputs" / "browser"))


@pytest.fixture(scope="session")
def pages():
    """The helpers of these tests, where what they need is installed."""
    from tests.browser import pages

    if pages.CHROMIUM is None:
        pytest.skip("Chromium was not found: install it, e.g. apt install chromium")
    return pages


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def outputs():
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    return OUTPUTS


@pytest.fixture(scope="session")
def chromium(tmp_path_factory, pages):
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        pages.browser(playwright, tmp_path_factory.mktemp("profile")) as context,
    ):
        yield context


@pytest.fixture(scope="session")
def servers(tmp_path_factory, pages):
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
def open_editors(chromium, servers, pages):
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
