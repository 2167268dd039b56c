"""Recall of families without a physical twin: within the support of their banks, or refused with the reason."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import Distribution
from scipy.optimize import brentq
from scipy.special import digamma

from probam.distributions.mixture import MemoryMixture
from probam.fits.landscape import bounded, plane, survey

HALVES = np.log([0.5, 0.5])


def mixture(bank: Distribution) -> MemoryMixture:
    return MemoryMixture(jnp.asarray(HALVES), bank.to_event(1))


def test_positive_memories_are_recalled_at_their_modes() -> None:
    shape, mean = np.array([[40.0], [90.0]]), np.array([[1.0], [6.0]])
    landscape = survey(mixture(dist.Gamma(shape, shape / mean)))
    ended = landscape.run(jnp.array([[0.8], [1.2], [7.0]]))
    assert bool(ended.converged.all())
    modes = (mean - mean / shape)[:, 0]  # the other memory is far away
    np.testing.assert_allclose(ended.states[:, 0], modes[[0, 0, 1]], rtol=1e-6)


def test_counts_descend_between_whole_numbers_and_stop_at_zero() -> None:
    rate = np.array([[40.0, 0.3], [3.0, 50.0]])
    ended = survey(mixture(dist.Poisson(rate, validate_args=True))).run(jnp.array([[35.0, 2.0], [30.0, 0.0]]))
    assert bool(ended.converged.all())
    lowest = brentq(lambda v: digamma(v + 1) - np.log(40.0), 30, 45)  # where d/dv of v log rate - log v! is zero
    np.testing.assert_allclose(ended.states, [[lowest, 0.0]] * 2, rtol=1e-6)


def test_a_density_without_bound_is_descended_to_the_edge() -> None:
    bank = dist.Gamma(np.array([[0.5], [30.0]]), np.array([[1.0], [5.0]]))
    ended = survey(mixture(bank)).run(jnp.array([[0.05], [6.5]]))
    assert bool(ended.converged.all())
    assert 0 < float(ended.states[0, 0]) < 1e-5
    np.testing.assert_allclose(ended.states[1, 0], 29 / 5, rtol=1e-3)


def test_angles_descend_across_pi_and_end_on_the_circle() -> None:
    bank = dist.VonMises(np.array([[-3.0], [0.0]]), 8.0)
    ended = survey(mixture(bank)).run(jnp.array([[2.9], [-2.0]]))
    np.testing.assert_allclose(ended.states[:, 0], [-3.0, -3.0], atol=1e-3)


def test_the_edge_is_that_of_the_parameters_too() -> None:
    bank = dist.Pareto(np.array([[1.0], [2.0]]), 3.0)  # each memory starts at its scale
    landscape = survey(mixture(bank))
    assert landscape.inside is not None
    np.testing.assert_allclose(landscape.inside(jnp.array([[0.5], [1.5], [9.0]])), [[1.0], [1.5], [9.0]], rtol=1e-5)
    alone = -np.log(0.5 * 3 / 1.5**4)  # outside the support of the other memory
    np.testing.assert_allclose(landscape.energies(jnp.array([[1.5]])), alone, rtol=1e-12)


@pytest.mark.parametrize(
    ("law", "reason"),
    [
        (dist.DiscreteUniform(np.zeros((2, 3), int), 5).to_event(1), "no slope between its values"),
        (dist.ProjectedNormal(np.ones((2, 3))), "vectors of length 1"),
        (dist.DirichletMultinomial(np.ones((2, 3)), 9), "leaves its support"),
    ],
)
def test_what_cannot_descend_says_why(law: Distribution, reason: str) -> None:
    assert reason in survey(MemoryMixture(jnp.asarray(HALVES), law)).still


@pytest.mark.parametrize("num_features", [2, 4])
def test_the_picture_ends_at_the_edge_of_the_support(num_features: int) -> None:
    x = np.random.default_rng(0).gamma(1.0, size=(60, num_features))
    landscape = survey(mixture(dist.Gamma(np.ones((2, num_features)), 1.0)))
    grid = plane(x, spherical=False, size=20)
    cut = bounded(grid, landscape.inside, x, always_ends=not landscape.twin)
    positive = (grid.points > 0).all(axis=-1)
    assert 0 < positive.sum() < positive.size
    np.testing.assert_array_equal(cut.valid, positive)
    assert (cut.points > 0).all()
