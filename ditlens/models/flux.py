"""FLUX.1 behind the same verbs as SD3: packed latents, positions as ids, and embedded guidance.

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
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ditlens.arguments import TEXTS, takes
from ditlens.description import one_reader_at_a_time
from ditlens.errors import SettingError
from ditlens.flow import Latents
from ditlens.labels import Label, announce
from ditlens.models.embedding import TextEmbedding
from ditlens.models.model import Model, on_the_usual_device

PACK = 2
"""Side of the square of latents that becomes one token."""
SQUARES = "(rows down) (columns right)"
TOKENS = "batch (rows columns) (channels down right)"
"""Axes of latents and of packed tokens."""
TEXT_ROWS = 512
"""Rows of T5's tokens; FLUX.1-schnell takes half of them."""


def pack(latents: Latents) -> Float[Tensor, "batch tokens width"]:
    """(batch, channels, H, W) -> (batch, H/2 * W/2, 4 * channels), as FLUX's pipeline packs.

    >>> pack(torch.zeros(1, 16, 64, 48)).shape
    torch.Size([1, 768, 64])

    Raises:
        SettingError: If H or W is odd.
    """
    height, width = latents.shape[-2:]
    if height % PACK or width % PACK:
        raise SettingError(f"FLUX packs latents two by two; {height} x {width} latents do not divide.")
    return rearrange(latents, f"batch channels {SQUARES} -> {TOKENS}", down=PACK, right=PACK)


def unpack(tokens: Float[Tensor, "batch tokens width"], height: int, width: int) -> Latents:
    """(batch, H/2 * W/2, 4 * channels) -> (batch, channels, H, W).

    >>> latents = torch.randn(1, 16, 64, 48)
    >>> torch.equal(unpack(pack(latents), 64, 48), latents)
    True
    """
    return rearrange(
        tokens, f"{TOKENS} -> batch channels {SQUARES}", rows=height // PACK, columns=width // PACK,
        down=PACK, right=PACK,
    )  # fmt: skip


def positions(height: int, width: int) -> Float[Tensor, "tokens 3"]:
    """Row and column of every image token; the first number is 0.

    >>> positions(4, 4)
    tensor([[0., 0., 0.],
            [0., 0., 1.],
            [0., 1., 0.],
            [0., 1., 1.]])
    """
    rows, columns = torch.meshgrid(
        *(torch.arange(side // PACK, device="cpu") for side in (height, width)), indexing="ij"
    )
    grid = torch.stack([torch.zeros_like(rows), rows, columns], -1).float()
    return rearrange(grid, "rows columns axes -> (rows columns) axes")


class FluxModel(Model):
    """A diffusers `FluxPipeline` with the verbs of `ditlens.models.model.Model`."""

    pipeline = "FluxPipeline"

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
        return {"sigmas": torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64, device="cpu").tolist()}

    @takes(prompts=TEXTS)
    @one_reader_at_a_time
    @on_the_usual_device
    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str]) -> TextEmbedding:
        """Embed prompts as the pipeline does: T5's tokens, CLIP's pooled vector; see `Model.encode_text`."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        rows = TEXT_ROWS if self.distilled else TEXT_ROWS // 2
        tokens, pooled, _ = self.pipe.encode_prompt(
            prompts, prompts, device=self.device, max_sequence_length=rows
        )
        mask = self.real_rows(self.pipe.tokenizer_2, prompts, rows)
        guidance = (float(self.defaults["guidance"]),) * len(prompts) if self.distilled else None
        return TextEmbedding(tokens, pooled, mask, tuple(prompts), ("cond",) * len(prompts), guidance)

    @on_the_usual_device
    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, sigma: float, text: TextEmbedding) -> torch.Tensor:
        """The velocity field, (B, C, H, W) float32; see `Model.__call__`."""
        height, width = latents.shape[-2:]
        guidance, device, dtype = None, self.device, self.dtype
        if text.guidance is not None and self.distilled:
            guidance = torch.tensor(text.guidance, dtype=torch.float32, device=device)
        with announce(Label(text.roles, text.prompts, text.mask)):
            velocity = self.transformer(
                hidden_states=pack(latents).to(device, dtype),
                encoder_hidden_states=text.tokens.to(device, dtype),
                pooled_projections=text.pooled.to(device, dtype),
                timestep=torch.full((len(latents),), float(sigma), device=device, dtype=dtype),
                guidance=guidance,
                img_ids=positions(height, width).to(device, dtype),
                txt_ids=torch.zeros(text.tokens.shape[1], 3, device=device, dtype=dtype),
                return_dict=False,
            )[0]
        return unpack(velocity.float(), height, width)
