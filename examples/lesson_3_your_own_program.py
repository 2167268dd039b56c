"""Lesson 3: our distributions in a NumPyro program of your own.

Two stations observe particles from the same sources, each in its own proportions. ``fit`` has no option for that, so we
write the program: one bank of directions for both stations, and weights from a Dirichlet process for each of them.
"""

import jax

jax.config.update("jax_enable_x64", True)  # double precision; set it before the first array

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from probam.distributions.direction import FreeDirection
from probam.distributions.mixture import MemoryMixture
from probam.distributions.stick_breaking import StickBreakingWeights
from probam.distributions.von_mises_fisher import VonMisesFisher

NUM_STATIONS, NUM_MEMORIES = 2, 4

# The truth: three sources on the sphere; the second station hardly sees the first of them.
sources = VonMisesFisher(jnp.eye(3), jnp.array([30.0, 30.0, 30.0]))
proportions = jnp.array([[0.6, 0.3, 0.1], [0.05, 0.45, 0.5]])
keys = jax.random.split(jax.random.key(0), NUM_STATIONS)
x = jnp.stack([MemoryMixture(jnp.log(proportions[s]), sources).sample(keys[s], (100,)) for s in range(NUM_STATIONS)])


def stations(x: jax.Array) -> None:
    """Directions ``x`` (station, datum, 3) from memories that the stations share."""
    alpha = numpyro.sample("alpha", dist.Gamma(2.0, 2.0))
    with numpyro.plate("memory", NUM_MEMORIES):
        free = numpyro.sample("free", FreeDirection(3))  # a vector that samplers can walk on; its length means nothing
        concentration = numpyro.sample("concentration", dist.LogNormal(3.0, 0.5))
    direction = free / jnp.linalg.norm(free, axis=-1, keepdims=True)
    bank = VonMisesFisher(numpyro.deterministic("direction", direction), concentration)
    for station in range(NUM_STATIONS):
        weights = numpyro.sample(f"weights_{station}", StickBreakingWeights(alpha, 0.0, NUM_MEMORIES))
        law = MemoryMixture(jnp.log(weights), bank)
        with numpyro.plate(f"data_{station}", x.shape[1]):
            numpyro.sample(f"x_{station}", law, obs=x[station])


# The distributions are NumPyro distributions: its handlers, samplers and guides accept them.
kernel = numpyro.infer.NUTS(stations, init_strategy=numpyro.infer.init_to_median)
mcmc = numpyro.infer.MCMC(kernel, num_warmup=300, num_samples=300, progress_bar=False)
mcmc.run(jax.random.key(1), x)
draws = mcmc.get_samples()

# Labels have no meaning, so ask a question without labels: how much weight is near each true source?
near = draws["direction"] @ sources.mean_direction.T > 0.9  # (draw, memory, source)
for station in range(NUM_STATIONS):
    weight = np.asarray(jnp.einsum("sk,skj->sj", draws[f"weights_{station}"], near))
    mean, sd = weight.mean(axis=0), weight.std(axis=0)
    true = proportions[station]
    print(f"station {station}: weight at the sources {np.round(mean, 2)} +- {np.round(sd, 2)}, true {true}")
    assert np.all(np.abs(mean - true) < 0.15)  # three standard errors of a share of 100 data

# The densities are normalised: the mixture integrates to one over the sphere (by random directions, area 4 pi).
uniform = VonMisesFisher(jnp.array([0.0, 0.0, 1.0]), 0.0).sample(jax.random.key(5), (20_000,))
density = jnp.exp(MemoryMixture(jnp.log(proportions[0]), sources).log_prob(uniform))
integral, error = 4 * jnp.pi * density.mean(), 4 * jnp.pi * density.std() / len(uniform) ** 0.5
print(f"integral of the density over the sphere: {integral:.3f} +- {error:.3f}")
assert abs(integral - 1) < 4 * error
