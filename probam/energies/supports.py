r"""Wells with bounded support: memories whose term is zero outside a box, a ball or an orthant.

.. math::
    E(v) = -\log \sum_k w_k [\,|v_d - \mu_{kd}| \le h_{kd} \text{ for all } d\,], \qquad
    E(v) = -\log \sum_k w_k [\,\lVert v - \mu_k \rVert \le R_k\,]

(:func:`box_energy`, :func:`ball_energy`; with Hamming distances the second reads a sparse distributed memory) and

.. math::
    E(v) = -\log \sum_k w_k \prod_d (v_d - \mu_{kd})^{-3/2} e^{-c_{kd} / (2 (v_d - \mu_{kd}))},
    \qquad v_d > \mu_{kd}

(:func:`levy_energy`). Outside all supports an energy is infinite, with derivative zero.

Flat wells have no retrieval dynamics: the gradient is zero inside, and outside all wells the shares are 0 / 0 (CLAIMS
A15). Lévy wells do. The minimum of such a well is at \(\mu + c / 3\); at mu itself the energy is infinite. Recall uses
gradient descent (:func:`probam.dynamics.recall.descend`) from a query inside a support.

All three functions return nats and share these arguments: ``query``, points of shape (..., D); ``memories``, one in
each row, shape (K, D); ``weights``, one for each memory, at least 0, which include the normalising constant of a
density (None gives every memory the weight 1). Bad shapes and values that are not above zero raise
:class:`probam.errors.InputError`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Weights, log_weights, points
from probam.energies.memory import REAL, Card, Memory, checked_patterns
from probam.energies.rates import rate_of_each, rates
from probam.pytrees import pytree

__all__ = ["Ball", "Box", "Levy", "ball_energy", "box_energy", "levy_energy"]


def box_energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    half_widths: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    """Energy of flat boxes: minus the log of the total weight of the boxes that contain the query.

    ``half_widths`` are above 0: one for all, one for each memory (K,), or one for each memory and coordinate (K, D).
    """
    query, memories = points(query, memories)
    inside = jnp.all(jnp.abs(query[..., None, :] - memories) <= rates("half_widths", half_widths, memories), axis=-1)
    return _minus_log_sum(jnp.where(inside, log_weights(weights, len(memories), query.dtype), -jnp.inf))


def ball_energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    radii: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    """Energy of flat balls: minus the log of the total weight of the balls that contain the query.

    ``radii`` are above 0: one for all memories or one for each, (K,).
    """
    query, memories = points(query, memories)
    square = jnp.sum((query[..., None, :] - memories) ** 2, axis=-1)
    inside = square <= rate_of_each("radii", radii, memories) ** 2
    return _minus_log_sum(jnp.where(inside, log_weights(weights, len(memories), query.dtype), -jnp.inf))


def levy_energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    scales: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    """Energy of one-sided wells with edges at the memories.

    ``scales`` c are above 0: one for all, one for each memory (K,), or one for each memory and coordinate (K, D).
    """
    query, memories = points(query, memories)
    gap = query[..., None, :] - memories
    above = gap > 0
    safe = jnp.where(above, gap, 1)
    steep = jnp.sum(rates("scales", scales, memories) / (2 * safe) + 1.5 * jnp.log(safe), axis=-1)
    log_w = log_weights(weights, len(memories), query.dtype)
    return _minus_log_sum(jnp.where(jnp.all(above, axis=-1), log_w - steep, -jnp.inf))


def _minus_log_sum(terms: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """Minus the log of the sum; infinite, with derivative zero, where all terms are zero."""
    any_term = jnp.any(terms > -jnp.inf, axis=-1)
    return jnp.where(any_term, -logsumexp(jnp.where(any_term[..., None], terms, 0), axis=-1), jnp.inf)


@pytree
@dataclass(frozen=True, eq=False)
class Box(Memory):
    r"""Flat boxes: a state belongs to the memories whose box it lies in.

    A rule, not a dynamics: inside a box the energy does not change, outside all boxes it is infinite.

    .. math:: E(v) = -\log \sum_k w_k [\,|v_d - \mu_{kd}| \le h_{kd} \text{ for all } d\,]

    >>> memory = Box(jnp.array([[0.0, 0.0], [1.0, 0.0]]), 0.8)
    >>> round(memory.energy(jnp.array([0.5, 0.0])).item(), 3)  # in both: -log 2
    -0.693
    """

    memories: Float[ArrayLike, "K D"]
    half_widths: Float[ArrayLike, "..."]
    weights: Weights | None = None

    card = Card(
        "box",
        REAL,
        "-log of the weights of the boxes that contain v",
        "none",
        "as many as boxes fit without overlap",
        "Kanerva (1988) for the threshold, with the largest coordinate difference",
    )
    no_update = still = "the energy is flat inside a box and infinite outside all of them"

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`box_energy`."""
        return box_energy(states, self.memories, self.half_widths, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, half_width: float = 1.0) -> "Box":
        """Boxes around these patterns."""
        return cls(checked_patterns(patterns, REAL), jnp.asarray(half_width))


@pytree
@dataclass(frozen=True, eq=False)
class Ball(Memory):
    r"""Flat balls: a state belongs to the memories within the radius.

    With Hamming distances this is what a sparse distributed memory asks of its locations. Nothing moves.

    .. math:: E(v) = -\log \sum_k w_k [\,\lVert v - \mu_k \rVert \le R_k\,]

    >>> memory = Ball(jnp.array([[0.0, 0.0], [1.0, 0.0]]), 0.8, weights=jnp.array([0.5, 0.5]))
    >>> round(memory.energy(jnp.array([0.1, 0.0])).item(), 3)  # in one ball only: -log 0.5
    0.693
    """

    memories: Float[ArrayLike, "K D"]
    radii: Float[ArrayLike, "..."]
    weights: Weights | None = None

    card = Card(
        "ball",
        REAL,
        "-log of the weights of the balls that contain v",
        "none",
        "as many as balls fit without overlap",
        "Kanerva (1988) for the threshold",
    )
    no_update = still = "the energy is flat inside a ball and infinite outside all of them"

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`ball_energy`."""
        return ball_energy(states, self.memories, self.radii, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, radius: float = 1.0) -> "Ball":
        """Balls around these patterns."""
        return cls(checked_patterns(patterns, REAL), jnp.asarray(radius))


@pytree
@dataclass(frozen=True, eq=False)
class Levy(Memory):
    r"""One-sided wells: a memory is an edge, and recall ends a third of the scale above it.

    For waiting times and sizes, which have a least value and a long tail. A query must lie above an edge.

    .. math:: E(v) = -\log \sum_k w_k \prod_d (v_d - \mu_{kd})^{-3/2} e^{-c_{kd} / (2 (v_d - \mu_{kd}))}

    >>> from probam.dynamics.memories import recall
    >>> memory = Levy(jnp.array([[1.0]]), 3.0)
    >>> round(recall(memory, jnp.array([4.0])).states[0].item(), 3)  # edge + c / 3
    2.0
    """

    memories: Float[ArrayLike, "K D"]
    scales: Float[ArrayLike, "..."]
    weights: Weights | None = None

    card = Card(
        "levy",
        REAL,
        "-log sum_k w_k prod_d (v_d - mu_kd)^(-3/2) exp(-c_kd / (2 (v_d - mu_kd)))",
        "gradient descent",
        "patterns far apart against c / 3",
        "a well of our own, for the one-sided stable law",
    )
    no_update = "no bound by means is known, so recall follows the gradient"

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`levy_energy`."""
        return levy_energy(states, self.memories, self.scales, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, scale: float = 1.0) -> "Levy":
        """Wells whose lowest points are these patterns."""
        return cls(checked_patterns(patterns, REAL) - scale / 3, jnp.asarray(scale))
