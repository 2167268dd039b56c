"""Gaussian memories with one covariance for all of them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import potential_energy
from scipy.stats import multivariate_normal

from probam.family import Moments
from probam.inference.common.coordinates import Coordinates
from probam.inference.em import engine as em
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
D, K = 3, 4


def _model(x: np.ndarray, covariance: str = "tied", num_components: int = K) -> Mixture:
    return mixture(x, family=Gaussian(covariance), weights=weight_prior("dirichlet"), num_components=num_components)


def _data() -> np.ndarray:
    rng = np.random.default_rng(6)
    root = np.array([[1.0, 0, 0], [0.9, 0.5, 0], [-0.3, 0.2, 0.8]])
    return rng.normal(size=(80, D)) @ root.T + 4 * rng.normal(size=(K, D))[rng.integers(0, K, 80)]


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data folder is not here")
def test_maximum_likelihood_on_old_faithful_is_that_of_mclust_eee() -> None:
    """mclust 6.0.0: EEE with three groups, log likelihood -1126.326236, BIC -2314.3163."""
    x = np.load(SHARED / "faithful" / "data.npz", allow_pickle=False)["X"]
    states, _ = em.fit_params(
        jax.random.key(0),
        _model(x, num_components=3),
        jnp.asarray(x),
        estimate="ml",
        tolerance=1e-12,
        max_iterations=5000,
        restarts=10,
    ).ends
    best = float(np.max(states.objective))
    above = best + 1126.326236  # mclust stops at a relative rise of 1e-5, EM here at 1e-12
    assert 0 <= above < 2e-5 * abs(best), best
    parameters = 2 + 3 * 2 + 3  # weights, locations, one covariance
    np.testing.assert_allclose(2 * best - parameters * np.log(len(x)), -2314.3163 + 2 * above, atol=1e-4)


def test_em_climbs_to_a_stationary_point_of_the_potential_of_nuts() -> None:
    x = jnp.asarray(_data())
    model = _model(_data())
    result = em.run(jax.random.key(0), model, x, restarts=2, tolerance=1e-13, max_iterations=3000)
    assert result.sites["precision_cholesky"].shape == (1, 1, D, D)
    coordinates = Coordinates(model)
    free = coordinates.unconstrain({name: jnp.asarray(result.sites[name][0, 0]) for name in coordinates.transforms})
    value, slope = jax.jit(jax.value_and_grad(lambda free: potential_energy(model, (x,), {}, free)))(free)
    np.testing.assert_allclose(-value, result.stats["lp"][0, 0], rtol=1e-10)
    for name, gradient in slope.items():
        assert float(jnp.max(jnp.abs(gradient))) < 2e-4, name


def test_log_joint_is_that_of_scipy() -> None:
    x, rng = _data(), np.random.default_rng(1)
    factor = np.linalg.cholesky(np.cov(x.T))
    loc, weights = rng.normal(size=(K, D)), np.array([0.1, 0.2, 0.3, 0.4])
    law = _model(x).mixture(
        {"loc": jnp.asarray(loc), "precision_cholesky": jnp.asarray(factor), "proportions": jnp.asarray(weights)}
    )
    expected = [multivariate_normal.logpdf(x, mean, np.linalg.inv(factor @ factor.T)) for mean in loc]
    np.testing.assert_allclose(law.log_joint(jnp.asarray(x)), np.log(weights) + np.stack(expected, axis=1), rtol=1e-9)


@pytest.mark.parametrize("rule", ["maximum likelihood", "maximum a posteriori", "draw"])
def test_one_memory_has_a_covariance_of_its_own_either_way(rule: str) -> None:
    x = _data()
    tied, full = Gaussian("tied"), Gaussian("full")
    moments = Moments(jnp.asarray([80.0]), jnp.sum(full.statistics(jnp.asarray(x)), axis=0)[None], jnp.zeros(D))
    prior = {family.covariance: _model(x, family.covariance, 1).prior for family in (tied, full)}
    params = {"loc": jnp.ones((1, D)), "precision_cholesky": jnp.eye(D)[None]}
    shared = params | {"precision_cholesky": jnp.eye(D)}
    if rule == "draw":
        assert tied.can_draw(prior["tied"])
        one = tied.draw(jax.random.key(0), moments, shared, prior["tied"])
        two = full.draw(jax.random.key(0), moments, params, prior["full"])
    else:
        law = {"tied": None, "full": None} if rule == "maximum likelihood" else prior
        one = tied.maximize(moments, shared, law["tied"])
        two = full.maximize(moments, params, law["full"])
    np.testing.assert_allclose(one["loc"], two["loc"], rtol=1e-10)
    np.testing.assert_allclose(one["precision_cholesky"], two["precision_cholesky"][0], rtol=1e-9)


def test_a_drawn_precision_has_the_mean_of_its_wishart_posterior() -> None:
    """Locations pinned by a tight prior: the precision then has freedom nu + n and rate V + total scatter."""
    x = _data()
    labels = np.arange(80) % K
    loc = np.stack([x[labels == k].mean(axis=0) for k in range(K)])
    family = Gaussian("tied")
    prior = dict(_model(x).prior) | {"loc": dist.Normal(jnp.zeros(D), 1e-9).to_event(1)}
    hard = jnp.asarray(np.eye(K)[labels])
    moments = Moments(hard.sum(0), hard.T @ family.statistics(jnp.asarray(x)), jnp.zeros(D))
    params = {"loc": jnp.asarray(loc), "precision_cholesky": jnp.eye(D)}
    keys = jax.random.split(jax.random.key(2), 4000)
    factors = np.asarray(
        jax.jit(jax.vmap(lambda key: family.draw(key, moments, params, prior)))(keys)["precision_cholesky"]
    )
    wishart = prior["precision_cholesky"]
    assert isinstance(wishart, dist.WishartCholesky)
    freedom = float(wishart.concentration) + len(x)
    mean = freedom * np.linalg.inv(np.asarray(wishart.rate_matrix) + x.T @ x)
    drawn = factors @ np.swapaxes(factors, 1, 2)
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - mean) < 5 * error).all()  # 6 numbers: fails less than once in 1e5 seeds
