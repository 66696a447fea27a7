"""``ditlens course``, ``ditlens kit`` and ``ditlens preflight``: what a teacher needs before a lesson."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

from typer import BadParameter, Option

from ditlens.cli import options as o
from ditlens.cli.app import Outcome
from ditlens.cli.checks import check
from ditlens.tables import counted


def lessons_of(text: str) -> tuple[str, ...]:
    """Read ``05,06``."""
    found = tuple(part.strip().zfill(2) for part in text.split(",") if part.strip())
    if found and all(part.isdecimal() and len(part) == 2 for part in found):
        return found
    raise BadParameter(f"{text!r} is no list of notebooks; write 05 or 05,06, with commas, no ranges")


def course(
    folder: Annotated[Path, o.File(help="Folder to write in.")],
    edition: Annotated[
        o.Edition, Option(metavar="NAME", help=f"One of {', '.join(get_args(o.Edition))}.")
    ] = "student",
    only: Annotated[
        Any,
        Option(parser=lessons_of, metavar="LIST", help="Notebooks, e.g. 05,06; else all."),
    ] = None,
    force: o.Force = False,
) -> Outcome:
    """Write the notebooks, for learners, teachers, graders."""
    from ditlens.course.hand_out import hand_out

    check(out=folder)
    files = hand_out(folder, edition, only or (), overwrite=force)
    text = f"wrote {counted(len(files), 'file')} of the {edition} edition to {folder}"
    if edition == "student":
        text += f"\n\nTo open them: jupyter lab {folder}"
    return Outcome(text, {"folder": folder, "edition": edition, "files": files})


Platforms = Annotated[str, Option(metavar="LIST", help="Of windows, macos, linux: the systems in the room.")]


def kit(
    folder: Annotated[Path, o.File(help="A new folder, e.g. on a USB stick; an interrupted kit is continued.")],
    platform: Platforms = "windows,macos,linux",
    python: Annotated[
        str, Option(metavar="LIST", help="Versions of Python in the room, e.g. 3.11,3.12.")
    ] = "3.12",
    wheel: Annotated[
        Path | None, o.Place(help="The wheel of ditlens; in a clone it is built if not given.")
    ] = None,
    index: Annotated[
        str | None, Option(metavar="URL", help="Another package index, or a folder of wheels.")
    ] = None,
) -> Outcome:  # fmt: skip
    """Collect what a room without network needs, for a USB stick."""
    from ditlens.course.kit import collect

    check(out=folder)
    made = collect(folder, platform.split(","), python.split(","), wheel, index)
    return Outcome(str(made), made.facts())


def preflight(
    thorough: Annotated[bool, Option("--thorough", help="Also run notebook 00 from end to end.")] = False,
) -> Outcome:
    """Check that this computer is ready for a lesson."""
    from ditlens.cli.doctor import report
    from ditlens.cli.preflight import examine, facts

    checks = examine(thorough)
    found = facts(checks)
    ready = "This computer is ready." if found["ready"] else "This computer is not ready."
    return Outcome(f"{report(checks)}\n{ready}", found, bool(found["ready"]))
