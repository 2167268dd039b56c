r"""Laplace wells: the log-sum-exp energy of absolute distances along the coordinates.

.. math:: E(v) = -\log \sum_k w_k \exp\Bigl(-\sum_d \beta_{kd} |v_d - \mu_{kd}|\Bigr)

Where all beta are equal, the similarity is minus the Manhattan distance. The update is a weighted median of the
memories along each coordinate, not a mean. Recall from any query ends after finitely many steps, at a point each of
whose coordinates is that of a memory.

Queries have shape (..., D), memories (K, D). The energy is in nats. It has a kink where a coordinate of the query
equals that of a memory; its derivative there is the mean of both sides.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Weights, log_weights, points
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.rates import rates
from probam.energies.wells import log_shares, shares
from probam.placement import each
from probam.pytrees import pytree

__all__ = ["Laplace", "energy", "log_responsibilities", "responsibilities", "update"]


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


@pytree
@dataclass(frozen=True, eq=False)
class Laplace(Memory):
    r"""Wells of absolute distances: recall ends exactly on stored coordinates.

    For data with outliers or rounded values. The update is a weighted median along each coordinate, so that recall ends
    after finitely many steps at a point whose coordinates are all those of memories.

    .. math:: E(v) = -\log \sum_k w_k \exp\Bigl(-\sum_d \beta_{kd} |v_d - \mu_{kd}|\Bigr)

    >>> from probam.dynamics.memories import recall
    >>> memory = Laplace(jnp.array([[0.0, 0.0], [4.0, 0.0]]), beta=0.25)
    >>> recalled = recall(memory, jnp.array([3.0, 1.0]))
    >>> recalled.states[0].item()  # CLAM with the same beta ends at 3.915
    4.0
    """

    memories: Float[ArrayLike, "K D"]
    beta: Float[ArrayLike, "..."]
    weights: Weights | None = None

    card = Card(
        "laplace",
        REAL,
        "-log sum_k w_k exp(-sum_d beta_kd |v_d - mu_kd|)",
        "weighted median of the memories along each coordinate",
        "every pattern with the largest share at itself",
        "Millidge et al. (2022), arXiv:2202.04557, Table 2 (Manhattan distance)",
    )
    separable = True

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.memories, self.beta, self.weights)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.memories, self.beta, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None) -> "Laplace":
        """A memory of these patterns; None for ``beta`` tells them apart."""
        patterns = checked_patterns(patterns, REAL)
        return cls(patterns, jnp.asarray(sharpness(patterns, beta, power=1)))
