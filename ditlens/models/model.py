"""A diffusers pipeline with the few verbs that the rest of ditlens needs."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from PIL import Image

from ditlens import flow, images
from ditlens.arguments import (
    COUNT,
    LATENTS,
    NAME,
    NUMBER,
    ON_STEP,
    PIXELS,
    SEED,
    SEEDS,
    TEXT,
    TEXTS,
    Kind,
    instance,
    list_of,
    shown,
    takes,
)
from ditlens.cards import Carded, Folded, Piece, Table
from ditlens.description import Describer, one_reader_at_a_time
from ditlens.errors import ModelError
from ditlens.files import read_json
from ditlens.labels import Label, announce
from ditlens.models.embedding import TextEmbedding
from ditlens.models.profiles import Profile
from ditlens.tables import counted, progress_bar, spoken
from ditlens.worlds.world import Continuous, World, missing_of, open_world

SIZE = Kind(
    "height and width in pixels, e.g. (512, 512)",
    lambda value: list_of(COUNT, "").fits(value) and len(value) == 2,
)

T5_ROWS = 256
"""Rows of the token matrix that the third text encoder writes, as in diffusers."""


P = ParamSpec("P")
R = TypeVar("R")


def on_the_usual_device(method: Callable[P, R]) -> Callable[P, R]:
    """Let networks make their tensors as always, also where PyTorch's default device is another."""

    @wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        usual = torch.get_default_device().type == "cpu"
        with contextlib.nullcontext() if usual else torch.device("cpu"):
            return method(*args, **kwargs)

    return run


def check_defaults(defaults: Mapping[str, Any], where: str) -> None:
    """Refuse settings of a model that are no numbers.

    Raises:
        ModelError: If steps or guidance are wrong.
    """
    steps, guidance = defaults["steps"], defaults["guidance"]
    if (
        type(steps) is not int
        or steps < 1
        or isinstance(guidance, bool)
        or not isinstance(guidance, int | float)
    ):
        raise ModelError(
            f"{where} has steps {steps!r} and guidance {guidance!r}: steps is a whole number from 1, guidance a "
            "number."
        )


def shift_of(tokens: int, config: Any) -> float:
    """The shift mu of a scheduler with dynamic shifting: linear in the number of image tokens, as in diffusers."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return base + (top - base) * (tokens - low) / (high - low)


class Model(Carded):
    """A diffusers SD3 pipeline with named verbs; also the `VelocityField` that `ditlens.flow` integrates.

    `ditlens.models.flux.FluxModel` is the same for FLUX.

    Attributes:
        pipe: The pipeline, untouched.
        name: What it was loaded as.
        folder: Its folder, if it is local.
        world: The domain with exact ground truth that it belongs to, if any: measures and describes its images.
        defaults: Settings that the model prefers: steps, guidance, edit method, mask (from ``ditlens.json``).
        profile: How it was fitted to the memory, if `load` did that.

    Example:
        >>> images = model.sample(["a big smile", "a frown"], seeds=[0, 1], steps=2)
        >>> images.shape
        torch.Size([2, 3, 128, 128])
        >>> model.encode_image(images).shape
        torch.Size([2, 8, 16, 16])
    """

    profile: Profile | None = None
    pipeline = "StableDiffusion3Pipeline"
    """Class of the pipelines that it wraps."""
    backend = "torch"
    """What computes; `ditlens.load` explains it."""
    no_hooks: str = ""
    """Why nothing can be captured and changed inside, in a backend where that is so."""

    @takes(name=NAME, folder=instance("a pathlib.Path of its folder", Path))
    def __init__(
        self, pipe: Any, name: str = "model", folder: Path | None = None, *, world: World | None = None
    ) -> None:
        if not self.fits(pipe):
            raise ModelError(not_wrapped(pipe, self.pipeline))
        self.pipe, self.name, self.folder, self.world = pipe, name, folder, world
        self._placed: tuple[Any, Any, Any] = (
            None,
            None,
            None,
        )  # where weights are; where and in what it computes
        self.sigmas(2)  # refuses schedulers that are none of rectified flow
        if world is not None and (missing := missing_of(world)):
            raise ModelError(
                f"world is {type(world).__name__}, which lacks {', '.join(missing)}: see ditlens.worlds.world.World"
            )
        settings = folder / "ditlens.json" if folder else None
        self.defaults: dict[str, Any] = {"steps": 28, "guidance": self.usual_guidance}
        if settings is not None and settings.is_file():
            self.defaults |= read_json(settings, "settings of a model", ModelError)
        check_defaults(self.defaults, str(settings))
        if world is None and self.defaults.get("world") is not None:
            try:
                self.world = open_world(self.defaults["world"], folder, self.device)
            except ModelError as error:
                raise ModelError(f"{settings} names a world that is not there. {error}") from error

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.transformer.parameters()) / 1e6
        return f"Model({self.name!r}, {size:.1f} M parameters, {self.side} x {self.side}, {self.device})"

    def _card(self) -> list[Piece]:
        config, side = self.transformer.config, self.side // self.pipe.vae_scale_factor
        joint, single = config.num_layers, config.get("num_single_layers") or 0
        blocks = f"{joint} joint and {single} single blocks" if single else f"{joint} joint blocks"
        width = config.num_attention_heads * config.attention_head_dim
        latents = f"{self.latent_channels} x {side} x {side}, which are {(side // self.patch) ** 2} tokens"
        parts = self.pipe.components.items()
        encoders = [type(part).__name__ for name, part in parts if name.startswith("text_encoder") and part]
        rows = [
            ("transformer", f"{type(self.transformer).__name__}: {blocks}, width {width}"),
            ("images", f"{self.side} x {self.side}, as latents {latents}"),
            ("texts", ", ".join(encoders)),
            ("by default", f"{self.defaults['steps']} steps, guidance {self.defaults['guidance']:g}"),
            ("weights", f"{str(self.dtype).removeprefix('torch.')}, on {self.device}"),
        ]
        return [repr(self), Table(rows), *([] if self.world is None else [in_words(self.world)])]

    @classmethod
    def fits(cls, pipe: Any) -> bool:
        """Whether a pipeline is of the class that this one wraps, or is derived from it."""
        return any(kind.__name__ == cls.pipeline for kind in type(pipe).__mro__)

    @property
    def distilled(self) -> bool:
        """Whether guidance is an input of the transformer, and not a second, empty prompt."""
        return False

    @property
    def usual_guidance(self) -> float:
        """Guidance where ``ditlens.json`` names none."""
        return 7.0

    # --- parts ---------------------------------------------------------------------------------------

    @property
    def transformer(self) -> Any:
        return self.pipe.transformer

    @property
    def vae(self) -> Any:
        return self.pipe.vae

    @property
    def device(self) -> torch.device:
        """Where it computes; offloaded weights lie elsewhere in the meantime."""
        return self._place()[1]

    @property
    def dtype(self) -> torch.dtype:
        """The number format in which it computes."""
        return self._place()[2]

    def _place(self) -> tuple[Any, Any, Any]:
        module = self.transformer
        weight = next(module.parameters())
        # diffusers asks all modules, which takes 2 ms; these tell whether its answers may have changed
        hooks = hasattr(module, "_hf_hook"), hasattr(module, "_diffusers_hook")
        placed = id(module), weight.device, weight.dtype, *hooks
        if placed != self._placed[0]:
            self._placed = placed, self.pipe._execution_device, module.dtype
        return self._placed

    @property
    def side(self) -> int:
        """Native height and width of images, in pixels."""
        return self.transformer.config.sample_size * self.pipe.vae_scale_factor

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.transformer.config.in_channels

    @property
    def patch(self) -> int:
        """Side of the square of latents that is one image token."""
        return self.transformer.config.patch_size

    @property
    def row_tokenizer(self) -> Any:
        """The tokenizer whose tokens are the first rows of a text's token matrix."""
        return self.pipe.tokenizer

    @cached_property
    def describer(self) -> Describer | None:
        """Who describes images of the model's world; None without a world."""
        return None if self.world is None else self.world.describer

    # --- texts ---------------------------------------------------------------------------------------

    @takes(prompts=TEXTS)
    @one_reader_at_a_time
    @on_the_usual_device
    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str]) -> TextEmbedding:
        """Embed prompts exactly as the pipeline does.

        Args:
            prompts: One or more texts.

        Returns:
            Tokens (batch, tokens, width), pooled (batch, width), and the mask of real tokens, where padding
            and rows of zeros (the absent third encoder of a small model) are False.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        third = self.pipe.text_encoder_3 is not None
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            prompts, prompts, prompts, do_classifier_free_guidance=False, device=self.device,
            max_sequence_length=T5_ROWS if third else 0,
        )  # fmt: skip
        clip = self.pipe.tokenizer_max_length
        mask = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        mask[:, :clip] = self.real_rows(self.pipe.tokenizer, prompts, clip)
        if third:
            mask[:, clip:] = self.real_rows(self.pipe.tokenizer_3, prompts, T5_ROWS)
        return TextEmbedding(tokens, pooled, mask, tuple(prompts), ("cond",) * len(prompts))

    @one_reader_at_a_time
    def real_rows(self, tokenizer: Any, prompts: list[str], rows: int) -> torch.Tensor:
        """Which rows of an encoder hold tokens of the prompt, with start and end marks: (batch, rows), bool."""
        counted = tokenizer(prompts, truncation=True, max_length=rows, padding="max_length")
        return torch.tensor(counted.attention_mask, device=self.device).bool()

    # --- images --------------------------------------------------------------------------------------

    def prepare(self, image: images.ImageLike) -> torch.Tensor:
        """Read an image and fit it to the model: (1, 3, height, width), values in [0, 1].

        A model whose position table is as small as its native size (portraits) takes centred squares; others
        keep the image's shape at about the native area.

        Raises:
            ImageError: If it cannot be read.
        """
        return self.fit(images.open_image(image))

    def fit(self, image: Image.Image) -> torch.Tensor:
        """An upright RGB image fitted to the model, as `prepare` does."""
        multiple = self.pipe.vae_scale_factor * self.patch
        width, height = images.sizes(image, self.side, multiple, self.square)
        return images.to_tensor(images.fit(image, width, height))

    def latent_size(self, pixels: torch.Tensor) -> tuple[int, int]:
        """Height and width of the latents of images (batch, 3, height, width)."""
        scale = self.pipe.vae_scale_factor
        return pixels.shape[-2] // scale, pixels.shape[-1] // scale

    @property
    def square(self) -> bool:
        """Whether the position table is as small as the native size, so that it takes squares only."""
        config = self.transformer.config
        return config.pos_embed_max_size * config.patch_size <= config.sample_size

    @takes(pixels=PIXELS)
    @on_the_usual_device
    @torch.no_grad()
    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Latents of images: the posterior's mode, shifted and scaled as the transformer expects.

        Args:
            pixels: (batch, 3, height, width), values in [0, 1].

        Returns:
            (batch, channels, height / 8, width / 8), float32.
        """
        config = self.vae.config
        z = self.vae.encode(pixels.to(self.device, self.vae.dtype) * 2 - 1).latent_dist.mode().float()
        return (z - config.shift_factor) * config.scaling_factor

    @takes(latents=LATENTS)
    @on_the_usual_device
    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images of latents: (batch, 3, height, width), values in [0, 1], float32, on the CPU."""
        config = self.vae.config
        z = latents.to(self.device) / config.scaling_factor + config.shift_factor
        return (self.vae.decode(z.to(self.vae.dtype)).sample.float() / 2 + 0.5).clamp(0, 1).cpu()

    # --- the flow ------------------------------------------------------------------------------------

    @on_the_usual_device
    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, sigma: float, text: TextEmbedding) -> torch.Tensor:
        """The velocity field: ``noise - clean`` as predicted at noise level `sigma` under `text`, float32.

        diffusers calls this output `noise_pred`; it is a velocity. The transformer is fed 1000 * sigma.
        """
        device, dtype = self.device, self.dtype
        timestep = torch.full((len(latents),), float(sigma) * 1000, dtype=torch.float32, device=device)
        with announce(Label(text.roles, text.prompts, text.mask)):  # for captures and interventions
            return self.transformer(
                hidden_states=latents.to(device, dtype),
                encoder_hidden_states=text.tokens.to(device, dtype),
                pooled_projections=text.pooled.to(device, dtype),
                timestep=timestep,
                return_dict=False,
            )[0].float()

    @takes(steps=COUNT)
    @on_the_usual_device
    def sigmas(self, steps: int) -> torch.Tensor:
        """Noise levels of the model's own scheduler, (steps + 1,), from 1 down to 0.

        Raises:
            SettingError: If there are no steps.
            ModelError: If the scheduler is none of rectified flow with one level for each step.
        """
        scheduler = copy.deepcopy(self.pipe.scheduler)
        settings = self.grid_settings(steps)
        if scheduler.config.get("use_dynamic_shifting"):  # by the number of image tokens, at the native size
            tokens = (self.side // self.pipe.vae_scale_factor // self.patch) ** 2
            settings["mu"] = shift_of(tokens, scheduler.config)
        try:
            scheduler.set_timesteps(**settings)
            levels = scheduler.sigmas.float().cpu()
        except (AttributeError, TypeError, ValueError):  # diffusion schedulers have no such levels
            levels = torch.zeros(0)
        if len(levels) != steps + 1 or not levels.diff().lt(0).all() or levels[0] > 1.001 or levels[-1] != 0:
            raise ModelError(
                f"The scheduler of this pipeline, {type(scheduler).__name__}, has no noise levels of rectified "
                "flow, one for each step from 1 down to 0. Give it back its own: pipe.scheduler = "
                "FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)."
            )
        return levels

    def grid_settings(self, steps: int) -> dict[str, Any]:
        """What the pipeline tells its scheduler."""
        return {"num_inference_steps": steps}

    @takes(seeds=SEEDS, size=SIZE)
    def noise(self, seeds: Sequence[int], size: tuple[int, int] | None = None) -> torch.Tensor:
        """Starting noise, one seed per image, drawn on the CPU: the same on every device.

        Args:
            seeds: One seed per image.
            size: Height and width in pixels; native by default.
        """
        scale = self.pipe.vae_scale_factor
        height, width = size or (self.side, self.side)
        shape = (self.latent_channels, height // scale, width // scale)
        generators = flow.seeded_generators(seeds, len(seeds))
        return torch.stack([flow.normal(shape, g) for g in generators]).to(self.device)

    @takes(
        prompts=TEXTS, seeds=SEEDS, steps=COUNT, guidance=NUMBER, negative_prompt=TEXT, on_step=ON_STEP,
    )  # fmt: skip
    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        on_step: Callable[[flow.FlowState], object] | None = None,
    ) -> torch.Tensor:
        """Images of prompts as a tensor (batch, 3, height, width); see `generate`."""
        steps = self.defaults["steps"] if steps is None else steps
        guidance = self.defaults["guidance"] if guidance is None else guidance
        text = self.encode_text(prompts)
        null_text = self.encode_text(negative_prompt).named("uncond") if guidance != 1 else None
        with progress_bar("sample, steps", on_step is None) as show:
            latents = flow.sample(
                self, self.noise(seeds), self.sigmas(steps), text, null_text=null_text, guidance=guidance,
                on_step=on_step or (lambda state: show(state.step + 1, steps)),
            )  # fmt: skip
        return self.decode(latents)

    @takes(
        prompt=TEXT | Kind("for several texts use model.sample(prompts, seeds)", lambda value: False),  # noqa: ARG005
        seed=SEED, steps=COUNT, guidance=NUMBER, negative_prompt=TEXT, on_step=ON_STEP,
    )  # fmt: skip
    def generate(
        self,
        prompt: str,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        on_step: Callable[[flow.FlowState], object] | None = None,
    ) -> Image.Image:
        """Make one image from a text.

        Args:
            prompt: What it shows.
            seed: The same seed gives the same image.
            steps: Euler steps; the model's own number by default.
            guidance: Classifier-free guidance, ``null + guidance * (text - null)``; the model's own by default.
            negative_prompt: Text in the place of the null text.
            on_step: Called with the `FlowState` after every step.

        Returns:
            An image of the model's native size.

        Warns:
            UserWarning: If the model's world has no word for something in the prompt.

        Raises:
            SettingError: If the prompt is not one text, or the seed or the steps are wrong.
        """
        for remark in [] if self.world is None else self.world.check_caption(prompt):
            warnings.warn(remark, stacklevel=3)
        pixels = self.sample(
            [prompt], [seed], steps=steps, guidance=guidance, negative_prompt=negative_prompt, on_step=on_step
        )
        return images.to_image(pixels)


def in_words(world: World) -> Folded:
    """The attributes of a world, and the words for their levels."""
    rows = []
    for name, spec in world.attributes.items():
        words = [level.words for level in spec.levels] if isinstance(spec, Continuous) else spec.words
        rows.append((spoken(name), ", ".join(phrases[0] for phrases in words)))
    title = f"{counted(len(rows), 'attribute')} that are measured, and the words for their levels"
    return Folded(title, [Table(rows, ("attribute", "from low to high, or its values"))])


MODEL = instance("a model: ditlens.load('portraits'), or ditlens.wrap(pipe) around your own pipeline", Model)
"""What an argument `model` may be where images are made or edited."""


def not_wrapped(pipe: Any, wanted: str) -> str:
    """Why an object is not a pipeline that a class of models wraps, and what to type."""
    if isinstance(pipe, Model):
        return f"pipe is already a model, {pipe.name!r}: use it as it is."
    if isinstance(pipe, str | Path):
        return f"pipe is {pipe!r}, a name; load models by name with ditlens.load({str(pipe)!r})."
    name, known = type(pipe).__name__, ("StableDiffusion3Pipeline", "FluxPipeline")
    if name in known:
        return (
            f"pipe is a {name}, and this class wraps a {wanted}: ditlens.wrap(pipe) chooses the right class."
        )
    if not name.endswith("Pipeline"):
        return f"pipe is {shown(pipe)}; give a diffusers pipeline, one of {', '.join(known)}."
    return (
        f"pipe is a {name}; ditlens makes and edits images with {' and '.join(known)}. Capturing and intervening "
        "(ditlens.capture) work with it as it is: pass the pipeline."
    )
