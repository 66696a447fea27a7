"""Probes: what can be read off the hidden states linearly, where, and whether that says anything.

A probe is ridge regression from one site, step and token to an attribute of the final image, tested on prompts,
carrier sentences and seeds that it was not trained on. A high score alone shows little, so every cell comes with
the controls of Hewitt and Liang (2019, selectivity) and of what goes into the network: the noisy latents of the
same step, the text alone, and an untrained network of the same architecture.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ditlens import late
from ditlens.analysis.ridge import Split, predict, splits
from ditlens.analysis.rows import check_finite
from ditlens.analysis.targets import Target, is_missing, plain_values
from ditlens.arguments import COUNT, INDEX, NOTHING, SEED, TEXT, TEXTS, Kind, instance, listed, several, takes
from ditlens.cards import Carded, Piece, Table
from ditlens.errors import SettingError, StudyError
from ditlens.lens.cache import LatentCache
from ditlens.lens.selection import masked_mean
from ditlens.lens.site import STREAMS, Site, fitting
from ditlens.lens.study.store import RESERVED, Study
from ditlens.metrics.statistics import REPEATS, middle, resampled_sums
from ditlens.tables import counted, frame, progress_bar, ranges

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

DRAWS = 4
"""Random labellings of the control task."""
HELD_OUT = (*RESERVED, "carrier")
"""Columns that say which images belong together: names, also where they are written as numbers."""
HIDES = 0.1
"""By how much the best patch must beat the best mean for the mean to be called blind."""
SOURCE = instance("a study, ditlens.open_study(...), or a cache", Study, LatentCache)
FOLDS = Kind("a whole number from 3, e.g. 5", lambda value: COUNT.fits(value) and value > 2)
TARGET = TEXT | Kind(
    "one value for each image, numbers or names",
    lambda value: hasattr(type(value), "__len__") and not isinstance(value, str | dict) and len(value) > 0,
)
TOKENS = Kind(
    "'each', 'mean', 'best:4', the number of an image token or a list of them",
    lambda value: value in ("each", "mean") or best_of(value) > 0 or several(INDEX).fits(value),
)


class Interval(NamedTuple):
    """A number and its 95 % interval over prompts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "" if math.isnan(self.value) else f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class ProbeCell:
    """One probe.

    Attributes:
        site: Printed site.
        step: Step of the sampling.
        token: Number of the token, ``"mean"`` over all of them, or ``"best 4"``.
        score: On images that the probe was not trained on: R² of a number (1 is perfect, 0 what the mean gives),
            balanced accuracy of a category.
        control: The same for labels that were drawn at random for each carrier sentence; at least what guessing
            gives.
        selectivity: ``score - control``.
        over_latents: Score minus that of the best probe of the noisy latents at the same step. NaN if unknown.
        over_text: Score minus that of a probe of the text before the first block. NaN if unknown.
        over_untrained: Score minus that of the same probe in an untrained network. NaN if unknown.
    """

    site: str
    step: int
    token: int | str
    score: Interval
    control: float
    selectivity: Interval
    over_latents: Interval
    over_text: Interval
    over_untrained: Interval

    @property
    def where(self) -> str:
        """The token in words."""
        return f"token {self.token}" if isinstance(self.token, int) else self.token


@dataclass(frozen=True, repr=False)
class Probe(Carded):
    """What `probe` found; prints the best cell of every site.

    >>> found = dl.probe(dl.open_study("portraits"), "glasses", sites="joint.4.image.out", steps=7, tokens=[28, 63])
    >>> found.measure, found.sites, found.steps
    ('balanced accuracy', ['cond', 'joint.0.image.in', 'joint.4.image.out'], [7])
    >>> found.best().token, found.best().score.value > 0.95, found.best(token=63).score.value < 0.5
    (28, True, True)

    Attributes:
        target: What was read.
        measure: ``"R²"`` or ``"balanced accuracy"``.
        cells: All probes, in the order of the forward pass.
        baselines: Sites that show what goes into the network: they are cells, too, but never the best.
        images: Number of images.
        chance: What guessing gives.
        notes: What to know before believing it.
    """

    target: str
    measure: str
    cells: tuple[ProbeCell, ...]
    baselines: tuple[str, ...]
    images: int
    chance: float
    notes: tuple[str, ...] = ()
    source: Study | LatentCache | None = field(default=None, repr=False, compare=False)

    def best(
        self, site: str | None = None, *, step: int | None = None, token: int | str | None = None
    ) -> ProbeCell:
        """The cell with the highest score; with a site, a step or a token, among those.

        Raises:
            SettingError: If there is none.
        """
        chosen = [
            cell
            for cell in self.cells
            if (cell.site not in self.baselines if site is None else cell.site == site)
            and step in (None, cell.step) and token in (None, cell.token)
        ]  # fmt: skip
        if not chosen:
            raise SettingError(
                f"This probe has no cell with site={site!r}, step={step!r}, token={token!r}. It has the sites "
                f"{', '.join(self.sites)} and the steps {self.steps}."
            )
        return max(chosen, key=lambda cell: cell.score.value)

    @property
    def sites(self) -> list[str]:
        """Probed sites, in the order of the forward pass."""
        return list(dict.fromkeys(cell.site for cell in self.cells))

    @property
    def steps(self) -> list[int]:
        """Probed steps."""
        return sorted({cell.step for cell in self.cells})

    @property
    def table(self) -> dict[str, list[Any]]:
        """Every cell as a row, by column; intervals take three columns."""
        rows = []
        for cell in self.cells:
            row: dict[str, Any] = {}
            for name, value in vars(cell).items():
                ends = (
                    {f"{name}_low": value.low, f"{name}_high": value.high}
                    if isinstance(value, Interval)
                    else {}
                )
                row |= {name: value.value if ends else value, **ends}
            rows.append(row)
        return {name: [row[name] for row in rows] for name in rows[0]}

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a pandas table.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        return frame(self.table)

    def _card(self) -> list[Piece]:
        rows = []
        for site in self.sites:
            best = self.best(site)
            margins = [str(getattr(best, name)) for name in ("selectivity", "over_latents", "over_text")]
            rows.append((site, f"{best.step}", best.where, str(best.score), *margins))
        head = (
            "best cell of site",
            "step",
            "token",
            self.measure,
            "selectivity",
            "over latents",
            "over text",
        )
        title = (
            f"Probe of {self.target}: {self.measure} on held-out prompts and seeds, {self.images} images, "
        )
        title += f"{len(self.cells)} cells, guessing gives {self.chance:.2f}"
        return [title, Table(rows, head), *self.notes]

    def plot(self) -> Figure:
        """Heat maps of block x step: the best token of every site, and their mean."""
        return late.view("plot_probe", "probes")(self)

    def plot_patches(self, block: int | None = None, step: int | None = None) -> Figure:
        """The score of every patch over the mean picture, at one block and step, by default the best."""
        return late.view("plot_probe_patches", "probes")(self, block, step)


@takes(
    source=SOURCE, target=TARGET, sites=TEXTS, tokens=TOKENS, folds=FOLDS,
    steps=several(INDEX), untrained=SOURCE | NOTHING, seed=SEED,
)  # fmt: skip
def probe(
    source: Study | LatentCache,
    target: str | Sequence[Any],
    *,
    sites: str | Sequence[str] | None = None,
    steps: int | Sequence[int] | None = None,
    tokens: str | int | Sequence[int] = "each",
    untrained: Study | LatentCache | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Probe:
    """Read an attribute off hidden states, in every block, at every step and in every patch, with all controls.

    Of every site and step, ridge regression from each image token, and from their mean, predicts the attribute of
    the final image (R² of numbers; of categories the balanced accuracy of their indicators' regression). Of the
    text stream it is the mean over the words, since one position holds another word in every prompt. Images are
    split so that no tested one shares its prompt, its carrier sentence (the column ``carrier``) or its seed with a
    training image; the penalty is chosen on an inner split. Intervals come from resampling prompts.

    Controls (Hewitt and Liang 2019):

    - *control task*: labels drawn at random for each carrier sentence (without that column: for each prompt), which
      training and test share. What a probe reaches there it has memorised; ``selectivity`` is the score minus that.
    - *latents*: the best probe of what enters the first block, a linear map of the noisy latents of the same step.
      Needs the site, e.g. ``joint.0.image.in``, in the study.
    - *text*: a probe of the mean over the words before the first block, ``joint.0.text.in``; without it in the
      study, of ``cond``, the vector of pooled text and noise level.
    - *untrained network*: the same probes of a study of `ditlens.untrained`.

    >>> study = dl.open_study("portraits")
    >>> found = dl.probe(study, "smile", sites="joint.4.image.out", steps=7)
    >>> found.best().site, found.best().token, round(found.best().score.value, 1)
    ('joint.4.image.out', 43, 0.9)
    >>> found
    Probe of smile: R² on held-out prompts and seeds, 320 images, 25 cells, guessing gives 0.00
    best cell of site  step  token     R²  ...
    joint.4.image.out  7     token 43  0.9...
    The mean over patches hides it: ... at best, against 0.9... at patch 43 of joint.4.image.out.

    Args:
        source: A study, or a cache.
        target: A column, such as an attribute that the oracle measured, or one value for each image. Numbers are
            regressed, names classified; images whose value is missing (None, NaN, infinite, or an empty text) are
            left out.
        sites: Patterns as in `ditlens.capture`; all by default.
        steps: Some steps; all by default.
        tokens: ``"each"``: every image token and their mean. ``"mean"``: their mean only. ``"best:4"``: the four
            best together, chosen on the inner split. Or numbers of image tokens.
        untrained: A study of `ditlens.untrained`, with the same prompts, seeds and sites.
        folds: Outer folds, at least 3: of each, one is tested, one chooses the penalty, and the rest trains.
        seed: Decides the folds and the random labels.

    Raises:
        StudyError: If there is no such column.
        SettingError: If the target does not vary, has too few groups or prompts of a class to hold out, or an
            argument is wrong.
        SiteError: If a site was not captured.
    """
    name, values = (
        (target, column_of(source, target)) if isinstance(target, str) else ("target", plain_values(target))
    )
    known = np.array([not is_missing(value) for value in values])
    images = len(source.columns["prompt"])
    if len(values) != images:
        raise SettingError(f"target has {len(values)} values for {images} images; give one each.")
    notes = (
        []
        if known.all()
        else [f"{name} is unknown for {counted(int((~known).sum()), 'image')}, left out here."]
    )
    if name in HELD_OUT:  # a number there is a name
        values = [None if value is None else str(value) for value in values]
    exam = Exam.plan(
        name, list(itertools.compress(values, known)), labels_of(source, known), folds, seed, notes
    )
    chosen, asked = fitting(source.sites, sites), None if steps is None else listed(steps)
    tokens = tokens if isinstance(tokens, str) else listed(tokens)
    baselines = [site for site in map(entering, itertools.repeat(source.sites), STREAMS) if site]
    every = [site for site in source.sites if site in chosen or site in baselines]
    marks = {mark.place: mark for mark in exam.sit(source, every, asked, tokens, known)}
    blank = {}
    if untrained is not None:
        if untrained.columns["prompt"] != source.columns["prompt"]:
            raise SettingError("untrained has other prompts than the study: capture it with the same plan.")
        blank = {mark.place: mark.score for mark in exam.sit(untrained, every, asked, tokens, known)}
    measure, chance = exam.target.measure, exam.target.chance
    cells = compared(marks, blank, baselines, chance)
    notes += remarks(marks, baselines, source.reduced)
    return Probe(name, measure, cells, tuple(baselines), int(known.sum()), chance, tuple(notes), source)


# --- the examination ---------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a probe reads: site, step, and token."""

    site: str
    step: int
    token: int | str


class Mark(NamedTuple):
    """How well one probe does: the score, then that of every resample, (1 + resamples,); likewise the control."""

    place: Place
    score: np.ndarray
    control: np.ndarray


@dataclass(frozen=True, eq=False)
class Exam:
    """What every probe of one attribute has to do.

    Attributes:
        target: What it predicts.
        folds: On which images it trains and is tested.
        controls: Random labels of the control task.
        shared: Folds of the control task, whose types are in training and test.
        prompts: Number of the prompt of each image.
        draws: How often each prompt counts in the score, then in that of every resample, (1 + resamples, prompts).
    """

    target: Target
    folds: list[Split]
    controls: list[Target]
    shared: list[Split]
    prompts: np.ndarray
    draws: np.ndarray

    @classmethod
    def plan(
        cls,
        name: str,
        values: list[Any],
        labels: dict[str, list[Any]],
        folds: int,
        seed: int,
        notes: list[str],
    ) -> Exam:
        """Split the images and draw the control labels; what is to be said of that is added to the notes.

        Raises:
            SettingError: If the target does not vary or there are too few groups to hold out.
        """
        target, rng = Target.of(name, values), np.random.default_rng(seed)
        prompts, seeds, carriers = labels["prompt"], labels["seed"], labels.get("carrier")
        types = prompts if carriers is None else carriers
        texts = [prompts] if carriers is None else [prompts, carriers]
        try:
            made = splits(texts, seeds, folds, rng)
        except ValueError as error:
            raise SettingError(
                f"The images cannot be split into {folds} folds of which none shares a prompt"
                f"{' or a carrier sentence' * (carriers is not None)} with another: there are {error}. Use more "
                "prompts or fewer folds."
            ) from error
        notes += target.unlearnable(made)
        try:
            shared = splits([seeds if carriers is None else prompts], seeds, folds, rng)
        except ValueError:
            shared = []
        controls = [target.redrawn(types, rng) for _ in range(DRAWS)] if shared else []
        if len(set(seeds)) == 1:
            notes.append("All images have the same seed, which so could not be held out.")
        if len(set(types)) == len(types) or not shared:
            notes.append(
                "No carrier or prompt recurs with other seeds: the control task has nothing to memorise."
            )
        if rare := target.rare(2 * folds):
            notes.append(f"Few images show: {', '.join(rare)}.")
        numbers = np.unique(prompts, return_inverse=True)[1].reshape(-1)
        count = int(numbers.max()) + 1
        draws = np.concatenate([np.ones((1, count)), resampled_sums(np.eye(count), REPEATS, seed)])
        return cls(target, made, controls, shared, numbers, draws)

    def sit(
        self,
        source: Study | LatentCache,
        sites: list[str],
        steps: Sequence[int] | None,
        tokens: Any,
        known: np.ndarray,
    ) -> Iterator[Mark]:
        """The marks of every place."""
        with progress_bar("probe, sites") as show:
            for done, site in enumerate(sites, 1):
                for step, names, x in readings(source, site, steps, tokens, torch.from_numpy(known)):
                    best = best_of(tokens) if len(names) > 1 else 0
                    score, control = self.score(x, best)
                    for k, token in enumerate([f"best {best}"] if best else names):
                        yield Mark(Place(site, step, token), score[:, k], control[:, k])
                show(done, len(sites))

    def score(self, x: Tensor, best: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Scores and those of the control task, (1 + resamples, cells), of values (cells, images, width)."""
        score = self._of([self.target], x, self.folds, best)[0]
        drawn = (
            self._of(self.controls, x, self.shared, best)
            if self.controls
            else np.full((1, *score.shape), np.nan)
        )
        return score, np.maximum(np.mean(drawn, 0), self.target.chance)

    def _of(self, targets: list[Target], x: Tensor, made: list[Split], best: int) -> np.ndarray:
        """Scores of several targets, (targets, 1 + resamples, cells)."""
        if best:
            found = [best_together(x, target, made, best) for target in targets]
        elif targets[0].classes:  # each has weights of its own
            found = [predict(x, t.columns, t.weights, [0] * len(t.classes), made) for t in targets]
        else:
            y = torch.cat([target.columns for target in targets], 1)
            found = list(predict(x, y, targets[0].weights, range(len(targets)), made).split(1, 2))
        pairs = zip(targets, found, strict=True)
        return np.stack([t.score(each.double().numpy(), self.prompts, self.draws) for t, each in pairs])


def best_together(x: Tensor, target: Target, made: list[Split], count: int) -> Tensor:
    """Predictions (1, images, columns) from several tokens at once: of each fold the best on its inner split."""
    y, tasks = target.columns, [0] * target.columns.shape[1]
    found = torch.full((1, *y.shape), torch.nan)
    for split in made:
        inner = Split(split.fit, split.choose, split.fit, split.choose)
        alone = predict(x, y, target.weights, tasks, [inner])[:, split.choose]
        errors = ((alone - y[split.choose]).square() * target.weights[split.choose, None]).sum((1, 2))
        together = torch.cat([*x[errors.argsort()[:count]]], 1).unsqueeze(0)
        found[:, split.test] = predict(together, y, target.weights, tasks, [split])[:, split.test]
    return found


def readings(
    source: Study | LatentCache, site: str, steps: Sequence[int] | None, tokens: Any, known: Tensor
) -> Iterator[tuple[int, list[int | str], Tensor]]:
    """Of a site, for each step: names of the tokens, and their values (tokens, images, width)."""
    pass_ = "cond" if "cond" in source.passes else source.passes[0]
    part = source.select([site], step=None if steps is None else [*steps], pass_=pass_)
    stream, mask = Site.parse(site).stream, source.mask(pass_)
    for step, values in zip(part.steps, part.get(site, pass_=pass_), strict=True):
        values = values[known].float()
        check_finite(site, step, values, known.nonzero().ravel().tolist())
        if values.ndim == 2:
            yield step, ["mean" if source.reduced else "whole"], values.unsqueeze(0)
            continue
        if values.ndim != 3:
            raise SettingError(
                f"{site} has the shape {tuple(values.shape)}; probe sites like joint.3.image.out."
            )
        if stream != "image":
            real = mask[known] if stream == "text" and mask is not None else None
            yield step, ["mean"], masked_mean(values, real, 1).transpose(0, 1)
            continue
        numbers = source.tokens.get("image") or list(range(values.shape[1]))
        wanted = [n for n in numbers if isinstance(tokens, str) or n in tokens] if tokens != "mean" else []
        if not isinstance(tokens, str) and (absent := [n for n in tokens if n not in numbers]):
            raise SettingError(f"tokens has {absent[0]}, which the study has not: it has {ranges(numbers)}.")
        each = values[:, [numbers.index(n) for n in wanted]].transpose(0, 1)
        mean = values.mean(1).unsqueeze(0)
        if best_of(tokens) > len(wanted):
            raise SettingError(
                f"tokens is {tokens!r}, but {site} has {counted(len(wanted), 'image token')} here. Type "
                f"tokens='best:{len(wanted)}', or fewer."
            )
        if best_of(tokens):
            yield step, [*wanted], each
        elif isinstance(tokens, str):
            yield step, [*wanted, "mean"], torch.cat([each, mean])
        else:
            yield step, [*wanted], each


# --- what it comes to --------------------------------------------------------------------------------------


def compared(
    marks: dict[Place, Mark], blank: dict[Place, np.ndarray], baselines: list[str], chance: float
) -> tuple[ProbeCell, ...]:
    """Every cell beside its controls; a control that does worse than guessing counts as guessing."""
    base: dict[tuple[str, int], np.ndarray] = {}
    for place, mark in marks.items():
        key = (stream_of(place.site), place.step)
        if place.site in baselines and (key not in base or mark.score[0] > base[key][0]):
            base[key] = mark.score
    cells = []
    for place, (_, score, control) in marks.items():
        over = [base.get((stream, place.step)) for stream in ("image", "text")] + [blank.get(place)]
        margins = [UNKNOWN if low is None else interval(score - np.maximum(low, chance)) for low in over]
        cells.append(
            ProbeCell(*place, interval(score), float(control[0]), interval(score - control), *margins)
        )
    return tuple(cells)


def remarks(marks: dict[Place, Mark], baselines: list[str], reduced: str) -> list[str]:
    """What to know before believing it."""
    notes = []
    image = [
        m
        for m in marks.values()
        if m.place.site not in baselines and Site.parse(m.place.site).stream == "image"
    ]
    each = max((m for m in image if isinstance(m.place.token, int)), key=lambda m: m.score[0], default=None)
    mean = max((m for m in image if m.place.token == "mean"), key=lambda m: m.score[0], default=None)
    if reduced == "mean":
        notes.append(
            "The study keeps means over tokens only, which hide what lies in one patch. Capture it with "
            "reduce='sketch:64' before you conclude that something is not there."
        )
    elif each and mean and interval(each.score - mean.score).low > HIDES:
        notes.append(
            f"The mean over patches hides it: {mean.score[0]:.2f} at best, against {each.score[0]:.2f} at patch "
            f"{each.place.token} of {each.place.site}."
        )
    for stream, what in (("image", "the noisy latents"), ("text", "the text alone")):
        if not any(stream_of(site) == stream for site in baselines):
            notes.append(f"Not compared with {what}: capture joint.0.{stream}.in, too.")
    return notes


def interval(samples: np.ndarray) -> Interval:
    """The first value, and the middle 95 % of the others."""
    return Interval(float(samples[0]), *middle(samples[1:]))


def entering(sites: Sequence[str], stream: str) -> str | None:
    """The captured site that shows what of the latents or the text enters the network, if there is one."""
    found = fitting(sites, stream=stream, block=0, kind="joint", point="in")
    found += [site for site in sites if site == "cond" and stream == "text"]
    return found[0] if found else None


def stream_of(site: str) -> str:
    """The stream of a site; what modulates the blocks is of the text."""
    return Site.parse(site).stream or "text"


def best_of(tokens: Any) -> int:
    """How many tokens "best:4" means; 0 for anything else."""
    found = re.fullmatch(r"best:(\d+)", tokens) if isinstance(tokens, str) else None
    return int(found[1]) if found else 0


def column_of(source: Study | LatentCache, name: str) -> list[Any]:
    """A column of a study or a cache.

    Raises:
        StudyError: If there is none of this name.
    """
    if name not in source.columns:
        raise StudyError(f"There is no column {name!r} to probe. There are: {', '.join(source.columns)}.")
    return list(source.columns[name])


def labels_of(source: Study | LatentCache, known: np.ndarray) -> dict[str, list[Any]]:
    """Prompt, seed and, where there is one, carrier of every image that counts."""
    found = {"seed": list(range(len(known))), **source.columns}  # a cache does not know its seeds: all differ
    return {
        name: list(itertools.compress(found[name], known))
        for name in ("prompt", "seed", "carrier")
        if name in found
    }
