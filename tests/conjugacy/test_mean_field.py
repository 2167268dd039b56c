"""Factors of the mean field: bounds against quadrature and Monte Carlo, expectations against derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from probam.conjugacy.mean_field_sticks import GammaAlpha, lattice
from probam.conjugacy.normal import NormalGamma, NormalWishart
from probam.conjugacy.pairs import ConjugatePair
from probam.models.gaussian import Gaussian
from probam.numerics.within_covariance import covariances, within_covariance

PAIRS = {
    "diagonal": NormalGamma(jnp.array([0.3, -0.5]), jnp.array(0.2), jnp.array([1.5, 2.0]), jnp.array([0.7, 1.1])),
    "spherical": NormalGamma(jnp.array([0.3, -0.5]), jnp.array(0.2), jnp.array([1.5]), jnp.array([0.7])),
    "full": NormalWishart(jnp.array([0.3, -0.5]), jnp.array(0.2), jnp.array(3.5), jnp.array([[1.0, 0.3], [0.3, 0.8]])),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_expectations_are_the_derivatives_of_the_log_marginal(kind: str) -> None:
    pair, random = PAIRS[kind], np.random.default_rng(1)
    x = random.normal(0.5, 1.3, (9, 2))
    shares = random.dirichlet(np.ones(3), 9)
    sums = jnp.asarray(shares.T @ np.asarray(pair.statistics(jnp.asarray(x))))
    arguments = (jnp.asarray(shares.sum(0)), sums)
    ours, generic = (
        jax.jit(f)(*arguments) for f in (pair.expectations, lambda *a: ConjugatePair.expectations(pair, *a))
    )
    for name, one, other in zip(ours._fields, ours, generic, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10, err_msg=name)
    nothing = jax.jit(pair.expectations)(jnp.zeros(3), jnp.zeros_like(sums))
    np.testing.assert_allclose(nothing.log_marginal, 0, atol=1e-12)
    assert (np.asarray(nothing.slope[:, -1]) < 0).all()  # an empty memory still has a width


def _settled(family: Gaussian, x: np.ndarray) -> tuple[Any, Any, float]:
    """Factors of one memory that holds all data, after many rounds, and their bound."""
    field: Any = family.mean_field(family.prior(x))
    sums = field.statistics(jnp.asarray(x)).sum(0)[None]
    counts = jnp.full(1, 1.0 * len(x))

    @jax.jit
    def settle() -> tuple[Any, jax.Array]:
        factors = field.begin(counts, sums)
        factors = jax.lax.fori_loop(0, 200, lambda _, now: field.update(now, counts, sums), factors)
        return factors, field.expect(factors, counts, sums).bound

    factors, bound = settle()
    return field, factors, float(bound)


def test_the_bound_of_one_gaussian_memory_is_just_below_its_evidence() -> None:
    """Two factors cannot hold the dependence of location and width; one dimension, quadrature on a fine grid."""
    x = np.random.default_rng(0).normal(1.0, 2.0, (7, 1))
    mean, variance, within = x.mean(), x.var(), within_covariance(x)[0, 0]
    mu = np.linspace(mean - 15, mean + 15, 1501)[:, None]
    log_tau = np.linspace(-9, 5, 1401)
    tau = np.exp(log_tau)
    scatter = np.sum((x[:, 0] - mu) ** 2, axis=1)[:, None]
    logs = 3.5 * (log_tau - np.log(2 * np.pi)) - 0.5 * tau * scatter + stats.norm.logpdf(mu, mean, 2 * variance**0.5)
    logs = logs + stats.gamma.logpdf(tau, 2.0, scale=1 / (2.0 * within)) + log_tau
    evidence = logs.max() + np.log(np.sum(np.exp(logs - logs.max())) * 0.02 * 0.01)
    bounds = [_settled(Gaussian(kind), x)[2] for kind in ("diagonal", "spherical", "isotropic", "full")]
    np.testing.assert_allclose(bounds[1:], bounds[0], rtol=1e-9)  # one dimension: one model
    assert bounds[0] < evidence
    assert bounds[0] > evidence - 0.1


def test_the_bound_of_a_full_covariance_is_its_definition() -> None:
    """E_q [log p(x, theta) - log q(theta)] over draws from q, densities by SciPy; five standard errors."""
    x = np.random.default_rng(5).normal(0, 1, (12, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]])
    family = Gaussian("full")
    field, factors, bound = _settled(family, x)
    number = 20_000
    drawn = jax.jit(jax.vmap(lambda key: field.draw(key, factors)))(jax.random.split(jax.random.key(0), number))
    loc, factor = np.asarray(drawn["loc"])[:, 0], np.asarray(drawn["precision_cholesky"])[:, 0]
    precision = np.moveaxis(factor @ np.swapaxes(factor, 1, 2), 0, -1)
    mean, covariance, freedom, rate = (np.asarray(leaf)[0] for leaf in factors.own)
    log_q = stats.multivariate_normal.logpdf(loc, np.asarray(field.loc) + mean, covariance)
    log_q = log_q + stats.wishart.logpdf(precision, freedom, np.linalg.inv(rate))
    whole, within = covariances(x)
    log_p = stats.multivariate_normal.logpdf(loc, x.mean(0), 4 * whole)
    log_p = log_p + stats.wishart.logpdf(precision, 5.0, np.linalg.inv(5.0 * within))
    whitened = np.einsum("nsi,sij->nsj", x[:, None] - loc, factor)
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    log_p = log_p + 12 * (log_det - np.log(2 * np.pi)) - 0.5 * (whitened**2).sum((0, 2))
    terms = log_p - log_q
    assert abs(terms.mean() - bound) < 5 * terms.std() / np.sqrt(number)


def test_the_lattice_of_alpha_agrees_with_its_gamma_factor() -> None:
    counts = jnp.asarray([30.0, 12.5, 4.0, 0.3, 0.0])
    means = {"alpha": jnp.asarray(0.8)}
    exact = GammaAlpha(jnp.asarray(1.5), jnp.asarray(0.7))
    grid = lattice(dist.Gamma(1.5, 0.7), 0.0, 5)
    one, two = jax.jit(lambda: (exact.average(counts, means), grid.average(counts, means)))()
    np.testing.assert_allclose(one[0]["alpha"], two[0]["alpha"], rtol=1e-6)
    np.testing.assert_allclose(one[1], two[1], atol=1e-6)
    keys = jax.random.split(jax.random.key(1), 20_000)
    alphas = [
        np.asarray(jax.jit(jax.vmap(lambda key, h=h: h.draw(key, counts, means)))(keys)["alpha"]) for h in (exact, grid)
    ]
    for draws in alphas:
        assert abs(draws.mean() - float(one[0]["alpha"])) < 5 * draws.std() / np.sqrt(len(draws))
