"""One person's editor without a page: it holds the state and the history, and one thread that does the work.

Everything that goes in or out is plain (texts, numbers, bytes), so that the page may live in another process. What
is asked for last wins: while something is being made, the newest wish waits in a single place and replaces the one
before it. `Session.drag` answers at once from a grid of degrees; the true edit follows when the degree has rested.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ditlens import images
from ditlens.ems import masks
from ditlens.ems.degrees import DegreeGrid
from ditlens.ems.edit import Edit
from ditlens.ems.engine import EngineState
from ditlens.ems.extract import degree_of
from ditlens.ems.methods import DeltaVelocity
from ditlens.ems.plan import EditSettings, Plan, chosen_method, make_plan
from ditlens.ems.sample import METHODS, settings_of
from ditlens.errors import DitlensError, SettingError
from ditlens.models.encoders import encoders_of
from ditlens.models.model import Model
from ditlens.tables import spoken
from ditlens.views.editor.state import EditorState
from ditlens.views.working import Stopped, Working, turns_of
from ditlens.worlds.world import Continuous, Values, World

REST = 0.3
"""Seconds for which a degree rests before it is made truly."""
HELD = 3.0
"""The same while the slider is held: the true edit waits for its release."""
LATE = 0.15
"""Seconds after a release within which the last degree may still be on its way from the browser."""
QUICK = 4.0
"""A model whose edits take longer than these seconds gets no grid of degrees: it would take minutes."""
KEPT = 30
"""Moments of the history."""


@dataclass(eq=False)
class Moment:
    """A finished picture in the history.

    Attributes:
        state: What it was made from.
        picture: The result as JPEG.
        edit: The edit; None where an image was opened.
        read: What the oracle reads in the source image.
        before: The source image as the model sees it, as JPEG.
        edit: The edit; None where an image was opened.
        grid: Its other degrees, if they are made.
    """

    state: EditorState
    picture: bytes
    before: bytes
    read: Mapping[str, float | str]
    edit: Edit | None = None
    grid: DegreeGrid | None = field(default=None, repr=False)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is shown beside the picture."""
        edit = self.edit
        if edit is None:
            return {"measured": [], "drift": None, "warnings": [], "seconds": None}
        return {
            "measured": measured(edit), "drift": edit.drift, "warnings": edit.warnings, "seconds": edit.seconds,
        }  # fmt: skip


class Session(Working):
    """An editor without a page.

    Args:
        model: The model.
        image: The picture to begin with: a file, a PIL image, a tensor; an example by default.

    Attributes:
        state: What is asked for now.
        error: What went wrong last, in words; empty if nothing did.
        details: The traceback of an error that is not ditlens's own.
    """

    def __init__(self, model: Model, image: images.ImageLike | None = None) -> None:
        super().__init__()
        self.model, self.state = model, EditorState()
        self.moments: list[Moment] = []
        self.index = -1
        self._turns, self._jumps = turns_of(model), 0
        self._due: float | None = None  # when what is asked for is to be made
        self._busy, self._progress, self._stop = "", 0.0, False
        self._filling: tuple[DegreeGrid, Iterator[Any]] | None = None
        self._seen: tuple[bytes, str] = b"", "opened"  # the picture on the page, and what it is
        self._start("ditlens editor", self._work)
        examples = self.examples()
        if image is not None:
            with self._noting():
                self._open(images.open_image(image), _name_of(image))
        elif examples:
            self.example(next(iter(examples)))

    # --- what it is --------------------------------------------------------------------------------------

    def examples(self) -> dict[str, bytes]:
        """Example pictures by name, as JPEG."""
        files = {} if self.model.world is None else self.model.world.examples()
        names = {images.to_jpeg(images.open_image(path)): name for name, path in files.items()}
        return {name: picture for picture, name in names.items()}  # each picture once

    def facts(self) -> dict[str, Any]:
        """What does not change: the model's name, attributes with their levels' words, methods, encoders."""
        world = self.model.world
        attributes = {}
        if world is not None:
            for name, spec in world.attributes.items():
                words = [world.phrase(name, k) for k in range(_count(spec))]
                attributes[name] = {
                    "label": spoken(name),
                    "ordered": isinstance(spec, Continuous),
                    "words": words,
                }
        kinds = [
            "auto",
            "none",
            *(m for m in masks.MASKS if m != "none" and (m != "exact" or world is not None)),
        ]
        return {
            "model": self.model.name, "attributes": attributes, "methods": ["ems", *METHODS], "masks": kinds,
            "encoders": [encoder.name for encoder in encoders_of(self.model)],
        }  # fmt: skip

    # --- what can be asked for ---------------------------------------------------------------------------

    def example(self, name: str) -> None:
        """Open an example picture."""
        with self._noting():
            files = {} if self.model.world is None else self.model.world.examples()
            if name not in files:
                raise SettingError(f"There is no example {name!r}. There are: {', '.join(files) or 'none'}.")
            self._open(images.open_image(files[name]), name)

    def open(self, content: bytes, name: str = "picture.png") -> None:
        """Open a picture from the bytes of a file."""
        with self._noting():
            self._open(images.open_image(images.open_file(io.BytesIO(content))), name)

    def extract(self, instruction: str) -> None:
        """Have the picture and an instruction described by two texts, then edit."""
        with self._noting():
            if not instruction.strip():
                raise SettingError("Say what to change, e.g. make her smile.")
            self._ask(instruction=instruction, source_text="", target_text="")

    def set_texts(self, source: str, target: str) -> None:
        """Edit from these two texts."""
        with self._noting():
            if not source.strip() or not target.strip():
                raise SettingError("Both texts are needed: what the picture shows, and what it should show.")
            self._ask(source_text=source.strip(), target_text=target.strip())

    def set_level(self, attribute: str, level: int) -> None:
        """Ask for a level of an attribute, beside what the texts change already."""
        with self._noting():
            world = self.model.world
            if world is None or attribute not in world.attributes:
                raise SettingError(f"This model knows no attribute {attribute!r}.")
            wanted = {**world.wanted(self.state.source_text, self.state.target_text), attribute: level}
            words = " and ".join(world.phrase(name, k) for name, k in wanted.items())
            if not self.state.source_text:
                self._ask(instruction=words, source_text="", target_text="")
                return
            known = world.measure(images.to_tensor(self._opened()))[0]
            source, target = world.reword(self.state.source_text, words, known)
            self._ask(source_text=source, target_text=target, instruction=words)

    def configure(self, **changes: Any) -> None:
        """Change settings by their names in `EditorState`; what is there is edited anew."""
        with self._noting():
            self._ask(**changes)

    def drag(self, degree: float, held: bool = False) -> bytes:
        """Show another degree at once, as near as it is known; the true edit follows when it has rested.

        Args:
            degree: The degree.
            held: Whether more will come, until `release`.

        Returns:
            The picture as JPEG; empty if nothing was edited yet.
        """
        with self._noting():
            degree = degree_of(degree)
            with self._change:
                if degree == self.state.degree:
                    return self._seen[0]
                self.state = replace(self.state, degree=degree)
                if not self.state.target_text:
                    return self._seen[0]
                moment = self._moment
                self._stop = bool(self._busy)
                self._due = time.monotonic() + (HELD if held else REST)
                self._change.notify_all()
            picture = self._preview(moment, degree)
            with self._change:
                if picture and self.state.degree == degree:
                    self._seen = picture, "preview"
                    self._tell()
            return picture
        return b""

    def release(self) -> None:
        """The slider was let go: make what waits."""
        with self._change:
            if self._due is not None:
                self._due = time.monotonic() + LATE
                self._change.notify_all()

    def stop(self) -> None:
        """Stop what is being made after the step in hand; nothing that is there is lost."""
        with self._change:
            self._due, self._filling, self._stop = None, None, bool(self._busy)
            self._keep_texts()
            self._tell()

    def go(self, index: int) -> None:
        """Go to a moment of the history; -1 is the last one."""
        with self._change:
            if not self.moments:
                return
            self.index = range(len(self.moments))[max(-1, min(index, len(self.moments) - 1))]
            moment = self._moment
            assert moment is not None
            self.state, self.error, self._due, self._jumps = moment.state, "", None, self._jumps + 1
            self._stop = bool(self._busy)
            self._show(moment)

    def undo(self) -> None:
        """One moment back."""
        self.go(max(0, self.index - 1))

    def redo(self) -> None:
        """One moment forward."""
        self.go(min(len(self.moments) - 1, self.index + 1))

    def film(self) -> list[bytes]:
        """The steps of the picture that is shown: what it would be if each were the last; JPEGs."""
        with self._noting():
            moment = self._moment
            if moment is None or moment.edit is None:
                raise SettingError("Nothing was edited yet: there are no steps to show.")
            with self._turns:
                states = [state.preview for state in moment.edit.iter()]
            return [images.to_jpeg(each) for each in states]
        return []

    def png(self) -> bytes:
        """The picture as PNG, with its recipe and everything that this editor needs to go on from it."""
        moment = self._moment
        if moment is None:
            raise SettingError("There is no picture to save.")
        info, memory = PngInfo(), io.BytesIO()
        info.add_text("ditlens-editor", moment.state.to_json())
        if moment.edit is not None:
            info.add_text("ditlens", json.dumps(moment.edit.recipe))
        picture = self._opened(moment.state) if moment.edit is None else moment.edit.image
        picture.save(memory, "PNG", pnginfo=info)
        return memory.getvalue()

    def load(self, content: bytes) -> None:
        """Go on from a file that the editor saved: a PNG, or the JSON of a state."""
        with self._noting():
            if content[:8] == b"\x89PNG\r\n\x1a\n":
                found = images.open_file(io.BytesIO(content))
                try:
                    found.load()
                except (OSError, SyntaxError, ValueError) as error:
                    raise SettingError(f"This file is damaged or cut off: {error}. Save it again.") from error
                text = getattr(found, "text", {}).get("ditlens-editor", "")
            else:
                text = content.decode("utf-8", "replace")
            state = EditorState.from_json(text)
            degree_of(state.degree)
            if state.target_text:
                self._method(state)  # what cannot be made leaves everything as it is
            self._open(images.open_file(io.BytesIO(state.picture)), state.name)
            if state.target_text:
                self._ask(**state.plain)
                with self._change:
                    self._jumps += 1
                    self._tell()

    def code(self) -> str:
        """A cell that makes the same picture without the widget."""
        state = self.state
        files = {} if self.model.world is None else self.model.world.examples()
        image = f"model.world.examples()[{state.name!r}]" if state.name in files else repr(state.name)
        method = None
        if state.guidance is not None:
            method = settings_of(self._method(state))  # type: ignore[arg-type]
        return state.code(self.model.name, image, method)

    def close(self) -> None:
        """End its thread after the step in hand."""
        self._stop = True
        super().close()

    # --- what is shown -----------------------------------------------------------------------------------

    def shown(self) -> dict[str, Any]:
        """Everything to show."""
        with self._change:
            moment, (picture, kind) = self._moment, self._seen
            found: dict[str, Any] = {
                "version": self._version, "jumps": self._jumps, "state": self.state.plain, "busy": self._busy,
                "progress": self._progress, "error": self.error, "index": self.index,
                "history": [each.picture for each in self.moments], "before": b"", "after": b"", "kind": kind,
                "idle": not (self._busy or self._due or self._filling), "ready": False, "levels": {},
                "measured": [], "drift": None, "warnings": [], "seconds": None,
            }  # fmt: skip
            if moment is not None:
                ready = bool(moment.grid and moment.grid.ready)
                found |= {
                    "before": moment.before,
                    "after": picture,
                    "levels": self._levels(moment),
                    "ready": ready,
                }
                found |= moment.facts
            return found

    def _levels(self, moment: Moment) -> dict[str, int]:
        """The level of every attribute that is asked for, or read in the source."""
        world = self.model.world
        if world is None:
            return {}
        found = {name: spec.level_of(moment.read[name]) for name, spec in world.attributes.items()}
        return found | world.wanted(self.state.source_text, self.state.target_text)

    # --- inside ------------------------------------------------------------------------------------------

    @property
    def _moment(self) -> Moment | None:
        return self.moments[self.index] if self.moments else None

    def _open(self, picture: Image.Image, name: str) -> None:
        fitted = images.to_image(self.model.fit(picture))
        memory = io.BytesIO()
        # what the model does not see of a large picture need not be kept, saved and read again each time
        same = images.to_image(self.model.fit(fitted)).size == fitted.size
        (fitted if same else picture).save(memory, "PNG")
        state = EditorState(picture=memory.getvalue(), name=name)
        world = self.model.world
        with self._turns:
            read = {} if world is None else world.measure(images.to_tensor(fitted))[0]
        before = images.to_jpeg(fitted)
        with self._change:
            self.state, self.error, self._due, self._filling = state, "", None, None
            self._jumps += 1
            self._stop = bool(self._busy)
            self._keep(Moment(state, before, before, read))

    def _opened(self, state: EditorState | None = None) -> Image.Image:
        """The source image as the model sees it."""
        return images.to_image(self.model.fit(images.open_file(io.BytesIO((state or self.state).picture))))

    def _ask(self, **changes: Any) -> None:
        """Have the state with these changes made, as soon as the thread is free."""
        state = self.state.with_changes(**changes)
        degree_of(state.degree)
        self._method(state)
        with self._change:
            self.state, self.error = state, ""
            if state.instruction or state.target_text:
                self._due, self._stop, self._filling = time.monotonic(), bool(self._busy), None
            self._tell()

    def _method(self, state: EditorState) -> Any:
        """The method with its guidance."""
        size = self.model.latent_size(images.to_tensor(self._opened(state)))
        method = chosen_method(self.model, state.method or None, size)
        if state.guidance is None:
            return method if state.method else None
        if isinstance(method, DeltaVelocity):
            return replace(method, source_guidance=state.guidance, target_guidance=state.guidance)
        return replace(method, guidance=state.guidance)  # type: ignore[call-arg]

    def _keep(self, moment: Moment) -> None:
        """Put a moment behind the one that is shown, in place of what was undone."""
        self.moments[self.index + 1 :] = [moment]
        del self.moments[:-KEPT]
        self.index = len(self.moments) - 1
        self._show(moment)

    def _show(self, moment: Moment) -> None:
        self._seen = moment.picture, "opened" if moment.edit is None else "edit"
        if moment.grid is not None and not moment.grid.ready:
            self._filling = moment.grid, moment.grid.steps()
        else:
            self._filling = None
        self._tell()

    def _preview(self, moment: Moment | None, degree: float) -> bytes:
        """A degree as near as it is known: from the grid, or faded between the ends where there is none."""
        if moment is None or moment.edit is None:
            return b""
        if moment.grid is not None:
            try:
                with self._turns, torch.no_grad():
                    return images.to_jpeg(moment.grid.preview(degree))
            except SettingError:  # no step of it has been made
                pass
        ends, whole = (moment.edit.reconstruction, moment.edit.image), moment.edit.degree or 1.0
        return images.to_jpeg(Image.blend(*ends, min(1.0, max(0.0, degree / whole))))

    # --- the thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._closed and not self._now():
                    rest = None if self._due is None else self._due - time.monotonic()
                    if self._filling is not None:
                        break
                    self._change.wait(rest)
                if self._closed:
                    return
                made, filling = self._now(), self._filling
                if made:
                    self._due, self._stop = None, False
            with self._noting():
                if made:
                    self._make()
                elif filling is not None:
                    self._fill(*filling)
            if made:  # after an error was told: who waits for rest sees it
                self._note("", 0.0)

    def _now(self) -> bool:
        return self._due is not None and self._due <= time.monotonic()

    def _make(self) -> None:
        """Make what is asked for."""
        state = self.state
        self._note("reading the picture", 0.0)
        with self._texts_kept():
            plan, grid = self._planned(state)
        state = replace(state, source_text=plan.description.source, target_text=plan.description.target)
        with self._change:
            if self._stop:
                raise Stopped
            self.state = replace(self.state, source_text=state.source_text, target_text=state.target_text)
        self._note("editing", 0.0)
        with self._turns, torch.no_grad():
            edit = grid.edit(state.degree, on_step=self._on_step)
        made = Moment(
            state, images.to_jpeg(edit.image), images.to_jpeg(edit.source_image), edit.before or {}, edit,
            grid if edit.seconds < QUICK else None,
        )  # fmt: skip
        with self._change:
            if self._stop:
                raise Stopped
            self._keep(made)
            if self.state.degree != state.degree:  # dragged while the texts were being made
                self._due = time.monotonic()

    @contextmanager
    def _texts_kept(self) -> Iterator[None]:
        """An instruction that cannot be followed leaves the texts of the picture that is shown."""
        try:
            yield
        except DitlensError:
            with self._change:
                self._keep_texts()
            raise

    def _keep_texts(self) -> None:
        """Where no texts were made, those of the picture that is shown stay."""
        moment = self._moment
        if moment is not None and not self.state.target_text:
            shown = moment.state
            self.state = replace(self.state, source_text=shown.source_text, target_text=shown.target_text)

    def _planned(self, state: EditorState) -> tuple[Plan, DegreeGrid]:
        """The plan of a state, and its degrees; kept while only the degree changes."""
        for moment in reversed(self.moments):
            if moment.grid is not None and replace(moment.state, degree=state.degree) == state:
                return moment.grid.plan, moment.grid
        settings = EditSettings(
            seed=state.seed, source_text=state.source_text or None, target_text=state.target_text or None,
            method=self._method(state), mask=None if state.mask == "none" else state.mask,
            tokens=state.tokens, pooled=state.pooled, encoders=list(state.encoders) or None,
        )  # fmt: skip
        given = "" if state.source_text and state.target_text else state.instruction
        picture = images.open_file(io.BytesIO(state.picture))
        with self._turns, torch.no_grad():
            plan = make_plan(self.model, picture, given, settings)
        return plan, DegreeGrid(plan)

    def _fill(self, grid: DegreeGrid, steps: Iterator[Any]) -> None:
        """One step of the grid of degrees."""
        with self._turns, torch.no_grad():
            left = next(steps, None)
        with self._change:
            if left is None and self._filling is not None and self._filling[0] is grid:
                self._filling = None
                self._tell()

    def _on_step(self, state: EngineState) -> None:
        if self._stop or self._closed:
            raise Stopped
        self._note("editing", (state.step + 1) / state.steps)
        self._turns.pass_on()

    def _note(self, busy: str, progress: float) -> None:
        with self._change:
            self._busy, self._progress = busy, progress
            self._tell()


def measured(edit: Edit) -> list[dict[str, Any]]:
    """What the oracle reads before and after an edit; nothing without a world."""
    world = edit.plan.model.world
    if world is None or edit.before is None or edit.after is None:
        return []
    return rows_of(world, edit.before, edit.after, edit.targets)


def rows_of(world: World, before: Values, after: Values, asked: Collection[str]) -> list[dict[str, Any]]:
    """Every attribute before and after: its name, values, shares of the range, and whether it was asked for."""
    rows = []
    for name, spec in world.attributes.items():
        values = before[name], after[name]
        rows.append({
            "name": name, "label": spoken(name), "asked": name in asked, "moved": spec.distance(*values),
            "words": [world.phrase(name, spec.level_of(value)) for value in values],
            "shares": [(float(v) - spec.low) / spec.range for v in values] if isinstance(spec, Continuous) else [],
        })  # fmt: skip
    return rows


def _count(spec: Any) -> int:
    return len(spec.levels if isinstance(spec, Continuous) else spec.values)


def _name_of(image: Any) -> str:
    """What to call a picture in code."""
    files = images.file_of(image)
    return str(files[0]) if files else "picture.png"
