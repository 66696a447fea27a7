"""FLUX.1 behind the same verbs as SD3: packed latents, positions as ids, and guidance that the model is told.

What differs from `ditlens.models.model.Model`:

- Latents (B, C, H, W) are packed two by two into tokens (B, H/2 * W/2, 4 C) before the transformer, and unpacked
  behind it.
- The transformer takes sigma itself, not 1000 sigma, and the positions of all tokens.
- The token matrix of a text is T5's; CLIP gives the pooled vector only.
- FLUX.1-dev is guidance-distilled: its guidance is an input, and there is no second, empty prompt. A guidance of a
  method (`source_guidance`, `target_guidance`, `guidance`) is that number. Published settings for FLUX are thus
  others than for SD3: FlowEdit's are 1.5 and 5.5. FLUX.1-schnell has no such input and is guided as SD3 is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ditlens.errors import SettingError
from ditlens.labels import Label, announce
from ditlens.models.embedding import TextEmbedding
from ditlens.models.model import Model

PACK = 2
"""Side of the square of latents that becomes one token."""
TEXT_ROWS = 512
"""Rows of T5's tokens; FLUX.1-schnell takes half of them."""


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, H/2 * W/2, 4 C), as FLUX's pipeline packs.

    Raises:
        SettingError: If H or W is odd.
    """
    batch, channels, height, width = latents.shape
    if height % PACK or width % PACK:
        raise SettingError(f"FLUX packs latents two by two; {height} x {width} latents do not divide.")
    squares = latents.reshape(batch, channels, height // PACK, PACK, width // PACK, PACK)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // PACK**2, channels * PACK**2)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, H/2 * W/2, 4 C) -> (B, C, H, W)."""
    batch, _, wide = tokens.shape
    squares = tokens.reshape(batch, height // PACK, width // PACK, wide // PACK**2, PACK, PACK)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(batch, wide // PACK**2, height, width)


def positions(height: int, width: int) -> torch.Tensor:
    """Row and column of every image token, (H/2 * W/2, 3); the first number is 0."""
    rows, columns = torch.meshgrid(torch.arange(height // PACK), torch.arange(width // PACK), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).float()


class FluxModel(Model):
    """A diffusers `FluxPipeline` with the verbs of `ditlens.models.model.Model`."""

    @property
    def usual_guidance(self) -> float:
        return 3.5 if self.distilled else 1.0

    @property
    def distilled(self) -> bool:
        """Whether guidance is an input of the transformer (FLUX.1-dev), not a second prompt (FLUX.1-schnell)."""
        return bool(self.transformer.config.guidance_embeds)

    @property
    def side(self) -> int:
        return self.pipe.default_sample_size * self.pipe.vae_scale_factor

    @property
    def latent_channels(self) -> int:
        return self.transformer.config.in_channels // PACK**2

    @property
    def patch(self) -> int:
        return PACK

    @property
    def square(self) -> bool:
        return False

    @property
    def row_tokenizer(self) -> Any:
        return self.pipe.tokenizer_2

    def grid_settings(self, steps: int) -> dict[str, Any]:
        return {"sigmas": torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64).tolist()}

    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str]) -> TextEmbedding:
        """Embed prompts as the pipeline does: T5's tokens, CLIP's pooled vector; see `Model.encode_text`."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        rows = TEXT_ROWS if self.distilled else TEXT_ROWS // 2
        tokens, pooled, _ = self.pipe.encode_prompt(
            prompts, prompts, device=self.device, max_sequence_length=rows
        )
        counted = self.pipe.tokenizer_2(prompts, truncation=True, max_length=rows, padding="max_length")
        mask = torch.tensor(counted.attention_mask, device=tokens.device).bool()
        guidance = (float(self.defaults["guidance"]),) * len(prompts) if self.distilled else None
        return TextEmbedding(tokens, pooled, mask, tuple(prompts), ("cond",) * len(prompts), guidance)

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, sigma: float, text: TextEmbedding) -> torch.Tensor:
        """The velocity field, (B, C, H, W) float32; see `Model.__call__`."""
        height, width = latents.shape[-2:]
        guidance = None
        if text.guidance is not None and self.distilled:
            guidance = torch.tensor(text.guidance, device=self.device)
        with announce(Label(text.roles, text.prompts, text.mask)):
            velocity = self.transformer(
                hidden_states=pack(latents).to(self.device, self.dtype),
                encoder_hidden_states=text.tokens.to(self.device, self.dtype),
                pooled_projections=text.pooled.to(self.device, self.dtype),
                timestep=torch.full((len(latents),), float(sigma), device=self.device, dtype=self.dtype),
                guidance=guidance,
                img_ids=positions(height, width).to(self.device, self.dtype),
                txt_ids=torch.zeros(text.tokens.shape[1], 3, device=self.device, dtype=self.dtype),
                return_dict=False,
            )[0]
        return unpack(velocity.float(), height, width)
