"""What can be checked without torch: a wrong path is reported at once, not when a model has been loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ditlens.errors import ImageError, ModelError, SettingError, StudyError, SuiteError
from ditlens.files import keep_inputs, read_json, user_path
from ditlens.images import open_file
from ditlens.models.find import find
from ditlens.worlds import world

MASKS = ("auto", "none", "difference", "exact")


def check(
    model: str | None = None, *, out: Path | None = None, image: Path | None = None, mask: str = "auto",
    prompts: Path | None = None, suite: str = "portraits", writes: Sequence[str] = (), force: bool = False,
) -> None:  # fmt: skip
    """Check what a command was given.

    Args:
        model: Name or folder of a model.
        out: Folder that will be written to; it need not exist yet.
        image: Image file.
        mask: Name of a mask, or an image file.
        prompts: Text file.
        suite: Name, folder or file of a suite of edits.
        writes: Files of `out` that will be written.
        force: Whether they may be there already; what is read is never overwritten.

    Raises:
        DitlensError: If something is missing or cannot be used.
    """
    if model is not None:
        find(model)
    if image is not None:
        open_file(image).close()
    inputs = [] if image is None else [image]
    if mask not in MASKS:
        try:
            open_file(mask).close()
        except ImageError as error:
            raise ImageError(f"{error} A mask is an image file or one of {', '.join(MASKS)}.") from error
        inputs.append(user_path(mask))
    if prompts is not None and not prompts.is_file():
        raise StudyError(f"There is no file {prompts}. Check the name, or the folder you are in.")
    path = user_path(suite, SuiteError)
    if (
        suite.partition("-")[0] not in world.names()
        and not path.is_dir()
        and not (path.is_file() and path.suffix.lower() in (".json", ".jsonl"))
    ):
        raise SuiteError(
            f"There is no suite {suite!r}. Suites: {', '.join(f'{n}, {n}-dev' for n in world.names())}, a "
            "PIE-Bench folder, or a .json or .jsonl list of edits."
        )
    if out is not None:
        there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            why = "is not a folder" if not there.is_dir() else "may not be written to by you"
            raise SettingError(f"{out} cannot be written: {there} {why}. Choose another place: --out.")
        files = [out / name for name in writes]
        keep_inputs(files, inputs)
        if not force and (taken := [file for file in files if os.path.exists(file)]):
            raise SettingError(
                f"{taken[0]} is there already. Choose another place with --out, or overwrite it with --force."
            )


def check_instruction(model: str, instruction: str, describer: str | None) -> None:
    """Check the instruction of an edit whose texts a describer is to write.

    Args:
        model: Name or folder of the model; its settings name its world.
        instruction: What to change.
        describer: Who writes the texts, as for the command. Only a world's own must know all words.

    Raises:
        DitlensError: If it is empty, or the model's world understands nothing in it.
    """
    if not instruction.strip():
        raise SettingError(
            "The instruction is empty. Say what to change, or give both --source-text and --target-text."
        )
    settings = Path(find(model), "ditlens.json")
    if describer in (None, "own") and settings.is_file():
        name = read_json(settings, "settings of a model", ModelError).get("world") or ""
        world.check_instruction(name, instruction)
