"""Several processes that train one model: each takes its share of a step, and they average their gradients.

On a CPU two processes of one thread each are a third faster than one process of two threads. ``ditlens train
--workers 2`` starts them (`ditlens.workers.launch`); so does ``torchrun``. A single process is a team of one, for
which these functions do nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

PATIENCE = timedelta(hours=6)
"""How long members wait for one another: the first may have a training set to draw."""


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the team that the environment names, if it names one, for the length of a block."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # with its number: one card for each member
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
        wait()  # whoever leaves first would end while others still talk to it
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def leader_first() -> Iterator[None]:
    """Let rank 0 run a block first, so that the others find the file that it writes."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()


def wait() -> None:
    """Return when all members have called this."""
    if size() > 1:
        dist.barrier()


def total(tensors: Sequence[torch.Tensor], scale: float = 1.0) -> None:
    """Replace every tensor by its sum over the team times `scale`, in place and in one message."""
    if size() == 1 or not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    parts = flat.mul_(scale).split([t.numel() for t in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])


def average_gradients(params: Sequence[torch.nn.Parameter]) -> None:
    """Replace every gradient by the team's mean. A parameter that some member did not use counts as 0 there."""
    if size() == 1:
        return
    for p in params:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    total([p.grad for p in params if p.grad is not None], 1 / size())


def agree(value: float, device: torch.device) -> float:
    """The number that rank 0 has: clocks differ, and all members have to stop at the same step."""
    if size() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return shared.item()
