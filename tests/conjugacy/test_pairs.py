"""Conjugate pairs: marginals and predictives against SciPy and quadrature, posterior draws against posterior means."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate, special, stats

from probam.conjugacy.normal import NormalGamma, NormalKnownVariance, NormalWishart
from probam.conjugacy.pairs import (
    BetaBernoulli,
    ConjugatePair,
    DirectionOfVonMisesFisher,
    DirichletMultinomial,
)
from probam.distributions.partitions import chinese_restaurant, finite_mixtures
from probam.numerics.log_gamma import log_beta, log_gamma_ratio
from tests.inference.enumeration import log_eppf, partitions

D, N = 3, 6
RNG = np.random.default_rng(5)
X = RNG.normal(0.4, 1.3, (N, D))
M = np.array([0.2, -0.1, 0.6])
A = RNG.normal(size=(D, D))
RATE = A @ A.T + np.eye(D)
BITS = (RNG.random((N, D)) < 0.4).astype(float)
COUNTS = RNG.integers(0, 5, (N, D)).astype(float)

KNOWN = NormalKnownVariance(jnp.asarray(M), jnp.array([1.0, 2.0, 0.5]), jnp.array([0.3, 0.9, 1.7]))
FULL = NormalKnownVariance.full(
    jnp.asarray(M), jnp.diag(jnp.array([1.0, 2.0, 0.5])), jnp.asarray(np.linalg.cholesky(np.linalg.inv(RATE)))[None]
)
GAMMA = NormalGamma(jnp.asarray(M), jnp.array(0.3), jnp.array([2.0, 1.5, 3.0]), jnp.array([1.0, 0.7, 2.0]))
POOLED = NormalGamma(jnp.asarray(M), jnp.array(0.3), jnp.array([2.0]), jnp.array([1.0]))
WISHART = NormalWishart(jnp.asarray(M), jnp.array(0.3), jnp.array(5.5), jnp.asarray(RATE))
BETA = BetaBernoulli(jnp.array([0.5, 1.0, 2.0]), jnp.array([1.5, 0.8, 1.0]))
MULTINOMIAL = DirichletMultinomial(jnp.array([0.5, 1.0, 2.5]))
CASES = {
    "known variances": (KNOWN, X),
    "known covariance": (FULL, X),
    "normal-gamma": (GAMMA, X),
    "normal-gamma, one precision": (POOLED, X),
    "normal-Wishart": (WISHART, X),
    "beta-Bernoulli": (BETA, BITS),
    "Dirichlet-multinomial": (MULTINOMIAL, COUNTS),
}


def marginal(pair: ConjugatePair, x: np.ndarray) -> float:
    """Log density of the rows of x as the data of one memory."""
    sums = pair.statistics(jnp.asarray(x)).sum(0)[None]
    base = pair.log_base(jnp.asarray(x)).sum()
    return float(pair.log_marginal(jnp.array([1.0 * len(x)]), sums)[0] + base)


@pytest.mark.parametrize("name", CASES)
def test_the_marginal_is_the_product_of_predictives_and_leaving_undoes_joining(name: str) -> None:
    pair, x = CASES[name]
    statistics, tables = pair.statistics(jnp.asarray(x)), pair.tables(N)
    known = pair.begin(jnp.zeros(1), jnp.zeros((1, statistics.shape[1])))
    total = float(pair.log_base(jnp.asarray(x)).sum())
    for n in range(N):
        total += float(pair.predict(known, tables, jnp.asarray(x[n]), statistics[n])[0])
        before, known = known, pair.move(known, jnp.array(0), jnp.asarray(x[n]), statistics[n], 1.0)
    assert abs(total - marginal(pair, x)) < 1e-11 * abs(total)
    back = pair.move(known, jnp.array(0), jnp.asarray(x[-1]), statistics[-1], -1.0)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(before), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def test_marginals_of_gaussian_data_are_those_of_scipy() -> None:
    location = np.diag([1.0, 2.0, 0.5])
    for pair, noise in ((KNOWN, np.diag([0.3, 0.9, 1.7])), (FULL, RATE)):
        covariance = np.kron(np.eye(N), noise) + np.kron(np.ones((N, N)), location)
        joint = float(stats.multivariate_normal(np.tile(M, N), covariance).logpdf(X.ravel()))
        assert abs(marginal(pair, X) - joint) < 1e-10
    # one datum: Student-t
    scale = RATE * (0.3 + 1) / (0.3 * (5.5 - D + 1))
    wishart = float(stats.multivariate_t(M, scale, 5.5 - D + 1).logpdf(X[0]))  # type: ignore[arg-type]
    assert abs(marginal(WISHART, X[:1]) - wishart) < 1e-11
    width = np.sqrt(np.array([1.0, 0.7, 2.0]) / [2.0, 1.5, 3.0] * 1.3 / 0.3)
    features = float(stats.t(2 * np.array([2.0, 1.5, 3.0]), M, width).logpdf(X[0]).sum())
    assert abs(marginal(GAMMA, X[:1]) - features) < 1e-11
    pooled = float(stats.multivariate_t(M, np.eye(D) * 1.3 / (2 * 0.3), 4).logpdf(X[0]))
    assert abs(marginal(POOLED, X[:1]) - pooled) < 1e-11


def test_marginals_of_discrete_data_are_those_of_scipy() -> None:
    row = COUNTS[0].astype(int)
    expected = float(stats.dirichlet_multinomial([0.5, 1.0, 2.5], row.sum()).logpmf(row))
    assert abs(marginal(MULTINOMIAL, COUNTS[:1]) - expected) < 1e-11
    ones = BITS.sum(0)
    binomial = stats.betabinom(N, [0.5, 1.0, 2.0], [1.5, 0.8, 1.0]).logpmf(ones)
    assert abs(marginal(BETA, BITS) - (binomial - np.log(special.comb(N, ones))).sum()) < 1e-11
    spins = BetaBernoulli(BETA.successes, BETA.failures, (-1.0, 1.0))
    assert abs(marginal(spins, 2 * BITS - 1) - marginal(BETA, BITS)) < 1e-12


def test_marginal_of_directions_is_that_of_quadrature_on_the_circle() -> None:
    angle, kappa, pull = np.array([0.3, 1.1, -0.4, 2.0]), 2.5, np.array([0.7, -1.2])
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def density(t: float) -> float:
        prior = stats.vonmises.pdf(t, np.linalg.norm(pull), np.arctan2(pull[1], pull[0]))
        return float(prior * np.prod(stats.vonmises.pdf(angle, kappa, t)))

    expected = np.log(integrate.quad(density, -np.pi, np.pi, epsabs=1e-14)[0])
    pair = DirectionOfVonMisesFisher(jnp.asarray(pull), jnp.asarray(kappa))
    assert abs(marginal(pair, x) - expected) < 1e-9


def test_posterior_draws_have_the_posterior_means() -> None:
    """Means of 20000 draws; five standard errors for about 40 numbers: fails once in 40000 seeds."""
    num = 20_000
    counts = jnp.full(num, 1.0 * N)

    def draws(pair: ConjugatePair, x: np.ndarray) -> dict[str, np.ndarray]:
        sums = jnp.broadcast_to(pair.statistics(jnp.asarray(x)).sum(0), (num, pair.statistics(jnp.asarray(x)).shape[1]))
        return {k: np.asarray(v) for k, v in pair.draw(jax.random.key(3), counts, sums).items()}

    def agree(drawn: np.ndarray, expected: np.ndarray) -> None:
        assert (np.abs(drawn.mean(0) - expected) < 5 * drawn.std(0) / np.sqrt(num)).all()

    centred = X - M
    mean = M + centred.sum(0) / (N + 0.3)
    variance = np.array([0.3, 0.9, 1.7])
    agree(draws(KNOWN, X)["loc"], M + centred.sum(0) / variance / (N / variance + 1 / np.array([1.0, 2.0, 0.5])))
    off = np.outer(centred.sum(0), centred.sum(0)) / (N + 0.3)
    rate = np.array([1.0, 0.7, 2.0]) + 0.5 * ((centred**2).sum(0) - np.diag(off))
    found = draws(GAMMA, X)
    agree(found["loc"], mean)
    agree(found["precision"], (np.array([2.0, 1.5, 3.0]) + N / 2) / rate)
    found = draws(WISHART, X)
    factor = found["precision_cholesky"]
    agree(found["loc"], mean)
    agree(factor @ factor.transpose(0, 2, 1), (5.5 + N) * np.linalg.inv(RATE + centred.T @ centred - off))
    agree(draws(BETA, BITS)["prob"], (np.array([0.5, 1.0, 2.0]) + BITS.sum(0)) / (np.array([2.0, 1.8, 3.0]) + N))
    raised = np.array([0.5, 1.0, 2.5]) + COUNTS.sum(0)
    agree(draws(MULTINOMIAL, COUNTS)["prob"], raised / raised.sum())


def test_log_beta_and_the_ratio_of_gammas_are_exact_to_rounding() -> None:
    low, high = np.exp(RNG.uniform(-3, 3, 200)), np.exp(RNG.uniform(-3, 16, 200))
    low[:2], high[:2] = 1.5, (11.9, 12.1)  # both sides of the change of formula
    with mpmath.workdps(40):
        pairs = [(mpmath.mpf(a), mpmath.mpf(h)) for a, h in zip(high, low, strict=True)]
        ratio = [float(mpmath.loggamma(a + h) - mpmath.loggamma(a)) for a, h in pairs]
        beta = [float(mpmath.log(mpmath.beta(a, h))) for a, h in pairs]
    np.testing.assert_allclose(log_gamma_ratio(high, low), ratio, rtol=1e-14, atol=5e-14)
    np.testing.assert_allclose(log_beta(low, high), beta, rtol=1e-14, atol=5e-14)


def test_laws_of_labels_sum_to_one_and_their_predictives_are_ratios() -> None:
    """Over all partitions of 5 data, each with its K! / (K - t)! placements in K = 5 slots."""
    n = 5
    for law, log_partition in (
        (chinese_restaurant(jnp.array(0.7), jnp.array(0.4), n, n), lambda sizes: log_eppf(sizes, 0.7, 0.4)),
        (finite_mixtures(0.6, n, n), None),
    ):
        total = 0.0
        for blocks in partitions(n):
            sizes = [len(block) for block in blocks]
            counts = jnp.array(sizes + [0] * (n - len(sizes)), float)
            here = float(law.log_marginal(counts) + special.gammaln(n + 1) - special.gammaln(n - len(sizes) + 1))
            total += np.exp(here)
            if log_partition is not None:
                assert abs(here - log_partition(sizes)) < 1e-10
        assert abs(total - 1) < 1e-12
        others = jnp.array([2.0, 1.0, 1.0, 0.0, 0.0])
        joint = jnp.stack([law.log_marginal(others.at[k].add(1)) for k in range(n)])
        ours = jax.nn.softmax(law.log_predictive(others))
        np.testing.assert_allclose(ours, jax.nn.softmax(joint), rtol=1e-12)
