"""Samples as a whole: do graded words give graded faces, are they as varied as renders, how long do they take?"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.portraits.common import SEEDS, Bench, measure, people, progress, result
from benchmarks.portraits.quality import BATCH, caption_samples
from benchmarks.portraits.speed import timed
from benchmarks.report import Results, load_note
from ditlens import flow
from ditlens.metrics.statistics import bootstrap, clustered, spearman
from ditlens.models.embedding import TextEmbedding
from ditlens.train.run import read_reports
from ditlens.worlds.portraits.attributes import CATEGORICAL, CONTINUOUS, take
from ditlens.worlds.portraits.captions import caption_all, compose, parse
from ditlens.worlds.portraits.constraints import satisfies
from ditlens.worlds.portraits.heldout import HELD_OUT, held_out, match
from ditlens.worlds.portraits.render import render
from ditlens.worlds.portraits.world import Portraits

FEW = 2
"""Steps of samples that are known to be poor."""
LEAST = 1e-3
"""Least spread of a feature over renders: one that never answers there, as on very few renders, counts little."""
TEXT = "a portrait with a big smile, long red hair and round glasses"


def level_spearman(bench: Bench) -> Results:
    """Rank correlation of an attribute with its level, over all words that grade it, one noise per row."""
    found: list[float] = []
    parts = {}
    for i in progress("levels", len(CONTINUOUS)):
        spec = CONTINUOUS[i]
        texts = [compose({spec.name: level}) for level in range(len(spec.levels))]
        rows = []
        for seed in range(bench.level_seeds):
            read = measure(bench, bench.model.sample(texts, [seed] * len(texts)))
            rows.append(spearman(range(len(texts)), [float(values[spec.name]) for values in read]))
        parts[spec.name] = {"value": float(np.mean(rows)), "n": len(rows)}
        found += rows
    note = (
        f"mean over {len(CONTINUOUS)} attributes and {bench.level_seeds} seeds; each row has the 3 to 5 level "
        "words that the attribute has, in captions that name nothing else"
    )
    interval = bootstrap(found)
    return {
        "level_spearman": result(
            float(np.mean(found)), *interval, len(found), "correlation", note, parts=parts
        )
    }


def frechet_ratio(bench: Bench) -> Results:
    """Fréchet distance of samples to renders over that of renders to other renders, by two kinds of features.

    *Attributes* are what the oracle reads: they answer to what is drawn too often or never. *Appearance* is how
    fixed random filters respond: it answers to how things are drawn. The value is the worse of both. Beside it,
    reconstructions of the other renders show what the autoencoder adds, and samples of `FEW` steps that it answers.
    """
    model, count = bench.model, bench.captions
    drawn = people(2 * count, "frechet")
    renders = [render(take(drawn, slice(i, i + BATCH)), model.side) for i in range(0, 2 * count, BATCH)]
    first, others = torch.cat(renders).split(count)
    sets = {
        "samples": torch.cat([pictures for pictures, _ in caption_samples(bench)]),
        "reconstructions": torch.cat(
            [model.decode(model.encode_image(part)) for part in others.split(BATCH)]
        ),
        f"samples of {FEW} steps": torch.cat(
            [model.sample(texts, range(len(texts)), steps=FEW) for _, texts in caption_samples(bench)]
        ),
    }
    ratios: dict[str, dict[str, float]] = {}
    for kind, features in (("attributes", partial(read_outputs, bench)), ("appearance", random_features)):
        start = features(first)
        spread = start.std(0).clamp_min(LEAST)
        floor = frechet(features(others) / spread, start / spread)
        ratios[kind] = {n: frechet(features(s) / spread, start / spread) / floor for n, s in sets.items()}
    parts = {f"{kind}, {name}": {"value": ratio, "n": count}
             for kind, found in ratios.items() for name, ratio in found.items()}  # fmt: skip
    worst = max(ratios, key=lambda kind: ratios[kind]["samples"])
    note = (
        f"the worse of two kinds of features, {worst}; {count} samples and as many renders, from which other "
        "renders have the distance 1; "
        + ", ".join(f"{name} {part['value']:.3g}" for name, part in parts.items())
    )
    return {"frechet_ratio": result(ratios[worst]["samples"], None, None, count, "x", note, parts=parts)}


@torch.no_grad()
def read_outputs(bench: Bench, pictures: torch.Tensor) -> torch.Tensor:
    """What the oracle reads, (batch, 43): continuous attributes, and the probabilities of every category."""
    assert isinstance(bench.model.world, Portraits), "the model has no portraits world"
    values, logits = bench.model.world.oracle(pictures)
    return torch.cat([values.clamp(-1, 1), *(each.softmax(-1) for each in logits)], 1).double()


def random_features(pictures: torch.Tensor) -> torch.Tensor:
    """Mean and spread of how 32 fixed random filters of 3 x 3 pixels respond, (batch, 64)."""
    filters = torch.randn(32, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    found = F.leaky_relu(F.conv2d(pictures * 2 - 1, filters / 27**0.5, stride=2, padding=1), 0.2)
    return torch.cat([found.mean((2, 3)), found.std((2, 3))], 1).double()


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Fréchet distance of two sets of features as Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))."""
    first, second = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross)


def sample_seconds(bench: Bench) -> Results:
    """Warm wall time of one sample with the model's own steps and guidance."""
    times = [timed(lambda: bench.model.generate(TEXT, seed=0)) for _ in range(bench.repeats + 2)][2:]
    defaults = bench.model.defaults
    note = f"median; {defaults['steps']} steps, guidance {defaults['guidance']:g}; {load_note()}"
    return {
        "sample_seconds": result(float(np.median(times)), *bootstrap(times, np.median), len(times), "s", note)
    }


def heldout_combinations(bench: Bench) -> Results:
    """Captions with a pair of values that training never showed together: are both right?

    Beside it the same pairs' values with other partners, drawn from the same captions: what never meeting costs.
    """
    assert bench.model.folder is not None, "the model is not a folder"
    reports = read_reports(bench.model.folder)
    if any(reports.get(stage, {}).get("held_out") != list(HELD_OUT) for stage in ("text", "mmdit")):
        print(
            "held-out combinations: not measured, these weights have seen them (reports.json)",
            file=sys.stderr,
        )
        return {}
    parts, trials = {}, []
    each = max(2, bench.captions // 20)
    for k, pair in enumerate(HELD_OUT):
        drawn, rng = people(100 * each, "heldout"), random.Random(SEEDS["heldout"] + k)
        chosen = {"held out": match(drawn, pair)}
        for name, value in pair.items():  # one value of the pair, with partners that it has met
            chosen[f"{value}, other partners"] = match(drawn, {name: value}) & ~held_out(drawn)
        for kind, mask in chosen.items():
            texts = caption_all(take(drawn, mask.nonzero()[:, 0]), rng)
            texts = [text for text in texts if set(pair) <= set(parse(text))][:each]
            right = []
            for i in progress(f"{' and '.join(pair.values())}, {kind}", -(-len(texts) // BATCH)):
                span = range(i * BATCH, min(i * BATCH + BATCH, len(texts)))
                read = measure(bench, bench.model.sample([texts[s] for s in span], span))
                wanted = [satisfies(v, parse(texts[s])) for s, v in zip(span, read, strict=True)]
                right += [{name: ok[name] for name in pair} for ok in wanted]
            flat = [ok for one in right for ok in one.values()]
            parts[f"{' + '.join(pair.values())}, {kind}"] = {"value": float(np.mean(flat)), "n": len(flat)}
            if kind == "held out":
                trials += right
    value, low, high, count = clustered([list(trial.values()) for trial in trials])
    note = f"both values of {len(HELD_OUT)} pairs that training never showed together; {len(trials)} captions"
    return {"heldout_combination_accuracy": result(value, low, high, count, "share", note, parts=parts)}


def robustness(bench: Bench) -> Results:
    """The caption accuracies with few steps, many steps, the zero rows of a stock call, and odd combinations."""
    names, count = {c.name for c in CATEGORICAL}, max(4, bench.captions // 20)
    usual = caption_all(people(count, "captions"), random.Random(1))
    odd = [
        f"a portrait of {who} person with a long beard, {hair} hair, sunglasses, {hat} and pearl earrings"
        for who in ("a young", "an old")
        for hair in ("long curly pink", "very short grey")
        for hat in ("a crown", "a cap", "a beanie")
    ]
    trials: dict[str, tuple[list[str], dict[str, int], int]] = {
        "8 steps": (usual, {"steps": 8}, 0),
        "50 steps": (usual, {"steps": 50}, 0),
        "256 zero rows": (usual, {}, 256),
        "odd combinations": (odd * -(-count // len(odd)), {}, 0),
    }
    parts = {}
    for what, (texts, options, rows) in trials.items():
        right: dict[bool, list[bool]] = {True: [], False: []}
        for i in progress(what, -(-count // BATCH)):
            seeds = range(BATCH * i, min(BATCH * i + BATCH, count))
            chosen = [texts[s] for s in seeds]
            read = measure(bench, with_zero_rows(bench, chosen, seeds, rows, **options))
            for values, text in zip(read, chosen, strict=True):
                for name, ok in satisfies(values, parse(text)).items():
                    right[name in names].append(ok)
        parts[f"{what}, categorical"] = {"value": float(np.mean(right[True])), "n": len(right[True])}
        parts[f"{what}, level"] = {"value": float(np.mean(right[False])), "n": len(right[False])}
    worst = min(
        (name for name in parts if name.endswith("categorical")), key=lambda name: parts[name]["value"]
    )
    said = ", ".join(f"{name} {part['value']:.3f}" for name, part in parts.items())
    note = f"the worst of them: {worst}; {count} captions each; {said}"
    return {
        "robust_categorical_accuracy": result(
            parts[worst]["value"], None, None, count, "share", note, parts=parts
        )
    }


def with_zero_rows(
    bench: Bench, texts: Sequence[str], seeds: Sequence[int], rows: int, steps: int | None = None
) -> torch.Tensor:
    """Samples with `rows` zeros after the text's own rows, as a stock pipeline adds for an absent T5."""
    model = bench.model
    if not rows:
        return model.sample(texts, seeds, steps=steps)
    both = [model.encode_text(texts), model.encode_text("").named("uncond")]
    text, null_text = (lengthened(each, rows) for each in both)
    sigmas = model.sigmas(steps or model.defaults["steps"])
    guidance = model.defaults["guidance"]
    latents = flow.sample(model, model.noise(seeds), sigmas, text, null_text=null_text, guidance=guidance)
    return model.decode(latents)


def lengthened(text: TextEmbedding, rows: int) -> TextEmbedding:
    """An embedding with rows of zeros behind its own; they count as padding."""
    tokens = torch.cat([text.tokens, text.tokens.new_zeros(len(text), rows, text.tokens.shape[-1])], 1)
    mask = None if text.mask is None else F.pad(text.mask, (0, rows))
    return replace(text, tokens=tokens, mask=mask)


def by_guidance(bench: Bench) -> Results:
    """The two caption accuracies at guidance 1, 2 and 4, around the model's own; a part of the captions."""
    names = {c.name for c in CATEGORICAL}
    count = max(4, bench.captions // 10)
    texts = caption_all(people(count, "captions"), random.Random(0))
    parts = {}
    for guidance in (1.0, 2.0, 4.0):
        right: dict[bool, list[bool]] = {True: [], False: []}
        for i in progress(f"guidance {guidance:g}", -(-count // 50)):
            chosen = range(50 * i, min(50 * i + 50, count))
            pictures = bench.model.sample([texts[s] for s in chosen], chosen, guidance=guidance)
            for s, values in zip(chosen, measure(bench, pictures), strict=True):
                for name, ok in satisfies(values, parse(texts[s])).items():
                    right[name in names].append(ok)
        parts[f"guidance {guidance:g}, categorical"] = {"value": float(np.mean(right[True]))}
        parts[f"guidance {guidance:g}, level"] = {"value": float(np.mean(right[False]))}
    value = parts["guidance 1, categorical"]["value"]
    said = ", ".join(f"{name} {part['value']:.3f}" for name, part in parts.items())
    note = f"categorical attributes right without guidance, {count} captions; {said}"
    return {"unguided_categorical_accuracy": result(value, None, None, count, "share", note)}
