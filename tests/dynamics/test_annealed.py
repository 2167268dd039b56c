"""Annealed recall: the flow against its closed form and order, its ends and those of the SDE against exact laws."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jaxtyping import Array
from scipy import stats

from probam.distributions.blurred import denoised
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.annealed import diffuse, flow, noise_levels
from probam.energies import diffusion

MEAN, SD = 1.0, 0.5
WEIGHTS, LOC, WIDTHS = np.array([0.2, 0.5, 0.3]), np.array([-2.0, 0.5, 1.5]), np.array([0.3, 0.2, 0.6])
MIXTURE = MemoryMixture(jnp.log(WEIGHTS), dist.Normal(LOC[:, None], WIDTHS[:, None]).to_event(1))


def one_normal(x: Array, noise: Array) -> Array:
    """The denoiser of N(MEAN, SD^2)."""
    return MEAN + SD**2 / (SD**2 + noise**2) * (x - MEAN)


def law(weights: np.ndarray, loc: np.ndarray, widths: np.ndarray) -> Any:
    """The distribution function of a mixture of normals."""
    return lambda x: stats.norm.cdf(np.asarray(x)[..., None], loc, widths) @ weights


def test_levels_fall_in_equal_ratios_to_none() -> None:
    levels = noise_levels(20.0, 0.01, 12)
    assert levels.shape == (13,)
    assert levels[-1] == 0
    np.testing.assert_allclose(np.asarray(levels)[[0, -2]], [20.0, 0.01], rtol=1e-12)
    np.testing.assert_allclose(np.diff(np.log(levels[:-1])), np.log(0.01 / 20) / 11, rtol=1e-9)


def test_the_flow_of_a_normal_is_its_closed_form_to_second_order() -> None:
    """x - mean shrinks by sd / sqrt(sd^2 + s^2): half the steps make four times the error."""
    starts = jnp.linspace(-5, 5, 7)[:, None]
    exact = MEAN + (starts - MEAN) * SD / np.sqrt(SD**2 + 9.0)
    errors = [
        float(jnp.max(jnp.abs(flow(one_normal, starts, noise_levels(3.0, 1e-5, steps)) - exact)))
        for steps in (50, 100, 200)
    ]
    assert errors[-1] < 1e-3
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 4, rtol=0.15)


def test_one_step_of_the_flow_begins_as_the_deterministic_sampler() -> None:
    """Between two levels Heun's first half is the physics' relaxed recall; a flow of one level is one denoising."""
    rng = np.random.default_rng(0)
    data, x = jnp.asarray(rng.normal(size=(6, 3))), jnp.asarray(rng.normal(size=(4, 3)))
    denoise = partial(_denoise, data)
    np.testing.assert_allclose(flow(denoise, x, jnp.array([0.8, 0.0])), diffusion.denoise(x, data, 0.8), rtol=1e-12)
    euler = diffusion.sampler_step(x, data, 0.8, 0.5)
    slopes = (x - denoise(x, 0.8)) / 0.8, (euler - denoise(euler, 0.5)) / 0.5
    heun = x - 0.15 * (slopes[0] + slopes[1])
    np.testing.assert_allclose(flow(denoise, x, jnp.array([0.8, 0.5, 0.0])), denoise(heun, 0.5), rtol=1e-12)


def _denoise(data: Array, x: Array, noise: float | Array) -> Array:
    return diffusion.denoise(x, data, noise)


@pytest.mark.parametrize("by", ["ode", "sde"])
def test_from_pure_noise_both_draw_from_the_mixture(by: str) -> None:
    key_start, key_run = jax.random.split(jax.random.key(3))
    levels = noise_levels(60.0, 1e-3, 300)
    spread = jnp.sqrt(MIXTURE.variance + 60.0**2)
    starts = MIXTURE.mean + spread * jax.random.normal(key_start, (3000, 1))
    denoise = partial(denoised, MIXTURE)
    ended = flow(denoise, starts, levels) if by == "ode" else diffuse(key_run, denoise, starts, levels)
    ends = np.asarray(ended)[:, 0]
    assert stats.kstest(ends, law(WEIGHTS, LOC, WIDTHS)).pvalue > 1e-2  # seed fixed
    assert abs(ends.mean() - MIXTURE.mean[0]) < 4 * np.sqrt(MIXTURE.variance[0] / 3000)
    fourth = stats.moment(ends, 4)
    assert abs(ends.var() - MIXTURE.variance[0]) < 4 * np.sqrt((fourth - ends.var() ** 2) / 3000)


def test_from_one_noisy_state_the_sde_draws_clean_states_given_it() -> None:
    """Exact: memory k with its responsibility at the noisy state, then a normal around its own denoised state."""
    noise, query = 0.9, 0.2
    share = WEIGHTS * stats.norm.pdf(query, LOC, np.sqrt(WIDTHS**2 + noise**2))
    gain = WIDTHS**2 / (WIDTHS**2 + noise**2)
    exact = (share / share.sum(), LOC + gain * (query - LOC), np.sqrt(gain) * noise)
    starts = jnp.full((4000, 1), query)
    levels = noise_levels(noise, 1e-3, 400)
    ends = np.asarray(diffuse(jax.random.key(1), partial(denoised, MIXTURE), starts, levels))[:, 0]
    assert stats.kstest(ends, law(*exact)).pvalue > 1e-2  # seed fixed
    assert stats.kstest(ends, law(WEIGHTS, LOC, WIDTHS)).pvalue < 1e-6  # not the whole mixture


def test_of_stored_data_the_exact_score_ends_at_a_datum() -> None:
    rng = np.random.default_rng(4)
    data = jnp.asarray(rng.normal(size=(8, 2)))
    starts = jnp.asarray(data[rng.integers(8, size=20)] + 3 * rng.normal(size=(20, 2)))
    for ends in (
        flow(partial(_denoise, data), starts, noise_levels(3.0, 1e-4, 200)),
        diffuse(jax.random.key(0), partial(_denoise, data), starts, noise_levels(3.0, 1e-4, 200)),
    ):
        gaps = np.linalg.norm(np.asarray(ends)[:, None] - np.asarray(data), axis=-1)
        np.testing.assert_allclose(gaps.min(axis=1), 0, atol=1e-6)
