"""``dl.Explorer``: the page with a session of its own, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ditlens.arguments import NOTHING, Kind, instance, list_of, takes
from ditlens.errors import StudyError
from ditlens.lens.cache import LatentCache
from ditlens.lens.study.store import STUDIES, Study, open_study
from ditlens.models.identity import fingerprint
from ditlens.models.model import MODEL, Model
from ditlens.views.explorer.material import drawn
from ditlens.views.explorer.page import Page
from ditlens.views.explorer.session import Session

SOURCE = instance("a study, dl.open_study(...), a cache, or a model", Study, LatentCache, Model)
PICTURES = NOTHING | list_of(Kind("", lambda value: True), "a list of images, one for each of the cache")  # noqa: ARG005


class Explorer(Page):
    """Linked views of hidden states, for notebooks: points, a picture from inside, and a map of blocks and steps.

    As the last line of a cell it shows itself. Select points, and ``explorer.selection`` has them. Click one, and
    its picture opens: click a patch or a word of it to see where it looks. Click a cell of the map, and the picture
    is drawn again with states of its contrast put in there. Everything it does, functions do as well:
    ``explorer.code()`` writes the cell.

    Args:
        source: A study; a cache; or a model, of which the shipped study is taken, or 32 pictures are drawn.
        model: The model that the pictures are of; by default the one that the study names. It draws a picture again
            to look inside it, which takes about a second.
        pictures: The pictures of a cache, one for each of its images.

    Attributes:
        session: The explorer without the page: what it holds and does can be read and called.

    Raises:
        MissingDependencyError: If ipywidgets or anywidget are not installed.
        SettingError: If the source holds nothing to explore, or there are more or fewer pictures than images.

    Example:
        >>> explorer = dl.Explorer(dl.open_study("portraits"))  # doctest: +SKIP
        >>> explorer  # doctest: +SKIP
    """

    @takes(source=SOURCE, model=MODEL | NOTHING, pictures=PICTURES)
    def __init__(
        self,
        source: Study | LatentCache | Model,
        model: Model | None = None,
        pictures: Sequence[Any] | None = None,
    ) -> None:
        if isinstance(source, Model):
            model, source = source, shipped(source) or drawn(source)
        super().__init__(Session(source, model, pictures or ()))


def shipped(model: Model) -> Study | None:
    """The shipped study of a model, if there is one."""
    if not (STUDIES / model.name / "manifest.json").is_file():
        return None
    try:
        study = open_study(model.name)
    except StudyError:
        return None
    return study if study.manifest.fingerprint == fingerprint(model) else None
