"""Load a model, fitted to the memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ditlens.errors import ModelError, SettingError
from ditlens.files import read_json
from ditlens.models.find import find
from ditlens.models.flux import FluxModel
from ditlens.models.model import Model, on_the_usual_device
from ditlens.models.profiles import cached_sizes, choose, free_memory, part_sizes


def pick_device(device: str = "auto") -> torch.device:
    """The device that `device` names; "auto" is CUDA, else Apple's GPU, else the CPU.

    Raises:
        SettingError: If the device does not exist here.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(
            f"The device {device!r} cannot be used here: {reason}. Try device='cpu'."
        ) from error
    return chosen


@on_the_usual_device
def load(
    name_or_path: str | Path = "portraits",
    device: str = "auto",
    dtype: torch.dtype | None = None,
    profile: str = "auto",
) -> Model:
    """Load a model.

    Args:
        name_or_path: ``"portraits"``, a folder in diffusers' layout, or a hub id of an SD3, SD3.5 or FLUX.1 model.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        dtype: Number format of the weights. By default float32 on the CPU and for small models, else bfloat16.
        profile: ``"auto"`` chooses from the free memory of GPU and machine: ``"full"`` (all on the device),
            ``"offload"`` (the parts of the pipeline in turn) or ``"sequential"`` (layer by layer, slow). The choice
            and its reason are in ``Model.profile``.

    Raises:
        ModelError: If the model is not found, cannot be read, or is of a family that is not supported.
        SettingError: If the device does not exist, or the model does not fit into the memory.

    Example:
        >>> dl.load("portraits", device="cpu")
        Model('portraits', ... M parameters, 128 x 128, cpu)
    """
    from diffusers import DiffusionPipeline

    source, chosen = find(name_or_path), pick_device(device)
    local = Path(source).is_dir()
    sizes = part_sizes(Path(source)) if local else cached_sizes(source)
    plan = choose(sizes, chosen, *free_memory(chosen), dtype, profile)
    dtype = plan.dtype
    try:
        absent = absent_parts(Path(source)) if local else {}
        with no_bars() if local else contextlib.nullcontext():
            pipe = DiffusionPipeline.from_pretrained(source, dtype=dtype, local_files_only=local, **absent)
    except Exception as error:  # diffusers and the libraries below it raise a dozen kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = (
            "Check the files with `ditlens doctor`."
            if local
            else "Check the id, your connection, and that you accepted the model's licence on its page "
            "(then `hf auth login`)."
        )
        raise ModelError(f"The model {source!r} could not be loaded: {reason} {hint}") from error
    kind = model_class(pipe)
    third = getattr(pipe, "text_encoder_3", None)
    if third is not None and is_silent(third):
        pipe.register_modules(text_encoder_3=None, tokenizer_3=None)  # spares its rows of zeros
    pipe.set_progress_bar_config(disable=True)
    if plan.placement == "full":
        pipe.to(chosen)
    elif plan.placement == "offload":
        pipe.enable_model_cpu_offload(device=chosen)
    else:
        pipe.enable_sequential_cpu_offload(device=chosen)
    model = kind(pipe, name=str(name_or_path), folder=Path(source) if local else None)
    model.profile = plan
    return model


def model_class(pipe: Any) -> type[Model]:
    """The class of model that wraps a pipeline.

    Raises:
        ModelError: If its latents and guidance are not known here.
    """
    name = type(pipe).__name__
    if name == "StableDiffusion3Pipeline":
        return Model
    if name == "FluxPipeline":
        return FluxModel
    raise ModelError(
        f"This is a {name}; ditlens makes and edits images with StableDiffusion3Pipeline and FluxPipeline. "
        "Capturing and intervening (ditlens.capture) work with it as it is: pass the pipeline."
    )


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Load without progress bars, which a small local model outruns, and without advice on optional packages."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    shown = [log for log in (of_diffusers, of_transformers) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    handlers = logging.getLogger("transformers").handlers
    for handler in handlers:
        handler.addFilter(concerns_this_model)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(concerns_this_model)
        for log in shown:
            log.enable_progress_bar()


def concerns_this_model(record: logging.LogRecord) -> bool:
    """Whether a message of transformers concerns this model: that torchvision is not installed never does."""
    return "requires torchvision" not in record.getMessage()


def absent_parts(folder: Path) -> dict[str, None]:
    """Parts that ``model_index.json`` lists as null; `from_pretrained` wants them named again."""
    index = read_json(folder / "model_index.json", "the index of a pipeline", ModelError)
    return {name: None for name, value in index.items() if isinstance(value, list) and value[0] is None}


def is_silent(encoder: Any) -> bool:
    """Whether a T5 encoder gives zeros for every text, as `ditlens.train.silent` builds it."""
    norm = getattr(getattr(encoder, "encoder", None), "final_layer_norm", None)
    return norm is not None and not bool(norm.weight.any())
