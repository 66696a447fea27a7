"""One request to a server that is not trusted, with a key that is nobody's business.

The key is read from the environment for each request and lives in `post`, `blank` and below, which return and do
not raise, so that no traceback holds their frames. It is blanked in everything that the server says, and once more
in what is read from that.

A request has one time limit for everything: it runs in a thread of its own, and when the time is over its
connection is cut, whether it waits for a connection, for one more byte of a header, or for the rest of the body.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import ipaddress
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from ditlens.errors import SettingError

LARGEST_REPLY = 256 * 1024
"""Bytes of a server's reply that are read."""

SHORTEST_SECRET = 8
"""Characters from which on a key is blanked where a server repeats it; "EMPTY" or "ollama" are no secrets."""

THREAD = "ditlens request"
"""Name of the thread of a request."""

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
        sent: Whether the server was asked at all.
    """

    status: int = 0
    body: str = ""
    wait: float | None = None
    moved: str = ""
    fault: str = ""
    too_large: bool = False
    sent: bool = True


def post(address: Address, data: bytes, key_env: str | None, timeout: float) -> Answer:
    """Send JSON and return whatever comes of it; never raises.

    Args:
        address: Where to.
        data: The JSON.
        key_env: Name of the environment variable with the key; see `OpenAICompatible`.
        timeout: Seconds until the answer must be complete.
    """
    key = _key(key_env)
    if not (key.isascii() and key.isprintable()):
        return Answer(fault=f"{key_env} holds characters that no key has; set it again", sent=False)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "ditlens"}
    if address.login:
        headers["Authorization"] = f"Basic {_basic(address)}"
    elif key and address.encrypted:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(address.url, data=data, headers=headers, method="POST")
    line, answers = _Line(), list[Answer]()
    worker = threading.Thread(
        target=lambda: answers.append(_exchange(request, line, timeout, _secrets(address, key))),
        name=THREAD, daemon=True,
    )  # fmt: skip
    worker.start()
    try:
        worker.join(min(timeout, threading.TIMEOUT_MAX))
        answer = answers[0] if answers else Answer(fault=_reason(TimeoutError(), timeout))
    finally:
        line.cut()
    return answer


def blank(text: str, address: Address, key_env: str | None) -> str:
    """A text with the key and the secrets of the address blanked."""
    return _blank(text, _secrets(address, _key(key_env)))


def _key(key_env: str | None) -> str:
    return os.environ.get(key_env, "").strip() if key_env else ""


def _basic(address: Address) -> str:
    return base64.b64encode(address.login.encode()).decode()


def _secrets(address: Address, key: str) -> list[str]:
    return [*address.secrets, key, _basic(address)]


# --- the exchange ------------------------------------------------------------------------------------------


class _Line:
    """The connection of one exchange, which another thread can cut, whatever it is waiting for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._over = False

    def take(self, connected: socket.socket) -> None:
        """Remember a connection. A second handle to it is kept: the first may be closed, or wrapped by TLS."""
        with self._lock:
            self._socket = socket.fromfd(connected.fileno(), connected.family, connected.type)
            if self._over:
                self._shut()

    def cut(self) -> None:
        """End the connection, now or as soon as there is one."""
        with self._lock:
            self._over = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(OSError):  # the other side may have hung up
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None


class _OnLine(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections that can be cut."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self.line = line

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._watched(http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._watched(http.client.HTTPSConnection), req)

    def _watched(self, kind: Any) -> Any:
        """Makes connections of a kind that give their socket to the line once they have one."""

        def make(host: str, **settings: Any) -> Any:
            connection = kind(host, **settings)
            connect = connection.connect

            def connect_and_tell() -> None:
                connect()
                self.line.take(connection.sock)

            connection.connect = connect_and_tell
            return connection

        return make


def _exchange(request: urllib.request.Request, line: _Line, timeout: float, secrets: list[str]) -> Answer:
    """One request and its answer, with all secrets blanked in what came back; never raises."""
    handlers: list[urllib.request.BaseHandler] = [_AnyStatus(), _OnLine(line)]
    if is_this_machine(urllib.parse.urlsplit(request.full_url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as response:
            body, too_large = _read_body(response)
            location = response.headers.get("Location")
            return Answer(
                response.status,
                _blank(body.decode("utf-8", "replace"), secrets),
                _wait(response.headers.get("Retry-After")),
                _blank(shown(location), secrets) if location else "",
                too_large=too_large,
            )
    except Exception as error:  # sockets, TLS, proxies and http.client raise a dozen kinds
        return Answer(fault=_blank(_reason(error, timeout), secrets))


def _read_body(response: http.client.HTTPResponse) -> tuple[bytes, bool]:
    """At most `LARGEST_REPLY` bytes, and whether there were more.

    Raises:
        http.client.IncompleteRead: If the server promised more than it sent.
    """
    promised = response.length
    if promised is not None and promised > LARGEST_REPLY:
        return b"", True
    body = b""
    while len(body) <= LARGEST_REPLY:
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


def _blank(text: str, secrets: list[str]) -> str:
    """A text with every secret blanked, however its characters are written: see `_any_form`."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = re.sub("".join(map(_any_form, secret)), "***", text)
    return text


def _any_form(character: str) -> str:
    """A pattern for a character as it is, quoted in an address, or escaped in JSON, also in JSON within JSON.

    Every level of JSON doubles the backslashes: four levels have at most 15. The bound keeps the search fast.
    """
    units = character.encode("utf-16-be")
    escaped = "".join(rf"\\{{1,15}}u{units[k : k + 2].hex()}" for k in range(0, len(units), 2))
    quoted = "".join(f"%(?:25){{0,3}}{byte:02x}" for byte in character.encode())
    plainly = (r"\\{0,15}" if character in '"\\/' else "") + re.escape(character)
    return f"(?:{plainly}|(?i:{escaped}|{quoted}))"


def plain(text: str) -> str:
    """The first 200 characters, without what a terminal could take for a command."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())
