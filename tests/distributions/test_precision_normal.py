"""The normal distribution given by a factor of its precision is NumPyro's, and entries are those of jax.numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import multivariate_normal

from probam.distributions.precision_normal import PrecisionNormal, half_log_determinant
from probam.distributions.wishart import ScaledRowsTransform
from probam.numerics.entries import columns, diagonal, entries

RNG = np.random.default_rng(0)
LOC = RNG.normal(size=(4, 3))
FACTOR = np.tril(RNG.normal(size=(4, 3, 3)), -1) + np.eye(3) * RNG.uniform(0.5, 3, (4, 1, 3))


@pytest.fixture(params=["a matrix each", "one matrix"])
def law(request: pytest.FixtureRequest) -> PrecisionNormal:
    factor = FACTOR if request.param == "a matrix each" else FACTOR[0]
    return PrecisionNormal(jnp.asarray(LOC), jnp.asarray(factor))


def test_density_moments_and_draws_are_those_of_the_precision(law: PrecisionNormal) -> None:
    factor = np.broadcast_to(law.precision_cholesky, (4, 3, 3))
    covariance = np.linalg.inv(factor @ np.swapaxes(factor, -1, -2))
    x = RNG.normal(size=(5, 1, 3))
    expected = [multivariate_normal.logpdf(x[:, 0], LOC[k], covariance[k]) for k in range(4)]
    assert law.batch_shape == (4,)
    assert law.event_shape == (3,)
    np.testing.assert_allclose(law.log_prob(x), np.stack(expected, axis=1), rtol=1e-10)
    np.testing.assert_allclose(law.variance, np.diagonal(covariance, axis1=1, axis2=2), rtol=1e-10)
    half = np.broadcast_to(half_log_determinant(law), 4)
    np.testing.assert_allclose(half, 0.5 * np.linalg.slogdet(covariance)[1], rtol=1e-10)
    numpyro = dist.MultivariateNormal(law.loc, precision_matrix=factor @ np.swapaxes(factor, -1, -2))
    np.testing.assert_allclose(half_log_determinant(numpyro), half, rtol=1e-10)
    key = jax.random.key(0)
    np.testing.assert_allclose(law.sample(key, (7,)), numpyro.sample(key, (7,)), rtol=1e-10)


def test_it_passes_through_compiled_functions(law: PrecisionNormal) -> None:
    again = jax.jit(lambda own: own)(law)
    np.testing.assert_array_equal(again.log_prob(LOC), law.log_prob(LOC))
    np.testing.assert_array_equal(np.asarray(law.expand((2, 4)).log_prob(LOC))[1], law.log_prob(LOC))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_unit_triangles_scaled_by_rows_go_back_and_forth(size: int) -> None:
    entries_below, scale = RNG.normal(size=(2, size * (size - 1) // 2)), RNG.normal(size=(2, size))
    free = jnp.concatenate([entries_below, scale], axis=-1)
    factor = np.zeros((2, size, size))
    rows, of_rows = np.tril_indices(size, -1)
    factor[:, rows, of_rows] = entries_below
    factor = np.exp(scale)[..., None] * (factor + np.eye(size))
    transform = ScaledRowsTransform()
    np.testing.assert_allclose(transform(free), factor, rtol=1e-12)
    np.testing.assert_allclose(transform._inverse(jnp.asarray(factor)), free, rtol=1e-10)
    volume = np.linalg.slogdet(jax.jacobian(lambda z: transform(z)[np.tril_indices(size)])(free[0]))[1]
    np.testing.assert_allclose(transform.log_abs_det_jacobian(free, jnp.asarray(factor))[0], volume, rtol=1e-10)


def test_entries_at_known_places_are_those_of_numpy() -> None:
    matrix = RNG.normal(size=(2, 4, 4))
    rows, of_rows = np.triu_indices(4)
    np.testing.assert_array_equal(diagonal(jnp.asarray(matrix)), np.diagonal(matrix, axis1=1, axis2=2))
    np.testing.assert_array_equal(entries(jnp.asarray(matrix), rows, of_rows), matrix[:, rows, of_rows])
    places = np.array([[0, 3], [2, 2]])
    np.testing.assert_array_equal(columns(jnp.asarray(matrix), places), matrix[..., places])
