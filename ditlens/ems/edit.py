"""Extract, manipulate, sample: an edit from an image and an instruction to an image, a recipe and measurements.

The order of EMS (arXiv 2408.13335): two texts are *extracted*; the text embedding and the latents are
*manipulated*, by one degree; the image is *sampled* from both. The formulas of the paper's image half are not
known to us; the settings here are the "EMS-style" reading in `ditlens.ems.methods`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ditlens import images, late
from ditlens.arguments import ON_STEP, PATH, TEXT, takes
from ditlens.cards import Carded, Pictures, Piece, Table
from ditlens.description import Describer, Description
from ditlens.ems import judge
from ditlens.ems.engine import EngineState
from ditlens.ems.extract import degree_of
from ditlens.ems.loops import Method
from ditlens.ems.plan import MASK_FILE, EditSettings, Plan, Values, make_plan
from ditlens.errors import SettingError
from ditlens.files import as_json, keep_inputs, user_path, writing_whole
from ditlens.models.encoders import Choice
from ditlens.models.model import MODEL, Model
from ditlens.tables import counted, progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST = 10
"""Most attributes in the table of an edit or a sweep."""


@dataclass(kw_only=True, repr=False)
class Edit(Carded):
    """A finished edit.

    Attributes:
        image: The result.
        source_image: The image as the model saw it (upright, cut and scaled).
        reconstruction: The image after encoding and decoding: what degree 0 returns, if the method promises it
            (its `exact_at_0`).
        description: Both texts.
        degree: Editing degree: at 0 the text is the source's, at 1 the target's.
        seconds: Time from texts to image, without describing.
        recipe: What is needed to repeat the edit beside the source image, ready for JSON; see `Plan.recipe`.
        before: Attributes read from `source_image`; None if the model's world has no oracle.
        after: Attributes read from `image`.
        evaluations: (latents, text, sigma) triples put through the transformer, those of the mask among them.
        latents: Edited latents, (1, channels, height, width).
        plan: What the edit was made from.

    A pickled edit can be looked at, measured and saved. It holds no networks: to repeat, sweep or reverse it, make
    it again with a model.

    Example:
        >>> image = model.generate("a portrait with a big smile", seed=0, steps=2)
        >>> edit = dl.edit(model, image, source_text="a red shirt", target_text="a blue shirt", degree=0.0)
        >>> edit.targets
        ['shirt']
        >>> edit.image == edit.reconstruction
        True
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
    latents: torch.Tensor
    plan: Plan

    def _card(self) -> list[Piece]:
        after = f"after, degree {self.degree:g}, seed {self.recipe['seed']}"
        pictures = Pictures([self.source_image, self.image], ["before", after])
        facts = [*self.description.rows(), ("degree", f"{self.degree:g}"), ("seconds", f"{self.seconds:.1f}")]
        found: list[Piece] = [pictures, Table(facts)]
        if self.before is not None and self.after is not None:
            drift = f"{self.drift:.3f} of an attribute's range, mean over those not asked for"
            facts.append(("drift", drift))
            names = judge.changed(self.before, self.after, self.targets)
            rows = [
                (
                    name, judge.shown(self.before[name]), "->", judge.shown(self.after[name]),
                    "" if name in self.targets else "not asked for",
                )
                for name in names[:MOST]
            ]  # fmt: skip
            head = ("measured", "before", "", "after", "")
            others = counted(len(self.before) - len(names), "more attribute")
            more = f", {len(names) - MOST} more moved" if len(names) > MOST else ""
            found += ["", Table(rows, head), f"({others} stayed the same{more})"]
        return [*found, *(f"warning: {warning}" for warning in self.warnings)]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "latents": self.latents.cpu()}

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
        world = self.plan.model.world
        if world is None or self.before is None or self.after is None:
            return None
        return world.drift(self.before, self.after, self.targets)

    @property
    def missed(self) -> list[str]:
        """Names of the attributes that were asked for and are not as asked, as the oracle reads the result."""
        world = self.plan.model.world
        if world is None or self.after is None:
            return []
        return world.missed(self.after, world.wanted(self.source_text, self.target_text))

    @property
    def _passed(self) -> list[str]:
        """Those of `missed` that went all the way to what was asked for, and beyond."""
        world = self.plan.model.world
        if world is None or self.before is None or self.after is None:
            return []
        before, after, wanted = self.before, self.after, world.wanted(self.source_text, self.target_text)
        return [name for name in self.missed if world.progress(before, after, {name: wanted[name]}) == 1]

    @property
    def warnings(self) -> list[str]:
        """What to know about it, empty if all is well.

        Of what was asked: how a word was read, and what has no effect beside the rest; of the source image: that
        the model does not know such images; of the result: *no visible change*, *identity broke*, *cannot be
        seen*, *not reached*, *more than asked*.
        """
        moved = judge.change(images.to_tensor(self.image), images.to_tensor(self.reconstruction))
        same, exact = self.source_text == self.target_text, self.plan.method.exact_at_0
        noticed = judge.changed(self.before or {}, self.after or {}, [])
        world = self.plan.model.world
        hidden = world.hidden(self.after) if world is not None and self.after is not None else ()
        found = judge.warnings_of(
            moved, self.degree, self.drift, self.missed, passed=self._passed, hidden=hidden,
            seen=not set(noticed).isdisjoint(self.targets), same_texts=same, exact_at_0=exact,
        )  # fmt: skip
        return [*self.plan.remarks, *(self.plan.cautions if self.degree else ()), *found]

    @property
    def mask(self) -> torch.Tensor | None:
        """Where the latents could change, (1, 1, height / 8, width / 8); None: everywhere."""
        return self.plan.mask

    def iter(self, degree: float | None = None) -> EditSteps:
        """Do the edit again step by step: ``for state in edit.iter(): show(state.preview)``.

        Args:
            degree: Another degree; the edit's own by default.
        """
        return EditSteps(self.plan, degree_of(self.degree if degree is None else degree))

    def reverse(self, degree: float = 1.0) -> Edit:
        """Edit the result back, from the text that it was made with to the source text.

        Args:
            degree: How far back; 1 goes the whole way that this edit came, whatever its own degree.
        """
        degree = degree_of(degree)
        return finish(self.plan.reversed(self.latents, self.image, self.degree), [degree])[0]

    def apply(self, image: images.ImageLike, degree: float | None = None) -> Edit:
        """Do the same to another image: same instruction, settings and seed.

        Args:
            image: The other image.
            degree: Another degree; the edit's own by default.

        Raises:
            SettingError: If a text was given, which describes the first image, or a mask does not fit.
        """
        degree = degree_of(self.degree if degree is None else degree)
        return finish(self.plan.on(image), [degree])[0]

    def sweep(self, degrees: Iterable[float] = (-1.0, 0.0, 0.5, 1.0, 1.5)) -> Sweep:
        """Repeat the edit at several degrees, with the same texts and the same noise.

        Args:
            degrees: Editing degrees, each within [-2, 3].

        Raises:
            SettingError: If a degree is out of range or there are none.
        """
        chosen = list(degrees) if isinstance(degrees, Iterable) else []
        if not chosen:
            raise SettingError(
                f"degrees is {degrees!r}. A sweep needs at least one degree: sweep([0, 0.5, 1])."
            )
        chosen = [degree_of(degree) for degree in chosen]
        return Sweep(chosen, finish(self.plan, chosen))

    @takes(directory=PATH)
    def save(self, directory: str | Path) -> Path:
        """Write ``edit.png`` (the recipe is in its metadata) and ``edit.json`` (recipe and measurements).

        A mask that was given is written too, to ``mask.png``, one pixel a cell of the latents. Files of an earlier
        edit are replaced, all or none.

        Returns:
            The folder.

        Raises:
            SettingError: If it is a file, or the edit was made from a file that would be replaced.
            WriteError: If a file cannot be written.
        """
        folder = user_path(directory)
        if any(map(os.path.isfile, (folder, *folder.parents))):
            raise SettingError(
                f"An edit is saved into a folder, but {folder} is or lies under a file. Name another."
            )
        info, image = PngInfo(), io.BytesIO()
        info.add_text("ditlens", json.dumps(self.recipe))
        self.image.save(image, "PNG", pnginfo=info)
        contents = {"edit.png": image.getvalue(), "edit.json": as_json(self.facts())}
        if (mask := self.plan.mask_png) is not None:
            contents[MASK_FILE] = mask
        keep_inputs([folder / name for name in contents], self.plan.files)
        with contextlib.ExitStack() as files:
            for name, content in contents.items():
                files.enter_context(writing_whole(folder / name)).write_bytes(content)
        return folder

    def facts(self) -> dict[str, Any]:
        """The edit without its images, ready for JSON."""
        return {
            "source_text": self.source_text,
            "target_text": self.target_text,
            "alignment": self.description.alignment_facts(),
            "degree": self.degree,
            "targets": self.targets,
            "before": self.before,
            "after": self.after,
            "drift": self.drift,
            "warnings": self.warnings,
            "seconds": round(self.seconds, 3),
            "evaluations": self.evaluations,
            "recipe": self.recipe,
        }


@dataclass(repr=False)
class Sweep(Carded):
    """One edit at several degrees.

    Attributes:
        degrees: The degrees.
        edits: One `Edit` each.
    """

    degrees: list[float]
    edits: list[Edit]

    def _card(self) -> list[Piece]:
        names = [f"{degree:g}" for degree in self.degrees]
        found: list[Piece] = [
            f"Sweep of {counted(len(names), 'degree')}: {', '.join(names)}",
            Pictures(self.images, [f"degree {name}" for name in names]),
        ]
        before, rows = self.edits[0].before, []
        if before is not None:
            moved = [n for e in self.edits for n in judge.changed(before, e.after or {}, e.targets)]
            shown = [name for name, _ in Counter(self.edits[0].targets + moved).most_common(MOST)]
            rows = [(name, *map(judge.shown, self.values(name))) for name in shown]
            rows.append(("drift", *(f"{e.drift:.3f}" for e in self.edits)))
            found.append(Table(rows, ("measured", *names)))
        return found

    @property
    def images(self) -> list[Image.Image]:
        return [e.image for e in self.edits]

    @takes(attribute=TEXT)
    def values(self, attribute: str) -> list[float | str]:
        """An attribute as the oracle reads it at every degree.

        Raises:
            SettingError: If the model has no world, or that has no such attribute.
        """
        if any(e.after is None for e in self.edits):
            raise SettingError("Nothing was measured: this model has no oracle. Look at .images instead.")
        values = [e.after for e in self.edits if e.after is not None]
        if attribute not in values[0]:
            raise SettingError(f"There is no attribute {attribute!r}. Choose from: {', '.join(values[0])}.")
        return [each[attribute] for each in values]

    def strip(self) -> Image.Image:
        """The images side by side, each under its degree."""
        title = " -> ".join(dict.fromkeys((self.edits[0].source_text, self.edits[0].target_text)))
        title = title if len(title) < 24 * len(self.edits) else "degree of the edit"
        return images.strip(self.images, [f"{d:g}" for d in self.degrees], title)

    @takes(path=PATH)
    def save(self, path: str | Path) -> None:
        """Write the strip as an image, PNG unless its name ends otherwise; its folder is made if it is missing.

        Raises:
            SettingError: If the name ends in no known format, or it is the file that the edit was made from.
            WriteError: If it cannot be written.
        """
        file = user_path(path)
        file = file if file.suffix else file.with_name(f"{file.name}.png")
        keep_inputs([file], self.edits[0].plan.files)
        images.save_image(file, self.strip())

    def plot(self) -> Figure:
        """The strip, and below it what the oracle read of every changed attribute; a matplotlib figure."""
        return late.view("plot_sweep")(self)


@takes(model=MODEL, on_step=ON_STEP)
def edit(
    model: Model,
    image: images.ImageLike,
    instruction: str | Mapping[str, float] = "",
    *,
    degree: float = 1.0,
    seed: int = 0,
    source_text: str | None = None,
    target_text: str | None = None,
    describer: Describer | str | None = None,
    method: Method | Mapping[str, Any] | str | None = None,
    mask: Any = "auto",
    tokens: bool = True,
    pooled: bool = True,
    encoders: Choice = None,
    on_step: Callable[[EngineState], object] | None = None,
) -> Edit:
    """Edit an image as an instruction says, by a degree.

    Args:
        model: The model, from `ditlens.load`.
        image: A file or its name, a PIL image, a tensor or an array.
        instruction: What to change, in words; or several instructions, each with its own degree:
            ``{"make her smile": 0.7, "remove the glasses": 1}``. May be empty if both texts are given.
        degree: 1 aims at the target text; more exaggerates, less than 0 reverses. 0 returns the reconstruction,
            bit for bit, with methods whose `exact_at_0` is true: those that guide both velocities alike, or the
            target away from the source text (the default ones, DDS, FlowAlign, FlowSlider). Methods that guide
            source and target differently (FlowEdit and DVRF as published), that resample or that invert change
            the image at 0 too. Multiplies the degrees of several instructions.
        seed: Seed of the noise.
        source_text: What the image shows, instead of the describer's text. Without `target_text` it needs a model
            with a world, whose grammar words the target from it.
        target_text: What it should show, instead of the describer's text.
        describer: Who describes; the model's own by default. A name, a folder or an address does too, see
            `ditlens.describers.choice.describer_from`.
        method: Settings of a method, also as a recipe holds them, or a name from `ditlens.ems.sample.METHODS`: as
            published for the model's family and for latents of this size. The model's own by default.
        mask: Where the image may change: an image, an array or a file (white may change), drawn on the image or on
            what the model sees of it; "difference" takes where the two texts pull apart; "exact" draws it, in a
            world with a renderer; "auto" is the model's own choice. None or "none": everywhere.
        tokens: Whether the token matrix of the text moves.
        pooled: Whether the pooled vector of the text moves.
        encoders: Text encoders whose part of the text moves, by name or number: ``{"clip"}``, ``{0, "t5"}``; all by
            default. `ditlens.models.encoders.encoders_of` lists those of a model.
        on_step: Called with the engine's state after every step; raise in it to stop.

    Raises:
        ImageError: If the image cannot be read.
        CaptionError: If the instruction is not understood.
        DescriberError: If nothing can describe the image.
        SettingError: If a setting is out of range, contradicts another, or a mask does not fit the image.

    Example:
        >>> image = model.generate("a portrait with a big smile", seed=0, steps=2)
        >>> edit = dl.edit(model, image, "add a crown", degree=0.5, source_text="young person, no hat")
        >>> edit.target_text
        'young person, a crown'
        >>> edit.image.size
        (128, 128)
    """
    degree = degree_of(degree)
    settings = EditSettings(
        seed=seed, source_text=source_text, target_text=target_text, describer=describer, method=method, mask=mask,
        tokens=tokens, pooled=pooled, encoders=encoders,
    )  # fmt: skip
    return finish(make_plan(model, image, instruction, settings), [degree], on_step)[0]


def finish(
    plan: Plan, degrees: Sequence[float], on_step: Callable[[EngineState], object] | None = None
) -> list[Edit]:
    """Carry a plan out at several degrees, in one batch.

    Raises:
        SettingError: If a degree is out of range.
    """
    degrees = [degree_of(degree) for degree in degrees]
    state = None
    begun = plan.clock()
    with progress_bar("edit, steps", on_step is None) as show:
        for state in plan.states(degrees):
            show(state.step + 1, state.steps)
            if on_step is not None:
                on_step(state)
    assert state is not None
    return results(plan, degrees, state, begun)


def results(plan: Plan, degrees: Sequence[float], state: EngineState, begun: float) -> list[Edit]:
    """The edits of a plan's last state."""
    model = plan.model
    # One by one, as the reconstruction was: in another batch size the last bit of a pixel may differ.
    pixels = torch.cat([model.decode(latent) for latent in state.latents.split(1)])
    seconds = (plan.clock() - begun) / len(degrees)
    read = [None] * len(degrees) if model.world is None else model.world.measure(pixels)
    return [
        Edit(
            image=images.to_image(pixels[i]), source_image=plan.source_image, reconstruction=plan.reconstruction,
            description=plan.description, degree=degree, seconds=seconds, recipe=plan.recipe(degree),
            before=plan.before, after=read[i], evaluations=state.evaluations // len(degrees) + plan.mask_cost[1],
            latents=state.latents[i : i + 1], plan=plan,
        )
        for i, degree in enumerate(map(float, degrees))
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class EditState(EngineState):
    """An edit after one step: an `EngineState` of one item that can be looked at."""

    model: Model = field(repr=False)

    @property
    def preview(self) -> Image.Image:
        """The clean estimate as an image: what the result would be if this step were the last."""
        return images.to_image(self.model.decode(self.clean))


class EditSteps:
    """An edit that is being made: iterate over it, stop whenever you like.

    ``for state in steps: ...`` yields an `EditState` after every step; `result` is the finished `Edit` afterwards.
    `cancel`, from another thread or from the loop, ends it after the step in hand; what is there by then is kept in
    `state`. Iterating again goes on.
    """

    def __init__(self, plan: Plan, degree: float) -> None:
        self.plan, self.degree, self.cancelled = plan, degree, False
        self.state: EditState | None = None
        self._begun = plan.clock()
        self._states = plan.states([degree])

    def __iter__(self) -> Iterator[EditState]:
        return self

    def __next__(self) -> EditState:
        if self.cancelled:
            raise StopIteration
        self.state = EditState(**vars(next(self._states)), model=self.plan.model)
        return self.state

    def cancel(self) -> None:
        """Stop after the step in hand."""
        self.cancelled = True

    @cached_property
    def result(self) -> Edit:
        """The finished edit; steps that are still missing are made now.

        Raises:
            SettingError: If it was cancelled before the end.
        """
        for _ in self:
            pass
        last = self.state
        if last is None or last.step + 1 < last.steps:
            done = 0 if last is None else last.step + 1
            raise SettingError(
                f"This edit was cancelled after {counted(done, 'step')}: there is no result. "
                "Its last state is in .state; start again with edit.iter()."
            )
        return results(self.plan, [self.degree], last, self._begun)[0]


@takes(model=MODEL)
def edit_steps(
    model: Model,
    image: images.ImageLike,
    instruction: str | Mapping[str, float] = "",
    *,
    degree: float = 1.0,
    **settings: Any,
) -> EditSteps:
    """Begin an edit and make it step by step; the arguments are those of `edit`, without `on_step`.

    Example:
        >>> image = model.generate("a portrait with a big smile", seed=0, steps=2)
        >>> steps = dl.edit_steps(model, image, source_text="a red shirt", target_text="a blue shirt")
        >>> for state in steps:
        ...     preview = state.preview  # show it
        >>> state.step + 1, state.steps
        (18, 18)
        >>> steps.result.targets
        ['shirt']
    """
    degree = degree_of(degree)
    return EditSteps(make_plan(model, image, instruction, EditSettings(**settings)), degree)
