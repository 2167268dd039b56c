r"""A mixture of memories observed through a noisy linear decoder: prior, likelihood, marginal and posterior.

.. math::
    z \sim \sum_k \pi_k N(\mu_k, t^2 I), \qquad x \mid z \sim N(A z + b, s^2 I) \;\Rightarrow\;
    x \sim \sum_k \pi_k N(A \mu_k + b,\; s^2 I + t^2 A A^\top)

Given x, z is a mixture of K Gaussians with the responsibilities of that marginal as weights, a common covariance
\((A^\top A / s^2 + I / t^2)^{-1}\) and the means \(\mu_k + t^2 A^\top (s^2 I + t^2 A A^\top)^{-1} (x - A \mu_k - b)\).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from probam.distributions.mixture import MemoryMixture

__all__ = ["LinearDecoder", "latent_posterior", "latent_prior", "likelihood", "observed"]


class LinearDecoder(NamedTuple):
    """Memories in the latent space, and a linear decoder with Gaussian noise."""

    log_weights: Float[Array, " K"]  # normalised
    memories: Float[Array, "K Z"]
    width: Float[Array, ""]  # t, standard deviation of a memory in the latent space
    matrix: Float[Array, "D Z"]
    bias: Float[Array, " D"]
    noise: Float[Array, ""]  # s, standard deviation of an observation


def latent_prior(model: LinearDecoder) -> MemoryMixture:
    """Distribution of the latent state."""
    return MemoryMixture(model.log_weights, dist.Normal(model.memories, model.width).to_event(1))


def likelihood(model: LinearDecoder, latent: Float[Array, "*batch Z"]) -> dist.Distribution:
    """Distribution of the observation given the latent state."""
    return dist.Normal(latent @ model.matrix.T + model.bias, model.noise).to_event(1)


def observed(model: LinearDecoder) -> MemoryMixture:
    """Distribution of the observation, without the latent state: K Gaussians around the decoded memories."""
    centres = model.memories @ model.matrix.T + model.bias
    return MemoryMixture(model.log_weights, dist.MultivariateNormal(centres, covariance_matrix=_spread(model)))


def latent_posterior(model: LinearDecoder, observation: Float[Array, " D"]) -> MemoryMixture:
    """Distribution of the latent state given one observation: a mixture of K Gaussians."""
    shares = observed(model).log_joint(observation)
    residual = observation - model.memories @ model.matrix.T - model.bias
    gain = jnp.linalg.solve(_spread(model), model.matrix).T  # (Z, D)
    means = model.memories + model.width**2 * residual @ gain.T
    eye = jnp.eye(model.memories.shape[1], dtype=model.memories.dtype)
    precision = model.matrix.T @ model.matrix / model.noise**2 + eye / model.width**2
    bank = dist.MultivariateNormal(means, covariance_matrix=jnp.linalg.inv(precision))
    return MemoryMixture(jax.nn.log_softmax(shares), bank)


def _spread(model: LinearDecoder) -> Float[Array, "D D"]:
    eye = jnp.eye(model.matrix.shape[0], dtype=model.matrix.dtype)
    return model.noise**2 * eye + model.width**2 * model.matrix @ model.matrix.T
