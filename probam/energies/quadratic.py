r"""Wells with individual stiffness: the log-sum-exp energy of quadratic forms.

.. math:: E(v) = -\log \sum_k w_k \exp\bigl(-(v - \mu_k)^\top A_k (v - \mu_k)\bigr)

Convention (``clam`` of :mod:`probam.energies.conventions`, with the energy in nats): the stiffness includes the inverse
temperature. \(A_k = \beta I\) gives beta times the energy of :mod:`probam.energies.clam`. As a Gaussian, a well has
the precision \(2 A_k\) and the covariance \((2 A_k)^{-1}\).

Queries have shape (..., D), memories (K, D).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Weights, is_traced, log_weights, points, positive
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.wells import (
    diagonal_logits,
    dot,
    full_logits,
    isotropic_logits,
    log_shares,
    log_sum,
    mean_of,
    quadratic_form,
    shares,
)
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["Quadratic", "energy", "log_responsibilities", "lowest", "responsibilities", "stiffness_of", "update"]


def energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats.

    .. math:: E(v) = -\log \sum_k w_k \exp\bigl(-(v - \mu_k)^\top A_k (v - \mu_k)\bigr)

    Args:
        query: points of R^D.
        memories: one memory in each row.
        stiffness: how steeply a well rises, above 0: one number for all, (); one for each memory, (K,); one for each
            memory and coordinate, (K, D); or a positive definite matrix for each memory, (K, D, D), whose symmetric
            part is used.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, a stiffness that is not positive (definite), and weights that are
            negative or all 0.
    """
    query, memories = points(query, memories)
    stiffness = stiffness_of(stiffness, memories)
    log_w = log_weights(weights, len(memories), query.dtype)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        gap = query - memories[k]
        if stiffness.ndim == 3:
            form = quadratic_form(gap, stiffness[k])
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
    r"""Share of each well: \(r_k(v) \propto w_k \exp(-(v - \mu_k)^\top A_k (v - \mu_k))\).

    Arguments and errors are those of :func:`energy`.
    """
    query, memories = points(query, memories)
    log_w = log_weights(weights, len(memories), query.dtype)
    return shares(_logits(query, memories, stiffness_of(stiffness, memories), log_w))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    query, memories = points(query, memories)
    log_w = log_weights(weights, len(memories), query.dtype)
    return log_shares(_logits(query, memories, stiffness_of(stiffness, memories), log_w))


def update(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch D"]:
    r"""Minimum of the quadratic bound that lies above the energy and touches it at the query.

    .. math:: m(v) = \bar A^{-1} \sum_k r_k(v) A_k \mu_k, \qquad \bar A = \sum_k r_k(v) A_k

    Jensen's inequality at the responsibilities of v bounds the log of the sum, so no step \(v + a (m(v) - v)\) with a
    in (0, 2) raises the energy: \(\Delta E \le -a (2 - a) (m - v)^\top \bar A (m - v)\). The update is EM for the
    location of one point, and Gaussian mean shift where all wells are equally stiff. Arguments and errors are those of
    :func:`energy`.
    """
    query, memories = points(query, memories)
    stiffness = stiffness_of(stiffness, memories)
    log_w = log_weights(weights, len(memories), query.dtype)
    return lowest(shares(_logits(query, memories, stiffness, log_w)), memories, stiffness)


def lowest(
    share: Float[Array, "*batch K"], memories: Float[Array, "K D"], stiffness: Float[Array, "..."]
) -> Float[Array, "*batch D"]:
    r"""Minimum over v of \(\sum_k s_k (v - \mu_k)^\top A_k (v - \mu_k)\).

    Args:
        share: s, at least 0, not necessarily with a sum of one.
        memories: one memory in each row.
        stiffness: A, from :func:`stiffness_of`.
    """
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
    """Log terms of the sum, without the quadratic form of the least stiff well."""
    origin = mean_of(memories)
    query, memories = query - origin, memories - origin
    if stiffness.ndim == 3:
        return full_logits(query, memories, stiffness, log_w)
    if stiffness.ndim == 2:
        return diagonal_logits(query, memories, stiffness, log_w)
    excess = stiffness - jax.lax.stop_gradient(jnp.min(stiffness))
    return isotropic_logits(query, memories, stiffness, log_w, excess)


def stiffness_of(stiffness: Float[ArrayLike, "..."], memories: Float[Array, "K D"]) -> Float[Array, "..."]:
    """The stiffness as an array of shape (K,), (K, D) or (K, D, D), the last made symmetric.

    Args:
        stiffness: as for :func:`energy`.
        memories: the memories, which set K, D and the dtype.

    Raises:
        InputError: for another shape, and known values that are not positive (definite).
    """
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


@pytree
@dataclass(frozen=True, eq=False)
class Quadratic(Memory):
    r"""Wells of any shape: each memory has its own width, along each axis or as a matrix.

    For patterns that vary more in some directions than in others. The update is the mean of the memories weighted by
    stiffness, so that recall ends nearer to the stiffer of two memories.

    .. math:: E(v) = -\log \sum_k w_k \exp\bigl(-(v - \mu_k)^\top A_k (v - \mu_k)\bigr)

    >>> memory = Quadratic(jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.array([0.5, 2.0]))  # a wide well and a narrow one
    >>> moved = memory.update(jnp.array([1.0, 0.0]))  # half-way; the shares are 0.818 and 0.182
    >>> round(moved[0].item(), 3)
    0.943
    """

    memories: Float[ArrayLike, "K D"]
    stiffness: Float[ArrayLike, "..."]
    weights: Weights | None = None

    card = Card(
        "quadratic",
        REAL,
        "-log sum_k w_k exp(-(v - mu_k)' A_k (v - mu_k))",
        "mean of the memories, weighted by shares and stiffness",
        "every pattern whose well is narrow against the distance to the next",
        "Schaeffer et al. (2023), Sec. 2, with a matrix for beta; Dempster, Laird and Rubin (1977) for the update",
    )

    @property
    def separable(self) -> bool:
        """True for wells along the axes, where the bound on the energy is a sum over coordinates."""
        return jnp.ndim(self.stiffness) < 3

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.memories, self.stiffness, self.weights)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.memories, self.stiffness, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, stiffness: float | None = None) -> "Quadratic":
        """Round wells of one stiffness at these patterns; None for ``stiffness`` tells them apart."""
        patterns = checked_patterns(patterns, REAL)
        return cls(patterns, jnp.full(len(patterns), sharpness(patterns, stiffness)))
