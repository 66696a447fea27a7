"""One request to a server that is not trusted, with a key that is nobody's business.

The key is read from the environment for each request and lives in `post` and below, which returns and does not
raise, so that no traceback holds its frame. It is blanked in everything that the server says.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import ipaddress
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ditlens.errors import SettingError

LARGEST_REPLY = 256 * 1024
"""Bytes of a server's reply that are read."""

SHORTEST_SECRET = 8
"""Characters from which on a key is blanked where a server repeats it; "EMPTY" or "ollama" are no secrets."""

_SECRET_NAMES = ("key", "token", "secret", "sig", "pass", "auth", "code")


@dataclass(frozen=True)
class Address:
    """Where requests go.

    Attributes:
        shown: The address without user, password, query and fragment.
        host: Host and port.
        encrypted: Whether what is sent can be read by nobody in between: https, or this machine.
        url: The whole address, never shown.
        login: ``user:password`` in front of the host, if any, never shown.
    """

    shown: str
    host: str
    encrypted: bool
    url: str = field(repr=False)
    login: str = field(repr=False, default="")

    @property
    def secrets(self) -> list[str]:
        """What must not be shown: the password, and the values of the query that are named like a secret."""
        fields = (part.partition("=") for part in urllib.parse.urlsplit(self.url).query.split("&"))
        values = [value for name, _, value in fields if any(part in name.lower() for part in _SECRET_NAMES)]
        decoded = [decode(v) for v in values for decode in (urllib.parse.unquote, urllib.parse.unquote_plus)]
        return [*values, *decoded, self.login.partition(":")[2]]

    @classmethod
    def read(cls, url: str) -> Address:
        """Take an address apart.

        Raises:
            SettingError: If it is no http(s) address.
        """
        try:
            parts = urllib.parse.urlsplit(url.strip())
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not host or parts.scheme not in ("http", "https"):
            raise SettingError(
                f"{shown(url)!r} is no address of a server. Pass one like "
                "url='https://api.openai.com/v1' or url='http://127.0.0.1:8000/v1'."
            )
        place = f"[{host}]" if ":" in host else host
        place += f":{port}" if port else ""
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        login = urllib.parse.unquote(parts.netloc.rpartition("@")[0])
        target = urllib.parse.urlunsplit((parts.scheme, place, f"{path}/chat/completions", parts.query, ""))
        encrypted = parts.scheme == "https" or is_this_machine(host)
        return cls(f"{parts.scheme}://{place}{path}", place, encrypted, target, login)


def shown(url: str) -> str:
    """An address, or what was meant as one, as it may be shown: no user, no password, no query, no fragment.

    Where it cannot be told what is what, or there is no ``://`` (a key in the wrong place?), it is ``...``.
    """
    scheme, mark, rest = url.strip().partition("://")
    doubtful = "@" in rest and any(sign in rest for sign in "?#")
    if not mark or doubtful:
        return f"{scheme}://..." if mark else "..."
    return f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}"[:200]


def is_this_machine(host: str) -> bool:
    """Whether a host's name or number is the loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Every status is an answer; redirects are not followed: key and picture go nowhere else by themselves."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:  # noqa: ARG002
        return response

    https_response = http_response


@dataclass(frozen=True)
class Answer:
    """What came of one request: a status with a body, or a fault.

    Attributes:
        status: HTTP status; 0 if there was no answer.
        body: The body, at most `LARGEST_REPLY` bytes.
        wait: Seconds to wait that the server asks for, if it does.
        moved: Where the server redirects to, as it may be shown.
        fault: What went wrong on the way; empty if nothing did.
        too_large: Whether there was more than was read.
    """

    status: int = 0
    body: str = ""
    wait: float | None = None
    moved: str = ""
    fault: str = ""
    too_large: bool = False


def post(address: Address, data: bytes, key_env: str | None, timeout: float) -> Answer:
    """Send JSON and return whatever comes of it; never raises.

    Args:
        address: Where to.
        data: The JSON.
        key_env: Name of the environment variable with the key; see `OpenAICompatible`.
        timeout: Seconds until the answer must be complete.
    """
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "ditlens"}
    key = os.environ.get(key_env, "").strip() if key_env else ""
    if not (key.isascii() and key.isprintable()):
        return Answer(fault=f"{key_env} holds characters that no key has; set it again")
    if address.login:
        headers["Authorization"] = "Basic " + base64.b64encode(address.login.encode()).decode()
    elif key and address.encrypted:
        headers["Authorization"] = f"Bearer {key}"
    secrets = [*address.secrets, key, headers.get("Authorization", "").partition(" ")[2]]
    try:
        return _exchange(address, data, headers, timeout, secrets)
    except Exception as error:  # sockets, TLS, proxies and http.client raise a dozen kinds
        return Answer(fault=_blank(_reason(error, timeout), secrets))


def _exchange(
    address: Address, data: bytes, headers: Mapping[str, str], timeout: float, secrets: list[str]
) -> Answer:
    """One request and its answer, with all secrets blanked in what came back."""
    handlers: list[urllib.request.BaseHandler] = [_AnyStatus()]
    if is_this_machine(urllib.parse.urlsplit(address.url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    deadline = time.monotonic() + timeout
    request = urllib.request.Request(address.url, data=data, headers=dict(headers), method="POST")
    with opener.open(request, timeout=timeout) as response:
        body, too_large = _read_body(response, deadline)
        location = response.headers.get("Location")
        return Answer(
            response.status,
            _blank(_unescaped(body.decode("utf-8", "replace")), secrets),
            _wait(response.headers.get("Retry-After")),
            _blank(shown(location), secrets) if location else "",
            too_large=too_large,
        )


def _read_body(response: http.client.HTTPResponse, deadline: float) -> tuple[bytes, bool]:
    """At most `LARGEST_REPLY` bytes, and whether there were more.

    Raises:
        TimeoutError: If they drip past the deadline.
        http.client.IncompleteRead: If the server promised more than it sent.
    """
    promised = response.length
    if promised is not None and promised > LARGEST_REPLY:
        return b"", True
    body = b""
    while len(body) <= LARGEST_REPLY:
        if time.monotonic() > deadline:
            raise TimeoutError
        part = response.read1(LARGEST_REPLY + 1 - len(body))
        if not part:
            break
        body += part
    if promised is not None and len(body) < promised:
        raise http.client.IncompleteRead(body, promised - len(body))
    return body[:LARGEST_REPLY], len(body) > LARGEST_REPLY


def _wait(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds seconds or a date; None if it is absent or unreadable."""
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if value.strip().isdigit() else _until(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _until(date: str) -> float:
    return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())


def _reason(error: Exception, timeout: float) -> str:
    """Why there was no answer, in words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing complete came within {timeout:g} s; a larger timeout= waits longer"
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(cause, (ConnectionError, http.client.IncompleteRead)):
        return "the connection was closed before the answer was complete"
    return plain(f"{type(cause).__name__}: {cause}")


def _unescaped(body: str) -> str:
    """JSON with its characters as they are, so that nothing hides behind escapes; other text as it is."""
    try:
        return json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError):
        return body


def _blank(text: str, secrets: list[str]) -> str:
    """A text with every secret blanked: as it is, as quoted in an address, and as quoted in JSON."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            for form in (secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1]):
                text = text.replace(form, "***")
    return text


def plain(text: str) -> str:
    """The first 200 characters, without what a terminal could take for a command."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())
