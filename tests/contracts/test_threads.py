"""A session sees the calls of the thread or asyncio task that opened it; others are neither seen nor disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

import ditlens as dl
from ditlens.errors import CaptureError, InterventionError
from ditlens.lens import attention

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

SD3 = "SD3Transformer2DModel"
SITES = "joint.*.{text,image}.{out,q,attn.to_text}"
OUT = "joint.0.image.out"


@pytest.fixture(scope="module")
def sd3():
    return tiny.build(SD3).eval()


@pytest.fixture
def quick_switches():
    """Threads take turns after a few operations."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def inputs(seed):
    noise = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(seed))
    return tiny.inputs(SD3) | {"hidden_states": noise}


@torch.no_grad()
def call(model, given):
    return model(**given, return_dict=False)[0]


def captured(model, given, calls=1):
    with dl.capture(model, SITES) as cache:
        for step in range(calls):
            call(model, given | {"timestep": given["timestep"] - step})
    return cache


def equal(one, other):
    assert set(one) == set(other)
    return all(torch.equal(one.tensors[key], other.tensors[key]) for key in one)


class InStep:
    """A model between two threads: its blocks wait for one another, so that calls certainly overlap."""

    def __init__(self, model):
        self.barrier = threading.Barrier(2)
        self.handles = [
            block.register_forward_pre_hook(lambda *_: (self.barrier.wait(5), None)[1])
            for block in model.transformer_blocks
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def both(*functions):
    """Results of functions that run in a thread of their own each."""
    with ThreadPoolExecutor(2) as pool:
        return [future.result() for future in [pool.submit(function) for function in functions]]


def test_two_threads_capture_one_model(sd3):
    first, second = inputs(1), inputs(2)
    alone = [captured(sd3, given) for given in (first, second)]
    with InStep(sd3):
        together = both(lambda: captured(sd3, first), lambda: captured(sd3, second))
    assert all(map(equal, alone, together)) and not equal(*alone)
    assert dl.hooks_on(sd3) == [] and attention.WATCHES == {}


def test_a_bystander_is_neither_captured_nor_disturbed(sd3):
    """A call without steps of its own broke the run of another thread: "came twice", raised in the bystander."""
    mine, others = inputs(1), inputs(2)
    alone, plain = captured(sd3, mine, 3), call(sd3, others)
    with InStep(sd3):
        cache, seen = both(lambda: captured(sd3, mine, 3), lambda: [call(sd3, others) for _ in range(3)])
    assert equal(alone, cache) and all(torch.equal(plain, image) for image in seen)


def test_an_intervention_stays_in_its_thread(sd3):
    given = inputs(1)
    plain = call(sd3, given)

    def changed():
        with dl.intervene(sd3, {OUT: dl.scale(0), "joint.1.image.q": dl.scale(2)}) as session:
            return call(sd3, given), session.applied

    (alone, applied), (there, _) = changed(), changed()
    with InStep(sd3):
        (there, counted), bystander = both(changed, lambda: call(sd3, given))
    assert torch.equal(there, alone) and not torch.equal(alone, plain) and counted == applied
    assert torch.equal(bystander, plain)


def test_an_intervention_leaves_the_captures_of_others_alone(sd3):
    """To put its hooks before theirs it took the hooks of other threads off, in the middle of a call."""
    given, begun, done = inputs(1), threading.Event(), threading.Event()
    alone = captured(sd3, given)

    def slow():
        first = sd3.transformer_blocks[0].register_forward_hook(
            lambda *_: (begun.set(), done.wait(5), None)[2]
        )
        try:
            return captured(sd3, given)
        finally:
            first.remove()

    def quick():
        begun.wait(5)
        with contextlib.suppress(InterventionError), dl.intervene(sd3, {OUT: dl.scale(0)}):
            done.set()

    assert equal(both(slow, quick)[0], alone)


@pytest.mark.parametrize("error", [CaptureError, InterventionError])
def test_one_error_says_that_the_model_ran_in_another_thread(sd3, error):
    def session():
        return dl.capture(sd3, OUT) if error is CaptureError else dl.intervene(sd3, {OUT: dl.scale(2)})

    with ThreadPoolExecutor() as pool:
        with (
            pytest.raises(error, match=r"ran in another thread.*copy_context\(\).run, model.generate"),
            session(),
        ):
            pool.submit(call, sd3, inputs(1)).result()
        with session():  # what the message says
            pool.submit(contextvars.copy_context().run, call, sd3, inputs(1)).result()


def test_one_error_says_that_two_threads_ran_at_once(sd3):
    def here():
        return partial(contextvars.copy_context().run, call, sd3, inputs(1))

    at_once = "Two threads ran the transformer at the same time inside one capture of 1 site"
    with InStep(sd3), pytest.raises(CaptureError, match=at_once), dl.capture(sd3, OUT):
        both(here(), here())
    assert dl.hooks_on(sd3) == []


def test_tasks_of_one_thread_are_told_apart(sd3):
    async def task(seed):
        with dl.capture(sd3, OUT) as cache:
            await asyncio.sleep(0)
            call(sd3, inputs(seed))
            await asyncio.sleep(0)
        return cache

    async def tasks():
        return await asyncio.gather(task(1), task(2), asyncio.to_thread(captured, sd3, inputs(3)))

    found = asyncio.run(tasks())
    for seed, cache in enumerate(found, 1):
        assert torch.equal(cache[OUT, 0], captured(sd3, inputs(seed))[OUT, 0])


def test_texts_are_read_by_one_thread_at_a_time(portraits, quick_switches):
    """Tokenizers keep the padding of a call: another thread's texts came out with another length."""
    texts = ["a smile", ["a hat", "an old person with a big smile, long red hair and glasses"], "hat"]
    known = [portraits.encode_text(text) for text in texts]

    def read(first):
        for k in range(first, first + 12):
            got = portraits.encode_text(texts[k % 3])
            assert bool(got.equal(known[k % 3]).all())
            assert dl.words(portraits, "a big smile", "smile") == {"tokenizer": [3], "tokenizer_2": [3]}
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))


def test_two_threads_edit_and_generate(portraits, quick_switches):
    texts = {
        "source_text": "a red shirt",
        "target_text": "a blue shirt",
        "method": dl.OdeEdit("plain", steps=2),
    }
    picture = portraits.generate("a hat", steps=1)

    def work(seed):
        with dl.capture(portraits, "joint.*.text.out", passes=None) as cache:
            edit = dl.edit(portraits, picture, seed=seed, **texts)
        return (
            edit.image.tobytes(),
            torch.stack(list(cache.tensors.values())),
            portraits.generate("hat", seed=seed),
        )

    alone = [work(seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(work, range(2)))
    for one, other in zip(alone, together, strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1]) and one[2] == other[2]
