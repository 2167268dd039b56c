"""The classical network against enumeration of states, brute sums and linear algebra of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.claims.inputs import all_states
from probam.energies import hopfield
from probam.errors import InputError

STATES = all_states(6)


@pytest.fixture
def network() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    couplings = rng.normal(size=(6, 6))
    return couplings + couplings.T, rng.normal(size=6)


def brute_energy(state: np.ndarray, couplings: np.ndarray, bias: np.ndarray) -> float:
    pairs = sum(couplings[i, j] * state[i] * state[j] for i in range(6) for j in range(6))
    return -0.5 * pairs - sum(bias[i] * state[i] for i in range(6))


def test_energy_and_flips_are_those_of_the_sums_over_pairs(network: tuple[np.ndarray, np.ndarray]) -> None:
    couplings, bias = network
    wanted = np.array([brute_energy(state, couplings, bias) for state in STATES])
    np.testing.assert_allclose(hopfield.energy(STATES, couplings, bias), wanted, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(
        hopfield.slide_energy(STATES, couplings), 2 * (wanted + STATES @ bias), rtol=1e-13, atol=1e-12
    )
    numbers = {tuple(state): i for i, state in enumerate(STATES)}
    flips = np.array(
        [
            [wanted[numbers[tuple(np.where(np.arange(6) == i, -state, state))]] - wanted[n] for i in range(6)]
            for n, state in enumerate(STATES)
        ]
    )
    np.testing.assert_allclose(hopfield.flip_difference(STATES, couplings, bias), flips, rtol=1e-12, atol=1e-12)


def test_the_field_is_minus_the_gradient_of_the_energy(network: tuple[np.ndarray, np.ndarray]) -> None:
    couplings, bias = network
    points = np.random.default_rng(4).normal(size=(3, 6))
    slope = jax.jit(jax.grad(lambda s: jnp.sum(hopfield.energy(s, couplings, bias))))(points)
    np.testing.assert_allclose(hopfield.field(points, couplings, bias), -slope, rtol=1e-12)
    np.testing.assert_allclose(hopfield.gradient(points, couplings, bias), slope, rtol=1e-12)


def test_hebbs_rule_sums_outer_products_and_drops_the_diagonal_of_k() -> None:
    memories = np.random.default_rng(5).choice([-1.0, 1.0], size=(4, 7))
    wanted = sum(np.outer(memory, memory) for memory in memories)
    np.testing.assert_array_equal(hopfield.couplings(memories, diagonal=True), wanted)
    np.testing.assert_array_equal(hopfield.couplings(memories), wanted - 4 * np.eye(7))


@pytest.mark.parametrize("num_memories", [3, 7])
def test_pseudo_inverse_is_the_projection_on_the_span_and_at_k_equal_n_the_identity(num_memories: int) -> None:
    memories = np.random.default_rng(7).choice([-1.0, 1.0], size=(num_memories, 7))
    assert np.linalg.matrix_rank(memories) == num_memories
    projection = np.asarray(hopfield.pseudo_inverse_couplings(memories))
    basis = np.linalg.qr(memories.T)[0]
    np.testing.assert_allclose(projection, basis @ basis.T, atol=1e-13)
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-13)
    if num_memories == 7:
        np.testing.assert_allclose(projection, np.eye(7), atol=1e-13)
    twice = np.concatenate([memories, memories[:2]])
    np.testing.assert_allclose(hopfield.pseudo_inverse_couplings(twice), projection, atol=1e-13)


def test_pseudo_inverse_has_the_derivative_of_finite_differences() -> None:
    memories = np.random.default_rng(8).normal(size=(3, 5))
    weight = np.random.default_rng(9).normal(size=(5, 5))
    total = jax.jit(lambda m: jnp.sum(weight * hopfield.pseudo_inverse_couplings(m)))
    slope = jax.jit(jax.grad(total))(memories)
    step = np.zeros_like(memories)
    step[1, 2] = 1e-6
    np.testing.assert_allclose(slope[1, 2], (total(memories + step) - total(memories - step)) / 2e-6, rtol=1e-6)


def test_float32_stays_float32_and_whole_numbers_become_floats() -> None:
    memories = np.random.default_rng(5).choice([-1, 1], size=(4, 7))
    small = hopfield.couplings(memories.astype(np.float32))
    assert small.dtype == jnp.float32
    assert hopfield.energy(memories.astype(np.float32), small).dtype == jnp.float32
    assert hopfield.couplings(memories).dtype == jnp.float64


def test_couplings_that_are_not_symmetric_have_no_energy(network: tuple[np.ndarray, np.ndarray]) -> None:
    couplings, bias = network
    with pytest.raises(InputError, match="symmetric"):
        hopfield.energy(STATES, np.triu(couplings))
    with pytest.raises(InputError, match="symmetric"):
        hopfield.energy(STATES, couplings * np.where(np.eye(6), np.nan, 1))
    with pytest.raises(InputError, match="square"):
        hopfield.energy(STATES, couplings[:4])
    with pytest.raises(InputError, match="bias: expected one for each of the 6"):
        hopfield.energy(STATES, couplings, bias[:5])
    with pytest.raises(InputError, match="K, D"):
        hopfield.couplings(STATES[0])
