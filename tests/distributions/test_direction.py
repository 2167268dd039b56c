import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.stats
from numpyro.infer.util import log_density

from probam.distributions.direction import FreeDirection
from probam.errors import InputError

FAR = 4.5  # standard errors


@pytest.mark.parametrize("dim", [1, 2, 3, 17, 384])
def test_density_integrates_to_one_over_all_lengths(dim: int) -> None:
    log_area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    axis = np.eye(dim)[0]
    lengths, weights = np.polynomial.legendre.leggauss(400)
    lengths, weights = (
        2.5 * (lengths + 1),
        2.5 * weights,
    )  # lengths up to 5, where the density is below 1e-10 of its top
    log_p = FreeDirection(dim).log_prob(lengths[:, None] * axis)
    total = np.sum(weights * np.exp(log_p + log_area + (dim - 1) * np.log(lengths)))
    np.testing.assert_allclose(total, 1.0, rtol=2e-8)


def test_density_in_the_plane_is_the_stated_one() -> None:
    z = np.array([[0.3, -0.4], [1.0, 2.0]])
    squares = np.sum(z**2, axis=-1)  # D = 2: a = 1, f = |z|^2 exp(-|z|^2) / pi
    np.testing.assert_allclose(FreeDirection(2).log_prob(z), np.log(squares) - squares - math.log(math.pi), rtol=1e-14)


@pytest.mark.parametrize("dim", [2, 5])
def test_squared_length_is_gamma_and_direction_uniform_and_independent(dim: int) -> None:
    law = FreeDirection(dim)
    draws = np.asarray(law.sample(jax.random.key(dim), (20_000,)))
    squares = np.sum(draws**2, axis=-1)
    assert scipy.stats.kstest(squares, scipy.stats.gamma(law.rate + dim / 2, scale=1 / law.rate).cdf).pvalue > 1e-4
    cosine = draws[:, 0] / np.sqrt(squares)
    # (1 + cos) / 2 of a uniform direction is Beta((D-1)/2, (D-1)/2)
    half = (dim - 1) / 2
    assert scipy.stats.kstest((1 + cosine) / 2, scipy.stats.beta(half, half).cdf).pvalue > 1e-4
    assert abs(scipy.stats.spearmanr(squares, cosine).statistic) < FAR / math.sqrt(len(draws))
    errors = (draws.var(axis=0) / np.asarray(law.variance) - 1) / math.sqrt(2 / len(draws))
    assert np.abs(errors).max() < FAR


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ridge_of_the_density_is_the_unit_sphere(dtype: Any) -> None:
    dim = 4096
    z = np.random.default_rng(0).normal(size=(3, dim))
    z = (z / np.linalg.norm(z, axis=-1, keepdims=True)).astype(dtype)

    def along_the_ray(scale: jax.Array, ray: jax.Array) -> jax.Array:
        value: jax.Array = FreeDirection(dim).log_prob(scale * ray)
        return value

    slope = jax.vmap(jax.grad(along_the_ray), (None, 0))(jnp.asarray(1.0, dtype), jnp.asarray(z))
    assert slope.dtype == dtype
    np.testing.assert_allclose(slope, 0.0, atol=20 * dim * np.finfo(dtype).eps)
    on, inside, outside = (FreeDirection(dim).log_prob(jnp.asarray(z * np.asarray(s, dtype))) for s in (1.0, 0.9, 1.1))
    assert np.all((on > inside) & (on > outside))
    bend = jax.grad(jax.grad(along_the_ray))(jnp.asarray(1.0, dtype), jnp.asarray(z[0]))
    np.testing.assert_allclose(bend, -2 * dim, rtol=1e-5)  # 4a, a = D / 2


def test_density_vanishes_at_the_origin_without_nan() -> None:
    value, slope = jax.value_and_grad(FreeDirection(3).log_prob)(jnp.zeros(3))
    assert value == -jnp.inf
    np.testing.assert_array_equal(slope, np.zeros(3))


def test_direction_is_a_numpyro_site_expanded_to_a_bank() -> None:
    def program() -> None:
        numpyro.sample("z", FreeDirection(4).expand([3]).to_event(1))

    z = np.random.default_rng(1).normal(size=(3, 4))
    total, _ = log_density(program, (), {}, {"z": z})
    np.testing.assert_allclose(total, np.sum(FreeDirection(4).log_prob(z)), rtol=1e-14)
    bank = jax.jit(lambda law, key: law.sample(key))(FreeDirection(4).expand([3]), jax.random.key(0))
    assert bank.shape == (3, 4)


def test_dimension_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="dim: expected a whole number of at least 1; got 0"):
        FreeDirection(0)
