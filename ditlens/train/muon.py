"""Muon: momentum whose update of every matrix is made orthogonal, so that all its directions learn at once.

After Jordan et al., *Muon: an optimizer for hidden layers in neural networks* (2024). PyTorch ships a Muon for
matrices only; this one also flattens convolution kernels to (out, in * height * width), which made our
autoencoder learn in a fifth of AdamW's steps. Vectors and other parameters belong to AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ditlens.train import team

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic whose iteration drives every singular value towards 1 (Jordan et al.)."""


def orthogonalize(matrix: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """The nearest matrix with all singular values near 1, by Newton-Schulz iterations.

    Args:
        matrix: (rows, columns), or several matrices of one shape, (matrices, rows, columns).
        iterations: Five bring singular values into about [0.7, 1.2].
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16) if matrix.is_cuda else matrix.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


def orthogonalize_all(matrices: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """`orthogonalize` for each of them, those of one shape together: a GPU hardly notices one small matrix."""
    places: dict[torch.Size, list[int]] = {}
    for place, matrix in enumerate(matrices):
        places.setdefault(matrix.shape, []).append(place)
    results = list(matrices)
    for alike in places.values():
        for place, result in zip(
            alike, orthogonalize(torch.stack([matrices[p] for p in alike])), strict=True
        ):
            results[place] = result
    return results


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolution kernels.

    In a team of several processes each orthogonalizes its share of the matrices: the updates, a fifth of a step's
    work on a CPU, are shared like the batch.

    Args:
        params: Parameters of two or more dimensions, or groups of them.
        lr: Step size: the spectral norm of one update of a square matrix.
        momentum: Decay of the (Nesterov) momentum.
        weight_decay: Decoupled weight decay.
    """

    def __init__(
        self, params: Iterable, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            mine, updates = [], []
            for turn, p in enumerate(params):
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                if turn % team.size() == team.rank():
                    nesterov = p.grad.lerp(state["momentum"], group["momentum"])
                    mine.append(turn)
                    updates.append(nesterov.flatten(1))
                else:
                    updates.append(p.new_zeros(p.flatten(1).shape))
            for turn, update in zip(mine, orthogonalize_all([updates[turn] for turn in mine]), strict=True):
                updates[turn] = update
            team.total(updates)
            for p, update in zip(params, updates, strict=True):
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view_as(p), alpha=-group["lr"] * scale)
