r"""The modern continuous Hopfield network (MCHN), whose update is the attention of transformers.

.. math:: E(v) = \tfrac12 |v|^2 - \frac{1}{\beta} \log \sum_k \exp(\beta\, \xi_k \cdot v)

Ramsauer et al. (2021), arXiv:2008.02217, without their constants \(\log(K) / \beta\) and \(\tfrac12 \max_k |\xi_k|^2\).

Convention (``dot`` of :mod:`probam.energies.conventions`): beta multiplies the dot product, so \(\beta_{\rm MCHN} = 2
\beta_{\rm CLAM}\) makes the same wells as :mod:`probam.energies.clam`, and each memory is a Gaussian of covariance
\(I / \beta\). The memories' norms are then their weights: \(2 E = E_{\rm CLAM}\) with \(w_k = \exp(\tfrac{\beta}{2}
|\xi_k|^2)\), so longer memories attract more.

The cosine form compares directions only, so that the length of a memory does not matter:

.. math:: E_{\cos}(v) = -\frac{1}{\beta} \log \sum_k \exp(\beta \cos(\xi_k, v))

On the unit sphere it is the spherical energy of equal concentrations beta (a von Mises-Fisher mixture with uniform
weights). In R^D it does not depend on the length of v, so it belongs to no density there.

Queries have shape (..., D), memories (K, D), beta no axes. Bad shapes, beta <= 0 and, where cosines are taken, points
at the origin raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies import spherical
from probam.energies.arguments import Scalar, is_traced, points, positive
from probam.energies.memory import REAL, UNIT, Card, Memory, checked_patterns, sharpness
from probam.energies.wells import dot, log_shares, log_sum, mean_of, shares, weighted_mean
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "ContinuousHopfield",
    "CosineHopfield",
    "cosine_energy",
    "cosine_log_responsibilities",
    "cosine_responsibilities",
    "cosine_update",
    "energy",
    "log_responsibilities",
    "responsibilities",
    "update",
]


def energy(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> Float[Array, "*batch"]:
    r"""Energy of each query: \(E(v) = \tfrac12 |v|^2 - \beta^{-1} \log \sum_k \exp(\beta \xi_k \cdot v)\).

    Args:
        query: points of R^D.
        memories: one memory in each row.
        beta: inverse temperature, above 0: the factor of the dot products, twice that of :mod:`probam.energies.clam`.

    Raises:
        InputError: for shapes that do not fit and beta <= 0.
    """
    query, memories = points(query, memories)
    beta = positive("beta", beta, query.dtype)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        return beta * jnp.sum(query * (memories[k] - query / 2), axis=-1)  # beta (xi.v - |v|^2 / 2)

    # both parts of the energy are in log_term: their difference keeps the digits that each alone would lose
    return -log_sum(_logits(query, memories, beta), log_term) / beta


def responsibilities(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> Float[Array, "*batch K"]:
    r"""Attention of each query to the memories: \(r(v) = {\rm softmax}(\beta\, \Xi v)\).

    Arguments and errors are those of :func:`energy`.
    """
    query, memories = points(query, memories)
    return shares(_logits(query, memories, positive("beta", beta, query.dtype)))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    query, memories = points(query, memories)
    return log_shares(_logits(query, memories, positive("beta", beta, query.dtype)))


def update(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> Float[Array, "*batch D"]:
    r"""The output of attention: \(m(v) = \Xi^\top {\rm softmax}(\beta\, \Xi v) = v - \nabla E(v)\).

    Ramsauer et al. (2021), Eq. 3. Monotone: \(v + a (m(v) - v)\) with a in (0, 2) changes the energy by at most
    \(-\tfrac12 a (2 - a) |m(v) - v|^2\). One update is a fixed point only where the responsibilities no longer move
    (K = 1, or one-hot); otherwise its error falls exponentially in beta times the separation of the memories.
    Arguments and errors are those of :func:`energy`.

    >>> update(jnp.array([0.9, 0.2]), jnp.eye(2), beta=8.0).round(2).tolist()
    [1.0, 0.0]
    """
    query, memories = points(query, memories)
    logits = _logits(query, memories, positive("beta", beta, query.dtype))
    origin = mean_of(memories)
    return origin + weighted_mean(logits, memories - origin)


def cosine_energy(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> Float[Array, "*batch"]:
    r"""Energy of each query's direction: \(E_{\cos}(v) = -\beta^{-1} \log \sum_k \exp(\beta \cos(\xi_k, v))\).

    Args:
        query: points of R^D, none of them the origin.
        memories: one memory in each row, none of them the origin.
        beta: inverse temperature, above 0: the factor of the cosines.

    Raises:
        InputError: for shapes that do not fit, beta <= 0, and points at the origin.
    """
    beta = positive("beta", beta, jnp.result_type(query, memories, float))
    return spherical.energy(*_directions(query, memories, beta)) / beta


def cosine_responsibilities(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> Float[Array, "*batch K"]:
    r"""Attention by cosines: \(r_k(v) \propto \exp(\beta \cos(\xi_k, v))\).

    Arguments and errors are those of :func:`cosine_energy`.
    """
    return spherical.responsibilities(*_directions(query, memories, beta))


def cosine_log_responsibilities(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> Float[Array, "*batch K"]:
    """Logs of :func:`cosine_responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    return spherical.log_responsibilities(*_directions(query, memories, beta))


def cosine_update(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> Float[Array, "*batch D"]:
    r"""The unit vector along \(\sum_k r_k(v)\, \xi_k / |\xi_k|\); it never raises :func:`cosine_energy`.

    Arguments and errors are those of :func:`cosine_energy`.
    """
    return spherical.update(*_directions(query, memories, beta))


def _directions(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], beta: Scalar
) -> tuple[Float[Array, "*batch D"], Float[Array, "K D"], Float[Array, " K"]]:
    """Directions of queries and memories, and their common concentration once for each memory."""
    query, memories = points(query, memories)
    for name, rows in (("query", query), ("memories", memories)):
        if not is_traced(rows) and not np.asarray(rows).any(axis=-1).all():
            raise InputError(f"{name}: expected points away from the origin, which has no direction; drop the zeros")
    kappa = jnp.broadcast_to(positive("beta", beta, query.dtype), len(memories))
    return spherical.retract(query), spherical.retract(memories), kappa


def _logits(
    query: Float[Array, "*batch D"], memories: Float[Array, "K D"], beta: Float[Array, ""]
) -> Float[Array, "*batch K"]:
    """The scores beta xi_k.v relative to that of the memories' mean, which all share."""
    return dot(query, (beta * (memories - mean_of(memories))).T)


@pytree
@dataclass(frozen=True, eq=False)
class ContinuousHopfield(Memory):
    r"""The modern Hopfield network: one update is the attention of a transformer.

    The same wells as CLAM's, with weights that favour longer memories. For patterns of equal length the two recall
    alike; for others prefer CLAM, or :class:`CosineHopfield`, unless length means importance.

    .. math:: E(v) = \tfrac12 |v|^2 - \frac{1}{\beta} \log \sum_k \exp(\beta\, \xi_k \cdot v)

    >>> memory = ContinuousHopfield(jnp.eye(3), beta=8.0)
    >>> recalled = memory.update(jnp.array([0.9, 0.2, 0.1]))
    >>> round(recalled[0].item(), 3)  # one update nearly ends
    0.995
    """

    memories: Float[ArrayLike, "K D"]
    beta: Scalar

    card = Card(
        "continuous_hopfield",
        REAL,
        "|v|^2 / 2 - (1/beta) log sum_k exp(beta xi_k . v)",
        "mean of the memories under the softmax of beta xi_k . v (attention)",
        "exponential in D for separated patterns on a sphere",
        "Ramsauer et al. (2021), arXiv:2008.02217",
    )
    separable = True

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.memories, self.beta)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.memories, self.beta)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None) -> "ContinuousHopfield":
        """A memory of these patterns; None for ``beta`` tells patterns of equal length apart."""
        patterns = checked_patterns(patterns, REAL)
        return cls(patterns, sharpness(patterns, beta, "dot"))


@pytree
@dataclass(frozen=True, eq=False)
class CosineHopfield(Memory):
    r"""The modern Hopfield network of cosines: only directions count.

    Memories may have any lengths, states are unit vectors. It is the spherical memory of equal concentrations.

    .. math:: E(v) = -\frac{1}{\beta} \log \sum_k \exp(\beta \cos(\xi_k, v))

    >>> memory = CosineHopfield(jnp.array([[5.0, 0.0], [0.0, 0.1]]), beta=8.0)
    >>> recalled = memory.update(jnp.array([0.28, 0.96]))
    >>> round(recalled[1].item(), 3)  # the short memory is recalled as well as a long one
    1.0
    """

    memories: Float[ArrayLike, "K D"]
    beta: Scalar

    card = Card(
        "cosine_hopfield",
        UNIT,
        "-(1/beta) log sum_k exp(beta cos(xi_k, v))",
        "direction of the mean of the memories' directions under their shares",
        "exponential in D for directions that are spread out",
        "Ramsauer et al. (2021), arXiv:2008.02217, with cosines for dot products",
    )

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`cosine_energy`."""
        return cosine_energy(states, self.memories, self.beta)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`cosine_update`."""
        return cosine_update(states, self.memories, self.beta)

    def keep(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`probam.energies.spherical.retract`."""
        return spherical.retract(states)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None) -> "CosineHopfield":
        """A memory of the directions of these patterns; None for ``beta`` tells them apart."""
        patterns = checked_patterns(patterns, UNIT)
        return cls(patterns, sharpness(patterns, beta, "dot"))
