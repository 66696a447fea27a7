"""The describer: a small multimodal model that describes portraits, carries out instructions and answers questions.

The network is a stock `LlavaForConditionalGeneration`: a LeViT tower (convolutions, then attention) turns the image
into a few tokens, and a small Llama continues them with text. It takes three kinds of prompts: `DESCRIBE`, an
instruction, and a question. Its answer to an instruction is checked and corrected by the grammar, so that the two
texts differ only in the edit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from ditlens import images
from ditlens.description import Description, one_reader_at_a_time
from ditlens.errors import CaptionError, DescriberError, ModelError
from ditlens.files import writing_folder
from ditlens.worlds.portraits.attributes import attribute, describe_values
from ditlens.worlds.portraits.captions import LONGEST_CAPTION, caption_all, compose
from ditlens.worlds.portraits.constraints import known_levels, pick
from ditlens.worlds.portraits.edits import command, commands
from ditlens.worlds.portraits.instructions import parse_instruction
from ditlens.worlds.portraits.oracle import Oracle
from ditlens.worlds.portraits.pairs import CaptionPair, target_caption
from ditlens.worlds.portraits.phrases import Constraints, count_tokens, normalise, phrase
from ditlens.worlds.portraits.questions import question
from ditlens.worlds.portraits.reading import parse

if TYPE_CHECKING:
    from PIL import Image


NAME = "portraits describer"
SIZE = 128
"""Height and width of the images that the network sees; others are resized."""

IMAGE, ANSWER, END = "<image>", "<answer>", "<end>"
"""Special tokens: in place of each image token; after the prompt; after the answer."""

DESCRIBE = "describe the picture"
"""The prompt that asks for a description."""

LONGEST_PROMPT = 80
"""Upper limit for the tokens of a prompt; the rest is cut."""

LONGEST_ANSWER = 64
"""Upper limit for the tokens of an answer."""

MISSING = (
    "Type `ditlens train describer` to train one, or restore data/models from the repository. "
    "Without it, give both texts: source_text= and target_text=."
)


class PortraitDescriber:
    """Describes portraits with the small network; implements `ditlens.description.Describer`.

    Args:
        model: A `LlavaForConditionalGeneration` as trained by `ditlens.train.describer`.
        processor: Its processor; only the tokenizer is used here.
    """

    name = NAME

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model.eval()
        self.processor = processor

    # --- the network -----------------------------------------------------------------------------------

    @torch.no_grad()
    def write(self, pictures: torch.Tensor, prompts: list[str]) -> list[str]:
        """Greedily decoded answers of the network, one for each image and prompt.

        Args:
            pictures: (batch, 3, height, width), values in [0, 1].
            prompts: One per image, normalised.
        """
        device = next(self.model.parameters()).device
        pixels = prepare(pictures.to(device, torch.float32))
        places = self.model.config.image_seq_length
        ids = [prompt_ids(self.processor.tokenizer, prompt, places) for prompt in prompts]
        texts = [""] * len(prompts)
        for length in {len(row) for row in ids}:  # prompts of one length need no padding
            rows = [i for i, row in enumerate(ids) if len(row) == length]
            tokens = torch.tensor([ids[i] for i in rows], device=device)
            prompt = {
                "input_ids": tokens,
                "attention_mask": torch.ones_like(tokens),
                "pixel_values": pixels[rows],
            }
            written = self.model.generate(
                **prompt, max_new_tokens=LONGEST_ANSWER, do_sample=False, num_beams=1
            )
            answers = self.processor.tokenizer.batch_decode(written[:, length:], skip_special_tokens=True)
            for i, answer in zip(rows, answers, strict=True):
                texts[i] = normalise(answer)
        return texts

    # --- reading images --------------------------------------------------------------------------------

    def describe_all(self, pictures: torch.Tensor) -> list[str]:
        """Descriptions of images: everything that can be named, in fixed order.

        Args:
            pictures: (batch, 3, height, width), values in [0, 1].
        """
        texts: list[str] = []
        for part in pictures.split(64):
            texts += [_short(text) for text in self.write(part, [DESCRIBE] * len(part))]
        return texts

    def describe(self, image: images.ImageLike) -> str:
        """A description of one image."""
        return self.describe_all(_tensor(image))[0]

    def answer(self, image: images.ImageLike, question: str) -> str:
        """Answer a question about an image, e.g. ``"what color is the hair?"``.

        `ditlens.worlds.portraits.questions` lists the questions of its training.
        """
        text = normalise(question)
        return self.write(_tensor(image), [text if text.endswith("?") else text + "?"])[0]

    # --- texts for an edit -----------------------------------------------------------------------------

    def extract(self, image: Image.Image, instruction: str) -> Description:
        """What the image shows, and what it should show after the edit.

        A description names no value between two levels; the network is asked about those that are to change.

        Raises:
            CaptionError: If the instruction asks for nothing that this world knows, or contradicts itself.
            DescriberError: If the network's description is not that of a portrait.
        """
        picture = _tensor(image)
        source = self.describe_all(picture)[0]
        if not understood(source):
            raise DescriberError(
                f"The image could not be read as a portrait of this world; it was described as {source!r}. "
                'Give both texts: source_text="young person, slight smile", target_text="...".'
            )
        return _description(self.pair(picture, source, instruction), self.name)

    def pair(
        self, picture: torch.Tensor, source: str, instruction: str, written: str | None = None
    ) -> CaptionPair:
        """The source text and its target, equal token by token except for the edit.

        Attributes that the instruction concerns and the source text does not mention are asked about first.

        Args:
            picture: (1, 3, height, width), values in [0, 1].
            source: Description of the image.
            instruction: What to change.
            written: The network's answer to the instruction, if it is known already.

        Raises:
            CaptionError: If nothing is understood of the source or the instruction.
        """
        said = parse(source)
        unsaid = [name for name in parse_instruction(instruction, source=said) if name not in said]
        levels = self._ask(picture, unsaid)
        if written is None:
            written = self.write(picture, [in_own_words(instruction, _known(said, levels))])[0]
        return reconcile(source, instruction, written, levels)

    def _ask(self, picture: torch.Tensor, names: list[str]) -> dict[str, int]:
        """The levels in the network's answers, where they are usable."""
        if not names:
            return {}
        answers = self.write(picture.expand(len(names), -1, -1, -1), [question(name) for name in names])
        found = {name: understood(text).get(name) for name, text in zip(names, answers, strict=True)}
        return {name: pick(name, allowed) for name, allowed in found.items() if allowed}

    # --- files -----------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write half-precision weights, configuration and processor, as `from_pretrained` wants them.

        Batch-norm statistics are stored in single precision, and the model computes in it.
        """
        state = {
            name: value.half() if value.is_floating_point() and "batch_norm" not in name else value
            for name, value in self.model.state_dict().items()
        }
        with writing_folder(folder) as place:
            self.model.save_pretrained(place, state_dict=state)
            self.processor.save_pretrained(place)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> PortraitDescriber:
        """Load a saved describer.

        Raises:
            ModelError: If files are missing or cannot be read; the message says what to type.
        """
        files = ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json")
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                f"No describer in {folder} ({', '.join(missing)} missing): images cannot be described. "
                + MISSING
            )
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils import logging

        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True
            )
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # a damaged file raises any of a dozen types
            raise ModelError(f"The describer in {folder} cannot be read: {error}. {MISSING}") from error
        finally:
            if bars:
                logging.enable_progress_bar()
        return cls(model.to(device), processor)


class OracleDescriber:
    """Describes portraits with the oracle and the grammar; implements `Describer`.

    Used where no describer has been trained. It names what the oracle reads in the core of a level.

    Args:
        oracle: The network that reads attributes from images.
    """

    name = "oracle and grammar"

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle

    def describe_all(self, pictures: torch.Tensor) -> list[str]:
        """Descriptions of images: everything that can be named, in fixed order.

        Args:
            pictures: (batch, 3, height, width), values in [0, 1].
        """
        return caption_all(self.oracle.read(pictures), canonical=True)

    def describe(self, image: images.ImageLike) -> str:
        """A description of one image."""
        return self.describe_all(_tensor(image))[0]

    def extract(self, image: Image.Image, instruction: str) -> Description:
        """What the image shows, and what it should show after the edit.

        Raises:
            CaptionError: If the instruction asks for nothing that this world knows, or contradicts itself.
        """
        read = self.oracle.read(_tensor(image))
        values = describe_values(read)
        changes = parse_instruction(instruction, source=values)
        pair = target_caption(caption_all(read, canonical=True)[0], changes, values=values)
        return _description(pair, self.name)


def prepare(pictures: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] as the network takes them: `SIZE` x `SIZE`, values in [-1, 1]."""
    if pictures.shape[-2:] != (SIZE, SIZE):
        pictures = F.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    return pictures * 2 - 1


@one_reader_at_a_time
def prompt_ids(tokenizer: Any, prompt: str, image_tokens: int) -> list[int]:
    """Token ids of a prompt: places for the image, the words, and the token after which the answer begins."""
    words = tokenizer(prompt, add_special_tokens=False).input_ids[:LONGEST_PROMPT]
    image, answer = tokenizer.convert_tokens_to_ids([IMAGE, ANSWER])
    return [image] * image_tokens + words + [answer]


def _description(pair: CaptionPair, describer: str) -> Description:
    source, target, _ = pair
    return Description(source, target, text_changes(source, target), describer)


def _tensor(image: images.ImageLike) -> torch.Tensor:
    """The largest centred square of an image, as (1, 3, SIZE, SIZE)."""
    return images.to_tensor(images.fit(images.open_image(image), SIZE, SIZE))


# --- the words of a description ---------------------------------------------------------------------------


def _short(text: str) -> str:
    """The description, in shorter synonyms if it is longer than the captions of this world."""
    said = understood(text)
    if count_tokens(text) <= LONGEST_CAPTION or not said:
        return text
    return compose({name: pick(name, allowed) for name, allowed in said.items()})


def understood(text: str) -> Constraints:
    """The meaning of a text; empty if it is not understood."""
    try:
        return parse(text)
    except CaptionError:
        return {}


def change_indices(source_text: str, target_text: str) -> dict[str, int]:
    """What two texts change.

    Args:
        source_text: Any text; one that is not understood counts as empty.
        target_text: Another.

    Returns:
        For each attribute that the target names and that the source does not already have so, the index of
        the wanted level or value. An attribute that only the source names does not change.
    """
    source, target = understood(source_text), understood(target_text)
    return {
        name: pick(name, allowed)
        for name, allowed in target.items()
        if not (name in source and source[name] <= allowed)
    }


def text_changes(source_text: str, target_text: str) -> dict[str, str]:
    """What two texts change, in words: see `change_indices`.

    Returns:
        For each changed attribute the phrase of the wanted level or value.

    Example:
        >>> text_changes("old person, slight smile, red hair", "old person, big smile, red hair")
        {'smile': 'a big smile'}
    """
    return {name: phrase(name, index) for name, index in change_indices(source_text, target_text).items()}


def in_own_words(instruction: str, source: Constraints) -> str:
    """An instruction in the words of the network's training: its commands as they are, others written as commands.

    Args:
        instruction: What to change, in anyone's words.
        source: What is known of the image.

    Returns:
        A normalised text.

    Example:
        >>> in_own_words("turn her into a queen, and wipe that smile off", {"smile": frozenset({4})})
        'put on a crown and make the smile much smaller'
    """
    text = normalise(instruction)
    if all(part in commands() for part in re.split(r", | and ", text)):
        return text
    wanted = parse_instruction(instruction, source=source)
    now = {name: pick(name, known_levels(name, source)) for name in wanted}
    parts = [
        command(name, now[name], allowed) for name, allowed in wanted.items() if now[name] not in allowed
    ]
    return " and ".join(parts) or text


def _known(said: Constraints, levels: Mapping[str, int]) -> Constraints:
    """What a description says, and what the network answered besides."""
    return {name: frozenset({level}) for name, level in levels.items()} | said


def reconcile(
    source: str, instruction: str, written: str, levels: Mapping[str, int] | None = None
) -> CaptionPair:
    """The pair of texts for the network's target, or the grammar's target where the two disagree.

    The network decides where the instruction leaves a choice ("add a beard"), provided that it changes what was
    asked for and nothing else.

    Args:
        source: Description of the source.
        instruction: What to change.
        written: The network's answer to the instruction.
        levels: Levels of attributes that `source` does not mention.

    Raises:
        CaptionError: If nothing is understood of the source or the instruction.
    """
    levels = levels or {}
    said = _known(parse(source), levels)
    wanted = parse_instruction(instruction, source=said)
    changes = _agreed(said, wanted, understood(written))
    values = {name: attribute(name).value_of(level) for name, level in levels.items()}
    return target_caption(source, wanted if changes is None else changes, values=values)


def _agreed(said: Constraints, wanted: Constraints, written: Constraints) -> Constraints | None:
    """The changes in the network's answer; None if they are not those that were asked for."""
    if any(not (name in written and written[name] <= wanted[name]) for name in wanted):
        return None
    others = [name for name in said if name in written and name not in wanted]
    if any(not said[name] <= written[name] for name in others):
        return None
    return {
        name: wanted[name] if name in said and said[name] <= wanted[name] else written[name]
        for name in wanted
    }
