"""One forward call of a transformer, and what is known about it: step, guidance pass, prompt, tokens.

Nothing here counts calls. Step and pass are what the caller announced (`ditlens.labels.announce`, used by
`ditlens.Model` and `ditlens.edit`). Otherwise the step is the scheduler's, or follows from the timesteps that the
transformer takes, and the pass follows from the pipeline that is running.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ditlens.errors import CaptureError
from ditlens.lens.adapters.table import Architecture

COND, UNCOND, SKIP, PERTURBED = "cond", "uncond", "skip", "perturbed"


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
        mask: True at real tokens of the text, or None.
        sizes: Tokens of each stream, as soon as a block has been seen.
        grid: Rows and columns of the image tokens, likewise; () where the images of the batch have several.
        image_mask: True at real tokens of the image, or None.
        lengths: Tokens of the sequences in which two-stream blocks take text and image: with reference images.
        own: Where the streams lie in those.
        memo: Streams in the joint sequence, by its length.
        places: Streams in what blocks take, and the image among it, by the lengths of the sequences.
        replaced: Modules that a guider leaves out, by identity.
        timed: Ports that have seen the conditioning vector in this call.
    """

    model: Any
    architecture: Architecture
    model_args: Mapping[str, Any]
    batch: int = 1
    step: int = 0
    run: int = 0
    passes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    mask: Bool[Tensor, "batch text_tokens"] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    grid: tuple[int, ...] | None = None
    image_mask: Bool[Tensor, "batch image_tokens"] | None = None
    lengths: dict[str, int] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    memo: dict[int, Any] = field(default_factory=dict)
    places: dict[tuple[int, ...], Any] = field(default_factory=dict)
    replaced: frozenset[int] = frozenset()
    timed: list[object] = field(default_factory=list)

    def rows(self, wanted: str) -> list[int]:
        """Rows of the batch that belong to a pass."""
        return [i for i, name in enumerate(self.passes) if name == wanted]


@dataclass(frozen=True, eq=False)
class Moment:
    """When in a sampling loop a call comes.

    Attributes:
        time: The step, or the timestep where the step is unknown.
        source: Where it comes from: "caller" (`Label.step`), "scheduler", or "timestep".
        loop: An object that all calls of one loop share, and no other loop; None if unknown.
    """

    time: float
    source: str = "timestep"
    loop: object = None


class Clock:
    """Numbers the steps and runs of a sampling loop.

    A step that the caller or the scheduler names keeps its number, and one that falls back begins a new run.
    Otherwise the timesteps decide: those of one run move in one direction, each new timestep is a step, and a turn
    begins a new run.

    A pass that comes a second time at the same step begins a new run, too. Only where the caller named the step it
    is another draw of that step (an edit may average over several noises): the first draws of all steps are one
    run, the second draws the next run, and so on.

    Attributes:
        steps: Number of steps of the longest run until now.
        start: The first moment of the present sampling loop.
    """

    def __init__(self) -> None:
        self.run = self._first = self._last_run = -1
        self.step = self.steps = 0
        self.seen: set[str] = set()
        self.start = Moment(0)
        self._last: Moment | None = None
        self._direction = 0

    def begins(self, moment: Moment) -> str:
        """What begins with a call: a "run", a "step", or nothing ("")."""
        last = self._last
        if last is None or moment.source != last.source or moment.loop is not last.loop:
            return "run"
        if moment.time == last.time:
            return ""
        turn = 1 if moment.time > last.time else -1
        usual = (self._direction or turn) if moment.source == "timestep" else 1
        return "step" if turn == usual else "run"

    def tick(self, moment: Moment, passes: Sequence[str]) -> tuple[int, int]:
        """Step and run of a call with these passes."""
        begun, names = self.begins(moment), frozenset(passes)
        if not begun and names & self.seen:
            begun = "draw" if moment.source == "caller" else "run"
        if begun == "run":
            self._last_run += 1
            self.run = self._first = self._last_run
            self.start = moment
            self.step, self._direction = 0, 0
        elif begun == "step":
            assert self._last is not None
            self.run, self.step = self._first, self.step + 1
            self._direction = 1 if moment.time > self._last.time else -1
        elif begun == "draw":
            self.run += 1
            self._last_run = max(self._last_run, self.run)
        if begun:
            self._last, self.seen = moment, set()
        self.seen = self.seen | names
        self.steps = max(self.steps, self.step + 1)
        return (self.step if moment.source == "timestep" else int(moment.time)), self.run


def wants(asked: Collection[str] | None, name: str) -> bool:
    """Whether a pass was asked for.

    None asks for all, "uncond" for both sides of an edit, "source" also for the source text at the target's point.
    """
    return asked is None or name in asked or name.partition(".")[0] in asked


@lru_cache(maxsize=256)
def argument_names(module_class: Any) -> tuple[str, ...]:
    """Names of the arguments of a module's forward, without self, as written in its class."""
    return tuple(inspect.signature(module_class.forward).parameters)[1:]


def bind(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, however they were passed: under gradient checkpointing all are positional."""
    kind: Any = type(module)
    return dict(zip(argument_names(kind), args, strict=False)) | dict(kwargs)


def timestep_of(args: Mapping[str, Any]) -> tuple[float, float]:
    """The timestep argument, whatever it is called, and how exact its number format is (relative error)."""
    for name in ("timestep", "timesteps", "t", "timestep_img", "vision_timesteps"):
        value = args.get(name)
        if isinstance(value, Tensor):
            exact = torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
            return float(value.flatten()[0]), exact
        if value is not None:
            return float(value), 0.0
    return 0.0, 0.0


def batch_of(args: Mapping[str, Any]) -> int:
    """Rows of the batch."""
    for name in ("hidden_states", "x", "latent_image_embeds", "vision_tokens"):
        value = args.get(name)
        if isinstance(value, Tensor):
            return len(value)
        if isinstance(value, list):
            return 1 if name == "vision_tokens" else len(value)
    return 1


def fills_cache(args: Mapping[str, Any]) -> bool:
    """Whether a call only leaves keys and values of reference images for later ones (GLM-Image): it is no step."""
    caches = args.get("kv_caches")
    return caches is not None and caches[0].mode == "write"


# --- guidance passes ---------------------------------------------------------------------------------------


def caller_of(transformer: Any) -> Any:
    """The pipeline of diffusers that runs now and has this transformer in it; None where other code calls it."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__call__" and code.co_varnames[:1] == ("self",):
            owner = frame.f_locals.get("self")
            if hasattr(owner, "config_name") and name_in(owner, transformer):
                return owner
        frame = frame.f_back  # type: ignore[assignment]
    return None


def name_in(pipe: Any, transformer: Any) -> str:
    """What a pipeline calls this transformer; empty if it is not in it."""
    parts = getattr(pipe, "__dict__", {}).items()
    return next((name for name, part in parts if getattr(part, "_orig_mod", part) is transformer), "")


class Guidance:
    """Tells the guidance pass of every row of a call, from the pipeline that makes it.

    Attributes:
        pipe: That pipeline (which need not be the one that was given: two may share a transformer); None where
            other code calls the transformer.
        architecture: The transformer's table.
        alone: Whether the transformer was given without a pipeline: all rows that no pipeline explains are "cond".
        guider: The guider (``pipe.guider``) that has prepared the next call; None if none has.
        name: What the pipeline calls the transformer.
        seen: Passes that came at this step.
    """

    def __init__(self, architecture: Architecture, guider: Any = None, *, alone: bool = False) -> None:
        self.architecture, self.alone = architecture, alone
        self.pipe: Any = None
        self.name = ""
        self.seen: set[str] = set()
        self.guider: Any = None
        self._given = guider
        self._prepared = prepared(guider)
        self._largest = 0
        self._scaled: bool | None = None

    def called_by(self, pipe: Any, transformer: Any) -> None:
        """Note which pipeline makes the next call; None for none."""
        if pipe is not self.pipe:
            self.pipe, self.name = pipe, name_in(pipe, transformer)
            self._largest, self._scaled = 0, by_scale(pipe)
        guider = self._given if pipe is None else getattr(pipe, "guider", None)
        before, self._prepared = self._prepared, prepared(guider)
        self.guider = guider if self._prepared and (pipe is not None or self._prepared != before) else None

    def begin(self, begun: str) -> None:
        """Note that a "run" or a "step" begins, or nothing ("")."""
        if begun:
            self.seen = set()
        if begun == "run":
            self._largest, self._scaled = 0, by_scale(self.pipe)

    def passes(self, args: Mapping[str, Any], batch: int) -> tuple[str, ...]:
        """Pass of every row of a call with these arguments.

        Raises:
            CaptureError: If nothing tells which rows are conditional.
        """
        if args.get("skip_layers") is not None:
            return (SKIP,) * batch
        if self.guider is not None:
            return (guider_pass(self.guider),) * batch
        if self.pipe is None:
            if not self.alone and (batch > 1 or COND in self.seen):
                raise CaptureError(BY_HAND)
            return (COND,) * batch
        if self.name.startswith("uncond"):  # Ideogram 4 has a second network for it
            return (UNCOND,) * batch
        guided = self._guided()
        rows = self._rows(args, guided is not False, batch)
        if len(rows) > 1:
            names = tuple(name for name in rows for _ in range(batch // len(rows)))
            if guided is None:
                raise CaptureError(undecided(self.pipe, names))
            return names
        return (UNCOND if COND in self.seen and guided is not False else COND,) * batch

    def skipping(self) -> bool:
        """Whether a guider of diffusers has prepared another call than its conditional one."""
        return self.guider is not None and self.guider._count_prepared > 1

    def _guided(self) -> bool | None:
        """Whether guidance is on; None if the pipeline does not say."""
        if self.architecture.always_guided:
            return True
        guided = getattr(self.pipe, "do_classifier_free_guidance", None)
        if guided is None and self.architecture.rows:
            guided = self._scaled
        return None if guided is None else bool(guided)

    def _rows(self, args: Mapping[str, Any], guided: bool, batch: int) -> tuple[str, ...]:
        """Passes that lie one after the other in this batch; none or one if it is not split."""
        table = self.architecture
        rows = table.rows if guided else ()
        if rows and table.rows_with_images and (args.get("input_image_sizes") or batch % len(rows)):
            rows = table.rows_with_images
        if table.rows and getattr(self.pipe, "do_perturbed_attention_guidance", False):
            rows = (*(rows or (COND,)), PERTURBED)
        self._largest = max(batch, self._largest)
        dropped = batch < self._largest  # some pipelines drop guidance near the end
        return () if dropped or (rows and batch % len(rows)) else rows


def by_scale(pipe: Any) -> bool | None:
    """Whether guidance is on, by the scale that a running pipeline keeps; None if it keeps none.

    Read when a run begins: some pipelines (CogVideoX) change the number later, and not whether they guide.
    """
    scale = getattr(pipe, "_guidance_scale", None)
    return None if scale is None else bool(scale > 1)


def prepared(guider: Any) -> tuple[int, ...]:
    """Step, and how many passes of it a guider of diffusers (``pipe.guider``) has prepared; empty for none."""
    count = getattr(guider, "_count_prepared", 0)
    return (getattr(guider, "_step", None) or 0, count) if count else ()


def guider_pass(guider: Any) -> str:
    """Pass of the call that a guider has prepared last."""
    if guider._count_prepared == 1:
        return COND
    if guider._count_prepared == 2 and getattr(guider, "_is_cfg_enabled", lambda: True)():
        return UNCOND
    perturbs = {"PerturbedAttentionGuidance", "SmoothedEnergyGuidance"} & {
        c.__name__ for c in type(guider).__mro__
    }
    return PERTURBED if perturbs else SKIP


SAY_IT = "`from ditlens.labels import Label, announce`, then `with announce(Label("
BY_HAND = (
    "The transformer is called by your own code here, not by the pipeline that was given: nothing tells which "
    f"rows are cond and which are uncond. Say it: {SAY_IT}('uncond', 'cond'))): transformer(...)`, one name for "
    "each row of the batch. Without guidance give the transformer itself, ditlens.capture(pipe.transformer): all "
    "rows of your calls are then 'cond'."
)


def undecided(pipe: Any, passes: tuple[str, ...]) -> str:
    """The message where a batch may or may not hold several passes."""
    rows = len(passes)
    return (
        f"{type(pipe).__name__} puts its guidance passes into one batch and does not say whether guidance is on: "
        f"the {rows} rows may be {', '.join(passes)}, or all cond. Say it: {SAY_IT}{passes})): pipe(...)`; without "
        f"guidance Label({(COND,) * rows})."
    )
