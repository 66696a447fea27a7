"""What `app_sessions_mixed` counts."""

from __future__ import annotations

import io

from PIL import Image

from benchmarks import app
from benchmarks.app import JPEG, Made

PEAK = {"all": 2048.0, "model": 1024.0, "voila": 512.0, "pages": 512.0}


def made(grey, error=""):
    memory = io.BytesIO()
    Image.new("L", (4, 4), grey).save(memory, "PNG")
    return Made(memory.getvalue(), JPEG + b"before", JPEG + bytes([grey]), error, 2.0)


def counted(found, seen, broken=0):
    alone = [[made(1), made(2)], [made(3), made(4)]]
    return app.result(found, alone, seen, broken, PEAK, 60.0)


def test_nothing_is_mixed():
    found = counted([[made(1), made(2)], [made(3), made(4)]], [{JPEG + b"\1", JPEG + b"\2"}, {JPEG + b"\3"}])
    assert (found["value"], found["n"], found["unit"]) == (0, 4, "pictures")
    assert found["parts"]["own_pictures_on_pages"] == 3
    assert "all processes together at most 2.00 GB" in found["note"]


def test_each_kind_of_fault_is_counted():
    mine = [[made(1), made(3)], [made(3), made(4, "It broke.")]]
    found = counted(mine, [{JPEG + b"\1", JPEG + b"\4"}, set()], broken=1)
    names = ("mixed_results", "foreign_pictures_on_pages", "failed_edits", "ended_processes")
    assert [found["parts"][name] for name in names] == [1, 1, 1, 1]
    assert found["value"] == 4


def test_the_pictures_of_a_message_are_found():
    parts = [b"iopub", b"{}", b"{}", JPEG + b"first", b"\x89PNG", JPEG + b"second"]
    starts = [8 * (len(parts) + 2)]
    for part in parts:
        starts.append(starts[-1] + len(part))
    numbers = [len(starts), *starts]
    seen = set()
    app.read([b"".join(n.to_bytes(8, "little") for n in numbers) + b"".join(parts)], seen)
    assert seen == {JPEG + b"first", JPEG + b"second"}
    assert app.pss(2**30) == 0.0
