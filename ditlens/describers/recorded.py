"""Texts that another describer once said: a course replays them without a network or a large model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditlens import images
from ditlens.describers import replies
from ditlens.describers.asking import BY_HAND, picture_hash
from ditlens.describers.replies import BadReplyError
from ditlens.description import Describer, Description
from ditlens.errors import DescriberError
from ditlens.files import write_whole

if TYPE_CHECKING:
    from PIL import Image

FORMAT = 1
"""Version of the files of recorded texts."""


class Recorded:
    """Replays what another describer said, without a network or a large model.

    A record is a JSON file, or the same as a dict::

        {"format": 1, "describer": "...", "pictures": {SHA-256 of the pixels: {
            "description": "...",
            "instructions": {"make it snow": {"source": "...", "target": "...", "changes": {...}}}}}}

    Args:
        record: The file, or its content.

    Raises:
        DescriberError: If the file is missing or damaged.
    """

    def __init__(self, record: str | Path | Mapping[str, Any]) -> None:
        self.where = "a dict" if isinstance(record, Mapping) else str(record)
        self.content = (
            check_record(record, self.where) if isinstance(record, Mapping) else read_record(record)
        )
        self.name = f"{self.content['describer']}, recorded"

    def __repr__(self) -> str:
        return f"Recorded({self.where!r}, {len(self.content['pictures'])} pictures)"

    @staticmethod
    def record(describer: Describer, path: str | Path) -> Recording:
        """A describer that says what `describer` says and writes it down; see `Recording`."""
        return Recording(describer, path)

    def describe(self, image: images.Picture) -> str:
        """What was said of this picture.

        Raises:
            DescriberError: If nothing was recorded.
        """
        said = self._said(image)
        if "description" not in said:
            raise DescriberError(self._missing("No description is recorded", said))
        return said["description"]

    def extract(self, image: images.Picture, instruction: str) -> Description:
        """The texts recorded for this picture and instruction.

        Raises:
            DescriberError: If nothing was recorded.
        """
        said = self._said(image)
        texts = said.get("instructions", {}).get(spoken(instruction))
        if texts is None:
            raise DescriberError(self._missing(f"The instruction {instruction!r} is not recorded", said))
        return Description(texts["source"], texts["target"], dict(texts.get("changes", {})), self.name)

    def _said(self, image: images.Picture) -> dict[str, Any]:
        return self.content["pictures"].get(picture_hash(images.open_image(image)), {})

    def _missing(self, what: str, said: Mapping[str, Any]) -> str:
        there = ", ".join(map(repr, list(said.get("instructions", {}))[:8]))
        if said:
            has = f"there is {there or 'only a description'}"
        else:
            has = f"of this picture there is nothing ({len(self.content['pictures'])} other pictures are recorded)"
        return (
            f"{what} for this picture in {self.where}: {has}. Record it with "
            f'Recorded.record(describer, "texts.json").extract(image, instruction). Or: {BY_HAND}'
        )


class Recording:
    """Asks another describer and adds what it says to a file that `Recorded` replays.

    Args:
        describer: Who is asked.
        path: The file; it is made, or added to.

    Raises:
        DescriberError: If the file is there and damaged.
    """

    def __init__(self, describer: Describer, path: str | Path) -> None:
        self.describer, self.path, self.name = describer, Path(path).expanduser(), describer.name
        if self.path.exists():
            read_record(self.path)

    def __repr__(self) -> str:
        return f"Recording({self.describer!r}, {str(self.path)!r})"

    def describe(self, image: images.Picture) -> str:
        """What the other says the picture shows; written down."""
        picture = images.open_image(image)
        text = self.describer.describe(picture)
        self._add(picture, lambda said: said.update(description=text))
        return text

    def extract(self, image: images.Picture, instruction: str) -> Description:
        """The other's texts; written down."""
        picture = images.open_image(image)
        found = self.describer.extract(picture, instruction)
        texts = {"source": found.source, "target": found.target, "changes": found.changes}
        self._add(
            picture, lambda said: said.setdefault("instructions", {}).update({spoken(instruction): texts})
        )
        return found

    def _add(self, picture: Image.Image, change: Callable[[dict[str, Any]], None]) -> None:
        empty: dict[str, Any] = {"format": FORMAT, "describer": self.name, "pictures": {}}
        record = read_record(self.path) if self.path.exists() else empty
        change(record["pictures"].setdefault(picture_hash(picture), {}))
        write_whole(self.path, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def spoken(instruction: str) -> str:
    """An instruction as it is looked up: case and spaces do not count."""
    return " ".join(instruction.casefold().split())


def read_record(path: str | Path) -> dict[str, Any]:
    """The content of a file of recorded texts.

    Raises:
        DescriberError: If it is missing or damaged.
    """
    try:
        text = Path(path).expanduser().read_text("utf-8")
    except FileNotFoundError:
        raise DescriberError(
            f"There are no recorded texts in {path}. Check the name, or make the file with "
            f'Recorded.record(describer, "{Path(path).name}").'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DescriberError(
            f"{path} cannot be read: {error}. Check its permissions, and that Recorded.record wrote it."
        ) from error
    try:
        return check_record(json.loads(text), str(path))
    except (ValueError, RecursionError) as error:
        raise DescriberError(f"{path} is damaged: {error}. Restore or record it again.") from error


def check_record(record: Any, where: str) -> dict[str, Any]:
    """A record whose parts are what they should be.

    Raises:
        DescriberError: If they are not.
    """
    try:
        if record.get("format") != FORMAT:
            raise BadReplyError(f"its format is {record.get('format')!r} and not {FORMAT}")
        replies.read_plain(record["describer"], '"describer"')
        for said in record["pictures"].values():
            if "description" in said:
                replies.read_plain(said["description"], "a description")
            for texts in said.get("instructions", {}).values():
                replies.read_plain(texts["source"], '"source"')
                replies.read_plain(texts["target"], '"target"')
                replies.read_changes(texts.get("changes"))
    except (BadReplyError, LookupError, TypeError, AttributeError) as error:
        reason = error if isinstance(error, BadReplyError) else "a part is missing or of another type"
        raise DescriberError(
            f"{where} holds no recorded texts: {reason}. Record them again with Recorded.record."
        ) from error
    return dict(record)
