"""Mixtures with noise: against quadrature and sums, Tweedie's formula, covariances, refusals."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

from probam.distributions.bits import SpinBernoulli
from probam.distributions.blurred import Noisy, blurred, denoised, widths
from probam.distributions.mixture import MemoryMixture
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.uniform import UniformBox
from probam.energies import diffusion
from probam.errors import InputError

WEIGHTS = np.array([0.3, 0.7])
LOC = np.array([[-1.0], [2.0]])
CONTINUOUS = {
    "normal": (dist.Normal(LOC, 0.4).to_event(1), [stats.norm(m, 0.4) for m in LOC[:, 0]]),
    "full": (dist.MultivariateNormal(LOC, jnp.full((2, 1, 1), 0.16)), [stats.norm(m, 0.4) for m in LOC[:, 0]]),
    "laplace": (dist.Laplace(LOC, 0.3).to_event(1), [stats.laplace(m, 0.3) for m in LOC[:, 0]]),
    "box": (UniformBox(LOC, np.array([[0.5], [1.5]])), [stats.uniform(-1.5, 1), stats.uniform(0.5, 3)]),
}
DISCRETE = {
    "probabilities": (dist.BernoulliProbs(np.array([[0.2], [0.9]])).to_event(1), (0, 1)),
    "logits": (dist.BernoulliLogits(np.log([[0.25], [9.0]])).to_event(1), (0, 1)),
    "spins": (SpinBernoulli(np.log([[0.25], [9.0]])).to_event(1), (-1, 1)),
}


def mixture(bank: dist.Distribution) -> MemoryMixture:
    return MemoryMixture(jnp.log(WEIGHTS), bank)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_energy_at_a_noise_is_that_of_the_integral_over_clean_data(name: str) -> None:
    bank, laws = CONTINUOUS[name]
    x = np.array([-4.0, -1.3, 0.1, 1.4, 6.0])
    for noise in (0.05, 0.7, 3.0):

        def density(at: float, noise: float = noise) -> float:
            def integrand(y: float) -> float:
                clean = sum(w * law.pdf(y) for w, law in zip(WEIGHTS, laws, strict=True))
                return float(clean * stats.norm.pdf(at, y, noise))

            breaks = sorted({*LOC[:, 0], -1.5, -0.5, 0.5, 3.5, at})
            ends = [at - 12 * noise, at + 12 * noise]
            inside = [ends[0], *(b for b in breaks if ends[0] < b < ends[1]), ends[1]]
            return sum(integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-10)[0] for a, b in pairwise(inside))

        expected = [density(at) for at in x]
        found = np.exp(blurred(mixture(bank), noise).log_prob(x[:, None]))
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-200)


@pytest.mark.parametrize("name", DISCRETE)
def test_noise_on_bits_makes_two_normals(name: str) -> None:
    bank, values = DISCRETE[name]
    x, up = np.linspace(-2, 2, 9), WEIGHTS @ np.array([0.2, 0.9])
    expected = (1 - up) * stats.norm.pdf(x, values[0], 0.6) + up * stats.norm.pdf(x, values[1], 0.6)
    np.testing.assert_allclose(np.exp(blurred(mixture(bank), 0.6).log_prob(x[:, None])), expected, rtol=1e-12)


def test_noise_adds_to_full_covariances() -> None:
    rng = np.random.default_rng(6)
    loc, roots = rng.normal(size=(4, 3)), np.tril(rng.normal(size=(4, 3, 3))) + 2 * np.eye(3)
    clean = MemoryMixture(jnp.full(4, np.log(0.25)), dist.MultivariateNormal(loc, scale_tril=jnp.asarray(roots)))
    covariances = roots @ np.swapaxes(roots, 1, 2) + 0.25 * np.eye(3)
    x = rng.normal(size=(6, 3))
    each = [stats.multivariate_normal(m, c).pdf(x) for m, c in zip(loc, covariances, strict=True)]
    np.testing.assert_allclose(np.exp(blurred(clean, 0.5).log_prob(x)), np.mean(each, axis=0), rtol=1e-10)
    least, largest = widths(clean)
    np.testing.assert_allclose(least**2, np.linalg.eigvalsh(covariances).min() - 0.25, rtol=1e-9)
    np.testing.assert_allclose(largest**2, np.max(clean.variance), rtol=1e-12)


def test_of_stored_data_the_denoiser_is_a_step_of_recall() -> None:
    """The statistics' score against the physics' update: memories with no width of their own."""
    rng = np.random.default_rng(1)
    data, x = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    points = MemoryMixture(jnp.full(5, -np.log(5.0)), dist.Normal(data, 1e-9).to_event(1))
    found = denoised(points, jnp.asarray(x), 0.4)
    np.testing.assert_allclose(found, diffusion.denoise(x, data, 0.4), rtol=1e-10)
    energy = diffusion.Diffusion(data, 0.4).energy(x)
    constant = np.log(5) + 1.5 * np.log(2 * np.pi * 0.16)
    np.testing.assert_allclose(-blurred(points, 0.4).log_prob(x), energy / (2 * 0.16) + constant, rtol=1e-10)


@pytest.mark.parametrize("name", ["laplace", "box", "probabilities", "spins"])
def test_scores_far_from_the_data_and_with_little_noise_are_finite(name: str) -> None:
    wide = mixture((CONTINUOUS | DISCRETE)[name][0])
    x = jnp.array([[-300.0], [-1.0], [0.5], [1.0], [300.0]])
    for noise in (1e-3, 1.0, 100.0):
        found = denoised(wide, x, noise)
        assert np.isfinite(found).all()
        assert (np.diff(found[:, 0]) >= -1e-9 * 300).all()  # the derivative of the denoiser is a variance


def test_draws_with_noise_have_the_sum_of_the_variances() -> None:
    law = Noisy(dist.Laplace(1.0, 0.5), 0.3)
    draws = law.sample(jax.random.key(0), (4000,))
    assert np.isclose(law.variance, 0.5 + 0.09)
    assert abs(float(draws.mean()) - float(law.mean)) < 5 * np.sqrt(0.59 / 4000)
    grid = np.linspace(-8, 10, 4001)
    cumulative = np.cumsum(np.exp(law.log_prob(grid))) * (grid[1] - grid[0])
    assert stats.kstest(draws, lambda x: np.interp(x, grid, cumulative)).pvalue > 1e-3  # seed fixed


def test_families_without_a_closed_form_and_negative_noise_are_refused() -> None:
    heavy = EllipticalStudentT(jnp.full(2, 3.0), jnp.asarray(LOC), jnp.ones((2, 1)))
    with pytest.raises(
        InputError, match="EllipticalStudentT have no density in closed form once normal noise is added"
    ):
        blurred(mixture(heavy), 0.5)
    with pytest.raises(InputError, match="deviation: expected a number of at least 0; got -1"):
        blurred(mixture(CONTINUOUS["normal"][0]), -1.0)
