"""Small widgets of the explorer: a scatter of pictures, a picture with its patches and words, a map of cells."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from ditlens.views.editor.parts import STATIC


def numbers(**more: Any) -> Any:
    """A list that the page shares."""
    return traitlets.List(**more).tag(sync=True)


class Scatter(anywidget.AnyWidget):  # type: ignore[misc]
    """Points that stand for pictures.

    `lasso` holds the ``numbers`` of the pictures that were selected, `picked` the ``item`` and ``place`` (token) of
    the point that was clicked; both a ``count``, so that the same choice twice is told twice.
    """

    _esm = STATIC / "scatter.js"
    _css = STATIC / "explorer.css"
    xy = traitlets.Bytes().tag(sync=True)
    items = traitlets.Bytes().tag(sync=True)
    places = traitlets.Bytes().tag(sync=True)
    shades = traitlets.Bytes().tag(sync=True)
    sheet = traitlets.Bytes().tag(sync=True)
    across = traitlets.Int(1).tag(sync=True)
    side = traitlets.Int(48).tag(sync=True)
    on_sheet = traitlets.Int(0).tag(sync=True)
    labels = numbers()
    legend = numbers()
    axes = numbers()
    chosen = numbers()
    opened = traitlets.Int(-1).tag(sync=True)
    path = numbers()
    path_steps = numbers()
    lasso: Any = traitlets.Dict({"numbers": [], "count": 0}).tag(sync=True)
    picked: Any = traitlets.Dict({"count": 0}).tag(sync=True)
    static_class = traitlets.Unicode().tag(sync=True)


class Patches(anywidget.AnyWidget):  # type: ignore[misc]
    """A picture with its patches, and the words of its prompt; `picked` is a ``kind`` and a ``number``."""

    _esm = STATIC / "patches.js"
    _css = STATIC / "explorer.css"
    picture = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    grid = numbers()
    words = numbers()
    patches = numbers()
    shares = numbers()
    asked = numbers()
    picked: Any = traitlets.Dict({"count": 0}).tag(sync=True)


class Map(anywidget.AnyWidget):  # type: ignore[misc]
    """A table in colours; `picked` is the ``row`` and ``column`` of the cell that was chosen."""

    _esm = STATIC / "map.js"
    _css = STATIC / "explorer.css"
    rows = numbers()
    columns = numbers()
    texts = numbers()
    colors = numbers()
    dark = numbers()
    cell = numbers()
    picked: Any = traitlets.Dict({"count": 0}).tag(sync=True)
