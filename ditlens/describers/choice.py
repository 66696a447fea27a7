"""Who can describe: texts by hand, recorded texts, any multimodal model of transformers, any chat endpoint.

All of them implement `ditlens.description.Describer`. `describer_from` makes one from a word, a file or an address.
"""

from __future__ import annotations

import re
import urllib.parse
from functools import lru_cache
from pathlib import Path

from ditlens import images
from ditlens.describers.asking import BY_HAND
from ditlens.describers.endpoint import OpenAICompatible
from ditlens.describers.huggingface import HuggingFace, is_hub_id
from ditlens.describers.recorded import Recorded, Recording
from ditlens.describers.transport import shown
from ditlens.description import Describer, Description
from ditlens.errors import DescriberError
from ditlens.models.loading import find
from ditlens.models.model import Model
from ditlens.worlds.portraits.describer import PortraitDescriber

__all__ = ["ByHand", "HuggingFace", "OpenAICompatible", "Recorded", "Recording", "describer_from"]


class ByHand:
    """Texts that a person typed, whatever the picture and the instruction.

    Args:
        source: What the picture shows.
        target: What it should show.

    Raises:
        DescriberError: If a text is empty.
    """

    name = "by hand"

    def __init__(self, source: str, target: str) -> None:
        if not source.strip() or not target.strip():
            raise DescriberError(f"A text is empty: source={source!r}, target={target!r}. Type both.")
        self.source, self.target = source.strip(), target.strip()

    def __repr__(self) -> str:
        return f"ByHand({self.source!r}, {self.target!r})"

    def describe(self, image: images.Picture) -> str:  # noqa: ARG002
        """The source text."""
        return self.source

    def extract(self, image: images.Picture, instruction: str) -> Description:  # noqa: ARG002
        """Both texts."""
        return Description(self.source, self.target, {}, self.name)


# --- transformers ------------------------------------------------------------------------------------------


# --- from a word -------------------------------------------------------------------------------------------


def describer_from(spec: str | Path | Describer, model: Model | None = None) -> Describer:
    """A describer from what a person types.

    A model or a server is made once for the same words, and remembers its answers.

    Args:
        spec: ``"own"`` (the model's own), ``"portraits"`` (the shipped one), an address with a model's name
            (``"http://127.0.0.1:11434/v1#llava"``), a ``.json`` file of recorded texts, a folder or an id
            (``"org/name"``) of a transformers model; or a describer, which is returned as it is.
        model: The model whose own describer is meant.

    Raises:
        DescriberError: If it is none of these, or the file is missing.
        SettingError: If an address is wrong.
        ModelError: If the shipped describer is missing.
    """
    if not isinstance(spec, (str, Path)):
        if all(hasattr(spec, name) for name in ("name", "describe", "extract")):
            return spec
        raise DescriberError(
            f"A describer has a name, describe(image) and extract(image, instruction); got {type(spec).__name__}."
        )
    text = str(spec).strip()
    if text in ("own", "portraits"):
        return _own(text, model)
    if isinstance(spec, str) and re.match(r"https?://", text, re.IGNORECASE):
        url, _, name = text.partition("#")
        if not name:
            raise DescriberError(
                f"Which model at {shown(text)}? Write its name behind a #: 'http://127.0.0.1:11434/v1#llava'."
            )
        return _at_address(urllib.parse.unquote(name), url)
    if text.lower().endswith(".json"):
        return Recorded(text)
    folder = Path(text).expanduser()
    if text and (folder.is_dir() or is_hub_id(text)):
        return _on_this_computer(str(folder.resolve()) if folder.is_dir() else text)
    raise DescriberError(
        f"Nobody describes under the name {shown(text) if '://' in text else text!r}. Pass 'own', 'portraits', "
        "an address like 'http://127.0.0.1:11434/v1#llava', a .json file of recorded texts, or a folder or id "
        "('org/name') of a transformers model."
    )


@lru_cache(maxsize=1)
def _on_this_computer(source: str) -> HuggingFace:
    """The model of a name: the last one stays loaded, since it may be large, and remembers its answers."""
    return HuggingFace(source)


@lru_cache(maxsize=8)
def _at_address(name: str, url: str) -> OpenAICompatible:
    """The server of an address: the last ones remember their answers."""
    return OpenAICompatible(name, url=url)


def _own(word: str, model: Model | None) -> Describer:
    """The describer that a model brings, or the one that ditlens ships."""
    if model is not None and model.describer is not None:
        return model.describer
    if word == "own":
        name = "there is no model" if model is None else f"{model.name} brings none"
        raise DescriberError(f"No describer of its own: {name}. Pass another describer=. Or: {BY_HAND}")

    return PortraitDescriber.load(Path(find("portraits")) / "describer")
