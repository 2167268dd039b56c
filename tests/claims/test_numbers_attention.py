"""The numbers that go with A14 and the D entries."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.energies import clam, diffusion
from probam.models import attention


def test_a14_moving_a_key_along_the_inverse_of_gamma_moves_its_weight_alone() -> None:
    rng = np.random.default_rng(0)
    gamma, delta, keys = rng.uniform(0.5, 1.5, size=6), rng.normal(size=6), rng.normal(size=(2, 6))
    handle = np.sum(delta / gamma)
    mixture_of = jax.jit(lambda keys: attention.mixture(attention.scores(keys, gamma, delta, scale=1.0), "layer"))

    def shifted(by: float) -> tuple[float, np.ndarray]:
        moved = keys.copy()
        moved[1] += by / handle / gamma
        mixture = mixture_of(moved)
        assert isinstance(mixture.bank, VonMisesFisher)
        return float(np.exp(mixture.log_weights)[1]), np.asarray(mixture.bank.concentration)

    weight, concentrations = shifted(0.0)
    start = np.log(0.718 / 0.282) - np.log(weight / (1 - weight))  # put pi_2 at the entry's .718
    for by, stated in ((0.0, 0.718), (2.0, 0.950), (6.0, 0.999)):
        weight, again = shifted(start + by)
        assert weight == pytest.approx(stated, abs=6e-4)
        np.testing.assert_allclose(again, concentrations, rtol=1e-12)


@pytest.mark.parametrize(("variance", "radius"), [(0.51, 0.0), (0.49, 0.19866), (0.25, 0.83146)])
def test_d1_the_ring_of_minima(variance: float, radius: float) -> None:
    deviation = float(np.sqrt(variance))
    radii = np.linspace(0, 1.5, 100_001)
    lowest = radii[np.argmin(diffusion.ring_energy(radii, deviation))]
    assert lowest == pytest.approx(radius, abs=3e-5)
    if radius:
        root = scipy.optimize.brentq(
            lambda r: scipy.special.ive(1, r / variance) / scipy.special.ive(0, r / variance) - r, 0.1, 1
        )
        assert root == pytest.approx(radius, abs=6e-6)
        assert float(diffusion.ring_pull(root, deviation)) == pytest.approx(root, rel=1e-14)
        angles = 2 * np.pi * np.arange(96) / 96
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        moved = clam.update(np.array([root, 0.0]), ring, 1 / (2 * variance))
        np.testing.assert_allclose(moved, [root, 0.0], atol=1e-14)


def test_d1_the_annealed_flow_ends_on_the_data() -> None:
    memories = jnp.array([[-1.0, 0.5], [0.8, 1.0], [0.2, -1.5]])
    deviations = np.geomspace(20.0, 1e-3, 200)
    y = 20 * jax.random.normal(jax.random.key(1), (64, 2))
    step = jax.jit(diffusion.sampler_step)
    for now, then in pairwise(deviations):
        y = step(y, memories, now, then)
    distance = np.linalg.norm(np.asarray(y)[:, None] - np.asarray(memories), axis=-1)
    assert distance.min(axis=1).max() < 0.01  # within ten of the last deviation
    assert len(np.unique(distance.argmin(axis=1))) == 3
