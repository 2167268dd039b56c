"""The capacity of a kernel density estimate: the theorem's own examples, Monte Carlo, and recall by loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.experiments.kernel_density_capacity import bound, capacity, crosstalk_capacity, stored_shares


def test_the_bound_has_the_constants_that_the_theorems_authors_give() -> None:
    """Ramsauer et al., after Theorem 3: c is 3.1546 at K = 3, D = 20, and 1.3718 at K = 1, D = 75; beta 1, p .001."""
    for dim, radius, c in ((20, 3, 3.1546), (75, 1, 1.3718)):
        beta = radius**2 * (dim - 1) / dim  # ours has the radius sqrt(D): beta times the squared radius is the same
        assert bound(dim, beta, 0.001) == pytest.approx(0.001**0.5 * c ** ((dim - 1) / 4), rel=2e-3)
    assert np.isnan(bound(8, 1.0))


def test_crosstalk_equals_the_signal_at_the_number_that_monte_carlo_gives() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200_000, 4))
    cosine = x[:, 0] / np.linalg.norm(x, axis=1)
    kernels = np.exp(0.7 * 4 * (cosine - 1))
    error = kernels.std() / len(kernels) ** 0.5 / kernels.mean()
    assert crosstalk_capacity(4, 0.7) == pytest.approx(1 / kernels.mean(), rel=5 * error)


def test_a_capacity_is_where_lines_in_the_logarithm_cross_one_half() -> None:
    sizes = np.array([2.0, 8.0, 32.0, 128.0])
    assert capacity(sizes, np.array([1.0, 1.0, 0.75, 0.25])) == pytest.approx(64.0)
    assert np.isnan(capacity(sizes, np.ones(4)))


def test_patterns_far_apart_are_stored_and_those_in_one_well_are_not() -> None:
    with jax.enable_x64(True):
        sizes = jnp.array([2.0, 6.0])
        sharp, flat = (
            stored_shares(jax.random.key(3), jnp.asarray(beta), sizes, dim=6, most=6) for beta in (30.0, 0.01)
        )
    np.testing.assert_array_equal(sharp, 1.0)
    np.testing.assert_array_equal(flat, 0.0)
