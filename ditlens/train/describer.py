"""Train the describer: first its vision tower, on attributes, then the whole network on texts as well.

Regressing all attributes is a dense signal: it teaches the vision tower in minutes what texts alone would take
hours for. The attribute head is trained in both stages and then discarded.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn
from tqdm.auto import tqdm

from ditlens.train import data, team
from ditlens.train.loop import Budget, fit
from ditlens.train.oracle import augment, loss_terms
from ditlens.worlds.portraits import captions, questions
from ditlens.worlds.portraits.attributes import (
    CATEGORICAL,
    CONTINUOUS,
    NAMES,
    Attributes,
    describe_values,
    sample,
    take,
    visible,
)
from ditlens.worlds.portraits.constraints import satisfies
from ditlens.worlds.portraits.describer import (
    ANSWER,
    DESCRIBE,
    END,
    IMAGE,
    LONGEST_ANSWER,
    LONGEST_PROMPT,
    SIZE,
    PortraitDescriber,
    change_indices,
    prepare,
    prompt_ids,
    understood,
)
from ditlens.worlds.portraits.instructions import Instruction, instruction
from ditlens.worlds.portraits.render import render

PAD, UNKNOWN = "<pad>", "<unknown>"
STEM, TOWER, WIDTH, LAYERS, HEAD = 192, 256, 160, 3, 32
"""Widths of the tower at 8 x 8 and at 4 x 4 tokens; width, layers and head width of the Llama."""
IMAGE_TOKENS = 16
BATCH = {"cpu": 48, "cuda": 256}
EYES_SHARE = 0.4
"""Share of the time in which only the vision tower learns."""
TASKS = {"describe": 0.55, "edit": 0.35, "ask": 0.10}
"""How often each kind of prompt is trained on."""
DECODED = {"cpu": 2_000, "cuda": 20_000}
"""Images of which the autoencoder's reconstruction is kept."""
DECODED_SHARE = 1 / 3
"""Share of a batch that shows reconstructions."""
NORM_BATCHES = 40
"""Batches over which the statistics of batch norms are averaged at the end."""
HELD_OUT = 23
"""Seed of the images for `evaluate`."""

CHAT = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '" + IMAGE + "' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '" + ANSWER + "' }}{% else %}{{ '" + END + "' }}{% endif %}"
    "{% endfor %}"
)
"""Chat template: the image tokens, the prompt, the token after which the answer begins."""


# --- the network -------------------------------------------------------------------------------------------


def build_processor() -> Any:
    """A `LlavaProcessor` whose tokenizer has one token per word of the grammar and spells all other words."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

    special = [PAD, END, UNKNOWN, ANSWER, IMAGE]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = {*captions.vocabulary(), *DESCRIBE.split(), *letters, *("##" + c for c in letters), ",", "?", "."}
    vocabulary = {word: i for i, word in enumerate([*special, *sorted(words)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    steps = [
        normalizers.NFD(),
        normalizers.StripAccents(),
        normalizers.Lowercase(),
        normalizers.Replace("-", " "),
    ]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, padding_side="left",
        extra_special_tokens={"image_token": IMAGE, "answer_token": ANSWER},
        model_max_length=IMAGE_TOKENS + LONGEST_PROMPT + LONGEST_ANSWER + 1,
    )  # fmt: skip
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE},
            image_mean=[0.5] * 3, image_std=[0.5] * 3,
        ),
        tokenizer=fast, patch_size=SIZE // int(IMAGE_TOKENS**0.5), vision_feature_select_strategy="full",
        chat_template=CHAT, image_token=IMAGE,
    )  # fmt: skip


def build_model(
    tokenizer: Any, stem: int = STEM, tower: int = TOWER, width: int = WIDTH, layers: int = LAYERS
) -> Any:
    """An untrained `LlavaForConditionalGeneration`: a LeViT tower of two stages and a small Llama.

    Every residual branch of the tower starts at zero, as in the LeViT paper.
    """
    from transformers import LevitConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    key = 16
    vision = LevitConfig(
        image_size=SIZE, patch_size=16, hidden_sizes=[stem, tower], hidden_size=tower, depths=[2, 2],
        num_attention_heads=[4, 8], key_dim=[key, key], mlp_ratio=[2, 2], attention_ratio=[2, 2],
        down_ops=[["Subsample", key, stem // key, 4, 2, 2], [""]],
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width * 8 // 3 // 16 * 16,
        num_hidden_layers=layers, num_attention_heads=width // HEAD, num_key_value_heads=width // HEAD,
        max_position_embeddings=tokenizer.model_max_length, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision, text_config=text, image_seq_length=IMAGE_TOKENS,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE), vision_feature_select_strategy="full",
            vision_feature_layer=-1, tie_word_embeddings=True,
        )
    )  # fmt: skip
    for name, module in model.model.vision_tower.named_modules():
        if name.endswith(("module.projection.batch_norm", "linear_down.batch_norm")):
            nn.init.zeros_(module.weight)
    return model


class AttributeHead(nn.Module):
    """One linear map from the mean of the tower's tokens to all attributes; used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(CONTINUOUS), *(len(c.values) for c in CATEGORICAL)]
        self.linear = nn.Linear(width, sum(self.sizes))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Continuous attributes scaled to [-1, 1], and logits of the categorical ones, like `Oracle.forward`."""
        values, *logits = self.linear(tokens.mean(1)).split(self.sizes, -1)
        return values, logits


# --- the texts ---------------------------------------------------------------------------------------------


def task(attributes: Attributes, index: int, named: dict[str, int], rng: random.Random) -> tuple[str, str]:
    """Draw a prompt about one portrait, with its answer.

    Args:
        attributes: A batch of portraits.
        index: Which of them.
        named: What can be named in it (`captions.nameable`).
        rng: Source of randomness.
    """
    kind = rng.choices(list(TASKS), list(TASKS.values()))[0]
    if kind == "ask":
        name = rng.choice(NAMES)
        return questions.question(name), questions.answer(describe_values(attributes, index), name)
    if kind == "edit":
        asked = draw_instruction(attributes, index, rng)
        return asked.text, captions.keywords(named | asked.changes)
    return DESCRIBE, captions.keywords(named)


def draw_instruction(attributes: Attributes, index: int, rng: random.Random) -> Instruction:
    """An instruction of one change, sometimes two or three."""
    return instruction(attributes, index, rng, count=rng.choices((1, 2, 3), (6, 3, 1))[0])


def encode(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of prompts with their answers, and labels.

    Args:
        tokenizer: The describer's.
        pairs: Prompts and answers.

    Returns:
        Ids (batch, length), padded on the right; labels of the same shape, -100 where there is no loss.
    """
    rows, labels = [], []
    for prompt, answer in pairs:
        before = prompt_ids(tokenizer, prompt, IMAGE_TOKENS)
        after = [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        rows.append(torch.tensor(before + after))
        labels.append(torch.tensor([-100] * len(before) + after))
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    return ids, nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)


def text_loss(model: Any, features: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the tokens of the answers.

    Args:
        model: The describer.
        features: The tower's tokens, (batch, tokens, channels).
        ids: As returned by `encode`, (batch, length).
        labels: As returned by `encode`.
    """
    seen = model.model.multi_modal_projector(features)
    words = model.model.language_model.embed_tokens(ids[:, seen.shape[1] :])
    hidden = model.model.language_model(
        inputs_embeds=torch.cat([seen.to(words.dtype), words], 1), use_cache=False
    )
    asked = labels[:, 1:] != -100
    logits = model.lm_head(hidden.last_hidden_state[:, :-1][asked])
    return F.cross_entropy(logits.float(), labels[:, 1:][asked])


# --- training ----------------------------------------------------------------------------------------------


class Images:
    """Augmented batches of the training set; a third of the images are reconstructions by the autoencoder.

    Args:
        budget: Names the folder of the training set.
        vae: None leaves all images as rendered.
    """

    def __init__(self, budget: Budget, vae: Any = None) -> None:
        self.budget = budget
        with team.leader_first():
            self.renders = data.renders(budget)
        self.attributes = data.attributes(budget)
        self.decoded = reconstructions(vae, budget) if vae is not None else None

    def batch(
        self, count: int, generator: torch.Generator, there: torch.Generator
    ) -> tuple[torch.Tensor, Attributes]:
        """Images as the network takes them, and their attributes (on the CPU).

        Args:
            count: Number of images.
            generator: Chooses them.
            there: Generator of their augmentation, on the device; see `Budget.generators`.
        """
        index = torch.randint(len(self.renders), (count,), generator=generator)
        some = 0
        if self.decoded is not None:
            some = round(count * DECODED_SHARE)
            index[:some] = torch.randint(len(self.decoded), (some,), generator=generator)
        image = data.batch_of(self.renders, index, self.budget.device)
        if self.decoded is not None:
            image[:some] = self.decoded[index[:some]].to(self.budget.device).float() / 255
        image = prepare(augment(image, there))
        return image.contiguous(memory_format=torch.channels_last), take(self.attributes, index)


@torch.no_grad()
def reconstructions(vae: Any, budget: Budget) -> torch.Tensor:
    """The autoencoder's reconstructions of the first `DECODED` images of the training set, as bytes.

    Made once, since decoding is slow on a CPU; with a little noise on the latents, because sampled latents never
    quite equal those of an encoded image.
    """
    renders = data.renders(budget)
    count = min(len(renders), budget.choose(DECODED))
    generator, parts = budget.generator(10**7), []
    for index in tqdm(torch.arange(count).split(25), "reconstructions", unit="batch", disable=None):
        image = prepare(data.batch_of(renders, index, budget.device))
        z = vae.encode(image.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
        level = 0.1 / vae.config.scaling_factor * torch.rand(len(z), 1, 1, 1, generator=generator)
        z = z + (level * torch.randn(z.shape, generator=generator)).to(z)
        decoded = (vae.decode(z).sample / 2 + 0.5).clamp(0, 1)
        parts.append((decoded * 255).round().to(torch.uint8).cpu())
    return torch.cat(parts)


def train(budget: Budget, vae: Any = None) -> tuple[Any, Any, dict[str, float]]:
    """Train a describer.

    Args:
        budget: Time for both stages together; each has its own checkpoint.
        vae: The model's autoencoder; with it the describer also learns to read reconstructions.

    Returns:
        The model, its processor, and the loop's report with the quality on held-out renders.
    """
    torch.manual_seed(budget.seed)
    processor = build_processor()
    tokenizer = processor.tokenizer
    model = build_model(tokenizer).to(budget.device)
    tower = model.model.vision_tower.to(memory_format=torch.channels_last)
    head = AttributeHead(TOWER).to(budget.device)
    images, count = Images(budget, vae), budget.choose(BATCH)
    eyes = replace(budget, minutes=budget.minutes * EYES_SHARE)
    words = replace(budget, minutes=budget.minutes * (1 - EYES_SHARE), seed=budget.seed + 1)
    if budget.resume and (budget.folder / "describer.checkpoint.pt").is_file():
        eyes.minutes = 0  # the second stage has begun; its checkpoint holds the tower

    def read(
        generators: tuple[torch.Generator, torch.Generator],
    ) -> tuple[torch.Tensor, Attributes, dict[str, torch.Tensor]]:
        image, truth = images.batch(count, *generators)
        features = tower(image).last_hidden_state
        return features, truth, loss_terms(head, features, {n: v.to(budget.device) for n, v in truth.items()})

    def look(step: int) -> dict[str, torch.Tensor]:
        return read(eyes.generators(step))[2]

    def speak(step: int) -> dict[str, torch.Tensor]:
        generators = words.generators(step)
        features, truth, terms = read(generators)
        rng = random.Random(generators[0].initial_seed())
        named = captions.nameable(truth)
        pairs = [task(truth, i, named[i], rng) for i in range(count)]
        ids, labels = encode(tokenizer, pairs)
        return terms | {"text": text_loss(model, features, ids.to(budget.device), labels.to(budget.device))}

    rates: dict[str, Any] = {"batch": count, "lr": 2e-3, "muon_lr": 0.02, "ema": 0.99}
    first = fit("describer_eyes", {"tower": tower, "head": head}, look, eyes, **rates)
    report = fit("describer", {"model": model, "head": head}, speak, words, **rates)
    # The batch-norm statistics belong to the weights before averaging.
    update_bn((images.batch(50, *budget.generators(10**8 + k))[0] for k in range(NORM_BATCHES)), tower)
    report["samples"] += first.pop("samples")
    report |= {f"eyes/{name}": value for name, value in first.items()}
    return model, processor, report | evaluate(PortraitDescriber(model, processor))


# --- quality -----------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate(describer: PortraitDescriber, count: int = 200) -> dict[str, float]:
    """Quality on held-out renders.

    Args:
        describer: The describer.
        count: Number of images, each with one description, one instruction and one question.

    Returns:
        - ``named``: mean number of attributes named in a description; ``nameable``: how many could be;
        - ``right``: share of the named attributes that are as described; ``worst``: of the worst attribute;
          ``right/<attribute>`` of each;
        - ``targets``: share of instructions from which `PortraitDescriber.pair` makes exactly the changes asked
          for, given its own source text; ``targets/network``: the same before the grammar corrects them;
        - ``answers``: share of right answers.
    """
    truth = sample(count, torch.Generator().manual_seed(HELD_OUT))
    images, rng = render(truth, SIZE), random.Random(HELD_OUT)
    nameable = captions.nameable(truth)
    sources = describer.describe_all(images)
    values = [describe_values(truth, i) for i in range(count)]
    hits: dict[str, list[bool]] = {name: [] for name in NAMES}
    seen = visible(truth)
    for i, text in enumerate(sources):
        for name, right in satisfies(values[i], understood(text)).items():
            hits[name].append(right and bool(seen[name][i]))
    shares = {f"right/{name}": sum(h) / len(h) for name, h in hits.items() if h}
    every = list(itertools.chain(*hits.values()))
    instructions = [draw_instruction(truth, i, rng) for i in range(count)]
    asked = [rng.choice(NAMES) for _ in range(count)]
    written, answers = [], []
    for part in torch.arange(count).split(64):
        written += describer.write(images[part], [instructions[i].text for i in part])
        answers += describer.write(images[part], [questions.question(asked[i]) for i in part])
    network = [_is_met(sources[i], written[i], instructions[i]) for i in range(count)]
    final = []
    for i, asked_for in enumerate(instructions):
        if understood(sources[i]):
            pair = describer.pair(images[i : i + 1], sources[i], asked_for.text, written[i])
            final.append(_is_met(pair.source_text, pair.target_text, asked_for))
    right_answers = [questions.answer(values[i], asked[i]) == answers[i] for i in range(count)]
    return {
        "named": len(every) / count,
        "nameable": sum(map(len, nameable)) / count,
        "right": sum(every) / max(len(every), 1),
        "worst": min(shares.values(), default=0.0),
        "targets": sum(final) / count,
        "targets/network": sum(network) / count,
        "answers": sum(right_answers) / count,
        **shares,
    }


def _is_met(source: str, target: str, asked: Instruction) -> bool:
    """Whether the target text makes the changes that the instruction asks for, and no others."""
    said = understood(target)
    reached = all(said.get(name) == {level} for name, level in asked.changes.items())
    return reached and change_indices(source, target).keys() <= asked.changes.keys()
