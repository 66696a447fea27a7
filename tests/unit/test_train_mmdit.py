"""The transformer's stage: what its loss weighs, and which captions come together."""

from __future__ import annotations

import importlib
import json

import torch

from ditlens.train import mmdit
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import sample
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


def test_captions_of_like_length():
    people = sample(2000, torch.Generator().manual_seed(0))
    shown = torch.arange(1000, 2000)
    means = []
    for quantile in (0.0, 0.5, 1.0):
        generator = torch.Generator().manual_seed(5)
        index, texts = mmdit.captions_of_like_length(people, shown, 16, generator, quantile)
        assert index.shape == (16,) and len(texts) == 16
        assert index.min() >= 1000, "only pictures that may be shown"
        lengths = sorted(map(count_tokens, texts))
        means.append(sum(lengths) / 16)
        for picture, text in zip(index.tolist(), texts, strict=True):
            told = captions.parse(text)
            named = captions.nameable({n: v[picture : picture + 1] for n, v in people.items()})[0]
            assert told and all(named[n] in allowed for n, allowed in told.items()), "its own caption"
    assert means[0] < means[1] < means[2]


def test_no_configuration_says_where_it_was_trained(tmp_path):
    run = importlib.import_module("ditlens.train.run")
    (tmp_path / "transformer").mkdir()
    path = tmp_path / "transformer" / "config.json"
    path.write_text(json.dumps({"_name_or_path": str(tmp_path), "num_layers": 6}))
    run.forget_places(tmp_path)
    assert json.loads(path.read_text()) == {"num_layers": 6}
