r"""Student-t wells: the log-sum energy of memories with heavy tails.

.. math:: E(v) = -\log \sum_k w_k \bigl(1 + q_k(v) / \nu_k\bigr)^{-(\nu_k + D)/2}, \qquad
    q_k(v) = (v - \mu_k)^\top A_k (v - \mu_k)

The well of a memory grows like the log of the distance. Its force falls as one over the distance, so that an outlier
has little influence on the other memories. The energy is a regularised form of the reciprocal-distance similarities,
which correspond to no density in any dimension (CLAIMS C14). As nu grows it tends to the quadratic wells of stiffness
A / 2.

Queries have shape (..., D), memories (K, D); the energy is in nats.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Weights, log_weights, points
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.quadratic import lowest, stiffness_of
from probam.energies.rates import rate_of_each
from probam.energies.wells import log_shares, shares
from probam.pytrees import pytree

__all__ = ["StudentT", "energy", "log_responsibilities", "responsibilities", "update"]


def energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    df: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats: \(-\log \sum_k w_k (1 + q_k(v) / \nu_k)^{-(\nu_k + D)/2}\).

    Args:
        query: points of R^D.
        memories: one memory in each row.
        stiffness: A, in one of the shapes of :func:`probam.energies.quadratic.energy`.
        df: nu above 0, one for all memories or one for each; smaller values make heavier tails.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, values that are not positive (definite), and weights that are negative
            or all 0.
    """
    terms, _ = _terms(query, memories, stiffness, df, weights)
    return -logsumexp(terms, axis=-1)


def responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    df: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each memory: \(r_k(v) \propto w_k (1 + q_k(v) / \nu_k)^{-(\nu_k + D)/2}\).

    Arguments and errors are those of :func:`energy`.
    """
    return shares(_terms(query, memories, stiffness, df, weights)[0])


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    df: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    return log_shares(_terms(query, memories, stiffness, df, weights)[0])


def update(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    df: Float[ArrayLike, "..."],
    weights: Weights | None = None,
) -> Float[Array, "*batch D"]:
    r"""Mean of the memories with weights \(r_k(v) u_k(v) A_k\), where \(u_k = (\nu_k + D) / (\nu_k + q_k)\).

    Two bounds give a quadratic function above the energy that touches it at v: Jensen's for the sum, and the tangent of
    the log for each memory, \(\tfrac{\nu + D}{2} \log(1 + q / \nu) \le \tfrac12 u\, q + \text{const}\). The update is
    its minimum; with \(B = \sum_k r_k u_k A_k\), a step \(v + a (m(v) - v)\) changes the energy by at most
    \(-\tfrac{a (2 - a)}{2} (m - v)^\top B (m - v)\), for a in (0, 2). Arguments and errors are those of :func:`energy`.
    """
    query, memories = points(query, memories)
    terms, pull = _terms(query, memories, stiffness, df, weights)
    return lowest(shares(terms) * pull, memories, stiffness_of(stiffness, memories))


def _terms(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    stiffness: Float[ArrayLike, "..."],
    df: Float[ArrayLike, "..."],
    weights: Weights | None,
) -> tuple[Float[Array, "*batch K"], Float[Array, "*batch K"]]:
    """Log terms of the sum, and the weights u of the tangents, relative ones where squares would overflow."""
    query, memories = points(query, memories)
    stiffness, nu = stiffness_of(stiffness, memories), rate_of_each("df", df, memories)
    largest = np.finfo(query.dtype).max ** (1 / 3)
    stretch = jnp.maximum(jax.lax.stop_gradient(jnp.max(jnp.abs(query), axis=-1, keepdims=True)) / largest, 1)
    gap = (query[..., None, :] - memories) / stretch[..., None]
    if stiffness.ndim == 3:
        form = jnp.einsum("...kd,kde,...ke->...k", gap, stiffness, gap, precision="highest")
    elif stiffness.ndim == 2:
        form = jnp.sum(stiffness * gap**2, axis=-1)
    else:
        form = stiffness * jnp.sum(gap**2, axis=-1)
    power = nu + memories.shape[1]
    log_w = log_weights(weights, len(memories), query.dtype)
    log_rise = jnp.log1p(form / nu + (stretch**-2 - 1)) + 2 * jnp.log(stretch)
    return log_w - power / 2 * log_rise, power / (nu * stretch**-2 + form)


@pytree
@dataclass(frozen=True, eq=False)
class StudentT(Memory):
    r"""Wells with heavy tails: queries far from everything still find the nearest memory gently.

    For data with outliers. The force of a memory falls as one over the distance, so that far memories neither vanish
    nor dominate. Small nu makes heavier tails.

    .. math:: E(v) = -\log \sum_k w_k \bigl(1 + (v - \mu_k)^\top A_k (v - \mu_k) / \nu_k\bigr)^{-(\nu_k + D)/2}

    >>> from probam.dynamics.memories import recall
    >>> memory = StudentT(jnp.array([[0.0, 0.0], [4.0, 0.0]]), 2.0, df=3.0)
    >>> recalled = recall(memory, jnp.array([3.0, 1.0]))
    >>> round(recalled.states[0].item(), 3)
    3.999
    """

    memories: Float[ArrayLike, "K D"]
    stiffness: Float[ArrayLike, "..."]
    df: Float[ArrayLike, "..."]
    weights: Weights | None = None

    card = Card(
        "student_t",
        REAL,
        "-log sum_k w_k (1 + (v - mu_k)' A_k (v - mu_k) / nu_k)^(-(nu_k + D) / 2)",
        "mean of the memories, weighted by shares, stiffness and nearness",
        "patterns several widths apart; fewer than CLAM, as tails overlap",
        "Peel and McLachlan (2000), doi:10.1023/A:1008981510081, for the mixture",
    )

    @property
    def separable(self) -> bool:
        """True for wells along the axes."""
        return jnp.ndim(self.stiffness) < 3

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.memories, self.stiffness, self.df, self.weights)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.memories, self.stiffness, self.df, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, stiffness: float | None = None, df: float = 3.0) -> "StudentT":
        """Round wells of one stiffness at these patterns; None for ``stiffness`` tells them apart."""
        patterns = checked_patterns(patterns, REAL)
        if stiffness is None:  # tails fall slowly: four times as many widths between patterns
            stiffness = 4 * sharpness(patterns, None, "dot")
        return cls(patterns, jnp.full(len(patterns), stiffness), jnp.asarray(df))
