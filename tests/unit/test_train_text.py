"""The text stage: a tokenizer that is the same everywhere, and phrases asked where they end."""

from __future__ import annotations

import random

import pytest
import torch

from ditlens.train import text
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import sample


@pytest.fixture(scope="module")
def tokenizer():
    return text.build_tokenizer()


def test_every_word_is_one_token(tokenizer):
    words = {part for word in captions.vocabulary() for part in word.replace("-", " - ").split()}
    assert not [word for word in words if tokenizer.tokenize(word) != [f"{word}</w>"]]
    assert tokenizer.decode(tokenizer("a zebra, xyz").input_ids[1:-1]) == "a zebra , xyz", "others are spelt"


def test_the_tokenizer_is_the_same_every_time(tokenizer):
    again = text.build_tokenizer()
    assert again.get_vocab() == tokenizer.get_vocab()
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_phrases_are_asked_at_their_last_word(tokenizer):
    caption = "a portrait of an old person with very light skin, clean-shaven, long red hair"
    places, meanings = text.phrase_ends(tokenizer, [caption, "a smile"])
    ids = text.tokenize(tokenizer, [caption, "a smile"])
    found = [
        (tokenizer.decode(ids[row, place]), *meaning)
        for (row, place), meaning in zip(places.tolist(), meanings, strict=True)
    ]
    assert found == [
        ("old", "age"), ("skin", "skin_tone"), ("shaven", "beard"), ("long", "hair_length"), ("red", "hair_color"),
        ("smile", "smile"),
    ]  # fmt: skip
    assert meanings[1] == {"skin_tone": frozenset({0})}


def test_phrases_of_random_captions_end_in_their_own_words(tokenizer):
    people = sample(60, torch.Generator().manual_seed(4))
    texts = captions.caption_all(people, rng=random.Random(2))
    places, meanings = text.phrase_ends(tokenizer, texts)
    ids = text.tokenize(tokenizer, texts)
    words = [tokenizer.decode(ids[row, place]) for row, place in places.tolist()]
    assert not {",", "-", "a", "and", "with"} & set(words)
    for row, caption in enumerate(texts):
        named = {name for (r, _), m in zip(places.tolist(), meanings, strict=True) if r == row for name in m}
        assert named == set(captions.parse(caption)), caption


def test_what_captions_say_as_tensors():
    people = sample(6, torch.Generator().manual_seed(3))
    said = [captions.parse(t) for t in captions.caption_all(people, rng=random.Random(1))]
    truth = text.encode_named([*said, {}])
    assert truth["named"].shape[0] == 7 and truth["named"][-1].sum() == 0
    assert all(truth["named"][i].sum() == len(names) for i, names in enumerate(said))
    assert truth["value"].abs().max() <= 1
