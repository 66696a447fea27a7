"""The editor's page: widgets that show a session and pass on what is done to them. Imports no torch."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from markupsafe import Markup

from ditlens.files import user_path, write_whole
from ditlens.views.editor import card
from ditlens.views.editor.parts import Files, Picture, Strip
from ditlens.views.live import Live, html, without

if TYPE_CHECKING:
    from pathlib import Path

    from ditlens.views.editor.session import Session

LOWEST, HIGHEST = -1.0, 2.0
"""Ends of the degree slider."""
WIDE = {"width": "auto"}
SETTINGS = ("seed", "method", "guidance", "mask", "tokens", "pooled", "encoders")


def _unfold(box: Any, change: Any) -> None:
    """Show a section while its button is pressed."""
    box.layout.display = None if change["new"] else "none"


class Page(Live):
    """A session as a widget."""

    session: Session

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._facts = session.facts()
        self._jumps, self._texts = -1, ("", "")
        self._settings_seen: dict[str, Any] = {}
        self._pieces: dict[str, list[bytes]] = {}  # of files that are still on their way, by the widget
        self._build()
        self._wire()
        self._follow()

    # --- what is there -----------------------------------------------------------------------------------

    def _build(self) -> None:
        facts = self._facts
        examples = self.session.examples()
        self.examples = Strip(images=list(examples.values()), labels=list(examples), title="Examples")
        self.upload = Files(accept="image/*", text="Open a picture")
        self.picture = Picture(static_class=self._class)
        self.degree = widgets.FloatSlider(
            1.0, min=LOWEST, max=HIGHEST, step=0.05, description="degree", readout_format=".2f",
            style={"description_width": "initial"}, layout={"width": "auto", "max_width": "448px"},
        )  # fmt: skip
        self.degree.add_class("ditlens-degree")
        self.stop_button = widgets.Button(description="Stop", icon="stop", layout=WIDE)
        self.undo_button = widgets.Button(description="Undo", icon="undo", layout=WIDE)
        self.redo_button = widgets.Button(description="Redo", icon="repeat", layout=WIDE)
        self.status, self.progress = html(), html()
        self.error = html()
        self.instruction = widgets.Text(
            description="change",
            placeholder="e.g. make her smile",
            style={"description_width": "initial"},
            layout={"width": "auto", "flex": "1 1 200px"},
        )
        self.extract_button = widgets.Button(description="Extract", button_style="primary", layout=WIDE)
        self.source, self.target = (
            widgets.Textarea(description=name, placeholder=hint, rows=5, continuous_update=False, layout=WIDE)
            for name, hint in (
                ("source text", "what the picture shows"),
                ("target text", "what it should show"),
            )
        )
        self.words, self.measured = html(), html()
        self.history = Strip(title="History")
        self.levels = {name: self._level(spec) for name, spec in facts["attributes"].items()}
        self.seed = widgets.BoundedIntText(0, min=0, max=2**31 - 1, description="seed")
        self.method = widgets.Dropdown(options=facts["methods"], description="method")
        self.guidance = widgets.Dropdown(
            options=[("the method's own", None), *((f"{g:g}", g) for g in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0))],
            description="guidance",
        )  # fmt: skip
        self.mask = widgets.Dropdown(options=facts["masks"], description="mask")
        self.tokens = widgets.Checkbox(True, description="tokens move", indent=False, layout=WIDE)
        self.pooled = widgets.Checkbox(True, description="pooled vector moves", indent=False, layout=WIDE)
        self.encoders = {
            name: widgets.Checkbox(True, description=f"text encoder {name} moves", indent=False, layout=WIDE)
            for name in facts["encoders"]
        }
        self.film_button = widgets.Button(description="Show the steps", layout=WIDE)
        self.film = Strip(title="Steps of the edit")
        self.film_picture = html()
        self.save_button = widgets.Button(description="Prepare a file", icon="download", layout=WIDE)
        self.link = html()
        self.load = Files(accept=".png,.json", text="Load a saved edit")
        self.code_button = widgets.Button(description="Write the cell", icon="code", layout=WIDE)
        self.code = widgets.Textarea(description="cell", rows=12, layout=WIDE).add_class("ditlens-code")
        left = widgets.VBox(
            [self.picture, self.degree,
             widgets.HBox([self.undo_button, self.redo_button, self.stop_button, self.status, self.progress],
                          layout={"flex_flow": "row wrap", "align_items": "center"}),
             self.history],
            layout={"flex": "1 1 400px", "max_width": "480px", "min_width": "280px"},
        )  # fmt: skip
        right = widgets.VBox(
            [widgets.HBox([self.instruction, self.extract_button], layout={"flex_flow": "row wrap"}), self.error,
             self.source, self.target, self.words, self.measured],
            layout={"flex": "1 1 380px", "min_width": "280px"},
        )  # fmt: skip
        self.children = [
            widgets.HBox(
                [self.examples, self.upload], layout={"flex_flow": "row wrap", "align_items": "center"}
            ),
            widgets.HBox([left, right], layout={"flex_flow": "row wrap", "grid_gap": "16px"}),
            *self._sections(),
        ]
        self.add_class("ditlens-page")

    def _sections(self) -> list[Any]:
        """What is folded away: a button for each section, and below them those that are open."""
        boxes = {
            "Attributes": widgets.GridBox(list(self.levels.values())).add_class("ditlens-levels"),
            "Settings": self._settings(),
            "Steps": widgets.VBox([self.film_button, self.film, self.film_picture]),
            "Save and load": widgets.HBox([self.save_button, self.link, self.load]),
            "Code": widgets.VBox([self.code_button, self.code]),
        }
        if not self.levels:
            boxes.pop("Attributes")
        self.folds = {name: widgets.ToggleButton(description=name, layout=WIDE) for name in boxes}
        for name, box in boxes.items():
            fold = self.folds[name]
            box.add_class("ditlens-section")
            box.layout.display = "none"
            fold.observe(partial(_unfold, box), "value")
        return [widgets.HBox(list(self.folds.values()), layout={"flex_flow": "row wrap"}), *boxes.values()]

    def _level(self, spec: dict[str, Any]) -> Any:
        """A control for the levels of an attribute: a slider where they have an order."""
        kind = widgets.SelectionSlider if spec["ordered"] else widgets.Dropdown
        more = {"continuous_update": False} if spec["ordered"] else {}
        return kind(
            options=[(words, k) for k, words in enumerate(spec["words"])], value=0, description=spec["label"],
            style={"description_width": "80px"}, layout=WIDE, **more,
        )  # fmt: skip

    def _settings(self) -> widgets.VBox:
        routes = [self.tokens, self.pooled, *(self.encoders.values() if len(self.encoders) > 1 else ())]
        return widgets.VBox([
            widgets.HBox([self.method, self.guidance, self.mask, self.seed], layout={"flex_flow": "row wrap"}),
            widgets.HBox(routes, layout={"flex_flow": "row wrap", "grid_gap": "16px"}),
        ])  # fmt: skip

    # --- what is done to it ------------------------------------------------------------------------------

    def _wire(self) -> None:
        session = self.session
        self.degree.observe(self._dragged, "value")
        self._on(self.picture, self._held, "held")
        self._on(self.examples, lambda value: session.example(self.examples.labels[value[0]]), "picked")
        self._on(self.history, lambda value: session.go(value[0]), "picked")
        self._on(self.film, lambda value: self._step(value[0]), "picked")
        for part in (self.upload, self.picture):
            part.on_msg(partial(self._given, session.open))
        self.load.on_msg(partial(self._given, lambda content, _: session.load(content)))
        clicks: dict[widgets.Button, Callable[[], Any]] = {
            self.extract_button: self._extract, self.stop_button: session.stop, self.undo_button: session.undo,
            self.redo_button: session.redo, self.film_button: self._film, self.save_button: self._save,
            self.code_button: self._code,
        }  # fmt: skip
        for button, act in clicks.items():
            button.on_click(self._guarded(partial(without, act)))
        self.instruction.on_msg(self._entered)
        for box in (self.source, self.target):
            self._on(box, partial(without, self._typed))
        for name, control in self.levels.items():
            self._on(control, partial(session.set_level, name))
        for name in SETTINGS[:-1]:
            self._on(getattr(self, name), partial(self._set, name))
        for box in self.encoders.values():
            self._on(box, partial(without, self._routes))

    def _dragged(self, change: Any) -> None:
        if self._shows():
            return
        try:
            picture = self.session.drag(float(change["new"]), self.picture.held)
            if picture:
                self.picture.set_trait("kind", "preview")
                self.picture.set_trait("after", picture)
        except Exception as error:
            self._alarm(str(error))

    def _held(self, held: bool) -> None:
        if not held:
            self.session.release()

    def _entered(self, _: Any, content: Any, __: Any) -> None:
        if content.get("event") == "submit":
            self._guarded(partial(without, self._extract))(None)

    def _extract(self) -> None:
        self.session.extract(self.instruction.value)

    def _typed(self) -> None:
        if self.source.value.strip() and self.target.value.strip():
            self.session.set_texts(self.source.value, self.target.value)

    def _set(self, name: str, value: Any) -> None:
        self.session.configure(**{name: "" if (name, value) == ("method", "ems") else value})

    def _routes(self) -> None:
        chosen = tuple(name for name, box in self.encoders.items() if box.value)
        self.session.configure(encoders=() if len(chosen) == len(self.encoders) else chosen)

    def _given(self, act: Callable[[bytes, str], Any], sender: Any, content: Any, buffers: Any) -> None:
        """A piece of a file that was chosen or dropped."""
        if not buffers:
            return
        pieces = self._pieces.setdefault(sender.model_id, [])
        pieces.append(bytes(buffers[0]))
        if content.get("last", True):
            data = b"".join(self._pieces.pop(sender.model_id))
            self._guarded(lambda _: act(data, content["name"]))(None)

    def _film(self) -> None:
        self.film.images = self.session.film()
        self.film.labels = [str(k + 1) for k in range(len(self.film.images))]
        self._step(len(self.film.images) - 1)

    def _step(self, index: int) -> None:
        if not self.film.images:
            return
        self.film.chosen = index
        data = base64.b64encode(self.film.images[index]).decode()
        self.film_picture.value = (
            f'<img width="384" alt="step {index + 1}" src="data:image/jpeg;base64,{data}">'
            f"<div>step {index + 1} of {len(self.film.images)}: what it would be if this were the last</div>"
        )

    def _save(self) -> None:
        data = base64.b64encode(self.session.png()).decode()
        self.link.value = (
            f'<a download="ditlens-edit.png" href="data:image/png;base64,{data}">Download ditlens-edit.png</a>'
            " (the recipe and the source are in it)"
        )

    def _code(self) -> None:
        self.code.value = self.session.code()

    def save(self, path: str | Path) -> None:
        """Write the picture as PNG, with the recipe and the source in it; `load` and the page read it again.

        Raises:
            SettingError: If there is no picture.
            WriteError: If it cannot be written.
        """
        write_whole(user_path(path), self.session.png())

    # --- what is shown -----------------------------------------------------------------------------------

    def _apply(self, shown: dict[str, Any]) -> None:
        """Bring the page to what the session shows."""
        with self._lock:
            self._showing.now = True
            try:
                self._apply_state(shown)
            finally:
                self._showing.now = False
            self.picture.before = shown["before"]
            if shown["kind"] != "preview":
                self.picture.after, self.picture.kind = shown["after"], shown["kind"]
            self.history.images, self.history.chosen = shown["history"], shown["index"]
            self.history.labels = ["" for _ in shown["history"]]
            self._alarm(shown["error"])
            warnings = Markup("").join(
                Markup('<div class="ditlens-warning">{}</div>').format(each) for each in shown["warnings"]
            )
            self.measured.value = str(
                card.bars(shown["measured"], shown["drift"], shown["seconds"]) + warnings
            )
            self.words.value = str(card.words(shown["state"]["source_text"], shown["state"]["target_text"]))
            bar = f'<progress aria-label="progress" value="{shown["progress"]:.3f}"></progress>'
            self.progress.value = bar if shown["busy"] else ""
            words = shown["busy"] or ("ready to drag" if shown["ready"] else "")
            self.status.value = str(Markup('<span role="status">{}</span>').format(words))
            self.stop_button.disabled = shown["idle"]
            self.undo_button.disabled = shown["index"] <= 0
            self.redo_button.disabled = shown["index"] >= len(shown["history"]) - 1

    def _apply_state(self, shown: dict[str, Any]) -> None:
        """Controls follow the session where it jumped: undo, a file that was loaded, texts that were extracted."""
        state = shown["state"]
        texts = state["source_text"], state["target_text"]
        if texts != self._texts:
            self._texts = texts
            self.source.value, self.target.value = texts
        for name, level in shown["levels"].items():
            self.levels[name].value = level
        if shown["jumps"] != self._jumps:
            self._jumps = shown["jumps"]
            self.degree.value = max(LOWEST, min(HIGHEST, state["degree"]))
            self.instruction.value = state["instruction"]
        settings = {name: state[name] for name in SETTINGS}
        if settings == self._settings_seen:
            return
        self._settings_seen = settings
        self.method.value = state["method"] or "ems"
        if state["guidance"] not in dict(self.guidance.options).values():  # given in Python, or loaded
            self.guidance.options = [*self.guidance.options, (f"{state['guidance']:g}", state["guidance"])]
        for name in ("seed", "guidance", "mask", "tokens", "pooled"):
            if name != "mask" or state[name] in self.mask.options:  # else a file, given in Python
                getattr(self, name).value = state[name]
        for name, box in self.encoders.items():
            box.value = not state["encoders"] or name in state["encoders"]

    def _still_copy(self, shown: dict[str, Any]) -> str:
        return card.still(shown, self._facts["model"], self._class)
