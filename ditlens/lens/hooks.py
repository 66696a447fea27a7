"""Hooks that are removed whatever happens.

A `Session` puts hooks on one transformer while a ``with`` block runs. It removes its own handles only, on every way
out: the end, an exception, Ctrl-C, a site that does not exist. `ditlens.hooks_on(model)` lists what is running.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ditlens.arguments import shown
from ditlens.errors import ArchitectureError, CaptureError, DitlensError, SettingError
from ditlens.labels import Label, current_label
from ditlens.lens.adapters.adapter import Adapter, Block
from ditlens.lens.backward import in_backward
from ditlens.lens.calls import (
    Call,
    Clock,
    Guidance,
    Moment,
    batch_of,
    bind,
    caller_of,
    fills_cache,
    timestep_of,
    wants,
)
from ditlens.lens.modes import EAGER, REMOVE, parts_within, replacements
from ditlens.lens.own import Hook, stay_out_of_copies
from ditlens.lens.selection import Passes, Steps, Tokens, pass_names, step_filter, step_numbers, token_numbers
from ditlens.tables import counted, ranges

ACTIVE: weakref.WeakKeyDictionary[nn.Module, list[weakref.ref[Session]]] = weakref.WeakKeyDictionary()
"""Sessions that are running, by transformer. Weak: the hooks keep them, so that a model can be freed with them."""

LOCK = threading.Lock()
"""Held while `ACTIVE` changes."""
OPEN: ContextVar[frozenset[object]] = ContextVar("ditlens_open", default=frozenset())
"""Keys of the sessions that were opened in this thread or asyncio task: they see its calls, and no others."""

SCALES: tuple[Callable[[float], float], ...] = (
    lambda t: t, lambda t: t / 1000, lambda t: 1 - t / 1000, lambda t: t - 1,
)  # fmt: skip
"""Scales in which transformers take a scheduler's timestep."""


def parts_of(model: Any) -> tuple[nn.Module, Any]:
    """The transformer and its pipeline (None for a bare transformer) of what the user gave.

    Raises:
        ArchitectureError: If there is no transformer in it.
        CaptureError: If the model runs in a backend that has no place for hooks.
    """
    if reason := getattr(model, "no_hooks", ""):
        raise CaptureError(reason)
    pipe = getattr(model, "pipe", None)
    pipe = pipe if pipe is not None else (model if not isinstance(model, nn.Module) else None)
    transformer = given_part(model, pipe)
    transformer = getattr(transformer, "_orig_mod", transformer)  # unwrap what torch.compile returned
    if not isinstance(transformer, nn.Module):
        found = "a U-Net instead of a" if getattr(pipe, "unet", None) is not None else "no"
        raise ArchitectureError(
            f"model is {shown(model)}, which has {found} transformer. Pass a ditlens.Model (a name is loaded by "
            "ditlens.load), a diffusers pipeline with a diffusion transformer, or the transformer itself."
        )
    return transformer, pipe


def given_part(model: Any, pipe: Any) -> Any:
    """The transformer as it was given: a pipeline's ``transformer`` or ``prior`` (Kandinsky), or the model."""
    if isinstance(model, nn.Module):
        return model
    found = getattr(pipe, "transformer", None)  # a compiled one has no truth value
    return getattr(pipe, "prior", None) if found is None else found


def running(transformer: nn.Module) -> list[Session]:
    """Sessions on a transformer, in the order in which they began."""
    found = [session() for session in ACTIVE.get(transformer, [])]
    return [session for session in found if session is not None]


def hooks_on(model: Any) -> list[str]:
    """Hooks of ditlens that are on a model now, one line for each running session.

    >>> with dl.intervene(model, {"joint.0.image.out": dl.scale(0.5)}):
    ...     image = model.generate("a portrait", seed=0)
    ...     dl.hooks_on(model)
    ['intervention at 1 site']
    >>> dl.hooks_on(model)
    []
    """
    return [session.title() for session in running(parts_of(model)[0])]


class Session(ABC):
    """Base of `capture` and `intervene`: follows the forward calls of one transformer.

    Attributes:
        transformer: The transformer.
        pipe: Its pipeline, if it was given.
        steps: The steps that were asked for: their numbers, a slice, or None.
    """

    acts_first = False
    """Whether the hooks of this kind of session run before those of the other kind."""
    problem: type[DitlensError] = CaptureError
    """The error for a session that did not see what it should."""

    def __init__(self, model: Any, steps: Steps, passes: Passes, tokens: Tokens) -> None:
        self.steps = steps if steps is None or isinstance(steps, slice) else step_numbers(steps)
        self.wants_step = step_filter(self.steps)
        self.passes = pass_names(passes)
        self.tokens = token_numbers(tokens)
        self.transformer, self.pipe = parts_of(model)
        self.adapter = Adapter(self.transformer)
        self.call = None
        self.clock = Clock()
        guider = getattr(self.pipe, "guider", None)
        self.guidance = Guidance(self.adapter.architecture, guider, alone=self.pipe is None)
        self.handles: list[torch.utils.hooks.RemovableHandle] = []
        self.calls = 0
        self._before = self.clock, self.guidance
        self._steps_seen: set[int] = set()
        self._passes_seen: set[str] = set()
        self._outside: object = None
        self._timesteps: Tensor | None = None
        self._levels: list[float] = []
        self._stack = contextlib.ExitStack()
        self._everything: list[nn.Module] = []
        self._taps: list[Any] = []
        self._watched: set[int] = set()
        self._used = False
        self._key = object()
        self._elsewhere = self._at_once = False

    # --- what capture and intervene add --------------------------------------------------------------

    @abstractmethod
    def title(self) -> str:
        """The session in a few words, for `hooks_on`."""

    @abstractmethod
    def place_hooks(self) -> None:
        """Put the hooks on the sites."""

    @abstractmethod
    def finish(self) -> None:
        """Check the outcome, after an end without an exception."""

    # --- begin and end -------------------------------------------------------------------------------

    def __enter__(self) -> Any:
        if self._used:
            raise SettingError(f"This {self.title()} was used once. Write `with ditlens....(...)` again.")
        self._used, label = True, current_label()
        self._outside = label.outside if label is not None else None
        try:
            self._everything = list(parts_within(self.transformer))
            self.refuse()
            self._stack.enter_context(EAGER)  # also for a compiled function that calls the transformer
            OPEN.set(OPEN.get() | {self._key})
            with LOCK:
                ACTIVE.setdefault(self.transformer, []).append(weakref.ref(self))
            self.attach()
            for other in running(self.transformer):
                ours = other._key in OPEN.get()
                if ours and self.acts_first and not other.acts_first:  # captures see changed values
                    other.detach()
                    other.attach()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                self.check_threads()
                self.finish()
                self.warn_of_absent()
        finally:
            self.close()

    def attach(self) -> None:
        """Register all hooks."""
        self.on(self.transformer, self._begin, before=True)
        self.on(self.transformer, self._end, always=True)
        self.watch(next(iter(self.adapter.blocks.values())))
        self.place_hooks()

    def detach(self) -> None:
        """Remove our own handles only."""
        while self.handles:
            self.handles.pop().remove()
        self._watched.clear()

    def close(self) -> None:
        """Leave the model as it was; may be called twice."""
        self.detach()
        self._drop_taps()
        self._stack.close()
        OPEN.set(OPEN.get() - {self._key})
        with LOCK:
            others = [weakref.ref(session) for session in running(self.transformer) if session is not self]
            ACTIVE[self.transformer] = others
        self.call, self._everything = None, []

    def refuse(self, skipping: bool = False) -> frozenset[int]:
        """Refuse states of the model in which hooks would not see its hidden states.

        Args:
            skipping: Whether a guider leaves layers out of the call that begins.

        Returns:
            Modules that it leaves out, by identity.

        Raises:
            CaptureError: With the call that ends the state.
        """
        replaced = list(replacements(self._everything))
        if not all(skipping and "layer_skip" in type(hook).__module__ for _, _, hook in replaced):
            names = list(dict.fromkeys(name for _, name, _ in replaced))
            cached = getattr(self.transformer, "is_cache_enabled", False)
            raise CaptureError(
                f"A step cache or layer skip is on this transformer ({', '.join(names)}): where it leaves a block "
                "out, the block gives copies or extrapolations instead of hidden states. "
                + ("Call transformer.disable_cache() first." if cached else REMOVE.format(names))
            )
        if getattr(self.transformer, "_parallel_config", None) is not None:
            raise CaptureError(
                "Under context parallelism every process sees a part of the tokens. Load the model on one device."
            )
        return frozenset(id(module) for module, _, _ in replaced)

    # --- threads -------------------------------------------------------------------------------------

    @property
    def call(self) -> Call | None:
        """The running forward call; None between calls, and in calls outside all steps (`labels.outside_steps`)."""
        return self._call

    @call.setter
    def call(self, call: Call | None) -> None:
        self._call, self._thread = call, threading.get_ident()

    def is_here(self) -> bool:
        """Whether the session is to see what happens now: it was opened in this thread or asyncio task.

        It also sees backward passes, of which PyTorch runs those of a GPU in threads of its own.
        """
        ours = self._key in OPEN.get()
        if not ours:
            self._elsewhere = True
            if not in_backward():
                return False
        if self._call is None or self._thread == threading.get_ident():
            return True
        self._at_once |= ours
        return False

    def check_threads(self) -> None:
        """Refuse a session that did not see the calls of other threads, or could not tell them apart.

        Raises:
            CaptureError: If so; InterventionError for an intervention.
        """
        if self._at_once:
            raise self.problem(
                f"Two threads ran the transformer at the same time inside one {self.title()}: their calls cannot "
                "be told apart. Let them run one after the other, or give each thread a with-block of its own."
            )
        if self._elsewhere and not self.calls:
            raise self.problem(
                f"The transformer ran in another thread or asyncio task than the one that opened this "
                f"{self.title()}, which sees its own only. Write the with-block in what that thread runs, or hand "
                "it the context: executor.submit(contextvars.copy_context().run, model.generate, prompt)."
            )

    # --- following the model -------------------------------------------------------------------------

    def on(
        self,
        module: nn.Module,
        fn: Callable[..., Any],
        *,
        before: bool = False,
        always: bool = False,
        prepend: bool = False,
    ) -> None:
        """Register one hook that sees keyword arguments, before the module runs or after it.

        Args:
            module: Where.
            fn: The hook.
            before: Whether it runs before the module.
            always: Whether it runs also where the module raises.
            prepend: Whether it runs before all other hooks there.
        """
        after = partial(module.register_forward_hook, always_call=always)
        register: Any = module.register_forward_pre_hook if before else after
        self.handles.append(register(Hook(fn, self.is_here), with_kwargs=True, prepend=prepend))
        stay_out_of_copies(module)

    def watch(self, block: Block | None) -> None:
        """Follow the calls of a block; once for each block."""
        if block is not None and id(block.module) not in self._watched:
            self._watched.add(id(block.module))
            self.on(block.module, partial(self.entering, block), before=True, prepend=True)

    def entering(self, block: Block, module: nn.Module, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        """Learn the streams' sizes when a block begins."""
        if self.call is not None and not in_backward():
            self.adapter.note(block, args, kwargs, self.call)

    def tap(self, module: nn.Module, make: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        """Watch the softmax calls of an attention module.

        Args:
            module: The attention.
            make: Returns the `ditlens.lens.attention.Tap` to switch on while the attention runs, or None.
            done: Called with the tap and the output when the attention has run.
        """

        def begin(module: Any, args: Any, kwargs: Any) -> None:  # noqa: ARG001
            if (tap := make()) is not None:
                self._taps.append(tap)
                tap.switch_on(module)

        def end(module: Any, args: Any, kwargs: Any, output: Any) -> None:  # noqa: ARG001
            if self._taps and self._taps[-1].module == id(module):
                self._taps[-1].switch_off()
                done(self._taps.pop(), output)

        self.on(module, begin, before=True)
        self.on(module, end, always=True)

    def _drop_taps(self) -> None:
        """Switch off what an interrupt left on: PyTorch calls no hook after Ctrl-C."""
        while self._taps:
            self._taps.pop().switch_off()

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._drop_taps()
        if self.call is not None:  # PyTorch calls no hook after Ctrl-C
            self.aborted(self.call)
        self.call, label = None, current_label()
        if in_backward():
            self.call = self.recalled(module, args, kwargs)
            if self.call is not None:
                self.call.timed.clear()
        elif (label is None or label.outside is self._outside) and not fills_cache(
            bound := bind(module, args, kwargs)
        ):
            self.call = self.new_call(module, bound, label)

    def new_call(self, module: nn.Module, bound: Mapping[str, Any], label: Label | None) -> Call:
        """The call that begins, with its step and passes."""
        self._before = copy.copy(self.clock), copy.copy(self.guidance)
        self.guidance.called_by(caller_of(self.transformer), self.transformer)
        batch, moment = batch_of(bound), self._moment(bound, label)
        self.guidance.begin(self.clock.begins(moment))
        said = label.passes if label is not None else ()
        if said and len(said) != batch and self.guidance.pipe is None:
            raise CaptureError(
                f"The announced Label has the passes {said}, and the batch has {counted(batch, 'row')}: name the "
                "pass of each row."
            )
        passes = said if len(said) == batch else self.guidance.passes(bound, batch)
        replaced = self.refuse(skipping=self.guidance.skipping())
        self.guidance.seen = self.guidance.seen | set(passes)
        step, run = self.clock.tick(moment, passes)
        return Call(
            module, self.adapter.architecture, bound, batch, step, run, passes,
            label.prompts if label else (), label.mask if label else None, replaced=replaced,
        )  # fmt: skip

    def _end(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:  # noqa: ARG002
        call, self.call = self.call, None
        if call is None or in_backward():
            return
        if output is None:
            self.aborted(call)
        else:
            self.ended(call, output)

    def ended(self, call: Call, output: Any) -> None:  # noqa: ARG002
        """Count a forward call that ended without an exception."""
        self.calls += 1
        self._steps_seen.add(call.step)
        self._passes_seen |= set(call.passes)

    def aborted(self, call: Call) -> None:  # noqa: ARG002
        """Forget a forward call that raised, so that it can be repeated."""
        self.clock, self.guidance = self._before

    def recalled(self, module: nn.Module, args: Any, kwargs: Any) -> Call | None:  # noqa: ARG002
        """The call that a backward pass runs again (gradient checkpointing), if it is to be followed again."""
        return None

    def came(self) -> str:
        """The passes and steps that the model ran, in words."""
        return f"the passes {', '.join(sorted(self._passes_seen))} at the steps {ranges(self._steps_seen)}"

    def warn_of_absent(self) -> None:
        """Name a pass and the steps that were asked for, one by one, and never came."""
        came = f"never came: the model ran {self.came()}. Ask for what there is"
        for name in self.passes or ():
            if not any(wants((name,), seen) for seen in self._passes_seen):
                warnings.warn(
                    f"The pass {name!r} was asked for and {came}, passes=..., or for all, passes=None. Without "
                    "guidance, and in a model with embedded guidance (FLUX.1-dev), there is no 'uncond'.",
                    stacklevel=3,
                )
                break
        if isinstance(self.steps, list) and (late := set(self.steps) - self._steps_seen):
            warnings.warn(f"Step {ranges(late)} was asked for and {came}, steps=...", stacklevel=3)

    def _moment(self, bound: Mapping[str, Any], label: Label | None) -> Moment:
        """When a call comes, by its caller, else by the pipeline's scheduler, else by its timestep."""
        if label is not None and label.step is not None:
            return Moment(label.step, "caller", label.run)
        timestep, exact = timestep_of(bound)
        if label is not None:
            return Moment(timestep)
        index = self.scheduler_index(timestep, exact)
        if index is None:
            return Moment(timestep, loop=self._timesteps)
        return Moment(index, "scheduler", self._timesteps)

    def scheduler_index(self, timestep: float, exact: float = 0.0) -> int | None:
        """The step that the pipeline's scheduler is at, if it fits this timestep; None if not.

        Args:
            timestep: As the transformer takes it.
            exact: Relative error of its number format.
        """
        pipe = self.pipe if self.guidance.pipe is None else self.guidance.pipe
        scheduler: Any = getattr(pipe, "scheduler", None)
        levels = self._read(scheduler)
        off = max(1e-3, exact) * max(1.0, abs(timestep))
        if hasattr(scheduler, "step_index"):  # None before the first step
            now = scheduler.step_index
            now = (getattr(scheduler, "begin_index", None) or 0) if now is None else now
            if now < len(levels) and any(abs(scale(levels[now]) - timestep) <= off for scale in SCALES):
                return now
        for scale in SCALES:
            far = [abs(scale(level) - timestep) for level in levels]
            if far and min(far) <= off:
                return far.index(min(far))
        return None

    def _read(self, scheduler: Any) -> list[float]:
        """The scheduler's timesteps, read once for each sampling loop: it makes a new tensor for every one."""
        timesteps: Any = getattr(scheduler, "timesteps", None)
        if timesteps is not self._timesteps:
            begun = getattr(scheduler, "num_inference_steps", None) is not None and timesteps is not None
            self._timesteps, self._levels = timesteps, timesteps.tolist() if begun else []
        return self._levels
