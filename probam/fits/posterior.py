r"""Data under the draws of a posterior: densities, memories, partitions, replicates.

Every function takes the site values of S draws (leaves lead with the draw axis) and goes through them a few at a time
on the device, so that memory does not grow with S x N x K. Of the fitted rows it may be known to which memories they
belong (``allowed``): their density is then the sum over these, and so are their responsibilities. Answers are NumPy
arrays. Few rows are filled up (:func:`probam.fits.questions.padded`), so that programs serve other numbers of rows too.
Replicates are JAX arrays, of as many rows as were asked for.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from probam.compiled import compiled_by_work
from probam.distributions.mixture import MemoryMixture
from probam.family import Model, Params
from probam.family.capabilities import DataSpace
from probam.fits.answers import numbers_of_a_row
from probam.fits.questions import padded_alike
from probam.inference.em.engine import side_by_side
from probam.placement import each, in_blocks, rows_at_once

__all__ = ["Reading", "density", "memberships", "overlap", "read", "replicate", "replicate_with_memory"]

_R = TypeVar("_R")

_DRAWS = 8
"""Draws taken at a time on a CPU where one alone cannot fill the cores."""


def _each_draw(function: Callable[[Any], _R], draws: Any, model: Model, x: jax.Array) -> _R:
    """``function`` of every draw; on a CPU as many at a time as by the rule of EM's restarts."""
    on_cpu = side_by_side(_DRAWS, x, model.num_components)
    return each(function, draws, numbers=x.size * model.num_components, on_cpu=on_cpu)


def _filled(model: Model, x: Array | np.ndarray, *others: Array | np.ndarray | None) -> tuple[Any, ...]:
    """Rows filled up with copies of the last one, and what goes with each row likewise."""
    return tuple(jax.device_put(padded_alike(model.num_components, x, *others)))


class Reading(NamedTuple):
    """Per-draw views of the data at which a model was fitted."""

    log_lik: Float[np.ndarray, "S N"]  # of what is known of each datum
    labels: Int[np.ndarray, "S N"]  # drawn from the responsibilities, or the largest of them
    memories: Float[np.ndarray, "S K D"]  # stored patterns
    spread: Float[np.ndarray, "S K D"]  # standard deviation within a memory, NaN-free; zeros where the family has none
    weights: Float[np.ndarray, "S K"]
    together: Float[np.ndarray, "S P"]  # probability that the two data of a pair share a memory


def read(
    model: Model,
    sites: Params,
    key: jax.Array,
    x: Float[Array | np.ndarray, "N D"],
    pairs: Int[Array | np.ndarray, "P 2"],
    allowed: Bool[Array | np.ndarray, "N K"] | None = None,
    *,
    most_probable: bool = False,
) -> Reading:
    """All of :class:`Reading` in one pass over the draws; labels are drawn, or each is the most probable one."""
    rows, its_allowed = _filled(model, x, allowed)
    leaves = _read(model, sites, key, rows, jax.device_put(pairs), its_allowed, most_probable=most_probable)
    reading = Reading(*(np.asarray(leaf) for leaf in leaves))
    return reading._replace(log_lik=reading.log_lik[:, : len(x)], labels=reading.labels[:, : len(x)])


@compiled_by_work(lambda _, sites, __, x, *___, **____: (sites, len(x)), static_argnames="most_probable")
def _read(
    model: Model,
    sites: Params,
    key: jax.Array,
    x: Float[Array, "N D"],
    pairs: Int[Array, "P 2"],
    allowed: Bool[Array, "N K"] | None,
    *,
    most_probable: bool,
) -> tuple[jax.Array, ...]:
    def one(inputs: tuple[Params, jax.Array]) -> tuple[jax.Array, ...]:
        params, key = inputs
        mixture = model.mixture(params)

        def of_rows(rows: tuple[Any, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
            own, its_allowed, uniform = rows
            log_lik, log_resp = _of_rows(mixture, own, its_allowed)
            resp = jnp.exp(log_resp)
            labels = jnp.argmax(resp, axis=-1) if uniform is None else _drawn(uniform, resp)
            return log_lik, labels.astype(jnp.int32), resp

        rows = (x, allowed, None if most_probable else jax.random.uniform(key, (len(x), 1), dtype=x.dtype))
        block = rows_at_once(len(x), numbers_of_a_row(model, params, x), x.dtype)
        if block == len(x):
            log_lik, labels, resp = of_rows(rows)
            first, second = resp[pairs[:, 0]], resp[pairs[:, 1]]
        else:
            log_lik, labels = in_blocks(lambda own: of_rows(own)[:2], rows, block)
            first, second = (of_rows(jax.tree.map(lambda leaf, side=side: leaf[side], rows))[2] for side in pairs.T)
        memories = DataSpace.of(model.family).memories(params)
        spread = jnp.broadcast_to(_spread(model, params), memories.shape)
        return log_lik, labels, memories, spread, jnp.exp(mixture.log_weights), jnp.sum(first * second, axis=-1)

    num_draws = len(next(iter(sites.values())))
    return _each_draw(one, (sites, jax.random.split(key, num_draws)), model, x)


def _of_rows(
    mixture: MemoryMixture, x: Float[Array, "N D"], allowed: Bool[Array, "N K"] | None
) -> tuple[Float[Array, " N"], Float[Array, "N K"]]:
    """Log density and log responsibilities of rows, summed over the memories that each may belong to."""
    log_prob, log_resp = mixture.log_prob_and_responsibilities(x)
    if allowed is None:
        return log_prob, log_resp
    log_resp = jnp.where(allowed, log_resp, -jnp.inf)
    log_share = jax.nn.logsumexp(log_resp, axis=-1)
    return log_prob + log_share, log_resp - log_share[:, None]


def _drawn(uniform: Float[Array, "N 1"], resp: Float[Array, "N K"]) -> Int[Array, " N"]:
    """A label of every datum, drawn from its responsibilities with a uniform number."""
    labels = jnp.sum(jnp.cumsum(resp, axis=-1) <= uniform * jnp.sum(resp, -1, keepdims=True), axis=-1)
    return jnp.minimum(labels, resp.shape[-1] - 1)


def _spread(model: Model, params: Params) -> Float[Array, "..."]:
    """Standard deviation within a memory; 0 where the bank's distribution gives no variance."""
    try:
        return DataSpace.of(model.family).spread(params)
    except NotImplementedError:
        return jnp.zeros(())


def overlap(
    model: Model, sites: Params, x: Float[Array | np.ndarray, "N D"], reference: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, "S K K"]:
    """Shared responsibility of each reference memory (rows) with each memory of a draw (columns)."""
    rows, its_reference = _filled(model, x, reference)
    return np.asarray(_overlap(model, sites, rows, its_reference, np.asarray(len(x))))


@compiled_by_work(lambda _, sites, x, *__: (sites, len(x)))
def _overlap(
    model: Model,
    sites: Params,
    x: Float[Array, "N D"],
    reference: Float[Array, "N K"],
    num_data: Int[Array | np.ndarray, ""],
) -> Float[Array, "S K K"]:
    reference = jnp.where(jnp.arange(len(x))[:, None] < num_data, reference, 0)

    def one(params: Params) -> jax.Array:
        return reference.T @ model.mixture(params).responsibilities(x)

    return _each_draw(one, sites, model, x)


def memberships(model: Model, sites: Params, x: Float[Array | np.ndarray, "N D"]) -> Float[np.ndarray, "S N K"]:
    """The responsibilities at each draw, memories numbered as it has them: for few of them, since all are kept."""
    return np.asarray(_memberships(model, sites, *_filled(model, x)))[:, : len(x)]


@compiled_by_work(lambda _, sites, x: (sites, len(x)))
def _memberships(model: Model, sites: Params, x: Float[Array, "N D"]) -> Float[Array, "S N K"]:
    return _each_draw(lambda params: model.mixture(params).responsibilities(x), sites, model, x)


def density(model: Model, sites: Params, x: Float[Array | np.ndarray, "N D"]) -> Float[np.ndarray, "S N"]:
    """Log density (nats) of each datum at each draw."""
    return np.asarray(_density(model, sites, *_filled(model, x)))[:, : len(x)]


@compiled_by_work(lambda _, sites, x: (sites, len(x)))
def _density(model: Model, sites: Params, x: Float[Array, "N D"]) -> Float[Array, "S N"]:
    return _each_draw(lambda params: jnp.asarray(model.mixture(params).log_prob(x)), sites, model, x)


def replicate(model: Model, sites: Params, key: jax.Array, num_data: int) -> Num[Array, "S N D"]:
    """Replicated data sets, one for each draw."""
    return replicate_with_memory(model, sites, key, num_data)[0]


@compiled_by_work(lambda _, sites, __, num_data: (sites, num_data), static_argnames="num_data")
def replicate_with_memory(
    model: Model, sites: Params, key: jax.Array, num_data: int
) -> tuple[Num[Array, "S N D"], Int[Array, "S N"]]:
    """:func:`replicate`, and the memory of its draw that each row was drawn from."""

    def one(inputs: tuple[Params, jax.Array]) -> tuple[jax.Array, jax.Array]:
        params, key = inputs
        return model.mixture(params).sample_with_memory(key, (num_data,))

    num_draws = len(next(iter(sites.values())))
    numbers = num_data * sum(value[0].size for value in sites.values())
    rows, memories = each(one, (sites, jax.random.split(key, num_draws)), numbers=numbers)
    return rows, memories
