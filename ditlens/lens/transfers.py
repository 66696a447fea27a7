"""Copy tensors from a GPU to ordinary memory, through pinned buffers, while the GPU continues to compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Event(Protocol):
    """Tells when a copy has ended, e.g. `torch.cuda.Event`."""

    def synchronize(self) -> None:
        """Wait until the copy has ended."""


def pinned_like(source: Tensor) -> Tensor:
    """Memory that a GPU can write into without the help of the CPU; PyTorch keeps it for the next that asks."""
    return torch.empty_like(source, device="cpu", pin_memory=True)


class PinnedBuffers:
    """A few pinned buffers, used in turn, through which tensors travel from a GPU to ordinary memory.

    A buffer is free again only after its copy has ended and its content was moved out. When all are busy, the
    oldest is waited for. Where memory cannot be pinned, copies are ordinary ones.

    Args:
        begin: Starts to copy a tensor into another and returns the `Event` of its end.
        allocate: Makes a pinned tensor like the one given.
        count: Number of buffers.
    """

    def __init__(
        self,
        begin: Callable[[Tensor, Tensor], Event],
        allocate: Callable[[Tensor], Tensor] = pinned_like,
        count: int = 4,
    ) -> None:
        self._begin, self._allocate, self._count = begin, allocate, count
        # event, source (kept, so that its memory is not reused before the copy has ended), buffer, target
        self._can_pin = True
        self._under_way: deque[tuple[Event, Tensor, Tensor, Tensor]] = deque()

    def send(self, source: Tensor) -> Tensor:
        """Start a copy.

        Args:
            source: A contiguous tensor on the GPU that does not change afterwards.

        Returns:
            A tensor in ordinary memory; its values are there after `drain`.
        """
        target = torch.empty(source.shape, dtype=source.dtype, device="cpu")
        if len(self._under_way) == self._count:
            self._land()
        buffer = self._buffer(source)
        if buffer is None:
            return target.copy_(source)
        self._under_way.append((self._begin(source, buffer), source, buffer, target))
        return target

    def drain(self) -> None:
        """Wait until all that was sent has arrived."""
        while self._under_way:
            self._land()

    def _buffer(self, source: Tensor) -> Tensor | None:
        """Pinned memory for a tensor, or None where memory cannot be pinned."""
        if self._can_pin:
            try:
                return self._allocate(source)
            except RuntimeError:  # the system refuses to pin more memory
                self._can_pin = False
        return None

    def _land(self) -> None:
        """Wait for the oldest copy and move it to its target."""
        event, _, buffer, target = self._under_way.popleft()
        event.synchronize()
        target.copy_(buffer)


def cuda_buffers(device: torch.device) -> PinnedBuffers:
    """Buffers that are filled on a CUDA stream of their own, beside what the GPU computes."""
    side = torch.cuda.Stream(device)

    def begin(source: Tensor, target: Tensor) -> Event:
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            target.copy_(source, non_blocking=True)
            return side.record_event()

    return PinnedBuffers(begin)
