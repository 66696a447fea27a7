"""The one door to a world: a domain whose images can be measured, drawn and put into words exactly.

A model may carry a world (``model.world``); whoever edits, draws figures or runs benchmarks asks it and never its
name. A second world is a folder beside `portraits` with a ``world.py`` that has ``open_world(folder, device)``, or
any object with these members that is given to `ditlens.Model`.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from ditlens.description import Describer
from ditlens.errors import ModelError, UnknownAttributeError

if TYPE_CHECKING:
    import torch

Values: TypeAlias = Mapping[str, "float | str"]
"""What an image shows: a number for each continuous attribute, the name of a value for each categorical one."""

Wanted: TypeAlias = Mapping[str, int]
"""What an edit asks for: for each attribute that changes, the index of the wanted level or value."""

CORE = 0.7
"""Share of a level's cell, around its centre, in which captions name the level."""


@dataclass(frozen=True)
class Level:
    """One named stretch of a continuous attribute.

    Attributes:
        name: Stable identifier, e.g. ``"big smile"``.
        low: Lower end of the cell, in the attribute's units.
        high: Upper end of the cell.
        words: Phrases that captions use for it; the first one is canonical.
    """

    name: str
    low: float
    high: float
    words: tuple[str, ...]

    @property
    def center(self) -> float:
        return (self.low + self.high) / 2

    def core(self, lowest: float, highest: float) -> tuple[float, float]:
        """The part of the cell that captions name; it reaches the ends of the attribute's range."""
        margin = (1 - CORE) / 2 * (self.high - self.low)
        low = self.low if self.low <= lowest else self.low + margin
        high = self.high if self.high >= highest else self.high - margin
        return low, high


@dataclass(frozen=True)
class Continuous:
    """A continuous attribute: a float in ``[low, high]``, whose range its levels tile."""

    name: str
    low: float
    high: float
    neutral: float
    levels: tuple[Level, ...]

    @property
    def range(self) -> float:
        return self.high - self.low

    @property
    def rest(self) -> int:
        """The level of the neutral value."""
        return self.level_of(self.neutral)

    def level_of(self, value: float | str) -> int:
        """Index of the level of this name, or whose cell holds `value` (beyond the range: the ends).

        Raises:
            UnknownAttributeError: If there is no level of this name; the message lists the names.
        """
        names = [level.name for level in self.levels]
        if isinstance(value, str):
            if value not in names:
                raise UnknownAttributeError(
                    f"{self.name!r} has no level {value!r}: it can be {', '.join(names)}. Pass one of these names."
                )
            return names.index(value)
        return bisect.bisect_right([level.high for level in self.levels[:-1]], float(value))

    def value_of(self, level: int) -> float:
        """The centre of a level."""
        return self.levels[level].center

    def distance(self, a: float | str, b: float | str) -> float:
        """Difference of two values in units of the range."""
        return abs(float(a) - float(b)) / self.range


@dataclass(frozen=True)
class Categorical:
    """A categorical attribute: an index into ``values``; ``words[i]`` are the phrases for ``values[i]``."""

    name: str
    values: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    neutral: int = 0

    @property
    def rest(self) -> int:
        """The neutral value's index."""
        return self.neutral

    def value_of(self, level: int) -> str:
        """The name of a value."""
        return self.values[level]

    def distance(self, a: float | str, b: float | str) -> float:
        """0 for the same value, 1 for another."""
        return float(a != b)

    def level_of(self, value: float | str) -> int:
        """Index of the value with this name.

        Raises:
            UnknownAttributeError: If there is none; the message lists the names.
        """
        if value not in self.values:
            raise UnknownAttributeError(
                f"{self.name!r} has no value {value!r}: it can be {', '.join(self.values)}. "
                f"Pass one of these names."
            )
        return self.values.index(str(value))


Attribute: TypeAlias = "Continuous | Categorical"


@dataclass(frozen=True)
class SuiteItem:
    """One edit of a benchmark.

    Attributes:
        id: Its name, fit for a file's name.
        kind: What it is about: attribute names joined by +, or a category.
        instruction: What to change; may be empty if both texts are there.
        source_text: What the image shows; may be empty.
        target_text: What it should show; may be empty.
        read: Reads the image.
        mask: Where it may change, (1, 1, H, W), 0 or 1; None if unknown.
        wanted: Wanted level or value of each attribute that changes; empty outside a world.
        truth: True attributes of the image; empty outside a world.
        exact: True attributes of the image as it should become; empty where nobody can say.
        draw: Draws the image as it should become; None where nobody can.
        licence: Under which licence the image is.
    """

    id: str
    kind: str
    instruction: str
    source_text: str
    target_text: str
    read: Callable[[], torch.Tensor] = field(repr=False)
    mask: torch.Tensor | None = field(default=None, repr=False)
    wanted: Wanted = field(default_factory=dict)
    truth: Values = field(default_factory=dict, repr=False)
    exact: Values = field(default_factory=dict, repr=False)
    draw: Callable[[], torch.Tensor] | None = field(default=None, repr=False)
    licence: str = ""

    def image(self) -> torch.Tensor:
        """The image, (1, 3, H, W), values in [0, 1]."""
        return self.read()


@runtime_checkable
class World(Protocol):
    """What a domain with exact ground truth offers.

    Images are tensors (batch, 3, height, width) with values in [0, 1].

    Attributes:
        name: Its name, as in a model's ``ditlens.json``.
        attributes: What can be read and changed, by name.
    """

    name: str
    attributes: Mapping[str, Attribute]

    @property
    def describer(self) -> Describer:
        """Writes the two texts of an edit in this world's words."""

    @property
    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The networks that measure and describe, by name: their weights decide what a benchmark finds."""

    # --- reading and drawing ---

    def measure(self, images: torch.Tensor) -> list[dict[str, float | str]]:
        """The attributes of every image, as the oracle reads them."""

    def redraw(self, images: torch.Tensor) -> torch.Tensor | None:
        """The images as this world draws what it reads in them, of the same shape; None if it cannot draw."""

    def sample(self, count: int, seed: int) -> list[dict[str, float | str]]:
        """Attributes of images drawn at random, independent of one another."""

    def draw(self, values: Sequence[Values], side: int) -> torch.Tensor:
        """Images with these attributes, (batch, 3, side, side); attributes that are left out are neutral.

        Raises:
            SettingError: If this world cannot draw.
        """

    def hidden(self, values: Values) -> set[str]:
        """Attributes that nobody can see in an image with these values."""

    def change_mask(self, before: Values, wanted: Wanted, side: int) -> torch.Tensor:
        """Where an image with these attributes changes if it becomes as wanted: (1, 1, side, side), 0 or 1.

        Raises:
            SettingError: If this world cannot draw, or nothing changes.
        """

    # --- words ---

    def reword(self, source_text: str, instruction: str, known: Values | None = None) -> tuple[str, str]:
        """Both texts of an edit from the source's: the target, and the source with what the target needs beside it.

        Args:
            source_text: What the image shows.
            instruction: What to change.
            known: Attributes of the image, for what the text leaves unsaid.

        Raises:
            CaptionError: If a text or the instruction is not understood.
        """

    def check_instruction(self, instruction: str) -> list[str]:
        """Refuse an instruction that cannot be understood, whatever the image.

        Returns:
            Remarks on how it is read, for whoever typed it.

        Raises:
            CaptionError: If any part of it is no edit of this world.
        """

    def check_caption(self, text: str) -> list[str]:
        """Remarks on what a text names that this world cannot draw; none if it can draw all of it."""

    def wanted(self, source_text: str, target_text: str) -> dict[str, int]:
        """What two texts change; nothing where they are not understood."""

    def phrase(self, attribute: str, level: int) -> str:
        """How captions name a level or value."""

    def caption(self, levels: Wanted, seed: int | None = None) -> str:
        """A text that names exactly these levels or values.

        Args:
            levels: Index of the level or value of each attribute to name.
            seed: Decides synonyms, order and sentence; None writes the canonical text.
        """

    # --- judging an edit ---

    def drift(self, before: Values, after: Values, wanted: Iterable[str]) -> float:
        """Mean change of the attributes that should stay, in units of each one's range, in [0, 1]."""

    def missed(self, after: Values, wanted: Wanted) -> list[str]:
        """The attributes that are not as wanted."""

    def progress(self, before: Values, after: Values, wanted: Wanted) -> float:
        """Share of the way to what is wanted, mean over its attributes, in [-1, 1]."""

    def agreement(self, text: str, values: Values) -> float:
        """Share of what a text says that is so; NaN if it says nothing."""

    def answers(self, image: torch.Tensor, wanted: Wanted) -> float:
        """Share of the wanted attributes that the describer finds when it is asked; NaN if it cannot be asked."""

    # --- material ---

    def examples(self) -> dict[str, Path]:
        """Image files to try things on, by name."""

    def suite(self, count: int, split: str) -> Sequence[SuiteItem]:
        """Edits for a benchmark; item k depends on the split and k only.

        Raises:
            SettingError: If the split is unknown or the count is not positive.
        """


def missing_of(world: object) -> list[str]:
    """The members of `World` that an object lacks; none is evaluated, since a describer takes long to load."""
    members = [*World.__annotations__, *(name for name in vars(World) if not name.startswith("_"))]
    own = getattr(world, "__dict__", ())
    return [name for name in members if not hasattr(type(world), name) and name not in own]


def names() -> list[str]:
    """The worlds that come with ditlens."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/world.py"))


def check_instruction(name: str, instruction: str) -> list[str]:
    """Refuse an instruction that a world cannot understand, before anything is loaded.

    Worlds that can tell without their networks have a function of this name in their ``instructions.py``, which
    imports no torch; the instructions of others are checked with the model (`World.check_instruction`).

    Args:
        name: Name of the world.
        instruction: What to change.

    Returns:
        Remarks on how it is read.

    Raises:
        CaptionError: If any part of it is no edit of this world.

    >>> check_instruction("portraits", "make the smlie bigger")
    ["'smlie' is read as 'smile'."]
    """
    if name in names() and Path(__file__).with_name(name).joinpath("instructions.py").is_file():
        found: list[str] = import_module(f"ditlens.worlds.{name}.instructions").check_instruction(instruction)
        return found
    return []


def open_world(name: str, folder: Path | None = None, device: torch.device | str = "cpu") -> World:
    """A world that comes with ditlens.

    Args:
        name: Its name.
        folder: A model's folder, with the networks that read and describe; without one, the world draws and writes
            only.
        device: Where its networks compute.

    Raises:
        ModelError: If there is none of this name.
    """
    if name not in names():
        raise ModelError(f"There is no world {name!r}. Choose from: {', '.join(names())}.")
    world: World = import_module(f"ditlens.worlds.{name}.world").open_world(folder, device)
    return world
