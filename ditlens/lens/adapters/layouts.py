"""Where the streams lie in a joint sequence, and the image tokens in the image; and which tokens are padding.

A layout function gets the running `Call` and the length of the joint sequence, and returns `Rows` for "text" and
"image". Tokens of neither kind (time, context images, audio, padding) belong to no stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from ditlens.errors import CaptureError
from ditlens.lens.calls import Call

Joint: TypeAlias = Float[Tensor, "batch all width"]
"""The joint sequence: the tokens of all streams, and whatever else is among them."""
Tokens: TypeAlias = Float[Tensor, "batch tokens width"]
"""The tokens of one stream."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Which tokens of a joint sequence make one stream.

    Attributes:
        index: A slice, or token numbers of each item.
        mask: False where an item has fewer tokens than the longest one; None if all are real.
    """

    index: slice | Int[Tensor, "batch tokens"]
    mask: Bool[Tensor, "batch tokens"] | None = None

    def take(self, joint: Joint) -> Tokens:
        """Tokens of the stream, out of those of the joint sequence."""
        if isinstance(self.index, slice):
            return joint[:, self.index]
        return joint.take_along_dim(self.index.to(joint.device).unsqueeze(-1), 1)

    def put(self, joint: Joint, value: Tokens) -> Joint:
        """A copy of the joint sequence with the stream's tokens replaced; padding stays."""
        changed = joint.clone()
        if isinstance(self.index, slice):
            changed[:, self.index] = value
            return changed
        index = self.index.to(joint.device)
        if self.mask is not None:
            mask = self.mask.to(joint.device)
            value = value.where(mask.unsqueeze(-1), self.take(joint))
            # padding points at the item's last token: all that point there must write the same value
            at_last = index == index.where(mask, -1).amax(1, keepdim=True)
            first = rearrange(at_last.long().argmax(1), "batch -> batch 1 1")
            value = torch.where(at_last.unsqueeze(-1), value.take_along_dim(first, 1), value)
        width = joint.shape[-1]
        return changed.scatter(1, repeat(index, "batch tokens -> batch tokens width", width=width), value)


def ragged(starts: list[int], lengths: list[int]) -> Rows:
    """Rows of items whose stream starts at `starts` and has `lengths` tokens; padded to the longest."""
    if len(set(starts)) == 1 and len(set(lengths)) == 1:
        return Rows(slice(starts[0], starts[0] + lengths[0]))
    start, length = torch.tensor([starts, lengths], device="cpu").unsqueeze(-1)
    steps = torch.arange(max(lengths), device="cpu")
    return Rows(start + torch.minimum(steps, length - 1), steps < length)


def picked(where: Bool[Tensor, "batch all"]) -> Rows:
    """Rows where a map of the joint sequence is True."""
    lengths = where.sum(1)
    order = torch.argsort((~where).int(), dim=1, stable=True)[:, : int(lengths.max())]
    steps = torch.arange(order.shape[1], device=order.device)
    if bool((lengths == lengths[0]).all()):
        return Rows(order)
    real = steps < lengths[:, None]
    return Rows(order.where(real, order.gather(1, lengths[:, None] - 1)), real)


Layout = Callable[["Call", Mapping[str, Any], int], dict[str, Rows]]


def text_first(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """[text, image]; the image's length is known from the double-stream blocks or the model's input."""
    count = call.sizes.get("image") or call.model_args["hidden_states"].shape[1]
    return {"text": Rows(slice(0, total - count)), "image": Rows(slice(total - count, total))}


def image_first(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """[image, text]; likewise."""
    count = call.sizes["image"]
    return {"image": Rows(slice(0, count)), "text": Rows(slice(count, total))}


def counted(name: str, *, before: int = 0, gap: int = 0, image: int | None = None) -> Layout:
    """[other tokens, text as long as the argument `name`, other tokens, image up to the end or of a length]."""

    def layout(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:  # noqa: ARG001
        text = slice(before, before + call.model_args[name].shape[1])
        start = text.stop + gap
        return {"text": Rows(text), "image": Rows(slice(start, total if image is None else start + image))}

    return layout


def gist(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """[gist tokens of the text, image, context]; `noise_mask` marks the image."""
    noisy = block["noise_mask"][0].bool().nonzero().flatten()
    start, end = int(noisy[0]), int(noisy[-1]) + 1
    if start == 0:
        raise CaptureError(
            "The prompts of this batch have different numbers of gist tokens. Run them one by one."
        )
    return {"text": Rows(slice(0, start)), "image": Rows(slice(start, end))}


def padded_lists(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """[image, text], each padded to a multiple of 32 tokens; the padding belongs to no stream."""
    pictures, texts = call.model_args["x"], call.model_args["cap_feats"]
    if not isinstance(pictures[0], Tensor):
        raise CaptureError("Z-Image's omni mode, with several images per item, is not supported.")
    patch = call.model.config.all_patch_size[0]
    image = [p.shape[-3] * (p.shape[-2] // patch) * (p.shape[-1] // patch) for p in pictures]
    text = [len(t) for t in texts]
    return {
        "image": ragged([0] * len(image), image),
        "text": ragged([count + -count % 32 for count in image], text),
    }


def squeezed(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """[real text tokens, image, padding], item by item."""
    shape, patch = call.model_args["hidden_states"].shape, call.model.config.patch_size
    image = (shape[-2] // patch) * (shape[-1] // patch)
    text = call.model_args["encoder_attention_mask"].sum(1).tolist()
    return {"text": ragged([0] * len(text), text), "image": ragged(text, [image] * len(text))}


def image_then_text(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """[image, text], the text padded to the longest."""
    count = total - call.model_args["text_bth"].shape[1]
    lengths = call.model_args["text_lens"].tolist()
    return {"image": Rows(slice(0, count)), "text": ragged([count] * len(lengths), lengths)}


def indicator(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """A packed sequence; `indicator` says 3 for text, 2 for image."""
    kinds = call.model_args["indicator"]
    return {"text": picked(kinds == 3), "image": picked(kinds == 2)}


def slots(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """[text and condition images, image]; the slot of a condition image stands for four tokens."""
    count = call.model_args["hidden_states"].shape[1]
    slot = call.model_args["img_mask"][0]
    is_image = torch.repeat_interleave(slot, torch.where(slot, 4, 1))[: total - count]
    text = (~is_image).nonzero().flatten()
    if len(text) == 0:
        raise CaptureError(
            "After step 0 this pipeline has the text as cached keys only. Turn that cache off, or capture step 0."
        )
    return {"text": _consecutive(text, call.batch), "image": Rows(slice(total - count, total))}


def indices(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """A packed sequence with the numbers of its text and video rows."""
    names = {"text": "text_indices", "image": "video_indices"}
    return {stream: _consecutive(call.model_args[name], call.batch) for stream, name in names.items()}


def _consecutive(index: Int[Tensor, " tokens"], batch: int) -> Rows:
    """Rows with these numbers in every item: a slice where they follow one another."""
    if bool((index.diff() == 1).all()):
        return Rows(slice(int(index[0]), int(index[-1]) + 1))
    return Rows(index.expand(batch, -1))


LAYOUTS: dict[str, Layout] = {
    "text_first": text_first, "image_first": image_first, "gist": gist, "padded_lists": padded_lists,
    "squeezed": squeezed, "image_then_text": image_then_text, "indicator": indicator, "slots": slots,
    "indices": indices,
    "text_argument": counted("encoder_hidden_states"),
    "input_ids": counted("input_ids", gap=1),  # the time token
    "prior": counted("encoder_hidden_states", gap=2, image=1),  # text embedding and time; then the output
    "unidiffuser": counted("prompt_embeds", before=2, gap=1),  # two time tokens; the CLIP image
}  # fmt: skip


# --- padding -----------------------------------------------------------------------------------------------


def find_mask(rule: str, call: Call) -> Bool[Tensor, "batch text_tokens"] | None:
    """Which text tokens are real, by the arguments of the model's call.

    Args:
        rule: `Architecture.padding`.
        call: The running call; the number of its text tokens must be known.

    Returns:
        True at real tokens; None if the call does not say it.
    """
    if not rule:
        return None
    kind, _, name = rule.partition(":")
    mask = PADDINGS[name](call) if kind == "rule" else argument_mask(call, name)
    return mask if mask is not None and mask.shape == (call.batch, call.sizes["text"]) else None


def argument_mask(call: Call, name: str) -> Bool[Tensor, "batch text_tokens"] | None:
    """A mask of the text, or of a sequence that begins with the text; of (queries, keys) the last query counts."""
    mask = call.model_args.get(name)
    if mask is None:
        return None
    mask = mask[:, -1] if mask.ndim == 3 else mask
    return mask[:, : call.sizes["text"]].bool()


def images_first(call: Call) -> Bool[Tensor, "batch text_tokens"] | None:
    """The tokens of images, which are all real, then the text; of a single item Framepack drops the padding."""
    mask, images = call.model_args.get("encoder_attention_mask"), call.model_args.get("image_embeds")
    if mask is None:
        return None
    before = 0 if images is None else images.shape[1]
    if call.sizes["text"] < before + mask.shape[1]:
        return torch.ones(call.batch, call.sizes["text"], dtype=torch.bool, device=mask.device)
    return F.pad(mask.bool(), (before, 0), value=True)


def valid_first(call: Call) -> Bool[Tensor, "batch text_tokens"] | None:
    """The real tokens of all texts (and images), then their padding."""
    args, count = call.model_args, call.sizes["text"]
    if args.get("encoder_hidden_states_2") is None:
        return argument_mask(call, "encoder_attention_mask")
    real = args["encoder_attention_mask"].bool().sum(1) + args["encoder_attention_mask_2"].bool().sum(1)
    images = args.get("image_embeds")
    if images is not None:  # zeros stand for no image
        real = real + images.shape[1] * images.any()
    return torch.arange(count, device=real.device) < real[:, None]


def text_slots(call: Call) -> Bool[Tensor, "batch text_tokens"] | None:
    """A mask of text and image slots, of which the text slots count."""
    mask = call.model_args.get("encoder_hidden_states_mask")
    return None if mask is None else mask[:, ~call.model_args["img_mask"][0][: mask.shape[1]]].bool()


PADDINGS = {"images_first": images_first, "valid_first": valid_first, "text_slots": text_slots}


# --- grids -------------------------------------------------------------------------------------------------


def find_grid(rule: str, call: Call) -> tuple[int, ...] | None:
    """Frames (of video), rows and columns in which the first image tokens lie, or None if unknown.

    Args:
        rule: `Architecture.grid`.
        call: The running call.
    """
    args, config = call.model_args, call.model.config
    grid: tuple[int, ...] | None = None
    if rule == "ids" and "img_ids" in args and args["img_ids"] is not None:
        grid = _grid_of(args["img_ids"] if args["img_ids"].ndim == 2 else args["img_ids"][0])
    elif rule == "shapes":
        shapes = args.get("img_shapes") or args.get("shape_list")
        while isinstance(shapes, list):
            shapes = shapes[0]
        grid = tuple(int(n) for n in shapes) if shapes is not None else None
    elif rule == "patches":
        latents = args.get("hidden_states", args.get("x", args.get("latent_image_embeds")))
        latents = latents[0] if isinstance(latents, list) else latents
        if isinstance(latents, Tensor) and latents.ndim >= 4:
            patch: Any = getattr(config, "patch_size", None) or getattr(config, "all_patch_size", 1)
            patches = [patch] * 2 if isinstance(patch, int) else list(patch)
            sides = [side // step for side, step in zip(latents.shape[-2:], (patches * 2)[-2:], strict=True)]
            video = type(call.model).__name__.endswith("3DModel") and latents.ndim == 5
            grid = (*_frames(latents, config), *sides) if video else tuple(sides)
    if grid and grid[0] == 1 and len(grid) == 3:
        grid = grid[1:]
    fits = grid is not None and prod(grid) <= call.sizes.get("image", 0)
    return grid if fits else None


def _grid_of(ids: Shaped[Tensor, "tokens axes"]) -> tuple[int, ...]:
    """Rows and columns of the first image; reference images have another number on axis 0."""
    first = ids[ids[:, 0] == ids[0, 0], 1:3]
    return tuple(int(n) for n in (first.amax(0) - first.amin(0) + 1))


def _frames(latents: Float[Tensor, "batch _ _ height width"], config: Any) -> tuple[int, ...]:
    """Frames of video latents: the axis beside the channels, whichever it is."""
    channels = getattr(config, "in_channels", None)
    frames = latents.shape[1] if latents.shape[2] == channels else latents.shape[2]
    return (frames // (getattr(config, "patch_size_t", None) or 1),)
