"""A rating study without a server: a folder of plain files, whose votes come back as downloads."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ditlens.bench.rating import files as vote_files
from ditlens.bench.rating.ballots import FLIPPED, Ballot, Pair, Rules
from ditlens.bench.folder import BenchFolder, read_folder
from ditlens.bench.report.page import static
from ditlens.bench.rating.server import SIDES, voting_page
from ditlens.errors import SettingError


def export_static(
    folder: str | Path | BenchFolder, out: str | Path, ballots: int = 20, rules: Rules | None = None
) -> Path:
    """Write a voting page that works from any static host, and from a double click.

    Votes stay in the browser until their voter downloads them. What hides behind the pictures is written to
    `votes/key-*.json` in the benchmark's folder, never to `out`: keep it, no vote can be read without it.

    Args:
        folder: What `ditlens bench edit --out` wrote.
        out: A new or empty folder.
        ballots: Different ballots; every browser picks one by chance.
        rules: How many pairs, repeats and checks a ballot has.

    Returns:
        The page to open.

    Raises:
        SettingError: If `out` is not empty, or there is nothing to compare.
        StudyError: If the folder is damaged.
    """
    bench, out = read_folder(folder), Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingError(f"{out} is not empty. Name a new folder: pictures of two studies must not mix.")
    if ballots < 1:
        raise SettingError("A study needs at least one ballot: set ballots=20.")
    writer = _Pictures(bench, out / "pictures")
    export, drawn = secrets.token_hex(8), []
    for _ in range(ballots):
        drawn.append(Ballot(bench, secrets.token_hex(8), rules).pairs)
    public = [[_public(bench, pair, writer) for pair in pairs] for pairs in drawn]
    key = {"export": export, "ballots": [[asdict(pair) for pair in pairs] for pairs in drawn]}
    key_file = vote_files.votes_folder(bench) / f"key-{export}.json"
    key_file.parent.mkdir(parents=True, exist_ok=True)
    key_file.write_text(json.dumps(key) + "\n", "utf-8")
    data = json.dumps({"export": export, "ballots": public}).replace("<", "\\u003c")
    (out / "ballots.js").write_text(f'"use strict";\nwindow.BALLOTS = {data};\n', "utf-8")
    for name in ("vote.css", "vote.js"):
        (out / name).write_text(static(name), "utf-8")
    page = out / "index.html"
    page.write_text(voting_page('<script src="ballots.js"></script>'), "utf-8")
    return page


class _Pictures:
    """Writes every picture once, under a random name."""

    def __init__(self, bench: BenchFolder, out: Path) -> None:
        self.bench, self.out = bench, out
        self.results = vote_files.paths(bench)
        self.names: dict[tuple[str, bool], str] = {}
        out.mkdir(parents=True, exist_ok=True)

    def name(self, pair: Pair, side: str) -> str:
        file = vote_files.side_file(self.bench, self.results, pair, side)
        flipped = side != "source" and getattr(pair, side) == FLIPPED
        if (file, flipped) not in self.names:
            name = self.names[file, flipped] = secrets.token_hex(8)
            (self.out / f"{name}.png").write_bytes(vote_files.blind_png(self.bench.file(file), flipped))
        return f"pictures/{self.names[file, flipped]}.png"


def _public(bench: BenchFolder, pair: Pair, pictures: _Pictures) -> dict[str, Any]:
    """A pair as the page sees it."""
    shown = {side: pictures.name(pair, side) for side in SIDES}
    return {"pair": pair.number, "instruction": bench.items[pair.item].instruction, **shown}
