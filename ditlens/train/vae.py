"""Train the autoencoder: 128 x 128 portraits to 16 x 16 latents of 8 channels and back."""

from __future__ import annotations

import torch

from ditlens.train import data
from ditlens.train.data import SIZE
from ditlens.train.loop import Budget, fit
from ditlens.worlds.portraits.attributes import sample
from ditlens.worlds.portraits.render import render

CONFIG = {
    "in_channels": 3, "out_channels": 3, "sample_size": 128, "latent_channels": 8, "norm_num_groups": 4,
    "block_out_channels": (16, 32, 64, 128), "layers_per_block": 1, "mid_block_add_attention": False,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "use_quant_conv": False, "use_post_quant_conv": False, "force_upcast": False, "shift_factor": 0.0,
}  # fmt: skip
BATCH = {"cpu": 4, "cuda": 32}
CROP, CROPS = 64, 2
"""CROPS crops of CROP pixels from each image make steps cheaper."""
CROP_SHARE = {"cpu": 0.75, "cuda": 0.0}
"""Share of the time, from the start, in which crops are trained on; on a GPU they would save hardly anything."""
MSE_WEIGHT, KL_WEIGHT, EDGE_WEIGHT = 2.0, 2e-4, 0.5


def edges(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences between neighbouring pixels, along height and width."""
    return image[..., 1:, :] - image[..., :-1, :], image[..., :, 1:] - image[..., :, :-1]


def start_simple(vae) -> None:
    """Initialise as a nearly linear and noiseless autoencoder, which then learns several times faster.

    The last convolution of every residual branch starts at zero, the posterior's standard deviation at exp(-3).
    """
    for name, module in vae.named_modules():
        if name.endswith("conv2"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    half = vae.config.latent_channels
    with torch.no_grad():
        vae.encoder.conv_out.weight[half:] *= 0.1
        vae.encoder.conv_out.bias[half:] = -6.0


def train(budget: Budget, vae=None, *, decoder_only: bool = False):
    """Train an `AutoencoderKL` on renders: made on the fly, or on a GPU drawn from the training set.

    The loss is the mean absolute error of pixels and of their differences (sharp lines), a squared error (PSNR) and
    a small Kullback-Leibler term that keeps the latents near a unit Gaussian. The scaling and shift factors are
    then measured, so that the latents the transformer sees have mean 0 and standard deviation 1.

    Args:
        budget: Time, folder and device.
        vae: Weights to start from; by default new ones.
        decoder_only: Keep the encoder and the factors, on which a transformer was trained.

    Returns:
        The trained autoencoder, in eval mode, and the loop's report.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(budget.seed)
    if vae is None:
        vae = AutoencoderKL(**CONFIG)
        start_simple(vae)
    vae = vae.to(budget.device, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(not decoder_only)
    batch = budget.choose(BATCH)
    cropped = budget.choose(CROP_SHARE) if not decoder_only else 0.0
    drawn = data.renders(budget) if budget.gpu else None

    def loss(step: int) -> dict[str, torch.Tensor]:
        generator = budget.generator(step)
        with torch.no_grad():
            if drawn is None:
                image = render(sample(batch, generator), SIZE, budget.device)
            else:
                chosen = torch.randint(len(drawn), (batch,), generator=generator)
                image = data.batch_of(drawn, chosen, budget.device)
            image = image * 2 - 1
            if budget.progress < cropped:
                corners = torch.randint(SIZE - CROP + 1, (CROPS, 2), generator=generator).tolist()
                image = torch.cat([image[..., y : y + CROP, x : x + CROP] for y, x in corners])
            image = image.contiguous(memory_format=torch.channels_last)
            if decoder_only:
                latents = vae.encode(image).latent_dist.mode()
        if not decoder_only:
            posterior = vae.encode(image).latent_dist
            latents = posterior.sample()
        decoded = vae.decode(latents).sample
        error = decoded - image
        edge = sum((a - b).abs().mean() for a, b in zip(edges(decoded), edges(image), strict=True))
        terms = {
            "l1": error.abs().mean(),
            "mse": MSE_WEIGHT * error.square().mean(),
            "edge": EDGE_WEIGHT * edge,
        }
        if not decoder_only:
            kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
            terms["kl"] = KL_WEIGHT * kl
        return terms

    stage, lr = ("vae_decoder", 0.5) if decoder_only else ("vae", 1.0)
    report = fit(stage, {"vae": vae}, loss, budget, batch=batch, lr=3e-3 * lr, muon_lr=0.02 * lr, ema=0.998)
    if not decoder_only:
        measure_factors(vae, budget)
    report["psnr_db"] = psnr(vae, budget)
    return vae, report


@torch.no_grad()
def measure_factors(vae, budget: Budget) -> None:
    """Set shift and scaling so that the latents of renders have mean 0 and standard deviation 1."""
    image = render(sample(256, budget.generator(10**8)), SIZE, budget.device) * 2 - 1
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in image.split(16)]).float()
    vae.register_to_config(
        scaling_factor=round(1 / latents.std().item(), 4), shift_factor=round(latents.mean().item(), 4)
    )


@torch.no_grad()
def psnr(vae, budget: Budget, count: int = 128) -> float:
    """Peak signal-to-noise ratio in dB of held-out renders after encoding and decoding, mean over images."""
    people, values = sample(count, torch.Generator().manual_seed(7)), []
    for image in render(people, SIZE, budget.device).split(16):
        decoded = vae.decode(vae.encode(image * 2 - 1).latent_dist.mode()).sample.clamp(-1, 1) / 2 + 0.5
        values.append(-10 * (decoded - image).square().mean((1, 2, 3)).log10())
    return torch.cat(values).mean().item()
