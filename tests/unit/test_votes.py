"""The rating: blind, complete, and no vote is lost."""

from __future__ import annotations

import io
import json
import random
import re
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from types import SimpleNamespace

import pytest
from bench_run import write_run
from PIL import Image

from ditlens.bench.html import asset
from ditlens.bench.rating import server as server_module
from ditlens.bench.rating.ballots import FLIPPED, Ballot, Rules
from ditlens.bench.rating.export import export_static
from ditlens.bench.rating.server import make_server, serve
from ditlens.bench.rating.tally import tally
from ditlens.errors import BenchError, SettingError

VOTER, OTHER = "00c0ffee00c0ffee", "0123456789abcdef"
RULES = Rules(pairs=10, shared=3, repeats=2, checks=2)


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def server(folder):
    """A served rating: a function that asks it, over HTTP."""
    httpd = make_server(folder, 0, rules=RULES)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    base = f"http://127.0.0.1:{httpd.server_address[1]}"

    def ask(path, data=None, kind="application/json", raw=None):
        body = raw if raw is not None else None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{base}/{path}", body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    ask.address = httpd.server_address
    yield ask
    httpd.shutdown()
    httpd.server_close()


def vote(pair=0, voter=VOTER, **more):
    return {"voter": voter, "pair": pair, "follows": "left", "keeps": "same", "seconds": 3.5} | more


# --- ballots -----------------------------------------------------------------------------------------------


def test_a_ballot_is_the_voters_own_and_stays_it(folder):
    first, again, other = (Ballot(folder, v, RULES).pairs for v in (VOTER, VOTER, OTHER))
    assert first == again and first != other and len(first) == 14
    assert Counter(pair.role for pair in first)["repeat"] == 2
    shared = [
        {(p.item, frozenset((p.left, p.right))) for p in b if p.role == "shared"} for b in (first, other)
    ]
    assert shared[0] == shared[1] and len(shared[0]) == 3
    assert all(pair.left != pair.right for pair in first if not pair.is_check)
    fresh = {(p.item, frozenset((p.left, p.right))): p for p in first if p.role in ("new", "shared")}
    for pair in first:
        if pair.role == "repeat":
            before = fresh[(pair.item, frozenset((pair.left, pair.right)))]
            assert (before.left, before.right) == (pair.right, pair.left), "sides are swapped"


def test_methods_and_sides_are_balanced(folder):
    rules = Rules(pairs=12, shared=0, repeats=0, checks=0)
    pairs = [p for k in range(60) for p in Ballot(folder, f"{k:016x}", rules).pairs]
    left, seen = Counter(p.left for p in pairs), Counter(m for p in pairs for m in (p.left, p.right))
    for method, count in seen.items():
        assert count == pytest.approx(2 * len(pairs) / 3, rel=0.15), method
        assert left[method] == pytest.approx(count / 2, rel=0.2), method


def test_nothing_to_compare_is_told(tmp_path):
    with pytest.raises(SettingError):
        Ballot(write_run(tmp_path / "one", ("ems",)), VOTER)
    with pytest.raises(SettingError, match="16 hexadecimal digits"):
        Ballot(tmp_path, "../../etc")


# --- the server --------------------------------------------------------------------------------------------


def test_the_server_is_for_this_computer_only(server):
    assert server.address[0] == "127.0.0.1"
    status, page, headers = server("")
    assert status == 200 and b"<html" in page and b"ballots.js" not in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_the_page_cannot_tell_the_methods(server, folder):
    _, body, _ = server(f"ballot?voter={VOTER}")
    ballot = json.loads(body)
    assert len(ballot["pairs"]) == 14 and ballot["done"] == []
    assert not any(
        word in body.decode() for word in ("ems", "sdedit", "ddib", "repeat", "shared", "check", "item0")
    )
    names = [pair[side] for pair in ballot["pairs"] for side in ("source", "left", "right")]
    assert len(set(names)) == len(names), "the same picture has another name each time"
    status, png, headers = server(names[1])
    picture = Image.open(io.BytesIO(png))
    assert status == 200 and headers["Content-Type"] == "image/png" and not picture.info, "no recipe inside"


def test_votes_are_on_disk_at_once_and_count_once(server, folder):
    status, body, _ = server("vote", vote(0))
    assert (status, json.loads(body)) == (200, {"stored": 0, "done": 1})
    line = json.loads((folder / "votes" / f"{VOTER}.jsonl").read_text())
    pair = Ballot(folder, VOTER, RULES).pairs[0]
    assert (line["item"], line["left"], line["right"], line["follows"]) == (
        pair.item,
        pair.left,
        pair.right,
        "left",
    )
    assert server("vote", vote(0, follows="right"))[0] == 409
    assert server("vote", vote(0, OTHER))[0] == 200, "another voter's pair"
    assert json.loads(server(f"ballot?voter={VOTER}")[1])["done"] == [0], "a reload goes on"
    assert len((folder / "votes" / f"{VOTER}.jsonl").read_text().splitlines()) == 1


def test_a_torn_line_costs_only_itself(server, folder):
    server("vote", vote(0))
    path = folder / "votes" / f"{VOTER}.jsonl"
    path.write_bytes(path.read_bytes() + b'{"voter": "00c0')  # killed while writing
    assert server("vote", vote(1))[0] == 200
    found = tally(folder, resamples=10)
    assert found["unreadable"] == 1 and json.loads(server(f"ballot?voter={VOTER}")[1])["done"] == [0, 1]


def test_many_at_once_lose_nothing(server, folder):
    def cast(k):
        assert server("vote", vote(k % 14, f"{k // 14:016x}"))[0] == 200

    threads = [threading.Thread(target=cast, args=(k,)) for k in range(42)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line for path in (folder / "votes").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == 42 and len({(json.loads(x)["voter"], json.loads(x)["number"]) for x in lines}) == 42


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("vote", {"data": vote(99)}, 404),
        ("vote", {"data": vote(voter="../../../tmp/x")}, 400),
        ("vote", {"data": vote(follows="up")}, 400),
        ("vote", {"data": [1]}, 400),
        ("vote", {"raw": b"{"}, 400),
        ("vote", {"raw": b"x" * 20_000}, 413),
        ("vote", {"data": vote(), "kind": "text/plain"}, 415),
        ("elsewhere", {}, 404),
        ("../bench.json", {}, 404),
        (f"image/{VOTER}/..%2F..%2Fbench.json", {}, 404),
        ("ballot?voter=" + "x" * 16, {}, 400),
    ],
)
def test_other_requests_are_refused(server, folder, path, options, status):
    assert server(path, **options)[0] == status
    assert not list((folder / "votes").glob("*.jsonl"))


def test_other_rules_after_the_first_vote_are_refused(server, folder):
    server("vote", vote(0))
    with pytest.raises(BenchError, match="other rules"):
        make_server(folder, 0, rules=Rules(pairs=5, shared=1, repeats=0, checks=0))


def test_a_taken_port_is_told(server, folder):
    with pytest.raises(SettingError, match=r"a free one: port=0, in a terminal --port 0\."):
        make_server(folder, server.address[1], rules=RULES)
    with pytest.raises(SettingError, match="numbers from 0 to 65535"):
        make_server(folder, 70_000, rules=RULES)


# --- without a server --------------------------------------------------------------------------------------


def test_the_exported_page_holds_no_names_and_its_votes_can_be_read(folder, tmp_path):
    page = export_static(folder, tmp_path / "voting", ballots=3, rules=RULES)
    assert '<script src="ballots.js"></script>' in page.read_text("utf-8")
    script = (page.parent / "ballots.js").read_text()
    assert not any(word in script for word in ("ems", "sdedit", "ddib", "item0"))
    data = json.loads(script.split("window.BALLOTS = ")[1].rstrip(";\n"))
    assert all((page.parent / pair["left"]).is_file() for pair in data["ballots"][0])
    (key,) = (folder / "votes").glob("key-*.json")
    roles = [pair["role"] for pair in json.loads(key.read_text())["ballots"][1]]
    number = next(k for k, role in enumerate(roles) if role == "new")
    line = {"export": data["export"], "ballot": 1, "voter": VOTER, "pair": number, "follows": "left",
            "keeps": "left", "seconds": 2, "time": "2026-01-01T00:00:00Z"}  # fmt: skip
    (folder / "votes" / "handed_in.jsonl").write_text(json.dumps(line) + "\n")
    assert tally(folder, resamples=10)["voters"] == 1
    with pytest.raises(SettingError, match="not empty"):
        export_static(folder, page.parent)


# --- counting ----------------------------------------------------------------------------------------------


def write_votes(folder, judge, voters=12, seed=0):
    rng = random.Random(seed)
    httpd = make_server(folder, 0, rules=RULES)  # writes the rules
    httpd.server_close()
    for k in range(voters):
        voter = f"{k:016x}"
        lines = []
        for pair in Ballot(folder, voter, RULES).pairs:
            answer = judge(pair, rng)
            lines.append({"voter": voter, **vars(pair), "follows": answer, "keeps": answer,
                          "seconds": 1.0, "time": ""})  # fmt: skip
        (folder / "votes" / f"{voter}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


def careful(pair, rng):
    """Passes the checks; prefers ems over sdedit over ddib, four times in five."""
    order = ["ems", "sdedit", "ddib"]
    if pair.role == "twins":
        return "same"
    if pair.role == "flipped":
        return "left" if pair.right == FLIPPED else "right"
    best = min((pair.left, pair.right), key=order.index)
    right = rng.random() < 0.8
    return "left" if (best == pair.left) == right else "right"


def test_the_count_finds_the_order(folder):
    write_votes(folder, careful)
    found = tally(folder, resamples=100)
    assert found["voters"] == 12 and found["votes"] == 12 * 12 and not found["excluded"]
    methods = found["questions"]["follows"]["methods"]
    rates = {name: result["win_rate"]["value"] for name, result in methods.items()}
    assert rates["ems"] > rates["sdedit"] > rates["ddib"]
    assert methods["ems"]["win_rate"]["low"] < rates["ems"] < methods["ems"]["win_rate"]["high"]


def test_who_fails_the_checks_is_left_out(folder):
    write_votes(folder, lambda pair, rng: "left", voters=3)
    with_all = tally(folder, resamples=10)
    assert len(with_all["excluded"]) == 3 and with_all["votes"] == 0


def test_no_votes_are_told(folder):
    with pytest.raises(BenchError):
        tally(folder)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["192.168.7.5", "10.1.2.3"]),
        ("192.168.7.5", ["192.168.7.5"]),
    ],
)
def test_the_addresses_that_are_shown_can_be_opened(folder, monkeypatch, capsys, host, shown):
    cards = {
        "lo": ["127.0.0.1"], "wifi": ["192.168.7.5", "169.254.1.1"], "cable": ["10.1.2.3"],
    }  # fmt: skip
    found = {
        card: [SimpleNamespace(family=socket.AF_INET, address=each) for each in every]
        for card, every in cards.items()
    }
    monkeypatch.setattr("psutil.net_if_addrs", lambda: found)

    class Ended(SimpleNamespace):
        server_address, serve_forever, server_close = (host, 8765), lambda self: None, lambda self: None

    monkeypatch.setattr(server_module, "make_server", lambda *_: Ended())
    serve(folder, host=host)
    said = capsys.readouterr().out
    assert [line.split()[2] for line in said.splitlines() if "Vote at" in line] == [
        f"http://{each}:8765/" for each in shown
    ]
    assert ("Everyone in this network" in said) == (host != "127.0.0.1")


def test_sources_are_as_large_as_results():
    style = asset("vote.css")
    for rule in re.findall(r"[.]source [{](.*?)[}]", style):
        assert "padding" not in rule and "border" not in rule, "they would make the image in it smaller"
        if "width" in rule:  # on a phone, two columns with a gap of half a rem
            assert "width: calc(50% - .25rem)" in rule
