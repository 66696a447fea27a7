"""What the text encoders of a model make of prompts: the token matrix and the pooled vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ditlens.arguments import instance, takes
from ditlens.errors import SettingError

TENSOR = instance("a tensor; model.encode_text('a big smile') makes the whole embedding", Tensor)


@takes(tokens=TENSOR, pooled=TENSOR, mask=TENSOR)
@dataclass(frozen=True, eq=False, repr=False)
class TextEmbedding:
    """What the text encoders made of B prompts.

    Attributes:
        tokens: Token matrix, (B, T, D).
        pooled: Pooled vector, (B, P).
        mask: (B, T) bool, true where a row is a token of the prompt and not padding; None if unknown.
        prompts: The texts themselves, B of them; empty if unknown.
        roles: What each is for, "cond", "uncond", "source" or "target": `ditlens.capture` calls it the pass.
        guidance: Embedded guidance, for models that take it as an input (guidance-distilled FLUX): that of each
            prompt, B of them. None for models that are guided by a second prompt.

    Raises:
        SettingError: If the shapes do not fit together.

    Example:
        >>> texts = model.encode_text(["a slight smile", "a big smile"])
        >>> len(texts), texts[1].prompts
        (2, ('a big smile',))
        >>> texts.real_tokens().sum(1)  # words, start and end
        tensor([5, 5])
    """

    tokens: Float[Tensor, "batch tokens width"]
    pooled: Float[Tensor, "batch pooled"]
    mask: Bool[Tensor, "batch tokens"] | None = None
    prompts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    guidance: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        fits = self.tokens.ndim == 3 and self.pooled.ndim == 2 and len(self.tokens) == len(self.pooled)
        if not fits or (self.mask is not None and self.mask.shape != self.tokens.shape[:2]):
            raise SettingError(f"Need tokens (B, T, D), pooled (B, P) and mask (B, T); got {self!r}.")

    def __repr__(self) -> str:
        parts = {"tokens": self.tokens, "pooled": self.pooled, "mask": self.mask}
        shapes = [f"{name}={tuple(part.shape)}" for name, part in parts.items() if part is not None]
        return f"TextEmbedding({', '.join(shapes)})"

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def named(self, role: str) -> TextEmbedding:
        """The same prompts in another role."""
        return replace(self, roles=(role,) * len(self))

    def at_guidance(self, guidance: float | torch.Tensor) -> TextEmbedding:
        """The same prompts for a guidance-distilled model, with one embedded guidance, or one for each prompt."""
        values = torch.as_tensor(guidance, dtype=torch.float32, device="cpu").flatten().expand(len(self))
        return replace(self, guidance=tuple(values.tolist()))

    @classmethod
    def cat(cls, texts: Sequence[TextEmbedding]) -> TextEmbedding:
        """Join prompts along the batch axis.

        Where only some have a mask, the others count as having no padding.

        Raises:
            SettingError: If the prompts differ in token count or width.
        """
        first = texts[0]
        for other in texts[1:]:
            check_aligned(first, other)
        mask = None
        if any(text.mask is not None for text in texts):
            mask = torch.cat([text.real_tokens() for text in texts])
        tokens = torch.cat([text.tokens for text in texts])
        prompts = tuple(p for text in texts for p in (text.prompts or ("",) * len(text)))
        roles = tuple(r for text in texts for r in (text.roles or ("cond",) * len(text)))
        guidance = None if first.guidance is None else tuple(g for text in texts for g in text.guidance or ())
        return cls(tokens, torch.cat([text.pooled for text in texts]), mask, prompts, roles, guidance)

    def split(self) -> list[TextEmbedding]:
        """The prompts one by one, each a batch of 1."""
        return [self[row] for row in range(len(self))]

    def __getitem__(self, row: int) -> TextEmbedding:
        """One prompt, as a batch of 1."""
        one = slice(row, row + 1)
        return TextEmbedding(
            self.tokens[one], self.pooled[one], None if self.mask is None else self.mask[one], self.prompts[one],
            self.roles[one], self.guidance and self.guidance[one],
        )  # fmt: skip

    def real_tokens(self) -> Bool[Tensor, "batch tokens"]:
        """Return the mask (B, T), all true if it is unknown."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.tokens.shape[:2], dtype=torch.bool, device=self.tokens.device)

    def expand(self, batch: int) -> TextEmbedding:
        """Repeat one prompt `batch` times; a batch of that size is returned as it is.

        Raises:
            SettingError: If there are neither 1 nor `batch` prompts.
        """
        if len(self) == batch:
            return self
        if len(self) != 1:
            raise SettingError(f"Got {len(self)} prompts for {batch} latents; give 1 or {batch}.")
        mask = None if self.mask is None else self.mask.expand(batch, -1)
        guidance = None if self.guidance is None else self.guidance * batch
        return TextEmbedding(
            self.tokens.expand(batch, -1, -1), self.pooled.expand(batch, -1), mask, self.prompts * batch,
            self.roles * batch, guidance,
        )  # fmt: skip

    def equal(self, other: TextEmbedding) -> Bool[Tensor, " batch"]:
        """Say, for every prompt, whether both embeddings agree bit for bit: (B,) bool."""
        if self.tokens.shape != other.tokens.shape or self.pooled.shape != other.pooled.shape:
            return torch.zeros(len(self), dtype=torch.bool, device=self.tokens.device)
        words = (self.tokens == other.tokens).flatten(1).all(1) & (self.pooled == other.pooled).all(1)
        return words & (self.real_tokens() == other.real_tokens()).all(1)

    def lerp(self, other: TextEmbedding, degree: float) -> TextEmbedding:
        """Go the share `degree` of the way to `other`, in tokens and pooled alike; any real number."""
        return move(self, (other, degree, degree))


def check_aligned(source: TextEmbedding, target: TextEmbedding) -> None:
    """Refuse two texts whose embeddings cannot be subtracted row by row.

    Raises:
        SettingError: If token counts or widths differ; says how to align the texts.
    """
    if source.tokens.shape[1] != target.tokens.shape[1]:
        raise SettingError(
            f"The texts have {source.tokens.shape[1]} and {target.tokens.shape[1]} token rows. "
            "Embeddings are combined row by row, so row k of both must be the same word's place. "
            "Encode both with the same padded length (max_sequence_length), and word them so that "
            'the edited word stands at the same position: "a small smile" / "a wide smile".'
        )
    if source.tokens.shape[2] != target.tokens.shape[2] or source.pooled.shape[1] != target.pooled.shape[1]:
        raise SettingError(f"These embeddings come from different text encoders: {source!r} and {target!r}.")


Step: TypeAlias = "tuple[TextEmbedding, float, float]"
"""A target, and how far its token matrix and its pooled vector are moved to."""


def move(source: TextEmbedding, *steps: Step) -> TextEmbedding:
    """The point c0 + sum of degree_i (c_i - c0): with one target, 0 is the source and 1 the target, bit for bit.

    Args:
        source: The text c0.
        steps: One or more (target c_i, degree of its tokens, degree of its pooled vector).

    Raises:
        SettingError: If token counts or widths differ.
    """
    for target, _, _ in steps:
        check_aligned(source, target)
    moved = {target for target, tokens, _ in steps if tokens}
    mask = source.mask
    if len(steps) == 1 and steps[0][1] == 1:
        mask = steps[0][0].mask
    elif moved and any(text.mask is not None for text in (source, *moved)):
        mask = source.real_tokens()  # between the ends, the words of either text count
        for target in moved:
            mask = mask | target.real_tokens()
    return replace(
        steps[0][0],
        tokens=_sum(source.tokens, [(target.tokens, degree) for target, degree, _ in steps]),
        pooled=_sum(source.pooled, [(target.pooled, degree) for target, _, degree in steps]),
        mask=mask,
    )


def _sum(source: torch.Tensor, targets: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
    moving = [(target, degree) for target, degree in targets if degree != 0]
    if not moving:
        return source
    if len(moving) == 1 and moving[0][1] == 1:
        return moving[0][0]
    return source + torch.stack([degree * (target - source) for target, degree in moving]).sum(0)
