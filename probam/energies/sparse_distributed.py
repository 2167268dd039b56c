r"""Sparse distributed memory (SDM): hard locations that are active near a query, and its continuous form.

There are K binary addresses with counters, which store what was written. A query activates the locations within
Hamming distance r and reads the sum of their counters:

.. math:: z(q) = \sum_k p_k\, 1[d_H(a_k, q) \le r]

Kanerva (1988), *Sparse Distributed Memory*. A location is active when its distance is *at most* the radius; Millidge
et al. (2022), arXiv:2202.04557, Sec. 3.2, print "greater than". The continuous form replaces the threshold by an
exponential of the dot product: attention (Bricken and Pehlevan 2021, arXiv:2111.05498).

Queries have shape (..., D), addresses (K, D), both of zeros and ones; counters (K, O) are real. Bad shapes and values
raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass, replace
from math import comb
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from probam.energies.arguments import Scalar, is_traced, points, positive
from probam.energies.memory import BITS, Card, Memory, checked_patterns
from probam.energies.wells import dot, weighted_mean
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "Reading",
    "SparseDistributed",
    "active",
    "attention_read",
    "ball_overlap",
    "ball_volume",
    "hamming",
    "read",
    "update",
    "write",
]


class Reading(NamedTuple):
    """Sum of the counters of the active locations, and the number of these locations."""

    total: Float[Array, "*batch O"]
    num_active: Int[Array, "*batch"]

    @property
    def mean(self) -> Float[Array, "*batch O"]:
        """Total per active location; zero where none is active."""
        return self.total / jnp.maximum(self.num_active, 1)[..., None].astype(self.total.dtype)


def hamming(query: Float[ArrayLike, "*batch D"], addresses: Float[ArrayLike, "K D"]) -> Float[Array, "*batch K"]:
    r"""Number of bits in which each query differs from each address: \(d_H = |a| + |q| - 2\, a \cdot q\).

    >>> hamming(jnp.array([1.0, 0.0, 1.0]), jnp.array([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])).tolist()
    [1.0, 3.0]

    Raises:
        InputError: for shapes that do not fit, and values other than 0 and 1.
    """
    query, addresses = _bits(query, addresses)
    lengths = jnp.sum(query, axis=-1, keepdims=True) + jnp.sum(addresses, axis=-1)
    return lengths - 2 * dot(query, addresses.T)


def active(
    query: Float[ArrayLike, "*batch D"], addresses: Float[ArrayLike, "K D"], radius: Scalar
) -> Bool[Array, "*batch K"]:
    r"""Whether each location is active: \(d_H(a_k, q) \le r\), with a radius r of at least 0."""
    distances = hamming(query, addresses)
    return distances <= positive("radius", radius, distances.dtype, zero=True)


def write(
    counters: Float[ArrayLike, "K O"],
    query: Float[ArrayLike, "B D"],
    patterns: Float[ArrayLike, "B O"],
    addresses: Float[ArrayLike, "K D"],
    radius: Scalar,
) -> Float[Array, "K O"]:
    r"""Counters after B patterns are written: each is added at all locations that are active for its query.

    .. math:: p_k \leftarrow p_k + \sum_b 1[d_H(a_k, q_b) \le r]\, x_b

    Patterns of signs make :func:`update` a majority vote.

    Args:
        counters: the counters before, one row for each address.
        query: the address at which each pattern is written, in bits.
        patterns: one row for each query.
        addresses: the addresses of the locations, in bits.
        radius: largest Hamming distance of an active location.

    Raises:
        InputError: for shapes and values that do not fit.
    """
    answers = active(query, addresses, radius)
    counters, patterns = jnp.asarray(counters), jnp.asarray(patterns)
    if answers.ndim != 2 or patterns.ndim != 2 or len(patterns) != len(answers):
        raise InputError(
            f"patterns: expected one row (O,) for each row of the queries; got {patterns.shape} for {jnp.shape(query)}"
        )
    _check_counters(counters, answers.shape[-1])
    if counters.shape[1] != patterns.shape[1]:
        raise InputError(f"patterns: expected {counters.shape[1]} columns, as the counters have; got {patterns.shape}")
    dtype = jnp.result_type(counters, patterns, float)
    return counters.astype(dtype) + dot(answers.T.astype(dtype), patterns.astype(dtype))


def read(
    query: Float[ArrayLike, "*batch D"],
    addresses: Float[ArrayLike, "K D"],
    counters: Float[ArrayLike, "K O"],
    radius: Scalar,
) -> Reading:
    r"""Sum of the counters of the active locations, \(\sum_k p_k\, 1[d_H(a_k, q) \le r]\), and their number.

    The mean is the posterior mean of a counter if each location has a uniform likelihood on its ball. Arguments and
    errors are those of :func:`write`.
    """
    answers = active(query, addresses, radius)
    counters = jnp.asarray(counters)
    _check_counters(counters, answers.shape[-1])
    counters = counters.astype(jnp.result_type(counters, float))
    return Reading(dot(answers.astype(counters.dtype), counters), jnp.sum(answers, axis=-1))


def update(
    query: Float[ArrayLike, "*batch D"],
    addresses: Float[ArrayLike, "K D"],
    counters: Float[ArrayLike, "K D"],
    radius: Scalar,
) -> Float[Array, "*batch D"]:
    """Bits that an autoassociative memory reads: 1 where the sum of the counters is above zero.

    A bit whose sum is zero (a tie, or no active location) keeps the value of the query. Arguments and errors are those
    of :func:`write`.
    """
    total = read(query, addresses, counters, radius).total
    bits = jnp.asarray(query, total.dtype)
    if bits.shape != total.shape:
        raise InputError(f"counters: expected as many columns as addresses have; got shape {jnp.shape(counters)}")
    return jnp.where(total == 0, bits, (total > 0).astype(total.dtype))


def attention_read(
    query: Float[ArrayLike, "*batch D"],
    addresses: Float[ArrayLike, "K D"],
    counters: Float[ArrayLike, "K O"],
    beta: Scalar,
) -> Float[Array, "*batch O"]:
    r"""The continuous SDM: \(z(q) = P^\top {\rm softmax}(\beta A q)\), for real queries and addresses.

    Millidge et al. (2022), Sec. 3.4. It is the SDM with \(\exp(-c\, d_H)\) in place of the threshold, normalised by the
    total activation. This is exact on signs with c = 2 beta, where \(d_H = (D - a \cdot q) / 2\), and on bits with
    c = beta / 2 if all addresses have the same number of ones, since \(d_H = |a| + |q| - 2\, a \cdot q\).

    Args:
        query: real vectors.
        addresses: real vectors, one for each location.
        counters: one row for each address.
        beta: inverse temperature, above 0.
    """
    query, addresses = points(query, addresses, "addresses")
    counters = jnp.asarray(counters, query.dtype)
    _check_counters(counters, len(addresses))
    return weighted_mean(positive("beta", beta, query.dtype) * dot(query, addresses.T), counters)


def ball_volume(dim: int, radius: int) -> int:
    r"""Number of binary vectors within distance r of a given one: \(V = \sum_{j \le r} \binom{D}{j}\).

    >>> ball_volume(4, 1)
    5
    """
    _check_ball(dim, radius, 0)
    return sum(comb(dim, j) for j in range(min(radius, dim) + 1))


def ball_overlap(dim: int, radius: int, distance: int) -> int:
    r"""Number of binary vectors within distance r of both of two vectors that differ in d bits.

    .. math:: \sum_{i=0}^{d} \binom{d}{i} \sum_{j=0}^{D-d} \binom{D-d}{j}\; 1[i + j \le r]\; 1[d - i + j \le r]

    For evenly spread addresses it is proportional to the part of a pattern written at one of them that is read at the
    other.
    """
    _check_ball(dim, radius, distance)
    return sum(
        comb(distance, i) * comb(dim - distance, j)
        for i in range(distance + 1)
        for j in range(min(radius - max(i, distance - i), dim - distance) + 1)
    )


def _bits(
    query: Float[ArrayLike, "*batch D"], addresses: Float[ArrayLike, "K D"]
) -> tuple[Float[Array, "*batch D"], Float[Array, "K D"]]:
    for name, values in (("query", query), ("addresses", addresses)):
        if not is_traced(values):
            known = np.asarray(values)
            bad = known[(known != 0) & (known != 1)]
            if bad.size:
                raise InputError(f"{name}: expected 0 and 1 only; got {bad[0]} ((s + 1) / 2 turns signs s into bits)")
    return points(query, addresses, "addresses")


def _check_counters(counters: Float[Array, "K O"], num_addresses: int) -> None:
    if counters.ndim != 2 or len(counters) != num_addresses:
        raise InputError(
            f"counters: expected shape (K, O), a row for each of the {num_addresses} addresses; got {counters.shape}"
        )


def _check_ball(dim: int, radius: int, distance: int) -> None:
    if dim < 1 or radius < 0 or not 0 <= distance <= dim:
        raise InputError(
            f"dim, radius, distance: expected D >= 1, r >= 0 and 0 <= d <= D; got {dim}, {radius} and {distance}"
        )


@pytree
@dataclass(frozen=True, eq=False)
class SparseDistributed(Memory):
    r"""Kanerva's memory: patterns are added into counters at all hard locations near their address.

    Any number of writes into a fixed number of counters, one pattern at a time, and a pattern can be taken out again.
    Reading takes the majority of the counters near the query.

    .. math:: v \leftarrow 1\Bigl[\sum_k p_k\, 1[d_H(a_k, v) \le r] > 0\Bigr]

    >>> patterns = jax.random.bernoulli(jax.random.key(0), 0.5, (10, 256)).astype(float)
    >>> memory = SparseDistributed.store(patterns, num_locations=2000)
    >>> query = patterns[0].at[:30].set(1 - patterns[0, :30])  # 30 of 256 bits are wrong
    >>> int(jnp.sum(memory.update(memory.update(query)) != patterns[0]))
    0
    """

    counters: Float[ArrayLike, "K D"]
    addresses: Float[ArrayLike, "K D"]
    radius: Scalar

    card = Card(
        "sparse_distributed",
        BITS,
        "none",
        "majority of the counters of the locations near the state",
        "about a tenth of the number of locations",
        "Kanerva (1988), Sparse Distributed Memory; Millidge et al. (2022), Sec. 3.2",
    )
    bank = "addresses"
    no_energy = "reading sums counters that were written, and the couplings that this implies are not symmetric"

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.addresses, self.counters, self.radius)

    def write(self, patterns: Float[ArrayLike, "B D"]) -> "SparseDistributed":
        """The memory after these patterns of bits were added, each at its own address."""
        rows = checked_patterns(patterns, BITS)
        return replace(self, counters=write(self.counters, rows, 2 * rows - 1, self.addresses, self.radius))

    def erase(self, patterns: Float[ArrayLike, "B D"]) -> "SparseDistributed":
        """The memory after these patterns were taken away; that of patterns never written adds their opposites."""
        rows = checked_patterns(patterns, BITS)
        return replace(self, counters=write(self.counters, rows, 1 - 2 * rows, self.addresses, self.radius))

    @classmethod
    def store(
        cls, patterns: Float[ArrayLike, "K D"], *, num_locations: int = 2000, radius: int | None = None, seed: int = 0
    ) -> "SparseDistributed":
        r"""A memory of patterns of bits, each written at its own address.

        Args:
            patterns: bits, one pattern in each row.
            num_locations: M, the number of hard locations, at random addresses.
            radius: largest distance of an active location; None activates a share of \((2 M K)^{-1/3}\) of them.
            seed: of the addresses.
        """
        patterns = checked_patterns(patterns, BITS)
        num_patterns, dim = patterns.shape
        if radius is None:
            share = (2 * num_locations * num_patterns) ** (-1 / 3)
            radius = round(dim / 2 + float(ndtri(share)) * dim**0.5 / 2)
        addresses = jax.random.bernoulli(jax.random.key(seed), 0.5, (num_locations, dim)).astype(patterns.dtype)
        return cls(jnp.zeros_like(addresses), addresses, float(max(radius, 0))).write(patterns)
