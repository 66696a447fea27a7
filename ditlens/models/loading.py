"""Load a model, fitted to the memory."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ditlens.arguments import NAME, PATH, TEXT, instance, one_of, takes
from ditlens.errors import MissingDependencyError, ModelError, SettingError
from ditlens.files import read_json
from ditlens.models.find import LORA, base_of, find
from ditlens.models.flux import FluxModel
from ditlens.models.graphs import need
from ditlens.models.model import Model, on_the_usual_device
from ditlens.models.onnx_model import OnnxModel
from ditlens.models.profiles import PROFILES, cached_sizes, choose, free_memory, part_sizes, variant_of

DEVICE = TEXT | instance("a torch.device", torch.device)
BACKENDS = ("torch", "onnx")
DTYPE = instance("a number format of torch, e.g. torch.float16", torch.dtype)


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device that `device` names; "auto" is CUDA, else Apple's GPU, else the CPU.

    Raises:
        SettingError: If the device does not exist here.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    reason = "it is none of auto, cpu, cuda, cuda:1, mps"
    try:
        chosen = torch.device(device)
        reason = ""
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = reason or str(error).splitlines()[0]
        raise SettingError(
            f"The device {str(device)!r} cannot be used here: {reason}. Try device='cpu'."
        ) from error
    return chosen


@takes(
    name_or_path=instance("a name, a folder, or ditlens.wrap(pipe) around your own pipeline", str, Path),
    device=DEVICE, dtype=DTYPE, profile=one_of(*PROFILES), backend=one_of(*BACKENDS),
)  # fmt: skip
@on_the_usual_device
def load(
    name_or_path: str | Path = "portraits",
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
    profile: str = "auto",
    *,
    backend: str = "torch",
) -> Model:
    """Load a model.

    Args:
        name_or_path: ``"portraits"``, its biased twin ``"portraits-twin"``, a folder in diffusers' layout or with a
            LoRA and a ``ditlens.json`` that names its ``"base"``, or a hub id of an SD3, SD3.5 or FLUX.1 model.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        dtype: Number format of the weights. By default float32 on the CPU and for small models, else bfloat16.
        profile: ``"auto"`` chooses from the free memory of GPU and machine: ``"full"`` (all on the device),
            ``"offload"`` (the parts of the pipeline in turn) or ``"sequential"`` (layer by layer, slow). The choice
            and its reason are in ``Model.profile``.
        backend: ``"torch"``, or ``"onnx"``: onnxruntime generates and edits with small SD3 pipelines such as
            ``"portraits"`` in about half the time, on the CPU. It has no hooks: `capture`, `intervene` and what is
            built on them refuse it. Needs the extra ``ditlens[fast]``; the first time, the networks are exported
            into the user's cache (half a minute).

    Raises:
        ModelError: If the model is not found, cannot be read, or is of a family that is not supported.
        MissingDependencyError: If it is a LoRA and peft is not installed, or the backend is not installed.
        SettingError: If the device does not exist or is not one of the backend, or the model does not fit into the
            memory.

    Example:
        >>> dl.load("portraits", device="cpu")
        Model('portraits', ... M parameters, 128 x 128, cpu)
    """
    with warnings.catch_warnings():  # of tqdm, in a notebook without ipywidgets
        warnings.filterwarnings("ignore", "IProgress not found")
        from diffusers import DiffusionPipeline

    if backend == "onnx":
        need("onnxruntime")
        if str(device) not in ("auto", "cpu") or dtype not in (None, torch.float32):
            raise SettingError(
                f"backend='onnx' computes in float32 on the CPU; got device={str(device)!r}, dtype={dtype}. Leave "
                "them out, or backend=."
            )
        return OnnxModel(load(name_or_path, "cpu", torch.float32, "full"))
    source, chosen = find(name_or_path), pick_device(device)
    local = Path(source).is_dir()
    if local and (base := base_of(Path(source))):
        made = load(base, device, dtype, profile)
        made.name = str(name_or_path)
        made.defaults |= read_json(Path(source) / "ditlens.json", "settings of a model", ModelError)
        load_lora(made.pipe, Path(source))
        return made
    sizes = part_sizes(Path(source)) if local else cached_sizes(source)
    here = local or not hub_answers()
    if here and not local and not sizes:
        raise ModelError(
            f"There is no folder {source!r}, and as a hub id it is not on this computer, while the hub cannot be "
            f"reached. Check the name, or type `hf download {source}` once while you are online."
        )
    plan = choose(sizes, chosen, *free_memory(chosen), dtype, profile)
    dtype = plan.dtype
    try:
        absent = absent_parts(Path(source)) if local else {}
        variant = variant_of(Path(source)) if local else None
        with no_bars() if local else contextlib.nullcontext():
            pipe = DiffusionPipeline.from_pretrained(
                source, dtype=dtype, local_files_only=here, variant=variant, **absent
            )
    except Exception as error:  # diffusers and the libraries below it raise a dozen kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = (
            "Check the files with `ditlens doctor`."
            if local
            else "Check the id, your connection, and that you accepted the model's licence on its page "
            "(then `hf auth login`)."
        )
        raise ModelError(f"The model {source!r} could not be loaded: {reason} {hint}") from error
    made = wrap(pipe, str(name_or_path), Path(source) if local else None)
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
    made.profile = plan
    return made


def load_lora(pipe: Any, folder: Path) -> None:
    """Add the LoRA in a folder to a pipeline, with diffusers' own loader.

    Raises:
        MissingDependencyError: If peft is not installed.
        ModelError: If it does not fit the pipeline.
    """
    try:
        import peft  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{folder} holds a LoRA, which needs peft: {error}. Type: pip install 'ditlens[analysis]', or make "
            "install in a clone."
        ) from error
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns that a LoRA of the transformer has none for the text encoders
    try:
        pipe.load_lora_weights(folder, weight_name=LORA, adapter_name=folder.name.replace(".", "-"))
    except Exception as error:  # of diffusers, peft and safetensors, a dozen kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"The LoRA in {folder} could not be added to {type(pipe).__name__}: {reason}"
        ) from error
    finally:
        logging.set_verbosity(level)


@takes(name=NAME, folder=PATH)
def wrap(pipe: Any, name: str = "model", folder: str | Path | None = None) -> Model:
    """A model around a pipeline that you made yourself, as it is: fine-tuned, with LoRAs, on any device.

    Args:
        pipe: A diffusers ``StableDiffusion3Pipeline`` or ``FluxPipeline``.
        name: What recipes and tables call it.
        folder: A folder with a ``ditlens.json``, whose settings and world it then has.

    Raises:
        ModelError: If its latents and guidance are not known here, or its scheduler is none of rectified flow.

    Example:
        >>> own = dl.wrap(model.pipe, "mine")  # no world: nothing is measured
        >>> own.name, own.world
        ('mine', None)
    """
    kind = next(
        (kind for kind in (Model, FluxModel) if kind.fits(pipe)), Model
    )  # which refuses what it is not
    return kind(pipe, name=name, folder=None if folder is None else Path(folder).expanduser())


def hub_answers() -> bool:
    """Whether the model hub can be reached, within a few seconds; the hub's own client tries for minutes."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # of the client's library, which has changed before
        return False
    return True


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
