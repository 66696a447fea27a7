"""Change hidden states while a model runs: ``with ditlens.intervene(model, {site: fn})``."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ditlens.arguments import NUMBER, TEXT, Kind, instance, one_of, takes
from ditlens.errors import InterventionError, SettingError
from ditlens.flow import seed_of
from ditlens.lens.adapters.adapter import AnyPort, Block, Port, SoftmaxPort
from ditlens.lens.attention import Tap, change_stream
from ditlens.lens.backward import (
    REENTRANT,
    PastCalls,
    backward_number,
    in_backward,
    is_checkpointed,
    tensors_in,
)
from ditlens.lens.cache import LatentCache
from ditlens.lens.calls import Call, wants
from ditlens.lens.hooks import Session
from ditlens.lens.selection import Passes, Steps, Tokens, check_tokens, masked_mean, row_index
from ditlens.lens.site import Site, select
from ditlens.tables import counted

Values: TypeAlias = Float[Tensor, "rows tokens width"]
"""Hidden states of one stream at one site and step; one row for each image of a pass."""


@dataclass(frozen=True, eq=False)
class Where:
    """The place and moment at which an intervention is applied.

    Attributes:
        site: The site.
        step: Index of the timestep.
        pass_: Guidance pass of these rows.
        run: Which sampling loop.
        mask: True at real tokens; None if all are, or if it is unknown.
        entering: The stream as it entered the block; None at other points than "out".
    """

    site: Site
    step: int
    pass_: str
    run: int = 0
    mask: Bool[Tensor, "rows tokens"] | None = field(default=None, repr=False)
    entering: Values | None = field(default=None, repr=False)


Intervention = Callable[..., Tensor]
"""A pure function ``fn(values)`` or ``fn(values, where)``: (rows, tokens, width) to the same shape."""


# --- the usual ones: functions of this module with their settings, so that they can be pickled --------------


VECTOR = instance("a tensor, e.g. torch.ones(width); an array becomes one by torch.from_numpy(array)", Tensor)
FACTOR = NUMBER | Kind("a tensor of one", lambda value: isinstance(value, Tensor) and value.numel() == 1)
VALUES = instance("a tensor (rows or 1, tokens, width) or a LatentCache", Tensor, LatentCache)


@takes(direction=VECTOR, amount=FACTOR)
def add_vector(
    direction: Float[Tensor, " width"] | Float[Tensor, "tokens width"] | Values, amount: float = 1.0
) -> Intervention:
    """Add ``amount * direction``.

    A direction that is the same number in every channel is undone by the next layer norm.

    >>> push = dl.add_vector(torch.tensor([1.0, -1.0]), amount=3.0)
    >>> push(torch.zeros(1, 2, 2))  # (rows, tokens, width)
    tensor([[[ 3., -3.],
             [ 3., -3.]]])

    Raises:
        SettingError: If they are not a tensor and a number.
        InterventionError: In the run, if the direction is of another width than the values.
    """
    return partial(_added, direction=direction, amount=amount)


def _added(values: Tensor, direction: Tensor, amount: float | Tensor) -> Tensor:
    shape = tuple(values.shape)
    if direction.ndim == 0 or direction.shape[-1] != shape[-1] or not _broadcasts(direction, values):
        raise InterventionError(
            f"The direction has the shape {tuple(direction.shape)}, and the values here {shape} (rows, tokens, "
            f"width): give a vector of {shape[-1]} numbers, or one for each token."
        )
    return values + amount * direction.to(values)


def _broadcasts(given: Tensor, values: Tensor) -> bool:
    """Whether a tensor can be added to values without changing their shape."""
    pairs = zip(reversed(given.shape), reversed(values.shape), strict=False)
    return given.ndim <= values.ndim and all(size in (1, own) for size, own in pairs)


@takes(factor=FACTOR)
def scale(factor: float) -> Intervention:
    """Multiply by `factor`; 0 ablates.

    >>> dl.scale(0.5)(torch.ones(1, 1, 2))
    tensor([[[0.5000, 0.5000]]])

    Raises:
        SettingError: If it is not a number.
    """
    return partial(_scaled, factor=factor)


def _scaled(values: Tensor, factor: float | Tensor) -> Tensor:
    return values * factor


@takes(values=VALUES, pass_=TEXT)
def replace_with(values: Values | LatentCache, pass_: str | None = None) -> Intervention:
    """Replace by given values: activation patching.

    >>> with dl.capture(model, "joint.0.image.out", passes=None) as smiling:
    ...     smile = model.generate("a big smile", seed=0)
    >>> with dl.intervene(model, {"joint.0.image.out": dl.replace_with(smiling)}) as session:
    ...     patched = model.generate("a frown", seed=0)
    >>> session.applied  # 4 steps with 2 passes
    {'joint.0.image.out': 8}

    Args:
        values: A tensor, (rows or 1, tokens, width), or a cache, of which the same site and step are used.
        pass_: Pass of the cache; by default the pass that is being changed, which the cache must hold.

    Raises:
        SettingError: If `values` is neither a tensor nor a cache.
        InterventionError: In the run, if the cache does not hold that pass.
    """
    return partial(_replaced, source=values, pass_=pass_)


def _replaced(now: Tensor, where: Where, source: LatentCache | Tensor, pass_: str | None) -> Tensor:
    new = _values("values", source, now, where, pass_).to(now)
    return new.expand(len(now), *new.shape[1:]) if len(new) == 1 else new


def _values(
    name: str, source: LatentCache | Tensor, now: Tensor, where: Where, pass_: str | None = None
) -> Tensor:
    """Values of the place that is being changed; a cache must hold its pass, unless another one is named.

    Args:
        name: What the argument is called.
        source: The argument.
        now: The values to be changed, whose tokens and width they must have.
        where: The place.
        pass_: The pass of the cache to take; that of the place by default.
    """
    if not isinstance(source, LatentCache):
        if source.ndim != 3 or not len(source) or source.shape[1:] != now.shape[1:]:
            raise InterventionError(
                f"{name} has the shape {tuple(source.shape)}, and the values at {where.site} have "
                f"{tuple(now.shape)} (rows, tokens, width): tokens and width must agree."
            )
        return source
    if pass_ is None and where.pass_ not in source.passes:
        held = ", ".join(source.passes) or "nothing"
        raise InterventionError(
            f"{where.site} is being changed in the pass {where.pass_!r}, and the cache holds {held}. Change the "
            "passes that it holds, intervene(..., passes=...), or capture all, capture(..., passes=None). "
            "To put one pass into others: replace_with(cache, pass_='cond')."
        )
    return source.get(where.site, step=where.step, pass_=pass_ or where.pass_)


@takes(how=one_of("zero", "mean", "resample"), source=VALUES)
def ablate(how: str = "zero", source: LatentCache | Values | None = None, seed: int = 0) -> Intervention:
    """Take information away.

    >>> with dl.intervene(model, {"joint.0.image.mlp.out": dl.ablate("mean")}, steps=[0]) as session:
    ...     image = model.generate("a portrait", seed=0)
    >>> session.applied  # 1 step with 2 passes
    {'joint.0.image.mlp.out': 2}

    Args:
        how: ``"zero"``; ``"mean"``: every token becomes the mean over the items of `source` (without one: the
            mean over the tokens of the values themselves); ``"resample"``: another item of `source`. Padding, where
            it is known, is left out of the means.
        source: A cache with the same site, step and pass, or values (items, tokens, width).
        seed: Which of the other items "resample" takes: row i gets item ``i + 1 + seed % (items - 1)``, counted
            around, which is never item i itself.

    Raises:
        SettingError: If `how` is unknown or needs a source, or the source is neither a tensor nor a cache.
        InterventionError: In the run, if a cache does not hold the pass, or has one item only for "resample".
    """
    if how == "resample" and source is None:
        raise SettingError("ablate('resample') needs a cache or a tensor of several items as its source.")
    seed = seed_of(seed)

    return partial(_ablated, how=how, source=source, seed=seed)


def _ablated(now: Tensor, where: Where, how: str, source: LatentCache | Tensor | None, seed: int) -> Tensor:
    if how == "zero":
        return torch.zeros_like(now)
    if source is None:
        return masked_mean(now, where.mask, 1).expand_as(now)
    given = _values("source", source, now, where)
    if how == "mean":
        mask = source.mask(where.pass_) if isinstance(source, LatentCache) else None
        known = mask is not None and where.site.stream == "text" and mask.shape == given.shape[:2]
        mean = masked_mean(given.to(now), mask if known else None, 0)
        return mean.expand(len(now), *mean.shape[1:])
    return given[_others(len(now), len(given), seed)].to(now)


def _others(rows: int, items: int, seed: int) -> list[int]:
    """For every row an item that is not the row's own."""
    if items < 2:
        raise InterventionError(
            "ablate('resample') takes another item of its source, which has only one. Capture two images or more."
        )
    return [(row + 1 + seed % (items - 1)) % items for row in range(rows)]


def bypass() -> Intervention:
    """Let the stream leave the block as it entered; only at the point "out".

    >>> with (
    ...     dl.intervene(model, {"joint.0.image.out": dl.bypass()}),
    ...     dl.capture(model, "joint.0.image.{in,out}") as cache,
    ... ):
    ...     image = model.generate("a portrait", seed=0)
    >>> torch.equal(cache["joint.0.image.in"], cache["joint.0.image.out"])
    True
    """
    return _bypassed


def _bypassed(now: Tensor, where: Where) -> Tensor:
    if where.entering is None:
        raise InterventionError(f"bypass works at a block's 'out', not at {where.site}.")
    return where.entering.expand_as(now)


# --- the context manager -----------------------------------------------------------------------------------


class intervene(Session):  # lower case like torch.no_grad: a verb behind `with`
    """Change hidden states in every forward call inside a ``with`` block.

    Several may be nested: they act in the order in which they were entered. A `ditlens.capture` at the same time
    sees the changed values.

    >>> with dl.intervene(model, {"joint.*.image.out": dl.scale(0.5)}, passes="cond") as session:
    ...     image = model.generate("a portrait", seed=0)
    >>> session.applied  # 4 steps
    {'joint.0.image.out': 4, 'joint.1.image.out': 4}

    Args:
        model: A `ditlens.Model`, a diffusers pipeline, or a transformer.
        changes: A function for each site or pattern: ``fn(values)`` or ``fn(values, where)`` with values
            (rows, tokens, width), returning a new tensor of that shape; see `add_vector`, `scale`, `replace_with`,
            `ablate`, `bypass`, and `Where`. It must depend on its arguments only: gradient checkpointing calls it
            again in the backward pass, which must therefore come inside the ``with`` block.
        steps: Which steps, as in `capture`; None for all.
        passes: Which guidance passes, e.g. "cond", as in `capture`; None for all.
        tokens: Tokens that change, by stream; all others stay.

    Yields:
        The session; its `applied` says how often each site was changed. The end warns of passes and steps that were
            asked for, one by one, and never came.

    Raises:
        SiteError: If a site does not exist; the message says why.
        SettingError: If there is no change, one is not a function or cannot be made at its site, or steps, passes
            or tokens cannot be used; numbers of tokens are checked in the run.
        InterventionError: In the run, if a function returns something that does not fit; at its end, if a site was
            never changed or the model never ran; in a checkpointed backward pass after the end.
        CaptureError: If a step cache or a layer skip of diffusers is on.
    """

    acts_first = True
    problem = InterventionError

    def __init__(
        self,
        model: Any,
        changes: Mapping[str, Intervention],
        *,
        steps: Steps = None,
        passes: Passes = None,
        tokens: Tokens = None,
    ) -> None:
        super().__init__(model, steps, passes, tokens)
        if not isinstance(changes, Mapping) or not changes:
            raise SettingError(
                f"intervene(model, {changes!r}) changes nothing: give sites and functions, e.g. "
                "{'joint.0.image.out': ditlens.scale(0.5)}."
            )
        self.changes: list[tuple[Site, Intervention]] = []
        for pattern, fn in changes.items():
            if not callable(fn):
                raise SettingError(f"The change at {pattern} is of type {type(fn).__name__}, not a function.")
            for site in select(pattern, self.adapter.sites, self.adapter.absent):
                if site.point.startswith("attn.to_"):
                    raise SettingError(f"{site} can be captured, not changed. Change q, k or v instead.")
                self.changes.append((site, fn if _wants_where(fn) else _without_where(fn)))
        self.applied: dict[str, int] = {str(site): 0 for site, _ in self.changes}
        self._new: Counter[str] = Counter()  # how often in the running call
        self._past = PastCalls()
        self._arrived: dict[
            nn.Module, tuple[int, Call]
        ] = {}  # backward pass and call whose gradients came last
        self._again: Call | None = None  # the call of a block that a backward pass runs again
        self._grad = False  # whether the running call records gradients

    def title(self) -> str:
        return f"intervention at {counted(len(self.changes), 'site')}"

    def place_hooks(self) -> None:
        ports = [self.adapter.port(site) for site, _ in self.changes]
        for port, (_, fn) in zip(ports, self.changes, strict=True):
            self.watch(port.block)
            if isinstance(port, SoftmaxPort):
                self._place_tap(port, fn)
            else:
                self.on(port.module, partial(self._change, port, fn), before=port.before)
        for module in {port.block.module for port in ports if port.block is not None}:
            self.on(module, self._leaving, always=True)

    def ended(self, call: Call, output: Any) -> None:
        super().ended(call, output)
        self._past.remember(call, call.model_args.values())
        self._guard(call, self.transformer, output)
        for site, count in self._new.items():
            self.applied[site] += count
        self._new.clear()

    def aborted(self, call: Call) -> None:
        super().aborted(call)
        self._new.clear()

    # --- gradient checkpointing: a backward pass runs blocks, or the whole transformer, again ----------------

    def new_call(self, *args: Any) -> Call:
        self._grad = torch.is_grad_enabled()
        return super().new_call(*args)

    def entering(self, block: Block, module: nn.Module, args: Any, kwargs: Any) -> None:
        super().entering(block, module, args, kwargs)
        if self.call is None:
            self._again = self.recalled(module, args, kwargs) if in_backward() else None
        elif self._grad and not torch.is_grad_enabled():
            raise InterventionError(REENTRANT)
        else:
            self._past.remember(self.call, (*args, *kwargs.values()))

    def _leaving(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:  # noqa: ARG002
        self._again = None
        if self.call is not None:
            self._guard(self.call, module, output)

    def recalled(self, module: nn.Module, args: Any, kwargs: Any) -> Call | None:
        """By what enters; where other hooks on saved tensors made copies of it, by the gradients that came last."""
        call = self._past.recall((*args, *kwargs.values()))
        backward, arrived = self._arrived.pop(module, (-1, None))
        return arrived if call is None and backward == backward_number() else call

    def _guard(self, call: Call, module: nn.Module, output: Any) -> None:
        """Follow the gradients of a changed block or call, which will be run again just after they arrive."""
        if self._new and is_checkpointed():
            arrive = partial(self._arrive, module, replace(call, model_args={}))
            for x in tensors_in([output]):
                if x.requires_grad:
                    x.register_hook(arrive)

    def _arrive(self, module: nn.Module, call: Call, gradient: Tensor) -> None:  # noqa: ARG002
        self._arrived[module] = backward_number(), call
        if not self.handles:
            raise InterventionError(
                "backward() came after the end of an intervention: gradient checkpointing runs the changed blocks "
                "again, now without the change, and the gradients would be wrong. Call backward() inside the "
                "with-block of intervene, or transformer.disable_gradient_checkpointing() before."
            )

    def _current(self, port: AnyPort) -> Call | None:
        """The call that runs or is being recomputed, if something is to be changed in it."""
        call = self.call if self.call is not None else self._again
        left_out = call is None or id(port.module) in call.replaced or not self.wants_step(call.step)
        return None if left_out else call

    def _change(
        self, port: Port, fn: Intervention, _: Any, args: Any, kwargs: Any, output: Any = None
    ) -> Any:
        """The hook that writes new values: into the arguments (where `port.before`), or into the output."""
        call = self._current(port)
        if call is None or not port.due(call):
            return None
        entering = port.entering(args, kwargs, call) if port.site.point == "out" else None
        value = self._changed(port, fn, port.read(args, kwargs, output, call), call, entering)
        return None if value is None else port.write(args, kwargs, output, call, value)

    def _place_tap(self, port: SoftmaxPort, fn: Intervention) -> None:
        if port.block.table.calls != "once":
            raise SettingError(
                f"The q, k and v of {type(self.transformer).__name__}, which calls its softmax several times, can "
                "be captured, not changed. Change the block's 'in' instead."
            )

        def make() -> Tap | None:
            call = self._current(port)
            if call is None:
                return None
            return Tap(
                lambda seen: change_stream(seen, port, call, partial(self._changed, port, fn, call=call))
            )

        self.tap(port.module, make, lambda tap, output: None)  # noqa: ARG005

    # --- applying ------------------------------------------------------------------------------------

    def _changed(
        self, port: AnyPort, fn: Intervention, value: Tensor, call: Call, entering: Tensor | None = None
    ) -> Tensor | None:
        """The stream with all wanted rows changed; None if there are none."""
        site, result = port.site, None
        split = len(value) == call.batch
        real = self.adapter.mask(site, call, value.shape[1])
        for pass_ in dict.fromkeys(call.passes):
            if not wants(self.passes, pass_):
                continue
            part = row_index(call.rows(pass_)) if split else slice(None)
            mask, entered = (None if each is None else each[part] for each in (real, entering))
            new = self._apply(fn, value[part], Where(site, call.step, pass_, call.run, mask, entered))
            result = value.clone() if result is None else result
            result[part] = new
            if not in_backward():
                self._new[str(site)] += 1
        return result

    def _apply(self, fn: Intervention, old: Tensor, where: Where) -> Tensor:
        if old.is_inference():  # these count no versions: the function gets a copy, which it may spoil
            old, version = old.clone(), None
        else:
            version = old._version
        new = fn(old, where)
        if not isinstance(new, Tensor):
            raise InterventionError(
                f"The function at {where.site} returned {type(new).__name__}, not a tensor. Return the new values."
            )
        if version is not None and old._version != version:
            raise InterventionError(
                f"The function at {where.site} changed its argument in place. Return a new tensor: "
                "write `values + x`, not `values += x`."
            )
        if new.shape != old.shape:
            raise InterventionError(
                f"The function at {where.site} returned shape {tuple(new.shape)} for values of shape "
                f"{tuple(old.shape)} (rows, tokens, width); they must agree."
            )
        chosen = self.tokens.get(where.site.stream)
        if chosen is not None:
            mixed, chosen = old.clone(), check_tokens(chosen, old.shape[1])
            mixed[:, chosen] = new[:, chosen].to(old)
            return mixed
        return new.to(old)

    def finish(self) -> None:
        """Check that every change was applied.

        Raises:
            InterventionError: If the model ran and a site was never changed.
        """
        never = [site for site, count in self.applied.items() if count == 0]
        if never and self.calls:
            others = f" ({counted(len(never) - 1, 'other site')} neither)" if len(never) > 1 else ""
            calls = counted(self.calls, "forward call")
            raise InterventionError(
                f"{never[0]} was never changed in {calls}{others}. The model ran {self.came()}; "
                "blocks that a cache or skip_layers leaves out cannot be changed."
            )
        if never:
            raise InterventionError(
                "Nothing was changed: the transformer did not run inside the with-block. Call the model there."
            )


def _wants_where(fn: Intervention) -> bool:
    """Whether a function needs the place as its second argument."""
    try:
        inspect.signature(fn).bind(None)
    except (TypeError, ValueError) as error:  # it lacks an argument; a built-in function may not say
        return isinstance(error, TypeError)
    return False


def _without_where(fn: Intervention) -> Intervention:
    return lambda values, where: fn(values)  # noqa: ARG005
