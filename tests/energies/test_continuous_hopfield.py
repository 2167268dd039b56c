"""The continuous Hopfield network against sums of fifty digits, its twin and its theorems."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from probam.energies import clam, continuous_hopfield
from probam.errors import InputError

Bank = tuple[np.ndarray, ...]

energy = jax.jit(continuous_hopfield.energy)
responsibilities = jax.jit(continuous_hopfield.responsibilities)
update = jax.jit(continuous_hopfield.update)


@pytest.fixture
def bank() -> Bank:
    rng = np.random.default_rng(1)
    return rng.normal(size=(5, 3)), rng.normal(size=(2, 4, 3))


def precise_update(query: Any, memories: Any, beta: float) -> list[Any]:
    scores = [beta * mp.fsum(a * b for a, b in zip(xi, query, strict=True)) for xi in memories]
    terms = [mp.exp(score - max(scores)) for score in scores]
    return [
        mp.fsum(t * xi[d] for t, xi in zip(terms, memories, strict=True)) / mp.fsum(terms) for d in range(len(query))
    ]


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("beta", [1e-6, 0.7, 1e3])
def test_energy_and_update_are_the_sums_of_the_definition_near_and_far_from_zero(
    bank: Bank, beta: float, offset: float
) -> None:
    memories, queries = bank[0] + offset, bank[1] + offset
    with mp.workdps(50):
        bank_mp = [[mp.mpf(x) for x in xi] for xi in memories]
        rows = [[mp.mpf(x) for x in v] for v in queries.reshape(-1, 3)]
        wanted = [
            mp.fsum(x * x for x in v) / 2
            - mp.log(mp.fsum(mp.exp(beta * mp.fsum(a * b for a, b in zip(xi, v, strict=True))) for xi in bank_mp))
            / beta
            for v in rows
        ]
        means = np.array([precise_update(v, bank_mp, beta) for v in rows], float)
    # scores beta xi.v of centred memories carry rounding of beta |v|
    rounding = 20 * np.finfo(float).eps * (1 + beta) * (1 + offset)
    np.testing.assert_allclose(energy(queries, memories, beta).ravel(), np.array(wanted, float), rtol=2e-13)
    np.testing.assert_allclose(update(queries, memories, beta).reshape(-1, 3), means, atol=rounding)


def test_twice_the_energy_is_that_of_clam_at_half_the_beta_with_the_norms_as_weights(bank: Bank) -> None:
    memories, queries = bank
    beta = 1.4
    weights = np.exp(beta / 2 * (memories**2).sum(-1))
    np.testing.assert_allclose(
        2 * energy(queries, memories, beta), clam.energy(queries, memories, beta / 2, weights), rtol=1e-12
    )
    np.testing.assert_allclose(
        responsibilities(queries, memories, beta),
        clam.responsibilities(queries, memories, beta / 2, weights),
        rtol=1e-12,
    )


def test_a_stored_memory_is_lost_to_a_longer_one() -> None:
    memories = np.array([[1.0, 0.0], [2.0, 1.0]])
    np.testing.assert_allclose(update(memories[0], memories, 10.0), [2.0, 1.0], atol=1e-4)
    log_prior = 100 / 2 * np.array([1.0, 1.2]) ** 2
    np.testing.assert_allclose(log_prior - logsumexp(log_prior), [-22, -3e-10], rtol=0.08)


def test_the_update_is_a_unit_gradient_step(bank: Bank) -> None:
    memories, queries = bank
    slope = jax.jit(jax.grad(lambda v: continuous_hopfield.energy(v, memories, 2.5).sum()))(queries)
    np.testing.assert_allclose(update(queries, memories, 2.5), queries - slope, atol=1e-13)


@pytest.mark.parametrize("a", [0.1, 1.0, 1.9])
@pytest.mark.parametrize("beta", [0.01, 1.0, 100.0])
def test_a_relaxed_step_lowers_the_energy_by_half_a_times_two_minus_a_times_its_square(
    bank: Bank, a: float, beta: float
) -> None:
    memories, queries = bank
    move = update(queries, memories, beta) - queries
    drop = energy(queries + a * move, memories, beta) - energy(queries, memories, beta)
    assert (drop <= -a * (2 - a) / 2 * (move**2).sum(-1) + 1e-11).all()


def test_one_update_misses_the_fixed_point_by_an_exponentially_small_distance() -> None:
    """Two orthonormal memories, scores apart by 0.7: the first miss is sqrt(2) exp(-0.7 beta) as beta grows."""
    memories = np.eye(2)
    query = np.array([0.8, 0.1])
    misses = []
    with mp.workdps(60):
        for beta in (1, 4, 16, 64):
            one = precise_update([mp.mpf(8) / 10, mp.mpf(1) / 10], [[mp.mpf(x) for x in xi] for xi in memories], beta)
            state = one
            for _ in range(250):
                state = precise_update(state, [[mp.mpf(x) for x in xi] for xi in memories], beta)
            misses.append(float(mp.sqrt(mp.fsum((a - b) ** 2 for a, b in zip(one, state, strict=True)))))
            np.testing.assert_allclose(update(query, memories, float(beta)), np.array(one, float), atol=1e-15)
    np.testing.assert_allclose(misses, [0.238, 0.051, 1.92e-5, 4.94e-20], rtol=0.01)
    np.testing.assert_allclose(misses[3], np.sqrt(2) * np.exp(-0.7 * 64), rtol=1e-6)
    one = update(query, memories[:1], 1.0)
    np.testing.assert_array_equal(one, update(one, memories[:1], 1.0))  # exact for a single memory


def test_the_two_layer_energy_exceeds_it_by_the_kl_divergence_over_beta(bank: Bank) -> None:
    """Krotov and Hopfield's energy of a visible and a hidden layer with quadratic and log-sum-exp Lagrangians."""
    memories, queries = bank
    beta, v = 1.7, queries[1, 1]
    h = np.random.default_rng(2).normal(size=5)
    f = softmax(beta * h)
    two_layers = (v @ v - v @ v / 2) + (h @ f - logsumexp(beta * h) / beta) - f @ memories @ v
    r = np.asarray(responsibilities(v, memories, beta))
    np.testing.assert_allclose(two_layers - energy(v, memories, beta), (f * np.log(f / r)).sum() / beta, rtol=1e-12)


def test_responsibilities_survive_a_query_at_1e8() -> None:
    memories, query = np.array([[1.0, 0.3], [1.0, -0.2], [-2.0, 0.1]]), np.array([1e8, 1.0])
    share = responsibilities(query, memories, 1.5)
    np.testing.assert_allclose(share, softmax([1.5 * 0.3, -1.5 * 0.2, -np.inf]), atol=1e-6)


def test_slopes_are_those_of_central_differences(bank: Bank) -> None:
    memories, queries = bank
    arguments = (queries[0, 0], memories, np.array(0.8))
    slopes = jax.jit(jax.grad(continuous_hopfield.energy, argnums=(0, 1, 2)))(*arguments)
    rng = np.random.default_rng(3)
    for number, slope in enumerate(slopes):
        direction = rng.normal(size=np.shape(slope))
        shifted = [
            energy(*(value + h * direction if i == number else value for i, value in enumerate(arguments)))
            for h in (1e-6, -1e-6)
        ]
        np.testing.assert_allclose((slope * direction).sum(), (shifted[0] - shifted[1]) / 2e-6, rtol=1e-7, atol=1e-9)


def test_float32_stays_float32_and_bad_beta_is_named(bank: Bank) -> None:
    memories, queries = bank
    for function in (energy, responsibilities, update):
        got = function(np.float32(queries), np.float32(memories), 1.5)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, function(queries, memories, 1.5), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="beta: expected finite values above 0; got -2"):
        continuous_hopfield.energy(queries, memories, -2.0)


def test_the_cosine_reading_compares_directions_only(bank: Bank) -> None:
    memories, queries = bank
    cosines = np.einsum("...d,kd->...k", queries, memories)
    cosines /= np.linalg.norm(queries, axis=-1)[..., None] * np.linalg.norm(memories, axis=-1)
    result = continuous_hopfield.cosine_energy(queries, memories, 2.3)
    np.testing.assert_allclose(result, -logsumexp(2.3 * cosines, axis=-1) / 2.3, rtol=1e-13)
    shares = continuous_hopfield.cosine_responsibilities(queries, memories, 2.3)
    np.testing.assert_allclose(shares, softmax(2.3 * cosines, axis=-1), rtol=1e-12)
    longer = memories * np.array([[0.1], [2.0], [30.0], [1.0], [5.0]])
    np.testing.assert_allclose(continuous_hopfield.cosine_energy(7 * queries, longer, 2.3), result, rtol=1e-13)


def test_the_cosine_update_goes_along_the_mean_direction_and_downhill(bank: Bank) -> None:
    memories, queries = bank
    directions = memories / np.linalg.norm(memories, axis=-1, keepdims=True)
    moved = continuous_hopfield.cosine_update(queries, memories, 6.0)
    mean = np.asarray(continuous_hopfield.cosine_responsibilities(queries, memories, 6.0)) @ directions
    np.testing.assert_allclose(moved, mean / np.linalg.norm(mean, axis=-1, keepdims=True), rtol=1e-12)
    before, after = (continuous_hopfield.cosine_energy(v, memories, 6.0) for v in (queries, moved))
    assert (after <= before + 1e-12).all()
    with pytest.raises(InputError, match="query: expected points away from the origin"):
        continuous_hopfield.cosine_energy(np.zeros(3), memories, 1.0)
