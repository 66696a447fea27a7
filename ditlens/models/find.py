"""Find a model by its name, without torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ditlens.errors import ModelError
from ditlens.files import DATA, read_json, user_path

MODELS = DATA / "models"
"""Where the shipped models live; the environment variable DITLENS_MODELS names another folder."""
LORA = "pytorch_lora_weights.safetensors"
"""What diffusers calls the weights of a LoRA; beside them, ``ditlens.json`` names the model that they change."""
SIGNS = ("model_index.json", LORA)
"""The files by which the folder of a model is known."""


def find(name_or_path: str | Path) -> str:
    """The folder of a shipped model or of the user's, perhaps of a LoRA, or a repository id to fetch from the hub.

    Raises:
        ModelError: If it is none of these; the message lists the shipped models.
    """
    models = user_path(os.environ.get("DITLENS_MODELS", MODELS), ModelError)
    text, why = str(name_or_path), ""
    try:
        path = user_path(name_or_path, ModelError)
        for folder in (models / text, path):
            if is_model(folder):
                return str(folder)
        beside = path.exists() or path.parent.is_dir()  # then the text is a path, perhaps with a typo
        if isinstance(name_or_path, str) and is_hub_id(text) and not beside:
            return text
        near = [str(folder) for folder in sorted(path.parent.glob("*/")) if is_model(folder)][:5]
        why = f" (beside it are {', '.join(near)})" if near else ""
    except ModelError as error:
        why = f" ({str(error).rstrip('.')})"
    shipped = [folder.name for folder in sorted(models.glob("*/")) if is_model(folder)]
    raise ModelError(
        f"There is no model {text[:80]!r}{why}: shipped are {', '.join(shipped) or 'none'} (looked in {models}). "
        "Pass one of these, a folder with a model_index.json, or a hub id like "
        "'stabilityai/stable-diffusion-3.5-medium'."
    )


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model, or a LoRA."""
    return any((folder / sign).is_file() for sign in SIGNS)


def base_of(folder: Path) -> str | None:
    """The model that a LoRA changes: a folder beside the LoRA's, or what `find` finds; None if it is no LoRA.

    Raises:
        ModelError: If ``ditlens.json`` does not name it, or it is not there.
    """
    if not (folder / LORA).is_file() or (folder / "model_index.json").is_file():
        return None
    settings = folder / "ditlens.json"
    said = read_json(settings, "settings of a model", ModelError) if settings.is_file() else {}
    name = said.get("base")
    if not isinstance(name, str):
        raise ModelError(
            f"{folder} holds a LoRA, but nothing says of which model: write "
            f'{{"base": "portraits"}}, or the name of another model, into {settings}.'
        )
    beside = folder.parent / name
    return str(beside) if is_model(beside) else find(name)


def is_hub_id(text: str) -> bool:
    """Whether a text has the form ``org/name``.

    Example:
        >>> is_hub_id("org/name-7B"), is_hub_id("./folder/name")
        (True, False)
    """
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None
