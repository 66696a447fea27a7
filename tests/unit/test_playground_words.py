"""The words of the playground: its table, and its JavaScript against what Python says."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from ditlens.errors import CaptionError
from ditlens.worlds.portraits import measure
from ditlens.worlds.portraits.attributes import NAMES, attribute, describe_values, neutral, sample
from ditlens.worlds.portraits.browser import caption_table, words_table
from ditlens.worlds.portraits.captions import compose, nameable
from ditlens.worlds.portraits.constraints import settle
from ditlens.worlds.portraits.edits import commands
from ditlens.worlds.portraits.instructions import parse_instruction
from ditlens.worlds.portraits.pairs import target_caption
from ditlens.worlds.portraits.phrases import PHRASES, normalise, tokens

ROOT = Path(__file__).parents[2]
PEOPLE = 300
TEXTS = (
    "A person with Shoulder-length hair; gray eyeglasses!", "what's this? it's a “blonde”, isn't it",
    "é_ß 3/4 & more", ",, a - b --c\n\nd ?, ?", "", "the person’s hat", "CAFÉ: no—really", "under_score", "'s",
    "’t",
)  # fmt: skip
EVERYDAY = """
make her smile|smile more|bigger smile|a big smile|make him frown|make her sad|make him angry|angry eyebrows|worried
remove the glasses|add glasses|give him sunglasses|glasses|round glasses|no glasses|put on a hat|give her a crown
put a crown on her head|take off the hat|take the hat off|hat off, crown on|a beanie please|make the hair pink
pink hair|dye her hair red|change hair color to blond|change the hair color to blonde|blonde hair|longer hair
make her hair longer|much longer hair|make him bald|curly hair|make the hair curly|give her curly red hair
long wavy blond hair|long hair and a crown|make her older|younger|old|make her look older|make him a bit older
a lot older|make her a child|add a beard|give him a long beard|shave the beard|remove beard|longer beard|stubble
change the background to blue|blue background|make background green|background green|red shirt|change shirt to red
give her a purple shirt|wear a red shirt|darker skin|lighter skin|tan|pale skin|open her mouth|close the mouth
mouth open|close her eyes|open eyes wide|bigger eyes|look left|look to the left|make her look right
tilt head to the left|wider face|thin face|make the face rounder|add earrings|pearl earrings|hoops|shorter hair
make her smile more and remove the glasses|smile, blue background, and a crown|remove the hat and the glasses
give him a beard and make him older|make her older and sad|happier|make him less happy|more beard|make her laugh
make him surprised|make her a queen|I want her to have long hair|can you make her smile?|let her wear glasses
could you remove the glasses please|make it a blue background|she should smile|turn the shirt green|add wrinkles
grey hair and wrinkles|put sunglasses on him|make her hair black and curly|make her hair shorter and her eyes bigger
make the eyes narrower|stop smiling|remove the smile|make him cry|swap the cap for a crown|without glasses
""".strip().replace("\n", "|").split("|")  # fmt: skip


def changes(text: str, values: dict) -> dict[str, int] | None:
    """What Python makes of a wish; None if it refuses it."""
    now = {name: attribute(name).level_of(values[name]) for name in NAMES}
    try:
        asked = parse_instruction(text, values)
    except CaptionError:
        return None
    levels = {name: settle(name, allowed, now[name]) for name, allowed in asked.items()}
    return {name: level for name, level in levels.items() if level != now[name]}


def portraits() -> list[dict]:
    """Random portraits with changes, and what Python says of them."""
    rng, found = random.Random(7), []
    before, after = (sample(PEOPLE, torch.Generator().manual_seed(seed)) for seed in (7, 8))
    for k in range(PEOPLE):
        values, later = describe_values(before, k), describe_values(after, k)
        wanted = {
            name: rng.randrange(len(PHRASES[name])) for name in rng.sample(NAMES, rng.choice((1, 2, 3, 18)))
        }
        levels = nameable(neutral(1, **values))[0]
        caption = compose(levels)
        pair = target_caption(caption, wanted, values=values)
        found.append({
            "values": values, "after": later, "changes": wanted, "levels": levels, "caption": caption,
            "pair": {"source": pair.source_text, "target": pair.target_text},
            "hidden": sorted(measure.hidden(values)), "drift": measure.drift(values, later, wanted),
            "reached": measure.reached(later, wanted), "progress": measure.progress(values, later, wanted),
        })  # fmt: skip
    return found


def wishes() -> dict[str, list[dict]]:
    """Wishes of this repository, each for a portrait, with what Python makes of them."""
    plain = describe_values(neutral(1))
    dressed = describe_values(neutral(1, glasses="round", hat="cap", earrings="hoops", beard=0.5, smile=0.5))
    asked = {
        "commands": [(text, plain) for text in sorted(commands())],
        "everyday": [(text, values) for text in EVERYDAY for values in (plain, dressed)],
    }
    for file in sorted((ROOT / "benchmarks/portraits").glob("wishes_*.jsonl")):
        for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            values = {name: attribute(name).value_of(level) for name, level in row["source"].items()}
            asked.setdefault("open lists", []).append((row["wish"], values))
    return {
        name: [{"text": text, "values": values, "changes": changes(text, values)} for text, values in listed]
        for name, listed in asked.items()
    }


def run(folder: Path, table: dict, recorded: dict) -> str:
    """Run the JavaScript tests on a table and what Python says."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the playground's JavaScript is not tested")
    for name, content in (("words.json", table), ("recorded.json", recorded)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    done = subprocess.run(
        [node, "--test", str(ROOT / "tests/playground/words.test.mjs")],
        env={**os.environ, "PLAYGROUND_RECORDED": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_levels_hold_phrases_and_values():
    table = json.loads(json.dumps(caption_table()))
    assert list(table["attributes"]) == list(NAMES)
    for name, spec in table["attributes"].items():
        assert [tuple(level["phrases"]) for level in spec["levels"]] == list(PHRASES[name])
        values = [attribute(name).value_of(level) for level in range(len(spec["levels"]))]
        assert [level["value"] for level in spec["levels"]] == values


def test_javascript_describes_and_measures_as_python_does(tmp_path):
    texts = [{"text": text, "tokens": tokens(text), "normalised": normalise(text)} for text in TEXTS]
    run(tmp_path, caption_table(), {"texts": texts, "portraits": portraits()})


@pytest.mark.slow
def test_javascript_reads_wishes_as_python_does_or_refuses_them(tmp_path):
    table = words_table()
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) < 300_000 and len(gzip.compress(text, 9)) < 61_440
    told = run(tmp_path, table, {
        "texts": [], "portraits": [], "wishes": wishes(), "neutral": describe_values(neutral(1)),
        "atLeast": {"commands": 760, "everyday": 2 * len(EVERYDAY) - 6, "open lists": 450},
    })  # fmt: skip
    print("\n".join(line for line in told.splitlines() if "understood" in line))  # noqa: T201
