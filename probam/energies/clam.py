r"""Clustering associative memory (CLAM): the log-sum-exp energy of squared distances.

.. math:: E(v) = -\frac{1}{\beta} \log \sum_k w_k \exp(-\beta |\mu_k - v|^2)

Saha et al. (2023), arXiv:2306.03209; Schaeffer et al. (2023), Eq. 1, with memory weights \(w_k\) (one each in the
paper; the sum is not divided by K). The flow of Eq. 2, \(\tau \dot v = -\tfrac12 \nabla E = m(v) - v\), moves a state
towards the mean \(m(v)\) of the memories under their responsibilities.

Convention (``clam`` of :mod:`probam.energies.conventions`): beta multiplies the *whole* squared distance, so each
memory is a Gaussian of covariance \(I / (2\beta)\), and the same memories in
:mod:`probam.energies.continuous_hopfield` have \(\beta_{\rm MCHN} = 2 \beta_{\rm CLAM}\).

Queries have shape (..., D), memories (K, D), beta no axes. A weight of zero marks an absent memory: its
responsibility is zero, and so is the derivative in that weight. Bad shapes, beta <= 0 and weights below zero raise
:class:`probam.errors.InputError`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Scalar, Weights, log_weights, points, positive
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.wells import dot, isotropic_logits, log_shares, log_sum, mean_of, shares, weighted_mean
from probam.placement import each
from probam.pytrees import pytree

__all__ = [
    "Clam",
    "convexity_threshold",
    "energy",
    "hessian_bound",
    "log_responsibilities",
    "nearest",
    "responsibilities",
    "update",
]

_ROWS = 256
"""Number of memories whose distances to all others are computed at once."""


def energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in squared units of the data.

    .. math:: E(v) = -\frac{1}{\beta} \log \sum_k w_k \exp(-\beta |\mu_k - v|^2)

    Schaeffer et al. (2023), Eq. 1. With unit weights it lies between \(\min_k |\mu_k - v|^2 - \log(K) / \beta\) and
    \(\min_k |\mu_k - v|^2\): larger beta brings it closer to the k-means distance.

    >>> memories = jnp.array([[0.0, 0.0], [2.0, 0.0]])
    >>> round(energy(jnp.array([1.0, 0.0]), memories, beta=1.0).item(), 3)  # half-way: 1 - log(2)
    0.307

    Args:
        query: points of R^D.
        memories: one memory in each row.
        beta: inverse temperature, above 0, in inverse squared units of the data. A memory is a Gaussian of variance
            1 / (2 beta) in every coordinate.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, beta <= 0, and weights that are negative or all 0.
    """
    query, memories = points(query, memories)
    beta = positive("beta", beta, query.dtype)
    log_w = log_weights(weights, len(memories), query.dtype)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        return log_w[k] - beta * jnp.sum((memories[k] - query) ** 2, axis=-1)

    return -log_sum(_logits(query, memories, beta, log_w), log_term) / beta


def responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Share of each memory in the sum: \(r_k(v) \propto w_k \exp(-\beta |\mu_k - v|^2)\).

    Schaeffer et al. (2023), Eq. 8. Arguments and errors are those of :func:`energy`.
    """
    query, memories = points(query, memories)
    beta = positive("beta", beta, query.dtype)
    return shares(_logits(query, memories, beta, log_weights(weights, len(memories), query.dtype)))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    query, memories = points(query, memories)
    beta = positive("beta", beta, query.dtype)
    return log_shares(_logits(query, memories, beta, log_weights(weights, len(memories), query.dtype)))


def update(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch D"]:
    r"""Result of a unit Euler step of the flow (dt = tau): \(m(v) = \sum_k r_k(v) \mu_k\).

    Schaeffer et al. (2023), Eq. 2. Equal to \(v - \tfrac12 \nabla E(v)\). The fixed points are the stationary points
    of the energy, and \(v + a (m(v) - v)\) does not raise it for any a in (0, 2):
    \(\Delta E \le -a (2 - a) |m(v) - v|^2\). Arguments and errors are those of :func:`energy`.

    >>> update(jnp.array([1.8, 0.1]), jnp.array([[0.0, 0.0], [2.0, 0.0]]), beta=2.0).round(2).tolist()
    [2.0, 0.0]
    """
    query, memories = points(query, memories)
    beta = positive("beta", beta, query.dtype)
    logits = _logits(query, memories, beta, log_weights(weights, len(memories), query.dtype))
    origin = mean_of(memories)
    return origin + weighted_mean(logits, memories - origin)


def nearest(query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"]) -> Int[Array, "*batch"]:
    """Index of the memory closest to each query (the first of exact ties)."""
    query, memories = points(query, memories)
    log_w = jnp.zeros(len(memories), query.dtype)
    return jnp.argmax(_logits(query, memories, jnp.ones((), query.dtype), log_w), axis=-1)


def convexity_threshold(memories: Float[ArrayLike, "K D"]) -> Float[Array, ""]:
    r"""The beta up to which the energy is convex for all weights: \(2 / {\rm diam}(\mu)^2\).

    Up to this beta there is one attractor. The bound follows from the Hessian \(2I - 4\beta\,{\rm Cov}_r(\mu)\), since
    a variance is at most \(\tfrac14 {\rm diam}^2\). It is sharp for two memories of equal weight: their midpoint
    becomes unstable exactly there. Infinite when all memories coincide.
    """
    square = _square_diameter(memories)
    return jnp.where(square > 0, 2 / jnp.where(square > 0, square, 1), jnp.inf)


def hessian_bound(memories: Float[ArrayLike, "K D"], beta: Scalar) -> Float[Array, ""]:
    r"""Lower bound on every eigenvalue of the energy's Hessian anywhere: \(2 - \beta\,{\rm diam}(\mu)^2\).

    The upper bound is 2. The lower bound is zero at the beta of :func:`convexity_threshold`.
    """
    square = _square_diameter(memories)
    return 2 - positive("beta", beta, square.dtype) * square


def _logits(
    query: Float[Array, "*batch D"],
    memories: Float[Array, "K D"],
    beta: Float[Array, ""],
    log_w: Float[Array, " K"],
) -> Float[Array, "*batch K"]:
    """Log terms of the sum without the common -beta |v|^2."""
    origin = mean_of(memories)
    stiffness = jnp.broadcast_to(beta, log_w.shape)
    return isotropic_logits(query - origin, memories - origin, stiffness, log_w)


def _square_diameter(memories: Float[ArrayLike, "K D"]) -> Float[Array, ""]:
    """Largest squared distance between two memories, by blocks of rows."""
    memories, _ = points(memories, memories)
    memories = memories - jax.lax.stop_gradient(memories[0])  # equal memories become exact zeros
    squares = jnp.sum(memories**2, axis=-1)

    def farthest(row: Float[Array, " D"]) -> Float[Array, ""]:
        return jnp.max(squares - 2 * dot(memories, row[:, None])[:, 0] + jnp.sum(row**2))

    return jnp.maximum(jnp.max(each(farthest, memories, numbers=len(memories), on_cpu=_ROWS)), 0)


@pytree
@dataclass(frozen=True, eq=False)
class Clam(Memory):
    r"""Clustering associative memory: a well around each pattern, all equally wide.

    The memory of choice for real vectors: wells may have weights, an update never raises the energy, and recall ends at
    a pattern, or at a mean of patterns that are too close to be told apart. CLAM is the energy and the dynamics of
    Schaeffer et al.; ClAM is the method of Saha et al. that learns the memories with them.

    .. math:: E(v) = -\frac{1}{\beta} \log \sum_k w_k e^{-\beta |\mu_k - v|^2}

    >>> from probam.dynamics.memories import recall
    >>> memory = Clam(jnp.array([[0.0, 0.0], [4.0, 0.0]]), beta=0.25)
    >>> recalled = recall(memory, jnp.array([3.0, 1.0]))
    >>> round(recalled.states[0].item(), 3)  # the other memory still pulls a little
    3.915
    """

    memories: Float[ArrayLike, "K D"]
    beta: Scalar
    weights: Weights | None = None

    card = Card(
        "clam",
        REAL,
        "-(1/beta) log sum_k w_k exp(-beta |mu_k - v|^2)",
        "mean of the memories under their shares",
        "every pattern, as long as beta is large against 1 over the squared distances",
        "Saha et al. (2023), arXiv:2306.03209; Schaeffer et al. (2023), Eq. 1",
        "attractors",
    )
    separable = True

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.memories, self.beta, self.weights)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.memories, self.beta, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None) -> "Clam":
        """A memory of these patterns; None for ``beta`` tells them apart (:func:`probam.energies.memory.sharpness`)."""
        patterns = checked_patterns(patterns, REAL)
        return cls(patterns, sharpness(patterns, beta))
