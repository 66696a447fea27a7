"""What every joint-attention class of diffusers calls its parts, as data.

To add an architecture, add one `Architecture` to `ARCHITECTURES`: where the blocks are, what they take and
return, in which order the softmax sees the streams. `tests/contracts` then checks it against a tiny random model
(docs/how-to/add_an_architecture.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Order = tuple[str, ...]
TEXT_IMAGE: Order = ("text", "image")
IMAGE_TEXT: Order = ("image", "text")
CACHED_BETWEEN: Order = ("text", "cached", "image")
CACHED_FIRST: Order = ("cached", "text", "image")
JOINT: Order = ("joint",)
"""One tensor that holds all tokens."""
CFG: Order = ("uncond", "cond")
CONTEXT = {"image": "ff", "text": "ff_context"}
SEPARATE = {"image": "img_mlp", "text": "txt_mlp"}

# What a block does to a stream x, in the words of `ditlens.sites`; g and g' are gates, {also} see `Blocks.also`.
GATED = "x' = x + g * attn.out{also}, out = x' + g' * {mlp}"
NORMED = "x' = x + g * norm(attn.out){also}, out = x' + g' * norm({mlp})"
PLAIN = "x' = x + attn.out, out = x' + {mlp}"
MERGED = "out = x + g * projection(attn.out{also}; feed-forward of x)"
BESIDE = "out = x + g * (attn.out + feed-forward of x)"
WITHIN = "out = x + g * attn.out, which has the feed-forward in it"
ONLY_MLP = "out = x + g' * {mlp}; the feed-forward reads x + g * attn.out"
AFTER = "x' = norm(x + attn.out), out = norm(x' + {mlp})"


@dataclass(frozen=True)
class Blocks:
    """One list of blocks.

    Attributes:
        path: Where it is; several paths, joined by ``+``, make one list.
        form: ``"two"``: text and image come in and go out separately; ``"one"``: one joint tensor in and out, made
            in the model's forward; ``"image"``: text is read but not updated.
        returns: Order of what a block returns.
        softmax: Order of the streams among the keys of the attention; "cached" stands for those of reference
            images that an earlier call left.
        kind: ``"joint"`` for double-stream, ``"single"`` for single-stream blocks.
        image: Name of the block's image argument; of the joint tensor where there is one.
        text: Name of its text argument.
        attn: Path of the attention module in a block.
        attn_returns: Order of what the attention returns.
        mlp: Feed-forward module of each stream, or under "joint"; empty where it is fused or shared.
        last_text: Why the last block has no text output; empty if it has.
        calls: How the attention calls the softmax: ``"once"``, ``"per item"`` (once per image, valid text
            only), ``"per segment"`` (several times, each for some queries and the keys before their end).
        update: What a block does to a stream, as a formula.
        also: Name of a second attention that some of the blocks have; empty if none has.
    """

    path: str
    form: Literal["two", "one", "image"]
    returns: Order
    softmax: Order
    kind: str = "joint"
    image: str = "hidden_states"
    text: str = "encoder_hidden_states"
    attn: str = "attn"
    attn_returns: Order = IMAGE_TEXT
    mlp: Mapping[str, str] = field(default_factory=dict)
    last_text: str = ""
    calls: str = "once"
    update: str = GATED
    also: str = ""


@dataclass(frozen=True)
class Architecture:
    """One transformer class.

    Attributes:
        blocks: Its lists of blocks, in forward order.
        cond: Where the conditioning vector is: ``"arg:NAME"`` an argument of the blocks, ``"module:PATH"`` a
            module's output, empty if there is none.
        layout: Name of the function in `ditlens.lens.adapters.layouts` that finds the streams in a joint tensor;
            empty where they lie one after the other, as two-stream blocks before took them.
        axes: Order of a block's axes: ``"batch"`` (batch, tokens, width), ``"tokens"`` (tokens, batch, width),
            ``"none"`` (tokens, width).
        grid: What says how tokens lie in the image, and which of them are the image's and not those of reference
            images: ``"patches"`` of a spatial latent (``"last_patches"``: behind other images), ``"ids"`` of
            positions, ``"shapes"`` (``"last_shape"``), ``"none"``.
        images: Whether the tokens of an image encoder come before the text in its stream: ``"always"`` where they
            are given, ``"unless zero"``, or empty for never.
        rows: Order of the guidance passes where its pipelines put them in one batch; empty where they make
            one call after the other (conditional first).
        rows_with_images: The same where images are given with the text; empty if that makes no difference.
        always_guided: Whether its pipelines make all passes even at guidance 1.
        text: Tokenizers of the pipeline with the position at which their tokens start in the text stream.
        padding: Where the model's call says which text tokens are real: ``"arg:NAME"`` a mask among its
            arguments, ``"rule:NAME"`` a function of `ditlens.lens.adapters.layouts`; empty if it does not, or if
            the layout says it.
        others: What else is among the keys of the attention; empty if nothing is.
        between: Why a block's output may differ from the next block's input; empty if it never does.
    """

    blocks: tuple[Blocks, ...]
    cond: str = "arg:temb"
    layout: str = ""
    axes: str = "batch"
    grid: str = "patches"
    images: Literal["", "always", "unless zero"] = ""
    rows: Order = ()
    rows_with_images: Order = ()
    always_guided: bool = False
    text: Mapping[str, int] = field(default_factory=dict)
    padding: str = ""
    others: str = ""
    between: str = ""


def two(path: str, returns: Order, softmax: Order, **changes) -> Blocks:
    """Double-stream blocks with feed-forwards of their own."""
    return Blocks(path, "two", returns, softmax, **({"mlp": CONTEXT} | changes))


def single_in(returns: Order, softmax: Order, path: str = "single_transformer_blocks", **changes) -> Blocks:
    """Single-stream blocks that take and return both streams separately; most fuse attention and feed-forward."""
    usual = {"kind": "single", "attn_returns": JOINT, "update": MERGED}
    return Blocks(path, "two", returns, softmax, **(usual | changes))


def single_out(softmax: Order, path: str = "single_transformer_blocks", **changes) -> Blocks:
    """Single-stream blocks on one joint tensor."""
    usual = {"kind": "single", "attn_returns": JOINT}
    return Blocks(path, "one", JOINT, softmax, **(usual | changes))


DOUBLE = "transformer_blocks"
NO_LAST_TEXT = "the last block does not update the text stream; nothing reads it afterwards"
READ_ONLY = "the blocks read the text but do not update it; its input is the site {0}.in"
OVERWRITTEN = "half of the text channels are overwritten by the text encoder's next layer before every block"
REFERENCES = "reference images"
APPENDED = "the text encoder's next layer is appended before every block and cut off after it"

# Lists of blocks that several classes share, by the first class that had them.
FLUX = (two(DOUBLE, TEXT_IMAGE, TEXT_IMAGE), single_in(TEXT_IMAGE, TEXT_IMAGE))
CHROMA = (two(DOUBLE, TEXT_IMAGE, TEXT_IMAGE), single_out(TEXT_IMAGE, update=MERGED))
COGVIEW = (two(DOUBLE, IMAGE_TEXT, TEXT_IMAGE, attn="attn1", mlp={}),)
HUNYUAN = (two(DOUBLE, IMAGE_TEXT, IMAGE_TEXT), single_in(IMAGE_TEXT, IMAGE_TEXT, attn_returns=IMAGE_TEXT))
JOY = (two("double_blocks", IMAGE_TEXT, IMAGE_TEXT, mlp=SEPARATE),)

ARCHITECTURES: dict[str, Architecture] = {
    "SD3Transformer2DModel": Architecture(
        (two(DOUBLE, TEXT_IMAGE, IMAGE_TEXT, last_text=NO_LAST_TEXT, also="attn2"),),
        text={"tokenizer": 0, "tokenizer_2": 0, "tokenizer_3": 77}, rows=CFG, cond="module:time_text_embed",
    ),
    "FluxTransformer2DModel": Architecture(
        FLUX, cond="module:time_text_embed", grid="ids", text={"tokenizer_2": 0}, others=REFERENCES,
    ),
    "Flux2Transformer2DModel": Architecture(
        (two(DOUBLE, TEXT_IMAGE, CACHED_BETWEEN), single_out(CACHED_BETWEEN, update=WITHIN)),
        cond="module:time_guidance_embed", grid="ids", others=REFERENCES,
    ),
    "Flux3Transformer2DModel": Architecture(
        (single_in(TEXT_IMAGE, TEXT_IMAGE, update=BESIDE),), cond="module:timestep_embedder", grid="ids",
        others=REFERENCES,
    ),
    "ChromaTransformer2DModel": Architecture(
        CHROMA, cond="module:distilled_guidance_layer", grid="ids",
        padding="arg:attention_mask",
    ),
    "BriaTransformer2DModel": Architecture(FLUX, cond="module:time_embed", grid="ids", rows=CFG),
    "BriaFiboTransformer2DModel": Architecture(
        CHROMA, cond="module:time_embed", grid="ids", between=OVERWRITTEN, rows=CFG, others=REFERENCES,
    ),
    "BriaFibo2Transformer2DModel": Architecture(
        (
            single_out(TEXT_IMAGE, "layers", image="x", attn="attention", mlp={"joint": "feed_forward"},
                       update=NORMED, also="cross_attention"),
        ),
        cond="module:t_embedder", layout="gist", others=REFERENCES,
    ),
    "LongCatImageTransformer2DModel": Architecture(
        FLUX, cond="module:time_embed", grid="ids", others=REFERENCES,
    ),
    "OvisImageTransformer2DModel": Architecture(FLUX, grid="ids"),
    "AuraFlowTransformer2DModel": Architecture(
        (
            two("joint_transformer_blocks", TEXT_IMAGE, TEXT_IMAGE, update=ONLY_MLP),
            single_out(TEXT_IMAGE, mlp={"joint": "ff"}, update=ONLY_MLP),
        ),
        rows=CFG, cond="module:time_step_proj",
    ),
    "CogView3PlusTransformer2DModel": Architecture(COGVIEW, cond="module:time_condition_embed", rows=CFG),
    "CogView4Transformer2DModel": Architecture(
        COGVIEW, cond="module:time_condition_embed", padding="arg:attention_mask",
    ),
    "GlmImageTransformer2DModel": Architecture(
        (replace(COGVIEW[0], softmax=CACHED_FIRST),), cond="module:time_condition_embed",
        padding="arg:attention_mask", others=REFERENCES,
    ),
    "HiDreamImageTransformer2DModel": Architecture(
        (
            two("double_stream_blocks", IMAGE_TEXT, IMAGE_TEXT, attn="block.attn1",
                mlp={"image": "block.ff_i", "text": "block.ff_t"}),
            single_out(IMAGE_TEXT, "single_stream_blocks", attn="block.attn1", mlp={"joint": "block.ff_i"}),
        ),
        between=APPENDED, rows=CFG, others="padding",
    ),
    "HunyuanImageTransformer2DModel": Architecture(HUNYUAN, padding="rule:valid_first"),
    "QwenImageTransformer2DModel": Architecture(
        (two(DOUBLE, TEXT_IMAGE, TEXT_IMAGE, mlp=SEPARATE),), grid="shapes",
        cond="module:time_text_embed", padding="arg:encoder_hidden_states_mask", others=REFERENCES,
    ),
    "QwenImage21Transformer2DModel": Architecture(
        (single_out(TEXT_IMAGE, DOUBLE, mlp={"joint": "img_mlp"}, calls="per segment"),),
        cond="module:time_text_embed", layout="slots", grid="last_shape", padding="rule:text_slots",
        others=REFERENCES,
    ),
    "JoyImageEditTransformer3DModel": Architecture(JOY, others=REFERENCES),
    "JoyImageEditPlusTransformer3DModel": Architecture(
        JOY, grid="shapes", rows=CFG, padding="arg:encoder_hidden_states_mask", others=REFERENCES,
    ),
    "ZImageTransformer2DModel": Architecture(
        (
            single_out(IMAGE_TEXT, "layers", image="x", attn="attention", mlp={"joint": "feed_forward"},
                       update=NORMED),
        ),
        cond="arg:adaln_input", layout="padded_lists", rows=("cond", "uncond"), others="padding",
    ),
    "Lumina2Transformer2DModel": Architecture(
        (single_out(TEXT_IMAGE, "layers", mlp={"joint": "feed_forward"}, update=NORMED),), layout="squeezed",
        others="padding",
    ),
    "OmniGenTransformer2DModel": Architecture(
        (single_out(("text", "time", "image"), "layers", attn="self_attn", mlp={"joint": "mlp"}, update=PLAIN),),
        padding="arg:attention_mask", cond="module:t_embedder", layout="with_images",
        rows=("cond", "uncond"), rows_with_images=("cond", "uncond", "img_cond"), always_guided=True,
        others="the time token and reference images",
    ),
    "ErnieImageTransformer2DModel": Architecture(
        (single_out(IMAGE_TEXT, "layers", image="x", attn="self_attention", mlp={"joint": "mlp"}),),
        cond="module:time_embedding", layout="image_then_text", axes="tokens", rows=CFG, others="padding",
    ),
    "Ideogram4Transformer2DModel": Architecture(
        (single_out(TEXT_IMAGE, "layers", attn="attention", mlp={"joint": "feed_forward"}, update=NORMED),),
        cond="arg:adaln_input", layout="indicator", grid="ids", others="padding",
    ),
    "Krea2Transformer2DModel": Architecture(
        (single_out(TEXT_IMAGE, DOUBLE, mlp={"joint": "ff"}),), layout="text_argument", grid="ids",
        padding="arg:encoder_attention_mask",
    ),
    "NucleusMoEImageTransformer2DModel": Architecture(
        (Blocks(DOUBLE, "image", ("image",), IMAGE_TEXT, attn_returns=("image",), mlp={"image": "img_mlp"}),),
        grid="shapes", padding="arg:encoder_hidden_states_mask", cond="module:time_text_embed",
    ),
    "PRXTransformer2DModel": Architecture(
        (Blocks("blocks", "image", ("image",), TEXT_IMAGE, attn="attention", attn_returns=("image",)),),
        rows=CFG, padding="arg:attention_mask",
    ),
    "CogVideoXTransformer3DModel": Architecture(COGVIEW, rows=CFG),
    "ConsisIDTransformer3DModel": Architecture(
        COGVIEW,
        between="with a face given, cross-attention to it is added to the image between blocks", rows=CFG,
    ),
    "EasyAnimateTransformer3DModel": Architecture(
        (two(DOUBLE, IMAGE_TEXT, TEXT_IMAGE, attn="attn1", mlp={"image": "ff", "text": "txt_ff"}),),
        rows=CFG,
    ),
    "HunyuanVideoTransformer3DModel": Architecture(HUNYUAN, padding="arg:encoder_attention_mask"),
    "HunyuanVideoFramepackTransformer3DModel": Architecture(
        HUNYUAN, grid="last_patches", padding="arg:encoder_attention_mask", images="always",
        others="frames of the past and the first image",
    ),
    "HunyuanVideo15Transformer3DModel": Architecture(
        (two(DOUBLE, IMAGE_TEXT, IMAGE_TEXT),), padding="rule:valid_first", images="unless zero",
        others="the first image",
    ),
    "MochiTransformer3DModel": Architecture(
        (
            two(DOUBLE, IMAGE_TEXT, IMAGE_TEXT, attn="attn1", calls="per item", last_text=NO_LAST_TEXT,
                update=NORMED),
        ),
        padding="arg:encoder_attention_mask", rows=CFG,
    ),
    "MotifVideoTransformer3DModel": Architecture(
        (
            two(DOUBLE, IMAGE_TEXT, IMAGE_TEXT, also="cross_attn"),
            single_in(IMAGE_TEXT, IMAGE_TEXT, attn_returns=IMAGE_TEXT, also="cross_attn"),
        ),
        padding="arg:encoder_attention_mask", images="always", others="the first image",
        between="the last blocks begin again from the latents, beside what the others made of them",
    ),
    "MiniMaxH3Transformer3DModel": Architecture(
        (single_out(("text", "image", "audio"), DOUBLE, mlp={"joint": "ff"}),), layout="indices", grid="ids",
        others="audio and reference images",
    ),
    "Cosmos3OmniTransformer": Architecture(
        (
            two("layers", TEXT_IMAGE, TEXT_IMAGE, image="gen_seq", text="und_seq", attn="self_attn",
                attn_returns=TEXT_IMAGE, mlp={"image": "mlp_moe_gen", "text": "mlp"}, calls="per segment",
                update=PLAIN),
        ),
        cond="module:time_embedder", axes="none", grid="shapes", others="sound and actions",
    ),
    "PriorTransformer": Architecture(
        (single_out(("text", "", "", "image", ""), DOUBLE, attn="attn1", mlp={"joint": "ff"}, update=PLAIN),),
        cond="module:time_embedding", layout="prior", grid="none", padding="arg:attention_mask", rows=CFG,
        others="embeddings and the time token",
    ),
    "UniDiffuserModel": Architecture(
        (
            single_out(
                ("", "", "text", "", "image"),
                "transformer.transformer_in_blocks+transformer.transformer_mid_block"
                "+transformer.transformer_out_blocks",
                attn="attn1", mlp={"joint": "ff"}, update=AFTER,
            ),
        ),
        cond="", layout="unidiffuser", between="skip connections from the first half join before later blocks",
        others="embeddings and time tokens",
    ),
}  # fmt: skip
"""Every class of diffusers in which text and image tokens share a softmax."""

NOT_JOINT = {
    "separate attentions: image tokens attend to themselves, then across to the text": (
        "AceStepTransformer1DModel AllegroTransformer3DModel AnyFlowTransformer3DModel "
        "AnyFlowFARTransformer3DModel ChronoEditTransformer3DModel CosmosTransformer3DModel "
        "DreamLiteTransformer2DModel DualTransformer2DModel HeliosTransformer3DModel HunyuanDiT2DModel "
        "Kandinsky5Transformer3DModel Kandinsky6Transformer3DModel LTXVideoTransformer3DModel "
        "LTX2VideoTransformer3DModel LatteTransformer3DModel LongCatAudioDiTTransformer LuminaNextDiT2DModel "
        "PixArtTransformer2DModel SanaTransformer2DModel SanaVideoTransformer3DModel SanaWMTransformer3DModel "
        "SanaWMLTX2RefinerTransformer3DModel SkyReelsV2Transformer3DModel StableAudioDiTModel "
        "StableAudio3DiTModel T5FilmDecoder Transformer2DModel WanTransformer3DModel "
        "WanAnimateTransformer3DModel WanAnimate2Transformer3DModel WanVACETransformer3DModel"
    ),
    "no text tokens in it": (
        "DiTTransformer2DModel Kandinsky6SRTransformer3DModel MiniMaxMusic3RVQDepthDecoder "
        "MiniMaxMusic3Transformer1DModel RFD4ProteinaTransformer TransformerTemporalModel"
    ),
}
"""The other transformer classes of diffusers, by what they have instead."""
