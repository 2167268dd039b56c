r"""Wells with their own stiffness: the log-sum-exp energy of quadratic forms.

.. math:: E(v) = -\log \sum_k w_k \exp\bigl(-(v - \mu_k)^\top A_k (v - \mu_k)\bigr)

The stiffness says how steeply each memory's well rises: one number for all, shape (); one a memory, (K,); one a
memory and coordinate, (K, D); or a positive definite matrix a memory, (K, D, D), of which the symmetric part counts.

Convention (``clam`` of :mod:`probam.energies.conventions`, with the energy in nats): the stiffness carries the
inverse temperature: \(A_k = \beta I\) gives beta times the energy of :mod:`probam.energies.clam`. As a Gaussian, a
well has precision \(2 A_k\), covariance \((2 A_k)^{-1}\).

Queries have shape (..., D), memories (K, D). A weight of zero marks an absent memory. Bad shapes, a stiffness that is
not positive (definite) and weights below zero raise :class:`probam.errors.InputError`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Weights, is_traced, log_weights, points, positive
from probam.energies.wells import (
    diagonal_logits,
    dot,
    full_logits,
    isotropic_logits,
    log_sum,
    mean_of,
    shares,
)
from probam.errors import InputError

__all__ = ["energy", "lowest", "responsibilities", "stiffness_of", "update"]


def energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats.

    .. math:: E(v) = -\log \sum_k w_k \exp\bigl(-(v - \mu_k)^\top A_k (v - \mu_k)\bigr)
    """
    query, memories = points(query, memories)
    stiffness = stiffness_of(stiffness, memories)
    log_w = log_weights(weights, len(memories), query.dtype)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        gap = query - memories[k]
        if stiffness.ndim == 3:
            form = jnp.einsum("...d,...de,...e->...", gap, stiffness[k], gap, precision="highest")
        elif stiffness.ndim == 2:
            form = jnp.sum(stiffness[k] * gap**2, axis=-1)
        else:
            form = stiffness[k] * jnp.sum(gap**2, axis=-1)
        return log_w[k] - form

    return -log_sum(_logits(query, memories, stiffness, log_w), log_term)


def responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each well: \(r_k(v) \propto w_k \exp(-(v - \mu_k)^\top A_k (v - \mu_k))\)."""
    query, memories = points(query, memories)
    log_w = log_weights(weights, len(memories), query.dtype)
    return shares(_logits(query, memories, stiffness_of(stiffness, memories), log_w))


def update(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch D"]:
    r"""Minimum of the quadratic form that lies above the energy and touches it at the query.

    .. math:: m(v) = \bar A^{-1} \sum_k r_k(v) A_k \mu_k, \qquad \bar A = \sum_k r_k(v) A_k

    The log of a sum is bounded by Jensen's inequality at the responsibilities of v, which makes
    \(v + a (m(v) - v)\) monotone for a in (0, 2):
    \(\Delta E \le -a (2 - a) (m - v)^\top \bar A (m - v)\). It is EM for the location of one point, and Gaussian mean
    shift where the wells are equally stiff.
    """
    query, memories = points(query, memories)
    stiffness = stiffness_of(stiffness, memories)
    log_w = log_weights(weights, len(memories), query.dtype)
    return lowest(shares(_logits(query, memories, stiffness, log_w)), memories, stiffness)


def lowest(
    share: Float[Array, "*batch K"], memories: Float[Array, "K D"], stiffness: Float[Array, "..."]
) -> Float[Array, "*batch D"]:
    r"""Minimum over v of \(\sum_k s_k (v - \mu_k)^\top A_k (v - \mu_k)\), for shares that need not sum to one."""
    origin = mean_of(memories)
    relative = memories - origin
    if stiffness.ndim == 3:
        num_memories, dim = memories.shape
        flat = stiffness.reshape(num_memories, dim * dim)
        mean_stiffness = dot(share, flat).reshape(*share.shape[:-1], dim, dim)
        pull = dot(share, jnp.einsum("kde,ke->kd", stiffness, relative, precision="highest"))
        return origin + cho_solve(cho_factor(mean_stiffness, lower=True), pull[..., None])[..., 0]
    columns = stiffness if stiffness.ndim == 2 else stiffness[:, None]
    return origin + dot(share, columns * relative) / dot(share, columns)


def _logits(
    query: Float[Array, "*batch D"],
    memories: Float[Array, "K D"],
    stiffness: Float[Array, "..."],
    log_w: Float[Array, " K"],
) -> Float[Array, "*batch K"]:
    """Log terms of the sum without the quadratic form of the softest well."""
    origin = mean_of(memories)
    query, memories = query - origin, memories - origin
    if stiffness.ndim == 3:
        return full_logits(query, memories, stiffness, log_w)
    if stiffness.ndim == 2:
        return diagonal_logits(query, memories, stiffness, log_w)
    excess = stiffness - jax.lax.stop_gradient(jnp.min(stiffness))
    return isotropic_logits(query, memories, stiffness, log_w, excess)


def stiffness_of(stiffness: Float[ArrayLike, "..."], memories: Float[Array, "K D"]) -> Float[Array, "..."]:
    """The stiffness in one of the shapes (K,), (K, D) and (K, D, D), the last made symmetric."""
    stiffness = jnp.asarray(stiffness, memories.dtype)
    num_memories, dim = memories.shape
    shape = stiffness.shape
    if shape not in ((), (num_memories,), (num_memories, dim), (num_memories, dim, dim)):
        raise InputError(
            f"stiffness: expected shape (), ({num_memories},), ({num_memories}, {dim}) or "
            f"({num_memories}, {dim}, {dim}); got {shape}"
        )
    if len(shape) < 3:
        stiffness = positive("stiffness", stiffness, memories.dtype, shape)
        return jnp.broadcast_to(stiffness, (num_memories,)) if shape == () else stiffness
    stiffness = (stiffness + jnp.swapaxes(stiffness, -2, -1)) / 2
    if not is_traced(stiffness):
        lowest = np.linalg.eigvalsh(np.asarray(stiffness))[:, 0]
        if not (lowest > 0).all():
            k = int(np.flatnonzero(~(lowest > 0))[0])
            raise InputError(
                f"stiffness: expected positive definite matrices; number {k} has the eigenvalue {lowest[k]:.3g}"
            )
    return stiffness
