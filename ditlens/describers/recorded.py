"""Texts that another describer once wrote: a course replays them without a network or a large model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ditlens import images
from ditlens.arguments import PATH, instance, takes
from ditlens.describers import replies
from ditlens.describers.chat import TYPE_BOTH, image_hash
from ditlens.describers.replies import BadReplyError
from ditlens.description import Describer, Description
from ditlens.errors import DescriberError
from ditlens.files import read_json, user_path, write_json

FORMAT = 1
"""Version of the files of recorded texts."""


class Recorded:
    """Replays what another describer wrote, without a network or a large model.

    A record is a JSON file, or the same as a dict::

        {"format": 1, "describer": "...", "pictures": {SHA-256 of the pixels: {
            "description": "...",
            "instructions": {"make it snow": {"source": "...", "target": "...", "changes": {...}}}}}}

    Args:
        record: The file, which a `Recorder` makes, or its content.

    Raises:
        DescriberError: If the file is missing or damaged.

    Example:
        >>> from PIL import Image
        >>> image = Image.new("RGB", (8, 8))
        >>> texts = {"source": "a dry street", "target": "a snowy street"}
        >>> entry = {"description": "a dry street", "instructions": {"make it snow": texts}}
        >>> record = {"format": 1, "describer": "me", "pictures": {image_hash(image): entry}}
        >>> Recorded(record).extract(image, "Make it snow").target
        'a snowy street'
    """

    @takes(record=PATH | instance("the content of such a file", Mapping))
    def __init__(self, record: str | Path | Mapping[str, Any]) -> None:
        self.where = "a dict" if isinstance(record, Mapping) else str(record)
        self.content = _checked(record, self.where) if isinstance(record, Mapping) else _read(record)
        self.name = f"{self.content['describer']}, recorded"

    def __repr__(self) -> str:
        return f"Recorded({self.where!r}, images={len(self.content['pictures'])})"

    def describe(self, image: images.ImageLike) -> str:
        """What was written about this image.

        Raises:
            DescriberError: If nothing was recorded.
        """
        entry = self._entry(image)
        if "description" not in entry:
            raise DescriberError(self._missing("No description is recorded", entry))
        return entry["description"]

    def extract(self, image: images.ImageLike, instruction: str) -> Description:
        """The texts recorded for this image and instruction.

        Raises:
            DescriberError: If nothing was recorded.
        """
        entry = self._entry(image)
        texts = entry.get("instructions", {}).get(_normal(instruction))
        if texts is None:
            raise DescriberError(self._missing(f"The instruction {instruction!r} is not recorded", entry))
        return Description(texts["source"], texts["target"], dict(texts.get("changes", {})), self.name)

    def _entry(self, image: images.ImageLike) -> dict[str, Any]:
        return self.content["pictures"].get(image_hash(images.open_image(image)), {})

    def _missing(self, what: str, entry: Mapping[str, Any]) -> str:
        recorded = ", ".join(map(repr, list(entry.get("instructions", {}))[:8]))
        if entry:
            has = f"recorded is {recorded or 'only a description'}"
        else:
            has = f"nothing is recorded for it (it has {len(self.content['pictures'])} other images)"
        return (
            f"{what} for this image in {self.where}: {has}. Record it with "
            f'Recorder(describer, "texts.json").extract(image, instruction). {TYPE_BOTH}'
        )


class Recorder:
    """Asks another describer and adds what it writes to a file that `Recorded` replays.

    Args:
        describer: Who is asked.
        path: The file; it is made, or added to.

    Raises:
        DescriberError: If the file exists and is damaged.
    """

    def __init__(self, describer: Describer, path: str | Path) -> None:
        self.describer, self.path, self.name = describer, user_path(path), describer.name
        if self.path.exists():
            _read(self.path)

    def __repr__(self) -> str:
        return f"Recorder({self.describer!r}, {str(self.path)!r})"

    def describe(self, image: images.ImageLike) -> str:
        """What the describer says the image shows; recorded."""
        opened = images.open_image(image)
        text = self.describer.describe(opened)
        self._add(opened, {"description": text})
        return text

    def extract(self, image: images.ImageLike, instruction: str) -> Description:
        """The describer's two texts; recorded."""
        opened = images.open_image(image)
        found = self.describer.extract(opened, instruction)
        texts = {"source": found.source, "target": found.target, "changes": found.changes}
        self._add(opened, {"instructions": {_normal(instruction): texts}})
        return found

    def _add(self, opened: Image.Image, entry: dict[str, Any]) -> None:
        """Add to what is recorded for an image."""
        empty: dict[str, Any] = {"format": FORMAT, "describer": self.name, "pictures": {}}
        record = _read(self.path) if self.path.exists() else empty
        old = record["pictures"].setdefault(image_hash(opened), {})
        instructions = old.get("instructions", {}) | entry.get("instructions", {})
        old |= entry | ({"instructions": instructions} if instructions else {})
        write_json(self.path, record)


def _normal(instruction: str) -> str:
    """An instruction as it is looked up: case and spaces do not count."""
    return " ".join(instruction.casefold().split())


def _read(path: str | Path) -> dict[str, Any]:
    """The content of a file of recorded texts.

    Raises:
        DescriberError: If it is missing or damaged.
    """
    file = user_path(path, DescriberError)
    if not file.exists():
        raise DescriberError(
            f"There are no recorded texts in {path}. Check the name, or make the file with "
            f'Recorder(describer, "{file.name}").'
        )
    return _checked(read_json(file, "a file of recorded texts", DescriberError), str(path))


def _checked(record: Any, where: str) -> dict[str, Any]:
    """A record, once all its parts have proved to be what they should be.

    Raises:
        DescriberError: If they are not.
    """
    try:
        if record.get("format") != FORMAT:
            raise BadReplyError(f"its format is {record.get('format')!r} and not {FORMAT}")
        replies.read_plain(record["describer"], '"describer"')
        for entry in record["pictures"].values():
            if "description" in entry:
                replies.read_plain(entry["description"], "a description")
            for texts in entry.get("instructions", {}).values():
                replies.read_plain(texts["source"], '"source"')
                replies.read_plain(texts["target"], '"target"')
                replies.read_changes(texts.get("changes"))
    except (BadReplyError, LookupError, TypeError, AttributeError) as error:
        reason = error if isinstance(error, BadReplyError) else "a part is missing or of another type"
        raise DescriberError(
            f"{where} does not hold recorded texts: {reason}. Record them again with a Recorder."
        ) from error
    return dict(record)
