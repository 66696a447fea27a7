"""The server of a rating: one page, blind images, every vote on disk at once. Standard library only."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ditlens.bench.folder import BenchFolder, read_folder
from ditlens.bench.html import asset, render
from ditlens.bench.rating import files
from ditlens.bench.rating.ballots import Ballot, Comparison, Rules
from ditlens.errors import BenchError, DitlensError, SettingError, WriteError
from ditlens.files import write_json

MOST_BYTES = 16 * 1024
"""Larger bodies are refused."""
POLICY = "default-src 'none'; img-src 'self' data:; script-src 'self'; style-src 'self'; connect-src 'self'"
"""The page may load from this server only, whatever the texts of a suite contain."""


def serve(folder: str | Path, port: int = 8765, host: str = "127.0.0.1", rules: Rules | None = None) -> None:
    """Show the voting page until Ctrl-C; votes go to `votes/VOTER.jsonl` in the folder.

    Args:
        folder: What `ditlens bench edit --out` wrote.
        port: Port; 0 takes a free one.
        host: 127.0.0.1 is for this computer only; 0.0.0.0 lets everyone in the network vote.
        rules: How many pairs, repeats and checks a ballot has.

    Raises:
        SettingError: If the port is taken, or there is nothing to compare.
        BenchError: If the folder is damaged, or has votes that were cast under other rules.
    """
    server = make_server(folder, port, host, rules)
    port = server.server_address[1]
    everyone = host in ("0.0.0.0", "::", "")
    for address in addresses() if everyone else [host]:
        sys.stdout.write(f"Vote at http://{address}:{port}/ (Ctrl-C ends)\n")
    if everyone or not (host == "localhost" or host.startswith("127.") or host == "::1"):
        sys.stdout.write("Everyone in this network can open it, unencrypted. Tell your voters the address.\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.stdout.write("Stopped. All votes are on disk.\n")
    finally:
        server.server_close()


def addresses() -> list[str]:
    """Addresses of this computer in its networks (IPv4); its name if it is in none."""
    import psutil

    every = [
        each for found in psutil.net_if_addrs().values() for each in found if each.family == socket.AF_INET
    ]
    outside = [each.address for each in every if not each.address.startswith(("127.", "169.254."))]
    return outside or [socket.gethostname()]


def make_server(
    folder: str | Path, port: int = 8765, host: str = "127.0.0.1", rules: Rules | None = None
) -> ThreadingHTTPServer:
    """The server, listening but not yet serving; its arguments are those of `serve`."""
    poll = Poll(read_folder(folder), rules or Rules())
    try:
        return Server((host, port), partial(VoteHandler, poll))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "ports are numbers from 0 to 65535"
        raise SettingError(
            f"No server can listen on {host}:{port}: {reason}. Choose another port, or let the system take "
            "a free one: port=0, in a terminal --port 0."
        ) from error


class Server(ThreadingHTTPServer):
    """Queues the requests of a whole class that clicks Next at once."""

    request_queue_size = 256
    daemon_threads = True


class RefusedError(Exception):
    """A request that is answered by an error.

    Args:
        status: HTTP status.
        why: What the answer says.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Poll:
    """Ballots, images and votes of one folder, behind opaque names.

    Args:
        bench: The run.
        rules: How ballots are drawn. The first vote fixes them.
    """

    def __init__(self, bench: BenchFolder, rules: Rules) -> None:
        self.bench, self.rules = bench, rules
        self.secret = self._open()
        self.results = files.result_files(bench)
        self.ballot = lru_cache(256)(partial(Ballot, bench, rules=rules))
        self.lock = threading.Lock()

    def _open(self) -> bytes:
        """Compare the rules, and a ballot drawn by them, with those of earlier votes; return the secret."""
        pairs = [vars(pair) for pair in Ballot(self.bench, "0" * 16, self.rules).pairs]
        drawn = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
        path = files.votes_folder(self.bench) / "rules.json"
        now: dict[str, Any] = {"rules": asdict(self.rules), "drawn": drawn}
        try:
            old = json.loads(path.read_text("utf-8"))
            if {key: old[key] for key in now} == now:
                return bytes.fromhex(old["secret"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(
                f"{path} is damaged: {error}. Move the folder votes elsewhere and start again."
            ) from error
        if any(path.parent.glob("*.jsonl")):
            raise BenchError(
                f"{path.parent} has votes that were cast under other rules or on other results. Use the rules in "
                f"{path.name}, or move the folder votes elsewhere to start again."
            )
        secret = secrets.token_bytes(32)
        write_json(path, {**now, "secret": secret.hex()})
        return secret

    def name(self, voter: str, number: int, side: str) -> str:
        """The opaque name of an image."""
        return hmac.new(self.secret, f"{voter} {number} {side}".encode(), "sha256").hexdigest()[:32]

    def to_page(self, voter: str) -> dict[str, Any]:
        """A ballot as the page sees it: nothing in it reveals a method, a repeat or a check."""
        pairs = [
            {
                "pair": pair.number, "instruction": self.bench.items[pair.item].instruction,
                **{side: f"image/{voter}/{self.name(voter, pair.number, side)}" for side in files.SIDES},
            }
            for pair in self.ballot(voter).pairs
        ]  # fmt: skip
        return {"pairs": pairs, "done": sorted(files.done(self.bench, voter))}

    def image(self, voter: str, name: str) -> bytes:
        """The image behind a name, as PNG."""
        for pair in self.ballot(voter).pairs:
            for side in files.SIDES:
                if hmac.compare_digest(self.name(voter, pair.number, side), name):
                    shown = files.shown(self.bench, self.results, pair, side)
                    return files.blind_png(self.bench, *shown)
        raise RefusedError(404, "there is no such image")

    def vote(self, data: Any) -> dict[str, Any]:
        """Store one vote."""
        if not isinstance(data, dict) or not isinstance(data.get("voter"), str):
            raise RefusedError(400, "a vote is an object with voter, pair, follows and keeps")
        try:
            path = files.voter_file(self.bench, data["voter"])
            answers = files.answers_of(data)
        except ValueError as error:
            raise RefusedError(400, str(error)) from error
        voter, pair = data["voter"], self._pair(data)
        with self.lock:
            finished = files.done(self.bench, voter)
            if pair.number in finished:
                raise RefusedError(409, "this pair has been voted on")
            line = files.vote_line(voter, pair, answers, files.seconds_of(data))
            try:
                files.append_line(path, line)
            except WriteError as error:
                raise RefusedError(500, f"the vote could not be stored: {error.strerror}") from error
        return {"stored": pair.number, "done": len(finished) + 1}

    def _pair(self, data: dict[str, Any]) -> Comparison:
        number, pairs = data.get("pair"), self.ballot(data["voter"]).pairs
        if type(number) is not int or not 0 <= number < len(pairs):
            raise RefusedError(404, "there is no such pair")
        return pairs[number]


class VoteHandler(BaseHTTPRequestHandler):
    """Answers GET / and its two files, GET ballot, GET image and POST vote; refuses everything else."""

    timeout = 20  # seconds; a silent connection does not hold a thread forever
    server_version = "ditlens"
    sys_version = ""

    def __init__(self, poll: Poll, *request: Any) -> None:
        self.poll = poll
        super().__init__(*request)

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, work: Callable[[], tuple[bytes, str]]) -> None:
        status = 200
        try:
            body, kind = work()
        except RefusedError as error:
            status, body, kind = error.status, _json({"error": str(error)}), "application/json"
        except DitlensError as error:
            self.log_error("%s", error)
            status, body, kind = 500, _json({"error": "this image cannot be read"}), "application/json"
        self.send_response(status)
        headers = {
            "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
        }  # fmt: skip
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _get(self) -> tuple[bytes, str]:
        address = urlsplit(self.path)
        pages = {"/": "html", "/vote.css": "css", "/vote.js": "javascript"}
        if address.path in pages:
            text = render("vote.html", ballots=False) if address.path == "/" else asset(address.path[1:])
            return text.encode(), f"text/{pages[address.path]}; charset=utf-8"
        parts = address.path.split("/")[1:]
        if parts == ["ballot"]:
            voter = parse_qs(address.query).get("voter", [""])[0]
            return _json(self.poll.to_page(self._voter(voter))), "application/json"
        if len(parts) == 3 and parts[0] == "image" and parts[2].isascii():
            return self.poll.image(self._voter(parts[1]), parts[2]), "image/png"
        raise RefusedError(404, "there is no such page")

    def _post(self) -> tuple[bytes, str]:
        body = self._body()
        if self.path != "/vote":
            raise RefusedError(404, "there is no such page")
        if self.headers.get_content_type() != "application/json":
            raise RefusedError(415, "a vote is sent as application/json")  # other sites cannot send that
        try:
            data = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RefusedError(400, "the body is not JSON") from error
        return _json(self.poll.vote(data)), "application/json"

    def _body(self) -> bytes:
        """The whole body, if it is short enough."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RefusedError(411, "the length of the body is missing")
        if len(length) > 9 or int(length) > MOST_BYTES:
            self.rfile.read(
                64 * MOST_BYTES if len(length) > 6 else int(length)
            )  # or the answer would not arrive
            raise RefusedError(413, f"a body has at most {MOST_BYTES} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise RefusedError(400, "the body was cut off")
        return body

    def _voter(self, voter: str) -> str:
        try:
            files.voter_file(self.poll.bench, voter)
        except ValueError as error:
            raise RefusedError(400, str(error)) from error
        return voter

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ARG002
        """Keep no log: it would record the addresses of voters."""


def _json(data: Any) -> bytes:
    return json.dumps(data).encode()
