"""Wherever an analysis takes a list, it takes a single value, too, and gives the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ditlens as dl
from ditlens.analysis.rows import blocks
from ditlens.analysis.steering import Steering
from ditlens.arguments import COUNT, listed, several
from ditlens.errors import SettingError
from ditlens.lens.study.run import plan_study

SITE = "joint.1.image.out"
CARRIERS = [f"{{a}}, {each} hair, {{b}}" for each in ("red", "grey", "pink", "black")]


def redness(images: torch.Tensor) -> torch.Tensor:
    return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2))


@pytest.fixture(scope="module")
def cache(portraits):
    with dl.capture(portraits, SITE, steps=0) as cache:
        portraits.sample(["a smile", "a frown", "a grin", "a pout"], [0, 1, 2, 3], steps=1)
    return cache


def numbers(found: Any) -> Any:
    """What a result says, in numbers that can be compared."""
    if isinstance(found, Steering):
        return [found.amounts, found.prompts, found.seeds, found.moved("age")]
    if isinstance(found, dl.Direction):
        return [found.vector.tolist(), found.places, found.how]
    if isinstance(found, list):
        return [vars(each) for each in found]
    if isinstance(found, dl.Leakage):
        return [row[:6] for row in found.rows]
    for name in ("effects", "matrix", "table", "maps", "curves"):
        if hasattr(found, name):
            return getattr(found, name)
    return vars(found)


def same(one: Any, other: Any) -> bool:
    try:
        np.testing.assert_equal(numbers(one), numbers(other))
    except AssertionError:
        return False
    return True


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "knock_out": (
        lambda model, **given: dl.knock_out(model, sampling_steps=1, progress=False, **given),
        {"prompts": "a hat", "seeds": 0, "blocks": 1, "how": "zero"},
    ),
    "patch": (
        lambda model, **given: dl.patch(model, measure=redness, sampling_steps=2, controls=False, **given),
        {"clean": "a red shirt", "corrupt": "a green shirt", "seeds": 0, "blocks": 1, "steps": (0, 1), "tokens": 3,
         "stream": "text", "point": "in"},
    ),
    "leakage": (
        lambda model, **given: dl.leakage(
            model, "smile", "hat", carriers=CARRIERS, sampling_steps=1, guidance=1, **given
        ),
        {"stream": "text", "steps": 0},
    ),
    "sde": (
        lambda model, **given: dl.sde(model, "hat", count=2, sampling_steps=1, guidance=1, **given),
        {"sigmas": 0.5, "settings": "text"},
    ),
    "entanglement": (
        lambda model, **given: dl.entanglement(model, count=1, sampling_steps=1, progress=False, **given),
        {"attributes": "smile"},
    ),
    "direction": (lambda model, **given: dl.direction(model, **given), {"pairs": ("a frown", "a smile")}),
    "steer": (
        lambda model, **given: dl.steer(
            model, dl.direction(model, "a frown", "a smile"), sampling_steps=1, guidance=1, **given
        ),
        {"amount": 1.0, "prompts": "a frown", "seeds": 0},
    ),
    "same_effect": (
        lambda model, **given: dl.same_effect(
            model, dl.direction(model, "a slight smile", "a big smile"), amount=1.0, prompts="a slight smile",
            sampling_steps=1, guidance=1, **given,
        ),
        {"others": dl.Direction("other", "by hand", torch.ones(64, 256), 1.0, pooled=torch.ones(256))},
    ),
    "plan_study": (
        lambda model, **given: plan_study(model, **given),
        {"prompts": "a man", "seeds": 0, "sites": SITE, "steps": 0, "passes": "cond"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_single_value_is_a_list_of_one(portraits, name):
    call, singles = CALLS[name]
    assert same(call(portraits, **singles), call(portraits, **{key: [one] for key, one in singles.items()}))


@pytest.mark.usefixtures("wrong_types")
def test_a_single_value_of_what_reads_hidden_states(portraits, cache):
    for tokens in (3, [3], np.int64(3)):
        rows = np.concatenate([block.values for block in blocks(cache, tokens)])
        assert rows.shape == (4, 64) and (rows == cache[SITE, 0][:, 3].numpy()).all()
    for number in (np.int64(1), torch.tensor(1), [1]):
        assert cache.select(block=number, step=np.int64(0)).sites == [SITE]
    assert dl.PCA(2, tokens=3).fit(cache).preprocessing.startswith("token 3 of each image")
    values = [1.0, 0.0, 2.0, 3.0]
    one, other = (dl.direction(cache, "mood", steps=steps, patches=[35], values=values) for steps in (0, [0]))
    assert same(one, other) and same(one.at(35), one.at([35]))
    steered = [
        dl.steer(portraits, one, prompts="a man", sampling_steps=1, guidance=1, steps=each, patches=patch, sites=at)
        for each, patch, at in ((0, 35, SITE), ([0], [35], [SITE]))
    ]  # fmt: skip
    assert same(*steered)
    study, site = dl.open_study("portraits"), "joint.4.image.out"
    one, other = (
        dl.probe(study, "glasses", sites=sites, steps=steps, tokens=tokens, folds=3)
        for sites, steps, tokens in ((site, 7, 28), ([site], [7], [28]))
    )
    assert [(cell.step, cell.token) for cell in one.cells if cell.site == site] == [(7, 28)]
    assert [cell.score for cell in one.cells] == [cell.score for cell in other.cells]


def test_wrong_single_values_are_refused_with_what_to_type(portraits):
    for call, message in (
        (lambda: dl.knock_out(portraits, seeds=-1), "seeds is -1; give a whole number from 0 to .*, or a list of"),
        (lambda: dl.knock_out(portraits, blocks="1"), "blocks is '1'; give a whole number from 0, or a list of"),
        (lambda: dl.sde(portraits, "hat", sigmas=0), "sigmas is 0; give a noise level above 0 and up to 1, or a"),
        (lambda: dl.leakage(portraits, "smile", "hat", stream="words"), "stream is 'words'; give one of 'text'"),
        (lambda: dl.gram(portraits, "smile"), "attributes has 1: a Gram matrix compares at least 2"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=message):
            call()


def test_listed_and_several():
    assert listed(torch.tensor(3)) == [3] and listed(np.arange(2)) == [0, 1] and listed(range(2)) == [0, 1]
    assert several(COUNT).words == f"{COUNT.words}, or a list of them"
