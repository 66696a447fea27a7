"""The explorer's page: widgets that show a session and pass on what is done to them. Imports no torch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from markupsafe import Markup

from ditlens.views.editor.card import bars, words
from ditlens.views.editor.parts import Picture, Strip
from ditlens.views.explorer import card
from ditlens.views.explorer.parts import Map, Patches, Scatter
from ditlens.views.live import Live, html, without

if TYPE_CHECKING:
    from ditlens.views.explorer.session import Session
    from ditlens.views.explorer.state import ExplorerState

WIDE = {"width": "auto"}
NARROW = {"description_width": "initial"}
ROW = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "2px 12px"}


class Page(Live):
    """A session as a widget."""

    session: Session

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._facts, self._jumps = session.facts(), -1
        self._build()
        self._wire()
        self._follow()

    # --- what it says in Python --------------------------------------------------------------------------

    @property
    def selection(self) -> list[Any]:
        """The selected items: of a study as ``study.select(items=...)`` takes them, of a cache their numbers."""
        return self.session.selection

    @property
    def state(self) -> ExplorerState:
        """What is shown, as one value; `show` brings it back."""
        return self.session.state

    def show(self, state: ExplorerState) -> None:
        """Show a state, e.g. one of ``ExplorerState.from_json``.

        Raises:
            SettingError: If it names something that is not here.
        """
        self.session.restore(state)

    def code(self) -> str:
        """The cell that makes what is shown with functions."""
        return self.session.code()

    # --- what is there -----------------------------------------------------------------------------------

    def _build(self) -> None:
        facts = self._facts
        self.color = widgets.Dropdown(
            options=[("nothing", ""), *((name.replace("_", " "), name) for name in facts["colors"])],
            description="attribute", style=NARROW, layout={"width": "220px"},
        )  # fmt: skip
        self.view = widgets.ToggleButtons(options=["PCA", "UMAP"], style={"button_width": "64px"})
        self.stream = widgets.Dropdown(
            options=list(facts["streams"]), description="stream", style=NARROW, layout={"width": "150px"}
        )
        first = next(iter(facts["streams"].values()))
        self.site = widgets.SelectionSlider(
            options=first, description="block", style=NARROW, layout={"width": "300px"}
        )
        self.step = widgets.SelectionSlider(
            options=facts["steps"], description="step", style=NARROW, layout={"width": "240px"}
        )
        self.tokens = widgets.Dropdown(
            options=[("one point a picture", "mean")],
            description="a point is",
            style=NARROW,
            layout={"width": "260px"},
        )
        self.scatter = Scatter(
            sheet=facts["sheet"], across=facts["across"], on_sheet=facts["on_sheet"], static_class=self._class
        )
        self.note, self.compared, self.status, self.error = html(), html(), html(), html()
        self.strip = Strip(title="Selected pictures")
        self.patches = Patches(grid=list(facts["grid"]))
        self.way = widgets.ToggleButtons(
            options=[("where it looks", "to"), ("what looks at it", "from")], style={"button_width": "130px"}
        )
        self.about = html()
        self.kind = widgets.ToggleButtons(
            options=["probe", "causal", "attention"], style={"button_width": "90px"}
        )
        self.patched = widgets.Dropdown(
            options=["text", "image"],
            description="patch the states of the",
            style=NARROW,
            layout={"width": "250px"},
        )
        self.stretch = widgets.Dropdown(
            options=[
                ("the steps up to it", "until"),
                ("the steps from it on", "from"),
                ("this step only", "only"),
            ],
            description="for",
            style=NARROW,
            layout={"width": "200px"},
        )
        self.table = Map()
        self.map_note = html()
        self.result = Picture(before_alt="as it was drawn", after_alt="with the patch")
        self.measured = html()
        self.code_button = widgets.Button(description="Write the cell", icon="code", layout=WIDE)
        self.code_text = widgets.Textarea(rows=12, layout={"width": "auto"})
        left = widgets.VBox(
            [self.scatter, self.note, self.compared, self.strip],
            layout={"flex": "1 1 460px", "min_width": "280px"},
        )
        self.outcome = widgets.VBox(
            [self.result, self.measured],
            layout={"flex": "1 1 460px", "min_width": "280px", "max_width": "620px", "display": "none"},
        )
        right = widgets.VBox(
            [html("<b>The open picture</b>: click a patch or a word"), self.patches, self.way, self.about],
            layout={"flex": "0 1 380px", "min_width": "280px"},
        )
        maps = widgets.VBox(
            [widgets.HBox([html("<b>Blocks and steps</b>: click a cell to patch there"), self.kind], layout=ROW),
             widgets.HBox([self.patched, self.stretch], layout=ROW), self.table, self.map_note],
            layout={"flex": "1 1 400px", "min_width": "280px"},
        )  # fmt: skip
        columns = {"flex_flow": "row wrap", "grid_gap": "8px 20px"}
        self.folded = widgets.Accordion(
            [widgets.VBox([self.code_button, self.code_text])], titles=("Code",), selected_index=None
        )
        controls = [self.color, self.view, self.stream, self.site, self.step, self.tokens, self.status]
        self.children = [
            widgets.HBox(controls, layout=ROW),
            self.error,
            widgets.HBox([left, right], layout=columns),
            widgets.HBox([maps, self.outcome], layout=columns),
            self.folded,
        ]
        self.add_class("ditlens-page")

    # --- what is done to it ------------------------------------------------------------------------------

    def _wire(self) -> None:
        settings = {
            "color": self.color, "view": self.view, "site": self.site, "step": self.step, "tokens": self.tokens,
            "way": self.way, "kind": self.kind, "stream": self.patched, "stretch": self.stretch,
        }  # fmt: skip
        for name, control in settings.items():
            self._on(control, partial(self._set, name))
        self._on(self.stream, self._switch)
        self._on(self.scatter, lambda value: self.session.choose(value["numbers"]), "lasso")
        self._on(self.scatter, self._opened, "picked")
        self._on(self.strip, lambda value: self.session.configure(picture=self._numbers[value[0]]), "picked")
        self._on(self.patches, self._ask, "picked")
        self._on(self.table, self._patch, "picked")
        self.code_button.on_click(self._guarded(partial(without, self._write)))

    def _set(self, name: str, value: Any) -> None:
        if value is not None:
            self.session.configure(**{name: value})

    def _switch(self, stream: str) -> None:
        """The same block of another stream, or the one that is nearest."""
        sites = self._facts["streams"][stream]
        index = min(self.site.index or 0, len(sites) - 1)
        self._offer(stream, sites[index][1])
        self.session.configure(site=sites[index][1], tokens="mean")

    def _offer(self, stream: str, site: str) -> None:
        """Offer the blocks of a stream."""
        was, self._showing.now = self._shows(), True
        try:
            self.stream.value = stream
            self.site.options = self._facts["streams"][stream]
            self.site.value = site
        finally:
            self._showing.now = was

    def _opened(self, value: dict[str, int]) -> None:
        place = value["place"]
        self.session.configure(
            picture=value["item"], **({"focus": ("patch", place)} if self._is_patch(place) else {})
        )

    def _is_patch(self, place: int) -> bool:
        return place >= 0 and self.stream.value == "image"

    def _ask(self, value: dict[str, Any]) -> None:
        asked = (value["kind"], int(value["number"]))
        self.session.configure(focus=() if asked == self.session.state.focus else asked)

    def _patch(self, value: dict[str, int]) -> None:
        self.session.configure(cell=(self._blocks[value["row"]], self._steps[value["column"]]))

    def _write(self) -> None:
        self.code_text.value = self.code()

    # --- what is shown -----------------------------------------------------------------------------------

    def _apply(self, shown: dict[str, Any]) -> None:
        """Bring the page to what the session shows."""
        with self._lock:
            self._showing.now = True
            try:
                self._apply_state(shown)
                self._apply_points(shown)
                self._apply_picture(shown)
                self._apply_map(shown)
            finally:
                self._showing.now = False
            self.status.value = str(Markup("<i>{}</i>").format(shown["busy"]))
            self._alarm(shown["error"] or shown["points_error"])

    def _apply_state(self, shown: dict[str, Any]) -> None:
        """Controls follow the session where it jumped."""
        state = shown["state"]
        if [*self.tokens.options] != [*map(tuple, shown["tokens"])]:
            self.tokens.options = [tuple(each) for each in shown["tokens"]]
            self.tokens.value = state["tokens"]
        if shown["jumps"] == self._jumps:
            return
        self._jumps = shown["jumps"]
        for stream, sites in self._facts["streams"].items():
            if state["site"] in [site for _, site in sites]:
                self._offer(stream, state["site"])
        for name in ("color", "view", "step", "tokens", "way", "kind", "stretch"):
            getattr(self, name).value = state[name]
        self.patched.value = state["stream"]

    def _apply_points(self, shown: dict[str, Any]) -> None:
        state, scatter = shown["state"], self.scatter
        if "xy" in shown:
            with scatter.hold_sync():
                for name in ("xy", "items", "places", "shades", "legend", "path", "path_steps", "labels"):
                    setattr(scatter, name, shown[name])
                scatter.axes, scatter.chosen, scatter.opened = (
                    list(shown["axes"]),
                    list(state["chosen"]),
                    state["picture"],
                )
        waits = state["view"] == "UMAP" and not shown["is_laid"] and not shown["points_error"]
        self.note.value = card.small(
            "The PCA is shown until the UMAP is laid out." if waits else shown.get("note")
        )
        self.compared.value = card.compared(shown["compared"], len(state["chosen"]))
        self._numbers = shown["chosen_numbers"]
        self.strip.images = shown["chosen_pictures"]
        self.strip.labels = [str(k) for k in self._numbers] if shown["chosen_pictures"] else []
        self.strip.layout.display = "" if shown["chosen_pictures"] else "none"

    def _apply_picture(self, shown: dict[str, Any]) -> None:
        state, patches = shown["state"], self.patches
        with patches.hold_sync():
            patches.picture, patches.words = shown["picture"], shown["words"]
            patches.grid = list(shown["grid"] or self._facts["grid"])
            patches.patches, patches.shares = shown["patches"], shown["shares"]
            patches.asked = list(state["focus"])
            patches.alt = f"picture {state['picture']}: {shown['prompt']}"
        at = f"block and step of the sliders: {state['site']}, step {state['step']}" if shown["gaze"] else ""
        lines = [shown["known"], shown["gaze"], at, shown["score"], shown["drawn"]]
        told = Markup("<br>").join(each for each in lines if each)
        wrong = (
            Markup('<div class="ditlens-warning">{}</div>').format(shown["picture_error"])
            if shown["picture_error"]
            else ""
        )
        self.about.value = card.small(told + wrong)

    def _apply_map(self, shown: dict[str, Any]) -> None:
        found, cell, state = shown["map"], shown["cell"], shown["state"]
        self._steps, self._blocks = shown["steps"], found["blocks"] if found else []
        with self.table.hold_sync():
            if found:
                for name in ("rows", "columns", "texts", "colors", "dark"):
                    setattr(self.table, name, found[name])
            at = state["cell"]
            here = at and at[0] in self._blocks and at[1] in self._steps
            self.table.cell = [self._blocks.index(at[0]), self._steps.index(at[1])] if here else []
        told = (found and found["told"]) or shown["map_error"] or shown["map_wait"]
        self.map_note.value = card.small(told)
        asked = bool(state["cell"])
        self.outcome.layout.display = "" if asked and (cell or shown["cell_error"]) else "none"
        if cell:
            self.result.before, self.result.after = cell["before"], cell["after"]
            self.measured.value = str(_outcome(cell) + bars(cell["rows"], cell["drift"], None))
        elif shown["cell_error"]:
            self.measured.value = str(
                Markup('<div class="ditlens-warning">{}</div>').format(shown["cell_error"])
            )

    def _still_copy(self, shown: dict[str, Any]) -> str:
        return card.still(shown, self._facts["model"], self._class)


def _outcome(cell: dict[str, Any]) -> Markup:
    """What was patched, and what came of it."""
    effect = (
        "" if cell["effect"] != cell["effect"] else f"{100 * cell['effect']:.0f} % of the change came along: "
    )
    return Markup('<div class="ditlens-small">{}{}</div>').format(effect, cell["told"]) + words(
        cell["prompt"], cell["contrast"]
    )
