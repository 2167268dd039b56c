"""Discrepancies are the moments that SciPy computes, and their p-value is a probability."""

import numpy as np
import pytest
from scipy import stats

from probam.reports.summaries.discrepancies import discrepancies, judge

RNG = np.random.default_rng(4)
X = RNG.normal(size=(3, 60, 2)) @ np.array([[1.0, 0.4], [0.0, 2.0]]) + RNG.gamma(2, size=(3, 60, 1))
ENERGY = RNG.gamma(3, size=(3, 60))
MEMORY = np.tile(np.r_[np.zeros(50, int), np.full(7, 1), np.full(3, 2)], (3, 1))
FOUND = discrepancies(X, ENERGY, MEMORY, num_memories=4, columns=["a", "b"])


def values(name: str) -> np.ndarray:
    return FOUND.values[:, FOUND.names.index(name)]


def test_moments_of_features_pairs_and_energies_are_those_of_scipy() -> None:
    np.testing.assert_allclose(values("spread of b"), np.log(X[..., 1].std(axis=1)), rtol=1e-9)
    np.testing.assert_allclose(values("skewness of a"), stats.skew(X[..., 0], axis=1), rtol=1e-9)
    np.testing.assert_allclose(values("kurtosis of a"), np.log(stats.kurtosis(X[..., 0], axis=1, fisher=False)))
    correlation = [stats.pearsonr(*x.T)[0] for x in X]
    np.testing.assert_allclose(values("correlation of a and b"), np.arctanh(correlation), rtol=1e-9)
    squares = [stats.pearsonr(*((x - x.mean(0)) ** 2).T)[0] for x in X]
    np.testing.assert_allclose(values("correlation of the squared deviations of a and b"), np.arctanh(squares))
    np.testing.assert_allclose(values("95 % quantile of the energy"), np.quantile(ENERGY, 0.95, axis=1))
    assert len(FOUND.names) == len(FOUND.aspects) == FOUND.values.shape[1] == len(set(FOUND.names))


def test_principal_directions_of_two_standardised_features_are_their_sum_and_difference() -> None:
    unit = (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)
    along = np.stack([unit.sum(axis=2), unit[..., 0] - unit[..., 1]], axis=2) / np.sqrt(2)
    assert (along.std(axis=1)[:, 0] > along.std(axis=1)[:, 1]).all()
    for number in range(2):
        name = f"principal direction {number + 1} of 2"
        np.testing.assert_allclose(values(f"spread of {name}"), np.log(along[..., number].std(axis=1)), rtol=1e-9)
        kurtosis = stats.kurtosis(along[..., number], axis=1, fisher=False)
        np.testing.assert_allclose(values(f"kurtosis of {name}"), np.log(kurtosis), rtol=1e-9)


def test_shapes_of_memories_are_those_of_their_rows_and_few_rows_have_none() -> None:
    unit = (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)
    for position in range(3):
        rows, energy = unit[position, :50], ENERGY[position, :50]
        variance, directions = np.linalg.eigh(np.cov(rows.T, bias=True))
        expected = {
            "mean energy": energy.mean(),
            "spread of the energy": np.log(energy.std()),
            "widest spread": np.log(variance[1]) / 2,
            "narrowest spread": np.log(variance[0]) / 2,
            "kurtosis of the widest direction": np.log(stats.kurtosis(rows @ directions[:, 1], fisher=False)),
        }
        for name, value in expected.items():
            assert values(f"{name} in memory 1")[position] == pytest.approx(value, rel=1e-9)
    for memory in (2, 3, 4):
        assert np.isnan(values(f"widest spread in memory {memory}")).all()


def test_one_feature_has_neither_pairs_nor_directions() -> None:
    found = discrepancies(X[..., :1], ENERGY, MEMORY, num_memories=4, columns=["a"])
    assert set(found.aspects) == {"spread", "tails", "density"}
    assert not any("direction " in name and "principal" in name for name in found.names)


def test_p_values_of_data_like_their_replicates_are_uniform() -> None:
    """Heavy tails, skewness and correlated discrepancies; 400 judgements, one in 1000 fails by chance."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    p = []
    for _ in range(400):
        all_values = (
            np.concatenate([rng.standard_t(3, size=(2, 50, 3)), rng.gamma(1, size=(2, 50, 3))], axis=2) @ mixing
        )
        p.append(judge(all_values[:1, 0], all_values[:1, 1:]).p_value)
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert np.mean(np.array(p) < 0.1) < 0.15


def test_data_that_differ_in_one_respect_are_found_and_the_respect_is_named() -> None:
    replicated = np.random.default_rng(1).normal(size=(4, 50, 30))
    observed = np.zeros((4, 30))
    observed[:, 7] = -6
    found = judge(observed, replicated)
    assert found.p_value == pytest.approx(1 / 201)
    assert int(np.argmax(np.abs(found.deviation))) == 7
    assert found.deviation[7] == pytest.approx(-6, rel=0.2)


def test_discrepancies_that_the_data_or_most_replicates_lack_say_nothing() -> None:
    replicated = np.random.default_rng(2).normal(size=(1, 40, 3))
    replicated[0, :25, 1] = np.nan
    found = judge(np.array([[np.nan, 50.0, 0.0]]), replicated)
    assert found.deviation[0] == found.deviation[1] == 0
    assert found.p_value > 0.5


def test_a_discrepancy_that_never_varies_is_judged_by_whether_the_data_have_it() -> None:
    replicated = np.zeros((1, 40, 2))
    replicated[..., 1] = np.random.default_rng(3).normal(size=(1, 40))
    assert judge(np.zeros((1, 2)), replicated).p_value > 0.5
    assert judge(np.array([[0.1, 0.0]]), replicated).p_value == pytest.approx(1 / 41)
