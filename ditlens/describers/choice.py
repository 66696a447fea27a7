"""Choosing a describer: texts that a person typed, or one that is named by a word, a file or an address."""

from __future__ import annotations

import re
import urllib.parse
from functools import lru_cache
from pathlib import Path

from ditlens import arguments, images
from ditlens.arguments import TEXT, takes
from ditlens.describers.chat import TYPE_BOTH
from ditlens.describers.endpoint import OpenAICompatible
from ditlens.describers.huggingface import HuggingFace
from ditlens.describers.recorded import Recorded
from ditlens.describers.transport import shown
from ditlens.description import Describer, Description
from ditlens.errors import DescriberError
from ditlens.files import user_path
from ditlens.models.find import find, is_hub_id
from ditlens.models.model import MODEL, Model
from ditlens.worlds import world


class ByHand:
    """Texts that a person typed, whatever the image and the instruction.

    Args:
        source: What the image shows.
        target: What it should show.

    Raises:
        DescriberError: If a text is empty.

    Example:
        >>> from PIL import Image
        >>> typed = ByHand("a street in summer", "a street in winter")
        >>> typed.extract(Image.new("RGB", (8, 8)), "").target
        'a street in winter'
    """

    name = "by hand"

    @takes(source=TEXT, target=TEXT)
    def __init__(self, source: str, target: str) -> None:
        if not source.strip() or not target.strip():
            raise DescriberError(f"A text is empty: source={source!r}, target={target!r}. Type both.")
        self.source, self.target = source.strip(), target.strip()

    def __repr__(self) -> str:
        return f"ByHand({self.source!r}, {self.target!r})"

    def describe(self, image: images.ImageLike) -> str:  # noqa: ARG002
        """The source text."""
        return self.source

    def extract(self, image: images.ImageLike, instruction: str) -> Description:  # noqa: ARG002
        """Both texts."""
        return Description(self.source, self.target, {}, self.name)


@takes(model=MODEL)
def describer_from(spec: str | Path | Describer | None, model: Model | None = None) -> Describer:
    """A describer from what a person types.

    For the same words, a model or a server is made once, and remembers its answers.

    Args:
        spec: ``"own"`` or None (the model's own), the name of a world that comes with ditlens, an address with a
            model's name (``"http://127.0.0.1:11434/v1#llava"``), a ``.json`` file of recorded texts, a folder or an
            id (``"org/name"``) of a transformers model; or a describer, which is returned as it is.
        model: The model whose own describer is meant.

    Raises:
        DescriberError: If it is none of these, the file is missing, or the model has no describer.
        SettingError: If an address is wrong.
        ModelError: If the networks of a world are missing.

    Example:
        >>> describer_from("http://127.0.0.1:11434/v1#llava")
        OpenAICompatible('llava (127.0.0.1:11434)')
    """
    if spec is None or (isinstance(spec, str) and spec == "own"):
        if model is None or model.describer is None:
            why = "no model is given" if model is None else f"{model.name} has no describer of its own"
            raise DescriberError(f"Nothing describes the image: {why}. Pass describer=. {TYPE_BOTH}")
        return model.describer
    if not isinstance(spec, (str, Path)):
        if isinstance(spec, Describer):
            return spec
        raise DescriberError(
            f"describer is {arguments.shown(spec)}; give its name, address, file or folder, or an object with a "
            "name, describe(image) and extract(image, instruction)."
        )
    text = str(spec).strip()
    if text in world.names():
        if model is not None and model.world is not None and model.world.name == text:
            return model.world.describer
        return _of_world(text)
    if isinstance(spec, str) and re.match(r"https?://", text, re.IGNORECASE):
        url, _, name = text.partition("#")
        if not name:
            raise DescriberError(
                f"Which model at {shown(text)}? Write its name after a #: 'http://127.0.0.1:11434/v1#llava'."
            )
        return _at_address(urllib.parse.unquote(name), url)
    if text and ("://" not in text or text.lower().startswith("file:")):
        path = user_path(text, DescriberError)
        if path.suffix.lower() == ".json":
            return Recorded(path)
        if path.is_dir() or is_hub_id(text):
            return _on_this_computer(str(path.resolve()) if path.is_dir() else text)
    raise DescriberError(
        f"Unknown describer {shown(text) if '://' in text else text!r}. Pass 'own', the name of a world "
        f"({', '.join(world.names())}), an address like 'http://127.0.0.1:11434/v1#llava', a .json file of "
        "recorded texts, or a folder or id ('org/name') of a transformers model."
    )


@lru_cache(maxsize=2)
def _of_world(name: str) -> Describer:
    """The describer of a world, with the networks of the model that comes with it."""
    return world.open_world(name, Path(find(name))).describer


_on_this_computer = lru_cache(maxsize=1)(HuggingFace)
"""The model of a name: only the last one stays loaded, since it may be large."""

_at_address = lru_cache(maxsize=8)(OpenAICompatible)
"""The server of an address: the last ones remember their answers."""
