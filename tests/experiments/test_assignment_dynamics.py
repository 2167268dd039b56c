"""Climbs of assignments against EM by loops, and the density of a stream against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal

from probam.energies.streamed_assignments import StreamedAssignments
from probam.experiments.assignment_dynamics import climbed, log_density
from probam.experiments.clusterers import gaussian_log_density

RNG = np.random.default_rng(21)
BETA = 0.5


def test_at_the_rate_one_a_climb_is_em_step_by_step() -> None:
    x = RNG.normal(size=(30, 2)) + 4 * RNG.integers(0, 2, (30, 1))
    start = x[:3]
    places, heights = start, []
    for _ in range(7):
        r = softmax(-BETA * ((x[:, None] - places) ** 2).sum(-1), axis=1)
        places = (r.T @ x) / r.sum(axis=0)[:, None]
        heights.append(float(gaussian_log_density(x, places, BETA).mean()))
    with jax.enable_x64(True):
        ended, energies = climbed(jnp.asarray(start), jnp.asarray(x), jnp.asarray(BETA), jnp.asarray(1.0), 7)
    np.testing.assert_allclose(ended, places, rtol=1e-10)
    np.testing.assert_allclose(-BETA * energies - np.log(3) - np.log(np.pi / BETA), heights, rtol=1e-10)
    assert np.all(np.diff(heights) > 0)


def test_the_density_of_a_stream_is_the_predictive_mixture_of_its_memories_and_a_new_one() -> None:
    memories, counts = 3 * RNG.normal(size=(3, 2)), np.array([4.0, 2.5, 0.0])
    alpha, rho = 0.8, 0.05
    x = 3 * RNG.normal(size=(6, 2))
    stream = StreamedAssignments(memories, counts, np.zeros(2), BETA, rho, alpha)
    joint = np.array(
        [
            *(
                np.log(n) + multivariate_normal(m, np.eye(2) / (2 * BETA)).logpdf(x)
                for n, m in zip([4.0, 2.5], memories[:2], strict=True)
            ),
            np.log(alpha) + multivariate_normal(np.zeros(2), np.eye(2) * (0.5 / BETA + 0.5 / rho)).logpdf(x),
        ]
    )
    densities, shares = log_density(stream, jnp.asarray(x))
    np.testing.assert_allclose(densities, logsumexp(joint, axis=0) - np.log(counts.sum() + alpha), rtol=1e-9)
    np.testing.assert_allclose(np.asarray(shares)[:, [0, 1, 3]], softmax(joint, axis=0).T, atol=1e-12)
