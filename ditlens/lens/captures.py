"""Capture hidden states while a model runs: ``with ditlens.capture(model, sites) as cache``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from ditlens.errors import BudgetError, CaptureError, SettingError
from ditlens.lens.adapters.adapter import Port, SoftmaxPort
from ditlens.lens.attention import Seen, Tap
from ditlens.lens.cache import CachedItem, CacheKey, LatentCache
from ditlens.lens.calls import SKIP, UNCOND, Call, wants
from ditlens.lens.hooks import Session
from ditlens.lens.selection import (
    Reducer,
    all_finite,
    choices,
    index_of,
    known,
    names_of,
    numbers_of,
    reducer,
    reducer_name,
    size_of,
    step_filter,
)
from ditlens.lens.site import Site, select
from ditlens.lens.spans import word_finder
from ditlens.lens.transfers import PinnedBuffers, cuda_buffers
from ditlens.tables import human


def capture(
    model: Any,
    sites: str | Iterable[str] = "*.*.*.out",
    *,
    steps: Iterable[int] | slice | int | None = None,
    passes: str | Iterable[str] | None = "cond",
    tokens: Mapping[str, Sequence[int]] | None = None,
    reduce: str | Reducer | None = None,
    heads: str = "mean",
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    limit: str | float = "1 GB",
) -> Capture:
    """Capture hidden states of every forward call inside a ``with`` block.

    Capturing changes nothing: the model's output is the same bit for bit. Interventions that run at the same time
    (`ditlens.intervene`) are seen, whichever ``with`` comes first.

    Args:
        model: A `ditlens.Model`, a diffusers pipeline, or a transformer of a class with joint attention.
        sites: Patterns, see `ditlens.lens.site`; ``ditlens.sites(model)`` lists them. By default what leaves
            the blocks, text and image, where there is such a stream.
        steps: Which steps of a sampling loop: numbers, a slice, or None for all.
        passes: Which guidance passes: "cond", "uncond", "skip"; in an edit "source", "target" and "uncond", which
            is kept as "uncond.source" and "uncond.target" where one call guides both sides. The source text at the
            target's point, which FlowSlider and FlowAlign ask for too, is "source.target"; "source" keeps it too.
            None for all. The rows of a bare transformer's batch all count as "cond".
        tokens: Numbers of the tokens to keep, by stream, e.g. ``{"text": [4, 5]}``.
        reduce: What to keep of the tokens: ``"mean"``, ``"sketch:64"`` (a fixed random projection of the width to
            64), or a function of (values, mask). The mean leaves padding out where it is known: from a
            `ditlens.Model`, from a mask among the arguments of the transformer, or from the way in which the
            transformer lays out its tokens. The stock pipelines of SD3 and FLUX, for example, pass no mask: there
            every text token counts, and so it does for the model. The mask is None where nobody knows.
        heads: ``"mean"`` or ``"all"``, for attention maps.
        dtype: Number format to keep; the model's own by default.
        device: Where to keep the tensors.
        limit: Most memory that the cache may take, e.g. ``"2 GB"``.

    Returns:
        A context manager; it yields the `LatentCache` that fills. From a GPU the last values arrive when the
            ``with`` block ends: read them after it. The end warns of values that are not finite, and of a pass that
            was asked for and never came.

    Raises:
        SiteError: If a pattern fits no site; the message says why.
        ArchitectureError: If the model has no joint attention that ditlens knows.
        SettingError: If steps, tokens, heads, reduce or limit cannot be used; numbers of tokens are checked in the
            run.
        CaptureError: At the end, if nothing came or fewer than the forward calls should have given.
        BudgetError: As soon as the limit is reached; the message names smaller choices.
    """
    return Capture(model, sites, steps, passes, tokens, reduce, heads, dtype, device, limit)


class Capture(Session):
    """The context manager behind `capture`."""

    def __init__(
        self,
        model: Any,
        sites: str | Iterable[str],
        steps: Iterable[int] | slice | int | None = None,
        passes: str | Iterable[str] | None = "cond",
        tokens: Mapping[str, Sequence[int]] | None = None,
        reduce: str | Reducer | None = None,
        heads: str = "mean",
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        limit: str | float = "1 GB",
    ) -> None:
        super().__init__(model)
        self.sites = select(sites, self.adapter.sites, self.adapter.absent)
        self.wants_step = step_filter(steps)
        self.passes, self.tokens = names_of(passes), numbers_of(tokens)
        if heads not in ("mean", "all"):
            raise SettingError(f"heads is {heads!r}; choose 'mean' or 'all'.")
        self.reducer, self.heads, self.dtype = reducer(reduce), heads, dtype
        self.device, self.limit = torch.device(device), size_of(limit)
        self.cache = LatentCache(
            tokens=self.tokens, reduced=reducer_name(reduce), spans=word_finder(self.pipe)
        )
        self._parts: dict[CacheKey, dict[int, torch.Tensor]] = {}
        self._fires: dict[str, int] = {}
        self._skipped: dict[str, int] = {}
        self._came: set[str] = set()
        self._bytes = 0
        self._rows: dict[int, int] = {}
        self._prompts: dict[tuple[int, int], str] = {}
        self._masks: dict[str, dict[int, torch.Tensor]] = {}
        self._buffers: dict[torch.device, PinnedBuffers] = {}

    def title(self) -> str:
        return f"capture of {len(self.sites)} sites"

    def __enter__(self) -> LatentCache:
        super().__enter__()
        return self.cache

    # --- hooks ---------------------------------------------------------------------------------------

    def place(self) -> None:
        taps: dict[int, list[tuple[Site, SoftmaxPort]]] = {}
        for site in self.sites:
            port = self.adapter.port(site)
            block = self.block_of(port)
            if block is not None:
                self.watch(block)
            if isinstance(port, SoftmaxPort):
                taps.setdefault(id(port.module), []).append((site, port))
            else:
                self.on(port.module, self._reader(site, port), before=port.before)
        for group in taps.values():
            self._place_tap(group)

    def _reader(self, site: Site, port: Port) -> Callable[..., None]:
        def read(module: Any, args: Any, kwargs: Any, output: Any = None) -> None:  # noqa: ARG001
            call = self.call
            if call is not None:  # None: a recomputation in the backward pass
                self._take(site, call, lambda: port.read(args, kwargs, output, call))

        return read

    def _place_tap(self, group: list[tuple[Site, SoftmaxPort]]) -> None:
        def done(tap: Tap, output: Any) -> None:
            call = self.call
            if call is None or output is None:  # the attention raised
                return
            for site, port in group:
                self._take(site, call, partial(self._seen, port, call, tap))

        self.tap(group[0][1].module, lambda: Tap() if self.call is not None else None, done)

    def _seen(self, port: SoftmaxPort, call: Call, tap: Tap) -> torch.Tensor:
        return Seen(port, call, tap.calls).read(self.heads)

    # --- keeping -------------------------------------------------------------------------------------

    def _take(self, site: Site, call: Call, read: Callable[[], torch.Tensor]) -> None:
        name = str(site)
        self._fires[name] = self._fires.get(name, 0) + 1
        if not self.wants_step(call.step):
            return
        wanted = [pass_ for pass_ in dict.fromkeys(call.passes) if wants(self.passes, pass_)]
        if not wanted:
            return
        value = read()
        whole = len(value) == call.batch
        for pass_ in wanted:
            rows = call.rows(pass_)
            self._keep(site, call, pass_, value[index_of(rows)] if whole else value, rows)

    def _keep(self, site: Site, call: Call, pass_: str, value: torch.Tensor, rows: list[int]) -> None:
        real = self.adapter.mask(site, call, value.shape[1])
        mask = real if real is None or len(real) != call.batch else real[index_of(rows)]
        value, mask = self._some_tokens(site, value, mask)
        if self.reducer is not None and not site.point.startswith("attn.to_"):
            value = self.reducer(value, mask)
        key = CacheKey(str(site), call.step, pass_)
        parts = self._parts.setdefault(key, {})
        if call.run in parts:
            raise CaptureError(
                f"{key.site} came twice at step {call.step} ({pass_}) of one run. A block that runs twice in one "
                "forward call, or one that is recomputed, cannot be captured."
            )
        parts[call.run] = self._own(value)
        self._bytes += parts[call.run].nbytes
        if self._bytes > self.limit:
            raise BudgetError(self._over())
        self._rows[call.run] = max(self._rows.get(call.run, 0), len(value))
        if call.grid is not None or call.run not in self.cache.grids:
            self.cache.grids[call.run] = call.grid
        for at, row in enumerate(rows):
            if row < len(call.prompts) and not wants((UNCOND,), pass_):
                self._prompts[call.run, at] = call.prompts[row]
        masks = self._masks.setdefault(pass_, {})
        if call.mask is not None and call.run not in masks:
            masks[call.run] = call.mask[index_of(rows)]  # stays on its device: a copy would wait for the GPU
        # The first run's; `_assemble` adds the others.
        self.cache.tensors.setdefault(key, parts[call.run])

    def _some_tokens(
        self, site: Site, value: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if site.kind == "cond" or not self.tokens:
            return value, mask
        along_rows = self.tokens.get(site.stream)
        if site.point.startswith("attn.to_"):
            keys = self.tokens.get(site.point.removeprefix("attn.to_"))
            value = value if along_rows is None else value[..., known(along_rows, value.shape[-2]), :]
            return (value if keys is None else value[..., known(keys, value.shape[-1])]), mask
        if along_rows is None:
            return value, mask
        along_rows = known(along_rows, value.shape[1])
        return value[:, along_rows], None if mask is None else mask[:, along_rows]

    def _own(self, value: torch.Tensor) -> torch.Tensor:
        """A copy that shares nothing with the model; from a GPU it travels while the model goes on."""
        dtype = self.dtype or value.dtype
        with torch.inference_mode(False), torch.no_grad():  # ordinary tensors, whatever the run's mode is
            if value.is_cuda and self.device.type == "cpu":
                return self._buffers_for(value.device).send(value.to(dtype, copy=True).contiguous())
            return value.to(self.device, dtype, copy=True).contiguous()

    def _buffers_for(self, device: torch.device) -> PinnedBuffers:
        if device not in self._buffers:
            self._buffers[device] = cuda_buffers(device)
        return self._buffers[device]

    def _over(self) -> str:
        now = {key: parts[min(parts)] for key, parts in self._parts.items()}
        hints = [
            f"{setting} ({human(share * self.limit)} for as much)"
            for setting, share in choices(now, reduced=bool(self.cache.reduced)).items()
        ]
        return (
            f"This capture has reached its limit of {human(self.limit)} after {self.calls} forward calls. "
            f"Smaller: {'; '.join(hints)}; or limit={human(4 * self.limit)!r}. `ditlens.estimate` says before how "
            "much it will be. Larger than memory: `ditlens capture` streams to disk."
        )

    # --- the end -------------------------------------------------------------------------------------

    def ended(self, call: Call) -> None:
        self._came |= set(call.passes)
        if set(call.passes) == {SKIP}:  # skip-layer guidance leaves blocks out on purpose
            for site, missing in self._missing().items():
                self._skipped[site] = self._skipped.get(site, 0) + missing

    def _missing(self) -> dict[str, int]:
        """Sites that came less often than the transformer ran, and how much less."""
        short = {
            s: self.calls - self._fires.get(s, 0) - self._skipped.get(s, 0) for s in map(str, self.sites)
        }
        return {site: count for site, count in short.items() if count > 0}

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
                "if you did, it was another object than the one given to capture (a copy, or a reloaded pipeline)."
            )
        if short := self._missing():
            site, n = next(iter(short.items()))
            raise CaptureError(
                f"{len(short)} of {len(self.sites)} sites came less often than the transformer ran, e.g. {site} "
                f"missed {n} of {self.calls} calls. Its block was skipped (skip_layers, a step cache, layer "
                "dropping) or runs in a form whose modules are never called (fused projections, a compiled "
                "copy). Turn that off, or choose other sites."
            )
        if not self._parts:
            raise CaptureError(
                f"The transformer ran {self.calls} times, but never with the steps and passes that were asked "
                f"for. It ran the passes {', '.join(sorted(self._came))} in {self.clock.steps} steps: ask for some "
                "of these."
            )
        self._assemble()
        self._warn_of_nan()
        self._warn_of_passes()

    def _warn_of_passes(self) -> None:
        """Name a pass that was asked for and never came, where others did."""
        never = [name for name in self.passes or () if not any(wants((name,), came) for came in self._came)]
        if never:
            warnings.warn(
                f"The pass {never[0]!r} was asked for and never came: the run had {', '.join(sorted(self._came))}. "
                "Without guidance, and in a model that takes its guidance as a number (FLUX.1-dev), there is no "
                "'uncond'. Ask for what there is, passes=..., or for all, passes=None.",
                stacklevel=4,
            )

    def _warn_of_nan(self) -> None:
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
        runs = sorted(self._rows)
        for key, parts in self._parts.items():
            if len(parts) > 1 or len(runs) > 1:
                absent = [run for run in runs if run not in parts]
                if absent:
                    raise CaptureError(
                        f"{key.site} at step {key.step} ({key.pass_}) is missing for {len(absent)} of {len(runs)} "
                        "runs: they have different numbers of steps or passes. Capture them apart."
                    )
                shapes = {tuple(parts[run].shape[1:]) for run in runs}
                if len(shapes) > 1:
                    raise CaptureError(
                        f"{key.site} has different shapes in different runs ({sorted(shapes)}): capture pictures "
                        "of different sizes apart, or use reduce='mean'."
                    )
                self.cache.tensors[key] = torch.cat([parts[run] for run in runs])
                parts.clear()
        self.cache.items[:] = [
            CachedItem(run, row, self._prompts.get((run, row), ""))
            for run in runs
            for row in range(self._rows[run])
        ]
        for pass_, masks in self._masks.items():
            if set(masks) == set(runs) and len({m.shape[1] for m in masks.values()}) == 1:
                self.cache.masks[pass_] = torch.cat([masks[run] for run in runs]).cpu()
