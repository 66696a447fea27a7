"""Capture hidden states while a model runs: ``with ditlens.capture(model, sites) as cache``."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ditlens.arguments import one_of, shown, takes
from ditlens.errors import BudgetError, CaptureError
from ditlens.lens.adapters.adapter import Port, SoftmaxPort
from ditlens.lens.attention import AttentionRecord, Tap
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache, smaller_settings
from ditlens.lens.calls import SKIP, UNCOND, Call, Moment, wants
from ditlens.lens.hooks import Session
from ditlens.lens.selection import (
    REDUCE,
    Passes,
    Reducer,
    Steps,
    Tokens,
    check_tokens,
    reducer,
    row_index,
    size_of,
)
from ditlens.lens.site import Site, select
from ditlens.lens.spans import word_finder
from ditlens.lens.transfers import PinnedBuffers, cuda_buffers
from ditlens.models.loading import DEVICE, DTYPE, pick_device
from ditlens.tables import counted, human

FORGOTTEN = "write `with ditlens.capture(...) as cache:`, run the model in that block, and use cache"


class capture(Session):  # lower case like torch.no_grad: a verb behind `with`
    """Capture hidden states of every forward call inside a ``with`` block.

    Capturing changes nothing: the model's output is the same bit for bit. Interventions that run at the same time
    (`ditlens.intervene`) are seen, whichever ``with`` comes first.

    >>> with dl.capture(model, "joint.*.image.out", steps=[0, 2]) as cache:
    ...     image = model.generate("a portrait with a big smile", seed=0)
    >>> cache
    LatentCache: 2 sites, 1 image, 66 kB
    site               shape        steps  pass  size
    -----------------  -----------  -----  ----  -----
    joint.0.image.out  1 x 64 x 64  0, 2   cond  33 kB
    joint.1.image.out  1 x 64 x 64  0, 2   cond  33 kB
    >>> cache["joint.1.image.out", 2].shape  # images, tokens, width
    torch.Size([1, 64, 64])

    Args:
        model: A `ditlens.Model`, a diffusers pipeline, or a transformer of a class with joint attention.
        sites: Patterns, see `ditlens.lens.site`; ``ditlens.sites(model)`` lists them. By default what leaves
            the blocks, text and image, where there is such a stream.
        steps: Which steps of a sampling loop: numbers, a slice, or None for all.
        passes: Which guidance passes: "cond", "uncond", "skip", "perturbed"; in an edit "source", "target" and
            "uncond", which is kept as "uncond.source" and "uncond.target" where one call guides both sides. The
            source text at the target's point, which FlowSlider and FlowAlign ask for too, is "source.target";
            "source" keeps it too. None for all. A pipeline that runs says which rows are which. Where your own code
            calls the transformer, `ditlens.labels.announce` says it; all rows of a transformer that was given
            without a pipeline count as "cond".
        tokens: Numbers of the tokens to keep, by stream, e.g. ``{"text": [4, 5]}``.
        reduce: What to keep of the tokens: ``"sketch:64"`` (a fixed random projection of their width to 64),
            ``"mean"`` (over all tokens, which hides what lies in one place), or a function of (values, mask). The
            mean leaves padding out where it is known: from a
            `ditlens.Model`, from a mask among the arguments of the transformer, or from the way in which the
            transformer lays out its tokens. The stock pipelines of SD3 and FLUX, for example, pass no mask: there
            every text token counts, and so it does for the model. The mask is None where it is unknown.
        heads: ``"mean"`` or ``"all"``, for attention maps.
        dtype: Number format to keep; the model's own by default.
        device: Where to keep the tensors.
        limit: Most memory that the cache may take, e.g. ``"2 GB"``.

    Yields:
        The `LatentCache` that fills with copies, which carry no gradients, at the end of each forward call; what a
            call that raised gave is left out. From a GPU the last values arrive when the ``with`` block ends: read
            them after it. The end warns of values that are not finite, and of passes and steps that were asked for,
            one by one, and never came.

    Raises:
        SiteError: If a pattern fits no site; the message says why.
        ArchitectureError: If the model has no joint attention that ditlens knows.
        SettingError: If steps, passes, tokens, heads, reduce or limit cannot be used; numbers of tokens are checked
            in the run.
        CaptureError: At the end, if nothing came or fewer than the forward calls should have given. At the
            beginning and in a call, if a step cache or a layer skip of diffusers is on.
        BudgetError: As soon as the limit is reached; the message names smaller choices.
    """

    @takes(reduce=REDUCE, heads=one_of("mean", "all"), dtype=DTYPE, device=DEVICE)
    def __init__(
        self,
        model: Any,
        sites: str | Iterable[str] = "*.*.*.out",
        *,
        steps: Steps = None,
        passes: Passes = "cond",
        tokens: Tokens = None,
        reduce: str | Reducer | None = None,
        heads: str = "mean",
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        limit: str | float = "1 GB",
    ) -> None:
        super().__init__(model, steps, passes, tokens)
        self.sites = select(sites, self.adapter.sites, self.adapter.absent)
        self.reducer, reduced = reducer(reduce)
        self.heads, self.dtype, self.device, self.limit = heads, dtype, pick_device(device), size_of(limit)
        self.cache = LatentCache(tokens=self.tokens, reduced=reduced, spans=word_finder(self.pipe))
        self._parts: dict[CacheKey, dict[int, Tensor]] = {}  # one part for each run
        self._new: dict[
            CacheKey, tuple[Tensor, list[int]]
        ] = {}  # of the running call, and the rows of its batch
        self._new_fires: Counter[str] = Counter()
        self._starts: dict[int, Moment] = {}  # when the sampling loop of each run began
        self._broken: Moment | None = None  # when a sampling loop began of which a call raised
        self._rows: dict[int, int] = {}  # images of each run
        self._prompts: dict[tuple[int, int], str] = {}
        self._masks: dict[str, dict[int, Tensor]] = {}
        self._bytes = 0
        self._fires: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._buffers: dict[torch.device, PinnedBuffers] = {}

    def title(self) -> str:
        return f"capture of {counted(len(self.sites), 'site')}"

    def __enter__(self) -> LatentCache:
        super().__enter__()
        return self.cache

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        ended = "an error" if kind is None else kind.__name__
        self.cache.flaw = f"Its with-block ended with {ended}"  # unless the checks at the end find nothing
        super().__exit__(kind, error, trace)
        self.cache.flaw = "" if kind is None else self.cache.flaw

    def __repr__(self) -> str:
        return f"<{self.title()}; {FORGOTTEN}>"

    def __getitem__(self, key: object) -> Tensor:
        raise CaptureError(f"This is the capture, not its cache: {FORGOTTEN}.")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in {*dir(LatentCache), *LatentCache.__dataclass_fields__}:
            raise CaptureError(f"This is the capture, not its cache, which has {name!r}: {FORGOTTEN}.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # --- hooks ---------------------------------------------------------------------------------------

    def place_hooks(self) -> None:
        softmax: defaultdict[nn.Module, list[SoftmaxPort]] = defaultdict(list)
        for site in self.sites:
            port = self.adapter.port(site)
            self.watch(port.block)
            if isinstance(port, SoftmaxPort):
                softmax[port.module].append(port)
            else:
                self.on(port.module, partial(self._read_port, port), before=port.before)
        for module, ports in softmax.items():
            self.tap(module, partial(self._new_tap, module), partial(self._read_softmax, ports))

    def _read_port(self, port: Port, _: Any, args: Any, kwargs: Any, output: Any = None) -> None:
        call = self.call
        if call is None or id(port.module) in call.replaced:  # None: again, in the backward pass
            return
        if port.due(call):
            self._take(port.site, call, lambda: port.read(args, kwargs, output, call))

    def _new_tap(self, module: nn.Module) -> Tap | None:
        return None if self.call is None or id(module) in self.call.replaced else Tap()

    def _read_softmax(self, ports: list[SoftmaxPort], tap: Tap, output: Any) -> None:
        call = self.call
        if call is not None and output is not None:  # None: the attention raised
            for port in ports:
                self._take(port.site, call, partial(AttentionRecord(port, call, tap.calls).read, self.heads))

    # --- keeping values ------------------------------------------------------------------------------

    @torch.no_grad()  # also of the reducer: else a checkpointed block would save more than its recomputation
    def _take(self, site: Site, call: Call, read: Callable[[], Tensor]) -> None:
        self._new_fires[str(site)] += 1
        if not self.wants_step(call.step):
            return
        wanted = [pass_ for pass_ in dict.fromkeys(call.passes) if wants(self.passes, pass_)]
        if not wanted:
            return
        value = read()
        whole = len(value) == call.batch
        for pass_ in wanted:
            rows = call.rows(pass_)
            self._keep(site, call, pass_, value[row_index(rows)] if whole else value, rows)

    def _keep(self, site: Site, call: Call, pass_: str, value: Tensor, rows: list[int]) -> None:
        real = self.adapter.mask(site, call, value.shape[1])
        mask = real if real is None or len(real) != call.batch else real[row_index(rows)]
        value, mask = self._chosen_tokens(site, value, mask)
        if self.reducer is not None and not site.point.startswith("attn.to_"):
            value = self._reduced(site, value, mask)
        key = CacheKey(str(site), call.step, pass_)
        if key in self._new or call.run in self._parts.get(key, ()):
            raise CaptureError(
                f"{key.site} came twice at step {call.step} ({pass_}) of one run. A block that runs twice in one "
                "forward call cannot be captured."
            )
        self._new[key] = self._own(value), rows
        self._bytes += self._new[key][0].nbytes
        if self._bytes > self.limit:
            raise BudgetError(self._over())

    def _commit(self, call: Call) -> None:
        """Keep what came in a call that has ended."""
        for key, (value, _) in self._new.items():
            self._parts.setdefault(key, {})[call.run] = value
            self._rows[call.run] = max(self._rows.get(call.run, 0), len(value))
            self.cache.tensors.setdefault(key, value)  # the first run; `_assemble` adds the others
        if self._new and (call.grid is not None or call.run not in self.cache.grids):
            self.cache.grids[call.run] = call.grid
        for pass_, rows in {key.pass_: rows for key, (_, rows) in self._new.items()}.items():
            for at, row in enumerate(rows):
                if row < len(call.prompts) and not wants((UNCOND,), pass_):
                    self._prompts[call.run, at] = call.prompts[row]
            masks = self._masks.setdefault(pass_, {})
            if call.mask is not None and call.run not in masks:
                masks[call.run] = call.mask[
                    row_index(rows)
                ]  # stays on its device: a copy would wait for the GPU
        self._fires += self._new_fires
        self._new, self._new_fires = {}, Counter()

    def aborted(self, call: Call) -> None:
        super().aborted(call)
        self._bytes -= sum(value.nbytes for value, _ in self._new.values())
        self._new, self._new_fires = {}, Counter()
        if call.run in self._starts:
            self._broken = self._starts[call.run]

    def _drop(self, start: Moment) -> None:
        """Forget the runs of a sampling loop."""
        for run in [run for run, began in self._starts.items() if began is start]:
            del self._starts[run]
            self._rows.pop(run, None)
            self.cache.grids.pop(run, None)
            for masks in self._masks.values():
                masks.pop(run, None)
            for key, parts in list(self._parts.items()):
                self._bytes -= parts.pop(run).nbytes if run in parts else 0
                if parts:
                    self.cache.tensors[key] = parts[min(parts)]
                else:
                    del self._parts[key], self.cache.tensors[key]

    def _chosen_tokens(self, site: Site, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The tokens that were asked for, of an attention map also those it leads to; and their mask."""
        numbers = self.tokens.get(site.stream)
        if site.point.startswith("attn.to_"):
            keys = self.tokens.get(site.point.removeprefix("attn.to_"))
            value = value if numbers is None else value[..., check_tokens(numbers, value.shape[-2]), :]
            value = value if keys is None else value[..., check_tokens(keys, value.shape[-1])]
        elif numbers is not None:
            value = value[:, check_tokens(numbers, value.shape[1])]
            mask = None if mask is None else mask[:, numbers]
        return value, mask

    def _reduced(self, site: Site, value: Tensor, mask: Tensor | None) -> Tensor:
        assert self.reducer is not None
        found = self.reducer(value, mask)
        if not isinstance(found, Tensor) or found.shape[:1] != value.shape[:1]:
            raise CaptureError(
                f"The function in reduce= gave a value that is {shown(found)}, from values of the shape "
                f"{tuple(value.shape)} at {site}: it must return a tensor with as many rows."
            )
        return found

    def _own(self, value: Tensor) -> Tensor:
        """A copy that shares nothing with the model; from a GPU it travels while the model continues."""
        dtype = self.dtype or value.dtype
        with torch.inference_mode(False), torch.no_grad():  # ordinary tensors, whatever the run's mode is
            if not value.is_cuda or self.device.type != "cpu":
                return value.to(self.device, dtype, copy=True).contiguous()
            if value.device not in self._buffers:
                self._buffers[value.device] = cuda_buffers(value.device)
            return self._buffers[value.device].send(value.to(dtype, copy=True).contiguous())

    def _over(self) -> str:
        now = {key: parts[min(parts)] for key, parts in self._parts.items()}
        now |= {key: value for key, (value, _) in self._new.items()}
        hints = [
            f"{setting} ({human(share * self.limit)} for as much)"
            for setting, share in smaller_settings(now, reduced=bool(self.cache.reduced)).items()
        ]
        when = f"after {counted(self.calls, 'forward call')}" if self.calls else "in its first forward call"
        return (
            f"This capture has reached its limit of {human(self.limit)} {when}. Smaller: "
            f"{'; '.join(hints)}; or limit={human(4 * self.limit)!r}. ditlens.estimate says before how much it "
            "will be. Larger than memory: The command ditlens capture streams to disk."
        )

    # --- the end -------------------------------------------------------------------------------------

    def ended(self, call: Call, output: Any) -> None:
        super().ended(call, output)
        start, broken, self._broken = self.clock.start, self._broken, None
        if broken is not None and broken is not start and broken.time == start.time:
            self._drop(broken)  # it is being repeated from its beginning
        self._starts.setdefault(call.run, start)
        self._commit(call)
        if set(call.passes) == {SKIP} or call.replaced:  # guidance leaves blocks out on purpose
            self._skipped += self._missing()

    def _missing(self) -> Counter[str]:
        """Sites that came less often than the transformer ran, and how much less."""
        return Counter(dict.fromkeys(map(str, self.sites), self.calls)) - self._fires - self._skipped

    def finish(self) -> None:
        """Wait for copies, put runs together and check that everything came.

        Raises:
            CaptureError: If not.
        """
        for buffers in self._buffers.values():
            buffers.drain()
        if self.calls == 0:
            raise CaptureError(
                "Nothing was captured: the transformer did not run inside the with-block. Call the model there; "
                "if you did, it was another object than the one given to capture (a copy, or a reloaded pipeline), "
                "or its forward() was called directly, which runs no hooks."
            )
        if short := self._missing():
            site, n = next(iter(short.items()))
            raise CaptureError(
                f"{len(short)} of {len(self.sites)} sites came less often than the transformer ran, e.g. {site} "
                f"missed {n} of {self.calls} calls: skip_layers, a step cache, layer dropping, fused projections "
                "or a compiled copy leave it out. Turn that off, or choose other sites."
            )
        if not self._parts:
            raise CaptureError(
                f"The transformer ran {counted(self.calls, 'time')}, but never with the steps and passes that were "
                f"asked for. It ran {self.came()}: ask for some of these."
            )
        self._assemble()
        self.warn_of_nan()
        self.warn_of_break()

    def warn_of_break(self) -> None:
        """Name a sampling loop that broke off."""
        if self._broken is not None:
            warnings.warn(
                "A forward call raised, and its sampling loop did not go on: the capture holds the steps before. "
                "Repeat the step or the loop inside the with-block.",
                stacklevel=4,
            )

    def warn_of_nan(self) -> None:
        """Name the first site, in forward order, whose values are not finite."""
        order = {site: k for k, site in enumerate(self.cache.sites)}
        for key in sorted(self.cache.tensors, key=lambda key: (key.step, order[key.site])):
            value = self.cache.tensors[key]
            if value.dtype.itemsize > 1 and not all_finite(value):
                warnings.warn(
                    f"{key.site} has values that are not finite from step {key.step} on ({key.pass_}). In float16 "
                    "that is an overflow: load the model in bfloat16 or float32.",
                    stacklevel=4,
                )
                return

    def _assemble(self) -> None:
        """Join the runs, and note which image every row belongs to and which text tokens are real."""
        runs = sorted(self._rows)
        if len(runs) > 1:
            for key, parts in self._parts.items():
                self.cache.tensors[key] = _joined(key, parts, runs)
                parts.clear()
        self.cache.items[:] = [
            CachedItem(run, row, self._prompts.get((run, row), ""))
            for run in runs
            for row in range(self._rows[run])
        ]
        for pass_, masks in self._masks.items():
            if set(masks) == set(runs) and len({m.shape[1] for m in masks.values()}) == 1:
                self.cache.masks[pass_] = torch.cat([masks[run] for run in runs]).cpu()


def _joined(key: CacheKey, parts: Mapping[int, Tensor], runs: Sequence[int]) -> Tensor:
    """The values of all runs, one after the other.

    Raises:
        CaptureError: If a run lacks this site, step or pass, or has another shape there.
    """
    absent = [run for run in runs if run not in parts]
    if absent:
        raise CaptureError(
            f"{key.site} at step {key.step} ({key.pass_}) is missing for {len(absent)} of {len(runs)} runs, which "
            "have different numbers of steps or passes. Capture them one by one."
        )
    shapes = sorted({tuple(parts[run].shape[1:]) for run in runs})
    if len(shapes) > 1:
        raise CaptureError(
            f"{key.site} has several shapes in these runs, {shapes}: capture them one by one, or use reduce='mean'."
        )
    return torch.cat([parts[run] for run in runs])


def all_finite(value: Tensor) -> bool:
    """Whether no value is infinite or NaN.

    One such value makes the sum so, and a sum is many times faster; where it overflows, every value is looked at.
    """
    total = value.sum(dtype=torch.promote_types(value.dtype, torch.float32))
    return bool(total.isfinite()) or bool(value.isfinite().all())
