"""SDE-recon: our reading of EMS's metric of semantic disentanglement, from reconstructions under other texts.

The metric of the paper (arXiv 2408.13335) is known to us from summaries only: it is made of distances between
images that are reconstructed under different texts, and stands for two properties, *effectiveness* and
*decomposability*. How the paper combines them is unknown. What is measured here is a reading of ours, and its
numbers are not the paper's. An image x with text c0 is brought to noise level t and sampled back, with c0 or with
the text c1 in which one attribute is flipped; d is a squared distance, d_in and d_out its parts inside and outside
the region that may change, and y the image as it should become::

    R0 = R(x; c0)     R1 = R(x; c1)     Rn = R(x; c0 + n'),  n' towards another image's text, as long as c1 - c0

    single image   faithfulness d(x, R0)      strength d_in(R0, R1)      leak d_out(R0, R1)      keep d(x, R1)
                   locality = strength / (strength + leak)
    pair           effectiveness     E = 1 - d(R1, y) / d(x, y)              1: R1 is y; 0: no nearer to it than x
                   decomposability   D = 1 - d_out(R0, R1) / d_out(R0, Rn)   1: nothing else changes; 0: as much
                                                                             as under any text so far away

All images have been through the autoencoder, x and y too, so that its error is no part of these numbers. The leak
is taken to R0, not to x: what sampling changes under the image's own text is in the faithfulness. Three settings
say what carries the edit: the "text" (above), the "image" (x is replaced by latents that a method moved, sampled
under c0), or both, "joint". Where a world reads images, its effect and drift of every R1 from x stand beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch

from ditlens.analysis.counterfactuals import counterfactuals
from ditlens.analysis.prompts import Ends
from ditlens.analysis.regenerate import DISTANCES, ROWS, SETTINGS, Run
from ditlens.arguments import (
    COUNT,
    NAME,
    NUMBER,
    SEED,
    TEXT,
    Kind,
    instance,
    list_of,
    listed,
    one_of,
    several,
    takes,
)
from ditlens.cards import Carded, Piece, Table
from ditlens.ems.plan import default_method
from ditlens.ems.sample import Method, method_for
from ditlens.errors import SettingError
from ditlens.images import ImageLike
from ditlens.late import view
from ditlens.metrics.statistics import REPEATS, Estimate, resampled_estimate, resampled_sums, said, too_few
from ditlens.models.model import MODEL, Model
from ditlens.tables import counted, frame, progress_bar
from ditlens.worlds.world import SuiteItem

if TYPE_CHECKING:
    import pandas


def over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A ratio; NaN or infinite where nothing changes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return part / whole


class Curve(NamedTuple):
    """A number over noise levels.

    Attributes:
        title: Its formula, or what it is.
        parts: Measures whose means over images it is made of.
        formula: Makes it of these means.
    """

    title: str
    parts: tuple[str, ...]
    formula: Callable[..., np.ndarray]


CURVES = {
    "faithfulness": Curve("d(x, R0)", ("own",), lambda own: own),
    "strength": Curve("d_in(R0, R1)", ("inside",), lambda inside: inside),
    "leak": Curve("d_out(R0, R1)", ("outside",), lambda outside: outside),
    "keep": Curve("d(x, R1)", ("keep",), lambda keep: keep),
    "locality": Curve(
        "d_in(R0, R1) / d(R0, R1)",
        ("inside", "outside"),
        lambda inside, outside: over(inside, inside + outside),
    ),
    "effectiveness": Curve("1 - d(R1, y) / d(x, y)", ("swap", "gap"), lambda swap, gap: 1 - over(swap, gap)),
    "decomposability": Curve(
        "1 - leak / leak under a random text",
        ("outside", "random"),
        lambda outside, random: 1 - over(outside, random),
    ),
    "effect": Curve("share of the way to the wanted level", ("effect",), lambda effect: effect),
    "drift": Curve("mean change of the other attributes", ("drift",), lambda drift: drift),
}
"""What is shown over noise levels; the last two are read by the model's world."""

SMALL = ("faithfulness", "strength", "leak", "keep")
"""Distances, which tables show in thousandths."""

Edits: TypeAlias = "Sequence[SuiteItem] | Sequence[tuple[ImageLike, str, str]]"
TRIPLE = Kind(
    "", lambda value: isinstance(value, tuple) and len(value) == 3 and all(map(TEXT.fits, value[1:]))
)
WHAT = NAME | list_of(
    instance("", SuiteItem) | TRIPLE,
    "a list of edits: of (image, its text, the text with the attribute flipped), or items of a suite",
)
SIGMA = Kind("a noise level above 0 and up to 1", lambda value: NUMBER.fits(value) and 0 < value <= 1)


@dataclass(frozen=True, eq=False, repr=False)
class SDE(Carded):
    """Reconstructions of images under other texts, over noise levels: see `sde`.

    Attributes:
        name: What was flipped.
        sigmas: Noise levels t, rising.
        settings: Which of "text", "image" and "joint" were run.
        values: What was measured, (images, sigmas), by setting and measure; NaN where nobody knows, as
            the effect where the attribute cannot be seen.
        groups: Which images belong together, (images,): both directions of one person. Whole groups are resampled.
        autoencoder: Mean distance of the images given from what the autoencoder makes of them.
        examples: The first two images, (2, 3, height, width) "source", and (sigmas, 2, 3, height, width) for "own"
            (R0) and each setting (R1).
        recipe: Settings of the run.

    Example:
        >>> found = dl.sde(model, "glasses", count=2, sigmas=(1.0,), sampling_steps=1)
        >>> isinstance(found, dl.SDE), found.settings, found.groups.tolist()
        (True, ('text',), [0, 0, 1, 1])
        >>> sorted(found.best("effectiveness"))
        ['high', 'low', 'n', 'nan', 'value']
    """

    name: str
    sigmas: tuple[float, ...]
    settings: tuple[str, ...]
    values: Mapping[tuple[str, str], np.ndarray] = field(repr=False)
    groups: np.ndarray = field(repr=False)
    autoencoder: float
    examples: Mapping[str, torch.Tensor] = field(repr=False)
    recipe: Mapping[str, Any] = field(repr=False)

    def measured(self, setting: str) -> list[str]:
        """Names of the curves of a setting: without partners there is no effectiveness, without a region no leak.

        Moved latents have no decomposability: a random text moves nothing before the sampling.
        """
        known = {
            name for (run, name), each in self.values.items() if run == setting and not np.isnan(each).all()
        }
        return [name for name, curve in CURVES.items() if known.issuperset(curve.parts)]

    @property
    def curves(self) -> list[str]:
        """Names of the curves that some setting has."""
        found = {name for setting in self.settings for name in self.measured(setting)}
        return [name for name in CURVES if name in found]

    def curve(self, name: str, setting: str = "text") -> list[Estimate]:
        """One of `CURVES` at every noise level, with 95 % intervals over the groups; "nan" images do not count.

        Raises:
            SettingError: If it was not measured.
        """
        value, samples = self._samples(name, setting)
        parts = [self.values[setting, part] for part in CURVES[name].parts]
        unseen = np.isnan(parts).any(0).sum(0).tolist()
        return [self._estimate(value[k], samples[:, k], unseen[k]) for k in range(len(self.sigmas))]

    def area(self, name: str, setting: str = "text", versus: str | None = None) -> Estimate:
        """The mean of a curve over the noise levels (trapezoids), or what it is above that of another setting.

        Both settings are resampled together: the interval is that of the difference.

        Raises:
            SettingError: If it was not measured, or there is one noise level only.
        """
        if len(self.sigmas) < 2:
            raise SettingError("An area needs two noise levels or more: sigmas=(0.2, 0.6, 1.0).")
        width = self.sigmas[-1] - self.sigmas[0]
        return self._reduced(lambda curve: np.trapezoid(curve, self.sigmas) / width, name, setting, versus)

    def best(self, name: str, setting: str = "text", versus: str | None = None) -> Estimate:
        """The largest value of a curve over the noise levels, or what it is above that of another setting.

        Raises:
            SettingError: If it was not measured.
        """
        return self._reduced(lambda curve: curve.max(-1), name, setting, versus)

    def _reduced(
        self, reduce: Callable[[np.ndarray], Any], name: str, setting: str, versus: str | None
    ) -> Estimate:
        value, samples = map(reduce, self._samples(name, setting))
        if versus is not None:
            other, others = map(reduce, self._samples(name, versus))
            value, samples = value - other, samples - others
        return self._estimate(value, samples)

    def _samples(self, name: str, setting: str) -> tuple[np.ndarray, np.ndarray]:
        """A curve, (sigmas,), and its values over resampled groups, (repeats, sigmas)."""
        if name not in self.measured(setting):
            known = "; ".join(f"{each}: {', '.join(self.measured(each))}" for each in self.settings)
            raise SettingError(f"{name!r} of {setting!r} was not measured. There are, for {known}.")
        curve, whose = CURVES[name], np.unique(self.groups, return_inverse=True)[1]
        members = np.eye(whose.max() + 1)[:, whose]  # (groups, images)
        size = members.sum(1, keepdims=True)  # every group counts as much as another
        values = [self.values[setting, part] for part in curve.parts]
        sums = [members @ np.nan_to_num(each) / size for each in values]
        counts = [members @ (~np.isnan(each)).astype(float) / size for each in values]
        blocks = np.stack([np.stack(sums, 1), np.stack(counts, 1)], 1)  # (groups, 2, parts, sigmas)
        samples = resampled_sums(blocks, REPEATS)
        value = curve.formula(*over(*blocks.sum(0)))
        return value, curve.formula(*np.moveaxis(over(samples[:, 0], samples[:, 1]), 1, 0))

    def _estimate(self, value: Any, samples: np.ndarray, unseen: int = 0) -> Estimate:
        return {**resampled_estimate(value, samples, len(set(self.groups.tolist()))), "nan": unseen}

    @property
    def notes(self) -> list[str]:
        """What to know about it: where the attribute cannot be seen; empty if it can in all images."""
        found = []
        for setting in self.settings:
            effect = self.values.get((setting, "effect"), np.zeros((1, 1)))
            if unseen := int(np.isnan(effect).sum()):
                found.append(
                    f"{self.name} cannot be seen in {unseen} of {effect.size} images ({setting}): these do not "
                    "count in the effect."
                )
        return found

    def to_pandas(self) -> pandas.DataFrame:
        """All curves, a row for each setting, curve and noise level.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        return frame([
            {"setting": setting, "curve": name, "sigma": sigma, **each}
            for setting in self.settings
            for name in self.measured(setting)
            for sigma, each in zip(self.sigmas, self.curve(name, setting), strict=True)
        ]).drop(columns="nan")  # fmt: skip

    def _card(self) -> list[Piece]:
        groups = len(set(self.groups.tolist()))
        shown = [name for name in self.curves if name not in ("keep", "locality")]
        rows = []
        for setting in self.settings:
            cells = {name: self._cells(name, setting) for name in self.measured(setting)}
            for k, sigma in enumerate(self.sigmas):
                rows.append(
                    [setting, f"{sigma:g}", *(cells[name][k] if name in cells else "" for name in shown)]
                )
        head = [f"1000 {name}" if name in SMALL else name for name in shown]
        title = (
            f"SDE-recon (our reading of SDE) of {self.name!r}: {counted(len(self.groups), 'image')} in "
            f"{counted(groups, 'group')}, distance {self.recipe['distance']!r}, 95 % intervals"
        )
        return [title, Table(rows, ("carried by", "t", *head)), *self.notes, *too_few(groups, "group")]

    def _cells(self, name: str, setting: str) -> list[str]:
        """A curve for the table; distances in thousandths."""
        scale = 1000 if name in SMALL else 1
        return [said({k: scale * number for k, number in each.items()}) for each in self.curve(name, setting)]

    def plot(self) -> Any:
        """Curves over noise levels, and two images with what became of them; a matplotlib figure."""
        return view("plot_sde", "findings")(self)


# --- measuring ---------------------------------------------------------------------------------------------


@takes(
    model=MODEL, what=WHAT, count=COUNT,
    sigmas=several(SIGMA, "a list of them, e.g. (0.2, 0.6, 1.0)"), settings=several(one_of(*SETTINGS)),
    start=one_of("noise", "inversion"), distance=one_of(*DISTANCES), sampling_steps=COUNT, guidance=NUMBER,
    seed=SEED,
)  # fmt: skip
def sde(
    model: Model,
    what: str | Edits,
    *,
    between: Ends | None = None,
    count: int = 12,
    sigmas: float | Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    settings: str | Sequence[str] = "text",
    move: Method | str | None = None,
    start: str = "noise",
    distance: str = "squared",
    sampling_steps: int = 8,
    guidance: float | None = None,
    seed: int = 0,
) -> SDE:
    """Reconstruct images under their own text and under one with an attribute flipped: our reading of SDE.

    The equations are those of `ditlens.analysis.sde`. None of the numbers is the paper's: its formula is not known.

    Args:
        model: The model.
        what: An attribute of the model's world, which then draws `count` people with both of its ends; or edits:
            tuples (image, its text, the text with the attribute flipped), or items of a suite.
        between: The two ends of the attribute; see `ditlens.analysis.prompts.ends_of`.
        count: Number of people; there are two images of each.
        sigmas: One or more noise levels t in (0, 1] to which images are brought.
        settings: What carries the edit: the "text", the "image" (latents that `move` moved, sampled under the own
            text), or both, "joint".
        move: How latents move, a method or the name of one; by default that of the model's own edit.
        start: "noise" adds noise, the same for both images of a person; "inversion" follows the flow backwards,
            under the own text and without guidance.
        distance: "squared" (mean over colours, of values in [0, 1]) or "ssim" (1 - structural similarity).
        sampling_steps: Steps from t = 1 down to 0; below that, those of this grid that are left.
        guidance: Guidance of sampling; the model's own by default.
        seed: Decides people and noise.

    Returns:
        The curves, with intervals.

    Raises:
        ModelError: If an attribute is named and the model has no world.
        UnknownAttributeError: If its world has no such attribute.
        SettingError: If a setting is wrong, there is only one person or edit, or the images differ in size.

    Example:
        >>> found = dl.sde(model, "hat", count=2, sigmas=(0.5, 1.0), sampling_steps=2)
        >>> found.curves[:4], found.values["text", "own"].shape
        (['faithfulness', 'strength', 'leak', 'keep'], (4, 2))
        >>> sorted(found.area("decomposability"))
        ['high', 'low', 'n', 'nan', 'value']
    """
    items, groups = _items(model, what, between, count, seed)
    if len(set(groups)) < 2:
        raise SettingError("Give two people or edits at least: the intervals are over them.")
    if isinstance(move, str):
        move = method_for(model, move)
    run = Run(
        model, tuple(sorted(set(map(float, listed(sigmas))))), tuple(dict.fromkeys(listed(settings))),
        move or default_method(model), start, distance, sampling_steps,
        model.defaults["guidance"] if guidance is None else guidance, seed,
    )  # fmt: skip
    texts = [item.source_text for item in items]
    randoms = [_another(texts[i:] + texts[:i]) for i in range(len(items))]
    parts, done = [], itertools.count(1)
    total = -(-len(items) // ROWS) * len(run.sigmas)
    with progress_bar("sde, noise levels") as show:
        for first in range(0, len(items), ROWS):
            part, keep = slice(first, first + ROWS), 0 if first else 2
            parts.append(run(items[part], groups[part], randoms[part], keep, lambda: show(next(done), total)))
    values = {key: np.concatenate([part[0][key] for part in parts]) for key in parts[0][0]}
    loss = np.concatenate([part[2] for part in parts]).mean()
    recipe = {
        "between": between, "seed": seed, "sampling_steps": sampling_steps, "guidance": run.guidance,
        "start": start, "distance": distance, "move": run.move.name,
    }  # fmt: skip
    name = what if isinstance(what, str) else counted(len(items), "edit")
    return SDE(name, run.sigmas, run.settings, values, np.array(groups), float(loss), parts[0][1], recipe)


def _items(
    model: Model, what: str | Edits, between: Ends | None, count: int, seed: int
) -> tuple[list[SuiteItem], list[int]]:
    """The edits, and for each the group that it belongs to."""
    if isinstance(what, str):
        items = counterfactuals(model, what, between, count, seed)
        return items, [k // 2 for k in range(len(items))]
    items = [each if isinstance(each, SuiteItem) else _given(model, *each) for each in what]
    return items, list(range(len(items)))


def _another(texts: Sequence[str]) -> str:
    """The next text that differs in more than the edit's partner does; the empty one if there is none."""
    return next((text for text in texts[2:] if text != texts[0]), "")


def _given(model: Model, image: ImageLike, own: str, flipped: str) -> SuiteItem:
    """An edit of which nobody knows the answer."""
    return SuiteItem("", "", "", own, flipped, lambda: model.prepare(image))
