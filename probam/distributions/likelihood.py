r"""The log likelihood of a mixture and its gradient, at the cost of two matrix products.

If the log density of a memory is linear in statistics of the datum, :math:`\log w_k p(x_n \mid \theta_k) = a_k \cdot
\phi_n`, with a constant 1 among the features, then

.. math::
    \log p(x) = \sum_n \log \sum_k e^{a_k \cdot \phi_n}, \qquad
    \frac{\partial}{\partial a_k} \log p(x) = \sum_n r_{nk} \phi_n.

The features have shape (F, N) and are computed once for given data; the steps of a sampler need only the (K, F)
coefficients. Value and gradient share one exponential for each datum and memory (one for each datum if K = 2), and
logarithms are taken of products of several sums, each between 1 and K. Other families, and data with missing entries,
provide (N, K) log densities and use the same sums.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from probam.distributions.mixture import MemoryMixture
from probam.distributions.pairwise import linear_form
from probam.placement import devices_within, numbers_at_once

__all__ = ["linear_log_likelihood", "log_likelihood_of", "shares", "total_log_sum_exp"]

_BLOCK = 2**16
"""Entries of a (K, rows) block, which stays in the cache of a CPU during exponentials and sums."""

_FACTORS = 16
"""Largest number of factors of a product before its logarithm is taken."""


def _sum_of_logs(sums: Float[Array, " N"], most: int) -> Float[Array, ""]:
    """Sum of the logs of numbers in [1, ``most``], with one logarithm for several numbers."""
    room = float(np.log(np.finfo(sums.dtype).max))
    factors = max(1, min(_FACTORS, len(sums), int(room / math.log(most + 1))))
    whole = len(sums) // factors * factors
    products = jnp.prod(sums[:whole].reshape(factors, -1), axis=0)
    return jnp.sum(jnp.log(products)) + jnp.sum(jnp.log(sums[whole:]))


def _value_and_responsibilities(logits: Float[Array, "K N"]) -> tuple[Float[Array, ""], Float[Array, "K N"]]:
    """Sum over n of log sum_k exp, and the responsibilities; columns of -inf give -inf and no responsibility."""
    num_memories = logits.shape[0]
    top = jnp.max(logits, axis=0)
    possible = top != -jnp.inf
    if num_memories == 2:
        gap = jnp.where(possible, logits[1] - logits[0], 0)
        other = jnp.exp(jnp.where(gap > 0, -gap, gap))  # not abs, which has no slope where memories are equal
        total = 1 + other
        first = jnp.where(gap > 0, other, 1) / total
        responsibilities = jnp.stack([first, jnp.where(gap > 0, 1, other) / total])
    else:
        unnormalised = jnp.exp(logits - jax.lax.stop_gradient(jnp.where(possible, top, 0)))
        total = jnp.where(possible, jnp.sum(unnormalised, axis=0), 1)
        responsibilities = unnormalised * (1 / total)
    return jnp.sum(top) + _sum_of_logs(total, num_memories), responsibilities


@jax.custom_jvp
def total_log_sum_exp(logits: Float[Array, "K N"]) -> Float[Array, ""]:
    """Sum over n of the log of the sum over k of exponentials, with a derivative that reuses the exponentials.

    >>> round(float(total_log_sum_exp(jnp.zeros((3, 2)))), 4)  # 2 log 3
    2.1972
    """
    return _value_and_responsibilities(logits)[0]


@total_log_sum_exp.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    value, responsibilities = _value_and_responsibilities(primals[0])
    return value, jnp.vdot(responsibilities, tangents[0])


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def _value_and_moments(
    coefficients: Float[Array, "K F"], features: Float[Array, "F N"]
) -> tuple[Float[Array, ""], Float[Array, "K F"]]:
    """The log likelihood and its gradient in the coefficients: sums of the features, weighted by responsibilities."""

    def block(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, responsibilities = _value_and_responsibilities(_dot(coefficients, rows))
        return value, _dot(responsibilities, rows.T)

    num_features, num_data = features.shape
    size = max(1, numbers_at_once(_BLOCK) // len(coefficients))
    if num_data <= 2 * size:
        return block(features)
    whole = num_data // size * size
    blocks = jnp.moveaxis(features[:, :whole].reshape(num_features, -1, size), 1, 0)

    def add(total: tuple[jax.Array, jax.Array], rows: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        return jax.tree.map(jnp.add, total, block(rows)), None

    start = block(features[:, whole:]) if whole < num_data else jax.tree.map(jnp.zeros_like, block(blocks[0]))
    return jax.lax.scan(add, start, blocks)[0]


@jax.custom_jvp
def linear_log_likelihood(coefficients: Float[Array, "K F"], features: Float[Array, "F N"]) -> Float[Array, ""]:
    """Log likelihood (nats) of N data whose log densities, with log weights, are ``coefficients @ features``."""
    return _value_and_moments(coefficients, features)[0]


@partial(linear_log_likelihood.defjvp, symbolic_zeros=True)
def _(primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
    coefficients, features = primals
    value, moments = _value_and_moments(coefficients, features)
    change = jnp.zeros_like(value)
    if not isinstance(tangents[0], jax.custom_derivatives.SymbolicZero):
        change = change + jnp.vdot(moments, tangents[0])
    if not isinstance(tangents[1], jax.custom_derivatives.SymbolicZero):
        responsibilities = jax.nn.softmax(_dot(coefficients, features), axis=0)
        change = change + jnp.vdot(_dot(coefficients.T, responsibilities), tangents[1])
    return value, change


def shares(
    log_joint: Float[Array, "N K"], weight: Float[Array, " N"] | Float[Array, "N K"] | None
) -> tuple[Float[Array, ""], Float[Array, "N K"]]:
    """Log likelihood of weighted rows (nats), and how much of each row each memory has.

    Args:
        log_joint: log of weight times density of every memory.
        weight: how often each row counts: once (None), a number for each row, or a number for each row and memory that
            is 0 where the row cannot belong to the memory and one number elsewhere.
    """
    if weight is None:
        return jnp.sum(jax.nn.logsumexp(log_joint, axis=-1)), jax.nn.softmax(log_joint, axis=-1)
    if weight.ndim == 2:
        log_joint = jnp.where(weight > 0, log_joint, -jnp.inf)
        weight = jnp.max(weight, axis=1)
    log_prob = jax.nn.logsumexp(log_joint, axis=-1)
    return jnp.sum(weight * log_prob), weight[:, None] * jax.nn.softmax(log_joint, axis=-1)


def log_likelihood_of(
    example: MemoryMixture, x: Float[Array, "N D"], weight: Float[Array, " N"] | Float[Array, "N K"] | None = None
) -> Callable[[MemoryMixture], Float[Array, ""]]:
    """The log likelihood of ``x`` (nats) as a function of a mixture of the same kind as ``example``.

    Everything that depends only on the data is computed here, so call this function outside a loop and its result
    inside.

    Args:
        example: a mixture with the same type of bank, K and D as those to come; its parameters do not matter.
        x: the data, NaN where an entry is missing if ``example.missing``.
        weight: how often each row counts, as in :func:`shares`.
    """
    if weight is not None:
        return lambda mixture: shares(mixture.log_joint(x), weight)[0]
    centre = jnp.mean(x, axis=0)
    form = None if example.missing else linear_form(example.bank, x, centre)
    if form is None:
        return lambda mixture: total_log_sum_exp(mixture.log_joint(x).T)
    ones = jnp.ones((1, len(x)), x.dtype)
    features = jnp.concatenate([*(statistic.T for statistic in form.statistics), ones], axis=0)

    def log_likelihood(mixture: MemoryMixture) -> Float[Array, ""]:
        form = linear_form(mixture.bank, x, centre)
        assert form is not None, "of the same kind as the example"
        return _over_devices(form.with_constant(mixture.log_weights), features)

    return log_likelihood


def _over_devices(coefficients: Float[Array, "K F"], features: Float[Array, "F N"]) -> Float[Array, ""]:
    """The linear log likelihood, each device summing over its own data where that is worth it."""
    num_data = features.shape[1]
    devices = devices_within(features.size * len(coefficients))
    whole = num_data // len(devices) * len(devices)
    if len(devices) == 1 or not whole:
        return linear_log_likelihood(coefficients, features)
    of_each = jax.shard_map(
        lambda coefficients, features: linear_log_likelihood(coefficients, features)[None],
        mesh=Mesh(np.asarray(devices), ("data",)),
        in_specs=(PartitionSpec(), PartitionSpec(None, "data")),
        out_specs=PartitionSpec("data"),
        check_vma=False,
    )
    total = jnp.sum(of_each(coefficients, features[:, :whole]))  # type: ignore[no-untyped-call]
    return total if whole == num_data else total + linear_log_likelihood(coefficients, features[:, whole:])
