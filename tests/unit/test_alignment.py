"""Token alignment: what is kept, replaced, inserted and removed, and rows that may change places."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ditlens.bench import suites
from ditlens.ems.alignment import (
    Alignment,
    align,
    align_embeddings,
    align_rows,
    row_order,
    single_changes,
    text_pairs,
)
from ditlens.ems.manipulate import TextEmbedding
from ditlens.errors import SettingError
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
    for part in ("adds 'tall' (1 more)", "'red' has 1 tokens, 'dark blue' has 2", "leaves out 'dog' (1 fewer)",
                 '("no hat" / "red hat")'):  # fmt: skip
        assert part in advice


def test_rows_are_those_of_the_encoder(portraits):
    source, target = "old person, no glasses", "old person, round glasses"
    found = align(source, target, portraits.pipe.tokenizer)
    assert kinds(found) == [("replaced", "no</w>", "round</w>")] and found.changes[0].source_start == 4
    assert found.pairs == [(k, k) for k in range(int(portraits.token_counts([source])))]
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
    for item in suites.portraits(36, "dev").items:
        texts = single_changes(item.source_text, item.target_text)
        alone = [text_changes(item.source_text, text) for text in texts]
        assert sorted(name for changes in alone for name in changes) == sorted(item.changes), item


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


def embedding(rows: int, real: int | None = None, seed: int = 0) -> TextEmbedding:
    generator = torch.Generator().manual_seed(seed)
    mask = None if real is None else torch.arange(rows)[None] < real
    return TextEmbedding(
        torch.randn(1, rows, 4, generator=generator), torch.randn(1, 3), mask, ("x",), ("cond",)
    )


@st.composite
def tasks(draw):
    """Segments, which rows are words, and pairs that respect both."""
    segments = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    pairs, real, start = [], ([], []), 0
    for rows in segments:
        count = draw(st.integers(0, rows))
        places = draw(st.permutations(range(start, start + rows)))[:count]
        others = draw(st.permutations(range(start, start + rows)))[:count]
        pairs += zip(places, others, strict=True)
        for side in real:
            side += draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
        start += rows
    return pairs, *real, segments


@given(tasks())
def test_an_order_of_rows_is_a_permutation_that_keeps_pairs_and_segments(task):
    pairs, source_real, target_real, segments = task
    order = row_order(*task)
    assert sorted(order) == list(range(sum(segments)))
    assert all(order[place] == row for place, row in pairs)
    start = 0
    for rows in segments:
        assert sorted(order[start : start + rows]) == list(range(start, start + rows))
        start += rows


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
def test_aligned_rows_stay(real, data):
    kept = data.draw(st.sets(st.sampled_from(range(len(real)))))
    assert row_order([(k, k) for k in kept], real, real, [len(real)]) == list(range(len(real)))


def test_an_inserted_word_takes_a_row_of_padding():
    # start a cat end pad pad pad  ->  start a big cat end pad pad
    source, target = embedding(7, real=4), embedding(7, real=5, seed=1)
    moved = align_rows(source, target, align("S a cat E", "S a big cat E").pairs)
    assert torch.equal(moved.tokens, target.tokens[:, [0, 1, 3, 4, 2, 5, 6]])
    assert moved.mask.tolist() == [[True] * 5 + [False] * 2]
    assert moved.prompts == target.prompts and torch.equal(moved.pooled, target.pooled)


def test_a_removed_word_leaves_its_row_to_padding():
    source, target = embedding(6, real=5), embedding(6, real=4, seed=1)
    moved = align_rows(source, target, align("S a big cat E", "S a cat E").pairs)
    assert torch.equal(moved.tokens, target.tokens[:, [0, 1, 4, 2, 3, 5]])
    assert moved.mask.tolist() == [[True, True, False, True, True, False]]


@pytest.mark.parametrize(
    ("pairs", "source", "target", "order"),
    [
        ([(0, 0), (1, 3)], "wwpp", "wwww", [0, 3, 1, 2]),  # inserted words keep their order
        ([(0, 1), (3, 2)], "wwpp", "wwpp", [1, 3, 0, 2]),  # a word goes to padding, padding to a word
        ([(0, 1), (3, 2)], "wpww", "pwww", [1, 3, 0, 2]),  # also if padding comes first
    ],
)
def test_words_choose_before_padding(pairs, source, target, order):
    words = ([kind == "w" for kind in side] for side in (source, target))
    assert row_order(pairs, *words, [4]) == order


def test_without_free_padding_an_inserted_word_takes_what_is_left():
    assert row_order([(0, 1)], [True] * 3, [True] * 3, [3]) == [1, 0, 2]
    assert row_order([(0, 1)], [True, True, False], [True] * 3, [3]) in ([1, 2, 0], [1, 0, 2])


def test_masks_that_are_not_known_stay_unknown():
    moved = align_rows(embedding(4), embedding(4, seed=1), [(0, 0), (1, 2)])
    assert moved.mask is None and torch.equal(moved.tokens[0, 1], embedding(4, seed=1).tokens[0, 2])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(0, 6)], "outside the 6 rows"),
        ([(-1, 0)], "outside the 6 rows"),
        ([(0, 1), (0, 2)], "is in two pairs"),
        ([(0, 1), (2, 1)], "is in two pairs"),
        ([(0, 5)], "different text encoders"),
    ],
)
def test_contradicting_pairs_are_refused(pairs, message):
    with pytest.raises(SettingError, match=message):
        align_rows(embedding(6), embedding(6), pairs, segments=[4, 2])


def test_shapes_are_checked():
    with pytest.raises(SettingError, match="6 and 7 token rows"):
        align_rows(embedding(6), embedding(7), [])
    with pytest.raises(SettingError, match="segments that sum to 6"):
        align_rows(embedding(6), embedding(6), [], segments=[4, 3])
    with pytest.raises(SettingError, match="Need one text each"):
        align_rows(embedding(6).expand(2), embedding(6).expand(2), [])


# --- in a model --------------------------------------------------------------------------------------------


def test_a_transformer_does_not_see_the_order_of_its_text_rows(portraits):
    source = portraits.encode_text("old person, red hair")
    target = portraits.encode_text("old person, big smile, red hair")
    moved = align_embeddings(portraits, source, target)
    assert not torch.equal(moved.tokens, target.tokens)
    assert moved.mask.sum() == target.mask.sum()
    # "red hair" and the end mark sit in the source's rows
    pairs = align("old person, red hair", "old person, big smile, red hair", portraits.pipe.tokenizer).pairs
    assert pairs[-1] != (pairs[-1][0],) * 2
    for place, row in pairs:
        assert torch.equal(moved.tokens[0, place], target.tokens[0, row])
    latents = portraits.noise([0])
    torch.testing.assert_close(
        portraits(latents, 0.5, moved), portraits(latents, 0.5, target), rtol=1e-4, atol=1e-5
    )
    changed = target.tokens.clone()
    changed[0, 1] = 0
    other = TextEmbedding(changed, target.pooled, target.mask)
    assert (portraits(latents, 0.5, other) - portraits(latents, 0.5, target)).abs().max() > 1e-4


def test_aligned_texts_are_left_alone(portraits):
    source, target = (portraits.encode_text(f"old person, {hair} hair") for hair in ("red", "grey"))
    assert torch.equal(align_embeddings(portraits, source, target).tokens, target.tokens)
    with pytest.raises(SettingError, match="know their texts"):
        align_embeddings(portraits, source, TextEmbedding(target.tokens, target.pooled))


def test_rows_of_several_encoders_are_aligned_apart(portraits):
    clip = portraits.pipe.tokenizer

    class Third:
        """A tokenizer of whole words, with an end mark only, as T5's."""

        model_max_length = 512

        def __call__(self, text, truncation=True, max_length=256):
            return SimpleNamespace(input_ids=[*text.split(), "</s>"][:max_length])

        def convert_ids_to_tokens(self, ids):
            return ids

    third = Third()
    pipe = SimpleNamespace(tokenizer=clip, tokenizer_3=third, tokenizer_max_length=64)
    pairs, segments = text_pairs(pipe, "old person", "very old person", 64 + 10)
    assert segments == [64, 10]
    assert [pair for pair in pairs if pair[0] < 64] == align("old person", "very old person", clip).pairs
    assert [pair for pair in pairs if pair[0] >= 64] == [(64, 65), (65, 66), (66, 67)]
    assert text_pairs(
        SimpleNamespace(tokenizer=clip, tokenizer_3=None, tokenizer_max_length=64), "a", "b", 64
    )[1] == [64]
    source, target = embedding(74), embedding(74, seed=1)
    moved = align_rows(source, target, pairs, segments)
    assert torch.equal(moved.tokens[0, 64:67], target.tokens[0, 65:68])
