"""What a page needs to run the model: graphs, tokenizer, recipe, and the words of the world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ditlens.ems.degrees import NODES
from ditlens.ems.extract import HIGHEST, LOWEST
from ditlens.ems.masks import TOGETHER, difference_settings
from ditlens.ems.methods import OdeEdit
from ditlens.ems.plan import default_method
from ditlens.ems.sample import settings_of
from ditlens.errors import ModelError
from ditlens.files import write_json, write_whole
from ditlens.models.graphs import write_graphs
from ditlens.models.model import Model
from ditlens.version import __version__

DRAFT = 12
"""Steps of a picture that is made while somebody waits."""
RECIPE, WORDS, TOKENIZER = "recipe.json", "words.json", "tokenizer.json"


def export(model: Model, folder: Path, on_part: Callable[[int, int], object] | None = None) -> dict[str, Any]:
    """Write all of a model that runs elsewhere: ONNX graphs with a parity report, tokenizer, recipe, words.

    Args:
        model: A small SD3 pipeline, in float32 on the CPU.
        folder: Files of these names in it are written anew.
        on_part: Called with the number of networks done, and of all.

    Returns:
        What ``graphs.json`` holds, see `ditlens.models.graphs.write_graphs`.

    Raises:
        MissingDependencyError: If onnx, onnxscript or onnxruntime is not installed.
        ModelError: If the model cannot be exported, or a graph does not compute what PyTorch computes.
    """
    recipe = recipe_of(model)
    said = write_graphs(model, folder, on_part)
    write_json(folder / RECIPE, recipe)
    write_whole(folder / TOKENIZER, model.pipe.tokenizer.backend_tokenizer.to_str())
    words = getattr(model.world, "words_table", None)
    if words is not None:
        write_json(folder / WORDS, words())
    return said


def recipe_of(model: Model) -> dict[str, Any]:
    """How the model makes and edits images, in numbers that a program in another language can follow.

    Raises:
        ModelError: If its own way to edit is not the one that the playground follows.
    """
    method = default_method(model)
    followed = OdeEdit(
        method.name, source_guidance=1.0, target_guidance=1.0, steps=getattr(method, "steps", 1)
    )
    if method != followed:
        raise ModelError(
            f"{model.name!r} edits with {method}. The playground follows the plain rule only, {followed}."
        )
    steps = sorted({DRAFT, model.defaults["steps"], method.steps})
    tokenizer = model.pipe.tokenizer
    return {
        "ditlens": __version__,
        "model": model.name,
        "side": model.side,
        "latents": list(model.noise([0]).shape[1:]),
        "patch": model.patch,
        "blocks": model.transformer.config.num_layers,
        "rows": model.pipe.tokenizer_max_length,
        "special": {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")},
        "draft": DRAFT,
        "steps": model.defaults["steps"],
        "guidance": model.defaults["guidance"],
        "sigmas": {str(count): model.sigmas(count).tolist() for count in steps},
        "edit": settings_of(method),
        "mask": {**difference_settings(), "together": TOGETHER},
        "degrees": {"low": LOWEST, "high": HIGHEST, "nodes": list(NODES)},
    }
