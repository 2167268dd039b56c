"""Lesson 6: attention behind a layer norm is a von Mises-Fisher mixture.

A layer norm maps every query to a sphere. A key is then a direction with a concentration, the attention weights are the
posterior probabilities of the keys given the query, and the log-sum-exp of the logits is the log density of the query,
up to a constant. The converse holds too: any such mixture is the attention to some keys.
"""

import jax

jax.config.update("jax_enable_x64", True)  # double precision; set it before the first array

import jax.numpy as jnp
import numpy as np

from probam.distributions.mixture import MemoryMixture
from probam.energies.attention import Head, LayerNorm, attend, attention_weights, energy
from probam.models.attention import keys_of, log_mass, mixture, place, posterior, scores

num_features, num_keys, num_queries = 6, 4, 50
key_x, key_keys, key_gamma, key_delta = jax.random.split(jax.random.key(0), 4)
x = jax.random.normal(key_x, (num_queries, num_features))
keys = jax.random.normal(key_keys, (num_keys, num_features)) * jnp.array([[0.5], [0.7], [1.0], [1.4]])
gamma = 1 + 0.3 * jax.random.normal(key_gamma, (num_features,))
delta = 0.1 + 0.1 * jax.random.normal(key_delta, (num_features,))

# The network: a layer norm with scale gamma and shift delta, then dot products with the keys, then a softmax.
head = Head(LayerNorm(gamma, delta, epsilon=0.0), scale=1.0)
attention = attention_weights(head, x, keys)

# The statistics: logits are linear in the normalised query, and so is the log of a von Mises-Fisher density.
linear = scores(keys, gamma, delta, scale=1.0)
memories = mixture(linear, "layer")
directions, _ = place(x, "layer", epsilon=0.0)
gap = jnp.max(jnp.abs(memories.responsibilities(directions) - attention))
print(f"keys as memories: concentrations {np.round(memories.bank.concentration, 2)}")
print(f"mixing weights {np.round(jnp.exp(memories.log_weights), 3)}")
print(f"largest difference between attention and posterior: {gap:.1e}")
assert gap < 1e-12

# The energy of the head, -log sum_i exp(logit_i), is the negative log density up to log Z.
log_density = memories.log_prob(directions)
np.testing.assert_allclose(-energy(head, x, keys), log_density + log_mass(linear, "layer"), atol=1e-11)

# A read-out is the posterior mean of the value.
values = jnp.arange(num_keys, dtype=x.dtype)[:, None]
read_out = attend(head, x, keys, values)
np.testing.assert_allclose(read_out, memories.responsibilities(directions) @ values, atol=1e-12)

# Schaeffer et al. (2023), Eq. 9, leave the normaliser C(kappa) out of the mixing weights. Keys of different lengths
# have different concentrations, and then that is another model.
printed = MemoryMixture(jax.nn.log_softmax(linear.offsets), memories.bank)
off = jnp.max(jnp.abs(printed.responsibilities(directions) - attention))
print(f"without the normaliser in the weights the posterior is off by up to {off:.2f}")
assert off > 0.1

# Epsilon in the layer norm shortens each query by its own factor, so that each query has its own mixture.
practical = Head(LayerNorm(gamma, delta, epsilon=1e-5), scale=1.0)
np.testing.assert_allclose(posterior(linear, x, "layer", 1e-5), attention_weights(practical, x, keys), atol=1e-12)

# The converse: choose any concentrations and weights, and compute the keys of an attention head.
wanted = MemoryMixture(jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1])), memories.bank)
new_keys = keys_of(wanted, gamma, delta, "layer", dim=num_features)
np.testing.assert_allclose(attention_weights(head, x, new_keys), wanted.responsibilities(directions), atol=1e-10)
print("keys were found whose attention is the posterior of a mixture with weights 0.4, 0.3, 0.2, 0.1")
