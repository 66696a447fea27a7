"""Build the tokenizer and train the two text encoders to understand captions.

SD3 takes the token embeddings of two CLIP text encoders before their last layer, and their pooled projections.
Both are trained here, before the transformer sees them, to give away the attributes that a caption names: what
CLIP's encoders learn from pictures, ours learn from the grammar's exact semantics, in minutes. The read-outs are
thrown away afterwards.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ditlens.train.loop import Budget, fit
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import CATEGORICAL, CONTINUOUS, sample

START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH, LAYERS, HEADS = 128, (3, 4), 4
MAX_LENGTH = captions.MAX_TOKENS + 2
BATCH = {"cpu": 32, "cuda": 1024}


def build_tokenizer():
    """A `CLIPTokenizer` in which every word of the grammar is one token and any other text is spelt.

    The merges are learnt by ordinary byte-pair training on the grammar's vocabulary until every word is whole.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = [chr(c) for c in range(33, 127)]
    words = sorted({part for word in captions.vocabulary() for part in word.replace("-", " - ").split()})
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=1, special_tokens=[START, END], initial_alphabet=alphabet,
        end_of_word_suffix="</w>", show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator([*words, *alphabet, *("a" + c for c in alphabet)], trainer)
    import json

    state = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in state["merges"]]
    return CLIPTokenizer(
        vocab=state["vocab"], merges=merges, bos_token=START, eos_token=END, pad_token=END, unk_token=END,
        model_max_length=MAX_LENGTH,
    )  # fmt: skip


def build_encoders(tokenizer: Any) -> list[Any]:
    """Two small, untrained `CLIPTextModelWithProjection`."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return [
        CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, projection_dim=WIDTH,
                num_hidden_layers=layers, num_attention_heads=HEADS, max_position_embeddings=MAX_LENGTH,
                hidden_act="gelu", bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        for layers in LAYERS
    ]  # fmt: skip


def tokenize(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Token ids, (batch, MAX_LENGTH), padded the way the SD3 pipeline pads."""
    return tokenizer(
        texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def encode(encoders: list[Any], ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `StableDiffusion3Pipeline.encode_prompt` computes from the CLIP encoders.

    Returns:
        Token embeddings (batch, MAX_LENGTH, 2 * WIDTH) and pooled embeddings (batch, 2 * WIDTH).
    """
    outputs = [encoder(ids, output_hidden_states=True) for encoder in encoders]
    tokens = torch.cat([o.hidden_states[-2] for o in outputs], -1)
    return tokens, torch.cat([o.text_embeds for o in outputs], -1)


def encode_named(texts: list[str]) -> dict[str, torch.Tensor]:
    """What captions say, as tensors.

    Returns:
        ``named`` (batch, attributes) 0/1; ``value`` (batch, continuous) level centres scaled to [-1, 1];
        one (batch, values) distribution for each categorical attribute.
    """
    batch = len(texts)
    named = torch.zeros(batch, len(CONTINUOUS) + len(CATEGORICAL))
    value = torch.zeros(batch, len(CONTINUOUS))
    out = {c.name: torch.zeros(batch, len(c.values)) for c in CATEGORICAL}
    for row, text in enumerate(texts):
        constraints = captions.parse(text) if text else {}
        for i, a in enumerate(CONTINUOUS):
            if a.name in constraints:
                centers = [a.levels[k].center for k in constraints[a.name]]
                named[row, i] = 1
                value[row, i] = (sum(centers) / len(centers) - a.low) / a.range * 2 - 1
        for j, c in enumerate(CATEGORICAL):
            if c.name in constraints:
                named[row, len(CONTINUOUS) + j] = 1
                for k in constraints[c.name]:
                    out[c.name][row, k] = 1 / len(constraints[c.name])
    return {"named": named, "value": value, **out}


class ReadOut(nn.Module):
    """One linear map from an embedding to what the caption says; used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [
            len(CONTINUOUS) + len(CATEGORICAL),
            len(CONTINUOUS),
            *(len(c.values) for c in CATEGORICAL),
        ]
        self.linear = nn.Linear(width, sum(self.sizes))

    def loss(self, embedding: torch.Tensor, truth: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean loss; `embedding` is (batch, width) or (batch, positions, width)."""
        named, value, *classes = self.linear(embedding).split(self.sizes, -1)
        wanted = {k: v if embedding.ndim == 2 else v[:, None].expand(*embedding.shape[:2], -1)
                  for k, v in truth.items()}  # fmt: skip
        total = F.binary_cross_entropy_with_logits(named, wanted["named"])
        total = (
            total + ((value - wanted["value"]).square() * wanted["named"][..., : len(CONTINUOUS)]).mean() * 4
        )
        for c, logits in zip(CATEGORICAL, classes, strict=True):
            total = total - (F.log_softmax(logits, -1) * wanted[c.name]).sum(-1).mean() / len(CATEGORICAL)
        return total


def train(budget: Budget):
    """Train tokenizer and encoders; returns ``(tokenizer, encoders, report)``."""
    torch.manual_seed(budget.seed)
    tokenizer = build_tokenizer()
    encoders = [e.to(budget.device) for e in build_encoders(tokenizer)]
    heads = [ReadOut(WIDTH).to(budget.device) for _ in range(2 * len(encoders))]
    batch = BATCH.get(budget.device.type, 128)

    def loss(step: int) -> dict[str, torch.Tensor]:
        generator = budget.generator(step)
        rng = random.Random(generator.initial_seed())
        texts = captions.caption_all(sample(batch, generator), rng=rng)
        truth = {k: v.to(budget.device) for k, v in encode_named(texts).items()}
        ids = tokenize(tokenizer, texts).to(budget.device)
        # Tokens from the end mark on have read the whole caption: two of them are asked for all of it.
        ends = (ids == tokenizer.eos_token_id).int().argmax(1)
        offset = torch.rand(batch, generator=generator).to(budget.device) * (MAX_LENGTH - ends)
        asked = torch.stack([ends, ends + offset.long()], 1)
        terms = {}
        for i, encoder in enumerate(encoders):
            out = encoder(ids, output_hidden_states=True)
            hidden = out.hidden_states[-2]
            picked = hidden.gather(1, asked[..., None].expand(-1, -1, hidden.shape[-1]))
            terms[f"tokens_{i + 1}"] = heads[2 * i].loss(picked, truth)
            terms[f"pooled_{i + 1}"] = heads[2 * i + 1].loss(out.text_embeds, truth)
        return terms

    modules = {f"encoder_{i + 1}": e for i, e in enumerate(encoders)}
    modules |= {f"head_{i + 1}": h for i, h in enumerate(heads)}
    report = fit("text", modules, loss, budget, lr=2e-3, muon_lr=0.02, ema=0.99)
    report["samples"] = report["steps"] * batch
    return tokenizer, encoders, report
