"""Spherical memories against sums of fifty digits and the ascent theorem on the sphere."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from probam.energies import clam, spherical
from probam.errors import InputError

Bank = tuple[np.ndarray, ...]

energy = jax.jit(spherical.energy)
responsibilities = jax.jit(spherical.responsibilities)
update = jax.jit(spherical.update)
retract = jax.jit(spherical.retract)


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def bank() -> Bank:
    rng = np.random.default_rng(1)
    directions, queries = unit(rng.normal(size=(5, 3))), unit(rng.normal(size=(2, 4, 3)))
    return directions, np.array([3.0, 0.5, 8.0, 0.0, 2.0]), np.array([0.5, 2.0, 1.0, 0.1, 3.0]), queries


def oracle(query: Any, directions: Any, kappa: Any, weights: Any) -> tuple[Any, ...]:
    with mp.workdps(50):
        products = [mp.fsum(mp.mpf(a) * mp.mpf(b) for a, b in zip(m, query, strict=True)) for m in directions]
        terms = [mp.mpf(w) * mp.exp(mp.mpf(k) * p) for w, k, p in zip(weights, kappa, products, strict=True)]
        total = mp.fsum(terms)
        force = [
            mp.fsum(t * mp.mpf(k) * mp.mpf(m[d]) for t, k, m in zip(terms, kappa, directions, strict=True))
            for d in range(len(query))
        ]
        length = mp.sqrt(mp.fsum(f**2 for f in force))
        return (
            float(-mp.log(total)),
            np.array([t / total for t in terms], float),
            np.array([f / length for f in force], float),
        )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_energy_responsibilities_and_update_are_the_sums_of_the_definition(bank: Bank, scale: float) -> None:
    directions, kappa, weights, queries = bank
    rows = queries.reshape(-1, 3)
    wanted = [
        np.array(part) for part in zip(*(oracle(v, directions, scale * kappa, weights) for v in rows), strict=True)
    ]
    rounding = 1e-15 * (10 + 10 * scale)
    np.testing.assert_allclose(energy(rows, directions, scale * kappa, weights), wanted[0], rtol=1e-14, atol=rounding)
    np.testing.assert_allclose(responsibilities(rows, directions, scale * kappa, weights), wanted[1], atol=rounding)
    np.testing.assert_allclose(update(rows, directions, scale * kappa, weights), wanted[2], atol=10 * rounding)
    assert energy(queries, directions, kappa, weights).shape == (2, 4)
    assert update(queries[0, 0], directions, kappa, weights).shape == (3,)


def test_equal_concentrations_are_the_clam_energy_on_the_sphere_at_half_the_beta(bank: Bank) -> None:
    directions, _, weights, queries = bank
    beta = 1.3
    np.testing.assert_allclose(
        beta * clam.energy(queries, directions, beta, weights),
        energy(queries, directions, np.full(5, 2 * beta), weights) + 2 * beta,
        rtol=1e-13,
    )


def test_the_update_is_the_direction_of_the_downhill_gradient(bank: Bank) -> None:
    directions, kappa, weights, queries = bank
    slope = jax.jit(jax.grad(lambda v: spherical.energy(v, directions, kappa, weights).sum()))(queries)
    np.testing.assert_allclose(update(queries, directions, kappa, weights), unit(-np.asarray(slope)), rtol=1e-12)


@pytest.mark.parametrize("a", [0.2, 1.0, 1.9])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_steps_of_any_size_in_zero_two_go_downhill_on_the_sphere(a: float, scale: float) -> None:
    rng = np.random.default_rng(2)
    directions, queries = unit(rng.normal(size=(5, 3))), unit(rng.normal(size=(200, 3)))
    kappa, weights = scale * rng.gamma(2.0, size=5), rng.dirichlet(np.ones(5))
    target = np.asarray(update(queries, directions, kappa, weights))
    moved = retract((1 - a) * queries + a * target)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=-1), 1, rtol=1e-14)
    drop = energy(moved, directions, kappa, weights) - energy(queries, directions, kappa, weights)
    assert (drop <= 1e-13 * (1 + scale)).all()
    assert np.median(drop) < 0


def test_where_the_pulls_cancel_the_query_stays(bank: Bank) -> None:
    antipodes = np.array([[0.6, 0.8, 0.0], [-0.6, -0.8, 0.0]])
    query = np.array([0.0, 0.0, 1.0])
    np.testing.assert_array_equal(update(query, antipodes, np.array([3.0, 3.0])), query)
    np.testing.assert_array_equal(update(bank[3], bank[0], np.zeros(5)), bank[3])
    slope = jax.jit(jax.grad(lambda v: spherical.update(v, antipodes, np.array([3.0, 3.0])).sum()))(query)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(retract(np.zeros((2, 3))), np.zeros((2, 3)))


def test_a_zero_weight_is_absent_with_finite_derivatives(bank: Bank) -> None:
    directions, kappa, weights, queries = bank
    weights = np.where(np.arange(5) == 2, 0.0, weights)
    kept = np.arange(5) != 2
    np.testing.assert_allclose(
        energy(queries, directions, kappa, weights),
        energy(queries, directions[kept], kappa[kept], weights[kept]),
        rtol=1e-13,
    )
    slopes = jax.jit(
        jax.grad(lambda *args: spherical.energy(*args).sum() + spherical.update(*args).sum(), argnums=(0, 1, 2, 3))
    )(queries, directions, kappa, weights)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_float32_stays_float32(bank: Bank) -> None:
    single = [np.float32(part) for part in (bank[3], bank[0], bank[1], bank[2])]
    for function in (energy, responsibilities, update):
        got = function(*single)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, function(bank[3], bank[0], bank[1], bank[2]), rtol=1e-4, atol=1e-5)


def test_directions_off_the_sphere_and_negative_concentrations_are_named(bank: Bank) -> None:
    with pytest.raises(InputError, match="directions: expected rows of length 1; row 1 has length 2"):
        spherical.energy(np.array([1.0, 0.0]), np.array([[1.0, 0.0], [0.0, 2.0]]), np.ones(2))
    with pytest.raises(InputError, match="concentrations: expected finite values at least 0; got -1"):
        spherical.update(bank[3], bank[0], np.full(5, -1.0))
