"""The transformer's stage: what its loss weighs, and which captions come together."""

from __future__ import annotations

import importlib
import json

import pytest
import torch

from ditlens.train import data, mmdit
from ditlens.train.loop import Budget
from ditlens.train.text import build_tokenizer
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import sample
from ditlens.worlds.portraits.heldout import held_out
from ditlens.worlds.portraits.phrases import count_tokens


def test_importance_finds_the_cells_of_small_attributes():
    """A background that fills half of the latents and a gaze in one cell weigh the same in total."""
    people = sample(4000, torch.Generator().manual_seed(0))
    latents = 0.1 * torch.randn(4000, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    latents[:, 0, :2] += people["background"][:, None, None] * 3.0
    latents[:, 1, 3, 3] += people["gaze"]
    found = mmdit.importance(latents, people)
    assert found.shape == (2, 4, 4)
    torch.testing.assert_close(found.mean(), torch.tensor(1.0))
    # Two attributes explain something, the other sixteen are noise and spread evenly.
    assert found[1, 3, 3] > 2 > found[0, 0, 0] > 1 > found[0, 3, 0]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Captions of a training set of two small parts."""
    monkeypatch.setattr(data, "PART", 200)
    monkeypatch.setattr(data, "COUNT", {"cpu": 400})
    monkeypatch.setattr(mmdit, "CAPTIONS", {"cpu": 2})
    budget, tokenizer = Budget(1, tmp_path), build_tokenizer()
    return tokenizer, data.attributes(budget), mmdit.draw_texts(budget, tokenizer)


def read_back(tokenizer, texts, place):
    return tokenizer.decode(texts.ids[place].long(), skip_special_tokens=True).replace(" ,", ",")


def test_captions_are_drawn_ahead_each_for_its_own_picture(drawn):
    tokenizer, people, texts = drawn
    shown = (~held_out(people)).nonzero()[:, 0]
    assert sorted(texts.images.tolist()) == sorted(2 * shown.tolist()), "two each, the held out left out"
    assert texts.lengths.tolist() == sorted(texts.lengths.tolist())
    for place in range(0, len(texts.ids), 25):
        text = read_back(tokenizer, texts, place)
        assert texts.lengths[place] == count_tokens(text) + 2
        picture = int(texts.images[place])
        told = captions.parse(text)
        named = captions.nameable({n: v[picture : picture + 1] for n, v in people.items()})[0]
        assert told and all(named[n] in allowed for n, allowed in told.items())
    by_picture: dict[int, set[str]] = {}
    for place, picture in enumerate(texts.images.tolist()):
        by_picture.setdefault(picture, set()).add(read_back(tokenizer, texts, place))
    assert sum(len(found) == 2 for found in by_picture.values()) > 0.9 * len(by_picture), (
        "other words each time"
    )
    assert tokenizer.decode(texts.empty.long(), skip_special_tokens=True) == ""


def test_helpers_draw_the_same_captions():
    tokenizer = build_tokenizer()
    tasks = [(part, 1, tokenizer) for part in range(2)]
    for alone, helped in zip(mmdit.texts_of_parts(tasks, 1), mmdit.texts_of_parts(tasks, 2), strict=True):
        assert all((a == b).all() for a, b in zip(alone, helped, strict=True))


def test_a_step_that_does_not_fit_is_halved():
    assert mmdit.fitting(512, 80e9) == 512
    assert mmdit.fitting(512, 11e9) == 256
    assert mmdit.fitting(512, 0) == 8


def test_pictures_in_memory_are_those_on_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "PART", 3)
    monkeypatch.setattr(data, "COUNT", {"cpu": 6})
    data.images_on.cache_clear()
    cpu, index = torch.device("cpu"), torch.tensor([4, 0, 5])
    on_disk = data.batch_of(data.renders(Budget(1, tmp_path)), index, cpu)
    try:
        in_memory = data.batch_of(data.images_on(cpu, 2), index, cpu)
    finally:
        data.images_on.cache_clear()
    assert torch.equal(in_memory, on_disk) and in_memory.shape == (3, 3, 128, 128)


def test_captions_of_like_length(drawn):
    _, _, texts = drawn
    means = []
    for quantile in (0.0, 0.5, 1.0):
        places = texts.choose(64, quantile, torch.Generator().manual_seed(5))
        assert len(set(places.tolist())) > 32
        lengths = texts.lengths[places].float()
        assert lengths.max() - lengths.min() < texts.lengths.max() - texts.lengths.min()
        means.append(lengths.mean())
    assert means[0] < means[1] < means[2]


def test_no_configuration_says_where_it_was_trained(tmp_path):
    run = importlib.import_module("ditlens.train.run")
    (tmp_path / "transformer").mkdir()
    path = tmp_path / "transformer" / "config.json"
    path.write_text(json.dumps({"_name_or_path": str(tmp_path), "num_layers": 6}))
    run.clean_configs(tmp_path)
    assert json.loads(path.read_text()) == {"num_layers": 6}
