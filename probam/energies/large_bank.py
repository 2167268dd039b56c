r"""One CLAM step and the energy for many queries and memories, without a (Q, K) array.

The softmax over a large bank is computed in blocks of memories, as in flash attention (Milakov & Gimelshein 2018,
arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135). For each query the loop carries the largest logit so far, the sum
of exponentials relative to it and the weighted sum of memories, and rescales both sums when a larger logit appears. It
needs (block, block) numbers of memory whatever Q and K are. Where JAX has several devices (also virtual ones of a CPU)
the queries are divided among them.

The results are those of :func:`probam.energies.clam.energy` and :func:`probam.energies.clam.update`, to rounding.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Float

from probam.energies.arguments import Scalar, Weights, log_weights, points, positive
from probam.energies.wells import dot, mean_of
from probam.placement import numbers_at_once

__all__ = ["Step", "step"]

_NUMBERS = 1000**2
"""Logits of a block of queries and memories that fit into the second-level cache of a CPU."""


class Step(NamedTuple):
    """Result of a unit step, and the energy at its start."""

    update: Float[Array, "Q D"]
    energy: Float[Array, " Q"]


def step(
    queries: Float[ArrayLike, "Q D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
    *,
    block_size: int | None = None,
) -> Step:
    r"""Unit Euler step \(m(v)\) of every query, and the energy \(E(v)\) at its start.

    Schaeffer et al. (2023), Eqs. 1 and 2.

    Args:
        queries, memories, beta, weights: as for :func:`probam.energies.clam.energy`, with one axis of queries.
        block_size: number of queries and of memories in a block (default: as suits the device, 1000 on a CPU).

    Raises:
        InputError: as :func:`probam.energies.clam.energy`.
    """
    queries, memories = points(queries, memories)
    beta = positive("beta", beta, queries.dtype)
    log_w = log_weights(weights, len(memories), queries.dtype)
    if block_size is None:
        block_size = math.isqrt(numbers_at_once(_NUMBERS))
    num_devices = len(jax.local_devices()) if len(queries) > block_size else 1
    return Step(*_spread(queries, memories, beta, log_w, block_size=block_size, num_devices=num_devices))


@partial(jax.jit, static_argnames=("block_size", "num_devices"))
def _spread(
    queries: jax.Array, memories: jax.Array, beta: jax.Array, log_w: jax.Array, *, block_size: int, num_devices: int
) -> tuple[jax.Array, jax.Array]:
    """Update and energy of all queries; blocks of queries are divided among the devices."""
    num_queries, num_features = queries.shape
    origin = mean_of(memories)
    centred = memories - origin
    num_blocks = -(-len(memories) // block_size)
    size = -(-len(memories) // num_blocks)
    missing = num_blocks * size - len(memories)
    rows = jnp.pad(centred, ((0, missing), (0, 0))).reshape(num_blocks, size, num_features)
    heights = log_w - beta * jnp.sum(centred**2, axis=-1)
    heights = jnp.pad(heights, (0, missing), constant_values=-jnp.inf).reshape(num_blocks, size)

    query_blocks = num_devices * -(-num_queries // (num_devices * block_size))
    share = -(-num_queries // query_blocks)
    padded = jnp.pad(queries - origin, ((0, query_blocks * share - num_queries), (0, 0)))
    padded = padded.reshape(query_blocks, share, num_features)

    def attend(padded: jax.Array, rows: jax.Array, heights: jax.Array, beta: jax.Array) -> tuple[jax.Array, jax.Array]:
        means, log_sums = jax.lax.map(lambda block: _online(block, rows, heights, beta), padded)
        return means, log_sums

    along, whole = PartitionSpec("query"), PartitionSpec()
    mesh = Mesh(np.asarray(jax.local_devices()[:num_devices]), ("query",))
    spread = jax.shard_map(
        attend, mesh=mesh, in_specs=(along, whole, whole, whole), out_specs=(along, along), check_vma=False
    )
    means, log_sums = spread(padded, rows, heights, beta)
    update = means.reshape(-1, num_features)[:num_queries] + origin
    square = jnp.sum((queries - origin) ** 2, axis=-1)
    energy = square - log_sums.reshape(-1)[:num_queries] / beta
    # on every device: slices of what is spread have layouts that JAX cannot name
    everywhere: tuple[jax.Array, jax.Array]
    everywhere = jax.lax.with_sharding_constraint((update, energy), NamedSharding(mesh, whole))
    return everywhere


def _online(
    block: Float[Array, "q D"], rows: Float[Array, "B k D"], heights: Float[Array, "B k"], beta: Float[Array, ""]
) -> tuple[Float[Array, "q D"], Float[Array, " q"]]:
    """Weighted mean of all memories and log of the sum of weights, block by block."""
    scaled = 2 * beta * block

    def add(
        carry: tuple[jax.Array, jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        top, total, mean = carry
        memories, height = part
        logits = dot(scaled, memories.T) + height
        higher = jnp.maximum(top, jnp.max(logits, axis=-1))
        base = jnp.where(jnp.isfinite(higher), higher, 0)  # a block of absent memories only
        shrink = jnp.exp(top - base)
        terms = jnp.exp(logits - base[:, None])
        total = total * shrink + jnp.sum(terms, axis=-1)
        return (higher, total, mean * shrink[:, None] + dot(terms, memories)), None

    start = (jnp.full(len(block), -jnp.inf, block.dtype), jnp.zeros(len(block), block.dtype), jnp.zeros_like(block))
    (top, total, mean), _ = jax.lax.scan(add, start, (rows, heights))
    return mean / total[:, None], top + jnp.log(total)
