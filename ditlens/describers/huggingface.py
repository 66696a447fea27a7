"""A describer that is any image-text-to-text model of transformers."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ditlens.arguments import COUNT, NAME, PATH, instance, takes
from ditlens.describers.chat import TYPE_BOTH, ChatDescriber
from ditlens.describers.replies import Message, Reply
from ditlens.describers.transport import causes_of
from ditlens.description import one_reader_at_a_time
from ditlens.errors import DescriberError
from ditlens.files import user_path
from ditlens.models.find import is_hub_id
from ditlens.models.loading import DEVICE, DTYPE, hub_answers, no_bars, pick_device


class HuggingFace(ChatDescriber):
    """Describes with any image-text-to-text model of transformers that has a chat template.

    It is loaded when it is first asked, and decodes greedily.

    Args:
        id_or_folder: A repository id such as ``"org/name"``, or a folder.
        device: "auto", "cpu", "cuda", "mps".
        dtype: Number format of the weights; by default float32 on the CPU, else bfloat16.
        max_new_tokens: Token limit of a reply.
        cache: A folder for the answers; by default they are kept in memory only.

    Raises:
        SettingError: If the limit is below 1.

    Example:
        >>> HuggingFace("org/name", device="cpu")  # nothing is loaded yet
        HuggingFace('org/name')
    """

    @takes(
        id_or_folder=NAME | instance("a folder", Path), device=DEVICE, dtype=DTYPE, max_new_tokens=COUNT,
        cache=PATH,
    )  # fmt: skip
    def __init__(
        self,
        id_or_folder: str | Path,
        device: str = "auto",
        *,
        dtype: Any = None,
        max_new_tokens: int = 300,
        cache: str | Path | None = None,
    ) -> None:
        folder = user_path(id_or_folder, DescriberError)
        self.local = folder.is_dir()
        self.source = str(folder.resolve()) if self.local else str(id_or_folder)
        self.device, self.dtype, self.max_new_tokens = device, dtype, max_new_tokens
        name = Path(self.source).name if self.local else self.source
        super().__init__(name, identity=json.dumps([self.source, max_new_tokens]), cache=cache)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Processor and model."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if not self.local and not is_hub_id(self.source):
            raise DescriberError(
                f"{self.source!r} is neither a folder nor an id like 'org/name'. Check it. {TYPE_BOTH}"
            )
        device = pick_device(self.device)
        dtype = self.dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        here = self.local or not hub_answers()
        try:
            with no_bars():
                processor = AutoProcessor.from_pretrained(self.source, local_files_only=here)
                model = AutoModelForImageTextToText.from_pretrained(
                    self.source, dtype=dtype, local_files_only=here
                )
        except Exception as error:  # transformers and the libraries below it raise a dozen kinds
            raise DescriberError(why_not_loaded(self.source, self.local, error)) from error
        if not getattr(processor, "chat_template", None):
            raise DescriberError(
                f"{self.source} has no chat template, so it cannot be asked. Choose a model whose name has "
                f"'instruct', 'chat' or 'it' in it. {TYPE_BOTH}"
            )
        return processor, model.to(device).eval()

    def reply(self, image: Image.Image, messages: list[Message]) -> Reply:
        """What the model says next; see `ChatDescriber.reply`."""
        processor, model = self._parts
        try:
            inputs = one_reader_at_a_time(processor.apply_chat_template)(
                payload(image, messages), add_generation_prompt=True, tokenize=True, return_dict=True,
                return_tensors="pt",
            ).to(model.device, model.dtype)  # fmt: skip
            with torch.no_grad():
                written = model.generate(
                    **inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
                )
        except Exception as error:  # out of memory, a template without images, shapes that do not fit
            raise DescriberError(f"{self.name} could not answer: {_first_line(error)} {TYPE_BOTH}") from error
        new = written[0, inputs["input_ids"].shape[1] :]
        ends = model.generation_config.eos_token_id
        ended = len(new) > 0 and int(new[-1]) in (ends if isinstance(ends, list) else [ends])
        text = processor.batch_decode(new[None], skip_special_tokens=True)[0]
        return Reply(text, cut=len(new) >= self.max_new_tokens and not ended)


def payload(image: Image.Image, messages: list[Message]) -> list[dict[str, Any]]:
    """A conversation as chat templates want it.

    The rules go into the user's first message, since many templates have no system role or drop it silently.
    """
    rules = [message.text for message in messages if message.role == "system"]
    result: list[dict[str, Any]] = []
    for role, text in messages:
        if role == "system":
            continue
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if not result:
            content = [
                {"type": "image", "image": image},
                {"type": "text", "text": "\n\n".join([*rules, text])},
            ]
        result.append({"role": role, "content": content})
    return result


def why_not_loaded(source: str, local: bool, error: BaseException) -> str:
    """Why a model could not be loaded, and what to type."""
    from huggingface_hub import errors

    causes = causes_of(error)
    head = f"The describer {source!r} could not be loaded: {_first_line(error)}"
    if local:
        return (
            f"{head} The folder must hold a model and a processor as written by save_pretrained. {TYPE_BOTH}"
        )
    if any(isinstance(cause, errors.GatedRepoError) for cause in causes):
        return f"{head} Accept its licence on its page, then type `hf auth login`. {TYPE_BOTH}"
    offline = (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, ConnectionError)
    if any(isinstance(cause, offline) for cause in causes):
        return (
            f"{head} It is not on this computer, and the hub cannot be reached. Type `hf download {source}` once "
            f"while you are online. {TYPE_BOTH}"
        )
    if any(isinstance(cause, errors.RepositoryNotFoundError) for cause in causes):
        return f"{head} The model does not exist or is private: check the id, or type `hf auth login`."
    return f"{head} It must be an image-text-to-text model. Check the id. {TYPE_BOTH}"


def _first_line(error: BaseException) -> str:
    """The first line of an error, as a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".") + "."
