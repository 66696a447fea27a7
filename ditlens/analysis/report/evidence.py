"""The measurements of a report, each with the rule that was fixed before it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ditlens.analysis.directions import direction
from ditlens.analysis.entanglement import Entanglement, entanglement
from ditlens.analysis.geometry import gram, rms
from ditlens.analysis.leakage import leakage
from ditlens.analysis.report.findings import Evidence
from ditlens.analysis.sde import SDE, sde
from ditlens.analysis.steering import Steering, steer
from ditlens.lens.study.run import plan_study, run_study
from ditlens.lens.study.store import Study
from ditlens.metrics.statistics import Estimate, estimate, said
from ditlens.models.model import Model
from ditlens.tables import spoken
from ditlens.worlds.world import Continuous, Values, World

PHRASES = (
    ("a smiling", "a frowning"), ("a young", "an old"),
)  # fmt: skip
"""Contrasts for models without a world, before the noun."""
CLOTHES = (("in a red coat", "in a blue coat"), ("with a hat", "with curly hair"))
"""Contrasts for models without a world, after the noun."""
PATCHES = 4
"""Patches at which a direction of hidden states acts: those that differ most with its attribute."""
CLEAR = 0.005
"""Share of chance below which a shift counts as clear."""
NOUNS = ("man", "woman", "teacher", "dancer", "farmer", "doctor", "sailor", "painter")
"""Carriers for models without a world."""


@dataclass
class Subject:
    """The model that a report is about, and what several measurements share.

    Attributes:
        model: The model.
        twin: A model whose bias is known, to see whether it is found; None if there is none.
        tied: Attributes that are tied in the twin, each with the two values between which they move.
        folder: Where studies are kept.
        scale: Share of the usual number of images.
    """

    model: Model
    twin: Model | None
    tied: Mapping[str, tuple[Any, Any]]
    folder: Path
    scale: float = 1.0

    @property
    def world(self) -> World:
        """The model's world."""
        assert self.model.world is not None
        return self.model.world

    def count(self, usual: int) -> int:
        """A number of images or pairs, scaled; at least 4."""
        return max(4, round(usual * self.scale))

    def spread(self, count: int) -> list[str]:
        """Attributes from all over the list."""
        names = list(self.world.attributes)
        return [names[round(k * (len(names) - 1) / (count - 1))] for k in range(count)]

    @cached_property
    def reconstructions(self) -> list[SDE]:
        """What texts, moved latents and both do to images, for some attributes."""
        settings = ("text", "image", "joint")
        return [
            sde(self.model, name, count=self.count(8), settings=settings, sigmas=(0.4, 0.7, 1.0))
            for name in self.spread(6)
        ]

    @cached_property
    def study(self) -> Study:
        """Image states of random images in the middle of the model, whole."""
        people = self.world.sample(self.count(160), 4100)
        prompts = [self.world.caption(self._named(person, k), k) for k, person in enumerate(people)]
        blocks = self.model.transformer.config.num_layers
        plan = plan_study(
            self.model, prompts, [0], f"joint.{blocks // 2}.image.out", reduce=None, sampling_steps=8
        )
        return run_study(self.model, plan, self.folder / "study")

    def _named(self, person: Values, seed: int) -> dict[str, int]:
        """Levels of half of what can be seen in a random image."""
        seen = [name for name in person if name not in self.world.hidden(person)]
        chosen = np.random.default_rng(seed).choice(seen, len(seen) // 2, replace=False)
        return {
            str(name): self.world.attributes[name].level_of(person[name]) for name in seen if name in chosen
        }


def ends(found: Estimate) -> dict[str, float]:
    """A number and its interval, for a table."""
    return {name: float(found[name]) for name in ("value", "low", "high")}


# --- finding 1: each space can be taken apart -------------------------------------------------------------


def texts_change_one_thing(subject: Subject) -> Evidence:
    """How far images that are made anew move towards what their text was flipped to, and everything else."""
    rows = {}
    for run in subject.reconstructions:
        names = ("effect", "drift", "decomposability")
        rows[run.name] = {name: run.curve(name)[-1] for name in names}
    good = [n for n, each in rows.items() if each["effect"]["low"] > 0.5 and each["drift"]["high"] < 0.1]
    bad = [n for n, each in rows.items() if each["drift"]["low"] > 0.1]
    words = "; ".join(
        f"{spoken(n)} {said(each['effect'])}, the others {said(each['drift'], 3)}" for n, each in rows.items()
    )
    return Evidence(
        "Text space: one attribute flipped",
        1,
        "in at least 5 of 6 attributes, an image made anew from noise goes more than half the way to what the "
        "text was "
        "flipped to, and all others move by less than a tenth of their range. It speaks against the finding if "
        "in half "
        "of them the others move by more.",
        f"In {len(good)} of {len(rows)}: {words}. Decomposability compares pixels outside the region that may "
        f"change, and "
        "says little of attributes that move everything.",
        True if len(good) >= len(rows) - 1 else False if len(bad) >= len(rows) / 2 else None,
        table=[
            {"attribute": spoken(n), **{name: said(found, 3) for name, found in each.items()}}
            for n, each in rows.items()
        ],
        data={n: {name: ends(found) for name, found in each.items()} for n, each in rows.items()},
    )


def image_states_move_one_thing(subject: Subject) -> Evidence:
    """How far a direction of hidden states moves its attribute, and what else."""
    names = [n for n in subject.spread(9) if isinstance(subject.world.attributes[n], Continuous)][:4]
    rows, first = {}, None
    for name in names:
        made = direction(subject.study, name, method="probe", patches=PATCHES)
        result = steered(subject, made, name)
        moved, drift = farther_end(result, name)
        rows[name] = {"moves": estimate(moved), "drift of the others": estimate(drift)}
        first = first or result
    good = [
        name for name, each in rows.items()
        if each["moves"]["low"] > 0.25 and each["drift of the others"]["high"] < each["moves"]["low"] / 4
    ]  # fmt: skip
    bad = [
        name for name, each in rows.items()
        if each["moves"]["low"] > 0.25 and each["drift of the others"]["low"] > each["moves"]["high"] / 4
    ]  # fmt: skip
    assert first is not None
    words = "; ".join(
        f"{spoken(name)} moves {said(each['moves'])} of its range, the others "
        f"{said(each['drift of the others'], 3)}"
        for name, each in rows.items()
    )
    return Evidence(
        "Image space: a direction of hidden states moves one attribute",
        1,
        f"in at least 3 of 4 attributes, a direction at {subject.study.sites[0]}, made from other images, moves "
        f"its "
        "attribute by more than a quarter of its range and all others, on average, by less than a quarter of "
        "that. It speaks against the finding if half of them "
        "move, and take the others along.",
        f"In {len(good)} of {len(rows)} attributes: {words}.",
        True if len(good) >= len(rows) - 1 else False if len(bad) >= len(rows) / 2 else None,
        figures=[(first.plot(), f"Images along a direction of {spoken(names[0])}, with what was read in them.")],
        table=[
            {"attribute": spoken(name), **{what: said(found, 3) for what, found in each.items()}}
            for name, each in rows.items()
        ],
        data={name: {what: ends(found) for what, found in each.items()} for name, each in rows.items()},
    )  # fmt: skip


def steered(subject: Subject, made: Any, name: str) -> Steering:
    """Other images of prompts that do not name an attribute, steered both ways."""
    people = subject.world.sample(subject.count(16), 4200)
    prompts = []
    for k, person in enumerate(people):
        levels = subject._named(person, k)
        levels.pop(name, None)
        prompts.append(subject.world.caption(levels, 500 + k))
    seeds = range(9000, 9000 + len(prompts))
    return steer(subject.model, made, [-1.5, 0, 1.5], prompts=prompts, seeds=list(seeds), sampling_steps=8)


def farther_end(result: Steering, name: str) -> tuple[np.ndarray, np.ndarray]:
    """How far a continuous attribute moved towards the end of its range that it is farther from, and the drift."""
    assert result.world is not None
    spec, zero = result.world.attributes[name], result.amounts.index(0)
    assert isinstance(spec, Continuous)
    before = np.array(result.values(name))[:, zero]
    up, items = before < (spec.low + spec.high) / 2, np.arange(len(before))
    which = np.where(up, len(result.amounts) - 1, 0)
    return np.array(result.moved(name))[items, which] * np.where(up, 1, -1), np.array(result.drift)[
        items, which
    ]


def directions_are_apart(subject: Subject) -> Evidence:
    """Cosines of the attributes' directions in text space against what chance gives."""
    found = gram(subject.model)
    between, chance = rms(found.between), {name: rms(each) for name, each in found.nulls.items()}
    apart = all(found.interval[1] < size for size in chance.values())
    rows = [
        {"cosines": "within an attribute, other sentences", "root mean square": rms(found.within)},
        {"cosines": "between attributes", "root mean square": between},
        *({"cosines": f"null: {name}", "root mean square": size} for name, size in chance.items()),
    ]
    return Evidence(
        "Text space: cosines between directions",
        1,
        "directions of different attributes are more orthogonal than those of every null. In spaces of this "
        "many numbers "
        "chance makes directions orthogonal, so that this alone would prove nothing.",
        found.verdict,
        True if apart else None,
        decisive=False,
        table=rows,
        figures=[(found.plot(), "Cosines between directions of attributes, and of the nulls.")],
        data={
            "between": between,
            "interval": list(found.interval),
            "within": float(found.within.mean()),
            **chance,
        },
    )


def phrases_of(model: Model, names: Sequence[str]) -> dict[str, Any]:
    """What `leakage` takes: attributes of a world, or phrases and carriers of our own."""
    if model.world is not None:
        return {"a": list(names)}
    carriers = [f"a photo of {{a}} {noun} {{b}}" for noun in NOUNS]
    return {"a": PHRASES[0], "b": CLOTHES[0], "carriers": carriers}


def words_stay_apart(subject: Subject) -> Evidence:
    """Whether one attribute is told from what the attention carries for another."""
    names = subject.spread(4) if subject.model.world is not None else []
    given = phrases_of(subject.model, names)
    found = leakage(subject.model, **{"carriers": subject.count(16)} | given, steps=(0,))
    rows: list[dict[str, str | float]] = []
    for block in ("embedding", *found.blocks):
        chosen = found.select(block=block, where="text", order="after")
        rows.append({
            "block": block, "leak": mean(r.leak for r in chosen), "size": mean(r.size for r in chosen),
            "own": mean(r.own for r in chosen), "shuffled": mean(r.shuffled for r in chosen),
        })  # fmt: skip
    told, at_first = float(rows[-1]["leak"]), float(rows[0]["leak"])
    return Evidence(
        "Attention: one attribute told from another's words",
        1,
        "a linear classifier tells A from the attention output at B's words no better than 0.6 (0.5 is chance), "
        "where A "
        "stands after B, so that the text encoder cannot have put it there.",
        f"{told:.2f} in the last block that has text (leak), {at_first:.2f} in the text embedding itself; A moves "
        f"these vectors {float(rows[-1]['size']):.2f} times as far as B does (size). A classifier finds the "
        f"smallest "
        "trace, so read both numbers.",
        told < 0.6,
        decisive=False,
        table=rows,
        figures=[(found.plot(), "Accuracies over the blocks.")],
        data={"rows": rows, **{str(k): str(v) for k, v in found.recipe.items()}},
    )  # fmt: skip


# --- finding 2: one disentangled space --------------------------------------------------------------------


def attributes_move_alone(subject: Subject) -> Evidence:
    """The entanglement matrix, and that of the twin as a check that entanglement would be seen."""
    found = entanglement(subject.model, count=subject.count(24), progress=False)
    beside = beside_diagonal(found)
    own = estimate([found.cells[name, name]["value"] for name in found.rows])
    clear = sum(each["p"] < CLEAR for names, each in found.cells.items() if names[0] != names[1])
    largest = ", ".join(f"{a} → {b} {said(cell)}" for a, b, cell in found.largest(3))
    return Evidence(
        "Images: what else moves when a text moves one attribute",
        2,
        "on average, the distribution of an attribute that the text does not change shifts, beyond chance, by "
        "less than "
        "a tenth of what that of the changed one shifts (ends of both intervals).",
        f"The changed attribute shifts by {said(own)}, the others by {said(beside, 3)}. Clear of chance are "
        f"{clear} of {len(found.cells) - len(found.rows)} cells beside the diagonal, where chance alone gives "
        f"one or two; "
        f"the largest: {largest}.",
        True if beside["high"] < 0.1 * own["low"] else False if beside["low"] > 0.1 * own["high"] else None,
        figures=[(found.plot(), "Matrix of which attribute, moved by the text, moves which in the image.")],
        data={"beside the diagonal": ends(beside), "diagonal": ends(own), "dominance": found.dominance},
    )


def beside_diagonal(found: Entanglement) -> Estimate:
    """Mean of the cells beside the diagonal, with the interval over their rows and columns."""
    cells = [each["value"] for names, each in found.cells.items() if names[0] != names[1]]
    return estimate(cells)


def bias_is_seen(subject: Subject) -> Evidence:
    """The same for a model whose entanglement is known: what does not see that sees nothing."""
    assert subject.twin is not None
    rows, mean_of, clear = [], {}, {}
    for model in (subject.twin, subject.model):
        found = entanglement(
            model, list(subject.tied), moves=subject.tied, count=subject.count(32), progress=False
        )
        cells = {(a, b): found.cell(a, b) for a in subject.tied for b in subject.tied if a != b}
        rows += [
            {"model": model.name, "text moves": a, "image shifts in": b, "shift": said(each)}
            for (a, b), each in cells.items()
        ]
        mean_of[model.name] = mean(cells.values())
        clear[model.name] = sum(each["p"] < CLEAR for each in cells.values())
    (twin, own), count = mean_of.values(), len(rows) // 2
    seen = list(clear.values())
    found_it = twin >= 5 * max(own, 0) and seen[0] > count / 2
    conclusion = (
        f"What is not seen in {subject.model.name} is small, then."
        if found_it
        else "With so few pairs the bias is not seen, nor would others be: raise the scale."
    )
    return Evidence(
        "Control: a twin whose bias is known",
        2,
        "the shifts of the attributes that are tied in the twin by its training are, on average, at least 5 "
        "times as large "
        "as the model's own, and most of them are clear of chance.",
        f"They are {twin:.2f} in the twin, where {seen[0]} of {count} are clear of chance, and {own:.3f} in "
        f"{subject.model.name}, where {seen[1]} are. {conclusion}",
        found_it or None,
        decisive=False,
        table=rows,
        data={"mean shift": mean_of, "clear of chance": clear},
    )


# --- finding 3: an edit needs both ------------------------------------------------------------------------


def both_are_needed(subject: Subject) -> Evidence:
    """How near an edit comes to the exact answer by the text alone, by moved latents alone, and by both."""
    rows, wins = [], []
    for run in subject.reconstructions:
        best = {setting: run.best("effectiveness", setting) for setting in run.settings}
        more = {alone: run.best("effectiveness", "joint", versus=alone) for alone in ("text", "image")}
        wins.append(all(each["low"] > 0 for each in more.values()))
        rows.append(
            {"attribute": spoken(run.name), **{setting: float(each["value"]) for setting, each in best.items()},
             **{f"both less {alone}": said(each) for alone, each in more.items()}}
        )  # fmt: skip
    against = [
        run.name for run in subject.reconstructions
        if min(run.best("effectiveness", "joint", versus=alone)["high"] for alone in ("text", "image")) < 0.05
    ]  # fmt: skip
    return Evidence(
        "Edits: text alone, image alone, both",
        3,
        "in at least 5 of 6 attributes, moving both comes nearer to the exact answer than moving the text alone "
        "and than "
        "moving the latents alone, each at the noise level that suits it best (both intervals above 0). It "
        "speaks against "
        "the finding if, in half of them, one alone comes as near (within 0.05).",
        f"Both is better than either alone in {sum(wins)} of {len(wins)}; one alone is as good in {len(against)}"
        f"{f': {spoken_list(against)}' if against else ''}. 1 is the exact answer, 0 no nearer to it than the "
        f"source.",
        True if sum(wins) >= len(wins) - 1 else False if len(against) >= len(wins) / 2 else None,
        table=rows,
        figures=[(subject.reconstructions[0].plot(), "Curves over the noise level, and examples.")],
        data={"rows": rows},
    )


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


# --- words ------------------------------------------------------------------------------------------------


def spoken_list(names: Sequence[str]) -> str:
    """Names in words, in a row."""
    return ", ".join(map(spoken, names))


def mean(values: Iterable[Estimate]) -> float:
    """The mean of several numbers."""
    return float(np.mean([each["value"] for each in values]))


def listed(rows: Mapping[str, Estimate]) -> str:
    """Numbers by attribute, in a row."""
    return ", ".join(f"{spoken(name)} {said(each)}" for name, each in rows.items())
