"""A describer at an address: anything that speaks OpenAI's chat completions (vLLM, Ollama, hosted services).

How requests are sent, and what becomes of the key, is in `ditlens.describers.transport`.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ditlens.arguments import COUNT, NAME, NOTHING, NUMBER, PATH, TEXT, Kind, takes
from ditlens.describers.chat import TYPE_BOTH, ChatDescriber
from ditlens.describers.replies import Message, Reply
from ditlens.describers.transport import Address, Answer, blank, plain, post
from ditlens.errors import DescriberError

OPENAI = "https://api.openai.com/v1"

LONGEST_WAIT = 30.0
"""Seconds that a server may ask to wait before the second attempt."""


SECONDS = Kind("a number of seconds above 0", lambda value: NUMBER.fits(value) and value > 0)
FIELDS = Kind(
    "fields of the request, e.g. {'seed': 1}",
    lambda value: isinstance(value, Mapping) and all(isinstance(name, str) for name in value),
)


class OpenAICompatible(ChatDescriber):
    """Describes with a model at an address that speaks OpenAI's chat completions.

    The image is sent as PNG without its metadata; beside our prompt, only the instruction goes with it.

    Args:
        model: What the server calls the model.
        url: Address of the server, up to and without ``/chat/completions``.
        key_env: Name of the environment variable with the key, read for every request. If it is None or not set,
            no key is sent; nor is one sent to another machine without encryption. A ``user:password@`` in the
            address takes its place.
        timeout: Seconds for one request, from start to end.
        side: Longest side of the image that is sent, in pixels.
        max_tokens: Token limit of the reply.
        options: More fields of the request, e.g. ``{"seed": 1}``; None takes a field out:
            ``{"max_tokens": None, "max_completion_tokens": 2000}``.
        cache: A folder for the answers; by default they are kept in memory only.

    Raises:
        SettingError: If the address is not one, or a setting is out of range.

    Example:
        >>> describer = OpenAICompatible("llava", url="http://127.0.0.1:11434/v1")
        >>> describer.name, describer.url
        ('llava (127.0.0.1:11434)', 'http://127.0.0.1:11434/v1')
    """

    @takes(
        model=NAME, url=TEXT, key_env=NAME | NOTHING, timeout=SECONDS, side=COUNT, max_tokens=COUNT,
        options=FIELDS, cache=PATH,
    )  # fmt: skip
    def __init__(
        self,
        model: str,
        url: str = OPENAI,
        key_env: str | None = "OPENAI_API_KEY",
        timeout: float = 60,
        *,
        side: int = 1024,
        max_tokens: int = 600,
        options: Mapping[str, Any] | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.model, self.key_env, self.timeout, self.side = model, key_env, timeout, side
        usual = {"model": model, "max_tokens": max_tokens, "temperature": 0, "stream": False}
        self.fields = {**usual, **(options or {})}
        self._address = Address.read(url)
        identity = json.dumps([self.url, side, self.fields], sort_keys=True)
        super().__init__(f"{model} ({self._address.host})", identity=identity, cache=cache)

    @property
    def url(self) -> str:
        """The server's address, without user, password and query."""
        return self._address.shown

    def reply(self, image: Image.Image, messages: list[Message]) -> Reply:
        """What the model says next; see `ChatDescriber.reply`."""
        fields = {name: value for name, value in self.fields.items() if value is not None}
        data = json.dumps({**fields, "messages": payload(image, messages, self.side)}).encode()
        answer = post(self._address, data, self.key_env, self.timeout)
        wait = 1.0 if answer.wait is None else answer.wait
        if _is_busy(answer) and wait <= LONGEST_WAIT:
            time.sleep(wait)
            answer = post(self._address, data, self.key_env, self.timeout)
        if answer.status != 200:
            raise DescriberError(self.blank(self._complaint_about(answer)))
        return self._read(answer.body)

    def blank(self, text: str) -> str:
        """A text without the key and without the secrets of the address."""
        return blank(text, self._address, self.key_env)

    # --- what went wrong -------------------------------------------------------------------------------

    def _complaint_about(self, answer: Answer) -> str:
        """What to say about a request that failed."""
        status, said = answer.status, _said(answer.body)
        says = f" (HTTP {status}). It says: {said!r}." if said else f" (HTTP {status})."
        if not answer.sent:
            return f"{self.name} was not asked: {answer.fault}."
        if answer.fault:
            return (
                f"{self.name} gave no usable answer: {answer.fault}. Check url={self.url!r}, and that the server "
                f"is running. {TYPE_BOTH}"
            )
        if 300 <= status < 400:
            target = f" to {answer.moved!r}" if answer.moved else ""
            return (
                f"{self.url} redirects{target}. Redirects are not followed, so that neither your key nor the image "
                "goes to another address without your knowing. If you trust it, pass it as url=."
            )
        if status in (401, 403):
            return f"{self.name} refuses the key{says} {self._advice_about_key()}"
        if status == 404:
            return f"{self.name} does not know the model or the address {self.url}{says} Check both."
        if _is_busy(answer):
            asks = answer.wait is not None and answer.wait > LONGEST_WAIT
            tried = f"It asks to wait {answer.wait:.0f} s." if asks else "A second attempt did not help."
            cause = "has too many requests" if status == 429 else "has a problem of its own"
            return f"{self.name} {cause}{says} {tried} Try again later. {TYPE_BOTH}"
        return f"{self.name} refuses the request{says} {TYPE_BOTH}"

    def _advice_about_key(self) -> str:
        if not self.key_env:
            return "No key was sent, because key_env is None. Name the environment variable that holds it."
        if not os.environ.get(self.key_env, "").strip():
            return (
                f"No key was sent: the environment variable {self.key_env} is not set. Set it and try again."
            )
        if not self._address.encrypted:
            return f"No key was sent: {self.url} is not encrypted. Use https, or a tunnel to this machine."
        return f"Check the key in the environment variable {self.key_env}."

    # --- the answer ------------------------------------------------------------------------------------

    def _read(self, body: str) -> Reply:
        """The model's words in an answer.

        Raises:
            DescriberError: If there are none.
        """
        try:
            parsed = parsed_body(body)
        except (ValueError, RecursionError):
            raise DescriberError(
                f"{self.name} answered with something other than JSON; it begins: {plain(body)!r}. "
                f"Check url={self.url!r}: it usually ends in /v1."
            ) from None
        try:
            choice = parsed["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason")
            content, refusal = message.get("content"), message.get("refusal")
            thought = message.get("reasoning_content") or message.get("reasoning")
        except (LookupError, TypeError, AttributeError):
            said = self.blank(_said(body))
            raise DescriberError(f"{self.name} answered without a choice: {said!r}. {TYPE_BOTH}") from None
        if refusal or finish == "content_filter":
            words = self.blank(plain(str(refusal or "its filter stopped the answer")))
            raise DescriberError(
                f"{self.name} declined to describe this image or instruction: {words!r}. {TYPE_BOTH}"
            )
        said = _text(content)
        if thought and not said.strip():
            raise DescriberError(
                f"{self.name} wrote {len(str(thought))} characters of reasoning and no answer: the content of its "
                "reply is empty beside reasoning_content. Raise max_tokens, or turn its thinking off, e.g. "
                f"options={{'chat_template_kwargs': {{'enable_thinking': False}}}}. {TYPE_BOTH}"
            )
        return Reply(said, cut=finish == "length")


def parsed_body(body: str) -> Any:
    """The JSON of an answer; an event stream, which some servers send unasked, as the answer that it adds up to.

    Raises:
        ValueError: If it is neither.
    """
    body = body.lstrip("\ufeff").strip()
    if not re.match(r"(?:data|event|id|retry)?:", body):
        return json.loads(body)
    lines = [
        line.partition(":")[2].strip() for line in re.split(r"[\r\n]+", body) if line.startswith("data:")
    ]
    events = [json.loads(line) for line in lines if line and line != "[DONE]"]
    message: dict[str, str] = {}
    finish = None
    for event in events:
        if isinstance(event, dict) and "error" in event:
            return event
        try:
            choice = event["choices"][0]
            parts = dict(choice.get("delta") or choice.get("message") or {})
        except (LookupError, TypeError, ValueError, AttributeError):  # signs of life, and counts of tokens
            continue
        for name, part in parts.items():
            message[name] = part if name == "role" else message.get(name, "") + _text(part)
        finish = choice.get("finish_reason") or finish
    if not message and not finish:
        return events[-1] if events else {}
    return {"choices": [{"message": message, "finish_reason": finish or "length"}]}


def payload(image: Image.Image, messages: list[Message], side: int) -> list[dict[str, Any]]:
    """A conversation in OpenAI's format; the image comes before the user's first words."""
    result: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in messages]
    first = next(message for message in result if message["role"] == "user")
    first["content"] = [
        {"type": "image_url", "image_url": {"url": data_url(image, side)}},
        {"type": "text", "text": first["content"]},
    ]
    return result


def data_url(image: Image.Image, side: int) -> str:
    """An image as PNG in a data URL: at most `side` pixels long, and nothing but its pixels."""
    bare = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    bare.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    bare.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _is_busy(answer: Answer) -> bool:
    """Whether a second attempt may help."""
    return answer.status == 429 or answer.status >= 500


def _said(body: str) -> str:
    """What a server says about an error, in JSON or in any other form."""
    try:
        error = parsed_body(body)
        for name in ("error", "message", "detail"):
            if isinstance(error, dict) and name in error:
                error = error[name]
        return plain(error if isinstance(error, str) else json.dumps(error))
    except (ValueError, RecursionError):
        return plain(body)


def _text(content: Any) -> str:
    """The words of a message: a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""
