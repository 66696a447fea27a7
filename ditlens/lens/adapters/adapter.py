"""A transformer together with its table: which sites it has, and how each is read and written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ditlens.errors import ArchitectureError, CaptureError, InterventionError
from ditlens.lens.adapters.layouts import LAYOUTS, Rows, find_grid, find_mask
from ditlens.lens.adapters.table import ARCHITECTURES, JOINT, NOT_JOINT, READ_ONLY, Architecture, Blocks
from ditlens.lens.calls import Call, bind
from ditlens.lens.site import POINTS, SOFTMAX_POINTS, STREAMS, Site

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def architecture_of(model: nn.Module) -> Architecture:
    """The table of a transformer, by the name of its class or of a class that it extends.

    Raises:
        ArchitectureError: If there is none; the message lists those that exist.
    """
    for each in type(model).__mro__:
        if each.__name__ in ARCHITECTURES:
            return ARCHITECTURES[each.__name__]
    name = type(model).__name__
    for reason, names in NOT_JOINT.items():
        if name in names.split():
            raise ArchitectureError(
                f"{name} has {reason}, so it has no text and image streams to look into. ditlens reads "
                "transformers with joint attention, such as SD3Transformer2DModel or FluxTransformer2DModel."
            )
    raise ArchitectureError(
        f"ditlens does not know the streams of {name}. Supported are: {', '.join(ARCHITECTURES)}. To add yours, "
        "write one ditlens.lens.adapters.table.Architecture (docs/how-to/add_an_architecture.md) and put it into "
        f"ditlens.lens.adapters.table.ARCHITECTURES[{name!r}]."
    )


def part(module: nn.Module, path: str) -> nn.Module:
    """A submodule by its dotted path."""
    return module.get_submodule(path) if path else module


def listed(model: nn.Module, path: str) -> list[nn.Module]:
    """The blocks at a path, or at several joined by ``+``."""
    found: list[nn.Module] = []
    for each in path.split("+"):
        module = part(model, each)
        members = list(module) if isinstance(module, nn.ModuleList) else [module]
        found += [m["block"] if isinstance(m, nn.ModuleDict) else m for m in members]  # type: ignore[misc]
    return found


@dataclass(frozen=True, eq=False)
class Block:
    """One block of a transformer.

    Attributes:
        table: What its class calls things.
        index: Number among the blocks of its kind.
        module: The block itself.
        last: Whether it is the last one of the model's list.
        textless: Whether its second stream is no text although its class has one.
    """

    table: Blocks
    index: int
    module: nn.Module
    last: bool
    textless: bool = False


class Adapter:
    """A transformer's sites.

    Attributes:
        model: The transformer.
        architecture: Its table.
        blocks: Its blocks by (kind, number).
        sites: Every site that exists, in forward order.
        absent: Sites that one might expect, with the reason why they do not exist.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.architecture = model, architecture_of(model)
        self.blocks: dict[tuple[str, int], Block] = {}
        for table in self.architecture.blocks:
            modules = listed(model, table.path)
            start = sum(kind == table.kind for kind, _ in self.blocks)
            # MotifVideo: the last blocks pair the image with an encoder's view of it instead of text
            decoders = getattr(getattr(model, "config", None), "num_decoder_layers", 0) or 0
            textless = decoders if table.kind == "single" and "Motif" in type(model).__name__ else 0
            for i, module in enumerate(modules):
                self.blocks[table.kind, start + i] = Block(
                    table, start + i, module, i == len(modules) - 1, i >= len(modules) - textless
                )
        self.sites: list[Site] = []
        self.absent: dict[str, str] = {}
        inner = [Site(*key, stream, point) for key in self.blocks for stream in STREAMS for point in POINTS]
        for site in [Site("cond"), *inner]:
            reason = self._missing(site)
            if reason:
                self.absent[str(site)] = reason
            else:
                self.sites.append(site)

    def _missing(self, site: Site) -> str:
        """Why a site does not exist; empty if it does."""
        if site.kind == "cond":
            return "" if self.architecture.cond else "timesteps enter this model as tokens"
        block = self.blocks[site.kind, site.block]
        table, text = block.table, site.stream == "text"
        if block.textless and text:
            return "the second stream of this block holds the image encoder's tokens, not text."
        if site.point == "mlp.out" and not mlp_of(block, site.stream):
            return "its feed-forward is fused with the attention, shared by both streams, or left out here."
        if text and table.form == "image" and site.point not in ("in", "k", "v"):
            return READ_ONLY.format(f"{site.kind}.{site.block}.text") + "."
        if text and site.point == "out" and block.last and table.last_text:
            return f"{table.last_text}. Its input is {site.kind}.{site.block}.text.in."
        if text and site.point == "attn.out" and block.last and table.last_text and table.calls == "per item":
            return f"{table.last_text}."
        if site.point == "attn.to_text" and block.textless:
            return "there is no text in this block."
        if site.point == "attn.to_other" and not self.architecture.others and not block.textless:
            return "every key of its attention is a text or image token."
        return ""

    def port(self, site: Site) -> Port | SoftmaxPort:
        """How to read and write a site."""
        if site.kind == "cond":
            return CondPort(self)
        block = self.blocks[site.kind, site.block]
        if site.point in ("in", "out"):
            return BlockPort(self, block, site)
        if site.point in SOFTMAX_POINTS:
            return SoftmaxPort(self, block, site)
        return PartPort(self, block, site)

    def note(self, block: Block, args: Args, kwargs: Kwargs, call: Call) -> None:
        """Learn the number of tokens of each stream, their grid and their padding, from a block's input."""
        bound = bind(block.module, args, kwargs)
        if block.table.form == "one":
            joint = self.batch_first(bound[block.table.image])
            for stream, rows in self.streams(call, bound, joint.shape[1]).items():
                index = rows.index
                call.sizes[stream] = index.stop - index.start if isinstance(index, slice) else index.shape[1]
        else:
            for stream, name in (("image", block.table.image), ("text", block.table.text)):
                call.sizes[stream] = self.batch_first(bound[name]).shape[1]
        if call.grid is None:
            call.grid = find_grid(self.architecture.grid, call)
        if call.mask is None:
            laid = self._laid_mask(call, "text")
            call.mask = find_mask(self.architecture.padding, call) if laid is None else laid

    def _laid_mask(self, call: Call, stream: str) -> torch.Tensor | None:
        """Which tokens of a stream the layout has not repeated to fill up short items; None if it repeats none."""
        masks = [rows[stream].mask for rows in call.memo.values() if stream in rows]
        return next((mask for mask in masks if mask is not None), None)

    def mask(self, site: Site, call: Call, tokens: int) -> torch.Tensor | None:
        """Which of the tokens at a site are real.

        Args:
            site: The site.
            call: The running call.
            tokens: Number of tokens that the site has.

        Returns:
            (batch, tokens), True at real tokens; None if all are, or if nobody knows.
        """
        mask = call.mask if site.stream == "text" else self._laid_mask(call, site.stream)
        if mask is None:
            return None
        inside = site.point in SOFTMAX_POINTS
        if inside and self.blocks[site.kind, site.block].table.calls == "per item":  # real tokens come first
            return torch.arange(tokens, device=mask.device) < mask.sum(1, keepdim=True)
        return mask if mask.shape[1] == tokens else None

    def streams(self, call: Call, bound: Mapping[str, Any], total: int) -> dict[str, Rows]:
        """Where the streams lie in a joint sequence of `total` tokens."""
        if total not in call.memo:
            rows = LAYOUTS[self.architecture.layout](call, bound, total)
            for stream, each in rows.items():
                index = each.index
                if isinstance(index, slice) and not 0 <= index.start <= index.stop <= total:
                    raise CaptureError(
                        f"The {stream} tokens of {type(self.model).__name__} should be tokens {index.start} to "
                        f"{index.stop} of {total}. This call is laid out in a way that ditlens does not know."
                    )
            call.memo[total] = rows
        return call.memo[total]

    def batch_first(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, width), whatever order the blocks use."""
        axes = self.architecture.axes
        return x.transpose(0, 1) if axes == "tokens" else x.unsqueeze(0) if axes == "none" else x

    def own_order(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `batch_first`."""
        axes = self.architecture.axes
        return x.transpose(0, 1) if axes == "tokens" else x.squeeze(0) if axes == "none" else x


def mlp_of(block: Block, stream: str) -> str:
    """Path of the feed-forward of a stream, or under "joint"; empty if the block has none of its own."""
    path = block.table.mlp.get(stream) or block.table.mlp.get("joint") or ""
    try:
        found = part(block.module, path) if path else None
    except AttributeError:
        found = None
    # A feed-forward called once for each stream cannot be told apart: EasyAnimate's layers without text weights
    both = set(block.table.mlp) == set(STREAMS)
    if (
        both
        and found is not None
        and not all(hasattr_path(block.module, p) for p in block.table.mlp.values())
    ):
        found = None if not block.table.last_text or stream == "text" else found
    return path if found is not None else ""


def hasattr_path(module: nn.Module, path: str) -> bool:
    """Whether a module has a submodule at `path`."""
    try:
        return module.get_submodule(path) is not None
    except AttributeError:
        return False


# --- ports -------------------------------------------------------------------------------------------------


class Port(ABC):
    """Reads and writes the tokens of one stream at one point.

    Attributes:
        module: Where to hook.
        block: The block that it belongs to; None for the conditioning vector.
        before: Whether before the module runs (its arguments) or after (its output).
    """

    module: nn.Module
    block: Block | None = None
    before = False

    @abstractmethod
    def read(self, args: Args, kwargs: Kwargs, output: Any, call: Call) -> torch.Tensor:
        """The stream's tokens, (batch, tokens, width)."""

    @abstractmethod
    def write(self, args: Args, kwargs: Kwargs, output: Any, call: Call, value: torch.Tensor) -> Any:
        """(args, kwargs) or the output, new, with the stream's tokens replaced."""


class BlockPort(Port):
    """A stream where it enters or leaves a block."""

    block: Block

    def __init__(self, adapter: Adapter, block: Block, site: Site) -> None:
        self.adapter, self.block, self.site = adapter, block, site
        self.module, self.before = block.module, site.point == "in"
        table = block.table
        self.name = table.image if table.form == "one" or site.stream == "image" else table.text

    def _joint(self, args: Args, kwargs: Kwargs, joint: torch.Tensor, call: Call) -> Rows:
        bound = bind(self.module, args, kwargs)
        return self.adapter.streams(call, bound, joint.shape[1])[self.site.stream]

    def read(self, args: Args, kwargs: Kwargs, output: Any, call: Call) -> torch.Tensor:
        raw = bind(self.module, args, kwargs)[self.name] if self.before else self._of(output)
        value = self.adapter.batch_first(raw)
        if self.block.table.form == "one":
            return self._joint(args, kwargs, value, call).take(value)
        return value

    def _of(self, output: Any) -> torch.Tensor:
        returns = self.block.table.returns
        return output if isinstance(output, torch.Tensor) else output[returns.index(self.site.stream)]

    def write(self, args: Args, kwargs: Kwargs, output: Any, call: Call, value: torch.Tensor) -> Any:
        if self.block.table.form == "one":
            raw = bind(self.module, args, kwargs)[self.name] if self.before else output
            joint = self.adapter.batch_first(raw)
            value = self._joint(args, kwargs, joint, call).put(joint, value)
        value = self.adapter.own_order(value)
        if self.before:
            if self.name in kwargs:
                return args, kwargs | {self.name: value}
            at = list(bind(self.module, args, {})).index(self.name)
            return (*args[:at], value, *args[at + 1 :]), kwargs
        if isinstance(output, torch.Tensor):
            return value
        at = self.block.table.returns.index(self.site.stream)
        return (*output[:at], value, *output[at + 1 :])

    def entering(self, args: Args, kwargs: Kwargs, call: Call) -> torch.Tensor:
        """The stream at the block's input, for a bypass."""
        value = self.adapter.batch_first(bind(self.module, args, kwargs)[self.name])
        if self.block.table.form == "one":
            return self._joint(args, kwargs, value, call).take(value)
        return value


class PartPort(Port):
    """A stream at the output of a block's attention or feed-forward."""

    block: Block

    def __init__(self, adapter: Adapter, block: Block, site: Site) -> None:
        self.adapter, self.block, self.site = adapter, block, site
        table = block.table
        if site.point == "attn.out":
            self.path, self.returns = table.attn, table.attn_returns
        else:
            own = site.stream in table.mlp
            self.path, self.returns = mlp_of(block, site.stream), (site.stream,) if own else JOINT
        self.module = part(block.module, self.path)

    def _flip(self) -> bool:
        # inside the attention the batch always comes first; unbatched models have no batch anywhere
        return self.site.point != "attn.out" or self.adapter.architecture.axes == "none"

    def _rows(self, total: int, call: Call) -> Rows:
        if self.block.table.form == "one":
            return self.adapter.streams(call, {}, total)[self.site.stream]
        return by_order(self.block.table.softmax, call)[self.site.stream]

    def read(self, args: Args, kwargs: Kwargs, output: Any, call: Call) -> torch.Tensor:
        if isinstance(output, tuple | list):
            output = output[self.returns.index(self.site.stream)]
        value = self.adapter.batch_first(output) if self._flip() else output
        return self._rows(value.shape[1], call).take(value) if self.returns == JOINT else value

    def write(self, args: Args, kwargs: Kwargs, output: Any, call: Call, value: torch.Tensor) -> Any:
        if self.returns == JOINT:
            joint = self.adapter.batch_first(output) if self._flip() else output
            value = self._rows(joint.shape[1], call).put(joint, value)
        value = self.adapter.own_order(value) if self._flip() else value
        if isinstance(output, torch.Tensor):
            return value
        at = self.returns.index(self.site.stream)
        return type(output)((*output[:at], value, *output[at + 1 :]))


class SoftmaxPort:
    """A stream inside the attention; `ditlens.lens.attention` reads it at the softmax."""

    def __init__(self, adapter: Adapter, block: Block, site: Site) -> None:
        self.adapter, self.block, self.site = adapter, block, site
        self.module = part(block.module, block.table.attn)

    def keys(self, total: int, call: Call) -> dict[str, Rows]:
        """Where the streams lie among `total` keys."""
        if self.block.table.form == "one":
            return self.adapter.streams(call, {}, total)
        found = by_order(self.block.table.softmax, call)
        return {"image": found["image"]} if self.block.textless else found

    def queries(self, total: int, call: Call) -> dict[str, Rows]:
        """Where the streams lie among `total` queries."""
        if self.block.table.form == "image":
            return {"image": Rows(slice(0, total))}
        return self.keys(total, call)


def by_order(order: tuple[str, ...], call: Call) -> dict[str, Rows]:
    """Streams that lie one after the other, by the numbers of their tokens."""
    start, found = 0, {}
    for stream in order:
        stop = start + call.sizes[stream]
        found[stream] = Rows(slice(start, stop))
        start = stop
    return found


class CondPort(Port):
    """The conditioning vector, (batch, 1, width) or (batch, rows, width)."""

    def __init__(self, adapter: Adapter) -> None:
        self.kind, self.name = adapter.architecture.cond.split(":")
        first = next(iter(adapter.blocks.values())).module
        self.module = first if self.kind == "arg" else part(adapter.model, self.name)
        self.before = self.kind == "arg"

    def read(self, args: Args, kwargs: Kwargs, output: Any, call: Call) -> torch.Tensor:
        value = bind(self.module, args, kwargs)[self.name] if self.before else output
        value = value if isinstance(value, torch.Tensor) else value[0]
        return value.unsqueeze(1) if value.ndim == 2 else value

    def write(self, args: Args, kwargs: Kwargs, output: Any, call: Call, value: torch.Tensor) -> Any:
        if self.before:
            raise InterventionError(
                "In this model every block gets the conditioning vector apart, so 'cond' can be captured but not "
                "changed. Change its text or timestep instead."
            )
        whole = output if isinstance(output, torch.Tensor) else output[0]
        value = value.squeeze(1) if whole.ndim == 2 else value
        return value if isinstance(output, torch.Tensor) else (value, *output[1:])
