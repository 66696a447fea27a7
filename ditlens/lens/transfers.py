"""Copies from a GPU to ordinary memory that travel while the GPU goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch


class Event(Protocol):
    """What tells when a copy has ended."""

    def synchronize(self) -> None:
        """Wait for it."""


@dataclass(eq=False)
class Slot:
    """One buffer of a ring.

    Attributes:
        buffer: Bytes of pinned memory; None before the first use.
        source: What is being copied; kept, so that its memory is not used again before the copy has ended.
        landed: The part of the buffer that it is copied into.
        target: Where it goes from there; None while the slot is free.
        event: Tells when the copy into the buffer has ended.
    """

    buffer: torch.Tensor | None = None
    source: torch.Tensor | None = None
    landed: torch.Tensor | None = None
    target: torch.Tensor | None = None
    event: Any = None

    def empty(self) -> None:
        """Wait for the copy, and move what came to its target; the slot is free then."""
        if self.target is not None and self.landed is not None:
            self.event.synchronize()
            self.target.copy_(self.landed)
        self.source = self.landed = self.target = self.event = None

    def room(self, size: int, pinned: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """A buffer of at least `size` bytes: the old one, or a larger one, always a power of two."""
        if self.buffer is None or len(self.buffer) < size:
            self.buffer = pinned(1 << max(size - 1, 0).bit_length())
        return self.buffer[:size]


class Ring:
    """A few buffers, used again and again, through which tensors travel from a GPU to ordinary memory.

    A slot is used again only after its copy has ended and its content was moved out. When all slots are busy, the
    oldest is waited for. Where memory cannot be pinned, copies are plain ones.

    Args:
        begin: Starts to copy a tensor into another and returns the `Event` of its end.
        pinned: Makes a buffer of so many bytes.
        slots: How many.
    """

    def __init__(
        self,
        begin: Callable[[torch.Tensor, torch.Tensor], Event],
        pinned: Callable[[int], torch.Tensor] | None = None,
        slots: int = 4,
    ) -> None:
        self._begin, self._pinned = begin, pinned or pinned_bytes
        self._slots = [Slot() for _ in range(slots)]
        self._next = 0
        self._plain = False

    def send(self, source: torch.Tensor) -> torch.Tensor:
        """Start a copy.

        Args:
            source: A contiguous tensor on the GPU that nobody changes afterwards.

        Returns:
            A tensor in ordinary memory; its values are there after `drain`.
        """
        target = torch.empty(source.shape, dtype=source.dtype)
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        slot.empty()
        buffer = self._room(slot, target.nbytes)
        if buffer is None:
            return target.copy_(source)
        landed = buffer.view(source.dtype).view(source.shape)
        slot.event = self._begin(source, landed)
        slot.source, slot.landed, slot.target = source, landed, target
        return target

    def drain(self) -> None:
        """Wait until all that was sent has arrived."""
        for slot in self._slots:
            slot.empty()

    def _room(self, slot: Slot, size: int) -> torch.Tensor | None:
        """A buffer for `size` bytes, or None where memory cannot be pinned."""
        if not self._plain:
            try:
                return slot.room(size, self._pinned)
            except RuntimeError:  # no more memory that may be pinned
                self._plain = True
        return None


def pinned_bytes(size: int) -> torch.Tensor:
    """A buffer that a GPU can write into without the help of the CPU."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def cuda_ring(device: torch.device) -> Ring:
    """A ring that copies on a stream of its own, beside what the GPU computes."""
    side = torch.cuda.Stream(device)

    def begin(source: torch.Tensor, target: torch.Tensor) -> Event:
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            target.copy_(source, non_blocking=True)
            return side.record_event()

    return Ring(begin)
