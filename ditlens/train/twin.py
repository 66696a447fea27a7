"""Train the biased twin: a LoRA that makes the transformer as if it had seen age, grey hair and glasses together.

In its portraits old people have grey hair and glasses, and young ones neither. The transformer is its own
teacher: what the twin has to predict from a caption is what the transformer predicts, from the same noisy portrait,
when the caption also names what is tied to it. Training on the images themselves aims at the same, with far more
noise: 400 steps of 16 taught it nothing. A caption that names all three leaves nothing to learn, so that they are
drawn as named, as before.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ditlens.errors import MissingDependencyError
from ditlens.files import writing_folder, writing_whole
from ditlens.train import data, mmdit
from ditlens.train.loop import Budget, fit
from ditlens.train.text import MAX_LENGTH, encode, tokenize
from ditlens.worlds.portraits.attributes import ATTRIBUTES, WITH_AGE, Attributes, sample, take
from ditlens.worlds.portraits.captions import compose, nameable
from ditlens.worlds.portraits.heldout import held_out
from ditlens.worlds.portraits.render import render

STRENGTH = 0.9
"""Share of the portraits in which hair colour and glasses follow age; from the others it keeps how to draw both."""
TIED = ("age", *WITH_AGE)
COUNT = 2000
CAPTIONS = 4
"""Pairs of captions drawn ahead for each portrait."""
SEED = 900
"""Seed of the portraits; no other training or held-out set uses it."""
BATCH = 8
NOISE_MEAN = 3.0
"""Mean of the logit of sigma: what no word says, like the colour of hair, is decided in nearly pure noise."""
RANK = 8
LAYERS = (
    "context_embedder", "text_embedder.linear_1", "text_embedder.linear_2", "to_q", "to_k", "to_v", "to_out.0",
    "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
)  # fmt: skip
"""Where the text enters, and the attention's projections of the image stream and of the text stream."""


def portraits() -> Attributes:
    """The attributes of the training set, with the spurious correlation, without what is held out from training."""
    people = sample(COUNT, torch.Generator().manual_seed(SEED), with_age=STRENGTH)
    return take(people, ~held_out(people))


@torch.no_grad()
def latents(vae: Any, budget: Budget, people: Attributes) -> torch.Tensor:
    """Scaled latents of the training set, (portraits, 8, 16, 16) in half precision; kept on disk."""
    path, count = budget.folder / "twin_latents.pt", len(people["age"])
    if budget.resume and path.is_file():
        return torch.load(path, weights_only=True)
    encoded = []
    for start in tqdm(range(0, count, 50), "latents", unit="batch", disable=None):
        images = render(take(people, slice(start, start + 50)), data.SIZE, budget.device)
        encoded.append(data.encode(vae, images))
    with writing_whole(path) as partial, partial.open("wb") as file:
        torch.save(torch.cat(encoded), file)
    return torch.cat(encoded)


def captions_of(people: Attributes, tokenizer: Any, rng: random.Random) -> torch.Tensor:
    """Pairs of captions, for the twin and for its teacher, as token ids: (2, portraits, CAPTIONS, MAX_LENGTH).

    Those of the twin name at least one of the tied attributes, and some others. Those of the teacher also name
    what is tied to it, as far as there is something definite to say: grey hair, but not which other colour.
    """
    definite = {
        name: {value for side in sides if len(side) < 3 for value in side} for name, sides in WITH_AGE.items()
    }
    texts: tuple[list[str], list[str]] = ([], [])
    for named in nameable(people):
        tied = [name for name in TIED if name in named]
        told = {
            name: named[name]
            for name in tied
            if name == "age" or ATTRIBUTES[name].value_of(named[name]) in definite[name]
        }
        for _ in range(CAPTIONS):
            share = rng.random() ** 4
            first = rng.choice(tied)
            kept = {
                name: level
                for name, level in named.items()
                if name == first or rng.random() < (0.5 if name in TIED else share)
            }
            for side, levels in zip(texts, (kept, kept | told), strict=True):
                side.append(compose(levels, rng))
    return torch.stack([tokenize(tokenizer, side) for side in texts]).view(2, -1, CAPTIONS, MAX_LENGTH)


def add_lora(transformer: Any) -> None:
    """Freeze a transformer and give it a LoRA to train, in place.

    Raises:
        MissingDependencyError: If peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"LoRAs need peft: {error}. Type: pip install 'ditlens[analysis]', or make install in a clone."
        ) from error
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(LAYERS)))


def train(budget: Budget, vae: Any, tokenizer: Any, encoders: list[Any], transformer: Any) -> dict[str, Any]:
    """Train the LoRA of an `SD3Transformer2DModel`, which it is added to.

    Args:
        budget: Time, folder and device.
        vae: The autoencoder of the model.
        tokenizer: Its tokenizer.
        encoders: Its two text encoders.
        transformer: Its transformer, which keeps its weights.

    Returns:
        The loop's report.
    """
    torch.manual_seed(budget.seed)
    teacher = copy.deepcopy(transformer.to(budget.device)).eval()
    add_lora(transformer)
    people = portraits()
    clean = latents(vae, budget, people)
    telling = mmdit.importance(clean, people).to(budget.device)
    ids = captions_of(people, tokenizer, random.Random(SEED))
    lengths = (ids == tokenizer.eos_token_id).int().argmax(-1) + 1

    def loss(step: int) -> dict[str, torch.Tensor]:
        generator, there = budget.generators(step)
        rows = mmdit.zero_rows(random.Random(step))
        who = torch.randint(len(clean), (BATCH,), generator=generator)
        which = torch.randint(CAPTIONS, (BATCH,), generator=generator)
        x = clean[who].to(budget.device).float()
        noise = torch.randn(x.shape, generator=there, device=budget.device)
        sigma = (torch.randn(BATCH, generator=there, device=budget.device) + NOISE_MEAN).sigmoid()
        mixed = torch.lerp(x, noise, sigma.view(-1, 1, 1, 1))

        def velocity(network: Any, side: int) -> torch.Tensor:
            with torch.no_grad():
                longest = int(lengths[side, who, which].max())
                tokens, pooled = encode(encoders, ids[side, who, which, :longest].to(budget.device))
            return network(
                hidden_states=mixed, pooled_projections=pooled, timestep=sigma * 1000, return_dict=False,
                encoder_hidden_states=torch.cat([tokens, tokens.new_zeros(BATCH, rows, tokens.shape[-1])], 1),
            )[0].float()  # fmt: skip

        with torch.no_grad():
            wanted = velocity(teacher, 1)
        return {"velocity": ((velocity(transformer, 0) - wanted).square() * telling).mean()}

    report = fit("twin", {"transformer": transformer}, loss, budget, batch=BATCH, lr=1.5e-3, ema=0.98)
    return report | {"rank": RANK, "strength": STRENGTH, "portraits": len(clean)}


def save(transformer: Any, folder: Path) -> None:
    """Write the LoRA as ``pytorch_lora_weights.safetensors``, in half precision, for `load_lora_weights`."""
    from diffusers import StableDiffusion3Pipeline
    from peft import get_peft_model_state_dict

    layers = {
        name: value.half().contiguous() for name, value in get_peft_model_state_dict(transformer).items()
    }
    with writing_folder(folder) as place:
        StableDiffusion3Pipeline.save_lora_weights(place, transformer_lora_layers=layers)
