"""Assignments climb the evidence lower bound to log p(x), against NumPyro, SciPy, loops and enumeration."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, rel_entr, softmax
from scipy.stats import multivariate_normal

from probam.dynamics.memories import recall
from probam.energies import creation
from probam.energies.assignments import Assignments, climb, energy, update
from probam.energies.clam import Clam
from probam.energies.creation import Creation
from probam.energies.streamed_assignments import StreamedAssignments, absorb, started
from probam.equivalence.twin import Density, twin
from probam.errors import InputError

RNG = np.random.default_rng(12)
MEMORIES = 1.5 * RNG.normal(size=(4, 3))
WEIGHTS = np.array([0.7, 1.5, 0.2, 2.6])
X = RNG.normal(size=3)
BETA = 0.6
Q = RNG.dirichlet(np.ones(4), size=30)
LOGITS = np.log(WEIGHTS) - BETA * ((MEMORIES - X) ** 2).sum(axis=1)
MEMORY = Assignments(MEMORIES, X, BETA, WEIGHTS, rate=0.3)


def _log_p(x: np.ndarray) -> float:
    joint = [multivariate_normal(mean, np.eye(3) / (2 * BETA)).logpdf(x) for mean in MEMORIES]
    return float(logsumexp(np.log(WEIGHTS / WEIGHTS.sum()) + joint))


def test_the_greatest_bound_is_log_p_at_the_responsibilities_and_others_miss_it_by_a_divergence() -> None:
    constant = np.log(WEIGHTS.sum()) + 1.5 * np.log(np.pi / BETA)
    r = softmax(LOGITS)
    bound = -BETA * np.asarray(MEMORY.energy(np.vstack([Q, r]))) - constant
    assert bound[-1] == pytest.approx(_log_p(X), abs=1e-12)
    np.testing.assert_allclose(_log_p(X) - bound[:-1], rel_entr(Q, r).sum(axis=1), rtol=1e-10)
    density = twin(Clam(MEMORIES, BETA, WEIGHTS))
    assert isinstance(density, Density)
    assert bound[-1] == pytest.approx(float(np.asarray(density.distribution.log_prob(jnp.asarray(X)))), abs=1e-12)


def test_recall_ends_at_the_responsibilities_from_every_start() -> None:
    recalled = recall(MEMORY, Q)
    assert np.all(recalled.converged)
    np.testing.assert_allclose(recalled.states, np.tile(softmax(LOGITS), (len(Q), 1)), atol=1e-12)


def test_a_step_takes_the_rate_off_the_error_of_every_log_odds() -> None:
    moved = np.asarray(MEMORY.update(Q))
    before, after = (np.log(q[:, 1:] / q[:, :1]) - (LOGITS[1:] - LOGITS[0]) for q in (Q, moved))
    np.testing.assert_allclose(after, 0.7 * before, rtol=1e-10)
    np.testing.assert_allclose(moved.sum(axis=1), 1)


def test_a_share_of_zero_stays_zero_and_a_weight_of_zero_takes_it() -> None:
    face = np.array([0.5, 0.0, 0.25, 0.25])
    assert float(MEMORY.update(face)[1]) == 0.0
    assert np.isfinite(MEMORY.energy(face))
    absent = Assignments(MEMORIES, X, BETA, np.array([1.0, 0.0, 1.0, 1.0]))
    assert float(absent.update(Q[0])[1]) == 0.0
    assert float(absent.energy(Q[0])) == np.inf
    assert np.isfinite(absent.energy(face))
    assert float(update(face, X, MEMORIES, BETA)[1]) == 0.0  # at the rate 1


def test_the_gradient_of_the_bound_in_the_memories_is_that_of_finite_differences_and_em_is_a_full_step() -> None:
    x, q = RNG.normal(size=(7, 3)), RNG.dirichlet(np.ones(4), size=7)
    _, moved = climb(q, MEMORIES, x, BETA, rate=1e-12, step=0.4)

    def total(places: np.ndarray) -> float:
        return -BETA * float(jnp.sum(energy(q, x, places, BETA)))

    for k, i in product(range(4), range(3)):
        nudge = np.zeros((4, 3))
        nudge[k, i] = 1e-5
        slope = (total(MEMORIES + nudge) - total(MEMORIES - nudge)) / 2e-5
        assert moved[k, i] - MEMORIES[k, i] == pytest.approx(0.4 * slope / (2 * BETA * q[:, k].sum()), rel=1e-5)
    shares, full = climb(q, MEMORIES, x, BETA, WEIGHTS)
    r = softmax(np.log(WEIGHTS) - BETA * ((x[:, None] - MEMORIES) ** 2).sum(-1), axis=1)
    np.testing.assert_allclose(shares, r, rtol=1e-10)
    np.testing.assert_allclose(full, (r.T @ x) / r.sum(axis=0)[:, None], rtol=1e-10)


@pytest.mark.parametrize(("rate", "step"), [(0.1, 1.9), (0.7, 0.3), (1.0, 1.0)])
def test_no_step_of_shares_and_memories_lowers_the_sum_of_the_bounds(rate: float, step: float) -> None:
    x = RNG.normal(size=(40, 3)) + 3 * RNG.integers(0, 2, (40, 1))
    q, places = jnp.asarray(RNG.dirichlet(np.ones(4), size=40)), jnp.asarray(MEMORIES)
    heights = []
    for _ in range(25):
        heights.append(float(jnp.sum(energy(q, x, places, BETA))))
        q, places = climb(q, places, x, BETA, rate=rate, step=step)
    assert np.all(np.diff(heights) <= 1e-10)
    assert heights[-1] < heights[0] - 1


COUNTS, ALPHA, DISCOUNT, RHO = np.array([5.0, 3.0, 1.0, 9.0]), 0.8, 0.3, 0.2
STREAM = StreamedAssignments(MEMORIES, COUNTS, X, BETA, RHO, ALPHA, DISCOUNT)


def test_with_whole_counts_the_least_energy_is_that_of_the_memory_that_can_create() -> None:
    known = (X, MEMORIES, COUNTS, BETA, RHO, ALPHA, DISCOUNT)
    ended = recall(STREAM, RNG.dirichlet(np.ones(5), size=6))
    np.testing.assert_allclose(ended.states, np.tile(creation.exact_probabilities(*known), (6, 1)), atol=1e-10)
    assert ended.energy is not None
    np.testing.assert_allclose(ended.energy, creation.exact(*known), rtol=1e-10)
    density = twin(Creation(MEMORIES, COUNTS, BETA, RHO, ALPHA, DISCOUNT))
    assert isinstance(density, Density)
    log_p = -BETA * ended.energy - np.log(COUNTS.sum() + ALPHA) - 1.5 * np.log(np.pi / BETA)
    np.testing.assert_allclose(log_p, float(np.asarray(density.distribution.log_prob(jnp.asarray(X)))), rtol=1e-10)


def test_expected_counts_give_the_prior_averaged_over_assignments() -> None:
    """The Chinese restaurant's prior is linear in the counts: enumerate the tables of three data."""
    q = RNG.dirichlet(np.ones(2), size=3)
    expected = np.zeros(2)
    for tables in product((0, 1), repeat=3):
        chance = np.prod([q[n, k] for n, k in enumerate(tables)])
        expected += chance * np.bincount(tables, minlength=2) / (3 + ALPHA)
    flat = StreamedAssignments(np.zeros((2, 3)), q.sum(axis=0), np.zeros(3), BETA, 1e9, ALPHA, rate=1.0)
    np.testing.assert_allclose(flat.update(np.full(3, 1 / 3)), [*expected, ALPHA / (3 + ALPHA)], rtol=1e-8)


def test_memories_of_a_stream_of_groups_far_apart_are_the_posterior_means_of_their_data() -> None:
    labels = np.array([0, 0, 1, 0, 2, 1, 2, 0, 1])
    centres = 30 * np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    x = centres[labels] + RNG.normal(size=(9, 3))
    written = started(5, x[0], beta=BETA, rho=1e-3, alpha=1.0).write(x)
    np.testing.assert_allclose(written.counts, [4, 3, 2, 0, 0], atol=1e-5)
    for k in range(3):
        members = x[labels == k]
        mean = BETA * members.sum(axis=0) / (BETA * len(members) + 1e-3)
        np.testing.assert_allclose(np.asarray(written.memories)[k], mean, rtol=1e-5)


def test_without_a_free_place_the_memories_share_what_is_new() -> None:
    full = StreamedAssignments(MEMORIES, COUNTS, X, BETA, RHO, ALPHA)
    after, q = jax.jit(absorb)(full, 50 * jnp.ones(3))
    assert float(q[-1]) > 0.99
    np.testing.assert_allclose(float(jnp.sum(jnp.asarray(after.counts))), COUNTS.sum() + 1, rtol=1e-12)


def test_a_rate_outside_its_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"^rate: expected a number above 0 and at most 1; got 1.5$"):
        update(Q, X, MEMORIES, BETA, rate=1.5)
