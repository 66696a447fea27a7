"""What an edit is made from: the image, both texts, the method. A plan can be carried out at any degree."""

from __future__ import annotations

import hashlib
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ditlens import flow, images
from ditlens.arguments import FLAG, takes
from ditlens.cards import Piece
from ditlens.describers.choice import describer_from
from ditlens.description import Describer, Description, single_changes
from ditlens.ems import judge, masks
from ditlens.ems.engine import EngineState, SourceSide
from ditlens.ems.extract import check_texts, describe, instructions_of, known_to, target_texts
from ditlens.ems.loops import Method
from ditlens.ems.methods import BaseMethod, DeltaVelocity, OdeEdit
from ditlens.ems.sample import METHODS, iter_method, method_for, method_from, settings_of
from ditlens.errors import ImageError, SettingError
from ditlens.flow import Latents, Mask
from ditlens.labels import outside_steps
from ditlens.models import encoders as text_encoders
from ditlens.models.embedding import TextEmbedding, move
from ditlens.models.encoders import Encoder
from ditlens.models.identity import setup
from ditlens.models.model import MODEL, Model
from ditlens.version import __version__

Values = dict[str, "float | str"]

EMS = OdeEdit("ems", source_guidance=3.0, target_guidance=3.0, steps=20, active=0.9)
"""The default edit for models that bring no settings of their own.

The delta-velocity rule with equal guidance on both sides: at degree 0 both sides are the same evaluation and
the image is returned exactly as reconstructed.
"""

MASK_FILE = "mask.png"
"""Where `Edit.save` writes a mask that was given, beside ``edit.json``."""


@takes(tokens=FLAG, pooled=FLAG)
@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """How an edit is made; `ditlens.edit` takes the same arguments and explains them."""

    seed: int = 0
    source_text: str | None = None
    target_text: str | None = None
    describer: Describer | str | Path | None = None
    method: Method | Mapping[str, Any] | str | None = None
    mask: Any = field(default="auto", repr=False)
    tokens: bool = True
    pooled: bool = True
    encoders: text_encoders.Choice = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", flow.seed_of(self.seed))
        if isinstance(self.method, Mapping):
            object.__setattr__(self, "method", method_from(self.method))
        if not (self.method is None or isinstance(self.method, str | BaseMethod)):
            raise SettingError(
                f"method is {self.method!r}; give a name, {', '.join(('ems', *METHODS))}, or settings such as "
                'ditlens.OdeEdit("mine", steps=20).'
            )


class PickledModel(Model):
    """What a pickled edit keeps of its model: name, settings and world, which measures; not the networks."""

    def __init__(self, model: Model) -> None:
        self.name, self.folder, self.world, self.defaults = (
            model.name,
            model.folder,
            model.world,
            model.defaults,
        )

    def __repr__(self) -> str:
        return f"PickledModel({self.name!r})"

    def _card(self) -> list[Piece]:
        return [repr(self)]

    @property
    def pipe(self) -> Any:  # type: ignore[override]
        raise SettingError(
            "This edit comes from a pickle, which holds no networks. Make it again, with what edit.recipe holds: "
            f"ditlens.edit(ditlens.load({self.name!r}), edit.source_image, ...)."
        )


def on_the_cpu(value: Any) -> Any:
    """A tensor, or the tensors of texts, on the CPU: a pickle may be read on a machine without a GPU."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, TextEmbedding):
        return replace(value, **{name: on_the_cpu(part) for name, part in vars(value).items()})
    return tuple(map(on_the_cpu, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An edit before its degree is known.

    Attributes:
        model: The model.
        source_image: The image as the model sees it.
        reconstruction: The image after encoding and decoding.
        latents: Its latents, (1, C, H, W).
        description: Both texts.
        instructions: Each instruction with its own degree; empty if both texts were given.
        source: Embedding of the source text.
        targets: Embeddings of the target texts, one per instruction, each with its degree.
        method: How the latents move.
        mask: Where they may, (1, 1, H, W); None: everywhere.
        mask_name: How the mask was made, for the recipe.
        mask_cost: Calls of the transformer to make the mask, and (latents, text, sigma) triples in them.
        before: Attributes read from the image; None without a world.
        encoders: The text encoders whose part of the text moves; None: all.
        settings: What `make_plan` was given, to plan the same for another image.
        files: The files that image and mask come from, where they are known.
        remarks: How the model's world read the instructions, where that is worth a word.
        asked: All instructions, also where the texts that were given leave them nothing to do.
    """

    model: Model
    source_image: Image.Image
    reconstruction: Image.Image
    latents: Latents = field(repr=False)
    description: Description
    instructions: dict[str, float]
    source: TextEmbedding
    targets: tuple[tuple[TextEmbedding, float], ...]
    method: Method
    mask: Mask | None = field(repr=False)
    mask_name: str
    mask_cost: tuple[int, int]
    before: Values | None
    encoders: tuple[Encoder, ...] | None
    settings: EditSettings = field(repr=False)
    files: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()
    asked: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """For pickles: everything on the CPU, without the networks of model and describer."""
        kept = {name: on_the_cpu(value) for name, value in vars(self).items()}
        return kept | {"model": PickledModel(self.model), "settings": replace(self.settings, describer=None)}

    def __deepcopy__(self, memo: Any) -> Plan:
        return self

    @staticmethod
    def clock() -> float:
        """Seconds of a clock that only goes forward."""
        return time.perf_counter()

    @cached_property
    def cautions(self) -> list[str]:
        """What has no effect in this edit, and whether the model knows images like this one."""
        chosen, found = self.settings, []
        both = chosen.source_text is not None and chosen.target_text is not None
        if both and self.asked:
            found.append(
                f"not used: the instruction {self.asked!r}, because both texts were given. Leave target_text= out, "
                "and the instruction is carried out."
            )
        if chosen.source_text is not None and chosen.describer is not None:
            found.append(
                "not used: describer=, because source_text= says what the image shows. Leave one of them out."
            )
        look = judge.look(
            self.model, images.to_tensor(self.source_image), images.to_tensor(self.reconstruction)
        )
        if look.light == "red" and self.model.world is not None:
            found.append(
                f"{look.sentence} Ask before an edit: ditlens.check_image(model, image), ditlens check IMAGE."
            )
        return found

    @cached_property
    def null_text(self) -> TextEmbedding | None:
        """Embedding of the empty prompt; None if the method does without."""
        return self.model.encode_text("").named("uncond") if self.method.needs_null else None

    def moved(self, degree: float) -> TextEmbedding:
        """The manipulated text: c0 + degree * sum of w_i (c_i - c0)."""
        chosen = self.settings
        steps = [(c, degree * w * chosen.tokens, degree * w * chosen.pooled) for c, w in self.targets]
        text = text_encoders.only(self.source, move(self.source, *steps), self.encoders)
        return replace(text, prompts=(self.description.target,), roles=("target",))

    def states(self, degrees: Sequence[float], kept: SourceSide | None = None) -> Iterator[EngineState]:
        """Carry the plan out, one item per degree, step by step.

        Args:
            degrees: The degrees.
            kept: What runs of this plan have found at the source point, see `ditlens.ems.sample.iter_method`.
        """
        model, count, method = self.model, len(degrees), self.method
        slides = None
        if isinstance(method, DeltaVelocity) and method.slide == "guidance":
            slides = torch.tensor([float(d) for d in degrees], dtype=torch.float32, device="cpu")
            texts = [self.moved(1.0)] * count
        else:
            texts = [self.moved(degree) for degree in degrees]
        return iter_method(
            model, self.latents.expand(count, -1, -1, -1), self.source, TextEmbedding.cat(texts),
            method, grid=model.sigmas, null_text=self.null_text,
            seeds=[self.settings.seed] * count, mask=self.mask, slides=slides, kept=kept,
        )  # fmt: skip

    def reversed(self, latents: Latents, image: Image.Image, degree: float) -> Plan:
        """The way back from a result: from the text that it was made with to the source text.

        Args:
            latents: The result.
            image: The result as an image.
            degree: The degree at which it was made. Its text was moved that far, so that is what leads back.
        """
        model, old = self.model, self.description
        back = Description(old.target, old.source, {}, f"{old.describer}, reversed from degree {degree:g}")
        return replace(
            self, source_image=image, reconstruction=images.to_image(model.decode(latents)), latents=latents,
            description=known_to(model, back), instructions={}, source=self.moved(degree).named("source"),
            targets=((self.source.named("target"), 1.0),), before=measured(model, images.to_tensor(image)),
        )  # fmt: skip

    def on(self, image: images.ImageLike) -> Plan:
        """The same plan for another image.

        Raises:
            SettingError: If a text was given: it describes this image.
        """
        given = self.settings.source_text is not None or self.settings.target_text is not None
        if given or not self.instructions:
            raise SettingError(
                "This edit was made from texts that describe its own image. Call ditlens.edit with the other image "
                "and its texts."
            )
        return make_plan(self.model, image, dict(self.instructions), self.settings)

    def recipe(self, degree: float) -> dict[str, Any]:
        """What is needed to repeat the edit, ready for JSON.

        Beside it you need the image; the model, of which the recipe has the name and the `setup`
        (`ditlens.models.identity`); and a mask that was given, of which it has the checksum: `Edit.save` writes it
        to ``mask.png``. The way back from a result begins at that result: repeat the edit, then reverse it.

        Of a mask from the difference of the texts it has the settings. An edit that is repeated makes the mask with
        those of its own version: where `ditlens.ems.masks.difference_settings` gives others, the result may differ.
        """
        chosen = self.settings
        return {
            "ditlens": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "model": self.model.name,
            "device": str(self.model.device),
            **setup(self.model),
            "instruction": " and ".join(self.instructions),
            "instructions": self.instructions,
            "source_text": self.description.source,
            "target_text": self.description.target,
            "target_texts": [target.prompts[0] for target, _ in self.targets],
            "describer": self.description.describer,
            "degree": float(degree),
            "seed": chosen.seed,
            "tokens": chosen.tokens,
            "pooled": chosen.pooled,
            "encoders": None if self.encoders is None else [encoder.name for encoder in self.encoders],
            "mask": self.mask_name,
            **self._about_mask(),
            "method": settings_of(self.method),
        }

    @property
    def mask_png(self) -> bytes | None:
        """A mask that was given, as the bytes of a PNG; None if it was made here and can be made again."""
        return masks.as_png(self.mask) if self.mask_name == "given" and self.mask is not None else None

    def _about_mask(self) -> dict[str, Any]:
        if self.mask_name == "difference":
            return {"mask_settings": masks.difference_settings()}
        png = self.mask_png
        return {} if png is None else {"mask_file": MASK_FILE, "mask_sha256": hashlib.sha256(png).hexdigest()}


@takes(model=MODEL)
def make_plan(
    model: Model,
    image: images.ImageLike,
    instruction: str | Mapping[str, float] = "",
    settings: EditSettings | None = None,
) -> Plan:
    """Check everything that was asked for, then have the image described and embed the texts.

    What can be wrong is refused before a network runs. Arguments and errors are those of `ditlens.edit`.
    """
    chosen = settings or EditSettings()
    instructions = instructions_of(instruction)
    asked = " and ".join(instructions)
    check_texts(model, instruction, chosen.source_text, chosen.target_text)
    encoders = text_encoders.choose(model, chosen.encoders)
    given = chosen.source_text is not None
    if given and chosen.target_text is not None:
        instructions = {}
    who = None if given and chosen.describer is None else describer_from(chosen.describer, model)
    remarks: list[str] = []
    if model.world is not None and (given or who is model.describer):
        for each in instructions:
            remarks += model.world.check_instruction(each) or ()
    opened = images.open_image(image)
    pixels = model.fit(opened)
    size = model.latent_size(pixels)
    method = chosen_method(model, chosen.method, size)
    mask_name, mask = chosen_mask(model, chosen.mask, opened.size, pixels, size)
    mask_files = images.file_of(chosen.mask) if mask_name == "given" else []

    source_image = images.to_image(pixels)
    description = describe(
        model, source_image, list(instructions), who, chosen.source_text, chosen.target_text
    )
    parts = target_texts(model, source_image, description, list(instructions), who)
    first, *rest = model.encode_text([description.source, *parts]).split()
    source, texts = first.named("source"), [text.named("target") for text in rest]
    latents, before = model.encode_image(pixels), measured(model, pixels)
    cost = (0, 0)
    if mask_name == "difference":
        changes = [part for text in texts for part in changes_alone(model, source, text)]
        with outside_steps():  # these calls belong to no step of the edit
            mask = masks.difference_mask(model, latents, source, changes, seed=chosen.seed)
        calls = math.ceil((1 + len(changes)) / masks.TOGETHER)
        cost = masks.DRAWS * calls, masks.DRAWS * (1 + len(changes))
    elif mask_name == "exact":
        assert model.world is not None and before is not None
        wanted = model.world.wanted(description.source, description.target)
        mask = masks.latent_mask(model.world.change_mask(before, wanted, model.side), size, grow=1)
    return Plan(
        model=model, source_image=source_image, reconstruction=images.to_image(model.decode(latents)),
        latents=latents, description=description, instructions=instructions, source=source,
        targets=tuple(zip(texts, instructions.values() or [1.0], strict=True)), method=method, mask=mask,
        mask_name=mask_name, mask_cost=cost, before=before, encoders=encoders,
        settings=replace(chosen, describer=None if chosen.describer is None else who), asked=asked,
        files=(*images.file_of(image), *mask_files), remarks=tuple(remarks),
    )  # fmt: skip


def measured(model: Model, pixels: torch.Tensor) -> Values | None:
    """Attributes of an image (1, 3, H, W) as the model's world reads them; None without a world."""
    return None if model.world is None else model.world.measure(pixels)[0]


def changes_alone(model: Model, source: TextEmbedding, target: TextEmbedding) -> list[TextEmbedding]:
    """The target's changes one by one, embedded; the target itself if there are not several."""
    found = single_changes(source.prompts[0], target.prompts[0])
    if len(found) < 2:
        return [target]
    return [text.named("target") for text in model.encode_text(found).split()]


def chosen_mask(
    model: Model, mask: Any, image_size: images.Size, pixels: torch.Tensor, size: Sequence[int]
) -> tuple[str, torch.Tensor | None]:
    """How the mask is made ("none", "difference", "exact", "given"), and a mask that is given itself.

    Raises:
        SettingError: If it cannot be used.
        ImageError: If its file cannot be read.
    """
    if isinstance(mask, str) and mask == "auto":
        mask = model.defaults.get("mask")
    if mask is None or (isinstance(mask, str) and mask in masks.MASKS):
        if mask == "exact" and model.world is None:
            raise SettingError(
                f'mask="exact" needs a world with a renderer; {model.name} has none. Try "difference".'
            )
        return mask or "none", None
    try:
        return "given", masks.given_mask(mask, image_size, (pixels.shape[-1], pixels.shape[-2]), size)
    except ImageError as error:
        raise ImageError(
            f"{error} A mask is an image, an array, or one of {', '.join(masks.MASKS)}."
        ) from error


def chosen_method(
    model: Model, method: Method | Mapping[str, Any] | str | None, size: Sequence[int]
) -> Method:
    """The method by its name, as published for the model's family and latents of this size, or the model's own."""
    if isinstance(method, Mapping):  # as a recipe holds it
        return method_from(method)
    if isinstance(method, str):
        return default_method(model) if method == "ems" else method_for(model, method, size)
    return method or default_method(model)


def default_method(model: Model) -> Method:
    """The settings that a model brings in its ``ditlens.json``, or `EMS`."""
    settings = model.defaults.get("edit")
    return method_from(settings) if settings else EMS
