r"""Laplace wells: the log-sum-exp energy of absolute distances along the coordinates.

.. math:: E(v) = -\log \sum_k w_k \exp\Bigl(-\sum_d \beta_{kd} |v_d - \mu_{kd}|\Bigr)

Where all beta are equal, the similarity is minus the Manhattan distance. The update is a weighted median of the
memories along each coordinate, not a mean. Recall from any query ends after finitely many steps, at a point each of
whose coordinates is that of a memory.

Queries have shape (..., D), memories (K, D). The energy is in nats. It has a kink where a coordinate of the query
equals that of a memory; its derivative there is the mean of both sides.
"""

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Weights, log_weights, points
from probam.energies.rates import rates
from probam.energies.wells import log_shares, shares
from probam.placement import each

__all__ = ["energy", "log_responsibilities", "responsibilities", "update"]


def energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats: \(-\log \sum_k w_k \exp(-\sum_d \beta_{kd} |v_d - \mu_{kd}|)\).

    Args:
        query: points of R^D.
        memories: one memory in each row.
        beta: rates above 0: one for all, one for each memory (K,), or one for each memory and coordinate (K, D).
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, beta <= 0, and weights that are negative or all 0.
    """
    return -logsumexp(_terms(query, memories, beta, weights), axis=-1)


def responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each memory: \(r_k(v) \propto w_k \exp(-\sum_d \beta_{kd} |v_d - \mu_{kd}|)\).

    Arguments and errors are those of :func:`energy`.
    """
    return shares(_terms(query, memories, beta, weights))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    return log_shares(_terms(query, memories, beta, weights))


def update(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch D"]:
    r"""Weighted median of the memories along each coordinate (the smallest one), with weights \(r_k(v) \beta_{kd}\).

    It minimises \(F(v') = \sum_k r_k(v) \sum_d \beta_{kd} |v'_d - \mu_{kd}|\), which by Jensen's inequality lies above
    the energy up to a constant and touches it at v. F is convex, so \(v + a (m(v) - v)\) does not raise the energy for
    a in (0, 1]; longer steps may. Arguments and errors are those of :func:`energy`.
    """
    query, memories = points(query, memories)
    rate = rates("beta", beta, memories)
    share = shares(_terms(query, memories, beta, weights))

    def median(column: tuple[Float[Array, " K"], Float[Array, " K"]]) -> Float[Array, "*batch"]:
        values, rate = column
        order = jnp.argsort(values)
        below = jnp.cumsum((share * rate)[..., order], axis=-1)
        return values[order][jnp.argmax(below >= 0.5 * below[..., -1:], axis=-1)]

    return jnp.moveaxis(each(median, (memories.T, rate.T), numbers=share.size), 0, -1)  # arrays (..., K)


def _terms(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    weights: Weights | None,
) -> Float[Array, "*batch K"]:
    """Log terms of the sum."""
    query, memories = points(query, memories)
    distance = jnp.sum(rates("beta", beta, memories) * jnp.abs(query[..., None, :] - memories), axis=-1)
    return log_weights(weights, len(memories), query.dtype) - distance
