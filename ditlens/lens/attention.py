"""What happens inside the joint softmax: queries, keys, values and attention maps.

Every attention of diffusers ends in ``F.scaled_dot_product_attention``. A `Tap` is switched on while one attention
module runs and sees the call's arguments: after projection, normalisation, rotation and joining. No processor is
replaced, so what the model computes is bit for bit the same.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ditlens.errors import CaptureError
from ditlens.lens.adapters.adapter import SoftmaxPort
from ditlens.lens.adapters.layouts import Rows
from ditlens.lens.calls import Call
from ditlens.lens.site import STREAMS

Maps: TypeAlias = Float[Tensor, "batch heads queries keys"]
"""Rows of the softmax."""
ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
LETTERS = {"q": "query", "k": "key", "v": "value"}


@dataclass(eq=False)
class SoftmaxCall:
    """Arguments of one call of the softmax; see `torch.nn.functional.scaled_dot_product_attention`."""

    query: Float[Tensor, "batch heads queries channels"]
    key: Float[Tensor, "batch key_heads keys channels"]
    value: Float[Tensor, "batch key_heads keys value_channels"]
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


class Tap:
    """Records the joint softmax of one attention module while it runs, and may change its arguments.

    Args:
        change: Gets and returns a `SoftmaxCall`; None only records.
    """

    def __init__(self, change: Callable[[SoftmaxCall], SoftmaxCall] | None = None) -> None:
        self.calls: list[SoftmaxCall] = []
        self.change = change

    def switch_on(self, module: torch.nn.Module) -> None:
        """Begin to record the softmax calls of a module that starts to run."""
        self.module, self.place = id(module), (threading.get_ident(), id(module))
        if self.place not in WATCHES:
            WATCHES[self.place] = Watch()
            WATCHES[self.place].__enter__()
        WATCHES[self.place].taps.append(self)

    def switch_off(self) -> None:
        """Stop recording; what was recorded stays."""
        watch = WATCHES[self.place]
        watch.taps.remove(self)
        if not watch.taps:
            del WATCHES[self.place]
            watch.__exit__(None, None, None)

    def see(self, seen: SoftmaxCall) -> SoftmaxCall:
        """Record a call; change the first one, the joint softmax, but not an IP-adapter's second one."""
        if self.change is not None and not self.calls:
            seen = self.change(seen)
        self.calls.append(seen)
        return seen


class Watch(TorchFunctionMode):
    """Hands the softmax calls of one running module to its taps, in the order in which they were switched on.

    All taps share one mode: PyTorch would ask several modes in the opposite order, and captures would then not see
    what interventions changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taps: list[Tap] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        named = dict(zip(ARGUMENTS, args, strict=False)) | (kwargs or {})
        seen = SoftmaxCall(**named)
        for tap in self.taps:
            seen = tap.see(seen)
        return func(**(named | {name: getattr(seen, name) for name in LETTERS.values()}))


WATCHES: dict[tuple[int, int], Watch] = {}
"""Attention modules that run now, by thread and identity: modes of PyTorch are those of one thread."""


def probabilities(call: SoftmaxCall, heads: slice, queries: Rows | None) -> Maps:
    """Rows of the softmax over all keys, in float32.

    Args:
        call: The call.
        heads: Which heads.
        queries: Which queries; None for all.
    """
    q, k = call.query, call.key
    if k.shape[1] != q.shape[1]:  # grouped queries share keys
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    q, k = q[:, heads].float(), k[:, heads].float()
    scale = call.scale if call.scale is not None else 1 / math.sqrt(q.shape[-1])
    scores = q @ k.transpose(-1, -2) * scale
    if call.is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    mask = call.attn_mask
    if mask is not None:
        if mask.ndim == 4 and mask.shape[1] > 1:
            mask = mask[:, heads]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()
    rows = scores.softmax(-1).nan_to_num(0.0)  # a query that may look nowhere
    return rows if queries is None else along(rows, queries, 2)


def along(x: Float[Tensor, "batch heads _ _"], rows: Rows, axis: int) -> Float[Tensor, "batch heads _ _"]:
    """Select tokens along axis 2 or 3."""
    if isinstance(rows.index, slice):
        return x[(slice(None),) * axis + (rows.index,)]
    pattern = {2: "batch tokens -> batch 1 tokens 1", 3: "batch tokens -> batch 1 1 tokens"}[axis]
    return x.take_along_dim(rearrange(rows.index.to(x.device), pattern), axis)


def toward_keys(p: Maps, keys: dict[str, Rows], toward: str) -> Float[Tensor, "batch heads queries stream"]:
    """Columns of the softmax that lead to a stream; to "other" tokens: what is left, as one column."""
    if toward != "other":
        found = along(p, keys[toward], 3)
        mask = keys[toward].mask
        return found if mask is None else found * mask.to(found)[:, None, None]
    known = torch.stack([toward_keys(p, keys, stream).sum(-1) for stream in keys if stream in STREAMS]).sum(0)
    return (p.sum(-1) - known).unsqueeze(-1)


@dataclass(eq=False)
class AttentionRecord:
    """What one attention module computed in one forward call.

    Attributes:
        port: Which stream and point.
        call: The forward call.
        softmax: The calls of the softmax that a `Tap` recorded.
    """

    port: SoftmaxPort
    call: Call
    softmax: Sequence[SoftmaxCall] = field(repr=False)

    def read(self, heads: str = "mean") -> Float[Tensor, "batch ..."]:
        """The site's value.

        Args:
            heads: ``"mean"`` averages attention maps over heads, ``"all"`` keeps them.

        Returns:
            q, k, v: (batch, tokens, heads * channels). Maps: (batch, queries, keys), or with all heads
            (batch, heads, queries, keys).

        Raises:
            CaptureError: If the attention did not call PyTorch's softmax.
        """
        if not self.softmax:
            raise CaptureError(
                f"{self.port.site} cannot be read: an attention backend (flash, sage, xformers, flex) or a cache "
                "replaces PyTorch's scaled_dot_product_attention. Call transformer.set_attention_backend('native') "
                "and transformer.disable_cache()."
            )
        point = self.port.site.point
        if point in LETTERS:
            value = self._letter(LETTERS[point])
            return merge_heads(along(value, self.port.place(point, value.shape[2], self.call), 2))
        return self._map(point.removeprefix("attn.to_"), heads)

    def _letter(self, name: str) -> Tensor:
        parts = [getattr(call, name) for call in self.softmax]
        calls = self.port.block.table.calls
        if calls == "per item":
            longest = max(x.shape[2] for x in parts)
            return torch.cat([F.pad(x, (0, 0, 0, longest - x.shape[2])) for x in parts])
        if calls == "per segment":
            return torch.cat(parts, 2) if name == "query" else parts[-1]
        return parts[0]  # an IP-adapter asks a second time, for its own keys

    def _map(self, toward: str, heads: str) -> Tensor:
        calls = self.port.block.table.calls
        if calls == "per segment":
            return self._segments(toward, heads)
        softmax = self.softmax if calls == "per item" else self.softmax[:1]
        items = [self._over_heads(each, toward, heads) for each in softmax]
        rows, columns = (max(x.shape[axis] for x in items) for axis in (-2, -1))
        return torch.cat([F.pad(x, (0, columns - x.shape[-1], 0, rows - x.shape[-2])) for x in items])

    def _over_heads(self, softmax: SoftmaxCall, toward: str, heads: str) -> Tensor:
        keys = self.port.keys(softmax.key.shape[2], self.call)
        queries = self.port.place("q", softmax.query.shape[2], self.call)
        if heads == "all":
            return toward_keys(probabilities(softmax, slice(None), queries), keys, toward)
        total: Any = 0
        count = softmax.query.shape[1]
        for head in range(count):  # one at a time: those of a large image do not fit into memory together
            p = probabilities(softmax, slice(head, head + 1), queries)
            total = total + toward_keys(p, keys, toward)[:, 0]
        return total / count

    def _segments(self, toward: str, heads: str) -> Tensor:
        total = self.softmax[-1].key.shape[2]
        rows = []
        for call in self.softmax:
            p = probabilities(call, slice(None), None)
            p = p if heads == "all" else p.mean(1, keepdim=True)
            rows.append(F.pad(p, (0, total - p.shape[-1])))
        full = torch.cat(rows, 2)
        queries = self.port.place("q", full.shape[2], self.call)
        found = toward_keys(along(full, queries, 2), self.port.keys(total, self.call), toward)
        return found if heads == "all" else found[:, 0]


def merge_heads(x: Float[Tensor, "batch heads tokens channels"]) -> Float[Tensor, "batch tokens width"]:
    """Lay the channels of all heads side by side."""
    return rearrange(x, "batch heads tokens channels -> batch tokens (heads channels)")


def change_stream(
    seen: SoftmaxCall, port: SoftmaxPort, call: Call, fn: Callable[[Tensor], Tensor | None]
) -> SoftmaxCall:
    """Change queries, keys or values of one stream before the softmax.

    Args:
        seen: Arguments of the softmax.
        port: The site.
        call: The forward call.
        fn: Gets and returns (batch, tokens, heads * channels); None to leave them.
    """
    name = LETTERS[port.site.point]
    whole = getattr(seen, name)
    rows = port.place(port.site.point, whole.shape[2], call)
    joint = merge_heads(whole)
    new = fn(rows.take(joint))
    if new is None:
        return seen
    split = "batch tokens (heads channels) -> batch heads tokens channels"
    return SoftmaxCall(**(vars(seen) | {name: rearrange(rows.put(joint, new), split, heads=whole.shape[1])}))
