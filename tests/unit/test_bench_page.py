"""The report page of a benchmark folder: whole, escaped, honest about what is missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from bench_run import EVIL, write_run
from PIL import Image

from ditlens.bench.folder import read_folder
from ditlens.bench.report.curves import chart
from ditlens.bench.report.gallery import gallery
from ditlens.bench.report.page import write_page
from ditlens.bench.report.sheets import write_sheets
from ditlens.errors import BenchError


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            v for k, v in attrs if k in ("src", "href", "data-src") and v and not v.startswith("#")
        ]
        if tag not in ("img", "meta", "input", "br", "link", "hr", "col") and not tag.startswith(
            ("path", "line")
        ):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run")


def test_the_page_has_every_method_picture_and_message(folder):
    text = write_page(folder).read_text("utf-8")
    page = Reader(text)
    words = " ".join(page.words)
    for part in ("ems", "sdedit", "ddib", "target reached", "non-target drift", "item000", "SettingError"):
        assert part in words, part
    pictures = [link for link in page.links if link.endswith(".png")] or re.findall(
        r"images/[\w/.]+png", text
    )
    assert pictures and all((folder / link).is_file() for link in pictures)


def test_texts_of_the_run_are_shown_not_run(folder):
    text = write_page(folder).read_text("utf-8")
    assert EVIL not in text, "markup in instructions, settings or messages would run"
    assert "alert(" in text and "&lt;script&gt;" in text, "and they are shown"
    assert Reader(text).tags.count("script") == len(re.findall(r"<script", text))


def test_the_page_needs_no_network(folder):
    text = write_page(folder).read_text("utf-8")
    outside = [link for link in Reader(text).links if re.match(r"(https?:)?//", link)]
    assert not outside and "@import" not in text


def test_numbers_are_those_of_the_summary(folder):
    words = " ".join(Reader(write_page(folder).read_text("utf-8")).words)
    assert "90.0 %" in words and "88.0 %" in words, "success of the first and third method at degree 1"
    path = folder / "summary.json"
    changed = json.loads(path.read_text())
    changed["methods"]["ems"]["degrees"]["1"]["success"]["value"] = 0.31
    path.write_text(json.dumps(changed))
    assert "31 %" in " ".join(Reader(write_page(folder).read_text("utf-8")).words)


@pytest.mark.parametrize(
    "methods", [("ems",), ("ems", "sdedit", "ddib", "dds", "flowedit", "flowalign", "dvrf")]
)
def test_one_method_and_many(tmp_path, methods):
    text = write_page(write_run(tmp_path / "run", methods, items=2)).read_text("utf-8")
    assert all(name in text for name in methods) and "nan" not in " ".join(Reader(text).words).lower()


def test_values_that_are_missing_are_a_dash(folder):
    text = write_page(folder).read_text("utf-8")
    assert '<td class="" data-value="">–<br><small>6 of 6 without a value</small></td>' in text
    assert "None" not in " ".join(Reader(text).words).replace("None:", "")


def test_curves_lie_where_their_numbers_say(folder):
    found = chart(read_folder(folder))
    assert found.across.ticks == [0, 0.5, 1, 1.5] and found.up.ticks == pytest.approx(
        [0.05 * k for k in range(6)]
    )
    ems, ddib = found.lines["ems"][2], found.lines["ddib"][3]
    assert (ems.degree, ems.x.value, ems.y.value) == (1, 1, 0.05)
    left, right, top, bottom = 112, 660, 18, 362
    across, up = (
        (right - left) / 1.56,
        (bottom - top) / 0.26,
    )  # a unit: the intervals of 0 begin at -0.03 and -0.01
    assert found.across.place(ems.x.value) == pytest.approx(left + 1.03 * across, abs=0.1)
    assert found.up.place(ddib.y.value) == pytest.approx(bottom - 0.235 * up, abs=0.1)
    text = write_page(folder).read_text("utf-8")
    assert '<use href="#m0" x="473.8" y="282.6"/>' in text, "the marker of EMS at degree 1"


def test_methods_that_edited_different_images_are_not_compared_in_silence(folder):
    said = "The methods edited different images"
    assert said not in write_page(folder).read_text("utf-8")
    path = folder / "rows.csv"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not ("item000" in line and "ddib" in line)), "utf-8")
    page = write_page(folder).read_text("utf-8")
    assert said in page and "How many: ems 6, sdedit 6, ddib 5." in page


def test_a_sheet_has_a_row_for_each_method(folder):
    write_sheets(folder)
    names = ["00_item000.png", "01_item001.png", "02_item002.png"]  # the first of each kind
    assert sorted(path.name for path in (folder / "sheets").iterdir()) == names
    sheet = Image.open(folder / "sheets" / names[0])
    assert sheet.size == (5 * 136 + 8, 48 + 3 * 192), "source and four degrees; three methods"
    assert sheet.getpixel((8 + 136 * 3 + 64, 48 + 192 - 30)) == (0, 37 * 3, 90), "EMS at degree 1"
    assert sheet.getpixel((8 + 136 * 4 + 64, 48 + 3 * 192 - 30)) == (230, 230, 230), "the last one failed"


def test_whole_items_are_left_out_of_a_long_gallery(folder):
    found = gallery(read_folder(folder), most=30)  # 12 results each
    assert [item.name for item, _ in found.strips] == ["item000", "item001"] and found.left_out == 4
    methods = [(row.method, row.degree) for row in found.strips[0][1]]
    assert methods == [(m, d) for m in ("ems", "sdedit", "ddib") for d in (0, 0.5, 1, 1.5)]


def test_a_separator_within_a_text_does_not_end_the_line(folder):
    path = folder / "items.csv"
    path.write_text(path.read_text("utf-8").replace("bigger</b> number 2", "bigger\u2028hat"), "utf-8")
    assert read_folder(folder).items["item002"].instruction == 'give them "more" & <b>bigger\u2028hat'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bench.json", None, "not the folder of a benchmark"),
        ("summary.json", "[1]", "not a JSON object"),
        ("rows.csv", "item,method\na,b\n", "lacks the columns degree, picture"),
        ("summary.json", "{", "damaged"),
    ],
)
def test_damaged_folders_are_told(folder, name, content, message):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(BenchError, match=message):
        write_page(folder)


def test_files_outside_the_folder_are_refused(folder):
    bench = read_folder(folder)
    with pytest.raises(BenchError, match="outside"):
        bench.file("../elsewhere.png")
    with pytest.raises(BenchError, match="There is no file"):
        bench.file("images/none.png")


def test_intervals_lie_inside_the_plot(folder):
    summary = json.loads((folder / "summary.json").read_text())
    summary["methods"]["ems"]["degrees"]["1.5"]["effect"] |= {"low": -0.75, "high": 2.25}
    (folder / "summary.json").write_text(json.dumps(summary))
    across, page = chart(read_folder(folder)).across, write_page(folder).read_text("utf-8")
    ends = [
        float(end)
        for bar in re.findall(r'class="interval" x1="(.+?)" y1=.*? x2="(.+?)"', page)
        for end in bar
    ]
    assert across.start == min(ends) and max(ends) == across.end
    assert (across.low, across.high) == (-0.75, 2.25), "whole, not cut at the frame"


def test_resamples_without_a_value_are_not_items(folder):
    summary = json.loads((folder / "summary.json").read_text())
    goal = summary["methods"]["ems"]["matched"]["drift_at_0.5"]
    summary["methods"]["ems"]["matched"]["drift_at_0.5"] = goal | {"n": 6, "nan": 0, "undefined": 0.254}
    (folder / "summary.json").write_text(json.dumps(summary))
    words = " ".join(Reader(write_page(folder).read_text("utf-8")).words)
    assert "25 % of resamples without a value" in words
    assert "6 of 6 without a value" in words, "of PSNR, which one method lacks"


def test_wide_tables_say_that_they_go_on(folder):
    page = write_page(folder).read_text("utf-8")
    assert page.count("The table goes on to the right") == page.count('<table class="sortable">') > 3
    assert "::-webkit-scrollbar-thumb" in page
