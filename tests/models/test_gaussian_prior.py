"""The default priors of Gaussian memories: what they find, and what they do not depend on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score

import probam
from probam.inference.common.coordinates import Coordinates
from probam.inference.em import engine as em
from probam.models.gaussian import COVARIANCES, Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior


def _correlated_groups() -> tuple[np.ndarray, np.ndarray]:
    """Four groups of animals, say: columns share a size (correlations of .99), groups differ in shape alone."""
    rng = np.random.default_rng(11)
    label = np.arange(200) % 4
    shape = np.array(
        [
            [0.50, 0.42, 1.00, 1.14, 0.45],
            [0.50, 0.46, 1.00, 1.10, 0.42],
            [0.54, 0.44, 1.00, 1.12, 0.48],
            [0.54, 0.48, 1.00, 1.08, 0.45],
        ]
    )
    return rng.normal(30, 7, (200, 1)) * shape[label] + rng.normal(0, 0.35, (200, 5)), label


def _model(x: np.ndarray, covariance: str, components: int = 2, **prior: dist.Distribution) -> Mixture:
    weights = weight_prior("dirichlet")
    return mixture(x, family=Gaussian(covariance), weights=weights, num_components=components, prior=prior)


def _laws(model: Mixture) -> dict[str, Any]:
    return dict(model.prior)


def test_groups_along_thin_directions_are_found() -> None:
    """Their spread is a thousandth of that of the common size; with and without standardised columns."""
    x, label = _correlated_groups()
    for standardise in (False, True):
        fit = probam.fit(
            x, covariance="full", weights="dirichlet", components=4, engine="em", seed=0, standardise=standardise
        )
        assert adjusted_rand_score(label, fit.predict(x)["label"].values) > 0.7


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_prior_does_not_depend_on_the_number_of_memories(covariance: str) -> None:
    """The same bits for 20 and 40."""
    x, _ = _correlated_groups()
    few, many = (jax.tree.leaves(dict(_model(x, covariance, number).prior)) for number in (20, 40))
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=True))


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_the_prior_moves_with_the_data(covariance: str) -> None:
    """That of A x + b is what A and b make of that of x: means of locations and precisions, and their densities."""
    x, _ = _correlated_groups()
    rng = np.random.default_rng(5)
    turn, other = (np.linalg.qr(rng.normal(size=(5, 5)))[0] for _ in range(2))
    linear, offset = turn * np.geomspace(1e-1, 1e2, 5) @ other, np.array([1.0, -50.0, 3.0, 0.0, 10.0])
    here, there = _laws(_model(x, covariance)), _laws(_model(x @ linear.T + offset, covariance))
    np.testing.assert_allclose(there["loc"].mean, linear @ here["loc"].mean + offset, rtol=1e-8)
    spread_there = np.asarray(linear @ here["loc"].covariance_matrix @ linear.T)
    np.testing.assert_allclose(np.linalg.solve(spread_there, there["loc"].covariance_matrix), np.eye(5), atol=1e-6)
    wishart, wishart_there = here["precision_cholesky"], there["precision_cholesky"]
    rate_there = linear @ wishart.rate_matrix @ linear.T
    assert wishart_there.concentration == wishart.concentration
    np.testing.assert_allclose(np.linalg.solve(np.asarray(rate_there), wishart_there.rate_matrix), np.eye(5), atol=1e-6)


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_the_mode_does_not_depend_on_the_order_of_the_columns(covariance: str) -> None:
    """The same density at each row, and the same memories."""
    x, _ = _correlated_groups()
    x = x[:60]
    hard = np.eye(2)[np.arange(60) % 2]

    def after_an_m_step(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model = _model(x[:, order], covariance)
        eye = jnp.eye(5) if covariance == "tied" else jnp.broadcast_to(jnp.eye(5), (2, 5, 5))
        params = {"loc": jnp.asarray(x[:2][:, order]), "precision_cholesky": eye}
        moments = Gaussian(covariance).moments(jnp.asarray(x[:, order]), jnp.asarray(hard))
        after = Gaussian(covariance).maximize(moments, params, model.prior)
        factor = np.asarray(after["precision_cholesky"])
        return np.asarray(after["loc"]), factor @ np.swapaxes(factor, -1, -2)

    order = np.array([3, 0, 4, 2, 1])
    (loc, precision), (loc_there, precision_there) = after_an_m_step(np.arange(5)), after_an_m_step(order)
    np.testing.assert_allclose(loc_there, loc[:, order], rtol=1e-9)
    np.testing.assert_allclose(precision_there, precision[..., order, :][..., order], rtol=1e-6)


@pytest.mark.parametrize("coordinates", ["invariant", "numpyro"])
def test_em_ends_where_the_slope_is_flat(coordinates: str) -> None:
    """In the unconstrained coordinates of the prior, ours or NumPyro's own."""
    x = np.random.default_rng(2).normal(size=(50, 2)) @ np.array([[1.0, 0.7], [0.0, 0.4]])
    numpyro_law = dist.WishartCholesky(5.0, jnp.eye(2))
    model = _model(x, "full") if coordinates == "invariant" else _model(x, "full", precision_cholesky=numpyro_law)
    result = em.run(jax.random.key(0), model, jnp.asarray(x), tolerance=0.0, max_iterations=3000)
    walk = Coordinates(model)
    free = walk.unconstrain(
        {name: jnp.asarray(value[0, 0]) for name, value in result.sites.items() if name in walk.zeros}
    )
    slope = jax.grad(walk.log_joint)(free, jnp.asarray(x))
    assert max(float(jnp.abs(leaf).max()) for leaf in slope.values()) < 1e-4


def test_a_gross_outlier_leaves_the_other_groups() -> None:
    """One row at 1000 standard deviations has a memory of its own."""
    rng = np.random.default_rng(3)
    label = np.arange(150) % 3
    x = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])[label] + rng.normal(size=(150, 2))
    with_outlier = np.vstack([x, 1000 * x.std(0)])
    fit = probam.fit(with_outlier, weights="dirichlet", components=4, engine="em", seed=0)
    assert adjusted_rand_score(label, fit.predict(x)["label"].values) > 0.95


@pytest.mark.parametrize("covariance", ["full", "diagonal", "spherical"])
def test_groups_far_apart_lose_little(covariance: str) -> None:
    """100 standard deviations apart: less than 0.1 nats a row behind maximum likelihood on other rows."""
    rng = np.random.default_rng(4)
    seen, other = (np.concatenate([rng.normal(0, 1, (100, 2)), rng.normal(100, 1, (100, 2))]) for _ in range(2))
    scores = []
    for options in ({}, {"estimate": "ml"}):
        fit = probam.fit(
            seen, covariance=covariance, weights="dirichlet", components=2, engine="em", seed=0, restarts=2, **options
        )
        scores.append(float(np.mean(np.asarray(fit.log_prob(other)))))
    assert scores[0] > scores[1] - 0.1
    truth = -np.log(2) + stats.multivariate_normal.logpdf(other[:100], np.zeros(2)).mean()
    assert scores[0] > truth - 0.2
