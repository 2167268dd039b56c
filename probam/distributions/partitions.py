r"""Exchangeable partition distributions of Gibbs type, as distributions of labels in K slots.

.. math:: P(\text{partition into blocks of sizes } n_1, \dots, n_t) = V_n(t) \prod_j (1 - \sigma)_{n_j - 1}

(Gnedin and Pitman 2006). The two-parameter Chinese restaurant process has sigma = d and
:math:`V_n(t) = \prod_{i<t} (\alpha + i d) / (\alpha + 1)_{n-1}` (CLAIMS A19); a mixture of finite mixtures with
symmetric Dirichlet weights of concentration gamma has sigma = -gamma (Miller and Harrison 2018).

Samplers store blocks in K slots. A new block takes any empty slot with equal probability, so the probability of the
labels is that of the partition divided by the K! / (K - t)! ways to place its blocks. The number of blocks is
conditioned on t <= K.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, Float

from probam.numerics.log_gamma import log_gamma_ratio

__all__ = ["GibbsTypePartition", "chinese_restaurant", "finite_mixtures", "log_finite_terms"]


class GibbsTypePartition(NamedTuple):
    """Distribution of the labels of n data in K slots."""

    log_v: Float[Array, " K+2"]  # log V_n(t) for t = 0, ..., K + 1 (0 and K + 1 are never used)
    sigma: Float[Array, ""]

    def log_predictive(self, counts: Float[Array, " K"]) -> Float[Array, " K"]:
        """Log probability (up to a constant) of the last datum's label given the counts of the n - 1 others."""
        occupied = counts > 0
        num_blocks = jnp.sum(occupied)
        num_empty = jnp.maximum(len(counts) - num_blocks, 1)
        join = jnp.log(jnp.where(occupied, counts - self.sigma, 1)) + self.log_v[num_blocks]
        return jnp.where(occupied, join, self.log_v[num_blocks + 1] - jnp.log(1.0 * num_empty))

    def log_marginal(self, counts: Float[Array, " K"]) -> Float[Array, ""]:
        """Log probability of labels with these counts."""
        occupied = counts > 0
        num_blocks, num_slots = jnp.sum(occupied), len(counts)
        safe = jnp.where(occupied, counts, 1)
        blocks = jnp.sum(jnp.where(occupied, gammaln(safe - self.sigma) - gammaln(1 - self.sigma), 0))
        places = gammaln(num_slots + 1.0) - gammaln(num_slots - num_blocks + 1.0)
        return self.log_v[num_blocks] + blocks - places


def chinese_restaurant(
    alpha: jax.Array, discount: jax.Array, num_slots: int, num_data: int | jax.Array
) -> GibbsTypePartition:
    """The Chinese restaurant process and its two-parameter extension.

    Args:
        alpha: strength, above 0.
        discount: d in [0, 1); 0 is the Dirichlet process.
        num_slots: K.
        num_data: n.
    """
    steps = jnp.log(alpha + discount * jnp.arange(1, num_slots + 1))
    tail = log_gamma_ratio(alpha + 1, num_data - 1.0)
    log_v = jnp.concatenate([jnp.zeros(2, steps.dtype), jnp.cumsum(steps)]) - tail
    return GibbsTypePartition(log_v, jnp.asarray(discount, log_v.dtype))


def log_finite_terms(
    concentration: float, num_blocks: jax.Array, num_slots: int, num_data: int | jax.Array
) -> Float[Array, " K"]:
    r"""Log of :math:`k! / (k - t)! \; \gamma^t / (\gamma k)^{(n)} / K` for k = 1, ..., K memories; -inf for k < t.

    Args:
        concentration: gamma > 0.
        num_blocks: t.
        num_slots: K.
        num_data: n.
    """
    sizes = jnp.arange(1.0, num_slots + 1)
    enough = sizes >= num_blocks
    choices = gammaln(sizes + 1) - gammaln(jnp.where(enough, sizes - num_blocks, 0) + 1)
    rising = log_gamma_ratio(concentration * sizes, num_data)
    terms = choices - rising + num_blocks * jnp.log(concentration) - jnp.log(1.0 * num_slots)
    return jnp.where(enough, terms, -jnp.inf)


def finite_mixtures(concentration: float, num_slots: int, num_data: int | jax.Array) -> GibbsTypePartition:
    """A mixture of finite mixtures, with the number of memories uniform on 1, ..., K and symmetric Dirichlet weights.

    Args:
        concentration: gamma > 0, of each weight.
        num_slots: K.
        num_data: n.
    """
    blocks = jnp.arange(num_slots + 1)
    terms = jax.vmap(lambda t: log_finite_terms(concentration, t, num_slots, num_data))(blocks)
    log_v = jnp.append(logsumexp(terms, axis=-1), -jnp.inf)
    return GibbsTypePartition(log_v, jnp.asarray(-concentration, log_v.dtype))
