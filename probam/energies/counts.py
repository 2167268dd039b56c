r"""Memories of counts: Boltzmann's counting with fugacities.

.. math:: E(c) = \sum_i \log c_i! - \log \sum_k w_k \prod_i z_{ki}^{c_i}, \qquad c_i \ge 0

\(\log(n! / \prod_i c_i!)\) is the entropy of n balls in boxes with occupations c, and \(z_{ki}\) the fugacity of box i
in memory k. Between whole numbers the factorial is Gamma(c + 1). With \(z_{ki} = n m_{ki}\) a term is
\(\exp(-n \mathrm{KL}(c/n \Vert m_k))\) up to a function of c that all memories share: the Kullback-Leibler
similarity of universal Hopfield networks (Millidge et al. 2022, arXiv:2202.04557, Table 2).

Convention: the energy is in nats. Queries have shape (..., D); a negative count is read as 0. A weight of zero marks an
absent memory. Bad shapes raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Logs, Weights, log_weights, points, positive
from probam.energies.memory import COUNTS, Card, Memory, checked_patterns
from probam.energies.water_filling import fill
from probam.energies.wells import dot, log_shares, log_sum, shares, weighted_mean
from probam.pytrees import pytree

__all__ = ["Counts", "energy", "inside", "log_responsibilities", "responsibilities", "update"]


def energy(
    query: Float[ArrayLike, "*batch D"], log_fugacities: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats: \(\sum_i \log c_i! - \log \sum_k w_k \prod_i z_{ki}^{c_i}\).

    Args:
        query: counts of at least 0, not necessarily whole numbers; a negative count is read as 0.
        log_fugacities: logs of z, one row for each memory.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, and weights that are negative or all 0.
    """
    query, logs = points(query, log_fugacities, "log_fugacities")
    query = _counts(query)
    log_w = log_weights(weights, len(logs), query.dtype)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        return log_w[k] + jnp.sum(logs[k] * query, axis=-1)

    return jnp.sum(gammaln(query + 1), axis=-1) - log_sum(log_w + dot(query, logs.T), log_term)


def responsibilities(
    query: Float[ArrayLike, "*batch D"], log_fugacities: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    r"""Share of each memory in the sum: \(r_k(c) \propto w_k \prod_i z_{ki}^{c_i}\).

    Arguments and errors are those of :func:`energy`.
    """
    query, logs = points(query, log_fugacities, "log_fugacities")
    return shares(log_weights(weights, len(logs), query.dtype) + dot(_counts(query), logs.T))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"], log_fugacities: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    query, logs = points(query, log_fugacities, "log_fugacities")
    return log_shares(log_weights(weights, len(logs), query.dtype) + dot(_counts(query), logs.T))


def update(
    query: Float[ArrayLike, "*batch D"], log_fugacities: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch D"]:
    r"""The counts, with the same total, that minimise a convex bound on the energy.

    .. math:: m_i(c) = \max\bigl(0, a\, e^{f_i - \delta_i} - \tfrac12\bigr), \quad f = \sum_k r_k(c) \log z_k, \quad
        \delta_i = \psi(c_i + 1) - \log(c_i + \tfrac12)

    The factor a preserves the total. \(\log c! = (c + \tfrac12) \log (c + \tfrac12) - c\) plus a remainder that is
    concave, as its derivative \(\delta\) is completely monotone; the term of the memories is concave too. So the energy
    lies below the first term plus the tangents of the others. This bound is convex and m(c) minimises it: no step
    \(c + t (m(c) - c)\) with t in (0, 1] raises the energy, and counts of 0 may grow. Arguments and errors are those
    of :func:`energy`.
    """
    query, logs = points(query, log_fugacities, "log_fugacities")
    query = _counts(query)
    logits = log_weights(weights, len(logs), query.dtype) + dot(query, logs.T)
    exponent = weighted_mean(logits, logs) - (digamma(query + 1) - jnp.log(query + 0.5))
    pull = jnp.exp(exponent - jnp.max(exponent, axis=-1, keepdims=True))
    half = jnp.asarray(0.5, query.dtype)
    return fill(pull, jnp.sum(query + half, axis=-1), half) - half


def inside(query: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
    """Each query with its negative counts replaced by 0."""
    return jnp.maximum(jnp.asarray(query), 0)


def _counts(query: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    return jnp.where(query < 0, 0, query)  # the derivative at 0 is that from above


@pytree
@dataclass(frozen=True, eq=False)
class Counts(Memory):
    r"""Memories of counts: bags of words, spike counts, votes.

    Recall keeps the total of a query and moves its counts to the profile of a memory.

    .. math:: E(c) = \sum_i \log c_i! - \log \sum_k w_k \prod_i z_{ki}^{c_i}

    >>> from probam.dynamics.memories import recall
    >>> memory = Counts.store(jnp.array([[12.0, 4.0, 0.0], [0.0, 4.0, 12.0]]))
    >>> recalled = recall(memory, jnp.array([5.0, 3.0, 2.0])).states
    >>> round(recalled.sum().item(), 3)  # ten words, as before
    10.0
    """

    log_fugacities: Float[ArrayLike, "K D"]
    weights: Weights | None = None

    card = Card(
        "counts",
        COUNTS,
        "sum_i log c_i! - log sum_k w_k prod_i z_ki^c_i",
        "the profile of the memories under their shares, at the same total",
        "profiles that counts of the query's total tell apart",
        "Millidge et al. (2022), arXiv:2202.04557, Table 2 (Kullback-Leibler)",
    )
    bank = "log_fugacities"

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.log_fugacities, self.weights)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.log_fugacities, self.weights)

    def keep(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`inside`."""
        return inside(states)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, pseudocount: float = 0.5) -> "Counts":
        """A memory that expects these counts, each raised by ``pseudocount``, above 0."""
        patterns = checked_patterns(patterns, COUNTS)
        rates = patterns + positive("pseudocount", pseudocount, patterns.dtype)
        return cls(jnp.log(rates), Logs(-jnp.sum(rates, axis=-1)))
