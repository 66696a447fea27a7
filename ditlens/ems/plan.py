"""What an edit is made from: the picture, both texts, the method. A plan can be carried out at any degree."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ditlens import images
from ditlens.description import Describer, Description, single_changes
from ditlens.ems import masks, texts
from ditlens.ems.engine import EngineState
from ditlens.ems.loops import Method
from ditlens.ems.manipulate import manipulate
from ditlens.ems.methods import DeltaVelocity
from ditlens.ems.sample import iter_method, method_for, method_from, settings_of
from ditlens.ems.texts import HIGHEST, LOWEST
from ditlens.ems.texts import check_degrees as check_degrees
from ditlens.errors import SettingError
from ditlens.labels import outside_steps
from ditlens.models import encoders as text_encoders
from ditlens.models.embedding import TextEmbedding
from ditlens.models.encoders import Encoder
from ditlens.models.model import Model
from ditlens.version import __version__

if TYPE_CHECKING:
    from PIL import Image


Values = dict[str, "float | str"]

EMS = DeltaVelocity("ems", source_guidance=3.0, target_guidance=3.0, steps=20, active=0.9)
"""The default edit for models that bring no settings of their own.

The delta-velocity rule with equal guidance on both sides: at degree 0 both sides are the same evaluation and
the picture is returned exactly as reconstructed.
"""

MASKS = ("none", "attention", "difference", "exact")
"""Masks that are made here, by name; anything else is a mask that is given."""

MASK_FILE = "mask.png"
"""Where `Edit.save` writes a mask that was given, beside ``edit.json``."""


@dataclass(frozen=True)
class Plan:
    """An edit before its degree is known.

    Attributes:
        model: The model.
        source_image: The picture as the model sees it.
        reconstruction: The picture after encoding and decoding.
        latents: Its latents, (1, C, H, W).
        description: Both texts.
        wishes: Each wish with its own degree; empty if the texts came by hand.
        source: Embedding of the source text.
        targets: Embeddings of the target texts, one per wish, each with its wish's degree.
        method: How the latents move.
        mask: Where they may, (1, 1, H, W); None: everywhere.
        mask_name: How the mask was made, for the recipe.
        mask_cost: Calls of the transformer to make the mask, and (latents, text, sigma) triples in them.
        before: Attributes read from the picture; None without an oracle.
        seed: Seed of the noise.
        tokens: Whether the token matrix of the text moves.
        pooled: Whether the pooled vector of the text moves.
        encoders: The text encoders whose part of the text moves; None: all.
        settings: What `make_plan` was called with, to plan the same for another picture.
    """

    model: Model
    source_image: Image.Image
    reconstruction: Image.Image
    latents: torch.Tensor = field(repr=False)
    description: Description
    wishes: dict[str, float]
    source: TextEmbedding
    targets: tuple[tuple[TextEmbedding, float], ...]
    method: Method
    mask: torch.Tensor | None
    mask_name: str
    mask_cost: tuple[int, int]
    before: Values | None
    seed: int
    tokens: bool
    pooled: bool
    encoders: tuple[Encoder, ...] | None
    settings: dict[str, Any] = field(repr=False)

    @staticmethod
    def clock() -> float:
        """Seconds of a clock that only goes forward."""
        return time.perf_counter()

    def moved(self, degree: float) -> TextEmbedding:
        """The manipulated text: c0 + degree * sum of w_i (c_i - c0)."""
        if len(self.targets) == 1:
            target, weight = self.targets[0]
            return manipulate(
                self.source, target, degree * weight, tokens=self.tokens, pooled=self.pooled,
                encoders=self.encoders, low=2 * LOWEST, high=2 * HIGHEST,
            )  # fmt: skip
        tokens, pooled = self.source.tokens, self.source.pooled
        mask = self.source.real_tokens()
        for target, weight in self.targets:
            if degree * weight == 0:
                continue
            mask = mask | target.real_tokens()
            if self.tokens:
                tokens = tokens + degree * weight * (target.tokens - self.source.tokens)
            if self.pooled:
                pooled = pooled + degree * weight * (target.pooled - self.source.pooled)
        moved = replace(
            self.source,
            tokens=tokens,
            pooled=pooled,
            mask=mask,
            prompts=(self.description.target,),
            roles=("target",),
        )
        return text_encoders.only(self.source, moved, self.encoders)

    def states(self, degrees: Sequence[float]) -> Iterator[EngineState]:
        """Carry the plan out, one item per degree, step by step."""
        model, count, method = self.model, len(degrees), self.method
        slides = None
        if isinstance(method, DeltaVelocity) and method.slide == "guidance":
            slides = torch.tensor([float(d) for d in degrees])
            texts = [self.moved(1.0)] * count
        else:
            texts = [self.moved(degree) for degree in degrees]
        return iter_method(
            model, self.latents.expand(count, -1, -1, -1), self.source.expand(count), TextEmbedding.cat(texts),
            method, grid=model.sigmas, null_text=model.encode_text("").named("uncond"),
            seeds=[self.seed] * count, mask=self.mask, slides=slides,
        )  # fmt: skip

    def reversed(self, latents: torch.Tensor, image: Image.Image, degree: float) -> Plan:
        """The way back from a result: from the text that it was made with to the source text.

        Args:
            latents: The result.
            image: The result as a picture.
            degree: The degree at which it was made. Its text was moved that far, so that is what leads back.
        """
        model, old = self.model, self.description
        who = f"{old.describer}, reversed from degree {degree:g}"
        changes = texts.changes_between(model, old.target, old.source)
        return replace(
            self, source_image=image, reconstruction=images.to_image(model.decode(latents)), latents=latents,
            description=replace(old, source=old.target, target=old.source, changes=changes, describer=who),
            wishes={}, source=self.moved(degree).named("source"), targets=((self.source.named("target"), 1.0),),
            before=None if model.oracle is None else model.oracle.measure(images.to_tensor(image))[0],
        )  # fmt: skip

    def on(self, image: images.Picture) -> Plan:
        """The same plan for another picture.

        Raises:
            SettingError: If the texts came by hand: they describe this picture.
        """
        by_hand = any(self.settings[name] is not None for name in ("source_text", "target_text"))
        if by_hand or not self.wishes:
            raise SettingError(
                "This edit was made from texts by hand, which describe its own picture. "
                "Call ditlens.edit with the other picture and its texts."
            )
        return make_plan(self.model, image, dict(self.wishes), **self.settings)

    def recipe(self, degree: float) -> dict[str, Any]:
        """What is needed to repeat the edit, ready for JSON.

        Beside it you need the picture; the model, of which the recipe has the name; and a mask that was given, of
        which it has the checksum: `Edit.save` writes it to ``mask.png``. The way back from a result begins at that
        result: repeat the edit, then reverse it.

        Of a mask from the difference of the texts it has the settings. An edit that is repeated makes the mask with
        those of its own version: where `ditlens.ems.masks.difference_settings` gives others, the result may differ.
        """
        return {
            "ditlens": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "model": self.model.name,
            "device": str(self.model.device),
            "instruction": " and ".join(self.wishes),
            "wishes": self.wishes,
            "source_text": self.description.source,
            "target_text": self.description.target,
            "target_texts": [target.prompts[0] for target, _ in self.targets],
            "describer": self.description.describer,
            "degree": float(degree),
            "seed": self.seed,
            "tokens": self.tokens,
            "pooled": self.pooled,
            "encoders": None if self.encoders is None else [encoder.name for encoder in self.encoders],
            "mask": self.mask_name,
            **self._mask_settings(),
            **self._mask_file(),
            "method": settings_of(self.method),
        }

    @property
    def mask_png(self) -> bytes | None:
        """A mask that was given, as the bytes of a PNG; None if it was made here and can be made again."""
        return masks.as_png(self.mask) if self.mask_name == "given" and self.mask is not None else None

    def _mask_settings(self) -> dict[str, Any]:
        return {"mask_settings": masks.difference_settings()} if self.mask_name == "difference" else {}

    def _mask_file(self) -> dict[str, str]:
        png = self.mask_png
        return {} if png is None else {"mask_file": MASK_FILE, "mask_sha256": hashlib.sha256(png).hexdigest()}


def make_plan(
    model: Model,
    image: images.Picture,
    instruction: str | Mapping[str, float] = "",
    *,
    seed: int = 0,
    source_text: str | None = None,
    target_text: str | None = None,
    describer: Describer | str | Path | None = None,
    method: Method | str | None = None,
    mask: Any = "auto",
    tokens: bool = True,
    pooled: bool = True,
    encoders: text_encoders.Choice = None,
) -> Plan:
    """Read the picture, have it described, embed the texts; the arguments and errors are those of `edit`."""
    wishes = texts.read_wishes(instruction)
    texts.check_hand_texts(instruction, source_text, target_text)
    who, chosen = texts.resolved(describer, model), text_encoders.choose(model, encoders)
    settings = {
        "seed": seed, "source_text": source_text, "target_text": target_text, "describer": who, "method": method,
        "mask": mask, "tokens": tokens, "pooled": pooled, "encoders": encoders,
    }  # fmt: skip
    opened = images.open_image(image)
    picture = model.prepare(opened)
    source_image = images.to_image(picture)
    description = texts.describe(model, source_image, list(wishes), who, source_text, target_text)
    if source_text is not None and target_text is not None:
        wishes = {}
    parts = texts.target_parts(model, source_image, description, list(wishes), who)
    source, targets = embed(model, description.source, parts, list(wishes.values()) or [1.0])
    latents = model.encode_image(picture)
    before = model.oracle.measure(picture)[0] if model.oracle is not None else None
    mask = model.defaults.get("mask") if isinstance(mask, str) and mask == "auto" else mask
    if mask is None or (isinstance(mask, str) and mask in MASKS):
        with outside_steps():  # what looks for the mask is no step of the edit
            found, mask_name, spent = find_mask(
                model, mask, latents, source, targets, before, description, seed
            )
    else:
        found = masks.given_mask(mask, opened.size, source_image.size, latents.shape[-2:])
        mask_name, spent = "given", (0, 0)
    return Plan(
        model, source_image, images.to_image(model.decode(latents)), latents, description, wishes, source, targets,
        chosen_method(model, method, latents.shape[-2:]), found, mask_name, spent, before, seed, tokens, pooled,
        chosen, settings,
    )  # fmt: skip


def embed(
    model: Model, source: str, parts: Sequence[str], weights: Sequence[float]
) -> tuple[TextEmbedding, tuple[tuple[TextEmbedding, float], ...]]:
    """Embeddings of the source text and of the target texts, each of these with its weight."""
    first, *targets = one_by_one(model, [source, *parts])
    return first.named("source"), tuple(
        (target.named("target"), weight) for target, weight in zip(targets, weights, strict=True)
    )


def one_by_one(model: Model, prompts: Sequence[str]) -> list[TextEmbedding]:
    """The embedding of every text, from one call of the text encoders."""
    rows = model.encode_text(prompts)
    return [_row(rows, row) for row in range(len(prompts))]


def find_mask(
    model: Model, mask: str | None, latents: torch.Tensor, source: TextEmbedding,
    targets: Sequence[tuple[TextEmbedding, float]], before: Values | None, description: Description, seed: int,
) -> tuple[torch.Tensor | None, str, tuple[int, int]]:  # fmt: skip
    """A mask that is made here: the mask, its name for the recipe, its calls and evaluations of the transformer.

    Raises:
        SettingError: If it cannot be made.
    """
    if mask is None or mask == "none":
        return None, "none", (0, 0)
    if mask == "attention":
        if len(targets) > 1:
            raise SettingError('mask="attention" follows one wish; with several, give a picture as mask.')
        target = targets[0][0]
        first = text_encoders.with_rows(text_encoders.encoders_of(model))[0]
        words = masks.changed_rows(source, target, first.tokenizer, first.limit)
        found = masks.attention_mask(model, latents, source, target, words, seed=seed)
        looks = sum(map(bool, words))
        return found, "attention", (looks, looks)
    if mask == "difference":
        parts = [part for target, _ in targets for part in changes_of(model, source, target)]
        found = masks.difference_mask(model, latents, source, parts, seed=seed)
        calls, evaluations = math.ceil((1 + len(parts)) / masks.TOGETHER), 1 + len(parts)
        return found, "difference", (masks.DRAWS * calls, masks.DRAWS * evaluations)
    exact = masks.world_mask(model, before or {}, description.changes)
    return masks.latent_mask(exact, latents.shape[-2:], grow=1), "exact", (0, 0)


def changes_of(model: Model, source: TextEmbedding, target: TextEmbedding) -> list[TextEmbedding]:
    """The target's changes one by one, embedded; the target itself if there are not several."""
    found = single_changes(source.prompts[0], target.prompts[0])
    if len(found) < 2:
        return [target]
    return [text.named("target") for text in one_by_one(model, found)]


def chosen_method(model: Model, method: Method | str | None, size: Sequence[int]) -> Method:
    """The method by its name, as published for the model's family and latents of this size, or the model's own."""
    if isinstance(method, str):
        return default_method(model) if method == "ems" else method_for(model, method, size)
    return method or default_method(model)


def default_method(model: Model) -> Method:
    """The settings that a model brings in its ``ditlens.json``, or `EMS`."""
    settings = model.defaults.get("edit")
    return method_from(settings) if settings else EMS


def _row(texts: TextEmbedding, row: int) -> TextEmbedding:
    mask = None if texts.mask is None else texts.mask[row : row + 1]
    tokens, pooled = texts.tokens[row : row + 1], texts.pooled[row : row + 1]
    return dataclasses.replace(
        texts, tokens=tokens, pooled=pooled, mask=mask, prompts=texts.prompts[row : row + 1],
        roles=texts.roles[row : row + 1], guidance=texts.guidance and texts.guidance[row : row + 1],
    )  # fmt: skip
