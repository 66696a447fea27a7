"""Build the tokenizer and train the two text encoders on the meaning of captions.

SD3 takes the token embeddings of two CLIP text encoders before their last layer, and their pooled projections. Both
are trained here, before the transformer, so that a linear head can read the attributes that a caption names: what
CLIP's encoders learn from images, these learn from the exact semantics of the grammar, in minutes. The heads are
discarded afterwards.
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

from ditlens.train.loop import Budget, fit
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    CATEGORICAL,
    CONTINUOUS,
    NAMES,
    Categorical,
    sample,
    take,
)
from ditlens.worlds.portraits.heldout import held_out
from ditlens.worlds.portraits.phrases import tokens
from ditlens.worlds.portraits.reading import LEXICON, scan

START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH, LAYERS, HEADS = 128, (3, 4), 4
MAX_LENGTH = captions.MAX_TOKENS + 2
BATCH = {"cpu": 32, "cuda": 128}


def build_tokenizer():
    """A `CLIPTokenizer` in which every word of the grammar is one token; other words are spelt letter by letter.

    The merges are constructed, not learnt: each word in turn is merged from the left, starting from the pieces that
    earlier merges leave. So every word becomes one token, and the table is the same on every machine (a trainer
    orders equal counts differently from run to run).
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
    """Token ids, (batch, MAX_LENGTH), padded like in the SD3 pipeline."""
    return tokenizer(
        texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def encode(encoders: list[Any], ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The embeddings that `StableDiffusion3Pipeline.encode_prompt` takes from the CLIP encoders.

    Returns:
        Token embeddings (batch, MAX_LENGTH, 2 * WIDTH) and pooled embeddings (batch, 2 * WIDTH).
    """
    outputs = [encoder(ids, output_hidden_states=True) for encoder in encoders]
    tokens = torch.cat([o.hidden_states[-2] for o in outputs], -1)
    return tokens, torch.cat([o.text_embeds for o in outputs], -1)


def encode_named(said: Sequence[Mapping[str, Collection[int]]]) -> dict[str, torch.Tensor]:
    """The meaning of captions as tensors.

    Args:
        said: Levels or values of the attributes that each caption names, as returned by `captions.parse`.

    Returns:
        ``named`` (batch, attributes) 0/1; ``value`` (batch, continuous) level centres scaled to [-1, 1];
        one (batch, values) distribution for each categorical attribute.
    """
    batch = len(said)
    named = torch.zeros(batch, len(NAMES))
    value = torch.zeros(batch, len(CONTINUOUS))
    out = {c.name: torch.zeros(batch, len(c.values)) for c in CATEGORICAL}
    for row, constraints in enumerate(said):
        for name, allowed in constraints.items():
            a, column = ATTRIBUTES[name], NAMES.index(name)
            named[row, column] = 1
            if isinstance(a, Categorical):
                out[name][row, list(allowed)] = 1 / len(allowed)
            else:
                center = sum(a.levels[k].center for k in allowed) / len(allowed)
                value[row, column] = (center - a.low) / a.range * 2 - 1
    return {"named": named, "value": value, **out}


def phrase_ends(tokenizer: Any, texts: list[str]) -> tuple[torch.Tensor, list[dict[str, frozenset[int]]]]:
    """Where each phrase of the captions ends, and what it means.

    Returns:
        Caption and token index of the last word of every phrase, (phrases, 2), and the meaning of each.
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


class CaptionHead(nn.Module):
    """One linear map from an embedding to the meaning of the caption; used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(NAMES), len(CONTINUOUS), *(len(c.values) for c in CATEGORICAL)]
        self.linear = nn.Linear(width, sum(self.sizes))

    def loss(self, embedding: torch.Tensor, truth: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean loss; `embedding` is (batch, width) or (batch, positions, width)."""
        named, value, *classes = self.linear(embedding).split(self.sizes, -1)
        wanted = {k: v if embedding.ndim == 2 else v[:, None].expand(*embedding.shape[:2], -1)
                  for k, v in truth.items()}  # fmt: skip
        error = (value - wanted["value"]).square() * wanted["named"][..., : len(CONTINUOUS)]
        total = F.binary_cross_entropy_with_logits(named, wanted["named"]) + error.mean() * 4
        for c, logits in zip(CATEGORICAL, classes, strict=True):
            total = total - (F.log_softmax(logits, -1) * wanted[c.name]).sum(-1).mean() / len(CATEGORICAL)
        return total


def train(budget: Budget, tokenizer: Any = None, encoders: list[Any] | None = None):
    """Build a tokenizer and train both encoders.

    Linear heads predict the meaning of the whole caption from the pooled embedding and from tokens after its end,
    and the meaning of a phrase from its last token. The latter teaches quickly that "very" belongs to the next
    word; without it "very light skin" and "light skin" keep the same embedding for a long time.

    Args:
        budget: Time, folder and device.
        tokenizer: The tokenizer that the encoders were trained with; by default a new one.
        encoders: Encoders to start from; by default new ones.

    Returns:
        ``(tokenizer, encoders, report)``.
    """
    torch.manual_seed(budget.seed)
    tokenizer = tokenizer or build_tokenizer()
    encoders = [e.to(budget.device) for e in encoders or build_encoders(tokenizer)]
    heads = [CaptionHead(WIDTH).to(budget.device) for _ in range(3 * len(encoders))]
    batch = budget.choose(BATCH)

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
        # Tokens from the end token on have seen the whole caption: two of them predict all of it.
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
            # A phrase names one attribute, a caption nearly all: equal weight for each attribute.
            terms[f"phrases_{i + 1}"] = heads[3 * i + 2].loss(hidden[places[:, 0], places[:, 1]], phrases) * 8
        return terms

    modules = {f"encoder_{i + 1}": e for i, e in enumerate(encoders)}
    modules |= {f"head_{i + 1}": h for i, h in enumerate(heads)}
    report = fit("text", modules, loss, budget, batch=batch, lr=1e-3, muon_lr=0.01, ema=0.99)
    return tokenizer, encoders, report
