"""What an edit is made from: the picture, both texts, the method. A plan can be carried out at any degree."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

import ditlens
from ditlens import images
from ditlens.ems import masks
from ditlens.ems.engine import EngineState
from ditlens.ems.extract import Describer, Description, extract
from ditlens.ems.loops import Method
from ditlens.ems.manipulate import TextEmbedding, manipulate
from ditlens.ems.methods import DeltaVelocity
from ditlens.ems.sample import iter_method, method_from, method_named, settings_of
from ditlens.errors import SettingError

if TYPE_CHECKING:
    from PIL import Image

    from ditlens.model import Model

Values = dict[str, "float | str"]

EMS = DeltaVelocity("ems", source_guidance=3.0, target_guidance=3.0, steps=20, active=0.9)
"""The default edit for models that bring no settings of their own.

The delta-velocity rule with equal guidance on both sides: at degree 0 both sides are the same evaluation and
the picture is returned exactly as reconstructed.
"""

LOWEST, HIGHEST = -2.0, 3.0
"""Degrees beyond these leave what a model was trained on; they are refused."""


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
                low=2 * LOWEST, high=2 * HIGHEST,
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
        return replace(
            self.source,
            tokens=tokens,
            pooled=pooled,
            mask=mask,
            prompts=(self.description.target,),
            roles=("target",),
        )

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

    def reversed(self, latents: torch.Tensor, image: Image.Image) -> Plan:
        """The way back from a result: the texts exchanged, the picture replaced by the result."""
        model, old = self.model, self.description
        back = replace(
            old, source=old.target, target=old.source, changes={}, describer=f"{old.describer}, reversed"
        )
        if model.world is not None:
            back = replace(back, changes=changes_between(model, back.source, back.target))
        source = self.moved(1.0).named("source")
        return replace(
            self, source_image=image, reconstruction=images.to_image(model.decode(latents)), latents=latents,
            description=back, wishes={}, source=source, targets=((self.source.named("target"), 1.0),),
            before=None if model.oracle is None else model.oracle.measure(images.to_tensor(image))[0],
        )  # fmt: skip

    def on(self, image: images.Picture) -> Plan:
        """The same plan for another picture.

        Raises:
            SettingError: If the texts came by hand: they describe this picture.
        """
        if not self.wishes:
            raise SettingError(
                "This edit was made from two texts, which describe its own picture. "
                "Call ditlens.edit with the other picture and its texts."
            )
        return make_plan(self.model, image, dict(self.wishes), **self.settings)

    def recipe(self, degree: float) -> dict[str, Any]:
        """Everything needed to repeat the edit, ready for JSON."""
        return {
            "ditlens": ditlens.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "model": self.model.name,
            "device": str(self.model.device),
            "instruction": " and ".join(self.wishes),
            "wishes": self.wishes,
            "source_text": self.description.source,
            "target_text": self.description.target,
            "describer": self.description.describer,
            "degree": float(degree),
            "seed": self.seed,
            "tokens": self.tokens,
            "pooled": self.pooled,
            "mask": self.mask_name,
            "method": settings_of(self.method),
        }


def make_plan(
    model: Model,
    image: images.Picture,
    instruction: str | Mapping[str, float] = "",
    *,
    seed: int = 0,
    source_text: str | None = None,
    target_text: str | None = None,
    describer: Describer | str | None = None,
    method: Method | str | None = None,
    mask: Any = "auto",
    tokens: bool = True,
    pooled: bool = True,
) -> Plan:
    """Read the picture, have it described, embed the texts; the arguments and errors are those of `edit`."""
    settings = {"seed": seed, "describer": describer, "method": method, "mask": mask, "tokens": tokens,
                "pooled": pooled}  # fmt: skip
    wishes = read_wishes(instruction)
    picture = model.prepare(image)
    source_image = images.to_image(picture)
    if source_text is not None and target_text is not None:
        description = Description(source_text, target_text, changes_between(model, source_text, target_text))
        parts, wishes = [description.target], {}
    else:
        description = extract(source_image, " and ".join(wishes), describer, model=model)
        if source_text is not None or target_text is not None:
            description = description.rewritten(source_text, target_text)
            changes = changes_between(model, description.source, description.target)
            description = replace(description, changes=changes or description.changes)
        parts = target_parts(model, source_image, description, list(wishes), describer)
    texts = model.encode_text([description.source, *parts])
    source = _row(texts, 0).named("source")
    weights = list(wishes.values()) if len(parts) > 1 else [next(iter(wishes.values()), 1.0)]
    targets = tuple((_row(texts, 1 + i).named("target"), w) for i, w in enumerate(weights))
    latents = model.encode_image(picture)
    before = model.oracle.measure(picture)[0] if model.oracle is not None else None
    found, mask_name, spent = find_mask(model, mask, latents, source, targets, before, description, seed)
    return Plan(
        model, source_image, images.to_image(model.decode(latents)), latents, description, wishes, source, targets,
        chosen_method(model, method), found, mask_name, spent, before, seed, tokens, pooled,
        settings,
    )  # fmt: skip


def read_wishes(instruction: str | Mapping[str, float]) -> dict[str, float]:
    """Wishes with their degrees; a plain instruction is one wish of degree 1.

    Raises:
        SettingError: If a degree is out of range, or there are no wishes in a mapping.
    """
    if isinstance(instruction, str):
        return {instruction: 1.0}
    if not instruction:
        raise SettingError('There is no wish. Write them with their degrees: {"make her smile": 0.7}.')
    check_degrees(list(instruction.values()))
    return {wish: float(degree) for wish, degree in instruction.items()}


def target_parts(
    model: Model, image: Image.Image, description: Description, wishes: list[str], describer: Any
) -> list[str]:
    """The target text of each wish alone, all starting from the description's source text.

    Raises:
        SettingError: If a describer words the source of one wish in another way, so that they cannot be added.
    """
    if len(wishes) < 2:
        return [description.target]
    if model.world == "portraits":
        from ditlens.worlds.portraits.captions import parse
        from ditlens.worlds.portraits.instructions import parse_instruction
        from ditlens.worlds.portraits.pairs import target_caption

        said = parse(description.source)
        return [
            target_caption(description.source, parse_instruction(wish, source=said)).target_text
            for wish in wishes
        ]
    found = []
    for wish in wishes:
        one = extract(image, wish, describer, model=model)
        if one.source != description.source:
            raise SettingError(
                "The describer words the picture in another way for every wish, so their directions do not start "
                f"from the same text: {one.source!r} and {description.source!r}. Edit one wish after the other, "
                "or give source_text= and target_text=."
            )
        found.append(one.target)
    return found


def find_mask(
    model: Model, mask: Any, latents: torch.Tensor, source: TextEmbedding,
    targets: Sequence[tuple[TextEmbedding, float]], before: Values | None, description: Description, seed: int,
) -> tuple[torch.Tensor | None, str, tuple[int, int]]:  # fmt: skip
    """The mask of the latents, its name for the recipe, and its calls and evaluations of the transformer."""
    if isinstance(mask, str) and mask == "auto":
        mask = model.defaults.get("mask")
    if mask is None or (isinstance(mask, str) and mask == "none"):
        return None, "none", (0, 0)
    size = latents.shape[-2:]
    if isinstance(mask, str) and mask == "attention":
        if len(targets) > 1:
            raise SettingError('mask="attention" follows one wish; with several, give a picture as mask.')
        target = targets[0][0]
        words = masks.changed_rows(source, target, lambda text: model.row_tokenizer(text).input_ids)
        found = masks.attention_mask(model, latents, source, target, words, seed=seed)
        texts = sum(map(bool, words))
        return found, "attention", (texts, texts)
    if isinstance(mask, str) and mask == "difference":
        parts = [masks.difference_mask(model, latents, source, target, seed=seed) for target, _ in targets]
        calls = masks.DRAWS * len(parts)
        return torch.stack(parts).amax(0), "difference", (calls, 2 * calls)
    if isinstance(mask, str) and mask == "exact":
        exact = masks.world_mask(model, before or {}, description.changes)
        return masks.latent_mask(exact, size, grow=1), "exact", (0, 0)
    return masks.latent_mask(mask, size), "given", (0, 0)


def chosen_method(model: Model, method: Method | str | None) -> Method:
    """The method by its name, or the model's own."""
    if isinstance(method, str):
        return default_method(model) if method == "ems" else method_named(method)
    return method or default_method(model)


def default_method(model: Model) -> Method:
    """The settings that a model brings in its ``ditlens.json``, or `EMS`."""
    settings = model.defaults.get("edit")
    return method_from(settings) if settings else EMS


def changes_between(model: Model, source: str, target: str) -> dict[str, str]:
    """What two texts of a world change; nothing for models without a world."""
    if model.world != "portraits":
        return {}
    from ditlens.worlds.portraits.describer import text_changes

    return text_changes(source, target)


def _row(texts: TextEmbedding, row: int) -> TextEmbedding:
    mask = None if texts.mask is None else texts.mask[row : row + 1]
    tokens, pooled = texts.tokens[row : row + 1], texts.pooled[row : row + 1]
    return dataclasses.replace(
        texts, tokens=tokens, pooled=pooled, mask=mask, prompts=texts.prompts[row : row + 1],
        roles=texts.roles[row : row + 1], guidance=texts.guidance and texts.guidance[row : row + 1],
    )  # fmt: skip


def check_degrees(degrees: Sequence[float]) -> None:
    """Refuse degrees out of range.

    Raises:
        SettingError: If one is.
    """
    for degree in degrees:
        if not LOWEST <= degree <= HIGHEST:
            raise SettingError(
                f"degree {degree:g} is outside [{LOWEST:g}, {HIGHEST:g}]: 0 changes nothing, 1 is the full edit."
            )
