"""The playground's engine in Firefox."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ditlens.playground.serve import serve
from tests.browser.marionette import FIREFOX, firefox

BUILT = Path(__file__).resolve().parents[2] / "outputs" / "playground"
SAMPLE = """
const { Engine } = await import(new URL("src/engine.js", location.href));
const engine = new Engine();
await engine.load();
const { pixels } = await engine.sample({ text: "a big smile, red hair", seed: 3 });
return Array.from(pixels.slice(128 * 64, 128 * 64 + 512));
"""


@pytest.mark.skipif(FIREFOX is None, reason="Firefox is not installed")
@pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="type make playground first")
def test_it_makes_the_same_picture(tmp_path):
    from ditlens.models.loading import load

    with serve(BUILT) as url, firefox(tmp_path) as browser:
        browser.goto(url)
        found = browser.run(SAMPLE)
    assert isinstance(found, list), found
    ours = load("portraits", device="cpu").sample(["a big smile, red hair"], [3], steps=12)
    assert np.abs(np.array(found) - ours.flatten()[128 * 64 :][:512].numpy()).max() * 255 < 0.05
