"""Lesson 1: the energy of an associative memory is a mixture's negative log density.

The same four memories are written twice: as the energy of a clustering associative memory (physics) and as a
Gaussian mixture (statistics). The two agree up to a known scale and a known constant, and so do their gradients,
responsibilities and dynamics.
"""

from functools import partial

import jax

jax.config.update("jax_enable_x64", True)  # double precision; set it before the first array

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import probam
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.recall import recall
from probam.energies import clam

memories = jnp.array([[-3.0, 0.0], [3.0, 0.5], [0.0, 4.0], [0.5, -3.0]])
weights = jnp.array([0.4, 0.3, 0.2, 0.1])
beta = 0.8  # inverse temperature: larger beta makes deeper, narrower wells
queries = jax.random.uniform(jax.random.key(0), (200, 2), minval=-5.0, maxval=5.0)

# Physics: E(v) = -(1/beta) log sum_k w_k exp(-beta |mu_k - v|^2).
energy = clam.energy(queries, memories, beta, weights)

# Statistics: a mixture of Gaussians with covariance I / (2 beta).
sd = (2 * beta) ** -0.5
mixture = MemoryMixture(jnp.log(weights), dist.Normal(memories, sd).to_event(1))
log_density = mixture.log_prob(queries)

# -log p = beta E + constant, where the constant is the normaliser of one Gaussian: (D/2) log(pi / beta).
constant = 0.5 * memories.shape[1] * jnp.log(jnp.pi / beta)
gap = jnp.max(jnp.abs(-log_density - (beta * energy + constant)))
print(f"largest |-log p - (beta E + constant)| over {len(queries)} queries: {gap:.1e} nats")
assert gap < 1e-12

# A memory's share of the sum in the energy is the posterior probability that it generated the datum (Bayes' rule).
shares = clam.responsibilities(queries, memories, beta, weights)
np.testing.assert_allclose(shares, mixture.responsibilities(queries), atol=1e-12)

# The force of the energy is the score of the density; one unit step of recall is the posterior mean of the memory.
force = -beta * jax.grad(lambda v: jnp.sum(clam.energy(v, memories, beta, weights)))(queries)
score = jax.grad(lambda v: jnp.sum(mixture.log_prob(v)))(queries)
np.testing.assert_allclose(force, score, atol=1e-12)
np.testing.assert_allclose(clam.update(queries, memories, beta, weights), shares @ memories, atol=1e-12)

# So recall, which runs downhill on the energy, climbs the density to one of its modes.
bank = {"memories": memories, "beta": beta, "weights": weights}
report = recall(partial(clam.update, **bank), partial(clam.energy, **bank), queries)
climb = mixture.log_prob(report.states) - log_density
modes = np.unique(np.round(np.asarray(report.states), 6), axis=0)
print(f"recall ended at {len(modes)} places; the log density rose by {climb.min():.3f} to {climb.max():.3f} nats")
assert report.converged.all()
assert climb.min() >= -1e-12
assert len(modes) == len(memories)

# The covariance matters. Schaeffer et al. (2023) print it as 2 I / beta; `verify` measures the error of that form too.
certificate = probam.verify(["A2"])[0]
print(f"claim A2: error {certificate.error:.1e} with I / (2 beta), {certificate.printed_error:.2g} as printed")
assert certificate.passed
assert certificate.printed_error > 0.05
