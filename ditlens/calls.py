"""One forward call of a transformer, and what is known about it: step, guidance pass, prompt, tokens.

Nothing here counts calls. The step follows from the timestep that the transformer is given, the pass from what the
caller announced (`announce`, used by `ditlens.Model`), or from the pipeline that owns the transformer.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from ditlens.adapters.table import Architecture

COND, UNCOND, SKIP = "cond", "uncond", "skip"


@dataclass(frozen=True)
class Label:
    """What the caller of a transformer says about the rows of its batch.

    Attributes:
        passes: Pass of every row, e.g. ``("uncond", "cond")``.
        prompts: Text of every row; empty if unknown.
        mask: (batch, text tokens), True at real tokens; None if unknown.
    """

    passes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    mask: torch.Tensor | None = None


_label: ContextVar[Label | None] = ContextVar("ditlens_label", default=None)


@contextlib.contextmanager
def announce(label: Label) -> Iterator[None]:
    """Tell captures and interventions what the next transformer calls are about."""
    token = _label.set(label)
    try:
        yield
    finally:
        _label.reset(token)


@dataclass(eq=False)
class Call:
    """A running forward call.

    Attributes:
        model: The transformer.
        architecture: Its table.
        model_args: Arguments of its forward, by name.
        batch: Rows of the batch.
        step: Index of the timestep within the run.
        run: Index of the run: one sampling loop is one run.
        passes: Guidance pass of every row.
        prompts: Text of every row, or empty.
        mask: (batch, text tokens), True at real tokens, or None.
        sizes: Tokens of each stream, as soon as a block has been seen.
        grid: Rows and columns of the image tokens, likewise.
        memo: Streams in the joint sequence, by its length.
    """

    model: Any
    architecture: Architecture
    model_args: Mapping[str, Any]
    batch: int = 1
    step: int = 0
    run: int = 0
    passes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    mask: torch.Tensor | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    grid: tuple[int, ...] | None = None
    memo: dict[int, Any] = field(default_factory=dict)

    def rows(self, wanted: str) -> list[int]:
        """Rows of the batch that belong to a pass."""
        return [i for i, name in enumerate(self.passes) if name == wanted]


class Clock:
    """Numbers steps and runs from the timesteps that a transformer is given.

    A run's timesteps move in one direction. A new timestep is a new step; a turn, or a pass that comes a second
    time at the same timestep, begins a new run. A scheduler that knows the timestep decides the number.
    """

    def __init__(self) -> None:
        self.run, self.steps, self.seen, self.direction = -1, [], set(), 0  # type: ignore[var-annotated]

    def tick(self, timestep: float, passes: Sequence[str], known: Sequence[float] | None) -> tuple[int, int]:
        """Step and run of a call at `timestep`.

        Args:
            timestep: As the transformer sees it.
            passes: Passes in this call.
            known: Timesteps of the scheduler in the transformer's units, if there is one.
        """
        names = frozenset(passes)
        if not self.steps:
            self._begin(timestep)
        elif timestep != self.steps[-1]:
            turn = 1 if timestep > self.steps[-1] else -1
            if self.direction and turn != self.direction:
                self._begin(timestep)
            else:
                self.direction, self.seen = turn, set()
                self.steps.append(timestep)
        elif names & self.seen:
            self._begin(timestep)
        self.seen |= names
        if known:
            nearest = min(range(len(known)), key=lambda i: abs(known[i] - timestep))
            if abs(known[nearest] - timestep) <= 1e-3 * max(1.0, abs(timestep)):
                return nearest, self.run
        return len(self.steps) - 1, self.run

    def _begin(self, timestep: float) -> None:
        self.run, self.steps, self.seen, self.direction = self.run + 1, [timestep], set(), 0


@lru_cache(maxsize=256)
def argument_names(module_class: Any) -> tuple[str, ...]:
    """Names of the arguments of a module's forward, without self, as written in its class."""
    return tuple(inspect.signature(module_class.forward).parameters)[1:]


def bind(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, however they were passed: under gradient checkpointing all are positional."""
    kind: Any = type(module)
    return dict(zip(argument_names(kind), args, strict=False)) | dict(kwargs)


def timestep_of(args: Mapping[str, Any]) -> float:
    """The timestep argument, whatever it is called."""
    for name in ("timestep", "timesteps", "t", "timestep_img", "vision_timesteps"):
        value = args.get(name)
        if value is not None:
            return float(value.flatten()[0]) if isinstance(value, torch.Tensor) else float(value)
    return 0.0


def batch_of(args: Mapping[str, Any]) -> int:
    """Rows of the batch."""
    for name in ("hidden_states", "x", "latent_image_embeds", "vision_tokens"):
        value = args.get(name)
        if isinstance(value, torch.Tensor):
            return len(value)
        if isinstance(value, list):
            return 1 if name == "vision_tokens" else len(value)
    return 1


def current_label() -> Label | None:
    """What the caller announced."""
    return _label.get()


def pipeline_passes(
    pipe: Any, architecture: Architecture, args: Mapping[str, Any], batch: int, seen: Mapping[str, int]
) -> tuple[str, ...]:
    """Guidance pass of every row, from the pipeline that owns the transformer.

    Args:
        pipe: The diffusers pipeline, or None for a bare transformer (all rows are then "cond").
        architecture: The transformer's table.
        args: Arguments of the call.
        batch: Rows of the call.
        seen: Passes already seen at this timestep, and under "batch" the largest batch of the run.
    """
    if args.get("skip_layers") is not None:
        return (SKIP,) * batch
    if pipe is None:
        return (COND,) * batch
    guided = bool(getattr(pipe, "do_classifier_free_guidance", False))
    whole = batch % 2 == 0 and batch >= seen.get("batch", 0)  # some pipelines drop guidance near the end
    if architecture.rows and guided and whole:
        return tuple(name for name in architecture.rows for _ in range(batch // 2))
    return (UNCOND if COND in seen else COND,) * batch
