"""A network that has learnt nothing, beside one that has: the control of whoever reads hidden states."""

from __future__ import annotations

import copy

import torch

from ditlens.arguments import SEED, takes
from ditlens.lens.hooks import parts_of
from ditlens.models.embedding import TextEmbedding
from ditlens.models.model import MODEL, Model, on_the_usual_device


class Untrained(Model):
    """A model that samples what the trained one samples, while a transformer of random weights looks on.

    Both get the same latents and the same texts at every step; captures see the transformer of random weights,
    images and measurements are those of the trained one.

    Attributes:
        trained: The model whose images these are.
    """

    trained: Model

    @on_the_usual_device
    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, sigma: float, text: TextEmbedding) -> torch.Tensor:
        """The velocity of the trained model; the untrained transformer computes one, too, and nobody follows it."""
        super().__call__(latents, sigma, text)
        return self.trained(latents, sigma, text)


@takes(model=MODEL, seed=SEED)
@on_the_usual_device
def untrained(model: Model, seed: int = 0) -> Model:
    """A model whose hidden states are those of an untrained network of the same architecture, for `ditlens.probe`.

    >>> from ditlens.lens.study.run import plan_study, run_study
    >>> blank = dl.untrained(model)
    >>> bool((blank.sample(["a man"], [0]) == model.sample(["a man"], [0])).all())
    True
    >>> plan = plan_study(blank, ["a man", "a woman"], [0], "joint.*.image.out", sampling_steps=2)
    >>> control = run_study(blank, plan, "control")  # dl.probe(study, "smile", untrained=control)

    Args:
        model: The trained model. It is left as it is and shares all but the transformer.
        seed: Seed of the random weights.

    Returns:
        A model to capture from. It makes the same images as `model` does, so a study of it with the same prompts,
            seeds and settings has the same measurements.

    Raises:
        CaptureError: If the model runs in a backend that has no place for hooks.
    """
    parts_of(model)
    pipe = copy.copy(model.pipe)
    network = model.transformer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blank = type(network).from_config(network.config)
    if blank.dtype != model.dtype:
        blank = blank.to(model.dtype)
    pipe.register_modules(transformer=blank.to(model.device).eval())
    kind = type(f"Untrained{type(model).__name__}", (Untrained, type(model)), {})
    made = kind(pipe, f"untrained {model.name}", model.folder, world=model.world)
    made.trained, made.defaults = model, dict(model.defaults)
    return made
