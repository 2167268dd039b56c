r"""Spherical memories: wells of directions on the unit sphere, each with its own concentration.

.. math:: E(v) = -\log \sum_k w_k \exp(\kappa_k\, m_k \cdot v), \qquad |v| = |m_k| = 1

The spherical form of clustering associative memory (Saha et al. 2023, arXiv:2306.03209; Schaeffer et al. 2023, end of
Sec. 2 and Eq. 9).

Convention (``concentration`` of :mod:`probam.energies.conventions`): the energy is in nats. On the sphere \(|m - v|^2
= 2 - 2 m \cdot v\), so equal concentrations \(\kappa = 2\beta_{\rm CLAM}\) give \(\beta E_{\rm CLAM} = E + 2\beta\):
\(\kappa = \beta_{\rm MCHN}\).

Queries have shape (..., D) and unit length. The same formula is used off the sphere, as derivatives in the ambient
space require.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Weights, is_traced, log_weights, points, positive
from probam.energies.memory import UNIT, Card, Memory, checked_patterns, sharpness
from probam.energies.wells import dot, heights, log_shares, log_sum, shares
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["Spherical", "energy", "log_responsibilities", "responsibilities", "retract", "update"]


def energy(
    query: Float[ArrayLike, "*batch D"],
    directions: Float[ArrayLike, "K D"],
    concentrations: Float[ArrayLike, " K"],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats: \(E(v) = -\log \sum_k w_k \exp(\kappa_k m_k \cdot v)\).

    Args:
        query: unit vectors.
        directions: the memories m, unit vectors, one in each row.
        concentrations: kappa, one for each memory, at least 0; larger values make a memory sharper.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, directions that are not of length 1, negative concentrations, and
            weights that are negative or all 0.
    """
    query, directions, kappa, log_w = _checked(query, directions, concentrations, weights)
    logits = _logits(query, directions, kappa, log_w)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        return log_w[k] + kappa[k] * jnp.sum(directions[k] * query, axis=-1)

    return -log_sum(logits, log_term)


def responsibilities(
    query: Float[ArrayLike, "*batch D"],
    directions: Float[ArrayLike, "K D"],
    concentrations: Float[ArrayLike, " K"],
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each memory in the sum: \(r_k(v) \propto w_k \exp(\kappa_k m_k \cdot v)\).

    Arguments and errors are those of :func:`energy`.
    """
    return shares(_logits(*_checked(query, directions, concentrations, weights)))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    directions: Float[ArrayLike, "K D"],
    concentrations: Float[ArrayLike, " K"],
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    return log_shares(_logits(*_checked(query, directions, concentrations, weights)))


def update(
    query: Float[ArrayLike, "*batch D"],
    directions: Float[ArrayLike, "K D"],
    concentrations: Float[ArrayLike, " K"],
    weights: Weights | None = None,
) -> Float[Array, "*batch D"]:
    r"""Direction of the downhill force: \(m(v) = g / |g|\) with \(g = \sum_k r_k(v) \kappa_k m_k = -\nabla E(v)\).

    The energy is concave in the ambient space, so neither the step to m(v) nor ``retract(v + a (m(v) - v))`` with a in
    (0, 2) raises it. Where the forces cancel (|g| within rounding of zero) no direction is preferred, and the query
    does not move. Arguments and errors are those of :func:`energy`.

    >>> [round(x, 2) for x in update(jnp.array([0.8, 0.6]), jnp.eye(2), jnp.array([9.0, 9.0])).tolist()]
    [0.99, 0.16]
    """
    query, directions, kappa, log_w = _checked(query, directions, concentrations, weights)
    # pulls relative to the strongest one: only their direction counts, and r_k kappa_k may underflow
    idle = (kappa == 0) | jnp.isneginf(log_w)
    log_pull = jnp.where(idle, -jnp.inf, _logits(query, directions, kappa, log_w) + jnp.log(jnp.where(idle, 1, kappa)))
    pull = heights(jnp.where(jnp.all(idle), 0, log_pull))
    force = dot(pull, directions)
    square = jnp.sum(force**2, axis=-1, keepdims=True)
    noise = 4 * np.finfo(query.dtype).eps * jnp.sum(pull, axis=-1, keepdims=True)  # rounding of the sum
    cancelled = (square <= noise**2) | jnp.all(idle)
    return jnp.where(cancelled, query, force / jnp.sqrt(jnp.where(cancelled, 1, square)))


def retract(states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
    """States divided by their lengths. Zero has no direction and stays zero."""
    states = jnp.asarray(states)
    states = states.astype(jnp.result_type(states, float))
    square = jnp.sum(states**2, axis=-1, keepdims=True)
    return states / jnp.sqrt(jnp.where(square > 0, square, 1))


def _logits(
    query: Float[Array, "*batch D"],
    directions: Float[Array, "K D"],
    kappa: Float[Array, " K"],
    log_w: Float[Array, " K"],
) -> Float[Array, "*batch K"]:
    return log_w + dot(query, (kappa[:, None] * directions).T)


def _checked(
    query: Float[ArrayLike, "*batch D"],
    directions: Float[ArrayLike, "K D"],
    concentrations: Float[ArrayLike, " K"],
    weights: Weights | None,
) -> tuple[Float[Array, "*batch D"], Float[Array, "K D"], Float[Array, " K"], Float[Array, " K"]]:
    """Query, directions, concentrations and log weights in one dtype."""
    query, directions = points(query, directions, "directions")
    kappa = positive("concentrations", concentrations, query.dtype, (len(directions),), zero=True)
    if not is_traced(directions):
        length = np.linalg.norm(np.asarray(directions), axis=-1)
        off = np.flatnonzero(~(np.abs(length - 1) <= np.sqrt(np.finfo(query.dtype).eps)))
        if off.size:
            raise InputError(
                f"directions: expected rows of length 1; row {off[0]} has length {length[off[0]]:.6g}; "
                "divide each row by its length"
            )
    return query, directions, kappa, log_weights(weights, len(directions), query.dtype)


@pytree
@dataclass(frozen=True, eq=False)
class Spherical(Memory):
    r"""Memories of directions, each with its own concentration.

    For unit vectors: embeddings, normalised spectra, orientations. Lengths play no part. The update is the direction of
    the downhill force.

    .. math:: E(v) = -\log \sum_k w_k \exp(\kappa_k\, m_k \cdot v), \qquad |v| = |m_k| = 1

    >>> from probam.dynamics.memories import recall
    >>> memory = Spherical(jnp.eye(3), jnp.array([5.0, 5.0, 20.0]))
    >>> recalled = recall(memory, jnp.array([0.8, 0.0, 0.6]))
    >>> round(recalled.states[2].item(), 3)  # the concentrated memory wins although it is farther away
    1.0
    """

    directions: Float[ArrayLike, "K D"]
    concentrations: Float[ArrayLike, " K"]
    weights: Weights | None = None

    card = Card(
        "spherical",
        UNIT,
        "-log sum_k w_k exp(kappa_k m_k . v)",
        "direction of the mean of the memories, weighted by shares and concentrations",
        "exponential in D for directions that are spread out, as spherical codes are",
        "Saha et al. (2023); Schaeffer et al. (2023), end of Sec. 2 and Eq. 9",
    )
    bank = "directions"

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.directions, self.concentrations, self.weights)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.directions, self.concentrations, self.weights)

    def keep(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`retract`."""
        return retract(states)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, concentration: float | None = None) -> "Spherical":
        """A memory of these unit vectors; None for ``concentration`` tells them apart."""
        patterns = checked_patterns(patterns, UNIT)
        return cls(patterns, jnp.full(len(patterns), sharpness(patterns, concentration, "concentration")))
