"""Describers that ask a chat model: the conversation, the second attempt, and the answers that are kept."""

from __future__ import annotations

import abc
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ditlens import images
from ditlens.describers import replies
from ditlens.describers.replies import BadReplyError, Message, RefusalError, Reply
from ditlens.description import Description
from ditlens.errors import DescriberError, WriteError
from ditlens.files import user_path, write_whole

T = TypeVar("T", str, Description)

TYPE_BOTH = (
    'You can also write both texts yourself: source_text="a photo of ...", target_text="a photo of ..." (in a '
    "terminal, --source-text and --target-text)."
)


def image_hash(image: Image.Image) -> str:
    """SHA-256 of an image's mode, size and pixels, in hexadecimal; file format and metadata do not count.

    Example:
        >>> from PIL import Image
        >>> image_hash(Image.new("RGB", (2, 2)))[:8]
        '1a689919'
    """
    head = f"{image.mode} {image.width}x{image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


class ChatDescriber(abc.ABC):
    """A describer that asks a chat model, checks the reply, asks once more if it is unusable, and remembers.

    Answers are kept in memory and, if asked for, in a folder: one file for each image, instruction, describer and
    wording of the prompts. The files hold the checked texts and nothing else.

    Attributes:
        name: Who describes; goes into recipes.

    Args:
        name: The same.
        identity: What distinguishes it from others of this name: address, folder, settings. Only its hash is kept.
        cache: A folder for the answers; None keeps them in memory only.

    Example:
        >>> class Parrot(ChatDescriber):
        ...     def reply(self, image, messages):
        ...         return Reply('{"source": "a man, no hat", "target": "a man, red hat"}')
        >>> from PIL import Image
        >>> Parrot("parrot").extract(Image.new("RGB", (8, 8)), "give him a red hat").target
        'a man, red hat'
    """

    def __init__(self, name: str, *, identity: str = "", cache: str | Path | None = None) -> None:
        self.name = name
        self.cache = None if cache is None else user_path(cache)
        self._identity = hashlib.sha256(identity.encode()).hexdigest()
        self._memory: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abc.abstractmethod
    def reply(self, image: Image.Image, messages: list[Message]) -> Reply:
        """What the model says next in a conversation about an image.

        Args:
            image: The image, RGB.
            messages: The conversation so far; the last message is the user's.

        Raises:
            DescriberError: If the model cannot be reached or does not answer.
        """

    def blank(self, text: str) -> str:
        """A text without what must not be shown; describers that have a key take it out here."""
        return text

    def describe(self, image: images.ImageLike) -> str:
        """What the image shows, in one sentence.

        Raises:
            DescriberError: If the model gives nothing usable, even on the second attempt.
            ImageError: If the image cannot be read.
        """
        return self._answer(image, None, replies.ask_for_description(), replies.read_description)

    def extract(self, image: images.ImageLike, instruction: str) -> Description:
        """What the image shows, and what it should show once the instruction is carried out.

        Raises:
            DescriberError: If the model gives nothing usable, even on the second attempt.
            ImageError: If the image cannot be read.
        """
        if not instruction.strip():
            raise DescriberError(
                f"There is no instruction, so {self.name} cannot know what to change. {TYPE_BOTH}"
            )
        found = self._answer(image, instruction, replies.ask_for_pair(instruction), replies.read_pair)
        return replace(found, describer=self.name)

    def _answer(
        self,
        image: images.ImageLike,
        instruction: str | None,
        messages: list[Message],
        read: Callable[[Reply], T],
    ) -> T:
        """The answer kept for a question, or else a new one, which is then kept in the form of a reply."""
        opened = images.open_image(image)
        question = [image_hash(opened), instruction, self.name, self._identity, replies.PROMPTS]
        key = hashlib.sha256(json.dumps(question).encode()).hexdigest()
        file = None if self.cache is None else self.cache / f"{key}.txt"
        text = self._memory.get(key) or _load(file)
        if text is not None:
            try:
                answer = read(Reply(text))
                self._memory[key] = text
                return answer
            except BadReplyError as error:
                warnings.warn(f"{file} is damaged ({error}); {self.name} is asked again.", stacklevel=3)
        answer = self._ask(opened, messages, read)
        text = self._memory[key] = replies.as_reply(answer)
        if file is not None:
            try:
                write_whole(file, text.encode())
            except WriteError as error:
                warnings.warn(f"The answer is not kept for the next time: {error}", stacklevel=3)
        return answer

    def _ask(self, image: Image.Image, messages: list[Message], read: Callable[[Reply], T]) -> T:
        """Ask; if the reply cannot be used, say so and ask once more."""
        for attempt in (1, 2):
            reply = self.reply(image, messages)
            try:
                return read(Reply(self.blank(replies.as_reply(read(reply)))))  # a key may show only once read
            except BadReplyError as error:
                flaw = error
            if attempt == 2 or reply.cut or isinstance(flaw, RefusalError):
                break
            messages = replies.ask_again(messages, reply, flaw)
        raise DescriberError(self.blank(self._complaint(reply, flaw)))

    def _complaint(self, reply: Reply, flaw: BadReplyError) -> str:
        said = self.blank(reply.text)[:200]  # in this order: half a key would not be recognised
        begins = f"Its reply begins: {said!r}. " if said.strip() else ""
        if isinstance(flaw, RefusalError):
            return f"{self.name} declined to describe this image or instruction. {begins}{TYPE_BOTH}"
        if reply.cut:
            return (
                f"The reply of {self.name} was cut off by its token limit: {flaw}. {begins}Raise the limit "
                f"(max_tokens=, max_new_tokens=). {TYPE_BOTH}"
            )
        return f"{self.name} was asked twice, but its reply cannot be used: {flaw}. {begins}{TYPE_BOTH}"


def _load(file: Path | None) -> str | None:
    """A kept answer; bytes that are not text become replacement characters, which are refused later."""
    try:
        return None if file is None else file.read_bytes()[:100_000].decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.warn(f"{file} cannot be read: {error.strerror}.", stacklevel=4)
        return None
