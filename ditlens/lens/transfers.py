"""Copy tensors from a GPU to ordinary memory, through pinned buffers, while the GPU continues to compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Event(Protocol):
    """Tells when a copy has ended, e.g. `torch.cuda.Event`."""

    def synchronize(self) -> None:
        """Wait until the copy has ended."""


@dataclass(eq=False)
class PinnedBuffer:
    """One buffer and the copy that is under way through it.

    Attributes:
        memory: Bytes of pinned memory; None before the first use.
        source: The tensor being copied; kept, so that its memory is not reused before the copy has ended.
        landed: The part of `memory` that it is copied into.
        target: The tensor in ordinary memory that it goes to from there; None while the buffer is free.
        event: Tells when the copy into `memory` has ended.
    """

    memory: Tensor | None = None
    source: Tensor | None = None
    landed: Tensor | None = None
    target: Tensor | None = None
    event: Any = None

    def empty(self) -> None:
        """Wait for the copy and move it to its target; the buffer is free then."""
        if self.target is not None and self.landed is not None:
            self.event.synchronize()
            self.target.copy_(self.landed)
        self.source = self.landed = self.target = self.event = None

    def room(self, size: int, allocate: Callable[[int], Tensor]) -> Tensor:
        """At least `size` bytes of memory: what there is, or a larger block, always a power of two."""
        if self.memory is None or len(self.memory) < size:
            self.memory = allocate(1 << max(size - 1, 0).bit_length())
        return self.memory[:size]


class PinnedBuffers:
    """A few pinned buffers, used in turn, through which tensors travel from a GPU to ordinary memory.

    A buffer is used again only after its copy has ended and its content was moved out. When all are busy, the
    oldest is waited for. Where memory cannot be pinned, copies are ordinary ones.

    Args:
        begin: Starts to copy a tensor into another and returns the `Event` of its end.
        allocate: Makes a pinned tensor of so many bytes.
        count: Number of buffers.
    """

    def __init__(
        self,
        begin: Callable[[Tensor, Tensor], Event],
        allocate: Callable[[int], Tensor] | None = None,
        count: int = 4,
    ) -> None:
        self._begin, self._allocate = begin, allocate or pinned_bytes
        self._buffers = [PinnedBuffer() for _ in range(count)]
        self._next = 0
        self._can_pin = True

    def send(self, source: Tensor) -> Tensor:
        """Start a copy.

        Args:
            source: A contiguous tensor on the GPU that does not change afterwards.

        Returns:
            A tensor in ordinary memory; its values are there after `drain`.
        """
        target = torch.empty(source.shape, dtype=source.dtype)
        buffer = self._buffers[self._next]
        self._next = (self._next + 1) % len(self._buffers)
        buffer.empty()
        room = self._room(buffer, target.nbytes)
        if room is None:
            return target.copy_(source)
        landed = room.view(source.dtype).view(source.shape)
        buffer.event = self._begin(source, landed)
        buffer.source, buffer.landed, buffer.target = source, landed, target
        return target

    def drain(self) -> None:
        """Wait until all that was sent has arrived."""
        for buffer in self._buffers:
            buffer.empty()

    def _room(self, buffer: PinnedBuffer, size: int) -> Tensor | None:
        """Memory for `size` bytes, or None where memory cannot be pinned."""
        if self._can_pin:
            try:
                return buffer.room(size, self._allocate)
            except RuntimeError:  # the system refuses to pin more memory
                self._can_pin = False
        return None


def pinned_bytes(size: int) -> Tensor:
    """Memory that a GPU can write into without the help of the CPU."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def cuda_buffers(device: torch.device) -> PinnedBuffers:
    """Buffers that are filled on a CUDA stream of their own, beside what the GPU computes."""
    side = torch.cuda.Stream(device)

    def begin(source: Tensor, target: Tensor) -> Event:
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            target.copy_(source, non_blocking=True)
            return side.record_event()

    return PinnedBuffers(begin)
