r"""Epanechnikov memories: the log-sum-ReLU energy, whose wells end at a finite distance.

.. math:: E(v) = -\frac{1}{\beta} \log \Bigl[ \varepsilon + \sum_k w_k
    \max\bigl(0,\, 1 - \tfrac{\beta}{2} |v - \mu_k|^2\bigr) \Bigr]

Hoover et al. (2025), arXiv:2506.10801. A memory is *active* within the radius \(\sqrt{2 / \beta}\). Where it is the
only one, recall ends at the memory exactly, at any beta; where several are active, the energy has a minimum at their
mean if the same ones are active there: an *emergent* memory, which was not stored.

Convention: beta/2 multiplies the squared distance, so that a well at its memory is as curved as that of a Gaussian of
precision beta. With \(\varepsilon = 0\) the energy is infinite out of reach of all memories, and there a state does not
move. Queries have shape (..., D), memories (K, D). Bad shapes and values raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, Weights, log_weights, points, positive
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.wells import dot, mean_of
from probam.pytrees import pytree

__all__ = ["Epanechnikov", "activations", "energy", "update"]


def activations(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch K"]:
    r"""Term of each memory in the sum: \(w_k \max(0, 1 - \tfrac\beta2 |v - \mu_k|^2)\); 0 where it is not active.

    Arguments and errors are those of :func:`energy`.
    """
    query, memories = points(query, memories)
    beta = positive("beta", beta, query.dtype)
    square = jnp.sum((query[..., None, :] - memories) ** 2, axis=-1)
    return jnp.exp(log_weights(weights, len(memories), query.dtype)) * jnp.maximum(1 - 0.5 * beta * square, 0)


def energy(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
    floor: Scalar = 0.0,
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in squared units of the data; +inf where no memory is active and the floor is 0.

    Args:
        query: points of R^D.
        memories: one memory in each row.
        beta: above 0; a memory reaches as far as \(\sqrt{2 / \beta}\).
        weights: one for each memory, at least 0. None gives every memory the weight 1.
        floor: epsilon, at least 0, which makes the energy finite everywhere.

    Raises:
        InputError: for shapes and values that do not fit.
    """
    total = jnp.sum(activations(query, memories, beta, weights), axis=-1)
    total = total + positive("floor", floor, total.dtype, zero=True)
    any_active = total > 0
    depth = jnp.log(jnp.where(any_active, total, 1)) / positive("beta", beta, total.dtype)
    return jnp.where(any_active, -depth, jnp.inf)


def update(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch D"]:
    r"""Weighted mean of the active memories; a state out of reach of all does not move.

    .. math:: m(v) = \sum_{k \in A(v)} w_k \mu_k \Big/ \sum_{k \in A(v)} w_k

    The terms that are active at v are a quadratic function below the sum that touches it at v, and m(v) maximises it:
    no step \(v + a (m(v) - v)\) with a in (0, 2) raises the energy, and recall ends after finitely many unit steps.
    """
    query, memories = points(query, memories)
    is_active = activations(query, memories, beta, weights) > 0
    share = jnp.where(is_active, jnp.exp(log_weights(weights, len(memories), query.dtype)), 0)
    total = jnp.sum(share, axis=-1, keepdims=True)
    origin = mean_of(memories)
    mean = origin + dot(share, memories - origin) / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, mean, query)


@pytree
@dataclass(frozen=True, eq=False)
class Epanechnikov(Memory):
    r"""Wells of finite reach: exact recall at finite beta, and emergent memories where wells overlap.

    For recall that is exact and not almost so, and for a look at what a memory makes of patterns that are close: means
    of patterns are minima of their own.

    .. math:: E(v) = -\frac{1}{\beta} \log \Bigl[ \varepsilon + \sum_k w_k
        \max\bigl(0,\, 1 - \tfrac{\beta}{2} |v - \mu_k|^2\bigr) \Bigr]

    >>> from probam.dynamics.memories import basins
    >>> memory = Epanechnikov(jnp.array([[0.0], [1.0], [2.0]]), beta=1.0)  # each reaches 1.41 far
    >>> starts = jnp.linspace(-1.4, 3.4, 97)[:, None]
    >>> basins(memory, starts).attractors.ravel().tolist()  # two pairs, and all three: no pattern is alone
    [0.5, 1.0, 1.5]
    """

    memories: Float[ArrayLike, "K D"]
    beta: Scalar
    weights: Weights | None = None
    floor: Scalar = 0.0

    card = Card(
        "epanechnikov",
        REAL,
        "-(1/beta) log [eps + sum_k w_k max(0, 1 - (beta/2) |v - mu_k|^2)]",
        "mean of the memories within reach",
        "exponential in D for patterns out of each other's reach, recalled exactly; means of closer ones emerge",
        "Hoover et al. (2025), arXiv:2506.10801",
        "emergent_memories",
    )
    separable = True

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.memories, self.beta, self.weights, self.floor)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.memories, self.beta, self.weights)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None) -> "Epanechnikov":
        """A memory of these patterns; None for ``beta`` lets each reach half-way to the next."""
        patterns = checked_patterns(patterns, REAL)
        return cls(patterns, sharpness(patterns, beta))
