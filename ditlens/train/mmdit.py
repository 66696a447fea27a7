"""Train the transformer: rectified flow in the autoencoder's latents, conditioned on captions."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch.nn import functional as F

from ditlens.train import data, team
from ditlens.train.loop import Budget, fit
from ditlens.train.text import WIDTH as TEXT_WIDTH
from ditlens.train.text import encode, tokenize
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import CATEGORICAL, CONTINUOUS, Attributes, take
from ditlens.worlds.portraits.heldout import held_out
from ditlens.worlds.portraits.phrases import count_tokens

CONFIG: dict[str, Any] = {
    "sample_size": 16, "patch_size": 2, "in_channels": 8, "out_channels": 8, "num_layers": 6,
    "attention_head_dim": 32, "num_attention_heads": 6, "caption_projection_dim": 192,
    "joint_attention_dim": 2 * TEXT_WIDTH, "pooled_projection_dim": 2 * TEXT_WIDTH, "pos_embed_max_size": 8,
    "qk_norm": "rms_norm",
}  # fmt: skip
BATCH = {"cpu": 32, "cuda": 512}
DROPPED_CAPTIONS = 0.1
NOISE_MEAN = (0.5, 0.0)
"""Mean of the logit of sigma in the first and the second phase.

What a text says is decided where noise prevails; outlines are drawn where little is left.
"""
FLAT_SHARE = (0.5, 0.8)
"""Share of the loss in which every number of the latents counts alike; in the rest every attribute does."""
SECOND_PHASE = 0.56
"""Share of the time after which obedience is learnt and the drawing gets its turn."""
FULL_ROWS = 0.35
"""Share of the steps with all text rows; the others end soon after their longest caption, and cost less."""
TEXT_LR = 0.1
"""Learning rate of the text encoders relative to the transformer's, where they are trained on."""


ADAM_ONLY = ("norm", "pos_embed", "time_text_embed", "context_embedder", "proj_out")
"""Modulation, embeddings and the output stay with AdamW."""


def zero_rows(rng: random.Random) -> int:
    """Number of zero rows after the caption's tokens: what SD3's absent third encoder contributes.

    Mostly none (what ditlens passes); now and then up to the 256 of a stock pipeline call.
    """
    draw = rng.random()
    return 0 if draw < 0.9 else rng.randint(1, 48) if draw < 0.98 else 256


def importance(latents: torch.Tensor, attributes: Attributes) -> torch.Tensor:
    """How much each number of the latents tells about the attributes, every attribute counting alike.

    A gaze is two cells out of 256, a background is half of them: the plain squared error hardly notices where the
    eyes look. A linear regression of the latents on the attributes gives the variance that each attribute explains
    of each number; these maps, each divided by its own mean, are averaged. Weights that depend on the place only
    change what is learnt first, not what the best prediction is: the mean.

    Args:
        latents: (pictures, channels, height, width).
        attributes: Their attributes.

    Returns:
        Weights of mean 1, (channels, height, width).
    """
    columns = [attributes[a.name][:, None].float() for a in CONTINUOUS]
    columns += [F.one_hot(attributes[c.name], len(c.values)).float()[:, 1:] for c in CATEGORICAL]
    flat = latents.flatten(1).float()
    flat = flat - flat.mean(0)
    design = torch.cat(columns, 1)
    design = design - design.mean(0)
    slopes = torch.linalg.lstsq(design, flat).solution  # (columns, numbers)
    maps, first = [], 0
    for width in map(lambda c: c.shape[1], columns):
        part = slice(first, first + width)
        explained = (design[:, part] @ slopes[part]).square().mean(0)
        maps.append(explained / explained.mean())
        first += width
    return torch.stack(maps).mean(0).view(latents.shape[1:])


def captions_of_like_length(
    attributes: Attributes, shown: torch.Tensor, batch: int, generator: torch.Generator, quantile: float
) -> tuple[torch.Tensor, list[str]]:
    """Pictures and their captions, which are about as long as one another.

    Args:
        attributes: Of the training set.
        shown: Pictures that may be drawn.
        batch: How many to draw.
        generator: Source of randomness.
        quantile: How long: 0 the shortest, 1 the longest.

    Returns:
        Indices of the pictures, (batch,), and one text each.
    """
    pool = shown[torch.randint(len(shown), (4 * batch,), generator=generator)]
    texts = captions.caption_all(take(attributes, pool), rng=random.Random(generator.initial_seed()))
    order = sorted(range(len(pool)), key=lambda k: count_tokens(texts[k]))
    first = round(quantile * (len(pool) - batch))
    chosen = order[first : first + batch]
    return pool[chosen], [texts[k] for k in chosen]


def train(budget: Budget, vae: Any, tokenizer: Any, encoders: list[Any], transformer: Any = None):
    """Train an `SD3Transformer2DModel`, and the text encoders on with it at a low rate.

    The loss is the squared error of the velocity, ``noise - clean``, at ``sigma`` drawn logit-normal, a share of it
    weighted by what the numbers of the latents tell about the attributes (`importance`). The second phase sees
    less noise and weighs the numbers more alike.

    Args:
        budget: Time, place, device.
        vae: The trained autoencoder.
        tokenizer: The grammar's tokenizer.
        encoders: The two trained text encoders; they are trained on in place.
        transformer: Weights to start from; by default new ones.

    Returns:
        The transformer with averaged weights, and the loop's report.
    """
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(budget.seed)
    transformer = (transformer or SD3Transformer2DModel(**CONFIG)).to(budget.device)
    encoders = [e.to(budget.device) for e in encoders]
    with team.leader_first():
        latents, attributes = data.latents(vae, budget), data.attributes(budget)
    shown = (~held_out(attributes)).nonzero()[:, 0]
    some = shown[:20_000]
    telling = importance(latents[some], take(attributes, some)).to(budget.device)
    weights = [flat + (1 - flat) * telling for flat in FLAT_SHARE]
    batch = BATCH.get(budget.device.type, 32)
    joint = budget.device.type == "cuda"  # on a CPU the text encoders stay as they are: a sixth of the time

    def loss(step: int) -> dict[str, torch.Tensor]:
        phase = int(budget.progress >= SECOND_PHASE)
        generator = budget.generator(step)
        rng = random.Random(generator.initial_seed())
        common = random.Random(
            step // team.size()
        )  # what all members of a team draw alike: they take equal time
        full, quantile, rows = common.random() < FULL_ROWS, common.random(), zero_rows(common)
        index, texts = captions_of_like_length(attributes, shown, batch, generator, quantile)
        texts = ["" if rng.random() < DROPPED_CAPTIONS else text for text in texts]
        ids = tokenize(tokenizer, texts)
        if not full:
            longest = int((ids == tokenizer.eos_token_id).int().argmax(1).max()) + 1
            ids = ids[:, : longest + common.randint(0, 8)]
        with torch.set_grad_enabled(joint):
            tokens, pooled = encode(encoders, ids.to(budget.device))
        if rows:
            tokens = torch.cat([tokens, tokens.new_zeros(batch, rows, tokens.shape[-1])], 1)
        clean = latents[index].to(budget.device).float()
        noise = torch.randn(clean.shape, generator=generator).to(budget.device)
        sigma = (torch.randn(batch, generator=generator) + NOISE_MEAN[phase]).sigmoid().to(budget.device)
        mixed = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1))
        velocity = transformer(
            hidden_states=mixed, encoder_hidden_states=tokens, pooled_projections=pooled,
            timestep=sigma * 1000, return_dict=False,
        )[0]  # fmt: skip
        return {"velocity": ((velocity.float() - (noise - clean)).square() * weights[phase]).mean()}

    modules = {"transformer": transformer}
    if joint:
        modules |= {"encoder_1": encoders[0], "encoder_2": encoders[1]}
    report = fit(
        "mmdit", modules, loss, budget, lr=1.5e-3, muon_lr=0.02, adam_only=ADAM_ONLY,
        lr_scale={"encoder_1": TEXT_LR, "encoder_2": TEXT_LR}, ema=0.9995 if joint else 0.998,
    )  # fmt: skip
    report["samples"] = report["steps"] * batch * team.size()
    return transformer, report
