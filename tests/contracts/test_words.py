"""Words of a prompt are found in the text stream of diffusers' own pipelines, at tiny size.

Each pipeline reads two prompts that differ in one word. Its text encoder is a table with a row for every token, so
the tokens at which the text stream differs most are the word's.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch

import ditlens as dl
from ditlens.errors import CaptureError
from ditlens.lens.adapters.texts import PIPELINES

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

TEXT = "the {0} and the fox look at {1} {0}, near a river"
OTHER = "a river that is much longer than the fox, and longer than that, and the fox near it"
WORD, INSTEAD = "otter", "moose"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)


def text(word, before="that"):
    return TEXT.format(word, before)


def templates():
    """What pipelines write around prompts."""
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    sources = (diffusers.QwenImagePipeline, diffusers.OvisImagePipeline, diffusers.Lumina2Pipeline)
    return [DEFAULT_PROMPT_TEMPLATE["template"], *map(inspect.getsource, sources)]


def make_tokenizer(side="right"):
    """A byte-level tokenizer that knows the words of the templates, and WORD by its parts only."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([*templates(), OTHER, text("")], trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side=side,
        chat_template=CHAT, model_max_length=512,
    )  # fmt: skip


class Table(torch.nn.Module):
    """A text encoder that gives every token its own row."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, width):
        super().__init__()
        self.rows = torch.nn.Parameter(torch.randn(2000, width, generator=torch.Generator().manual_seed(0)))
        self.config = SimpleNamespace(d_model=width, hidden_size=width)

    def forward(self, input_ids, **_):
        return Answer(self.rows[input_ids])


class Answer(SimpleNamespace):
    """All names and places under which pipelines look for an encoder's output."""

    def __init__(self, x):
        super().__init__(last_hidden_state=x, hidden_states=(x,) * 30, pooler_output=x.mean(1))

    def __getitem__(self, place):
        return self.last_hidden_state


class NoPictures(torch.nn.Module):
    """Stands for the picture decoder of a pipeline that asks for its settings."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(shift_factor=0.0, block_out_channels=(1, 1, 1, 1), batch_norm_eps=0.1)
    bn = SimpleNamespace(running_mean=torch.zeros(4), running_var=torch.ones(4))


STILL = {"height": 64, "width": 64}
CASES = {
    "AuraFlowPipeline": ("AuraFlowTransformer2DModel", 32, {}, STILL),
    "BriaPipeline": ("BriaTransformer2DModel", 32, {}, STILL),
    "ChromaPipeline": ("ChromaTransformer2DModel", 32, {}, STILL),
    "CogView3PlusPipeline": ("CogView3PlusTransformer2DModel", 12, {}, STILL),
    "CogView4Pipeline": ("CogView4Transformer2DModel", 12, {}, STILL),
    "CogVideoXPipeline": (
        "CogVideoXTransformer3DModel", 12, {"max_text_seq_length": 226}, STILL | {"width": 96, "num_frames": 5},
    ),
    "Flux2KleinPipeline": ("Flux2Transformer2DModel", 96, {"joint_attention_dim": 96}, STILL),
    "HunyuanImagePipeline": ("HunyuanImageTransformer2DModel", 12, {}, STILL),
    "HunyuanVideoPipeline": ("HunyuanVideoTransformer3DModel", 12, {}, STILL | {"num_frames": 5}),
    "Lumina2Pipeline": ("Lumina2Transformer2DModel", 12, {"axes_lens": (300, 16, 16)}, STILL),
    "MochiPipeline": (
        "MochiTransformer3DModel", 16, {"max_sequence_length": 256},
        STILL | {"num_frames": 7, "num_inference_steps": 4},
    ),
    "OvisImagePipeline": ("OvisImageTransformer2DModel", 32, {}, STILL),
    "QwenImagePipeline": ("QwenImageTransformer2DModel", 32, {}, STILL),
    "ZImagePipeline": ("ZImageTransformer2DModel", 12, {"axes_lens": [600, 16, 16]}, STILL),
}  # fmt: skip
"""Pipelines with their transformer, the width of what it takes, what is not as in `tiny`, and how to call them."""


def make_pipe(name, side="right"):
    """A pipeline with what it needs to read a prompt."""
    model, width, changes, _ = CASES[name]
    kind = getattr(diffusers, name)
    parts = [each for each in inspect.signature(kind.__init__).parameters if each != "self"]
    old = name in ("CogView3PlusPipeline", "CogVideoXPipeline")
    given = {
        "tokenizer": make_tokenizer(side), "tokenizer_2": make_tokenizer(),
        "text_encoder": Table(width // 3 if "Klein" in name else width),
        "text_encoder_2": Table(16 if "Video" in name else 10),
        "transformer": tiny.build(model, **changes),
        "scheduler": diffusers.CogVideoXDDIMScheduler() if old else diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": NoPictures() if name in ("BriaPipeline", "Flux2KleinPipeline") else None,
    }  # fmt: skip
    pipe = kind(**{each: given.get(each) for each in parts if each in given or each in needed(kind)})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def needed(kind):
    """Names of the parts that a pipeline cannot be made without."""
    wanted = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return [each.name for each in wanted if each.default is inspect.Parameter.empty]


def stream(pipe, prompts):
    """What is captured of the text where it enters the blocks, and the tensor of the first prompt."""
    settings = {"num_inference_steps": 1, "generator": torch.Generator().manual_seed(0)}
    settings |= CASES[type(pipe).__name__][3]
    with dl.capture(pipe, "*.0.text.in", steps=[0]) as cache:
        pipe(prompt=list(prompts), output_type="latent", **settings)
    return cache, cache[cache.sites[0], 0][0]


def places_of_difference(pipe, before="that", rest=()):
    """The cache of a text with WORD, the tokens found, and those that differ most from the text with another."""
    cache, one = stream(pipe, [text(WORD, before), *rest])
    _, other = stream(pipe, [text(INSTEAD, before), *rest])
    found = cache.words(WORD, prompt=text(WORD, before))["tokenizer"]
    return cache, found, sorted((one - other).norm(dim=-1).topk(len(found)).indices.tolist())


ONE_SIDE = {"HunyuanImagePipeline": "right", "CogView4Pipeline": "left"}
"""Pipelines in which words can be found only if the tokenizer pads on this side."""


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("rest", [(), (OTHER,)], ids=["alone", "beside a longer text"])
@pytest.mark.parametrize("name", CASES)
def test_words_are_where_the_stream_differs(name, rest, side):
    pipe = make_pipe(name, side)
    right = ONE_SIDE.get(name, side)
    if right != side:
        with pytest.raises(CaptureError, match=rf"pipe\.tokenizer\.padding_side = '{right}'"):
            dl.words(pipe, text(WORD), WORD)
        return
    cache, found, differ = places_of_difference(pipe, rest=rest)
    assert sorted(place % cache[cache.sites[0], 0].shape[1] for place in found) == differ
    assert len(found) == 6 and found == dl.words(pipe, text(WORD), WORD.upper())["tokenizer"]


def test_letters_in_quotes_come_before_the_words():
    """HunyuanImage reads what is in quotes a second time, letter by letter, and puts that first."""
    pipe = make_pipe("HunyuanImagePipeline")
    quoted = '"sold out"'
    _, found, differ = places_of_difference(pipe, quoted)
    assert sorted(found) == differ
    assert min(found) > min(dl.words(pipe, text(WORD), WORD)["tokenizer"]) + 5


def body(kind, name):
    """A method as Python reads it, without comments and descriptions; None if the class has none."""
    method = getattr(kind, name, None)
    if method is None:
        return None
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    return ast.dump(ast.Module(tree.body[0].body[1 if ast.get_docstring(tree.body[0]) else 0 :], []))


METHODS = (
    "_encode_prompt", "_get_t5_prompt_embeds", "_get_glm_embeds", "_get_qwen_prompt_embeds",
    "_get_qwen3_prompt_embeds", "_extract_masked_hidden",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted({*PIPELINES} - {*CASES}))
def test_other_pipelines_read_prompts_in_the_same_way(name):
    """Those that are not run here share the code that reads the prompt with one that is."""
    same = [tried for tried in CASES if PIPELINES[tried] is PIPELINES[name]]
    read = {method: body(getattr(diffusers, name), method) for method in METHODS}
    assert any(read.values())
    assert read == {method: body(getattr(diffusers, same[0]), method) for method in METHODS}


def test_pipelines_that_are_not_known_say_so():
    pipe = make_pipe("QwenImagePipeline")
    pipe.__class__ = type("MyPipeline", (diffusers.DiffusionPipeline,), {})
    with pytest.raises(
        CaptureError, match="text stream of MyPipeline are not known.*QwenImagePipeline.*tokens="
    ):
        dl.words(pipe, text(WORD), WORD)


class Slow:
    """A tokenizer without places."""

    is_fast = False


def test_what_no_tokenizer_can_tell_is_an_error():
    pipe = make_pipe("ZImagePipeline")
    with pytest.raises(CaptureError, match="is not in the prompt"):
        dl.words(pipe, text(WORD), "system")
    pipe.tokenizer.chat_template = CHAT.replace("m['content']", "m['content'] | upper")
    with pytest.raises(CaptureError, match="chat template of ZImagePipeline changes the prompt"):
        dl.words(pipe, text(WORD), WORD)
    pipe = make_pipe("AuraFlowPipeline")
    pipe.tokenizer = Slow()
    with pytest.raises(CaptureError, match="use_fast=True"):
        dl.words(pipe, text(WORD), WORD)
    pipe.tokenizer = None
    with pytest.raises(CaptureError, match="a pipeline without its tokenizers"):
        dl.words(pipe, text(WORD), WORD)


def test_words_that_were_cut_off_are_an_error():
    with pytest.raises(CaptureError, match="longer than the text encoders read"):
        dl.words(make_pipe("ChromaPipeline"), "a " * 600 + WORD, WORD)
    pipe = make_pipe("QwenImagePipeline")
    with dl.capture(pipe, "joint.0.text.in") as cache:
        pipe(text(WORD), num_inference_steps=1, max_sequence_length=30, output_type="latent", **STILL)
    assert cache.words("fox", prompt=text(WORD))
    with pytest.raises(CaptureError, match="'river' was cut off: .* read 30 text tokens"):
        cache.words("river", prompt=text(WORD))
