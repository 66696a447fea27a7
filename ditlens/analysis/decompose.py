"""Principal components of hidden states: one pass over a cache or a study, exact, in scikit-learn's shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh

from ditlens.analysis.projection import View
from ditlens.analysis.rows import SOURCE, TOKENS, Block, Source, Tokens, blocks, described, tokens_in_words
from ditlens.analysis.streaming import Sums
from ditlens.arguments import COUNT, FLAG, one_of, takes
from ditlens.cards import Piece, Table
from ditlens.errors import NotFittedError, SettingError
from ditlens.tables import counted

FAR = 3.0
"""A token whose mean norm is this many times the median of its site and step is reported as an outlier."""
SCALES = ("none", "standardise")


@dataclass(frozen=True, eq=False)
class Basis:
    """Principal components of some rows.

    Attributes:
        mean: Mean row, (width,).
        deviation: What every channel is divided by, (width,): its standard deviation, or 1.
        components: Unit vectors, (components, width); the loading of largest magnitude is positive.
        explained_variance: Variance along each.
        explained_variance_ratio: Its share of the whole.
        count: Rows that it was fitted on.
    """

    mean: np.ndarray
    deviation: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    explained_variance_ratio: np.ndarray
    count: int

    def __repr__(self) -> str:
        shares = " + ".join(f"{100 * share:.0f} %" for share in self.explained_variance_ratio[:5])
        count, width = self.components.shape
        return f"Basis of {self.count} rows: {counted(count, 'component')} x {width}, which explain {shares}"

    @classmethod
    def of(cls, sums: Sums, n_components: int, scale: str = "none", where: str = "") -> Basis:
        """The basis of rows whose sums are known.

        Raises:
            SettingError: If there are too few rows or channels, or all rows are the same.
        """
        width = len(sums.mean)
        if n_components > width:
            raise SettingError(
                f"{n_components} components were asked for, and rows{where} have a width of {width}. Ask for at "
                f"most {width}."
            )
        if sums.count <= n_components:
            raise SettingError(
                f"{n_components} components need {n_components + 1} rows or more{where}; there {_are(sums.count)}. "
                "Take more images or tokens, or fewer components."
            )
        covariance = sums.covariance
        deviation = np.ones(width)
        if scale == "standardise":
            deviation = np.sqrt(covariance.diagonal())
            deviation[deviation == 0] = 1
            covariance = covariance / np.outer(deviation, deviation)
        total = float(covariance.trace())
        if total <= 0:
            raise SettingError(f"All {sums.count} rows{where} are the same: they have no components.")
        variance, vectors = eigh(covariance, subset_by_index=[width - n_components, width - 1])
        variance, components = np.maximum(variance[::-1], 0), vectors[:, ::-1].T
        largest = np.abs(components).argmax(1)
        components = components * np.sign(components[np.arange(n_components), largest])[:, None]
        return cls(sums.mean, deviation, components, variance, variance / total, sums.count)

    def project(self, values: np.ndarray) -> np.ndarray:
        """Coordinates of rows (..., width): (..., components)."""
        matrix = (self.components / self.deviation).T.astype(np.float32)
        found: np.ndarray = (values - self.mean.astype(np.float32)) @ matrix
        return found


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


@takes(n_components=COUNT, tokens=TOKENS, scale=one_of(*SCALES), joint=FLAG)
@dataclass(eq=False, repr=False)
class PCA(View):
    """Principal component analysis of hidden states.

    One pass over the source, a few images at a time, so a study on disk never needs to fit into memory; the result
    is exact, as `sklearn.decomposition.PCA` gives it from all rows at once. Padding of the text never counts.

    Attributes:
        n_components: How many.
        tokens: Which rows: ``"each"`` token; ``"mean"``: one row for each image, the mean over its tokens, which
            hides what lies in single patches or words; or a list of token numbers.
        scale: ``"none"``, or ``"standardise"``: divide every channel by its standard deviation.
        joint: True: one basis for all sites and steps, so that their coordinates can be compared. False: one for
            each site, shared by its steps.
        outliers_: Tokens whose mean norm is more than 3 times the median of their site and step, with that ratio.
            They dominate a basis; ``tokens=[...]`` leaves them out.

    >>> with dl.capture(model, "joint.*.image.out", steps=[0, 3]) as cache:
    ...     image = model.generate("a big smile", seed=0)
    >>> view = dl.PCA(3).fit(cache)
    >>> view.components_.shape, view.mean_.shape, view.transform(cache).coordinates.shape
    ((3, 64), (64,), (256, 3))
    >>> apart = dl.PCA(2, joint=False).fit(cache)
    >>> apart.basis("joint.1.image.out").components.shape
    (2, 64)
    """

    n_components: int = 3
    _: KW_ONLY
    tokens: Tokens = "each"
    scale: str = "none"
    joint: bool = True
    outliers_: dict[tuple[str, int], float] = field(default_factory=dict, init=False)

    @takes(source=SOURCE)
    def fit(self, source: Source) -> PCA:
        """Find the components.

        Args:
            source: A cache, a study, a selection of one, or plain rows (rows, width).

        Returns:
            Itself.

        Raises:
            SettingError: If there are too few rows, widths differ, or a value is not finite.
        """
        norms = Norms()
        sums = summed(source, self.tokens, self.joint, norms)
        self._bases = {
            site: Basis.of(each, self.n_components, self.scale, f" at {site}" if site else "")
            for site, each in sums.items()
        }
        self._rows = tokens_in_words(source, self.tokens)
        self.outliers_, self._has_tokens, self._source = norms.outliers(), bool(norms.sums), source
        return self

    def basis(self, site: str = "") -> Basis:
        """The basis of a site; of a joint one, the site may be left out.

        Raises:
            NotFittedError: If nothing was fitted, or each site has its own.
            SettingError: If this site was not fitted.
        """
        _ = self.source
        if self.joint:
            return self._bases[""]
        if not site:
            raise NotFittedError(
                f"This PCA has one basis for each site. Say which: view.basis({next(iter(self._bases))!r})."
            )
        if str(site) not in self._bases:
            raise SettingError(
                f"{site} was not fitted; there are: {', '.join(self._bases)}. Fit with it, or with joint=True."
            )
        return self._bases[str(site)]

    @property
    def bases(self) -> Mapping[str, Basis]:
        """Every basis, by site; the only one of a joint PCA has an empty name.

        Raises:
            NotFittedError: If nothing was fitted.
        """
        _ = self.source
        return self._bases

    @property
    def components_(self) -> np.ndarray:
        """Unit vectors, (components, width)."""
        return self.basis().components

    @property
    def mean_(self) -> np.ndarray:
        """Mean row, (width,)."""
        return self.basis().mean

    @property
    def explained_variance_(self) -> np.ndarray:
        """Variance along each component."""
        return self.basis().explained_variance

    @property
    def explained_variance_ratio_(self) -> np.ndarray:
        """Its share of the whole, in [0, 1]."""
        return self.basis().explained_variance_ratio

    @property
    def n_features_in_(self) -> int:
        """Width of the rows."""
        return len(self.basis().mean)

    @property
    def n_samples_(self) -> int:
        """Number of rows."""
        return self.basis().count

    def project(self, values: Any, site: str = "") -> np.ndarray:
        """Coordinates of rows (..., width) of a site: (..., components), float32.

        Raises:
            SettingError: If they have another width than what was fitted.
        """
        basis = self.basis(site)
        rows = torch.as_tensor(values).float().cpu().numpy()
        if rows.shape[-1] != len(basis.mean):
            raise SettingError(
                f"Rows{f' of {site}' if site else ''} have a width of {rows.shape[-1]}, and this PCA was fitted on "
                f"rows of width {len(basis.mean)}. Fit it on the same kind of rows."
            )
        return basis.project(rows)

    def axis(self, number: int) -> str:
        """Name of a component, counted from 0."""
        return f"PC{number + 1}"

    @property
    def preprocessing(self) -> str:
        """What was done to the rows, in words; figures print it."""
        _ = self.source
        scaled = "divided by each channel's deviation" if self.scale == "standardise" else "not scaled"
        shared = "one basis for all" if self.joint else "one basis for each site"
        kept = f"; {counted(len(self.outliers_), 'outlier token')} kept" if self.outliers_ else ""
        return f"{self._rows}; centred, {scaled}; {shared}{kept}"

    def _card(self) -> list[Piece]:
        tokens = f"tokens={self.tokens!r}, scale={self.scale!r}, joint={self.joint}"
        title = f"PCA({self.n_components}, {tokens})"
        if self._source is None:
            return [f"{title}, not fitted"]
        rows = [
            [site or "all", str(basis.count), str(len(basis.mean)), *[f"{100 * r:.1f} %" for r in
             [*basis.explained_variance_ratio[:5], basis.explained_variance_ratio.sum()]]]
            for site, basis in self._bases.items()
        ]  # fmt: skip
        names = [self.axis(i) for i in range(min(self.n_components, 5))]
        table = Table(rows, ["basis", "rows", "width", *names, "together"], "  ")
        told = [f"  {outliers_in_words(self.outliers_)}"] if self._has_tokens else []
        return [f"{title} of {described(self._source)}", table, f"  {self.preprocessing}", *told]


def summed(source: Source, tokens: Tokens, joint: bool, norms: Norms) -> dict[str, Sums]:
    """Sums of all rows, of each site where `joint` is false."""
    sums: dict[str, Sums] = {}
    for block in blocks(source, tokens):
        norms.add(block)
        name, more = "" if joint else block.site, Sums.of(block.values)
        if name not in sums:
            sums[name], first = more, block.site
        elif len(more.mean) != len(sums[name].mean):
            raise SettingError(
                f"{block.site} has a width of {len(more.mean)}, and {first} one of {len(sums[name].mean)}: they "
                "cannot share a basis. Select one of them, or fit with joint=False."
            )
        else:
            sums[name] += more
    return sums


class Norms:
    """Mean norm of every token at every site and step."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, int], np.ndarray] = defaultdict(lambda: np.zeros((2, 0)))

    def add(self, block: Block) -> None:
        """Take more rows in."""
        if not len(block.tokens) or block.tokens[0] < 0:
            return
        there, size = self.sums[block.site, block.step], int(block.tokens.max()) + 1
        if size > there.shape[1]:
            there = np.pad(there, ((0, 0), (0, size - there.shape[1])))
        count = there.shape[1]
        there[0] += np.bincount(block.tokens, block.norms, count)
        there[1] += np.bincount(block.tokens, minlength=count)
        self.sums[block.site, block.step] = there

    def outliers(self) -> dict[tuple[str, int], float]:
        """Tokens by site and number: the largest ratio of their mean norm to the median, where it is over `FAR`."""
        found: dict[tuple[str, int], float] = {}
        for (site, _), (total, count) in self.sums.items():
            there = np.flatnonzero(count)
            mean = total[there] / count[there]
            middle = float(np.median(mean))
            for token, ratio in zip(
                there.tolist(), (mean / middle if middle else mean * 0).tolist(), strict=True
            ):
                if ratio > FAR:
                    found[site, token] = max(ratio, found.get((site, token), 0.0))
        return found


def outliers_in_words(outliers: Mapping[tuple[str, int], float], most: int = 6) -> str:
    """Outlier tokens in a line."""
    if not outliers:
        return f"no outlier tokens (mean norm over {FAR:g} x the median of their site and step)"
    ordered = sorted(outliers.items(), key=lambda each: -each[1])
    listed = "; ".join(f"{site} token {token} ({ratio:.1f} x)" for (site, token), ratio in ordered[:most])
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return f"outlier tokens, by norm over the median: {listed}{more}"
