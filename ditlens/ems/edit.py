"""Extract, manipulate, sample: an edit from a picture and a wish to a picture, a recipe and measurements.

The order of EMS (arXiv 2408.13335): two texts are *extracted*; the text embedding and the latents are
*manipulated*, by one degree; the picture is *sampled* from both. The formulas of the paper's image half are not
known to us; the settings here are the "EMS-style" reading in `ditlens.ems.methods`.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import ditlens
from ditlens import images
from ditlens.ems import engine
from ditlens.ems.extract import Describer, Description, extract
from ditlens.ems.manipulate import TextEmbedding, manipulate
from ditlens.ems.methods import DeltaVelocity
from ditlens.errors import SettingError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
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


@dataclass
class Edit:
    """A finished edit.

    Attributes:
        image: The result.
        source_image: The picture as the model saw it (upright, cut and scaled).
        reconstruction: The picture after encoding and decoding: what degree 0 returns.
        description: Both texts.
        degree: Editing degree: 0 changes nothing, 1 is the target.
        seconds: Time from texts to picture, without describing.
        recipe: Everything needed to repeat the edit, ready for JSON.
        before: Attributes read from `source_image`; None if the model's world has no oracle.
        after: Attributes read from `image`.
        evaluations: (latents, text, sigma) triples put through the transformer.
        latents: Edited latents, (1, channels, height, width).
    """

    image: Image.Image
    source_image: Image.Image
    reconstruction: Image.Image
    description: Description
    degree: float
    seconds: float
    recipe: dict[str, Any]
    before: Values | None
    after: Values | None
    evaluations: int
    latents: torch.Tensor = field(repr=False)
    _again: Callable[[Sequence[float]], list[Edit]] = field(repr=False)

    @property
    def source_text(self) -> str:
        return self.description.source

    @property
    def target_text(self) -> str:
        return self.description.target

    @property
    def targets(self) -> list[str]:
        """Names of the attributes that the instruction asks to change."""
        return list(self.description.changes)

    @property
    def drift(self) -> float | None:
        """Mean change of what was not asked for, in units of each attribute's range (0 is perfect).

        Counted over the attributes that can be seen before and after.
        """
        if self.before is None or self.after is None:
            return None
        from ditlens.worlds.portraits.measure import drift

        return drift(self.before, self.after, self.targets)

    def sweep(self, degrees: Sequence[float] = (-1.0, 0.0, 0.5, 1.0, 1.5)) -> Sweep:
        """Repeat the edit at several degrees, with the same texts and the same noise.

        Args:
            degrees: Editing degrees, each within [-2, 3].

        Raises:
            SettingError: If a degree is out of range or there are none.
        """
        if not degrees:
            raise SettingError("A sweep needs at least one degree, e.g. sweep([0, 0.5, 1]).")
        return Sweep(list(degrees), self._again(degrees))

    def save(self, directory: str | Path) -> Path:
        """Write ``edit.png`` (the recipe is in its metadata) and ``edit.json`` (recipe and measurements).

        Returns:
            The folder.
        """
        from PIL.PngImagePlugin import PngInfo

        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        info = PngInfo()
        info.add_text("ditlens", json.dumps(self.recipe))
        self.image.save(folder / "edit.png", pnginfo=info)
        (folder / "edit.json").write_text(json.dumps(self.facts(), indent=2) + "\n")
        return folder

    def facts(self) -> dict[str, Any]:
        """The edit without its pictures, ready for JSON."""
        return {
            "source_text": self.source_text,
            "target_text": self.target_text,
            "degree": self.degree,
            "targets": self.targets,
            "before": self.before,
            "after": self.after,
            "drift": self.drift,
            "seconds": round(self.seconds, 3),
            "evaluations": self.evaluations,
            "recipe": self.recipe,
        }


@dataclass
class Sweep:
    """One edit at several degrees.

    Attributes:
        degrees: The degrees.
        edits: One `Edit` each.
    """

    degrees: list[float]
    edits: list[Edit]

    @property
    def images(self) -> list[Image.Image]:
        return [e.image for e in self.edits]

    def values(self, attribute: str) -> list[float | str]:
        """An attribute as the oracle reads it at every degree.

        Raises:
            SettingError: If the model's world has no oracle.
        """
        if any(e.after is None for e in self.edits):
            raise SettingError("Nothing was measured: this model has no oracle. Look at .images instead.")
        return [e.after[attribute] for e in self.edits if e.after is not None]

    def strip(self) -> Image.Image:
        """The pictures side by side, each under its degree."""
        title = " -> ".join(dict.fromkeys((self.edits[0].source_text, self.edits[0].target_text)))
        title = title if len(title) < 24 * len(self.edits) else "degree of the edit"
        return images.strip(self.images, [f"{d:g}" for d in self.degrees], title)

    def save(self, path: str | Path) -> None:
        """Write the strip as a picture."""
        self.strip().save(path)

    def plot(self) -> Figure:
        """The strip, and below it what the oracle read of every changed attribute; a matplotlib figure."""
        from ditlens.plots import plot_sweep

        return plot_sweep(self)


def edit(
    model: Model,
    image: images.Picture,
    instruction: str = "",
    *,
    degree: float = 1.0,
    seed: int = 0,
    source_text: str | None = None,
    target_text: str | None = None,
    describer: Describer | None = None,
    method: DeltaVelocity | None = None,
    tokens: bool = True,
    pooled: bool = True,
    on_step: Callable[[engine.EngineState], object] | None = None,
) -> Edit:
    """Edit a picture as an instruction says, by a degree.

    Args:
        model: The model, from `ditlens.load`.
        image: A file, a PIL picture or a tensor.
        instruction: What to change, in words; may be empty if both texts are given.
        degree: 0 returns the reconstruction, 1 aims at the target text; more exaggerates, less than 0 reverses.
        seed: Seed of the noise.
        source_text: What the picture shows, instead of the describer's text.
        target_text: What it should show, instead of the describer's text.
        describer: Who describes; the model's own by default.
        method: Settings of the engine; the model's own by default.
        tokens: Whether the token matrix of the text moves.
        pooled: Whether the pooled vector of the text moves.
        on_step: Called with the engine's state after every step; raise in it to stop.

    Raises:
        ImageError: If the picture cannot be read.
        CaptionError: If the instruction is not understood.
        DescriberError: If nobody can describe the picture.
        SettingError: If a setting is out of range.
    """
    _check_degrees([degree])
    picture = model.prepare(image)
    source_image = images.to_image(picture)
    if source_text is not None and target_text is not None:
        description = Description(source_text, target_text, changes_between(model, source_text, target_text))
    else:
        description = extract(source_image, instruction, describer, model=model)
        if source_text is not None or target_text is not None:
            description = description.rewritten(source_text, target_text)
    method = method or default_method(model)
    latents = model.encode_image(picture)
    texts = model.encode_text([description.source, description.target])
    source, target = _row(texts, 0).named("source"), _row(texts, 1).named("target")
    before = model.oracle.measure(picture)[0] if model.oracle is not None else None
    reconstruction = images.to_image(model.decode(latents))

    def again(degrees: Sequence[float]) -> list[Edit]:
        _check_degrees(degrees)
        started = time.perf_counter()
        moved = [manipulate(source, target, d, tokens=tokens, pooled=pooled) for d in degrees]
        state = None
        for state in engine.iter_edit(
            model, latents.expand(len(degrees), -1, -1, -1), source.expand(len(degrees)),
            TextEmbedding.cat(moved), model.sigmas(method.steps), method,
            null_text=model.encode_text("").named("uncond"), seeds=[seed] * len(degrees),
        ):  # fmt: skip
            if on_step is not None:
                on_step(state)
        assert state is not None
        # One by one, as the reconstruction was: in another batch size the last bit of a pixel may differ.
        pictures = torch.cat([model.decode(latent) for latent in state.latents.split(1)])
        seconds = (time.perf_counter() - started) / len(degrees)
        read = model.oracle.measure(pictures) if model.oracle is not None else [None] * len(degrees)
        return [
            Edit(
                images.to_image(pictures[i]), source_image, reconstruction, description, float(d), seconds,
                _recipe(model, instruction, description, d, seed, method, tokens, pooled),
                before, read[i], state.evaluations // len(degrees), state.latents[i : i + 1], again,
            )
            for i, d in enumerate(degrees)
        ]  # fmt: skip

    return again([degree])[0]


def default_method(model: Model) -> DeltaVelocity:
    """The engine settings that a model brings in its ``ditlens.json``, or `EMS`."""
    settings = model.defaults.get("edit")
    return DeltaVelocity(**settings) if settings else EMS


def changes_between(model: Model, source: str, target: str) -> dict[str, str]:
    """What two texts of a world change; nothing for models without a world."""
    if model.world != "portraits":
        return {}
    from ditlens.worlds.portraits.describer import text_changes

    return text_changes(source, target)


def _row(texts: TextEmbedding, row: int) -> TextEmbedding:
    mask = None if texts.mask is None else texts.mask[row : row + 1]
    tokens, pooled = texts.tokens[row : row + 1], texts.pooled[row : row + 1]
    return TextEmbedding(tokens, pooled, mask, texts.prompts[row : row + 1], texts.roles[row : row + 1])


def _check_degrees(degrees: Sequence[float]) -> None:
    for degree in degrees:
        if not LOWEST <= degree <= HIGHEST:
            raise SettingError(
                f"degree {degree:g} is outside [{LOWEST:g}, {HIGHEST:g}]: 0 changes nothing, 1 is the full edit."
            )


def _recipe(
    model: Model, instruction: str, description: Description, degree: float, seed: int,
    method: DeltaVelocity, tokens: bool, pooled: bool,
) -> dict[str, Any]:  # fmt: skip
    return {
        "ditlens": ditlens.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "model": model.name,
        "device": str(model.device),
        "instruction": instruction,
        "source_text": description.source,
        "target_text": description.target,
        "describer": description.describer,
        "degree": float(degree),
        "seed": seed,
        "tokens": tokens,
        "pooled": pooled,
        "method": dataclasses.asdict(method),
    }
