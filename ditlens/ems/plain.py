"""Four editing methods to be read: straight PyTorch, one image, nothing shared but the guidance.

`ditlens.ems.engine` runs the same methods (and more) in batches, with masks, previews and captures; tests hold both
equal. The symbols are those of `ditlens.ems.methods`: x the latents of the source image, z those of the edited one,
t the noise level (1 is noise, 0 clean), eps the noise, v the velocity ``noise - clean`` that the model predicts::

    x        latents of one image, (1, C, H, W); `Model.encode_image` makes them, `Model.decode` shows z
    velocity the model: velocity(latents, t, text) -> (1, C, H, W)
    texts    embeddings of the source, target and empty text, from `Model.encode_text`
    sigmas   noise levels from 1 down to 0, (T + 1,), from `Model.sigmas`

Example:
    >>> x = model.encode_image(model.sample(["a slight smile"], [0], steps=2))
    >>> source, target = model.encode_text("a slight smile"), model.encode_text("a big smile")
    >>> z = ems(model, x, source, target, degree=1.0, sigmas=model.sigmas(12))
    >>> model.decode(z).shape
    torch.Size([1, 3, 128, 128])
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from ditlens.flow import Latents, Mask, VelocityField, generator_of, normal

Text = Any
"""A `TextEmbedding` of one text, or a tensor in the analytic worlds; both can ``lerp``."""


def guided(velocity: VelocityField, latents: Latents, t: float, text: Text, away: Text, w: float) -> Latents:
    """Classifier-free guidance: v(away) + w (v(text) - v(away)); `away` is the empty text, or the source text."""
    v_away = velocity(latents, t, away)
    return v_away + w * (velocity(latents, t, text) - v_away)


@torch.no_grad()
def ems(
    velocity: VelocityField,
    x: Latents,
    source: Text,
    target: Text,
    *,
    degree: float,
    sigmas: torch.Tensor,
    mask: Mask | float = 1.0,
    seed: int = 0,
) -> Latents:
    """EMS-style edit: the text moves by the degree, then the latents follow the difference of two velocities.

    The text step is what public summaries of EMS (arXiv 2408.13335) describe. The constraint on the image half is
    not known to us; this reading couples the edited image fully to the source under the same noise, as FlowEdit
    does, without guidance: degree 1 lands where the target text says. degree 0 returns x.
    """
    text = source.lerp(target, degree)  # manipulate the text: c0 + degree (c1 - c0)
    noise_of = generator_of(seed)
    z = x
    for t, t_next in pairwise(sigmas.tolist()):
        eps = normal(x.shape[1:], noise_of).to(x)
        q = (1 - t) * x + t * eps
        p = q + (z - x)
        z = z + (t_next - t) * (velocity(p, t, text) - velocity(q, t, source))
        z = x + mask * (z - x)  # where the edit may act
    return z  # sample: decode it


@torch.no_grad()
def flowedit(
    velocity: VelocityField,
    x: Latents,
    source: Text,
    target: Text,
    null: Text,
    *,
    sigmas: torch.Tensor,
    source_guidance: float = 3.5,
    target_guidance: float = 13.5,
    skip: int = 17,
    seed: int = 0,
) -> Latents:
    """FlowEdit (arXiv 2412.08629): follow the difference of two velocities along the grid, without inversion.

    Both see the same noise: q is the source noised, p the edited image under that noise. The published settings for
    SD3 run the last 33 of 50 steps (`skip` 17).
    """
    noise_of = generator_of(seed)
    z = x
    for t, t_next in pairwise(sigmas.tolist()[skip:]):
        eps = normal(x.shape[1:], noise_of).to(x)
        q = (1 - t) * x + t * eps
        p = z + q - x
        v_source = guided(velocity, q, t, source, null, source_guidance)
        v_target = guided(velocity, p, t, target, null, target_guidance)
        z = z + (t_next - t) * (v_target - v_source)
    return z


@torch.no_grad()
def dds(
    velocity: VelocityField,
    x: Latents,
    source: Text,
    target: Text,
    null: Text,
    *,
    steps: int = 200,
    lr: float = 0.0488,
    guidance: float = 7.5,
    seed: int = 0,
) -> Latents:
    """Delta denoising score (arXiv 2304.07090) for a rectified flow: descend a gradient at random noise levels.

    Score distillation alone would pull z to the target text's average image; subtracting the source's own score
    under the same noise removes that pull. The clean estimates are p - t v(p) and q - t v(q).
    """
    levels = 0.05 + 0.9 * torch.rand(steps, generator=generator_of(0), dtype=torch.float32, device="cpu")
    noise_of = generator_of(seed)
    z = x
    for t in levels.tolist():
        eps = normal(x.shape[1:], noise_of).to(x)
        q, p = (1 - t) * x + t * eps, (1 - t) * z + t * eps
        v_source = guided(velocity, q, t, source, null, guidance)
        v_target = guided(velocity, p, t, target, null, guidance)
        gradient = (v_target - (eps - z)) - (v_source - (eps - x))  # the score of z less the score of x
        z = z - lr * (1 - t) * gradient
    return z


@torch.no_grad()
def flowslider(
    velocity: VelocityField,
    x: Latents,
    source: Text,
    target: Text,
    *,
    slider: float,
    sigmas: torch.Tensor,
    seed: int = 0,
) -> Latents:
    """FlowSlider, as inferred from its abstract: the degree slides guidance away from the source text.

    slider 0 is the source, 1 the target, 2 beyond; the text itself does not move.
    """
    noise_of = generator_of(seed)
    z = x
    for t, t_next in pairwise(sigmas.tolist()):
        eps = normal(x.shape[1:], noise_of).to(x)
        q = (1 - t) * x + t * eps
        p = z + q - x
        difference = guided(velocity, p, t, target, source, slider) - velocity(q, t, source)
        z = z + (t_next - t) * difference
    return z
