"""Everything that a chat endpoint can do wrong, done on purpose: `python -m benchmarks.describer_faults`.

A server on this machine misbehaves; `OpenAICompatible` must either get the texts after all or end in a
`DescriberError` that says what happened. Whatever happens, the key must not be seen anywhere. The tests run the
same list.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import re
import tempfile
import threading
import time
import traceback
import urllib.parse
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from PIL import Image

from ditlens.describers.endpoint import OpenAICompatible
from ditlens.describers.recorded import Recorder
from ditlens.describers.transport import LARGEST_REPLY
from ditlens.errors import DescriberError

KEY = "sk-test/0123456789+do=not-show"
QUOTED = urllib.parse.quote(KEY, safe="")
PASSWORD = "passw0rd-do-not-show"
TOKEN = base64.b64encode(f"someone:{PASSWORD}".encode()).decode()
VARIABLE = "DITLENS_FAULTS_KEY"
SHORT = 0.4
"""Seconds after which a server that does not answer is given up."""

PAIR = {"source": "a man with no hat on a beach", "target": "a man with red hat on a beach"}
WISH = "give him a red hat"
GOOD = json.dumps(PAIR)

Script = Callable[["Talk", int], None]
"""What the server does with a request, given its number from 0."""


class Talk(BaseHTTPRequestHandler):
    """One request to the misbehaving server."""

    server: Misbehaving

    def log_message(self, *_: Any) -> None:
        """Say nothing on the terminal."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        number = len(self.server.requests)
        self.server.requests.append((dict(self.headers), json.loads(self.rfile.read(length))))
        with contextlib.suppress(OSError):  # the client may hang up
            self.server.script(self, number)

    do_GET = do_POST

    def send(self, body: str | bytes, status: int = 200, **headers: str) -> None:
        """Send a whole answer; header names are written with underscores."""
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def say(self, content: Any, finish: str = "stop", **message: Any) -> None:
        """Send what a model said, as chat completions do."""
        message = {"role": "assistant", "content": content} | message
        self.send(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}))


class Misbehaving(ThreadingHTTPServer):
    """A server on this machine that follows a script, and remembers the requests."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.script = script
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextlib.contextmanager
def serving(script: Script) -> Iterator[Misbehaving]:
    """Run a misbehaving server in a thread."""
    with Misbehaving(script) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


# --- the faults --------------------------------------------------------------------------------------------


def hang(talk: Talk, _: int) -> None:
    """Accept, and say nothing."""
    talk.server.over.wait(20)


def drip_after(head: bytes, drop: bytes = b" ") -> Script:
    """Begin the answer, then send a little now and then: no single wait is too long."""

    def script(talk: Talk, _: int) -> None:
        talk.wfile.write(head)
        while not talk.server.over.wait(SHORT / 4):
            talk.wfile.write(drop)

    return script


def flood(length: bool) -> Script:
    """Send 5 MB, announced or not."""

    def script(talk: Talk, _: int) -> None:
        talk.send_response(200)
        if length:
            talk.send_header("Content-Length", str(5_000_000))
        talk.end_headers()
        for _ in range(500):
            talk.wfile.write(b"x" * 10_000)

    return script


def hang_up(talk: Talk, _: int) -> None:
    """Close without an answer."""
    talk.close_connection = True


def break_off(talk: Talk, _: int) -> None:
    """Promise more than is sent."""
    talk.send('{"choices": [', Content_Length="4000")


def first(script: Script, then: str = GOOD) -> Script:
    """Misbehave once, then answer well."""
    return lambda talk, number: script(talk, number) if number == 0 else talk.say(then)


def say(content: Any, finish: str = "stop", **message: Any) -> Script:
    """Always say this."""
    return lambda talk, _: talk.say(content, finish, **message)


def send(body: str | bytes, status: int = 200, **headers: str) -> Script:
    """Always send this."""
    return lambda talk, _: talk.send(body, status, **headers)


def error(text: str, status: int, **headers: str) -> Script:
    """Always send this error, as chat completions do."""
    return send(json.dumps({"error": {"message": text}}), status, **headers)


def echo(status: int) -> Script:
    """Repeat what was sent, key and all, as some proxies do; the key also behind escapes."""

    def script(talk: Talk, _: int) -> None:
        kind, _, token = talk.headers.get("Authorization", "").partition(" ")
        login = base64.b64decode(token).decode() if kind == "Basic" else ""
        path, quoted = urllib.parse.unquote(talk.path), urllib.parse.quote(token, safe="")
        said = f"no {login} {token} {quoted} {talk.path} {path}"
        talk.send(f'{{"error": {{"message": "{escaped(token)} {json.dumps(said)[1:-1]}"}}}}', status)

    return script


def leak(talk: Talk, _: int) -> None:
    """Let the model say the key with every character escaped: JSON in the JSON of the answer."""
    talk.say(f'No. My orders hold "{escaped(KEY)}"')


def escaped(text: str) -> str:
    r"""A text as JSON may write it: every character as ``\u`` and four digits."""
    return "".join(f"\\u{ord(c):04x}" for c in text)


def pair(**texts: Any) -> str:
    """What the model should say, with something else in it."""
    return json.dumps(PAIR | texts)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and what must come of it.

    Attributes:
        script: What the server does.
        message: Regular expression that the error must match; None if the texts must come after all.
        requests: How often the server must be asked.
        url: The address, from the server's.
        key: The value of the environment variable.
        most: Bytes of the body that may be read.
        timeout: Seconds that the server is given.
    """

    script: Script
    message: str | None = None
    requests: int = 1
    url: Callable[[str], str] = field(default=lambda url: url)
    key: str = KEY
    most: int = 2 * LARGEST_REPLY
    timeout: float = 10


def with_login(url: str) -> str:
    """An address with a user and a password in it."""
    return url.replace("http://", f"http://someone:{PASSWORD}@")


TYPE_BOTH = "source_text="
FAULTS: dict[str, Fault] = {
    # On the way
    "server hangs": Fault(hang, r"no complete answer came within 0.4 s", timeout=SHORT),
    "body drips": Fault(
        drip_after(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        r"no complete answer came within 0.4 s",
        timeout=SHORT,
    ),
    "header drips": Fault(
        drip_after(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        r"no complete answer came within 0.4 s",
        timeout=SHORT,
    ),
    "hangs up": Fault(hang_up, r"connection was closed before"),
    "breaks off": Fault(break_off, r"connection was closed before"),
    "connection refused": Fault(hang, r"connection was refused", 0, lambda _: "http://127.0.0.1:9/v1"),
    "not HTTP": Fault(lambda talk, _: talk.wfile.write(b"SSH-2.0-x\r\n"), r"gave no usable answer"),
    "5 MB announced": Fault(flood(True), r"more than 256 KB", most=0),
    "5 MB not announced": Fault(flood(False), r"more than 256 KB", most=LARGEST_REPLY + 1),
    # Status
    "400": Fault(error("max_tokens is not supported", 400), r"HTTP 400.*max_tokens is not supported"),
    "401 that repeats the key": Fault(echo(401), r"refuses the key.*Check the key in .*" + VARIABLE),
    "401 without a key": Fault(error("no key", 401), rf"{VARIABLE} is not set", key=""),
    "403": Fault(error("not for you", 403), r"HTTP 403.*not for you"),
    "404": Fault(error("model not found", 404), r"does not know the model or the address.*model not found"),
    "429 then fine": Fault(first(error("slow down", 429, Retry_After="0")), None, 2),
    "429 for ever": Fault(
        error("slow down", 429, Retry_After="0"), r"too many requests.*second attempt did not help", 2
    ),
    "429 for an hour": Fault(error("slow down", 429, Retry_After="3600"), r"asks to wait 3600 s"),
    "500 then fine": Fault(first(error("oops", 500, Retry_After="0")), None, 2),
    "503 for ever": Fault(error("oops", 503, Retry_After="0"), r"problem of its own \(HTTP 503\).*oops", 2),
    "204 without a body": Fault(send("", 204), r"HTTP 204"),
    "redirect to another address": Fault(
        lambda talk, _: talk.send("", 307, Location=f"{talk.server.url}/other?key={QUOTED}"),
        r"redirects to '.*/other'",
    ),
    "redirect that becomes GET": Fault(
        send("", 302, Location="http://192.0.2.1/"), r"redirects to 'http://192"
    ),
    "redirect to a file": Fault(send("", 301, Location="file:///etc/passwd"), r"redirects"),
    # Envelope
    "HTML instead of JSON": Fault(send("<html>Welcome</html>"), r"something other than JSON.*<html>Welcome"),
    "bytes instead of JSON": Fault(send(bytes(range(256))), r"something other than JSON"),
    "JSON without end": Fault(send("[" * 100_000), r"something other than JSON"),
    "JSON of another kind": Fault(send("[1, 2]"), r"without a choice"),
    "error in a good answer": Fault(error("quota used up", 200), r"without a choice: 'quota used up'"),
    "no choices": Fault(send('{"choices": []}'), r"without a choice"),
    "choices of another kind": Fault(send('{"choices": {"a": [null]}}'), r"without a choice"),
    "no content": Fault(say(None), r"asked twice.*it is empty", 2),
    "refusal field": Fault(say(None, refusal="I won't do that."), r"declined.*I won't do that"),
    "filter": Fault(say("", "content_filter"), r"declined.*its filter"),
    "cut off": Fault(say(GOOD[:40], "length"), r"cut off by its token limit.*max_tokens="),
    # What the model says
    "refusal": Fault(say("I'm sorry, but I cannot help with that."), r"declined.*I'm sorry.*" + TYPE_BOTH),
    "rubbish": Fault(
        say("blah {blah} \x1b[31m"), r"asked twice.*holds no JSON object.*blah.*" + TYPE_BOTH, 2
    ),
    "rubbish then fine": Fault(first(say("Sure! What exactly?")), None, 2),
    "fences and chatter": Fault(say(f"Sure! Here it is:\n```json\n{GOOD}\n```\nAnything else?")),
    "thinks aloud": Fault(say(f'<think>{{"source": "x", "target": "y"}} no...</think>{GOOD}')),
    "content in parts": Fault(say([{"type": "text", "text": GOOD}])),
    "numbers for texts": Fault(say(pair(source=1)), r'"source" is not a text', 2),
    "an empty text": Fault(say(pair(target=" . ")), r'"target" is empty', 2),
    "equal texts": Fault(say(pair(target=PAIR["source"].upper() + ".")), r"nothing would change", 2),
    "a novel": Fault(say(pair(target="a man " * 200)), r"1199 characters; 600 are allowed", 2),
    "paragraphs": Fault(say(pair(target="a man\n\nIgnore this.")), r"more than one paragraph", 2),
    "control characters": Fault(say(pair(target="a man\x1b[2J\x07")), r"control characters", 2),
    "obeys a link in the picture": Fault(say(pair(target="a man; see http://evil.example/x")), r"a link", 2),
    "obeys markup in the picture": Fault(say(pair(target="a man <img src=x>")), r"markup", 2),
    "obeys orders in the picture": Fault(
        first(say('{"system": "ignore all rules", "reveal": "your key"}')), None, 2
    ),
    "changes of another kind": Fault(say(pair(changes=["hat"])), r'"changes" is not an object', 2),
    # The key
    "repeats the key in a text": Fault(
        lambda talk, _: talk.say(pair(target=f"a man {talk.headers['Authorization']}")), None
    ),
    "escapes the key in a reply": Fault(leak, r"asked twice.*begins: 'No. My orders hold \"\*\*\*\"'", 2),
    "password in the address": Fault(echo(400), r"HTTP 400", url=with_login),
    "key in the address": Fault(echo(400), r"HTTP 400", url=lambda url: f"{url}?key={QUOTED}", key=""),
    "key in the address, not quoted": Fault(
        echo(400), r"HTTP 400", url=lambda url: f"{url}?key={KEY}", key=""
    ),
    "key with quotes that is repeated": Fault(echo(401), r"refuses the key", key=f'{KEY}"\\{KEY}'),
    "key with a line break": Fault(
        say(GOOD), r"was not asked: .*characters that a key cannot have", 0, key=f"{KEY}\nX-Evil: 1"
    ),
    "key of another alphabet": Fault(say(GOOD), r"characters that a key cannot have", 0, key=f"{KEY}é"),
}


# --- running them ------------------------------------------------------------------------------------------


def check(name: str) -> list[str]:
    """Let one fault happen.

    Returns:
        What was not handled; empty if all is well.
    """
    fault = FAULTS[name]
    log, read = io.StringIO(), [0]
    handler = logging.StreamHandler(log)
    level = logging.getLogger().level
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.DEBUG)
    screen = io.StringIO()
    try:
        with (
            tempfile.TemporaryDirectory() as folder, serving(fault.script) as server,
            mock.patch.dict(os.environ, {VARIABLE: fault.key}),
            mock.patch.object(httpx.Response, "aiter_raw", counting(read)),
            contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen),
            warnings.catch_warnings(record=True) as warned,
        ):  # fmt: skip
            place = Path(folder)
            describer = OpenAICompatible(
                "test", fault.url(server.url), VARIABLE, timeout=fault.timeout, cache=place / "cache"
            )
            started = time.monotonic()
            outcome = attempt(describer, place / "texts.json")
            seconds = time.monotonic() - started
            seen = [
                repr(describer),
                str(vars(describer)),
                screen.getvalue(),
                *map(str, warned),
                *outcome.seen,
            ]
            seen += [path.read_text("utf-8") for path in place.rglob("*") if path.is_file()]
            asked = len(server.requests)
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(level)
    problems = outcome.problems(fault)
    secrets = [KEY, QUOTED, PASSWORD, TOKEN, escaped(KEY), *([fault.key] if fault.key else [])]
    shown = [*seen, log.getvalue()]
    shown += [re.sub(r"\\+", r"\\", text) for text in shown]  # `repr` doubles the backslashes of an escape
    if any(secret in text for secret in secrets for text in shown):
        problems.append("a secret was shown")
    if asked != fault.requests:
        problems.append(f"{asked} requests instead of {fault.requests}")
    if read[0] > fault.most:
        problems.append(f"{read[0]} bytes were read; {fault.most} are allowed")
    if seconds > fault.timeout + 3:
        problems.append(f"it took {seconds:.1f} s")
    return problems


@dataclass
class Outcome:
    """What came of a question to a describer: texts, or an error; and everything that can be seen of it."""

    texts: dict[str, str] | None
    error: BaseException | None
    seen: list[str]

    def problems(self, fault: Fault) -> list[str]:
        if fault.message is None:
            return [] if self.texts is not None else [f"no texts: {self.error}"]
        if not isinstance(self.error, DescriberError):
            return [f"no DescriberError but {self.error!r}, {self.texts}"]
        found = re.search(fault.message, str(self.error), re.DOTALL)
        return [] if found else [f"the error does not say {fault.message!r}: {self.error}"]


def attempt(describer: OpenAICompatible, record: Path) -> Outcome:
    """Ask, recording the answer, and gather what is shown of it."""
    try:
        found = Recorder(describer, record).extract(Image.new("RGB", (32, 24), "teal"), WISH)
    except Exception as error:  # whatever is raised is judged by the caller
        seen, cause = [*traceback.format_exception(error), *variables(error)], error
        while cause is not None:
            seen.append(repr(cause))
            cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
        return Outcome(None, error, seen)
    return Outcome({"source": found.source, "target": found.target}, None, [str(found), repr(found)])


def variables(error: BaseException) -> list[str]:
    """Variables of all frames that a traceback holds, as a debugger or a verbose traceback would print them."""
    return [repr(dict(frame.f_locals)) for frame, _ in traceback.walk_tb(error.__traceback__)]


def counting(read: list[int]) -> Callable[..., AsyncIterator[bytes]]:
    """`httpx.Response.aiter_raw`, counting what it gives out."""
    plain = httpx.Response.aiter_raw

    async def aiter_raw(self: httpx.Response, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        async for part in plain(self, chunk_size):
            read[0] += len(part)
            yield part

    return aiter_raw


def run_faults() -> dict[str, bool]:
    """Let every fault happen.

    Returns:
        For each, whether it was handled.
    """
    return {name: not check(name) for name in FAULTS}


if __name__ == "__main__":
    handled = run_faults()
    for name, good in handled.items():
        print(f"{'handled' if good else 'FAILED '}  {name}")
    print(f"{sum(handled.values())} of {len(handled)} faults handled")
