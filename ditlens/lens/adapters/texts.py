"""How the pipelines of diffusers write a prompt into the text stream.

A pipeline may put the prompt into a template, drop the template's first tokens, put tokens of its own before the
text, and pad before or after it. `tests/contracts/test_words.py` runs one pipeline of each kind at tiny size, and
compares the code of the others with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from ditlens.errors import CaptureError
from ditlens.lens.adapters.adapter import architecture_of


@dataclass(frozen=True)
class Reading:
    """How one tokenizer writes a prompt into the text stream.

    Attributes:
        tokenizer: The tokenizer.
        start: Where in the stream its first token lies; negative where the first tokens are dropped.
        before: What the pipeline writes before the prompt.
        after: What it writes after it.
        aligned: Whether the pipeline itself puts the text before its padding, on whichever side the tokenizer pads.
        last: Whether the pipeline itself puts padding before the text: tokens then count from the end, -1 is the
            last.
        special: Whether the tokenizer adds its special tokens.
        longest: Most tokens that the pipeline lets the tokenizer give, template and all; None for any number.
    """

    tokenizer: Any
    start: int = 0
    before: str = ""
    after: str = ""
    aligned: bool = False
    last: bool = False
    special: bool = True
    longest: int | None = None

    @property
    def from_end(self) -> bool:
        """Whether tokens count from the end of the stream."""
        return self.last or (not self.aligned and getattr(self.tokenizer, "padding_side", "right") == "left")


Reader = Callable[[Any, str], Reading]
"""Tells of a pipeline and a prompt how its ``tokenizer`` reads it."""


def plain(start: int = 0, **how: Any) -> Reader:
    """The prompt as it is."""
    return lambda pipe, prompt: Reading(pipe.tokenizer, start, **how)  # noqa: ARG005


def in_template(template: str, **how: Any) -> Reading:
    """The prompt in the place of ``{}``; what else `Reading` has is given."""
    before, _, after = template.partition("{}")
    return Reading(before=before, after=after, **how)


def lumina2(pipe: Any, prompt: str) -> Reading:  # noqa: ARG001
    """Behind the system prompt, which stays."""
    return Reading(pipe.tokenizer, before=f"{pipe.system_prompt} <Prompt Start> ", longest=512)


def qwen_image(pipe: Any, prompt: str) -> Reading:  # noqa: ARG001
    """In a template, of which a fixed number of tokens is dropped."""
    dropped = pipe.prompt_template_encode_start_idx
    return in_template(
        pipe.prompt_template_encode, tokenizer=pipe.tokenizer, start=-dropped, aligned=True,
        longest=pipe.tokenizer_max_length + dropped,
    )  # fmt: skip


def need_padding(pipe: Any, side: str, why: str) -> None:
    """Refuse a tokenizer that pads on the side where words could not be found.

    Raises:
        CaptureError: If it does.
    """
    if pipe.tokenizer.padding_side != side:
        raise CaptureError(
            f"The tokenizer of {pipe.kind} pads on the {pipe.tokenizer.padding_side}, and {why}. "
            f"Type pipe.tokenizer.padding_side = {side!r} before it runs."
        )


def cogview4(pipe: Any, prompt: str) -> Reading:  # noqa: ARG001
    """The prompt as it is, at the end of the stream: the pipeline pads before it.

    Raises:
        CaptureError: If the tokenizer pads behind the text: its place then depends on the other prompts.
    """
    need_padding(pipe, "left", "where a word lies would depend on the longest of the prompts beside it")
    return Reading(pipe.tokenizer, last=True, longest=1024)


def hunyuan_image(pipe: Any, prompt: str) -> Reading:
    """As Qwen-Image, behind what the second tokenizer, which reads letters, makes of the parts in quotes.

    Raises:
        CaptureError: If the tokenizer pads before the text: then padding is dropped instead of the template.
    """
    need_padding(
        pipe, "right", "the pipeline drops the first tokens as if they were its template, also where they pad"
    )
    reading = qwen_image(pipe, prompt)
    quoted = import_module("diffusers.pipelines.hunyuan_image.pipeline_hunyuanimage").extract_glyph_text(
        prompt
    )
    if quoted is None:
        return reading
    letters = pipe.tokenizer_2(quoted, truncation=True, max_length=pipe.tokenizer_2_max_length).input_ids
    return replace(reading, start=reading.start + len(letters))


def hunyuan_video(pipe: Any, prompt: str) -> Reading:  # noqa: ARG001
    """In the default template, of which a fixed number of tokens is dropped."""
    home = import_module("diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video")
    usual = home.DEFAULT_PROMPT_TEMPLATE
    return in_template(usual["template"], tokenizer=pipe.tokenizer, start=-usual["crop_start"])


def ovis_image(pipe: Any, prompt: str) -> Reading:
    """In a chat behind the system prompt, of which a fixed number of tokens is dropped."""
    dropped = pipe.user_prompt_begin_id
    reading = chat(pipe, prompt, before=pipe.system_prompt, enable_thinking=False)
    return replace(reading, start=-dropped, special=False, longest=256 + dropped)


def chat(pipe: Any, prompt: str, before: str = "", **template: Any) -> Reading:
    """As what a user says in a chat.

    Args:
        pipe: The pipeline.
        prompt: The prompt.
        before: What the pipeline says before the prompt.
        template: Further arguments of the tokenizer's chat template.

    Raises:
        CaptureError: If the tokenizer's template changes the prompt.
    """

    def written(text: str) -> str:
        messages = [{"role": "user", "content": before + text}]
        return pipe.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **template
        )

    start, _, end = written("\ue000").partition("\ue000")  # a private character stands for the prompt
    if written(prompt) != start + prompt + end:
        raise CaptureError(
            f"The chat template of {pipe.kind} changes the prompt {prompt!r}. Leave out spaces at its "
            "ends, or give the numbers of the words yourself: tokens={'text': [...]}."
        )
    return Reading(pipe.tokenizer, before=start, after=end)


def z_image(pipe: Any, prompt: str) -> Reading:
    """In a chat; padding is cut off."""
    return replace(chat(pipe, prompt, enable_thinking=True), aligned=True)


PIPELINES: dict[str, Reader] = {
    "AuraFlowPipeline": plain(8),  # behind the transformer's register tokens
    "BriaPipeline": plain(aligned=True, longest=512),
    **dict.fromkeys(("ChromaPipeline", "ChromaImg2ImgPipeline"), plain(longest=512)),
    "CogView3PlusPipeline": plain(),
    **dict.fromkeys(("CogView4Pipeline", "CogView4ControlPipeline"), cogview4),
    **dict.fromkeys(
        (
            "CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "CogVideoXVideoToVideoPipeline",
            "CogVideoXFunControlPipeline",
        ),
        plain(),
    ),
    **dict.fromkeys(("Flux2KleinPipeline", "Flux2KleinInpaintPipeline"), partial(chat, enable_thinking=False)),
    "HunyuanImagePipeline": hunyuan_image,
    "HunyuanVideoPipeline": hunyuan_video,
    "Lumina2Pipeline": lumina2,
    "MochiPipeline": plain(),
    "OvisImagePipeline": ovis_image,
    **dict.fromkeys(
        (
            "QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline",
            "QwenImageControlNetPipeline", "QwenImageControlNetInpaintPipeline",
        ),
        qwen_image,
    ),
    **dict.fromkeys(("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline"), z_image),
}  # fmt: skip
"""Pipelines with one tokenizer (named ``tokenizer``) for the text stream. Others: `Architecture.text`."""


@dataclass(frozen=True)
class PipelineReader:
    """Tells of a prompt how each tokenizer of a pipeline reads it; holds none of its networks and can be pickled.

    Attributes:
        name: The pipeline's name in `PIPELINES`; empty where each tokenizer reads the prompt as it is.
        pipe: The pipeline's tokenizers and settings, and its class as ``kind``.
        plain: How each tokenizer reads every prompt, where it is as it is.
    """

    name: str
    pipe: SimpleNamespace
    plain: dict[str, Reading]

    def __call__(self, prompt: str) -> dict[str, Reading]:
        return {"tokenizer": PIPELINES[self.name](self.pipe, prompt)} if self.name else self.plain


def reader_of(pipe: Any, transformer: Any) -> PipelineReader | None:
    """What tells of a prompt how each tokenizer of a pipeline reads it; None if it is not known."""
    kept = {n: v for n, v in vars(pipe).items() if n.startswith("tokenizer") or isinstance(v, str | int)}
    light = SimpleNamespace(**kept, kind=type(pipe).__name__)
    for kind in type(pipe).__mro__:
        if kind.__name__ in PIPELINES and getattr(pipe, "tokenizer", None) is not None:
            return PipelineReader(kind.__name__, light, {})
    found = {
        name: Reading(getattr(pipe, name), start, longest=512)
        for name, start in architecture_of(transformer).text.items()
        if getattr(pipe, name, None) is not None
    }
    return PipelineReader("", light, found) if found else None
