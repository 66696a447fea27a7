"""Find a model by its name, without torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ditlens.errors import ModelError
from ditlens.files import DATA, user_path

MODELS = DATA / "models"
"""Where the shipped models live; the environment variable DITLENS_MODELS names another folder."""


def find(name_or_path: str | Path) -> str:
    """The folder of a shipped model or of the user's, or a repository id to be fetched from the hub.

    Raises:
        ModelError: If it is none of these; the message lists the shipped models.
    """
    models = user_path(os.environ.get("DITLENS_MODELS", MODELS), ModelError)
    text, why = str(name_or_path), ""
    try:
        path = user_path(name_or_path, ModelError)
        for folder in (models / text, path):
            if (folder / "model_index.json").is_file():
                return str(folder)
        beside = path.exists() or path.parent.is_dir()  # then the text is a path, perhaps with a typo
        if isinstance(name_or_path, str) and is_hub_id(text) and not beside:
            return text
        near = sorted(str(p.parent) for p in path.parent.glob("*/model_index.json"))[:5]
        why = f" (beside it are {', '.join(near)})" if near else ""
    except ModelError as error:
        why = f" ({str(error).rstrip('.')})"
    shipped = sorted(p.parent.name for p in models.glob("*/model_index.json"))
    raise ModelError(
        f"There is no model {text[:80]!r}{why}: shipped are {', '.join(shipped) or 'none'} (looked in {models}). "
        "Pass one of these, a folder with a model_index.json, or a hub id like "
        "'stabilityai/stable-diffusion-3.5-medium'."
    )


def is_hub_id(text: str) -> bool:
    """Whether a text has the form ``org/name``.

    Example:
        >>> is_hub_id("org/name-7B"), is_hub_id("./folder/name")
        (True, False)
    """
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None
