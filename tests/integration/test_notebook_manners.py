"""The first screen of a user, in a real kernel and on a terminal: no noise, short errors, bars that go."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FIRST = """import ditlens as dl
model = dl.load("portraits")
image = model.generate("a portrait with a big smile and round glasses", seed=3, steps=4)
edit = dl.edit(model, image, "remove the glasses")"""
CELLS = {
    "no widgets": "import sys\nsys.modules['ipywidgets'] = None",
    "first": FIRST,
    "card": "edit",
    "warning": "import warnings\nwarnings.warn('mine', stacklevel=1)",
    "wrong wish": "def wish(text):\n    return dl.edit(model, image, text)\n\nwish('paint a zebra')",
    "caused": "def broken(values, where):\n    return values[..., 1:]\n"
    "with dl.intervene(model, {'joint.0.image.out': broken}):\n    model.generate('a', steps=1)",
    "flag": "%env DITLENS_TRACEBACK=1",
    "full": "%tb",
    "no flag": "%env DITLENS_TRACEBACK=0",
    "own": "1 / 0",
    "bar": "import time\nfrom ditlens.tables import progress_bar\n"
    "with progress_bar('items') as show:\n"
    "    for k in range(14):\n        time.sleep(0.1)\n        show(k + 1, 20)\n    time.sleep(1)",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Outputs of `CELLS` by name, and everything that the kernel showed, also what it took back."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in CELLS.values()])
    folder = tmp_path_factory.mktemp("manners")
    client = nbclient.NotebookClient(nb, timeout=120, kernel_name="python3", allow_errors=True)
    shown = []
    process = client.process_message

    def listen(message, *rest):
        shown.append(message)
        return process(message, *rest)

    client.process_message = listen
    client.execute(env=os.environ | {"IPYTHONDIR": str(folder), "PYTHONWARNINGS": ""})
    return {name: cell.outputs for name, cell in zip(CELLS, nb.cells, strict=True)}, shown


def text_of(error):
    (output,) = error
    assert output.output_type == "error"
    return "\n".join(output.traceback)


def test_first_screen_of_a_kernel_is_silent(outputs):
    found, _ = outputs
    assert [each for each in found["first"] if any(each.get("data", {"": each}).values())] == []
    assert "UserWarning: mine" in found["warning"][0].text, "a warning of one's own is shown"


def test_card_in_a_kernel(outputs):
    (card,) = outputs[0]["card"]
    assert set(card.data) == {"text/plain", "text/html"}
    assert card.data["text/html"].count("data:image/jpeg;base64,") == 2


def test_a_wrong_wish_says_what_is_wrong_and_where(outputs):
    message, place, hint = text_of(outputs[0]["wrong wish"]).split("\n\n")
    assert message.startswith("CaptionError: Nothing in 'paint a zebra' is an edit of a portrait")
    assert max(map(len, message.splitlines())) < 80
    assert place.splitlines() == [
        "Cell In[5], line 4:", "    wish('paint a zebra')",
        "Cell In[5], line 2, in wish:", "    return dl.edit(model, image, text)",
    ]  # fmt: skip
    assert "%debug" in hint and "%env DITLENS_TRACEBACK=1" in hint and len(hint) < 80


def test_an_error_inside_a_hook_names_the_cell_and_no_frame_of_torch(outputs):
    said = text_of(outputs[0]["caused"])
    assert said.startswith("InterventionError: ") and "model.generate('a', steps=1)" in said
    assert ".py" not in said


def test_full_traceback_on_demand_and_for_the_errors_of_others(outputs):
    found = outputs[0]
    assert "ditlens/lens/" in text_of(found["full"]).replace(os.sep, "/")
    assert "Traceback (most recent call last)" in text_of(found["own"])
    assert "ZeroDivisionError" in text_of(found["own"])


def test_a_bar_in_a_notebook_is_a_line_that_goes(outputs):
    found, shown = outputs
    (bar,) = found["bar"]
    assert bar.data == {"text/plain": "", "text/html": ""}
    lines = [m["content"]["data"]["text/plain"] for m in shown if "display_data" in m.get("msg_type", "")]
    assert any(line.startswith("items: ") and "14/20" in line for line in lines), lines


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of Unix")
def test_first_screen_of_a_terminal_is_silent():
    program = (
        f"import ditlens.tables\nditlens.tables.WAIT = 1e9  # however slow it is\n{FIRST}\nprint('done')"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, cwd=Path.cwd()
    ) as process:
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 4096):
                said += part
        except OSError:  # Linux says so at the end
            pass
    os.close(ours)
    assert process.returncode == 0 and said.decode().split() == ["done"]
