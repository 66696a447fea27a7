"""What results show of themselves: text and HTML from the same pieces."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import ditlens as dl
from ditlens.cards import Carded, Folded, Marked, Pictures, Table, as_html, as_text
from ditlens.description import Description
from ditlens.ems.plan import PickledModel

VOID = {"img", "meta", "br", "hr"}


class Checked(HTMLParser):
    """Refuses tags that are not closed in order; collects what is seen and addressed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.seen += [data.strip()] if data.strip() else []


def test_pieces_as_text_leave_out_pictures_and_what_is_folded():
    picture = Image.new("RGB", (8, 8))
    pieces = [
        "Title",
        Pictures([picture], ["a"]),
        Table([["1", "2"]], ("a", "b")),
        Folded("more", ["x"]),
        "end",
    ]
    assert as_text(pieces) == "Title\na  b\n-  -\n1  2\nend"


def test_pieces_as_html_are_complete_and_escaped():
    picture = Image.new("RGB", (64, 32), "red")
    hostile = '<script>alert("x")</script> & "q"'
    page = as_html([
        hostile, "", Table([[hostile, "0.5 (0.1 to 0.9)"]], (hostile, "b")), Pictures([picture], [hostile]),
        Folded(hostile, [Table([["inside", "2"]]), "deep"]),
    ])  # fmt: skip
    found = Checked(page)
    assert found.seen.count(hostile) == 5 and "script" not in found.tags
    assert "0.5 (0.1\xa0to\xa00.9)" in found.seen, "no line ends inside an interval"
    assert found.seen[-2:] == ["2", "deep"] and found.tags.count("details") == 1
    assert found.tags.count("p") == 2, "an empty line is of text only"
    assert all(address.startswith("data:image/jpeg;base64,") for address in found.addresses)


@pytest.mark.parametrize(
    ("size", "count", "shown"), [((64, 32), 1, (256, 128)), ((1024, 2048), 3, (56, 112))]
)
def test_pictures_are_scaled_and_inside_the_page(size, count, shown):
    pictures = Pictures([Image.new("RGBA", size, "red")] * count, ["a"] * count)
    page = as_html([pictures])
    (address, *_) = Checked(page).addresses
    file = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert file.size == shown and f'width="{shown[0]}" height="{shown[1]}"' in page
    red, green, blue = file.getpixel((shown[0] // 2, shown[1] // 2))
    assert red > 250 and green < 5 and blue < 5


def test_colours_come_from_the_page():
    style = as_html(["a"]).partition("</style>")[0]
    assert not re.search(r"#[0-9a-f]{3}|: *(black|white)", style) and "--jp-" in style
    assert "max-width: 600px" in style


def test_words_that_differ_are_marked_in_html_only():
    text = Marked("a <b> man, no hat", "a <b> man, red hat")
    assert as_text([Table([["source", text]])]) == "source  a <b> man, no hat"
    assert "a &lt;b&gt; man, <mark>no</mark> hat" in as_html([Table([["source", text]])])
    assert Marked("", "a").__html__() == "" and Marked("a b", "").__html__() == "<mark>a b</mark>"


def test_pictures_are_read_only_where_they_are_shown():
    class Result(Carded):
        def _card(self):
            return ["Result", Pictures(map(Image.open, ["absent.png"]), ["a"])]

    assert repr(Result()) == "Result"
    with pytest.raises(FileNotFoundError):
        Result()._repr_html_()


# --- the results ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edit(portraits):
    pixels = Image.fromarray(np.full((128, 128, 3), 128, np.uint8))
    return dl.edit(
        portraits, pixels, source_text="red hair, no hat", target_text="grey hair, a crown", seed=4
    )


def test_edit(edit):
    found = Checked(edit._repr_html_())
    assert len(found.addresses) == 2 and {"before", "after, degree 1, seed 4"} <= set(found.seen)
    assert found.seen[found.seen.index("source text") + 1 :][:3] == ["red", "hair,", "no hat"]
    assert {"degree", "seconds", "measured", "hair_color", "hat"} <= set(found.seen)
    assert "mark" in found.tags and len(repr(edit).splitlines()) < 25


def test_edit_lists_few_attributes(edit, monkeypatch):
    monkeypatch.setattr("ditlens.ems.edit.MOST", 1)
    lines = repr(edit).splitlines()
    (table,) = (k for k, line in enumerate(lines) if line.startswith("measured"))
    assert re.fullmatch(r"\(\d+ more attributes? stayed the same, \d+ more moved\)", lines[table + 3])


def test_sweep(edit):
    sweep = edit.sweep([0, 1])
    lines = repr(sweep).splitlines()
    assert lines[0] == "Sweep of 2 degrees: 0, 1" and lines[1].split() == ["measured", "0", "1"]
    assert [line.split()[0] for line in lines[3:5]] == ["hair_color", "hat"]
    assert lines[-1].split() == ["drift", *(f"{e.drift:.3f}" for e in sweep.edits)]
    found = Checked(sweep._repr_html_())
    assert len(found.addresses) == 2 and {"degree 0", "degree 1"} <= set(found.seen)


def test_sweep_without_an_oracle(portraits):
    own = dl.wrap(portraits.pipe)
    made = dl.edit(own, Image.new("RGB", (128, 128)), source_text="a", target_text="b").sweep([0.5])
    assert repr(made) == "Sweep of 1 degree: 0.5" and len(Checked(made._repr_html_()).addresses) == 1


def test_model(portraits):
    found = Checked(portraits._repr_html_())
    assert found.seen[0] == repr(portraits)
    assert "SD3Transformer2DModel: 2 joint blocks, width 64" in found.seen
    assert "128 x 128, as latents 8 x 16 x 16, which are 64 tokens" in found.seen
    assert "18 attributes that are measured, and the words for their levels" in found.seen
    place = found.seen.index("smile")
    assert found.seen[place + 1].startswith("a big frown, ") and found.seen[place + 1].endswith(
        ", a big smile"
    )
    assert "details" in found.tags and "details" not in Checked(dl.wrap(portraits.pipe)._repr_html_()).tags


def test_model_of_a_pickled_edit(portraits):
    assert "PickledModel" in PickledModel(portraits)._repr_html_()


def test_description():
    found = Checked(Description("no hat", "a crown, no hat", {"hat": "a crown"})._repr_html_())
    assert found.seen == [
        "Description", "source text", "no hat", "target text", "a crown,", "no hat", "describer", "by hand",
    ]  # fmt: skip


def test_cache_sites_and_study(portraits):
    with dl.capture(portraits, "joint.*.image.out", steps=0) as cache:
        portraits.generate("a smile", steps=1)
    found = Checked(cache._repr_html_())
    assert found.seen[0] == "LatentCache: 2 sites, 1 image, 33 kB" and "1 x 64 x 64" in found.seen
    assert {"joint.0:2.image.in", "what enters the block"} <= set(
        Checked(dl.sites(portraits)._repr_html_()).seen
    )
    study = dl.open_study("portraits")
    shown = Checked(study._repr_html_())
    assert len(shown.addresses) == 5 and "joint.4.image.out" in shown.seen
    assert all(len(each) <= 60 for each in shown.seen[1:6]), "prompts are cut"


def test_probe_and_direction():
    study = dl.open_study("portraits")
    probe = dl.probe(study, "smile", sites="joint.4.image.out", steps=7, tokens="mean")
    found = Checked(probe._repr_html_())
    assert found.seen[0].startswith("Probe of smile: R²") and "best cell of site" in found.seen
    smile = dl.Direction("a smile", "by hand", dl.flow.sigmas_linear(3)[None], 2.0, "joint.0.image.out")
    assert Checked(smile._repr_html_()).seen[:2] == [
        "Direction: a smile", "joint.0.image.out, 4 numbers at any token",
    ]  # fmt: skip


RESULTS = (
    "Ablation CausalMap Edit Entanglement LatentCache Leakage PatchMaps PCA Probe Projection Report SDE UMAP"
)


@pytest.mark.parametrize("name", RESULTS.split())
def test_public_results_have_a_card(name):
    assert issubclass(getattr(dl, name), Carded) and "__repr__" not in vars(getattr(dl, name))
