"""A describer behind an address: anything that speaks OpenAI's chat completions (vLLM, Ollama, hosted services).

How requests are sent, and what becomes of the key, is in `ditlens.describers.transport`.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditlens.describers.asking import BY_HAND, Asking
from ditlens.describers.replies import LONGEST_REPLY, Reply, Turn
from ditlens.describers.transport import LARGEST_REPLY, Address, Answer, blank, plain, post
from ditlens.errors import DescriberError, SettingError

if TYPE_CHECKING:
    from PIL import Image

OPENAI = "https://api.openai.com/v1"

LONGEST_WAIT = 30.0
"""Seconds that a server may ask to wait before the second try."""


class OpenAICompatible(Asking):
    """Describes with a model behind an address that speaks OpenAI's chat completions.

    The picture is sent as PNG without its metadata. Nothing else of yours is sent but the instruction.

    Args:
        model: What the server calls the model.
        url: Address of the server, up to and without ``/chat/completions``.
        key_env: Name of the environment variable with the key, read for every request. If it is not set, or
            None, no key is sent; nor is it sent to another machine without encryption. A ``user:password@`` in the
            address takes its place.
        timeout: Seconds for one request.
        side: Longest side of the picture that is sent, in pixels.
        max_tokens: Limit of the reply.
        options: More fields of the request, e.g. ``{"seed": 1}``; None takes a field out:
            ``{"max_tokens": None, "max_completion_tokens": 2000}``.
        cache: A folder for the answers; by default they are kept in memory only.

    Raises:
        SettingError: If the address is none, or a setting is out of range.
    """

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
        if not model or not timeout > 0 or side < 1 or max_tokens < 1:
            raise SettingError(
                f"A describer needs a model's name, and timeout, side and max_tokens above 0; got {model!r}, "
                f"{timeout:g}, {side}, {max_tokens}."
            )
        self.model, self.key_env, self.timeout, self.side = model, key_env, timeout, side
        self.fields = {"model": model, "max_tokens": max_tokens, "temperature": 0, **(options or {})}
        self._address = Address.read(url)
        identity = json.dumps([self._address.shown, side, self.fields], sort_keys=True)
        super().__init__(f"{model} ({self._address.host})", identity, cache)

    @property
    def url(self) -> str:
        """The server's address, without user, password and query."""
        return self._address.shown

    def write(self, image: Image.Image, turns: list[Turn]) -> Reply:
        """What the model says next; see `Asking.write`."""
        fields = {name: value for name, value in self.fields.items() if value is not None}
        data = json.dumps({**fields, "messages": messages(image, turns, self.side)}).encode()
        answer = post(self._address, data, self.key_env, self.timeout)
        wait = 1.0 if answer.wait is None else answer.wait
        if (answer.status == 429 or answer.status >= 500) and wait <= LONGEST_WAIT:
            time.sleep(wait)
            answer = post(self._address, data, self.key_env, self.timeout)
        if answer.status != 200 or answer.fault or answer.too_large:
            raise DescriberError(self.blank(self._trouble(answer)))
        return self._read(answer.body)

    def blank(self, text: str) -> str:
        """A text without the key and without the secrets of the address."""
        return blank(text, self._address, self.key_env)

    # --- what went wrong -------------------------------------------------------------------------------

    def _trouble(self, answer: Answer) -> str:
        """What to say about a request that failed."""
        where, said = self.name, f" It says: {_said(answer.body)!r}." if _said(answer.body) else ""
        if not answer.sent:
            return f"{where} was not asked: {answer.fault}."
        if answer.fault:
            return f"{where} gave no answer: {answer.fault}. Is the server at {self.url} running? {BY_HAND}"
        if answer.too_large:
            return (
                f"{where} sent more than {LARGEST_REPLY // 1024} KB, which is no description; the rest was not "
                f"read. Check url={self.url!r}."
            )
        if 300 <= answer.status < 400:
            target = f" to {answer.moved!r}" if answer.moved else ""
            return (
                f"{self.url} redirects{target}. That was not followed: neither the key nor the picture is sent "
                "to another address by itself. If you trust it, pass it as url=."
            )
        if answer.status in (401, 403):
            return f"{where} refuses the key (HTTP {answer.status}).{said} {self._about_key()}"
        if answer.status == 404:
            return f"{where} does not know the model or the address {self.url} (HTTP 404).{said} Check both."
        if answer.status == 429 or answer.status >= 500:
            longer = answer.wait is not None and answer.wait > LONGEST_WAIT
            tried = f"and asks to wait {answer.wait:.0f} s" if longer else "also when asked again"
            cause = "has too many requests" if answer.status == 429 else "has a fault of its own"
            return f"{where} {cause} (HTTP {answer.status}), {tried}.{said} Try later. Or: {BY_HAND}"
        return f"{where} refuses the request (HTTP {answer.status}).{said} {BY_HAND}"

    def _about_key(self) -> str:
        if not self.key_env:
            return "None was sent, since key_env is None. Name the environment variable that holds it."
        if not os.environ.get(self.key_env, "").strip():
            return f"None was sent: the environment variable {self.key_env} is not set. Set it and try again."
        if not self._address.encrypted:
            return (
                f"None was sent, since {self.url} is not encrypted. Use https, or a tunnel to this machine."
            )
        return f"Check the key in the environment variable {self.key_env}."

    # --- the answer ------------------------------------------------------------------------------------

    def _read(self, body: str) -> Reply:
        """The model's words in an answer.

        Raises:
            DescriberError: If there are none.
        """
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            raise DescriberError(
                f"{self.name} answered with something else than JSON; it begins: {plain(body)!r}. "
                f"Check url={self.url!r}: it should end in /v1 or the like."
            ) from None
        choices = parsed.get("choices") if isinstance(parsed, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            said = self.blank(_said(body))
            raise DescriberError(f"{self.name} answered without a choice: {said!r}. {BY_HAND}")
        if message.get("refusal") or choice.get("finish_reason") == "content_filter":
            words = self.blank(plain(str(message.get("refusal") or "its filter stopped the answer")))
            raise DescriberError(
                f"{self.name} declined to describe this picture or wish: {words!r}. {BY_HAND}"
            )
        return Reply(_content(message.get("content")), cut=choice.get("finish_reason") == "length")


def messages(image: Image.Image, turns: list[Turn], side: int) -> list[dict[str, Any]]:
    """A conversation in OpenAI's format; the picture comes before the first words of the user."""
    result: list[dict[str, Any]] = []
    picture: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": data_url(image, side)}}]
    for role, text in turns:
        if role == "user" and picture:
            result.append({"role": role, "content": [*picture, {"type": "text", "text": text}]})
            picture = []
        else:
            result.append({"role": role, "content": text})
    return result


def data_url(image: Image.Image, side: int) -> str:
    """A picture as PNG in a data URL: at most `side` pixels long, and nothing but its pixels."""
    from PIL import Image

    bare = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    bare.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    bare.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _said(body: str) -> str:
    """What a server says about an error, in JSON or in any other form."""
    try:
        error = json.loads(body)
        for name in ("error", "message", "detail"):
            if isinstance(error, dict) and name in error:
                error = error[name]
        return plain(error if isinstance(error, str) else json.dumps(error))
    except (ValueError, RecursionError):
        return plain(body)


def _content(value: Any) -> str:
    """The words of a message: a text, or a list of parts of which some are texts."""
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, dict)]
        value = "".join(text for text in texts if isinstance(text, str))
    return value[:LONGEST_REPLY] if isinstance(value, str) else ""
