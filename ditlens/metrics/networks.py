"""Metrics that need a network's weights: LPIPS, CLIP similarity, DINO's structure distance. Nothing is downloaded.

They are computed where their weights are already on this computer: in the cache of the hub, in that of torch, or in
a folder that an environment variable names (DITLENS_CLIP, DITLENS_DINO). Where they are not, `open_networks` says
why, and what to type. The networks run on the CPU in single precision, so that their numbers do not depend on the
model's device.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from ditlens import images
from ditlens.description import one_reader_at_a_time
from ditlens.files import user_path
from ditlens.metrics.regions import check, described, structure_distance
from ditlens.models.identity import byte_hash, weights
from ditlens.models.loading import no_bars

CLIPS = ("openai/clip-vit-large-patch14", "openai/clip-vit-base-patch16", "openai/clip-vit-base-patch32")
"""Checkpoints to look for, in this order; PIE-Bench uses the first."""
DINOS = ("facebook/dino-vitb8",)
BACKBONE = "squeezenet1_1-b8a52dc0.pth"
"""File of torchvision's SqueezeNet 1.1 in torch's cache."""

DINO_SIDE, DINO_LONGEST = 224, 480
"""Shorter side of the image that DINO sees, and the largest longer one, as in PIE-Bench."""


class AbsentError(Exception):
    """A network cannot be used here; the message says why, and what to type."""


@dataclass(frozen=True)
class ImagePair:
    """An image before and after an edit, and what was asked.

    Attributes:
        source: Before, (1, 3, H, W) in [0, 1].
        result: After, of the same size.
        mask: (1, 1, H, W) with 1 where the edit may act; None if that is unknown.
        text: The target text.
    """

    source: torch.Tensor = field(repr=False)
    result: torch.Tensor = field(repr=False)
    mask: torch.Tensor | None = field(repr=False)
    text: str


class Network(Protocol):
    """One network, and the metrics that it gives.

    Attributes:
        about: Title, direction, unit and identity of each metric, by name; without the size of the images.
    """

    about: dict[str, dict[str, str]]

    def score(self, pair: ImagePair) -> dict[str, float]:
        """All its metrics of one edit; NaN where one has no value."""


def open_networks() -> tuple[list[Network], dict[str, str]]:
    """The networks that are on this computer, and why the others are not used, by "lpips", "dino" and "clip"."""
    found: list[Network] = []
    absent: dict[str, str] = {}
    kinds: dict[str, Callable[[], Network]] = {
        "lpips": Lpips.open,
        "dino": lambda: Dino.open(*_folder("DITLENS_DINO", DINOS)),
        "clip": lambda: Clip.open(*_folder("DITLENS_CLIP", CLIPS)),
    }
    for name, open_one in kinds.items():
        try:
            found.append(open_one())
        except AbsentError as why:
            absent[name] = str(why)
    return found, absent


def _folder(variable: str, ids: Sequence[str]) -> tuple[str, str, str]:
    """Name and folder of a checkpoint: what the variable names, or the first in the hub's cache; and what to type.

    Raises:
        AbsentError: If there is none.
    """
    from huggingface_hub import try_to_load_from_cache

    if given := os.environ.get(variable, "").strip():
        folder = user_path(given, AbsentError).resolve()
        if not folder.is_dir():
            raise AbsentError(f"{variable} names {given}, which is not a folder: set it to one, or unset it")
        return folder.name, str(folder), f"{variable} must name a folder as save_pretrained writes it"
    for name in ids:
        file = try_to_load_from_cache(name, "config.json")
        if isinstance(file, str):
            return name, str(Path(file).parent), f"hf download {name} brings what is missing"
    raise AbsentError(
        f"the weights of {ids[0]} are not in the local cache: hf download {ids[0]} brings them, or set {variable} "
        "to a folder that holds them"
    )


@contextlib.contextmanager
def _usable(what: str, advice: str) -> Iterator[None]:
    """Put any error into words, as an `AbsentError`: transformers and the libraries below it raise many kinds."""
    try:
        yield
    except AbsentError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise AbsentError(f"{what}: {reason}; {advice}") from error


def _load(kind: Any, folder: str, advice: str, **options: Any) -> Any:
    """A network of transformers from a folder: whole, float32, on the CPU.

    Raises:
        AbsentError: If it cannot be read, or lacks weights.
    """
    with _usable(f"{folder} holds no {kind.__name__}", advice), no_bars():
        network, report = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
        )
    if lacking := sorted(report["missing_keys"]):
        raise AbsentError(
            f"{folder} holds no whole {kind.__name__}: it lacks {len(lacking)} weights ({lacking[0]}); {advice}"
        )
    return network.eval().requires_grad_(False)


def digest(module: torch.nn.Module) -> str:
    """A short hash of a network's weights: checkpoints of the same name may differ."""
    found = [(name, tuple(tensor.shape), byte_hash(tensor)) for name, tensor in weights(module)]
    return hashlib.sha256(repr(found).encode()).hexdigest()[:8]


# --- LPIPS -------------------------------------------------------------------------------------------------


def pip_install(version: str) -> str:
    """What to type for lpips beside this version of torch, which stays, with the torchvision built for it."""
    build = version.partition("+")[2]
    index = f" --extra-index-url https://download.pytorch.org/whl/{build}" if build else ""
    return f"pip install torch=={version} torchvision lpips{index}"


class Lpips:
    """LPIPS outside the mask, by the package lpips with SqueezeNet: PIE-Bench's, and ours over background pixels.

    Args:
        network: ``lpips.LPIPS(net="squeeze")`` with its weights.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        how = "both pictures times (1 - mask), in [-1, 1], not resized"
        who = f"lpips 0.1 with SqueezeNet 1.1, weights {digest(network)}"
        pie = f"LPIPS over the whole frame; {how}; {who}; v1"
        ours = f"map of LPIPS averaged over background pixels; {how}; {who}; v1"
        self.about = {
            "lpips_outside": described("LPIPS outside the mask", "lower", "", ours),
            "lpips_pie": described("LPIPS, PIE-Bench's convention", "lower", "", pie),
        }

    @classmethod
    def open(cls) -> Lpips:
        """With the backbone from torch's cache.

        Raises:
            AbsentError: If the package or the backbone is not here.
        """
        file = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
        fetch = "python -c \"import lpips; lpips.LPIPS(net='squeeze')\""
        pip = pip_install(torch.__version__)
        advice = f"install the torchvision that belongs to torch: {pip}"  # it may have been built for another
        with _usable("lpips cannot be imported", advice):
            try:
                import lpips
            except ModuleNotFoundError as error:
                raise AbsentError(
                    f"the package {error.name} is not installed: {pip}, then once {fetch} brings the weights"
                ) from error
        if not file.is_file():
            raise AbsentError(f"{file} is missing: {fetch} brings it")
        with _usable(f"{file} cannot be used", f"delete it, then {fetch} brings it again"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # lpips calls torchvision by a deprecated name
                network = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
            saved = torch.load(file, map_location="cpu", weights_only=True)
            # lpips cuts the backbone into slices: slice3.5.squeeze.weight is features.5.squeeze.weight
            own = {name: saved[f"features.{name.partition('.')[2]}"] for name in network.net.state_dict()}
            network.net.load_state_dict(own)
        return cls(network.eval().requires_grad_(False))

    @torch.no_grad()
    def score(self, pair: ImagePair) -> dict[str, float]:
        """See `Network.score`."""
        if pair.mask is None or not bool((pair.mask < 1).any()):
            return dict.fromkeys(self.about, float("nan"))
        check(pair.source, pair.result, pair.mask)
        kept = 1 - pair.mask.float()
        first, second = (2 * (kept * image.float()) - 1 for image in (pair.source, pair.result))
        self.network.spatial = True
        ours = (kept * self.network(first, second)).sum() / kept.sum()
        self.network.spatial = False
        return {"lpips_outside": float(ours), "lpips_pie": float(self.network(first, second))}


# --- CLIP --------------------------------------------------------------------------------------------------


class Clip:
    """Cosine similarity of an image and a text in CLIP.

    Args:
        model: A `transformers.CLIPModel`.
        tokenizer: Its tokenizer.
        processor: Its image processor.
        name: The checkpoint, for the identity.
    """

    def __init__(self, model: Any, tokenizer: Any, processor: Any, name: str) -> None:
        self.model, self.tokenizer, self.processor = model, tokenizer, processor
        self.limit: int = model.config.text_config.max_position_embeddings
        identity = (
            f"cosine of the whole picture and the target text, {name}, weights {digest(model)}; texts are cut "
            f"after {self.limit} tokens; PIE-Bench's is 100 times as large and at least 0; v1"
        )
        self.about = {"clip_similarity": described("CLIP similarity", "higher", "cosine", identity)}

    @classmethod
    def open(cls, name: str, folder: str, advice: str) -> Clip:
        """From a folder with model, tokenizer and processor.

        Args:
            name: The checkpoint.
            folder: The folder.
            advice: What to type if something is missing in it.

        Raises:
            AbsentError: If it cannot be used.
        """
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        model = _load(CLIPModel, folder, advice)
        with _usable(f"{folder} lacks tokenizer or processor", advice):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        return cls(model, tokenizer, processor, name)

    @torch.no_grad()
    def score(self, pair: ImagePair) -> dict[str, float]:
        """See `Network.score`."""
        if not pair.text.strip():
            return {"clip_similarity": float("nan")}
        read = one_reader_at_a_time(self.tokenizer)
        words = read([pair.text], truncation=True, max_length=self.limit, return_tensors="pt")
        pixels = self.processor(images=images.to_image(pair.result), return_tensors="pt")["pixel_values"]
        out = self.model(**words, pixel_values=pixels)
        return {"clip_similarity": float(F.cosine_similarity(out.image_embeds, out.text_embeds)[0])}


# --- DINO --------------------------------------------------------------------------------------------------


class Dino:
    """PIE-Bench's structure distance: keys of DINO's last block, all with all, before and after.

    Args:
        model: A `transformers.ViTModel` without a pooling layer.
        name: The checkpoint, for the identity.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        identity = (
            f"mean squared difference of the cosine self-similarity of the last block's keys, {name}, weights "
            f"{digest(model)}; whole pictures scaled to a shorter side of {DINO_SIDE}, values 0 to 255 with "
            "ImageNet's mean and deviation for 0 to 1, as in PIE-Bench's code; v1"
        )
        self.about = {
            "structure_pie": described("structure distance, PIE-Bench's convention", "lower", "", identity)
        }

    @classmethod
    def open(cls, name: str, folder: str, advice: str) -> Dino:
        """From a folder with a ViT; the arguments and errors are those of `Clip.open`."""
        from transformers import ViTModel

        return cls(_load(ViTModel, folder, advice, add_pooling_layer=False), name)

    @torch.no_grad()
    def score(self, pair: ImagePair) -> dict[str, float]:
        """See `Network.score`."""
        first, second = self.keys(pair.source), self.keys(pair.result)
        return {"structure_pie": float(structure_distance(first, second)[0])}

    def keys(self, image: torch.Tensor) -> torch.Tensor:
        """Keys of the last block for an image (1, 3, H, W): (1, width, places, 1), all heads side by side."""
        seen: list[torch.Tensor] = []
        last = [m for name, m in self.model.named_modules() if name.endswith(("k_proj", "attention.key"))][-1]
        handle = last.register_forward_hook(lambda *call: seen.append(call[-1]))
        try:
            self.model(self.pixels(image), interpolate_pos_encoding=True)
        finally:
            handle.remove()
        return seen[0].transpose(1, 2)[..., None]

    @staticmethod
    def pixels(image: torch.Tensor) -> torch.Tensor:
        """An image (1, 3, H, W) in [0, 1] as PIE-Bench passes it, with its quirk: 0 to 255 in place of 0 to 1."""
        scale = min(DINO_SIDE / min(image.shape[-2:]), DINO_LONGEST / max(image.shape[-2:]))
        size = [round(side * scale) for side in image.shape[-2:]]
        resized = F.interpolate(image.float() * 255, size, mode="bilinear", antialias=True)
        mean, std = resized.new_tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
        return (resized - mean) / std
