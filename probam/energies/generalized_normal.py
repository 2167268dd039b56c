r"""Exponential-power wells: the log-sum-exp energy of powers of distances.

.. math::
    E(v) = -\log \sum_k w_k \exp\Bigl(-\sum_d \beta_{kd} |v_d - \mu_{kd}|^p\Bigr)
    \qquad\text{and}\qquad
    E(v) = -\log \sum_k w_k \exp(-\beta_k \lVert v - \mu_k \rVert^p)

:func:`energy` sums powers along the coordinates (the similarity is minus the p-th power of the p-norm),
:func:`radial_energy` takes the power of the Euclidean distance (p = 1: the similarity is minus the distance itself).
For p = 2 both are the quadratic wells of :mod:`probam.energies.quadratic`.

For 1 < p < 2 no quadratic function lies above \(|v - \mu|^p\) and touches it at \(\mu\), so there is no reweighted mean
that may start on a memory; recall descends by gradients (:func:`probam.dynamics.recall.descend`). Queries have shape
(..., D), memories (K, D), ``power`` is a number of at least 1. Derivatives at a peak are zero. Bad shapes and values
raise :class:`probam.errors.InputError`.
"""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Weights, is_traced, log_weights, points
from probam.energies.rates import rate_of_each, rates
from probam.energies.wells import shares
from probam.errors import InputError

__all__ = ["energy", "radial_energy", "radial_responsibilities", "responsibilities"]


def energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float,
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats; beta has shape (), (K,) or (K, D)."""
    return -logsumexp(_terms(query, memories, beta, power, weights), axis=-1)


def responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each memory: \(r_k(v) \propto w_k \exp(-\sum_d \beta_{kd} |v_d - \mu_{kd}|^p)\)."""
    return shares(_terms(query, memories, beta, power, weights))


def radial_energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float = 1.0,
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query in Euclidean distances, in nats; beta has shape () or (K,)."""
    return -logsumexp(_radial_terms(query, memories, beta, power, weights), axis=-1)


def radial_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Float[ArrayLike, "..."],
    power: float = 1.0,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each memory: \(r_k(v) \propto w_k \exp(-\beta_k |v - \mu_k|^p)\)."""
    return shares(_radial_terms(query, memories, beta, power, weights))


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
    """The p-th power of a distance from its square, with a zero derivative where the distance is zero."""
    if not is_traced(power) and not 1 <= float(np.asarray(power)) < np.inf:
        raise InputError(f"power: expected a number of at least 1; got {power}")
    apart = square > 0
    return jnp.where(apart, jnp.where(apart, square, 1) ** (power / 2), 0)
