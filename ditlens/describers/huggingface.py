"""A describer that is any image-text-to-text model of transformers."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditlens.describers.asking import BY_HAND, Asking
from ditlens.describers.replies import Reply, Turn
from ditlens.errors import DescriberError, SettingError
from ditlens.models.loading import no_bars, pick_device

if TYPE_CHECKING:
    from PIL import Image


class HuggingFace(Asking):
    """Describes with any image-text-to-text model of transformers that has a chat template.

    It is loaded when it is first asked. It writes word by word the likeliest, without sampling.

    Args:
        id_or_folder: A repository id such as ``"org/name"``, or a folder.
        device: "auto", "cpu", "cuda", "mps".
        dtype: Number format of the weights; by default float32 on the CPU, else bfloat16.
        max_new_tokens: Limit of a reply.
        cache: A folder for the answers; by default they are kept in memory only.

    Raises:
        SettingError: If the limit is below 1.
    """

    def __init__(
        self,
        id_or_folder: str | Path,
        device: str = "auto",
        *,
        dtype: Any = None,
        max_new_tokens: int = 300,
        cache: str | Path | None = None,
    ) -> None:
        if max_new_tokens < 1:
            raise SettingError(f"max_new_tokens is {max_new_tokens}; at least 1 is needed.")
        self.source, self.device, self.dtype = str(id_or_folder), device, dtype
        self.max_new_tokens = max_new_tokens
        folder = Path(id_or_folder).expanduser()
        name = folder.resolve().name if folder.is_dir() else self.source
        where = str(folder.resolve()) if folder.is_dir() else self.source
        super().__init__(name, json.dumps([where, max_new_tokens]), cache)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Processor and model."""
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder = Path(self.source).expanduser()
        local = folder.is_dir()
        if not local and not is_hub_id(self.source):
            raise DescriberError(
                f"There is no folder {self.source!r}, and it is no id like 'org/name'. Check it. Or: {BY_HAND}"
            )
        device, source = pick_device(self.device), str(folder) if local else self.source
        dtype = self.dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        try:
            with no_bars():
                processor = AutoProcessor.from_pretrained(source, local_files_only=local)
                model = AutoModelForImageTextToText.from_pretrained(
                    source, dtype=dtype, local_files_only=local
                )
        except Exception as error:  # transformers and the libraries below it raise a dozen kinds
            raise DescriberError(loading_trouble(self.source, local, error)) from error
        if not getattr(processor, "chat_template", None):
            raise DescriberError(
                f"{self.source} has no chat template, so it cannot be asked. Take a model whose name says "
                f"'instruct', 'chat' or 'it'. Or: {BY_HAND}"
            )
        return processor, model.to(device).eval()

    def write(self, image: Image.Image, turns: list[Turn]) -> Reply:
        """What the model says next; see `Asking.write`."""
        import torch

        processor, model = self._parts
        try:
            inputs = processor.apply_chat_template(
                chat(image, turns), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            ).to(model.device, model.dtype)  # fmt: skip
            with torch.no_grad():
                written = model.generate(
                    **inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
                )
        except Exception as error:  # out of memory, a template that knows no pictures, shapes that do not fit
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise DescriberError(f"{self.name} could not answer: {reason} {BY_HAND}") from error
        new = written[0, inputs["input_ids"].shape[1] :]
        ends = model.generation_config.eos_token_id
        ended = len(new) > 0 and int(new[-1]) in (ends if isinstance(ends, list) else [ends])
        text = processor.batch_decode(new[None], skip_special_tokens=True)[0]
        return Reply(text, cut=len(new) >= self.max_new_tokens and not ended)


def chat(image: Image.Image, turns: list[Turn]) -> list[dict[str, Any]]:
    """A conversation as chat templates want it.

    The rules go into the user's first turn, since many templates know no system turn or leave it out silently.
    """
    rules = "\n\n".join(turn.text for turn in turns if turn.role == "system")
    result: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "system":
            continue
        content: list[dict[str, Any]] = [{"type": "text", "text": turn.text}]
        if not result:
            text = f"{rules}\n\n{turn.text}" if rules else turn.text
            content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
        result.append({"role": turn.role, "content": content})
    return result


def is_hub_id(text: str) -> bool:
    """Whether a text has the form ``org/name``."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None


def loading_trouble(source: str, local: bool, error: BaseException) -> str:
    """Why a model could not be loaded, and what to type."""
    from huggingface_hub import errors

    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    reason = (str(causes[0]).strip() or type(causes[0]).__name__).splitlines()[0][:300]
    head = f"The describer {source!r} could not be loaded: {reason}"
    if local:
        return (
            f"{head} The folder must hold a model and a processor as save_pretrained writes them. {BY_HAND}"
        )
    if any(isinstance(cause, errors.GatedRepoError) for cause in causes):
        return f"{head} Accept its licence on its page, then type `hf auth login`. Or: {BY_HAND}"
    offline = (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, ConnectionError)
    if any(isinstance(cause, offline) for cause in causes):
        return (
            f"{head} It is not on this computer, and the hub cannot be reached. Once, with a connection, type "
            f"`hf download {source}`. Or: {BY_HAND}"
        )
    if any(isinstance(cause, errors.RepositoryNotFoundError) for cause in causes):
        return f"{head} There is no such model, or it is private: check the id, or type `hf auth login`."
    return f"{head} It must be an image-text-to-text model. Check the id. Or: {BY_HAND}"
