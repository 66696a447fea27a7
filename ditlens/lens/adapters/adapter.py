"""A transformer together with its table: which sites it has, and how each is read and written."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ditlens.errors import ArchitectureError, CaptureError, InterventionError
from ditlens.lens.adapters.layouts import (
    LAYOUTS,
    ImagePlace,
    Rows,
    Tokens,
    by_order,
    find_image,
    find_mask,
    find_text,
)
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
                f"{name} has {reason}. ditlens reads transformers with joint attention of text and image, such as "
                "SD3Transformer2DModel or FluxTransformer2DModel."
            )
    if (inside := wrapped_in(model)) is not None:
        raise ArchitectureError(
            f"model is a {name} around the transformer; pass what is inside: model.{inside}."
        )
    if name.startswith("UNet"):
        raise ArchitectureError(
            f"{name} is a U-Net, whose text and image never share a stream. ditlens reads transformers with joint "
            "attention, such as SD3Transformer2DModel or FluxTransformer2DModel."
        )
    raise ArchitectureError(
        f"ditlens does not know the streams of {name}. Supported are: {', '.join(ARCHITECTURES)}. To add yours, "
        "write one ditlens.lens.adapters.table.Architecture (docs/how-to/add_an_architecture.md) and put it into "
        f"ditlens.lens.adapters.table.ARCHITECTURES[{name!r}]."
    )


def wrapped_in(model: nn.Module) -> str | None:
    """Where the transformer lies inside a module that wraps it; None if it wraps none.

    "module" is that of DataParallel, DistributedDataParallel and FSDP, "base_model.model" that of PEFT.
    """
    for path in ("module", "base_model.model"):
        with contextlib.suppress(AttributeError):
            if any(kind.__name__ in ARCHITECTURES for kind in type(model.get_submodule(path)).__mro__):
                return path
    return None


def listed(model: nn.Module, path: str) -> list[nn.Module]:
    """The blocks at a path, or at several joined by ``+``."""
    found: list[nn.Module] = []
    for each in path.split("+"):
        module = model.get_submodule(each)
        members = list(module) if isinstance(module, nn.ModuleList) else [module]
        found += [m["block"] if isinstance(m, nn.ModuleDict) else m for m in members]  # type: ignore[misc]
    return found


@dataclass(frozen=True, eq=False)
class Block:
    """One block of a transformer.

    Attributes:
        table: What its class calls things.
        module: The block itself.
        last: Whether it is the last one of the model's list.
        textless: Whether its second stream is not text, although its class has a text stream.
    """

    table: Blocks
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
                last, without = i == len(modules) - 1, i >= len(modules) - textless
                self.blocks[table.kind, start + i] = Block(table, module, last, without)
        inner = [Site(*key, stream, point) for key in self.blocks for stream in STREAMS for point in POINTS]
        reasons = {site: self._missing(site) for site in [Site("cond"), *inner]}
        self.sites = [site for site, reason in reasons.items() if not reason]
        self.absent = {str(site): reason for site, reason in reasons.items() if reason}

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

    def port(self, site: Site) -> AnyPort:
        """How to read and write a site."""
        if site.kind == "cond":
            return CondPort(self)
        block = self.blocks[site.kind, site.block]
        return SoftmaxPort(self, block, site) if site.point in SOFTMAX_POINTS else Port(self, block, site)

    def note(self, block: Block, args: Args, kwargs: Kwargs, call: Call) -> None:
        """Learn the number of tokens of each stream, their grid and their padding, from a block's input."""
        bound, table = bind(block.module, args, kwargs), block.table
        names = {"image": table.image, "text": table.text} if table.form != "one" else {"joint": table.image}
        lengths = {name: self.batch_first(bound[each]).shape[1] for name, each in names.items()}
        key = tuple(lengths.values())
        if key not in call.places:  # once for each call: reading position ids waits for the GPU
            call.places[key] = self._find(call, table, bound, lengths)
        rows, place = call.places[key]
        if table.form != "one":
            call.lengths, call.own = lengths, rows
        call.sizes = {name: each.count for name, each in rows.items()}
        if call.grid is None and place is not None:
            call.grid = place.grid
        call.image_mask = rows["image"].mask
        if call.mask is None:
            call.mask = find_mask(self.architecture.padding, call, rows.get("text"))

    def _find(
        self, call: Call, table: Blocks, bound: Mapping[str, Any], lengths: Mapping[str, int]
    ) -> tuple[dict[str, Rows], ImagePlace | None]:
        """Where the streams lie in sequences of these lengths, and the image in that of the image."""
        rule = self.architecture.grid
        if table.form == "one":
            rows = self.streams(call, table, bound, lengths["joint"])
            return rows, find_image(rule, call, rows["image"])
        image = Rows(slice(0, lengths["image"]))
        place = find_image(rule, call, image)
        image = image if place is None else place.rows(call.batch)
        return {"image": image, "text": find_text(self.architecture.images, call, lengths["text"])}, place

    def mask(self, site: Site, call: Call, tokens: int) -> Bool[Tensor, "batch {tokens}"] | None:
        """Which of the tokens at a site are real.

        Args:
            site: The site.
            call: The running call.
            tokens: Number of tokens that the site has.

        Returns:
            True at real tokens; None if all are, or if it is unknown.
        """
        mask = call.mask if site.stream == "text" else call.image_mask
        if mask is None:
            return None
        inside = site.point in SOFTMAX_POINTS
        if inside and self.blocks[site.kind, site.block].table.calls == "per item":  # real tokens come first
            return torch.arange(tokens, device=mask.device) < mask.sum(1, keepdim=True)
        return mask if mask.shape[1] == tokens else None

    def streams(self, call: Call, table: Blocks, bound: Mapping[str, Any], total: int) -> dict[str, Rows]:
        """Where the streams lie in a joint sequence of `total` tokens."""
        if table.form != "one" or not self.architecture.layout:
            return by_order(table.softmax, call, total)
        if total not in call.memo:
            rows = LAYOUTS[self.architecture.layout](call, bound, total)
            for stream, each in rows.items():
                index = each.index
                if isinstance(index, slice) and not 0 <= index.start <= index.stop <= total:
                    raise CaptureError(
                        f"ditlens does not know this layout of {type(self.model).__name__}: its {stream} tokens "
                        f"should be tokens {index.start} to {index.stop} of {total}."
                    )
            call.memo[total] = rows
        return call.memo[total]

    def batch_first(self, x: Float[Tensor, " ..."]) -> Float[Tensor, "batch tokens width"]:
        """The tensor with the batch first, whatever order the blocks use."""
        axes = self.architecture.axes
        return x.transpose(0, 1) if axes == "tokens" else x.unsqueeze(0) if axes == "none" else x

    def own_order(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, " ..."]:
        """The inverse of `batch_first`."""
        axes = self.architecture.axes
        return x.transpose(0, 1) if axes == "tokens" else x.squeeze(0) if axes == "none" else x


def has(module: nn.Module, path: str) -> bool:
    """Whether a module has a submodule at a dotted path."""
    try:
        return module.get_submodule(path) is not None
    except AttributeError:
        return False


def mlp_of(block: Block, stream: str) -> str:
    """Path of the feed-forward of a stream, or of both together; empty if the block has none of its own."""
    table = block.table
    path = table.mlp.get(stream) or table.mlp.get("joint", "")
    if not path or not has(block.module, path):
        return ""
    # One feed-forward that is called once for each stream hides which call is whose: EasyAnimate's layers without
    # weights for the text. In a last block without text it is the image's.
    shared = set(table.mlp) == set(STREAMS) and not all(
        has(block.module, each) for each in table.mlp.values()
    )
    return "" if shared and not (table.last_text and stream == "image") else path


# --- ports -------------------------------------------------------------------------------------------------


class Port:
    """One stream at one point of a block: where to hook, and how to read and write its tokens there.

    Attributes:
        module: Where to hook.
        block: The block; None for the conditioning vector.
        before: Whether before the module runs (its arguments) or after (its output).
    """

    module: nn.Module
    block: Block | None = None
    name = ""  # of the argument that holds the stream
    at = 0  # place of the stream in an output that is a tuple

    def __init__(self, adapter: Adapter, block: Block, site: Site) -> None:
        self.adapter, self.block, self.site, self.table = adapter, block, site, block.table
        table, stream = block.table, site.stream
        self.before, self.batch_first = site.point == "in", True
        if site.point in ("in", "out"):
            self.module, returns, self.joint = block.module, table.returns, table.form == "one"
            self.name = table.image if self.joint or stream == "image" else table.text
        elif site.point == "attn.out":
            self.module, returns = block.module.get_submodule(table.attn), table.attn_returns
            # inside the attention the batch always comes first; unbatched models have no batch anywhere
            self.joint, self.batch_first = returns == JOINT, adapter.architecture.axes == "none"
        else:
            self.module, self.joint = (
                block.module.get_submodule(mlp_of(block, stream)),
                stream not in table.mlp,
            )
            returns = JOINT if self.joint else (stream,)
        self.at = returns.index(stream) if stream in returns else 0

    def due(self, call: Call) -> bool:  # noqa: ARG002
        """Whether the site is at a call of its module; each is asked once."""
        return True

    def _raw(self, args: Args, kwargs: Kwargs, output: Any) -> Tensor:
        """The tensor that holds the stream, as the module takes or returns it."""
        if self.before:
            return bind(self.module, args, kwargs)[self.name]
        return output if isinstance(output, Tensor) else output[self.at]

    def _in_order(self, raw: Tensor) -> Tensor:
        """That tensor with the batch first."""
        return self.adapter.batch_first(raw) if self.batch_first else raw

    def _rows(self, total: int, call: Call) -> Rows:
        found = self.adapter.streams(call, self.table, {}, total) if self.joint else call.own
        return stream_of(found, self.site)

    def _tokens(self, raw: Tensor, call: Call) -> Tensor:
        value = self._in_order(raw)
        return self._rows(value.shape[1], call).take(value)

    def read(self, args: Args, kwargs: Kwargs, output: Any, call: Call) -> Tokens:
        """The stream's tokens."""
        return self._tokens(self._raw(args, kwargs, output), call)

    def entering(self, args: Args, kwargs: Kwargs, call: Call) -> Tokens:
        """The stream's tokens at the block's input, for a bypass."""
        return self._tokens(bind(self.module, args, kwargs)[self.name], call)

    def write(self, args: Args, kwargs: Kwargs, output: Any, call: Call, value: Tensor) -> Any:
        """New (args, kwargs), or a new output, with the stream's tokens replaced."""
        whole = self._in_order(self._raw(args, kwargs, output))
        value = self._rows(whole.shape[1], call).put(whole, value)
        value = self.adapter.own_order(value) if self.batch_first else value
        if not self.before:
            return self._put(output, value)
        if self.name in kwargs:
            return args, kwargs | {self.name: value}
        at = list(bind(self.module, args, {})).index(self.name)
        return (*args[:at], value, *args[at + 1 :]), kwargs

    def _put(self, output: Any, value: Tensor) -> Any:
        if isinstance(output, Tensor):
            return value
        return type(output)((*output[: self.at], value, *output[self.at + 1 :]))


class SoftmaxPort:
    """A stream inside the attention; `ditlens.lens.attention` reads it at the softmax."""

    def __init__(self, adapter: Adapter, block: Block, site: Site) -> None:
        self.adapter, self.block, self.site = adapter, block, site
        self.module = block.module.get_submodule(block.table.attn)

    def keys(self, total: int, call: Call) -> dict[str, Rows]:
        """Where the streams lie among `total` keys."""
        found = self.adapter.streams(call, self.block.table, {}, total)
        return {"image": found["image"]} if self.block.textless else found

    def place(self, letter: str, total: int, call: Call) -> Rows:
        """Where the site's stream lies among `total` queries, keys or values."""
        if letter == "q" and self.block.table.form == "image":
            return call.own["image"]
        return stream_of(self.keys(total, call), self.site)


def stream_of(found: Mapping[str, Rows], site: Site) -> Rows:
    """Where the stream of a site lies.

    Raises:
        CaptureError: If it is not in this call.
    """
    if site.stream not in found:
        raise CaptureError(
            f"{site} is not in this call: after step 0 the pipeline has the text as cached keys and values only. "
            "Ask for the text at step 0, steps=0, or run the pipeline with use_kv_cache=False."
        )
    return found[site.stream]


class CondPort(Port):
    """The conditioning vector, (batch, 1, width) or (batch, rows, width).

    Reference images (and the text, in some models) have a vector of their own, that of time 0: in more rows, behind
    those of the images, or in a second call of the module. It is no part of the site.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.site, (kind, self.name) = Site("cond"), adapter.architecture.cond.split(":")
        first = next(iter(adapter.blocks.values())).module
        self.before = kind == "arg"
        self.module = first if self.before else adapter.model.get_submodule(self.name)

    def due(self, call: Call) -> bool:
        first = self not in call.timed
        call.timed.append(self)
        return first

    def read(self, args: Args, kwargs: Kwargs, output: Any, call: Call) -> Float[Tensor, "batch rows width"]:
        value = self._raw(args, kwargs, output)
        if "timestep_indices" in call.model_args:  # MiniMax-H3 has one vector for each noise level
            value = value[call.model_args["timestep_indices"][call.model_args["video_indices"][-1:]]]
        value = value[: call.batch]
        return value.unsqueeze(1) if value.ndim == 2 else value

    def write(self, args: Args, kwargs: Kwargs, output: Any, call: Call, value: Tensor) -> Any:
        if self.before:
            raise InterventionError(
                "Every block gets the conditioning vector separately here, so 'cond' can be captured, not changed. "
                "Change the text or the timestep instead."
            )
        whole = self._raw(args, kwargs, output)
        value = value.squeeze(1) if whole.ndim == 2 else value
        return self._put(output, torch.cat([value, whole[len(value) :]]))


AnyPort: TypeAlias = Port | SoftmaxPort
"""What reads a site."""
