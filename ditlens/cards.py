"""What a result shows of itself: the same pieces as text where it is printed, and as HTML in a notebook."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from markupsafe import Markup, escape

from ditlens.html import Pages
from ditlens.images import to_jpeg
from ditlens.tables import columns

if TYPE_CHECKING:
    from PIL import Image

PAGES = Pages(Path(__file__).parent / "templates")

INTERVAL = re.compile(r"(\d) to (?=[-+]?\d)")

LARGE, SMALL = 256, 112
"""Longest side of one or two pictures, and of more, in pixels: five of them fit into a row."""


class Marked(str):
    """A text; HTML marks its words that another one has not."""

    other: str

    def __new__(cls, text: str, other: str) -> Marked:
        """A text beside another one."""
        made = super().__new__(cls, text)
        made.other = other
        return made

    def __html__(self) -> str:
        words, others = self.split(), self.other.split()
        found = []
        for tag, start, stop, *_ in SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
            said = escape(" ".join(words[start:stop]))
            if said:
                found.append(said if tag == "equal" else Markup("<mark>{}</mark>").format(said))
        return Markup(" ").join(found)


@dataclass(frozen=True)
class Table:
    """Rows under a header, which may be missing.

    Attributes:
        rows: The cells.
        header: Names of the columns.
        indent: What comes before each line of text.
    """

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    indent: str = ""

    @property
    def shown(self) -> list[list[str]]:
        """The rows for HTML, where no line ends inside an interval."""
        return [
            [cell if isinstance(cell, Marked) else INTERVAL.sub("\\1\xa0to\xa0", cell) for cell in row]
            for row in self.rows
        ]


@dataclass(frozen=True)
class Pictures:
    """Pictures in a row, each over its caption; text leaves them out.

    Attributes:
        images: The pictures; they may be read when they are shown.
        captions: One each.
    """

    images: Iterable[Image.Image]
    captions: Sequence[str]

    @property
    def shown(self) -> list[dict[str, str | int]]:
        """What HTML needs of each: address, caption, width and height."""
        side = LARGE if len(self.captions) < 3 else SMALL
        return [shown(*each, side) for each in zip(self.images, self.captions, strict=True)]


@dataclass(frozen=True)
class Folded:
    """Pieces that HTML shows when its title is clicked; text leaves them out.

    Attributes:
        title: The title.
        pieces: The pieces.
    """

    title: str
    pieces: Sequence[Piece]


Piece: TypeAlias = "str | Table | Pictures | Folded"


class Carded:
    """What prints as text, and in a notebook as HTML: a class says with `_card` what is in both."""

    def _card(self) -> Sequence[Piece]:
        """The pieces, from top to bottom; the first one is the title."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(self._card())

    def _repr_html_(self) -> str:
        return as_html(self._card())


def as_text(pieces: Sequence[Piece]) -> str:
    """Pieces as lines of text.

    >>> print(as_text(["Two sites", Table([["joint.0.image.in", "3"]], ("site", "steps"), "  ")]))
    Two sites
      site              steps
      ----------------  -----
      joint.0.image.in  3
    """
    lines = [piece for piece in pieces if isinstance(piece, str | Table)]
    return "\n".join(
        columns(each.rows, each.header, each.indent) if isinstance(each, Table) else each for each in lines
    )


def as_html(pieces: Sequence[Piece]) -> str:
    """Pieces as HTML that needs nothing from elsewhere and takes the colours of the page around it.

    >>> "<p>1 &lt; 2</p>" in as_html(["A title", "1 < 2"])
    True
    """
    return PAGES.render("card.html", pieces=pieces, style=PAGES.asset("card.css"))


def shown(image: Image.Image, caption: str, side: int) -> dict[str, str | int]:
    """A picture inside a page, scaled so that its longest side has so many pixels."""
    from PIL import Image

    scale = side / max(image.size)
    width, height = (max(1, round(scale * length)) for length in image.size)
    file = to_jpeg(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
    address = f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"
    return {"address": address, "caption": caption, "width": width, "height": height}
