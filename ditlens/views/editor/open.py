"""``dl.Editor``: the page with a session of its own, in one process."""

from __future__ import annotations

from ditlens.arguments import takes
from ditlens.images import ImageLike
from ditlens.models.model import MODEL, Model
from ditlens.views.editor.page import Page
from ditlens.views.editor.session import Session


class Editor(Page):
    """An editor for notebooks: a picture, an instruction, both texts, and a degree to drag.

    As the last line of a cell it shows itself. Everything it does, functions do as well: `ditlens.edit`,
    `ditlens.extract`; its section *Code* writes the cell.

    Args:
        model: The model, from `ditlens.load`.
        image: The picture to begin with: a file or its name, a PIL image, a tensor; by default an example.

    Attributes:
        session: The editor without the page: what it holds and does can be read and called.

    Raises:
        MissingDependencyError: If ipywidgets or anywidget are not installed.
        ImageError: If the image cannot be read.

    Example:
        >>> editor = dl.Editor(model, image)  # doctest: +SKIP
        >>> editor  # doctest: +SKIP
    """

    @takes(model=MODEL)
    def __init__(self, model: Model, image: ImageLike | None = None) -> None:
        super().__init__(Session(model, image))
