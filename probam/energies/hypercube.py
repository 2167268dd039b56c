r"""Memories of bits: a constant field for each memory on a hypercube.

.. math:: E(v) = -\log \sum_k w_k \exp(f_k \cdot v), \qquad v \in [a, b]^D

The energy of exponential dense associative memories (Demircigil et al. 2017, arXiv:1702.01929, there
\(-\sum_k \exp(\xi_k \cdot v)\) with \(\xi_k \in \{-1, 1\}^D\)), with a separate field for each memory and feature.
Patterns that flip each spin with probability \(1/(1 + e^{2\beta})\) have fields \(\beta \xi_k\); on {0, 1} the field is
the log odds of a one.

Convention: the energy is in nats. It is concave everywhere, so its minima over the cube are corners: recall returns
bits. Queries have shape (..., D). The data are corners; points between them are allowed. A weight of zero marks an
absent memory. Bad shapes raise :class:`probam.errors.InputError`.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Scalar, Weights, log_weights, points
from probam.energies.wells import dot, log_shares, log_sum, shares, weighted_mean

__all__ = ["energy", "inside", "log_responsibilities", "responsibilities", "update"]


def energy(
    query: Float[ArrayLike, "*batch D"], fields: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats: \(E(v) = -\log \sum_k w_k \exp(f_k \cdot v)\).

    Args:
        query: points of the cube.
        fields: one row for each memory; larger entries make its bits more certain.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, and weights that are negative or all 0.
    """
    query, fields = points(query, fields, "fields")
    log_w = log_weights(weights, len(fields), query.dtype)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        return log_w[k] + jnp.sum(fields[k] * query, axis=-1)

    return -log_sum(log_w + dot(query, fields.T), log_term)


def responsibilities(
    query: Float[ArrayLike, "*batch D"], fields: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    r"""Share of each memory in the sum: \(r_k(v) \propto w_k \exp(f_k \cdot v)\).

    Arguments and errors are those of :func:`energy`.
    """
    query, fields = points(query, fields, "fields")
    return shares(log_weights(weights, len(fields), query.dtype) + dot(query, fields.T))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"], fields: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    query, fields = points(query, fields, "fields")
    return log_shares(log_weights(weights, len(fields), query.dtype) + dot(query, fields.T))


def update(
    query: Float[ArrayLike, "*batch D"],
    fields: Float[ArrayLike, "K D"],
    weights: Weights | None = None,
    low: Scalar = 0.0,
    high: Scalar = 1.0,
) -> Float[Array, "*batch D"]:
    r"""The corner that the force points to: \(v_i \leftarrow b\) where \(\sum_k r_k(v) f_{ki} > 0\), a where it is < 0.

    A coordinate on which the fields cancel (within rounding) does not change. The energy is concave, so it lies below
    its tangent, whose minimum over the cube is this corner: no step \(v + t (m(v) - v)\) with t > 0 raises the energy.
    It falls from corner to corner, so recall ends after finitely many steps.

    Args:
        query, fields, weights: as for :func:`energy`.
        low, high: the two values a < b of a bit.
    """
    query, fields = points(query, fields, "fields")
    logits = log_weights(weights, len(fields), query.dtype) + dot(query, fields.T)
    force = weighted_mean(logits, fields)
    noise = 4 * np.finfo(query.dtype).eps * weighted_mean(logits, jnp.abs(fields))
    corner = jnp.where(force > 0, jnp.asarray(high, query.dtype), jnp.asarray(low, query.dtype))
    return jnp.where(jnp.abs(force) <= noise, query, corner)


def inside(query: Float[ArrayLike, "*batch D"], low: Scalar = 0.0, high: Scalar = 1.0) -> Float[Array, "*batch D"]:
    """The point of the cube [low, high]^D nearest to each query."""
    query = jnp.asarray(query)
    return jnp.clip(query, jnp.asarray(low, query.dtype), jnp.asarray(high, query.dtype))
