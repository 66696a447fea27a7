"""The identity of a model: exact, the same everywhere, and other for everything that decides hidden states."""

from __future__ import annotations

import copy
import types

import pytest
import torch

from ditlens.models.identity import SLICE, byte_hash, fingerprint


class Scheduler:
    def __init__(self, **settings):
        self.config = {"_diffusers_version": "1", **settings}


def model(**changes):
    """A model of linear layers; `changes` replace its parts."""
    parts = {}
    for name in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        torch.manual_seed(len(name))
        parts[name] = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.LayerNorm(3))
    parts |= {"text_encoder_3": None, "scheduler": Scheduler(shift=3.0), "tokenizer": object(), **changes}
    pipe = types.SimpleNamespace(components=parts, scheduler=parts["scheduler"])
    return types.SimpleNamespace(pipe=pipe)


def test_it_does_not_depend_on_the_number_of_threads():
    """A sum of floats does, from some 30 000 numbers on: a resumed study was taken for another."""
    large = torch.randn(3_000_001, generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.add(byte_hash(large))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_it_is_the_same_in_every_version():
    """Studies outlive versions: what is written in a manifest must not change meaning."""
    assert byte_hash(torch.arange(1000, dtype=torch.int16)) == 8782636444731863260
    zeros = torch.nn.Linear(2, 2)
    for value in zeros.parameters():
        value.data.zero_()
    plain = {"transformer": zeros, "text_encoder": None, "text_encoder_2": None}
    assert fingerprint(model(**plain)) == "32ab5a21f279bc79"


@pytest.mark.parametrize(
    "values",
    [torch.tensor(3.0), torch.empty(0, 4), torch.ones(3, dtype=torch.bool), torch.arange(5, dtype=torch.uint8),
     torch.ones(3, 5).to(torch.float8_e4m3fn), torch.randn(4, 6).t(), torch.randn(9)[3:]],
    ids=lambda x: f"{x.dtype}{tuple(x.shape)}",
)  # fmt: skip
def test_every_kind_of_tensor(values):
    assert byte_hash(values) == byte_hash(values.clone().contiguous())


def test_one_bit_or_one_swap_makes_another():
    values = torch.randn(SLICE // 4 + 1000)
    first = byte_hash(values)
    for place in (0, 1, SLICE // 4 - 1, SLICE // 4, len(values) - 1):
        other = values.clone()
        other.view(torch.int32)[place] ^= 1
        assert byte_hash(other) != first
    swapped = values.clone()
    swapped[[2, 4]] = swapped[[4, 2]]
    turned = torch.cat([values[SLICE // 4 :], values[: SLICE // 4]])
    assert len({first, byte_hash(swapped), byte_hash(turned)}) == 3


def test_what_decides_hidden_states_counts_and_the_rest_does_not():
    first = fingerprint(model())
    assert first == fingerprint(model())
    assert first == fingerprint(model(vae=torch.nn.Linear(2, 2), tokenizer=None))
    assert first == fingerprint(model(scheduler=Scheduler(shift=3.0, _diffusers_version="2")))
    others = [model(scheduler=Scheduler(shift=1.0))]
    for part in ("transformer", "text_encoder", "text_encoder_2"):
        changed = model()
        with torch.no_grad():
            changed.pipe.components[part][0].weight[0, 0] += 1
        others.append(changed)
    half = model()
    half.pipe.components["transformer"].to(torch.bfloat16)
    assert len({first, *map(fingerprint, [*others, half])}) == 6


def test_offloaded_weights_are_found():
    """Sequential offloading leaves shapes in the network, which have no values to add up."""
    from accelerate import cpu_offload

    whole = model()
    parts = copy.deepcopy(whole.pipe.components)
    cpu_offload(parts["transformer"], torch.device("cpu"))
    assert next(parts["transformer"].parameters()).is_meta
    assert fingerprint(model(**parts)) == fingerprint(whole)


def test_a_real_model(portraits):
    assert len(fingerprint(portraits)) == 16
