"""Train the transformer: rectified flow in the autoencoder's latents, conditioned on captions."""

from __future__ import annotations

import random
from typing import Any

import torch

from ditlens.train import data
from ditlens.train.loop import Budget, fit
from ditlens.train.text import WIDTH as TEXT_WIDTH
from ditlens.train.text import encode, tokenize
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import take
from ditlens.worlds.portraits.heldout import held_out

CONFIG: dict[str, Any] = {
    "sample_size": 16, "patch_size": 2, "in_channels": 8, "out_channels": 8, "num_layers": 6,
    "attention_head_dim": 32, "num_attention_heads": 6, "caption_projection_dim": 192,
    "joint_attention_dim": 2 * TEXT_WIDTH, "pooled_projection_dim": 2 * TEXT_WIDTH, "pos_embed_max_size": 8,
    "qk_norm": "rms_norm",
}  # fmt: skip
BATCH = {"cpu": 32, "cuda": 512}
DROPPED_CAPTIONS = 0.1
TEXT_LR = 0.1
"""Learning rate of the text encoders relative to the transformer's, where they are trained on."""


ADAM_ONLY = ("norm", "pos_embed", "time_text_embed", "context_embedder", "proj_out")
"""Modulation, embeddings and the output stay with AdamW."""


def zero_rows(rng: random.Random) -> int:
    """Number of zero rows after the caption's tokens: what SD3's absent third encoder contributes.

    Mostly none (what ditlens passes); now and then up to the 256 of a stock pipeline call.
    """
    draw = rng.random()
    return 0 if draw < 0.85 else rng.randint(1, 48) if draw < 0.97 else 256


def train(budget: Budget, vae: Any, tokenizer: Any, encoders: list[Any], transformer: Any = None):
    """Train an `SD3Transformer2DModel`, and the text encoders on with it at a low rate.

    The loss is the squared error of the velocity, ``noise - clean``, at ``sigma`` drawn logit-normal.

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
    latents, attributes = data.latents(vae, budget), data.attributes(budget)
    shown = (~held_out(attributes)).nonzero()[:, 0]
    batch = BATCH.get(budget.device.type, 32)
    joint = budget.device.type == "cuda"  # on a CPU the text encoders stay as they are: a sixth of the time

    def loss(step: int) -> dict[str, torch.Tensor]:
        generator = budget.generator(step)
        rng = random.Random(generator.initial_seed())
        index = shown[torch.randint(len(shown), (batch,), generator=generator)]
        texts = captions.caption_all(take(attributes, index), rng=rng)
        texts = ["" if rng.random() < DROPPED_CAPTIONS else text for text in texts]
        with torch.set_grad_enabled(joint):
            tokens, pooled = encode(encoders, tokenize(tokenizer, texts).to(budget.device))
        rows = zero_rows(rng)
        if rows:
            tokens = torch.cat([tokens, tokens.new_zeros(batch, rows, tokens.shape[-1])], 1)
        clean = latents[index].to(budget.device).float()
        noise = torch.randn(clean.shape, generator=generator).to(budget.device)
        sigma = torch.randn(batch, generator=generator).sigmoid().to(budget.device)
        mixed = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1))
        velocity = transformer(
            hidden_states=mixed, encoder_hidden_states=tokens, pooled_projections=pooled,
            timestep=sigma * 1000, return_dict=False,
        )[0]  # fmt: skip
        return {"velocity": (velocity.float() - (noise - clean)).square().mean()}

    modules = {"transformer": transformer}
    if joint:
        modules |= {"encoder_1": encoders[0], "encoder_2": encoders[1]}
    report = fit(
        "mmdit", modules, loss, budget, lr=1.5e-3, muon_lr=0.02, adam_only=ADAM_ONLY,
        lr_scale={"encoder_1": TEXT_LR, "encoder_2": TEXT_LR}, ema=0.9995 if joint else 0.998,
    )  # fmt: skip
    report["samples"] = report["steps"] * batch
    return transformer, report
