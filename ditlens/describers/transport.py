"""One request to a server that is not trusted: how long it may take, how much is read, and who sees the key.

The key is read from the environment for each request, by functions that return and never raise, so no traceback
holds a frame in which it can be seen. It is blanked in everything that the server sends, and once more in what is
read from that.

Each request runs in a thread with an event loop of its own, so it also works inside a notebook. One deadline covers
all of it, from the lookup of the name to the last byte of the body: httpx's own timeouts start anew with every byte
that arrives. When the time is up, or at Ctrl-C, the exchange is cancelled and its connection closed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import ipaddress
import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus, urlsplit, urlunsplit

import httpx

from ditlens.errors import SettingError

LARGEST_REPLY = 256 * 1024
"""Bytes of a server's reply that are read."""

SHORTEST_SECRET = 8
"""Characters from which on a key is blanked where a server repeats it; "EMPTY" or "ollama" are not secret."""

THREAD = "ditlens request"
"""Name of the thread of a request."""

TOO_LATE = "no complete answer came within {timeout:g} s; a larger timeout= waits longer"

_SECRET_NAMES = ("key", "token", "secret", "sig", "pass", "auth", "code")


def _is_loggable(_: logging.LogRecord) -> bool:
    """Whether a log record is not about a request of ours: httpx logs its address, httpcore its headers."""
    return threading.current_thread().name != THREAD


for _logger in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy", "httpcore.socks"):
    logging.getLogger(_logger).addFilter(_is_loggable)


# --- addresses ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Address:
    """Where requests go.

    Attributes:
        url: The whole address, with a query that may be secret.
        login: ``user:password`` from in front of the host, if any.

    Example:
        >>> address = Address.read("http://me:my-password@127.0.0.1:8000/v1?key=my-key")
        >>> address
        Address('http://127.0.0.1:8000/v1')
        >>> address.host, address.encrypted
        ('127.0.0.1:8000', True)
    """

    url: str
    login: str = ""

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @property
    def shown(self) -> str:
        """The address as the user gave it, without user, password, query and fragment."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}".removesuffix("/chat/completions")

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return is_this_machine(urlsplit(self.url).hostname or "")

    @property
    def encrypted(self) -> bool:
        """Whether what is sent is safe from being read on the way: https, or this machine."""
        return self.url.startswith("https:") or self.local

    @property
    def basic(self) -> str:
        """The login as basic authentication sends it."""
        return base64.b64encode(self.login.encode()).decode()

    @property
    def secrets(self) -> list[str]:
        """What must not be shown: the password, and the values of the query whose names sound secret."""
        fields = (part.partition("=") for part in urlsplit(self.url).query.split("&"))
        values = [value for name, _, value in fields if any(part in name.lower() for part in _SECRET_NAMES)]
        decoded = [decode(value) for value in values for decode in (unquote, unquote_plus)]
        return [*values, *decoded, self.login.partition(":")[2], self.basic]

    @classmethod
    def read(cls, url: str) -> Address:
        """Take an address apart.

        Args:
            url: An http(s) address, with or without ``/chat/completions``.

        Raises:
            SettingError: If it is not an http(s) address.
        """
        try:
            parts = urlsplit(url.strip())
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise SettingError(
                f"{shown(url)!r} is not the address of a server. Pass one like "
                "url='https://api.openai.com/v1' or url='http://127.0.0.1:8000/v1'."
            )
        login, _, place = parts.netloc.rpartition("@")
        path = parts.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        return cls(urlunsplit((parts.scheme, place.lower(), path, parts.query, "")), unquote(login))


def shown(url: str) -> str:
    """An address, or what was meant as one, without user, password, query and fragment.

    Where these cannot be told apart, or there is no ``://`` (a key in the wrong place?), it is ``...``.

    Example:
        >>> shown("https://me:my-password@example.org/v1"), shown("sk-my-key")
        ('https://example.org/v1', '...')
    """
    scheme, mark, rest = url.strip().partition("://")
    doubtful = "@" in rest and any(sign in rest for sign in "?#")
    if not mark or doubtful:
        return f"{scheme}://..." if mark else "..."
    return f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}"[:200]


def is_this_machine(host: str) -> bool:
    """Whether the name or number of a host is the loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# --- the exchange ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What came of one request, all secrets blanked: a status with a body, or a fault.

    Attributes:
        status: HTTP status; 0 if there was no answer.
        body: The body.
        wait: Seconds that the server asks to wait, if it does.
        moved: Where the server redirects to.
        fault: What went wrong on the way; empty if nothing did.
        sent: Whether the server was asked at all.
    """

    status: int = 0
    body: str = ""
    wait: float | None = None
    moved: str = ""
    fault: str = ""
    sent: bool = True


def post(address: Address, data: bytes, key_env: str | None, timeout: float) -> Answer:
    """Send JSON and return whatever comes of it; never raises.

    Args:
        address: Where to.
        data: The JSON.
        key_env: Name of the environment variable with the key; see `OpenAICompatible`.
        timeout: Seconds until the answer must be complete.
    """
    loop = asyncio.new_event_loop()
    exchange = loop.create_task(_exchange(address, data, key_env))
    worker = threading.Thread(target=_run, args=(loop, exchange), name=THREAD, daemon=True)
    worker.start()
    try:
        worker.join(min(timeout, threading.TIMEOUT_MAX))
        return exchange.result() if exchange.done() else Answer(fault=TOO_LATE.format(timeout=timeout))
    finally:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the exchange was over before
            loop.call_soon_threadsafe(exchange.cancel)


def _run(loop: asyncio.AbstractEventLoop, exchange: asyncio.Task[Answer]) -> None:
    """Run an exchange to its end, and clean up behind it."""
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(exchange)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _exchange(address: Address, data: bytes, key_env: str | None) -> Answer:
    """One request and its answer; never raises."""
    key = _key(key_env)
    if not (key.isascii() and key.isprintable()):
        return Answer(fault=f"{key_env} holds characters that a key cannot have; set it again", sent=False)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "ditlens",
               "Accept-Encoding": "identity"}  # fmt: skip
    if address.login:
        headers["Authorization"] = f"Basic {address.basic}"
    elif key and address.encrypted:
        headers["Authorization"] = f"Bearer {key}"
    secrets = [*address.secrets, key]
    hooks = {"response": [_set_location_aside]}
    try:
        direct = (
            httpx.AsyncHTTPTransport() if address.local else None
        )  # else by the proxies of the environment
        async with (
            httpx.AsyncClient(timeout=None, transport=direct, event_hooks=hooks) as client,
            client.stream("POST", address.url, content=data, headers=headers) as response,
        ):
            return await _read(response, secrets)
    except Exception as error:  # sockets, TLS, proxies, httpx and what it stands on raise a dozen kinds
        return Answer(fault=plain(_blank(_reason(error), secrets)))


async def _set_location_aside(response: httpx.Response) -> None:
    """Keep httpx from parsing where a redirect leads: its errors would quote parts of it.

    Redirects are not followed: neither the key nor the image goes to an address that the user did not name.
    """
    response.extensions["location"] = response.headers.pop("Location", "")


async def _read(response: httpx.Response, secrets: list[str]) -> Answer:
    """The answer in a response, of which at most one byte too many is read."""
    length, body = int(response.headers.get("Content-Length", 0)), b""
    if length <= LARGEST_REPLY:
        body = await anext(response.aiter_raw(LARGEST_REPLY + 1), b"")
    if max(length, len(body)) > LARGEST_REPLY:
        return Answer(fault=f"it sent more than {LARGEST_REPLY // 1024} KB, too much for a description")
    location = response.extensions["location"]
    return Answer(
        response.status_code,
        _blank(body.decode("utf-8", "replace"), secrets),
        _wait(response.headers.get("Retry-After")),
        _blank(shown(location), secrets) if location else "",
    )


def _wait(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds seconds or a date; None if it is absent or unreadable."""
    try:
        if value and not value.strip().isdigit():
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        return float(value) if value else None
    except (ValueError, TypeError, OverflowError):
        return None


def causes_of(error: BaseException) -> list[BaseException]:
    """An error and all that lies below it; a host with several addresses has a group of errors."""
    causes = [error]
    for cause in causes:  # grows
        below = [*getattr(cause, "exceptions", ()), cause.__cause__ or cause.__context__]
        causes += [each for each in below if each is not None and each not in causes]
    return causes


def _reason(error: Exception) -> str:
    """Why there was no answer, in words."""
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes_of(error)):
        return "the connection was refused"
    if isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
        return f"the connection was closed before a complete HTTP answer had come ({error})"
    return f"{type(error).__name__}: {error}"


# --- secrets -----------------------------------------------------------------------------------------------


def blank(text: str, address: Address, key_env: str | None) -> str:
    """A text with the key and the secrets of the address blanked."""
    return _blank(text, [*address.secrets, _key(key_env)])


def _key(key_env: str | None) -> str:
    return os.environ.get(key_env, "").strip() if key_env else ""


def _blank(text: str, secrets: list[str]) -> str:
    """A text with every secret blanked, however its characters are written: see `_any_form`."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = re.sub("".join(map(_any_form, secret)), "***", text)
    return text


def _any_form(character: str) -> str:
    """A pattern for a character as it is, percent-encoded, or escaped in JSON, also in JSON within JSON.

    Every level of JSON doubles the backslashes: four levels have at most 15. The bound keeps the search fast.
    """
    units = character.encode("utf-16-be")
    escaped = "".join(rf"\\{{1,15}}u{units[k : k + 2].hex()}" for k in range(0, len(units), 2))
    quoted = "".join(f"%(?:25){{0,3}}{byte:02x}" for byte in character.encode())
    plainly = (r"\\{0,15}" if character in "\"'\\/" else "") + re.escape(character)
    return f"(?:{plainly}|(?i:{escaped}|{quoted}))"


def plain(text: str) -> str:
    """The first 200 characters, without what a terminal could take for a command."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())
