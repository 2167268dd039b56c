r"""Memories of compositions: wells of logarithms on the simplex.

.. math:: E(q) = -\log \sum_k w_k \prod_i q_i^{e_{ki}}, \qquad q_i \ge 0, \quad \sum_i q_i = 1

With exponents \(e_k = \beta m_k\) a term is \(\exp(-\beta \mathrm{KL}(m_k \Vert q))\) up to its weight: the reverse
Kullback-Leibler similarity of universal Hopfield networks (Millidge et al. 2022, arXiv:2202.04557, Table 2, with the
sign that makes it a similarity). A term with all exponents above 0 has its top at \(e_k / \sum_i e_{ki}\); one with a
negative exponent is unbounded at that edge, so recall keeps off the edge by :data:`EDGE`.

Convention: the energy is in nats. Queries have shape (..., D); a part below the smallest number of the dtype counts as
that. A weight of zero marks an absent memory. Bad shapes raise :class:`probam.errors.InputError`.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Weights, log_weights, points
from probam.energies.water_filling import fill
from probam.energies.wells import dot, log_sum, shares, weighted_mean

__all__ = ["EDGE", "energy", "inside", "responsibilities", "update"]

EDGE = 1e-6
"""Smallest part that recall moves to; a query that has a smaller one may keep one as small."""


def energy(
    query: Float[ArrayLike, "*batch D"], exponents: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats: \(E(q) = -\log \sum_k w_k \prod_i q_i^{e_{ki}}\)."""
    query, exponents = points(query, exponents, "exponents")
    log_w = log_weights(weights, len(exponents), query.dtype)
    log_parts = _logs(query)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        return log_w[k] + jnp.sum(exponents[k] * log_parts, axis=-1)

    return -log_sum(log_w + dot(log_parts, exponents.T), log_term)


def responsibilities(
    query: Float[ArrayLike, "*batch D"], exponents: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    r"""Share of each memory in the sum: \(r_k(q) \propto w_k \prod_i q_i^{e_{ki}}\)."""
    query, exponents = points(query, exponents, "exponents")
    return shares(log_weights(weights, len(exponents), query.dtype) + dot(_logs(query), exponents.T))


def update(
    query: Float[ArrayLike, "*batch D"], exponents: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch D"]:
    r"""Exponents under the responsibilities, as a composition: \(m_i(q) \propto \sum_k r_k(q) e_{ki}\).

    As a function of the memories' log terms the energy is concave, so it lies below
    \(-\sum_i (\sum_k r_k e_{ki}) \log q_i\) plus a constant, which m(q) minimises; a part with a negative sum goes to
    the edge. Neither the step nor a part of it, \(q + t (m(q) - q)\) with t in (0, 1], raises the energy. Where all
    sums are negative the strongest part takes everything.
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
    """Each query with its negative parts at the edge, divided by its sum."""
    query = jnp.asarray(query)
    parts = jnp.maximum(query, EDGE)
    return parts / jnp.sum(parts, axis=-1, keepdims=True)


def _logs(query: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    tiny = np.finfo(query.dtype).tiny
    return jnp.log(jnp.where(query < tiny, tiny, query))
