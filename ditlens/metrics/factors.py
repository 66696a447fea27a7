"""Tables of codes and factors: what they must be, and how a metric cuts, splits and pairs their rows.

A row is a sample, e.g. a generated image. Its codes are what is judged: amounts along directions, principal
components, latents of a sparse autoencoder. Its factors are what is true of it: the levels of its attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from ditlens.arguments import FLAG, NOTHING, SEED, list_of, shown, takes
from ditlens.errors import MissingDependencyError, SettingError
from ditlens.metrics.statistics import is_constant

BINS = 20
"""Bins of equal width that a column is cut into for mutual information (Locatello et al. 2019)."""

PARTS = 10
"""Parts with equally many samples that a continuous factor is cut into where a metric needs levels."""

LEAST = 5
"""Samples that each level of a discrete factor needs: a third of them is held out."""

table_arguments = takes(
    discrete=list_of(FLAG, "a list of True and False, one for each factor") | NOTHING, seed=SEED
)
"""Checks the arguments of a metric, but for the tables themselves."""


@dataclass(frozen=True, eq=False)
class FactorTable:
    """Codes and factors of the same samples, checked.

    Attributes:
        codes: (samples, codes).
        factors: (samples, factors); words are numbered in alphabetical order.
        discrete: For each factor, whether its values are levels without a unit, or amounts.
    """

    codes: np.ndarray = field(repr=False)
    factors: np.ndarray = field(repr=False)
    discrete: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def alive(self) -> np.ndarray:
        """Which codes vary, (codes,)."""
        return np.array([not is_constant(column) for column in self.codes.T])

    @property
    def standardized(self) -> np.ndarray:
        """The codes with mean 0 and standard deviation 1, so that no metric depends on their units."""
        spread = np.where(self.alive, self.codes.std(axis=0), 1.0)
        return (self.codes - self.codes.mean(axis=0)) / spread

    def levels(self, factor: int) -> np.ndarray:
        """A factor as whole numbers from 0, (samples,): its levels, or the `BINS` that its values fall into."""
        column = self.factors[:, factor]
        return numbered(column if self.discrete[factor] else binned(column))

    def groups(self, factor: int) -> np.ndarray:
        """Like `levels`, but a continuous factor is cut into `PARTS` with equally many samples."""
        column = self.factors[:, factor]
        if self.discrete[factor]:
            return numbered(column)
        return (stats.rankdata(column, method="ordinal") - 1) * PARTS // len(column)

    def shuffled(self, seed: int) -> FactorTable:
        """The same codes and factors, but each code row beside the factors of another sample."""
        rows = np.random.default_rng(seed).permutation(len(self))
        return FactorTable(self.codes[rows], self.factors, self.discrete)


def read_table(codes: Any, factors: Any, discrete: Sequence[bool] | None = None) -> FactorTable:
    """Check codes and factors.

    Args:
        codes: (samples, codes), numbers: an array, a data frame, a tensor. Constant codes are allowed.
        factors: (samples, factors), numbers or words.
        discrete: For each factor, whether it is discrete; by default those are with words or at most `BINS`
            different values.

    Raises:
        SettingError: If there are fewer than two codes or factors, the samples are not the same, a value is not
            finite, a factor or all codes are constant, a level has fewer than `LEAST` samples, or there are fewer
            than 50 samples.

    Example:
        >>> table = read_table(np.random.default_rng(0).normal(size=(60, 2)), [["red", 1.5], ["grey", 2.5]] * 30)
        >>> table.factors[:2], table.discrete
        (array([[1. , 1.5], [0. , 2.5]]), (True, True))
    """
    z = np.stack(_columns(codes, "codes", words=False), axis=1)
    columns = _columns(factors, "factors", words=True)
    if len(z) != len(columns[0]):
        raise SettingError(
            f"There are {len(z)} rows of codes and {len(columns[0])} of factors; give one row of each per sample."
        )
    if len(z) < LEAST * PARTS:
        raise SettingError(
            f"There are {len(z)} samples; give at least {LEAST * PARTS}, better several hundred."
        )
    if not any(not is_constant(column) for column in z.T):
        raise SettingError("All codes are constant: there is nothing to compare. Check where they come from.")
    if discrete is None:
        discrete = [column.dtype.kind in "U" or len(np.unique(column)) <= BINS for column in columns]
    if len(discrete) != len(columns):
        raise SettingError(
            f"discrete has {len(discrete)} entries for {len(columns)} factors; give one for each."
        )
    y = np.stack([numbered(c) if c.dtype.kind == "U" else c for c in columns], axis=1).astype(float)
    kinds = tuple(bool(kind) or c.dtype.kind == "U" for kind, c in zip(discrete, columns, strict=True))
    for index, (column, kind) in enumerate(zip(y.T, kinds, strict=True)):
        if is_constant(column):
            raise SettingError(
                f"Factor {index} is constant: nothing can be said of it. Leave its column out."
            )
        if kind and (fewest := np.bincount(numbered(column)).min()) < LEAST:
            raise SettingError(
                f"Factor {index} has a level with {fewest} of the {len(z)} samples; {LEAST} are needed. Add "
                "samples, leave the rows of this level out, or call the factor continuous (discrete=[...])."
            )
    return FactorTable(z, y, kinds)


def _columns(values: Any, name: str, words: bool) -> list[np.ndarray]:
    """The columns of a table, numbers or, where allowed, words."""
    what = "numbers or words" if words else "numbers"
    try:
        table = np.asarray(values.detach().cpu().float() if hasattr(values, "detach") else values)
    except (TypeError, ValueError):  # rows of several lengths
        table = np.empty(0)
    if table.ndim != 2 or table.shape[1] < 2 or table.dtype.kind in "cmM":
        raise SettingError(
            f"{name} is {shown(values)}; give a table of {what}, (samples, {name}), with at least two columns."
        )
    columns = []
    for index, column in enumerate(table.T):
        try:
            column = column.astype(float)
        except (TypeError, ValueError):
            if not words or not all(isinstance(value, str) for value in column):
                raise SettingError(f"Column {index} of {name} has values that are not {what}.") from None
            columns.append(column.astype(str))
            continue
        if wrong := int((~np.isfinite(column)).sum()):
            raise SettingError(
                f"Column {index} of {name} has {wrong} values that are NaN or infinite; leave these rows out."
            )
        columns.append(column)
    return columns


def numbered(column: np.ndarray) -> np.ndarray:
    """The different values of a column as whole numbers from 0, in rising order."""
    return np.unique(column, return_inverse=True)[1]


def binned(column: np.ndarray) -> np.ndarray:
    """Which of `BINS` bins of equal width, from 1, each value falls into.

    Example:
        >>> binned(np.array([0.0, 0.26, 1.0]))
        array([ 1,  6, 20])
    """
    return np.digitize(column, np.histogram_bin_edges(column, BINS)[:-1])


def without_sklearn(error: ModuleNotFoundError) -> MissingDependencyError:
    """What to say where scikit-learn is not installed."""
    return MissingDependencyError(
        f"Metrics of disentanglement need scikit-learn: {error}. Type: pip install 'ditlens[analysis]', or make "
        "install in a clone."
    )
