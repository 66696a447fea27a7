"""What metrics of disentanglement take and refuse; their values are in test_known_values.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pandas import DataFrame
from test_known_values import mixture

import ditlens as dl
from ditlens.errors import SettingError
from ditlens.metrics import disentanglement as metrics
from ditlens.metrics.factors import BINS, PARTS, binned, read_table
from ditlens.metrics.fixed_factors import Sharing

CODES, FACTORS = mixture(0, samples=200)
FACTORS = FACTORS[:, :2]


@pytest.fixture(scope="module")
def found() -> metrics.Disentanglement:
    return dl.disentanglement(CODES, FACTORS)


def test_all_metrics_together_are_those_of_the_single_functions(found):
    dci, infomec = metrics.dci(CODES, FACTORS), metrics.infomec(CODES, FACTORS)
    assert found.scores == {
        "mig": metrics.mig(CODES, FACTORS),
        "dci_disentanglement": dci.disentanglement,
        "dci_completeness": dci.completeness,
        "dci_informativeness": dci.informativeness,
        "sap": metrics.sap(CODES, FACTORS),
        "modularity": metrics.modularity(CODES, FACTORS),
        "explicitness": metrics.explicitness(CODES, FACTORS),
        "info_m": infomec.info_m,
        "info_c": infomec.info_c,
        "info_e": infomec.info_e,
        "factor_vae": metrics.factor_vae(CODES, FACTORS),
        "beta_vae": metrics.beta_vae(CODES, FACTORS),
    }
    assert found.importance.shape == found.information.shape == (5, 2)
    assert found.importance.sum(axis=0) == pytest.approx(np.ones(2))
    assert all(type(value) is float for value in found.scores.values())


def test_shuffled_codes_show_what_chance_gives(found):
    assert list(found.shuffled) == list(found.scores)
    chance = {"mig": 0, "dci_disentanglement": 0, "explicitness": 0.5, "factor_vae": 0.5, "beta_vae": 0.5}
    for name, value in chance.items():
        assert found.shuffled[name] == pytest.approx(value, abs=0.2)
        assert found.scores[name] > found.shuffled[name] + 0.2
    assert found.shuffled["modularity"] > 0.4 and found.shuffled["info_m"] > 0.2, (
        "these see chance as preference"
    )


def test_it_prints_a_table(found):
    lines = repr(found).splitlines()
    assert lines[0] == "disentanglement of 5 codes and 2 factors in 200 samples"
    assert lines[1].split() == ["metric", "value", "shuffled"]
    assert lines[3].split() == ["mig", f"{found.scores['mig']:.3f}", f"{found.shuffled['mig']:.3f}"]
    assert len(lines) == 3 + 12


@pytest.mark.parametrize(
    "name", ["mig", "modularity", "sap", "explicitness", "infomec", "factor_vae", "beta_vae"]
)
def test_order_sign_and_unit_of_codes_are_nothing(name):
    metric = getattr(metrics, name)
    changed = CODES[:, [3, 0, 4, 1, 2]] * [1, 1e-4, 2, 30, 1e3] + [0, 0, 1e3, -7, 5]
    one, other = metric(CODES, FACTORS), metric(changed, FACTORS)
    if name == "infomec":
        one, other = one.info_m, other.info_m
    assert other == pytest.approx(one, abs=1e-4)
    assert metrics.mig(-CODES, FACTORS) == pytest.approx(metrics.mig(CODES, FACTORS), abs=1e-9)


def test_a_constant_code_is_dead():
    dead = np.hstack([CODES, np.full((200, 1), 7.0)])
    assert metrics.mig(dead, FACTORS) == metrics.mig(CODES, FACTORS)
    assert metrics.modularity(dead, FACTORS) == pytest.approx(metrics.modularity(CODES, FACTORS) * 5 / 6)
    assert metrics.factor_vae(dead, FACTORS) == metrics.factor_vae(CODES, FACTORS)
    assert metrics.infomec(dead, FACTORS).info_m == pytest.approx(metrics.infomec(CODES, FACTORS).info_m)


def test_seeds_repeat():
    assert metrics.factor_vae(CODES, FACTORS, seed=5) == metrics.factor_vae(CODES, FACTORS, seed=5)
    assert metrics.factor_vae(CODES, FACTORS, seed=5) != metrics.factor_vae(CODES, FACTORS, seed=6)


# --- tables ------------------------------------------------------------------------------------------------


def test_which_factors_are_discrete():
    columns = {"hair": ["red", "grey"] * 50, "level": [0, 0.5, 1, 1] * 25, "amount": np.linspace(0, 1, 100)}
    table = read_table(CODES[:100], DataFrame(columns))
    assert table.discrete == (True, True, False)
    assert table.factors[:2, 0].tolist() == [1, 0], "words are numbered in alphabetical order"
    assert read_table(CODES[:100], DataFrame(columns), [False, False, False]).discrete == (True, False, False)
    assert table.levels(1)[:4].tolist() == [0, 1, 2, 2]
    assert np.bincount(table.levels(2)).tolist() == [100 // BINS] * BINS
    assert np.bincount(table.groups(2)).tolist() == [100 // PARTS] * PARTS


def test_tensors_are_tables():
    codes = torch.tensor(CODES, dtype=torch.bfloat16, requires_grad=True)
    assert (read_table(codes, torch.tensor(FACTORS)).codes == codes.detach().float().numpy()).all()


def test_bins_have_equal_width():
    assert binned(np.array([-1.0, -0.91, -0.89, 0.0, 0.99, 1.0])).tolist() == [1, 1, 2, 11, 20, 20]


def changed(row: int, column: int, value: float, table: np.ndarray) -> np.ndarray:
    copy = table.astype(float)
    copy[row, column] = value
    return copy


REFUSED = {
    "codes is of type ndarray and shape \\(3,\\); give a table of numbers": (np.ones(3), FACTORS),
    "codes is of type ndarray and shape \\(200, 1\\); .* at least two columns": (CODES[:, :1], FACTORS),
    "factors is .* with at least two columns": (CODES, FACTORS[:, :1]),
    "200 rows of codes and 199 of factors": (CODES, FACTORS[1:]),
    "There are 12 samples; give at least 50": (CODES[:12], FACTORS[:12]),
    "Column 2 of codes has 1 values that are NaN or infinite": (changed(3, 2, np.nan, CODES), FACTORS),
    "Column 1 of factors has 1 values that are NaN": (CODES, changed(3, 1, np.inf, FACTORS)),
    "Column 0 of codes has values that are not numbers": ([["a", "b"]] * 200, FACTORS),
    "Column 1 of factors has values that are not numbers or words": (CODES, [[1, None], [2, "a"]] * 100),
    "Factor 1 is constant": (CODES, FACTORS * [1, 0]),
    "All codes are constant": (np.ones((200, 3)), FACTORS),
    "Factor 0 has a level with 1 of the 200 samples; 5 are needed": (CODES, changed(3, 0, 9, FACTORS)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_tables_that_do_not_fit_are_refused_in_words(message):
    with pytest.raises(SettingError, match=message):
        metrics.mig(*REFUSED[message])


def test_masks_that_do_not_fit():
    with pytest.raises(SettingError, match="discrete has 3 entries for 2 factors"):
        metrics.dci(CODES, FACTORS, discrete=[True, False, False])
    with pytest.raises(SettingError, match="discrete is .*; give a list of True and False"):
        metrics.dci(CODES, FACTORS, discrete="all")


def test_samples_that_share_nothing():
    with pytest.raises(SettingError, match="No two of 9 samples share a factor"):
        Sharing(np.arange(9), np.random.default_rng(0))


def test_pairs_and_batches_share_a_group():
    groups = np.array([0, 1, 1, 2, 2, 2, 3])
    sharing = Sharing(groups, np.random.default_rng(0))
    first, second = sharing.pairs(1000)
    assert (groups[first] == groups[second]).all()
    assert set(first) == set(second) == {1, 2, 3, 4, 5}
    batches = [sharing.batch(50) for _ in range(50)]
    assert {tuple(sorted(set(batch.tolist()))) for batch in batches} == {(1, 2), (3, 4, 5)}
