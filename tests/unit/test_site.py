"""Addresses of hook points: reading, printing, choosing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ditlens.errors import SiteError
from ditlens.lens.site import KINDS, POINTS, STREAMS, Site, braces, select

BLOCKS = 4
ALL = [
    Site(kind, block, stream, point)
    for kind in KINDS
    for block in range(BLOCKS)
    for stream in STREAMS
    for point in POINTS
]
sites = st.builds(
    Site, st.sampled_from(KINDS), st.integers(0, 99), st.sampled_from(STREAMS), st.sampled_from(list(POINTS))
)


def names(patterns):
    return [str(site) for site in select(patterns, ALL, {})]


@given(sites)
def test_printing_and_parsing_are_inverse(site):
    assert Site.parse(str(site)) == site


def test_the_other_order_of_attention_is_understood():
    assert str(Site.parse("joint.3.attn.image.out")) == "joint.3.image.attn.out"


def test_cond_has_no_block():
    assert str(Site.parse("cond")) == "cond"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("joint.3.image.out", ["joint.3.image.out"]),
        ("joint.-1.text.in", ["joint.3.text.in"]),
        ("joint.1:3.image.out", ["joint.1.image.out", "joint.2.image.out"]),
        ("joint.::2.image.out", ["joint.0.image.out", "joint.2.image.out"]),
        ("*.0.text.out", ["joint.0.text.out", "single.0.text.out"]),
        ("joint.{0,2}.{text,image}.out",
         ["joint.0.text.out", "joint.0.image.out", "joint.2.text.out", "joint.2.image.out"]),
    ],
)  # fmt: skip
def test_patterns(pattern, expected):
    assert names(pattern) == expected


def test_several_patterns_give_each_site_once_in_forward_order():
    assert names(["joint.2.image.out", "joint.*.image.out"]) == [
        f"joint.{i}.image.out" for i in range(BLOCKS)
    ]


def test_braces_multiply():
    assert braces("a{1,2}b{3,4}") == ["a1b3", "a1b4", "a2b3", "a2b4"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("joint.3.image", "3 fields instead of four"),
        ("joint.3.img.out", "'img' is not one of text, image"),
        ("joint.3.image.outs", "'outs' is not one of in, out"),
        ("duo.3.image.out", "'duo' is not one of joint, single"),
        ("joint.x.image.out", "'x' selects no blocks"),
        ("joint.4.image.out", r"4 joint blocks \(0 to 3\)"),
        ("cond", "no conditioning vector"),
    ],
)
def test_what_fits_nothing_says_why(pattern, message):
    with pytest.raises(SiteError, match=message):
        names(pattern)


def test_an_absent_site_gives_its_reason():
    here = [site for site in ALL if str(site) != "joint.3.text.out"]
    with pytest.raises(SiteError, match="joint.3.text.out does not exist: nobody reads it"):
        select("joint.3.text.out", here, {"joint.3.text.out": "nobody reads it"})


def test_addresses_need_no_torch():
    code = "import sys, ditlens.lens.site; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
