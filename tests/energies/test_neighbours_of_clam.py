"""Diffusion, random features, sequences and predictive coding: edges, errors and dtypes that the claims do not meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.energies import clam, diffusion, predictive_coding, random_features, sequences
from probam.energies.predictive_coding import Layer
from probam.energies.separations import Polynomial
from probam.errors import InputError


def test_many_random_features_recall_what_clam_recalls_and_memories_can_be_erased() -> None:
    rng = np.random.default_rng(0)
    memories, queries, gamma = rng.normal(size=(4, 3)), rng.normal(size=(2, 5, 3)) * 0.5, 0.8
    frequencies = random_features.draw_frequencies(jax.random.key(0), 100_000, 3, gamma)
    stored = random_features.store(frequencies, memories)
    exact = clam.energy(queries, memories, gamma / 2)
    # 5 standard errors: each feature has variance at most 4^2 / 2, and d(-2/gamma log S) = 2 / (gamma S) dS
    bound = 5 * 2 / (gamma * np.exp(-gamma / 2 * np.asarray(exact)).min()) * np.sqrt(8 / 100_000)
    np.testing.assert_allclose(random_features.energy(stored, frequencies, queries, gamma), exact, atol=bound)
    np.testing.assert_allclose(
        random_features.update(stored, frequencies, queries, gamma),
        clam.update(queries, memories, gamma / 2),
        atol=4 * bound,
    )
    erased = stored - random_features.store(frequencies, memories[3:])
    np.testing.assert_allclose(erased, random_features.store(frequencies, memories[:3]), atol=1e-14)


def test_where_the_features_see_nothing_the_energy_is_infinite_and_the_query_stays() -> None:
    frequencies, memory = np.array([[np.pi]]), np.zeros((1, 1))
    stored = random_features.store(frequencies, memory)
    query = np.array([1.0])  # cos(pi) = -1
    assert random_features.kernel_sum(stored, frequencies, query) == pytest.approx(-1)
    assert random_features.energy(stored, frequencies, query, 1.0) == np.inf
    np.testing.assert_array_equal(random_features.update(stored, frequencies, query, 1.0), query)
    slope = jax.jit(jax.grad(lambda v: random_features.energy(stored, frequencies, v, 1.0)))(query)
    assert np.isfinite(slope).all()


def test_sequences_are_replayed_from_a_spoilt_start_and_end_when_open() -> None:
    rng = np.random.default_rng(1)
    patterns = rng.choice([-1.0, 1.0], size=(6, 120))
    state = patterns[0] * np.where(np.arange(120) < 20, -1, 1)
    for separation in (Polynomial(3), sequences.exponential(120)):
        step = jax.jit(lambda s, f=separation: sequences.step(s, patterns, f))
        replay = state
        for t in range(1, 8):
            replay = step(replay)
            np.testing.assert_array_equal(replay, patterns[t % 6])
    linear = sequences.field(patterns[5], patterns, Polynomial(1), cyclic=False)
    assert np.abs(linear).max() < 3  # nothing follows the last pattern: crosstalk only
    unseen = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
    kept = sequences.step(np.array([1.0, 1.0, -1.0]), unseen, lambda m: 0 * m)
    np.testing.assert_array_equal(kept, [1.0, 1.0, -1.0])  # no field: the state stays


def test_overlaps_leave_the_neuron_itself_out() -> None:
    patterns, state = np.array([[1.0, -1.0, 1.0, 1.0]]), np.array([1.0, 1.0, 1.0, -1.0])
    by_hand = [[np.mean([patterns[0, j] * state[j] for j in range(4) if j != i]) for i in range(4)]]
    np.testing.assert_allclose(sequences.overlaps(state, patterns), by_hand, rtol=1e-15)


def test_a_written_pair_is_read_back_when_the_noise_is_small_and_all_is_forgotten_at_rate_one() -> None:
    rng = np.random.default_rng(2)
    prior = Layer(jnp.zeros((3, 5)), jnp.eye(5))
    activity, target = rng.normal(size=5), rng.normal(size=3)
    layer = predictive_coding.write(prior, activity, target, 1e-6)
    np.testing.assert_allclose(predictive_coding.read(layer, activity), target, rtol=1e-11)
    before = predictive_coding.surprise(prior, activity, target, 0.1)
    assert predictive_coding.surprise(layer, activity, target, 0.1) < before
    for left, right in zip(predictive_coding.forget(layer, prior, 1.0), prior, strict=True):
        np.testing.assert_array_equal(left, right)


def test_recall_behind_a_decoder_ends_at_a_stationary_point_and_completes_the_observation() -> None:
    rng = np.random.default_rng(3)
    memories, matrix, bias = 2 * rng.normal(size=(4, 2)), rng.normal(size=(5, 2)), rng.normal(size=5)
    observation = memories[1] @ matrix.T + bias + 0.05 * rng.normal(size=5)
    settings = (0.5, memories, 0.3)
    update = jax.jit(lambda z: predictive_coding.recall_update(z, observation, matrix, bias, *settings))
    latent = jnp.zeros(2)
    for _ in range(200):
        latent = update(latent)
    slope = jax.grad(lambda z: predictive_coding.free_energy(z, observation, lambda z: z @ matrix.T + bias, *settings))(
        latent
    )
    np.testing.assert_allclose(slope, 0, atol=1e-10)
    assert int(clam.nearest(latent, memories)) == 1


def test_float32_stays_float32() -> None:
    rng = np.random.default_rng(4)
    memories, query = rng.normal(size=(3, 2)).astype(np.float32), rng.normal(size=2).astype(np.float32)
    frequencies = rng.normal(size=(7, 2)).astype(np.float32)
    stored = random_features.store(frequencies, memories)
    layer = Layer(jnp.zeros((3, 2), jnp.float32), jnp.eye(2, dtype=jnp.float32))

    @jax.jit
    def results(query: jax.Array, memories: jax.Array) -> list[jax.Array]:
        return [
            diffusion.denoise(query, memories, 0.5, 0.8),
            diffusion.drift(query, memories, 0.3),
            diffusion.sampler_step(query, memories, 0.5, 0.3),
            diffusion.ring_energy(query, 0.5),
            random_features.energy(stored, frequencies, query, 1.0),
            random_features.update(stored, frequencies, query, 1.0),
            sequences.read_out(query, memories, 1.0),
            sequences.field(query, memories, sequences.exponential(2)),
            *predictive_coding.write(layer, query, memories[:, 0], 0.5),
            predictive_coding.recall_update(query, memories[:, 0], memories, memories[:, 1], 0.5, memories, 0.7),
        ]

    assert {result.dtype for result in results(query, memories)} == {np.dtype(np.float32)}


def test_misfits_are_named() -> None:
    with pytest.raises(InputError, match="deviation: expected finite values above 0; got 0"):
        diffusion.inverse_temperature(0.0)
    with pytest.raises(InputError, match="stored: expected two numbers for each of 3 frequencies"):
        random_features.kernel_sum(np.zeros(3), np.ones((3, 2)), np.ones(2))
    with pytest.raises(InputError, match="num_features, dim: expected whole numbers of at least 1"):
        random_features.draw_frequencies(jax.random.key(0), 0, 2, 1.0)
    with pytest.raises(InputError, match="patterns: expected at least 2 neurons"):
        sequences.overlaps(np.ones(1), np.ones((2, 1)))
    with pytest.raises(InputError, match="patterns: an open sequence needs at least 2 patterns"):
        sequences.read_out(np.ones(3), np.ones((1, 3)), 1.0, cyclic=False)
    layer = Layer(jnp.zeros((3, 5)), jnp.eye(5))
    with pytest.raises(InputError, match="activity: expected the layer's 5 features last"):
        predictive_coding.read(layer, np.ones(3))
    with pytest.raises(InputError, match="target: expected the layer's 3 outputs"):
        predictive_coding.write(layer, np.ones(5), np.ones(5), 1.0)
