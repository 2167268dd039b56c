r"""Memories of bits: a constant field for each memory on a hypercube.

.. math:: E(v) = -\log \sum_k w_k \exp(f_k \cdot v), \qquad v \in [a, b]^D

The energy of exponential dense associative memories (Demircigil et al. 2017, arXiv:1702.01929, there
\(-\sum_k \exp(\xi_k \cdot v)\) with \(\xi_k \in \{-1, 1\}^D\)), with a separate field for each memory and feature.
Patterns that flip each spin with probability \(1/(1 + e^{2\beta})\) have fields \(\beta \xi_k\); on {0, 1} the field is
the log odds of a one.

Convention: the energy is in nats. It is concave everywhere, so its minima over the cube are corners: recall returns
bits. Queries have shape (..., D). The data are corners; points between them are allowed. A weight of zero marks an
absent memory. Bad shapes raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Logs, Scalar, Weights, log_weights, points
from probam.energies.memory import BITS, Alphabet, Card, Memory, between, checked_patterns
from probam.energies.wells import dot, log_shares, log_sum, shares, weighted_mean
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["Hypercube", "energy", "inside", "log_responsibilities", "responsibilities", "update"]


def energy(
    query: Float[ArrayLike, "*batch D"], fields: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch"]:
    r"""Energy of each query, in nats: \(E(v) = -\log \sum_k w_k \exp(f_k \cdot v)\).

    Args:
        query: points of the cube.
        fields: one row for each memory; larger entries make its bits more certain.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.

    Raises:
        InputError: for shapes that do not fit, and weights that are negative or all 0.
    """
    query, fields = points(query, fields, "fields")
    log_w = log_weights(weights, len(fields), query.dtype)

    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        return log_w[k] + jnp.sum(fields[k] * query, axis=-1)

    return -log_sum(log_w + dot(query, fields.T), log_term)


def responsibilities(
    query: Float[ArrayLike, "*batch D"], fields: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    r"""Share of each memory in the sum: \(r_k(v) \propto w_k \exp(f_k \cdot v)\).

    Arguments and errors are those of :func:`energy`.
    """
    query, fields = points(query, fields, "fields")
    return shares(log_weights(weights, len(fields), query.dtype) + dot(query, fields.T))


def log_responsibilities(
    query: Float[ArrayLike, "*batch D"], fields: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, "*batch K"]:
    """Logs of :func:`responsibilities`, finite where these underflow; arguments are those of :func:`energy`."""
    query, fields = points(query, fields, "fields")
    return log_shares(log_weights(weights, len(fields), query.dtype) + dot(query, fields.T))


def update(
    query: Float[ArrayLike, "*batch D"],
    fields: Float[ArrayLike, "K D"],
    weights: Weights | None = None,
    low: Scalar = 0.0,
    high: Scalar = 1.0,
) -> Float[Array, "*batch D"]:
    r"""The corner that the force points to: \(v_i \leftarrow b\) where \(\sum_k r_k(v) f_{ki} > 0\), a where it is < 0.

    A coordinate on which the fields cancel (within rounding) does not change. The energy is concave, so it lies below
    its tangent, whose minimum over the cube is this corner: no step \(v + t (m(v) - v)\) with t > 0 raises the energy.
    It falls from corner to corner, so recall ends after finitely many steps.

    Args:
        query, fields, weights: as for :func:`energy`.
        low, high: the two values a < b of a bit.
    """
    query, fields = points(query, fields, "fields")
    logits = log_weights(weights, len(fields), query.dtype) + dot(query, fields.T)
    force = weighted_mean(logits, fields)
    noise = 4 * np.finfo(query.dtype).eps * weighted_mean(logits, jnp.abs(fields))
    corner = jnp.where(force > 0, jnp.asarray(high, query.dtype), jnp.asarray(low, query.dtype))
    return jnp.where(jnp.abs(force) <= noise, query, corner)


def inside(query: Float[ArrayLike, "*batch D"], low: Scalar = 0.0, high: Scalar = 1.0) -> Float[Array, "*batch D"]:
    """The point of the cube [low, high]^D nearest to each query."""
    query = jnp.asarray(query)
    return jnp.clip(query, jnp.asarray(low, query.dtype), jnp.asarray(high, query.dtype))


@pytree
@dataclass(frozen=True, eq=False)
class Hypercube(Memory):
    r"""Memories of bits: a field on every bit, for each memory; recall returns bits.

    For sets of features that are there or not: black-and-white images, answers to yes-or-no questions. Memories may be
    surer of some bits than of others. The energy is concave on the cube, so that recall ends at a corner after finitely
    many steps.

    .. math:: E(v) = -\log \sum_k w_k \exp(f_k \cdot v), \qquad v \in [a, b]^D

    >>> from probam.dynamics.memories import recall
    >>> memory = Hypercube.store(jnp.array([[1.0, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]]), flip=0.2)
    >>> recalled = recall(memory, jnp.array([1.0, 0, 1, 1, 0, 0, 0, 1]))
    >>> round(recalled.energy.item(), 3)  # the first pattern: 8 log 0.8, and hardly any share of the other
    1.781
    """

    fields: Float[ArrayLike, "K D"]
    weights: Weights | None = None
    low: float = 0.0
    high: float = 1.0

    card = Card(
        "hypercube",
        between(0, 1, "bits"),
        "-log sum_k w_k exp(f_k . v)",
        "the corner that the mean field points to",
        "exponential in D, about 2^(D/2) random patterns for large fields",
        "Demircigil et al. (2017), arXiv:1702.01929, with fields of their own",
    )
    bank = "fields"
    separable = True

    @property
    def alphabet(self) -> Alphabet:
        """Values from ``low`` to ``high``."""
        return between(float(self.low), float(self.high), "bits")

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.fields, self.weights)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.fields, self.weights, self.low, self.high)

    def keep(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`inside`."""
        return inside(states, self.low, self.high)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, flip: float = 0.1) -> "Hypercube":
        """A memory of patterns of bits, each of whose bits is wrong with probability ``flip``, below one half."""
        patterns = checked_patterns(patterns, BITS)
        if not 0 < flip < 0.5:
            raise InputError(f"flip: expected a probability above 0 and below 0.5; got {flip}")
        fields = float(np.log((1 - flip) / flip)) * (2 * patterns - 1)
        return cls(fields, Logs(-jnp.sum(jnp.logaddexp(fields, 0), axis=-1)))
