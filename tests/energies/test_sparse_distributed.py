"""Sparse distributed memory against counts over all binary vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.claims.inputs import all_states
from probam.energies import sparse_distributed as sdm
from probam.errors import InputError

VECTORS = (all_states(6) + 1) / 2
RNG = np.random.default_rng(1)
ADDRESSES = VECTORS[RNG.choice(64, size=5, replace=False)]
COUNTERS = RNG.normal(size=(5, 3))
DISTANCES = np.array([[sum(a != q) for a in ADDRESSES] for q in VECTORS])


def test_a_location_is_active_at_the_radius_and_not_beyond() -> None:
    np.testing.assert_array_equal(sdm.hamming(VECTORS, ADDRESSES), DISTANCES)
    np.testing.assert_array_equal(sdm.active(VECTORS, ADDRESSES, 2), DISTANCES <= 2)


def test_a_read_sums_the_counters_of_active_locations_and_says_how_many_they_are() -> None:
    reading = jax.jit(sdm.read)(VECTORS.reshape(8, 8, 6), ADDRESSES, COUNTERS, 2.0)
    wanted = (DISTANCES <= 2) @ COUNTERS
    np.testing.assert_allclose(np.reshape(reading.total, (64, 3)), wanted, atol=1e-14)
    np.testing.assert_array_equal(np.ravel(reading.num_active), (DISTANCES <= 2).sum(1))
    assert (np.asarray(reading.num_active) == 0).any()
    np.testing.assert_allclose(
        np.reshape(reading.mean, (64, 3)), wanted / np.maximum((DISTANCES <= 2).sum(1), 1)[:, None], atol=1e-14
    )


def test_patterns_of_signs_written_at_themselves_are_recalled_from_noisy_bits() -> None:
    rng = np.random.default_rng(2)
    addresses = rng.integers(0, 2, size=(2000, 100)).astype(np.float32)
    stored = rng.integers(0, 2, size=(8, 100)).astype(np.float32)
    counters = sdm.write(np.zeros((2000, 100), np.float32), stored, 2 * stored - 1, addresses, 40)
    noisy = np.where(rng.random(stored.shape) < 0.08, 1 - stored, stored)
    once = sdm.update(noisy, addresses, counters, 40)
    assert once.dtype == jnp.float32
    np.testing.assert_array_equal(sdm.update(once, addresses, counters, 40), stored)


def test_a_query_that_reaches_no_location_stays_as_it_is() -> None:
    far = 1 - ADDRESSES[:1]
    np.testing.assert_array_equal(sdm.update(far, ADDRESSES[:1], np.ones((1, 6)), 1), far)


def test_volumes_and_overlaps_of_balls_are_counts_over_all_vectors() -> None:
    origin = VECTORS.sum(1)
    for radius in range(7):
        assert sdm.ball_volume(6, radius) == (origin <= radius).sum()
        for distance in range(7):
            other = np.abs(VECTORS - (np.arange(6) < distance)).sum(1)
            assert sdm.ball_overlap(6, radius, distance) == ((origin <= radius) & (other <= radius)).sum()


def test_the_continuous_read_is_the_softmax_average_of_the_counters() -> None:
    queries = RNG.normal(size=(4, 6))
    weights = np.exp(1.3 * queries @ ADDRESSES.T)
    wanted = weights @ COUNTERS / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(sdm.attention_read(queries, ADDRESSES, COUNTERS, 1.3), wanted, rtol=1e-13)
    slope = jax.grad(lambda q: jnp.sum(sdm.attention_read(q, ADDRESSES, COUNTERS, 1e4)))(queries)
    assert np.isfinite(slope).all()


def test_signs_for_bits_and_counters_of_another_bank_are_refused_in_words() -> None:
    with pytest.raises(InputError, match=r"query: expected 0 and 1 only; got -1\.0"):
        sdm.hamming(2 * VECTORS - 1, ADDRESSES)
    with pytest.raises(InputError, match="a row for each of the 5 addresses"):
        sdm.read(VECTORS, ADDRESSES, COUNTERS[:4], 2)
    with pytest.raises(InputError, match="radius"):
        sdm.read(VECTORS, ADDRESSES, COUNTERS, -1)
    with pytest.raises(InputError, match="patterns"):
        sdm.write(COUNTERS, VECTORS, COUNTERS, ADDRESSES, 2)
    with pytest.raises(InputError, match="0 <= d <= D"):
        sdm.ball_overlap(6, 2, 7)
