"""Pictures and words: reconstruction, samples of captions, the describer and the oracle."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.portraits.common import SEEDS, Bench, brief, measure, people, progress, result, share
from benchmarks.portraits.sheets import Tile
from benchmarks.report import Results
from ditlens import images
from ditlens.errors import CaptionError
from ditlens.metrics.statistics import bootstrap, wilson
from ditlens.train import oracle as oracle_training
from ditlens.worlds.portraits.attributes import (
    ATTRIBUTES,
    CATEGORICAL,
    CONTINUOUS,
    describe_values,
    take,
    visible,
)
from ditlens.worlds.portraits.captions import caption_all, nameable, parse
from ditlens.worlds.portraits.constraints import satisfies
from ditlens.worlds.portraits.render import render
from ditlens.worlds.portraits.world import Portraits

BATCH = 50
"""Captions that are sampled at once."""
PROMPTS = (
    "a portrait with a big smile, long red hair and round glasses",
    "an old person with grey hair, a long beard and a blue shirt",
    "a portrait of a person with a beanie, very dark skin and a yellow background",
    "a young person with short black hair, pearl earrings and a purple shirt",
)
"""What the stock pipeline is asked for."""
STOCK = """
import sys, torch
from diffusers import StableDiffusion3Pipeline
folder, out, *prompts = sys.argv[1:]
pipe = StableDiffusion3Pipeline.from_pretrained(folder)
for i, prompt in enumerate(prompts):
    pipe(prompt, generator=torch.Generator().manual_seed(i)).images[0].save(f"{out}/{i}.png")
assert "ditlens" not in sys.modules
"""


def stock_pipeline(bench: Bench) -> Results:
    """The stock diffusers call in a Python that never imports ditlens; the oracle reads what it gives."""
    folder = bench.model.folder
    assert folder is not None, "only local models are measured"
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", STOCK, str(folder.resolve()), out, *PROMPTS]
        done = subprocess.run(command, capture_output=True, text=True, cwd=out)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1].replace(str(folder.resolve()), folder.name)
            return {"stock_pipeline": result(0.0, None, None, 0, "works", f"it failed: {reason}")}
        pictures = [images.to_tensor(Image.open(Path(out) / f"{i}.png")) for i in range(len(PROMPTS))]
    read = measure(bench, torch.cat(pictures))
    right = [ok for v, text in zip(read, PROMPTS, strict=True) for ok in satisfies(v, parse(text)).values()]
    note = (
        f"from_pretrained(folder)(prompt), no other arguments; {sum(right)} of {len(right)} attributes named in "
        f"{len(PROMPTS)} prompts are right; it works if at least three quarters are"
    )
    return {
        "stock_pipeline": result(
            float(sum(right) >= 0.75 * len(right)), None, None, len(PROMPTS), "works", note
        )
    }


def vae_psnr(bench: Bench) -> Results:
    """Peak signal-to-noise ratio of held-out renders after encoding and decoding."""
    values: list[float] = []
    everyone = people(bench.pictures, "vae")
    for i in progress("reconstructions", -(-bench.pictures // 16)):
        image = render(take(everyone, slice(16 * i, 16 * i + 16)), bench.model.side)
        error = bench.model.decode(bench.model.encode_image(image)) - image
        values += (-10 * error.square().mean((1, 2, 3)).log10()).tolist()
    note = f"mean over pictures; the worst has {min(values):.1f} dB"
    return {"vae_psnr_db": result(float(np.mean(values)), *bootstrap(values), len(values), "dB", note)}


def caption_samples(bench: Bench) -> list[tuple[torch.Tensor, list[str]]]:
    """Samples of held-out captions with the default sampler, and the captions; made once."""
    if not bench.sampled:
        texts = caption_all(people(bench.captions, "captions"), random.Random(SEEDS["captions"]))
        for i in progress("captions", -(-len(texts) // BATCH)):
            seeds = range(i * BATCH, min(i * BATCH + BATCH, len(texts)))
            chosen = [texts[s] for s in seeds]
            bench.sampled.append((bench.model.sample(chosen, seeds), chosen))
    return bench.sampled


def captions(bench: Bench) -> Results:
    """Sample held-out captions; the oracle checks every attribute that they name."""
    trials: list[dict[str, bool]] = []
    for pictures, texts in caption_samples(bench):
        for text, picture, values in zip(texts, pictures, measure(bench, pictures), strict=True):
            trials.append(satisfies(values, parse(text)))
            wrong = [f"{name} {brief(values[name])}" for name, right in trials[-1].items() if not right]
            if wrong:
                label = f"{text} | seen: {', '.join(wrong)}"
                bench.failures["captions"].append((len(wrong), [Tile(images.to_image(picture), label)]))
    defaults = bench.model.defaults
    note = (
        f"{len(trials)} captions, {defaults['steps']} steps, guidance {defaults['guidance']:g}; "
        "interval by bootstrap over captions"
    )
    return {
        "caption_categorical_accuracy": share(trials, [c.name for c in CATEGORICAL], note),
        "caption_level_accuracy": share(trials, [c.name for c in CONTINUOUS], note),
    }


def describer(bench: Bench) -> Results:
    """Descriptions of held-out renders: is every attribute that they name right, and to be seen?"""
    model = bench.model.describer
    assert model is not None, "the model has no describer"
    truth = people(bench.described, "describer")
    seen, could = visible(truth), sum(map(len, nameable(truth)))
    trials: list[dict[str, bool]] = []
    for i in progress("descriptions", bench.described):
        picture = images.to_image(render(take(truth, i), bench.model.side))
        said = {}
        with contextlib.suppress(CaptionError):
            said = parse(model.describe(picture))
        right = satisfies(describe_values(truth, i), said)
        trials.append({name: ok and bool(seen[name][i]) for name, ok in right.items()})
    named = sum(map(len, trials))
    note = f"{bench.described} renders; it names {named} attributes, {could} stand clearly in one level"
    if not named:
        return {"describer_accuracy": result(0.0, None, None, 0, "share", note)}
    return {"describer_accuracy": share(trials, list(ATTRIBUTES), note)}


def oracle(bench: Bench) -> Results:
    """The oracle's worst attribute on held-out renders, and on the autoencoder's reconstructions of them."""
    assert isinstance(bench.model.world, Portraits), "the model has no portraits world"
    print(f"oracle: {bench.renders} renders", file=sys.stderr, flush=True)
    scores = oracle_training.evaluate(
        bench.model.world.oracle, bench.model.device, bench.model.vae, bench.renders
    )
    results = {}
    for key, specs, unit in (
        ("oracle_r2_min", CONTINUOUS, "R2"),
        ("oracle_accuracy_min", CATEGORICAL, "share"),
    ):
        names = [spec.name for spec in specs]
        worst = min(names, key=lambda name: scores[name])
        decoded = min(names, key=lambda name: scores[f"{name}/decoded"])
        parts = {n: {"value": scores[n], "reconstructed": scores[f"{n}/decoded"]} for n in names}
        note = (
            f"worst attribute: {worst}; on reconstructions {scores[f'{decoded}/decoded']:.4f} ({decoded}); "
            "visible attributes only"
        )
        low, high = (
            (None, None) if unit == "R2" else wilson(round(scores[worst] * bench.renders), bench.renders)
        )
        results[key] = result(scores[worst], low, high, bench.renders, unit, note, parts=parts)
    return results
