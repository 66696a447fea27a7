"""Options that several commands have, and how the values of options are read."""

from __future__ import annotations

import contextlib
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from typer import Argument, BadParameter, Option

from ditlens.errors import SettingError
from ditlens.files import user_path
from ditlens.images import FORMATS

LOWEST, HIGHEST = -2, 3
"""Range of editing degrees."""

# --- how values are read ----------------------------------------------------------------------------------


def numbers(text: str) -> tuple[int, ...]:
    """Read ``0:4`` or ``1,5,7``."""
    first, colon, last = text.partition(":")
    with contextlib.suppress(ValueError):
        found = tuple(range(int(first or 0), int(last)) if colon else map(int, text.split(",")))
        if found and min(found) >= 0:
            return found
    raise BadParameter(f"{text!r} holds no numbers from 0 on; write 0:4 or 1,5,7")


def degrees(text: str) -> tuple[float, ...]:
    """Read ``0.5,1,1.5``."""
    with contextlib.suppress(ValueError):
        found = tuple(sorted({float(part) for part in text.split(",")}))
        if all(LOWEST <= degree <= HIGHEST for degree in found):
            return found
    raise BadParameter(f"{text!r} holds no degrees from {LOWEST} to {HIGHEST}; write 0.5,1,1.5")


def passes(text: str) -> tuple[str, ...]:
    """Read ``cond``, ``uncond``, or ``both``, which is ``cond,uncond``."""
    found = ("cond", "uncond") if text == "both" else tuple(sorted(set(text.split(","))))
    if set(found) <= {"cond", "uncond"}:
        return found
    raise BadParameter(f"{text!r} is none of cond, uncond, both")


def reduction(text: str) -> str | None:
    """Read ``sketch:64``, ``mean`` or ``none``."""
    if re.fullmatch(r"none|mean|sketch:0*[1-9]\d*", text):
        return None if text == "none" else text
    raise BadParameter(f"{text!r} is none of sketch:64 (or another width), none, mean")


def encoders(text: str) -> tuple[int | str, ...]:
    """Read ``clip,clip_2`` or ``0,1``; which of them there are depends on the model."""
    found = [part.strip() for part in text.split(",")]
    if set(found) <= {"clip", "clip_2", "t5", "0", "1", "2"}:
        return tuple(int(part) if part.isdecimal() else part for part in found)
    raise BadParameter(
        f"{text!r}: text encoders are clip, clip_2 and t5, or 0, 1 and 2; write clip,t5 or 0,2"
    )


def path(text: str | Path) -> Path:
    """Read a path."""
    try:
        return user_path(text)
    except SettingError as error:
        raise BadParameter(str(error)) from error


def image_file(text: str | Path) -> Path:
    """Read the name of an image file to write."""
    found = path(text)
    if found.suffix.lower() in FORMATS:
        return found
    raise BadParameter(f"'{found}' must end in one of {', '.join(FORMATS)}")


# --- options ----------------------------------------------------------------------------------------------

File = partial(Argument, parser=path)
Place = partial(Option, parser=path, metavar="<path>")
Image: TypeAlias = Annotated[Path, File(help="Image file of any size.")]
Degree: TypeAlias = Annotated[
    float, Option(min=LOWEST, max=HIGHEST, metavar="X", help="0 reconstructs, 1 is the full edit.")
]
Seed: TypeAlias = Annotated[int, Option(help="The same seed gives the same result.")]
Steps: TypeAlias = Annotated[
    int | None, Option(min=1, metavar="N", help="Sampling steps; else the model's own.")
]
Guidance: TypeAlias = Annotated[
    float | None, Option(min=-100, max=100, metavar="G", help="Guidance; else the model's own.")
]
Method: TypeAlias = Literal[
    "ems", "flowedit", "flowalign", "flowslider", "dvrf", "dds", "csds-recon-penalty", "csds-recon-ball",
    "csds-recon-delta", "csds-recon-orthogonal", "hsds-recon", "sdedit", "ddib", "rf-inversion", "rf-solver",
    "fireflow",
]  # fmt: skip
Dtype: TypeAlias = Literal["float16", "bfloat16", "float32"]
Engine: TypeAlias = Literal["local", "ray"]
Stage: TypeAlias = Literal["text", "vae", "mmdit", "oracle", "describer", "twin", "all"]
Edition: TypeAlias = Literal["student", "solution", "teacher", "nbgrader", "otter", "figures"]
Workers: TypeAlias = Annotated[int, Option(min=1, metavar="N", help="Processes, e.g. one for each GPU.")]
Out: TypeAlias = Annotated[Path, Place(help="Folder to write in.")]
Force: TypeAlias = Annotated[bool, Option("--force", help="Overwrite what is there, but never an input.")]
Resumed: TypeAlias = Annotated[Path, Place(help="Folder to write in; the same command again resumes.")]
Model: TypeAlias = Annotated[str, Option(help="Name or folder of the model.")]
Device: TypeAlias = Annotated[str, Option(help="One of auto, cpu, cuda, cuda:1, mps.")]
