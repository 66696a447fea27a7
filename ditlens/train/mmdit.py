"""Train the transformer: rectified flow in the autoencoder's latents, conditioned on captions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed
from torch.nn import functional as F
from tqdm.auto import tqdm

from ditlens.train import data, team
from ditlens.train.loop import Budget, fit
from ditlens.train.text import WIDTH as TEXT_WIDTH
from ditlens.train.text import encode, tokenize
from ditlens.worlds.portraits import captions
from ditlens.worlds.portraits.attributes import CATEGORICAL, CONTINUOUS, Attributes, take
from ditlens.worlds.portraits.heldout import held_out

CONFIG: dict[str, Any] = {
    "sample_size": 16, "patch_size": 2, "in_channels": 8, "out_channels": 8, "num_layers": 6,
    "attention_head_dim": 32, "num_attention_heads": 6, "caption_projection_dim": 192,
    "joint_attention_dim": 2 * TEXT_WIDTH, "pooled_projection_dim": 2 * TEXT_WIDTH, "pos_embed_max_size": 8,
    "qk_norm": "rms_norm",
}  # fmt: skip
BATCH = {"cpu": 32, "cuda": 512}
"""Samples of a step; on a GPU halved until they fit, at `SAMPLE_BYTES` each."""
SAMPLE_BYTES = 40e6
"""GPU memory per sample, at most: with all 64 text rows and 256 rows of zeros."""
CAPTIONS = {"cpu": 6, "cuda": 4}
"""Captions drawn ahead for each image; in 110 minutes two CPU cores see an image about seven times."""
LIKE = 0.25
"""Share of all captions, sorted by length, from which those of one step are drawn."""
DROPPED_CAPTIONS = 0.1
NOISE_MEAN = (0.5, 0.0)
"""Mean of the logit of sigma in the first and the second phase.

At high noise levels the model decides what the text says, at low ones it draws outlines.
"""
FLAT_SHARE = (0.5, 0.8)
"""Share of the loss with equal weights for all latent values; the rest weights all attributes equally."""
SECOND_PHASE = 0.56
"""Share of the time after which the second phase begins."""
FULL_ROWS = 0.35
"""Share of the steps with all text rows; in the others, texts end soon after their longest caption."""
EMA = {"cpu": 0.998, "cuda": 0.999}
"""Decay of the average of the weights."""
ADAM_ONLY = ("norm", "pos_embed", "time_text_embed", "context_embedder", "proj_out")
"""Modulation, embeddings and the output stay with AdamW."""


def zero_rows(rng: random.Random) -> int:
    """Number of zero rows after the caption's tokens: what SD3's absent third encoder contributes.

    Mostly none (what ditlens passes); now and then up to the 256 of a stock pipeline call.
    """
    draw = rng.random()
    return 0 if draw < 0.9 else rng.randint(1, 48) if draw < 0.98 else 256


def importance(latents: torch.Tensor, attributes: Attributes) -> torch.Tensor:
    """Loss weights of the latent values under which every attribute counts equally.

    A gaze covers two cells of 256, a background half of them: a plain squared error hardly notices where the eyes
    look. A linear regression of the latents on the attributes gives the variance of each latent value that each
    attribute explains; these maps, each divided by its own mean, are averaged. Weights that depend on the position
    only change what is learnt first; the best prediction is still the mean.

    Args:
        latents: (images, channels, height, width).
        attributes: Attributes of these images.

    Returns:
        Weights of mean 1, (channels, height, width).
    """
    columns = [attributes[a.name][:, None].float() for a in CONTINUOUS]
    columns += [F.one_hot(attributes[c.name], len(c.values)).float()[:, 1:] for c in CATEGORICAL]
    flat = latents.flatten(1).float()
    flat = flat - flat.mean(0)
    design = torch.cat(columns, 1)
    design = design - design.mean(0)
    driver = (
        "gelsd" if flat.device.type == "cpu" else None
    )  # the default gives NaN, at times, of dependent columns
    slopes = torch.linalg.lstsq(design, flat, driver=driver).solution  # (columns, latent values)
    widths, maps = [c.shape[1] for c in columns], []
    for x, slope in zip(design.split(widths, 1), slopes.split(widths), strict=True):  # one attribute each
        explained = (x @ slope).square().mean(0)
        maps.append(explained / explained.mean())
    return torch.stack(maps).mean(0).view(latents.shape[1:])


@dataclass
class Texts:
    """Captions of the training set as token ids, the shortest first.

    Attributes:
        ids: (captions, MAX_LENGTH), on the training device.
        images: Index of the image of each caption, (captions,), on the CPU.
        lengths: Tokens of each caption, with start and end token, (captions,), on the CPU.
        empty: Ids of the empty text, (MAX_LENGTH,), on the training device.
    """

    ids: torch.Tensor
    images: torch.Tensor
    lengths: torch.Tensor
    empty: torch.Tensor

    def choose(self, count: int, quantile: float, generator: torch.Generator) -> torch.Tensor:
        """Draw captions of similar length.

        Args:
            count: Number of captions.
            quantile: Their length: 0 the shortest, 1 the longest.
            generator: Source of randomness.

        Returns:
            Indices of captions, (count,).
        """
        like = max(1, round(LIKE * len(self.lengths)))
        first = round(quantile * (len(self.lengths) - like))
        return first + torch.randint(like, (count,), generator=generator)


def texts_of_part(part: int, each: int, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Captions of one part of the training set, without the combinations that are held out.

    Args:
        part: Number of the part; the captions depend on it only.
        each: Captions per image.
        tokenizer: The grammar's tokenizer.

    Returns:
        Token ids (captions, MAX_LENGTH) as int16, and the index of each caption's image in the training set.
        Arrays, since tensors travel between processes in shared files.
    """
    attributes = data.part_attributes(part)
    shown = (~held_out(attributes)).nonzero()[:, 0].repeat(each)
    texts = captions.caption_all(take(attributes, shown), rng=random.Random(data.DATA_SEED + part))
    return tokenize(tokenizer, texts).to(torch.int16).numpy(), (shown + part * data.PART).numpy()


def texts_of_parts(
    tasks: Sequence[tuple[int, int, Any]], workers: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`texts_of_part` for many parts, in several processes if `workers` is more than 1."""
    found = Parallel(n_jobs=workers, return_as="generator")(delayed(texts_of_part)(*task) for task in tasks)
    return list(tqdm(found, "captions", len(tasks), unit="part", disable=None))


def draw_texts(budget: Budget, tokenizer: Any) -> Texts:
    """Captions for the whole training set, drawn ahead so that a GPU need not wait for them at every step.

    For a GPU they are drawn on up to 16 CPU cores; on a CPU one process takes half a minute.
    """
    each = budget.choose(CAPTIONS)
    tasks = [(part, each, tokenizer) for part in range(data.parts(budget))]
    workers = max(1, min(cpu_count() // team.size(), 16)) if budget.gpu else 1
    found = texts_of_parts(tasks, workers)
    ids, images = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*found, strict=True))
    lengths = (ids == tokenizer.eos_token_id).int().argmax(1) + 1
    order = lengths.argsort(stable=True)
    return Texts(
        ids[order].to(budget.device), images[order], lengths[order],
        tokenize(tokenizer, [""])[0].to(budget.device, torch.int16),
    )  # fmt: skip


def fitting(batch: int, free: float) -> int:
    """`batch`, halved until it fits into the free bytes of a GPU's memory; at least 8."""
    while batch > 8 and batch * SAMPLE_BYTES > free:
        batch //= 2
    return batch


def train(budget: Budget, vae: Any, tokenizer: Any, encoders: list[Any], transformer: Any = None):
    """Train an `SD3Transformer2DModel` beside frozen text encoders.

    The loss is the squared error of the velocity, ``noise - clean``, at logit-normal ``sigma``, a share of it
    weighted by `importance`. The second phase uses lower noise levels and a smaller weighted share.

    Args:
        budget: Time, folder and device.
        vae: The trained autoencoder.
        tokenizer: The grammar's tokenizer.
        encoders: The two trained text encoders.
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
    texts = draw_texts(budget, tokenizer)
    shown = (~held_out(attributes)).nonzero()[:, 0]
    some = shown[:20_000]
    telling = importance(latents[some], take(attributes, some)).to(budget.device)
    weights = [flat + (1 - flat) * telling for flat in FLAT_SHARE]
    batch = budget.choose(BATCH)
    if budget.gpu:
        data.images_on.cache_clear()  # only their latents are needed from here on
        torch.cuda.empty_cache()
        latents = latents.to(budget.device)
        batch = fitting(batch, torch.cuda.mem_get_info(budget.device)[0])

    def loss(step: int) -> dict[str, torch.Tensor]:
        phase = int(budget.progress >= SECOND_PHASE)
        generator, there = budget.generators(step)
        # Drawn alike in all processes of a team, so that their steps take equal time.
        common = random.Random(step // team.size())
        full, quantile, rows = common.random() < FULL_ROWS, common.random(), zero_rows(common)
        chosen = texts.choose(batch, quantile, generator)
        ids = texts.ids[chosen.to(budget.device)]
        dropped = torch.rand(batch, generator=there, device=budget.device) < DROPPED_CAPTIONS
        ids = torch.where(dropped[:, None], texts.empty, ids).long()
        if not full:
            ids = ids[:, : int(texts.lengths[chosen].max()) + common.randint(0, 8)]
        with torch.no_grad():
            tokens, pooled = encode(encoders, ids)
        if rows:
            tokens = torch.cat([tokens, tokens.new_zeros(batch, rows, tokens.shape[-1])], 1)
        clean = latents[texts.images[chosen].to(latents.device)].to(budget.device).float()
        noise = torch.randn(clean.shape, generator=there, device=budget.device)
        sigma = (torch.randn(batch, generator=there, device=budget.device) + NOISE_MEAN[phase]).sigmoid()
        mixed = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1))
        velocity = transformer(
            hidden_states=mixed, encoder_hidden_states=tokens, pooled_projections=pooled,
            timestep=sigma * 1000, return_dict=False,
        )[0]  # fmt: skip
        return {"velocity": ((velocity.float() - (noise - clean)).square() * weights[phase]).mean()}

    report = fit(
        "mmdit", {"transformer": transformer}, loss, budget, batch=batch, lr=1.5e-3, muon_lr=0.02,
        adam_only=ADAM_ONLY, ema=budget.choose(EMA),
    )  # fmt: skip
    return transformer, report
