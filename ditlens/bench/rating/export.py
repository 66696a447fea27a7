"""A rating without a server: a folder of plain files, whose votes come back as downloads."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from ditlens.bench.folder import BenchFolder, read_folder
from ditlens.bench.html import asset, render
from ditlens.bench.rating import files
from ditlens.bench.rating.ballots import Ballot, Comparison, Rules
from ditlens.errors import SettingError
from ditlens.files import user_path, write_whole


def export_static(
    folder: str | Path | BenchFolder, out: str | Path, ballots: int = 20, rules: Rules | None = None
) -> Path:
    """Write a voting page that works from any static host, and from a double click.

    Votes stay in the browser until their voter downloads them. Which method made which image is written to
    `votes/key-*.json` in the benchmark's folder, never to `out`: keep it, no vote can be read without it.

    Args:
        folder: What `ditlens bench edit --out` wrote.
        out: A new or empty folder.
        ballots: Different ballots; every browser picks one at random.
        rules: How many pairs, repeats and checks a ballot has.

    Returns:
        The page to open.

    Raises:
        SettingError: If `out` is not empty, or there is nothing to compare.
        BenchError: If the folder is damaged.
    """
    bench, out = read_folder(folder), user_path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingError(f"{out} is not empty. Name a new folder: the images of two ratings must not mix.")
    if ballots < 1:
        raise SettingError("A rating needs at least one ballot: set ballots=20.")
    images, results = out / "images", files.result_files(bench)

    @cache
    def address(image: str, flipped: bool) -> str:
        """Write an image once, under a random name."""
        path = images / f"{secrets.token_hex(8)}.png"
        write_whole(path, files.blind_png(bench, image, flipped))
        return path.relative_to(out).as_posix()

    def as_seen(pair: Comparison) -> dict[str, Any]:
        """A pair as the page sees it."""
        addresses = {side: address(*files.shown(bench, results, pair, side)) for side in files.SIDES}
        return {"pair": pair.number, "instruction": bench.items[pair.item].instruction, **addresses}

    export = secrets.token_hex(8)
    drawn = [Ballot(bench, secrets.token_hex(8), rules).pairs for _ in range(ballots)]
    public = [[as_seen(pair) for pair in pairs] for pairs in drawn]
    key = {"export": export, "ballots": [[asdict(pair) for pair in pairs] for pairs in drawn]}
    write_whole(files.votes_folder(bench) / f"key-{export}.json", json.dumps(key))
    data = json.dumps({"export": export, "ballots": public}).replace("<", "\\u003c")
    pages = {
        "ballots.js": f'"use strict";\nwindow.BALLOTS = {data};\n', "vote.css": asset("vote.css"),
        "vote.js": asset("vote.js"), "index.html": render("vote.html", ballots=True),
    }  # fmt: skip
    for name, text in pages.items():
        write_whole(out / name, text)
    return out / "index.html"
