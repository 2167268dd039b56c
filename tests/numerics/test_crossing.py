"""Where an increasing function reaches a level: against quantile functions of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from probam.numerics.bisection import crossing

LEVELS = np.array([1e-6, 0.05, 0.5, 0.95, 1 - 1e-6])


def test_quantiles_are_found_from_any_bracket() -> None:
    for low, high in ((-1.0, 1.0), (5.0, 6.0), (-1e9, -1e8)):
        found = crossing(
            jax.scipy.stats.norm.cdf, jnp.asarray(LEVELS), jnp.full(5, low, float), jnp.full(5, high, float)
        )
        np.testing.assert_allclose(found, stats.norm.ppf(LEVELS), rtol=1e-9, atol=1e-13 + 1e-14 * abs(low))


def test_far_modes_and_flat_stretches() -> None:
    def distribution(x: jax.Array) -> jax.Array:
        return 0.3 * jax.scipy.stats.norm.cdf((x + 50) / 0.01) + 0.7 * jax.scipy.stats.norm.cdf((x - 40) / 3)

    levels = np.array([0.01, 0.29, 0.31, 0.9])
    found = np.asarray(crossing(distribution, jnp.asarray(levels), jnp.full(4, -60.0), jnp.full(4, 55.0)))
    np.testing.assert_allclose(found[:2], -50 + 0.01 * stats.norm.ppf(levels[:2] / 0.3), rtol=1e-13)
    np.testing.assert_allclose(found[2:], 40 + 3 * stats.norm.ppf((levels[2:] - 0.3) / 0.7), rtol=1e-11)


def test_the_least_point_of_a_step_function() -> None:
    table = jnp.asarray(stats.poisson(7).cdf(np.arange(100)))

    def distribution(x: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0, table[jnp.clip(jnp.floor(x), 0, 99).astype(int)])

    found = crossing(distribution, jnp.asarray(LEVELS), jnp.full(5, -1.0), jnp.full(5, 3.0), resolution=0.25)
    np.testing.assert_array_equal(jnp.round(found), stats.poisson(7).ppf(LEVELS))
    assert np.all(np.asarray(distribution(found)) >= LEVELS)


def test_a_level_that_is_never_reached_is_at_infinity() -> None:
    found = crossing(jnp.tanh, jnp.array([2.0, -2.0, 0.5]), -jnp.ones(3), jnp.ones(3))
    np.testing.assert_allclose(found, [np.inf, -np.inf, np.arctanh(0.5)], rtol=1e-12)
