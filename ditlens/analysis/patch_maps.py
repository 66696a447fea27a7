"""Three maps of an attribute over the image: where it is readable, where its words are looked at, where it is used.

A probe says what can be read from a patch, attention which patches look at the words, activation patching which
patch makes the image change. None of them implies another, so their agreement is measured, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ditlens import late
from ditlens.analysis.cells import Sampler, once, places_of
from ditlens.analysis.patcher import grid_of
from ditlens.analysis.patching import CausalMap, patch
from ditlens.analysis.probes import Probe, probe
from ditlens.arguments import COUNT, INDEX, NOTHING, SEED_OR_SEEDS, TEXT, TEXTS, instance, listed, takes
from ditlens.cards import Carded, Piece, Table
from ditlens.errors import SettingError
from ditlens.lens.study.store import Study
from ditlens.metrics.statistics import Estimate, estimate, resampled_estimate, said, spearman
from ditlens.models.identity import fingerprint
from ditlens.models.model import MODEL, Model
from ditlens.tables import Progress, counted, progress_bar, progress_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

METHODS = ("readable", "looked at", "used")
TOP = 0.1
"""Share of the patches that counts as the place of an attribute: 6 of 64."""
SHUFFLES = 1000


@dataclass(frozen=True, eq=False, repr=False)
class PatchMaps(Carded):
    """What `locate` found: three maps of each attribute; prints the best patch of each, and how they agree.

    >>> import numpy as np
    >>> first, second = np.eye(16)[[5, 10]].reshape(2, 4, 4)  # two attributes, each in one patch of 4 x 4
    >>> found = dl.PatchMaps(("smile", "hat"), ("R²", "R²"), np.stack([[first, second]] * 3), "planted")
    >>> found.best("hat"), found.overlap[:, 0].tolist(), found.agreement["readable, used"]["overlap"]["value"]
    ({'readable': 10, 'looked at': 10, 'used': 10}, [1.0, 1.0, 1.0], 1.0)

    Attributes:
        names: The attributes.
        measures: What the readable map of each has: R² or balanced accuracy less what guessing gives.
        maps: (methods, attributes, rows, columns): the score of a probe; the share of a patch's attention that goes
            to the attribute's words; PE of the patch alone.
        about: Where and how they were measured.
        pictures: Of each attribute, from the first pair of prompts: corrupt, with the most used patch of the clean
            run put in, and clean.
        study: Where the readable map is from.
    """

    names: tuple[str, ...]
    measures: tuple[str, ...]
    maps: np.ndarray
    about: str
    pictures: tuple[tuple[Image.Image, ...], ...] = ()
    study: Study | None = field(default=None)

    def best(self, name: str) -> dict[str, int]:
        """The highest patch of each map of an attribute."""
        flat = self._flat[:, self.names.index(name)]
        return dict(zip(METHODS, flat.argmax(-1).tolist(), strict=True))

    @property
    def _flat(self) -> np.ndarray:
        """(methods, attributes, patches)."""
        return self.maps.reshape(*self.maps.shape[:2], -1)

    @property
    def top(self) -> int:
        """How many of the highest patches are compared: a tenth of all."""
        return max(1, int(TOP * self._flat.shape[-1]))

    def _highest(self) -> np.ndarray:
        """Whether a patch is among the highest of its map, (methods, attributes, patches)."""
        order = (-self._flat).argsort(-1, kind="stable")
        return order.argsort(-1) < self.top

    @property
    def overlap(self) -> np.ndarray:
        """Share of the highest patches that two methods have in common, (pairs of methods, attributes)."""
        high = self._highest()
        return np.stack([(high[a] & high[b]).sum(-1) / self.top for a, b in _pairs()])

    @property
    def agreement(self) -> dict[str, dict[str, Estimate]]:
        """How alike the maps are, for each two methods and as the mean of them, ``"all"``.

        *overlap*: share of the highest patches in common. *rank correlation*: Spearman's over all patches.
        *others*: overlap of one method's map with the other's of another attribute. These have 95 % intervals over
        attributes. *shuffled*: overlap where the patches are shuffled, with its middle 95 %.
        """
        high, flat, rng = self._highest(), self._flat, np.random.default_rng(0)
        attributes = range(len(self.names))
        found, sums = {}, []
        for a, b in _pairs():
            cross = high[a].astype(float) @ high[b].T / self.top
            ranks = [spearman(flat[a, k], flat[b, k]) for k in attributes]
            others = [np.delete((cross[k] + cross[:, k]) / 2, k).mean() for k in attributes if len(cross) > 1]
            mixed = rng.permuted(np.broadcast_to(high[a], (SHUFFLES, *high[a].shape)), axis=-1)
            sums.append((cross.diagonal(), ranks, others, (mixed & high[b]).sum(-1) / self.top))
            found[f"{METHODS[a]}, {METHODS[b]}"] = _agreement(*sums[-1])
        return found | {"all": _agreement(*(np.mean(each, 0) for each in zip(*sums, strict=True)))}

    def _card(self) -> list[Piece]:
        rows = []
        for number, name in enumerate(self.names):
            cells = [f"{self._flat[m, number, k]:.2f} at {k}" for m, k in enumerate(self.best(name).values())]
            rows.append([name, *cells, f"{self.overlap[:, number].mean():.2f}"])
        table = Table(rows, ["attribute", *(f"{method}, best patch" for method in METHODS), "overlap"])
        lines = [
            [pair, *(said(each[key]) if each[key]["n"] else "" for key in each)]
            for pair, each in self.agreement.items()
        ]
        head = [
            "agreement",
            f"overlap of {self.top} patches",
            "rank correlation",
            "other attributes",
            "shuffled",
        ]
        title = f"PatchMaps of {counted(len(self.names), 'attribute')}: {self.about}"
        return [title, table, "", Table(lines, head)]

    def plot(self) -> Figure:
        """A row for each attribute: three pictures, and the three maps over the mean picture."""
        return late.view("plot_patch_maps", "probes")(self)


def _pairs() -> list[tuple[int, int]]:
    return list(itertools.combinations(range(len(METHODS)), 2))


def _agreement(
    overlap: np.ndarray, ranks: list[float], others: list[float], mixed: np.ndarray
) -> dict[str, Estimate]:
    chance = mixed.mean(-1)
    return {
        "overlap": estimate(overlap), "rank correlation": estimate(ranks), "others": estimate(others),
        "shuffled": resampled_estimate(chance.mean(), chance, SHUFFLES),
    }  # fmt: skip


# --- measuring -----------------------------------------------------------------------------------------------


@takes(
    model=MODEL, study=instance("a study, ditlens.open_study('portraits-patches')", Study), attributes=TEXTS,
    site=TEXT | NOTHING, step=INDEX | NOTHING, seeds=SEED_OR_SEEDS, sampling_steps=COUNT,
)  # fmt: skip
def locate(
    model: Model,
    study: Study,
    attributes: str | Sequence[str],
    *,
    site: str | None = None,
    step: int | None = None,
    seeds: int | Sequence[int] = (0, 1, 2, 3),
    sampling_steps: int = 8,
) -> PatchMaps:
    """Where in the image an attribute is readable, where its words are looked at, and where it is used.

    *Readable*: `ditlens.probe` of every patch of a study. *Looked at*: the share of a patch's attention that goes
    to the words in which two minimal prompts differ, mean over the blocks from the first third up to the probed one
    and over the first half of the run. *Used*: `ditlens.patch` of every patch alone, as it enters the block after
    the probed one: these are the hidden states that the probe reads.

    >>> model, study = dl.load("portraits", device="cpu"), dl.open_study("portraits-patches")
    >>> found = dl.locate(model, study, "smile", seeds=[0], sampling_steps=3)
    >>> found.best("smile")["readable"], found.maps.shape
    (43, (3, 1, 8, 8))

    Args:
        model: A model with a world, which writes the pairs of prompts: one for each seed.
        study: Holds all patches of an image stream, and a column of each attribute; of the same model.
        attributes: One or more. One patch alone makes no other category of a large part, such as a hat: its third
            map shows nothing.
        site: What is probed, as ``joint.4.image.out``; by default the study's last one of this kind.
        step: At which step; by default the study's last one.
        seeds: One or more seeds of the pairs.
        sampling_steps: Euler steps of the runs that are looked into and patched.

    Raises:
        SettingError: If the study has not all patches there, or two images of a pair do not differ.
        StudyError: If there is no such column.
        UnknownAttributeError: If the world has no such attribute.
    """
    chosen, seeds = once(listed(attributes), "attributes"), listed(seeds)
    outs = [each for each in study.sites if each.endswith(".image.out")]
    site, step = site or (outs or [""])[-1], study.steps[-1] if step is None else step
    entering = [place.sites[0] for place in places_of(model, ["image"], ["in"], None, 1)]
    inside = site.removesuffix("out") + "in"
    if site not in outs or inside not in entering or study.grid != grid_of(model):
        raise SettingError(
            f"locate needs all {' x '.join(map(str, grid_of(model)))} patches at a site like joint.4.image.out of "
            f"a model of {counted(len(entering), 'block')}, here {site or 'one'}: this study has "
            f"{', '.join(outs) or 'no such site'} and the grid {study.grid}. For portraits, use "
            "ditlens.open_study('portraits-patches')."
        )
    here = entering.index(inside)
    into, blocks = min(here + 1, len(entering) - 1), range(min(len(entering) // 3, here), here + 1)
    reads = [probe(study, name, sites=site, steps=step) for name in chosen]
    legible = [
        readable(read, site, study.grid) for read in reads
    ]  # what is missing is said before the slow part
    maps, pictures = [], []
    count = int(np.prod(study.grid))
    with progress_bar("locate, patches") as show:
        for done, (name, read) in enumerate(zip(chosen, legible, strict=True), 1):
            with progress_to(_part_of(show, (done - 1) * count, count, len(chosen) * count)):
                used = patch(
                    model, measure=name, stream="image", tokens="each", blocks=[into], seeds=seeds,
                    sampling_steps=sampling_steps,
                )  # fmt: skip
            effect = np.nan_to_num(used.table()[:, -1])  # NaN where no image shows it any more: nothing known
            maps.append([read, looked_at(model, used, blocks), effect.reshape(study.grid)])
            pictures.append((used.pictures[1], used.pictures[2 + int(effect.argmax())], used.pictures[0]))
            show(done * count, len(chosen) * count)
    about = (
        f"read at {site}, step {step}; attention of {counted(len(blocks), 'block')} up to there; patched into "
        f"block {into}; {counted(len(seeds), 'pair')} of prompts"
    )
    if fingerprint(model) != study.manifest.fingerprint:
        about += (
            f"; the study is of another model ({study.manifest.model}), and says nothing sure of this one"
        )
    return PatchMaps(
        tuple(chosen), tuple(read.measure for read in reads), np.stack(maps, 1), about, tuple(pictures), study
    )  # fmt: skip


def _part_of(show: Progress, before: int, count: int, total: int) -> Progress:
    """Tells of a part, such as 64 patches of 128, as progress of the whole."""
    return lambda done, of, *_: show(before + int(count * done / of), total)


def readable(read: Probe, site: str, grid: tuple[int, ...]) -> np.ndarray:
    """The score of every patch less what guessing gives, as a share of what is left.

    Raises:
        SettingError: If patches are missing.
    """
    scores = {cell.token: cell.score.value for cell in read.cells if cell.site == site}
    if missing := [k for k in range(int(np.prod(grid))) if k not in scores]:
        raise SettingError(
            f"The study keeps some tokens only: patch {missing[0]} is missing at {site}. Use a study of all "
            "patches, for portraits ditlens.open_study('portraits-patches')."
        )
    values = np.array([scores[k] for k in range(int(np.prod(grid)))])
    return ((values - read.chance) / (1 - read.chance)).reshape(grid)


def looked_at(model: Model, used: CausalMap, blocks: Sequence[int]) -> np.ndarray:
    """Attention of every patch to the words in which clean prompts differ from corrupt ones, (rows, columns)."""
    total = len(used.levels) - 1
    sites = [p.sites[0] for p in places_of(model, ["image"], ["attn.to_text"], blocks, 1)]
    sampler = Sampler(model, [pair.seed for pair in used.pairs], total, used.guidance)
    cache = sampler.captured([pair.clean for pair in used.pairs], sites)[1]
    shares = [cache.get(site, step=t).float() for site in sites for t in range(max(1, total // 2))]
    mean = sum(shares[1:], shares[0]) / len(shares)  # (items, patches, words)
    each = [mean[k][:, pair.clean_rows(model)].sum(-1) for k, pair in enumerate(used.pairs)]
    return np.mean([row.cpu().numpy() for row in each], 0).reshape(used.grid)
