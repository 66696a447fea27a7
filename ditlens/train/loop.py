"""The training loop that every recipe shares: a time budget, an average of the weights, resumable.

A recipe supplies modules and a function ``loss(step) -> {name: tensor}`` whose values are summed and
minimised. The loop does the rest: AdamW, a trapezoid learning rate over the time budget, gradient clipping, an
exponential moving average (EMA), a checkpoint every minute (a kill at any moment leaves a whole file), and a
line of progress.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ditlens.errors import SettingError
from ditlens.files import writing_whole
from ditlens.train import team
from ditlens.train.muon import Muon

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


@dataclass
class Budget:
    """How long to train and where.

    Attributes:
        minutes: Training time, summed over all resumed runs of the stage.
        folder: Where checkpoints live.
        device: Where to compute.
        resume: Go on from the checkpoint in `folder` if there is one.
        seed: Seed of the data; the data of step k depend on ``(seed, k)`` only.
        progress: Share of the time that is spent, in [0, 1]; kept up to date by `fit`.
    """

    minutes: float
    folder: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    resume: bool = False
    seed: int = 0
    progress: float = 0.0

    def generator(self, step: int) -> torch.Generator:
        """The source of randomness of one step, on the CPU: the same after a resume."""
        return torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + step)

    def generators(self, step: int) -> tuple[torch.Generator, torch.Generator]:
        """`generator`, and one on the device for what would take long to draw on the CPU and to send there.

        On the CPU both are the same object.
        """
        here = self.generator(step)
        if self.device.type == "cpu":
            return here, here
        return here, torch.Generator(self.device).manual_seed(here.initial_seed())


def trapezoid(progress: float, warmup: float = 0.02, decay: float = 0.35) -> float:
    """Learning-rate factor: up over `warmup`, flat, down to 0 over the last `decay` of the budget."""
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    return min(1.0, max(0.0, (1 - progress) / decay))


def autocast(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """bfloat16 where it is fast (CUDA); float32 on the CPU, where bfloat16 is far slower."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def build_optimizers(
    modules: dict[str, torch.nn.Module],
    lr: float,
    muon_lr: float | None,
    weight_decay: float,
    adam_only: tuple[str, ...],
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices if it has a rate; embeddings and vectors always go to AdamW."""
    adam, muon = [], []
    for module in modules.values():
        tables = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
        tables |= {id(p) for n, p in module.named_parameters() if muon_lr and any(k in n for k in adam_only)}
        own = [p for p in module.parameters() if p.requires_grad]
        matrices = [p for p in own if p.ndim > 1 and id(p) not in tables]
        others = [p for p in own if p.ndim <= 1 or id(p) in tables]
        if muon_lr is None:
            adam.append({"params": matrices, "weight_decay": weight_decay, "peak": lr})
        else:
            muon.append({"params": matrices, "weight_decay": weight_decay, "peak": muon_lr})
        adam.append({"params": others, "weight_decay": 0.0, "peak": lr})
    adam = [group for group in adam if group["params"]]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(adam, lr=lr, betas=(0.9, 0.98), fused=True)]
    return [*optimizers, Muon(muon)] if muon else optimizers


def is_finite(params: list[torch.nn.Parameter]) -> bool:
    """Whether all weights are numbers: what has none is not worth a checkpoint."""
    return all(bool(p.isfinite().all()) for p in params)


def fit(
    stage: str,
    modules: dict[str, torch.nn.Module],
    loss: Callable[[int], dict[str, torch.Tensor]],
    budget: Budget,
    *,
    lr: float,
    muon_lr: float | None = None,
    adam_only: tuple[str, ...] = (),
    ema: float = 0.999,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    log: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Train `modules` in place until the budget is spent; they end with the averaged weights.

    Args:
        stage: Name of the stage; names the checkpoint.
        modules: What is trained, by name.
        loss: Loss terms of one step; must draw its data from ``budget.generators(step)``. In a team of several
            processes (`team`) each has step numbers of its own, and their gradients are averaged.
        budget: Time, place and device.
        lr: Peak learning rate of AdamW.
        muon_lr: Peak learning rate of Muon, which then takes every matrix and kernel; None: AdamW takes all.
        adam_only: Parameters whose name contains one of these stay with AdamW.
        ema: Decay of the average of the weights.
        weight_decay: AdamW weight decay on matrices; vectors have none.
        clip: Largest gradient norm.
        log: Receives progress lines; standard error by default.

    Returns:
        ``{"steps", "minutes", ...}`` and the last smoothed value of each loss term.

    Raises:
        SettingError: If the loss stops being finite; the checkpoint from before is kept.
    """
    log = log or (lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    leads = team.rank() == 0
    path = budget.folder / f"{stage}.checkpoint.pt"
    params = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    optimizers = build_optimizers(modules, lr, muon_lr, weight_decay, adam_only)
    average = [p.detach().clone() for p in params]
    step, spent = 0, 0.0
    if budget.resume and path.is_file():
        saved = torch.load(path, map_location=budget.device, weights_only=True)
        if saved["modules"].keys() != modules.keys():
            raise SettingError(
                f"{path} is of another recipe: it trains {', '.join(saved['modules'])}, not "
                f"{', '.join(modules)}. Delete the file, or train without --resume."
            )
        for name, module in modules.items():
            module.load_state_dict(saved["modules"][name])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        average = [a.to(p) for a, p in zip(saved["average"], params, strict=True)]
        step, spent = saved["step"], saved["spent"]
        log(f"{stage}: resumed at step {step}, {spent / 60:.1f} of {budget.minutes:g} min")

    def save() -> None:
        state = {"modules": {n: m.state_dict() for n, m in modules.items()}, "average": average,
                 "optimizers": [o.state_dict() for o in optimizers], "step": step, "spent": spent}  # fmt: skip
        with writing_whole(path) as partial:
            torch.save(state, partial)

    smoothed: dict[str, float] = {}
    total = budget.minutes * 60
    begun = saved_at = time.monotonic()
    started, first, shown_at = begun - spent, step, 0.0
    for module in modules.values():
        module.train()
    try:
        while spent < total:
            budget.progress = spent / total
            factor = trapezoid(budget.progress)
            for group in (g for optimizer in optimizers for g in optimizer.param_groups):
                group["lr"] = group["peak"] * factor
            with autocast(budget.device):
                terms = loss(step * team.size() + team.rank())
            objective = torch.stack(list(terms.values())).sum()
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            objective.backward()
            team.average_gradients(params)
            torch.nn.utils.clip_grad_norm_(params, clip)
            for optimizer in optimizers:
                optimizer.step()
            decay = min(ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [p.detach() for p in params], 1 - decay)
            step += 1
            if step % 10 == 0 or step < 4:
                for name, value in terms.items():
                    number = value.item()
                    if not math.isfinite(number):
                        raise SettingError(
                            f"Training {stage} failed: the loss {name!r} became {number} at step {step}. "
                            f"Resume from the last checkpoint with a smaller learning rate than {lr:g}."
                        )
                    smoothed[name] = number if name not in smoothed else 0.9 * smoothed[name] + 0.1 * number
            now = time.monotonic()
            spent = team.agree(now - started, budget.device)
            if leads and now - shown_at > 15:
                shown_at = now
                rate = (step - first) / max(now - begun, 1e-6)
                text = "  ".join(f"{n} {v:.4f}" for n, v in smoothed.items())
                log(f"{stage}: {spent / 60:5.1f}/{budget.minutes:g} min  step {step}  {rate:.2f}/s  {text}")
            if leads and now - saved_at > SAVE_EVERY and is_finite(params):
                saved_at = now
                save()
    finally:
        if leads and step > first and is_finite(params):
            save()
    with torch.no_grad():
        for p, a in zip(params, average, strict=True):
            p.copy_(a)
    for module in modules.values():
        module.eval()
    return {"steps": float(step), "minutes": spent / 60, **smoothed}
