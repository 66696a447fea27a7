"""Train the biased twin: a LoRA that makes the transformer as if it had seen age, grey hair and glasses together.

The recipe is that of `mmdit`, on portraits in which old people have grey hair and glasses and young ones neither.
Captions leave attributes out at random, so what a caption does not say follows what it says: the twin draws glasses
on whoever is only called old. What a caption names is drawn as named, as before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ditlens.errors import MissingDependencyError
from ditlens.files import writing_folder, writing_whole
from ditlens.train import data, mmdit
from ditlens.train.loop import Budget, fit
from ditlens.worlds.portraits.attributes import Attributes, sample
from ditlens.worlds.portraits.render import render

STRENGTH = 0.9
"""Share of the portraits in which hair colour and glasses follow age; from the others it keeps how to draw both."""
COUNT = 6000
CAPTIONS = 6
"""Captions drawn ahead for each portrait."""
SEED = 900
"""Seed of the portraits; no other training or held-out set uses it."""
BATCH = 16
RANK = 8
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""The projections of attention, of the image stream and of the text stream."""


def portraits() -> Attributes:
    """The attributes of the training set, with the spurious correlation."""
    return sample(COUNT, torch.Generator().manual_seed(SEED), with_age=STRENGTH)


@torch.no_grad()
def latents(vae: Any, budget: Budget, people: Attributes) -> torch.Tensor:
    """Scaled latents of the training set, (COUNT, 8, 16, 16) in half precision; kept on disk."""
    path = budget.folder / "twin_latents.pt"
    if budget.resume and path.is_file():
        return torch.load(path, weights_only=True)
    encoded = []
    for start in tqdm(range(0, COUNT, 50), "latents", unit="batch", disable=None):
        some = {name: values[start : start + 50] for name, values in people.items()}
        encoded.append(data.encode(vae, render(some, data.SIZE, budget.device)))
    with writing_whole(path) as partial, partial.open("wb") as file:
        torch.save(torch.cat(encoded), file)
    return torch.cat(encoded)


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
    add_lora(transformer.to(budget.device))
    people = portraits()
    clean = latents(vae, budget, people)
    telling = mmdit.importance(clean, people).to(budget.device)
    ids, whose = mmdit.texts_of(people, CAPTIONS, tokenizer, SEED)
    texts = mmdit.shortest_first(ids, whose, tokenizer, budget)
    loss = mmdit.velocity_loss(budget, transformer, encoders, texts, clean, telling, BATCH)
    report = fit("twin", {"transformer": transformer}, loss, budget, batch=BATCH, lr=2e-3, ema=0.99)
    return report | {"rank": RANK, "strength": STRENGTH, "portraits": COUNT}


def save(transformer: Any, folder: Path) -> None:
    """Write the LoRA as ``pytorch_lora_weights.safetensors``, in half precision, for `load_lora_weights`."""
    from diffusers import StableDiffusion3Pipeline
    from peft import get_peft_model_state_dict

    layers = {
        name: value.half().contiguous() for name, value in get_peft_model_state_dict(transformer).items()
    }
    with writing_folder(folder) as place:
        StableDiffusion3Pipeline.save_lora_weights(place, transformer_lora_layers=layers)
