"""Describers that ask a multimodal model: the conversation, the second chance, and what is remembered."""

from __future__ import annotations

import abc
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ditlens import images
from ditlens.describers import replies
from ditlens.describers.replies import BadReplyError, RefusalError, Reply, Turn
from ditlens.description import Description
from ditlens.errors import DescriberError
from ditlens.files import write_whole

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

BY_HAND = (
    'Give both texts by hand: source_text="a photo of ...", target_text="a photo of ...", in a terminal '
    "--source-text and --target-text."
)


def picture_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's mode, size and pixels, in hexadecimal; file format and metadata do not count."""
    head = f"{image.mode} {image.width}x{image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


class Asking(abc.ABC):
    """A describer that asks a model, checks the reply, asks once more if it is unusable, and remembers.

    Answers are kept in memory and, if asked for, in a folder: one file per picture, instruction, describer and
    wording of the prompts. The files hold the checked texts and nothing else.

    Attributes:
        name: Who describes; goes into recipes.

    Args:
        name: The same.
        identity: Tells apart what `name` does not: address, folder, settings. Enters the key as a hash.
        cache: A folder for the answers; None keeps them in memory only.
    """

    def __init__(self, name: str, identity: str = "", cache: str | Path | None = None) -> None:
        self.name = name
        self.cache = None if cache is None else Path(cache).expanduser()
        self._identity = hashlib.sha256(identity.encode()).hexdigest()
        self._memory: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abc.abstractmethod
    def write(self, image: Image.Image, turns: list[Turn]) -> Reply:
        """What the model says next in a conversation about a picture.

        Args:
            image: The picture, RGB.
            turns: The conversation so far; the last turn is the user's.

        Raises:
            DescriberError: If the model cannot be reached or does not answer.
        """

    def blank(self, text: str) -> str:
        """A text without what must not be shown; describers that have a key take it out here."""
        return text

    def describe(self, image: images.Picture) -> str:
        """What the picture shows, in one sentence.

        Raises:
            DescriberError: If the model gives nothing usable, also when asked twice.
            ImageError: If the picture cannot be read.
        """
        picture = images.open_image(image)
        return self._remembered(
            picture,
            None,
            read=lambda saved: replies.read_plain(saved["text"], "it"),
            ask=lambda: self.blank(
                self._ask(picture, replies.ask_for_description(), replies.read_description)
            ),
            save=lambda text: {"text": text},
        )

    def extract(self, image: images.Picture, instruction: str) -> Description:
        """What the picture shows, and what it should show once the instruction is carried out.

        Raises:
            DescriberError: If the model gives nothing usable, also when asked twice.
            ImageError: If the picture cannot be read.
        """
        if not instruction.strip():
            raise DescriberError(
                f"There is no instruction: {self.name} cannot know what to change. {BY_HAND}"
            )
        picture = images.open_image(image)
        texts = self._remembered(
            picture,
            instruction,
            read=lambda saved: replies.read_pair(Reply(json.dumps(saved))),
            ask=lambda: self._ask(picture, replies.ask_for_pair(instruction), replies.read_pair).each(
                self.blank
            ),
            save=vars,
        )
        return Description(texts.source, texts.target, dict(texts.changes), self.name)

    def _ask(self, image: Image.Image, turns: list[Turn], read: Callable[[Reply], T]) -> T:
        """Ask; if the reply cannot be used, say so and ask once more."""
        reply = self.write(image, turns)
        answer, flaw = _try(read, reply)
        if flaw is not None and not reply.cut and not isinstance(flaw, RefusalError):
            reply = self.write(image, replies.ask_again(turns, reply, flaw))
            answer, flaw = _try(read, reply)
        if flaw is not None:
            raise DescriberError(self.blank(self._complaint(reply, flaw)))
        assert answer is not None
        return answer

    def _complaint(self, reply: Reply, flaw: BadReplyError) -> str:
        said = self.blank(reply.text)[:200]  # in this order: half a key would not be known as one
        begins = f"Its reply begins: {said!r}. " if said.strip() else ""
        if isinstance(flaw, RefusalError):
            return f"{self.name} declined to describe this picture or wish. {begins}{BY_HAND}"
        if reply.cut:
            return (
                f"The reply of {self.name} was cut off by its limit of tokens: {flaw}. {begins}"
                f"Raise the limit (max_tokens=, max_new_tokens=). Or: {BY_HAND}"
            )
        return f"{self.name} was asked twice, and its reply cannot be used: {flaw}. {begins}{BY_HAND}"

    # --- remembering -----------------------------------------------------------------------------------

    def _remembered(
        self,
        picture: Image.Image,
        instruction: str | None,
        read: Callable[[dict[str, Any]], T],
        ask: Callable[[], T],
        save: Callable[[T], dict[str, Any]],
    ) -> T:
        """The answer kept for a question, or else a new one, which is kept."""
        question = [picture_hash(picture), instruction, self.name, self._identity, replies.PROMPTS]
        key = hashlib.sha256(json.dumps(question).encode()).hexdigest()
        file = None if self.cache is None else self.cache / f"{key}.json"
        text = self._memory.get(key) or (_load(file) if file is not None else None)
        if text is not None:
            try:
                answer = read(json.loads(text))
                self._memory[key] = text
                return answer
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                warnings.warn(f"{file} is damaged ({error}); {self.name} is asked again.", stacklevel=3)
        answer = ask()
        text = self._memory[key] = json.dumps(save(answer), indent=2, ensure_ascii=False)
        if file is not None:
            try:
                write_whole(file, text.encode())
            except OSError as error:
                warnings.warn(f"The answer could not be kept in {file}: {error.strerror}.", stacklevel=3)
        return answer


def _try(read: Callable[[Reply], T], reply: Reply) -> tuple[T | None, BadReplyError | None]:
    try:
        return read(reply), None
    except BadReplyError as flaw:
        return None, flaw


def _load(file: Path) -> str | None:
    """The text of a kept answer; what is no text is returned with replacement characters, and fails later."""
    try:
        return file.read_bytes()[:100_000].decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.warn(f"{file} cannot be read: {error.strerror}.", stacklevel=4)
        return None
