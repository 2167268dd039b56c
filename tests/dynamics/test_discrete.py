"""Binary recall against plain loops in NumPy, orbit by orbit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.claims.inputs import all_states
from probam.dynamics.discrete import asynchronous, synchronous, update
from probam.energies import dense, hopfield
from probam.errors import InputError

STATES = all_states(7)
MEMORIES = np.random.default_rng(1).choice([-1.0, 1.0], size=(4, 7))
HEBB = np.asarray(hopfield.couplings(MEMORIES))
NETWORK = hopfield.Network(HEBB)
DENSE = dense.Network(MEMORIES, dense.Polynomial(3))


def turned(field: float, state: float, ties: str) -> float:
    return np.sign(field) if field else (1.0 if ties == "up" else state)


def swept(state: np.ndarray, order: np.ndarray, ties: str) -> np.ndarray:
    state = state.copy()
    for i in order:
        state[i] = turned(HEBB[i] @ state, state[i], ties)
    return state


@pytest.mark.parametrize("ties", ["up", "keep"])
def test_a_given_order_visits_neuron_after_neuron(ties: Any) -> None:
    order = np.array([4, 1, 6, 0, 2, 5, 3])
    report = asynchronous(NETWORK, STATES.reshape(2, 64, 7), order=order, ties=ties, record=3)
    assert report.trajectory is not None
    assert report.energies is not None
    assert report.trajectory.shape == (4, 2, 64, 7)
    state, flips = STATES, np.zeros(128)
    for t in range(3):
        np.testing.assert_array_equal(np.reshape(report.trajectory[t], (128, 7)), state)
        np.testing.assert_allclose(np.ravel(report.energies[t]), -0.5 * np.sum(state * (state @ HEBB), 1))
        after = np.array([swept(row, order, ties) for row in state])
        flips += (after != state).sum(1)
        state = after
    for _ in range(20):
        state = np.array([swept(row, order, ties) for row in state])
    np.testing.assert_array_equal(np.reshape(report.states, (128, 7)), state)
    assert report.converged.all()
    quick = np.ravel(report.steps) <= 3
    np.testing.assert_array_equal(np.ravel(report.flips)[quick], flips[quick])


@pytest.mark.parametrize("network", [NETWORK, DENSE], ids=["hopfield", "dense"])
def test_random_orders_depend_on_key_and_place_alone_and_end_where_no_neuron_turns(network: Any) -> None:
    first = asynchronous(network, STATES, key=jax.random.key(5))
    again = asynchronous(network, STATES, key=jax.random.key(5))
    beside_others = asynchronous(network, np.concatenate([STATES[:30], -STATES[5:103]]), key=jax.random.key(5))
    np.testing.assert_array_equal(first.states, again.states)
    np.testing.assert_array_equal(first.states[:30], beside_others.states[:30])
    np.testing.assert_array_equal(update(network, first.states), first.states)
    assert first.converged.all()
    assert (first.period == 1).all()


def test_another_key_is_another_order() -> None:
    queries = np.repeat(STATES[[3]], 128, axis=0)
    ends = asynchronous(NETWORK, queries, key=jax.random.key(0)).states
    assert len(np.unique(np.asarray(ends), axis=0)) > 1  # one query, many orders, several ends
    others = asynchronous(NETWORK, queries, key=jax.random.key(1)).states
    assert (np.asarray(ends) != np.asarray(others)).any()


def orbit(state: np.ndarray, couplings: np.ndarray) -> tuple[int, set[bytes]]:
    """Period, and the states of the cycle, by remembering all states."""
    seen: dict[bytes, int] = {}
    path: list[np.ndarray] = []
    while state.tobytes() not in seen:
        seen[state.tobytes()] = len(path)
        path.append(state)
        state = np.where(couplings @ state >= 0, 1.0, -1.0)
    cycle = path[seen[state.tobytes()] :]
    return len(cycle), {row.tobytes() for row in cycle}


@pytest.mark.parametrize("kind", ["symmetric", "general"])
def test_cycles_of_all_lengths_are_found_as_by_remembering_every_state(kind: str) -> None:
    couplings = np.random.default_rng(6).normal(size=(7, 7))
    if kind == "symmetric":
        couplings = couplings + couplings.T
    report = synchronous(hopfield.Network(couplings), STATES)
    result = [orbit(state, couplings) for state in STATES]
    np.testing.assert_array_equal(report.period, [period for period, _ in result])
    assert all(np.asarray(end).tobytes() in cycle for end, (_, cycle) in zip(report.states, result, strict=True))
    lengths = set(np.asarray(report.period).tolist())
    assert max(lengths) > 1
    assert lengths <= {1, 2} or kind == "general"


def test_a_long_cycle_is_found_and_too_few_steps_leave_the_period_open() -> None:
    couplings = np.roll(np.eye(7), 1, axis=0)  # every neuron copies its neighbour: rotations
    couplings[0] *= -1  # with a twist: period 14
    assert orbit(STATES[0], couplings)[0] == 14
    network = hopfield.Network(couplings)
    assert synchronous(network, STATES[0]).period == 14
    short = synchronous(network, STATES[0], max_steps=9)
    assert short.period == 0
    assert not short.converged
    assert short.steps == 9
    np.testing.assert_array_equal(synchronous(network, STATES[0], max_steps=0).states, STATES[0])


def test_the_rules_of_dense_memories_step_as_their_sums_say() -> None:
    cubes = np.maximum(STATES @ MEMORIES.T, 0)
    derivative = (3 * cubes**2) @ MEMORIES
    moved = update(dense.Network(MEMORIES, dense.Polynomial(3), "derivative"), STATES, ties="keep")
    np.testing.assert_array_equal(moved, np.where(derivative == 0, STATES, np.sign(derivative)))


def test_recall_may_stand_inside_jit_and_vmap_over_banks_and_keys() -> None:
    banks = np.random.default_rng(2).choice([-1.0, 1.0], size=(3, 2, 7))
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    @jax.vmap
    def overlaps(key: jax.Array, memories: jax.Array) -> jax.Array:
        report = asynchronous(hopfield.Network(hopfield.couplings(memories)), memories, key=key, max_sweeps=30)
        return jnp.mean(report.states * memories, axis=-1)

    result = np.asarray(overlaps(keys, banks))
    for key, memories, row in zip(keys, banks, result, strict=True):
        report = asynchronous(hopfield.Network(hopfield.couplings(memories)), memories, key=key, max_sweeps=30)
        np.testing.assert_allclose(row, np.mean(report.states * memories, axis=-1))


def test_float32_networks_recall_in_float32() -> None:
    report = synchronous(hopfield.Network(HEBB.astype(np.float32)), STATES.astype(np.float32))
    assert report.states.dtype == report.energy.dtype == jnp.float32
    np.testing.assert_array_equal(report.states, synchronous(NETWORK, STATES).states)


def test_questions_that_make_no_sense_are_answered_in_words() -> None:
    with pytest.raises(InputError, match="queries: expected -1 and 1"):
        synchronous(NETWORK, np.zeros((2, 7)))
    with pytest.raises(InputError, match=r"expected shape \(\.\.\., 7\)"):
        synchronous(NETWORK, STATES[:, :5])
    with pytest.raises(InputError, match="key, order"):
        asynchronous(NETWORK, STATES)
    with pytest.raises(InputError, match=r"each of 0 \.\.\. 6 once"):
        asynchronous(NETWORK, STATES, order=np.zeros(7, int))
    with pytest.raises(InputError, match="'up'"):
        update(NETWORK, STATES, ties="down")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="whole numbers of at least 0"):
        synchronous(NETWORK, STATES, max_steps=-1)
