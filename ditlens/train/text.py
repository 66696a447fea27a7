"""Build the tokenizer and train the two text encoders to understand captions.

SD3 takes the token embeddings of two CLIP text encoders before their last layer, and their pooled projections.
Both are trained here, before the transformer sees them, to give away the attributes that a caption names: what
CLIP's encoders learn from pictures, ours learn from the grammar's exact semantics, in minutes. The read-outs are
thrown away afterwards.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ditlens.train import team
from ditlens.train.loop import Budget, fit
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import CATEGORICAL, CONTINUOUS, sample, take
from ditlens.worlds.portraits.heldout import held_out
from ditlens.worlds.portraits.phrases import tokens
from ditlens.worlds.portraits.reading import LEXICON, scan

START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH, LAYERS, HEADS = 128, (3, 4), 4
MAX_LENGTH = captions.MAX_TOKENS + 2
BATCH = {"cpu": 32, "cuda": 128}


def build_tokenizer():
    """A `CLIPTokenizer` in which every word of the grammar is one token and any other text is spelt.

    The merges are written down, not learnt: word after word, each is put together from the left, out of what the
    merges so far make of it. Later merges never come before earlier ones, so every word stays whole, and the table
    is the same on every machine (a trainer's order among equal counts is not, even from run to run).
    """
    from transformers import CLIPTokenizer

    end = "</w>"
    alphabet = [chr(c) for c in range(33, 127)]
    vocab = [START, END, *alphabet, *(c + end for c in alphabet)]
    merges: dict[tuple[str, str], int] = {}
    words = sorted({part for word in captions.vocabulary() for part in word.replace("-", " - ").split()})
    for word in words:
        parts = [*word[:-1], word[-1] + end]
        while len(parts) > 1:
            known = [pair for pair in itertools.pairwise(parts) if pair in merges]
            pair = min(known, key=merges.__getitem__) if known else (parts[0], parts[1])
            if pair not in merges:
                merges[pair] = len(merges)
                vocab.append("".join(pair))
            parts = _merge(parts, pair)
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(dict.fromkeys(vocab))}, merges=list(merges), bos_token=START,
        eos_token=END, pad_token=END, unk_token=END, model_max_length=MAX_LENGTH,
    )  # fmt: skip


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of a pair, from the left."""
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result


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


def encode_named(said: Sequence[Mapping[str, Collection[int]]]) -> dict[str, torch.Tensor]:
    """What captions say, as tensors.

    Args:
        said: Levels or values of the attributes that each caption names, as `captions.parse` gives them.

    Returns:
        ``named`` (batch, attributes) 0/1; ``value`` (batch, continuous) level centres scaled to [-1, 1];
        one (batch, values) distribution for each categorical attribute.
    """
    batch = len(said)
    named = torch.zeros(batch, len(CONTINUOUS) + len(CATEGORICAL))
    value = torch.zeros(batch, len(CONTINUOUS))
    out = {c.name: torch.zeros(batch, len(c.values)) for c in CATEGORICAL}
    for row, constraints in enumerate(said):
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


def phrase_ends(tokenizer: Any, texts: list[str]) -> tuple[torch.Tensor, list[dict[str, frozenset[int]]]]:
    """Where each phrase of the captions ends, and what it says.

    Returns:
        Row and token of the last word of every phrase, (phrases, 2), and the meaning of each.
    """
    length = functools.lru_cache(maxsize=None)(lambda word: len(tokenizer.tokenize(word)))
    hyphen = tokenizer.convert_tokens_to_ids("-</w>")  # the grammar reads "clean-shaven" as two words
    places, meanings = [], []
    for row, (text, ids) in enumerate(zip(texts, tokenizer(texts).input_ids, strict=True)):
        words = tokens(text)
        ends = list(itertools.accumulate(length(word) for word in words))
        spoken = [place for place, token in enumerate(ids) if token != hyphen]  # the first is the start mark
        for mention in scan(words, LEXICON):
            places.append((row, spoken[ends[mention.end - 1]]))
            meanings.append({mention.attribute: mention.meaning.indices})
    return torch.tensor(places), meanings


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


def train(budget: Budget, tokenizer: Any = None, encoders: list[Any] | None = None):
    """Train tokenizer and encoders.

    Two things are asked of them: all that a caption says, from the pooled embedding and from tokens behind its end,
    and what a phrase says, from its last token. Only the second teaches quickly that "very" belongs to the word
    behind it; without it "very light skin" and "light skin" stay the same for long.

    Args:
        budget: Time, place, device.
        tokenizer: The tokenizer that they were trained with; by default a new one.
        encoders: Encoders to start from; by default new ones.

    Returns:
        ``(tokenizer, encoders, report)``.
    """
    torch.manual_seed(budget.seed)
    tokenizer = tokenizer or build_tokenizer()
    encoders = [e.to(budget.device) for e in encoders or build_encoders(tokenizer)]
    heads = [ReadOut(WIDTH).to(budget.device) for _ in range(3 * len(encoders))]
    batch = BATCH.get(budget.device.type, 128)

    def loss(step: int) -> dict[str, torch.Tensor]:
        generator = budget.generator(step)
        rng = random.Random(generator.initial_seed())
        people = sample(2 * batch, generator)
        people = take(people, (~held_out(people)).nonzero()[:batch, 0])
        texts = captions.caption_all(people, rng=rng)
        truth = {k: v.to(budget.device) for k, v in encode_named(list(map(captions.parse, texts))).items()}
        places, meanings = phrase_ends(tokenizer, texts)
        phrases = {k: v.to(budget.device) for k, v in encode_named(meanings).items()}
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
            terms[f"tokens_{i + 1}"] = heads[3 * i].loss(picked, truth)
            terms[f"pooled_{i + 1}"] = heads[3 * i + 1].loss(out.text_embeds, truth)
            # A phrase has one attribute, a caption nearly all: as much for each attribute.
            terms[f"phrases_{i + 1}"] = heads[3 * i + 2].loss(hidden[places[:, 0], places[:, 1]], phrases) * 8
        return terms

    modules = {f"encoder_{i + 1}": e for i, e in enumerate(encoders)}
    modules |= {f"head_{i + 1}": h for i, h in enumerate(heads)}
    report = fit("text", modules, loss, budget, lr=1e-3, muon_lr=0.01, ema=0.99)
    report["samples"] = report["steps"] * batch * team.size()
    return tokenizer, encoders, report
