"""Held-out combinations: none reaches the training of text and transformer, their values all do."""

from __future__ import annotations

import pytest
import torch

from ditlens.train import text
from ditlens.train.loop import Budget
from ditlens.train.run import held_out_entry
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import neutral, sample, take
from ditlens.worlds.portraits.heldout import HELD_OUT, held_out, match


def test_a_combination_is_both_values():
    both, one = neutral(hair_color="red", background="green"), neutral(hair_color="red", background="pink")
    assert held_out(both).tolist() == [True]
    assert held_out(one).tolist() == [False]


@pytest.mark.parametrize("pair", HELD_OUT, ids=lambda pair: " ".join(pair.values()))
def test_each_value_is_shown_with_other_partners(pair):
    people = sample(4000, torch.Generator().manual_seed(0))
    shown = take(people, ~held_out(people))
    assert not match(shown, pair).any()
    for name, value in pair.items():
        assert match(shown, {name: value}).sum() > 100


def test_training_of_text_never_says_them(tmp_path, monkeypatch):
    said = []
    original = captions.caption_all

    def spy(people, **options):
        said.append(people)
        return original(people, **options)

    monkeypatch.setattr(text.captions, "caption_all", spy)
    text.train(Budget(minutes=0.02, folder=tmp_path, device=torch.device("cpu"), resume=False, seed=0))
    assert said and not any(held_out(people).any() for people in said)
    assert all(len(people["hat"]) == text.BATCH["cpu"] for people in said)


def test_weights_that_were_trained_on_keep_what_they_first_said(tmp_path):
    assert held_out_entry(tmp_path, "mmdit", fresh=True) == {"held_out": list(HELD_OUT)}
    assert held_out_entry(tmp_path, "mmdit", fresh=False) == {}
    (tmp_path / "reports.json").write_text('{"mmdit": {"held_out": [{"hat": "cap"}]}}')
    assert held_out_entry(tmp_path, "mmdit", fresh=False) == {"held_out": [{"hat": "cap"}]}
