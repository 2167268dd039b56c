"""Missing entries in closed-form EM: the likelihood of what was observed, and nothing else."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import potential_energy
from scipy.special import logsumexp
from scipy.stats import bernoulli, multivariate_normal

from probam.errors import InputError
from probam.family import Family
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.rows import by_pattern
from probam.inference.em import engine as em
from probam.inference.em.steps import expectation
from probam.models.bernoulli import Bernoulli
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.multinomial import Multinomial
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import weight_prior

N, D, K = 70, 3, 2
SLOW = pytest.mark.slow
GAUSSIANS = ("diagonal", "full", *(pytest.param(name, marks=SLOW) for name in ("isotropic", "spherical", "tied")))


def _holes(x: np.ndarray) -> np.ndarray:
    """A fifth of the entries missing, one row with nothing observed."""
    rng = np.random.default_rng(11)
    with_holes = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    with_holes[5] = np.nan
    return with_holes


def _gaussian_data() -> np.ndarray:
    rng = np.random.default_rng(4)
    mixed = np.array([[1.0, 0, 0], [0.7, 0.8, 0], [-0.5, 0.3, 0.6]])
    return rng.normal(size=(N, D)) @ mixed.T + np.array([3.0, 0, -2]) * rng.integers(0, 2, (N, 1))


def _model(x: np.ndarray, family: Family) -> Mixture:
    return mixture(x, family=family, weights=weight_prior("dirichlet"), num_components=K)


def _covariances(family: Gaussian, params: dict[str, np.ndarray]) -> np.ndarray:
    if family.covariance in ("isotropic", "spherical"):
        return np.broadcast_to(0.5 / params["beta"], (K,))[:, None, None] * np.eye(D)
    if family.covariance == "diagonal":
        return np.stack([np.diag(1 / row) for row in params["precision"]])
    factor = params["precision_cholesky"]
    return np.broadcast_to(np.linalg.inv(factor @ np.swapaxes(factor, -1, -2)), (K, D, D))


def _oracle(x: np.ndarray, log_weights: np.ndarray, loc: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log joint (N, K) of the observed entries by SciPy, row by row."""
    found = np.tile(log_weights, (len(x), 1))
    for n, row in enumerate(x):
        seen = ~np.isnan(row)
        if seen.any():
            for k in range(len(loc)):
                found[n, k] += multivariate_normal.logpdf(row[seen], loc[k][seen], covariance[k][np.ix_(seen, seen)])
    return found


def _fitted(model: Mixture, x: np.ndarray, estimate: str) -> tuple[dict[str, np.ndarray], float]:
    result = em.run(
        jax.random.key(0), model, jnp.asarray(x), estimate=estimate, restarts=2, tolerance=1e-14, max_iterations=4000
    )
    assert result.objective is not None
    assert np.nanmin(np.diff(result.objective, axis=1)) > -1e-9, "the observed log density fell"
    return {name: value[0, 0] for name, value in result.sites.items()}, float(result.stats["lp"][0, 0])


@pytest.mark.parametrize("covariance", GAUSSIANS)
def test_em_ends_where_the_observed_likelihood_is_flat(covariance: str) -> None:
    x, family = _holes(_gaussian_data()), Gaussian(covariance)
    model = _model(x, family)
    params, height = _fitted(model, x, "ml")
    fitted = _covariances(family, params)

    def log_likelihood(shift: np.ndarray) -> float:
        """At memories moved and widths scaled by a little, and other weights."""
        loc, scale, weights = shift[: K * D].reshape(K, D), shift[K * D : -1], np.array([shift[-1], 0.0])
        if covariance == "diagonal":
            widths = np.exp(scale.reshape(K, D))
            moved = widths[:, :, None] * fitted * widths[:, None]
        elif covariance == "full":
            parts = np.zeros((K, D, D))
            parts[:, *np.tril_indices(D)] = scale.reshape(K, -1)
            moved = (np.eye(D) + parts) @ fitted @ np.swapaxes(np.eye(D) + parts, 1, 2)
        elif covariance == "tied":
            parts = np.zeros((D, D))
            parts[np.tril_indices(D)] = scale
            moved = (np.eye(D) + parts) @ fitted @ (np.eye(D) + parts).T
        else:
            moved = np.exp(scale)[:, None, None] * fitted
        log_weights = np.log(params["weights"]) + weights
        log_weights = log_weights - logsumexp(log_weights)
        return float(logsumexp(_oracle(x, log_weights, params["loc"] + loc, moved), axis=1).sum())

    widths = {"isotropic": 1, "spherical": K, "diagonal": K * D, "tied": D * (D + 1) // 2, "full": K * D * (D + 1) // 2}
    num_shifts = K * D + widths[covariance] + 1
    np.testing.assert_allclose(log_likelihood(np.zeros(num_shifts)), height, rtol=1e-9)
    step = 1e-5 * np.eye(num_shifts)
    slope = [(log_likelihood(e) - log_likelihood(-e)) / 2e-5 for e in step]
    np.testing.assert_allclose(slope, 0, atol=2e-3)


@pytest.mark.parametrize(
    "family", [pytest.param(Gaussian("diagonal"), marks=SLOW), Gaussian("full"), Bernoulli("spin")], ids=str
)
def test_em_climbs_to_a_stationary_point_of_the_potential_of_nuts(family: Family) -> None:
    complete = _gaussian_data()
    x = _holes(np.sign(complete) if isinstance(family, Bernoulli) else complete)
    model = _model(x, family)
    params, height = _fitted(model, x, "map")
    coordinates = Coordinates(model)
    free = coordinates.unconstrain({name: jnp.asarray(params[name]) for name in coordinates.transforms})
    value, slope = jax.jit(jax.value_and_grad(lambda free: potential_energy(model, (jnp.asarray(x),), {}, free)))(free)
    np.testing.assert_allclose(-value, height, rtol=1e-10)
    for name, gradient in slope.items():
        assert float(jnp.max(jnp.abs(gradient))) < 1e-4, name


@pytest.mark.parametrize("values", ["01", "spin"])
def test_bits_count_with_the_probability_of_the_observed_ones(values: str) -> None:
    rng = np.random.default_rng(2)
    bits = _holes((rng.random((N, D)) < 0.6).astype(float))
    x = 2 * bits - 1 if values == "spin" else bits
    model = _model(x, Bernoulli(values))
    prob = rng.random((K, D))
    law = model.mixture({"prob": jnp.asarray(prob), "proportions": jnp.asarray([0.3, 0.7])})
    expected = np.log([0.3, 0.7]) + np.nansum(
        bernoulli.logpmf(np.nan_to_num(bits)[:, None], prob) * np.where(np.isnan(bits), np.nan, 1)[:, None], axis=-1
    )
    np.testing.assert_allclose(law.log_joint(jnp.asarray(x)), expected, rtol=1e-10)


@pytest.mark.parametrize("covariance", ["diagonal", "tied", "full"])
def test_expected_moments_are_those_of_the_regression_on_the_observed_entries(covariance: str) -> None:
    x, family = _holes(_gaussian_data()), Gaussian(covariance)
    model = _model(x, family)
    rng = np.random.default_rng(7)
    root = rng.normal(size=(K, D, D)) / 3 + np.eye(D)
    params = {"loc": rng.normal(size=(K, D)), "proportions": np.array([0.4, 0.6])}
    if covariance == "diagonal":
        params["precision"] = rng.gamma(2.0, 1.0, (K, D))
    else:
        precision = root @ np.swapaxes(root, 1, 2)
        params["precision_cholesky"] = np.linalg.cholesky(precision[0] if covariance == "tied" else precision)
    sigma = _covariances(family, params)
    joint = _oracle(x, np.log(params["proportions"]), params["loc"], sigma)
    resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    first, second = np.zeros((K, D)), np.zeros((K, D, D))
    for n, row in enumerate(x):
        o, m = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        for k in range(K):
            gain = sigma[k][np.ix_(m, o)] @ np.linalg.inv(sigma[k][np.ix_(o, o)])
            filled, rest = row.copy(), np.zeros((D, D))
            filled[m] = params["loc"][k][m] + gain @ (row[o] - params["loc"][k][o])
            rest[np.ix_(m, m)] = sigma[k][np.ix_(m, m)] - gain @ sigma[k][np.ix_(o, m)]
            first[k] += resp[n, k] * filled
            second[k] += resp[n, k] * (np.outer(filled, filled) + rest)
    grouped, counted = by_pattern(x, None)
    rows = (grouped, counted) if family.missing == "pattern" else (x, None)
    given = {name: jnp.asarray(value) for name, value in params.items()}
    moments, log_likelihood = jax.jit(expectation)(model, given, rows[0], np.zeros(D), rows[1])
    np.testing.assert_allclose(moments.counts, resp.sum(axis=0), rtol=1e-10)
    np.testing.assert_allclose(moments.sums[:, :D], first, rtol=1e-9)
    products = np.diagonal(second, axis1=1, axis2=2) if covariance == "diagonal" else second[:, *np.triu_indices(D)]
    np.testing.assert_allclose(moments.sums[:, D:], products, rtol=1e-9)
    np.testing.assert_allclose(log_likelihood, logsumexp(joint, axis=1).sum(), rtol=1e-10)
    np.testing.assert_allclose(model.mixture(given).log_joint(jnp.asarray(x)), joint, rtol=1e-9)


@pytest.mark.parametrize("covariance", ["isotropic", "full"])
def test_where_nothing_is_missing_the_sums_are_the_plain_ones(covariance: str) -> None:
    x = _gaussian_data()
    model = _model(x, Gaussian(covariance))
    coordinates = Coordinates(model)
    params = coordinates.constrain(coordinates.zeros)
    assert not model.missing
    rows = by_pattern(x, None) if covariance == "full" else (x, None)
    plain = jax.jit(expectation)(model, params, x, x.mean(axis=0))
    masked = jax.jit(expectation)(replace(model, missing=True), params, rows[0], x.mean(axis=0), rows[1])
    for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(masked), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)


def test_groups_hold_every_row_once_and_lack_the_same_features() -> None:
    x = _holes(_gaussian_data())
    weight = np.random.default_rng(0).random(N)
    grouped, counted = by_pattern(x, weight)
    lacking = np.isnan(grouped)
    assert (lacking == lacking[:, :1]).all()
    taken = counted > 0
    np.testing.assert_allclose(np.sort(counted[taken]), np.sort(weight))
    np.testing.assert_array_equal(np.sort(np.nansum(grouped[taken], axis=1)), np.sort(np.nansum(x, axis=1)))


def test_weights_and_holes_go_together() -> None:
    x = _holes(_gaussian_data())
    weight = np.random.default_rng(0).integers(1, 4, N)
    model = _model(x, Gaussian("full"))
    start = {"loc": jnp.array([[0.0, 0, 0], [2, 0, -1]]), "proportions": jnp.array([0.5, 0.5])}
    start["precision_cholesky"] = jnp.broadcast_to(jnp.eye(D), (K, D, D))
    weighted, repeated = (
        em.fit_params(
            jax.random.key(0), model, jnp.asarray(rows), start=start, sample_weight=w, max_iterations=15
        ).ends[0]
        for rows, w in ((x, weight), (np.repeat(x, weight, axis=0), None))
    )
    np.testing.assert_allclose(weighted.objective, repeated.objective, rtol=1e-11)
    np.testing.assert_allclose(weighted.params["loc"], repeated.params["loc"], rtol=1e-8)


@pytest.mark.parametrize(
    ("family", "why"),
    [(VonMisesFisherMemory(), "unit length ties the coordinates"), (Multinomial(), "the row's total unknown")],
    ids=["vmf", "multinomial"],
)
def test_a_family_that_cannot_integrate_missing_entries_out_says_why(family: Family, why: str) -> None:
    with pytest.raises(InputError, match=f"entries are missing, and family '{family.name}'.*{why}"):
        _model(_holes(np.abs(_gaussian_data())), family)


def test_a_column_without_any_observed_entry_is_refused() -> None:
    x = _gaussian_data()
    x[:, 1] = np.nan
    with pytest.raises(InputError, match="nothing is observed of column 'b'"):
        Gaussian("full").check_data(x, ["a", "b", "c"])
