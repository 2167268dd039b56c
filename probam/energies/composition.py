r"""Memories of compositions: wells of logarithms on the simplex.

.. math:: E(q) = -\log \sum_k w_k \prod_i q_i^{e_{ki}}, \qquad q_i \ge 0, \quad \sum_i q_i = 1

With exponents \(e_k = \beta m_k\) a term is \(\exp(-\beta \mathrm{KL}(m_k \Vert q))\) up to its weight: the reverse
Kullback-Leibler similarity of universal Hopfield networks (Millidge et al. 2022, arXiv:2202.04557, Table 2, with the
sign that makes it a similarity). A term with all exponents above 0 has its top at \(e_k / \sum_i e_{ki}\); one with a
negative exponent is unbounded at that edge, so recall stays at least :data:`EDGE` away from it.

Convention: the energy is in nats. Queries have shape (..., D); a part below the smallest positive number of the dtype
is replaced by that number. A weight of zero marks an absent memory. Bad shapes raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Logs, Weights, log_weights, points
from probam.energies.memory import SIMPLEX, Card, Memory, checked_patterns, sharpness
from probam.energies.water_filling import fill
from probam.energies.wells import dot, log_shares, log_sum, shares, weighted_mean
from probam.pytrees import pytree

__all__ = ["EDGE", "Composition", "energy", "inside", "log_responsibilities", "responsibilities", "update"]

EDGE = 1e-6
"""Smallest part that recall moves to; a query with a smaller part may keep parts as small as that."""


def energy(
    query: Float[ArrayLike, "*batch D"], exponents: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats: \(E(q) = -\log \sum_k w_k \prod_i q_i^{e_{ki}}\).

    Args:
        query: compositions, whose parts are at least 0 and sum to one.
        exponents: one row for each memory; beta times a composition makes beta its inverse temperature.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, and weights that are negative or all 0.
    """
    query, exponents = points(query, exponents, "exponents")
    log_w = log_weights(weights, len(exponents), query.dtype)
    log_parts = _logs(query)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        return log_w[k] + jnp.sum(exponents[k] * log_parts, axis=-1)

    return -log_sum(log_w + dot(log_parts, exponents.T), log_term)


def responsibilities(
    query: Float[ArrayLike, "*batch D"], exponents: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    r"""Share of each memory in the sum: \(r_k(q) \propto w_k \prod_i q_i^{e_{ki}}\).

    Arguments and errors are those of :func:`energy`.
    """
    query, exponents = points(query, exponents, "exponents")
    return shares(log_weights(weights, len(exponents), query.dtype) + dot(_logs(query), exponents.T))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"], exponents: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    query, exponents = points(query, exponents, "exponents")
    return log_shares(log_weights(weights, len(exponents), query.dtype) + dot(_logs(query), exponents.T))


def update(
    query: Float[ArrayLike, "*batch D"], exponents: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch D"]:
    r"""Mean of the exponents under the responsibilities, as a composition: \(m_i(q) \propto \sum_k r_k(q) e_{ki}\).

    As a function of the memories' log terms the energy is concave, so it lies below
    \(-\sum_i (\sum_k r_k e_{ki}) \log q_i\) plus a constant, which m(q) minimises; a part with a negative sum goes to
    the edge. No step \(q + t (m(q) - q)\) with t in (0, 1] raises the energy. Where all sums are negative the part
    with the largest sum takes everything. Arguments and errors are those of :func:`energy`.
    """
    query, exponents = points(query, exponents, "exponents")
    logits = log_weights(weights, len(exponents), query.dtype) + dot(_logs(query), exponents.T)
    pull = weighted_mean(logits, exponents)
    strongest = jnp.arange(pull.shape[-1]) == jnp.argmax(pull, axis=-1, keepdims=True)
    none = jnp.all(pull <= 0, axis=-1, keepdims=True)
    pull = jnp.where(none, strongest.astype(pull.dtype), jnp.maximum(pull, 0))
    edge = jnp.clip(jnp.min(query, axis=-1), np.finfo(query.dtype).tiny, min(EDGE, 0.5 / query.shape[-1]))
    return fill(pull, jnp.sum(query, axis=-1), edge)


def inside(query: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
    """Each query with every part raised to at least :data:`EDGE`, divided by its sum."""
    query = jnp.asarray(query)
    parts = jnp.maximum(query, EDGE)
    return parts / jnp.sum(parts, axis=-1, keepdims=True)


def _logs(query: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    tiny = np.finfo(query.dtype).tiny
    return jnp.log(jnp.where(query < tiny, tiny, query))


@pytree
@dataclass(frozen=True, eq=False)
class Composition(Memory):
    r"""Memories of compositions: budgets, mixtures of substances, topic proportions.

    States are parts of a whole. A memory is the composition at the top of its term.

    .. math:: E(q) = -\log \sum_k w_k \prod_i q_i^{e_{ki}}, \qquad q_i \ge 0, \quad \sum_i q_i = 1

    >>> from probam.dynamics.memories import recall
    >>> memory = Composition.store(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]), beta=30.0)
    >>> recalled = recall(memory, jnp.array([0.5, 0.3, 0.2])).states
    >>> round(recalled[0].item(), 3)
    0.7
    """

    exponents: Float[ArrayLike, "K D"]
    weights: Weights | None = None

    card = Card(
        "composition",
        SIMPLEX,
        "-log sum_k w_k prod_i q_i^e_ki",
        "mean of the exponents under their shares, as a composition",
        "compositions far apart against 1 / sqrt(sum of exponents)",
        "Millidge et al. (2022), arXiv:2202.04557, Table 2 (reverse Kullback-Leibler)",
    )
    bank = "exponents"

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.exponents, self.weights)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.exponents, self.weights)

    def keep(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`inside`."""
        return inside(states)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None) -> "Composition":
        """A memory of these compositions, whose terms have the same height; None for ``beta`` tells them apart."""
        patterns = checked_patterns(patterns, SIMPLEX)
        exponents = sharpness(patterns, beta, "precision") * patterns
        return cls(exponents, Logs(-jnp.sum(xlogy(exponents, patterns), axis=-1)))
