"""Small widgets that ipywidgets lacks: two pictures with a divider, a row to choose from, a button for files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ditlens.errors import MissingDependencyError

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"The editor needs ipywidgets and anywidget: {error}. Type: pip install 'ditlens[views]', or make install "
        "in a clone."
    ) from error

STATIC = Path(__file__).parent.parent / "static"


class Picture(anywidget.AnyWidget):  # type: ignore[misc]
    """A source picture and a result, with a divider, alone, or their difference; a file can be dropped on it.

    A dropped file arrives as that of `Files`. `held` says whether a mouse or finger
    holds the slider of class ``ditlens-degree`` on the same page.
    """

    _esm = STATIC / "picture.js"
    _css = STATIC / "editor.css"
    before = traitlets.Bytes().tag(sync=True)
    after = traitlets.Bytes().tag(sync=True)
    before_alt = traitlets.Unicode("source").tag(sync=True)
    after_alt = traitlets.Unicode("result").tag(sync=True)
    mode = traitlets.Enum(["wipe", "before", "after", "difference"], "wipe").tag(sync=True)
    position = traitlets.Int(50).tag(sync=True)
    kind = traitlets.Unicode().tag(sync=True)
    held = traitlets.Bool(False).tag(sync=True)
    static_class = traitlets.Unicode().tag(sync=True)


class Files(anywidget.AnyWidget):  # type: ignore[misc]
    """A button that opens files: each arrives in pieces, as messages ``{"name": ..., "last": ...}`` with bytes."""

    _esm = STATIC / "files.js"
    _css = STATIC / "editor.css"
    text = traitlets.Unicode().tag(sync=True)
    accept = traitlets.Unicode().tag(sync=True)


class Strip(anywidget.AnyWidget):  # type: ignore[misc]
    """A row of pictures; `picked` is the place of the one that was clicked, and how many clicks there were."""

    _esm = STATIC / "strip.js"
    _css = STATIC / "editor.css"
    images = traitlets.List(traitlets.Bytes()).tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    picked: Any = traitlets.List([-1, 0]).tag(sync=True)
