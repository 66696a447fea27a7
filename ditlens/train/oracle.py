"""Train the oracle on renders and on their reconstructions by the autoencoder."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from ditlens.train import data, team
from ditlens.train.loop import Budget, fit
from ditlens.worlds.portraits.attributes import CATEGORICAL, CONTINUOUS, Attributes, sample, take, visible
from ditlens.worlds.portraits.oracle import Oracle, targets
from ditlens.worlds.portraits.render import render

BATCH = {"cpu": 32, "cuda": 256}
HEADS = ("continuous", "categorical")
"""The heads stay with AdamW."""
DECODED_SHARE = 1 / 3
"""Share of images that are replaced by the autoencoder's reconstruction."""


def augment(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What distinguishes generated images: a little blur, noise, and shifts of brightness and contrast."""
    draw = torch.rand(4, len(image), 1, 1, 1, generator=generator, device=generator.device).to(image)
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    image = torch.lerp(image, blurred, draw[0] * (draw[1] > 0.5))
    noise = torch.randn(image.shape, generator=generator, device=generator.device).to(image)
    image = image + noise * 0.05 * draw[2].square()
    return ((image - 0.5) * (0.93 + 0.14 * draw[3]) + 0.5 + 0.04 * (draw[1] - 0.5)).clamp(0, 1)


def loss_terms(oracle: nn.Module, image: torch.Tensor, truth: Attributes) -> dict[str, torch.Tensor]:
    """Squared error of continuous attributes, cross-entropy of categorical ones; hidden ones do not count."""
    seen = visible(truth)
    values, logits = oracle(image)
    weight = torch.stack([seen[a.name] for a in CONTINUOUS], 1).float()
    error = (values - targets(truth)).square() * weight
    cross = [
        (F.cross_entropy(logit, truth[c.name], reduction="none", label_smoothing=0.02) * seen[c.name]).mean()
        for c, logit in zip(CATEGORICAL, logits, strict=True)
    ]
    return {"continuous": 8 * error.mean(), "categorical": torch.stack(cross).mean()}


def train(budget: Budget, vae):
    """Train an `Oracle`; returns it with a report of its quality on held-out renders."""
    torch.manual_seed(budget.seed)
    oracle = Oracle().to(budget.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with team.leader_first():
        pictures, stored = data.renders(budget), data.latents(vae, budget)
    attributes, batch = data.attributes(budget), budget.choose(BATCH)
    if budget.gpu:
        stored = stored.to(budget.device)

    def loss(step: int) -> dict[str, torch.Tensor]:
        generator, there = budget.generators(step)
        index = torch.randint(len(pictures), (batch,), generator=generator)
        image = data.batch_of(pictures, index, budget.device)
        with torch.no_grad():
            if step % 3 == 0:  # decoding is slow on a CPU
                count = round(batch * DECODED_SHARE * 3) // 2
                z = stored[index[:count].to(stored.device)].to(budget.device).float()
                level = torch.rand(count, 1, 1, 1, generator=there, device=budget.device)
                z = z + 0.1 * level * torch.randn(z.shape, generator=there, device=budget.device)
                z = z / vae.config.scaling_factor + vae.config.shift_factor
                image[:count] = (vae.decode(z).sample / 2 + 0.5).clamp(0, 1)
            image = augment(image, there).contiguous(memory_format=torch.channels_last)
        truth = {n: v.to(budget.device) for n, v in take(attributes, index).items()}
        return loss_terms(oracle, image, truth)

    report = fit(
        "oracle", {"oracle": oracle}, loss, budget, batch=batch, lr=2e-3, muon_lr=0.02, adam_only=HEADS, ema=0.98
    )  # fmt: skip
    # The batch-norm statistics belong to the weights before averaging.
    update_bn(
        (data.batch_of(pictures, part, budget.device) for part in torch.arange(2000).split(100)), oracle
    )
    return oracle, report | evaluate(oracle, budget.device, vae)


@torch.no_grad()
def evaluate(oracle: Oracle, device: torch.device, vae=None, count: int = 2000) -> dict[str, float]:
    """Quality on held-out renders, and on their reconstructions if an autoencoder is given.

    Returns:
        R-squared of each continuous and accuracy of each categorical attribute, over the images in which it is
        visible; names end in ``/decoded`` for reconstructions.
    """
    truth = sample(count, torch.Generator().manual_seed(11))
    seen, pictures = visible(truth), render(truth, 128, device)
    report: dict[str, float] = {}
    for suffix in ("", "/decoded") if vae is not None else ("",):
        reads = []
        for part in pictures.split(100):
            if suffix:
                part = (vae.decode(vae.encode(part * 2 - 1).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1)
            reads.append(oracle.read(part))
        read = {n: torch.cat([r[n] for r in reads]) for n in truth}
        for a in CONTINUOUS:
            x, y = truth[a.name][seen[a.name]], read[a.name][seen[a.name]]
            report[a.name + suffix] = 1 - ((x - y).square().sum() / (x - x.mean()).square().sum()).item()
        for c in CATEGORICAL:
            ok = (truth[c.name] == read[c.name])[seen[c.name]]
            report[c.name + suffix] = ok.float().mean().item()
    return report
