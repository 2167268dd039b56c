r"""Exponential-power wells: the log-sum-exp energy of powers of distances.

.. math::
    E(v) = -\log \sum_k w_k \exp\Bigl(-\sum_d \beta_{kd} |v_d - \mu_{kd}|^p\Bigr)
    \qquad\text{and}\qquad
    E(v) = -\log \sum_k w_k \exp(-\beta_k \lVert v - \mu_k \rVert^p)

:func:`energy` sums powers along the coordinates (the similarity is minus the p-th power of the p-norm),
:func:`radial_energy` takes the power of the Euclidean distance (p = 1: the similarity is minus the distance itself).
For p = 2 both are the quadratic wells of :mod:`probam.energies.quadratic`.

For 1 < p < 2 no quadratic function lies above \(|v - \mu|^p\) and touches it at \(\mu\), so no update by a reweighted
mean can start on a memory. Recall uses gradient descent instead (:func:`probam.dynamics.recall.descend`). Queries have
shape (..., D), memories (K, D). Derivatives at a peak are zero.
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Weights, is_traced, log_weights, points
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.rates import rate_of_each, rates
from probam.energies.wells import log_shares, shares
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "GeneralizedNormal",
    "Radial",
    "energy",
    "log_responsibilities",
    "radial_energy",
    "radial_log_responsibilities",
    "radial_responsibilities",
    "responsibilities",
]


def energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float,
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query by powers of coordinate differences, in nats.

    Args:
        query: points of R^D.
        memories: one memory in each row.
        beta: rates above 0: one for all, one for each memory (K,), or one for each memory and coordinate (K, D).
        power: p, a number of at least 1.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes and values that do not fit.
    """
    return -logsumexp(_terms(query, memories, beta, power, weights), axis=-1)


def responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each memory: \(r_k(v) \propto w_k \exp(-\sum_d \beta_{kd} |v_d - \mu_{kd}|^p)\).

    Arguments and errors are those of :func:`energy`.
    """
    return shares(_terms(query, memories, beta, power, weights))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    return log_shares(_terms(query, memories, beta, power, weights))


def radial_energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float = 1.0,
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query by powers of Euclidean distances, in nats.

    Arguments and errors are those of :func:`energy`, with one beta for all memories or one for each, (K,).
    """
    return -logsumexp(_radial_terms(query, memories, beta, power, weights), axis=-1)


def radial_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float = 1.0,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each memory: \(r_k(v) \propto w_k \exp(-\beta_k |v - \mu_k|^p)\).

    Arguments and errors are those of :func:`radial_energy`.
    """
    return shares(_radial_terms(query, memories, beta, power, weights))


def radial_log_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float = 1.0,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    """Logs of :func:`radial_responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    return log_shares(_radial_terms(query, memories, beta, power, weights))


def _terms(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float,
    weights: Weights | None,
) -> Float[Array, "*batch K"]:
    query, memories = points(query, memories)
    raised = _raised(jnp.square(query[..., None, :] - memories), power)
    log_w = log_weights(weights, len(memories), query.dtype)
    return log_w - jnp.sum(rates("beta", beta, memories) * raised, axis=-1)


def _radial_terms(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float,
    weights: Weights | None,
) -> Float[Array, "*batch K"]:
    query, memories = points(query, memories)
    raised = _raised(jnp.sum(jnp.square(query[..., None, :] - memories), axis=-1), power)
    return log_weights(weights, len(memories), query.dtype) - rate_of_each("beta", beta, memories) * raised


def _raised(square: Float[Array, "..."], power: float) -> Float[Array, "..."]:
    """The p-th power of a distance, given its square, with a zero derivative where the distance is zero."""
    if not is_traced(power) and not 1 <= float(np.asarray(power)) < np.inf:
        raise InputError(f"power: expected a number of at least 1; got {power}")
    nonzero = square > 0
    return jnp.where(nonzero, jnp.where(nonzero, square, 1) ** (power / 2), 0)


@pytree
@dataclass(frozen=True, eq=False)
class GeneralizedNormal(Memory):
    r"""Wells of powers of coordinate differences: between Laplace's (p = 1) and boxes (large p).

    For tails between those of Laplace and Gauss, or flat tops. There is no update by means: recall follows the
    gradient.

    .. math:: E(v) = -\log \sum_k w_k \exp\Bigl(-\sum_d \beta_{kd} |v_d - \mu_{kd}|^p\Bigr)

    >>> memory = GeneralizedNormal(jnp.array([[0.0, 0.0], [4.0, 0.0]]), 0.25, power=4.0)
    >>> round(memory.energy(jnp.array([1.0, 0.0])).item(), 3)  # one from the first memory; the other is out of reach
    0.25
    """

    memories: Float[ArrayLike, "K D"]
    beta: Float[ArrayLike, "..."]
    power: float = field(default=2.0, metadata={"static": True})
    weights: Weights | None = None

    card = Card(
        "generalized_normal",
        REAL,
        "-log sum_k w_k exp(-sum_d beta_kd |v_d - mu_kd|^p)",
        "gradient descent",
        "every pattern whose well is narrow against the distance to the next",
        "Millidge et al. (2022), arXiv:2202.04557, Table 2, with any power",
    )
    no_update = "no quadratic bound touches |v - mu|^p at mu for 1 < p < 2, so recall follows the gradient"

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.memories, self.beta, self.power, self.weights)

    @classmethod
    def store(
        cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None, power: float = 2.0
    ) -> "GeneralizedNormal":
        """A memory of these patterns; None for ``beta`` tells them apart."""
        patterns = checked_patterns(patterns, REAL)
        return cls(patterns, jnp.asarray(sharpness(patterns, beta, power=power)), power)


@pytree
@dataclass(frozen=True, eq=False)
class Radial(Memory):
    r"""Wells of powers of the Euclidean distance: the well is a cone for p = 1.

    The same in all directions, with a sharp tip. There is no update by means; recall follows the gradient.

    .. math:: E(v) = -\log \sum_k w_k \exp(-\beta_k \lVert v - \mu_k \rVert^p)

    >>> memory = Radial(jnp.array([[0.0, 0.0], [4.0, 0.0]]), 1.0)
    >>> round(memory.energy(jnp.array([2.0, 0.0])).item(), 3)  # half-way: 2 - log 2
    1.307
    """

    memories: Float[ArrayLike, "K D"]
    beta: Float[ArrayLike, "..."]
    power: float = field(default=1.0, metadata={"static": True})
    weights: Weights | None = None

    card = Card(
        "radial",
        REAL,
        "-log sum_k w_k exp(-beta_k |v - mu_k|^p)",
        "gradient descent",
        "every pattern with the largest share at itself",
        "Millidge et al. (2022), arXiv:2202.04557, Table 2 (Euclidean distance)",
    )
    no_update = "no quadratic bound touches |v - mu|^p at mu for p < 2, so recall follows the gradient"

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`radial_energy`."""
        return radial_energy(states, self.memories, self.beta, self.power, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None, power: float = 1.0) -> "Radial":
        """A memory of these patterns; None for ``beta`` tells them apart."""
        patterns = checked_patterns(patterns, REAL)
        return cls(patterns, jnp.asarray(sharpness(patterns, beta, power=power)), power)
