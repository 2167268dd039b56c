"""Criteria read off a fit, against leave-one-out in closed form and published information criteria."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import logsumexp

from probam.errors import InputError
from probam.reports.summaries.criteria import expected_loo, expected_waic, information, log_mean_exp_error
from probam.reports.tree import build_tree, variable

X = np.random.default_rng(5).normal(1.0, 1.2, 15)
VARIANCE, BASE = 1.3, 9.0


def posterior_of(x: np.ndarray) -> tuple[float, float]:
    """Mean and variance of one location given the data."""
    precision = 1 / BASE + len(x) / VARIANCE
    return float(x.sum() / VARIANCE / precision), 1 / precision


def exact_loo() -> np.ndarray:
    """log p(x_n | the others), by leaving each out."""
    densities = []
    for n in range(len(X)):
        mean, variance = posterior_of(np.delete(X, n))
        densities.append(stats.norm.logpdf(X[n], mean, np.sqrt(variance + VARIANCE)))
    return np.array(densities)


def tree_of(log_lik: np.ndarray, *, engine: str = "nuts", weights: str = "uniform") -> xr.DataTree:
    """A fit with these densities (chain, draw, datum)."""
    data = np.resize(X, log_lik.shape[2])[:, None]
    return build_tree(
        attributes={"probam_version": "0", "engine": engine, "weights": weights},
        data=data,
        columns=["x"],
        center=np.zeros(1),
        scale=np.ones(1),
        posterior={"beta": (np.ones(log_lik.shape[:2]), ("chain", "draw"))},
        log_likelihood={"x": (log_lik, ("chain", "draw", "datum"))},
        partition={"confidence": (np.full(len(data), 0.9), ("datum",))},
    )


def drawn(rng: np.random.Generator, *, chains: int = 4, draws: int = 500, outlier: float = 0.0) -> xr.DataTree:
    x = np.append(X[:-1], X[-1] + outlier)
    mean, variance = posterior_of(x)
    loc = rng.normal(mean, np.sqrt(variance), (chains, draws, 1))
    return tree_of(np.asarray(stats.norm.logpdf(x, loc, np.sqrt(VARIANCE))))


def test_leave_one_out_is_that_of_leaving_one_out() -> None:
    exact = exact_loo()
    loo = expected_loo(drawn(np.random.default_rng(0)))
    np.testing.assert_allclose(loo.pointwise, exact, atol=0.05)
    assert abs(loo.elpd - exact.sum()) < 5 * loo.mcse < 0.2
    np.testing.assert_allclose(loo.se, np.sqrt(len(X)) * exact.std(), rtol=0.05)
    assert loo.num_bad == 0
    assert loo.pareto_k is not None
    assert loo.pareto_k.shape == (len(X),)


@pytest.mark.parametrize("criterion", [expected_loo, expected_waic], ids=["loo", "waic"])
def test_monte_carlo_error_is_the_spread_over_repeated_posteriors(criterion: object) -> None:
    rng = np.random.default_rng(1)
    estimates = [criterion(drawn(rng, chains=2, draws=150)) for _ in range(60)]  # type: ignore[operator]
    spread = np.std([one.elpd for one in estimates], ddof=1)
    np.testing.assert_allclose(np.mean([one.mcse for one in estimates]), spread, rtol=0.4)  # 4 errors of a sd from 60


def test_draws_that_stand_still_give_plain_importance_sampling_and_no_trust() -> None:
    """Where the largest weights are equal, no tail can be fitted: the estimate is the harmonic mean."""
    log_lik = np.random.default_rng(0).normal(-1, 0.3, size=(2, 30, 5))
    log_lik[:, 10:] = log_lik[:, 10:11]
    loo = expected_loo(tree_of(log_lik))
    assert loo.pareto_k is not None
    still = np.isinf(loo.pareto_k)
    assert 0 < still.sum() < 5
    assert loo.num_bad == still.sum()
    np.testing.assert_allclose(loo.pointwise[still], -np.log(np.exp(-log_lik).mean(axis=(0, 1)))[still])
    assert np.isfinite([loo.elpd, loo.se, loo.mcse, loo.p]).all()


def test_waic_and_leave_one_out_agree_to_first_order() -> None:
    """Their difference is of order 1 / N; both estimate the sum of log p(x_n | the others)."""
    tree = drawn(np.random.default_rng(2), draws=2000)
    loo, waic = expected_loo(tree), expected_waic(tree)
    assert abs(loo.elpd - waic.elpd) < 0.1 * loo.p
    np.testing.assert_allclose(waic.p, loo.p, rtol=0.2)
    values = variable(tree, "log_likelihood", "x").values
    by_hand = logsumexp(values, axis=(0, 1)) - np.log(8000) - values.var(axis=(0, 1))
    np.testing.assert_allclose(waic.pointwise, by_hand, rtol=1e-12)


def test_an_outlier_is_named_where_importance_sampling_fails() -> None:
    tree = drawn(np.random.default_rng(3), outlier=25.0)
    loo, waic = expected_loo(tree), expected_waic(tree)
    assert loo.num_bad == 1
    assert loo.pareto_k is not None
    assert int(loo.pareto_k.argmax()) == len(X) - 1
    assert waic.num_bad >= 1


def test_information_criteria_are_those_that_mclust_prints_with_the_other_sign() -> None:
    """mclust 6 on Old Faithful, EEE with 3 memories: log likelihood -1126.326236, df 11, BIC -2314.3163."""
    log_lik = np.full((1, 1, 272), -1126.326236 / 272)
    criteria = information(tree_of(log_lik, engine="em"), 11)
    np.testing.assert_allclose(criteria.bic, 2314.3163, atol=5e-5)
    np.testing.assert_allclose(criteria.aic, 2 * 1126.326236 + 22)
    np.testing.assert_allclose(criteria.icl - criteria.bic, -2 * 272 * np.log(0.9))
    assert criteria.log_lik == pytest.approx(-1126.326236)


def test_error_of_a_log_mean_is_that_of_independent_draws() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0, 0.3, (200, 2, 100, 3))
    means = (logsumexp(values, axis=(1, 2)) - np.log(200)).mean(axis=-1)
    errors = [log_mean_exp_error(one) for one in values[:20]]
    np.testing.assert_allclose(np.mean(errors), means.std(), rtol=0.25)


def test_criteria_that_do_not_apply_are_refused() -> None:
    point = tree_of(np.full((1, 1, 15), -1.0), engine="em")
    with pytest.raises(InputError, match="loo: a point estimate has no posterior draws"):
        expected_loo(point)
    with pytest.raises(InputError, match="bic: expected a point estimate; this fit has several draws"):
        information(drawn(np.random.default_rng(6)), 2)
    with pytest.raises(InputError, match="the truncation sets the number of parameters"):
        information(tree_of(np.full((1, 1, 15), -1.0), engine="em", weights="dp"), 2)
    with pytest.raises(InputError, match="waic: some data have density zero"):
        expected_waic(tree_of(np.full((2, 20, 15), -np.inf)))
    with pytest.raises(InputError, match="at least 25 draws; got 6"):
        expected_loo(tree_of(np.full((2, 3, 15), -1.0)))


def test_a_missing_entry_takes_no_unit_from_the_log_likelihood() -> None:
    """Without stored densities the log likelihood in model units is moved to data units by what was observed alone."""
    data = np.array([[1.0, 10.0], [2.0, np.nan], [np.nan, np.nan]])
    tree = build_tree(
        attributes={"probam_version": "0", "engine": "em", "weights": "uniform"},
        data=data,
        columns=["x", "y"],
        center=np.zeros(2),
        scale=np.array([2.0, 5.0]),
        posterior={"beta": (np.ones((1, 1)), ("chain", "draw"))},
        invariant={"log_lik": (np.full((1, 1), -7.0), ("chain", "draw"))},
        partition={"confidence": (np.ones(3), ("datum",))},
    )
    np.testing.assert_allclose(information(tree, 2).log_lik, -7.0 - 2 * np.log(2.0) - np.log(5.0))
