"""The training loop that every recipe shares: a time budget, averaged weights, checkpoints.

A recipe supplies modules and a function ``loss(step) -> {name: tensor}`` whose values are summed and minimised.
The loop adds AdamW and Muon, a trapezoidal learning-rate schedule over the time budget, gradient clipping, an
exponential moving average (EMA) of the weights, a checkpoint every minute (written whole, so that a run can be
killed at any time), and a bar of progress. On a GPU the loss is computed in bfloat16, which is slow on CPUs.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm.auto import tqdm

from ditlens.errors import SettingError
from ditlens.files import writing_whole
from ditlens.tables import Progress, progress_bar
from ditlens.train import team
from ditlens.train.muon import Muon

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""

Value = TypeVar("Value")


@dataclass
class Budget:
    """How long to train and where.

    Attributes:
        minutes: Training time, summed over all resumed runs of the stage.
        folder: Where checkpoints and the training set are kept.
        device: Where to compute.
        resume: Continue from the checkpoint in `folder` if there is one.
        seed: Seed of the data; the data of step k depend on ``(seed, k)`` only.
        progress: Share of the time spent so far, in [0, 1]; updated by `fit`.
    """

    minutes: float
    folder: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    resume: bool = False
    seed: int = 0
    progress: float = 0.0

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    def choose(self, settings: Mapping[str, Value]) -> Value:
        """The entry ``"cuda"`` of a table of settings on a GPU, elsewhere the entry ``"cpu"``."""
        return settings["cuda" if self.gpu else "cpu"]

    def generator(self, step: int) -> torch.Generator:
        """The random generator of one step, on the CPU: the same after a resume."""
        return torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + step)

    def generators(self, step: int) -> tuple[torch.Generator, torch.Generator]:
        """`generator`, and one on the device for large draws; on the CPU both are the same object."""
        here = self.generator(step)
        if self.device.type == "cpu":
            return here, here
        return here, torch.Generator(self.device).manual_seed(here.initial_seed())


def trapezoid(progress: float, warmup: float = 0.02, decay: float = 0.35) -> float:
    """Learning-rate factor: rises over `warmup`, stays at 1, falls to 0 over the last `decay` of the budget."""
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    return min(1.0, max(0.0, (1 - progress) / decay))


def build_optimizers(
    modules: dict[str, torch.nn.Module],
    lr: float,
    muon_lr: float | None,
    weight_decay: float,
    adam_only: tuple[str, ...],
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices if it has a learning rate; AdamW always takes embeddings and vectors."""
    adam: list[dict[str, Any]] = []
    muon: list[dict[str, Any]] = []
    for module in modules.values():
        tables = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
        tables |= {id(p) for n, p in module.named_parameters() if muon_lr and any(k in n for k in adam_only)}
        own = [p for p in module.parameters() if p.requires_grad]
        matrices = [p for p in own if p.ndim > 1 and id(p) not in tables]
        others = [p for p in own if p.ndim <= 1 or id(p) in tables]
        taker, peak = (adam, lr) if muon_lr is None else (muon, muon_lr)
        taker.append({"params": matrices, "weight_decay": weight_decay, "peak": peak})
        adam.append({"params": others, "weight_decay": 0.0, "peak": lr})
    adam = [group for group in adam if group["params"]]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(adam, lr=lr, betas=(0.9, 0.98), fused=True)]
    return [*optimizers, Muon(muon)] if muon else optimizers


class Training:
    """What a checkpoint holds: modules, their optimizers, the average of the weights, steps and seconds so far."""

    def __init__(self, modules: dict[str, torch.nn.Module], optimizers: list[torch.optim.Optimizer]) -> None:
        self.modules, self.optimizers = modules, optimizers
        self.params = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.params]
        self.step, self.spent = 0, 0.0

    def save(self, path: Path) -> None:
        """Write a checkpoint, unless some weight is not finite."""
        if all(bool(p.isfinite().all()) for p in self.params):
            state = {"modules": {n: m.state_dict() for n, m in self.modules.items()}, "average": self.average,
                     "optimizers": [o.state_dict() for o in self.optimizers], "step": self.step,
                     "spent": self.spent}  # fmt: skip
            with writing_whole(path) as partial, partial.open("wb") as file:
                torch.save(state, file)

    def load(self, path: Path, device: torch.device) -> None:
        """Continue from a checkpoint.

        Raises:
            SettingError: If it was written by another recipe.
        """
        saved = torch.load(path, map_location=device, weights_only=True)
        if saved["modules"].keys() != self.modules.keys():
            raise SettingError(
                f"{path} belongs to another recipe: it trains {', '.join(saved['modules'])}, not "
                f"{', '.join(self.modules)}. Delete the file, or train without --resume."
            )
        for name, module in self.modules.items():
            module.load_state_dict(saved["modules"][name])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.average = [a.to(p) for a, p in zip(saved["average"], self.params, strict=True)]
        self.step, self.spent = saved["step"], saved["spent"]

    def set_rate(self, factor: float) -> None:
        """Set all learning rates to `factor` times their peaks."""
        for group in (g for optimizer in self.optimizers for g in optimizer.param_groups):
            group["lr"] = group["peak"] * factor

    def update(self, terms: dict[str, torch.Tensor], ema: float) -> None:
        """One step of the optimizers on the sum of the loss terms, and of the average."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        team.average_gradients(self.params)
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1 - decay)
        self.step += 1

    @torch.no_grad()
    def finish(self) -> None:
        """Give the modules their averaged weights, in eval mode."""
        for p, a in zip(self.params, self.average, strict=True):
            p.copy_(a)
        for module in self.modules.values():
            module.eval()


def finite(value: torch.Tensor, what: str, step: int) -> float:
    """The number in a tensor.

    Raises:
        SettingError: If it is not finite; `what` begins the message.
    """
    number = value.item()
    if not math.isfinite(number):
        raise SettingError(
            f"{what} became {number} at step {step}. Resume from the last checkpoint with a smaller learning rate."
        )
    return number


def fit(
    stage: str,
    modules: dict[str, torch.nn.Module],
    loss: Callable[[int], dict[str, torch.Tensor]],
    budget: Budget,
    *,
    batch: int,
    lr: float,
    muon_lr: float | None = None,
    adam_only: tuple[str, ...] = (),
    ema: float = 0.999,
    shown: bool | Progress = True,
) -> dict[str, float]:
    """Train `modules` in place until the budget is spent; they end with the averaged weights.

    Args:
        stage: Name of the stage and of its checkpoint.
        modules: What is trained, by name.
        loss: Loss terms of one step; must draw its data from ``budget.generators(step)``. Of several processes
            (`team`) each has step numbers of its own, and their gradients are averaged.
        budget: Time, folder and device.
        batch: Samples of one step, for the report.
        lr: Peak learning rate of AdamW.
        muon_lr: Peak learning rate of Muon, which then takes every matrix and kernel; None leaves all to AdamW.
        adam_only: Parameters whose name contains one of these stay with AdamW.
        ema: Decay of the average of the weights.
        shown: Whether to show progress, or what to show it with: see `tables.progress_bar`.

    Returns:
        ``{"steps", "minutes", ..., "samples"}``, with the last smoothed value of each loss term between them.

    Raises:
        SettingError: If the loss stops being finite (the last checkpoint is kept), or if the checkpoint to resume
            from belongs to another recipe.
    """
    path, leads = budget.folder / f"{stage}.checkpoint.pt", team.rank() == 0
    run = Training(modules, build_optimizers(modules, lr, muon_lr, 0.01, adam_only))
    if budget.resume and path.is_file():
        run.load(path, budget.device)
        spent = f"{run.spent / 60:.1f} of {budget.minutes:g} min"
        tqdm.write(f"{stage}: resumed at step {run.step}, {spent}", file=sys.stderr)
    smoothed: dict[str, float] = {}
    total, first = budget.minutes * 60, run.step
    saved_at = time.monotonic()
    started = saved_at - run.spent
    for module in modules.values():
        module.train()
    with progress_bar(f"{stage}, seconds", shown if leads else False) as show:
        try:
            while run.spent < total:
                budget.progress = run.spent / total
                run.set_rate(trapezoid(budget.progress))
                with torch.autocast(budget.device.type, torch.bfloat16, enabled=budget.gpu):
                    terms = loss(run.step * team.size() + team.rank())
                run.update(terms, ema)
                if run.step % 10 == 0 or run.step < 4:
                    for name, value in terms.items():
                        number = finite(value, f"Training {stage} failed: the loss {name!r}", run.step)
                        smoothed[name] = 0.9 * smoothed[name] + 0.1 * number if name in smoothed else number
                now = time.monotonic()
                run.spent = team.agree(now - started, budget.device)
                words = "  ".join(f"{name} {value:.4f}" for name, value in smoothed.items())
                show(round(run.spent), round(total), f"step {run.step}  {words}")
                if leads and now - saved_at > SAVE_EVERY:
                    saved_at = now
                    run.save(path)
        finally:
            if leads and run.step > first:
                run.save(path)
    run.finish()
    samples = float(run.step * batch * team.size())
    return {"steps": float(run.step), "minutes": run.spent / 60, **smoothed, "samples": samples}
