"""Find a model by its name, without torch."""

from __future__ import annotations

import os
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
        if text.count("/") == 1 and not path.exists() and not text.startswith((".", "/", "~")):
            return text
    except ModelError as error:
        why = f" ({str(error).rstrip('.')})"
    shipped = sorted(p.parent.name for p in models.glob("*/model_index.json"))
    raise ModelError(
        f"There is no model {text[:80]!r}{why}: shipped are {', '.join(shipped) or 'none'} (looked in {models}). "
        "Pass one of these, a folder with a model_index.json, or a hub id like "
        "'stabilityai/stable-diffusion-3.5-medium'."
    )
