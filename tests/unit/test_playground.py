"""The playground: its numerics in JavaScript against Python's, and the folder that is built."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ditlens import flow
from ditlens.cli import playground as cli
from ditlens.description import single_changes
from ditlens.ems.masks import difference_mask, difference_settings
from ditlens.ems.methods import OdeEdit
from ditlens.ems.sample import iter_method
from ditlens.errors import MissingDependencyError, ModelError, SettingError, WriteError
from ditlens.models.model import Model
from ditlens.playground import pack, serve
from ditlens.playground.export import recipe_of

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
PAIRS = [
    ("a sad man, red hair", "a happy man, blue hair"),
    ("a big smile", "a big smile"),
    ("young person, slight smile, long red hair", "old person, big smile, long red hair, round glasses"),
    ("a person, no hat", "a person with a crown, no hat, and a beard"),
    ("long curly red hair and glasses", "long hair"),
    ("a, a, a, b", "a, b, a, a, a"),
    ("naïve café-goer's hat", "naïve café-goer’s cap"),
    ("", "a hat"),
    ("a hat", ""),
]


def field(latents, sigma, text):
    """The closed form of tests/playground/engine.test.mjs."""
    scale, mean = 0.25, text
    whole = scale * (1 - sigma) ** 2 + sigma**2
    index = torch.arange(latents[0].numel()).reshape(latents.shape[1:]) % 7
    slope = sigma / whole - (1 - sigma) * scale / whole
    return slope * (latents - (1 - sigma) * mean) - mean * (1 + index / 10)


def recorded() -> dict:
    """What JavaScript has to find, too."""
    noise = []
    for seed in (0, 3, 12345, 2**32 - 1):
        generator = flow.generator_of(seed)
        noise.append(
            {"seed": seed, "draws": [flow.normal((count,), generator).tolist() for count in (16, 2048, 64)]}
        )
    numbers = torch.rand(256, generator=flow.generator_of(1))
    quantiles = [
        {
            "numbers": numbers[:count].tolist(),
            "share": share,
            "wanted": float(numbers[:count].quantile(share)),
        }
        for count, share in ((256, 0.98), (1, 0.5), (10, 0.25), (10, 1.0))
    ]
    shape, sigmas, settings = (8, 4, 4), flow.sigmas_linear(6), difference_settings()
    latents = flow.normal((1, *shape), flow.generator_of(9))
    means = {mean: torch.full((1, 1, 1, 1), mean) for mean in (0.0, 0.2, 1.0, 1.001)}
    states = []
    start = flow.normal((1, *shape), flow.generator_of(5))
    sampled = flow.sample(
        field, start, sigmas, means[1.0], null_text=means[0.0], guidance=3.0, on_step=states.append
    )
    mask = difference_mask(field, latents, means[0.2], [means[1.0], means[1.001]], seed=5)
    given = torch.linspace(0, 1, 16).reshape(1, 1, 4, 4)
    method = OdeEdit("plain", steps=6)
    edits = []
    for degree in (1.0, 0.5, 0.0, 1.5):
        *_, last = iter_method(
            field, latents, means[0.2], means[0.2] + degree * (means[1.0] - means[0.2]), method, seeds=[5],
            mask=given,
        )  # fmt: skip
        edits.append({"degree": degree, "wanted": last.latents.flatten().tolist()})
    return {
        "noise": noise,
        "quantiles": quantiles,
        "changes": [{"source": a, "target": b, "wanted": single_changes(a, b)} for a, b in PAIRS],
        "flow": {
            "sigmas": sigmas.tolist(), "seed": 5, "size": 128, "mask": {**settings, "together": 4},
            "sampled": sampled.flatten().tolist(), "clean": states[0].clean.flatten().tolist(),
            "latents": latents.flatten().tolist(), "mask_found": mask.flatten().tolist(),
            "mask_given": given.flatten().tolist(), "edits": edits,
        },
    }  # fmt: skip


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_javascript_finds_what_python_finds(tmp_path):
    path = tmp_path / "values.json"
    path.write_text(json.dumps(recorded()))
    done = subprocess.run(
        [NODE, "--test", str(ROOT / "tests/playground/engine.test.mjs")],
        env={**os.environ, "DITLENS_VALUES": str(path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_recipe_is_the_models_own(portraits):
    recipe = recipe_of(with_edit(portraits, steps=6))
    assert recipe["latents"] == [8, 16, 16] and recipe["side"] == 128 and recipe["rows"] == 64
    assert recipe["edit"]["steps"] == 6 and recipe["mask"] == {**difference_settings(), "together": 4}
    for steps, sigmas in recipe["sigmas"].items():
        assert sigmas == portraits.sigmas(int(steps)).tolist()
    json.dumps(recipe)


def test_another_way_to_edit_is_refused(portraits):
    with pytest.raises(ModelError, match="follows the plain rule only"):
        recipe_of(with_edit(portraits, source_guidance=3.0))


def with_edit(model, **settings):
    """The model with another way to edit; the shared one stays as it is."""
    changed = Model(model.pipe, model.name, model.folder, world=model.world)
    changed.defaults = model.defaults | {"edit": {"kind": "ode", "name": "mine", **settings}}
    return changed


def test_numbers_survive_planes_and_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "PIECE", 1000)
    numbers = np.random.default_rng(0).normal(size=5000).astype(np.float16).tobytes()
    pieces = pack.cut(gzip.compress(pack.as_planes(numbers), 9, mtime=0), tmp_path)
    whole = b"".join((tmp_path / piece["name"]).read_bytes() for piece in pieces)
    assert len(pieces) > 5 and [len((tmp_path / p["name"]).read_bytes()) for p in pieces] == [
        p["bytes"] for p in pieces
    ]
    planes = np.frombuffer(gzip.decompress(whole), np.uint8)
    half = len(planes) // 2
    assert np.stack([planes[:half], planes[half:]], 1).tobytes() == numbers


def test_only_what_was_built_is_replaced(tmp_path):
    pack.replaceable(tmp_path / "new")
    pack.replaceable(tmp_path)
    (tmp_path / "thesis.md").write_text("years of work")
    with pytest.raises(WriteError, match="holds something else than a playground"):
        pack.replaceable(tmp_path)
    (tmp_path / serve.STAMP).write_text("")
    pack.replaceable(tmp_path)


def test_without_npm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "user_cache", lambda name: tmp_path / name)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"Install Node\.js"):
        pack.node_modules()


def test_what_npm_said_is_passed_on(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network unreachable' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(pack, "user_cache", lambda name: tmp_path / name)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    with pytest.raises(MissingDependencyError, match="npm error network unreachable"):
        pack.node_modules()


def test_pages_are_served_with_their_types(tmp_path):
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "b.mjs").write_text("2")
    with serve.serve(tmp_path) as url:
        for name in ("a.js", "b.mjs"):
            with urllib.request.urlopen(url + name) as answer:
                assert answer.headers["Content-Type"] == "text/javascript"
        port = int(url.rstrip("/").rpartition(":")[2])
        with pytest.raises(SettingError, match=f"port {port}.*--port 0"), serve.serve(tmp_path, port):
            pass


def test_a_page_is_built_anew_when_its_sources_change(tmp_path, monkeypatch):
    page = tmp_path / "page"
    shutil.copytree(serve.PAGE, page, ignore=shutil.ignore_patterns("node_modules"))
    monkeypatch.setattr(serve, "PAGE", page)
    built = tmp_path / "built"
    built.mkdir()
    assert not serve.is_current(built, "portraits")
    (built / serve.STAMP).write_text(serve.stamp("portraits"))
    assert serve.is_current(built, "portraits") and not serve.is_current(built, "portraits-twin")
    (page / "src" / "model.js").write_text("// changed")
    assert not serve.is_current(built, "portraits")


def test_all_that_the_page_takes_from_npm_is_pinned():
    package = json.loads((ROOT / "playground/package.json").read_text())
    lock = json.loads((ROOT / "playground/package-lock.json").read_text())
    for name, version in package["dependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert set(pack.VENDOR) | {pack.RUNTIME[0]} == set(package["dependencies"])
    assert "resolved" not in json.dumps(lock) and "http" not in json.dumps(lock).replace("https://github", "")


def test_the_sources_stay_small_enough_to_be_read():
    """Counts code only, without empty lines and comments; with them it is more than 2,500."""
    texts = [path.read_text("utf-8") for path in (ROOT / "playground/src").rglob("*.js")]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    assert len([line for line in lines if line and not line.startswith(("//", "/*", "*"))]) <= 2500


@pytest.mark.parametrize("wrong", ["port", "taken", "file", "parent"])
def test_what_is_in_the_way_is_said_before_the_page_is_built(monkeypatch, tmp_path, wrong):
    monkeypatch.setattr(cli.dl, "load", lambda *_, **__: pytest.fail("built"))
    (tmp_path / "file").touch()
    with serve.serve(tmp_path) as url:
        port = {"port": 70000, "taken": int(url.rstrip("/").rpartition(":")[2])}.get(wrong, 0)
        out = {"file": tmp_path / "file", "parent": tmp_path / "file" / "page"}.get(wrong, tmp_path / "page")
        with pytest.raises(SettingError, match="No server can listen" if port else "is not a folder"):
            cli.playground(out, port=port)


def test_the_port_that_was_taken_is_reported(monkeypatch, tmp_path):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "is_current", lambda *_: True)
    monkeypatch.setattr(cli.threading, "Event", lambda: SimpleNamespace(wait=stop))
    monkeypatch.setattr(serve, "serve", lambda *_: contextlib.nullcontext("http://localhost:4321/"))
    assert cli.playground(tmp_path, port=0, no_browser=True).data["port"] == 4321
