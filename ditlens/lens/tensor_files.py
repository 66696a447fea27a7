"""Tensors with what is known of them as one safetensors file: a cache, a direction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
from torch import Tensor

from ditlens.errors import DitlensError
from ditlens.files import new_file, user_path, write_whole

T = TypeVar("T")


def save_tensors(
    path: str | Path, kind: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any], overwrite: bool
) -> Path:
    """Write tensors as one safetensors file, whole or not at all.

    Args:
        path: The file; its name must end in ``.safetensors``.
        kind: What they are: "cache".
        tensors: By name.
        about: What else is known, ready for JSON.
        overwrite: Whether the file may be there already.

    Returns:
        The file's path.

    Raises:
        SettingError: If the name ends otherwise, or the file is there already.
        WriteError: If it cannot be written.
    """
    file = new_file(path, ".safetensors", overwrite)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_whole(file, safetensors.torch.save(whole, {f"ditlens.{kind}": json.dumps(about)}))
    return file


def load_tensors(
    path: str | Path, kind: str, make: Callable[[dict[str, Tensor], dict[str, Any]], T], wrong: type[DitlensError]
) -> T:  # fmt: skip
    """Read what `save_tensors` wrote.

    Args:
        path: The file.
        kind: What it must hold.
        make: Makes it of the tensors and of what else is known.
        wrong: The error to raise.

    Raises:
        DitlensError: If the file cannot be read, or holds something else.
    """
    file = user_path(path, wrong)
    try:
        with safetensors.safe_open(file, "pt") as opened:
            about = json.loads((opened.metadata() or {})[f"ditlens.{kind}"])
            return make({name: opened.get_tensor(name) for name in opened.keys()}, about)  # noqa: SIM118
    except (OSError, KeyError, TypeError, ValueError, AttributeError, safetensors.SafetensorError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise wrong(
            f"{file} holds no {kind} that can be read ({why}). Give a file that {kind}.save(...) wrote."
        ) from error
