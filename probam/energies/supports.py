r"""Wells with edges: memories whose term is zero beyond a support, and what becomes of recall there.

.. math::
    E(v) = -\log \sum_k w_k [\,|v_d - \mu_{kd}| \le h_{kd} \text{ for all } d\,], \qquad
    E(v) = -\log \sum_k w_k [\,\lVert v - \mu_k \rVert \le R_k\,]

(:func:`box_energy`, :func:`ball_energy`; the second with Hamming distances is the read of a sparse distributed memory)
and

.. math::
    E(v) = -\log \sum_k w_k \prod_d (v_d - \mu_{kd})^{-3/2} e^{-c_{kd} / (2 (v_d - \mu_{kd}))},
    \qquad v_d > \mu_{kd}

(:func:`levy_energy`). Outside all supports an energy is infinite, with derivative zero.

A flat well has no retrieval dynamics: inside its gradient is zero, outside all of them there is nothing to follow and
the shares are 0 / 0 (CLAIMS A15). A Lévy well has: its bottom is not at mu, where the energy is infinite, but at
\(\mu + c / 3\); recall descends by gradients (:func:`probam.dynamics.recall.descend`) from a query inside some support.

Queries have shape (..., D), memories (K, D), in nats; weights include what a density would put in front. Bad shapes and
values that are not above zero raise :class:`probam.errors.InputError`.
"""

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Weights, log_weights, points
from probam.energies.rates import rate_of_each, rates

__all__ = ["ball_energy", "box_energy", "levy_energy"]


def box_energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    half_widths: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    """Energy of flat boxes: minus the log of the weights of those that hold the query; half-widths (), (K,), (K, D)."""
    query, memories = points(query, memories)
    inside = jnp.all(jnp.abs(query[..., None, :] - memories) <= rates("half_widths", half_widths, memories), axis=-1)
    return _minus_log_sum(jnp.where(inside, log_weights(weights, len(memories), query.dtype), -jnp.inf))


def ball_energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    radii: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    """Energy of flat balls: minus the log of the weights of those that hold the query; radii () or (K,)."""
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
    """Energy of one-sided wells with edges at the memories; scales c of shape (), (K,) or (K, D)."""
    query, memories = points(query, memories)
    gap = query[..., None, :] - memories
    above = gap > 0
    safe = jnp.where(above, gap, 1)
    steep = jnp.sum(rates("scales", scales, memories) / (2 * safe) + 1.5 * jnp.log(safe), axis=-1)
    log_w = log_weights(weights, len(memories), query.dtype)
    return _minus_log_sum(jnp.where(jnp.all(above, axis=-1), log_w - steep, -jnp.inf))


def _minus_log_sum(terms: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """Infinite, with derivative zero, where no term is left."""
    any_term = jnp.any(terms > -jnp.inf, axis=-1)
    return jnp.where(any_term, -logsumexp(jnp.where(any_term[..., None], terms, 0), axis=-1), jnp.inf)
