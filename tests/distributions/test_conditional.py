"""The conditional of missing entries: against quadrature and enumeration of the joint density."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from probam.distributions.conditional import conditional
from probam.distributions.counts import MultinomialCounts
from probam.distributions.mixture import MemoryMixture
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.uniform import UniformBox
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.errors import InputError

RNG = np.random.default_rng(5)
K, D = 3, 4
WEIGHTS = RNG.dirichlet(np.ones(K))
LOC = RNG.normal(size=(K, D))
ROOT = RNG.normal(size=(K, D, D))
SCATTER = ROOT @ ROOT.swapaxes(1, 2) + 0.5 * np.eye(D)
DF = np.array([4.5, 9.0, 30.0])
X = RNG.normal(size=(5, D))
solve = jax.jit(conditional)


def mixture(bank: dist.Distribution) -> MemoryMixture:
    return MemoryMixture(jnp.log(WEIGHTS), bank)


def normal_density(points: np.ndarray) -> np.ndarray:
    parts = [w * stats.multivariate_normal(m, s).pdf(points) for w, m, s in zip(WEIGHTS, LOC, SCATTER, strict=True)]
    return np.sum(parts, axis=0)


def student_density(points: np.ndarray) -> np.ndarray:
    parts = [
        w * stats.multivariate_t(m, s, df).pdf(points) for w, m, s, df in zip(WEIGHTS, LOC, SCATTER, DF, strict=True)
    ]
    return np.sum(parts, axis=0)


def laplace_density(points: np.ndarray) -> np.ndarray:
    scale = np.diagonal(SCATTER, axis1=1, axis2=2)
    parts = [w * stats.laplace(m, s).pdf(points).prod(axis=-1) for w, m, s in zip(WEIGHTS, LOC, scale, strict=True)]
    return np.sum(parts, axis=0)


BANKS: dict[str, tuple[Callable[[], dist.Distribution], Callable[[np.ndarray], np.ndarray]]] = {
    "normal": (lambda: dist.MultivariateNormal(LOC, covariance_matrix=jnp.asarray(SCATTER)), normal_density),
    "student t": (
        lambda: EllipticalStudentT(DF, LOC, np.linalg.cholesky(np.linalg.inv(SCATTER))),
        student_density,
    ),
    "laplace": (
        lambda: dist.Laplace(LOC, np.diagonal(SCATTER, axis1=1, axis2=2)).to_event(1),
        laplace_density,
    ),
}


@pytest.mark.parametrize("name", list(BANKS))
def test_one_missing_entry_has_the_moments_of_its_slice(name: str) -> None:
    """Quadrature over the slice that the observed entries cut of the joint density, by SciPy's own densities."""
    bank, density = BANKS[name]
    gone = np.array([0, 2, 1, 3, 2])
    x = X.copy()
    x[np.arange(5), gone] = np.nan
    result = solve(mixture(bank()), x)
    line = np.concatenate([-np.geomspace(3e3, 1e-4, 40_000), np.geomspace(1e-4, 3e3, 40_000)])
    for n in range(5):
        slab = np.broadcast_to(X[n], (len(line), D)).copy()
        slab[:, gone[n]] = line
        height = density(slab)
        total = np.trapezoid(height, line)
        mean = np.trapezoid(height * line, line) / total
        np.testing.assert_allclose(result.log_marginal[n], np.log(total), atol=1e-5)
        np.testing.assert_allclose(result.mean[n, gone[n]], mean, atol=1e-4)
        variance = np.trapezoid(height * (line - mean) ** 2, line) / total
        np.testing.assert_allclose(result.variance[n, gone[n]], variance, rtol=5e-3 if name == "student t" else 1e-4)
        # of all guesses the mean has the least expected squared error: variance + (guess - mean)^2
        for guess in (line[40_000 + 20_000], 0.0, LOC[0, gone[n]]):
            error = np.trapezoid(height * (line - guess) ** 2, line) / total
            assert error >= float(result.variance[n, gone[n]]) * (1 - 5e-3)
    seen = ~np.isnan(x)
    np.testing.assert_array_equal(np.asarray(result.mean)[seen], X[seen])
    np.testing.assert_array_equal(np.asarray(result.variance)[seen], 0)


def test_regression_on_several_observed_entries() -> None:
    x = X.copy()
    x[0, [1, 3]] = x[1, [0, 1, 2]] = x[2] = np.nan
    result = solve(mixture(dist.MultivariateNormal(LOC, covariance_matrix=jnp.asarray(SCATTER))), x)
    for n in range(3):
        m = np.isnan(x[n])
        logs, means, parts = [], [], []
        for w, loc, s in zip(WEIGHTS, LOC, SCATTER, strict=True):
            gain = s[np.ix_(m, ~m)] @ np.linalg.inv(s[np.ix_(~m, ~m)])
            gap = (x[n] - loc)[~m]
            logs.append(
                np.log(w)
                + (stats.multivariate_normal(loc[~m], s[np.ix_(~m, ~m)]).logpdf(x[n, ~m]) if (~m).any() else 0)
            )
            means.append(loc[m] + gain @ gap)
            parts.append(np.diag(s[np.ix_(m, m)] - gain @ s[np.ix_(~m, m)]))
        share = np.exp(logs - np.logaddexp.reduce(logs))
        mean = share @ np.array(means)
        np.testing.assert_allclose(result.responsibilities[n], share, rtol=1e-9)
        np.testing.assert_allclose(np.asarray(result.mean)[n, m], mean, rtol=1e-9)
        variance = share @ (np.array(parts) + (np.array(means) - mean) ** 2)
        np.testing.assert_allclose(np.asarray(result.variance)[n, m], variance, rtol=1e-9)


def test_bits_are_completed_by_enumeration() -> None:
    probs = RNG.uniform(0.1, 0.9, (K, D))
    x = RNG.integers(0, 2, (5, D)).astype(float)
    full = x.copy()
    x[:, 1] = x[2:, 3] = np.nan
    result = solve(mixture(dist.Bernoulli(probs=probs).to_event(1)), x)
    for n in range(5):
        gone = np.flatnonzero(np.isnan(x[n]))
        total, mean = 0.0, np.zeros(len(gone))
        for bits in itertools.product((0.0, 1.0), repeat=len(gone)):
            row = full[n].copy()
            row[gone] = bits
            mass = WEIGHTS @ np.prod(np.where(row == 1, probs, 1 - probs), axis=1)
            total += mass
            mean += mass * np.array(bits)
        np.testing.assert_allclose(result.log_marginal[n], np.log(total), rtol=1e-10)
        np.testing.assert_allclose(np.asarray(result.mean)[n, gone], mean / total, rtol=1e-10)


def test_counts_are_completed_by_summing_poissons() -> None:
    probs, total = RNG.dirichlet(np.ones(D), K), np.array([6.0, 9.0, 12.0])
    rates = probs * total[:, None]
    x = RNG.poisson(rates[[0, 1, 2, 0, 1]]).astype(float)
    x[:, 2] = np.nan
    result = solve(mixture(MultinomialCounts(probs, total)), x)
    seen = [0, 1, 3]
    counts = np.arange(200)
    for n in range(5):
        weight = WEIGHTS * stats.poisson(rates[:, seen]).pmf(x[n, seen]).prod(axis=1)
        mass = weight @ stats.poisson(rates[:, [2]]).pmf(counts)
        np.testing.assert_allclose(result.mean[n, 2], mass @ counts / mass.sum(), rtol=1e-9)
        np.testing.assert_allclose(result.log_marginal[n], np.log(mass.sum()), rtol=1e-9)


def test_boxes_keep_their_sides() -> None:
    """Boxes 0 and 1 hold the observed entries: shares w / (2 h)^3; the missing feature keeps its sides."""
    loc, reach = LOC, np.array([[3.0, 2.0, 1.0, 4.0], [4.0, 4.0, 3.0, 5.0], [0.1, 0.1, 0.1, 0.1]])
    x = 0.5 * (LOC[0] + LOC[1])[None] + 0
    assert np.all(np.abs(x - loc)[:2] < reach[:2])
    x[0, 2] = np.nan
    result = solve(mixture(UniformBox(loc, reach)), x)
    seen = [0, 1, 3]
    mass = WEIGHTS * np.prod(1 / (2 * reach[:, seen]), axis=1) * [1, 1, 0]
    np.testing.assert_allclose(result.log_marginal[0], np.log(mass.sum()), rtol=1e-12)
    share = mass / mass.sum()
    mean = share @ loc[:, 2]
    np.testing.assert_allclose(result.mean[0, 2], mean, rtol=1e-12)
    np.testing.assert_allclose(
        result.variance[0, 2], share @ (reach[:, 2] ** 2 / 3 + (loc[:, 2] - mean) ** 2), rtol=1e-12
    )


def test_a_row_without_observed_entries_has_the_moments_of_the_mixture() -> None:
    law = mixture(dist.Laplace(LOC, 0.7).to_event(1))
    result = solve(law, np.full((2, D), np.nan))
    np.testing.assert_allclose(result.mean[0], law.mean, rtol=1e-12)
    np.testing.assert_allclose(result.variance[1], law.variance, rtol=1e-12)
    np.testing.assert_allclose(result.log_marginal, 0, atol=1e-12)


def test_a_family_without_an_exact_conditional_says_which_have_one() -> None:
    bank = VonMisesFisher(jnp.eye(3), jnp.ones(3))
    with pytest.raises(InputError, match="VonMisesFisher has no exact conditional distribution of missing entries"):
        conditional(mixture(bank), jnp.array([[jnp.nan, 0.6, 0.8]]))
