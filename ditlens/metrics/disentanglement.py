"""Do codes separate factors? The metrics of disentanglement, one function each.

All take the codes and factors of the same samples as two tables of numbers (`ditlens.metrics.factors.read_table`
says which), and none depends on the order, sign or unit of the codes. z_i is a code, i = 1 ... D; y_k a factor,
k = 1 ... K; I mutual information, H entropy, in nats where the base does not cancel.

What to know before believing a number:

- No metric ranks representations reliably alone (Locatello et al. 2019, arXiv:1811.12359). Report at least three.
- Several are far above 0 for codes that know nothing: modularity and InfoM ask only whether a code prefers *one*
  factor, which chance does too. `disentanglement` therefore gives each metric of shuffled codes beside it.
- With many more codes than samples, DCI, InfoE and SAP say little: project first.

Where a metric learns, a random third of the samples is held out and judged, unless its docstring says otherwise.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from scipy import stats

from ditlens.cards import Carded, Piece, Table
from ditlens.metrics.factors import FactorTable, binned, read_table, table_arguments, without_sklearn
from ditlens.metrics.fixed_factors import beta_vae, factor_vae
from ditlens.tables import counted, progress_bar

try:
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_selection import mutual_info_classif
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.metrics import log_loss, mutual_info_score, roc_auc_score
    from sklearn.model_selection import train_test_split
    from sklearn.svm import LinearSVC
except ModuleNotFoundError as error:
    raise without_sklearn(error) from error


# --- mutual information ------------------------------------------------------------------------------------


@table_arguments
def mig(codes: Any, factors: Any, discrete: Sequence[bool] | None = None) -> float:
    """Mutual information gap: is there one code that knows a factor, and no second?

    MIG = mean_k (I(z_(1); y_k) - I(z_(2); y_k)) / H(y_k), where z_(1), z_(2) are the two codes that know most of
    y_k. Chen et al. 2018 (arXiv:1802.04942), with the histogram of 20 bins of equal width of Locatello et al. 2019.
    The bins are those of the sampled range: one outlier makes the others coarse.

    Args:
        codes: (samples, codes).
        factors: (samples, factors); a continuous one is cut into 20 bins of equal width too.
        discrete: See `disentanglement`.

    Returns:
        1 where each factor is one code, 0 where two codes know each factor equally well.

    Example:
        >>> import numpy as np
        >>> factors = np.indices((3, 4)).reshape(2, -1).T.repeat(9, axis=0)
        >>> round(mig(factors * [-5, 1], factors), 6), round(mig(factors @ [[1, 1], [2, -2]], factors), 2)
        (1.0, 0.0)
    """
    table = read_table(codes, factors, discrete)
    ranked = np.sort(_information(table), axis=0)
    return float(np.mean((ranked[-1] - ranked[-2]) / _entropies(table)))


@table_arguments
def modularity(codes: Any, factors: Any, discrete: Sequence[bool] | None = None) -> float:
    """Modularity: does each code know at most one factor?

    1 - delta_i, averaged over codes, with delta_i = sum_{k != k*} I(z_i; y_k)^2 / (I(z_i; y_k*)^2 (K - 1)) and k*
    the factor that z_i knows most of; 0 for a code that knows nothing. Ridgeway and Mozer 2018 (arXiv:1802.05312),
    mutual information as in `mig`. It says nothing of how much a code knows: noise often scores above 0.5.

    Args:
        codes: (samples, codes).
        factors: (samples, factors); a continuous one is cut into 20 bins of equal width.
        discrete: See `disentanglement`.

    Returns:
        1 where no code knows two factors, 1 - 1 / (K - 1) where each knows two equally well, 0 where each knows
        all of them so.
    """
    squares = _information(read_table(codes, factors, discrete)) ** 2
    most = squares.max(axis=1)
    known = most > 1e-20
    others = (squares.sum(axis=1) - most) / (np.where(known, most, 1) * (squares.shape[1] - 1))
    return float(np.mean(np.where(known, 1 - others, 0)))


def _information(table: FactorTable) -> np.ndarray:
    """I(z_i; y_k) of binned codes, (codes, factors), in nats."""
    bins = [binned(column) for column in table.codes.T]
    levels = [table.levels(k) for k in range(len(table.discrete))]
    return np.array([[mutual_info_score(level, code) for level in levels] for code in bins])


def _entropies(table: FactorTable) -> np.ndarray:
    """H(y_k), (factors,), in nats."""
    return np.array([stats.entropy(np.bincount(table.levels(k))) for k in range(len(table.discrete))])


# --- prediction --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DCI:
    """What `dci` found.

    Attributes:
        disentanglement: 1 where each code matters for one factor.
        completeness: 1 where one code matters for each factor.
        informativeness: Held-out accuracy of discrete factors, R^2 of continuous ones, averaged.
        importance: How much each code matters for predicting each factor, (codes, factors); columns sum to 1.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray = field(repr=False, compare=False)


@table_arguments
def dci(codes: Any, factors: Any, discrete: Sequence[bool] | None = None, seed: int = 0) -> DCI:
    """Disentanglement, completeness, informativeness, from which codes matter for predicting which factors.

    R_ik is the impurity-based importance of z_i in scikit-learn's gradient boosted trees (defaults) that predict
    y_k. ``disentanglement = sum_i rho_i (1 - H_K(R_i. / sum_k R_ik))``, ``rho_i = sum_k R_ik / sum R``;
    ``completeness = sum_k rho_k (1 - H_D(R_.k / sum_i R_ik))``, rho_k alike; H_n has base n. Eastwood and Williams
    2018 (openreview By-7dz-AZ), with the trees of Locatello et al. 2019; papers with other importances
    (lasso, random forests) have other numbers. Importances sum to 1 also for a factor that no code knows: noise
    then counts as much as knowledge, so read informativeness first.

    Args:
        codes: (samples, codes).
        factors: (samples, factors); trees classify discrete ones and regress continuous ones.
        discrete: See `disentanglement`.
        seed: Seed of the split and the trees.
    """
    table = read_table(codes, factors, discrete)
    importances, scores = [], []
    for train, test, y, is_discrete in _splits(table, seed):
        trees = (GradientBoostingClassifier if is_discrete else GradientBoostingRegressor)(random_state=seed)
        trees.fit(table.codes[train], y[train])
        importances.append(trees.feature_importances_)
        scores.append(trees.score(table.codes[test], y[test]))
    importance = np.stack(importances, axis=1)
    return DCI(_focus(importance), _focus(importance.T), float(np.mean(scores)), importance)


def _focus(importance: np.ndarray) -> float:
    """1 minus the entropy of each row, in base of its length, averaged by what the rows weigh."""
    weights = importance.sum(axis=1)
    if not weights.any():
        return 0.0
    focused = 1 - stats.entropy(importance + 1e-11, base=importance.shape[1], axis=1)
    return float(focused @ weights / weights.sum())


@table_arguments
def sap(codes: Any, factors: Any, discrete: Sequence[bool] | None = None, seed: int = 0) -> float:
    """Separated attribute predictability: how much better the best single code predicts a factor than the second.

    SAP = mean_k (S_(1)k - S_(2)k); S_ik is the held-out accuracy of a linear support vector machine (C = 0.01,
    balanced, one against the rest) from z_i alone for a discrete factor, and the squared correlation for a
    continuous one. Kumar et al. 2018 (arXiv:1711.00848). Codes are standardised first. Accuracy starts at chance:
    the ideal code has 1 for a continuous factor, but 1/2 for two even levels and 2/3 for three. With more, lines
    miss the middle levels, and how many depends on the number of samples, because C is not divided by it: for four
    levels, the ideal code has 0.26 with 1000 samples and 0.75 with 3000. Compare equal factors and samples only.

    Args:
        codes: (samples, codes).
        factors: (samples, factors).
        discrete: See `disentanglement`.
        seed: Seed of the split.
    """
    table = read_table(codes, factors, discrete)
    z, gaps = table.standardized, []
    for train, test, y, is_discrete in _splits(table, seed):
        if is_discrete:
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
            scores = [machine.fit(c[train, None], y[train]).score(c[test, None], y[test]) for c in z.T]
        else:
            scores = list((z.T @ (y - y.mean()) / len(y) / y.std()) ** 2)
        second, first = sorted(scores)[-2:]
        gaps.append(first - second)
    return float(np.mean(gaps))


@table_arguments
def explicitness(codes: Any, factors: Any, discrete: Sequence[bool] | None = None, seed: int = 0) -> float:
    """Explicitness: can a linear classifier read each factor from all codes together?

    The held-out area under the ROC curve of logistic regression on standardised codes, one level against the rest,
    averaged over levels, then over factors. Ridgeway and Mozer 2018 (arXiv:1802.05312).

    Args:
        codes: (samples, codes).
        factors: (samples, factors); a continuous one is cut into 10 levels with equally many samples.
        discrete: See `disentanglement`.
        seed: Seed of the split.

    Returns:
        1 where all levels are read without a mistake, 0.5 where codes know nothing.
    """
    table = read_table(codes, factors, discrete)
    z, areas = table.standardized, []
    for k in range(len(table.discrete)):
        level = table.groups(k)
        train, test = train_test_split(np.arange(len(z)), test_size=1 / 3, random_state=seed, stratify=level)
        shares = LogisticRegression(max_iter=1000).fit(z[train], level[train]).predict_proba(z[test])
        areas.append(np.mean([roc_auc_score(level[test] == n, share) for n, share in enumerate(shares.T)]))
    return float(np.mean(areas))


def _splits(table: FactorTable, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, bool]]:
    """For each factor: two thirds of the rows, the others, its values, and whether it is discrete."""
    for k, is_discrete in enumerate(table.discrete):
        y = table.levels(k) if is_discrete else table.factors[:, k]
        train, test = train_test_split(
            np.arange(len(y)), test_size=1 / 3, random_state=seed, stratify=y if is_discrete else None
        )
        yield train, test, y, is_discrete


# --- InfoMEC -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InfoMEC:
    """What `infomec` found.

    Attributes:
        info_m: Modularity: 1 where each code knows one factor, 0 where each knows all equally well.
        info_c: Compactness: 1 where one code knows each factor, 0 where all know it equally well.
        info_e: Explicitness: the share of a factor's uncertainty that a linear read-out of all codes removes.
        information: I(z_i; y_k) / H(y_k), (codes, factors).
    """

    info_m: float
    info_c: float
    info_e: float
    information: np.ndarray = field(repr=False, compare=False)


@table_arguments
def infomec(codes: Any, factors: Any, discrete: Sequence[bool] | None = None, seed: int = 0) -> InfoMEC:
    """Modularity, explicitness and compactness from mutual information without bins.

    N_ik = I(z_i; y_k) / H(y_k), I by 10 nearest neighbours; InfoM = (mean_i max_k N_ik / sum_k N_ik - 1/K) /
    (1 - 1/K), InfoC = (mean_k max_i N_ik / sum_i N_ik - 1/D) / (1 - 1/D), InfoE = mean_k (1 - H_k / H_0k), where
    H_k is the cross-entropy of unpenalised, class-balanced logistic regression on all codes, H_0k = log(levels)
    that without codes. Hsu et al. 2023 (arXiv:2305.18378).

    As published, InfoE is measured on the samples that it was fitted to: with as many codes as samples it is 1.
    Published code also drops codes with less than a twentieth of the largest range; here only constant codes are
    dropped, because codes of several units have no common range. A code or factor without any estimated
    information counts as 0.

    Args:
        codes: (samples, codes).
        factors: (samples, factors); a continuous one is cut into 20 bins for N, and InfoE is the R^2 of linear
            regression.
        discrete: See `disentanglement`.
        seed: Seed of the estimator, which breaks ties by noise.
    """
    table = read_table(codes, factors, discrete)
    found = [
        mutual_info_classif(
            table.standardized, table.levels(k), discrete_features=False, n_neighbors=10, random_state=seed
        )
        for k in range(len(table.discrete))
    ]
    information = np.stack(found, axis=1) / _entropies(table)
    alive = information[table.alive]
    read = [_explained(table, k) for k in range(len(table.discrete))]
    return InfoMEC(_peaked(alive), _peaked(alive.T), float(np.mean(read)), information)


def _peaked(information: np.ndarray) -> float:
    """How much of each row's sum is its largest entry, from 0 (an even row) to 1, averaged."""
    even = 1 / information.shape[1]
    if even == 1:
        return 1.0
    total = information.sum(axis=1)
    share = np.where(total > 0, information.max(axis=1) / np.where(total > 0, total, 1), even)
    return float((share.mean() - even) / (1 - even))


def _explained(table: FactorTable, factor: int) -> float:
    """Share of a factor's uncertainty that a linear read-out removes."""
    z = table.standardized
    if not table.discrete[factor]:
        y = table.factors[:, factor]
        return float(LinearRegression().fit(z, y).score(z, y))
    level = table.levels(factor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weights grow for ever where levels separate
        model = LogisticRegression(C=np.inf, class_weight="balanced").fit(z, level)
    return 1 - float(log_loss(level, model.predict_proba(z))) / math.log(level.max() + 1)


# --- all of them -------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Disentanglement(Carded):
    """Every metric of one representation. Printing it shows a table.

    Attributes:
        scores: The metrics by name: mig, dci_disentanglement, dci_completeness, dci_informativeness, sap,
            modularity, explicitness, info_m, info_c, info_e, factor_vae, beta_vae.
        shuffled: The same for codes that are shuffled among the samples: what chance gives.
        samples: Number of samples.
        importance: Of each code for each factor, (codes, factors): see `DCI`.
        information: I(z_i; y_k) / H(y_k), (codes, factors): see `InfoMEC`.
    """

    scores: dict[str, float]
    shuffled: dict[str, float]
    samples: int
    importance: np.ndarray = field(repr=False, compare=False)
    information: np.ndarray = field(repr=False, compare=False)

    def _card(self) -> list[Piece]:
        codes, factors = self.importance.shape
        of = f"{counted(codes, 'code')} and {counted(factors, 'factor')} in {counted(self.samples, 'sample')}"
        rows = [(name, f"{value:.3f}", f"{self.shuffled[name]:.3f}") for name, value in self.scores.items()]
        return [f"disentanglement of {of}", Table(rows, ("metric", "value", "shuffled"))]


@table_arguments
def disentanglement(
    codes: Any, factors: Any, discrete: Sequence[bool] | None = None, seed: int = 0
) -> Disentanglement:
    """How well codes separate factors, by every metric of `ditlens.metrics.disentanglement`.

    Codes are what is judged, e.g. amounts along directions or principal components of hidden states; factors are
    what is true of the same samples, e.g. the levels of attributes. Each metric has its definition and its traps in
    the docstring of its function: `mig`, `dci`, `sap`, `modularity`, `explicitness`, `infomec`, `factor_vae`,
    `beta_vae`. All of them take about a minute for 500 samples of 32 codes and 18 factors.

    Args:
        codes: (samples, codes), numbers: an array, a data frame, a tensor. At least two.
        factors: (samples, factors), numbers or words. At least two.
        discrete: For each factor, whether it is discrete; by default those are with words or at most 20 different
            values.
        seed: Seed of whatever is split, drawn or shuffled.

    Returns:
        All scores, and those of shuffled codes. A metric says something where the two differ.

    Raises:
        SettingError: If the tables do not fit, or have NaN, a constant factor, or too few samples of a level.

    Example:
        >>> import numpy as np
        >>> factors = np.indices((3, 4)).reshape(2, -1).T.repeat(9, axis=0)
        >>> found = dl.disentanglement(factors, factors)
        >>> print(found.scores["mig"].__round__(3), found.shuffled["mig"] < 0.1)
        1.0 True
    """
    table = read_table(codes, factors, discrete)
    done = itertools.count(1)
    with progress_bar("disentanglement, metrics") as show:
        scores, parts, learned = _scores(table, seed, lambda: show(next(done), 16))
        shuffled, *_ = _scores(table.shuffled(seed), seed, lambda: show(next(done), 16))
    return Disentanglement(scores, shuffled, len(table), parts.importance, learned.information)


R = TypeVar("R")


def _scores(
    table: FactorTable, seed: int, told: Callable[[], object]
) -> tuple[dict[str, float], DCI, InfoMEC]:
    """All metrics; `told` is called after each of the eight functions that compute them."""
    given = (table.codes, table.factors, table.discrete)

    def computed(metric: Callable[..., R], *more: int) -> R:
        found = metric(*given, *more)
        told()
        return found

    parts, learned = computed(dci, seed), computed(infomec, seed)
    scores = {
        "mig": computed(mig),
        "dci_disentanglement": parts.disentanglement,
        "dci_completeness": parts.completeness,
        "dci_informativeness": parts.informativeness,
        "sap": computed(sap, seed),
        "modularity": computed(modularity),
        "explicitness": computed(explicitness, seed),
        "info_m": learned.info_m,
        "info_c": learned.info_c,
        "info_e": learned.info_e,
        "factor_vae": computed(factor_vae, seed),
        "beta_vae": computed(beta_vae, seed),
    }
    return scores, parts, learned
