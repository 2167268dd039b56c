"""The numbers that go with the claims about binary memories (B1 to B9, C2, C3, C4, C8, C15)."""

from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.claims.inputs import all_states
from probam.dynamics.discrete import synchronous, update
from probam.energies import crosstalk, dense, hopfield
from probam.energies.sparse_distributed import ball_overlap


def test_b3_without_the_diagonal_some_runs_cycle_and_some_first_steps_go_uphill_with_it_none_do() -> None:
    rng = np.random.default_rng(0)
    banks = rng.choice([-1.0, 1.0], size=(400, 5, 8))
    states = rng.choice([-1.0, 1.0], size=(400, 8))
    result = {}
    for kept in (False, True):

        @jax.jit
        @jax.vmap
        def run(memories: jax.Array, state: jax.Array, kept: bool = kept) -> tuple[jax.Array, jax.Array]:
            network = hopfield.Network(hopfield.couplings(memories, diagonal=kept))
            report = synchronous(network, state, record=1)
            assert report.energies is not None
            return report.period == 2, report.energies[1] > report.energies[0]

        result[kept] = tuple(int(np.sum(part)) for part in run(banks, states))
    assert result[True] == (0, 0)
    cycles, uphill = result[False]
    assert 80 < cycles < 240
    assert 10 < uphill < 90


def test_b6_ratios_of_the_exact_to_the_leading_variance_at_100_neurons() -> None:
    ratios = [
        crosstalk.flip_variance(100, 2, n, rectified=False)
        / crosstalk.flip_variance_leading(100, 2, n, rectified=False)
        for n in (2, 3, 4)
    ]
    np.testing.assert_allclose(ratios, [0.99, 0.976, 0.955], atol=5e-4)


def test_b6_a_rectified_square_of_101_neurons_has_a_little_more_than_half_the_variance() -> None:
    plain, rectified = (crosstalk.flip_variance(101, 2, 2, rectified=kind) for kind in (False, True))
    assert rectified / plain == pytest.approx(0.50005, abs=5e-6)


def test_b6_capacities_at_half_a_percent() -> None:
    result = [crosstalk.capacity_coefficient(n, 0.005, rectified=False) for n in (2, 3, 4)]
    np.testing.assert_allclose(result, [0.15072, 0.05024, 0.01005], atol=5e-6)
    assert crosstalk.capacity_coefficient(2, 0.0036, rectified=False) == pytest.approx(0.138, abs=5e-4)
    assert crosstalk.capacity_coefficient(3, 0.005, rectified=True) == pytest.approx(2 * result[1], rel=1e-12)


@pytest.mark.parametrize(("degree", "constants"), [(1, (-3, 0)), (2, (-6, 3)), (3, (-15, 12))])
def test_b8_rectified_energies_of_xor(degree: int, constants: tuple[int, int]) -> None:
    states = all_states(3)
    memories = states[np.prod(states, axis=1) == -1]
    assert len(memories) == 4
    wanted = constants[0] + constants[1] * np.prod(states, axis=1)
    np.testing.assert_array_equal(dense.energy(states, memories, dense.Polynomial(degree)), wanted)


def test_b9_the_two_rules_are_not_one() -> None:
    rng = np.random.default_rng(0)
    banks, states = rng.choice([-1.0, 1.0], size=(3000, 12, 10)), rng.choice([-1.0, 1.0], size=(3000, 10))
    for degree, share in ((2, 0.377), (3, 0.112), (4, 0.358)):
        separation = dense.Polynomial(degree, rectified=False)

        @jax.jit
        @jax.vmap
        def differ(memories: jax.Array, state: jax.Array, separation: dense.Separation = separation) -> jax.Array:
            first, second = (
                update(dense.Network(memories, separation, rule), state) for rule in ("difference", "derivative")
            )
            return jnp.mean(first != second, dtype=state.dtype)

        result = np.asarray(differ(banks, states))
        assert abs(result.mean() - share) < 5 * result.std() / np.sqrt(3000) + 0.0005


def test_c8_eigenvalues_of_the_energy_of_three_bipolar_patterns() -> None:
    memories = np.array([[1.0, 1, 1, 1, 1], [1, 1, 1, -1, -1], [1, -1, 1, 1, -1]])
    hessian = jax.hessian(
        lambda v: 0.5 * v @ v + hopfield.energy(v, hopfield.couplings(memories, diagonal=True)),
    )(jnp.zeros(5))
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), [-6, -3, -3, 1, 1], atol=1e-12)


def test_c15_slopes_of_the_overlap_of_two_balls() -> None:
    slopes = {d: log(ball_overlap(64, 20, d + 2) / ball_overlap(64, 20, d)) for d in range(4, 40, 2)}
    assert all(-0.435 < slopes[d] < -0.3 for d in range(4, 22, 2))
    np.testing.assert_allclose([slopes[4], slopes[20], slopes[30], slopes[38]], [-0.31, -0.43, -0.77, -2.0], atol=5e-3)
