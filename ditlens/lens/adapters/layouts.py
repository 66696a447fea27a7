"""Where the streams lie in a sequence, and the image tokens in the image; and which tokens are padding.

A layout function gets the running `Call` and the length of the joint sequence, and returns `Rows` for "text" and
"image". Tokens of neither kind (time, reference images, audio, padding) belong to no stream. Two-stream blocks may
take them, too, beside the image or the text: `find_image` and `find_text`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

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

    @property
    def count(self) -> int:
        """Tokens of the stream."""
        return self.index.stop - self.index.start if isinstance(self.index, slice) else self.index.shape[1]

    def after(self, start: int) -> Rows:
        """The same tokens in a sequence where `start` others come before them."""
        if isinstance(self.index, slice):
            return Rows(slice(self.index.start + start, self.index.stop + start), self.mask)
        return Rows(self.index + start, self.mask)

    def take(self, joint: Joint) -> Tokens:
        """Tokens of the stream, out of those of the joint sequence."""
        if isinstance(self.index, slice):
            return joint[:, self.index]
        return joint.take_along_dim(self.index.to(joint.device).unsqueeze(-1), 1)

    def put(self, joint: Joint, value: Tokens) -> Joint:
        """A copy of the joint sequence with the stream's tokens replaced; padding stays."""
        if isinstance(self.index, slice) and self.count == joint.shape[1]:
            return value
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


def by_order(order: tuple[str, ...], call: Call, total: int) -> dict[str, Rows]:
    """Streams that lie one after the other, as the two-stream blocks took them.

    Args:
        order: Names of the streams; "cached" stands for keys that earlier calls left, of reference images.
        call: The running call, of which a block has been seen.
        total: Tokens of the sequence. Queries may leave the reference images out.

    Raises:
        CaptureError: If there are more tokens than the streams have.
    """
    lengths, own = call.lengths, call.own
    if total == sum(call.sizes.values()) != sum(lengths.values()):
        lengths, own = call.sizes, {name: Rows(slice(0, count)) for name, count in call.sizes.items()}
    more = total - sum(lengths.values())
    if more > 0 and "cached" not in order:
        raise CaptureError(
            f"ditlens does not know this layout of {type(call.model).__name__}: its attention has {total} tokens, "
            f"{more} more than text and image."
        )
    found, start = {}, 0
    for name in order:
        if name in own:
            found[name] = own[name].after(start)
        start += max(more, 0) if name == "cached" else lengths[name]
    return found


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
    images, texts = call.model_args["x"], call.model_args["cap_feats"]
    if not isinstance(images[0], Tensor):
        raise CaptureError(
            "Z-Image's omni mode lays out reference images, text and image item by item; ditlens cannot read that. "
            "Run the pipeline without reference images, or capture another model that edits, such as "
            "FluxTransformer2DModel (FLUX Kontext) or QwenImageTransformer2DModel."
        )
    patch = call.model.config.all_patch_size[0]
    image = [p.shape[-3] * (p.shape[-2] // patch) * (p.shape[-1] // patch) for p in images]
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
    """[text and reference images, image]; the slot of an image stands for four tokens.

    With cached keys, the blocks of later calls take the image alone.
    """
    slot, count = call.model_args["img_mask"][0], prod(shapes_of(call)[0][-1])
    is_text = ~torch.repeat_interleave(slot, torch.where(slot, 4, 1))
    if total == count < len(is_text):
        return {"image": Rows(slice(0, count))}
    text = is_text[: len(is_text) - count].nonzero().flatten()
    return {"text": _consecutive(text, call.batch), "image": Rows(slice(total - count, total))}


def with_images(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """[text with reference images in it, the time token, image]."""
    count = call.model_args["input_ids"].shape[1]
    text, references = Rows(slice(0, count)), call.model_args.get("input_image_sizes") or {}
    if references:
        is_text = torch.ones(call.batch, count, dtype=torch.bool, device="cpu")
        for row, places in references.items():
            for start, end in places:
                is_text[row, start:end] = False
        text = picked(is_text)
    return {"text": text, "image": Rows(slice(count + 1, total))}


def indices(call: Call, block: Mapping[str, Any], total: int) -> dict[str, Rows]:
    """A packed sequence with the numbers of its text and video rows; audio lies between references and video."""
    text, video = call.model_args["text_indices"], call.model_args["video_indices"]
    gaps = (video.diff() != 1).nonzero().flatten()
    video = video[int(gaps[-1]) + 1 :] if len(gaps) else video
    return {"text": _consecutive(text, call.batch), "image": _consecutive(video, call.batch)}


def _consecutive(index: Int[Tensor, " tokens"], batch: int) -> Rows:
    """Rows with these numbers in every item: a slice where they follow one another."""
    if bool((index.diff() == 1).all()):
        return Rows(slice(int(index[0]), int(index[-1]) + 1))
    return Rows(index.expand(batch, -1))


LAYOUTS: dict[str, Layout] = {
    "gist": gist, "padded_lists": padded_lists,
    "squeezed": squeezed, "image_then_text": image_then_text, "indicator": indicator, "slots": slots,
    "indices": indices, "with_images": with_images,
    "text_argument": counted("encoder_hidden_states"),
    "prior": counted("encoder_hidden_states", gap=2, image=1),  # text embedding and time; then the output
    "unidiffuser": counted("prompt_embeds", before=2, gap=1),  # two time tokens; the CLIP image
}  # fmt: skip


# --- the text among its tokens, and its padding ------------------------------------------------------------


def find_text(rule: str, call: Call, total: int) -> Rows:
    """Where the text lies in the sequence of `total` tokens that two-stream blocks take.

    Args:
        rule: `Architecture.images`.
        call: The running call.
        total: Tokens of the sequence.
    """
    images = call.model_args.get("image_embeds") if rule else None
    if images is None or (rule == "unless zero" and not images.any()):
        return Rows(slice(0, total))
    return Rows(slice(images.shape[1], total))


def find_mask(rule: str, call: Call, text: Rows | None) -> Bool[Tensor, "batch text_tokens"] | None:
    """Which text tokens are real, by the arguments of the model's call and the layout.

    Args:
        rule: `Architecture.padding`.
        call: The running call.
        text: Where the text lies; None if it is not in this call.

    Returns:
        True at real tokens; None if the call does not say it.
    """
    if text is None:
        return None
    kind, _, name = rule.partition(":")
    mask = PADDINGS[name](call, text) if kind == "rule" else argument_mask(call, text, name)
    if mask is None or mask.shape != (call.batch, text.count):
        return text.mask
    return mask if text.mask is None else mask & text.mask.to(mask.device)


def argument_mask(call: Call, text: Rows, name: str) -> Bool[Tensor, "batch text_tokens"] | None:
    """A mask of the text, or of a sequence that begins with the text; of (queries, keys) the last query counts."""
    mask = call.model_args.get(name)
    if mask is None:
        return None
    mask = (mask[:, -1] if mask.ndim == 3 else mask).bool()
    if isinstance(text.index, slice):
        return mask[:, : text.count]
    return mask.take_along_dim(text.index.to(mask.device), 1)


def valid_first(call: Call, text: Rows) -> Bool[Tensor, "batch text_tokens"] | None:
    """The real tokens of all texts, then their padding."""
    args = call.model_args
    if args.get("encoder_hidden_states_2") is None:
        return argument_mask(call, text, "encoder_attention_mask")
    real = args["encoder_attention_mask"].bool().sum(1) + args["encoder_attention_mask_2"].bool().sum(1)
    return torch.arange(text.count, device=real.device) < real[:, None]


def text_slots(call: Call, text: Rows) -> Bool[Tensor, "batch text_tokens"] | None:  # noqa: ARG001
    """A mask of text and image slots, of which the text slots count."""
    mask = call.model_args.get("encoder_hidden_states_mask")
    return None if mask is None else mask[:, ~call.model_args["img_mask"][0][: mask.shape[1]]].bool()


PADDINGS = {"valid_first": valid_first, "text_slots": text_slots}


# --- the image among its tokens, and its grid --------------------------------------------------------------

Grid: TypeAlias = tuple[int, ...]
"""Rows and columns, of video frames, rows and columns."""


@dataclass(frozen=True)
class ImagePlace:
    """Where the image lies in a sequence that may have reference images before or after it.

    Attributes:
        grids: Its grid, or that of every item.
        start: Its first token.
    """

    grids: tuple[Grid, ...]
    start: int = 0

    @property
    def grid(self) -> Grid:
        """The grid of all items; () if they have several."""
        first = self.grids[0][1:] if len(self.grids[0]) == 3 and self.grids[0][0] == 1 else self.grids[0]
        return first if len(set(self.grids)) == 1 else ()

    def rows(self, batch: int) -> Rows:
        """Its tokens."""
        lengths = [prod(grid) for grid in self.grids]
        lengths = lengths if len(lengths) == batch else lengths[:1] * batch
        return ragged([self.start] * batch, lengths)


def find_image(rule: str, call: Call, image: Rows) -> ImagePlace | None:
    """Where the image lies among the tokens that hold it and, in two-stream blocks, its reference images.

    Args:
        rule: `Architecture.grid`.
        call: The running call.
        image: Those tokens.

    Returns:
        The place, or None if it is unknown.
    """
    found = GRIDS[rule](call, image) if rule in GRIDS else None
    fits = found is not None and all(found.start + prod(grid) <= image.count for grid in found.grids)
    return found if fits else None


def by_patches(call: Call, image: Rows) -> ImagePlace | None:  # noqa: ARG001
    """The patches of latents, which come first."""
    args, config = call.model_args, call.model.config
    latents = args.get("hidden_states", args.get("x", args.get("latent_image_embeds")))
    items = latents if isinstance(latents, list) else [latents]
    if not all(isinstance(each, Tensor) and each.ndim >= 4 for each in items):
        return None
    patch: Any = getattr(config, "patch_size", None) or getattr(config, "all_patch_size", 1)
    patches = [patch] * 2 if isinstance(patch, int) else list(patch)
    grids = []
    for each in items:
        whole = (
            each[:, -1] if each.ndim == 6 else each
        )  # JoyImage: the last of several images is the one made
        sides = [side // step for side, step in zip(whole.shape[-2:], (patches * 2)[-2:], strict=True)]
        video = whole.ndim == 5 or isinstance(latents, list)
        grids.append((*_frames(whole, config), *sides) if video else tuple(sides))
    return ImagePlace(tuple(grids))


def by_last_patches(call: Call, image: Rows) -> ImagePlace | None:
    """The patches of latents, which come last."""
    found = by_patches(call, image)
    return found and ImagePlace(found.grids, image.count - prod(found.grids[0]))


def _frames(latents: Float[Tensor, " ..."], config: Any) -> Grid:
    """Frames of video latents: the axis beside the channels, whichever it is."""
    channels = getattr(config, "in_channels", None)
    at = -4 if latents.shape[-3] == channels and latents.ndim == 5 else -3
    return (latents.shape[at] // (getattr(config, "patch_size_t", None) or 1),)


def by_ids(call: Call, image: Rows) -> ImagePlace | None:
    """Positions (kind or frame, row, column, ...): reference images have a larger number on axis 0.

    They may be scaled; those of a whole packed sequence (``position_ids``) have no reference images among them, nor
    have those of a model that takes given images as further channels: VisualCloze numbers the strips of one canvas.
    """
    ids, config = call.model_args.get("img_ids"), call.model.config
    if ids is not None:
        ids = (ids if ids.ndim == 2 else ids[0]).cpu()
        fills = getattr(config, "out_channels", None) not in (None, config.in_channels)
        target = (ids[:, 0] == ids[:, 0].min()) | fills
    else:
        ids = call.model_args["position_ids"]
        ids = (ids if ids.ndim == 2 else ids[0]).cpu()
        ids = ids[image.index if isinstance(image.index, slice) else image.index[0].cpu()]
        target = torch.ones(len(ids), dtype=torch.bool, device="cpu")
    count = int(target.sum())
    grid = tuple(int(axis.unique().numel()) for axis in ids[target][:, :3].T)
    start = int(target.int().argmax())
    one = bool(target[start : start + count].all())
    return ImagePlace((grid,), start) if one and prod(grid) == count else None


def shapes_of(call: Call) -> list[list[Grid]]:
    """Shapes of the images of every item, as the caller of a model gives them."""
    args = call.model_args
    given = args.get("img_shapes") or args.get("shape_list") or args.get("vision_token_shapes") or []
    items = [each if isinstance(each, list) else [each] for each in given]
    return [[tuple(int(n) for n in shape) for shape in item] for item in items]


def by_shapes(call: Call, image: Rows) -> ImagePlace | None:  # noqa: ARG001
    """The first of several shapes; of an image in layers all but the last, which is the reference."""
    items = shapes_of(call)
    if getattr(call.model.config, "use_layer3d_rope", False):
        return ImagePlace(tuple((len(item) - 1, *item[0][1:]) for item in items))
    return ImagePlace(tuple(item[0] for item in items)) if items else None


def by_last_shape(call: Call, image: Rows) -> ImagePlace | None:  # noqa: ARG001
    """The last of several shapes, in a layout that holds no reference images."""
    return ImagePlace(tuple(item[-1] for item in shapes_of(call)))


GRIDS = {
    "patches": by_patches, "last_patches": by_last_patches, "ids": by_ids, "shapes": by_shapes,
    "last_shape": by_last_shape,
}  # fmt: skip
