"""Token alignment: what is kept, replaced, inserted and removed, and rows that may change places."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ditlens.bench import suites
from ditlens.description import (
    Alignment,
    align,
    single_changes,
)
from ditlens.errors import SettingError
from ditlens.models.embedding import TextEmbedding
from ditlens.worlds.portraits.describer import text_changes

WORDS = st.lists(st.sampled_from("a b c d e".split()), min_size=1, max_size=8).map(" ".join)


def kinds(alignment: Alignment) -> list[tuple[str, str, str]]:
    return [(s.kind, " ".join(s.source), " ".join(s.target)) for s in alignment.changes]


@pytest.mark.parametrize(
    ("source", "target", "changes", "aligned"),
    [
        ("a red cat", "a red cat", [], True),
        ("a red cat", "a blue cat", [("replaced", "red", "blue")], True),
        ("a red cat sat", "a blue cat lay", [("replaced", "red", "blue"), ("replaced", "sat", "lay")], True),
        ("a cat", "a big cat", [("inserted", "", "big")], False),
        ("a big cat", "a cat", [("removed", "big", "")], False),
        ("a red cat", "a dark blue cat", [("replaced", "red", "dark blue")], False),
        ("red cat", "cat red", [("inserted", "", "cat"), ("removed", "cat", "")], False),
        ("a b c x", "b c x y", [("removed", "a", ""), ("inserted", "", "y")], False),  # as long, and shifted
    ],
)
def test_changes_between_texts(source, target, changes, aligned):
    found = align(source, target)
    assert kinds(found) == changes and found.aligned is aligned
    assert bool(found.advice) is not aligned


def test_pairs_join_what_belongs_together():
    assert align("a red cat", "a dark blue cat").pairs == [(0, 0), (1, 1), (2, 3)]
    assert align("a cat", "a big cat").pairs == [(0, 0), (1, 2)]


def test_two_lines_show_the_changes_below_each_other():
    found = align("a man with no hat and a dog", "a man with red hat now and a")
    assert str(found) == (
        "source: a man with [no]  hat         and a {-dog-}\n"
        "target: a man with [red] hat {+now+} and a"
    )  # fmt: skip


def test_advice_names_what_to_reword():
    assert align("a hat", "a hat").advice == ""
    advice = align("a man in red with a dog", "a tall man in dark blue with a").advice
    for part in ("adds 'tall' (1 token)", "'red' (1 token) becomes 'dark blue' (2 tokens)",
                 "leaves out 'dog' (1 token)", '("no hat" / "red hat")'):  # fmt: skip
        assert part in advice


def test_rows_are_those_of_the_encoder(portraits):
    source, target = "old person, no glasses", "old person, round glasses"
    found = align(source, target, portraits.pipe.tokenizer)
    assert kinds(found) == [("replaced", "no</w>", "round</w>")] and found.changes[0].source_start == 4
    assert found.pairs == [(k, k) for k in range(int(portraits.encode_text(source).mask.sum()))]
    assert str(found).splitlines()[1] == "target: old person , [round] glasses"
    long = "red hair, " * 60
    assert (
        max(align(long, long, portraits.pipe.tokenizer).pairs)[0] == portraits.pipe.tokenizer_max_length - 1
    )
    assert len(align("a b c d", "a b c d", list, limit=3).pairs) == 3


def test_subwords_are_read_as_words():
    clip = SimpleNamespace(split=["mous", "tache</w>"])
    assert str(align("x", "y", lambda text: clip.split if text == "x" else ["beard</w>"])).splitlines() == [
        "source: [moustache]",
        "target: [beard]",
    ]
    t5 = {"x": ["▁a", "▁mous", "tache", "</s>"], "y": ["▁a", "▁beard", "</s>"]}
    assert str(align("x", "y", t5.get)).splitlines() == ["source: a [moustache]", "target: a [beard]"]


def test_words_that_come_often_count_in_long_texts():
    source = "a b " * 150
    assert kinds(align(source, source.replace("a b", "a c", 1))) == [("replaced", "b", "c")]
    found = align(f"x {source} y", f"z {source} w")
    assert kinds(found) == [("replaced", "x", "z"), ("replaced", "y", "w")]


@pytest.mark.parametrize(
    ("source", "target", "texts"),
    [
        ("a sad man, red hair", "a happy man, blue hair", ["a happy man, red hair", "a sad man, blue hair"]),
        ("a dog on a beach", "a cat on a street", ["a cat on a beach", "a dog on a street"]),
        ("a man looking to the left", "a man glancing to the right", ["a man glancing to the right"]),
        ("a man", "a man with a red hat", ["a man with a red hat"]),
        ("a man with a hat, smiling", "a man, smiling", ["a man, smiling"]),
        ("no hat, no beard", "a hat, a beard", ["a hat, no beard", "no hat, a beard"]),
        ("the same", "the  same", []),
    ],
)
def test_every_change_alone(source, target, texts):
    assert single_changes(source, target) == texts


def test_every_change_of_a_suite_is_one_of_its_attributes():
    for item in suites.open_suite("portraits-dev", 36).items:
        texts = single_changes(item.source_text, item.target_text)
        alone = [text_changes(item.source_text, text) for text in texts]
        assert sorted(name for changes in alone for name in changes) == sorted(item.wanted), item


def test_empty_texts_are_refused():
    with pytest.raises(SettingError, match="Two texts are needed"):
        align("a", " ")


@given(WORDS, WORDS)
def test_spans_put_together_are_the_texts(source, target):
    found = align(source, target)
    assert [t for s in found.spans for t in s.source] == source.split()
    assert [t for s in found.spans for t in s.target] == target.split()
    assert all(s.source == s.target for s in found.spans if s.kind == "kept")
    assert not found.aligned or len(source.split()) == len(target.split())
    rows, columns = zip(*found.pairs, strict=True) if found.pairs else ((), ())
    assert len(set(rows)) == len(rows) and len(set(columns)) == len(columns)


# --- rows --------------------------------------------------------------------------------------------------


def test_a_transformer_does_not_see_the_order_of_its_text_rows(portraits):
    text, latents = portraits.encode_text("old person, big smile, red hair"), portraits.noise([0])
    order = torch.randperm(text.tokens.shape[1], generator=torch.Generator().manual_seed(0))
    permuted = TextEmbedding(text.tokens[:, order], text.pooled)
    torch.testing.assert_close(
        portraits(latents, 0.5, permuted), portraits(latents, 0.5, text), rtol=1e-4, atol=1e-5
    )
    changed = text.tokens.clone()
    changed[0, 1] = 0
    other = TextEmbedding(changed, text.pooled)
    assert (portraits(latents, 0.5, other) - portraits(latents, 0.5, text)).abs().max() > 1e-4
