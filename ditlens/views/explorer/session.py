"""An explorer without a page: what is shown follows from one state, part by part, in two threads.

Nothing waits in a queue. Each part (the points, the picture's inside, the cell, the map) says from which values of
the state it is made; a thread makes what is out of date, in order of urgency, and leaves off between two forward
passes as soon as it is not wanted any more. What cannot be interrupted (UMAP, probes) has a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from ditlens.analysis.neighbours import UMAP
from ditlens.analysis.probes import Probe, probe
from ditlens.errors import DitlensError, SettingError
from ditlens.images import to_jpeg
from ditlens.lens.cache import LatentCache
from ditlens.lens.hooks import parts_of
from ditlens.lens.site import Site
from ditlens.lens.study.store import Study
from ditlens.models.identity import fingerprint
from ditlens.models.loading import load
from ditlens.models.model import Model
from ditlens.tables import progress_to, spoken
from ditlens.views.editor.session import rows_of
from ditlens.views.explorer import code, maps
from ditlens.views.explorer.inside import Contrast, Inside, Lab, opened
from ditlens.views.explorer.material import Material, Points
from ditlens.views.explorer.state import ExplorerState, picked, stretch
from ditlens.views.working import Stopped, Working, turns_of

COLUMNS = 5
"""Most steps of a map."""
SHOWN = 24
"""Most pictures of a selection that are shown."""
WAITS = {
    "model": "loading the model", "points": "reading the hidden states", "inside": "drawing the picture again",
    "contrast": "drawing its contrast", "cell": "drawing the patched picture", "map": "making the map",
    "layout": "laying out UMAP (about 20 s the first time)", "probe": "probing (5 to 10 s)",
}  # fmt: skip


class Part(NamedTuple):
    """A part of what is shown.

    Attributes:
        key: The values of a state that it is made from; None where it is not wanted.
        make: Makes it.
    """

    key: Callable[[ExplorerState], Any]
    make: Callable[[ExplorerState], Any]


class Made(NamedTuple):
    """A part that was made: from which values, what, or what went wrong."""

    key: Any
    value: Any
    error: str = ""


class Session(Working):
    """An explorer without a page.

    Args:
        source: A study or a cache.
        model: The model that it is of; by default the one that a study names, where it can be loaded.
        pictures: The pictures of a cache, one for each image.

    Attributes:
        state: What is asked for.
        material: The pictures and their hidden states.
        lab: The model that draws the pictures again; None until it is loaded, or where there is none.
    """

    def __init__(
        self, source: Study | LatentCache, model: Model | None = None, pictures: Sequence[Any] = ()
    ) -> None:
        super().__init__()
        self.material = Material(source, pictures)
        self.lab = None if model is None else Lab(model, self.material)
        self._made: dict[str, Made] = {}
        self._busy: dict[int, tuple[str, str]] = {}
        self._jumps = 0
        self._shades: tuple[Any, Any] = (None, None)
        self._told: tuple[str | None, list[str]] = (None, [])
        self._compared: tuple[Any, list[dict[str, str]]] = (None, [])
        quick = {
            "points": Part(lambda s: (s.site, s.step, s.tokens), self._points),
            "model": Part(lambda _: (), self._model),
            "inside": Part(lambda s: (s.picture,) if s.picture >= 0 else None, self._inside),
            "cell": Part(self._cell_key, self._cell),
            "contrast": Part(self._contrast_key, self._contrast),
            "map": Part(self._map_key, self._map),
        }
        slow = {
            "layout": Part(lambda s: (s.site, s.step, s.tokens) if s.view == "UMAP" else None, self._layout),
            "probe": Part(lambda s: (s.color,) if s.color and s.kind == "probe" else None, self._probe),
        }
        self._parts = quick | slow
        self.state = self._first_state()
        self._start("ditlens explorer", lambda: self._work(quick), lambda: self._work(slow))

    def _first_state(self) -> ExplorerState:
        """The last block of the image stream, late in the run, by what was measured first."""
        material, steps = self.material, self.material.source.steps
        streams = material.streams()
        sites = streams.get("image") or next(iter(streams.values()))
        site = sites[-2 if len(sites) > 2 else -1][1]
        colors = material.colors
        return ExplorerState(site=site, step=steps[-1], color=colors[0] if colors else "", picture=0)

    # --- what can be asked for ---------------------------------------------------------------------------

    def configure(self, **changes: Any) -> None:
        """Change values of the state by their names."""
        with self._noting():
            self.restore(self.state.with_changes(**changes), jump=False)

    def restore(self, state: ExplorerState, jump: bool = True) -> None:
        """Show a state.

        Raises:
            SettingError: If it names something that is not here; the message lists what is.
        """
        material, count = self.material, len(self.material)
        state = state if state.site else state.with_changes(site=self.state.site, step=self.state.step)
        if state.site not in material.sites:
            raise SettingError(
                f"There is no site {state.site!r} here. There are: {', '.join(material.sites)}."
            )
        if state.step not in material.source.steps:
            raise SettingError(f"There is no step {state.step} here. There are: {material.source.steps}.")
        if state.color and state.color not in material.colors:
            raise SettingError(
                f"There is no column {state.color!r}. There are: {', '.join(material.colors)}."
            )
        if wrong := [k for k in (*state.chosen, state.picture) if not -1 <= k < count]:
            raise SettingError(f"There is no picture {wrong[0]}: there are {count}, from 0.")
        if state.tokens not in [value for _, value in material.token_choices(state.site)]:
            state = state.with_changes(tokens="mean")
        if state.picture != self.state.picture:
            is_word = state.patch is None and state.focus == self.state.focus  # a word of the other prompt
            state = state.with_changes(focus=() if is_word else state.focus)
        with self._change:
            self.state, self.error = state, ""
            self._jumps += jump
            self._tell()

    def choose(self, numbers: Sequence[int]) -> None:
        """Select pictures by their numbers."""
        self.configure(chosen=tuple(sorted({int(number) for number in numbers})))

    @property
    def selection(self) -> list[Any]:
        """The selected items: of a study (number of the prompt, seed), of a cache their numbers."""
        items = self.material.source.items
        return [items[k] if isinstance(self.material.source, Study) else k for k in self.state.chosen]

    def code(self) -> str:
        """A cell that makes the same figures and numbers with functions."""
        found: Contrast | None = self._found("contrast")
        pair = None if found is None else found.pair
        return code.cell(self.state, self.material.source, self.selection, self.lab, pair, self.steps)

    # --- the threads -------------------------------------------------------------------------------------

    def _work(self, parts: dict[str, Part]) -> None:
        me = threading.get_ident()
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._due(parts) is not None)
                if self._closed:
                    return
                state, name = self.state, self._due(parts)
                assert name is not None
                self._busy[me] = name, ""
                self._tell()
            key = parts[name].key(state)
            try:
                with progress_to(partial(self._advance, name)):
                    value, error = parts[name].make(state), ""
            except Stopped:
                continue
            except DitlensError as problem:
                value, error = None, str(problem)
            except Exception as problem:
                value, error = None, f"Something unexpected happened: {type(problem).__name__}: {problem}"
                with self._noting():
                    raise
            finally:
                with self._change:
                    self._busy.pop(me, None)
            with self._change:
                self._made[name] = Made(key, value, error)
                self._tell()

    def _advance(self, name: str, done: float, total: float, words: str = "") -> None:  # noqa: ARG002
        """How far this thread is with a part."""
        with self._change:
            self._busy[threading.get_ident()] = name, f", {100 * done / total:.0f} %" if total else ""
            self._tell()

    def _due(self, parts: dict[str, Part]) -> str | None:
        """The first part that is out of date."""
        for name, part in parts.items():
            key = part.key(self.state)
            if key is not None and (name not in self._made or self._made[name].key != key):
                return name
        return None

    def _found(self, name: str) -> Any:
        """A part as it is wanted now; None if it is not there."""
        made = self._made.get(name)
        return made.value if made is not None and made.key == self._parts[name].key(self.state) else None

    @contextmanager
    def _drawing(self, name: str, state: ExplorerState) -> Iterator[Lab]:
        """The model, for a part that is left off as soon as it is not wanted, or something is more urgent.

        Raises:
            SettingError: If there is no model.
            Stopped: Between two forward passes.
        """
        if self.lab is None:
            made = self._made.get("model")
            raise SettingError(
                (made and made.error) or "This needs the model: dl.Explorer(study, model=model)."
            )
        part, me = self._parts[name], threading.get_ident()
        names = list(self._parts)
        before = {each: self._parts[each] for each in names[: names.index(name)]}

        def check(*_: Any) -> None:
            if threading.get_ident() != me:
                return
            if self._closed or part.key(self.state) != part.key(state) or self._due(before) is not None:
                raise Stopped

        handle = parts_of(self.lab.model)[0].register_forward_pre_hook(check)
        try:
            with turns_of(self.lab.model), torch.no_grad():
                yield self.lab
        finally:
            handle.remove()

    # --- the parts ---------------------------------------------------------------------------------------

    def _model(self, _: ExplorerState) -> str:
        """Load the model that a study names; a remark if it is not the one that drew its pictures."""
        source = self.material.source
        if not isinstance(source, Study):
            return ""
        lab = self.lab or Lab(load(source.manifest.model), self.material)
        same = fingerprint(lab.model) == source.manifest.fingerprint
        self.lab = lab
        return "" if same else ", by another model than drew the study: the pictures may differ"

    def _points(self, state: ExplorerState) -> Points:
        return self.material.points(state.with_changes(view="PCA"))

    def _layout(self, state: ExplorerState) -> Points:
        return self.material.points(state)

    def _probe(self, state: ExplorerState) -> Probe:
        return probe(self.material.source, state.color)

    def _inside(self, state: ExplorerState) -> Inside:
        source = self.material.source
        if isinstance(source, LatentCache):
            return opened(source, state.picture)
        with self._drawing("inside", state) as lab:
            return lab.open(state.picture)

    def _contrast_key(self, state: ExplorerState) -> Any:
        return (state.picture, state.color) if state.picture >= 0 and self._can_draw(state) else None

    def _can_draw(self, state: ExplorerState) -> bool:
        """Whether the picture can be drawn again and changed in the attribute."""
        world = None if self.lab is None else self.lab.model.world
        return (
            isinstance(self.material.source, Study) and world is not None and state.color in world.attributes
        )

    def _contrast(self, state: ExplorerState) -> Any:
        with self._drawing("contrast", state) as lab:
            return lab.contrast(state.picture, state.color)

    def _cell_key(self, state: ExplorerState) -> Any:
        asked = (state.picture, state.color, state.stream, state.stretch, state.cell)
        return asked if state.cell and state.picture >= 0 and self.lab is not None else None

    def _cell(self, state: ExplorerState) -> dict[str, Any]:
        with self._drawing("cell", state) as lab:
            block, step = state.cell  # type: ignore[misc]
            steps = stretch(state.stretch, step, lab.settings[0])
            found = lab.patched(state.picture, state.color, state.stream, [(block, steps)])[0]
            contrast = lab.contrast(state.picture, state.color)
        world = lab.model.world
        assert world is not None
        wanted = set(world.wanted(contrast.pair.corrupt, contrast.pair.clean)) | {state.color}
        first, last = steps[0], steps[1] - 1
        when = f"step {first}" if first == last else f"steps {first} to {last}"
        return {
            "before": to_jpeg(contrast.pictures[0]), "after": to_jpeg(found.picture),
            "other": to_jpeg(contrast.pictures[1]), "effect": found.effect, "prompt": contrast.pair.corrupt,
            "contrast": contrast.pair.clean, "rows": rows_of(world, contrast.read[0], found.read, wanted),
            "drift": world.drift(contrast.read[0], found.read, wanted),
            "told": f"{state.stream} states entering block {lab.blocks[block][0]}, {when}",
        }  # fmt: skip

    @property
    def steps(self) -> list[int]:
        """Steps of the map."""
        return picked(self.material.source.steps, COLUMNS)

    def _map_key(self, state: ExplorerState) -> Any:
        if not state.color:
            return None
        if state.kind == "probe":
            made = self._made.get("probe")
            return (state.color, state.kind) if made is not None and made.key == (state.color,) else None
        if state.picture < 0 or self.lab is None:
            return None
        own = (state.stream, state.stretch) if state.kind == "causal" else (state.focus,)
        return (state.color, state.kind, state.picture, *own)

    def _map(self, state: ExplorerState) -> dict[str, Any]:
        """A table over blocks and steps, and what it says."""
        if state.kind == "probe":
            made = self._made["probe"]
            if made.value is None:
                raise SettingError(made.error)
            return maps.of_probe(made.value, self.lab, self.steps)
        with self._drawing("map", state) as lab:
            make = maps.of_patches if state.kind == "causal" else maps.of_attention
            return make(lab, state, self.steps)

    # --- what is shown -----------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What does not change: streams with their sites, steps, columns, and the sheet of pictures."""
        sheet, across = self.material.sheet()
        source = self.material.source
        grid = source.grid if isinstance(source, Study) else next(iter(source.grids.values()), None)
        model = source.manifest.model if isinstance(source, Study) else "a cache"
        return {
            "streams": self.material.streams(), "steps": source.steps, "colors": self.material.colors,
            "sheet": sheet, "across": across, "on_sheet": self.material.on_sheet, "model": model,
            "grid": grid or (),
        }  # fmt: skip

    def shown(self) -> dict[str, Any]:
        """Everything to show."""
        with self._change:
            state = self.state
            busy = [f"{WAITS[name]}{far}" for name, far in self._busy.values()]
            found: dict[str, Any] = {
                "version": self._version, "jumps": self._jumps, "state": state.plain, "busy": ", ".join(busy),
                "idle": not busy and self._due(self._parts) is None, "error": self.error,
                "tokens": self.material.token_choices(state.site), "steps": self.steps,
            }  # fmt: skip
            found |= self._shown_points(state) | self._shown_picture(state)
            made = self._made.get("map")
            found["map"] = self._found("map") or (
                None if self.lab is None else maps.blank(self.lab, self.steps)
            )
            found["map_error"] = made.error if made and made.key == self._parts["map"].key(state) else ""
            found["map_wait"] = "" if self._parts["map"].key(state) else self._map_wait(state)
            cell = self._made.get("cell")
            found["cell"] = self._found("cell")
            found["cell_error"] = cell.error if cell and cell.key == self._parts["cell"].key(state) else ""
            return found

    def _map_wait(self, state: ExplorerState) -> str:
        """Why there is no map."""
        if not state.color:
            return "Choose an attribute."
        if state.kind == "probe":
            return "The probe is being made: 5 to 10 s."
        return "Open a picture." if self.lab is not None else "This map needs the model."

    def _shown_points(self, state: ExplorerState) -> dict[str, Any]:
        laid = self._found("layout") if state.view == "UMAP" else None
        made = self._made.get("points")
        points: Points | None = laid or (made.value if made else None)
        errors = [self._made[name].error for name in ("points", "layout") if name in self._made]
        found: dict[str, Any] = {"points_error": next(filter(None, errors), ""), "is_laid": laid is not None}
        if points is not None:
            if self._shades[0] != (points, state.color):
                self._shades = (points, state.color), self.material.shades(points, state.color)
            shades, legend = self._shades[1]
            labels = points.projection.labels
            found |= {
                "xy": points.projection.coordinates[:, :2].astype(np.float32).tobytes(),
                "items": labels["item"].astype(np.int32).tobytes(),
                "places": labels["token"].astype(np.int32).tobytes(),
                "shades": shades, "legend": legend, "axes": points.axes, "note": points.note,
                **self._path(points, state), "labels": self._labels(state.color),
            }  # fmt: skip
        chosen = picked(state.chosen, SHOWN)
        if self._compared[0] != state.chosen:
            self._compared = state.chosen, self.material.compared(state.chosen)
        found["compared"] = self._compared[1]
        found["chosen_pictures"] = (
            [self.material.jpeg(k, 64) for k in chosen] if self.material.has_pictures else []
        )
        found["chosen_numbers"] = chosen
        return found

    def _labels(self, color: str) -> list[str]:
        """A line for every picture."""
        if self._told[0] != color:
            material = self.material
            self._told = color, [material.label(k, color) for k in range(len(material))]
        return self._told[1]

    def _path(self, points: Points, state: ExplorerState) -> dict[str, Any]:
        """The open picture, or the patch that is asked about, at all steps in the plane of the scatter."""
        inside: Inside | None = self._found("inside")
        if inside is None or isinstance(points.projection.view, UMAP) or points is not self._found("points"):
            return {"path": [], "path_steps": []}
        kept = self.material.numbers(state.site) if Site.parse(state.site).stream == "image" else None
        if state.tokens.isdecimal():
            kept = [int(state.tokens)]
        elif state.tokens == "each" and kept:
            asked = state.patch
            kept = [] if asked is None else [asked]
        if kept == []:
            return {"path": [], "path_steps": []}
        path = inside.path(points.projection.view, state.site, kept)
        return {"path": path, "path_steps": inside.cache.steps}

    def _shown_picture(self, state: ExplorerState) -> dict[str, Any]:
        """The open picture, its words, and where the focus looks."""
        found: dict[str, Any] = {
            "picture": b"", "words": [], "grid": (), "patches": [], "shares": [], "gaze": "", "picture_error": "",
            "prompt": "", "known": "", "score": "", "drawn": "",
        }  # fmt: skip
        if state.picture < 0:
            return found
        material = self.material
        found["picture"] = material.jpeg(state.picture)
        found["prompt"] = str(material.columns.get("prompt", [""] * len(material))[state.picture])
        found["known"] = material.label(state.picture, state.color).split(" · ")[0] if state.color else ""
        made = self._made.get("inside")
        if made is not None and made.key == (state.picture,) and made.error:
            found["picture_error"] = made.error
        inside: Inside | None = self._found("inside")
        if inside is None:
            return found
        if not found["picture"] and inside.picture is not None:
            found["picture"] = to_jpeg(inside.picture)
        found |= {"words": [word for word, _ in inside.words], "grid": inside.grid}
        if inside.seconds:
            found["drawn"] = (
                f"drawn again in {inside.seconds:.1f} s to look inside{self._found('model') or ''}"
            )
        if state.focus:
            try:
                seen = inside.gaze(Site.parse(state.site), state.step, state.focus, state.way)
                found |= {"patches": seen.patches, "shares": seen.words, "gaze": seen.told}
            except (DitlensError, IndexError) as error:
                found["picture_error"] = str(error)
            found["score"] = self._score(state)
        return found

    def _score(self, state: ExplorerState) -> str:
        """What a probe reads from the patch that is asked about."""
        read: Probe | None = self._found("probe")
        patch = state.patch
        if read is None or patch is None:
            return ""
        cells = {c.token: c for c in read.cells if c.site == state.site and c.step == state.step}
        cell = cells.get(patch)
        if cell is None:
            there = ", ".join(str(token) for token in cells if isinstance(token, int))
            return f"No probe: this study has the patches {there} at this place." if there else ""
        return f"probe of {spoken(state.color)} in patch {cell.token}: {read.measure} {cell.score}"
