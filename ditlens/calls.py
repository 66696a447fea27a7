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
    """Numbers the steps and runs of a sampling loop.

    Where a scheduler is at work, its own index is the step, and an index that falls back begins a new run.
    Otherwise the timesteps tell: those of one run move in one direction, each new timestep is a step, and a turn
    begins a new run. So does a pass that comes a second time at the same step.
    """

    def __init__(self) -> None:
        self.run, self.step = -1, 0
        self.seen: set[str] = set()
        self.steps = 0
        self._last: float | None = None
        self._direction = 0
        self._indexed = False

    def tick(self, timestep: float, passes: Sequence[str], index: int | None = None) -> tuple[int, int]:
        """Step and run of a call.

        Args:
            timestep: As the transformer sees it.
            passes: Passes in this call.
            index: Step of the scheduler, if one is at work.
        """
        names, indexed = frozenset(passes), index is not None
        now = float(index) if index is not None else timestep
        if self._last is None or indexed != self._indexed:
            self._begin(now)
        elif now != self._last:
            turn = 1 if now > self._last else -1
            if turn == (self._direction or turn) and not (indexed and turn < 0):
                self._direction, self._last, self.seen = turn, now, set()
                self.step += 1
            else:
                self._begin(now)
        elif names & self.seen:
            self._begin(now)
        self._indexed = indexed
        self.seen |= names
        self.steps = max(self.steps, self.step + 1)
        return (self.step if index is None else index), self.run

    def is_at(self, timestep: float, index: int | None) -> bool:
        """Whether a call belongs to the step that is running."""
        return self._last == (timestep if index is None else float(index))

    def _begin(self, now: float) -> None:
        self.run, self.step, self._last, self._direction, self.seen = self.run + 1, 0, now, 0, set()


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
