"""Dense memories against enumeration of flips, whole-number arithmetic and fifty digits."""

from fractions import Fraction
from math import comb, log

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from probam.claims.inputs import all_states
from probam.dynamics.discrete import asynchronous, update
from probam.energies import crosstalk, dense
from probam.errors import InputError

STATES = all_states(6)
MEMORIES = np.random.default_rng(2).choice([-1.0, 1.0], size=(9, 6))
SEPARATIONS = [
    dense.Polynomial(1),
    dense.Polynomial(2, rectified=False),
    dense.Polynomial(3),
    dense.Polynomial(3, rectified=False),
    dense.Exponential(0.7),
]

energy = jax.jit(dense.energy)
flip_difference = jax.jit(dense.flip_difference)
difference_field = jax.jit(dense.difference_field)
derivative_field = jax.jit(dense.derivative_field)


def power(x: float, separation: dense.Separation) -> float:
    if isinstance(separation, dense.Exponential):
        return float(np.exp(separation.beta * x))
    assert isinstance(separation, dense.Polynomial)
    return 0.0 if separation.rectified and x < 0 else float(x**separation.degree)


@pytest.mark.parametrize("separation", SEPARATIONS, ids=str)
def test_energies_flips_and_the_signs_of_the_difference_rule_are_those_of_all_neighbours(
    separation: dense.Separation,
) -> None:
    wanted = np.array([-sum(power(memory @ state, separation) for memory in MEMORIES) for state in STATES])
    np.testing.assert_allclose(energy(STATES, MEMORIES, separation), wanted, rtol=1e-13)
    numbers = {tuple(state): i for i, state in enumerate(STATES)}
    flips = np.array(
        [
            [wanted[numbers[tuple(np.where(np.arange(6) == i, -state, state))]] - wanted[n] for i in range(6)]
            for n, state in enumerate(STATES)
        ]
    )
    size = np.abs(wanted).max()
    np.testing.assert_allclose(flip_difference(STATES, MEMORIES, separation), flips, rtol=1e-12, atol=1e-13 * size)
    fields = np.asarray(difference_field(STATES, MEMORIES, separation))
    if isinstance(separation, dense.Polynomial):
        np.testing.assert_array_equal(np.sign(fields), np.sign(STATES * flips))  # ties are exact
    else:
        ratio = fields / (STATES * flips)
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-10)


@pytest.mark.parametrize("separation", SEPARATIONS, ids=str)
def test_the_derivative_rules_field_is_minus_the_gradient_over_a_positive_number(separation: dense.Separation) -> None:
    points = np.random.default_rng(3).normal(size=(4, 6))
    slope = jax.grad(lambda s: jnp.sum(dense.energy(s, MEMORIES, separation)))(points)
    np.testing.assert_allclose(dense.gradient(points, MEMORIES, separation), slope, rtol=1e-12, atol=1e-12)
    fields = np.asarray(derivative_field(points, MEMORIES, separation))
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (fields, slope)]
    assert all((length > 0).all() for length in lengths)
    np.testing.assert_allclose(fields / lengths[0], -slope / lengths[1], atol=1e-12)


@pytest.mark.parametrize("separation", SEPARATIONS[2:4], ids=str)
@pytest.mark.parametrize("rule", ["difference", "derivative"])
def test_neuron_by_neuron_and_all_at_once_see_the_same_field(separation: dense.Separation, rule: str) -> None:
    network = dense.Network(MEMORIES, separation, rule)  # type: ignore[arg-type]
    states = jnp.asarray(STATES[[5, 17, 40]])

    def one_by_one(state: jax.Array) -> jax.Array:
        kept = network.start(state)
        return jnp.stack([network.local(kept, state, jnp.asarray(i)) for i in range(6)])

    fields = np.asarray(jax.jit(jax.vmap(one_by_one))(states))
    np.testing.assert_array_equal(np.sign(fields), np.sign(network.fields(states)))
    after = network.flip(network.start(states[0]), jnp.asarray(2), -2 * states[0, 2])
    moved = np.where(np.arange(6) == 2, -states[0], states[0])
    np.testing.assert_array_equal(after, MEMORIES @ moved)


def test_real_memories_descend_neuron_by_neuron_under_the_difference_rule_for_any_power() -> None:
    memories = np.random.default_rng(11).normal(size=(5, 6))
    for separation in (dense.Polynomial(3, rectified=False), dense.Polynomial(3)):
        report = asynchronous(dense.Network(memories, separation), STATES, order=np.arange(6), record=4)
        assert report.energies is not None
        assert (np.diff(np.asarray(report.energies), axis=0) <= 1e-12).all()
        assert report.converged.all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steep_powers_and_exponentials_recall_among_2000_neurons_without_overflow(dtype: type) -> None:
    rng = np.random.default_rng(4)
    memories = rng.choice(np.array([-1, 1], dtype), size=(30, 2000))
    cues = memories[:4] * np.where(rng.random((4, 2000)) < 0.2, -1, 1).astype(dtype)
    for separation in (dense.Polynomial(30), dense.Exponential(3.0)):
        for rule in ("difference", "derivative"):
            moved = update(dense.Network(memories, separation, rule), cues)
            assert moved.dtype == dtype
            np.testing.assert_array_equal(moved, memories[:4])
    depth = dense.log_depth(cues, memories, dense.Exponential(3.0))
    assert depth.dtype == dtype
    assert np.isfinite(depth).all()


def test_log_depth_is_the_log_of_the_depth_at_fifty_digits_and_its_derivative_that_of_finite_differences() -> None:
    memories = np.random.default_rng(6).choice([-1.0, 1.0], size=(5, 400))
    state = np.random.default_rng(7).choice([-1.0, 1.0], size=400)
    overlaps = [int(x) for x in memories @ state]
    with mp.workdps(50):
        steep = mp.log(mp.fsum(mp.exp(3 * x) for x in overlaps))
        power_30 = mp.log(mp.fsum(mp.mpf(x) ** 30 for x in overlaps if x > 0))
    np.testing.assert_allclose(dense.log_depth(state, memories, dense.Exponential(3.0)), float(steep), rtol=1e-14)
    np.testing.assert_allclose(dense.log_depth(state, memories, dense.Polynomial(30)), float(power_30), rtol=1e-14)
    for separation in (dense.Polynomial(3), dense.Exponential(0.4)):
        slope = jax.grad(lambda s: dense.log_depth(s, MEMORIES, separation))(STATES[9])  # noqa: B023
        depth = -energy(STATES[9], MEMORIES, separation)
        np.testing.assert_allclose(slope, -dense.gradient(STATES[9], MEMORIES, separation) / depth, rtol=1e-12)
    assert dense.log_depth(STATES[9], -STATES[9:10], dense.Polynomial(2)) == -np.inf
    with pytest.raises(InputError, match="has no log"):
        dense.log_depth(state, memories, dense.Polynomial(3, rectified=False))


def test_what_is_not_a_sign_a_power_or_a_rule_is_said_in_words() -> None:
    with pytest.raises(InputError, match=r"memories: expected -1 and 1 only; got 0\.5"):
        dense.difference_field(STATES, 0.5 * MEMORIES, dense.Polynomial(2))
    with pytest.raises(InputError, match="2 b - 1"):
        dense.flip_difference(np.maximum(STATES, 0), MEMORIES, dense.Polynomial(2))
    with pytest.raises(InputError, match="degree"):
        dense.Polynomial(0)
    with pytest.raises(InputError, match="'difference' or 'derivative'"):
        dense.Network(MEMORIES, dense.Polynomial(2), "sign")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="beta"):
        dense.energy(STATES, MEMORIES, dense.Exponential(-1.0))


def exact_variance(num_neurons: int, degree: int, rectified: bool) -> Fraction:
    """Mean square of F(S) - F(S'), S and S' the overlaps of a random memory before and after one flip."""
    total = Fraction(0)
    for pluses in range(num_neurons):
        for own in (-1, 1):
            rest = 2 * pluses - (num_neurons - 1)
            before, after = (0 if rectified and x < 0 else x**degree for x in (rest + own, rest - own))
            total += Fraction(comb(num_neurons - 1, pluses) * (before - after) ** 2, 2**num_neurons)
    return total


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_the_variance_of_the_crosstalk_is_the_mean_square_of_one_foreign_part(degree: int, rectified: bool) -> None:
    for num_neurons in (2, 7, 40):
        wanted = 11 * exact_variance(num_neurons, degree, rectified)
        variance = crosstalk.flip_variance(num_neurons, 12, degree, rectified=rectified)
        assert variance == float(wanted)


def test_hebbs_error_probability_is_the_binomial_tail_in_whole_numbers() -> None:
    for num_neurons, num_memories in ((5, 4), (40, 9), (6, 40)):
        total = (num_memories - 1) * (num_neurons - 1)
        wrong = [h for h in range(total + 1) if 2 * h - total < -(num_neurons - 1)]
        tied = [h for h in range(total + 1) if 2 * h - total == -(num_neurons - 1)]
        chance = Fraction(2 * sum(comb(total, h) for h in wrong) + sum(comb(total, h) for h in tied), 2 ** (total + 1))
        np.testing.assert_allclose(
            crosstalk.hebb_error_probability(num_neurons, num_memories), float(chance), rtol=1e-13
        )
    assert crosstalk.hebb_error_probability(7, 1) == 0


def test_capacities_refuse_impossible_errors_and_fall_with_the_asked_care() -> None:
    assert crosstalk.capacity(100, 3, 0.001, rectified=False) < crosstalk.capacity(100, 3, 0.01, rectified=False)
    both = [crosstalk.error_free_capacity(500, 2, rectified=False, all_memories=every) for every in (False, True)]
    np.testing.assert_allclose(both, [500 / (2 * log(500)), 500 / (4 * log(500))], rtol=1e-14)
    with pytest.raises(InputError, match=r"between 0 and 0\.5"):
        crosstalk.capacity(100, 2, 0.7, rectified=False)
    with pytest.raises(InputError, match="num_neurons"):
        crosstalk.flip_mean(1, 2)
