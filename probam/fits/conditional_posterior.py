"""Missing entries of rows given the others, under all draws of a posterior together.

A row's missing entries are distributed as a mixture over S draws and K memories. Functions take the site values of the
draws (leaves lead with the draw axis) and rows in model units with NaN where an entry is missing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution

import probam.distributions.cumulative as cumulative
from probam.distributions.conditional import MemoryConditional, memory_conditional, pooled
from probam.distributions.mixture import MemoryMixture
from probam.family import Model, Params
from probam.placement import each

__all__ = ["draws", "log_density", "moments", "quantiles"]

_AT_ONCE = 2**20
"""Most entries of a block of rows (rows x S x K x D x D)."""

_TERMS = 256
"""Memories whose distribution functions are added at a time."""


@jax.jit
def moments(
    model: Model, sites: Params, x: Float[Array, "N D"]
) -> tuple[Float[Array, " N"], Float[Array, "N D"], Float[Array, "N D"]]:
    """Log density of the observed entries (nats), and mean and variance of all entries given those."""
    mixtures = _mixtures(model, sites)

    def one(row: Float[Array, " D"]) -> tuple[jax.Array, jax.Array, jax.Array]:
        def of_draw(mixture: MemoryMixture) -> tuple[jax.Array, jax.Array, jax.Array]:
            joint, of = _conditional(mixture, row)
            return joint, *of.moments()

        joint, mean, variance = jax.vmap(of_draw)(mixtures)
        flat = (-1, row.size)
        mean, variance = pooled(jax.nn.softmax(joint.ravel()), mean.reshape(flat), variance.reshape(flat))
        missing = jnp.isnan(row)
        return logsumexp(joint) - _log_count(mixtures), jnp.where(missing, mean, row), jnp.where(missing, variance, 0)

    result: tuple[jax.Array, jax.Array, jax.Array] = _by_row(one, x, mixtures)
    return result


@jax.jit
def log_density(model: Model, sites: Params, x: Float[Array, "N D"], full: Float[Array, "N D"]) -> Float[Array, " N"]:
    """Log density (nats) of what rows ``full`` have and rows ``x`` lack, given the entries of ``x``."""
    mixtures = _mixtures(model, sites)

    def one(rows: Float[Array, "2 D"]) -> jax.Array:
        def of_draw(mixture: MemoryMixture) -> jax.Array:
            return jnp.stack([_conditional(mixture, rows[0])[0], _conditional(mixture, rows[1])[0]])

        given, both = logsumexp(jax.vmap(of_draw)(mixtures), axis=(0, 2))
        return jnp.asarray(both - given)

    return jnp.asarray(_by_row(one, jnp.stack([x, full], axis=1), mixtures))


@partial(jax.jit, static_argnames="features")
def quantiles(
    model: Model,
    sites: Params,
    x: Float[Array, "N D"],
    levels: Float[Array, " Q"],
    span: Float[Array, "2 D"],
    *,
    features: tuple[int, ...],
) -> Float[Array, "Q N T"]:
    """Quantiles of each of T features alone where it is missing; an observed entry is its own.

    Args:
        model: the mixture.
        sites: of S draws.
        x: rows with missing entries.
        levels: probabilities.
        span: least and greatest values of the features, where quantiles are sought first.
        features: numbers of the features.
    """
    mixtures, at = _mixtures(model, sites), np.array(features)
    low = span[0, at]
    high = jnp.where(span[1, at] > low, span[1, at], low + 1)

    def one(row: Float[Array, " D"]) -> jax.Array:
        def of_draw(mixture: MemoryMixture) -> tuple[jax.Array, Distribution]:
            joint, of = _conditional(mixture, row)
            return joint, of.alone(at)

        joint, laws = jax.vmap(of_draw)(mixtures)
        probability = _distribution_function(jnp.exp(joint - logsumexp(joint)), laws)
        found = cumulative.quantiles(probability, levels, low, high, is_discrete=laws.is_discrete)
        return jnp.where(jnp.isnan(row[at]), found, row[at])

    return jnp.moveaxis(each(one, x, numbers=_numbers_of_a_row(mixtures)), 1, 0)


def _distribution_function(
    share: Float[Array, "S K"], laws: Distribution
) -> Callable[[Float[Array, "Q T"]], Float[Array, "Q T"]]:
    """Cumulative distribution functions of T features under a mixture, elementwise.

    Memories are added in the order of their shares, until all others together have less than the rounding of 1.
    """
    flat = share.ravel()
    order = jnp.argsort(-flat)
    size = min(_TERMS, flat.size)
    padding = -flat.size % size
    terms = jnp.pad(flat[order], (0, padding))
    left_out = jnp.cumsum(terms[::-1])[::-1]
    num_terms = jnp.sum(left_out > float(np.finfo(share.dtype).eps))

    def sorted_leaf(leaf: jax.Array) -> jax.Array:
        return jnp.pad(leaf.reshape(flat.size, -1)[order], ((0, padding), (0, 0)), mode="edge")

    sorted_laws = jax.tree.map(sorted_leaf, laws)

    def probability(value: Float[Array, "Q T"]) -> Float[Array, "Q T"]:
        def add(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            start, total = carry
            law, weight = jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), (sorted_laws, terms)
            )
            each = cumulative.cumulative(law, value[:, None])  # (Q, terms, T)
            return start + size, total + jnp.einsum("m,qmt->qt", weight, each, precision="highest")

        return jax.lax.while_loop(lambda carry: carry[0] < num_terms, add, (jnp.asarray(0), jnp.zeros_like(value)))[1]

    return probability


@partial(jax.jit, static_argnames="num_draws")
def draws(
    model: Model,
    sites: Params,
    key: jax.Array,
    x: Float[Array, "N D"],
    first_row: Int[Array, ""],
    *,
    num_draws: int,
) -> Float[Array, "M N D"]:
    """Independent draws of the missing entries of each row, jointly; observed entries are themselves.

    Args:
        model: the mixture.
        sites: of S draws.
        key: of the draws; each row has its own by its number.
        x: rows with missing entries.
        first_row: number of the first row.
        num_draws: how many.
    """
    mixtures = _mixtures(model, sites)

    def one(inputs: tuple[jax.Array, Float[Array, " D"]]) -> jax.Array:
        key, row = inputs
        joint, of = jax.vmap(_conditional, in_axes=(0, None))(mixtures, row)

        def draw(key: jax.Array) -> jax.Array:
            key_memory, key_value = jax.random.split(key)
            which, memory = jnp.divmod(jax.random.categorical(key_memory, joint.ravel()), joint.shape[1])
            law = jax.tree.map(lambda leaf: leaf[which], of.joint)
            completed: jax.Array = jnp.where(jnp.isnan(row), law.sample(key_value)[memory].astype(row.dtype), row)
            return completed

        return jnp.asarray(each(draw, jax.random.split(key, num_draws), numbers=joint.size))

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first_row + jnp.arange(len(x)))
    return jnp.moveaxis(_by_row(one, (keys, x), mixtures), 1, 0)


def _mixtures(model: Model, sites: Params) -> MemoryMixture:
    """The mixtures of all draws as one structure, whose leaves lead with the draw axis."""
    return jax.vmap(model.mixture)(sites)


def _log_count(mixtures: MemoryMixture) -> Float[Array, ""]:
    return jnp.log(1.0 * mixtures.log_weights.shape[0])


def _conditional(mixture: MemoryMixture, row: Float[Array, " D"]) -> tuple[Float[Array, " K"], MemoryConditional]:
    """Log of weight times density of the observed entries, and the law of the others, for every memory of one draw."""
    missing = jnp.isnan(row)
    of = memory_conditional(mixture.bank, jnp.where(missing, 0, row), missing)
    return mixture.log_weights + of.log_marginal, of


def _by_row(function: Callable[[Any], Any], rows: Any, mixtures: MemoryMixture) -> Any:
    """A function of every row, several at a time as memory allows."""
    per_row = _numbers_of_a_row(mixtures)
    num_data = len(jax.tree.leaves(rows)[0])
    return each(function, rows, numbers=per_row, on_cpu=max(1, min(num_data, _AT_ONCE // per_row)))


def _numbers_of_a_row(mixtures: MemoryMixture) -> int:
    """Entries of the matrices of all memories of all draws."""
    return mixtures.log_weights.size * mixtures.event_shape[0] ** 2
