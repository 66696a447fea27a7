"""Finding 3: an edit needs both. Every measurement has its rule beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ditlens.analysis.report.findings import Evidence
from ditlens.analysis.report.subject import NOUNS, PHRASES, Subject, ends
from ditlens.analysis.sde import SDE, sde
from ditlens.metrics.statistics import REPEATS, Estimate, resampled_estimate, resampled_sums, said

DONE = 0.5
"""Share of the way to its level that an edit must go to be done."""
ROUTES = {"text": "the text", "image": "the latents", "joint": "both"}
"""The settings of `ditlens.sde` in words."""


def both_are_needed(subject: Subject) -> Evidence:
    """How many edits are done by the text alone, by moved latents alone, and by both."""
    runs, alone = subject.reconstructions, ("text", "image")
    sigmas = runs[0].sigmas
    people = {route: np.concatenate([done(run, route) for run in runs]) for route in ROUTES}
    share, less = {route: best(each) for route, each in people.items()}, {}
    for route in alone:
        less[route] = best(people["joint"], people[route])
    needed = share["joint"]["low"] > 0.5 and all(each["low"] > 0.1 for each in less.values())
    rows = [
        {"moved": ROUTES[route], "t": f"{sigma:g}", "done": f"{people[route].mean(0)[k]:.2f}"}
        | {name: f"{pooled(runs, name, route, k):.{digits}f}" for name, digits in SHOWN.items()}
        for route in ROUTES for k, sigma in enumerate(sigmas)
    ]  # fmt: skip
    return Evidence(
        "Edits: text alone, image alone, both",
        3,
        f"an edit is done if it goes more than {DONE:g} of the way to the wanted level and ends nearer to the "
        "exact answer, in pixels, than its source was. Moving both gets most edits done, and at least a tenth "
        "more of them than moving the text alone, or the latents alone, each at the noise level that suits it "
        "best (lower ends of the intervals). It speaks against the finding if one alone gets as many done, "
        "within a twentieth (upper end).",
        f"Done are {said(share['text'])} by the text alone, {said(share['image'])} by moved latents alone and "
        f"{said(share['joint'])} by both: {said(less['text'])} more than by the text, {said(less['image'])} more "
        "than by the latents. The source is brought to a noise level t and sampled from there: a high one gives "
        "the text its effect and loses the source.",
        True if needed else False if min(each["high"] for each in less.values()) < 0.05 else None,
        table=rows,
        figures=[(runs[0].plot(), "Curves over the noise level, and examples.")],
        data={"done": {n: ends(each) for n, each in share.items()}, "rows": rows,
              "both less": {n: ends(each) for n, each in less.items()}},
    )  # fmt: skip


SHOWN = {"effect": 2, "drift": 3, "effectiveness": 2}
"""Curves of `ditlens.sde` in the table, and their digits."""


def done(run: SDE, route: str) -> np.ndarray:
    """The share of each person's edits that are done at each noise level, (people, sigmas)."""
    values = {name: run.values[route, name] for name in ("effect", "swap", "gap")}
    found = (values["effect"] > DONE) & (values["swap"] < values["gap"])
    return np.stack([found[run.groups == group].mean(0) for group in np.unique(run.groups)])


def best(people: np.ndarray, less: np.ndarray | None = None) -> Estimate:
    """The mean over people at the noise level where it is largest, less that of another route."""
    routes = [people] if less is None else [people, less]
    blocks = np.stack(routes, 1)  # (people, routes, sigmas)
    signs = np.array([1, -1][: len(routes)])
    samples = (resampled_sums(blocks, REPEATS) / len(blocks)).max(-1) @ signs
    return resampled_estimate(blocks.mean(0).max(-1) @ signs, samples, len(blocks))


def pooled(runs: Sequence[SDE], name: str, setting: str, level: int) -> float:
    """The mean over attributes of a curve at one noise level."""
    return float(np.mean([run.curve(name, setting)[level]["value"] for run in runs]))


def texts_change_images(subject: Subject) -> Evidence:
    """For a model without a world: how much an image changes with its text, over noise levels, by pixels alone."""
    texts = [(f"a photo of {a} {noun}", f"a photo of {b} {noun}") for a, b in PHRASES for noun in NOUNS[:2]]
    images = subject.model.sample([own for own, _ in texts], list(range(len(texts))))
    edits = [(image[None], *pair) for image, pair in zip(images, texts, strict=True)]
    found = sde(subject.model, edits, settings=("text", "image", "joint"), sigmas=(0.4, 0.7, 1.0))
    rows = [
        {"carried by": setting, "t": sigma, **{name: float(found.curve(name, setting)[k]["value"]) for name in
         ("faithfulness", "strength")}}
        for setting in found.settings for k, sigma in enumerate(found.sigmas)
    ]  # fmt: skip
    return Evidence(
        "Edits: text alone, image alone, both",
        3,
        "nothing: without a world nobody can say which image would be right. Pixels say only how much changes.",
        "Squared differences of pixels; see the table.",
        None,
        table=rows,
        figures=[(found.plot(), "Curves over the noise level, and examples.")],
        data={"rows": rows},
    )
