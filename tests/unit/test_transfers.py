"""Pinned buffers through which captured tensors leave a GPU; a list of delayed copies stands in for the GPU."""

from __future__ import annotations

import pytest
import torch

from ditlens.lens.transfers import PinnedBuffers


class LateCopy:
    """A copy that is made only when somebody waits for it, as on a GPU that is far behind."""

    def __init__(self, source, target):
        self.source, self.target, self.waits = source, target, 0

    def synchronize(self):
        self.waits += 1
        self.target.copy_(self.source)


class FakeGpu:
    """Starts copies, and keeps all that were started."""

    def __init__(self):
        self.copies: list[LateCopy] = []
        self.pinned: list[torch.Tensor] = []

    def begin(self, source, target):
        self.copies.append(LateCopy(source, target))
        return self.copies[-1]

    def pin(self, source):
        self.pinned.append(torch.full_like(source, 255))
        return self.pinned[-1]


@pytest.fixture
def gpu():
    return FakeGpu()


def numbers(count, *, dtype=torch.float32):
    return [torch.full((2, 3), float(i + 1), dtype=dtype) for i in range(count)]


def test_all_arrives_through_few_buffers(gpu):
    buffers, sent = PinnedBuffers(gpu.begin, gpu.pin, count=3), numbers(10)
    came = [buffers.send(each) for each in sent]
    assert [copy.waits for copy in gpu.copies] == [1] * 7 + [0] * 3
    buffers.drain()
    assert all(torch.equal(a, b) for a, b in zip(came, sent, strict=True))
    assert [copy.waits for copy in gpu.copies] == [1] * 10


def test_a_copy_waits_for_the_one_before_where_there_is_one_buffer(gpu):
    buffers = PinnedBuffers(gpu.begin, gpu.pin, count=1)
    first, second = numbers(2)
    came = buffers.send(first)
    assert gpu.copies[0].waits == 0  # nobody waits while there is a free buffer
    buffers.send(second)
    assert gpu.copies[0].waits == 1 and torch.equal(came, first)
    assert gpu.copies[1].waits == 0


def test_what_came_is_not_in_the_buffer(gpu):
    buffers = PinnedBuffers(gpu.begin, gpu.pin, count=1)
    came = buffers.send(torch.ones(4))
    buffers.drain()
    gpu.copies[0].target.fill_(7.0)
    assert torch.equal(came, torch.ones(4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_number_formats_are_kept(gpu, dtype):
    buffers, sent = PinnedBuffers(gpu.begin, gpu.pin, count=2), numbers(5, dtype=dtype)
    came = [buffers.send(each) for each in sent]
    buffers.drain()
    assert all(
        a.dtype == dtype and torch.equal(a.float(), b.float()) for a, b in zip(came, sent, strict=True)
    )


def test_an_empty_tensor_and_buffers_that_were_never_used(gpu):
    buffers = PinnedBuffers(gpu.begin, gpu.pin)
    buffers.drain()
    assert buffers.send(torch.empty(0, 3)).shape == (0, 3)
    buffers.drain()


def test_without_pinned_memory_copies_are_plain():
    tried = []

    def refuse(size):
        tried.append(size)
        raise RuntimeError("cannot pin")

    def never(source, target):
        raise AssertionError("no copy may start")

    buffers = PinnedBuffers(never, refuse)
    assert all(torch.equal(buffers.send(each), each) for each in numbers(3))
    assert len(tried) == 1, "one refusal is enough"


def test_memory_that_can_be_pinned_no_more(gpu):
    """What is under way arrives, and the rest goes the plain way."""

    def one(source):
        if gpu.pinned:
            raise RuntimeError("no more")
        return gpu.pin(source)

    buffers, sent = PinnedBuffers(gpu.begin, one, count=2), numbers(5)
    came = [buffers.send(each) for each in sent]
    buffers.drain()
    assert all(torch.equal(a, b) for a, b in zip(came, sent, strict=True)) and len(gpu.copies) == 1


def test_a_capture_sends_what_is_on_a_gpu_through_pinned_buffers(gpu, monkeypatch):
    """No GPU here: one tensor says that it is on one."""
    from ditlens.lens import captures
    from ditlens.lens.captures import capture

    class OnGpu(torch.Tensor):
        is_cuda = True

    taken = object.__new__(capture)
    taken.dtype, taken.device, taken._buffers = None, torch.device("cpu"), {}
    monkeypatch.setattr(captures, "cuda_buffers", lambda device: PinnedBuffers(gpu.begin, gpu.pin, count=2))
    values = [torch.full((2, 3), float(i)).as_subclass(OnGpu) for i in range(5)]
    kept = [taken._own(value) for value in values]
    (buffers,) = taken._buffers.values()
    buffers.drain()
    assert len(gpu.copies) == 5
    assert all(torch.equal(a, b.as_subclass(torch.Tensor)) for a, b in zip(kept, values, strict=True))
