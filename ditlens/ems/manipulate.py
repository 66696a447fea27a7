"""The text half of *manipulate*: move a prompt's embedding along an editing direction.

A diffusion transformer reads its prompt by two routes: the token matrix E (joint attention) and one pooled
vector p (it modulates every block). An edit from a source text c0 to a target text c1 is a straight line::

    c(degree) = c0 + degree * n,     n = c1 - c0 = (E1 - E0, p1 - p0)

degree 0 is the source, 1 the target, above 1 exaggerates, below 0 goes the other way. This linear step is how
public summaries of EMS (arXiv 2408.13335) describe it. Moving the two routes, or what single text encoders write,
separately, and the range of degrees allowed here, are choices of this package ("EMS-style").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ditlens.ems.encoders import Encoder, only
from ditlens.errors import SettingError

PARTS = ("tokens", "pooled")


@dataclass(frozen=True, eq=False, repr=False)
class TextEmbedding:
    """What the text encoders made of B prompts.

    Attributes:
        tokens: Token matrix, (B, T, D).
        pooled: Pooled vector, (B, P).
        mask: (B, T) bool, true where a row is a token of the prompt and not padding; None if unknown.
        prompts: The texts themselves, B of them; empty if unknown.
        roles: What each is for, "cond", "uncond", "source" or "target": `ditlens.capture` calls it the pass.
        guidance: For models that are told their guidance as a number (guidance-distilled FLUX): that of each
            prompt, B of them. None for models that are guided by a second prompt.

    Raises:
        SettingError: If the shapes do not fit together.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor
    mask: torch.Tensor | None = None
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
        """The same prompts for a guidance-distilled model, told one guidance, or one for each prompt."""
        values = torch.as_tensor(guidance, dtype=torch.float32).flatten().expand(len(self))
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

    def real_tokens(self) -> torch.Tensor:
        """Return the mask (B, T), all true if it is unknown."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.tokens.shape[:2], dtype=torch.bool, device=self.tokens.device)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TextEmbedding:
        """Move to a device and cast to a dtype; the mask stays bool."""
        mask = None if self.mask is None else self.mask.to(device=device)
        tokens = self.tokens.to(device=device, dtype=dtype)
        return replace(self, tokens=tokens, pooled=self.pooled.to(device=device, dtype=dtype), mask=mask)

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

    def equal(self, other: TextEmbedding) -> torch.Tensor:
        """Say, for every prompt, whether both embeddings agree bit for bit: (B,) bool."""
        if self.tokens.shape != other.tokens.shape or self.pooled.shape != other.pooled.shape:
            return torch.zeros(len(self), dtype=torch.bool, device=self.tokens.device)
        words = (self.tokens == other.tokens).flatten(1).all(1) & (self.pooled == other.pooled).all(1)
        return words & (self.real_tokens() == other.real_tokens()).all(1)

    def lerp(self, other: TextEmbedding, degree: float) -> TextEmbedding:
        """Go the share `degree` of the way to `other`, in tokens and pooled alike; any real number."""
        return _move(self, other, degree, degree)


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


def _move_part(source: torch.Tensor, target: torch.Tensor, degree: float) -> torch.Tensor:
    """Return source + degree * (target - source), with both ends bit for bit."""
    if degree == 0:
        return source
    if degree == 1:
        return target
    return torch.lerp(source, target, degree)


def _move(source: TextEmbedding, target: TextEmbedding, tokens: float, pooled: float) -> TextEmbedding:
    check_aligned(source, target)
    mask = source.mask if tokens == 0 else target.mask
    if tokens not in (0, 1) and (source.mask is not None or target.mask is not None):
        mask = source.real_tokens() | target.real_tokens()  # between the ends, either text's words count
    moved = _move_part(source.tokens, target.tokens, tokens)
    part = _move_part(source.pooled, target.pooled, pooled)
    return replace(target, tokens=moved, pooled=part, mask=mask)


def manipulate(
    source: TextEmbedding,
    target: TextEmbedding,
    degree: float | Mapping[str, float],
    *,
    tokens: bool = True,
    pooled: bool = True,
    encoders: Collection[Encoder] | None = None,
    low: float = -2.0,
    high: float = 3.0,
) -> TextEmbedding:
    """Move the source text towards the target text by an editing degree: c0 + degree * (c1 - c0).

    At degree 0 the tensors of `source` themselves come back, at degree 1 those of `target`, bit for bit.
    Equal shapes do not prove that the texts are aligned: encoders pad. If a word is inserted, every later row
    is a difference between unrelated words; compare `source.mask.sum(1)` with the target's to see it.

    Args:
        source: Embedding of the text that describes the picture.
        target: Embedding of the text that describes the wanted picture.
        degree: One number for both routes, or {"tokens": ..., "pooled": ...}; a route that is not named
            keeps the source.
        tokens: False keeps the source's token matrix.
        pooled: False keeps the source's pooled vector.
        encoders: Text encoders whose channels, rows and part of the pooled vector move, from
            `ditlens.ems.encoders.choose(model, {"t5"})`; everything else keeps the source. None: all.
        low: Smallest degree allowed. Far outside [0, 1] embeddings leave what the model was trained on.
        high: Largest degree allowed.

    Returns:
        The manipulated embedding, shapes as `source`.

    Raises:
        SettingError: If a degree is out of [low, high], a route is unknown, or the texts are not aligned.
    """
    named = dict(degree) if isinstance(degree, Mapping) else dict.fromkeys(PARTS, degree)
    if unknown := set(named) - set(PARTS):
        raise SettingError(f'Unknown route {sorted(unknown)}: degree takes the keys "tokens" and "pooled".')
    for part, value in named.items():
        if not low <= value <= high:
            raise SettingError(
                f"degree {value:g} of {part} is outside [{low:g}, {high:g}]; "
                "0 is the source and 1 the target. Pass low= and high= to go further."
            )
    switched = {"tokens": tokens, "pooled": pooled}
    degrees = {part: named.get(part, 0.0) if switched[part] else 0.0 for part in PARTS}
    return only(source, _move(source, target, degrees["tokens"], degrees["pooled"]), encoders)


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit editing direction in text space, with the length that degree 1 stands for.

    Attributes:
        unit: Direction of unit length per prompt: the flattened token matrix and the pooled vector each
            have norm 1 (or 0, where the two texts agree in that part).
        token_scale: Norm of E1 - E0, (B,).
        pooled_scale: Norm of p1 - p0, (B,).
    """

    unit: TextEmbedding
    token_scale: torch.Tensor
    pooled_scale: torch.Tensor

    def move(self, text: TextEmbedding, degree: float) -> TextEmbedding:
        """Apply the direction to a text, which may be another than the one it was made from."""
        check_aligned(text, self.unit)
        tokens = text.tokens + degree * self.token_scale[:, None, None] * self.unit.tokens
        pooled = text.pooled + degree * self.pooled_scale[:, None] * self.unit.pooled
        return replace(text, tokens=tokens, pooled=pooled)


def direction(source: TextEmbedding, target: TextEmbedding) -> Direction:
    """Return the unit direction from source to target and its scale.

    Remember that independent random directions in this many dimensions are nearly orthogonal anyway:
    compare cosines with a null before calling two edits disentangled.

    Raises:
        SettingError: If the texts are not aligned, or some prompt has the same embedding in both.
    """
    check_aligned(source, target)
    tokens, pooled = target.tokens - source.tokens, target.pooled - source.pooled
    token_scale, pooled_scale = tokens.flatten(1).norm(dim=1), pooled.norm(dim=1)
    if bool(((token_scale == 0) & (pooled_scale == 0)).any()):
        raise SettingError("Source and target have the same embedding: there is no direction between them.")
    tiny = torch.finfo(tokens.dtype).tiny
    unit = TextEmbedding(
        tokens / token_scale.clamp_min(tiny)[:, None, None], pooled / pooled_scale.clamp_min(tiny)[:, None]
    )
    return Direction(unit, token_scale, pooled_scale)
