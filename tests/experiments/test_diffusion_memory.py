"""The parts of the experiments on diffusion: rests and their phases, barriers, the ring, images judged by distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from probam.energies import clam, diffusion
from probam.experiments.diffusion_findings import boundary_slopes, expected_minima, over
from probam.experiments.diffusion_memory import barriers, on_circle, ring_radius
from probam.experiments.diffusion_network import by_distance
from probam.experiments.diffusion_phases import by_phase, phase_of, rests
from probam.experiments.image_retrieval import neighbour_distance
from probam.experiments.score_network import Training, denoise, trained


def test_two_data_are_memorised_apart_and_share_a_minimum_when_the_noise_is_as_large_as_they_are_far() -> None:
    """Data at -1 and 1: the middle is a minimum iff s > 1, and its softest direction there has the share 1 / s^2."""
    data, present = jnp.array([[-1.0, 0.0], [1.0, 0.0], [9.0, 9.0]]), jnp.array([1.0, 1.0, 0.0])
    starts, key = jnp.array([[-1.2, 0.1], [0.8, -0.1]]), jax.random.key(0)
    apart = rests(data, present, starts, key, jnp.asarray(0.2))
    np.testing.assert_allclose(apart.states, [[-1, 0], [1, 0]], atol=1e-9)
    np.testing.assert_allclose(apart.own, 1, atol=1e-9)
    np.testing.assert_allclose(apart.softest, 0, atol=1e-9)
    assert bool(apart.returned[:2].all())
    assert bool(apart.stayed.all())
    shared = rests(data, present, starts, key, jnp.asarray(2.0))
    np.testing.assert_allclose(shared.states, 0, atol=1e-4)
    np.testing.assert_allclose(shared.own, 0.5, atol=1e-4)
    np.testing.assert_allclose(shared.softest, 0.25, atol=1e-4)


def test_a_phase_is_decided_by_the_largest_share_and_then_by_the_softest_direction() -> None:
    phase = phase_of(np.array([0.9, 0.6, 0.5, 0.1]), np.array([0.1, 0.9, 0.5, 0.51]))
    np.testing.assert_array_equal(phase, [0, 0, 1, 2])
    np.testing.assert_array_equal(by_phase(phase, np.array([1.0, 3.0, 5.0, 7.0])), [2, 5, 7])


@pytest.mark.parametrize("noise", [0.2, 0.5])
def test_many_data_rest_on_the_ring_of_the_limit(noise: float) -> None:
    stored = on_circle(2 * np.pi * np.arange(60) / 60, 64)
    at = rests(*stored, jnp.array([[0.3, 0.1], [-2.0, 1.0]]), jax.random.key(1), jnp.asarray(noise))
    np.testing.assert_allclose(np.linalg.norm(at.states, axis=1), ring_radius(noise**2), atol=2e-5)
    np.testing.assert_allclose(at.softest, 1, atol=1e-4)  # nothing holds a state along the ring
    assert ring_radius(0.5) == 0


def test_a_barrier_is_the_lower_of_the_two_next_passes() -> None:
    angles = 2 * np.pi * np.arange(720) / 720
    wave = np.cos(3 * angles) + 0.5 * np.cos(angles)  # minima near 60, 180, 300 degrees
    states = np.stack([np.cos([np.pi, np.pi / 3]), np.sin([np.pi, np.pi / 3])], axis=-1)
    turning = wave[(wave > np.roll(wave, 1)) & (wave > np.roll(wave, -1))]
    lows = wave[(wave < np.roll(wave, 1)) & (wave < np.roll(wave, -1))]
    expected = [np.sort(turning)[0] - lows.min(), np.sort(turning)[0] - lows.max()]
    np.testing.assert_allclose(barriers(wave, states), expected, atol=1e-9)


def test_the_number_of_minima_of_very_many_random_data_is_rices() -> None:
    """Energy along the ring of 4000 data, minima counted; 6 sets, so that the mean is known to a few per cent."""
    noise, angles = 0.2, 2 * np.pi * np.arange(360) / 360
    radius = ring_radius(noise**2)
    rays = radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    counted = []
    for seed in range(6):
        drawn = np.random.default_rng(seed).uniform(0, 2 * np.pi, 4000)
        data = np.stack([np.cos(drawn), np.sin(drawn)], axis=-1)
        energy = np.asarray(clam.energy(rays, data, 0.5 / noise**2))
        counted.append(np.sum((energy < np.roll(energy, 1)) & (energy < np.roll(energy, -1))))
    error = np.std(counted, ddof=1) / np.sqrt(6)
    assert abs(np.mean(counted) - expected_minima(noise, radius)) < 4 * error  # the seeds are fixed


def test_means_leave_out_what_is_not_there() -> None:
    mean, error = over(
        xr.DataArray([[1.0, 3.0, np.nan], [5.0, np.nan, np.nan], [np.nan] * 3], dims=("row", "repeat")), "repeat"
    )
    np.testing.assert_array_equal(mean, [2, 5, np.nan])
    np.testing.assert_array_equal(error, [1, np.nan, np.nan])


def test_the_exponent_of_the_boundary_is_that_of_the_curves_it_was_made_from() -> None:
    noise, counts = [0.05, 0.1, 0.2], 2.0 ** np.arange(1, 12)
    share = [[[1 / (1 + (n * s / 2) ** 2)] for n in counts] for s in noise]  # one half at n = 2 / s
    ring = xr.Dataset(
        {"share": (("noise", "load", "phase", "repeat"), np.array(share)[:, :, None])},
        coords={"noise": noise, "phase": ["memorised"], "count": (("noise", "load"), [counts] * 3)},
    )
    np.testing.assert_allclose(boundary_slopes(ring), -1, atol=0.03)


def test_images_are_judged_by_the_nearest_learned_and_the_nearest_drawn_one() -> None:
    drawn = np.array([[0.1, 0.0], [5.0, 0.0], [5.2, 0.0], [9.0, 0.0]])
    np.testing.assert_array_equal(by_distance(drawn, np.zeros((1, 2)), 0.5), [0, 1, 1, 2])
    np.testing.assert_array_equal(by_distance(drawn, np.zeros((1, 2)), 0.5, repeated=False), [0, 2, 2, 2])
    assert neighbour_distance(np.array([[0.0], [1.0], [3.0], [7.0]])) == 1.5


def test_a_network_trained_on_few_data_denoises_as_the_exact_score_does() -> None:
    data = np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0], [9.0, 9.0]])
    present = jnp.array([1.0, 1.0, 1.0, 0.0], jnp.float32)
    how = Training(width=48, steps=800, batch=64, rate=5e-3)
    network, losses = trained(jax.random.key(0), jnp.asarray(data, jnp.float32), present, how)
    assert losses[-50:].mean() < 0.5 * losses[:50].mean()
    np.testing.assert_allclose(network.mean, data[:3].mean(axis=0), atol=1e-6)
    for noise in (0.15, 0.6):
        x = jnp.asarray(data[:3] + noise * np.random.default_rng(1).normal(size=(3, 2)), jnp.float32)
        expected = diffusion.denoise(x, data[:3], noise)
        assert float(jnp.max(jnp.abs(denoise(network, x, jnp.asarray(noise)) - expected))) < 0.15
